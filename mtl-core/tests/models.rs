//! What every model must do: gradients to all parameters, independent examples, the same output twice.
#![cfg(feature = "torch")]
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_core::{
    Context, Cost, Encoder, Features, Input, Model, MultiTaskModel, ParamSource, Result, Seed, StateDict,
    TaskKind, TaskSpec,
    loss::task_loss,
    models::{CnnConfig, CnnPooling, Mlp, MultiTask, Pooling, Vit, VitClassifier, VitConfig},
    nn::{Activation, DenseFeedForward, FeedForward},
    rng,
};
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

fn normal(seed: u64, dims: &[i64]) -> Tensor {
    rng::normal(&mut Seed(seed).stream("test", 0), dims, 1.0)
}

fn vit() -> Vit {
    VitConfig::default().image(1, 8, 2).size(16, 2, 4).build().unwrap()
}

/// Every model under test, as one with a head for each of a few tasks, on 8 × 8 images.
fn models() -> Vec<(&'static str, MultiTask)> {
    let cnn = |pooling| CnnConfig::default().image(1, 8, 8).widths(&[4, 8]).pooling(pooling).build().unwrap();
    let mlp = Mlp::new(&[64, 16, 12]).unwrap().activation(Activation::Gelu);
    let mean = VitConfig::default().image(1, 8, 2).size(16, 2, 4).pooling(Pooling::Mean).build().unwrap();
    let dense = TaskSpec::new("map", TaskKind::DenseClassification { classes: 3, height: 8, width: 8 });
    let classes = TaskSpec::classification("digit", 4);
    let labels = TaskSpec::new("labels", TaskKind::MultiLabel { labels: 3 });
    let build = |encoder: Arc<dyn Encoder>, tasks: &[&TaskSpec]| {
        MultiTask::new(encoder, tasks.iter().map(|t| (*t).clone()).collect()).unwrap()
    };
    vec![
        ("mlp", build(Arc::new(mlp), &[&classes, &labels])),
        ("cnn", build(Arc::new(cnn(CnnPooling::Dense)), &[&classes, &dense])),
        ("cnn with mean", build(Arc::new(cnn(CnnPooling::Mean)), &[&classes, &dense])),
        ("vit", build(Arc::new(vit()), &[&classes, &labels, &dense])),
        ("vit with mean", build(Arc::new(mean), &[&dense, &classes])),
    ]
}

/// A key's bias moves all scores of a query alike, so that no gradient can reach it.
fn has_gradient(name: &str) -> bool {
    !name.ends_with("attention.key.bias")
}

fn target(task: &TaskSpec, batch: i64) -> Tensor {
    match task.kind {
        TaskKind::Classification { classes } => {
            Tensor::arange(batch, (Kind::Int64, Device::Cpu)).remainder(classes)
        }
        TaskKind::DenseClassification { classes, height, width } => {
            Tensor::arange(batch * height * width, (Kind::Int64, Device::Cpu))
                .remainder(classes)
                .view([batch, height, width])
        }
        _ => normal(9, &[batch, task.outputs()]).gt(0.0).to_kind(Kind::Float),
    }
}

#[test]
fn gradients_reach_the_input_and_every_parameter() {
    for (name, model) in models() {
        let params = model.init(Seed(0)).unwrap().trainable();
        let input = normal(1, &[3, 1, 8, 8]).set_requires_grad(true);
        let outputs = model
            .forward_all(&params, &Input::from(input.shallow_clone()), &Context::train(Seed(0), 0))
            .unwrap();
        let losses =
            model.tasks().iter().zip(&outputs).map(|(task, y)| task_loss(task, y, &target(task, 3)).unwrap());
        let loss = losses.reduce(|a, b| a + b).unwrap();
        let grads = params.gradients(&loss, true).unwrap();
        for parameter in params.names().filter(|n| has_gradient(n)) {
            let norm = grads.get(parameter).map_or(0.0, |g| g.norm().double_value(&[]));
            assert!(norm > 0.0 && norm.is_finite(), "{name}: gradient of {parameter} is {norm}");
        }
        let to_input = Tensor::run_backward(&[loss], &[&input], false, false);
        let rows = to_input[0].flatten(1, -1).abs().amax([1i64].as_slice(), false);
        assert!(rows.min().double_value(&[]) > 0.0, "{name}: no gradient to an input");
    }
}

#[test]
fn examples_do_not_see_each_other_and_evaluation_repeats_itself() {
    let order = Tensor::from_slice(&[2i64, 0, 1]);
    for (name, model) in models() {
        let params = model.init(Seed(0)).unwrap();
        let images = normal(1, &[3, 1, 8, 8]);
        let run = |images: Tensor| model.forward_all(&params, &images.into(), &Context::eval()).unwrap();
        let (once, again) = (run(images.shallow_clone()), run(images.shallow_clone()));
        let permuted = run(images.index_select(0, &order));
        for (task, ((a, b), c)) in once.iter().zip(&again).zip(&permuted).enumerate() {
            assert_eq!(a, b, "{name}");
            let error = (a.index_select(0, &order) - c).abs().max().double_value(&[]);
            assert!(error < 1e-5, "{name}: {error}"); // Products of other shapes may round differently.
            let alone =
                model.forward(&params, &images.shallow_clone().into(), &Context::eval().with_task(task));
            assert_eq!(&alone.unwrap(), a, "{name}");
        }
    }
}

#[test]
fn costs_count_the_parameters_and_products() {
    for (name, model) in models() {
        let params = model.encoder().init(Seed(0)).unwrap();
        assert_eq!(model.encoder().cost().params, params.numel() as u64, "{name}");
    }
    assert_eq!(Mlp::new(&[784, 256, 256, 10]).unwrap().cost().macs, 784 * 256 + 256 * 256 + 256 * 10);
    // 16 patches of 4 pixels; per block 4 maps, two attention products and the feed-forward part over 17 tokens.
    let block = 4 * 17 * 16 * 16 + 2 * 17 * 17 * 16 + 2 * 17 * 16 * 64;
    assert_eq!(Encoder::cost(&vit()).macs, 16 * 4 * 16 + 2 * block);
}

#[test]
fn dropout_acts_in_training_only() {
    let model = Mlp::new(&[4, 32, 2]).unwrap().dropout(0.5).unwrap();
    let params = model.init(Seed(0)).unwrap();
    let run = |ctx: &Context| model.forward(&params, &normal(1, &[2, 4]).into(), ctx).unwrap();
    assert_ne!(run(&Context::train(Seed(0), 0)), run(&Context::eval()));
    let config = VitConfig::default().image(1, 8, 2).size(16, 2, 4).hidden_dropout_prob(0.5);
    let vit = config.build().unwrap();
    let params = vit.init(Seed(0)).unwrap();
    let run = |ctx: &Context| vit.encode(&params, &normal(1, &[2, 1, 8, 8]).into(), ctx).unwrap().pooled;
    assert_ne!(run(&Context::train(Seed(0), 0)), run(&Context::eval()));
}

#[test]
fn prompts_stand_after_the_class_token_and_replace_each_other() {
    let (vit, images) = (vit(), normal(1, &[3, 1, 8, 8]));
    let mut params = vit.init(Seed(0)).unwrap();
    let run = |params: &StateDict| {
        let input = Input::from(images.shallow_clone());
        let states = vit.hidden_states(params, &input, &Context::eval()).unwrap();
        (states, vit.encode(params, &input, &Context::eval()).unwrap())
    };
    let (plain, _) = run(&params);
    let prompt = normal(2, &[5, 16]);
    params.insert("vit.prompt.0", prompt.shallow_clone());
    let (shallow, features) = run(&params);
    assert_eq!(shallow[0].narrow(1, 1, 5), prompt.unsqueeze(0).expand([3, 5, 16], false));
    assert_eq!(Tensor::cat(&[shallow[0].narrow(1, 0, 1), shallow[0].narrow(1, 6, 16)], 1), plain[0]);
    assert_eq!(features.positions.unwrap(), shallow[3].narrow(1, 6, 16));
    assert_ne!(shallow[3].select(1, 0), plain[3].select(1, 0));

    params.insert("vit.prompt.1", normal(3, &[2, 16]));
    let (deep, features) = run(&params);
    assert_eq!(deep.iter().map(|t| t.size()[1]).collect::<Vec<_>>(), [22, 22, 19, 19]);
    assert_eq!(deep[1], shallow[1]);
    assert_eq!(features.positions.unwrap(), deep[3].narrow(1, 3, 16));

    params.insert("vit.prompt.0", prompt.unsqueeze(0).repeat([3, 1, 1]));
    assert_eq!(run(&params).0[3], deep[3]); // The same prompt for each example by itself.
}

#[test]
fn prompts_and_prefixes_get_gradients() {
    let model = VitClassifier::new(vit(), 3).unwrap();
    let mut params = model.init(Seed(0)).unwrap();
    params.insert("vit.prompt.0", normal(1, &[2, 16]));
    params.insert("vit.prompt.1", normal(2, &[3, 2, 16]));
    for layer in 0..2 {
        for (i, part) in ["prefix_key", "prefix_value"].iter().enumerate() {
            params.insert(format!("vit.encoder.layer.{layer}.attention.{part}"), normal(i as u64, &[4, 16]));
        }
    }
    let params = params.trainable();
    let y = model.forward(&params, &normal(3, &[3, 1, 8, 8]).into(), &Context::eval()).unwrap();
    let grads = params.gradients(&y.square().sum(Kind::Float), false).unwrap();
    // With a prefix the bias of a key counts: it moves the scores of the other keys only.
    for name in params.names() {
        assert!(grads.get(name).is_some_and(|g| g.norm().double_value(&[]) > 0.0), "{name}");
    }
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let vit = vit();
    let refuse = |prompt: &[i64]| {
        let mut params = vit.init(Seed(0)).unwrap();
        params.insert("vit.prompt.1", Tensor::zeros(prompt, (Kind::Float, Device::Cpu)));
        vit.encode(&params, &normal(1, &[3, 1, 8, 8]).into(), &Context::eval()).unwrap_err()
    };
    insta::assert_snapshot!(refuse(&[0, 16]), @"`vit.prompt.1` must have shape [n, 16] or [3, n, 16] with n at least 1, but has [0, 16]");
    insta::assert_snapshot!(refuse(&[2, 1, 16]), @"`vit.prompt.1` must have shape [n, 16] or [3, n, 16] with n at least 1, but has [2, 1, 16]");
    let params = vit.init(Seed(0)).unwrap();
    let small = vit.encode(&params, &normal(1, &[3, 1, 4, 4]).into(), &Context::eval()).unwrap_err();
    insta::assert_snapshot!(small, @"`input` must have shape [batch, 1, 8, 8], but has [3, 1, 4, 4]");
}

/// Adds the index of the task and says so.
#[derive(Debug)]
struct TaskShift(DenseFeedForward);

impl FeedForward for TaskShift {
    fn init(&self, prefix: &str, seed: Seed, into: &mut StateDict) -> Result<()> {
        self.0.init(&format!("{prefix}.own"), seed, into)
    }

    fn forward(&self, params: &dyn ParamSource, prefix: &str, x: &Tensor, ctx: &Context) -> Result<Tensor> {
        let task = ctx.task().unwrap();
        ctx.add_aux(prefix, Tensor::from(task as f32));
        Ok(self.0.forward(params, &format!("{prefix}.own"), x, ctx)? + task as f64)
    }

    fn cost(&self, tokens: i64) -> Cost {
        self.0.cost(tokens)
    }

    fn is_task_conditioned(&self) -> bool {
        true
    }
}

#[test]
fn a_task_conditioned_feed_forward_gives_each_task_a_pass_of_its_own() {
    let shift = Arc::new(TaskShift(DenseFeedForward::new(16, 8)));
    let err = vit().with_feed_forward(2, shift.clone()).unwrap_err();
    insta::assert_snapshot!(err, @"`layer` must be in 0..2, but is 2");
    let encoder = vit().with_feed_forward(1, shift).unwrap();
    let tasks = vec![TaskSpec::classification("a", 2), TaskSpec::classification("b", 3)];
    let model = MultiTask::new(Arc::new(encoder), tasks).unwrap();
    let params = model.init(Seed(0)).unwrap();
    assert!(params.get("vit.encoder.layer.1.own.output.dense.weight").is_some());
    assert!(params.get("vit.encoder.layer.1.output.dense.weight").is_none());
    let (input, ctx) = (Input::from(normal(1, &[2, 1, 8, 8])), Context::eval());
    let all = model.forward_all(&params, &input, &ctx).unwrap();
    let aux: Vec<f64> = ctx.take_aux().iter().map(|(_, t)| t.double_value(&[])).collect();
    assert_eq!(aux, [0.0, 1.0]);
    for (task, output) in all.iter().enumerate() {
        assert_eq!(&model.forward(&params, &input, &Context::eval().with_task(task)).unwrap(), output);
    }
}

/// Positions 0, 10, 20, 30 on a 2 × 2 grid.
#[derive(Debug)]
struct Positions;

impl Encoder for Positions {
    fn init(&self, _seed: Seed) -> Result<StateDict> {
        Ok(StateDict::new())
    }

    fn encode(&self, _params: &dyn ParamSource, _input: &Input, _ctx: &Context) -> Result<Features> {
        let positions = Tensor::from_slice(&[0.0f32, 10.0, 20.0, 30.0]).view([1, 4, 1]);
        Ok(Features { pooled: positions.select(1, 0), positions: Some(positions) })
    }

    fn dim(&self) -> i64 {
        1
    }

    fn grid(&self) -> Option<(i64, i64)> {
        Some((2, 2))
    }

    fn cost(&self) -> Cost {
        Cost::default()
    }
}

#[test]
fn a_dense_head_puts_its_patches_where_they_belong() {
    let task = TaskSpec::new("map", TaskKind::DenseRegression { channels: 2, height: 4, width: 4 });
    let model = MultiTask::new(Arc::new(Positions), vec![task]).unwrap();
    let mut params = model.init(Seed(0)).unwrap();
    params.insert("heads.map.weight", Tensor::ones([8, 1], (Kind::Float, Device::Cpu)));
    params.insert("heads.map.bias", Tensor::from_slice(&[0.0f32, 1.0, 2.0, 3.0, 100.0, 101.0, 102.0, 103.0]));
    let input = Tensor::zeros([1, 1], (Kind::Float, Device::Cpu)).into();
    let map = model.forward(&params, &input, &Context::eval().with_task(0)).unwrap();
    assert_eq!(map.size(), [1, 2, 4, 4]);
    let first: Vec<f32> = map.select(1, 0).flatten(0, -1).try_into().unwrap();
    let wanted = [0.0, 1.0, 10.0, 11.0, 2.0, 3.0, 12.0, 13.0, 20.0, 21.0, 30.0, 31.0, 22.0, 23.0, 32.0, 33.0];
    assert_eq!(first, wanted);
    assert_eq!(map.select(1, 1), map.select(1, 0) + 100.0);
    assert_eq!(MultiTaskModel::cost(&model, 0).macs, 4 * 8);
}

#[test]
fn tasks_that_cannot_be_done_are_refused() {
    let refuse =
        |encoder: Arc<dyn Encoder>, tasks: Vec<TaskSpec>| MultiTask::new(encoder, tasks).unwrap_err();
    let mlp = || Arc::new(Mlp::new(&[4, 3]).unwrap());
    let digit = || TaskSpec::classification("digit", 10);
    let map =
        |side| TaskSpec::new("map", TaskKind::DenseRegression { channels: 1, height: side, width: side });
    insta::assert_snapshot!(refuse(mlp(), vec![]), @"`tasks` must be at least one task, but is empty");
    insta::assert_snapshot!(refuse(mlp(), vec![digit(), digit()]), @"`tasks` must be tasks with names of their own, but is `digit`");
    insta::assert_snapshot!(refuse(mlp(), vec![map(4)]), @"`map of task `map`` must be absent with an encoder without positions, but is present");
    insta::assert_snapshot!(refuse(Arc::new(Positions), vec![map(5)]), @"`map of task `map`` must be a multiple of the encoder's 2 × 2 positions, but is 5 × 5");
    insta::assert_snapshot!(refuse(mlp(), vec![TaskSpec::new("rank", TaskKind::Ranking)]), @"`kind of task `rank`` must be one that a linear head can answer, but is Ranking");

    let model = MultiTask::new(mlp(), vec![digit(), TaskSpec::classification("parity", 2)]).unwrap();
    let params = model.init(Seed(0)).unwrap();
    assert!(model.is_shared("fc0.weight") && !model.is_shared("heads.digit.bias"));
    let run = |ctx: Context| model.forward(&params, &normal(1, &[2, 4]).into(), &ctx).unwrap_err();
    insta::assert_snapshot!(run(Context::eval()), @"`task of the context` must be one of digit, parity, but is absent");
    insta::assert_snapshot!(run(Context::eval().with_task(2)), @"`task of the context` must be in 0..2 (digit, parity), but is 2");
}
