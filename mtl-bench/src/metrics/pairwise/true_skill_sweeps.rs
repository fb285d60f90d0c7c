//! TrueSkill on all games at once, by expectation propagation: Minka, *Expectation Propagation for Approximate Bayesian
//! Inference*, UAI 2001; for games as in Dangauthier et al., *TrueSkill Through Time*, NeurIPS 2007, without time.
use super::{Game, Rating, TrueSkill, Winner, check};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Sweeps over the games until the ratings no longer change.
///
/// Each game holds a message to both players, which is taken out of their ratings before the game is looked at again; so the
/// result does not depend on the order of the games, as that of [`TrueSkill::rate`] does. Skills do not drift: `tau` of the
/// model is not used. The posterior is taken as independent over players, which overstates the difference of players who met
/// often by a few per cent.
///
/// ```
/// use mtl_bench::metrics::pairwise::{Game, TrueSkillSweeps, Winner};
///
/// let game = |first, second, winner| Game { first, second, winner };
/// let games = [game(0, 1, Winner::First), game(1, 2, Winner::First), game(2, 0, Winner::Draw)];
/// let reversed = [game(0, 2, Winner::Draw), game(2, 1, Winner::Second), game(1, 0, Winner::Second)];
/// let sweeps = TrueSkillSweeps::default();
/// assert_eq!(sweeps.rate(3, &games)?, sweeps.rate(3, &reversed)?);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrueSkillSweeps {
    /// Constants of the model.
    pub model: TrueSkill,
    /// Largest change of a mean or standard deviation in the last sweep, positive.
    pub tolerance: f64,
    /// Sweeps after which the fit fails.
    pub max_sweeps: usize,
}

impl Default for TrueSkillSweeps {
    fn default() -> Self {
        Self { model: TrueSkill::default(), tolerance: 1e-8, max_sweeps: 1_000 }
    }
}

/// A normal factor: precision, and precision times mean.
#[derive(Debug, Clone, Copy, Default)]
struct Factor {
    precision: f64,
    weighted: f64,
}

impl Factor {
    fn of(rating: Rating) -> Self {
        let precision = 1.0 / (rating.sigma * rating.sigma);
        Self { precision, weighted: precision * rating.mu }
    }

    fn rating(self) -> Rating {
        Rating { mu: self.weighted / self.precision, sigma: (1.0 / self.precision).sqrt() }
    }

    fn times(self, other: Self) -> Self {
        Self { precision: self.precision + other.precision, weighted: self.weighted + other.weighted }
    }

    fn over(self, other: Self) -> Self {
        Self { precision: self.precision - other.precision, weighted: self.weighted - other.weighted }
    }
}

impl TrueSkillSweeps {
    /// Ratings from the games, in any order.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] for fewer than 2 players, an unknown player, one who plays against themself, a draw although their
    /// probability is 0, or when the sweeps run out; [`Error::Argument`] for constants out of range.
    pub fn rate(&self, players: usize, games: &[Game]) -> Result<Vec<Rating>> {
        check("trueskill", players, games)?;
        if !(self.tolerance > 0.0 && self.tolerance.is_finite()) {
            return Err(Error::argument("tolerance", "positive and finite", self.tolerance));
        }
        let model = TrueSkill { tau: 0.0, ..self.model };
        // An empty list checks the constants.
        model.rate(players, &[])?;
        let games = sorted(games);
        let mut ratings = vec![Factor::of(model.start()); players];
        let mut messages = vec![[Factor::default(); 2]; games.len()];
        for _ in 0..self.max_sweeps {
            let before = ratings.clone();
            for (game, message) in games.iter().zip(&mut messages) {
                let [to_first, to_second] = *message;
                let (first, second) =
                    (ratings[game.first].over(to_first), ratings[game.second].over(to_second));
                let (a, b) = model.update(first.rating(), second.rating(), game.winner)?;
                (ratings[game.first], ratings[game.second]) = (Factor::of(a), Factor::of(b));
                *message = [Factor::of(a).over(first), Factor::of(b).over(second)];
            }
            // Sums over the messages, so that rounding does not pile up over sweeps.
            ratings = vec![Factor::of(model.start()); players];
            for (game, [to_first, to_second]) in games.iter().zip(&messages) {
                ratings[game.first] = ratings[game.first].times(*to_first);
                ratings[game.second] = ratings[game.second].times(*to_second);
            }
            let change = |(a, b): (&Factor, &Factor)| {
                let (a, b) = (a.rating(), b.rating());
                (a.mu - b.mu).abs().max((a.sigma - b.sigma).abs())
            };
            let change = ratings.iter().zip(&before).map(change).fold(0.0, f64::max);
            if change <= self.tolerance {
                return Ok(ratings.into_iter().map(Factor::rating).collect());
            }
        }
        Err(Error::metric("trueskill", format!("no convergence after {} sweeps", self.max_sweeps)))
    }
}

/// The games with the lower player first, in one order whatever theirs was.
fn sorted(games: &[Game]) -> Vec<Game> {
    let turned = |game: &Game| match (game.first > game.second, game.winner) {
        (false, _) => *game,
        (true, winner) => {
            let winner = match winner {
                Winner::First => Winner::Second,
                Winner::Second => Winner::First,
                Winner::Draw => Winner::Draw,
            };
            Game { first: game.second, second: game.first, winner }
        }
    };
    let mut games: Vec<Game> = games.iter().map(turned).collect();
    games.sort_by_key(|g| (g.first, g.second, g.winner as u8));
    games
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_game_is_the_online_update_without_drift() {
        let game = Game { first: 0, second: 1, winner: Winner::First };
        let online = TrueSkill { tau: 0.0, ..TrueSkill::default() }.rate(2, &[game]).unwrap();
        for (a, b) in TrueSkillSweeps::default().rate(2, &[game]).unwrap().iter().zip(&online) {
            assert!((a.mu - b.mu).abs() < 1e-9 && (a.sigma - b.sigma).abs() < 1e-9, "{a:?} {b:?}");
        }
    }

    #[test]
    fn two_games_come_near_the_exact_posterior() {
        // Player 0 beats 1 twice, no draws: moments of s = s₀ − s₁ by sums over a fine grid.
        let model = TrueSkill { draw_probability: 0.0, ..TrueSkill::default() };
        let game = Game { first: 0, second: 1, winner: Winner::First };
        let fit = TrueSkillSweeps { model, ..TrueSkillSweeps::default() }.rate(2, &[game, game]).unwrap();
        let (prior, noise) = (2.0 * model.sigma * model.sigma, (2.0_f64).sqrt() * model.beta);
        let (mut mass, mut first) = (0.0, 0.0);
        for i in -40_000..40_000 {
            let s = f64::from(i) * 2e-3;
            let win = 0.5 * statrs::function::erf::erfc(-s / noise / std::f64::consts::SQRT_2);
            let weight = (-0.5 * s * s / prior).exp() * win * win;
            mass += weight;
            first += weight * s;
        }
        let (exact, found) = (first / mass, fit[0].mu - fit[1].mu);
        // Independence over players costs 4.5 % here.
        assert!((found - exact).abs() < 0.05 * exact, "{found} instead of {exact}");
    }

    #[test]
    fn faults_are_named() {
        let game = Game { first: 0, second: 1, winner: Winner::Draw };
        let sweeps = TrueSkillSweeps { max_sweeps: 1, ..TrueSkillSweeps::default() };
        let fault = sweeps.rate(2, &[game, Game { winner: Winner::First, ..game }]).unwrap_err();
        insta::assert_snapshot!(fault, @"`trueskill`: no convergence after 1 sweeps");
        assert!(TrueSkillSweeps { tolerance: 0.0, ..sweeps }.rate(2, &[game]).is_err());
    }
}
