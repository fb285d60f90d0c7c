//! Layer evaluations per second beside SCALE-Sim's: reads the JSON that the peer's script prints and evaluates the same
//! layers on the same arrays.
//!
//! ```text
//! python bench_scalesim.py --tool scalesim | cargo run --release -p mtl-hw --example layer_speed
//! ```
//!
//! Every row shows whether the cycles agree. Ours is timed twice: the evaluation alone, and from a design in TOML to the
//! numbers, which is what the peer does. One thread; the best of five batches against the peer's CPU time.
#![allow(clippy::print_stdout)]
use anyhow::{Context, ensure};
use mtl_hw::cost::engine::{Dataflow, Systolic};
use serde::Deserialize;
use std::hint::black_box;
use std::io::Read;
use std::time::Instant;

#[derive(Deserialize)]
struct Peer {
    tool: String,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    layer: String,
    #[serde(rename = "M")]
    m: u64,
    #[serde(rename = "N")]
    n: u64,
    #[serde(rename = "K")]
    k: u64,
    r: u32,
    c: u32,
    df: String,
    total_cycles: u64,
    cpu_s: f64,
}

/// Words of a buffer of 64 KiB at one byte each, as in the peer's configuration.
const BUFFER_WORDS: u64 = 64 * 1024;

/// Seconds of one call, the best of five batches.
fn seconds<T>(calls: u32, mut f: impl FnMut() -> T) -> f64 {
    let batch = |_| {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(f());
        }
        start.elapsed().as_secs_f64() / f64::from(calls)
    };
    (0..5).map(batch).fold(f64::INFINITY, f64::min)
}

fn main() -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let peer: Peer = serde_json::from_str(&text).context("the standard input is not the peer's JSON")?;
    ensure!(!peer.rows.is_empty(), "the peer evaluated no layer");
    println!(
        "{:<20} {:>3} {:>12} {:>12} {:>12} {:>12} {:>9} {:>9}",
        "layer", "", "cycles", "peer s", "ns", "ns, TOML", "ratio", "TOML"
    );
    let (mut theirs, mut ours, mut from_text) = (0.0, 0.0, 0.0);
    for row in &peer.rows {
        let flow = match row.df.as_str() {
            "os" => Dataflow::OutputStationary,
            "ws" => Dataflow::WeightStationary,
            "is" => Dataflow::InputStationary,
            other => anyhow::bail!("unknown dataflow `{other}`"),
        };
        let array = Systolic { rows: row.r, cols: row.c, flow };
        let cost = array.scale_sim(row.m, row.k, row.n, BUFFER_WORDS)?;
        ensure!(
            cost.cycles == row.total_cycles,
            "{} {}: {} cycles, but {} says {}",
            row.layer,
            row.df,
            cost.cycles,
            peer.tool,
            row.total_cycles
        );
        let alone =
            seconds(1_000_000, || black_box(array).scale_sim(black_box(row.m), row.k, row.n, BUFFER_WORDS));
        let toml = toml::to_string(&array)?;
        let parsed = seconds(20_000, || -> anyhow::Result<_> {
            let array: Systolic = toml::from_str(black_box(&toml))?;
            Ok(array.scale_sim(row.m, row.k, row.n, BUFFER_WORDS)?)
        });
        println!(
            "{:<20} {:>3} {:>12} {:>12.4} {:>12.1} {:>12.0} {:>9.1e} {:>9.1e}",
            row.layer,
            row.df,
            cost.cycles,
            row.cpu_s,
            1e9 * alone,
            1e9 * parsed,
            row.cpu_s / alone,
            row.cpu_s / parsed
        );
        theirs += row.cpu_s;
        ours += alone;
        from_text += parsed;
    }
    println!("all layers: {:.2e} times as fast, {:.2e} from TOML", theirs / ours, theirs / from_text);
    Ok(())
}
