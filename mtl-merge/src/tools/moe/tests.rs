#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
use super::*;
use mtl_core::params::{ParamStore, ParamView, write_params};
use std::path::PathBuf;

const HIDDEN: usize = 4;
const INNER: usize = 6;
const LAYERS: usize = 2;

fn value(model: &str, name: &str, i: usize) -> f32 {
    let seed =
        model.bytes().chain(name.bytes()).fold(7_u32, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
    ((seed % 1000) as f32 + i as f32 * 0.37).sin()
}

/// Writes a model of two layers; `extra` tensors come on top.
fn model(dir: &Path, name: &str, kind: &str, extra: &[(&str, &[usize])]) {
    let mut tensors: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".into(), vec![9, HIDDEN]),
        ("model.norm.weight".into(), vec![HIDDEN]),
        ("lm_head.weight".into(), vec![9, HIDDEN]),
    ];
    for layer in 0..LAYERS {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        for (part, shape) in [
            ("input_layernorm", vec![HIDDEN]),
            ("post_attention_layernorm", vec![HIDDEN]),
            ("self_attn.q_proj", vec![HIDDEN, HIDDEN]),
            ("self_attn.k_proj", vec![HIDDEN / 2, HIDDEN]),
            ("self_attn.v_proj", vec![HIDDEN / 2, HIDDEN]),
            ("self_attn.o_proj", vec![HIDDEN, HIDDEN]),
            ("mlp.gate_proj", vec![INNER, HIDDEN]),
            ("mlp.up_proj", vec![INNER, HIDDEN]),
            ("mlp.down_proj", vec![HIDDEN, INNER]),
        ] {
            tensors.push((name(part), shape));
        }
    }
    tensors.extend(extra.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())));
    let values: Vec<Vec<f32>> = tensors
        .iter()
        .map(|(tensor, shape)| (0..shape.iter().product()).map(|i| value(name, tensor, i)).collect())
        .collect();
    let views: Vec<_> = tensors.iter().zip(&values).map(|((n, s), v)| ParamView::f32(n, s, v)).collect();
    std::fs::create_dir(dir.join(name)).unwrap();
    write_params(dir.join(name).join("model.safetensors"), &Default::default(), &views).unwrap();
    let config = json!({"model_type": kind, "architectures": ["Some"], "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
        "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": INNER, "torch_dtype": "float32"});
    model::write_json(&dir.join(name).join("config.json"), &config).unwrap();
    std::fs::write(dir.join(name).join("tokenizer_config.json"), "{}").unwrap();
}

struct Family(tempfile::TempDir);

impl Family {
    fn new(kind: &str) -> Self {
        let family = Self(tempfile::tempdir().unwrap());
        ["base", "a", "b"].iter().for_each(|name| model(family.0.path(), name, kind, &[]));
        family
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Experts `a` and `b` with one prompt each.
    fn config(&self, mode: GateMode) -> MoeConfig {
        let expert = |name: &str, tokens: &[u32]| {
            Expert::new(self.path(name).display().to_string()).positive(Prompt::Tokens(tokens.to_vec()))
        };
        let experts = vec![expert("a", &[1, 2]), expert("b", &[3, 4, 5])];
        let mut config = MoeConfig::new(self.path("base").display().to_string(), experts);
        config.gate_mode = mode;
        config
    }

    fn build(&self, builder: &MoeBuilder) -> (MoeReport, ParamStore) {
        let report = builder.clone().overwrite(true).run(&self.path("out")).unwrap();
        (report, ParamStore::open(self.path("out")).unwrap())
    }

    fn settings(&self) -> Map<String, Value> {
        model::config(&self.path("out").display().to_string()).unwrap()
    }
}

fn expect(store: &ParamStore, name: &str, model: &str, source: &str) {
    let values = store.f32s(name).unwrap();
    let expected: Vec<f32> = (0..values.len()).map(|i| value(model, source, i)).collect();
    assert_eq!(*values, *expected, "{name} is not {source} of {model}");
}

#[test]
fn a_mixtral_takes_perceptrons_from_the_experts_and_the_rest_from_the_base() {
    let family = Family::new("mistral");
    let builder = MoeBuilder::new(family.config(GateMode::CheapEmbed)).shard_bytes(900);
    let (report, store) = family.build(&builder);
    let checked = builder.check().unwrap();
    assert_eq!(
        (report.architecture, report.tensors, checked.bytes),
        (Architecture::Mixtral, 29, report.bytes)
    );
    assert_eq!(
        report.parameters,
        store.iter().map(|(_, i)| i.shape.iter().product::<usize>() as u64).sum::<u64>()
    );
    assert_eq!(report.active_parameters, report.parameters); // Every token passes both.
    assert!(report.files.len() > 2, "{:?}", report.files);
    let layer = "model.layers.1";
    expect(
        &store,
        &format!("{layer}.self_attn.q_proj.weight"),
        "base",
        &format!("{layer}.self_attn.q_proj.weight"),
    );
    expect(&store, "lm_head.weight", "base", "lm_head.weight");
    for (e, model) in ["a", "b"].iter().enumerate() {
        for (w, part) in [("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")] {
            let name = format!("{layer}.block_sparse_moe.experts.{e}.{w}.weight");
            expect(&store, &name, model, &format!("{layer}.mlp.{part}.weight"));
        }
    }
    assert!(store.names().all(|name| !name.contains(".mlp.")));
    let embedding =
        |t: usize, i: usize| f64::from(value("base", "model.embed_tokens.weight", t * HIDDEN + i));
    let sum: Vec<f64> = (0..HIDDEN).map(|i| embedding(1, i) + embedding(2, i)).collect();
    let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
    for layer in 0..LAYERS {
        let router = store.f32s(&format!("model.layers.{layer}.block_sparse_moe.gate.weight")).unwrap();
        for (x, expected) in router.iter().zip(&sum) {
            assert!((f64::from(*x) - expected / norm).abs() < 1e-6);
        }
    }
    let settings = family.settings();
    let expected = json!({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": LAYERS,
        "num_local_experts": 2, "num_experts_per_tok": 2, "sliding_window": null, "torch_dtype": "float32"});
    assert_eq!(Value::Object(settings), expected);
    assert!(family.path("out/tokenizer_config.json").exists() && family.path("out/README.md").exists());
    let kept: MoeConfig =
        serde_json::from_slice(&std::fs::read(family.path("out/mtl_moe_config.json")).unwrap()).unwrap();
    assert_eq!(kept, family.config(GateMode::CheapEmbed));
}

#[test]
fn fused_experts_hold_gate_and_up_one_after_the_other() {
    let family = Family::new("llama");
    let (_, store) = family.build(&MoeBuilder::new(family.config(GateMode::CheapEmbed)).fused(true));
    let both = "model.layers.0.mlp.experts.gate_up_proj";
    assert_eq!(store.expect_info(both).unwrap().shape, [2, 2 * INNER, HIDDEN]);
    let expected: Vec<f32> = ["a", "b"]
        .iter()
        .flat_map(|model| {
            ["gate_proj", "up_proj"].into_iter().flat_map(move |part| {
                let name = format!("model.layers.0.mlp.{part}.weight");
                (0..INNER * HIDDEN).map(move |i| value(model, &name, i))
            })
        })
        .collect();
    assert_eq!(*store.f32s(both).unwrap(), *expected);
    assert_eq!(store.expect_info("model.layers.0.mlp.experts.down_proj").unwrap().shape, [2, HIDDEN, INNER]);
    assert!(store.info("model.layers.0.mlp.gate.weight").is_some());
}

#[test]
fn shared_experts_go_where_their_architecture_has_them() {
    let family = Family::new("llama");
    let mut config = family.config(GateMode::CheapEmbed);
    let mut shared = Expert::new(family.path("base").display().to_string());
    shared.residual_scale = Some(0.5);
    config.shared_experts = Some(vec![shared.clone()]);
    let (report, store) = family.build(&MoeBuilder::new(config.clone()));
    assert_eq!(report.architecture, Architecture::Deepseek);
    let down = store.f32s("model.layers.1.mlp.shared_experts.down_proj.weight").unwrap();
    assert_eq!(down[3], 0.5 * value("base", "model.layers.1.mlp.down_proj.weight", 3));
    expect(&store, "model.layers.0.mlp.experts.1.up_proj.weight", "b", "model.layers.0.mlp.up_proj.weight");
    assert_eq!(
        (&family.settings()["n_shared_experts"], &family.settings()["n_routed_experts"]),
        (&json!(1), &json!(2))
    );

    config.shared_experts = Some(vec![shared.positive(Prompt::Tokens(vec![6]))]);
    let (report, store) = family.build(&MoeBuilder::new(config));
    assert_eq!(report.architecture, Architecture::Qwen);
    assert_eq!(store.expect_info("model.layers.0.mlp.shared_expert_gate.weight").unwrap().shape, [1, HIDDEN]);
    let gate = store.f32s("model.layers.0.mlp.shared_expert_gate.weight").unwrap();
    assert!((gate.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    assert_eq!(*store.f32s("model.layers.1.self_attn.k_proj.bias").unwrap(), [0.0; HIDDEN / 2]);
    assert_eq!(family.settings()["shared_expert_intermediate_size"], json!(INNER));
}

#[test]
fn hidden_gates_are_normalised_differences_and_differ_from_layer_to_layer() {
    let family = Family::new("llama");
    let mut config = family.config(GateMode::Hidden);
    config.experts[0] = config.experts[0].clone().negative(Prompt::Tokens(vec![7]));
    let (_, store) = family.build(&MoeBuilder::new(config.clone()));
    let router =
        |layer: usize| store.f32s(&format!("model.layers.{layer}.block_sparse_moe.gate.weight")).unwrap();
    for row in router(0).chunks(HIDDEN).chain(router(1).chunks(HIDDEN)) {
        assert!((row.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert_ne!(router(0), router(1));
    // Into the first layer go the embeddings: of the last tokens, 2 and 7.
    let embedding = |t: usize, i: usize| value("base", "model.embed_tokens.weight", t * HIDDEN + i);
    let row: Vec<f32> = (0..HIDDEN).map(|i| embedding(2, i) - embedding(7, i)).collect();
    let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
    for (x, expected) in router(0).iter().zip(&row) {
        assert!((x - expected / norm).abs() < 1e-6);
    }
    config.gate_mode = GateMode::HiddenAvg;
    let last = router(1).to_vec();
    let (_, store) = family.build(&MoeBuilder::new(config));
    assert_ne!(*store.f32s("model.layers.1.block_sparse_moe.gate.weight").unwrap(), *last);
}

#[test]
fn upcycling_takes_one_model_random_gates_and_noise() {
    let family = Family::new("llama");
    let mut expert = Expert::new(family.path("a").display().to_string());
    expert.noise_scale = Some(0.01);
    let mut config = MoeConfig::new(family.path("base").display().to_string(), vec![expert; 3]);
    config.gate_mode = GateMode::Random;
    let (report, store) = family.build(&MoeBuilder::new(config));
    assert!(report.warnings.iter().any(|w| w.contains("no power of two")), "{:?}", report.warnings);
    assert_eq!(report.parameters - report.active_parameters, (3 * LAYERS * HIDDEN * INNER) as u64);
    let expert =
        |e: usize| store.f32s(&format!("model.layers.0.block_sparse_moe.experts.{e}.w1.weight")).unwrap();
    let deviation = |e: usize| {
        let weight = expert(e);
        let noise =
            weight.iter().enumerate().map(|(i, x)| x - value("a", "model.layers.0.mlp.gate_proj.weight", i));
        (noise.map(|x| x * x).sum::<f32>() / (INNER * HIDDEN) as f32).sqrt()
    };
    assert!((0.005..0.015).contains(&deviation(0)) && (0.005..0.015).contains(&deviation(2)));
    assert_ne!(expert(0), expert(1));
}

#[test]
fn models_that_do_not_fit_together_are_refused_before_anything_is_written() {
    let family = Family::new("llama");
    let refusal = |config: MoeConfig| {
        let error = MoeBuilder::new(config).run(&family.path("out")).unwrap_err().to_string();
        assert!(!family.path("out").exists());
        error.replace(&family.0.path().display().to_string(), "DIR")
    };
    model(family.0.path(), "biased", "llama", &[("model.layers.0.mlp.up_proj.bias", &[INNER])]);
    let mut config = family.config(GateMode::CheapEmbed);
    config.base_model = family.path("biased").display().to_string();
    insta::assert_snapshot!(refusal(config), @"the checkpoints do not fit together: Mixtral has no place for `model.layers.0.mlp.up_proj.bias` of the base");
    model(family.0.path(), "other", "qwen2", &[]);
    let mut config = family.config(GateMode::CheapEmbed);
    config.experts[1].source_model = family.path("other").display().to_string();
    assert!(refusal(config).contains("needs models of one type"));
    let mut config = family.config(GateMode::CheapEmbed);
    config.experts[1].source_model = family.path("absent").display().to_string();
    assert!(refusal(config).starts_with("experts[1].source_model: "));
    let mut config = family.config(GateMode::CheapEmbed);
    config.experts[0] = config.experts[0].clone().positive(Prompt::Tokens(vec![9]));
    insta::assert_snapshot!(refusal(config), @"experts[0].positive_prompts[1]: token 9 is outside the vocabulary of 9 tokens");
}

#[test]
fn the_output_does_not_depend_on_threads_or_shards() {
    let family = Family::new("llama");
    let mut config = family.config(GateMode::HiddenAvg);
    config.experts[0].noise_scale = Some(0.1);
    let run = |threads: usize, shard: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (_, store) = pool.install(|| family.build(&MoeBuilder::new(config.clone()).shard_bytes(shard)));
        store.names().map(|n| (n.to_owned(), store.bytes(n).unwrap().to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(run(1, 0), run(3, 500));
}
