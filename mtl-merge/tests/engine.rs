//! The engine on files: bytes, damage, and everything that must be refused.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use insta::assert_snapshot;
use mtl_core::{
    Seed,
    params::{Dtype, ParamFile, ParamView, write_params},
    registry::MethodInfo,
};
use mtl_merge::{
    Base, Engine, FloatType, MergeMethod, MethodSpec, Methods, Recipe, Resolved, Result, TensorGroup, Work,
};
use proptest::prelude::*;
use rand::RngExt;
use std::{fs, path::Path};

/// A folder of small checkpoints, and the text of errors without its path.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }

    fn write(&self, name: &str, tensors: &[ParamView<'_>]) -> &Self {
        write_params(self.path(name), &Default::default(), tensors).unwrap();
        self
    }

    fn vector(&self, name: &str, values: &[f32]) -> &Self {
        self.write(name, &[ParamView::f32("w", &[values.len()], values)])
    }

    /// Equal weights for the models called `names`.
    fn linear(&self, names: &[&str]) -> Recipe {
        names.iter().fold(Recipe::new("linear"), |r, name| r.model(self.path(name), 1.0))
    }

    /// Runs the recipe, expects an error and that no file came to be.
    fn refusal(&self, recipe: &Recipe) -> String {
        let before = fs::read_dir(self.0.path()).unwrap().count();
        let error = recipe.run(self.path("out").as_ref()).unwrap_err().to_string();
        assert_eq!(fs::read_dir(self.0.path()).unwrap().count(), before, "nothing is left behind");
        error.replace(&format!("{}/", self.0.path().display()), "")
    }

    fn run(&self, recipe: &Recipe) -> ParamFile {
        recipe.run(self.path("out").as_ref()).unwrap();
        ParamFile::open(self.path("out")).unwrap()
    }
}

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
    fs::remove_file(dir.path("out")).unwrap();
    assert_snapshot!(dir.refusal(&dir.linear(&["a", "b", "c"])), @"`step` holds I64, which can only be copied, but differs between `a` and `c`");
}

#[test]
fn values_that_are_not_finite_are_named() {
    let dir = Folder::new();
    dir.vector("a", &[1.0; 10])
        .vector("b", &[1.0, f32::NAN, 1.0, f32::INFINITY, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
    assert_snapshot!(dir.refusal(&dir.linear(&["a", "b"])), @"`w` in `b` has 2 NaN or infinite values, the first at element 1");
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
    assert_snapshot!(dir.refusal(&dir.linear(&["a", "nowhere"])), @"models[1]: cannot read `nowhere`: No such file or directory (os error 2)");
    assert!(dir.refusal(&dir.linear(&["junk", "a"])).starts_with("models[0]: `junk`: "));
    let ta = Recipe::new("task_arithmetic").base(dir.path("gone")).model(dir.path("a"), 1.0);
    assert!(dir.refusal(&ta).starts_with("base_model: cannot read `gone`"));
}

#[cfg(unix)]
#[test]
fn one_checkpoint_under_two_names_is_a_duplicate() {
    let dir = Folder::new();
    dir.vector("a", &[1.0]);
    std::os::unix::fs::symlink(dir.path("a"), dir.path("alias")).unwrap();
    assert_snapshot!(dir.refusal(&dir.linear(&["a", "alias"])), @"models[1] repeats models[0]: `a`");
    let ta = Recipe::new("task_arithmetic").base(dir.path("a")).model(dir.path("alias"), 1.0);
    assert_snapshot!(dir.refusal(&ta), @"models[0] repeats base_model: `a`");
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
    one("double", Dtype::F64, &1.0_f64.to_le_bytes());
    let dtype = |recipe: Recipe| dir.run(&recipe).info("w").unwrap().dtype;
    assert_eq!(dtype(dir.linear(&["half", "half2"])), Dtype::F16);
    assert_eq!(dtype(dir.linear(&["half", "brain"])), Dtype::F32);
    assert_eq!(dtype(dir.linear(&["half", "brain"]).out_dtype(FloatType::Bf16)), Dtype::Bf16);
    assert_eq!(dtype(dir.linear(&["double"]).out_dtype(FloatType::F32)), Dtype::F32);
    fs::remove_file(dir.path("out")).unwrap();
    assert_snapshot!(dir.refusal(&dir.linear(&["half", "double"])), @"`w` in `double` is F64, but merges compute in float32; set `out_dtype` to accept the rounding");
}

#[test]
fn a_failed_merge_leaves_the_old_file() {
    let dir = Folder::new();
    let many: Vec<f32> = vec![1.0; 1 << 19]; // Two pieces: the first is written before the second fails.
    let mut bad = many.clone();
    bad[(1 << 19) - 1] = f32::NAN;
    dir.vector("a", &many).vector("b", &bad);
    fs::write(dir.path("out"), b"old").unwrap();
    let engine = Engine::default().max_memory_mib(0).threads(1);
    engine.run(&dir.linear(&["a", "b"]), dir.path("out").as_ref()).unwrap_err();
    assert_eq!(fs::read(dir.path("out")).unwrap(), b"old");
    assert_eq!(fs::read_dir(dir.0.path()).unwrap().count(), 3, "no temporary file is left");
    let nowhere = dir.path("no/such/folder/out");
    let error = dir.linear(&["a"]).run(nowhere.as_ref()).unwrap_err().to_string();
    assert!(error.contains("no/such/folder"), "{error}");
}

#[test]
fn an_input_may_be_replaced_by_the_result() {
    let dir = Folder::new();
    dir.vector("a", &[1.0]).vector("b", &[3.0]);
    dir.linear(&["a", "b"]).run(dir.path("a").as_ref()).unwrap();
    assert_eq!(*ParamFile::open(dir.path("a")).unwrap().f32s("w").unwrap(), [2.0]);
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

/// Replaces elements at random, so that a wrong stream shows.
#[derive(Debug)]
struct Dropout;

impl MergeMethod for Dropout {
    fn spec(&self) -> &'static MethodSpec {
        static SPEC: MethodSpec = MethodSpec {
            info: MethodInfo { name: "dropout", paper: "none", source: "none" },
            base: Base::Unused,
            min_models: 1,
            max_models: None,
            work: Work::Elements,
            params: &[],
        };
        &SPEC
    }

    fn merge(&self, group: &TensorGroup<'_>, _params: &Resolved, out: &mut [f32]) -> Result<()> {
        let mut streams: Vec<_> = (0..group.models.len()).map(|m| group.rng("mask", m)).collect();
        for (i, out) in out.iter_mut().enumerate() {
            let kept = group
                .models
                .iter()
                .zip(&mut streams)
                .map(|(m, rng)| m[i] * f32::from(rng.random::<u32>() < 1 << 31));
            *out = kept.sum();
        }
        Ok(())
    }
}

#[test]
fn a_random_method_draws_one_stream_per_tensor_and_model_however_tensors_are_cut() {
    let dir = Folder::new();
    let n = (1 << 18) + 4321;
    dir.vector("a", &vec![1.0; n]);
    let recipe = Recipe::new("dropout").input(dir.path("a")).seed(Seed(5));
    let engine = Engine::default().methods(Methods::default().with(&Dropout));
    engine.run(&recipe, dir.path("out").as_ref()).unwrap();
    let mut stream = Seed(5).fork("w").stream("mask", 0);
    let expected: Vec<f32> = (0..n).map(|_| f32::from(stream.random::<u32>() < 1 << 31)).collect();
    assert!(*ParamFile::open(dir.path("out")).unwrap().f32s("w").unwrap() == expected[..]);
    assert!(expected.iter().sum::<f32>() > 0.49 * n as f32);
}

fn bytes(engine: &Engine, recipe: &Recipe, out: &Path) -> Vec<u8> {
    engine.run(recipe, out).unwrap();
    fs::read(out).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn bytes_do_not_depend_on_threads_or_memory(
        seed in 0_u64..1000, sizes in prop::collection::vec(0_usize..400_000, 1..5), threads in 2_usize..5, mib in 0_usize..3,
    ) {
        let dir = Folder::new();
        for (model, name) in ["a", "b", "c"].into_iter().enumerate() {
            let names: Vec<String> = (0..sizes.len()).map(|i| format!("layer.{i}")).collect();
            let values: Vec<Vec<f32>> = sizes.iter().enumerate().map(|(i, &n)| {
                let mut rng = Seed(seed).fork(&names[i]).stream("test", model as u64);
                (0..n).map(|_| rng.random::<f32>() - 0.5).collect()
            }).collect();
            let shapes: Vec<[usize; 1]> = sizes.iter().map(|&n| [n]).collect();
            let views: Vec<ParamView<'_>> = (0..sizes.len())
                .map(|i| ParamView::f32(&names[i], &shapes[i], &values[i])).collect();
            dir.write(name, &views);
        }
        let one = Engine::default().threads(1).methods(Methods::default().with(&Dropout));
        let many = one.clone().threads(threads).max_memory_mib(mib);
        let ta = Recipe::new("task_arithmetic").base(dir.path("a")).model(dir.path("b"), 0.3).model(dir.path("c"), 0.9);
        let random = Recipe::new("dropout").input(dir.path("a")).input(dir.path("b")).seed(Seed(seed));
        for recipe in [ta.out_dtype(FloatType::Bf16), random, dir.linear(&["a", "b", "c"])] {
            let (x, y) = (dir.path("one"), dir.path("many"));
            prop_assert!(bytes(&one, &recipe, x.as_ref()) == bytes(&many, &recipe, y.as_ref()));
        }
    }
}
