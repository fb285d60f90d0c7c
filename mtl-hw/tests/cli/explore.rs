use super::Lab;
use insta::assert_snapshot;

const SPACE: &str = r#"
platform = "zcu104"
models = ["vit-tiny"]
[dims]
kinds = ["tile", "weight-stationary"]
rows = [8, 16, 32]
cols = [8, 16, 32]
copies = [1, 2]
attention_p = [0, 4]
attention_u = [8]
clock_mhz = [200, 300]
weight_kib = [64, 256]
activation_kib = [64, 256]
"#;

#[test]
fn explore_finds_the_same_front_with_every_exact_strategy_and_any_number_of_threads() {
    let lab = Lab::new();
    lab.file("space.toml", SPACE);
    let all = lab.run("explore space.toml --strategy exhaustive --csv").expect(0);
    assert!(all.err.contains("exhaustive complete"), "{}", all.err);
    let bounded =
        lab.run("explore space.toml --strategy branch-and-bound --threads 1 --csv --quiet").expect(0);
    assert_eq!((all.out.as_str(), bounded.err.as_str()), (bounded.out.as_str(), ""));
    for strategy in ["auto", "nsga2", "random", "ubimoe"] {
        let words = format!("explore space.toml --strategy {strategy} --evaluations 500 --seed 3");
        let (one, two) = (lab.run(&words).expect(0), lab.run(&format!("{words} -j 1")).expect(0));
        assert_eq!(one.out, two.out, "{strategy}");
    }
    let json = lab.json("explore space.toml --json --plot front.svg --quiet");
    assert!(json["points"].as_array().unwrap().iter().filter(|p| p["knee"] == true).count() == 1);
    let svg = std::fs::read_to_string(lab.path("front.svg")).unwrap();
    for text in ["latency in ms", "energy of one image in mJ", "largest resource share in %", "knee"] {
        assert!(svg.contains(text), "{text}");
    }
}

#[test]
fn explore_takes_a_platform_and_a_workload() {
    let lab = Lab::new();
    let board = lab.run("platforms zcu104").expect(0).out;
    lab.file("platform.toml", &board)
        .file("workload.toml", "model = \"m3vit-tiny\"\nrouting = \"zipf:1.0\"\n");
    let words = "explore platform.toml workload.toml --strategy nsga2 --evaluations 600 --limit 3";
    let answer = lab.run(words).expect(0);
    assert!(answer.out.contains("ms") && answer.err.contains("m3vit-tiny on zcu104"), "{}", answer.err);
}

#[test]
fn constraints_that_nothing_meets_are_told_with_code_1() {
    let lab = Lab::new();
    lab.file("space.toml", SPACE);
    let answer = lab.run("explore space.toml --max-latency-ms 0.001 --quiet").expect(1);
    assert!(answer.out.is_empty() && answer.err.contains("no design: `constraint.latency"), "{}", answer.err);
}

#[test]
fn bad_spaces_name_file_and_key() {
    let lab = Lab::new();
    lab.file("a.toml", &SPACE.replace("rows =", "rowz ="));
    let error = lab.run("explore a.toml").expect(2).err;
    assert!(error.contains("`a.toml`") && error.contains("`dims.rowz`"), "{error}");
    lab.file("b.toml", &SPACE.replace("vit-tiny", "vit-tony"));
    assert_snapshot!(lab.run("explore b.toml").expect(2).err, @"error: `b.toml`: models[0]: unknown model `vit-tony`; did you mean `vit-tiny`?");
    lab.file("w.toml", "model = \"vit-tiny\"\nrouting = \"zipf:1\"\ntrace = \"t.jsonl\"\n");
    assert_snapshot!(lab.run("explore zcu104 w.toml").expect(2).err, @"error: `w.toml`: `routing` and `trace` exclude each other");
}

const OFF_CHIP: &str = r#"
base = "zcu102-edge-moe"
models = ["m3vit-tiny"]
[off_chip]
t_in = [8, 16]
t_out = [16]
projections = [0, 16]
queries = [2, 4]
lanes = [8]
clock_mhz = [300]
"#;

#[test]
fn designs_that_keep_activations_off_chip_have_dimensions_of_their_own() {
    let lab = Lab::new();
    lab.file("edge.toml", OFF_CHIP);
    let json = lab.json("explore edge.toml --json --quiet");
    let points = json["points"].as_array().unwrap();
    assert!(!points.is_empty());
    lab.file("dims.toml", &OFF_CHIP.replace("[off_chip]", "[dims]\nrows = [8]\n[off_chip]"));
    assert_snapshot!(lab.run("explore dims.toml").expect(2).err, @"error: `dims.toml`: `dims` is for designs with activations on chip; `zcu102-edge-moe` keeps them off chip and takes `[off_chip]`");
    lab.file("other.toml", &OFF_CHIP.replace("zcu102-edge-moe", "zcu104-m3vit"));
    let error = lab.run("explore other.toml").expect(2).err;
    assert!(error.contains("`[off_chip]` is for a base that keeps activations off chip"), "{error}");
    lab.file("two.toml", &OFF_CHIP.replace("[\"m3vit-tiny\"]", "[\"m3vit-tiny\", \"vit-tiny\"]"));
    let error = lab.run("explore two.toml").expect(2).err;
    assert!(error.contains("`models` must be one model") && error.contains("but are 2"), "{error}");
    lab.file("clock.toml", &OFF_CHIP.replace("[300]", "[3000]"));
    let error = lab.run("explore clock.toml").expect(2).err;
    assert!(error.contains("`off_chip.clock_mhz` must be at most"), "{error}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_search_tells_its_front_so_far_with_code_130() {
    let lab = Lab::new();
    // About 10^10 points: hours.
    lab.file("space.toml", "platform = \"zcu104\"\nmodels = [\"vit-tiny\", \"vit-small\", \"m3vit-tiny\"]\n[dims]\ncopies = [1, 2, 3, 4, 5, 6, 7, 8]\nactivation_kib = [64, 128, 256, 512, 1024]\n");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_mtl-hw"));
    command.args(["explore", "space.toml", "--strategy", "exhaustive", "--csv"]).current_dir(lab.path("."));
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = command.spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(out.lines().count() > 1 && err.contains("exhaustive stopped"), "{out}\n{err}");
}

const WIDTHS: &str = r#"
budgets = [1e5, 2e6, 1e9]
preferences = [2.0, 1.0]
accuracy = "accuracy.csv"
[space]
encoder = [[0.5, 1.0], [0.5, 1.0]]
decoders = [[0.5, 1.0], [0.5, 1.0]]
[net]
input_channels = 3
encoder = [[{ positions = 256, kernel = 3, channels = 32 }], [{ positions = 64, kernel = 3, channels = 64 }]]
decoders = [
  [{ positions = 1, kernel = 1, channels = 64 }, { positions = 1, kernel = 1, channels = 10, fixed = true }],
  [{ positions = 1, kernel = 1, channels = 64 }, { positions = 1, kernel = 1, channels = 2, fixed = true }],
]
"#;

fn accuracies() -> String {
    let mut csv = "encoder.0,encoder.1,decoder.0,decoder.1,task.0,task.1\n".to_owned();
    let ratios = [0.5, 1.0];
    for a in ratios {
        for b in ratios {
            for c in ratios {
                for d in ratios {
                    csv += &format!(
                        "{a},{b},{c},{d},{},{}\n",
                        0.5 + 0.1 * (a + b) + 0.05 * c,
                        0.6 + 0.1 * b + 0.05 * d
                    );
                }
            }
        }
    }
    csv
}

#[test]
fn widths_follow_the_budget() {
    let lab = Lab::new();
    lab.file("widths.toml", WIDTHS).file("accuracy.csv", &accuracies());
    let answer = lab.run("explore --widths widths.toml --json --plot w.svg").expect(1);
    assert!(answer.err.contains("no widths for a budget of 100000"), "{}", answer.err);
    let rows: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert!(rows[0]["cost"].is_null() && rows[1]["cost"].as_f64().unwrap() <= 2e6);
    assert_eq!(rows[2]["encoder"], serde_json::json!([1.0, 1.0]));
    assert_eq!(rows[2]["accuracies"][0].as_f64().map(|a| (1e6 * a).round()), Some(750_000.0));
    lab.file("widths.toml", &WIDTHS.replace("kernel = 3, channels = 32", "kernel = 3, chanels = 32"));
    let error = lab.run("explore --widths widths.toml").expect(2).err;
    assert!(error.contains("`widths.toml`") && error.contains("net.encoder[0][0]"), "{error}");
}
