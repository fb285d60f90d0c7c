//! The ways of computing gradients against each other, and what the trainer makes of them.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)] // Helpers of tests count as library code for clippy.
use mtl_core::{
    Batch, Context, Cost, Encoder, Features, Input, Learner, Model, MultiTaskModel, ParamSource, Result,
    Seed, StateDict, TaskSpec,
    learner::{Step, StepReport},
    models::{CnnConfig, Mlp, MultiTask, VitConfig},
    optim::Schedule,
    rng,
    train::{GradSource, GramRoute, Joint, JointConfig, Method},
};
use serde_json::json;
use std::sync::Arc;
use tch::{Kind, Tensor};

const SEED: Seed = Seed(4);

/// Uses one layer twice and once more by name, and adds an auxiliary loss.
#[derive(Debug)]
struct Twisted;

impl Encoder for Twisted {
    fn init(&self, seed: Seed) -> Result<StateDict> {
        Mlp::new(&[64, 64])?.init(seed)
    }

    fn encode(&self, params: &dyn ParamSource, input: &Input, ctx: &Context) -> Result<Features> {
        let x = input.values.flatten(1, -1);
        let once = params.linear("fc0", &x)?.tanh();
        let twice = params.linear("fc0", &once)?.tanh();
        let pooled = twice + params.param("fc0.bias")?.sin();
        ctx.add_aux("size", pooled.square().mean(Kind::Float));
        Ok(Features { pooled, positions: None })
    }

    fn dim(&self) -> i64 {
        64
    }

    fn cost(&self) -> Cost {
        Cost::default()
    }
}

fn encoders() -> Vec<Arc<dyn Encoder>> {
    let vit = VitConfig::default().image(1, 8, 4).size(16, 2, 2).intermediate_size(24);
    vec![
        Arc::new(Mlp::new(&[64, 40, 24]).unwrap()),
        Arc::new(CnnConfig::default().image(1, 8, 8).widths(&[4, 6]).build().unwrap()),
        Arc::new(vit.build().unwrap()),
        Arc::new(Twisted),
    ]
}

fn tasks() -> Vec<TaskSpec> {
    ["a", "b", "c"].map(|name| TaskSpec::classification(name, 4)).into()
}

/// Batches of one input for all tasks, or of one each.
fn batches(step: u64, rows: i64, same_input: bool) -> Vec<Batch> {
    let image = |task: u64| rng::normal(&mut SEED.stream("x", 10 * step + task), &[rows, 1, 8, 8], 1.0);
    let shared = image(0);
    let target = |task: i64| (Tensor::arange(rows, (Kind::Int64, tch::Device::Cpu)) + task).remainder(4);
    let batch = |task: i64| Batch {
        task: task as usize,
        input: if same_input { shared.shallow_clone() } else { image(task as u64) }.into(),
        target: target(task),
    };
    (0..3).map(batch).collect()
}

fn joint(encoder: Arc<dyn Encoder>, config: JointConfig) -> Joint {
    let model = MultiTask::new(encoder, tasks()).unwrap();
    let double = |t: &Tensor| t.to_kind(Kind::Double).to_kind(Kind::Float);
    let params = model.init(SEED).unwrap().map(double).trainable();
    Joint::new(Arc::new(model), params, config).unwrap()
}

fn config(balancer: &str) -> JointConfig {
    JointConfig::default()
        .optimizer(Method::new("sgd"))
        .schedule(Schedule::constant(0.1))
        .balancer(Method::new(balancer))
        .aux_weight(0.5)
}

fn step(
    encoder: Arc<dyn Encoder>,
    config: JointConfig,
    rows: i64,
    same_input: bool,
) -> (StateDict, StepReport) {
    let mut joint = joint(encoder, config);
    let report = joint.observe(&batches(0, rows, same_input), Step { index: 0, seed: SEED }).unwrap();
    (joint.into_params().snapshot(), report)
}

fn largest_difference(a: &StateDict, b: &StateDict) -> f64 {
    let diff = a.zip_map(b, |x, y| (x - y).abs()).unwrap();
    diff.iter().map(|(_, t)| t.max().double_value(&[])).fold(0.0, f64::max)
}

#[test]
fn gradients_that_are_never_formed_give_the_same_step() {
    for (i, encoder) in encoders().into_iter().enumerate() {
        for same_input in [true, false] {
            // Few rows take the short way, many rows the other; some of one use are many of three.
            for rows in [6, 30, 90] {
                for balancer in ["mgda", "cagrad", "nash_mtl", "upgrad"] {
                    let formed = config(balancer).gram(GramRoute::Gradients);
                    let (a, b) = (
                        step(encoder.clone(), config(balancer), rows, same_input),
                        step(encoder.clone(), formed, rows, same_input),
                    );
                    let (x, y) = (a.1.gram.unwrap(), b.1.gram.unwrap());
                    for k in 0..3 {
                        for j in 0..3 {
                            let (found, wanted, scale) = (x.get(k, j), y.get(k, j), y.norm(k) * y.norm(j));
                            let case = format!("encoder {i}, {rows} rows, {same_input}, {k} {j}");
                            assert!((found - wanted).abs() < 1e-5 * scale, "{case}: {found} {wanted}");
                        }
                    }
                    let off = largest_difference(&a.0, &b.0);
                    assert!(off < 2e-5, "encoder {i}, {rows} rows, {balancer}, {same_input}: {off}");
                }
            }
        }
    }
}

#[test]
fn equal_weights_are_one_backward_pass_of_the_sum() {
    for encoder in encoders() {
        let equal = step(encoder.clone(), config("equal"), 6, true);
        // CAGrad with c = 0 is the mean of the gradients.
        let mut mean = config("cagrad");
        mean.balancer.config = json!({"c": 0.0, "rescale": "none"});
        mean.aux_weight = 0.5 / 3.0;
        let mut joint = joint(encoder, mean.schedule(Schedule::constant(0.3)));
        joint.observe(&batches(0, 6, true), Step { index: 0, seed: SEED }).unwrap();
        let params = joint.into_params().snapshot();
        for (name, wanted) in equal.0.iter().filter(|(name, _)| !name.starts_with("heads.")) {
            let off = (params.get(name).unwrap() - wanted).abs().max().double_value(&[]);
            assert!(off < 1e-5, "{name}: {off}");
        }
    }
}

#[test]
fn the_representation_stands_in_for_the_parameters() {
    for source in [GradSource::Representation, GradSource::RepresentationSum] {
        for encoder in encoders() {
            // Equal products at the representation: the mean of the gradients, as above.
            let mut mean = config("cagrad").grad_source(source);
            mean.balancer.config = json!({"c": 0.0, "rescale": "none"});
            let (by_z, report) = step(encoder.clone(), mean, 6, true);
            let mut plain = config("cagrad");
            plain.balancer.config = json!({"c": 0.0, "rescale": "none"});
            let (by_theta, _) = step(encoder.clone(), plain, 6, true);
            assert!(largest_difference(&by_z, &by_theta) < 1e-5);
            assert_eq!(report.weights.unwrap().len(), 3);
            let (_, mgda) = step(encoder, config("mgda").grad_source(source), 6, true);
            assert!((mgda.weights.unwrap().iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
    let error = |config: JointConfig, same| {
        let mut joint = joint(encoders().remove(0), config);
        joint.observe(&batches(0, 6, same), Step { index: 0, seed: SEED }).unwrap_err().to_string()
    };
    insta::assert_snapshot!(error(config("mgda").grad_source(GradSource::Representation), false), @"`grad_source` must be `parameters` for a model without one representation that all tasks share in this step, but is of 0 representations");
}

#[test]
fn inner_products_are_reported_when_asked_for_and_change_nothing() {
    for balancer in ["equal", "pcgrad"] {
        let (plain, report) = step(encoders().remove(0), config(balancer), 6, true);
        assert_eq!(report.gram.is_some(), balancer != "equal");
        let (measured, report) = step(encoders().remove(0), config(balancer).measure_every(1), 6, true);
        assert!(report.gram.is_some() && report.weights.is_some());
        assert_eq!(largest_difference(&plain, &measured), 0.0);
    }
}

/// A model that changes the output of a layer in place.
#[derive(Debug)]
struct Hasty;

impl Encoder for Hasty {
    fn init(&self, seed: Seed) -> Result<StateDict> {
        Mlp::new(&[64, 8, 8])?.init(seed)
    }

    fn encode(&self, params: &dyn ParamSource, input: &Input, _ctx: &Context) -> Result<Features> {
        let hidden = params.linear("fc0", &input.values.flatten(1, -1))?.tanh();
        let mut pooled = params.linear("fc1", &hidden)?;
        let _ = pooled.tanh_();
        Ok(Features { pooled, positions: None })
    }

    fn dim(&self) -> i64 {
        8
    }

    fn cost(&self) -> Cost {
        Cost::default()
    }
}

#[test]
fn changing_the_output_of_a_layer_in_place_is_noticed() {
    let mut joint = joint(Arc::new(Hasty), config("mgda"));
    let error = joint.observe(&batches(0, 6, true), Step { index: 0, seed: SEED }).unwrap_err();
    insta::assert_snapshot!(error, @"`output of fc1` must be left as it is, or `gram` set to `gradients`, but is changed in place");
    let (params, _) = step(Arc::new(Hasty), config("mgda").gram(GramRoute::Gradients), 6, true);
    params.check_finite().unwrap();
}

#[test]
fn shared_parameters_are_those_of_the_encoder() {
    let model = MultiTask::new(encoders().remove(0), tasks()).unwrap();
    assert!(model.is_shared("fc0.weight") && !model.is_shared("heads.a.weight"));
}

#[test]
fn what_cannot_be_is_refused() {
    let mut sampled = joint(encoders().remove(0), config("sdmgrad"));
    let error = sampled.observe(&batches(0, 2, true), Step { index: 0, seed: SEED }).unwrap_err();
    insta::assert_snapshot!(error, @"`batches` must be at least 3 examples for each task, as this balancer takes three independent batches, but is 2");
    let model = Arc::new(MultiTask::new(encoders().remove(0), tasks()).unwrap());
    let params = model.init(SEED).unwrap().trainable();
    let own = config("uw").head_grad(mtl_core::balancing::HeadGrad::Own);
    insta::assert_snapshot!(Joint::new(model, params, own).map(drop).unwrap_err(), @"`head_grad` must be `weighted` or absent with a loss weighting, which makes one backward pass, but is own");
}
