use super::*;
use crate::{HostTensor, TensorMap, engine::source::MapSource};

/// Elements as the golden file describes them.
fn weights(tensors: &Value) -> TensorMap {
    let named = tensors.as_array().unwrap().iter().enumerate().map(|(n, entry)| {
        let name = entry[0].as_str().unwrap();
        let shape: Vec<usize> =
            entry[1].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect();
        let shift = if name.contains("norm") { 1.0 } else { 0.0 };
        let value =
            |i: usize| (shift + 0.6 * (0.7 * i as f64 * (1 + n % 3) as f64 + 1.3 * n as f64).sin()) as f32;
        let values = (0..shape.iter().product()).map(value).collect();
        (name.to_owned(), HostTensor::new(shape, values).unwrap())
    });
    named.collect()
}

#[test]
fn hidden_states_are_those_of_an_independent_computation() {
    let golden: Value = serde_json::from_str(include_str!("../../../tests/golden/moe/llama.json")).unwrap();
    let prompts: Vec<Vec<u32>> = serde_json::from_value(golden["prompts"].clone()).unwrap();
    let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    for case in golden["cases"].as_array().unwrap() {
        let map = weights(&case["tensors"]);
        let source = MapSource::new("model", &map);
        let llama = Llama::new(&source, case["config"].as_object().unwrap()).unwrap();
        for (pool, key) in [(Pool::Last, "last"), (Pool::Mean, "mean")] {
            let expected: Vec<Vec<Vec<f64>>> = serde_json::from_value(case[key].clone()).unwrap();
            let found = llama.hidden_states(&prompts, pool).unwrap();
            assert_eq!(found.len(), expected.len());
            let pairs = found.iter().flatten().flatten().zip(expected.iter().flatten().flatten());
            let worst = pairs.map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f64::max);
            assert!(worst < 2e-6, "{key} of {}: {worst}", case["config"]["model_type"]); // A few roundings to f32.
        }
    }
}

fn refusal(change: &[(&str, Value)]) -> String {
    let mut config = serde_json::json!({"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2,
        "num_hidden_layers": 1});
    for (key, value) in change {
        config[key] = value.clone();
    }
    let map = TensorMap::new();
    let source = MapSource::new("model", &map);
    match Llama::new(&source, config.as_object().unwrap()) {
        Ok(llama) => llama.hidden_states(&[&[1]], Pool::Last).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn models_that_cannot_be_run_are_refused() {
    insta::assert_snapshot!(refusal(&[("model_type", "gpt2".into())]), @"gate_mode: hidden states of this base model cannot be computed: its `model_type` is gpt2, not one of llama, mistral, qwen2, qwen3; `cheap_embed`, `random` and `uniform_random` do without");
    let yarn = serde_json::json!({"rope_type": "yarn", "factor": 2.0});
    assert!(
        refusal(&[("rope_scaling", yarn)]).contains("its rotary scaling is `yarn`, not linear or llama3")
    );
    assert!(refusal(&[("hidden_act", "gelu".into())]).contains("its activation is gelu, not silu"));
    assert!(
        refusal(&[("hidden_size", 0.into())]).contains("`hidden_size` in its config.json must be at least 1")
    );
    assert!(refusal(&[("num_key_value_heads", 3.into())]).contains("do not fit 3 heads of keys"));
    assert!(refusal(&[]).contains("`model` has no `model.embed_tokens.weight`"));
}
