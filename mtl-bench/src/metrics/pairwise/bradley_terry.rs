//! Bradley–Terry: Bradley and Terry, *Rank Analysis of Incomplete Block Designs*, Biometrika 39, 1952; fitted by
//! minorise–maximise: Hunter, *MM Algorithms for Generalized Bradley–Terry Models*, Annals of Statistics 32, 2004.
use super::{Game, wins};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

const NAME: &str = "bradley_terry";

/// How to fit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BradleyTerryOptions {
    /// Virtual draws of every player against every other, in sum over the opponents; 0 is maximum likelihood.
    ///
    /// A positive number makes the estimate exist for any games, at the price of pulling the players together.
    pub prior: f64,
    /// Largest change of a log strength in the last step, positive.
    pub tolerance: f64,
    /// Steps after which the fit fails.
    pub max_steps: usize,
}

impl Default for BradleyTerryOptions {
    fn default() -> Self {
        Self { prior: 0.0, tolerance: 1e-12, max_steps: 100_000 }
    }
}

/// Fitted strengths: player i beats j with probability pᵢ / (pᵢ + pⱼ).
#[derive(Debug, Clone, PartialEq)]
pub struct BradleyTerry {
    /// Positive, with sum 1.
    pub strengths: Vec<f64>,
    /// Covariance of the log strengths, whose mean is fixed at 0: `[players, players]`.
    pub covariance: Vec<Vec<f64>>,
    /// Steps taken.
    pub steps: usize,
}

impl BradleyTerry {
    /// Maximises the likelihood, a draw counting as half a win for each.
    ///
    /// ```
    /// use mtl_bench::metrics::pairwise::{BradleyTerry, Game, Winner};
    ///
    /// let game = |winner| Game { first: 0, second: 1, winner };
    /// let games = [game(Winner::First), game(Winner::First), game(Winner::First), game(Winner::Second)];
    /// let fit = BradleyTerry::fit(2, &games, Default::default())?;
    /// assert!((fit.strengths[0] - 0.75).abs() < 1e-9);
    /// # Ok::<(), mtl_bench::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] for fewer than 2 players, an unknown player, one who plays against themself; when without a prior
    /// some players never win against the others, so that no maximum exists (Ford 1957); or when the steps run out.
    /// [`Error::Argument`] for options out of range.
    pub fn fit(players: usize, games: &[Game], options: BradleyTerryOptions) -> Result<Self> {
        let BradleyTerryOptions { prior, tolerance, max_steps } = options;
        if !(prior >= 0.0 && prior.is_finite()) {
            return Err(Error::argument("prior", "at least 0 and finite", prior));
        }
        if !(tolerance > 0.0 && tolerance.is_finite()) {
            return Err(Error::argument("tolerance", "positive and finite", tolerance));
        }
        let mut wins = wins(players, games)?;
        let each = prior / (2 * (players - 1)) as f64;
        for (i, row) in wins.iter_mut().enumerate() {
            for (_, count) in row.iter_mut().enumerate().filter(|(j, _)| *j != i) {
                *count += each;
            }
        }
        strongly_connected(&wins)?;
        let mut strengths = vec![1.0 / players as f64; players];
        for step in 1..=max_steps {
            let next = improve(&wins, &strengths);
            let change = next.iter().zip(&strengths).map(|(a, b)| (a / b).ln().abs()).fold(0.0, f64::max);
            strengths = next;
            if change <= tolerance {
                let covariance = covariance(&wins, &strengths)?;
                return Ok(Self { strengths, covariance, steps: step });
            }
        }
        Err(Error::metric(NAME, format!("no convergence after {max_steps} steps")))
    }

    /// Log strengths, with mean 0.
    pub fn log_strengths(&self) -> Vec<f64> {
        let logs: Vec<f64> = self.strengths.iter().map(|p| p.ln()).collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        logs.into_iter().map(|l| l - mean).collect()
    }

    /// Standard errors of the log strengths.
    pub fn standard_errors(&self) -> Vec<f64> {
        self.covariance.iter().enumerate().map(|(i, row)| row[i].max(0.0).sqrt()).collect()
    }

    /// Probability that `first` beats `second`; `None` for an unknown player.
    pub fn win_probability(&self, first: usize, second: usize) -> Option<f64> {
        let (a, b) = (self.strengths.get(first)?, self.strengths.get(second)?);
        Some(a / (a + b))
    }
}

/// Strengths, with sum 1, after this many steps from equal strengths; does not ask whether they converge.
///
/// `wins` is `[players, players]`, row against column. For data without a maximum the strengths of the weaker groups fall
/// for ever, like 1/steps; their ratios inside a group converge.
///
/// # Errors
///
/// [`Error::Metric`] when the matrix is not square, a count is negative or not finite, or a player has no games.
pub fn minorise_maximise(wins: &[Vec<f64>], steps: usize) -> Result<Vec<f64>> {
    let n = wins.len();
    if n < 2 || wins.iter().any(|row| row.len() != n) {
        return Err(Error::metric(NAME, "the counts must be a square matrix of at least 2 players"));
    }
    if wins.iter().flatten().any(|w| !(*w >= 0.0 && w.is_finite())) {
        return Err(Error::metric(NAME, "a count is negative or not finite"));
    }
    if let Some(i) = (0..n).find(|&i| (0..n).all(|j| i == j || wins[i][j] + wins[j][i] == 0.0)) {
        return Err(Error::metric(NAME, format!("player {i} has no games")));
    }
    let mut strengths = vec![1.0 / n as f64; n];
    for _ in 0..steps {
        strengths = improve(wins, &strengths);
    }
    Ok(strengths)
}

/// One step: pᵢ ← wᵢ / Σⱼ nᵢⱼ / (pᵢ + pⱼ), then divided by the sum.
fn improve(wins: &[Vec<f64>], strengths: &[f64]) -> Vec<f64> {
    let n = strengths.len();
    let others = |i: usize| (0..n).filter(move |&j| j != i);
    let next = |i: usize| {
        let won: f64 = others(i).map(|j| wins[i][j]).sum();
        let rate: f64 = others(i)
            .map(|j| (wins[i][j] + wins[j][i], strengths[i] + strengths[j]))
            .filter(|(games, sum)| *games > 0.0 && *sum > 0.0)
            .map(|(games, sum)| games / sum)
            .sum();
        if won == 0.0 { 0.0 } else { won / rate }
    };
    let raw: Vec<f64> = (0..n).map(next).collect();
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|p| p / sum).collect()
}

/// Fails, naming the groups, unless every player has beaten every other through some chain of wins.
fn strongly_connected(wins: &[Vec<f64>]) -> Result<()> {
    let n = wins.len();
    let reach = |from: usize| {
        let (mut seen, mut open) = (vec![false; n], vec![from]);
        seen[from] = true;
        while let Some(i) = open.pop() {
            for j in (0..n).filter(|&j| wins[i][j] > 0.0) {
                if !std::mem::replace(&mut seen[j], true) {
                    open.push(j);
                }
            }
        }
        seen
    };
    let reached: Vec<Vec<bool>> = (0..n).map(reach).collect();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (i, from_here) in reached.iter().enumerate() {
        match groups.iter_mut().find(|g| reached[g[0]][i] && from_here[g[0]]) {
            Some(group) => group.push(i),
            None => groups.push(vec![i]),
        }
    }
    if groups.len() == 1 {
        return Ok(());
    }
    let message = format!(
        "no maximum exists, because the groups of players {groups:?} are not connected by wins in both directions; \
         use a prior above 0"
    );
    Err(Error::metric(NAME, message))
}

/// Inverse Fisher information of the log strengths where their sum is fixed: (F + 11ᵀ/n)⁻¹ − 11ᵀ/n.
fn covariance(wins: &[Vec<f64>], strengths: &[f64]) -> Result<Vec<Vec<f64>>> {
    let n = strengths.len();
    let constant = 1.0 / n as f64;
    let mut rows = vec![vec![0.0; 2 * n]; n];
    for i in 0..n {
        rows[i][n + i] = 1.0;
        for j in (0..n).filter(|&j| j != i) {
            let p = strengths[i] / (strengths[i] + strengths[j]);
            let information = (wins[i][j] + wins[j][i]) * p * (1.0 - p);
            rows[i][i] += information;
            rows[i][j] -= information;
        }
        (0..n).for_each(|j| rows[i][j] += constant);
    }
    // Gauss–Jordan elimination with row pivots.
    for column in 0..n {
        let pivot = (column..n)
            .max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))
            .unwrap_or(column);
        rows.swap(column, pivot);
        let head = rows[column][column];
        if head == 0.0 || !head.is_finite() {
            return Err(Error::metric(NAME, "the information matrix is singular"));
        }
        rows[column].iter_mut().for_each(|v| *v /= head);
        let pivot_row = rows[column].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(i, _)| *i != column) {
            let factor = row[column];
            row.iter_mut().zip(&pivot_row).for_each(|(v, p)| *v -= factor * p);
        }
    }
    Ok(rows.into_iter().map(|row| row[n..].iter().map(|v| v - constant).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::super::Winner;
    use super::*;

    fn game(first: usize, second: usize, winner: Winner) -> Game {
        Game { first, second, winner }
    }

    #[test]
    fn groups_without_wins_in_both_directions_are_named() {
        let games = [game(0, 1, Winner::Draw), game(2, 0, Winner::First)];
        let fault = BradleyTerry::fit(3, &games, BradleyTerryOptions::default()).unwrap_err();
        insta::assert_snapshot!(fault, @"`bradley_terry`: no maximum exists, because the groups of players [[0, 1], [2]] are not connected by wins in both directions; use a prior above 0");
        let options = BradleyTerryOptions { prior: 1.0, ..BradleyTerryOptions::default() };
        let fit = BradleyTerry::fit(3, &games, options).unwrap();
        assert!(fit.strengths[2] > fit.strengths[1] && fit.strengths[1] > fit.strengths[0]);
        let fault = minorise_maximise(&[vec![0.0; 2], vec![0.0; 2]], 1).unwrap_err();
        insta::assert_snapshot!(fault, @"`bradley_terry`: player 0 has no games");
    }

    #[test]
    fn two_players_have_the_binomial_error() {
        let games = [Winner::First, Winner::First, Winner::First, Winner::Second].map(|w| game(0, 1, w));
        let fit = BradleyTerry::fit(2, &games, BradleyTerryOptions::default()).unwrap();
        // The log odds have variance 1/(n p (1 − p)); each log strength is half of them.
        let expected = 0.5 * (1.0 / (4.0 * 0.75 * 0.25_f64)).sqrt();
        assert!((fit.standard_errors()[0] - expected).abs() < 1e-9);
        assert!((fit.log_strengths()[0] - 0.5 * 3_f64.ln()).abs() < 1e-9);
        assert!((fit.win_probability(0, 1).unwrap() - 0.75).abs() < 1e-9);
    }
}
