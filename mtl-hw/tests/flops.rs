//! Counts against torch, fvcore and published tables, and their algebra.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use mtl_hw::graph::{
    ActiveExperts, BertSpec, Convention, Count, CountContext, DenseHead, ModelGraph, MoeSpec, OpClass,
    ParamClass, PromptCost, PromptSpec, ResNetSpec, VitHead, VitSpec,
};
use mtl_hw::presets::m3vit_small;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;

fn golden() -> Vec<Value> {
    serde_json::from_str(include_str!("golden/flops_params.json")).unwrap()
}

fn int(v: &Value) -> u64 {
    v.as_u64().expect("an integer")
}

fn graph_of(model: &str) -> ModelGraph {
    match model {
        "vit_tiny_patch16_224" => VitSpec::tiny().graph(),
        "vit_small_patch16_224" => VitSpec::small().graph(),
        "vit_base_patch16_224" => VitSpec::base().graph(),
        "deit_tiny_distilled_patch16_224" => VitSpec::deit_tiny_distilled().graph(),
        "resnet18" => ResNetSpec::resnet18().graph(),
        "bert_base_uncased_len128" => BertSpec::base(128).graph(),
        "bert_base_uncased_len512" => BertSpec::base(512).graph(),
        other => panic!("no builder for {other}"),
    }
    .unwrap()
}

fn by_name(count: &Count, names: &[(OpClass, &str)]) -> BTreeMap<String, u64> {
    let name = |class| names.iter().find(|(c, _)| *c == class).map(|(_, n)| (*n).to_owned()).unwrap();
    count.by_class.iter().map(|(&class, &n)| (name(class), n)).collect()
}

fn expected(v: &Value) -> BTreeMap<String, u64> {
    serde_json::from_value(v.clone()).unwrap()
}

#[test]
fn every_reference_row_agrees_in_every_number() {
    let rows = golden();
    assert_eq!(rows.len(), 7);
    for row in rows {
        let model = row["model"].as_str().unwrap();
        let graph = graph_of(model);
        let context = CountContext::default();

        let torch = graph.count(Convention::Torch).unwrap();
        assert_eq!(torch.total, int(&row["torch_flop_counter_total"]), "{model}");
        let names = [
            (OpClass::Conv, "aten.convolution"),
            (OpClass::Linear, "aten.addmm"),
            (OpClass::Matmul, "aten.bmm"),
        ];
        assert_eq!(by_name(&torch, &names), expected(&row["torch_flop_counter_by_op"]), "{model}");

        let fvcore = graph.count(Convention::Fvcore).unwrap();
        assert_eq!(fvcore.total, int(&row["fvcore_flops_total"]), "{model}");
        let names = [
            (OpClass::Conv, "conv"),
            (OpClass::Linear, "linear"),
            (OpClass::Matmul, "matmul"),
            (OpClass::LayerNorm, "layer_norm"),
            (OpClass::BatchNorm, "batch_norm"),
            (OpClass::Pool, "adaptive_avg_pool2d"),
        ];
        assert_eq!(by_name(&fvcore, &names), expected(&row["fvcore_by_op"]), "{model}");

        let activations = graph.activation_count(&context).unwrap();
        assert_eq!(activations.fvcore, int(&row["fvcore_activations"]), "{model}");
        assert_eq!(activations.leaf_outputs, int(&row["leaf_output_elements_total"]), "{model}");

        let params = graph.param_count(&context).unwrap();
        assert_eq!(params.stored, int(&row["params"]), "{model}");
        assert_eq!((params.active, params.trainable), (params.stored, params.stored), "{model}");
        assert_eq!(params.buffers, int(&row["buffers"]), "{model}");
        for (class, kind) in [
            (ParamClass::Linear, "linear"),
            (ParamClass::Conv, "conv"),
            (ParamClass::Norm, "norm"),
            (ParamClass::Embedding, "embedding"),
        ] {
            let ours = params.by_class.get(&class).copied().unwrap_or(0);
            assert_eq!(ours, int(&row["param_by_kind"][kind]), "{model} {kind}");
        }
    }
}

#[test]
fn thop_sees_modules_and_full_sees_everything() {
    for row in golden() {
        let graph = graph_of(row["model"].as_str().unwrap());
        let total = |convention| graph.count(convention).unwrap().total;
        let matmul =
            graph.count(Convention::Torch).unwrap().by_class.get(&OpClass::Matmul).copied().unwrap_or(0);
        assert_eq!(2 * total(Convention::Thop), total(Convention::Torch) - matmul);
        assert!(total(Convention::Full) > total(Convention::Torch));
    }
    // One block by hand: N = 2 tokens, D = 4, 2 heads, hidden width 8 (twice D).
    let spec = VitSpec {
        image: [2, 1],
        patch: 1,
        channels: 1,
        dim: 4,
        depth: 1,
        heads: 2,
        mlp_hidden: 8,
        prefix_tokens: 0,
        heads_out: vec![],
        ..VitSpec::tiny()
    };
    let full = spec.graph().unwrap().count(Convention::Full).unwrap();
    let macs = 2 * 4 + 4 * 2 * 16 + 2 * (2 * 2 * 4) + 2 * (2 * 4 * 8);
    let biases = 2 * (4 + 12 + 4 + 8 + 4); // embedding, qkv, projection, both matrices
    let elementwise = 2 * 4 + 3 * (2 * 4) + 2 * 8 + 2 * (2 * 4); // positions, softmax, GELU, residual additions
    assert_eq!(full.macs, macs);
    assert_eq!(full.total, 2 * macs + 3 * 5 * (2 * 4) + biases + elementwise);
}

#[test]
fn m3vit_with_its_decoder_has_the_published_macs() {
    // "GFLOPs" of the paper's table are multiply-accumulates: 83 to 84 on PASCAL, 100 on NYUD.
    for (height, width, classes, range) in
        [(512, 512, [1, 3, 7, 21], 83.4e9..83.9e9), (480, 640, [1, 3, 1, 40], 99.6e9..100.6e9)]
    {
        for outputs in classes {
            let spec = VitSpec {
                image: [height, width],
                heads: 12,
                heads_out: vec![],
                dense_heads: vec![DenseHead { classes: outputs, width: 256, task: Some(0) }],
                ..VitSpec::small()
            };
            let macs = spec.graph().unwrap().macs().unwrap() as f64;
            assert!(range.contains(&macs), "{macs:e} for {outputs} outputs at {height}×{width}");
        }
    }
}

#[test]
fn gpu_memory_of_m3vit_s_table_is_two_bytes_per_parameter() {
    let mib = |graph: ModelGraph| {
        let params = graph.param_count(&CountContext::default()).unwrap();
        2.0 * (params.stored + params.buffers) as f64 / f64::from(1 << 20)
    };
    let bare = |spec: ResNetSpec| ResNetSpec { heads_out: vec![], ..spec }.graph().unwrap();
    for (graph, published) in [
        (VitSpec::small().graph().unwrap(), 42.058),
        (VitSpec::small().moe(MoeSpec::default()).graph().unwrap(), 82.747),
        (bare(ResNetSpec::resnet18()), 21.336),
        (bare(ResNetSpec::resnet50()), 44.939),
    ] {
        let name = graph.name.clone();
        assert!((mib(graph) - published).abs() < 5.1e-4, "{name}");
    }
}

#[test]
fn active_parameters_follow_the_experts_and_the_task() {
    let graph = m3vit_small(224, 224).unwrap();
    let active = |experts, task: Option<u32>| {
        let context = CountContext { active_experts: experts, task, ..CountContext::default() };
        graph.param_count(&context).unwrap()
    };
    let (expert, gate) = (295_680, 16 * 384);
    let all = active(ActiveExperts::All, None);
    // Two gates are stored, one is used.
    assert_eq!(all.stored - all.active, 6 * gate);
    let thirteen = active(ActiveExperts::Layers([("blk.3".to_owned(), 13)].into()), Some(1));
    assert_eq!(all.active - thirteen.active, 3 * expert);
    let top = active(ActiveExperts::TopK, Some(0));
    assert_eq!(all.active - top.active, 6 * 12 * expert);
    let context =
        CountContext::default().active_experts(ActiveExperts::Layers([("blk.1".to_owned(), 17)].into()));
    insta::assert_snapshot!(graph.param_count(&context).unwrap_err(), @"`active_experts.blk.1` must be at most the layer's 16, but is 17");
}

#[test]
fn one_task_runs_its_head_and_stores_all() {
    let spec = VitSpec { heads_out: vec![VitHead::task(0, 10), VitHead::task(1, 100)], ..VitSpec::tiny() };
    let graph = spec.graph().unwrap();
    let profile = |context| graph.profile(Convention::Torch, &context).unwrap();
    let (both, second) = (profile(CountContext::default()), profile(CountContext::default().task(1)));
    assert_eq!(both.ops.total - second.ops.total, 2 * 192 * 10);
    assert_eq!(both.params.stored, second.params.stored);
    assert_eq!(both.params.active - second.params.active, 193 * 10);
}

#[test]
fn a_batch_scales_what_depends_on_data() {
    let graph = BertSpec::base(128).graph().unwrap();
    let profile = |batch| graph.profile(Convention::Torch, &CountContext::default().batch(batch)).unwrap();
    let (one, eight) = (profile(1), profile(8));
    assert_eq!(one.ops.times(8).unwrap(), eight.ops);
    assert_eq!(one.params, eight.params);
    // Positions are looked up once for the batch.
    let positions = 128 * 768;
    assert_eq!(eight.activations.leaf_outputs, 8 * one.activations.leaf_outputs - 7 * positions);
    assert!(graph.count_with(Convention::Torch, &CountContext::default().batch(0)).is_err());
    assert!(graph.count_with(Convention::Torch, &CountContext::default().batch(u64::MAX)).is_err());
}

#[test]
fn modules_and_kinds_add_up_to_the_total() {
    for row in golden() {
        let graph = graph_of(row["model"].as_str().unwrap());
        for convention in [Convention::Torch, Convention::Fvcore, Convention::Thop, Convention::Full] {
            let count = graph.count(convention).unwrap();
            assert_eq!(count.by_module.iter().map(|(_, n)| n).sum::<u64>(), count.total);
            assert_eq!(count.by_kind.values().sum::<u64>(), count.total);
            assert_eq!(count.by_class.values().sum::<u64>(), count.total);
        }
    }
    let count = VitSpec::tiny().graph().unwrap().count(Convention::Torch).unwrap();
    let block = 2 * (12 * 197 * 192 * 192 + 2 * 197 * 197 * 192);
    assert_eq!(count.by_module[1], ("blk.0".to_owned(), block));
    assert_eq!(count.by_module.len(), 1 + 12 + 1);
}

#[test]
fn prompts_cost_what_the_formulas_say() {
    let (n, p, d) = (197u64, 10u64, 192u64);
    let base = VitSpec::tiny();
    let macs = |spec: &VitSpec| spec.graph().unwrap().macs().unwrap();
    let extra = |prompts| macs(&base.clone().prompts(prompts)) - macs(&base);
    let layers = vec![0, 3, 11];
    let deep = 12 * p * d * d + 2 * d * ((n + p) * (n + p) - n * n);
    assert_eq!(extra(PromptSpec::deep(10, layers.clone())), 3 * deep);
    assert_eq!(extra(PromptSpec::prefix(10, layers.clone(), false)), 3 * 2 * n * p * d);
    assert_eq!(extra(PromptSpec::prefix(10, layers.clone(), true)), 3 * (2 * n * p * d + 2 * p * d * d));

    let spec = base.clone().prompts(PromptSpec::deep(10, layers.clone()));
    let pool = PromptCost::pool(&spec, 20, Convention::Torch).unwrap();
    let one = PromptCost::one_prompt(&spec, Convention::Torch).unwrap();
    assert_eq!(pool.macs().unwrap(), macs(&base) + macs(&spec) + 20 * d);
    assert_eq!(one.macs().unwrap(), macs(&spec));
    assert_eq!(one.stored_params, p * d * 3);
    assert_eq!(pool.stored_params, 20 * (p * d * 3) + 20 * d);
    insta::assert_snapshot!(PromptCost::pool(&base, 20, Convention::Torch).unwrap_err(), @"`prompts` must be set, but is absent");

    let error = |prompts| base.clone().prompts(prompts).graph().unwrap_err().to_string();
    insta::assert_snapshot!(error(PromptSpec::deep(0, vec![0])), @"`prompts.tokens` must be positive, but is 0");
    insta::assert_snapshot!(error(PromptSpec::deep(1, vec![0, 12])), @"`prompts.layers[1]` must be below `depth` = 12, but is 12");
    insta::assert_snapshot!(error(PromptSpec::deep(1, vec![4, 4])), @"`prompts.layers[1]` must be in the list once, but is 4");
}

#[test]
fn peak_memory_follows_the_residual_edges() {
    let count = |graph: &ModelGraph| graph.activation_count(&CountContext::default()).unwrap();
    // ResNet-18: image, and the stem's convolution with its norm; ReLU works in place.
    let resnet = count(&ResNetSpec::resnet18().graph().unwrap());
    assert_eq!(resnet.peak_live, 3 * 224 * 224 + 2 * 64 * 112 * 112);
    assert_eq!((resnet.peak_node.as_str(), resnet.peak_live_bytes), ("bn1", 4 * resnet.peak_live));
    let mut unaware = ResNetSpec::resnet18().graph().unwrap();
    for node in &mut unaware.nodes {
        node.in_place = false;
    }
    // In a block: its input, the sum and the ReLU of it.
    assert!(count(&unaware).peak_live >= resnet.peak_live);
    // Training keeps far more than one pass needs.
    assert!(resnet.saved > 3 * resnet.peak_live);
}

fn specs() -> impl Strategy<Value = VitSpec> {
    (1u32..5, 1u32..4, 1u32..4, 1u32..5, 1u32..40, any::<bool>()).prop_map(
        |(side, heads, head_dim, depth, hidden, moe)| {
            let spec = VitSpec {
                image: [2 * side, 4],
                patch: 2,
                channels: 1,
                dim: heads * head_dim,
                depth,
                heads,
                mlp_hidden: hidden,
                ..VitSpec::tiny()
            };
            if moe { spec.moe(MoeSpec { experts: 4, top_k: 2, hidden, ..MoeSpec::default() }) } else { spec }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn conventions_are_ordered(spec in specs()) {
        let graph = spec.graph().unwrap();
        let total = |c| graph.count(c).unwrap().total;
        prop_assert!(total(Convention::Thop) <= total(Convention::Fvcore));
        prop_assert!(total(Convention::Torch) <= total(Convention::Full));
        prop_assert_eq!(total(Convention::Torch), 2 * graph.macs().unwrap());
    }

    #[test]
    fn active_is_at_most_stored_and_peak_at_most_everything(spec in specs()) {
        let graph = spec.graph().unwrap();
        let context = CountContext::default().active_experts(ActiveExperts::TopK);
        let params = graph.param_count(&context).unwrap();
        prop_assert!(params.active <= params.stored);
        let activations = graph.activation_count(&context).unwrap();
        let mut everything = graph.nodes[0].op.input_elements().unwrap();
        let mut largest = 0;
        for node in &graph.nodes {
            everything += node.op.outputs().unwrap() + node.op.workspace().unwrap();
            largest = largest.max(node.op.outputs().unwrap());
        }
        prop_assert!(activations.peak_live <= everything);
        prop_assert!(activations.peak_live >= largest);
    }

    #[test]
    fn counts_of_one_convention_form_a_sum(spec in specs(), n in 0u64..5) {
        let count = spec.graph().unwrap().count(Convention::Full).unwrap();
        let mut sum = count.times(0).unwrap();
        for _ in 0..n {
            sum = sum.plus(&count).unwrap();
        }
        prop_assert_eq!(sum, count.times(n).unwrap());
    }
}
