#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
use super::*;
use crate::{Engine, Recipe};
use mtl_core::params::{ParamStore, ParamView, write_params};
use std::collections::BTreeMap;

/// A value that looks random, from its position.
fn noise(i: usize) -> f32 {
    (i as f32 * 12.9898).sin() * 0.5
}

struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    /// Two models of the same tensors: `change` gives what is added to element `i` of a tensor.
    fn new(tensors: &[(&str, &[usize])], change: impl Fn(&str, usize) -> f32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (model, factor) in [("base", 0.0), ("tuned", 1.0)] {
            let values: Vec<Vec<f32>> = tensors
                .iter()
                .map(|(name, shape)| {
                    let n = shape.iter().product();
                    (0..n).map(|i| noise(i + name.len()) + factor * change(name, i)).collect()
                })
                .collect();
            let views: Vec<_> =
                tensors.iter().zip(&values).map(|((n, s), v)| ParamView::f32(n, s, v)).collect();
            std::fs::create_dir(dir.path().join(model)).unwrap();
            let path = dir.path().join(model).join("model.safetensors");
            write_params(path, &BTreeMap::new(), &views).unwrap();
            let config = r#"{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}"#;
            std::fs::write(dir.path().join(model).join("config.json"), config).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn extract(&self, options: &ExtractLora) -> Result<ExtractReport> {
        options.run(&self.path("base"), &self.path("tuned"), self.path("adapter").as_ref())
    }

    fn config(&self) -> serde_json::Value {
        let text = std::fs::read(self.dir.path().join("adapter/adapter_config.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// Largest difference, over all tensors, between base + adapter and the fine-tuned model.
    fn error(&self) -> f64 {
        let recipe =
            Recipe::new("linear").model(format!("{}+{}", self.path("base"), self.path("adapter")), 1.0);
        let merged = self.dir.path().join("merged.safetensors");
        Engine::default().run(&recipe, &merged).unwrap();
        let (merged, tuned) =
            (ParamStore::open(merged).unwrap(), ParamStore::open(self.path("tuned")).unwrap());
        assert!(merged.names().eq(tuned.names()));
        let distance = |name: &str| -> f64 {
            let (a, b) = (merged.f32s(name).unwrap(), tuned.f32s(name).unwrap());
            a.iter().zip(b.iter()).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
        };
        tuned.names().map(distance).fold(0.0, f64::max)
    }
}

const TENSORS: [(&str, &[usize]); 7] = [
    ("model.embed_tokens.weight", &[11, 6]),
    ("model.layers.0.q.weight", &[6, 8]),
    ("model.layers.0.q.bias", &[6]),
    ("model.layers.0.norm.weight", &[6]),
    ("model.layers.1.q.weight", &[6, 8]),
    ("model.layers.1.q.bias", &[6]),
    ("lm_head.weight", &[11, 6]),
];

/// Rank 1 in layer 0, rank 2 in layer 1; everything else changes in full.
fn change(name: &str, i: usize) -> f32 {
    let (r, c) = ((i / 8) as f32, (i % 8) as f32);
    match name {
        "model.layers.0.q.weight" => (r - 2.0) * (c + 1.0) / 16.0,
        "model.layers.1.q.weight" => (r - 2.0) * (c + 1.0) / 16.0 + (r * r - 3.0) * (c - 2.0) / 32.0,
        "model.layers.1.q.bias" => 0.0,
        _ => 0.125 * (i % 3) as f32,
    }
}

#[test]
fn a_low_rank_difference_comes_back_with_base_and_adapter() {
    for options in [
        ExtractLora::default().sv_epsilon(1e-5),
        ExtractLora::default().sv_epsilon(1e-5).distribute_scale(false),
        ExtractLora::default().sv_epsilon(1e-5).embed_lora(true).overwrite(true),
    ] {
        let case = Case::new(&TENSORS, change);
        let report = case.extract(&options).unwrap();
        let ranks: BTreeMap<&str, usize> =
            report.modules.iter().map(|m| (m.module.as_str(), m.rank)).collect();
        assert_eq!((ranks["model.layers.0.q"], ranks["model.layers.1.q"]), (1, 2));
        assert!(report.energy > 1.0 - 1e-9);
        assert!(case.error() < 1e-6, "{}", case.error());
        assert_eq!(report.saved.len(), if options.embed_lora { 1 } else { 3 }, "{:?}", report.saved);
        assert!(std::fs::read_dir(case.dir.path().join("adapter")).unwrap().count() == 3);
    }
}

#[test]
fn the_configuration_is_the_one_peft_reads() {
    let case = Case::new(&TENSORS, change);
    let report = case.extract(&ExtractLora::default().sv_epsilon(1e-5)).unwrap();
    let config = case.config();
    assert_eq!((config["r"].as_u64(), config["lora_alpha"].as_u64()), (Some(2), Some(2)));
    let pattern = serde_json::json!({"model.layers.0.q": 1});
    assert_eq!((&config["rank_pattern"], &config["alpha_pattern"]), (&pattern, &pattern));
    assert_eq!(config["target_modules"], serde_json::json!(["q"]));
    assert_eq!(config["modules_to_save"], serde_json::json!(["embed_tokens", "lm_head", "norm"]));
    assert_eq!((&config["task_type"], &config["lora_bias"]), (&"CAUSAL_LM".into(), &true.into()));
    let store = ParamStore::open(case.dir.path().join("adapter/adapter_model.safetensors")).unwrap();
    let names: Vec<&str> = store.names().collect();
    let expected = [
        "lm_head.weight",
        "model.embed_tokens.weight",
        "model.layers.0.norm.weight",
        "model.layers.0.q.lora_A.weight",
        "model.layers.0.q.lora_B.bias",
        "model.layers.0.q.lora_B.weight",
        "model.layers.1.q.lora_A.weight",
        "model.layers.1.q.lora_B.weight",
    ];
    assert_eq!(names, expected.map(|name| format!("base_model.model.{name}")));
    let numbers: usize = store.iter().map(|(_, info)| info.shape.iter().product::<usize>()).sum();
    assert_eq!(report.parameters, numbers as u64);
}

#[test]
fn truncation_leaves_the_error_that_the_report_states() {
    let tensors: [(&str, &[usize]); 1] = [("layers.0.q.weight", &[12, 9])];
    let case = Case::new(&tensors, |_, i| noise(7 * i + 3));
    let report = case.extract(&ExtractLora::default().max_rank(3)).unwrap();
    let module = &report.modules[0];
    assert_eq!((module.rank, module.shape), (3, [12, 9]));
    case.error();
    let (merged, tuned) = (
        ParamStore::open(case.dir.path().join("merged.safetensors")).unwrap(),
        ParamStore::open(case.path("tuned")).unwrap(),
    );
    let name = tensors[0].0;
    let square: f64 = merged
        .f32s(name)
        .unwrap()
        .iter()
        .zip(tuned.f32s(name).unwrap().iter())
        .map(|(a, b)| f64::from(a - b).powi(2))
        .sum();
    let expected = (1.0 - module.energy).sqrt() * module.norm;
    assert!((square.sqrt() - expected).abs() < 1e-6, "{} for {expected}", square.sqrt());

    let report = case.extract(&ExtractLora::default().energy(0.9).overwrite(true)).unwrap();
    let (rank, energy) = (report.modules[0].rank, report.modules[0].energy);
    assert!(energy >= 0.9 && rank < 9, "{rank} {energy}");
    let fewer = case.extract(&ExtractLora::default().max_rank(rank - 1).overwrite(true)).unwrap();
    assert!(fewer.energy < 0.9); // No smaller rank would have been enough.
}

#[test]
fn modules_that_do_not_differ_stay_out() {
    let case =
        Case::new(&TENSORS, |name, i| if name.contains("layers.1.q.weight") { change(name, i) } else { 0.0 });
    let report = case.extract(&ExtractLora::default()).unwrap();
    assert_eq!((report.modules.len(), report.saved.len(), report.unchanged.len()), (1, 0, 4));
    // The other layer has such a module as well, and must not get factors.
    assert_eq!(case.config()["target_modules"], serde_json::json!(["model.layers.1.q"]));

    let same = Case::new(&TENSORS, |_, _| 0.0);
    let error = same.extract(&ExtractLora::default()).unwrap_err().to_string();
    assert!(error.contains("nothing to extract"), "{error}");
    assert!(!same.dir.path().join("adapter").exists());
}

#[test]
fn a_bias_alone_goes_with_an_empty_product() {
    let case = Case::new(&TENSORS, |name, i| if name == "model.layers.0.q.bias" { i as f32 } else { 0.0 });
    let report = case.extract(&ExtractLora::default()).unwrap();
    assert_eq!((report.modules[0].rank, report.modules.len()), (1, 1));
    assert!(case.error() < 1e-6);
}

#[test]
fn transposed_models_get_transposed_factors() {
    let case = Case::new(&[("h.0.c_fc.weight", &[6, 8])], |_, i| change("model.layers.1.q.weight", i));
    for model in ["base", "tuned"] {
        std::fs::write(case.dir.path().join(model).join("config.json"), r#"{"model_type": "gpt2"}"#).unwrap();
    }
    case.extract(&ExtractLora::default()).unwrap();
    assert_eq!(case.config()["fan_in_fan_out"], true);
    let store = ParamStore::open(case.dir.path().join("adapter/adapter_model.safetensors")).unwrap();
    assert_eq!(store.expect_info("base_model.model.h.0.c_fc.lora_B.weight").unwrap().shape[0], 8);
    assert!(case.error() < 1e-6);
}

#[test]
fn options_out_of_range_are_refused() {
    for (options, message) in [
        (ExtractLora::default().max_rank(0), "`max_rank` must be at least 1, but is 0"),
        (ExtractLora::default().energy(1.5), "`energy` must be in (0, 1], but is 1.5"),
        (ExtractLora::default().energy(f64::NAN), "`energy` must be in (0, 1], but is NaN"),
        (ExtractLora::default().sv_epsilon(-1.0), "`sv_epsilon` must be at least 0 and finite, but is -1"),
    ] {
        let case = Case::new(&TENSORS, change);
        assert_eq!(case.extract(&options).unwrap_err().to_string(), message);
    }
}
