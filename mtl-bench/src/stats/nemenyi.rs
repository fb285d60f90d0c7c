//! Nemenyi's test of all pairs and the critical-difference diagram: Demšar, JMLR 7, 2006; groups by pairwise tests:
//! Benavoli, Corani and Mangili, *Should We Really Use Post-Hoc Tests Based on Mean-Ranks?*, JMLR 17, 2016.
use super::{Friedman, check_level, studentised_range_quantile, studentised_range_sf};
use crate::{Error, Result};
use std::f64::consts::SQRT_2;

/// What a critical-difference diagram shows.
#[derive(Debug, Clone, PartialEq)]
pub struct CriticalDifference {
    /// Methods and their average ranks, best first.
    pub ranks: Vec<(String, f64)>,
    /// Average ranks that differ by more than this differ significantly.
    pub cd: f64,
    /// First and last position in `ranks` of each largest group that hangs together; single methods are left out.
    pub groups: Vec<(usize, usize)>,
    /// p of each pair, in the order of `ranks`; 1 on the diagonal.
    pub p: Vec<Vec<f64>>,
}

impl CriticalDifference {
    /// Nemenyi's comparison of all pairs after [`super::friedman`]; `names` in the order of its methods.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for another number of names, or a level out of range.
    pub fn nemenyi(friedman: &Friedman, names: &[&str], level: f64) -> Result<Self> {
        check_level(level)?;
        let k = friedman.average_ranks.len();
        if names.len() != k {
            return Err(Error::argument("names", format!("one per method ({k})"), names.len()));
        }
        let mut order: Vec<usize> = (0..k).collect();
        order.sort_by(|&a, &b| friedman.average_ranks[a].total_cmp(&friedman.average_ranks[b]));
        let ranks: Vec<(String, f64)> =
            order.iter().map(|&m| (names[m].to_owned(), friedman.average_ranks[m])).collect();
        let error = friedman.rank_error();
        let cd = studentised_range_quantile(1.0 - level, k, f64::INFINITY)? / SQRT_2 * error;
        let pair = |a: f64, b: f64| studentised_range_sf((a - b).abs() / error * SQRT_2, k, f64::INFINITY);
        let row = |a: &(String, f64)| ranks.iter().map(|b| pair(a.1, b.1)).collect::<Result<Vec<f64>>>();
        let p = ranks.iter().map(row).collect::<Result<_>>()?;
        let groups = groups(&ranks, cd);
        Ok(Self { ranks, cd, groups, p })
    }
}

/// Largest runs of sorted ranks whose ends differ by at most `cd`.
fn groups(ranks: &[(String, f64)], cd: f64) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (first, (_, rank)) in ranks.iter().enumerate() {
        let last = ranks.partition_point(|(_, r)| r - rank <= cd) - 1;
        if last > first && found.last().is_none_or(|(_, end)| last > *end) {
            found.push((first, last));
        }
    }
    found
}

/// Largest sets of methods no two of which differ at `alpha`, from a symmetric matrix of (corrected) p; sets in
/// ascending order, single methods left out. For pairwise tests, whose groups need not be neighbours in rank.
///
/// # Errors
///
/// [`Error::Argument`] for a matrix that is not square, or over 64 methods.
pub fn maximal_groups(p: &[Vec<f64>], alpha: f64) -> Result<Vec<Vec<usize>>> {
    let k = p.len();
    if k > 64 || p.iter().any(|row| row.len() != k) {
        return Err(Error::argument("p", "a square matrix of at most 64 methods", format!("{k} rows")));
    }
    let alike = |a: usize| (0..k).filter(|&b| b != a && p[a][b] >= alpha).fold(0_u64, |set, b| set | 1 << b);
    let neighbours: Vec<u64> = (0..k).map(alike).collect();
    let all = if k == 64 { u64::MAX } else { (1 << k) - 1 };
    let mut found = Vec::new();
    cliques(0, all, 0, &neighbours, &mut found);
    let members = |set: &u64| (0..k).filter(|m| set >> m & 1 == 1).collect::<Vec<usize>>();
    let mut groups: Vec<Vec<usize>> = found.iter().map(members).filter(|g| g.len() > 1).collect();
    groups.sort();
    Ok(groups)
}

/// Bron and Kerbosch, Communications of the ACM 16, 1973, with a pivot.
fn cliques(chosen: u64, mut open: u64, mut closed: u64, neighbours: &[u64], found: &mut Vec<u64>) {
    if open == 0 {
        if closed == 0 {
            found.push(chosen);
        }
        return;
    }
    let candidates = (0..neighbours.len()).filter(|v| (open | closed) >> v & 1 == 1);
    let pivot = candidates.max_by_key(|&v| (neighbours[v] & open).count_ones()).unwrap_or(0);
    let mut branch = open & !neighbours[pivot];
    while branch != 0 {
        let v = branch.trailing_zeros() as usize;
        cliques(chosen | 1 << v, open & neighbours[v], closed & neighbours[v], neighbours, found);
        open &= !(1 << v);
        closed |= 1 << v;
        branch &= branch - 1;
    }
}
