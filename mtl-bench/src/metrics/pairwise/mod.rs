//! Ratings from pairwise answers of people: which of two systems did the task better. One file per rating.
//!
//! Ratings of one task only are comparable. [`TrueSkill`] and [`Elo`] depend on the order of the answers,
//! [`BradleyTerry`], [`Davidson`] and [`TrueSkillSweeps`] do not.
pub mod bradley_terry;
pub mod davidson;
pub mod elo;
pub mod true_skill;
pub mod true_skill_sweeps;

pub use bradley_terry::{BradleyTerry, BradleyTerryOptions, minorise_maximise};
pub use davidson::{Davidson, DavidsonOptions};
pub use elo::Elo;
pub use true_skill::{Rating, TrueSkill};
pub use true_skill_sweeps::TrueSkillSweeps;

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Who did better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Winner {
    /// The first player.
    First,
    /// The second player.
    Second,
    /// Neither.
    Draw,
}

/// One answer about two players, named by their index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Game {
    /// First player.
    pub first: usize,
    /// Second player.
    pub second: usize,
    /// Who did better.
    pub winner: Winner,
}

impl Game {
    /// Share of the first player: 1 for a win, ½ for a draw, else 0.
    pub fn share(&self) -> f64 {
        match self.winner {
            Winner::First => 1.0,
            Winner::Draw => 0.5,
            Winner::Second => 0.0,
        }
    }
}

/// Games won by row against column, a draw as half a win for each: `[players, players]`.
///
/// # Errors
///
/// [`Error::Metric`] for fewer than 2 players, an unknown player or one who plays against themself.
pub fn wins(players: usize, games: &[Game]) -> Result<Vec<Vec<f64>>> {
    check("wins", players, games)?;
    let mut wins = vec![vec![0.0; players]; players];
    for game in games {
        wins[game.first][game.second] += game.share();
        wins[game.second][game.first] += 1.0 - game.share();
    }
    Ok(wins)
}

/// Ratings moved and scaled so that the player `zero`, say a random one, has 0 and `one`, say a person, has 1.
///
/// ```
/// assert_eq!(mtl_bench::metrics::pairwise::normalised(&[10.0, 30.0, 20.0], 0, 1)?, [0.0, 1.0, 0.5]);
/// # Ok::<(), mtl_bench::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Metric`] when a player is unknown, a rating is not finite or both players have the same rating.
pub fn normalised(ratings: &[f64], zero: usize, one: usize) -> Result<Vec<f64>> {
    const NAME: &str = "normalised_rating";
    super::finite(NAME, "rating", ratings.iter().copied())?;
    let (Some(low), Some(high)) = (ratings.get(zero), ratings.get(one)) else {
        return Err(Error::metric(NAME, format!("players {zero} and {one} must be below {}", ratings.len())));
    };
    if low == high {
        return Err(Error::metric(NAME, format!("players {zero} and {one} have the same rating {low}")));
    }
    Ok(ratings.iter().map(|r| (r - low) / (high - low)).collect())
}

fn check(metric: &'static str, players: usize, games: &[Game]) -> Result<()> {
    if players < 2 {
        return Err(Error::metric(metric, format!("at least 2 players are needed, not {players}")));
    }
    for (i, game) in games.iter().enumerate() {
        if game.first.max(game.second) >= players {
            let message =
                format!("game {i} is of players {} and {}, not below {players}", game.first, game.second);
            return Err(Error::metric(metric, message));
        }
        if game.first == game.second {
            return Err(Error::metric(
                metric,
                format!("in game {i} player {} plays against themself", game.first),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named() {
        let game = |first, second| Game { first, second, winner: Winner::Draw };
        insta::assert_snapshot!(wins(1, &[]).unwrap_err(), @"`wins`: at least 2 players are needed, not 1");
        insta::assert_snapshot!(wins(2, &[game(0, 2)]).unwrap_err(), @"`wins`: game 0 is of players 0 and 2, not below 2");
        insta::assert_snapshot!(wins(2, &[game(1, 1)]).unwrap_err(), @"`wins`: in game 0 player 1 plays against themself");
        insta::assert_snapshot!(normalised(&[1.0, 1.0], 0, 1).unwrap_err(), @"`normalised_rating`: players 0 and 1 have the same rating 1");
    }
}
