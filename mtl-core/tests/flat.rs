//! Flat-region training against vectors made in `f64` by an independent derivation, and its invariants.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)] // Helpers of tests count as library code for clippy.
use mtl_core::{
    Batch, Learner, Model, Seed, StateDict, TaskKind, TaskSpec,
    balancing::BALANCERS,
    learner::Step,
    models::{Mlp, MultiTask},
    nn::Activation,
    optim::Schedule,
    rng,
    train::{FlatAggregation, FlatConfig, GramRoute, Joint, JointConfig, Method, NormScope},
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard};
use tch::{Kind, Tensor};

/// Each step seeds a generator that all threads of a process share: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    let guard = LOCK.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    mtl_core::set_threads(1).unwrap();
    guard
}

fn matrix(value: &Value) -> Tensor {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    Tensor::from_slice2(&rows)
}

fn vector(value: &Value) -> Tensor {
    Tensor::from_slice(&serde_json::from_value::<Vec<f64>>(value.clone()).unwrap())
}

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/sam_fmtl.json")).unwrap()
}

fn model() -> Arc<MultiTask> {
    let trunk = Mlp::new(&[4, 6]).unwrap().activation(Activation::Tanh);
    let tasks =
        vec![TaskSpec::classification("class", 3), TaskSpec::new("number", TaskKind::Regression { dims: 1 })];
    Arc::new(MultiTask::new(Arc::new(trunk), tasks).unwrap())
}

fn params(golden: &Value) -> StateDict {
    let named = |name: &str, key: &str| {
        let value = &golden[key];
        let tensor = if name.ends_with("weight") { matrix(value).tr().contiguous() } else { vector(value) };
        (name.to_owned(), tensor)
    };
    StateDict::from_iter([
        named("fc0.weight", "W1"),
        named("fc0.bias", "b1"),
        named("heads.class.weight", "H1"),
        named("heads.class.bias", "c1"),
        named("heads.number.weight", "H2"),
        named("heads.number.bias", "c2"),
    ])
    .trainable()
}

fn batches(golden: &Value) -> Vec<Batch> {
    let x = matrix(&golden["X"]);
    let labels: Vec<i64> = serde_json::from_value(golden["y1"].clone()).unwrap();
    vec![
        Batch { task: 0, input: x.shallow_clone().into(), target: Tensor::from_slice(&labels) },
        Batch { task: 1, input: x.into(), target: matrix(&golden["y2"]) },
    ]
}

fn plain(balancer: Method) -> JointConfig {
    JointConfig::default()
        .optimizer(Method::new("sgd"))
        .schedule(Schedule::constant(1.0))
        .balancer(balancer)
        .gram(GramRoute::Gradients)
}

/// What one step of plain descent at rate 1 takes off each parameter.
fn direction(golden: &Value, config: JointConfig) -> StateDict {
    let before = params(golden);
    let mut joint = Joint::new(model(), before.trainable(), config).unwrap();
    joint.observe(&batches(golden), Step { index: 0, seed: Seed(0) }).unwrap();
    before.snapshot().zip_map(&joint.params().snapshot(), |a, b| a - b).unwrap()
}

/// Shared entries, each matrix as stored in the golden file.
fn flat(direction: &StateDict, names: [&str; 2]) -> Tensor {
    let [weight, bias] = names.map(|name| direction.get(name).unwrap());
    Tensor::cat(&[weight.tr().contiguous().view(-1), bias.view(-1)], 0)
}

fn off(found: &Tensor, wanted: &Value) -> f64 {
    let wanted = vector(wanted);
    let scale = wanted.abs().max().double_value(&[]);
    (found - wanted).abs().max().double_value(&[]) / scale
}

#[test]
fn updates_agree_for_every_kind_of_neighbourhood_and_balancer() {
    let _alone = alone();
    let golden = golden();
    for (name, variant) in golden["variants"].as_object().unwrap() {
        let rho = variant["rho"].as_f64().unwrap();
        let scope = if name.ends_with("joint") { NormScope::Joint } else { NormScope::Separate };
        let config = FlatConfig::default().rho(rho).adaptive(name.starts_with("asam")).norm_scope(scope);
        let cagrad = || Method::new("cagrad").config(json!({"c": 0.4}));
        let cases = [
            ("EW_sum", Method::new("equal"), FlatAggregation::Decomposed, 1e-9),
            (
                "PCGrad_identity",
                Method::new("pcgrad").config(json!({"eps": 1e-30})),
                FlatAggregation::Decomposed,
                1e-9,
            ),
            ("CAGrad_c0.4_rescale1", cagrad(), FlatAggregation::Decomposed, 1e-6),
            ("IMTL_G", Method::new("imtl_g"), FlatAggregation::Decomposed, 1e-7),
            ("MGDA_exact", Method::new("mgda"), FlatAggregation::Decomposed, 1e-8),
            ("direct_CAGrad_c0.4_rescale1", cagrad(), FlatAggregation::Direct, 1e-6),
        ];
        for (key, balancer, aggregation, tolerance) in cases {
            let config = plain(balancer).flat(config.clone().aggregation(aggregation));
            let update = direction(&golden, config);
            let error = off(&flat(&update, ["fc0.weight", "fc0.bias"]), &variant["shared_update"][key]);
            assert!(error < tolerance, "{name} {key}: {error}");
        }
        // Heads get the gradient at their own task's worst point.
        let update = direction(&golden, plain(Method::new("mgda")).flat(config));
        let heads =
            ["class", "number"].map(|task| [format!("heads.{task}.weight"), format!("heads.{task}.bias")]);
        for (task, head) in heads.iter().enumerate() {
            let found = flat(&update, [&head[0], &head[1]]);
            let row: Vec<f64> = serde_json::from_value(variant["g_sam_head"][task].clone()).unwrap();
            assert_eq!(row.len(), found.numel());
            assert!(off(&found, &json!(row)) < 1e-9, "{name} head {task}");
        }
    }
}

#[test]
fn no_radius_is_the_plain_balancer_bit_for_bit() {
    let _alone = alone();
    let golden = golden();
    for entry in BALANCERS {
        let method = || Method::new(entry.info.name);
        if ["sdmgrad", "modo"].contains(&entry.info.name) {
            continue; // They take three batches and refuse to be combined.
        }
        let without = direction(&golden, plain(method()));
        for aggregation in [FlatAggregation::Decomposed, FlatAggregation::Direct] {
            let config = FlatConfig::default().rho(0.0).aggregation(aggregation);
            let with = direction(&golden, plain(method()).flat(config));
            for ((name, a), (_, b)) in without.iter().zip(with.iter()) {
                let same = a.equal(b) || (a - b).abs().max().double_value(&[]) < 1e-15;
                assert!(same, "{} {aggregation:?} {name}", entry.info.name);
            }
        }
    }
}

#[test]
fn every_aggregation_of_every_balancer_gives_numbers() {
    let _alone = alone();
    let golden = golden();
    for entry in BALANCERS {
        for aggregation in [
            FlatAggregation::Decomposed,
            FlatAggregation::Direct,
            FlatAggregation::SecondAggre,
            FlatAggregation::EachAggre,
        ] {
            let config =
                plain(Method::new(entry.info.name)).flat(FlatConfig::default().aggregation(aggregation));
            let mut joint = match Joint::new(model(), params(&golden), config) {
                Ok(joint) => joint,
                Err(error) => {
                    assert!(error.to_string().contains("three independent batches"), "{error}");
                    continue;
                }
            };
            match joint.observe(&batches(&golden), Step { index: 0, seed: Seed(0) }) {
                Ok(_) => joint.params().check_finite().unwrap(),
                // Logarithms of a sharpness that is not positive.
                Err(error) => assert!(error.to_string().contains("loss"), "{}: {error}", entry.info.name),
            }
        }
    }
}

#[test]
fn a_run_goes_on_with_the_same_bits() {
    let _alone = alone();
    let run = |stop: Option<u64>| {
        let trunk = Mlp::new(&[6, 8]).unwrap().dropout(0.2).unwrap();
        let tasks = vec![TaskSpec::classification("a", 3), TaskSpec::classification("b", 2)];
        let model = Arc::new(MultiTask::new(Arc::new(trunk), tasks).unwrap());
        let config = JointConfig::default()
            .balancer(Method::new("cagrad"))
            .flat(FlatConfig::default().aggregation(FlatAggregation::SecondAggre));
        let fresh =
            || Joint::new(model.clone(), model.init(Seed(1)).unwrap().trainable(), config.clone()).unwrap();
        let mut joint = fresh();
        for index in 0..8 {
            if stop == Some(index) {
                let state = joint.save().unwrap();
                joint = fresh();
                joint.load(&state).unwrap();
            }
            let x = rng::normal(&mut Seed(1).stream("x", index), &[5, 6], 1.0);
            let batch = |task, classes: i64| Batch {
                task,
                input: x.shallow_clone().into(),
                target: Tensor::arange(5, (Kind::Int64, tch::Device::Cpu)).remainder(classes),
            };
            joint.observe(&[batch(0, 3), batch(1, 2)], Step { index, seed: Seed(1) }).unwrap();
        }
        joint.into_params().snapshot()
    };
    let (straight, resumed) = (run(None), run(Some(5)));
    assert!(straight.iter().zip(resumed.iter()).all(|((_, a), (_, b))| a.equal(b)));
}

#[test]
fn what_cannot_be_is_refused() {
    let _alone = alone();
    let build = |config: JointConfig| {
        Joint::new(model(), params(&golden()), config).map(drop).unwrap_err().to_string()
    };
    let flat = FlatConfig::default();
    insta::assert_snapshot!(build(plain(Method::new("equal")).flat(flat.clone().rho(-1.0))), @"`rho` must be finite and at least 0, but is -1");
    let both = plain(Method::new("equal")).flat(flat).sam(Default::default());
    insta::assert_snapshot!(build(both), @"`sam` must be absent beside `flat`, which perturbs by itself, but is present");
}
