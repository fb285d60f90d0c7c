//! Elo ratings: Elo, *The Rating of Chessplayers, Past and Present*, 1978.
use super::{Game, check};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Constants of Elo ratings.
///
/// ```
/// use mtl_bench::metrics::pairwise::{Elo, Game, Winner};
///
/// let game = Game { first: 0, second: 1, winner: Winner::First };
/// assert_eq!(Elo::default().rate(2, &[game])?, [1016.0, 984.0]);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Elo {
    /// Largest change by one game, positive.
    pub k: f64,
    /// Rating before the first game.
    pub start: f64,
    /// Difference at which the odds are 10 to 1, positive.
    pub scale: f64,
}

impl Default for Elo {
    fn default() -> Self {
        Self { k: 32.0, start: 1000.0, scale: 400.0 }
    }
}

impl Elo {
    /// Ratings after the games, in their order.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] for fewer than 2 players, an unknown player or one who plays against themself;
    /// [`Error::Argument`] for constants out of range.
    pub fn rate(&self, players: usize, games: &[Game]) -> Result<Vec<f64>> {
        check("elo", players, games)?;
        for (name, value) in [("k", self.k), ("scale", self.scale)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::argument(name, "positive and finite", value));
            }
        }
        if !self.start.is_finite() {
            return Err(Error::argument("start", "finite", self.start));
        }
        let mut ratings = vec![self.start; players];
        for game in games {
            let difference = ratings[game.second] - ratings[game.first];
            let expected = 1.0 / (1.0 + 10_f64.powf(difference / self.scale));
            let change = self.k * (game.share() - expected);
            ratings[game.first] += change;
            ratings[game.second] -= change;
        }
        Ok(ratings)
    }
}
