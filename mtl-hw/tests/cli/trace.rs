use super::Lab;
use insta::assert_snapshot;

#[test]
fn generated_traces_have_statistics_and_survive_conversion() {
    let lab = Lab::new();
    lab.run("trace generate --images 4 --zipf 1.2 --stickiness 0.3 --task-overlap 0.5 --out a.jsonl")
        .expect(0);
    lab.run("trace convert a.jsonl b.bin").expect(0);
    lab.run("trace convert b.bin c.jsonl").expect(0);
    let read = |name: &str| std::fs::read(lab.path(name)).unwrap();
    assert_eq!(read("a.jsonl"), read("c.jsonl"));
    assert!(read("b.bin").len() < read("a.jsonl").len());
    let stats = lab.run("trace stats b.bin").expect(0).out;
    for part in ["48 records of 4 images", "imbalance", "LRU 16", "equal per token", "batch reuse"] {
        assert!(stats.contains(part), "{part}: {stats}");
    }
    let csv = lab.run("trace stats a.jsonl --csv").expect(0).out;
    assert_eq!(csv.lines().count(), 1 + 6 * 2);
    let json = lab.json("trace stats a.jsonl --json");
    assert!(json["layers"][0]["imbalance"]["mean"].as_f64().unwrap() > 1.0);
}

#[test]
fn the_published_block_has_its_published_statistics() {
    let lab = Lab::new();
    let golden = include_str!("../golden/routing_trace_edge_moe_block1.json");
    let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
    let header = r#"{"format":"mtl-route/1","model":"edge-moe","layers":[{"id":"blk.1","experts":16,"top_k":2,"d_model":192,"d_hidden":384}],"tasks":["seg","depth"],"tokens_per_image":129,"token_order":"class,row-major"}"#;
    let mut text = format!("{header}\n");
    for task in 0..2 {
        let experts = &golden["trace"][format!("task{task}")];
        text += &format!("{{\"image\":0,\"task\":{task},\"layer\":\"blk.1\",\"experts\":{experts}}}\n");
    }
    lab.file("edge.jsonl", &text);
    let stats = lab.run("trace stats edge.jsonl --quiet").expect(0).out;
    // LRU misses of 1, 2, 4, 8, 16 experts, as in the card.
    for misses in [["250", "173", "123", "33", "12"], ["241", "177", "107", "29", "13"]] {
        assert!(stats.lines().any(|l| misses.iter().all(|m| l.contains(m))), "{stats}");
    }
}

#[test]
fn bad_traces_name_file_and_line() {
    let lab = Lab::new();
    let header = r#"{"format":"mtl-route/1","model":"toy","layers":[{"id":"blk.1","experts":4,"top_k":1,"d_model":8,"d_hidden":8}],"tasks":["digit"],"tokens_per_image":2,"token_order":"class,row-major"}"#;
    let line = r#"{"image":0,"task":0,"layer":"blk.1","experts":[[3],[4]]}"#;
    lab.file("t.jsonl", &format!("{header}\n{line}\n"));
    assert_snapshot!(lab.run("trace stats t.jsonl").expect(2).err, @"error: `t.jsonl`: routing trace, line 2: routing of layer `blk.1`: token 1 names expert 4, but there are 4");
    lab.file("empty.jsonl", "");
    assert!(lab.run("trace stats empty.jsonl").expect(2).err.contains("`empty.jsonl`"));
    assert!(lab.run("trace stats nowhere").expect(2).err.contains("cannot read `nowhere`"));
    assert!(
        lab.run("trace generate --stickiness 2").expect(2).err.contains("`stickiness` must be in [0, 1]")
    );
}
