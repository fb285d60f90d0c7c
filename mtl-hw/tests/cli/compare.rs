use super::Lab;

#[test]
fn compare_sorts_models_designs_and_schedules() {
    let lab = Lab::new();
    let words = "compare m3vit-small:512 m3vit-tiny --on zcu104-m3vit --schedule reordered,token-by-token:4";
    let json = lab.json(&format!("{words} --json"));
    let rows = json.as_array().unwrap();
    assert_eq!(rows.len(), 4);
    let latency = |i: usize| rows[i]["latency_ms"].as_f64().unwrap();
    assert!((1..4).all(|i| latency(i - 1) <= latency(i)));
    assert_eq!(rows[0]["model"], "m3vit-tiny");
    let csv = lab.run(&format!("{words} --csv --sort none --quiet")).expect(0);
    assert_eq!((csv.out.lines().count(), csv.err.as_str()), (5, ""));
    assert!(csv.out.lines().nth(1).unwrap().starts_with("m3vit-small:512,zcu104-m3vit,reordered,69.03"));
}

#[test]
fn every_preset_runs_a_small_transformer() {
    let answer = Lab::new().run("compare vit-tiny --quiet --csv").expect(0);
    assert_eq!(answer.out.lines().count(), 6, "{}", answer.out);
}

#[test]
fn an_unknown_design_is_bad_usage() {
    let answer = Lab::new().run("compare vit-tiny --on zcu104-m3vit,zcu104-m3vat").expect(2);
    assert_eq!(answer.err, "error: unknown accelerator `zcu104-m3vat`; did you mean `zcu104-m3vit`?\n");
}
