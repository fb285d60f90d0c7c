//! Architectures against independently computed values in `f64`; the files hold weights as input × output.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)] // Helpers of tests count as library code for clippy.
use mtl_core::{
    Context, MultiTaskModel, ParamSource, StateDict, TaskKind, TaskSpec,
    architectures::{
        Cgc, CgcConfig, Mmoe, MmoeConfig, Network, Norm, Ple, PleConfig, PleVariant, Sharing, aitm_transfer,
        calibrator, cross_stitch, dselect_gate, esmm_losses, funnel_logits, gumbel_softmax, mtan_mask,
        nddr_fuse, selector_entropy, selectors, smooth_step,
    },
    models::Mlp,
};
use serde_json::Value;
use std::sync::Arc;
use tch::Tensor;

const TOLERANCE: f64 = 1e-10;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/architectures.json")).unwrap()
}

/// Nested lists as a tensor.
fn tensor(value: &Value) -> Tensor {
    fn walk(value: &Value, depth: usize, size: &mut Vec<i64>, numbers: &mut Vec<f64>) {
        match value.as_array() {
            Some(list) => {
                if size.len() == depth {
                    size.push(list.len() as i64);
                }
                list.iter().for_each(|item| walk(item, depth + 1, size, numbers));
            }
            None => numbers.push(value.as_f64().unwrap()),
        }
    }
    let (mut size, mut numbers) = (Vec::new(), Vec::new());
    walk(value, 0, &mut size, &mut numbers);
    Tensor::from_slice(&numbers).view(size.as_slice())
}

#[track_caller]
fn close(found: &Tensor, wanted: &Value) {
    let wanted = tensor(wanted);
    assert_eq!(found.size(), wanted.size());
    let off = (found - &wanted).abs().max().double_value(&[]);
    assert!(off <= TOLERANCE * wanted.abs().max().double_value(&[]), "off by {off}");
}

#[track_caller]
fn all_close(found: &[Tensor], wanted: &Value) {
    close(&Tensor::stack(found, 0), wanted);
}

/// Puts a linear map stored as input × output.
fn put(params: &mut StateDict, name: impl AsRef<str>, weight: &Value, bias: Option<&Value>) {
    let name = name.as_ref();
    params.insert(format!("{name}.weight"), tensor(weight).tr());
    if let Some(bias) = bias {
        params.insert(format!("{name}.bias"), tensor(bias));
    }
}

/// The same for the maps of a list, named by `name`.
fn put_all(params: &mut StateDict, name: impl Fn(usize) -> String, weights: &Value, biases: &Value) {
    for (i, weight) in weights.as_array().unwrap().iter().enumerate() {
        put(params, name(i), weight, Some(&biases[i]));
    }
}

const TASKS: [&str; 2] = ["a", "b"];

fn network<S: Sharing>(sharing: S, widths: &[i64]) -> Network<S> {
    let task = |name| TaskSpec::new(name, TaskKind::Regression { dims: 1 });
    Network::new(sharing, Arc::new(Mlp::new(widths).unwrap()), TASKS.map(task).to_vec()).unwrap()
}

fn features<S: Sharing>(network: &Network<S>, params: &StateDict, x: &Value) -> Vec<Tensor> {
    let (backbone, ctx) = (network.backbone(), Context::eval());
    network.sharing().features(backbone, params, &tensor(x), &[0, 1], &ctx).unwrap()
}

#[test]
fn mmoe_agrees() {
    let golden = golden();
    let case = &golden["MMoE"];
    let mut params = StateDict::new();
    put_all(&mut params, |e| format!("experts.{e}.stage0"), &case["W"], &case["b"]);
    put_all(&mut params, |k| format!("gates.{}", TASKS[k]), &case["V"], &case["c"]);
    put_all(&mut params, |k| format!("heads.{}", TASKS[k]), &case["U"], &case["u"]);
    let model: Network<Mmoe> = network(MmoeConfig::default().n_experts(3).build().unwrap(), &[6, 4]);
    let ctx = Context::eval().with_traces();
    let outputs = model.forward_all(&params, &tensor(&golden["x"]).into(), &ctx).unwrap();
    all_close(&outputs, &case["outputs"]);
    all_close(&features(&model, &params, &golden["x"]), &case["mixed"]);
    let gates: Vec<Tensor> = ctx.take_traces().into_iter().map(|(_, gate)| gate).collect();
    all_close(&gates, &case["gates"]);
}

#[test]
fn cgc_agrees() {
    let golden = golden();
    let case = &golden["CGC_layer"];
    let mut params = StateDict::new();
    put_all(&mut params, |e| format!("shared.experts.{e}.stage0"), &case["W_shared"], &case["b_shared"]);
    for (k, task) in TASKS.iter().enumerate() {
        let name = |e| format!("tasks.{task}.experts.{e}.stage0");
        put_all(&mut params, name, &case["W_task"][k], &case["b_task"][k]);
        put(&mut params, format!("tasks.{task}.gate"), &case["V_task"][k], Some(&case["c_task"][k]));
    }
    let cgc = CgcConfig::default().shared_experts(2).task_experts(&[2]).build().unwrap();
    let model: Network<Cgc> = network(cgc, &[6, 4]);
    all_close(&features(&model, &params, &golden["x"]), &case["task_outputs"]);
}

/// The parameters of both layers.
fn ple_params(golden: &Value) -> StateDict {
    let mut params = StateDict::new();
    for (layer, case) in [&golden["CGC_layer"], &golden["PLE_2layer"]].into_iter().enumerate() {
        let name = |e| format!("shared.layer{layer}.experts.{e}");
        put_all(&mut params, name, &case["W_shared"], &case["b_shared"]);
        for (k, task) in TASKS.iter().enumerate() {
            let name = |e| format!("tasks.{task}.layer{layer}.experts.{e}");
            put_all(&mut params, name, &case["W_task"][k], &case["b_task"][k]);
            let gate = format!("tasks.{task}.layer{layer}.gate");
            put(&mut params, gate, &case["V_task"][k], Some(&case["c_task"][k]));
        }
    }
    params
}

fn ple(variant: PleVariant, widths: &[i64]) -> Network<Ple> {
    let config = PleConfig::default().shared_experts(2).task_experts(&[2, 2]).variant(variant);
    network(config.build().unwrap(), widths)
}

#[test]
fn ple_agrees() {
    let golden = golden();
    let (first, case) = (&golden["CGC_layer"], &golden["PLE_2layer"]);
    let mut params = ple_params(&golden);
    put(&mut params, "shared.layer0.gate", &first["V_shared"], Some(&first["c_shared"]));
    put_all(&mut params, |k| format!("heads.{}", TASKS[k]), &case["tower_U"], &case["tower_u"]);
    let model = ple(PleVariant::Paper, &[6, 4, 4]);
    all_close(&features(&model, &params, &golden["x"]), &case["task_outputs"]);
    let outputs = model.forward_all(&params, &tensor(&golden["x"]).into(), &Context::eval()).unwrap();
    all_close(&outputs, &case["outputs"]);
    all_close(&features(&ple(PleVariant::Paper, &[6, 4]), &params, &golden["x"]), &first["task_outputs"]);
}

#[test]
fn ple_as_in_libmtl_agrees() {
    let golden = golden();
    let (case, params) = (&golden["PLE_2layer_libmtl_variant"], ple_params(&golden));
    let layers = |widths: &[i64]| features(&ple(PleVariant::Libmtl, widths), &params, &golden["x"]);
    all_close(&layers(&[6, 4]), &case["layer1_outputs"]);
    all_close(&layers(&[6, 4, 4]), &case["layer2_outputs"]);
}

#[test]
fn cross_stitch_and_nddr_agree() {
    let golden = golden();
    let case = &golden["cross_stitch"];
    let inputs = tensor(&case["features"]).unbind(0);
    let mixed = cross_stitch(&tensor(&case["alpha"]), &inputs, "here").unwrap();
    all_close(&mixed, &case["outputs"]);
    let case = &golden["NDDR"];
    let inputs = tensor(&case["features"]).unbind(0);
    let mut params = StateDict::new();
    for k in 0..2 {
        put(&mut params, format!("nddr.{k}"), &case["W"][k], None);
    }
    let fused = [0, 1].map(|k| nddr_fuse(&params, &format!("nddr.{k}"), &inputs, "here").unwrap());
    all_close(&fused, &case["outputs_before_bn_relu"]);
}

#[test]
fn mtan_attention_agrees() {
    let golden = golden();
    let case = &golden["MTAN_attention_no_bn"];
    let mut params = StateDict::new();
    put(&mut params, "attention.g1", &case["g1"], None);
    put(&mut params, "attention.g2", &case["g2"], None);
    let mask = mtan_mask(&params, "attention", &tensor(&case["p"]), Norm::None).unwrap();
    close(&mask, &case["mask"]);
    close(&(mask * tensor(&case["u"])), &case["attended"]);
}

#[test]
fn esmm_agrees() {
    let golden = golden();
    let case = &golden["ESMM"];
    let logits = tensor(&case["logits_ctr_cvr"]);
    close(&logits.sigmoid().select(1, 0), &case["pCTR"]);
    close(&logits.sigmoid().select(1, 1), &case["pCVR"]);
    let reached = funnel_logits(&logits).unwrap().sigmoid();
    close(&reached.select(1, 0), &case["pCTR"]);
    close(&reached.select(1, 1), &case["pCTCVR"]);
    let (click, conversion) = (tensor(&case["click"]), tensor(&case["conversion"]));
    let (ctr, ctcvr) = esmm_losses(&logits, &click, &conversion).unwrap();
    close(&ctr, &case["loss_ctr"]);
    close(&ctcvr, &case["loss_ctcvr"]);
}

#[test]
fn aitm_agrees() {
    let golden = golden();
    let case = &golden["AITM"];
    let mut params = StateDict::new();
    put(&mut params, "t.info", &case["info_W"], Some(&case["info_b"]));
    for (name, key) in [("query", "Wq"), ("key", "Wk"), ("value", "Wv")] {
        put(&mut params, format!("t.{name}"), &case[key], None);
    }
    let info = params.linear("t.info", &tensor(&case["tower0"])).unwrap().relu();
    close(&info, &case["transferred"]);
    let (z, attention) = aitm_transfer(&params, "t", &info, &tensor(&case["tower1"])).unwrap();
    close(&attention, &case["attention"]);
    close(&z, &case["output1"]);
    let probabilities = Tensor::stack(&[tensor(&case["y0"]), tensor(&case["y1"])], 1);
    close(&calibrator(&probabilities).unwrap(), &case["calibrator_mean_relu_y1_minus_y0"]);
}

#[test]
fn dselect_k_agrees() {
    let golden = golden();
    let case = &golden["dselect_k"];
    let (z, w) = (tensor(&case["z_logits"]), tensor(&case["w_logits"]));
    close(&smooth_step(&z, 1.0), &case["smooth_step"]);
    let chosen = selectors(&z, 1.0, 4).unwrap();
    close(&chosen, &case["selector"]);
    close(&dselect_gate(&chosen, &w), &case["expert_weights"]);
    close(&selector_entropy(&chosen), &case["entropy_sum"]);
}

#[test]
fn gumbel_softmax_agrees() {
    let golden = golden();
    let case = &golden["gumbel"];
    let logits = tensor(&golden["router_x"]).matmul(&tensor(&golden["router_w_gate"]));
    let (uniform, tau) = (tensor(&case["uniform"]), case["tau"].as_f64().unwrap());
    close(&gumbel_softmax(&logits, &uniform, tau, false), &case["soft"]);
    close(&gumbel_softmax(&logits, &uniform, tau, true), &case["hard"]);
}
