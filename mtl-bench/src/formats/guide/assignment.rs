//! Optimal one-to-one assignment: Kuhn, *The Hungarian Method for the Assignment Problem*, 1955, by shortest augmenting
//! paths as in Jonker and Volgenant, 1987.
use crate::{Error, Result};

/// For each row the column assigned to it, so that the sum of scores is largest; with more rows than columns some get none.
///
/// Takes O(n² m) for n the smaller and m the larger side.
///
/// ```
/// use mtl_bench::formats::guide::best_assignment;
///
/// assert_eq!(best_assignment(&[vec![0.9, 0.8], vec![0.8, 0.1]])?, [Some(1), Some(0)]);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Argument`] when rows differ in length or a score is not finite.
pub fn best_assignment(scores: &[Vec<f64>]) -> Result<Vec<Option<usize>>> {
    let (rows, columns) = (scores.len(), scores.first().map_or(0, Vec::len));
    if scores.iter().any(|r| r.len() != columns || r.iter().any(|s| !s.is_finite())) {
        return Err(Error::argument("scores", "a matrix of finite numbers", format!("{rows} rows")));
    }
    if rows > columns {
        let turned: Vec<Vec<f64>> =
            (0..columns).map(|j| scores.iter().filter_map(|r| r.get(j)).copied().collect()).collect();
        let mut found = vec![None; rows];
        for (column, row) in best_assignment(&turned)?.into_iter().enumerate() {
            if let Some(cell) = row.and_then(|r| found.get_mut(r)) {
                *cell = Some(column);
            }
        }
        return Ok(found);
    }
    // Costs are −scores. Index 0 of rows and columns is a virtual start; potentials keep reduced costs at least 0.
    let (mut row_potential, mut column_potential) = (vec![0.0; rows + 1], vec![0.0; columns + 1]);
    let mut row_of = vec![0_usize; columns + 1];
    for row in 1..=rows {
        row_of[0] = row;
        let (mut least, mut from) = (vec![f64::INFINITY; columns + 1], vec![0_usize; columns + 1]);
        let mut done = vec![false; columns + 1];
        let mut at = 0;
        while row_of[at] != 0 {
            done[at] = true;
            let i = row_of[at];
            let (mut step, mut next) = (f64::INFINITY, 0);
            for j in (1..=columns).filter(|&j| !done[j]) {
                let reduced = -scores[i - 1][j - 1] - row_potential[i] - column_potential[j];
                if reduced < least[j] {
                    (least[j], from[j]) = (reduced, at);
                }
                if least[j] < step {
                    (step, next) = (least[j], j);
                }
            }
            for j in 0..=columns {
                if done[j] {
                    row_potential[row_of[j]] += step;
                    column_potential[j] -= step;
                } else {
                    least[j] -= step;
                }
            }
            at = next;
        }
        while at != 0 {
            row_of[at] = row_of[from[at]];
            at = from[at];
        }
    }
    let mut found = vec![None; rows];
    for (column, &row) in row_of.iter().enumerate().skip(1).filter(|(_, r)| **r != 0) {
        found[row - 1] = Some(column - 1);
    }
    Ok(found)
}
