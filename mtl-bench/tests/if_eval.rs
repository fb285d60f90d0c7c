//! IFEval and Multi-IF: verdicts of the published checkers, files, conversations.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]
use mtl_bench::Result;
use mtl_bench::formats::if_eval::*;
use mtl_bench::stats::Bootstrap;
use mtl_bench::system::{Constant, Request, System};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

/// A folder of the large data, if it is there: in `$MTL_DATA`, or beside the repository.
fn data(path: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let path = std::env::var_os("MTL_DATA").map_or_else(beside, PathBuf::from).join(path);
    if !path.exists() {
        println!("skipped: `{}` is not there", path.display());
        return None;
    }
    Some(path)
}

fn verifiers(item: &Value) -> Vec<Box<dyn Verifier>> {
    let ids = item["instruction_id_list"].as_array().unwrap();
    let kwargs = item["kwargs"].as_array().unwrap();
    let one = |(id, k): (&Value, &Value)| build(id.as_str().unwrap(), k.as_object().unwrap()).unwrap();
    ids.iter().zip(kwargs).map(one).collect()
}

#[test]
fn short_cases_agree_with_the_published_checkers() {
    let cases: Vec<Value> =
        serde_json::from_str(&std::fs::read_to_string(tests("golden/ifeval_cases.json")).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let verifier =
            build(case["instruction_id"].as_str().unwrap(), case["kwargs"].as_object().unwrap()).unwrap();
        let (response, context) = (case["response"].as_str().unwrap(), TextContext::default());
        let found = (
            strict(std::slice::from_ref(&verifier), response, &context)[0],
            loose(std::slice::from_ref(&verifier), response, &context)[0],
        );
        if found != (case["strict"].as_bool().unwrap(), case["loose"].as_bool().unwrap()) {
            wrong.push(format!("{} {}: {}", case["id"], case["instruction_id"], case["why"]));
        }
    }
    assert!(wrong.is_empty() && cases.len() == 67, "{} cases: {wrong:#?}", cases.len());
}

#[test]
fn real_responses_get_the_published_verdicts() {
    let text = std::fs::read_to_string(tests("golden/ifeval_real_responses.jsonl")).unwrap();
    let context = TextContext::default();
    // By kind: agreements, all; strict and loose verdicts both count.
    let mut kinds: BTreeMap<(bool, &str), (usize, usize)> = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in text.lines() {
        let item: Value = serde_json::from_str(line).unwrap();
        let verifiers = verifiers(&item);
        let response = item["response"].as_str().unwrap();
        for (mode, found) in [
            ("strict", strict(&verifiers, response, &context)),
            ("loose", loose(&verifiers, response, &context)),
        ] {
            for (i, verifier) in verifiers.iter().enumerate() {
                let approximate = item["approximate"][i].as_bool().unwrap();
                let cell = kinds.entry((approximate, verifier.id())).or_default();
                cell.1 += 1;
                if found[i] == item[mode][i].as_bool().unwrap() {
                    cell.0 += 1;
                } else {
                    let start: String = response.chars().take(200).collect();
                    wrong.push(format!(
                        "{mode} {} key {} {} got {}: {:?} {start:?}",
                        verifier.id(),
                        item["key"],
                        item["model"],
                        found[i],
                        item["kwargs"][i]
                    ));
                }
            }
        }
    }
    for (&(approximate, kind), (agreed, all)) in &kinds {
        println!("{kind}: {agreed}/{all}{}", if approximate { " (approximate)" } else { "" });
    }
    wrong.iter().for_each(|w| println!("{w}"));
    let share = |approximate: bool| {
        let cells = kinds.iter().filter(|((a, _), _)| *a == approximate).map(|(_, c)| c);
        let (agreed, all) = cells.fold((0, 0), |s, c| (s.0 + c.0, s.1 + c.1));
        println!("approximate {approximate}: {agreed}/{all}");
        (agreed as f64 / all as f64, all)
    };
    let ((exact, n), (near, m)) = (share(false), share(true));
    assert!(exact == 1.0 && near >= 0.98 && n + m == 2 * 463, "{exact} of {n}, {near} of {m}");
}

#[test]
fn every_prompt_of_ifeval_has_its_verifiers() {
    let check = |path: &Path, prompts: Option<usize>| {
        let conversations = read_ifeval(path).unwrap();
        assert!(prompts.is_none_or(|n| n == conversations.len()));
        let built: Vec<_> =
            conversations.iter().flat_map(|c| c.turns[0].verifiers(&Builder::default()).unwrap()).collect();
        let kinds: std::collections::BTreeSet<_> = built.iter().map(|v| v.id()).collect();
        assert_eq!(kinds, IDS.into_iter().collect());
        let report = evaluate(&conversations, &mut Constant(String::new()), &Options::default()).unwrap();
        assert_eq!(report.turn_score(0).unwrap(), 0.0);
        assert_eq!(built.len(), report.by_kind(Mode::Loose).values().map(|s| s.total).sum::<usize>());
    };
    check(&tests("data/if_eval/ifeval_slice.jsonl"), None);
    if let Some(folder) = data("ifeval") {
        check(&folder.join("ifeval_en.jsonl"), Some(541));
    }
}

#[test]
fn other_languages_parse_and_their_common_kinds_build() {
    let mut files: Vec<(PathBuf, &str)> = ["fr", "es", "ja"]
        .map(|l| (tests(&format!("data/if_eval/m_ifeval_{l}_slice.jsonl")), l))
        .into_iter()
        .collect();
    if let Some(folder) = data("ifeval") {
        files.extend(["fr", "es", "ja"].map(|l| (folder.join(format!("m_ifeval_{l}.jsonl")), l)));
    }
    for (path, language) in files {
        let conversations = read_ifeval(&path).unwrap();
        let mut unknown = std::collections::BTreeSet::new();
        for conversation in &conversations {
            assert_eq!(conversation.language, language);
            for instruction in &conversation.turns[0].instructions {
                match build(&instruction.id, &instruction.kwargs) {
                    Ok(_) => {}
                    Err(mtl_bench::Error::Core(mtl_core::Error::Unknown { name, .. })) => {
                        assert!(!IDS.contains(&name.as_str()));
                        unknown.insert(name);
                    }
                    Err(other) => panic!("{}: {other}", conversation.key),
                }
            }
        }
        println!("{}: {} prompts, no verifier for {unknown:?}", path.display(), conversations.len());
    }
}

/// Repeats how many messages it has seen; without commas.
struct Counter(Vec<usize>);

impl System for Counter {
    fn name(&self) -> &str {
        "counter"
    }

    fn respond(&mut self, requests: &[Request]) -> Result<Vec<String>> {
        self.0.extend(requests.iter().map(|r| r.messages.len()));
        let answer = |r: &Request| match r.id.as_str() {
            "1:en/1" => "no comma".to_owned(),
            "1:en/2" => {
                assert_eq!(r.messages[1].content, "no comma");
                "a story, it is the end".to_owned()
            }
            "1:en/3" => "once there was a very small story about the weather and the end".to_owned(),
            _ => "el río va".to_owned(),
        };
        Ok(requests.iter().map(answer).collect())
    }
}

#[test]
fn conversations_are_judged_turn_by_turn() {
    let conversations = read_multi_if(&tests("data/if_eval/multi_if_made.csv")).unwrap();
    assert_eq!(conversations.iter().map(|c| c.turns.len()).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(conversations[0].turns[0].prompt, "Tell me a story, without commas.");
    let mut system = Counter(Vec::new());
    let report = evaluate(&conversations, &mut system, &Options::default()).unwrap();
    assert_eq!(system.0, [1, 1, 3, 3, 5]);
    assert_eq!(report.conversations[0].strict, [vec![true], vec![false, true], vec![true, true, true]]);
    assert_eq!(report.conversations[1].strict, [vec![true], vec![true, false]]);
    assert_eq!(report.accuracy(1, Mode::Strict).unwrap().instruction, 0.5);
    assert_eq!(report.turn_score(0).unwrap(), 1.0);
    let change = report.change(1, Mode::Strict).unwrap();
    assert_eq!((change.forgetting, change.correction), (Some(0.5), None));
    assert_eq!(report.change(2, Mode::Strict).unwrap().correction, Some(1.0));
    let (old, new) = report.old_and_new(1, Mode::Strict).unwrap();
    assert_eq!((old, new), (Share { followed: 1, total: 2 }, Share { followed: 1, total: 2 }));
    assert_eq!(report.by_language(1, Mode::Strict).unwrap()["Spanish"].instruction, 0.5);
    assert_eq!(report.by_kind(Mode::Strict)[&("punctuation:no_comma", 1)].ratio(), Some(0.0));
    let (prompt, _) =
        report.intervals(0, Mode::Loose, &Bootstrap { replicates: 100, ..Bootstrap::default() }).unwrap();
    assert_eq!((prompt.low, prompt.high), (1.0, 1.0));
    let responses: Vec<Vec<String>> = report.conversations.iter().map(|c| c.responses.clone()).collect();
    assert_eq!(judge(&conversations, &responses, &Options::default()).unwrap(), report);
    let error = judge(&conversations, &responses[..1], &Options::default()).unwrap_err().to_string();
    assert!(error.contains("1 lists"), "{error}");
    assert!(report.accuracy(3, Mode::Strict).is_err() && report.old_and_new(3, Mode::Loose).is_err());
}

#[test]
fn bad_arguments_are_named() {
    for (id, kwargs, message) in [
        (
            "length_constraints:number_words",
            r#"{"relation": "at least"}"#,
            "`num_words` must be a whole number",
        ),
        ("length_constraints:number_words", r#"{"relation": "at least", "num_words": -1}"#, "but is -1"),
        ("length_constraints:number_words", r#"{"relation": "about", "num_words": 1}"#, "but is \"about\""),
        ("keywords:existence", r#"{"keywords": ["a("]}"#, "`keywords` must be a valid regular expression"),
        ("keywords:existence", r#"{"keywords": [1]}"#, "a list of texts"),
        ("keywords:existence", r#"{"keywords": null}"#, "missing"),
        ("keywords:letter_frequency", r#"{"letter": "ab"}"#, "a single character"),
        (
            "length_constraints:nth_paragraph_first_word",
            r#"{"num_paragraphs": 2, "nth_paragraph": 0}"#,
            "at least 1",
        ),
        ("keywords:existance", "{}", "did you mean `keywords:existence`?"),
    ] {
        let kwargs: Value = serde_json::from_str(kwargs).unwrap();
        let error = build(id, kwargs.as_object().unwrap()).unwrap_err().to_string();
        assert!(error.contains(message), "{id}: {error}");
    }
    let kwargs: Value = serde_json::json!({"keywords": ["a("]});
    let literal = Builder { literal_keywords: true }.build("keywords:existence", kwargs.as_object().unwrap());
    assert!(literal.unwrap().check("xA(y", &TextContext::default()));
}

#[test]
fn malformed_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let error = |text: &str, read: fn(&Path) -> Result<Vec<Conversation>>| {
        std::fs::write(&path, text).unwrap();
        read(&path).unwrap_err().to_string()
    };
    for (line, message) in [
        ("", "holds no prompts"),
        ("\n{}", "line 2: missing field `key`"),
        (
            r#"{"key": 1, "prompt": "", "instruction_id_list": [], "kwargs": []}"#,
            "line 1: the list of instructions",
        ),
        (
            r#"{"key": 1, "prompt": "", "instruction_id_list": ["a"], "kwargs": []}"#,
            "1 instructions, but 0 objects",
        ),
        (r#"{"key": [], "prompt": "", "instruction_id_list": ["a"], "kwargs": [{}]}"#, "`key` must be"),
        (r#"{"key": 1, "prompt": "", "instruction_id_list": ["a"], "kwargs": [{}]"#, "line 1: EOF"),
    ] {
        let error = error(line, read_ifeval);
        assert!(error.contains(message), "{error}");
    }
    let twice = r#"{"key": 1, "prompt": "", "instruction_id_list": ["a"], "kwargs": [{}]}"#;
    assert!(error(&format!("{twice}\n{twice}"), read_ifeval).contains("line 2: key `1` was there before"));

    let good = std::fs::read_to_string(tests("data/if_eval/multi_if_made.csv")).unwrap();
    for (from, to, message) in [
        ("turn_1_kwargs", "kwargs_1", "line 1: has no column `turn_1_kwargs`"),
        ("language", "tongue", "has no column `language`"),
        (r#"[""{}""]"#, r#"[""{""]"#, "line 2, turn_1_kwargs: item 0: EOF"),
        (r#"[""{}""]"#, "[3]", "line 2, turn_1_kwargs: item 0 must be an object, but is 3"),
        (
            r#"[""punctuation:no_comma"", ""startend:end_checker""]"#,
            r#"[""title"", ""startend:end_checker""]"#,
            "line 2, turn_2_instruction_id_list: instruction 0 is not that of the turn before",
        ),
        (r#"""role"": ""user"""#, r#"""role"": ""system"""#, "line 2, turn_1_prompt: `role` must be `user`"),
        ("2:es", "1:en", "line 3, key: `1:en` was there before"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = error(&good.replacen(from, to, 1), read_multi_if);
        assert!(error.contains(message), "{error}");
    }
    let header = good.lines().next().unwrap();
    assert!(error(header, read_multi_if).contains("holds no prompts"));
    let gap = format!(
        "{header}\nk,1,en,None,,,\"{{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"\"\"}}\",[],[],,,\n"
    );
    assert!(error(&gap, read_multi_if).contains("line 2, turn_2_prompt: is there, but turn 1 is not"));
}
