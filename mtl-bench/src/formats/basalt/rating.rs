//! Ratings per task, made comparable over tasks.
use super::Answers;
use crate::metrics::pairwise::{
    BradleyTerry, BradleyTerryOptions, Davidson, DavidsonOptions, Game, Rating, TrueSkill, TrueSkillSweeps,
    normalised, wins,
};
use crate::stats::mean;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// How answers become ratings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// TrueSkill, answer by answer, as the competition had it; depends on their order.
    Online(TrueSkill),
    /// TrueSkill on all answers at once; does not depend on their order.
    Batch(TrueSkillSweeps),
    /// Log strengths of Bradley–Terry, with their standard errors.
    BradleyTerry(BradleyTerryOptions),
    /// Log strengths of Davidson's model of draws, with their standard errors.
    Davidson(DavidsonOptions),
    /// Share of the games won, a draw as half a win, with its standard error.
    WinRate,
}

impl Default for Method {
    fn default() -> Self {
        Self::Batch(TrueSkillSweeps::default())
    }
}

impl Method {
    /// Ratings of the players from games of one task.
    ///
    /// # Errors
    ///
    /// As the method's own; [`Error::Metric`] for the win rate of a player without games.
    pub fn rate(&self, players: usize, games: &[Game]) -> Result<Vec<Rating>> {
        match self {
            Self::Online(model) => model.rate(players, games),
            Self::Batch(model) => model.rate(players, games),
            Self::BradleyTerry(options) => {
                let fit = BradleyTerry::fit(players, games, *options)?;
                let rating = |(mu, sigma)| Rating { mu, sigma };
                Ok(fit.log_strengths().into_iter().zip(fit.standard_errors()).map(rating).collect())
            }
            Self::Davidson(options) => {
                let fit = Davidson::fit(players, games, *options)?;
                let rating = |(mu, sigma)| Rating { mu, sigma };
                Ok(fit.log_strengths.into_iter().zip(fit.standard_errors).map(rating).collect())
            }
            Self::WinRate => {
                let wins = wins(players, games)?;
                let one = |i: usize| {
                    let won: f64 = wins.get(i).map_or(0.0, |row| row.iter().sum());
                    let lost: f64 = wins.iter().filter_map(|row| row.get(i)).sum();
                    let (n, p) = (won + lost, won / (won + lost));
                    if n == 0.0 {
                        return Err(Error::metric("win_rate", format!("player {i} has no games")));
                    }
                    Ok(Rating { mu: p, sigma: (p * (1.0 - p) / n).sqrt() })
                };
                (0..players).map(one).collect()
            }
        }
    }
}

/// Ratings of all players in one task.
#[derive(Debug, Clone, PartialEq)]
pub struct Ratings {
    /// Task.
    pub task: String,
    /// Number of answers.
    pub answers: usize,
    /// In the order of the players.
    pub ratings: Vec<Rating>,
}

impl Ratings {
    fn means(&self) -> Vec<f64> {
        self.ratings.iter().map(|r| r.mu).collect()
    }

    /// Means moved and scaled so that the player `random` has 0 and `human` has 1.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when a player is unknown or both have the same rating.
    pub fn normalised(&self, random: usize, human: usize) -> Result<Vec<f64>> {
        normalised(&self.means(), random, human).map_err(|e| e.in_task(&self.task))
    }

    /// Means in standard deviations (of all players, n) from their mean.
    ///
    /// # Errors
    ///
    /// [`Error::Metric`] when all players have the same rating.
    pub fn z_scores(&self) -> Result<Vec<f64>> {
        let means = self.means();
        let centre = mean(&means);
        let spread = mean(&means.iter().map(|m| (m - centre).powi(2)).collect::<Vec<_>>()).sqrt();
        if !(spread > 0.0 && spread.is_finite()) {
            return Err(Error::metric("z_score", "all players have the same rating").in_task(&self.task));
        }
        Ok(means.iter().map(|m| (m - centre) / spread).collect())
    }
}

/// Rates all players in each task, tasks sorted by name.
///
/// # Errors
///
/// As [`Method::rate`], with the task's name.
pub fn rate(answers: &Answers, method: &Method) -> Result<Vec<Ratings>> {
    let one = |task: &str| {
        let (_, games) = answers.games(task);
        let ratings = method.rate(answers.players.len(), &games).map_err(|e| e.in_task(task))?;
        Ok(Ratings { task: task.to_owned(), answers: games.len(), ratings })
    };
    answers.tasks().into_iter().map(one).collect()
}

/// Mean over tasks of scores per player, by name.
///
/// # Errors
///
/// [`Error::Argument`] when there are no tasks, or one has not a score for every player.
pub fn overall(answers: &Answers, scores: &[Vec<f64>]) -> Result<BTreeMap<String, f64>> {
    let n = answers.players.len();
    if scores.is_empty() || scores.iter().any(|s| s.len() != n) {
        let found = format!("{:?} scores", scores.iter().map(Vec::len).collect::<Vec<_>>());
        return Err(Error::argument("scores", format!("one list of {n} per task"), found));
    }
    let average = |i: usize| scores.iter().filter_map(|s| s.get(i)).sum::<f64>() / scores.len() as f64;
    Ok(answers.players.iter().enumerate().map(|(i, name)| (name.clone(), average(i))).collect())
}
