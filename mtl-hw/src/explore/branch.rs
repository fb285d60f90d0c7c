//! Branch and bound (Land & Doig, *An Automatic Method of Solving Discrete Programming Problems*, Econometrica 28(3), 1960)
//! for Pareto fronts: a subtree is dropped when its bound is dominated by the archive or breaks a constraint.
use super::exhaustive::random_point;
use super::front::Archive;
use super::objectives::{Bound, Costs, Violation};
use super::rng::stream;
use super::search::{Ended, Found, Run, Visit};
use super::space::{Partial, Point};
use crate::Result;
use rand::RngExt;
use rayon::prelude::*;

/// Subtrees that the space is cut into before the search proper.
const SUBTREES: usize = 1024;
/// Subtrees searched at the same time. A constant, so that the number of visits does not depend on the threads.
const WAVE: usize = 16;
/// Passes of coordinate descent that improve the seeds.
const PASSES: usize = 3;

/// A partial assignment with its bound and the sum of the bound's normalised values.
#[derive(Debug, Clone)]
struct Node {
    prefix: Vec<u32>,
    bound: Option<Costs>,
    key: f64,
}

impl Node {
    fn excluded(&self, archive: &Archive) -> bool {
        self.bound.is_some_and(|b| archive.excludes(b.as_slice(), &self.prefix))
    }
}

/// Best bound first, then in order of parameters.
fn sort(nodes: &mut [Node]) {
    nodes.sort_by(|a, b| a.key.total_cmp(&b.key).then_with(|| a.prefix.cmp(&b.prefix)));
}

/// Searches the whole space.
pub(super) fn branch_and_bound(run: &Run<'_>) -> Result<(Found, Ended)> {
    let mut found = Found::new(run.goals.len());
    let scale = seed(run, &mut found)?;
    let mut nodes = frontier(run, &mut found, &scale)?;
    sort(&mut nodes);
    // With a budget of evaluations one subtree at a time, so that the budget is met exactly.
    let wave = if run.budget.evaluations.is_some() { 1 } else { WAVE };
    for nodes in nodes.chunks(wave) {
        let parts: Vec<Result<Part>> =
            nodes.par_iter().map(|node| search(run, &found, &scale, node, u64::MAX)).collect();
        let mut ended = None;
        for part in parts {
            let part = part?;
            ended = ended.or(part.ended);
            found.absorb(part.found);
        }
        run.report(&found);
        if let Some(ended) = ended {
            return Ok((found, ended));
        }
    }
    Ok((found, Ended::Complete))
}

/// Share of sampled points that bounds exclude: about `share` of the space in random subtrees, but at most `cap` visits.
pub(super) fn sample_pruning(run: &Run<'_>, share: f64, cap: u64) -> Result<f64> {
    let mut found = Found::new(run.goals.len());
    let scale = seed(run, &mut found)?;
    let seeds = found.evaluated;
    let mut nodes = frontier(run, &mut found, &scale)?;
    if nodes.iter().all(|n| n.bound.is_none()) {
        return Ok(if nodes.is_empty() { 1.0 } else { 0.0 });
    }
    // What the frontier excluded counts as excluded for the sampled share of the space.
    let dropped = found.pruned as f64 / run.space.points() as f64;
    let mut rng = stream(run.seed, "pruning sample", 0);
    let wanted = ((nodes.len() as f64 * share).ceil() as usize).clamp(1, nodes.len().max(1));
    let (mut points, mut visits) = (0u128, 0u64);
    for _ in 0..wanted.max(8).min(nodes.len()) {
        let node = nodes.swap_remove(rng.random_range(0..nodes.len()));
        points += run.space.below(node.prefix.len());
        let part = search(run, &found, &scale, &node, cap.saturating_sub(visits))?;
        visits += part.found.evaluated;
        // What a subtree found helps the next, as in the search proper.
        found.archive.absorb(part.found.archive);
        if part.ended.is_some() {
            return Ok(0.0);
        }
    }
    let kept = if points == 0 { 0.0 } else { visits as f64 / points as f64 };
    let spent = seeds as f64 / run.space.points() as f64;
    Ok(1.0 - (1.0 - dropped) * kept - spent)
}

/// Evaluates the evaluator's seeds, or random points, and improves the best by coordinate descent; returns the scale of each
/// goal. The tree meets these points again, so they count as visits but not as covered.
fn seed(run: &Run<'_>, found: &mut Found) -> Result<Vec<f64>> {
    let mut points = run.eval.seeds();
    points.retain(|p| run.space.check(p).is_ok());
    if points.is_empty() {
        let mut rng = stream(run.seed, "scouts", 0);
        points = (0..64).map(|_| random_point(run, &mut rng)).collect();
    }
    points.sort();
    points.dedup();
    let mut scouts = Found::new(run.goals.len());
    for point in &points {
        if run.left(&scouts) == 0 || run.interrupted().is_some() {
            break;
        }
        scouts.visit(run, point)?;
    }
    let scale = scales(&scouts.archive, run.goals.len());
    for goal in 0..run.goals.len() {
        descend(run, &mut scouts, &scale, goal)?;
    }
    found.evaluated += scouts.evaluated;
    found.repeated += scouts.evaluated;
    found.archive = scouts.archive;
    Ok(scale)
}

/// Ideal point of an archive, to put goals on one scale.
fn scales(archive: &Archive, goals: usize) -> Vec<f64> {
    let rows = archive.cost_rows();
    (0..goals)
        .map(|g| {
            let column = rows.iter().filter_map(|r| r.get(g)).map(|v| v.abs());
            column.fold(0.0, f64::max).max(f64::MIN_POSITIVE)
        })
        .collect()
}

/// Coordinate descent on one goal, ties by the sum of all, from the best archived point.
fn descend(run: &Run<'_>, found: &mut Found, scale: &[f64], goal: usize) -> Result<()> {
    let value = |costs: &[f64]| {
        let sum: f64 = costs.iter().zip(scale).map(|(c, s)| c / s).sum();
        costs.get(goal).zip(scale.get(goal)).map_or(sum, |(c, s)| c / s + 1e-3 * sum)
    };
    let Some((mut best, mut point)) = found.archive.best_by(value) else { return Ok(()) };
    for _ in 0..PASSES {
        let before = best;
        for dim in 0..point.0.len() {
            for index in 0..run.space.size(dim).min(64) {
                if run.left(found) == 0 || run.interrupted().is_some() {
                    return Ok(());
                }
                let mut next = point.clone();
                if let Some(slot) = next.0.get_mut(dim).filter(|slot| **slot != index) {
                    *slot = index;
                } else {
                    continue;
                }
                if let Visit::Feasible(costs) = found.visit(run, &next)?
                    && value(costs.as_slice()) < best
                {
                    best = value(costs.as_slice());
                    point = next;
                }
            }
        }
        if best >= before {
            break;
        }
    }
    Ok(())
}

/// Children of a node that their bounds do not exclude.
fn children(
    run: &Run<'_>,
    found: &mut Found,
    seen: &[&Archive],
    scale: &[f64],
    prefix: &[u32],
) -> Result<Vec<Node>> {
    let dim = prefix.len();
    let mut nodes = Vec::with_capacity(run.space.size(dim) as usize);
    for index in 0..run.space.size(dim) {
        let mut child = prefix.to_vec();
        child.push(index);
        found.bounds += 1;
        let (bound, broken): (Option<Costs>, Option<Violation>) =
            match run.eval.lower_bound(&Partial::new(run.space, &child)) {
                Bound::Unknown => (None, None),
                Bound::AtLeast(o) => (Some(run.costs(&Point(child.clone()), &o)?), None),
                Bound::Infeasible(violation) => (None, Some(violation)),
            };
        let key =
            bound.map_or(f64::NEG_INFINITY, |b| b.as_slice().iter().zip(scale).map(|(c, s)| c / s).sum());
        let node = Node { prefix: child, bound, key };
        let below = run.space.below(dim + 1);
        if let Some(violation) = broken {
            found.blame(violation, below);
            found.pruned += below;
        } else if node.excluded(&found.archive) || seen.iter().any(|a| node.excluded(a)) {
            found.pruned += below;
        } else {
            nodes.push(node);
        }
    }
    Ok(nodes)
}

/// Cuts the space into subtrees, level by level.
fn frontier(run: &Run<'_>, found: &mut Found, scale: &[f64]) -> Result<Vec<Node>> {
    let depth = run.space.dims().len();
    let mut nodes = vec![Node { prefix: Vec::new(), bound: None, key: 0.0 }];
    // The last level is left to the subtrees: leaves are evaluated, not bounded.
    for _ in 1..depth {
        if nodes.len() >= SUBTREES {
            break;
        }
        let mut next = Vec::new();
        for node in &nodes {
            next.extend(children(run, found, &[], scale, &node.prefix)?);
        }
        nodes = next;
    }
    Ok(nodes)
}

/// What the search of one subtree found.
struct Part {
    found: Found,
    ended: Option<Ended>,
}

/// Depth-first search of a subtree with at most `cap` visits, against what others had found when it began.
fn search(run: &Run<'_>, before: &Found, scale: &[f64], node: &Node, cap: u64) -> Result<Part> {
    let cap = cap.min(run.left(before));
    let mut subtree =
        Subtree { run, before: &before.archive, scale, cap, found: Found::new(run.goals.len()) };
    let ended = subtree.descend(node)?;
    Ok(Part { found: subtree.found, ended })
}

struct Subtree<'a> {
    run: &'a Run<'a>,
    before: &'a Archive,
    scale: &'a [f64],
    cap: u64,
    found: Found,
}

impl Subtree<'_> {
    fn descend(&mut self, node: &Node) -> Result<Option<Ended>> {
        // The archive may have grown since the bound was computed.
        if node.excluded(self.before) || node.excluded(&self.found.archive) {
            self.found.pruned += self.run.space.below(node.prefix.len());
            return Ok(None);
        }
        let last = self.run.space.dims().len() - 1;
        if node.prefix.len() >= last {
            return self.leaves(&node.prefix);
        }
        let mut nodes = children(self.run, &mut self.found, &[self.before], self.scale, &node.prefix)?;
        sort(&mut nodes);
        for child in &nodes {
            if let Some(ended) = self.descend(child)? {
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }

    /// Evaluates all values of the last dimension.
    fn leaves(&mut self, prefix: &[u32]) -> Result<Option<Ended>> {
        let mut point = Point(prefix.to_vec());
        point.0.push(0);
        if let Some(ended) = self.run.interrupted() {
            return Ok(Some(ended));
        }
        for index in 0..self.run.space.size(prefix.len()) {
            if self.found.evaluated >= self.cap {
                return Ok(Some(Ended::Evaluations));
            }
            if let Some(slot) = point.0.last_mut() {
                *slot = index;
            }
            self.found.visit(self.run, &point)?;
        }
        Ok(None)
    }
}
