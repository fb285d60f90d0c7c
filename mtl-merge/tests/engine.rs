//! The engine on files: bytes, and what must be refused.
#![allow(clippy::expect_used, clippy::unwrap_used)]
mod common;
use common::{Folder, engine};
use insta::assert_snapshot;
use mtl_core::{
    Seed,
    params::{Dtype, ParamFile, ParamStore, ParamView},
};
use mtl_merge::{Engine, FloatType, Recipe};
use proptest::prelude::*;
use rand::RngExt;
use std::fs;

#[test]
fn files_that_do_not_fit_are_reported_together() {
    let dir = Folder::new();
    let ids = |values: &'static [u8]| ParamView::new("ids", Dtype::U8, &[2], values);
    let w = [0.0_f32; 6];
    dir.write("a", &[ParamView::f32("w", &[2, 3], &w), ids(&[1, 2]), ParamView::f32("only", &[1], &[0.0])]);
    dir.write("b", &[ParamView::f32("w", &[3, 2], &w), ParamView::f32("ids", &[2], &[1.0, 2.0])]);
    assert_snapshot!(dir.refusal(&dir.linear(&["a", "b"])), @"the checkpoints do not fit together: `ids` is F32 in `b`, but U8 in `a`; `only` of `a` is missing from `b`; `w` has shape [3, 2] in `b`, but [2, 3] in `a`");
}

#[test]
fn integers_are_copied_when_equal_and_refused_when_not() {
    let dir = Folder::new();
    let checkpoint = |name, step: &[u8], w| {
        let bytes = [step, &[0; 7]].concat();
        dir.write(name, &[ParamView::f32("w", &[1], &[w]), ParamView::new("step", Dtype::I64, &[], &bytes)]);
    };
    checkpoint("a", &[7], 1.0);
    checkpoint("b", &[7], 2.0);
    checkpoint("c", &[8], 3.0);
    let out = dir.run(&dir.linear(&["a", "b"]));
    assert_eq!(out.bytes("step").unwrap(), [7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(*out.f32s("w").unwrap(), [1.5]);
    drop(out);
    fs::remove_file(dir.path("out.safetensors")).unwrap();
    assert_snapshot!(dir.refusal(&dir.linear(&["a", "b", "c"])), @"`step` holds I64, which can only be copied, but differs between `a` and `c`");
}

#[test]
fn values_that_are_not_finite_are_named() {
    let dir = Folder::new();
    dir.vector("a", &[1.0; 10])
        .vector("b", &[1.0, f32::NAN, 1.0, f32::INFINITY, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    let both = dir.linear(&["a", "b"]);
    assert_snapshot!(dir.refusal(&both), @"`w` in `b` has 2 NaN or infinite values, the first at element 1");
    Engine::default().allow_non_finite(true).run(&both, dir.path("out.safetensors").as_ref()).unwrap();
    let out = ParamFile::open(dir.path("out.safetensors")).unwrap();
    let values = out.f32s("w").unwrap().into_owned();
    assert!(values[1].is_nan() && values[3] == f32::INFINITY && values[4] == 1.0, "{values:?}");
    fs::remove_file(dir.path("out.safetensors")).unwrap();
    dir.vector("big", &[1.0, 7e4]).vector("one", &[1.0, 1.0]);
    let half = Recipe::new("linear").model(dir.path("big"), 1.0).out_dtype(FloatType::F16);
    assert_snapshot!(dir.refusal(&half), @"merged `w` overflows float16 at element 1; choose a wider `out_dtype` or smaller weights");
    let huge = Recipe::new("linear").model(dir.path("big"), 1e38).parameter("normalize", false);
    assert_snapshot!(dir.refusal(&huge), @"merged `w` overflows float32 at element 1; choose a wider `out_dtype` or smaller weights");
    let edge = half.model(dir.path("one"), 2.0); // 70000/3 + 2/3 fits again.
    assert_eq!(dir.run(&edge).f32s("w").unwrap()[1], 23328.0);
}

#[test]
fn a_missing_or_damaged_checkpoint_is_named_with_its_place_in_the_recipe() {
    let dir = Folder::new();
    dir.vector("a", &[1.0]);
    fs::write(dir.path("junk"), b"hello").unwrap();
    assert_snapshot!(dir.refusal(&dir.linear(&["a", "nowhere"])), @"models[1]: `nowhere` is not on this machine; looked for `nowhere`; nothing is downloaded");
    assert!(dir.refusal(&dir.linear(&["junk", "a"])).starts_with("models[0]: `junk`: "));
    let ta = Recipe::new("task_arithmetic").base(dir.path("gone")).model(dir.path("a"), 1.0);
    assert!(dir.refusal(&ta).starts_with("base_model: `gone` is not on this machine"));
}

#[cfg(unix)]
#[test]
fn one_checkpoint_under_two_names_is_a_duplicate() {
    let dir = Folder::new();
    dir.vector("a", &[1.0]);
    std::os::unix::fs::symlink(dir.path("a"), dir.path("alias")).unwrap();
    assert_snapshot!(dir.refusal(&dir.linear(&["a", "alias"])), @"models[1] repeats models[0]: `alias`");
    let ta = Recipe::new("task_arithmetic").base(dir.path("a")).model(dir.path("alias"), 1.0);
    assert_snapshot!(dir.refusal(&ta), @"models[0] repeats base_model: `alias`");
}

#[test]
fn the_output_type_is_the_narrowest_that_holds_the_inputs() {
    let dir = Folder::new();
    let one = |name, dtype, bytes: &[u8]| {
        dir.write(name, &[ParamView::new("w", dtype, &[1], bytes)]);
    };
    one("half", Dtype::F16, &[0x00, 0x3c]);
    one("half2", Dtype::F16, &[0x00, 0x3c]);
    one("brain", Dtype::Bf16, &[0x80, 0x3f]);
    one("double", Dtype::F64, &(1.0 + 2_f64.powi(-50)).to_le_bytes());
    one("small", Dtype::F8E4M3, &[0x38]);
    one("wide", Dtype::F8E5M2, &[0x3c]);
    let dtype = |recipe: Recipe| dir.run(&recipe).info("w").unwrap().dtype;
    assert_eq!(dtype(dir.linear(&["half", "half2"])), Dtype::F16);
    assert_eq!(dtype(dir.linear(&["half", "brain"])), Dtype::F32);
    assert_eq!(dtype(dir.linear(&["half", "brain"]).out_dtype(FloatType::Bf16)), Dtype::Bf16);
    assert_eq!(dtype(dir.linear(&["double"]).out_dtype(FloatType::F32)), Dtype::F32);
    assert_eq!(dtype(dir.linear(&["half", "double"])), Dtype::F64);
    let float8 = dir.run(&dir.linear(&["small", "half"]));
    assert_eq!((float8.info("w").unwrap().dtype, float8.f32s("w").unwrap()[0]), (Dtype::F16, 1.0));
    let float8 = dir.run(&dir.linear(&["wide"]));
    assert_eq!((float8.info("w").unwrap().dtype, float8.f32s("w").unwrap()[0]), (Dtype::Bf16, 1.0));
    let exact = dir.run(&dir.linear(&["double"]));
    assert_eq!(exact.bytes("w").unwrap(), (1.0 + 2_f64.powi(-50)).to_le_bytes());
}

#[test]
fn a_failed_merge_leaves_the_old_file() {
    let dir = Folder::new();
    let many: Vec<f32> = vec![1.0; 1 << 19]; // Two blocks: the first is written before the second fails.
    let mut bad = many.clone();
    bad[(1 << 19) - 1] = f32::NAN;
    dir.vector("a", &many).vector("b", &bad);
    fs::write(dir.path("out.safetensors"), b"old").unwrap();
    let engine = Engine::default().threads(1);
    engine.run(&dir.linear(&["a", "b"]), dir.path("out.safetensors").as_ref()).unwrap_err();
    assert_eq!(fs::read(dir.path("out.safetensors")).unwrap(), b"old");
    assert_eq!(dir.names(""), ["a", "b", "out.safetensors"], "no temporary file is left");
    let nowhere = dir.path("no/such/folder/out.safetensors");
    let error = dir.linear(&["a"]).run(nowhere.as_ref()).unwrap_err().to_string();
    assert!(error.contains("no/such/folder"), "{error}");
}

#[test]
fn an_input_is_not_replaced_by_the_result() {
    let dir = Folder::new();
    dir.vector("a.safetensors", &[1.0]).vector("b.safetensors", &[3.0]);
    let recipe = dir.linear(&["a.safetensors", "b.safetensors"]);
    let error = recipe.run(dir.path("a.safetensors").as_ref()).unwrap_err().to_string();
    assert!(error.contains("is, holds or lies in the input"), "{error}");
    assert_eq!(*ParamFile::open(dir.path("a.safetensors")).unwrap().f32s("w").unwrap(), [1.0]);
}

#[test]
fn empty_and_scalar_tensors_come_through() {
    let dir = Folder::new();
    for name in ["a", "b"] {
        dir.write(name, &[ParamView::f32("empty", &[0, 3], &[]), ParamView::f32("scalar", &[], &[2.0])]);
    }
    let out = dir.run(&dir.linear(&["a", "b"]));
    assert_eq!(out.info("empty").unwrap().shape, [0, 3]);
    assert_eq!(*out.f32s("scalar").unwrap(), [2.0]);
}

#[test]
fn memory_inputs_must_be_those_of_the_recipe() {
    let map = mtl_merge::TensorMap::new();
    let recipe = Recipe::new("task_arithmetic").base("p").model("a", 1.0);
    assert_snapshot!(recipe.run_in_memory(None, &[&map, &map]).unwrap_err(), @"the recipe has 1 model and a base, but 2 models and no base in memory");
}

#[test]
fn a_random_method_draws_one_stream_per_tensor_and_model_however_tensors_are_cut() {
    let dir = Folder::new();
    let n = (1 << 18) + 4321;
    dir.vector("a", &vec![1.0; n]).write("b", &[ParamView::f32("v", &[n], &vec![1.0; n])]);
    let merged = |recipe: Recipe, name: &str| {
        let out = dir.path("out.safetensors");
        engine().run(&recipe.seed(Seed(5)), out.as_ref()).unwrap();
        ParamFile::open(out).unwrap().f32s(name).unwrap().into_owned()
    };
    let one = merged(Recipe::new("dropout").input(dir.path("a")), "w");
    assert!((one.iter().sum::<f32>() / n as f32 - 0.5).abs() < 0.01);
    // The same values draw otherwise under another name and as another model.
    let other = merged(Recipe::new("dropout").input(dir.path("b")), "v");
    let agree = |a: &[f32], b: &[f32]| a.iter().zip(b).filter(|(a, b)| a == b).count() as f32 / n as f32;
    assert!((agree(&one, &other) - 0.5).abs() < 0.01);
    dir.vector("zero", &vec![0.0; n]);
    let second = merged(Recipe::new("dropout").input(dir.path("zero")).input(dir.path("a")), "w");
    assert!((agree(&one, &second) - 0.5).abs() < 0.01);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2))]
    #[test]
    fn bytes_do_not_depend_on_threads_memory_or_shards(
        seed in 0_u64..1000, sizes in prop::collection::vec(0_usize..300_000, 2..4), mib in 1_usize..3,
    ) {
        let dir = Folder::new();
        let names: Vec<String> = (0..sizes.len()).map(|i| format!("layer.{i}")).collect();
        for (model, name) in ["a", "b", "c"].into_iter().enumerate() {
            let values: Vec<Vec<f32>> = sizes.iter().enumerate().map(|(i, &n)| {
                let mut rng = Seed(seed).fork(&names[i]).stream("test", model as u64);
                (0..n).map(|_| rng.random::<f32>() - 0.5).collect()
            }).collect();
            let shapes: Vec<[usize; 1]> = sizes.iter().map(|&n| [n]).collect();
            let views: Vec<ParamView<'_>> = (0..sizes.len())
                .map(|i| ParamView::f32(&names[i], &shapes[i], &values[i])).collect();
            dir.write(name, &views);
        }
        let ta = Recipe::new("task_arithmetic").base(dir.path("a")).model(dir.path("b"), 0.3).model(dir.path("c"), 0.9);
        let random = Recipe::new("dropout").input(dir.path("a")).input(dir.path("b")).seed(Seed(seed));
        for (i, recipe) in [ta.out_dtype(FloatType::Bf16), random, dir.linear(&["a", "b", "c"])].iter().enumerate() {
            let first = format!("{i}/first/out");
            let run = |name: &str, threads, shard_bytes| {
                let engine = engine().threads(threads).max_memory_mib(mib).shard_bytes(shard_bytes);
                engine.run(recipe, dir.path(name).as_ref()).unwrap()
            };
            run(&first, 1, 0);
            let whole = ParamStore::open(dir.path(&first)).unwrap();
            for (threads, shard_bytes) in [(2, 0), (5, 0), (1, 1), (5, 1_000_000)] {
                let name = format!("{i}/{threads}-{shard_bytes}/out");
                run(&name, threads, shard_bytes);
                if shard_bytes == 0 {
                    prop_assert!(dir.content(&first) == dir.content(&name));
                }
                let store = ParamStore::open(dir.path(&name)).unwrap();
                for tensor in &names {
                    prop_assert!(whole.bytes(tensor).unwrap() == store.bytes(tensor).unwrap());
                }
            }
        }
    }
}
