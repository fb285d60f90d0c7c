//! Published or independently computed results, kept as small files beside the test.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_core::{Context, StateDict};
use mtl_moe::{
    Dispatch, ExpertBank,
    router::{MultiGate, Router, Routing, TaskConditioned, TopK},
};
use serde_json::Value;
use tch::{Kind, Tensor};

/// An array of numbers of any depth as an `f64` tensor.
fn tensor(value: &Value) -> Tensor {
    fn walk(value: &Value, depth: usize, dims: &mut Vec<i64>, out: &mut Vec<f64>) {
        match value {
            Value::Array(items) => {
                if dims.len() == depth {
                    dims.push(items.len() as i64);
                }
                items.iter().for_each(|item| walk(item, depth + 1, dims, out));
            }
            number => out.push(number.as_f64().expect("number")),
        }
    }
    let (mut dims, mut out) = (Vec::new(), Vec::new());
    walk(value, 0, &mut dims, &mut out);
    Tensor::from_slice(&out).view(dims.as_slice())
}

fn close(found: &Tensor, expected: &Value, what: &str) {
    let expected = tensor(expected);
    assert_eq!(found.size(), expected.size(), "{what}");
    let scale = expected.abs().max().double_value(&[]).max(1.0);
    let error = (found.to_kind(Kind::Double) - expected).abs().max().double_value(&[]) / scale;
    assert!(error < 1e-10, "{what}: largest difference {error:e}");
}

fn golden(text: &str) -> Value {
    serde_json::from_str(text).expect("golden file")
}

fn layer_params(file: &Value) -> StateDict {
    let mut params = StateDict::new();
    for (name, key) in [("moe.w1", "W1"), ("moe.b1", "b1"), ("moe.w2", "W2"), ("moe.b2", "b2")] {
        params.insert(name, tensor(&file[key]));
    }
    params
}

/// Runs one layer and compares output, choice and gradients with `expected`.
fn check_variant(
    file: &Value,
    name: &str,
    router: &dyn Router,
    mut params: StateDict,
    gate: &str,
    task: usize,
) {
    let expected = &file["variants"][name];
    params.insert("x", tensor(&file["x"]));
    let params = params.trainable();
    let x = params.get("x").unwrap();
    let bank = ExpertBank { dim: 16, hidden: 32, experts: 4, ..ExpertBank::default() };
    for dispatch in [Dispatch::Grouped, Dispatch::Dense] {
        let ctx = Context::eval().with_task(task);
        let logits = router.logits(&params, "moe", x, &ctx).unwrap();
        let routing: Routing = TopK { k: 2, noise_std: 0.0 }.choose(&logits, "noise", &ctx).unwrap();
        close(&routing.index.to_kind(Kind::Double), &expected["topk_indices"], name);
        close(&routing.gate, &expected["topk_gates"], name);
        let y = bank.forward(&params, "moe", x, &routing, dispatch).unwrap();
        close(&y, &expected["output"], name);
        let grads = params.gradients(&(y * tensor(&file["R"])).sum(Kind::Double), false).unwrap();
        let grad = |name: &str| grads.get(name).unwrap().shallow_clone();
        close(&grad("x"), &expected["grad_x"], "grad_x");
        close(&grad(gate).tr(), &expected["grad_w_gate"], "grad_w_gate");
        for (name, key) in
            [("moe.w1", "grad_W1"), ("moe.b1", "grad_b1"), ("moe.w2", "grad_W2"), ("moe.b2", "grad_b2")]
        {
            if !expected[key].is_null() {
                close(&grad(name), &expected[key], key);
            }
        }
    }
}

#[test]
fn multi_gate_layers_match_the_reference() {
    let file = golden(include_str!("golden/moe_layer.json"));
    let router = MultiGate { dim: 16, experts: 4, tasks: 2 };
    for task in 0..2 {
        let mut params = layer_params(&file);
        let gate = format!("moe.gate.{task}.weight");
        params.insert(&gate, tensor(&file[format!("w_gate_task{task}")]).tr());
        check_variant(&file, &format!("m3vit_multigate_task{task}"), &router, params, &gate, task);
    }
}

#[test]
fn task_conditioned_layers_match_the_reference() {
    let file = golden(include_str!("golden/moe_layer.json"));
    let router = TaskConditioned { dim: 16, experts: 4, tasks: 2, embedding: 3, shared: "task".into() };
    let mlp = &file["variants"]["task_conditioned_task0"]["mlp"];
    for task in 0..2 {
        let mut params = layer_params(&file);
        for (name, key) in [("task.fc1.weight", "A"), ("task.fc2.weight", "B")] {
            params.insert(name, tensor(&mlp[key]).tr());
        }
        for (name, key) in [
            ("task.fc1.bias", "a"),
            ("task.fc2.bias", "b"),
            ("task.norm.weight", "ln_weight"),
            ("task.norm.bias", "ln_bias"),
        ] {
            params.insert(name, tensor(&mlp[key]));
        }
        let gate = &file["variants"]["task_conditioned_task0"]["w_gate_conditioned"];
        params.insert("moe.gate.weight", tensor(gate).tr());
        check_variant(
            &file,
            &format!("task_conditioned_task{task}"),
            &router,
            params,
            "moe.gate.weight",
            task,
        );
    }
}

#[test]
fn the_noisy_gate_and_its_balance_loss_match_the_reference() {
    let file = golden(include_str!("golden/vmoe_gate.json"));
    let mut params = StateDict::new();
    params.insert("x", tensor(&file["x"]));
    params.insert("w", tensor(&file["w_gate"]));
    let params = params.trainable();
    let logits = params.get("x").unwrap().matmul(params.get("w").unwrap());
    close(&logits, &file["clean_logits"], "logits");
    let choice = TopK { k: 2, noise_std: 1.0 };
    let routing = choice.choose_with(&logits, Some(&(tensor(&file["noise"]) / 6.0))).unwrap();
    close(&routing.index.to_kind(Kind::Double), &file["topk_indices"], "indices");
    close(&routing.gate, &file["topk_gates"], "gates");
    close(&routing.balance, &file["loss_consistent"], "balance loss");
    let gates = Tensor::zeros([9, 6], (Kind::Double, tch::Device::Cpu));
    let gates = gates.scatter(1, &routing.index, &routing.gate);
    close(&gates, &file["gates"], "gates");
    let objective = &routing.balance + (gates * tensor(&file["R"])).sum(Kind::Double);
    let grads = params.gradients(&objective, true).unwrap();
    close(grads.get("x").unwrap(), &file["grad_x"], "grad_x");
    close(grads.get("w").unwrap(), &file["grad_w_gate"], "grad_w_gate");
    let quiet = choice.choose_with(&logits, None).unwrap();
    close(&quiet.balance, &file["noise_std_zero_train"]["loss"], "balance loss without noise");
}
