//! The Vision Transformer against Hugging Face: `vit_tiny` is a `ViTForImageClassification` of transformers 5 with
//! random weights, with what it computes for three random images.
#![cfg(feature = "torch")]
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_core::{
    Context, Encoder, Model, Seed, StateDict,
    models::{VitClassifier, VitConfig},
};
use std::path::Path;
use tch::Tensor;

fn load(file: &str) -> StateDict {
    StateDict::load(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vit_tiny").join(file)).unwrap()
}

fn model() -> VitClassifier {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vit_tiny/config.json");
    let config = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    VitClassifier::new(VitConfig::from_hf(&config).unwrap().build().unwrap(), 7).unwrap()
}

fn assert_close(found: &Tensor, expected: &Tensor) {
    assert_eq!(found.size(), expected.size());
    let error = (found - expected).abs().max().double_value(&[]);
    assert!(error < 1e-4, "off by {error}"); // Room for another order of sums; 1e-6 is usual.
}

#[test]
fn names_and_shapes_are_those_of_hugging_face() {
    model().init(Seed(0)).unwrap().same_layout(&load("model.safetensors"), "the model here").unwrap();
}

#[test]
fn logits_and_hidden_states_are_those_of_hugging_face() {
    let (model, params, expected) = (model(), load("model.safetensors"), load("expected.safetensors"));
    let expect = |name: &str| expected.get(name).unwrap();
    let input = expect("pixel_values").shallow_clone().into();
    let ctx = Context::eval();
    assert_close(&model.forward(&params, &input, &ctx).unwrap(), expect("logits"));
    let states = model.vit().hidden_states(&params, &input, &ctx).unwrap();
    let names = ["hidden_0", "hidden_1", "hidden_2", "last_hidden_state"];
    assert_eq!(states.len(), names.len());
    for (state, name) in states.iter().zip(names) {
        assert_close(state, expect(name));
    }
    let features = model.vit().encode(&params, &input, &ctx).unwrap();
    assert_close(&features.pooled, &expect("last_hidden_state").select(1, 0));
    assert_close(&features.positions.unwrap(), &expect("last_hidden_state").narrow(1, 1, 16));
}
