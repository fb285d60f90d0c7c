use super::Lab;
use insta::assert_snapshot;
use std::fs;

/// A lab with a recipe over two models and a script that reads the first weight of the merge.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.model("base", &[0.0]).model("a", &[1.0]).model("b", &[-1.0]);
    let recipe = r#"{"merge_method": "task_arithmetic", "base_model": "base", "models":
        [{"model": "a", "parameters": {"weight": 1}}, {"model": "b", "parameters": {"weight": 0.5}}]}"#;
    fs::write(lab.path("c.json"), recipe).unwrap();
    let script = r#"
echo "$2" >> calls
case "$2" in *lambda=0.2*) echo "no model" >&2; exit 3 ;; *slow*) sleep 30 ;; esac
size=$(find "$1" -type f | wc -l)
echo "loading"
echo "{\"files\": $size, \"loss\": ${#2}}"
"#;
    fs::write(lab.path("eval.sh"), script).unwrap();
    lab
}

const SWEEP: &str =
    "sweep c.json out --eval 'sh eval.sh {model} {name}' --metric loss --minimize loss --quiet";

#[test]
fn points_are_merged_evaluated_recorded_and_not_computed_again() {
    let lab = lab();
    let answer =
        lab.run(&format!("{SWEEP} --grid lambda=0.1:0.3:0.1 --grid models[1].weight=0.5,1")).expect(1);
    assert_snapshot!(answer.out, @"
    pareto  lambda  models[1].weight   loss  error
    *          0.1                 1  29.00
    *          0.3                 1  29.00
               0.1               0.5  31.00
               0.3               0.5  31.00
               0.2               0.5         the command failed (exit status: 3); it said: no model
               0.2                 1         the command failed (exit status: 3); it said: no model

    * no other point is better in all of: loss (less)
    ");
    assert!(answer.err.contains("2 of 6 points failed"), "{}", answer.err);
    let calls = || fs::read_to_string(lab.path("calls")).unwrap().lines().count();
    assert_eq!(calls(), 6);
    let csv = fs::read_to_string(lab.path("out/sweep.csv")).unwrap();
    assert!(csv.starts_with("pareto,lambda,models[1].weight,loss,seconds,name,error\n"), "{csv}");
    assert_eq!(csv.lines().count(), 7);
    assert_eq!(fs::read_dir(lab.path("out/models")).unwrap().count(), 0, "merged models are removed");
    // Failed points are tried again, finished ones are not; a wider grid adds points.
    lab.run(&format!("{SWEEP} --grid lambda=0.1:0.4:0.1 --grid models[1].weight=0.5,1")).expect(1);
    assert_eq!(calls(), 6 + 2 + 2);
    // Another model makes all of them stale.
    lab.model("a", &[1.0, 2.0]).model("b", &[1.0, 2.0]).model("base", &[1.0, 2.0]);
    lab.run(&format!("{SWEEP} --grid lambda=0.1 --keep")).expect(0);
    assert!(lab.path("out/models/lambda=0.1").exists());
}

#[test]
fn a_number_is_a_metric_and_a_slow_command_is_stopped() {
    let lab = lab();
    let run =
        |eval: &str, more: &str| lab.run(&format!("sweep c.json out --grid lambda=1 --eval '{eval}' {more}"));
    let answer = run("sh -c \"echo 0.25 # {model}\"", "--json").expect(0);
    let json: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(json["points"][0]["metrics"]["score"], 0.25);
    let answer = run("sh -c \"exec sleep 30 # {model}\"", "--timeout 1").expect(1);
    assert!(answer.err.contains("longer than `--timeout`"), "{}", answer.err);
}

#[test]
fn mistakes_are_told_before_anything_is_merged() {
    let lab = lab();
    let mut told = String::new();
    for grid in ["lamda=1", "lambda=1:0:1", "models[2].weight=1", "lambda=x"] {
        let answer = lab.run(&format!("{SWEEP} --grid {grid}")).expect(2);
        told += &answer.err;
    }
    told += &lab.run("sweep c.json out --grid lambda=1 --eval 'sh eval.sh'").expect(2).err;
    told += &lab.run(&format!("{SWEEP} --grid lambda=1 --minimize speed")).expect(2).err;
    assert_snapshot!(told, @"
    error: parameters: method `task_arithmetic` has no parameter `lamda`; did you mean `lambda`?
    error: --grid lambda=1:0:1: from 1 no step of 1 leads to 0
    error: --grid models[2].weight: the recipe has 2 models
    error: parameters.lambda must be a finite number, but is `x`
    error: `--eval sh eval.sh` must contain {model}, where the merged folder is put
    error: `--minimize speed` is not among the metrics of `--metric`
    ");
    assert!(!lab.path("out").exists());
}
