//! Cost of a whole training step with gradient balancing, as a multiple of K plain backward passes.
//!
//! The networks of `1M` and `10M` are those of `bench_balancing.py`: a trunk of linear layers with ReLU and K linear heads,
//! batch 128, one thread, processor time; `conv-1M` and so on have a convolutional trunk or a vision transformer on 32 × 32
//! images. Methods take turns inside each repetition. A step here is everything `Joint::observe` does: forward pass, checks of
//! losses and gradients, balancing, plain gradient descent; the row `update` is that last part alone. Prints one JSON object
//! per row.
//!
//! `cargo bench -p mtl-core --bench balancing -- [--sizes 1M,10M,conv-1M,conv-10M,vit-1M,vit-10M] [--tasks 3,8] [--reps 15]
//! [--only mgda]`
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)] // A bench that cannot run may stop.
use mtl_core::{
    Batch, Context, Encoder, Input, Learner, Model, MultiTaskModel, Seed, StateDict, TaskSpec,
    learner::Step,
    loss,
    models::{CnnConfig, CnnPooling, Mlp, MultiTask, VitConfig},
    optim::{OPTIMIZERS, Optimizer, Schedule},
    registry::Registry,
    rng,
    train::{GramRoute, Joint, JointConfig, Method},
};
use std::{collections::BTreeMap, fs, sync::Arc};
use tch::{Kind, Tensor};

const BATCH: i64 = 128;
const CLASSES: i64 = 10;
const BALANCERS: [&str; 8] =
    ["pcgrad", "mgda", "cagrad", "nash_mtl", "fairgrad", "imtl_g", "aligned_mtl", "upgrad"];

fn main() {
    mtl_core::set_threads(1).unwrap();
    let words: Vec<String> = std::env::args().collect();
    let option = |name: &str, default: &str| {
        let at = words.iter().position(|word| word == name);
        at.and_then(|at| words.get(at + 1)).map_or(default.to_owned(), Clone::clone)
    };
    let reps: usize = option("--reps", "15").parse().unwrap();
    for size in option("--sizes", "1M,10M").split(',') {
        for tasks in option("--tasks", "3,8").split(',') {
            measure(size, tasks.parse().unwrap(), reps, &option("--only", ""));
        }
    }
}

/// Nanoseconds of processor time of this thread.
fn cpu() -> f64 {
    // The system brings the number up to date when it schedules, otherwise only at its ticks.
    std::thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// Resident memory in MiB: now, and at most since the last reset.
fn memory() -> (f64, f64) {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    };
    (field("VmRSS:"), field("VmHWM:"))
}

fn reset_peak() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

struct Setting {
    model: Arc<MultiTask>,
    params: StateDict,
    batches: Vec<Batch>,
}

impl Setting {
    fn new(size: &str, tasks: usize) -> Self {
        let images = CnnConfig::default().image(3, 32, 32).pooling(CnnPooling::Mean);
        let patches = VitConfig::default().image(3, 32, 4);
        let (trunk, shape): (Arc<dyn Encoder>, &[i64]) = match size {
            "1M" => (Arc::new(Mlp::new(&[256, 672, 672, 512]).unwrap()), &[256]),
            "10M" => (Arc::new(Mlp::new(&[512, 2176, 2176, 1792]).unwrap()), &[512]),
            "conv-1M" => (Arc::new(images.widths(&[64, 128, 256, 256]).build().unwrap()), &[3, 32, 32]),
            "conv-10M" => {
                (Arc::new(images.widths(&[128, 256, 512, 1024, 400]).build().unwrap()), &[3, 32, 32])
            }
            "vit-1M" => (Arc::new(patches.size(128, 5, 4).build().unwrap()), &[3, 32, 32]),
            "vit-10M" => (Arc::new(patches.size(384, 6, 6).build().unwrap()), &[3, 32, 32]),
            other => panic!("unknown size {other}; 1M, 10M, conv-1M, conv-10M, vit-1M or vit-10M"),
        };
        let specs = (0..tasks).map(|k| TaskSpec::classification(format!("task{k}"), CLASSES)).collect();
        let model = Arc::new(MultiTask::new(trunk, specs).unwrap());
        let x = rng::normal(&mut Seed(0).stream("x", 0), &[&[BATCH], shape].concat(), 1.0);
        let input = || Input::from(x.shallow_clone());
        let labels = |task: i64| {
            (Tensor::arange(BATCH, (Kind::Int64, tch::Device::Cpu)) * (2 * task + 1) + task)
                .remainder(CLASSES)
        };
        let batch = |task: usize| Batch { task, input: input(), target: labels(task as i64) };
        let params = model.init(Seed(0)).unwrap();
        Self { model, params, batches: (0..tasks).map(batch).collect() }
    }

    fn joint(&self, balancer: &str, route: GramRoute) -> Joint {
        let config = JointConfig::default()
            .optimizer(Method::new("sgd"))
            .schedule(Schedule::constant(1e-4))
            .balancer(Method::new(balancer))
            .gram(route);
        Joint::new(self.model.clone(), self.params.trainable(), config).unwrap()
    }

    /// One forward pass, and a backward pass for each task whose gradients are dropped.
    fn plain(&self, params: &StateDict) {
        let ctx = Context::train(Seed(0), 0);
        let outputs = self.model.forward_all(params, &self.batches[0].input, &ctx).unwrap();
        let count = outputs.len();
        for (i, ((output, batch), spec)) in
            outputs.iter().zip(&self.batches).zip(self.model.tasks()).enumerate()
        {
            let loss = loss::task_loss_unchecked(spec, output, &batch.target).unwrap();
            params.gradients(&loss, i + 1 < count).unwrap();
        }
    }
}

/// A step by its number.
type TimedStep<'a> = Box<dyn FnMut(u64) + 'a>;

fn measure(size: &str, tasks: usize, reps: usize, only: &str) {
    let setting = Setting::new(size, tasks);
    let shared: usize =
        setting.params.iter().filter(|(name, _)| setting.model.is_shared(name)).map(|(_, t)| t.numel()).sum();
    let trainable = setting.params.trainable();
    let mut updated = setting.params.trainable();
    let direction = setting.params.snapshot();
    let mut sgd: Box<dyn Optimizer> =
        Registry::new(OPTIMIZERS).build("sgd", Method::new("sgd").config).unwrap();
    let mut steps: Vec<(String, TimedStep<'_>)> = vec![
        ("k_backward".to_owned(), Box::new(|_| setting.plain(&trainable))),
        ("update".to_owned(), Box::new(|_| sgd.step(&mut updated, &direction, 1e-9).unwrap())),
    ];
    let mut add = |name: String, balancer: &str, route: GramRoute| {
        if !name.contains(only) {
            return;
        }
        let mut joint = setting.joint(balancer, route);
        let batches = &setting.batches;
        let step = move |index| {
            joint.observe(batches, Step { index, seed: Seed(0) }).unwrap();
        };
        steps.push((name, Box::new(step)));
    };
    add("equal".to_owned(), "equal", GramRoute::Auto);
    for balancer in BALANCERS {
        add(format!("{balancer} (auto)"), balancer, GramRoute::Auto);
        add(format!("{balancer} (gradients)"), balancer, GramRoute::Gradients);
    }
    let mut times: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    let mut extra: BTreeMap<usize, f64> = BTreeMap::new();
    for rep in 0..reps + 2 {
        for (i, (_, step)) in steps.iter_mut().enumerate() {
            reset_peak();
            let (before, _) = memory();
            let start = cpu();
            step(rep as u64);
            let spent = (cpu() - start) / 1e6;
            if rep >= 2 {
                times.entry(i).or_default().push(spent);
                let grown = memory().1 - before;
                extra.entry(i).and_modify(|most| *most = most.max(grown)).or_insert(grown);
            }
        }
    }
    let median = |i: usize| {
        let mut sorted = times[&i].clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let params_mib = shared as f64 * 4.0 / 1024.0 / 1024.0;
    for (i, (name, _)) in steps.iter().enumerate() {
        println!(
            "{{\"size\": \"{size}\", \"tasks\": {tasks}, \"method\": \"{name}\", \"ms\": {:.2}, \"x_k_backward\": {:.3}, \
             \"peak_mib\": {:.0}, \"peak_x_params\": {:.2}}}",
            median(i),
            median(i) / median(0),
            extra[&i],
            extra[&i] / params_mib,
        );
    }
}
