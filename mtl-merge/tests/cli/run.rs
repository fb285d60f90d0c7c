use super::{INPUTS, Lab, write};
use insta::assert_snapshot;

#[test]
fn a_command_line_of_mergekit_gives_its_tensors() {
    let lab = Lab::new();
    lab.recipe("c.json");
    let answer =
        lab.run("c.json out.safetensors --cuda --no-write-model-card --lazy-unpickle -j 1").expect(0);
    assert_eq!(answer.out, "");
    assert_snapshot!(answer.err.lines().next().unwrap(), @"note: without effect here: `--lazy-unpickle` (there are no pickled checkpoints), `--cuda` (merging is done on the CPU)");
    let expected = format!("{INPUTS}/../cases/task_arithmetic/expected.safetensors");
    lab.run(&format!("diff out.safetensors {expected} --rtol 2e-5 --atol 2e-7")).expect(0);
    lab.run(&format!("diff out.safetensors {INPUTS}/f32/base --quiet")).expect(1);
}

#[test]
fn every_option_of_mergekit_is_accepted_but_one() {
    let lab = Lab::new();
    lab.recipe("c.json");
    let switches = [
        "allow-crimes",
        "cuda",
        "low-cpu-memory",
        "copy-tokenizer",
        "clone-tensors",
        "lazy-unpickle",
        "write-model-card",
        "safe-serialization",
        "quiet",
        "read-to-gpu",
        "multi-gpu",
        "async-write",
        "unsafe-truncate-embeddings",
    ];
    let mut words =
        "c.json out.safetensors --gpu-rich --transformers-cache x --lora-merge-cache y -vv".to_owned();
    words += " --lora-merge-dtype float32 --device cuda --write-threads 2 --random-seed 7 --num-threads 2";
    words += " --out-shard-size 1.5B";
    for switch in switches {
        words += &format!(" --no-{switch} --{switch}");
    }
    let answer = lab.run(&words).expect(0);
    assert_eq!(answer.err.lines().filter(|l| l.starts_with("note")).count(), 0, "--quiet: {}", answer.err);
    let answer = lab.run("c.json out2.safetensors --trust-remote-code").expect(2);
    assert_snapshot!(answer.err.lines().next().unwrap(), @"error: `--trust-remote-code` is refused: no code of a checkpoint is ever run");
    assert!(!lab.path("out2.safetensors").exists());
    lab.run("c.json out2.safetensors --trust-remote-code --no-trust-remote-code --quiet").expect(0);
}

#[test]
fn the_report_is_json_on_stdout() {
    let lab = Lab::new();
    let answer = lab.recipe("c.json").run("run c.json out.safetensors --json --quiet").expect(0);
    let report: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!((report["tensors"].as_u64(), report["elements"].as_u64()), (Some(39), Some(40224)));
    assert_eq!(answer.err, "");
}

#[test]
fn check_tells_what_would_be_done_and_writes_nothing() {
    let lab = Lab::new();
    let answer = lab.recipe("c.json").run("check c.json -j 2 --out-shard-size 100k").expect(0);
    assert_snapshot!(answer.out, @r"
    method         task_arithmetic
    tensors        39, of which 0 copied
    parameters     40224
    type           that of the inputs
    bytes read     643.58 kB
    bytes written  160.90 kB
    shards         about 2
    memory         about 270.34 kB besides mapped files
    ");
    assert_eq!(std::fs::read_dir(lab.path("")).unwrap().count(), 1);
}

#[test]
fn mistakes_are_told_before_anything_is_written() {
    let lab = Lab::new();
    lab.recipe("c.json");
    std::fs::write(lab.path("bad.json"), r#"{"merge_method": "tise", "models": [{"model": "x"}]}"#).unwrap();
    let mut told = String::new();
    for words in [
        "run missing.json out",
        "run bad.json out",
        "run c.json out --max-memory 256",
        "run c.json out --out-shard-size 5T",
        "check bad.json",
        "chekc c.json",
    ] {
        let answer = lab.run(words).expect(2);
        assert_eq!(answer.out, "", "{words}");
        told += answer.err.lines().next().unwrap();
        told += "\n";
    }
    assert_snapshot!(told, @"
    error: cannot read `missing.json`: No such file or directory (os error 2)
    error: bad.json:1: unknown merge method `tise`; did you mean `ties`?
    error: invalid value '256' for '--max-memory <SIZE>': `256` must be a size such as 256M or 2G
    error: invalid value '5T' for '--out-shard-size <SIZE>': `5T` must be a number of bytes, such as 5B, 200M or 100000 (k, m, b: 10^3, 10^6, 10^9)
    error: bad.json:1: unknown merge method `tise`; did you mean `ties`?
    error: unrecognized subcommand 'chekc'
    ");
    assert!(!lab.path("out").exists());
}

#[test]
fn a_nan_is_refused_unless_it_is_allowed() {
    let lab = Lab::new();
    lab.model("a", &[1.0, f32::NAN]).model("b", &[3.0, 1.0]);
    std::fs::write(
        lab.path("c.json"),
        r#"{"merge_method": "linear", "models": [{"model": "a"}, {"model": "b"}], "parameters": {"weight": 1}}"#,
    )
    .unwrap();
    let answer = lab.run("c.json out.safetensors").expect(2);
    assert!(answer.err.contains("has 1 NaN or infinite values"), "{}", answer.err);
    assert!(!lab.path("out.safetensors").exists());
    lab.run("c.json out.safetensors --allow-nan --quiet").expect(0);
}

#[test]
fn stages_of_one_file_are_merged_in_order_and_reused() {
    let lab = Lab::new();
    lab.model("a", &[1.0, 3.0]).model("b", &[3.0, 1.0]).model("c", &[0.0, 8.0]);
    let recipe = "
merge_method: linear
models: [{model: soup}, {model: c}]
parameters: {weight: 1}
---
name: soup
merge_method: linear
models: [{model: a}, {model: b}]
parameters: {weight: 1}
";
    std::fs::write(lab.path("c.yml"), recipe).unwrap();
    lab.run("check c.yml").expect(0);
    let answer = lab.run("c.yml out.safetensors").expect(0);
    assert!(lab.path("out.safetensors.parts/soup").exists(), "{}", answer.err);
    lab.model("expected", &[1.0, 5.0]).run("diff out.safetensors expected").expect(0);
    lab.model("a", &[5.0, 7.0]);
    let answer = lab.run("c.yml out.safetensors --overwrite").expect(0);
    assert!(answer.err.contains("is there already"), "{}", answer.err);
    lab.run("diff out.safetensors expected").expect(0);
    lab.run("c.yml out.safetensors --overwrite --no-lazy").expect(0);
    lab.run("diff out.safetensors expected").expect(1);
}

#[test]
fn unknown_keys_are_remarked_on_or_refused() {
    let lab = Lab::new();
    lab.model("a", &[1.0]).model("b", &[2.0]);
    let recipe =
        "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\nstray: 1\n";
    std::fs::write(lab.path("c.yml"), recipe).unwrap();
    let answer = lab.run("c.yml out.safetensors").expect(0);
    assert!(answer.err.contains("warning: c.yml:4: "), "{}", answer.err);
    let answer = lab.run("c.yml out2.safetensors --strict").expect(2);
    assert!(answer.err.contains("stray"), "{}", answer.err);
}

#[test]
fn a_program_of_ones_own_adds_a_method() {
    // Beside the test, where `cargo test` puts examples.
    let deps = std::env::current_exe().unwrap();
    let example = deps.ancestors().nth(2).unwrap().join("examples/own_method");
    if !example.exists() {
        eprintln!("skipped: the example `own_method` is not built; `cargo test -p mtl-merge` builds it");
        return;
    }
    let lab = Lab::new();
    write(&lab.path("a"), &[1.0, -4.0]);
    write(&lab.path("b"), &[-2.0, 3.0]);
    let recipe = "merge_method: loudest\nmodels:\n  - {model: a}\n  - {model: b, parameters: {gain: 2}}\n";
    std::fs::write(lab.path("recipe.yml"), recipe).unwrap();
    let answer = lab.run_program(&example, "run recipe.yml merged.safetensors --quiet");
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
    let merged = mtl_core::params::ParamStore::open(lab.path("merged.safetensors")).unwrap();
    assert_eq!(*merged.f32s("layers.0.w").unwrap(), [-4.0, 6.0]);
    assert!(lab.run_program(&example, "methods loudest").out.contains("factor of the model's weights"));
    assert!(lab.run("run recipe.yml other.safetensors").err.contains("unknown merge method `loudest`"));
}
