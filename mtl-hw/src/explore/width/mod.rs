//! Budget to width: which widths a slimmable multi-task network should run at, after *Efficient Controllable Multi-Task
//! Architectures* (ICCV 2023, arXiv 2308.11744).
//!
//! A query gives a budget (multiply-accumulates, or latency or energy on an accelerator) and preferences over tasks. More
//! preferred tasks get wider decoders; the encoder is searched within the rest. Costs come from [`CostTables`], scores from
//! an [`AccuracyTable`], an additive proxy or a closure.
mod encoder;
mod score;
mod search;
mod space;
mod tables;

pub use score::{AccuracyRow, AccuracyTable, AdditiveScore, Score};
pub use search::{
    BetaRule, Choice, Method, Query, SearchConfig, WidthBudget, normalise, search, search_with,
};
pub use space::{SlimLayer, SlimNet, WidthSpace, Widths};
pub use tables::{CostSource, CostTables, CostUnit};
