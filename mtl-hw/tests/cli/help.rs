use super::Lab;
use insta::assert_snapshot;

const COMMANDS: [&str; 10] = [
    "estimate",
    "simulate",
    "explore",
    "compare",
    "trace stats",
    "trace generate",
    "trace convert",
    "platforms",
    "validate",
    "completions",
];

#[test]
fn every_subcommand_has_help_with_examples() {
    let lab = Lab::new();
    for name in COMMANDS {
        let help = lab.run(&format!("{name} --help")).expect(0).out;
        assert!(help.contains("Example") && help.contains(&format!("mtl-hw {name}")), "{name}: {help}");
    }
}

#[test]
fn bad_usage_is_told_on_stderr_with_code_2() {
    let lab = Lab::new();
    for words in ["", "estimate", "estimate vit-tiny", "estimate vit-tiny --on", "explore", "fly"] {
        let answer = lab.run(words).expect(2);
        assert!(answer.out.is_empty() && !answer.err.is_empty(), "{words}");
    }
}

#[test]
fn completions_are_a_script() {
    let script = Lab::new().run("completions bash").expect(0).out;
    assert!(script.contains("complete -F") && script.contains("mtl-hw"));
}

#[test]
fn platforms_are_listed_and_printed_as_toml_to_copy() {
    let lab = Lab::new();
    let all = lab.run("platforms").expect(0).out;
    for board in ["zcu104", "zcu102", "kv260", "pynq-z2", "alveo-u50", "alveo-u280", "vck190"] {
        assert!(all.contains(board), "{all}");
    }
    assert!(lab.run("platforms --designs").expect(0).out.contains("zcu104-m3vit"));
    let board = lab.run("platforms zcu104").expect(0).out;
    let design = lab.run("platforms zcu104-m3vit").expect(0).out;
    lab.file("board.toml", &board).file("design.toml", &design);
    let own = lab.run("estimate m3vit-tiny --on design.toml --board board.toml --csv").expect(0).out;
    assert_eq!(own, lab.run("estimate m3vit-tiny --on zcu104-m3vit --csv").expect(0).out);
    assert_snapshot!(lab.run("platforms zcu14").expect(2).err, @"error: unknown platform `zcu14`; did you mean `zcu104`? known are zcu104, zcu102, kv260, pynq-z2, alveo-u50, alveo-u280, vck190");
}

#[test]
fn validate_prints_the_file_of_the_repository() {
    let lab = Lab::new();
    let text = include_str!("../../VALIDATION.md");
    assert_eq!(lab.run("validate").expect(0).out, text);
    lab.run("validate --write V.md").expect(0);
    assert_eq!(std::fs::read_to_string(lab.path("V.md")).unwrap(), text);
    assert!(lab.run("validate --csv").expect(0).out.starts_with("design,model,quantity,published,"));
}
