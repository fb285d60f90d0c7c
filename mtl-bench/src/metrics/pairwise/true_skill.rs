//! TrueSkill for games of two players: Herbrich et al., *TrueSkill: A Bayesian Skill Rating System*, NeurIPS 2006; used
//! online as in the MineRL BASALT competition, arXiv 2204.07123.
use super::{Game, Winner, check};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use statrs::function::erf::{erfc, erfc_inv};
use std::f64::consts::{PI, SQRT_2};

/// Belief about the skill of a player: normal with this mean and standard deviation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rating {
    /// Mean.
    pub mu: f64,
    /// Standard deviation.
    pub sigma: f64,
}

impl Rating {
    /// Skill that the player has with near certainty: μ − 3σ.
    pub fn conservative(&self) -> f64 {
        self.mu - 3.0 * self.sigma
    }
}

/// Constants of TrueSkill; the defaults are those of the paper and of the package `trueskill`.
///
/// ```
/// use mtl_bench::metrics::pairwise::{TrueSkill, Winner};
///
/// let model = TrueSkill::default();
/// let (winner, loser) = model.update(model.start(), model.start(), Winner::First)?;
/// assert!((winner.mu - 29.3958).abs() < 1e-4 && (loser.mu - 20.6042).abs() < 1e-4);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrueSkill {
    /// Mean before the first game.
    pub mu: f64,
    /// Standard deviation before the first game, positive.
    pub sigma: f64,
    /// Standard deviation of the performance in one game, positive.
    pub beta: f64,
    /// Standard deviation by which a skill drifts before each game, at least 0.
    pub tau: f64,
    /// Probability of a draw between equal players, in \[0, 1).
    pub draw_probability: f64,
}

impl Default for TrueSkill {
    fn default() -> Self {
        Self { mu: 25.0, sigma: 25.0 / 3.0, beta: 25.0 / 6.0, tau: 25.0 / 300.0, draw_probability: 0.1 }
    }
}

/// Smallest standard deviation: a player is never known exactly.
const MIN_SIGMA: f64 = 1e-3;

impl TrueSkill {
    /// The rating of a player without games.
    pub fn start(&self) -> Rating {
        Rating { mu: self.mu, sigma: self.sigma }
    }

    fn check(&self) -> Result<()> {
        for (name, value) in [("sigma", self.sigma), ("beta", self.beta)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::argument(name, "positive and finite", value));
            }
        }
        if !(self.tau >= 0.0 && self.tau.is_finite()) {
            return Err(Error::argument("tau", "at least 0 and finite", self.tau));
        }
        if !self.mu.is_finite() {
            return Err(Error::argument("mu", "finite", self.mu));
        }
        if !(0.0..1.0).contains(&self.draw_probability) {
            return Err(Error::argument("draw_probability", "in [0, 1)", self.draw_probability));
        }
        Ok(())
    }

    /// Ratings after the games, in their order.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] for fewer than 2 players, an unknown player, one who plays against themself, or a draw although
    /// their probability is 0; [`Error::Argument`] for constants out of range.
    pub fn rate(&self, players: usize, games: &[Game]) -> Result<Vec<Rating>> {
        check("trueskill", players, games)?;
        self.check()?;
        let mut ratings = vec![self.start(); players];
        for game in games {
            let (a, b) = self.update(ratings[game.first], ratings[game.second], game.winner)?;
            (ratings[game.first], ratings[game.second]) = (a, b);
        }
        Ok(ratings)
    }

    /// Ratings of both players after one game.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] for a rating that is not finite, or for a draw although their probability is 0;
    /// [`Error::Argument`] for constants out of range.
    pub fn update(&self, first: Rating, second: Rating, winner: Winner) -> Result<(Rating, Rating)> {
        self.check()?;
        known(first)?;
        known(second)?;
        if winner == Winner::Second {
            let (second, first) = self.update(second, first, Winner::First)?;
            return Ok((first, second));
        }
        let drifted = |r: Rating| r.sigma * r.sigma + self.tau * self.tau;
        let (va, vb) = (drifted(first), drifted(second));
        let variance = 2.0 * self.beta * self.beta + va + vb;
        let scale = variance.sqrt();
        let (t, e) = ((first.mu - second.mu) / scale, self.margin() / scale);
        let (v, w) = match winner {
            Winner::Draw => {
                if self.draw_probability == 0.0 {
                    return Err(Error::metric("trueskill", "a draw was played, but draw_probability is 0"));
                }
                draw_correction(t, e)
            }
            _ => win_correction(t, e),
        };
        let moved = |r: Rating, own: f64, direction: f64| Rating {
            mu: r.mu + direction * own / scale * v,
            sigma: (own * (1.0 - own / variance * w)).sqrt().max(MIN_SIGMA),
        };
        Ok((moved(first, va, 1.0), moved(second, vb, -1.0)))
    }

    /// Difference in performance below which a game is a draw.
    fn margin(&self) -> f64 {
        // Φ⁻¹((p + 1)/2) = √2 erfc⁻¹(1 − p).
        SQRT_2 * erfc_inv(1.0 - self.draw_probability) * SQRT_2 * self.beta
    }

    /// How even a game would be: 1 for equal players known exactly.
    pub fn quality(&self, first: Rating, second: Rating) -> f64 {
        let own = 2.0 * self.beta * self.beta;
        let variance = own + first.sigma * first.sigma + second.sigma * second.sigma;
        let difference = first.mu - second.mu;
        (own / variance).sqrt() * (-difference * difference / (2.0 * variance)).exp()
    }

    /// Probability that the first player wins, draws left out, as the matchmaker of MineRL BASALT has it.
    pub fn win_probability(&self, first: Rating, second: Rating) -> f64 {
        // The matchmaker counts the noise of one performance only.
        let variance = self.beta * self.beta + first.sigma * first.sigma + second.sigma * second.sigma;
        cdf((first.mu - second.mu) / variance.sqrt())
    }

    /// Expected decrease of σ₁² + σ₂² by a game, draws left out: which pair to ask about next.
    ///
    /// # Errors
    ///
    /// As [`TrueSkill::update`].
    pub fn information(&self, first: Rating, second: Rating) -> Result<f64> {
        let spread = |(a, b): (Rating, Rating)| a.sigma * a.sigma + b.sigma * b.sigma;
        let now = spread((first, second));
        let win = now - spread(self.update(first, second, Winner::First)?);
        let loss = now - spread(self.update(first, second, Winner::Second)?);
        let p = self.win_probability(first, second);
        Ok(p * win + (1.0 - p) * loss)
    }
}

fn known(rating: Rating) -> Result<()> {
    if rating.mu.is_finite() && rating.sigma.is_finite() && rating.sigma > 0.0 {
        return Ok(());
    }
    let message = format!("a rating must be finite with positive σ, but is {} ± {}", rating.mu, rating.sigma);
    Err(Error::metric("trueskill", message))
}

fn cdf(x: f64) -> f64 {
    0.5 * erfc(-x / SQRT_2)
}

fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

/// Mean and variance corrections after a win.
fn win_correction(t: f64, e: f64) -> (f64, f64) {
    let x = t - e;
    if x < -30.0 {
        // Both φ and Φ vanish; the continued fraction of Mills' ratio: φ/Φ = y + 1/(y + 2/(y + 3/(y + …))), y = −x.
        let y = -x;
        let v = y + 1.0 / (y + 2.0 / (y + 3.0 / (y + 4.0 / y)));
        return (v, (v * (v + x)).min(1.0));
    }
    let v = density(x) / cdf(x);
    (v, v * (v + x))
}

/// Mean and variance corrections after a draw.
fn draw_correction(t: f64, e: f64) -> (f64, f64) {
    // By symmetry for t ≥ 0 only; both tails are then small numbers, not numbers near 1.
    let (sign, t) = (if t < 0.0 { -1.0 } else { 1.0 }, t.abs());
    let (near, far) = (e - t, -e - t);
    let mass = cdf(near) - cdf(far);
    if mass < 1e-300 {
        // The difference in performance is then almost surely at the nearer margin.
        return (sign * near, 1.0);
    }
    let v = (density(far) - density(near)) / mass;
    let w = v * v + (near * density(near) - far * density(far)) / mass;
    (sign * v, w)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn large_upsets_stay_finite() {
        let model = TrueSkill::default();
        let (good, bad) = (Rating { mu: 1e4, sigma: 1.0 }, Rating { mu: 0.0, sigma: 1.0 });
        for winner in [Winner::First, Winner::Second, Winner::Draw] {
            let (a, b) = model.update(good, bad, winner).unwrap();
            assert!([a.mu, a.sigma, b.mu, b.sigma].iter().all(|v| v.is_finite()), "{winner:?}: {a:?} {b:?}");
        }
        let (a, b) = win_correction(-29.999_999, 0.0);
        let (c, d) = win_correction(-30.000_001, 0.0);
        assert!((a - c).abs() < 1e-5 && (b - d).abs() < 1e-4, "{a} {c} {b} {d}");
    }

    #[test]
    fn impossible_draws_are_faults() {
        let model = TrueSkill { draw_probability: 0.0, ..TrueSkill::default() };
        let fault = model.update(model.start(), model.start(), Winner::Draw).unwrap_err();
        insta::assert_snapshot!(fault, @"`trueskill`: a draw was played, but draw_probability is 0");
        let model = TrueSkill { draw_probability: 1.0, ..TrueSkill::default() };
        insta::assert_snapshot!(model.rate(2, &[]).unwrap_err(), @"`draw_probability` must be in [0, 1), but is 1");
    }

    proptest! {
        #[test]
        fn a_win_moves_the_means_apart(mu in -50.0..50.0_f64, other in -50.0..50.0_f64) {
            let model = TrueSkill::default();
            let (a, b) = (Rating { mu, ..model.start() }, Rating { mu: other, ..model.start() });
            let (x, y) = model.update(a, b, Winner::First).unwrap();
            prop_assert!(x.mu >= a.mu && y.mu <= b.mu && x.sigma > 0.0 && y.sigma > 0.0);
        }
    }
}
