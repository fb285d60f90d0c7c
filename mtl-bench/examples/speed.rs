//! CPU seconds of the computations that `benches/peers.py` also gives to Python packages; `peers.py` calls this.
//!
//! `cargo run --release -p mtl-bench --example speed -- iqm|rouge|trueskill` prints the work done and the seconds it took.
#![allow(clippy::print_stdout)]
use mtl_bench::metrics::pairwise::{Game, TrueSkill, Winner};
use mtl_bench::metrics::text::{RougeKind, rouge};
use mtl_bench::stats::{AggregateRule, Bootstrap, Iqm, RunsByTasks, stratified_bootstrap};
use std::time::Instant;

/// The generator of `peers.py`: Knuth's MMIX constants, upper 31 bits.
struct Lcg(u64);

impl Lcg {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn uniform(&mut self) -> f64 {
        self.next() as f64 / f64::from(1u32 << 31)
    }
}

const METHODS: usize = 5;
const RUNS: usize = 10;
const TASKS: usize = 26;
const REPLICATES: usize = 50_000;
const PAIRS: usize = 20_000;
const WORDS: usize = 40;
const VOCABULARY: u64 = 500;
const PLAYERS: usize = 17;
const GAMES: usize = 1_000_000;

/// Work done, a number to compare, and when the work began after its inputs were made.
type Timed = (usize, f64, Instant);

fn iqm(rng: &mut Lcg) -> mtl_bench::Result<Timed> {
    let mut width = 0.0;
    let mut method =
        || -> Vec<Vec<f64>> { (0..RUNS).map(|_| (0..TASKS).map(|_| rng.uniform()).collect()).collect() };
    let methods: Vec<Vec<Vec<f64>>> = (0..METHODS).map(|_| method()).collect();
    let start = Instant::now();
    for rows in methods {
        let options = Bootstrap { replicates: REPLICATES as u32, ..Bootstrap::default() };
        let rule = AggregateRule::Percentile;
        width += stratified_bootstrap(&RunsByTasks::from_rows(&rows)?, &Iqm, rule, &options)?.half_width();
    }
    Ok((METHODS * REPLICATES, width, start))
}

fn rouge_l(rng: &mut Lcg) -> mtl_bench::Result<Timed> {
    let mut text =
        || (0..WORDS).map(|_| format!("w{}", rng.next() % VOCABULARY)).collect::<Vec<_>>().join(" ");
    let pairs: Vec<(String, String)> = (0..PAIRS).map(|_| (text(), text())).collect();
    let mut sum = 0.0;
    let start = Instant::now();
    for (prediction, reference) in &pairs {
        sum += rouge(prediction, reference, RougeKind::L, false)?.f1;
    }
    Ok((PAIRS, sum / PAIRS as f64, start))
}

fn true_skill(rng: &mut Lcg) -> mtl_bench::Result<Timed> {
    let mut game = || {
        let first = (rng.next() as usize) % PLAYERS;
        let second = (first + 1 + (rng.next() as usize) % (PLAYERS - 1)) % PLAYERS;
        let winner = if rng.next().is_multiple_of(10) { Winner::Draw } else { Winner::First };
        Game { first, second, winner }
    };
    let games: Vec<Game> = (0..GAMES).map(|_| game()).collect();
    let start = Instant::now();
    let ratings = TrueSkill::default().rate(PLAYERS, &games)?;
    Ok((GAMES, ratings.iter().map(|r| r.mu).sum(), start))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or_default();
    let rng = &mut Lcg(1);
    // One thread that does nothing but compute: elapsed time is CPU time on a free core.
    let (work, check, start) = match name.as_str() {
        "iqm" => iqm(rng)?,
        "rouge" => rouge_l(rng)?,
        "trueskill" => true_skill(rng)?,
        _ => return Err("say iqm, rouge or trueskill".into()),
    };
    println!("{{\"work\": {work}, \"seconds\": {}, \"check\": {check}}}", start.elapsed().as_secs_f64());
    Ok(())
}
