//! Slimmable multi-task networks: one set of parameters that runs at many widths.
//!
//! Aich et al., *Efficient Controllable Multi-Task Architectures*, ICCV 2023, arXiv 2308.11744 (ECMT), on top of Yu et
//! al., *Slimmable Neural Networks*, ICLR 2019, arXiv 1812.08928. A layer at ratio `w` uses its first `⌈w·C⌉` output
//! channels and the matching slice of its weight. Importance of a task is expressed by the width of its decoder, the
//! total budget by the width of the shared encoder.
//!
//! [`SlimmableConfig`] describes a network, [`SlimmableNet`] runs and cuts it, [`SlimmableTrainer`] trains all widths
//! together, [`search`](search()) maps a preference and a budget to widths, [`cost_table`] and [`AccuracyTable`] write
//! what other tools search on.
mod config;
mod distil;
mod evolve;
mod extract;
mod layer;
mod net;
mod parts;
mod search;
mod tables;
mod trainer;
mod trainer_config;
mod width;

pub use config::{SlimInput, SlimNorm, SlimStage, SlimmableConfig};
pub use distil::{CiKd, DistilAt};
pub use net::{SlimOutput, SlimmableNet};
pub use search::{Calibration, EncoderRule, SearchConfig, UserConstraint, WidthChoice, search};
pub use tables::{AccuracyRow, AccuracyTable, CostTable, cost_table};
pub use trainer::SlimmableTrainer;
pub use trainer_config::SlimmableTrainerConfig;
pub use width::{WidthConfig, WidthRatio};
