//! What must hold for any sizes and any weights.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_core::{Context, Seed, StateDict, rng};
use mtl_moe::{Dispatch, ExpertBank, router::TopK};
use proptest::prelude::*;
use tch::{Kind, Tensor};

const DIM: i64 = 5;

/// Tokens, router logits and expert weights in double precision; `x`, `logits` and the weights are leaves.
fn layer(seed: u64, tokens: i64, experts: i64) -> (ExpertBank, StateDict) {
    let bank = ExpertBank { dim: DIM, hidden: 3, experts, ..ExpertBank::default() };
    let mut params = StateDict::new();
    bank.init("moe", Seed(seed), &mut params).unwrap();
    let mut draw = |name: &str, dims: &[i64]| {
        params.insert(name, rng::normal(&mut Seed(seed).stream(name, 0), dims, 1.0));
    };
    draw("x", &[tokens, DIM]);
    draw("logits", &[tokens, experts]);
    draw("moe.b1", &[experts, 3]);
    (bank, params.map(|t| t.to_kind(Kind::Double)).trainable())
}

fn output(bank: &ExpertBank, params: &StateDict, k: i64, dispatch: Dispatch) -> Tensor {
    let (x, logits) = (params.get("x").unwrap(), params.get("logits").unwrap());
    let routing = TopK { k, noise_std: 0.0 }.choose(logits, "noise", &Context::eval()).unwrap();
    bank.forward(params, "moe", x, &routing, dispatch).unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Both ways of dispatch give one function: values and every gradient.
    #[test]
    fn dispatches_agree(seed: u64, tokens in 1i64..12, experts in 1i64..6, k in 1i64..6) {
        let (bank, params) = layer(seed, tokens, experts);
        let k = k.min(experts);
        let [grouped, dense] = [Dispatch::Grouped, Dispatch::Dense].map(|d| output(&bank, &params, k, d));
        prop_assert!(distance(&grouped, &dense) < 1e-12);
        let [a, b] = [grouped, dense].map(|y| params.gradients(&y.square().sum(Kind::Double), false).unwrap());
        prop_assert_eq!(a.names().collect::<Vec<_>>(), b.names().collect::<Vec<_>>());
        for ((name, a), (_, b)) in a.iter().zip(b.iter()) {
            prop_assert!(distance(a, b) < 1e-12, "gradient of {}", name);
        }
    }

    /// The order of the tokens does not matter to any of them.
    #[test]
    fn tokens_are_independent(seed: u64, tokens in 2i64..12) {
        let (bank, mut params) = layer(seed, tokens, 4);
        let straight = output(&bank, &params, 2, Dispatch::Grouped);
        for name in ["x", "logits"] {
            let flipped = params.get(name).unwrap().flip([0i64].as_slice());
            params.insert(name, flipped);
        }
        let flipped = output(&bank, &params, 2, Dispatch::Grouped).flip([0i64].as_slice());
        prop_assert!(distance(&straight, &flipped) < 1e-12);
    }

    /// With equal experts the output is the expert's times the sum of the gates, which is 1 when all are chosen.
    #[test]
    fn equal_experts_are_one_expert(seed: u64, tokens in 1i64..12, experts in 1i64..6) {
        let (bank, mut params) = layer(seed, tokens, experts);
        for name in ["moe.w1", "moe.b1", "moe.w2", "moe.b2"] {
            let first = params.get(name).unwrap().narrow(0, 0, 1);
            let alike = first.expand_as(params.get(name).unwrap()).contiguous();
            params.insert(name, alike);
        }
        let mixture = output(&bank, &params, experts, Dispatch::Grouped);
        let one = |name: &str| params.get(name).unwrap().get(0);
        let x = params.get("x").unwrap();
        let hidden = (x.matmul(&one("moe.w1")) + one("moe.b1")).gelu("none");
        prop_assert!(distance(&mixture, &(hidden.matmul(&one("moe.w2")) + one("moe.b2"))) < 1e-12);
    }
}

#[test]
fn no_tokens_give_no_output() {
    let (bank, params) = layer(0, 0, 3);
    assert_eq!(output(&bank, &params, 2, Dispatch::Grouped).size(), [0, DIM]);
}
