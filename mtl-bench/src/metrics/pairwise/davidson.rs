//! Bradley–Terry with draws: Davidson, *On Extending the Bradley–Terry Model to Accommodate Ties in Paired Comparison
//! Experiments*, Journal of the American Statistical Association 65, 1970; fitted by Newton's method.
use super::{BradleyTerry, BradleyTerryOptions, Game, Winner, check};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

const NAME: &str = "davidson";

/// How to fit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DavidsonOptions {
    /// Weight λ of the ridge −½ λ Σ θᵢ² on the log strengths; 0 is maximum likelihood.
    pub ridge: f64,
    /// Largest change of a parameter in the last step, positive.
    pub tolerance: f64,
    /// Steps after which the fit fails.
    pub max_steps: usize,
}

impl Default for DavidsonOptions {
    fn default() -> Self {
        Self { ridge: 0.0, tolerance: 1e-10, max_steps: 200 }
    }
}

/// Fitted model: i beats j, j beats i and draw have odds pᵢ : pⱼ : ν √(pᵢ pⱼ), with pᵢ = exp θᵢ.
#[derive(Debug, Clone, PartialEq)]
pub struct Davidson {
    /// Log strengths θ, with mean 0.
    pub log_strengths: Vec<f64>,
    /// Standard errors of the log strengths, from the curvature.
    pub standard_errors: Vec<f64>,
    /// ν, positive: between equal players a draw is ν times as likely as a win of one of them.
    pub nu: f64,
    /// Steps taken.
    pub steps: usize,
}

impl Davidson {
    /// Maximises the likelihood, or with a ridge the posterior.
    ///
    /// ```
    /// use mtl_bench::metrics::pairwise::{Davidson, Game, Winner};
    ///
    /// // Equal players, 2 wins each and 4 draws: odds 1 : 1 : 2.
    /// let game = |winner| Game { first: 0, second: 1, winner };
    /// let games = [Winner::First, Winner::Second, Winner::Draw, Winner::Draw].map(game).repeat(2);
    /// let fit = Davidson::fit(2, &games, Default::default())?;
    /// assert!((fit.nu - 2.0).abs() < 1e-9 && fit.log_strengths[0].abs() < 1e-9);
    /// # Ok::<(), mtl_bench::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] for fewer than 2 players, an unknown player, one who plays against themself; when no game or every
    /// game is a draw, so that ν has no estimate; when without a ridge no maximum exists, as for [`BradleyTerry::fit`]; or
    /// when the steps run out. [`Error::Argument`] for options out of range.
    pub fn fit(players: usize, games: &[Game], options: DavidsonOptions) -> Result<Self> {
        check(NAME, players, games)?;
        let DavidsonOptions { ridge, tolerance, max_steps } = options;
        if !(ridge >= 0.0 && ridge.is_finite()) {
            return Err(Error::argument("ridge", "at least 0 and finite", ridge));
        }
        if !(tolerance > 0.0 && tolerance.is_finite()) {
            return Err(Error::argument("tolerance", "positive and finite", tolerance));
        }
        let draws = games.iter().filter(|g| g.winner == Winner::Draw).count();
        if draws == 0 || draws == games.len() {
            let message = format!("{draws} of {} games are draws; some must be and some not", games.len());
            return Err(Error::metric(NAME, message));
        }
        // θ, then log ν.
        let mut parameters = vec![0.0; players + 1];
        if ridge == 0.0 {
            // Has a maximum exactly when Bradley–Terry has one, and not far from there.
            let start = BradleyTerry::fit(players, games, BradleyTerryOptions::default())?.log_strengths();
            parameters.splice(..players, start);
        }
        let objective = |p: &[f64]| log_posterior(players, games, ridge, p);
        let mut value = objective(&parameters);
        for step in 1..=max_steps {
            let (gradient, curvature) = derivatives(players, games, ridge, &parameters);
            let inverse = invert(curvature)
                .ok_or_else(|| Error::metric(NAME, "the curvature is singular; set a ridge"))?;
            let direction: Vec<f64> =
                inverse.iter().map(|row| row.iter().zip(&gradient).map(|(a, b)| a * b).sum()).collect();
            // The objective is concave: half a step, or half of that, always climbs.
            let mut scale = 1.0;
            let mut next: Vec<f64>;
            loop {
                next = parameters.iter().zip(&direction).map(|(p, d)| p + scale * d).collect();
                let reached = objective(&next);
                if reached >= value - 1e-12 * value.abs() || scale < 1e-6 {
                    value = reached;
                    break;
                }
                scale /= 2.0;
            }
            let change = next.iter().zip(&parameters).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            parameters = next;
            if change <= tolerance {
                let log_nu = parameters.pop().unwrap_or_default();
                let mean = parameters.iter().sum::<f64>() / players as f64;
                // The curvature holds 11ᵀ to fix the mean; its inverse has 1/n² of that.
                let extra = if ridge == 0.0 { 1.0 / (players * players) as f64 } else { 0.0 };
                let error = |(i, row): (usize, &Vec<f64>)| (row[i] - extra).max(0.0).sqrt();
                let standard_errors = inverse.iter().take(players).enumerate().map(error).collect();
                let log_strengths = parameters.into_iter().map(|t| t - mean).collect();
                return Ok(Self { log_strengths, standard_errors, nu: log_nu.exp(), steps: step });
            }
        }
        Err(Error::metric(NAME, format!("no convergence after {max_steps} steps")))
    }

    /// Probabilities that `first` wins, that `second` wins and of a draw; `None` for an unknown player.
    pub fn probabilities(&self, first: usize, second: usize) -> Option<[f64; 3]> {
        let (a, b) = (self.log_strengths.get(first)?, self.log_strengths.get(second)?);
        Some(outcome(*a, *b, self.nu.ln()))
    }
}

/// Probabilities of a win of the first, of the second and of a draw.
fn outcome(a: f64, b: f64, log_nu: f64) -> [f64; 3] {
    let logs = [a, b, log_nu + (a + b) / 2.0];
    let largest = logs.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let odds = logs.map(|l| (l - largest).exp());
    let sum: f64 = odds.iter().sum();
    odds.map(|o| o / sum)
}

fn log_posterior(players: usize, games: &[Game], ridge: f64, p: &[f64]) -> f64 {
    let one = |g: &Game| {
        let [first, second, draw] = outcome(p[g.first], p[g.second], p[players]);
        match g.winner {
            Winner::First => first.ln(),
            Winner::Second => second.ln(),
            Winner::Draw => draw.ln(),
        }
    };
    games.iter().map(one).sum::<f64>() - 0.5 * ridge * p[..players].iter().map(|t| t * t).sum::<f64>()
}

/// Gradient, and the negative second derivatives; without a ridge plus 11ᵀ, which fixes the mean of θ.
fn derivatives(players: usize, games: &[Game], ridge: f64, p: &[f64]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let n = players + 1;
    let (mut gradient, mut curvature) = (vec![0.0; n], vec![vec![0.0; n]; n]);
    for g in games {
        let probabilities = outcome(p[g.first], p[g.second], p[players]);
        // What each outcome counts for θ of both players and for log ν.
        let counts = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 1.0]];
        let seen = match g.winner {
            Winner::First => counts[0],
            Winner::Second => counts[1],
            Winner::Draw => counts[2],
        };
        let at = [g.first, g.second, players];
        let expected = |x: usize| probabilities.iter().zip(&counts).map(|(q, c)| q * c[x]).sum::<f64>();
        for x in 0..3 {
            gradient[at[x]] += seen[x] - expected(x);
            for y in 0..3 {
                let both: f64 = probabilities.iter().zip(&counts).map(|(q, c)| q * c[x] * c[y]).sum();
                curvature[at[x]][at[y]] += both - expected(x) * expected(y);
            }
        }
    }
    for i in 0..players {
        gradient[i] -= ridge * p[i];
        curvature[i][i] += ridge;
        if ridge == 0.0 {
            curvature[i][..players].iter_mut().for_each(|c| *c += 1.0);
        }
    }
    (gradient, curvature)
}

/// Inverse by elimination with pivots; `None` for a singular matrix.
fn invert(mut matrix: Vec<Vec<f64>>) -> Option<Vec<Vec<f64>>> {
    let n = matrix.len();
    for (i, row) in matrix.iter_mut().enumerate() {
        row.extend((0..n).map(|j| f64::from(u8::from(i == j))));
    }
    for column in 0..n {
        let pivot =
            (column..n).max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs()))?;
        matrix.swap(column, pivot);
        let head = matrix[column][column];
        if !(head.abs() > 1e-300 && head.is_finite()) {
            return None;
        }
        matrix[column].iter_mut().for_each(|v| *v /= head);
        let row = matrix[column].clone();
        for (_, other) in matrix.iter_mut().enumerate().filter(|(i, _)| *i != column) {
            let factor = other[column];
            other.iter_mut().zip(&row).for_each(|(o, r)| *o -= factor * r);
        }
    }
    Some(matrix.into_iter().map(|row| row[n..].to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn games(counts: &[(usize, usize, [usize; 3])]) -> Vec<Game> {
        let mut games = Vec::new();
        for &(first, second, counts) in counts {
            for (winner, count) in [Winner::First, Winner::Second, Winner::Draw].into_iter().zip(counts) {
                games.extend(vec![Game { first, second, winner }; count]);
            }
        }
        games
    }

    #[test]
    fn expected_counts_equal_the_observed_ones() {
        // At the maximum every player's wins plus half draws, and the draws, are as expected.
        let games = games(&[(0, 1, [5, 2, 3]), (1, 2, [4, 3, 1]), (0, 2, [6, 1, 2])]);
        let fit = Davidson::fit(3, &games, DavidsonOptions::default()).unwrap();
        let (mut points, mut draws) = ([0.0; 3], 0.0);
        for g in &games {
            let [a, b, d] = fit.probabilities(g.first, g.second).unwrap();
            points[g.first] += a + d / 2.0 - g.share();
            points[g.second] += b + d / 2.0 - (1.0 - g.share());
            draws += d - f64::from(u8::from(g.winner == Winner::Draw));
        }
        assert!(points.iter().chain([&draws]).all(|v| v.abs() < 1e-8), "{points:?} {draws}");
        assert!(
            fit.log_strengths.iter().sum::<f64>().abs() < 1e-9
                && fit.standard_errors.iter().all(|s| *s > 0.1)
        );
        assert!(fit.log_strengths[0] > fit.log_strengths[1] && fit.log_strengths[1] > fit.log_strengths[2]);
    }

    #[test]
    fn a_ridge_makes_the_estimate_exist() {
        let games = games(&[(0, 1, [3, 0, 0]), (1, 2, [1, 1, 1])]);
        assert!(Davidson::fit(3, &games, DavidsonOptions::default()).is_err());
        let fit = |ridge| {
            Davidson::fit(3, &games, DavidsonOptions { ridge, ..DavidsonOptions::default() }).unwrap()
        };
        let (loose, tight) = (fit(0.1), fit(10.0));
        assert!(loose.log_strengths[0] > tight.log_strengths[0] && tight.log_strengths[0] > 0.0);
        assert!(loose.standard_errors[0] > tight.standard_errors[0]);
    }

    #[test]
    fn faults_are_named() {
        let decided = games(&[(0, 1, [1, 1, 0])]);
        insta::assert_snapshot!(Davidson::fit(2, &decided, DavidsonOptions::default()).unwrap_err(), @"`davidson`: 0 of 2 games are draws; some must be and some not");
        let options = DavidsonOptions { ridge: -1.0, ..DavidsonOptions::default() };
        insta::assert_snapshot!(Davidson::fit(2, &decided, options).unwrap_err(), @"`ridge` must be at least 0 and finite, but is -1");
    }
}
