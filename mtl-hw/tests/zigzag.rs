//! ZigZag 3.9.1 on the same layers: `golden/zigzag.json`, accelerator of its `zigzag_fpga_16x16.yaml`.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use mtl_hw::cost::engine::{MatrixEngine, Tile};
use mtl_hw::cost::tiling::{
    GemmShape, Objective, OperandBits, TileBuffers, TilePorts, TiledDesign, TilingSpace, best_tiling,
};
use mtl_hw::power::{AccessEnergies, Level};
use serde_json::Value;

const ENGINE: Tile = Tile { t_in: 16, t_out: 16, ii: 1, depth: 0 };
const BRAM_BITS: u64 = 2_359_296;
const WORD_BITS: u64 = 128;

fn design() -> TiledDesign<'static> {
    TiledDesign {
        engine: &ENGINE,
        bits: OperandBits { a: 8, b: 8, c: 8, accumulator: 32 },
        // Inputs and outputs share one memory, as in the peer's description.
        buffers: TileBuffers { a_bits: BRAM_BITS, b_bits: BRAM_BITS, c_bits: 0, ping_pong: true },
        ports: TilePorts::Shared { bits: WORD_BITS as u32 },
    }
}

fn rows(mode: &str) -> Vec<(String, GemmShape, Value)> {
    let golden: Value = serde_json::from_str(include_str!("golden/zigzag.json")).unwrap();
    let int = |v: &Value| v.as_u64().unwrap();
    let rows: Vec<_> = golden["rows"].as_array().unwrap().iter().filter(|r| r["mode"] == mode).collect();
    assert_eq!(rows.len(), 12);
    rows.iter()
        .map(|r| {
            let shape = GemmShape { m: int(&r["m"]), k: int(&r["k"]), n: int(&r["n"]) };
            (r["layer"].as_str().unwrap().to_owned(), shape, (*r).clone())
        })
        .collect()
}

#[test]
fn ideal_cycles_are_exact() {
    // Where weights stream the peer's figure includes their stalls, so the two such layers are bounded instead.
    for (name, s, row) in rows("searched_latency") {
        let (ours, peer) = (ENGINE.gemm_cycles(s.m, s.k, s.n).unwrap(), row["ideal"].as_u64().unwrap());
        if ["vit_small.qkv", "vit_small.fc1"].contains(&name.as_str()) {
            assert!(ours <= peer && peer as f64 <= 1.01 * ours as f64, "{name}: {ours} {peer}");
        } else {
            assert_eq!(ours, peer, "{name}");
        }
    }
}

#[test]
fn traffic_is_compulsory_where_the_peers_is() {
    let mut exact = 0;
    for (name, s, row) in rows("searched_latency") {
        let (tile, order, cost) =
            best_tiling(&s, &design(), &TilingSpace::default(), Objective::Traffic).unwrap();
        let t = cost.traffic;
        let ours = [t.a, t.b, t.c].map(|bits| bits / WORD_BITS);
        let peer = [0, 1, 2].map(|i| row["dram"][i].as_u64().unwrap());
        if name == "vit_small.fc2" {
            // The peer refetches inputs six times; ours loads them once and weights twice at most.
            assert!(ours.iter().sum::<u64>() < peer.iter().sum(), "{ours:?} {peer:?}");
            continue;
        }
        assert_eq!(ours, peer, "{name} {tile:?} {order:?}");
        assert_eq!((t.partial_reads, t.partial_writes), (0, 0), "{name}");
        exact += 1;
    }
    assert_eq!(exact, 11);
}

#[test]
fn our_best_mapping_is_at_most_2_percent_slower() {
    for (name, s, row) in rows("searched_latency") {
        let (tile, order, cost) =
            best_tiling(&s, &design(), &TilingSpace::default(), Objective::Latency).unwrap();
        let peer = row["total"].as_u64().unwrap();
        assert!(
            cost.cycles as f64 <= 1.02 * peer as f64,
            "{name}: {} {peer} {tile:?} {order:?}",
            cost.cycles
        );
        // Never less than the multipliers or the port allow.
        assert!(cost.cycles >= ENGINE.gemm_cycles(s.m, s.k, s.n).unwrap());
        let compulsory = 8 * (s.m * s.k + s.k * s.n + s.m * s.n);
        assert!(cost.cycles >= compulsory.div_ceil(WORD_BITS));
    }
}

#[test]
fn the_fixed_order_of_the_peer_is_never_faster_than_our_best() {
    // Informative: its per-token transfers are not double-buffered.
    for (name, s, row) in rows("fixed_K_N_M") {
        let (_, _, cost) = best_tiling(&s, &design(), &TilingSpace::default(), Objective::Latency).unwrap();
        assert!(cost.cycles <= row["total"].as_u64().unwrap(), "{name}");
    }
}

#[test]
fn energy_per_access_is_the_peers() {
    let energies = AccessEnergies { mac_pj: 0.5, levels: vec![Level { name: "dram".into(), pj: 1280.0 }] };
    for (name, s, row) in rows("searched_latency") {
        let pj = |macs, words| 1e12 * energies.energy(macs, &[words]).unwrap().0;
        let macs = s.m * s.k * s.n;
        let close = |ours: f64, peer: &Value| (ours / peer.as_f64().unwrap() - 1.0).abs() < 1e-9;
        assert!(close(pj(macs, 0), &row["mac_pj"]), "{name}");
        let (_, _, cost) = best_tiling(&s, &design(), &TilingSpace::default(), Objective::Traffic).unwrap();
        if name != "vit_small.fc2" {
            for (i, bits) in [cost.traffic.a, cost.traffic.b, cost.traffic.c].into_iter().enumerate() {
                assert!(close(pj(0, bits / WORD_BITS), &row["dram_pj"][i]), "{name} {i}");
            }
        }
    }
}
