//! Published or independently computed results, kept as small files beside the test.
#![allow(clippy::expect_used, clippy::unwrap_used)]
use mtl_continual::buffer::{Buffer, Reservoir, Rows};
use mtl_core::Seed;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

#[derive(Deserialize)]
struct Case {
    stream: i64,
    capacity: usize,
    inclusion_probability: f64,
    trials: u64,
    inclusion_count_low_high: [f64; 2],
    chi_square_upper: f64,
}

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[test]
fn every_position_of_the_stream_is_kept_equally_often() {
    let file: File = serde_json::from_str(include_str!("golden/reservoir.json")).expect("golden file");
    for case in file.cases {
        let ids = Tensor::arange(case.stream, (Kind::Int64, Device::Cpu));
        let mut counts = vec![0.0f64; case.stream as usize];
        for trial in 0..case.trials {
            let mut memory = Reservoir::new(case.capacity).unwrap();
            let rows =
                Rows { input: ids.view([-1, 1]), label: ids.shallow_clone(), task: ids.shallow_clone() };
            memory.offer(&rows, Seed(trial), 0).unwrap();
            let kept: Vec<i64> =
                memory.draw(case.capacity, Seed(trial), 0).unwrap().label.try_into().unwrap();
            kept.iter().for_each(|&id| counts[id as usize] += 1.0);
        }
        let [low, high] = case.inclusion_count_low_high;
        assert!(counts.iter().all(|c| (low..=high).contains(c)), "stream of {}: {counts:?}", case.stream);
        let expected = case.trials as f64 * case.inclusion_probability;
        let chi_square: f64 = counts.iter().map(|c| (c - expected).powi(2) / expected).sum();
        assert!(chi_square <= case.chi_square_upper, "stream of {}: {chi_square}", case.stream);
    }
}
