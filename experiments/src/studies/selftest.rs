//! A study of the runner itself: logistic regression in plain Rust, with faults on request.
use crate::runner::{Cell, CellContext, Claim, PairedTest, Report, Study};
use anyhow::{Context, ensure};
use mtl_bench::{Comparison, Results, metrics::Better};
use mtl_core::{Error, Record, Seed, files::write_atomic};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Write, fs, path::Path, process::Command, thread, time::Duration};

/// The study.
pub(super) struct SelfTest;

/// Keys of the cells that make data.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DataKeys {
    points: usize,
    dims: usize,
}

/// Keys of the cells that train.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainKeys {
    method: Method,
    lr: f64,
    steps: u64,
    checkpoint_every: u64,
    fault: Fault,
    sleep_ms: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Method {
    Sgd,
    Momentum,
}

/// What goes wrong half-way.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fault {
    None,
    Nan,
    Fail,
    Panic,
    Memory,
    Kill,
    Abort,
}

impl Study for SelfTest {
    fn name(&self) -> &'static str {
        "selftest"
    }

    fn about(&self) -> &'static str {
        "Logistic regression that exercises the runner, with faults on request."
    }

    fn revision(&self) -> u32 {
        1
    }

    fn grid(&self) -> &'static str {
        include_str!("../../studies/selftest.toml")
    }

    fn hidden(&self) -> bool {
        true
    }

    fn validate(&self, cell: &Cell) -> anyhow::Result<()> {
        let within = |name: &str, value: u64, max: u64| {
            let must = format!("between 1 and {max}");
            if (1..=max).contains(&value) { Ok(()) } else { Err(Error::config(name, must, value)) }
        };
        match cell.kind() {
            "data" => {
                let keys: DataKeys = cell.config()?;
                within("points", keys.points as u64, 1_000_000)?;
                within("dims", keys.dims as u64, 1000)?;
            }
            "train" => {
                let keys: TrainKeys = cell.config()?;
                within("steps", keys.steps, 1_000_000)?;
                within("checkpoint_every", keys.checkpoint_every, 1_000_000)?;
                if keys.lr.is_nan() || keys.lr <= 0.0 {
                    return Err(Error::config("lr", "positive", keys.lr).into());
                }
            }
            other => return Err(Error::unknown("kind", other, ["data", "train"]).into()),
        }
        Ok(())
    }

    fn run(&self, cell: &Cell, context: &mut CellContext) -> anyhow::Result<()> {
        match cell.kind() {
            "data" => make_data(cell, context),
            _ => train(cell, context),
        }
    }

    fn claims(&self, results: &Results) -> anyhow::Result<Vec<Claim>> {
        claims(results)
    }

    fn report(&self, records: &[Record], report: &mut Report) -> anyhow::Result<String> {
        let mut rows: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
        let last = records.iter().map(|record| record.step).max();
        for record in records.iter().filter(|r| r.metric == "accuracy" && Some(r.step) == last) {
            rows.entry((&record.method, &record.setting)).or_default().push(record.value);
        }
        let mut text = String::from("| method | setting | accuracy | seeds |\n|---|---|---|---|\n");
        for ((method, setting), values) in rows {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            writeln!(text, "| {method} | {setting} | {mean:.3} | {} |", values.len())?;
        }
        report.write("table.md", |file| file.write_all(text.as_bytes()))?;
        report.page("Self-test")?.save(&report.path("report.html"))?;
        Ok(text)
    }
}

/// Three claims: one that holds, one that does not, and one about what is not in the grid.
fn claims(results: &Results) -> anyhow::Result<Vec<Claim>> {
    let claim = |name: &str| Claim::new(name, "Made up for the self-test", "no paper");
    let at_rate = |lr: &str| results.last_step().setting(&format!("lr {lr}"));
    let test = |metric: &str, better| {
        let comparison = Comparison::new(metric, better);
        PairedTest::new(comparison).pair("momentum", "sgd").min_seeds(2)
    };
    Ok(vec![
        claim("momentum-helps")
            .statement("At a small learning rate, momentum lowers the loss after equally many steps.")
            .paired(&test("loss", Better::Lower), &at_rate("0.1"))?,
        claim("momentum-harms")
            .statement("At a small learning rate, momentum lowers the accuracy after equally many steps.")
            .paired(&test("accuracy", Better::Lower), &at_rate("0.1"))?,
        claim("nesterov-helps").statement("Nesterov's momentum lowers the loss further.").paired(
            &PairedTest::new(Comparison::new("loss", Better::Lower)).pair("nesterov", "momentum"),
            results,
        )?,
    ])
}

/// Points from two overlapping clouds, the label last, as an artifact that training cells read.
fn make_data(cell: &Cell, context: &mut CellContext) -> anyhow::Result<()> {
    let keys: DataKeys = cell.config()?;
    let mut rng = cell.seed().stream("points", 0);
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(keys.points);
    for i in 0..keys.points {
        let label = (i % 2) as f64;
        let mut row: Vec<f64> = (0..keys.dims).map(|_| rng.random::<f64>() + 0.2 * label).collect();
        row.push(label);
        rows.push(row);
    }
    let text = serde_json::to_string(&rows)?;
    write_atomic(&context.artifact("points.json")?, |file| file.write_all(text.as_bytes()))?;
    context.record(Record::new("points", keys.points as f64).method("data"))?;
    Ok(())
}

/// The whole state of training.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    step: u64,
    weights: Vec<f64>,
    velocity: Vec<f64>,
}

fn train(cell: &Cell, context: &mut CellContext) -> anyhow::Result<()> {
    let keys: TrainKeys = cell.config()?;
    let rows: Vec<Vec<f64>> = read_json(&context.need("data")?.join("points.json"))?;
    let width = rows.first().context("no points")?.len();
    ensure!(rows.iter().all(|row| row.len() == width), "points of different dimensions");
    let mut state = match context.load_checkpoint()? {
        Some(path) => read_json(&path)?,
        None => State { step: 0, weights: vec![0.0; width], velocity: vec![0.0; width] },
    };
    let name = format!("{:?}", keys.method).to_lowercase();
    while state.step < keys.steps {
        let loss = descend(&keys, cell.seed(), &rows, &mut state);
        if keys.fault != Fault::None && state.step * 2 >= keys.steps {
            break_down(keys.fault, &name, state.step)?;
        }
        state.step += 1;
        thread::sleep(Duration::from_millis(keys.sleep_ms));
        if state.step.is_multiple_of(keys.checkpoint_every)
            || state.step == keys.steps
            || context.stop_requested()
        {
            let at = |metric, value| {
                Record::new(metric, value).method(&*name).setting(format!("lr {}", keys.lr)).step(state.step)
            };
            if state.step.is_multiple_of(keys.checkpoint_every) || state.step == keys.steps {
                context.record(at("loss", loss))?;
                context.record(at("accuracy", accuracy(&rows, &state.weights)))?;
            }
            let text = serde_json::to_string(&state)?;
            context.save_checkpoint(&mut |file| file.write_all(text.as_bytes()))?;
            context.check_stop()?;
        }
        context.progress(state.step, keys.steps);
    }
    Ok(())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("`{}` is damaged", path.display()))
}

/// One step on a batch of 16; returns its mean loss.
fn descend(keys: &TrainKeys, seed: Seed, rows: &[Vec<f64>], state: &mut State) -> f64 {
    let mut rng = seed.stream("batch", state.step);
    let mut gradient = vec![0.0; state.weights.len()];
    let mut loss = 0.0;
    for _ in 0..16 {
        let row = &rows[rng.random_range(0..rows.len())];
        let (probability, label) = (predict(row, &state.weights), row[row.len() - 1]);
        loss -= (label * probability + (1.0 - label) * (1.0 - probability)).ln() / 16.0;
        for (i, g) in gradient.iter_mut().enumerate() {
            *g += (probability - label) * feature(row, i) / 16.0;
        }
    }
    let momentum = match keys.method {
        Method::Sgd => 0.0,
        Method::Momentum => 0.9,
    };
    for ((weight, velocity), g) in state.weights.iter_mut().zip(&mut state.velocity).zip(gradient) {
        *velocity = momentum * *velocity + g;
        *weight -= keys.lr * *velocity;
    }
    loss
}

/// The label's place serves the bias.
fn feature(row: &[f64], i: usize) -> f64 {
    if i + 1 == row.len() { 1.0 } else { row[i] }
}

fn predict(row: &[f64], weights: &[f64]) -> f64 {
    let logit: f64 = weights.iter().enumerate().map(|(i, weight)| weight * feature(row, i)).sum();
    1.0 / (1.0 + (-logit).exp())
}

fn accuracy(rows: &[Vec<f64>], weights: &[f64]) -> f64 {
    let right = rows.iter().filter(|row| (predict(row, weights) > 0.5) == (row[row.len() - 1] > 0.5));
    right.count() as f64 / rows.len() as f64
}

#[allow(clippy::panic)] // On request.
fn break_down(fault: Fault, task: &str, step: u64) -> anyhow::Result<()> {
    match fault {
        Fault::None => {}
        Fault::Nan => {
            return Err(Error::Diverged { what: "loss", task: task.to_owned(), step, param: None }.into());
        }
        Fault::Fail => return Err(Error::config("fault", "`none` for success", "fail").into()),
        Fault::Panic => panic!("panicked on request at step {step}"),
        Fault::Memory => {
            let what = "a tensor of shape [1048576, 1048576]".to_owned();
            return Err(Error::Memory { what, needed_mib: 4 << 20, available_mib: 1 << 10 }.into());
        }
        Fault::Kill => {
            Command::new("kill").args(["-9", &std::process::id().to_string()]).status()?;
            thread::sleep(Duration::from_secs(5)); // Death is on its way.
        }
        Fault::Abort => std::process::abort(),
    }
    Ok(())
}
