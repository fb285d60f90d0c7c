//! Every point, and random points.
use super::rng::stream;
use super::search::{Ended, Found, Run};
use super::space::Point;
use crate::Result;
use rand::RngExt;
use rayon::prelude::*;
use std::collections::BTreeSet;

/// Points between two looks at the clock.
const CHUNK: u64 = 1024;
/// Most chunks between two merges.
const WAVE: u64 = 1024;

/// Evaluates the points in order, in waves of chunks that run in parallel.
pub(super) fn exhaustive(run: &Run<'_>) -> Result<(Found, Ended)> {
    let limit = run.space.points().min(u128::from(run.budget.evaluations.unwrap_or(u64::MAX)));
    let mut found = Found::new(run.goals.len());
    let (mut next, mut chunks) = (0u128, 8u64);
    while next < limit {
        let starts: Vec<u128> = (0..u128::from(chunks))
            .map(|c| next + c * u128::from(CHUNK))
            .take_while(|&start| start < limit)
            .collect();
        let parts: Vec<Result<Option<Found>>> =
            starts.par_iter().map(|&start| chunk(run, start, limit)).collect();
        let mut skipped = false;
        for part in parts {
            match part? {
                Some(part) => found.absorb(part),
                None => skipped = true,
            }
        }
        run.report(&found);
        if let Some(ended) = run.interrupted().filter(|_| skipped || next < limit) {
            return Ok((found, ended));
        }
        next += u128::from(chunks) * u128::from(CHUNK);
        chunks = (2 * chunks).min(WAVE);
    }
    Ok((found, Ended::Evaluations))
}

/// One chunk; none of it when the search should end.
fn chunk(run: &Run<'_>, start: u128, limit: u128) -> Result<Option<Found>> {
    if run.interrupted().is_some() {
        return Ok(None);
    }
    let mut part = Found::new(run.goals.len());
    let mut point = run.space.point_at(start);
    for _ in 0..(limit - start).min(u128::from(CHUNK)) {
        part.visit(run, &point)?;
        run.space.advance(&mut point);
    }
    Ok(Some(part))
}

/// Evaluates `n` different random points, fewer when the space has fewer.
pub(super) fn random(run: &Run<'_>, n: u64) -> Result<(Found, Ended)> {
    let limit = n.min(run.budget.evaluations.unwrap_or(u64::MAX));
    if u128::from(limit) >= run.space.points() {
        return exhaustive(run);
    }
    let mut found = Found::new(run.goals.len());
    let mut seen: BTreeSet<Point> = BTreeSet::new();
    let mut rng = stream(run.seed, "random points", 0);
    while (seen.len() as u64) < limit {
        let wanted = CHUNK.min(limit - seen.len() as u64) as usize;
        let mut fresh = Vec::with_capacity(wanted);
        while fresh.len() < wanted {
            let point = random_point(run, &mut rng);
            if seen.insert(point.clone()) {
                fresh.push(point);
            }
        }
        for part in visit_all(run, &fresh) {
            found.absorb(part?);
        }
        run.report(&found);
        if let Some(ended) = run.interrupted() {
            return Ok((found, ended));
        }
    }
    Ok((found, if limit < n { Ended::Evaluations } else { Ended::Schedule }))
}

pub(super) fn random_point(run: &Run<'_>, rng: &mut rand_chacha::ChaCha8Rng) -> Point {
    Point(run.space.sizes().map(|n| rng.random_range(0..n)).collect())
}

fn visit_all(run: &Run<'_>, points: &[Point]) -> Vec<Result<Found>> {
    let part = |chunk: &[Point]| {
        let mut part = Found::new(run.goals.len());
        chunk.iter().try_for_each(|p| part.visit(run, p).map(drop))?;
        Ok(part)
    };
    points.par_chunks(64).map(part).collect()
}
