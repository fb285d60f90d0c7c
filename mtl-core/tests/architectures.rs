//! What every architecture must do, for encoders of vectors and of images, whatever its name.
#![cfg(feature = "torch")]
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_core::{
    Batch, Context, Cost, Input, Learner, Model, MultiTaskModel, ParamSource, Result, Seed, StateDict,
    TaskKind, TaskSpec,
    architectures::{
        ARCHITECTURES, AitmConfig, CgcConfig, CrossStitchConfig, Esmm, MmoeConfig, Network, PleConfig,
        StagedEncoder,
    },
    learner::Step,
    models::{CnnConfig, CnnPooling, Mlp, VitConfig},
    optim::Schedule,
    registry::Registry,
    rng,
    train::{Joint, JointConfig},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use tch::{Device, Kind, Tensor};

fn normal(seed: u64, dims: &[i64]) -> Tensor {
    rng::normal(&mut Seed(seed).stream("test", 0), dims, 1.0)
}

fn tasks() -> Vec<TaskSpec> {
    let regression = TaskSpec::new("size", TaskKind::Regression { dims: 2 });
    vec![TaskSpec::classification("digit", 4), regression, TaskSpec::classification("parity", 2)]
}

/// Encoders with an input for each: vectors, images to a vector, to a map and to tokens.
fn encoders() -> Vec<(&'static str, Arc<dyn StagedEncoder>, Tensor)> {
    let cnn = |pooling| CnnConfig::default().image(2, 8, 8).widths(&[3, 5]).pooling(pooling).build().unwrap();
    let images = normal(2, &[6, 2, 8, 8]);
    let vit = VitConfig::default().image(2, 8, 4).size(8, 2, 2).build().unwrap();
    vec![
        ("mlp", Arc::new(Mlp::new(&[6, 8, 7, 5]).unwrap()), normal(1, &[6, 6])),
        ("cnn-dense", Arc::new(cnn(CnnPooling::Dense)), images.shallow_clone()),
        ("cnn-mean", Arc::new(cnn(CnnPooling::Mean)), images.shallow_clone()),
        ("vit", Arc::new(vit), images),
    ]
}

/// Every entry of the registry with its defaults, and those with another mode.
fn configs() -> Vec<(&'static str, Value)> {
    let registry = Registry::new(ARCHITECTURES);
    let mut configs: Vec<_> = registry.infos().map(|info| (info.name, json!({}))).collect();
    configs.extend([
        ("ple", json!({ "variant": "libmtl", "shared_experts": 2, "task_experts": [1, 2, 1] })),
        ("dselect-k", json!({ "per_example": true, "n_experts": 3 })),
        ("task-embedding", json!({ "joining": "concatenate" })),
        ("mtan", json!({ "norm": "batch" })),
        ("nddr", json!({ "norm": "none", "relu": false })),
        ("ltb", json!({ "warm_up_steps": 0 })),
    ]);
    configs
}

type Case = (String, Arc<dyn MultiTaskModel>, Tensor);

fn cases() -> Vec<Case> {
    let registry = Registry::new(ARCHITECTURES);
    let mut cases = Vec::new();
    for (name, config) in configs() {
        for (encoder_name, encoder, input) in encoders() {
            let architecture = registry.build(name, config.clone()).unwrap();
            let model = architecture.model(encoder, tasks()).unwrap();
            cases.push((format!("{name} {config} on {encoder_name}"), model, input.shallow_clone()));
        }
    }
    cases
}

fn input(x: &Tensor) -> Input {
    x.shallow_clone().into()
}

fn far(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn all_tasks_at_once_are_the_tasks_one_by_one() {
    for (name, model, x) in cases() {
        let params = model.init(Seed(0)).unwrap();
        for training in [false, true] {
            let ctx = || if training { Context::train(Seed(4), 9) } else { Context::eval() };
            let together = model.forward_all(&params, &input(&x), &ctx()).unwrap();
            assert_eq!(together.len(), 3, "{name}");
            for (task, output) in together.iter().enumerate() {
                assert_eq!(output.size(), [6, model.tasks()[task].outputs()], "{name}");
                let alone = model.forward(&params, &input(&x), &ctx().with_task(task)).unwrap();
                assert!(far(output, &alone) < 1e-5, "{name}, task {task}");
            }
        }
    }
}

/// For each parameter, the tasks whose output depends on it, in the first training step.
fn users(model: &dyn MultiTaskModel, x: &Tensor) -> BTreeMap<String, Vec<usize>> {
    let params = model.init(Seed(0)).unwrap().trainable();
    let ctx = Context::train(Seed(0), 0);
    let outputs = model.forward_all(&params, &input(x), &ctx).unwrap();
    let mut users: BTreeMap<String, Vec<usize>> =
        params.names().map(|name| (name.to_owned(), Vec::new())).collect();
    for (task, output) in outputs.iter().enumerate() {
        let loss = output.square().sum(Kind::Float);
        for (name, _) in params.gradients(&loss, true).unwrap() {
            users.get_mut(&name).unwrap().push(task);
        }
    }
    users
}

#[test]
fn shared_parameters_are_those_that_several_tasks_use() {
    for (name, model, x) in cases() {
        for (param, tasks) in users(&*model, &x) {
            assert_ne!(tasks.len(), 0, "{name}: nothing depends on {param}");
            assert_eq!(model.is_shared(&param), tasks.len() > 1, "{name}: {param} is used by {tasks:?}");
        }
    }
}

#[test]
fn funnels_share_what_later_steps_use() {
    let mlp = |widths: &[i64]| Arc::new(Mlp::new(widths).unwrap());
    let steps = ["view", "click", "buy"];
    let esmm = Esmm::new(mlp(&[6, 5]), mlp(&[5, 4]), &steps).unwrap();
    let aitm = AitmConfig::default().build(mlp(&[6, 5]), mlp(&[5, 4]), &steps).unwrap();
    let x = normal(1, &[4, 6]);
    for model in [&esmm as &dyn MultiTaskModel, &aitm] {
        for (param, tasks) in users(model, &x) {
            assert_eq!(model.is_shared(&param), tasks.len() > 1, "{param} is used by {tasks:?}");
        }
        let params = model.init(Seed(0)).unwrap();
        let together = model.forward_all(&params, &input(&x), &Context::eval()).unwrap();
        for (task, output) in together.iter().enumerate() {
            let alone = model.forward(&params, &input(&x), &Context::eval().with_task(task)).unwrap();
            assert!(far(output, &alone) < 1e-6);
        }
    }
    // The calibrator of all steps is the sum of those of the steps alone.
    let params = aitm.init(Seed(0)).unwrap();
    let aux = |ctx: Context, task: Option<usize>| -> f64 {
        match task {
            Some(_) => drop(aitm.forward(&params, &input(&x), &ctx).unwrap()),
            None => drop(aitm.forward_all(&params, &input(&x), &ctx).unwrap()),
        }
        ctx.take_aux().iter().map(|(_, loss)| loss.double_value(&[])).sum()
    };
    let train = || Context::train(Seed(0), 0);
    let alone: f64 = (0..3).map(|task| aux(train().with_task(task), Some(task))).sum();
    assert!((aux(train(), None) - alone).abs() < 1e-6 && alone > 0.0);
}

#[test]
fn costs_count_the_parameters_that_a_task_needs() {
    for (name, model, _) in cases() {
        let params = model.init(Seed(0)).unwrap();
        let of_another = |param: &str| {
            let own = ["heads", "tasks", "gates", "selectors", "nddr"];
            let under = |task: &str| own.iter().any(|part| param.starts_with(&format!("{part}.{task}.")));
            !model.is_shared(param) && (under("size") || under("parity"))
        };
        // Before training every task of a branching network takes node 0.
        let off_path =
            |param: &str| ["nodes.1.", "nodes.2.", "branch."].iter().any(|prefix| param.starts_with(prefix));
        let needed = params.iter().filter(|(param, _)| !of_another(param) && !off_path(param));
        let count: usize = needed.map(|(_, tensor)| tensor.numel()).sum();
        assert_eq!(model.cost(0).params, count as u64, "{name}");
        assert!(model.cost(0).macs > 0 && model.cost(3) == Cost::default(), "{name}");
    }
}

fn fast() -> JointConfig {
    JointConfig::default().schedule(Schedule::constant(0.01))
}

#[test]
fn every_architecture_learns() {
    let x = normal(7, &[32, 6]);
    let positive = |column: i64| x.select(1, column).gt(0.0).to_kind(Kind::Int64);
    let specs = vec![TaskSpec::classification("first", 2), TaskSpec::classification("second", 2)];
    let registry = Registry::new(ARCHITECTURES);
    for (name, mut config) in configs() {
        if config.get("task_experts").is_some() {
            config["task_experts"] = json!([2, 1]);
        }
        let architecture = registry.build(name, config.clone()).unwrap();
        for shared_input in [true, false] {
            let model = architecture.model(Arc::new(Mlp::new(&[6, 8, 8]).unwrap()), specs.clone()).unwrap();
            let params = model.init(Seed(3)).unwrap().trainable();
            let mut joint = Joint::new(model, params, fast()).unwrap();
            let mut step = |index| -> Result<f64> {
                let input = |task: i64| if shared_input { x.shallow_clone() } else { x.roll([task], [1]) };
                let batch = |task: i64| Batch {
                    task: task as usize,
                    input: input(task).into(),
                    target: positive(task),
                };
                let report = joint.observe(&[batch(0), batch(1)], Step { index, seed: Seed(3) })?;
                Ok(report.losses.iter().sum())
            };
            let before = step(0).unwrap();
            let after = (1..40).map(|index| step(index).unwrap()).fold(before, |_, loss| loss);
            assert!(after < 0.95 * before, "{name} {config}: {before} to {after}");
        }
    }
}

#[test]
fn funnels_learn() {
    let mlp = |widths: &[i64]| Arc::new(Mlp::new(widths).unwrap());
    let steps = ["click", "buy"];
    let esmm: Arc<dyn MultiTaskModel> = Arc::new(Esmm::new(mlp(&[6, 8]), mlp(&[8, 4]), &steps).unwrap());
    let aitm = AitmConfig::default().build(mlp(&[6, 8]), mlp(&[8, 4]), &steps).unwrap();
    let x = normal(7, &[32, 6]);
    let click = x.narrow(1, 0, 1).gt(0.0).to_kind(Kind::Float);
    let buy = &click * x.narrow(1, 1, 1).gt(0.0).to_kind(Kind::Float);
    for model in [esmm, Arc::new(aitm)] {
        let params = model.init(Seed(3)).unwrap().trainable();
        let mut joint = Joint::new(model, params, fast().aux_weight(1.0)).unwrap();
        let mut step = |index| -> f64 {
            let batch =
                |task: usize| Batch { task, input: input(&x), target: [&click, &buy][task].shallow_clone() };
            let step = Step { index, seed: Seed(3) };
            joint.observe(&[batch(0), batch(1)], step).unwrap().losses.iter().sum()
        };
        let before = step(0);
        let after = (1..60).map(&mut step).fold(before, |_, loss| loss);
        assert!(after < 0.9 * before, "{before} to {after}");
    }
}

fn mlp() -> Arc<Mlp> {
    Arc::new(Mlp::new(&[6, 8, 5]).unwrap())
}

#[test]
fn an_identity_stitch_leaves_networks_of_their_own() {
    let config = CrossStitchConfig::default().same(1.0).different(0.0);
    let model = Network::new(config.build().unwrap(), mlp(), tasks()).unwrap();
    let mut params = model.init(Seed(0)).unwrap();
    let x = normal(1, &[6, 6]);
    let before = model.forward_all(&params, &input(&x), &Context::eval()).unwrap();
    let alone = model.backbone().forward(&params, "tasks.size", &x, &Context::eval()).unwrap();
    assert!(far(&before[1], &params.linear("heads.size", &alone).unwrap()) < 1e-6);
    params.insert("tasks.digit.stage0.weight", Tensor::zeros([8, 6], (Kind::Float, Device::Cpu)));
    let after = model.forward_all(&params, &input(&x), &Context::eval()).unwrap();
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
}

/// Gives every expert under `prefix` the parameters of the first.
fn make_alike(params: &mut StateDict, prefix: &str, experts: usize) {
    let first = params.strip_prefix(&format!("{prefix}0."));
    for e in 1..experts {
        params.extend(first.snapshot().with_prefix(&format!("{prefix}{e}.")));
    }
}

#[test]
fn identical_experts_are_one_expert() {
    let x = normal(1, &[6, 6]);
    for (name, config, prefix) in [
        ("mmoe", json!({ "n_experts": 3 }), "experts."),
        ("dselect-k", json!({ "n_experts": 4, "num_nonzeros": 3, "per_example": true }), "experts."),
    ] {
        let model = Registry::new(ARCHITECTURES).build(name, config).unwrap().model(mlp(), tasks()).unwrap();
        let mut params = model.init(Seed(0)).unwrap();
        make_alike(&mut params, prefix, 4);
        let outputs = model.forward_all(&params, &input(&x), &Context::eval()).unwrap();
        let one = Network::new(MmoeConfig::default().n_experts(1).build().unwrap(), mlp(), tasks()).unwrap();
        let mut single = one.init(Seed(0)).unwrap();
        single.extend(params.filter(|n| n.starts_with("experts.0.") || n.starts_with("heads.")));
        let wanted = one.forward_all(&single, &input(&x), &Context::eval()).unwrap();
        for (a, b) in outputs.iter().zip(&wanted) {
            assert!(far(a, b) < 1e-5, "{name}");
        }
    }
}

#[test]
fn experts_of_other_tasks_are_not_seen_in_the_last_layer() {
    let x = normal(1, &[6, 6]);
    let model = Network::new(PleConfig::default().build().unwrap(), mlp(), tasks()).unwrap();
    let mut params = model.init(Seed(0)).unwrap();
    assert!(params.get("shared.layer0.gate.weight").is_some());
    assert!(params.get("shared.layer1.gate.weight").is_none());
    let before = model.forward_all(&params, &input(&x), &Context::eval()).unwrap();
    let zeros = |dims: [i64; 2]| Tensor::zeros(dims, (Kind::Float, Device::Cpu));
    params.insert("tasks.digit.layer1.experts.0.weight", zeros([5, 8]));
    let after = model.forward_all(&params, &input(&x), &Context::eval()).unwrap();
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
    // In the first layer they are, through the shared gate.
    params.insert("tasks.digit.layer0.experts.0.weight", zeros([8, 6]));
    assert_ne!(model.forward_all(&params, &input(&x), &Context::eval()).unwrap()[1], after[1]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let registry = Registry::new(ARCHITECTURES);
    let refuse = |name: &str, config: Value| match registry.build(name, config) {
        Ok(architecture) => architecture.model(mlp(), tasks()).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    insta::assert_snapshot!(refuse("mmoe", json!({ "n_experts": 0 })), @"`n_experts` must be at least 1, but is 0");
    insta::assert_snapshot!(refuse("cgc", json!({ "shared_experts": 0 })), @"`shared_experts` must be at least 1, but is 0");
    insta::assert_snapshot!(refuse("cgc", json!({ "task_experts": [1, 2] })), @"`task_experts` must be one number for each of the 3 tasks, or one for all, but is [1, 2]");
    insta::assert_snapshot!(refuse("ple", json!({ "task_experts": [1, 0, 2] })), @"`task_experts` must be one number of at least 1 for every task, or one for all, but is [1, 0, 2]");
    insta::assert_snapshot!(refuse("dselect-k", json!({ "num_nonzeros": 9 })), @"`num_nonzeros` must be in 1..=8, the number of experts, but is 9");
    insta::assert_snapshot!(refuse("mmo", json!({})), @"unknown method `mmo`; did you mean `mmoe`?");
    assert!(refuse("hps", json!({ "experts": 1 })).contains("unknown field `experts`"));
    let build = |tasks: Vec<TaskSpec>| {
        Network::new(CgcConfig::default().build().unwrap(), mlp(), tasks).unwrap_err().to_string()
    };
    insta::assert_snapshot!(build(Vec::new()), @"`tasks` must be at least one task, but is empty");
    let twice = ["a", "a"].map(|name| TaskSpec::classification(name, 2)).to_vec();
    insta::assert_snapshot!(build(twice), @"`tasks` must be tasks with names of their own, but is `a`");
    for (name, config) in configs() {
        let model = registry.build(name, config).unwrap().model(mlp(), tasks()).unwrap();
        let params = model.init(Seed(0)).unwrap();
        let run = |x: &Tensor, ctx: Context| model.forward(&params, &input(x), &ctx).unwrap_err().to_string();
        let x = normal(1, &[2, 6]);
        let task = run(&x, Context::eval().with_task(3));
        assert_eq!(task, "`task of the context` must be in 0..3 (digit, size, parity), but is 3");
        assert!(run(&x, Context::eval()).contains("one of digit, size, parity, but is absent"));
        let wide = run(&normal(1, &[2, 7]), Context::eval().with_task(0));
        assert!(wide.contains("must have shape [batch, 6], but has [2, 7]"), "{name}: {wide}");
    }
}

/// A perceptron whose first stage is narrower for one task.
#[derive(Debug)]
struct Uneven(Mlp);

impl StagedEncoder for Uneven {
    fn stages(&self) -> usize {
        self.0.stages()
    }

    fn input_shape(&self) -> Vec<i64> {
        self.0.input_shape()
    }

    fn shape(&self, stage: usize) -> Vec<i64> {
        self.0.shape(stage)
    }

    fn init_stage(&self, stage: usize, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()> {
        self.0.init_stage(stage, prefix, seed, into)
    }

    fn forward_stage(
        &self,
        params: &dyn ParamSource,
        prefix: &str,
        stage: usize,
        x: &Tensor,
        ctx: &Context,
    ) -> Result<Tensor> {
        let y = self.0.forward_stage(params, prefix, stage, x, ctx)?;
        let narrow = ["tasks.size.stage0", "nodes.1.stage0"].contains(&prefix);
        Ok(if narrow { y.narrow(1, 0, 7) } else { y })
    }

    fn stage_cost(&self, stage: usize) -> Cost {
        self.0.stage_cost(stage)
    }
}

#[test]
fn features_that_do_not_match_are_refused_with_stage_and_shapes() {
    let encoder = Arc::new(Uneven(Mlp::new(&[6, 8, 5]).unwrap()));
    for name in ["cross-stitch", "nddr", "ltb"] {
        let architecture = Registry::new(ARCHITECTURES).build(name, json!({})).unwrap();
        let model = architecture.model(encoder.clone(), tasks()).unwrap();
        let params = model.init(Seed(0)).unwrap();
        let ctx = Context::train(Seed(0), 0).with_task(0);
        let err = model.forward(&params, &input(&normal(1, &[2, 6])), &ctx).unwrap_err().to_string();
        let wanted =
            "`features of task 1 after stage 0` must have shape [2, 8] like those of task 0, but has [2, 7]";
        assert_eq!(err, wanted, "{name}");
    }
}

#[test]
fn a_gate_of_the_wrong_size_is_named() {
    let model = Network::new(MmoeConfig::default().n_experts(2).build().unwrap(), mlp(), tasks()).unwrap();
    let mut params = model.init(Seed(0)).unwrap();
    params.insert("gates.size.weight", normal(1, &[2, 5]));
    let ctx = Context::eval().with_task(1);
    let err = model.forward(&params, &input(&normal(1, &[2, 6])), &ctx).unwrap_err();
    insta::assert_snapshot!(err, @"`input of gates.size` must have shape […, 5], but has [2, 6]");
}

#[test]
fn dense_tasks_work_on_maps() {
    let map = TaskSpec::new("map", TaskKind::DenseClassification { classes: 3, height: 8, width: 8 });
    let cnn = CnnConfig::default().image(2, 8, 8).widths(&[3, 5]).pooling(CnnPooling::Mean).build().unwrap();
    let tasks = vec![map, TaskSpec::classification("digit", 4)];
    for (name, config) in configs().into_iter().filter(|(_, c)| c.get("task_experts").is_none()) {
        let architecture = Registry::new(ARCHITECTURES).build(name, config).unwrap();
        let model = architecture.model(Arc::new(cnn.clone()), tasks.clone()).unwrap();
        let params = model.init(Seed(0)).unwrap();
        let ctx = Context::eval().with_task(0);
        let output = model.forward(&params, &input(&normal(1, &[2, 2, 8, 8])), &ctx).unwrap();
        assert_eq!(output.size(), [2, 3, 8, 8], "{name}");
    }
}
