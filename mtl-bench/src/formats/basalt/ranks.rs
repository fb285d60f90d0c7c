//! How sure ranks are.
use super::{Answer, Answers, Method};
use crate::stats::{Bootstrap, quantile};
use crate::{Error, Result};
use rand::RngExt;
use std::collections::BTreeMap;

/// What is drawn together in a resample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cluster {
    /// Each answer by itself.
    Answer,
    /// All answers of a judge; those without a judge each by themselves.
    Judge,
    /// All answers about a world seed.
    Seed,
}

/// Rank of a player, 1 for the best, over resamples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RankInterval {
    /// Rank by the answers themselves; ties share the mean of their ranks.
    pub rank: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Share of the resamples in which the player is best; ties share.
    pub p_best: f64,
}

/// Percentile intervals of the ranks in a task, over answers resampled by cluster.
///
/// A resample that the method cannot rate, such as one that leaves Bradley–Terry without a maximum, is an error: use a prior.
///
/// # Errors
///
/// [`Error::Argument`] for a task without 2 clusters, no replicates or a level out of range; as [`Method::rate`].
pub fn rank_intervals(
    answers: &Answers,
    task: &str,
    method: &Method,
    cluster: Cluster,
    options: &Bootstrap,
) -> Result<Vec<RankInterval>> {
    if options.replicates == 0 {
        return Err(Error::argument("replicates", "at least 1", 0));
    }
    if !(0.0 < options.level && options.level < 1.0) {
        return Err(Error::argument("level", "in (0, 1)", options.level));
    }
    let (about, games) = answers.games(task);
    let mut groups: BTreeMap<(String, usize), Vec<usize>> = BTreeMap::new();
    for (i, answer) in about.iter().enumerate() {
        groups.entry(key(answer, i, cluster)).or_default().push(i);
    }
    let groups: Vec<Vec<usize>> = groups.into_values().collect();
    if groups.len() < 2 {
        return Err(Error::argument("answers", format!("at least 2 clusters about `{task}`"), groups.len()));
    }
    let players = answers.players.len();
    let ranks_of = |games: &[_]| {
        Ok::<_, Error>(ranks(&method.rate(players, games)?.iter().map(|r| r.mu).collect::<Vec<_>>()))
    };
    let observed = ranks_of(&games)?;
    let (mut drawn, mut best) = (vec![Vec::new(); players], vec![0.0; players]);
    for replicate in 0..u64::from(options.replicates) {
        let mut rng = options.seed.stream("basalt-ranks", replicate);
        let mut picked = Vec::with_capacity(groups.len());
        for _ in 0..groups.len() {
            picked.push(rng.random_range(0..groups.len()));
        }
        let sample: Vec<_> = picked
            .iter()
            .filter_map(|&g| groups.get(g))
            .flatten()
            .filter_map(|&i| games.get(i).copied())
            .collect();
        let ranks = ranks_of(&sample).map_err(|e| e.in_task(task))?;
        let top = ranks.iter().copied().fold(f64::INFINITY, f64::min);
        let shared = ranks.iter().filter(|r| **r == top).count() as f64;
        for ((rank, drawn), best) in ranks.iter().zip(&mut drawn).zip(&mut best) {
            drawn.push(*rank);
            *best += if *rank == top { 1.0 / shared } else { 0.0 };
        }
    }
    let tail = (1.0 - options.level) / 2.0;
    let interval = |((rank, mut drawn), best): ((f64, Vec<f64>), f64)| {
        drawn.sort_by(f64::total_cmp);
        let p_best = best / f64::from(options.replicates);
        RankInterval { rank, low: quantile(&drawn, tail), high: quantile(&drawn, 1.0 - tail), p_best }
    };
    Ok(observed.into_iter().zip(drawn).zip(best).map(interval).collect())
}

fn key(answer: &Answer, index: usize, cluster: Cluster) -> (String, usize) {
    match (cluster, &answer.judge) {
        (Cluster::Judge, Some(judge)) => (judge.clone(), 0),
        (Cluster::Seed, _) => (answer.seed.to_string(), 0),
        _ => (String::new(), index + 1),
    }
}

/// Ranks of ratings, 1 for the largest; ties share the mean.
fn ranks(ratings: &[f64]) -> Vec<f64> {
    let rank = |r: &f64| {
        let above = ratings.iter().filter(|o| *o > r).count();
        let equal = ratings.iter().filter(|o| *o == r).count();
        above as f64 + (equal as f64 + 1.0) / 2.0
    };
    ratings.iter().map(rank).collect()
}
