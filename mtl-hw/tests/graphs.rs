//! Graphs as text, and bad input.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use mtl_hw::cost::{Analytical, CostModel};
use mtl_hw::graph::{
    Adapters, BertSpec, Conv2dShape, DecoderSpec, HfModel, LanesSpec, Lora, ModelGraph, MoeShape, Node, Op,
    Part, Pool2dShape, PoolKind, PromptSpec, ResNetSpec, SlimCnnSpec, SlimDecoder, SlimMlpSpec, SlimStage,
    VitSpec, Widths,
};
use mtl_hw::platform::Platform;
use mtl_hw::presets::zcu104_m3vit;
use mtl_hw::routing::Routing;
use proptest::prelude::*;

fn n() -> impl Strategy<Value = u64> {
    1u64..50
}

fn convs() -> impl Strategy<Value = Op> {
    ((1u64..20, 1u64..20), (1u64..4, 1u64..4, 1u64..4), [1u64..4, 1u64..4], [1u64..3, 1u64..3], any::<bool>())
        .prop_map(|((height, width), (groups, ins, outs), kernel, step, bias)| {
            Op::Conv2d(Conv2dShape {
                height,
                width,
                in_channels: groups * ins,
                out_channels: groups * outs,
                kernel,
                stride: step,
                padding: [kernel[0], kernel[1]],
                dilation: [step[1], 1],
                groups,
                bias,
            })
        })
}

fn ops() -> impl Strategy<Value = Op> {
    let pair = || (n(), n());
    let experts = || {
        (n(), n(), n(), 1u64..9, 1u64..9).prop_map(|(tokens, dim, hidden, e, k)| MoeShape {
            tokens,
            dim,
            hidden,
            experts: e.max(k),
            top_k: k,
        })
    };
    let heads = || (n(), n(), n(), n());
    let matrices = prop_oneof![
        (n(), n(), n(), any::<bool>()).prop_map(|(rows, inner, cols, bias)| Op::Gemm {
            rows,
            inner,
            cols,
            bias
        }),
        (n(), n(), n(), n()).prop_map(|(patches, patch, channels, dim)| Op::PatchEmbedding {
            patches,
            patch,
            channels,
            dim
        }),
        heads().prop_map(|(heads, queries, keys, head_dim)| Op::AttentionScores {
            heads,
            queries,
            keys,
            head_dim
        }),
        heads().prop_map(|(heads, queries, keys, head_dim)| Op::AttentionValues {
            heads,
            queries,
            keys,
            head_dim
        }),
        heads().prop_map(|(heads, queries, keys, head_dim)| Op::Attention { heads, queries, keys, head_dim }),
        experts().prop_map(Op::MoeFfn),
        experts().prop_map(Op::GatedMoeFfn),
        (experts(), 1u64..4).prop_map(|(s, gates)| Op::Gate {
            tokens: s.tokens,
            dim: s.dim,
            experts: s.experts,
            top_k: s.top_k,
            gates
        }),
        convs(),
    ];
    let vectors = prop_oneof![
        pair().prop_map(|(rows, cols)| Op::Softmax { rows, cols }),
        pair().prop_map(|(rows, cols)| Op::Gelu { rows, cols }),
        pair().prop_map(|(rows, cols)| Op::Relu { rows, cols }),
        pair().prop_map(|(rows, cols)| Op::Tanh { rows, cols }),
        pair().prop_map(|(rows, cols)| Op::Silu { rows, cols }),
        pair().prop_map(|(rows, cols)| Op::Multiply { rows, cols }),
        pair().prop_map(|(rows, cols)| Op::Rotary { rows, cols }),
        pair().prop_map(|(rows, cols)| Op::Add { rows, cols }),
        pair().prop_map(|(rows, dim)| Op::LayerNorm { rows, dim }),
        pair().prop_map(|(rows, dim)| Op::RmsNorm { rows, dim }),
    ];
    let others = prop_oneof![
        pair().prop_map(|(channels, positions)| Op::BatchNorm { channels, positions }),
        pair().prop_map(|(channels, positions)| Op::GlobalPool { channels, positions }),
        pair().prop_map(|(tokens, dim)| Op::MeanTokens { tokens, dim }),
        (n(), n(), 1u64..4, any::<bool>()).prop_map(|(channels, positions, scale, bilinear)| {
            Op::Upsample { channels, positions, scale, bilinear }
        }),
        (n(), n(), n()).prop_map(|(tokens, prefix, dim)| Op::TokenEmbedding {
            tokens: tokens + prefix,
            prefix,
            dim
        }),
        (n(), n(), n(), any::<bool>()).prop_map(|(rows, entries, dim, shared)| Op::Embedding {
            rows,
            entries,
            dim,
            shared
        }),
        (0u64..9, n(), n()).prop_map(|(rows, prompts, dim)| Op::Prompt { rows, prompts, dim }),
        (n(), n(), n(), 1u64..4, any::<bool>()).prop_map(|(height, width, channels, stride, max)| {
            Op::Pool2d(Pool2dShape {
                kind: if max { PoolKind::Max } else { PoolKind::Average },
                height,
                width,
                channels,
                kernel: [2, 2],
                stride: [stride, 1],
                padding: [1, 1],
            })
        }),
    ];
    prop_oneof![matrices, vectors, others]
}

fn parts() -> impl Strategy<Value = Part> {
    prop_oneof![
        Just(Part::Embedding),
        Just(Part::Attention),
        Just(Part::FeedForward),
        Just(Part::Head),
        Just(Part::Backbone),
    ]
}

/// Nodes with inputs, tied weights, tasks and flags, without regard to shapes that fit each other.
fn graphs() -> impl Strategy<Value = ModelGraph> {
    let node = (
        ops(),
        parts(),
        proptest::option::of(0u32..9),
        proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
        proptest::option::weighted(0.2, any::<prop::sample::Index>()),
        [any::<bool>(), any::<bool>(), any::<bool>()],
        (0u64..4, 0u64..4),
    );
    proptest::collection::vec(node, 1..12).prop_map(|nodes| {
        let nodes =
            nodes.into_iter().enumerate().map(|(i, (op, part, block, inputs, tied, flags, extra))| {
                let mut node = Node::new(format!("node.{i}"), part, &[], op);
                if i > 0 {
                    node.inputs = inputs.iter().map(|x| x.index(i)).collect();
                    node.tied = tied.map(|x| x.index(i));
                }
                node.block = block;
                [node.frozen, node.in_place, node.side] = flags;
                (node.pass_through, node.buffers) = extra;
                node
            });
        ModelGraph { name: "random \"graph\"".into(), nodes: nodes.collect() }
    })
}

/// One graph of every builder.
fn built() -> Vec<ModelGraph> {
    let decoder = |dense| SlimDecoder { task: 0, channels: 8, layers: 1, classes: 3, dense };
    let base = VitSpec { heads_out: vec![], ..VitSpec::tiny() };
    let slim = SlimCnnSpec {
        name: "slim".into(),
        image: [8, 8],
        channels: 1,
        stages: vec![SlimStage { channels: 8, blocks: 1, stride: 2 }],
        decoders: vec![decoder(true)],
        round_to: 8,
    };
    let mlp = SlimMlpSpec {
        name: "mlp".into(),
        inputs: 9,
        hidden: vec![8],
        decoders: vec![decoder(false)],
        round_to: 4,
    };
    let widths = Widths::uniform(1, 1, 0.5);
    let tiny = VitSpec::tiny().graph().unwrap();
    vec![
        VitSpec::tiny().prompts(PromptSpec::deep(2, vec![3])).graph().unwrap(),
        VitSpec::tiny().prompts(PromptSpec::prefix(2, vec![3], true)).graph().unwrap(),
        BertSpec { masked_lm: true, ..BertSpec::base(16) }.graph().unwrap(),
        ResNetSpec::resnet50().graph().unwrap(),
        DecoderSpec { depth: 2, ..DecoderSpec::mixtral() }.graph().unwrap(),
        LanesSpec { base, tasks: vec![2, 3], summary: 4, prompts: 1, propagate_patches: true }
            .graph()
            .unwrap(),
        Lora { rank: 2, targets: vec!["attn.qkv".into()] }.apply(&tiny).unwrap(),
        Adapters { width: 2, targets: vec!["mlp.fc2".into()], copies: 2 }.apply(&tiny).unwrap(),
        slim.graph(&widths).unwrap(),
        mlp.graph(&widths).unwrap(),
    ]
}

#[test]
fn every_builder_s_graph_survives_text_and_is_costed() {
    for graph in built() {
        assert_eq!(ModelGraph::from_json(&graph.to_json().unwrap()).unwrap(), graph);
        assert_eq!(ModelGraph::from_toml(&graph.to_toml().unwrap()).unwrap(), graph);
        let report = Analytical.model(&graph, &zcu104_m3vit().unwrap(), Routing::Uniform).unwrap();
        assert_eq!(report.macs, graph.macs().unwrap());
        // The pool of multipliers never beats its peak.
        assert!(report.cycles >= report.macs / 1536, "{}", graph.name);
    }
}

#[test]
fn a_hand_written_graph_is_read() {
    let toml = r#"
        name = "edge"
        [[nodes]]
        name = "conv"
        part = "backbone"
        op.conv2d = { height = 8, width = 8, in_channels = 4, out_channels = 8, kernel = [3, 3], groups = 2 }
        [[nodes]]
        name = "relu"
        part = "backbone"
        inputs = [0]
        in_place = true
        op.relu = { rows = 8, cols = 36 }
    "#;
    let graph = ModelGraph::from_toml(toml).unwrap();
    assert_eq!(graph.macs().unwrap(), 36 * 8 * 2 * 9);
    let error = |from: &str, to: &str| {
        assert!(toml.contains(from));
        ModelGraph::from_toml(&toml.replace(from, to)).unwrap_err().to_string()
    };
    insta::assert_snapshot!(error("groups = 2", "groups = 3"), @"`nodes[0].op.conv2d.in_channels` must be a multiple of `groups` = 3, but is 4");
    insta::assert_snapshot!(error("groups = 2", "group = 2"), @"graph: `nodes[0].op.conv2d.group`: unknown field `group`, expected one of `height`, `width`, `in_channels`, `out_channels`, `kernel`, `stride`, `padding`, `dilation`, `groups`, `bias`");
    insta::assert_snapshot!(error("in_place = true", "inplace = true"), @"graph: `nodes[1].inplace`: unknown field `inplace`, expected one of `name`, `part`, `block`, `task`, `inputs`, `tied`, `frozen`, `in_place`, `side`, `pass_through`, `buffers`, `op`");
    insta::assert_snapshot!(error("in_place = true", "tied = 1"), @"`nodes[1].tied` must be below 1, but is 1");
    insta::assert_snapshot!(error("op.relu", "op.rleu"), @"graph: `nodes[1].op`: unknown variant `rleu`, expected one of `patch-embedding`, `token-embedding`, `gemm`, `attention-scores`, `attention-values`, `softmax`, `layer-norm`, `gelu`, `add`, `gate`, `moe-ffn`, `gated-moe-ffn`, `conv2d`, `pool2d`, `global-pool`, `mean-tokens`, `upsample`, `batch-norm`, `rms-norm`, `attention`, `rotary`, `relu`, `tanh`, `silu`, `multiply`, `embedding`, `prompt`");
    insta::assert_snapshot!(error("kernel = [3, 3]", "kernel = [3]"), @"graph: `nodes[0].op.conv2d.kernel`: invalid length 1, expected an array of length 2");
    insta::assert_snapshot!(error("kernel = [3, 3]", "kernel = [3, 9]"), @"`nodes[0].op.conv2d.width` must be at least the kernel's reach of 9 less padding, but is 8");
    insta::assert_snapshot!(error("height = 8", "height = 9223372036854775807"), @"`nodes[0].op.conv2d.rows` does not fit in 64 bits; check the dimensions");
}

/// Valid text with a piece replaced by something else.
fn broken(text: String) -> impl Strategy<Value = String> {
    let junk = prop_oneof![
        Just("-1".to_owned()),
        Just("0".to_owned()),
        Just("1e400".to_owned()),
        Just("18446744073709551615".to_owned()),
        Just("null".to_owned()),
        Just("[[".to_owned()),
        Just("\"".to_owned()),
        "\\PC{0,8}",
    ];
    (any::<prop::sample::Index>(), 0usize..6, junk).prop_map(move |(at, length, junk)| {
        let mut chars: Vec<char> = text.chars().collect();
        let start = at.index(chars.len());
        let end = (start + length).min(chars.len());
        chars.splice(start..end, junk.chars());
        chars.into_iter().collect()
    })
}

fn small() -> ModelGraph {
    let spec = VitSpec { depth: 1, heads_out: vec![], ..VitSpec::tiny() };
    spec.graph().unwrap()
}

const CONFIG: &str = r#"{"model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "hidden_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96,
    "vocab_size": 100, "num_local_experts": 4, "num_experts_per_tok": 2, "image_size": [32, 32]}"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn graphs_survive_text(graph in graphs()) {
        prop_assert_eq!(&ModelGraph::from_json(&graph.to_json().unwrap()).unwrap(), &graph);
        prop_assert_eq!(&ModelGraph::from_toml(&graph.to_toml().unwrap()).unwrap(), &graph);
    }

    #[test]
    fn broken_text_never_panics(
        json in broken(small().to_json().unwrap()),
        toml in broken(small().to_toml().unwrap()),
        config in broken(CONFIG.to_owned()),
        board in broken(Platform::builtin("alveo-u280").unwrap().to_toml().unwrap()),
    ) {
        // Whatever is accepted must be whole.
        for graph in [ModelGraph::from_json(&json), ModelGraph::from_toml(&toml)].into_iter().flatten() {
            graph.validate().unwrap();
            graph.profile(mtl_hw::graph::Convention::Full, &Default::default()).ok();
        }
        HfModel::from_config(&config).ok();
        if let Ok(board) = Platform::from_toml(&board) {
            board.validate().unwrap();
        }
    }

    #[test]
    fn arbitrary_text_is_an_error(text in "\\PC{0,200}") {
        prop_assert!(ModelGraph::from_toml(&text).is_err());
        prop_assert!(ModelGraph::from_json(&text).is_err());
        prop_assert!(HfModel::from_config(&text).is_err());
        prop_assert!(Platform::from_toml(&text).is_err());
        BertSpec::from_toml(&text).ok();
        VitSpec::from_toml(&text).ok();
        ResNetSpec::from_toml(&text).ok();
        DecoderSpec::from_toml(&text).ok();
    }

    #[test]
    fn absurd_dimensions_are_an_error_not_a_panic(
        a in any::<u32>(), b in any::<u32>(), c in any::<u32>(), d in any::<u32>(), heads in 1u32..4,
        blocks in proptest::collection::vec(0u32..4, 0..10),
    ) {
        let context = mtl_hw::graph::CountContext::default().batch(a.into());
        let graphs = [
            BertSpec { tokens: a, positions: a, dim: b - b % heads, heads, hidden: c, vocab: d, ..BertSpec::base(1) }.graph(),
            ResNetSpec { image: [a, b], width: c, channels: d, blocks, bottleneck: true, groups: heads, ..ResNetSpec::resnet50() }.graph(),
            DecoderSpec { tokens: a, past: b, dim: c, hidden: d, heads, kv_heads: 1, depth: 2, ..DecoderSpec::mixtral() }.graph(),
            VitSpec { image: [a, b], patch: heads, dim: c - c % heads, heads, mlp_hidden: d, depth: 2, ..VitSpec::tiny() }.graph(),
        ];
        for graph in graphs.into_iter().flatten() {
            graph.profile(mtl_hw::graph::Convention::Full, &context).ok();
            Analytical.model(&graph, &zcu104_m3vit().unwrap(), Routing::Uniform).ok();
        }
    }

    #[test]
    fn convolutions_are_their_unrolled_products(op in convs()) {
        let Op::Conv2d(shape) = &op else { unreachable!() };
        let [rows, inner, cols] = shape.im2col().unwrap();
        prop_assert_eq!(op.macs().unwrap(), shape.groups * rows * inner * cols);
        prop_assert_eq!(op.outputs().unwrap(), shape.groups * rows * cols);
    }
}
