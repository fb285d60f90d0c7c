//! Every balancer with every architecture, on one input for all tasks and on one for each.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)] // Helpers of tests count as library code for clippy.
use mtl_core::{
    Batch, Learner, Result, Seed, TaskKind, TaskSpec,
    architectures::{ARCHITECTURES, StagedEncoder},
    balancing::BALANCERS,
    models::{CnnConfig, Mlp},
    registry::Registry,
    rng,
    train::{FitConfig, FlatConfig, GradSource, Joint, JointConfig, Method, NoHooks, fit},
};
use serde_json::json;
use std::sync::Arc;
use tch::Kind;

const SEED: Seed = Seed(9);

fn tasks() -> Vec<TaskSpec> {
    vec![
        TaskSpec::classification("class", 3),
        TaskSpec::new("number", TaskKind::Regression { dims: 2 }),
        TaskSpec::new("labels", TaskKind::MultiLabel { labels: 2 }),
    ]
}

/// What depends on the image: its brightest third, two means, and whether they are positive.
fn batches(step: u64, same_input: bool) -> Result<Vec<Batch>> {
    let image = |k: u64| rng::normal(&mut SEED.stream("x", 10 * (step % 4) + k), &[12, 1, 6, 6], 1.0);
    let batch = |task: usize| {
        let x = image(if same_input { 0 } else { task as u64 });
        let means = x.view([12, 2, 18]).mean_dim([2i64].as_slice(), false, Kind::Float);
        let target = match task {
            0 => x.view([12, 3, 12]).mean_dim([2i64].as_slice(), false, Kind::Float).argmax(1, false),
            1 => means,
            _ => means.gt(0.0).to_kind(Kind::Float),
        };
        Batch { task, input: x.into(), target }
    };
    let mut batches: Vec<Batch> = (0..3).map(batch).collect();
    if same_input {
        // One tensor for all, as a data set of one input gives.
        let x = batches[0].input.shallow();
        batches.iter_mut().for_each(|batch| batch.input = x.shallow());
    }
    Ok(batches)
}

fn encoders() -> Vec<Arc<dyn StagedEncoder>> {
    vec![
        Arc::new(Mlp::new(&[36, 10, 8]).unwrap()),
        Arc::new(CnnConfig::default().image(1, 6, 6).widths(&[3, 4]).build().unwrap()),
    ]
}

/// Small experts, so that the test is quick; the defaults are those of the papers.
fn architecture_config(name: &str) -> serde_json::Value {
    match name {
        "mmoe" | "dselect-k" => json!({ "n_experts": 3 }),
        _ => json!({}),
    }
}

fn train(
    architecture: &str,
    encoder: Arc<dyn StagedEncoder>,
    config: JointConfig,
    steps: u64,
    same_input: bool,
) -> Result<(f64, f64)> {
    let model = Registry::new(ARCHITECTURES)
        .build(architecture, architecture_config(architecture))?
        .model(encoder, tasks())?;
    let params = model.init(SEED)?.trainable();
    let mut joint = Joint::new(model, params, config)?;
    let loss = |joint: &mut Joint, step| -> Result<f64> {
        let state = joint.save()?;
        let step = mtl_core::learner::Step { index: step, seed: SEED };
        let losses = joint.observe(&batches(0, same_input)?, step)?.losses;
        joint.load(&state)?;
        Ok(losses.iter().sum())
    };
    let before = loss(&mut joint, 0)?;
    let mut source = |step| batches(step, same_input);
    let plan = FitConfig::steps(steps).steps_per_epoch(2);
    fit(&mut joint, &mut source, &plan, SEED, &mut NoHooks, None)?;
    joint.params().check_finite()?;
    Ok((before, loss(&mut joint, steps)?))
}

#[test]
fn every_balancer_trains_every_architecture() {
    mtl_core::set_threads(1).unwrap();
    let mut pairs = 0;
    for balancer in BALANCERS {
        for (i, architecture) in ARCHITECTURES.iter().enumerate() {
            let (balancer, architecture) = (balancer.info.name, architecture.info.name);
            let config = JointConfig::default().balancer(Method::new(balancer));
            // By turns the kinds of encoders and of inputs.
            let encoder = encoders().swap_remove((i + pairs) % 2);
            let (before, after) = train(architecture, encoder, config, 6, pairs % 3 != 0)
                .unwrap_or_else(|error| panic!("{balancer} on {architecture}: {error}"));
            assert!(before.is_finite() && after.is_finite(), "{balancer} on {architecture}");
            pairs += 1;
        }
    }
    assert_eq!(pairs, BALANCERS.len() * ARCHITECTURES.len());
}

#[test]
fn every_balancer_lowers_the_loss() {
    for entry in BALANCERS {
        let name = entry.info.name;
        let config = JointConfig::default()
            .balancer(Method::new(name))
            .schedule(mtl_core::optim::Schedule::constant(0.01));
        let encoder = encoders().swap_remove(0);
        let (before, after) =
            train("hps", encoder, config, 60, true).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(after < 0.9 * before, "{name}: {before} to {after}");
    }
}

#[test]
fn flat_regions_and_representations_combine_with_architectures() {
    for architecture in ARCHITECTURES {
        let name = architecture.info.name;
        let flat =
            JointConfig::default().balancer(Method::new("cagrad")).flat(FlatConfig::default().adaptive(true));
        let (_, after) = train(name, encoders().swap_remove(0), flat, 4, true)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(after.is_finite());
    }
    for source in [GradSource::Representation, GradSource::RepresentationSum] {
        for balancer in ["mgda", "imtl_g", "aligned_mtl", "graddrop", "nash_mtl"] {
            if balancer == "graddrop" && source == GradSource::RepresentationSum {
                continue; // It sums over the batch by itself.
            }
            let config = JointConfig::default().balancer(Method::new(balancer)).grad_source(source);
            train("hps", encoders().swap_remove(0), config, 4, true)
                .unwrap_or_else(|error| panic!("{balancer}: {error}"));
        }
    }
}

#[test]
fn every_balancer_goes_on_with_the_same_bits() {
    mtl_core::set_threads(1).unwrap();
    let run = |name: &str, stop: Option<u64>| {
        let config = JointConfig::default().balancer(Method::new(name));
        let model = Registry::new(ARCHITECTURES)
            .build("hps", json!({}))
            .unwrap()
            .model(encoders().swap_remove(0), tasks())
            .unwrap();
        let fresh = || {
            let params = model.init(SEED).unwrap().trainable();
            Joint::new(model.clone(), params, config.clone()).unwrap()
        };
        let mut joint = fresh();
        for index in 0..7 {
            if stop == Some(index) {
                let state = joint.save().unwrap();
                joint = fresh();
                joint.load(&state).unwrap();
            }
            let step = mtl_core::learner::Step { index, seed: SEED };
            joint.observe(&batches(index, true).unwrap(), step).unwrap();
            if index % 2 == 1 {
                joint.boundary(&mtl_core::learner::Boundary::EpochEnd { epoch: index / 2 }).unwrap();
            }
        }
        joint.into_params().snapshot()
    };
    for entry in BALANCERS {
        let (straight, resumed) = (run(entry.info.name, None), run(entry.info.name, Some(4)));
        let same = straight.iter().zip(resumed.iter()).all(|((_, a), (_, b))| a.equal(b));
        assert!(same, "{}", entry.info.name);
    }
}
