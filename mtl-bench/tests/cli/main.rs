//! The command line: exit codes, what goes to stdout, what goes to stderr.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
use assert_cmd::Command;
use insta::assert_snapshot;
use std::fmt::Write;
use std::path::PathBuf;

/// A folder for one test, and the command run in it.
struct Lab(tempfile::TempDir);

struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Lab {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> &Self {
        std::fs::write(self.path(name), text).unwrap();
        self
    }

    fn run(&self, words: &str) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mtl-bench"));
        let output = command.args(words.split_whitespace()).current_dir(self.0.path()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Answer {
            code: output.status.code().unwrap_or(-1),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    fn fails(&self, words: &str) -> String {
        let answer = self.run(words);
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{}", answer.err);
        answer.err
    }
}

impl Answer {
    fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }
}

/// Two methods on two tasks, `seeds` seeds, under column names that are not ours.
fn foreign(seeds: u64) -> String {
    let mut text = "algo,dataset,run,score,comment\n".to_owned();
    for seed in 0..seeds {
        for (task, base) in [("digits", 0.8), ("letters", 0.7)] {
            let noise = (seed * 37 % 11) as f64 / 1000.0;
            writeln!(text, "plain,{task},{seed},{},\"a, b\"", base + noise).unwrap();
            writeln!(text, "ours,{task},{seed},{},", base + noise + 0.01 + (seed % 3) as f64 / 1000.0)
                .unwrap();
        }
    }
    text
}

const MAP: &str = "--columns method=algo,task=dataset,seed=run,value=score --metric accuracy";

#[test]
fn stats_work_on_any_long_file_and_say_what_could_have_been_found() {
    let lab = Lab::new();
    lab.file("runs.csv", &foreign(8));
    let answer = lab.run(&format!("stats runs.csv {MAP} --tasks digits --baseline plain")).ok();
    assert_snapshot!(answer.out, @r"
    accuracy ↑: 2 methods, 1 tasks, 8 seeds
    test: exact sign-flip permutation test: 8 pairs are too few for a normal approximation, and all sign patterns can be tried

    ours beats plain on 8 of 8 runs; median gain 0.011; exact sign-flip permutation test over runs p = 0.0078; probability of improvement 1.00 [1.00, 1.00]
      smallest difference that 8 runs find with a probability of 80 %: 0.001; the smallest p of this test is 0.0078
    ");
    let json: serde_json::Value =
        serde_json::from_str(&lab.run(&format!("stats runs.csv {MAP} --tasks digits --json")).ok().out)
            .unwrap();
    assert_eq!(json["pairs"][0]["wins"], 8);
    assert_eq!(json["pairs"][0]["p"], 0.0078125);
    // Two tasks cannot show anything, and the command says so.
    let two = lab.run(&format!("stats runs.csv {MAP}")).ok().out;
    assert!(two.contains("so it can never show a difference"), "{two}");
}

#[test]
fn five_seeds_are_never_enough_for_an_exact_test() {
    let lab = Lab::new();
    lab.file("runs.csv", &foreign(5));
    let out = lab.run(&format!("stats runs.csv {MAP} --tasks digits")).ok().out;
    assert!(out.contains("no difference shown"), "{out}");
    assert!(
        out.contains("the smallest p of this test is 0.0625, so it can never show a difference"),
        "{out}"
    );
}

#[test]
fn tables_have_five_formats_and_one_seed_has_no_interval() {
    let lab = Lab::new();
    lab.file("runs.csv", &foreign(3));
    for (format, part) in [
        ("text", "digits"),
        ("markdown", "| ours |"),
        ("latex", "\\toprule"),
        ("csv", "method,"),
        ("html", "<table"),
    ] {
        let out = lab.run(&format!("table runs.csv {MAP} --percent --mean --format {format}")).ok().out;
        assert!(out.contains(part), "{format}: {out}");
    }
    let out = lab.run(&format!("table runs.csv {MAP}")).ok().out;
    assert!(out.contains("Smallest difference of two methods in one column"), "{out}");
    assert!(
        out.contains("With 3 paired seeds an exact test cannot give p below 0.2500, so it can never"),
        "{out}"
    );
    lab.file("eight.csv", &foreign(8));
    let out = lab.run(&format!("table eight.csv {MAP} --baseline plain --format markdown")).ok().out;
    assert!(out.contains("†") && out.contains("smallest attainable p"), "{out}");
    lab.file("one.csv", &foreign(1));
    let out = lab.run(&format!("table one.csv {MAP}")).ok().out;
    assert!(!out.contains('±'), "{out}");
}

#[test]
fn figures_are_written_as_svg_and_png() {
    let lab = Lab::new();
    let mut steps = "method,seed,step,metric,value\n".to_owned();
    for seed in 0..3 {
        for step in 0..5 {
            writeln!(steps, "a,{seed},{step},loss,{}", 1.0 / f64::from(step + 1) + 0.01 * f64::from(seed))
                .unwrap();
        }
    }
    lab.file("runs.csv", &foreign(3)).file("steps.csv", &steps);
    lab.run(&format!("plot bars runs.csv {MAP} -o bars.svg --percent")).ok();
    lab.run(&format!("plot heat-map runs.csv {MAP} -o map.png")).ok();
    lab.run("plot curves steps.csv -o curves.svg --title Loss").ok();
    let mut many = "method,task,seed,metric,value\n".to_owned();
    for (m, method) in ["first", "second", "third"].iter().enumerate() {
        for task in 0..6 {
            for seed in 0..3 {
                let value = 0.5 + 0.05 * m as f64 + 0.01 * f64::from((task * 7 + seed * 3) % 5);
                writeln!(many, "{method},t{task},{seed},accuracy,{value}").unwrap();
            }
        }
    }
    lab.file("many.csv", &many);
    for kind in ["critical-difference", "profiles", "radar", "forest --baseline first"] {
        lab.run(&format!("plot {kind} many.csv -o many.svg")).ok();
        assert!(std::fs::read_to_string(lab.path("many.svg")).unwrap().contains("second"), "{kind}");
    }
    let mut law = "method,step,metric,value\n".to_owned();
    for step in [1, 2, 4, 8, 16, 32] {
        writeln!(law, "a,{step},loss,{}", 0.3 + f64::from(step).powf(-0.5)).unwrap();
    }
    lab.file("law.csv", &law).run("plot power-law law.csv -o law.svg").ok();
    assert!(std::fs::read(lab.path("map.png")).unwrap().starts_with(b"\x89PNG"));
    assert!(std::fs::read_to_string(lab.path("curves.svg")).unwrap().contains("Loss"));
    assert!(lab.fails(&format!("plot bars runs.csv {MAP} -o bars.pdf")).contains("must end in .svg or .png"));
    assert!(lab.fails(&format!("plot curves runs.csv {MAP} -o c.svg")).contains("several steps"));
}

#[test]
fn bad_input_names_file_line_and_column() {
    let lab = Lab::new();
    lab.file("runs.csv", &foreign(3))
        .file("bad.csv", "method,seed,metric,value\na,0,accuracy,0.5\nb,x,accuracy,0.5\n");
    lab.file("nan.csv", "method,value\na,NaN\n").file("word.csv", "method,value\na,good\n");
    lab.file("twin.csv", "method,seed,metric,value\na,0,accuracy,0.5\na,0,accuracy,0.6\n");
    lab.file(
        "unpaired.csv",
        "method,seed,metric,value\na,0,accuracy,0.5\na,1,accuracy,0.6\nb,1,accuracy,0.7\n",
    );
    lab.file("empty.csv", "method,value\n").file("nothing.csv", "");
    assert!(lab.run("stats unpaired.csv --unpaired").ok().out.contains("Welch's t test"));
    assert!(lab.run("stats unpaired.csv --complete").ok().err.contains("1 pairs of task and seed left out"));
    for (words, message) in [
        ("stats missing.csv", "missing.csv"),
        ("stats nothing.csv", "`nothing.csv` is empty"),
        ("stats runs.csv", "has no column `method`; its columns are algo, dataset, run, score, comment"),
        ("stats bad.csv", "`bad.csv` line 3"),
        ("stats nan.csv --better higher", "`nan.csv` line 2"),
        ("stats word.csv --better higher", "`word.csv` line 2"),
        ("stats twin.csv", "2 values of"),
        ("stats unpaired.csv", "so a paired test is impossible"),
        ("stats empty.csv --better higher", "`empty.csv` has no records"),
        ("stats runs.csv --columns methd=algo", "unknown column `methd`; did you mean `method`?"),
        ("stats runs.csv --columns algo", "must be ours=theirs"),
    ] {
        let error = lab.fails(words);
        assert!(error.contains(message), "{words}: {error}");
    }
    let error = lab.fails(&format!("stats runs.csv {MAP} --baseline plane"));
    assert!(error.contains("plane"), "{error}");
    let error =
        lab.fails("stats runs.csv --columns method=algo,task=dataset,seed=run,value=score --metric frobs");
    assert!(error.contains("which values of `frobs` are good is not known"), "{error}");
}

/// A file of the slices in `tests/data`.
fn data(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn benchmarks_are_asked_written_down_and_scored() {
    let lab = Lab::new();
    let prompts = data("if_eval/ifeval_slice.jsonl");
    let answer = lab.run(&format!("eval ifeval {prompts} --requests questions.jsonl")).ok();
    let questions = std::fs::read_to_string(lab.path("questions.jsonl")).unwrap();
    assert!(answer.err.contains(&format!("{} questions", questions.lines().count())), "{}", answer.err);
    // Every question answered with nothing: the floor, by file and by constant.
    let saved: Vec<String> = questions
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["id"].clone())
        .map(|id| serde_json::json!({"id": id, "response": ""}).to_string())
        .collect();
    lab.file("empty.jsonl", &saved.join("\n"));
    let by_file = lab.run(&format!("eval ifeval {prompts} --responses empty.jsonl --name x --json")).ok().out;
    let by_constant =
        lab.run(&format!("eval ifeval {prompts} --constant= --name x --json --records scores.csv")).ok().out;
    assert_eq!(by_file, by_constant);
    assert!(
        by_file.lines().count() == 5 && by_file.lines().all(|l| l.contains("\"value\":0.0")),
        "{by_file}"
    );
    assert!(std::fs::read_to_string(lab.path("scores.csv")).unwrap().contains("prompt_strict"));
    let tasks = data("big-bench");
    let table = lab.run(&format!("eval big-bench {tasks} --constant= --max-examples 5")).ok().out;
    assert!(table.contains("normalised"), "{table}");
    let table = lab.run("eval skill-mix -k 2 --texts 3 --constant=").ok().out;
    assert!(table.contains("full_marks"), "{table}");
    for (words, message) in [
        ("eval skill-mix --constant=", "PATH"),
        ("eval ifeval missing.jsonl --constant=", "missing.jsonl"),
        ("eval ifeval questions.jsonl --constant=", "questions.jsonl"),
    ] {
        let error = lab.fails(words);
        assert!(error.contains(message), "{words}: {error}");
    }
    let error = lab.fails(&format!("eval ifeval {prompts}"));
    assert!(error.contains("say what is evaluated"), "{error}");
    lab.file("part.jsonl", saved.first().unwrap());
    let error = lab.fails(&format!("eval ifeval {prompts} --responses part.jsonl"));
    assert!(error.contains("system `part`: no response to"), "{error}");
}

#[test]
fn an_audit_finds_the_statistics_honest() {
    let lab = Lab::new();
    let out = lab.run("audit --studies 200").ok().out;
    assert_eq!(out.lines().filter(|l| l.starts_with("ok")).count(), 17, "{out}");
}

#[test]
fn every_subcommand_has_help() {
    let lab = Lab::new();
    for words in ["--help", "eval --help", "stats --help", "table --help", "plot --help", "audit --help"] {
        assert!(lab.run(words).ok().out.contains("Usage:"), "{words}");
    }
    assert!(lab.run("completions bash").ok().out.contains("mtl-bench"));
    assert_eq!(lab.run("stats").code, 2);
}
