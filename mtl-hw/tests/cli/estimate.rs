use super::Lab;
use insta::assert_snapshot;

#[test]
fn estimate_tells_cost_memory_resources_and_where_they_are_from() {
    let lab = Lab::new();
    let answer = lab.run("estimate m3vit-small:512 --on zcu104-m3vit --totals").expect(0);
    for part in [
        "m3vit-small:512 on zcu104-m3vit",
        "69.03 ms",
        "blk.1 experts",
        "on-chip buffer",
        "timing ceiling %",
        "closed-form estimate",
        "not measurements",
    ] {
        assert!(answer.out.contains(part), "{part}: {}", answer.out);
    }
    assert!(answer.err.is_empty(), "{}", answer.err);
    let json = lab.json("estimate m3vit-small:512 --on zcu104-m3vit --json");
    let latency = json["estimate"]["latency_ms"].as_f64().unwrap();
    assert!((latency - 69.033).abs() < 0.01, "{latency}");
    let rows = lab.run("estimate m3vit-small:512 --on zcu104-m3vit --csv").expect(0).out;
    assert!(rows.starts_with("layer,kind,cycles,ms,bound by,DRAM bytes,exposed,of peak %\n"));
    assert_eq!(rows.lines().count(), 1 + json["estimate"]["report"]["layers"].as_array().unwrap().len());
}

#[test]
fn a_design_that_does_not_fit_is_told_by_how_much_with_code_1() {
    let answer = Lab::new().run("estimate m3vit-small:480x640 --on zcu104-m3vit").expect(1);
    assert_snapshot!(answer.err, @"zcu104-m3vit does not fit zcu104: 667 ramb18 of 624, 43 too many (106.9 %)");
    assert!(answer.out.contains("does not fit"));
}

#[test]
fn counts_follow_the_convention() {
    let lab = Lab::new();
    let macs = lab.json("estimate vit-small --count thop --json")["count"]["ops"]["total"].as_u64().unwrap();
    let flops =
        lab.json("estimate vit-small --count torch --json")["count"]["ops"]["total"].as_u64().unwrap();
    assert!(flops > 2 * macs, "{flops} {macs}");
    assert!(lab.run("estimate resnet-18 --count fvcore").expect(0).out.contains("MACs (fvcore convention)"));
    lab.run("estimate resnet-18 --count pencil").expect(2);
}

#[test]
fn models_come_from_files_too() {
    let lab = Lab::new();
    lab.file(
        "config.json",
        r#"{"model_type": "bert", "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}"#,
    );
    let json = lab.json("estimate ./config.json --tokens 64 --on zcu102-heatvit --json");
    assert!(json["estimate"]["latency_ms"].as_f64().unwrap() > 0.0);
    lab.file("graph.toml", "name = \"one\"\n[[nodes]]\nname = \"fc\"\npart = \"head\"\nop = { gemm = { rows = 1, inner = 64, cols = 10, bias = true } }\n");
    let json = lab.json("estimate graph.toml --on zcu104-m3vit --json");
    assert_eq!(json["estimate"]["report"]["macs"].as_u64(), Some(640));
    lab.file("bad.toml", "name = \"one\"\n[[nodes]]\nname = \"fc\"\npart = \"head\"\nop = { gemm = { rows = 1, iner = 64, cols = 10, bias = true } }\n");
    let error = lab.run("estimate bad.toml --on zcu104-m3vit").expect(2).err;
    assert!(
        error.contains("`bad.toml`") && error.contains("nodes[0].op.gemm") && error.contains("iner"),
        "{error}"
    );
}

#[test]
fn bad_input_names_what_is_wrong() {
    let lab = Lab::new();
    let error = |words: &str| lab.run(words).expect(2).err;
    assert_snapshot!(error("estimate vit-smal --on zcu104-m3vit"), @"error: unknown model `vit-smal`; did you mean `vit-small`?");
    assert_snapshot!(error("estimate vit-small --on zcu104-m3vit --board zcu105"), @"error: unknown platform `zcu105`; did you mean `zcu102`? known are zcu104, zcu102, kv260, pynq-z2, alveo-u50, alveo-u280, vck190");
    assert_snapshot!(error("estimate vit-small --on zcu104-m3vit --board pynq-z2"), @"error: design `zcu104-m3vit` on board `pynq-z2`: `clock_mhz` must be at most 150, the limit of pynq-z2, but is 300");
    assert_snapshot!(error("estimate m3vit-small --on zcu104-m3vit --schedule fifo"), @"error: unknown schedule `fifo`; known are reordered, all-resident, token-by-token[:CACHED] and expert-by-expert with +matrix, +speculative, +no-prefetch");
    assert_snapshot!(error("estimate vit-small --on zcu104-m3vit --routing zipf:1.2"), @"error: routing `zipf:1.2`: `vit-small` has no mixture-of-experts layers to route");
    let design = lab.run("platforms zcu104-m3vit").expect(0).out;
    lab.file("design.toml", &design.replace("dram_efficiency", "dram_eficiency"));
    let told = error("estimate vit-small --on design.toml");
    assert!(told.contains("`design.toml`") && told.contains("dram_eficiency"), "{told}");
    assert!(error("estimate vit-small --on nowhere.toml").contains("cannot read `nowhere.toml`"));
}

#[test]
fn plots_are_svg_or_png() {
    let lab = Lab::new();
    let words = "estimate m3vit-tiny --on zcu104-m3vit --roofline r.svg --breakdown b.png --quiet";
    lab.run(words).expect(0);
    let svg = std::fs::read_to_string(lab.path("r.svg")).unwrap();
    for text in ["multiply-accumulates per off-chip byte", "GB/s", "experts", "attention"] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(std::fs::read(lab.path("b.png")).unwrap().starts_with(b"\x89PNG"));
    let error = lab.run("estimate vit-tiny --on zcu104-m3vit --roofline r.gif").expect(2).err;
    assert_snapshot!(error, @"error: `r.gif`: a plot is a .svg or a .png");
}

#[test]
fn simulate_sets_events_beside_the_closed_form() {
    let lab = Lab::new();
    let words =
        "simulate m3vit-small:512 --on zcu104-m3vit --schedule reordered,token-by-token:4,all-resident";
    let rows = lab.run(&format!("{words} --json --gantt g.svg --layers blk.1.")).out;
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    let (simulated, closed) = (&rows[0]["simulated_ms"], &rows[0]["closed_form_ms"]);
    assert_eq!(simulated, closed); // long queues hide all loads but the first
    assert!(rows[1]["simulated_ms"].as_f64() > simulated.as_f64());
    let svg = std::fs::read_to_string(lab.path("g.svg")).unwrap();
    assert!(svg.contains("weight port") && svg.contains("matrix engine"));
    let answer = lab.run("simulate m3vit-tiny --on zcu104-m3vit --gantt g.svg --layers nothing").expect(2);
    assert!(answer.err.contains("no layer's name starts so"), "{}", answer.err);
}

#[test]
fn simulate_runs_all_images_of_a_trace() {
    let lab = Lab::new();
    lab.run("trace generate --for m3vit-tiny --images 3 --zipf 1.0 --out t.bin").expect(0);
    let row = &lab.json("simulate m3vit-tiny --on zcu104-m3vit --trace t.bin --all-images --json")[0];
    assert_eq!(row["images"], 3);
    assert!(row["sd_ms"].as_f64().unwrap() >= 0.0 && row["simulated_ms"].as_f64().unwrap() > 0.0);
    let error = lab.run("estimate m3vit-tiny --on zcu104-m3vit --trace t.bin --image 9").expect(2).err;
    assert_snapshot!(error, @"error: the routing trace has no record of layer `blk.1`, image 9, task 0");
}
