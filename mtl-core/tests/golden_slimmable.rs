//! Slimmable networks: golden vectors in `f64`, cutting to the last bit, properties of the search.
#![cfg(feature = "torch")]
#![allow(clippy::unwrap_used)] // Helpers of tests count as library code for clippy.
use mtl_core::{
    Batch, Context, Error, Input, Learner, LearnerState, Model, MultiTaskModel, ParamSource, Result, Seed,
    StateDict, TaskKind, TaskSpec,
    learner::Step,
    nn::Activation,
    optim::{Clip, Schedule},
    rng,
    slimmable::{
        AccuracyTable, Calibration, CiKd, DistilAt, EncoderRule, SearchConfig, SlimInput, SlimNorm,
        SlimStage, SlimmableConfig, SlimmableNet, SlimmableTrainer, SlimmableTrainerConfig, UserConstraint,
        WidthConfig, WidthRatio, cost_table, search,
    },
    source::LoraConfig,
    train::Method,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;
use tch::{Kind, Tensor};

const GOLDEN: &str = include_str!("golden/slimmable.json");

fn ratio(w: f64) -> WidthRatio {
    WidthRatio::new(w).unwrap()
}

fn dense(units: i64) -> SlimStage {
    SlimStage::Dense { units, layers: 1 }
}

fn matrix(value: &Value) -> Tensor {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    Tensor::from_slice(&rows.concat()).view([rows.len() as i64, -1])
}

fn error(got: &Tensor, wanted: &Tensor) -> f64 {
    assert_eq!(got.size(), wanted.size());
    (got - wanted).abs().max().double_value(&[])
}

fn golden_net() -> (Value, SlimmableNet, StateDict) {
    let golden: Value = serde_json::from_str(GOLDEN).unwrap();
    let config = SlimmableConfig::default()
        .input(SlimInput::Vector { features: 5 })
        .stages(&[dense(8), dense(8)])
        .decoder(&[8]);
    let tasks = ["task0", "task1"].map(|name| TaskSpec::new(name, TaskKind::Regression { dims: 3 }));
    let net = config.build(tasks.to_vec()).unwrap();
    let vector = |name: &str| {
        let values: Vec<f64> = serde_json::from_value(golden[name].clone()).unwrap();
        Tensor::from_slice(&values)
    };
    let zeros = |n: i64| Tensor::zeros([n], (Kind::Double, tch::Device::Cpu));
    let mut params = StateDict::new();
    params.insert("stages.0.0.weight", matrix(&golden["W1"]));
    params.insert("stages.0.0.bias", vector("b1"));
    params.insert("stages.1.0.weight", matrix(&golden["W2"]));
    params.insert("stages.1.0.bias", vector("b2"));
    for task in 0..2 {
        params.insert(format!("decoders.task{task}.0.weight"), matrix(&golden["decoder_hidden"][task]));
        params.insert(format!("decoders.task{task}.0.bias"), zeros(8));
        params.insert(format!("decoders.task{task}.out.weight"), matrix(&golden["decoder_out"][task]));
        params.insert(format!("decoders.task{task}.out.bias"), zeros(3));
    }
    let fresh = net.init(Seed(0)).unwrap().map(|t| t.to_kind(Kind::Double));
    params.same_layout(&fresh, "golden").unwrap();
    (golden, net, params)
}

#[test]
fn features_and_distillation_agree() {
    let (golden, net, params) = golden_net();
    let input: Input = matrix(&golden["x"]).into();
    let at = |w: f64| {
        net.features_at(&params, &input, &net.uniform(ratio(w)), &Context::eval()).unwrap().pop().unwrap()
    };
    let widest = at(1.0);
    let mut distances = 0;
    for (width, wanted) in golden["encoder"].as_object().unwrap() {
        let features = at(width.parse().unwrap());
        assert_eq!(features.size()[1], wanted["width"].as_i64().unwrap());
        assert!(error(&features, &matrix(&wanted["features"])) < 1e-12, "{width}");
        for (kd, name) in [(CiKd::SliceMse, "masked_mse_first_k"), (CiKd::Gram, "gram_cosine_distill")] {
            if let Some(wanted) = wanted[name].as_f64() {
                let loss = kd.loss(&features, &widest).unwrap().double_value(&[]);
                assert!((loss - wanted).abs() < 1e-12, "{name} at {width}: {loss}");
                distances += 1;
            }
        }
    }
    assert_eq!(distances, 4);
}

#[test]
fn decoder_outputs_and_costs_agree() {
    let (golden, net, params) = golden_net();
    let input: Input = matrix(&golden["x"]).into();
    let wanted = |task: usize| &golden["decoders"][format!("task{task}")];
    let width = |task: usize, key: &str| ratio(wanted(task)[key].as_f64().unwrap());
    let widths = WidthConfig {
        encoder: vec![width(0, "encoder_width"); 2],
        decoders: (0..2).map(|task| width(task, "decoder_width")).collect(),
    };
    let outputs = net.forward_at(&params, &input, &widths, &Context::eval()).unwrap();
    for (task, output) in outputs.iter().enumerate() {
        assert!(error(output, &matrix(&wanted(task)["output"])) < 1e-12, "task {task}");
    }
    let decoders: u64 = (0..2).map(|task| wanted(task)["macs_per_sample"].as_u64().unwrap()).sum();
    assert_eq!(net.macs(&widths).unwrap(), decoders + 5 * 4 + 4 * 4);
}

/// Convolutions, a linear stage and a decoder of two hidden layers.
fn mixed(norm: SlimNorm) -> SlimmableNet {
    let config = SlimmableConfig::default()
        .input(SlimInput::Image { channels: 2, height: 6, width: 6 })
        .stages(&[
            SlimStage::Conv { channels: 8, layers: 2, kernel: 3, pool: true },
            SlimStage::Conv { channels: 12, layers: 1, kernel: 1, pool: false },
            SlimStage::Dense { units: 20, layers: 2 },
        ])
        .decoder(&[12, 8])
        .task_decoder("parity", &[4])
        .widths(&[0.25, 0.5, 1.0].map(ratio))
        .norm(norm)
        .activation(Activation::Gelu);
    config.build(vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)]).unwrap()
}

/// A map for each pixel beside one label, on convolutions alone.
fn dense_tasks(norm: SlimNorm) -> SlimmableNet {
    let config = SlimmableConfig::default()
        .input(SlimInput::Image { channels: 2, height: 6, width: 6 })
        .stages(&[SlimStage::Conv { channels: 8, layers: 1, kernel: 3, pool: true }])
        .decoder(&[8])
        .widths(&[0.25, 0.5, 1.0].map(ratio))
        .norm(norm);
    let map = TaskKind::DenseClassification { classes: 3, height: 6, width: 6 };
    config.build(vec![TaskSpec::new("map", map), TaskSpec::classification("digit", 10)]).unwrap()
}

fn images(batch: i64) -> Tensor {
    rng::normal(&mut Seed(3).stream("test", 0), &[batch, 2, 6, 6], 1.0)
}

/// Parameters with norms that differ from width to width.
fn fresh(net: &SlimmableNet) -> StateDict {
    let params = net.init(Seed(5)).unwrap();
    let noise = |name: &str| Seed(6).stream(name, 0);
    params
        .iter()
        .map(|(name, t)| (name.to_owned(), t + rng::normal(&mut noise(name), &t.size(), 0.05)))
        .collect()
}

#[test]
fn an_extracted_network_gives_the_same_bits() {
    let group = SlimNorm::Group { groups: 1 };
    let nets = [SlimNorm::None, SlimNorm::Layer, group]
        .map(mixed)
        .into_iter()
        .chain([dense_tasks(SlimNorm::None), dense_tasks(SlimNorm::Group { groups: 2 })]);
    for net in nets {
        let params = fresh(&net);
        let ratios = net.config().widths.clone();
        for kind in [Kind::Float, Kind::Double] {
            let params = params.map(|t| t.to_kind(kind));
            for (i, batch) in [(0, 1), (1, 5), (2, 31), (3, 7), (4, 1)] {
                let pick = |n: usize| ratios[(i * 7 + n * (i + 2)) % ratios.len()];
                let widths = WidthConfig {
                    encoder: (0..net.stages()).map(pick).collect(),
                    decoders: (1..3).map(pick).collect(),
                };
                let (small, cut) = net.extract(&params, &widths).unwrap();
                cut.same_layout(&small.init(Seed(0)).unwrap().map(|t| t.to_kind(kind)), "cut").unwrap();
                let input: Input = images(batch).to_kind(kind).into();
                let wanted = net.forward_at(&params, &input, &widths, &Context::eval()).unwrap();
                let got = small.forward_all(&cut, &input, &Context::eval()).unwrap();
                let same = wanted.iter().zip(&got).all(|(a, b)| a.equal(b));
                assert!(same, "{widths} {kind:?} batch {batch}");
                let macs: u64 = small.macs(&small.full()).unwrap();
                assert_eq!(macs, net.macs(&widths).unwrap());
            }
        }
    }
}

#[test]
fn the_mathematics_of_a_width_do_not_see_other_channels() {
    let net = mixed(SlimNorm::Layer);
    let params = fresh(&net);
    let input: Input = images(4).into();
    let half = net.uniform(ratio(0.5));
    let before = net.forward_at(&params, &input, &half, &Context::eval()).unwrap();
    // Everything outside the leading corner, and the norms of other widths, may change at will.
    let (_, cut) = net.extract(&params, &half).unwrap();
    let changed: StateDict = params
        .iter()
        .map(|(name, t)| {
            let noise = t + 1.0;
            if name.contains(".norm.") {
                let keep = name.contains(".norm.1.");
                return (name.to_owned(), if keep { t.shallow_clone() } else { noise });
            }
            let corner = cut.get(name).unwrap();
            let mut view = noise.shallow_clone();
            for (dim, size) in corner.size().iter().enumerate() {
                view = view.narrow(dim as i64, 0, *size);
            }
            view.copy_(corner);
            (name.to_owned(), noise)
        })
        .collect();
    let after = net.forward_at(&changed, &input, &half, &Context::eval()).unwrap();
    assert!(before.iter().zip(&after).all(|(a, b)| a.equal(b)));
    let whole = |p: &StateDict| net.forward_all(p, &input, &Context::eval()).unwrap().remove(0);
    assert!(!whole(&params).equal(&whole(&changed)));
}

#[test]
fn gradients_of_a_narrow_network_stay_in_its_corner() {
    let (_, net, params) = golden_net();
    let params = params.trainable();
    let x = rng::normal(&mut Seed(1).stream("test", 0), &[3, 5], 1.0).to_kind(Kind::Double);
    let out = net.forward_at(&params, &x.into(), &net.smallest(), &Context::eval()).unwrap();
    let loss = out.iter().map(|y| y.square().sum(Kind::Double)).reduce(|a, b| a + b).unwrap();
    let grads = params.gradients(&loss, false).unwrap();
    let grad = grads.get("stages.1.0.weight").unwrap();
    let corner = grad.narrow(0, 0, 2).narrow(1, 0, 2);
    assert!(corner.abs().max().double_value(&[]) > 0.0);
    let count = |t: &Tensor| t.ne(0.0).sum(Kind::Int64).int64_value(&[]);
    assert_eq!(count(grad), count(&corner));
}

#[test]
fn dense_outputs_put_each_patch_at_its_position() {
    let net = dense_tasks(SlimNorm::None);
    let params = net.init(Seed(0)).unwrap();
    let mut zero = params.map(|t| t.zeros_like());
    // Bias alone: outputs are (class, row, column) of a 2 × 2 patch.
    zero.insert("decoders.map.out.bias", Tensor::arange(12, (Kind::Float, tch::Device::Cpu)));
    let out = net.forward_all(&zero, &images(1).into(), &Context::eval()).unwrap();
    assert_eq!(out[0].size(), [1, 3, 6, 6]);
    for (class, row, column) in [(0, 0, 0), (1, 3, 4), (2, 5, 5)] {
        let wanted = (4 * class + 2 * (row % 2) + column % 2) as f64;
        assert_eq!(out[0].double_value(&[0, class, row, column]), wanted);
    }
    let last = net.macs(&net.full()).unwrap() - 36 * 2 * 8 * 9;
    assert_eq!(last, 9 * (9 * 8 * 8 + 8 * 12) + 8 * 8 + 8 * 10);
    assert_eq!(net.cost(0).macs, 36 * 2 * 8 * 9 + 9 * (9 * 8 * 8 + 8 * 12));
    let own: usize = params.iter().filter(|(n, _)| !n.contains("digit")).map(|(_, t)| t.numel()).sum();
    assert_eq!(net.cost(0).params, own as u64);
}

#[test]
fn widths_compose_with_other_sources() {
    let (_, net, params) = golden_net();
    let params = params.map(|t| t.to_kind(Kind::Float));
    // Adapters of a decoder's whole output, whose input is sliced, and of an encoder layer.
    let config = LoraConfig::default().rank(2);
    let sites = ["stages.0.0", "decoders.task0.out"];
    let mut adapters = config.init(&params, &sites, Seed(0)).unwrap();
    adapters.insert("stages.0.0.lora_B", Tensor::ones([8, 2], (Kind::Float, tch::Device::Cpu)));
    let lora = config.build(&params, &adapters).unwrap();
    let x: Input = rng::normal(&mut Seed(1).stream("test", 0), &[3, 5], 1.0).into();
    let widths = net.uniform(ratio(0.5));
    let merged: StateDict =
        params.names().map(|n| (n.to_owned(), lora.param(n).unwrap().into_tensor())).collect();
    let at = |source: &dyn ParamSource| net.forward_at(source, &x, &widths, &Context::eval()).unwrap();
    let (plain, wanted, adapted) = (at(&params), at(&merged), at(&lora));
    assert!(wanted.iter().zip(&adapted).all(|(a, b)| error(b, a) < 1e-5));
    assert!(error(&plain[0], &adapted[0]) > 1e-3);
}

#[test]
fn impossible_networks_and_widths_are_refused() {
    let task = || vec![TaskSpec::classification("digit", 10)];
    let refuse = |config: SlimmableConfig| config.build(task()).unwrap_err().to_string();
    let image = SlimmableConfig::default().input(SlimInput::Image { channels: 1, height: 2, width: 2 });
    let conv = |channels, kernel, pool| SlimStage::Conv { channels, layers: 1, kernel, pool };
    insta::assert_snapshot!(refuse(SlimmableConfig::default().stages(&[])), @"`stages` must be at least one stage, but is empty");
    insta::assert_snapshot!(refuse(SlimmableConfig::default().widths(&[ratio(0.5)])), @"`widths` must be rising ratios of which the last is 1, but is [0.5]");
    insta::assert_snapshot!(refuse(SlimmableConfig::default().stages(&[conv(4, 3, false)])), @"`stages[0]` must be behind an image or another convolution, but is a convolution of a vector");
    insta::assert_snapshot!(refuse(image.clone().stages(&[conv(4, 2, false)])), @"`stages[0].kernel` must be odd and at least 1, but is 2");
    insta::assert_snapshot!(refuse(image.clone().stages(&[conv(4, 3, true), conv(4, 3, true)])), @"`stages[1].pool` must be false for a map this small, but is 1 × 1");
    insta::assert_snapshot!(refuse(image.stages(&[conv(6, 3, false)]).norm(SlimNorm::Group { groups: 4 })), @"`norm.groups` must be a divisor of the 2 active channels of stages.0.0 at width 0.25, but is 4");
    insta::assert_snapshot!(refuse(SlimmableConfig::default().task_decoder("digits", &[4])), @"unknown task `digits`; did you mean `digit`?");
    let (_, net, params) = golden_net();
    let x: Input = Tensor::ones([1, 5], (Kind::Double, tch::Device::Cpu)).into();
    let at = |w: &WidthConfig| net.forward_at(&params, &x, w, &Context::eval()).unwrap_err().to_string();
    insta::assert_snapshot!(at(&net.uniform(ratio(0.3))), @"`widths.encoder[0]` must be among [0.25, 0.5, 0.75, 1.0], but is 0.3");
    insta::assert_snapshot!(at(&WidthConfig::uniform(3, ratio(0.5), 2, ratio(0.5))), @"`widths.encoder` must be one ratio for each of 2 stages, but is 3 ratios");
    let wrong: Input = Tensor::ones([1, 4], (Kind::Double, tch::Device::Cpu)).into();
    insta::assert_snapshot!(net.forward_all(&params, &wrong, &Context::eval()).unwrap_err(), @"`input` must have shape [batch, 5], but has [1, 4]");
    insta::assert_snapshot!(net.forward(&params, &x, &Context::eval()).unwrap_err(), @"`task of the context` must be one of task0, task1, but is absent");
}

// Search

/// Three tasks on three stages whose widths are cheap to enumerate.
fn wide() -> SlimmableNet {
    let config = SlimmableConfig::default()
        .input(SlimInput::Vector { features: 12 })
        .stages(&[dense(16), dense(20), dense(24)])
        .decoder(&[32]);
    let task = |(name, classes): (&str, i64)| TaskSpec::classification(name, classes);
    config.build([("a", 10), ("b", 2), ("c", 5)].map(task).to_vec()).unwrap()
}

/// Scores without any order: a hash of the widths.
fn noise(widths: &WidthConfig, salt: u64) -> Result<Vec<f64>> {
    use rand::RngExt;
    let mut stream = Seed(salt).stream(&widths.to_string(), 0);
    Ok(widths.decoders.iter().map(|_| stream.random::<f64>()).collect())
}

fn ask(
    net: &SlimmableNet,
    preference: &[f64],
    max_macs: u64,
    salt: u64,
    config: &SearchConfig,
) -> WidthConfig {
    let request = UserConstraint { preference: preference.to_vec(), max_macs };
    let mut measure = |widths: &WidthConfig| noise(widths, salt);
    let choice = search(net, &request, Calibration::Measure(&mut measure), config).unwrap();
    assert!(choice.macs <= max_macs && choice.macs == net.macs(&choice.widths).unwrap());
    choice.widths
}

fn preference(parts: [u32; 3]) -> Vec<f64> {
    let sum: u32 = parts.iter().sum();
    parts.map(|p| f64::from(p) / f64::from(sum.max(1))).to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn raising_a_preference_never_narrows_its_decoder(
        parts in [1u32..20, 0u32..20, 0u32..20],
        raise in 1u32..20,
        task in 0usize..3,
        share in 0.0f64..1.0,
        salt in 0u64..1000,
        per_stage in any::<bool>(),
    ) {
        let net = wide();
        let (least, most) = (net.macs(&net.smallest()).unwrap(), net.macs(&net.full()).unwrap());
        let budget = least + ((most - least) as f64 * share) as u64;
        let config = SearchConfig::default().per_stage(per_stage);
        let before = preference(parts);
        // The task gains what the others lose in proportion.
        let mut more = parts;
        more[task] += raise;
        let after = preference(more);
        prop_assert!(after[task] >= before[task]);
        let (w, v) = (ask(&net, &before, budget, salt, &config), ask(&net, &after, budget, salt, &config));
        prop_assert!(v.decoders[task] >= w.decoders[task], "{before:?} {w} / {after:?} {v}");
    }

    #[test]
    fn the_budget_is_never_exceeded(
        parts in [1u32..1000, 0u32..1000, 0u32..1000],
        extra in 0u64..4000,
        salt in 0u64..1000,
        joint in any::<bool>(),
        per_stage in any::<bool>(),
    ) {
        let net = wide();
        let rule = if joint { EncoderRule::Joint } else { EncoderRule::Anchored };
        // Few enough to evolve and not to enumerate.
        let config = SearchConfig::default().per_stage(per_stage).population(6).generations(4).rule(rule);
        let budget = net.macs(&net.smallest()).unwrap() + extra;
        ask(&net, &preference(parts), budget, salt, &config); // asserts it
    }
}

#[test]
fn the_joint_rule_does_narrow_the_decoder_of_a_preferred_task() {
    let (net, config) = (wide(), SearchConfig::default().rule(EncoderRule::Joint));
    let budget = net.macs(&net.full()).unwrap() * 2 / 3;
    let narrowed = (0..40u64).any(|salt| {
        let at = |r: [u32; 3]| ask(&net, &preference(r), budget, salt, &config);
        at([7, 2, 1]).decoders[0] < at([6, 2, 2]).decoders[0]
    });
    assert!(narrowed); // Otherwise the anchored rule would not be needed.
}

#[test]
fn equal_scores_are_decided_by_cost_and_the_search_repeats_itself() {
    let net = wide();
    let full = net.macs(&net.full()).unwrap();
    let request = UserConstraint { preference: vec![0.5, 0.25, 0.25], max_macs: full };
    let mut equal = |w: &WidthConfig| Ok(vec![1.0; w.decoders.len()]);
    let config = SearchConfig::default().per_stage(true);
    let choice = search(&net, &request, Calibration::Measure(&mut equal), &config).unwrap();
    assert_eq!(choice.widths.encoder, net.smallest().encoder);
    let config = config.population(8).generations(5);
    let once = ask(&net, &request.preference, full / 2, 9, &config);
    assert_eq!(once, ask(&net, &request.preference, full / 2, 9, &config));
}

#[test]
fn a_budget_for_everything_gives_everything_when_width_is_good() {
    let net = wide();
    let request =
        UserConstraint { preference: vec![1.0 / 3.0; 3], max_macs: 10 * net.macs(&net.full()).unwrap() };
    let mut good = |w: &WidthConfig| {
        let encoder: f64 = w.encoder.iter().map(|r| r.get()).sum();
        Ok(w.decoders.iter().map(|d| d.get() + encoder).collect())
    };
    for rule in [EncoderRule::Anchored, EncoderRule::Joint] {
        for (per_stage, population) in [(false, 50), (true, 50), (true, 3)] {
            let config = SearchConfig::default().rule(rule).per_stage(per_stage).population(population);
            let choice = search(&net, &request, Calibration::Measure(&mut good), &config).unwrap();
            assert_eq!(choice.widths, net.full(), "{rule:?} {per_stage} {population}");
        }
    }
}

#[test]
fn requests_that_cannot_be_met_say_what_could() {
    let net = wide();
    let least = net.macs(&net.smallest()).unwrap();
    let ask = |preference: &[f64], max_macs: u64, scores: Vec<f64>| {
        let request = UserConstraint { preference: preference.to_vec(), max_macs };
        let mut measure = |_: &WidthConfig| Ok(scores.clone());
        search(&net, &request, Calibration::Measure(&mut measure), &SearchConfig::default())
            .map_err(|e| e.to_string())
    };
    let ones = || vec![1.0; 3];
    assert!(ask(&[1.0, 0.0, 0.0], least, ones()).is_ok());
    insta::assert_snapshot!(ask(&[1.0, 0.0, 0.0], least - 1, ones()).unwrap_err(), @"`max_macs` must be at least 378 MACs, the cost of the smallest network, but is 377");
    insta::assert_snapshot!(ask(&[0.5, 0.5], least, ones()).unwrap_err(), @"`preference` must be one number for each of 3 tasks, but is 2 numbers");
    insta::assert_snapshot!(ask(&[0.5, 0.2, 0.2], least, ones()).unwrap_err(), @"`preference` must be at least 0 and of sum 1, but is [0.5, 0.2, 0.2] of sum 0.8999999999999999");
    insta::assert_snapshot!(ask(&[1.5, -0.5, 0.0], least, ones()).unwrap_err(), @"`preference` must be at least 0 and of sum 1, but is [1.5, -0.5, 0.0] of sum 1");
    insta::assert_snapshot!(ask(&[1.0, 0.0, 0.0], least, vec![1.0, f64::NAN, 1.0]).unwrap_err(), @"`score of task `b` at encoder 0.25 0.25 0.25; decoders 0.25 0.25 0.25` must be finite, but is NaN");
    insta::assert_snapshot!(ask(&[1.0, 0.0, 0.0], least, vec![1.0]).unwrap_err(), @"`score at encoder 0.25 0.25 0.25; decoders 0.25 0.25 0.25` must be one number for each of 3 tasks, but is 1 numbers");
    let request = UserConstraint { preference: vec![1.0, 0.0, 0.0], max_macs: least };
    let empty = AccuracyTable::default();
    let err = search(&net, &request, Calibration::Table(&empty), &SearchConfig::default()).unwrap_err();
    insta::assert_snapshot!(err, @"`calibration` must be measured for a network that the rule allows within the budget, but is measured for none");
    assert!(matches!(err, Error::Config { .. }));
}

#[test]
fn a_table_decides_among_what_was_measured() {
    let net = wide();
    let mut table = AccuracyTable::default();
    table.insert(net.smallest(), vec![0.6, 0.7, 0.8]).unwrap();
    table.insert(net.full(), vec![0.9, 0.9, 0.9]).unwrap();
    let full = net.macs(&net.full()).unwrap();
    let at = |max_macs: u64| {
        let request = UserConstraint { preference: vec![0.4, 0.3, 0.3], max_macs };
        search(&net, &request, Calibration::Table(&table), &SearchConfig::default()).unwrap()
    };
    assert_eq!(at(10 * full).widths, net.full());
    let small = at(net.macs(&net.smallest()).unwrap());
    assert_eq!(small.widths, net.smallest());
    assert!((small.score - (0.4 * 0.6 + 0.3 * 0.7 + 0.3 * 0.8)).abs() < 1e-12);
}

// Tables: the text that the width search of `mtl-hw` reads.

#[test]
fn tables_are_the_text_that_other_tools_read() {
    let config = SlimmableConfig::default()
        .input(SlimInput::Vector { features: 3 })
        .stages(&[dense(4), dense(2)])
        .decoder(&[2])
        .widths(&[0.5, 1.0].map(ratio));
    let net = config.build(vec![TaskSpec::classification("a", 2)]).unwrap();
    let mut costs = cost_table(&net).unwrap();
    let other = net.config().clone().activation(Activation::Silu);
    assert_ne!(costs.hash, cost_table(&other.build(net.tasks().to_vec()).unwrap()).unwrap().hash);
    costs.hash = 7;
    insta::assert_snapshot!(costs.to_json().unwrap(), @r#"
{
  "unit": "macs",
  "encoder": [
    [
      [
        6.0,
        12.0
      ]
    ],
    [
      [
        2.0,
        4.0
      ],
      [
        4.0,
        8.0
      ]
    ]
  ],
  "decoders": [
    [
      [
        3.0,
        6.0
      ],
      [
        4.0,
        8.0
      ]
    ]
  ],
  "hash": 7
}
"#);
    let mut table = AccuracyTable::default();
    table.insert(net.full(), vec![1.0]).unwrap();
    table.insert(net.uniform(ratio(0.5)), vec![0.75]).unwrap();
    assert_eq!(table.to_csv(), "encoder.0,encoder.1,decoder.0,task.0\n0.5,0.5,0.5,0.75\n1,1,1,1\n");
    insta::assert_snapshot!(table.to_json().unwrap(), @r#"
[
  {
    "encoder": [
      0.5,
      0.5
    ],
    "decoders": [
      0.5
    ],
    "tasks": [
      0.75
    ]
  },
  {
    "encoder": [
      1.0,
      1.0
    ],
    "decoders": [
      1.0
    ],
    "tasks": [
      1.0
    ]
  }
]
"#);
    let err = table.insert(net.full(), vec![1.0]).unwrap_err();
    insta::assert_snapshot!(err, @"`widths` must be those of no earlier row, but is encoder 1 1; decoders 1");
    let err = table.insert(WidthConfig::uniform(1, ratio(1.0), 1, ratio(1.0)), vec![f64::NAN]).unwrap_err();
    insta::assert_snapshot!(err, @"`scores at encoder 1; decoders 1` must be 1 finite numbers, one per task, but is [NaN]");
    // The whole is the sum of its entries.
    let entry = |t: &[Vec<Vec<f64>>], part: usize, before: usize, w: usize| t[part][before][w];
    let widths = WidthConfig { encoder: [0.5, 1.0].map(ratio).to_vec(), decoders: vec![ratio(0.5)] };
    let sum =
        entry(&costs.encoder, 0, 0, 0) + entry(&costs.encoder, 1, 0, 1) + entry(&costs.decoders, 0, 1, 0);
    assert_eq!(net.macs(&widths).unwrap() as f64, sum);
}

// Training

fn trainer(config: SlimmableTrainerConfig) -> SlimmableTrainer {
    let net = mixed(SlimNorm::Layer);
    let params = net.init(Seed(1)).unwrap().trainable();
    SlimmableTrainer::new(Arc::new(net), params, config).unwrap()
}

fn batches(step: u64, one_input: bool) -> Vec<Batch> {
    let draw = |purpose: &str| rng::normal(&mut Seed(2).stream(purpose, step), &[6, 2, 6, 6], 1.0);
    let x = draw("first");
    let second = if one_input { x.shallow_clone() } else { draw("second") };
    let parity =
        second.sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Float).gt(0.0).to_kind(Kind::Int64);
    let digit = x.abs().sum_dim_intlist([1i64, 2, 3].as_slice(), false, Kind::Float).to_kind(Kind::Int64);
    vec![
        Batch { task: 1, input: second.into(), target: parity },
        Batch { task: 0, input: x.into(), target: digit.remainder(10) },
    ]
}

fn step(index: u64) -> Step {
    Step { index, seed: Seed(4) }
}

#[test]
fn the_gradient_is_that_of_the_whole_objective() {
    for (one_input, kd, at) in [
        (true, Some(CiKd::SliceMse), DistilAt::EveryStage),
        (false, Some(CiKd::Gram), DistilAt::LastStage),
        (false, None, DistilAt::EveryStage),
    ] {
        let config = SlimmableTrainerConfig::default()
            .optimizer(Method::new("sgd"))
            .schedule(Schedule::constant(1.0))
            .subnets(3)
            .per_stage(true)
            .distillation(kd)
            .distil_at(at)
            .beta(0.5)
            .task_weights(&[2.0, 0.25]);
        let mut trainer = trainer(config);
        let before = trainer.params().trainable();
        let net = trainer.net().clone();
        let subnets = trainer.subnets(step(3));
        assert_eq!((subnets.len(), &subnets[0]), (3, &net.smallest()));
        let data = batches(0, one_input);
        let report = trainer.observe(&data, step(3)).unwrap();
        // The objective in one graph.
        let run = |widths: &WidthConfig, batch: &Batch| {
            let out =
                net.run_tasks_at(&before, &batch.input, widths, &[batch.task], &Context::eval()).unwrap();
            let loss = mtl_core::loss::task_loss(&net.tasks()[batch.task], &out.outputs[0], &batch.target);
            (loss.unwrap(), out.features)
        };
        let mut total = Tensor::from(0.0f32);
        for (i, batch) in data.iter().enumerate() {
            let weight = [2.0, 0.25][batch.task];
            let (loss, teacher) = run(&net.full(), batch);
            assert!((loss.double_value(&[]) - report.losses[i]).abs() < 1e-5);
            total = total + loss * weight;
            for widths in &subnets {
                let (loss, features) = run(widths, batch);
                total = total + loss * weight;
                let Some(kd) = kd else { continue };
                let skip = if at == DistilAt::LastStage { 2 } else { 0 };
                // Two batches on one input share its distillation; on two inputs each has half.
                for (narrow, wide) in features.iter().zip(&teacher).skip(skip) {
                    total = total + kd.loss(narrow, wide).unwrap() * 0.25;
                }
            }
        }
        let grads = before.gradients(&total, false).unwrap();
        assert!((grads.norm() - report.grad_norm.unwrap()).abs() < 1e-4 * grads.norm());
        for (name, after) in trainer.params().iter() {
            let start = before.get(name).unwrap();
            let wanted = grads.get(name).map_or_else(|| start.shallow_clone(), |g| start - g);
            assert!(error(after, &wanted) < 1e-4, "{name}: {}", error(after, &wanted));
        }
    }
}

#[test]
fn every_width_learns() {
    let config = SlimmableTrainerConfig::default().schedule(Schedule::constant(1e-2)).subnets(2);
    let mut trainer = trainer(config);
    let data = batches(0, true);
    let loss = |trainer: &SlimmableTrainer, w: f64| -> f64 {
        let widths = trainer.net().uniform(ratio(w));
        let of = |b: &Batch| {
            let y = trainer.predict_at(&b.input, b.task, &widths).unwrap();
            let spec = &trainer.net().tasks()[b.task];
            mtl_core::loss::task_loss(spec, &y, &b.target).unwrap().double_value(&[])
        };
        data.iter().map(of).sum()
    };
    let before = [0.25, 0.5, 1.0].map(|w| loss(&trainer, w));
    for index in 0..60 {
        trainer.observe(&data, step(index)).unwrap();
    }
    for ((w, share), before) in [(0.25, 0.9), (0.5, 0.7), (1.0, 0.2)].into_iter().zip(before) {
        let after = loss(&trainer, w);
        assert!(after < share * before, "{w}: {before} to {after}");
    }
}

#[test]
fn a_run_resumes_to_the_same_bits() {
    let config = || SlimmableTrainerConfig::default().clip(Clip::Norm { max: 1.0 });
    let run = |trainer: &mut SlimmableTrainer, steps: std::ops::Range<u64>| {
        steps.for_each(|i| drop(trainer.observe(&batches(i, i % 2 == 0), step(i)).unwrap()));
    };
    let mut whole = trainer(config());
    run(&mut whole, 0..6);
    let mut first = trainer(config());
    run(&mut first, 0..3);
    let path = tempfile::tempdir().unwrap();
    let file = path.path().join("state.safetensors");
    first.save().unwrap().write(&file).unwrap();
    let mut second = trainer(config());
    second.load(&LearnerState::read(&file).unwrap()).unwrap();
    run(&mut second, 3..6);
    let same = whole.params().iter().zip(second.params().iter()).all(|((n, a), (m, b))| n == m && a.equal(b));
    assert!(same);
    let err = trainer(config().beta(0.5)).load(&first.save().unwrap()).unwrap_err();
    assert!(matches!(err, Error::Mismatch { .. }) && err.to_string().contains("beta"), "{err}");
}

#[test]
fn what_training_cannot_use_is_refused() {
    let net = Arc::new(mixed(SlimNorm::None));
    let params = || net.init(Seed(1)).unwrap();
    let refuse = |config: SlimmableTrainerConfig| {
        SlimmableTrainer::new(net.clone(), params().trainable(), config).unwrap_err().to_string()
    };
    insta::assert_snapshot!(refuse(SlimmableTrainerConfig::default().beta(-1.0)), @"`beta` must be finite and at least 0, but is -1");
    insta::assert_snapshot!(refuse(SlimmableTrainerConfig::default().task_weights(&[1.0])), @"`task_weights` must be empty or 2 finite numbers of at least 0, but is [1.0]");
    insta::assert_snapshot!(refuse(SlimmableTrainerConfig::default().optimizer(Method::new("adm"))), @"unknown method `adm`; did you mean `adam`?");
    assert!(SlimmableTrainer::new(net.clone(), params(), SlimmableTrainerConfig::default()).is_err());
    let mut trainer =
        SlimmableTrainer::new(net.clone(), params().trainable(), SlimmableTrainerConfig::default()).unwrap();
    insta::assert_snapshot!(trainer.observe(&[], step(0)).unwrap_err(), @"`batches` must be at least one, but is empty");
    let before = trainer.params().snapshot();
    let mut bad = batches(0, false);
    bad[0].input.values = &bad[0].input.values * f64::NAN;
    insta::assert_snapshot!(trainer.observe(&bad, step(7)).unwrap_err(), @"loss of task `parity` is not finite at step 7");
    assert!(before.iter().zip(trainer.params().iter()).all(|((_, a), (_, b))| a.equal(b)));
    let json = json!({"subnets": 1, "distillation": "gram", "betta": 1.0});
    assert!(serde_json::from_value::<SlimmableTrainerConfig>(json).is_err());
}
