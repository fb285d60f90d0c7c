use super::Lab;
use insta::assert_snapshot;

#[test]
fn the_first_help_fits_a_screen() {
    let answer = Lab::new().run("--help").expect(0);
    assert_snapshot!(answer.out, @"");
}

#[test]
fn every_subcommand_has_help_with_examples() {
    let lab = Lab::new();
    for name in ["run", "check", "inspect", "diff", "extract-lora", "moe", "sweep", "methods", "completions"]
    {
        let help = lab.run(&format!("{name} --help")).expect(0).out;
        assert!(help.contains("Example") && help.contains(&format!("mtl-merge {name}")), "{name}: {help}");
    }
}

#[test]
fn the_short_help_of_run_leaves_options_without_effect_out() {
    let answer = Lab::new().run("run -h").expect(0);
    assert_snapshot!(answer.out, @"");
}

#[test]
fn the_long_help_of_sweep() {
    assert_snapshot!(Lab::new().run("sweep --help").expect(0).out, @"");
}

#[test]
fn the_help_of_inspect_and_diff() {
    let lab = Lab::new();
    assert_snapshot!(lab.run("inspect --help").expect(0).out, @"");
    assert_snapshot!(lab.run("diff --help").expect(0).out, @"");
}

#[test]
fn methods_are_listed_and_explained() {
    let lab = Lab::new();
    let list = lab.run("methods").expect(0).out;
    assert!(list.contains("linear") && list.contains("normalize = true"), "{list}");
    assert_snapshot!(lab.run("methods linear").expect(0).out, @"");
    let error = lab.run("methods linaer").expect(2).err;
    assert_snapshot!(error, @"error: unknown merge method `linaer`; did you mean `linear`?");
    let json: serde_json::Value = serde_json::from_str(&lab.run("methods --json").expect(0).out).unwrap();
    assert_eq!(json[0]["parameters"][0]["required"], true);
}

#[test]
fn completions_know_the_subcommands() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(Lab::new().run(&format!("completions {shell}")).expect(0).out.contains("inspect"), "{shell}");
    }
}
