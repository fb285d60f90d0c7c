//! Routing traces: both formats, golden statistics, synthetic traces in bulk, and input that is wrong.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use mtl_hw::HwError;
use mtl_hw::cost::{Accelerator, MoeSchedule};
use mtl_hw::presets::zcu104_m3vit;
use mtl_hw::routing::{
    Choices, LayerRouting, MergedQueues, PackedTrace, RoutingStats, RoutingTrace, SyntheticRouting,
    TraceHeader, TraceLayer, TraceReader, TraceRecord, TraceSummary, WorkingSet, lru_curve, shared_per_token,
    task_batch,
};
use mtl_hw::sim::{LayerSim, SimOptions, sweep};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

fn near(a: f64, b: &Value) {
    let b = b.as_f64().unwrap();
    assert!((a - b).abs() <= 1e-6, "{a} is not {b}");
}

fn ints(v: &Value) -> Vec<u64> {
    serde_json::from_value(v.clone()).unwrap()
}

/// A trace of one layer, with one record per task.
fn one_layer(metrics: &Value, tasks: Vec<Vec<Vec<u16>>>) -> RoutingTrace {
    let int = |key: &str| metrics[key].as_u64().unwrap();
    let layer = TraceLayer {
        id: "blk.1".into(),
        experts: int("experts"),
        top_k: int("top_k"),
        d_model: int("d_model"),
        d_hidden: int("d_hidden"),
    };
    let names = (0..tasks.len()).map(|t| format!("task{t}")).collect();
    let mut trace = RoutingTrace::new(TraceHeader::new("golden", names, int("tokens"), vec![layer])).unwrap();
    for (t, tokens) in tasks.into_iter().enumerate() {
        trace.push(TraceRecord::tokens(0, t as u32, "blk.1", tokens)).unwrap();
    }
    trace
}

fn check(stats: &RoutingStats, misses: &[u64], metrics: &Value) {
    assert_eq!(stats.histogram, ints(&metrics["histogram"]));
    assert_eq!(stats.active, metrics["active_experts"].as_u64().unwrap());
    near(stats.imbalance, &metrics["imbalance_max_over_mean"]);
    near(stats.cv, &metrics["cv"]);
    near(stats.normalised_entropy, &metrics["normalised_entropy"]);
    near(stats.adjacency.unwrap(), &metrics["mean_experts_shared_with_previous_token"]);
    for (capacity, expected) in metrics["weight_loads_lru"].as_object().unwrap() {
        assert_eq!(misses[capacity.parse::<usize>().unwrap() - 1], expected.as_u64().unwrap());
    }
}

#[test]
fn packed_traces_have_the_golden_statistics() {
    let synthetic: Value = serde_json::from_str(include_str!("golden/moe_traffic_synthetic.json")).unwrap();
    let edge: Value =
        serde_json::from_str(include_str!("golden/routing_trace_edge_moe_block1.json")).unwrap();
    let tokens = |v: &Value| serde_json::from_value::<Vec<Vec<u16>>>(v.clone()).unwrap();
    let mut cases: Vec<(RoutingTrace, Vec<&Value>)> = synthetic["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (one_layer(&c["metrics"], vec![tokens(&c["trace"])]), vec![&c["metrics"]]))
        .collect();
    let both = vec![tokens(&edge["trace"]["task0"]), tokens(&edge["trace"]["task1"])];
    let metrics = vec![&edge["metrics"]["task0"], &edge["metrics"]["task1"]];
    cases.push((one_layer(metrics[0], both), metrics));
    for (trace, metrics) in &cases {
        let packed = trace.pack().unwrap();
        let summary = TraceSummary::of(&packed).unwrap();
        for ((r, layer), metrics) in packed.records().zip(&summary.layers).zip(metrics) {
            let misses: Vec<u64> = layer.lru_misses.iter().map(|s| s.mean as u64).collect();
            check(&r.stats(packed.header()).unwrap(), &misses, metrics);
        }
        assert_eq!(&packed.unpack().unwrap(), trace);
    }
    let (trace, _) = cases.last().unwrap();
    let overlap = &TraceSummary::of(&trace.pack().unwrap()).unwrap().overlaps[0];
    near(overlap.shared_per_token.mean, &edge["cross_task"]["mean_experts_shared_per_token"]);
    near(overlap.histogram_overlap.mean, &edge["cross_task"]["histogram_overlap"]);
    near(overlap.active_jaccard.mean, &edge["cross_task"]["active_set_jaccard"]);
    let records: Vec<&TraceRecord> = trace.records().iter().collect();
    let batch = task_batch(trace.header(), &records).unwrap();
    assert_eq!((batch.loads, batch.separate_loads), (13, 25));
    assert!((overlap.batch_reuse.mean - batch.reuse()).abs() < 1e-12);
    // A window of the whole image holds the active experts, one of a token its top-K.
    let first = records[0].experts.as_ref().unwrap().as_slice();
    assert_eq!(WorkingSet::of_tokens(first, 129).unwrap().mean, 12.0);
    assert_eq!(WorkingSet::of_tokens(first, 1).unwrap().max, 2);
}

#[test]
fn identical_images_and_layers_are_predictable() {
    let config =
        SyntheticRouting { images: 1, layers: 1, tasks: 1, zipf: 1.0, ..SyntheticRouting::default() };
    let drawn = config.generate(&mut ChaCha8Rng::seed_from_u64(5)).unwrap().unpack().unwrap();
    let tokens = drawn.records()[0].experts.clone().unwrap();
    let mut header = drawn.header().clone();
    header.layers.push(TraceLayer { id: "blk.3".into(), ..header.layers[0].clone() });
    let mut trace = PackedTrace::new(header).unwrap();
    for image in 0..3 {
        for id in ["blk.1", "blk.3"] {
            trace.push(&TraceRecord::tokens(image, 0, id, tokens.clone())).unwrap();
        }
    }
    let summary = TraceSummary::of(&trace).unwrap();
    assert_eq!((summary.layers[0].temporal.n, summary.layers[0].temporal.mean), (2, 2.0));
    let coupling = summary.layers[0].next_layer.unwrap();
    assert!(coupling.mutual_information_bits > 0.5 && coupling.explained() <= 1.0, "{coupling:?}");
    assert!(summary.layers[1].next_layer.is_none());
    let independent = SyntheticRouting { images: 40, layers: 2, tasks: 1, ..SyntheticRouting::default() };
    let independent = independent.generate(&mut ChaCha8Rng::seed_from_u64(6)).unwrap();
    let coupling = TraceSummary::of(&independent).unwrap().layers[0].next_layer.unwrap();
    // The plug-in estimate is biased upwards by (E − 1)² / (2 N ln 2) bits.
    assert!(coupling.explained() < 0.01, "{coupling:?}");
}

#[test]
fn order_of_tokens_matters_to_a_cache_and_not_to_queues() {
    // Claim (a) of the routing experiments, and (c): a batch never loads more than its tasks apart.
    let config = SyntheticRouting { images: 4, stickiness: 0.8, zipf: 0.5, ..SyntheticRouting::default() };
    let trace = config.generate(&mut ChaCha8Rng::seed_from_u64(7)).unwrap().unpack().unwrap();
    let shape = trace.header().shape(0).unwrap();
    let accelerator = |s| zcu104_m3vit().unwrap().with_schedule(s);
    let (queues, cache): (Accelerator, Accelerator) =
        (accelerator(MoeSchedule::reordered()), accelerator(MoeSchedule::TokenByToken { cache_experts: 4 }));
    let run = |a: &Accelerator, tokens: &[Vec<u16>]| {
        let mut layer = LayerSim::new("blk.1", &shape, a, SimOptions::default()).unwrap();
        layer.run(&LayerRouting::Tokens(tokens)).unwrap().cycles
    };
    for r in trace.records() {
        let tokens = r.experts.as_ref().unwrap();
        // Every seventh token: neighbours are torn apart.
        let shuffled: Vec<Vec<u16>> =
            (0..tokens.len()).map(|i| tokens[i * 7 % tokens.len()].clone()).collect();
        assert_eq!(run(&queues, tokens), run(&queues, &shuffled));
        assert!(run(&cache, tokens) < run(&cache, &shuffled));
    }
    for image in 0..4 {
        let records = [0, 1].map(|t| trace.record("blk.1", image, t).unwrap());
        let batch = task_batch(trace.header(), &records).unwrap();
        assert!(batch.loads <= batch.separate_loads);
    }
    let disjoint = MergedQueues::of(&[&[3, 1, 0, 0], &[0, 0, 2, 2]]).unwrap();
    assert_eq!(disjoint.loads, disjoint.separate_loads);
}

#[test]
fn a_sweep_gives_each_record_the_cycles_of_its_layer() {
    let config = SyntheticRouting { images: 3, zipf: 0.8, stickiness: 0.4, ..SyntheticRouting::default() };
    let trace = config.generate(&mut ChaCha8Rng::seed_from_u64(8)).unwrap();
    let schedules = [
        MoeSchedule::reordered(),
        MoeSchedule::TokenByToken { cache_experts: 4 },
        MoeSchedule::TokenByToken { cache_experts: 0 },
        MoeSchedule::AllResident,
    ];
    let base = zcu104_m3vit().unwrap();
    let sweeps = sweep(&trace, &base, &schedules, SimOptions::default()).unwrap();
    for s in &sweeps {
        let accelerator = base.clone().with_schedule(s.schedule);
        for (r, run) in trace.records().zip(&s.runs) {
            let shape = trace.header().shape(r.layer).unwrap();
            let mut layer = LayerSim::new("x", &shape, &accelerator, SimOptions::default()).unwrap();
            assert_eq!(&layer.run_choices(r.choices.unwrap()).unwrap(), run);
            let tokens = trace.to_record(&r).experts.unwrap();
            let timeline = layer.timeline(&LayerRouting::Tokens(&tokens)).unwrap();
            assert_eq!(timeline.cycles, run.cycles);
        }
        let images = s.images(&trace).unwrap();
        assert_eq!(images.len(), 6);
        let sum: u64 = images.iter().map(|i| i.total.cycles).sum();
        assert_eq!(sum, s.runs.iter().map(|r| r.cycles).sum::<u64>());
        let spread = s.spread(&trace, |t| t.cycles as f64).unwrap();
        assert!((spread.mean * 6.0 - sum as f64).abs() < 1e-3);
    }
    let loads = |i: usize| sweeps[i].runs.iter().map(|r| r.expert_loads).sum::<u64>();
    assert!(loads(0) < loads(1) && loads(1) < loads(2));
    assert_eq!(loads(2), 3 * 6 * 2 * 197 * 2);
    // M³ViT's reordering, on any routing: fewer loads and fewer cycles for every image, also against a cache.
    let images = |i: usize| sweeps[i].images(&trace).unwrap();
    for ((reordered, cached), uncached) in images(0).iter().zip(images(1)).zip(images(2)) {
        assert!(reordered.total.expert_loads <= 6 * 16 && uncached.total.expert_loads == 6 * 197 * 2);
        assert!(reordered.total.cycles < cached.total.cycles && cached.total.cycles < uncached.total.cycles);
    }
}

const HEADER: &str = r#"{"format":"mtl-route/1","model":"toy","layers":[{"id":"blk.1","experts":4,"top_k":2,"d_model":8,"d_hidden":8}],"tasks":["a","b"],"tokens_per_image":2,"token_order":"class,row-major"}"#;
const GOOD: &str = r#"{"image":0,"task":0,"layer":"blk.1","experts":[[0,1],[2,3]]}"#;

/// Records of every kind.
fn kinds() -> RoutingTrace {
    let lines = [
        HEADER,
        GOOD,
        r#"{"image":0,"task":1,"layer":"blk.1","experts":[[1,0],[2,3]],"weights":[[0.75,0.25],[0.5,0.5]]}"#,
        r#"{"image":1,"task":0,"layer":"blk.1","histogram":[1,1,2,0]}"#,
        r#"{"image":1,"task":1,"layer":"blk.1","experts":[[3],[]],"capacity_dropped":true}"#,
        r#"{"image":2,"task":0,"layer":"blk.1","experts":[[3],[2,0]],"weights":[[1.0],[0.5,0.125]],"capacity_dropped":true}"#,
        r#"{"image":2,"task":1,"layer":"blk.1","histogram":[0,0,2,0],"capacity_dropped":true}"#,
    ];
    RoutingTrace::read(lines.join("\n").as_bytes()).unwrap()
}

fn binary(trace: &RoutingTrace) -> Vec<u8> {
    let mut bytes = Vec::new();
    trace.write_binary(&mut bytes).unwrap();
    bytes
}

#[test]
fn every_kind_of_record_survives_both_formats() {
    let trace = kinds();
    assert_eq!(RoutingTrace::read_binary(binary(&trace).as_slice()).unwrap(), trace);
    let mut json = Vec::new();
    trace.write(&mut json).unwrap();
    assert_eq!(RoutingTrace::read(json.as_slice()).unwrap(), trace);
    assert_eq!(PackedTrace::read(json.as_slice()).unwrap(), trace.pack().unwrap());
    // Dropped choices are counted, and not mistaken for tokens that nobody routed.
    let packed = trace.pack().unwrap();
    let stats: Vec<RoutingStats> = packed.records().map(|r| r.stats(packed.header()).unwrap()).collect();
    assert_eq!((stats[3].pairs, stats[3].dropped_pairs, stats[3].dropped_tokens), (1, 3, 1));
    assert_eq!((stats[4].dropped_pairs, stats[5].dropped_pairs, stats[0].dropped_pairs), (1, 2, 0));
    // Cost models want all top-K; the sweep takes what is left.
    let shape = trace.header().shape(0).unwrap();
    let routing = mtl_hw::routing::Routing::Trace { trace: &trace, image: 1, task: 1 };
    insta::assert_snapshot!(routing.layer("blk.1", &shape).unwrap_err(), @"routing of layer `blk.1`: choices were dropped by a capacity limit, but cost models need all top-K");
    let sweeps = sweep(&packed, &zcu104_m3vit().unwrap(), &[MoeSchedule::reordered()], SimOptions::default());
    assert_eq!(
        sweeps.unwrap()[0].runs.iter().map(|r| r.expert_loads).collect::<Vec<_>>(),
        [4, 4, 3, 1, 3, 1]
    );
    let cached = [MoeSchedule::TokenByToken { cache_experts: 2 }];
    let error = sweep(&packed, &zcu104_m3vit().unwrap(), &cached, SimOptions::default()).unwrap_err();
    assert!(matches!(error, HwError::NeedsTrace { .. }), "{error}");
}

#[test]
fn the_reader_stops_at_the_first_wrong_line() {
    let text = format!("{HEADER}\n\n{GOOD}\n{GOOD}\n{GOOD}\n");
    let mut reader = TraceReader::new(text.as_bytes()).unwrap();
    assert!(reader.next().unwrap().is_ok());
    assert_eq!(reader.line(), 3);
    let error = reader.next().unwrap().unwrap_err();
    insta::assert_snapshot!(error, @"routing trace, line 4: routing of layer `blk.1`: image 0, task 0 is recorded twice");
    assert!(reader.next().is_none());
    assert!(matches!(error, HwError::Trace { line: 4, .. }));
    let not_utf8 = [HEADER.as_bytes(), b"\n\xff\xfe{}"].concat();
    insta::assert_snapshot!(PackedTrace::read(not_utf8.as_slice()).unwrap_err(), @"routing trace, line 2: not UTF-8: invalid utf-8 sequence of 1 bytes from index 0");
    // A line without end is refused before it fills the memory.
    let endless = [HEADER.as_bytes(), b"\n", vec![b'['; (16 << 20) + 7].as_slice()].concat();
    insta::assert_snapshot!(PackedTrace::read(endless.as_slice()).unwrap_err(), @"routing trace, line 2: longer than 16777216 bytes");
}

#[test]
fn broken_binary_files_name_the_record() {
    let good = binary(&kinds());
    let error = |bytes: &[u8]| {
        let error = PackedTrace::read_binary(bytes).unwrap_err();
        assert!(matches!(error, HwError::Trace { .. }), "{error:?}");
        error.to_string()
    };
    // Every cut is an error.
    for end in 0..good.len() {
        error(&good[..end]);
    }
    let mut longer = good.clone();
    longer.push(0);
    insta::assert_snapshot!(error(&longer), @"routing trace, line 8: expected the end after 6 records, but there is more");
    insta::assert_snapshot!(error(b"{\"format\""), @"routing trace, line 1: expected a binary trace that starts with `MTLROUT1`");
    insta::assert_snapshot!(error(&good[..good.len() - 1]), @"routing trace, line 7: the file is cut off: 31 of 32 bytes of a histogram");
    let header = 8 + 4 + u32::from_le_bytes(good[8..12].try_into().unwrap()) as usize;
    let patched = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let first = header + 8; // image 8, task 4, layer 4, flags 1, ids
    insta::assert_snapshot!(error(&patched(first + 8, 9)), @"routing trace, line 2: routing of layer `blk.1`: task 9 is out of range; the header names 2");
    insta::assert_snapshot!(error(&patched(first + 12, 9)), @"routing trace, line 2: layer 9 is out of range; the header names 1");
    insta::assert_snapshot!(error(&patched(first + 16, 0xf0)), @"routing trace, line 2: unknown combination of flags 0xf0");
    insta::assert_snapshot!(error(&patched(first + 17, 4)), @"routing trace, line 2: routing of layer `blk.1`: token 0 names expert 4, but there are 4");
    insta::assert_snapshot!(error(&patched(first + 17, 1)), @"routing trace, line 2: routing of layer `blk.1`: token 0 names expert 1 twice");
    let second = first + 17 + 8;
    insta::assert_snapshot!(error(&patched(second + 8, 0)), @"routing trace, line 3: routing of layer `blk.1`: image 0, task 0 is recorded twice");
    // 0.75 with its exponent set to all ones.
    let mut nan = good.clone();
    nan[second + 17 + 8..second + 17 + 12].copy_from_slice(&f32::NAN.to_le_bytes());
    insta::assert_snapshot!(error(&nan), @"routing trace, line 3: routing of layer `blk.1`: the weights of token 0 are not finite");
    // A header that claims 2⁶⁰ tokens must not reserve memory for them.
    let huge = HEADER.replace("\"tokens_per_image\":2", "\"tokens_per_image\":1152921504606846976");
    let mut bytes = b"MTLROUT1".to_vec();
    bytes.extend((huge.len() as u32).to_le_bytes());
    bytes.extend(huge.as_bytes());
    bytes.extend(1u64.to_le_bytes());
    bytes.extend([0; 40]);
    insta::assert_snapshot!(error(&bytes), @"routing trace, line 2: the file is cut off: 23 of 4611686018427387904 bytes of expert ids");
}

#[test]
fn a_full_disk_is_an_error() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let trace = kinds();
    for room in 0..binary(&trace).len() {
        assert!(matches!(trace.write_binary(&mut Full(room)).unwrap_err(), HwError::Trace { .. }));
    }
    assert!(trace.write(&mut Full(300)).is_err());
}

fn synthetic() -> impl Strategy<Value = RoutingTrace> {
    let sizes = (1u64..4, 1u64..4, 1u32..3, 1u64..12, 2u64..9, any::<u64>());
    (sizes, 0.0..2.0f64, 0.0..=1.0f64, 0.0..=1.0f64).prop_map(
        |((images, layers, tasks, tokens, experts, seed), zipf, stickiness, task_overlap)| {
            let top_k = 1 + seed % (experts - 1);
            let config = SyntheticRouting {
                images,
                layers,
                tasks,
                tokens,
                experts,
                top_k,
                zipf,
                stickiness,
                task_overlap,
                ..SyntheticRouting::default()
            };
            RoutingTrace::synthetic(&config, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn traces_survive_json_binary_and_packing(trace in synthetic()) {
        let mut json = Vec::new();
        trace.write(&mut json).unwrap();
        prop_assert_eq!(&RoutingTrace::read(json.as_slice()).unwrap(), &trace);
        prop_assert_eq!(&RoutingTrace::read_binary(binary(&trace).as_slice()).unwrap(), &trace);
        prop_assert_eq!(trace.pack().unwrap().choices(), trace.records().iter().flat_map(|r| r.experts.iter().flatten().flatten()).count());
    }

    #[test]
    fn statistics_do_not_depend_on_storage(trace in synthetic()) {
        let packed = trace.pack().unwrap();
        for (r, p) in trace.records().iter().zip(packed.records()) {
            let tokens = r.experts.as_ref().unwrap();
            let experts = trace.header().layers[p.layer].experts;
            let nested = RoutingStats::of_tokens(&r.layer, tokens, experts).unwrap();
            prop_assert_eq!(&p.stats(packed.header()).unwrap(), &nested);
            let curve = lru_curve(tokens, experts as usize);
            prop_assert!(curve.windows(2).all(|w| w[1] <= w[0]));
            prop_assert_eq!(*curve.last().unwrap(), nested.active);
            prop_assert!(nested.imbalance >= 1.0 && nested.normalised_entropy <= 1.0 + 1e-12);
            let same = shared_per_token(tokens.as_slice(), p.choices.unwrap()).unwrap();
            prop_assert_eq!(same, trace.header().layers[p.layer].top_k as f64);
        }
        TraceSummary::of(&packed).unwrap();
    }

    #[test]
    fn arbitrary_bytes_are_an_error_not_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(RoutingTrace::read(bytes.as_slice()).is_err());
        prop_assert!(PackedTrace::read_binary(bytes.as_slice()).is_err());
        let with_magic = [b"MTLROUT1".as_slice(), &bytes].concat();
        prop_assert!(PackedTrace::read_binary(with_magic.as_slice()).is_err());
        let with_header = [HEADER.as_bytes(), b"\n", &bytes].concat();
        let _ = PackedTrace::read(with_header.as_slice());
    }

    #[test]
    fn damaged_files_are_an_error_or_another_valid_trace(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut in any::<prop::sample::Index>(),
    ) {
        let trace = kinds();
        let mut json = Vec::new();
        trace.write(&mut json).unwrap();
        for (good, is_binary) in [(binary(&trace), true), (json, false)] {
            let mut bad = good.clone();
            for (at, value) in &damage {
                let at = at.index(bad.len());
                bad[at] = *value;
            }
            for bytes in [bad.as_slice(), &bad[..cut.index(bad.len())]] {
                let read = if is_binary { PackedTrace::read_binary(bytes) } else { PackedTrace::read(bytes) };
                if let Ok(read) = read {
                    // What is accepted is consistent.
                    read.unpack().unwrap();
                    for r in read.records() {
                        let _ = r.stats(read.header());
                        prop_assert!(r.choices.is_none_or(|c: Choices<'_>| c.tokens() as u64 == read.header().tokens_per_image));
                    }
                    let accelerator = zcu104_m3vit().unwrap();
                    let _ = sweep(&read, &accelerator, &[MoeSchedule::reordered()], SimOptions::default());
                }
            }
        }
    }
}
