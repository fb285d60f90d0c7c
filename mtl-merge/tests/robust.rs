//! Damaged and hostile inputs, places that cannot be written, and inputs that change under way.
#![allow(clippy::expect_used, clippy::unwrap_used)]
mod common;
use common::Folder;
use insta::assert_snapshot;
use mtl_core::params::{Dtype, ParamStore, ParamView, guard_mapped_files};
use mtl_merge::{
    Engine, Error, Kernel, MergeMethod, MethodSpec, Methods, Progress, Recipe, Resolved, Result, Tensor,
};
use std::{env, fs, path::Path, process::Command, sync::Arc};

/// A safetensors file from its header and data.
fn raw(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// A plain copy that calls back before each tensor.
struct Hooked(Box<dyn Fn(&str) + Send + Sync>);

impl std::fmt::Debug for Hooked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooked")
    }
}

static HOOKED: MethodSpec = MethodSpec::new("hooked", "none", "none");

impl MergeMethod for Hooked {
    fn spec(&self) -> &'static MethodSpec {
        &HOOKED
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, _params: &'t Resolved) -> Result<Kernel<'t>> {
        (self.0)(tensor.name());
        Ok(Box::new(|piece, out| out.copy_from_slice(piece.models[0])))
    }
}

/// An engine with one thread and the method `hooked`.
fn hooked(hook: impl Fn(&str) + Send + Sync + 'static) -> Engine {
    let method: &'static Hooked = Box::leak(Box::new(Hooked(Box::new(hook))));
    Engine::default().threads(1).methods(Methods::default().with(method))
}

#[test]
fn damaged_files_are_refused_whole() {
    let dir = Folder::new();
    dir.vector("good", &[1.0; 8]);
    let whole = fs::read(dir.path("good")).unwrap();
    let one = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    let cases = [
        ("truncated", whole[..whole.len() - 3].to_vec()),
        ("long-header", [&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
        ("header-beyond-end", [&100_u64.to_le_bytes()[..], b"{}"].concat()),
        (
            "overlap",
            raw(&format!(r#"{{{one},"b":{{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}}}"#), &[0; 12]),
        ),
        ("twice", raw(&format!("{{{one},{one}}}"), &[0; 8])),
        ("unknown-type", raw(r#"{"a":{"dtype":"F6_E3M2","shape":[2],"data_offsets":[0,2]}}"#, &[0; 2])),
        (
            "huge",
            raw(
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]}}"#,
                &[0; 8],
            ),
        ),
    ];
    for (name, bytes) in cases {
        fs::write(dir.path(name), bytes).unwrap();
        let error = dir.refusal(&dir.linear(&["good", name]));
        assert!(error.starts_with(&format!("models[1]: `{name}`: ")), "{error}");
        assert!(error.len() < 300, "{error}");
    }
}

#[test]
fn indices_that_lie_or_lead_outside_are_refused() {
    let dir = Folder::new();
    dir.vector("secret.safetensors", &[1.0]).vector("m/one.safetensors", &[1.0]);
    dir.write("m/two.safetensors", &[ParamView::f32("v", &[1], &[1.0])]);
    dir.vector("m/again.safetensors", &[1.0]);
    let absolute = dir.path("secret.safetensors");
    let mut errors = Vec::new();
    for map in [
        r#""w": "gone.safetensors""#,
        r#""w": "one.safetensors", "x": "one.safetensors""#,
        r#""w": "one.safetensors", "v": "again.safetensors""#,
        r#""w": "../secret.safetensors""#,
        &format!(r#""w": "{absolute}""#),
        r#""w": "pytorch_model.bin""#,
    ] {
        let text = format!(r#"{{"metadata": {{}}, "weight_map": {{{map}}}}}"#);
        dir.text("m/model.safetensors.index.json", &text);
        errors.push(dir.refusal(&dir.linear(&["m"])));
    }
    assert_snapshot!(errors.join("\n"), @r##"
        models[0]: `m/model.safetensors.index.json`: shard `gone.safetensors` is missing; fetch it into the same directory
        models[0]: `m/model.safetensors.index.json`: tensor `x` is not in shard `one.safetensors`, where the index puts it
        models[0]: `m/model.safetensors.index.json`: tensor `w` is in shard `again.safetensors`, but the index puts it in `one.safetensors`
        models[0]: `m/model.safetensors.index.json`: shard "../secret.safetensors" of `w` is not a plain file name; shards must lie beside their index
        models[0]: `m/model.safetensors.index.json`: shard "secret.safetensors" of `w` is not a plain file name; shards must lie beside their index
        models[0]: `m/model.safetensors.index.json`: shard "pytorch_model.bin" of `w` is a PyTorch pickle; expected a `.safetensors` file
        "##);
}

#[cfg(unix)]
#[test]
fn links_in_a_circle_or_out_of_the_checkpoint_are_refused() {
    use std::os::unix::fs::symlink;
    let dir = Folder::new();
    symlink(dir.path("y"), dir.path("x")).unwrap();
    symlink(dir.path("x"), dir.path("y")).unwrap();
    assert!(dir.refusal(&dir.linear(&["x"])).starts_with("models[0]: cannot read `x`"));
    dir.vector("m/model.safetensors", &[1.0]);
    symlink(dir.path("x"), dir.path("m/config.json")).unwrap();
    assert!(dir.refusal(&dir.linear(&["m"])).starts_with("models[0]: cannot read `m/config.json`"));
    dir.vector("secret.safetensors", &[1.0]);
    fs::create_dir(dir.path("n")).unwrap();
    symlink(dir.path("secret.safetensors"), dir.path("n/s.safetensors")).unwrap();
    dir.text("n/model.safetensors.index.json", r#"{"weight_map": {"w": "s.safetensors"}}"#);
    let error = dir.refusal(&dir.linear(&["n"]));
    assert!(error.contains("outside of the checkpoint"), "{error}");
}

#[test]
fn quantised_and_mixed_checkpoints_are_refused() {
    let dir = Folder::new();
    for (name, scale) in [("a", 1), ("b", 2)] {
        dir.write(name, &[ParamView::new("w.qweight", Dtype::I8, &[2], &[scale, 3])]);
    }
    assert_snapshot!(dir.refusal(&dir.linear(&["a", "b"])), @"`w.qweight` holds I8, which can only be copied, but differs between `a` and `b`");
    dir.model("q", 1, 4, r#"{"quantization_config": {"quant_method": "fp8"}}"#);
    assert_snapshot!(dir.refusal(&dir.linear(&["q"])), @"`q` is quantised (fp8), so its stored numbers are no weights; merge the original model and quantise the result");
    dir.model("llama", 1, 4, r#"{"architectures": ["LlamaForCausalLM"]}"#);
    dir.model("mistral", 1, 4, r#"{"architectures": ["MistralForCausalLM"]}"#);
    let mixed = dir.linear(&["llama", "mistral"]);
    assert_snapshot!(dir.refusal(&mixed), @"`llama` is of architecture LlamaForCausalLM, but `mistral` of MistralForCausalLM; merge models of one architecture, or accept the mixture with `--allow-crimes`");
    let report = Engine::default().allow_crimes(true).run(&mixed, dir.path("out").as_ref()).unwrap();
    assert!(report.warnings[0].contains("MistralForCausalLM"), "{:?}", report.warnings);
}

#[test]
fn a_configuration_that_is_none_is_named() {
    let dir = Folder::new();
    let deep = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    for config in ["[]", "{", "\u{feff}{}", &deep] {
        dir.model("m", 1, 4, config);
        let error = dir.refusal(&dir.linear(&["m"]));
        assert!(error.starts_with("models[0]: `m/config.json`: is no model configuration"), "{error}");
    }
}

#[test]
fn the_output_stays_away_from_inputs_and_from_the_work_of_others() {
    let dir = Folder::new();
    dir.model("a", 1, 4, "{}").model("models/b", 1, 4, "{}").model("other", 1, 4, "{}");
    let recipe = dir.linear(&["a", "models/b"]);
    let engine = Engine::default().overwrite(true);
    for out in
        ["a", "a/out", "a/out.safetensors", "a/model.safetensors", "models", "models/b/../b", "models/../a"]
    {
        let error = engine.run(&recipe, dir.path(out).as_ref()).unwrap_err();
        assert!(matches!(error, Error::OutputOverInput { .. }), "{out}: {error}");
    }
    assert_snapshot!(dir.local(&engine.run(&recipe, dir.path("a/x").as_ref()).unwrap_err().to_string()), @"the output `a/x` is, holds or lies in the input `a`; choose a place outside of the inputs");
    let refuse = |out: &str| Engine::default().run(&recipe, dir.path(out).as_ref()).unwrap_err();
    assert_snapshot!(dir.local(&refuse("other").to_string()), @"`other` is not empty; choose another folder, or replace this one with `--overwrite`");
    assert_eq!(dir.names("other"), ["config.json", "model.safetensors"]);
    fs::create_dir(dir.path(".busy.partial")).unwrap();
    let lock = fs::File::create(dir.path(".busy.partial/lock")).unwrap();
    lock.lock().unwrap();
    assert_snapshot!(dir.local(&refuse("busy").to_string()), @"another run is writing `busy`; wait for it or choose another folder");
    drop(lock);
    recipe.run(dir.path("busy").as_ref()).unwrap();
    assert_eq!(dir.names(""), ["a", "busy", "models", "other"]);
}

#[cfg(unix)]
#[test]
fn a_place_that_cannot_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Folder::new();
    dir.model("a", 1, 4, "{}");
    fs::create_dir(dir.path("closed")).unwrap();
    fs::set_permissions(dir.path("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    // Whoever may write everywhere finds `/proc`, where nobody can.
    let closed =
        if fs::write(dir.path("closed/x"), "").is_ok() { "/proc".to_owned() } else { dir.path("closed") };
    for out in ["out", "out.safetensors"] {
        let error = dir.linear(&["a"]).run(format!("{closed}/{out}").as_ref()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Core(mtl_core::Error::Io { .. })), "{text}");
        assert!(text.starts_with("cannot ") && text.contains(&closed), "{text}");
    }
}

#[test]
fn an_input_that_is_written_to_under_way_is_named() {
    let dir = Folder::new();
    dir.model("a", 4, 100, "{}").model("b", 4, 100, "{}");
    let recipe = Recipe::new("hooked").input(dir.path("a")).input(dir.path("b"));
    let target = dir.path("b/model.safetensors");
    let change = move |tensor: &str| {
        if tensor.contains(".2.") {
            let mut bytes = fs::read(&target).unwrap();
            bytes.push(0);
            // In place, as a careless program would.
            fs::write(&target, bytes).unwrap();
        }
    };
    let engine = hooked(change.clone()).shard_bytes(400);
    for out in ["out", "out.safetensors"] {
        dir.model("b", 4, 100, "{}");
        let error = engine.run(&recipe, dir.path(out).as_ref()).unwrap_err();
        assert!(matches!(error, Error::InputChanged { .. }), "{error}");
        let expected = "`b/model.safetensors` was changed while it was merged: it has ";
        assert!(dir.local(&error.to_string()).starts_with(expected), "{error}");
        assert_eq!(dir.names(""), ["a", "b"]);
    }
}

#[test]
fn an_interrupted_run_goes_on_where_it_was() {
    let dir = Folder::new();
    dir.model("a", 6, 100, "{}");
    let recipe = Recipe::new("hooked").input(dir.path("a"));
    let run = |engine: &Engine| engine.run(&recipe, dir.path("out").as_ref());
    let progress = Arc::new(Progress::default());
    let stop = progress.clone();
    let stopping = hooked(move |tensor| {
        if tensor.contains(".3.") {
            stop.stop();
        }
    });
    let error = run(&stopping.shard_bytes(400).progress(progress)).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    assert_eq!(dir.names(""), [".out.partial", "a"]);
    // Other shards are no use for a run that would write others.
    let engine = hooked(|_| ()).shard_bytes(400);
    let finished = dir.names(".out.partial/new");
    assert_eq!(finished[0], "model-00001-of-00006.safetensors");
    let report = run(&engine.clone().threads(2).max_memory_mib(7)).unwrap();
    assert_eq!((report.resumed, report.files.len()), (3, 6));
    assert_eq!(dir.names(""), ["a", "out"]);
    let whole =
        Engine::default().run(&Recipe::new("passthrough").input(dir.path("a")), dir.path("x").as_ref());
    whole.unwrap();
    let (one, other) = (ParamStore::open(dir.path("out")).unwrap(), ParamStore::open(dir.path("x")).unwrap());
    for name in other.names() {
        assert!(one.bytes(name).unwrap() == other.bytes(name).unwrap());
    }
}

#[test]
fn shards_of_other_inputs_settings_or_damage_are_not_kept() {
    let dir = Folder::new();
    dir.model("a", 4, 100, "{}");
    let recipe = Recipe::new("hooked").input(dir.path("a"));
    let interrupt = || {
        let progress = Arc::new(Progress::default());
        let stop = progress.clone();
        let engine = hooked(move |tensor| {
            if tensor.contains(".2.") {
                stop.stop();
            }
        });
        engine.shard_bytes(400).progress(progress).run(&recipe, dir.path("out").as_ref()).unwrap_err();
        assert_eq!(dir.names(".out.partial"), ["lock", "new", "plan.json"]);
    };
    let resumed = |engine: Engine, recipe: &Recipe| {
        let report = engine.shard_bytes(400).overwrite(true).run(recipe, dir.path("out").as_ref()).unwrap();
        fs::remove_dir_all(dir.path("out")).unwrap();
        report.resumed
    };
    let plain = || hooked(|_| ());
    interrupt();
    assert_eq!(resumed(plain(), &recipe), 2);
    interrupt();
    assert_eq!(resumed(plain().allow_non_finite(true), &recipe), 0);
    interrupt();
    assert_eq!(resumed(plain(), &recipe.clone().seed(mtl_core::Seed(1))), 0);
    interrupt();
    dir.model("a", 4, 100, "{}"); // The same bytes, written later.
    assert_eq!(resumed(plain(), &recipe), 0);
    interrupt();
    let shard = dir.path(".out.partial/new/model-00001-of-00004.safetensors");
    fs::write(&shard, &fs::read(&shard).unwrap()[..300]).unwrap();
    dir.text(".out.partial/new/stranger.safetensors", "");
    assert_eq!(resumed(plain(), &recipe), 1);
    assert_eq!(dir.names(""), ["a"]);
}

const CHILD: &str = "MTL_MERGE_TEST_CHILD";

/// Runs `child` of this program in the folder, under `sh` with `before`.
#[cfg(unix)]
fn child(dir: &Folder, task: &str, before: &str) -> (Option<i32>, String, String) {
    let script = format!("{before} exec \"$0\" the_child --exact --nocapture");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(env::current_exe().unwrap())
        .env(CHILD, format!("{task} {}", dir.0.path().display()))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A process of its own, for what would end or limit the whole process.
#[test]
fn the_child() {
    let Some(task) = env::var(CHILD).ok() else { return };
    let (task, dir) = task.split_once(' ').unwrap();
    let path = |name: &str| Path::new(dir).join(name);
    let recipe = Recipe::new("hooked").input(path("a").to_string_lossy());
    if task == "truncate" {
        guard_mapped_files().unwrap();
        let target = path("a/model.safetensors");
        let truncate =
            move |_: &str| fs::File::options().write(true).open(&target).unwrap().set_len(4096).unwrap();
        let outcome = hooked(truncate).run(&recipe, &path("out"));
        panic!("went on with a truncated file: {outcome:?}");
    }
    let error = hooked(|_| ()).shard_bytes(1).run(&recipe, &path("out")).unwrap_err();
    use std::io::Write;
    writeln!(std::io::stdout(), "refused: {error}").unwrap();
}

#[cfg(unix)]
#[test]
fn a_file_truncated_under_way_ends_the_process_and_leaves_no_output() {
    let dir = Folder::new();
    dir.model("a", 4, 1 << 16, "{}");
    let (code, _, stderr) = child(&dir, "truncate", "");
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.starts_with("error: a file that is being read was truncated"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(dir.names(""), [".out.partial", "a"]);
}

#[cfg(unix)]
#[test]
fn a_full_disk_is_told_and_the_next_run_goes_on() {
    let dir = Folder::new();
    let (small, large) = (vec![0.5; 1000], vec![0.25; 200_000]);
    let views = [
        ParamView::f32("a", &[1000], &small),
        ParamView::f32("b", &[1000], &small),
        ParamView::f32("c", &[200_000], &large),
    ];
    dir.write("a/model.safetensors", &views);
    // A limit to the size of files: the third shard meets it.
    let (code, stdout, stderr) = child(&dir, "full", "ulimit -f 200; trap '' XFSZ;");
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let told = stdout.lines().find(|line| line.contains("refused: ")).unwrap_or_default();
    assert!(told.contains("cannot write") && told.contains("bytes are needed"), "{told}");
    assert_eq!(dir.names(""), [".out.partial", "a"]);
    let shards = dir.names(".out.partial/new");
    assert_eq!(shards, ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"]);
    let recipe = Recipe::new("hooked").input(dir.path("a"));
    let report = hooked(|_| ()).shard_bytes(1).run(&recipe, dir.path("out").as_ref()).unwrap();
    assert_eq!(report.resumed, 2);
    assert_eq!(dir.names(""), ["a", "out"]);
}

#[test]
fn one_model_is_enough() {
    let dir = Folder::new();
    dir.model("a", 2, 10, "{}");
    let report = dir.linear(&["a"]).run(dir.path("out").as_ref()).unwrap();
    assert_eq!((report.tensors, report.files), (2, vec!["model.safetensors".to_owned()]));
    let (a, out) = (ParamStore::open(dir.path("a")).unwrap(), ParamStore::open(dir.path("out")).unwrap());
    assert!(a.names().all(|name| a.bytes(name).unwrap() == out.bytes(name).unwrap()));
}
