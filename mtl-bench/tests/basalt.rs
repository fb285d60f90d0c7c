//! BASALT: answers, ratings, schedules, ranks.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]
use mtl_bench::formats::basalt::*;
use mtl_bench::metrics::pairwise::{BradleyTerryOptions, DavidsonOptions, Game, TrueSkill, Winner};
use mtl_bench::stats::Bootstrap;
use mtl_core::Seed;
use rand::RngExt;
use std::path::{Path, PathBuf};

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/basalt/answers.csv")
}

#[test]
fn answers_are_read_from_csv_and_json_lines() {
    let answers = read(&file()).unwrap();
    assert_eq!((answers.answers.len(), answers.players.len()), (8, 3));
    assert_eq!(answers.tasks(), ["FindCave", "MakeWaterfall"]);
    assert_eq!(answers.answers[0].comment.as_deref(), Some("found it, at once"));
    let fair = answers.without_judges(&["eve"]).unwrap();
    assert_eq!((fair.answers.len(), fair.players.len()), (7, 3));
    assert!(answers.without_judges(&["evi"]).unwrap_err().to_string().contains("did you mean `eve`"));

    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read_to_string(file()).unwrap();
    for (from, to, message) in [
        (",outcome,", ",result,", "line 2"),
        ("a2,FindCave,7", "a2,FindCave,seven", "line 3"),
        ("a2,FindCave", "a1,FindCave", "line 3: `id` `a1` was there before"),
        ("cloned,random,first", "random,random,first", "line 3: `second` must be another player"),
        ("cloned,random,first", ",random,first", "line 3: `first` is blank"),
        ("cloned,random,first", "cloned,random,won", "line 3"),
        ("cloned,random,first,ann,,", "cloned,random", "line 3"),
    ] {
        assert!(good.contains(from), "{from}");
        let path = folder.path().join("answers.csv");
        std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(message), "{error} instead of {message}");
    }
    let path = folder.path().join("answers.jsonl");
    let line = r#"{"task": "t", "seed": 1, "first": "a", "second": "b", "outcome": "draw"}"#;
    std::fs::write(&path, format!("{line}\n\n{line}\n")).unwrap();
    assert_eq!(read(&path).unwrap().answers.len(), 2);
    std::fs::write(&path, line.replace("draw", "tie")).unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("line 1: unknown variant `tie`"));
    std::fs::write(&path, "").unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("holds no answers"));
}

#[test]
fn ratings_are_comparable_over_tasks() {
    let answers = read(&file()).unwrap().without_judges(&["eve"]).unwrap();
    let (random, human) = (answers.player("random").unwrap(), answers.player("human").unwrap());
    let prior = BradleyTerryOptions { prior: 1.0, ..BradleyTerryOptions::default() };
    let ridge = Method::Davidson(DavidsonOptions { ridge: 0.5, ..DavidsonOptions::default() });
    for method in [
        Method::default(),
        Method::Online(TrueSkill::default()),
        Method::BradleyTerry(prior),
        Method::WinRate,
        ridge,
    ] {
        let ratings = rate(&answers, &method).unwrap();
        assert_eq!(ratings.iter().map(|r| r.answers).collect::<Vec<_>>(), [4, 3]);
        let scores: Vec<Vec<f64>> = ratings.iter().map(|r| r.normalised(random, human).unwrap()).collect();
        let all = overall(&answers, &scores).unwrap();
        assert!(all["random"].abs() < 1e-9 && (all["human"] - 1.0).abs() < 1e-9, "{method:?}: {all:?}");
        assert!(all["cloned"] > 0.0 && all["cloned"] < 1.0, "{method:?}: {all:?}");
        for rating in &ratings {
            let z = rating.z_scores().unwrap();
            assert!(
                z.iter().sum::<f64>().abs() < 1e-9
                    && (z.iter().map(|v| v * v).sum::<f64>() - 3.0).abs() < 1e-9
            );
        }
        assert!(ratings[0].normalised(human, human).unwrap_err().to_string().contains("of task `FindCave`"));
    }
    // Without a prior, random never wins: there is no maximum.
    let error =
        rate(&answers, &Method::BradleyTerry(BradleyTerryOptions::default())).unwrap_err().to_string();
    assert!(error.contains("of task"), "{error}");
    assert!(answers.player("robot").is_err() && overall(&answers, &[vec![0.0]]).is_err());
}

/// Games of players of known skill: the larger of skill plus noise wins.
fn game(first: usize, second: usize, skills: &[f64], rng: &mut impl rand::Rng) -> Game {
    let mut noise = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let difference = skills[first] - skills[second] + noise() - noise();
    Game { first, second, winner: if difference > 0.0 { Winner::First } else { Winner::Second } }
}

#[test]
fn rank_intervals_hold_the_true_ranks() {
    let skills = [0.0, 1.0, 2.0, 3.0, 4.0];
    let (mut inside, mut all) = (0, 0);
    for trial in 0..6 {
        let mut rng = Seed(11).stream("games", trial);
        let answer = |i: usize, rng: &mut _| {
            let (a, b) = (i % 5, (i % 5 + 1 + (i / 5) % 4) % 5);
            Answer {
                id: None,
                task: "t".into(),
                seed: (i % 11) as u64,
                first: a.to_string(),
                second: b.to_string(),
                outcome: game(a, b, &skills, rng).winner,
                judge: Some(format!("judge {}", i / 10)),
                time: None,
                comment: None,
            }
        };
        let answers = Answers::new((0..200).map(|i| answer(i, &mut rng)).collect()).unwrap();
        let options = Bootstrap { replicates: 60, ..Bootstrap::default() };
        for cluster in [Cluster::Answer, Cluster::Judge, Cluster::Seed] {
            let method = Method::WinRate;
            let intervals = rank_intervals(&answers, "t", &method, cluster, &options).unwrap();
            let sum: f64 = intervals.iter().map(|r| r.p_best).sum();
            assert!((sum - 1.0).abs() < 1e-9 && intervals.iter().all(|r| r.low <= r.high));
            assert_eq!(intervals, rank_intervals(&answers, "t", &method, cluster, &options).unwrap());
            inside += intervals
                .iter()
                .enumerate()
                .filter(|(i, r)| (r.low..=r.high).contains(&((5 - i) as f64)))
                .count();
            all += 5;
        }
    }
    println!("true rank inside {inside}/{all}");
    assert!(inside * 100 >= all * 90, "{inside}/{all}");
    let answers = read(&file()).unwrap();
    let fails = |task: &str, options: Bootstrap| {
        rank_intervals(&answers, task, &Method::default(), Cluster::Judge, &options).is_err()
    };
    assert!(fails("NoTask", Bootstrap::default()));
    assert!(fails("FindCave", Bootstrap { replicates: 0, ..Bootstrap::default() }));
    assert!(fails("FindCave", Bootstrap { level: 1.0, ..Bootstrap::default() }));
}

#[test]
fn asking_where_it_is_uncertain_needs_fewer_answers() {
    // 6 players; how uncertain are their ratings after 60 answers, chosen or cyclic?
    let (skills, model) = ([0.0, 0.5, 1.0, 1.5, 2.0, 8.0].map(|s| s * 4.0), TrueSkill::default());
    let seeds = vec![vec![1, 2, 3]; 6];
    let spread = |chosen: bool| {
        let mut rng = Seed(5).stream("games", 0);
        let mut ratings = vec![model.start(); 6];
        for round in 0..60 {
            let (a, b) = if chosen {
                let pairs = next_pairs(&model, &ratings, &seeds, 3, Seed(1), round).unwrap();
                assert!(pairs.len() == 3 && pairs.iter().all(|p| (1..=3).contains(&p.2)));
                (pairs[0].0, pairs[0].1)
            } else {
                let a = rng.random_range(0..6);
                (a, (a + rng.random_range(1..6)) % 6)
            };
            let (x, y) = model.update(ratings[a], ratings[b], game(a, b, &skills, &mut rng).winner).unwrap();
            (ratings[a], ratings[b]) = (x, y);
        }
        ratings.iter().map(|r| r.sigma * r.sigma).sum::<f64>()
    };
    let (chosen, random) = (spread(true), spread(false));
    println!("sum of variances: chosen {chosen}, random {random}");
    assert!(chosen < random);
    let none = next_pairs(&model, &[model.start(); 2], &[vec![1], vec![2]], 5, Seed(0), 0).unwrap();
    assert!(none.is_empty() && next_pairs(&model, &[model.start()], &[], 5, Seed(0), 0).is_err());
}
