//! Task arithmetic from files to a file; divan reports bytes read and written per second.
//!
//! `cargo bench -p mtl-merge`; inputs are in the page cache after the first round.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use divan::{Bencher, counter::BytesCount};
use mtl_core::{
    Seed,
    params::{Dtype, ParamSpec, ParamWriter},
};
use mtl_merge::{Engine, Recipe};
use rand::RngExt;
use std::path::Path;

const TENSORS: usize = 16;
const MIB_PER_MODEL: usize = 64;

fn main() {
    divan::main();
}

fn checkpoint(path: &Path, dtype: Dtype, stream: u64) {
    let n = (MIB_PER_MODEL << 20) / TENSORS / dtype.size();
    let plan: Vec<ParamSpec> =
        (0..TENSORS).map(|i| ParamSpec::new(format!("layer.{i:02}.weight"), dtype, [n])).collect();
    let mut rng = Seed(0).stream("bench", stream);
    let mut writer = ParamWriter::create(path, &plan, &Default::default()).unwrap();
    for spec in &plan {
        let values: Vec<f32> = (0..n).map(|_| rng.random::<f32>() - 0.5).collect();
        writer.write_f32s(&spec.name, &values).unwrap();
    }
    writer.finish().unwrap();
}

fn run(bencher: Bencher<'_, '_>, method: &str, models: usize, dtype: Dtype) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: String| dir.path().join(name);
    let mut recipe = Recipe::new(method);
    if method == "task_arithmetic" {
        checkpoint(&path("base".into()), dtype, 0);
        recipe = recipe.base(path("base".into()).to_string_lossy());
    }
    for model in 1..=models {
        let file = path(format!("model{model}"));
        checkpoint(&file, dtype, model as u64);
        recipe = recipe.model(file.to_string_lossy(), 0.3);
    }
    let out = path("merged.safetensors".into());
    let report = Engine::default().run(&recipe, &out).unwrap();
    bencher
        .counter(BytesCount::new(report.bytes_read + report.bytes_written))
        .bench_local(|| Engine::default().run(&recipe, &out).unwrap());
}

#[divan::bench(args = [1, 3, 8], sample_count = 5)]
fn task_arithmetic_f32(bencher: Bencher<'_, '_>, models: usize) {
    run(bencher, "task_arithmetic", models, Dtype::F32);
}

#[divan::bench(args = [3], sample_count = 5)]
fn task_arithmetic_bf16(bencher: Bencher<'_, '_>, models: usize) {
    run(bencher, "task_arithmetic", models, Dtype::Bf16);
}

#[divan::bench(args = [3], sample_count = 5)]
fn linear_f32(bencher: Bencher<'_, '_>, models: usize) {
    run(bencher, "linear", models, Dtype::F32);
}
