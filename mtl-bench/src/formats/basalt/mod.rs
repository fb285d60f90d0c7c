//! Tasks without a reward, rated by people's pairwise answers: Shah et al., *The MineRL BASALT Competition on Learning from
//! Human Feedback*, arXiv 2107.01969; retrospectives arXiv 2204.07123 and 2303.13512.
//!
//! A judge sees recordings of two players on the same seed and says who did the task better. [`read`] loads such answers,
//! [`Answers::without_judges`] drops excluded judges, [`rate`] gives every player a rating per task, [`Ratings::normalised`]
//! and [`Ratings::z_scores`] make tasks comparable, [`overall`] averages over them, [`next_pairs`] says what to ask next and
//! [`rank_intervals`] how sure the ranks are.
//!
//! Whether the organisers normalised by a random player and a human or by z-scores could not be verified; both are here.
mod answers;
mod ranks;
mod rating;
mod schedule;

pub use answers::{Answer, Answers, read};
pub use ranks::{Cluster, RankInterval, rank_intervals};
pub use rating::{Method, Ratings, overall, rate};
pub use schedule::next_pairs;
