//! Accelerators for vision transformers as a search space.
//!
//! A design is a linear engine (systolic array or tiles), attention on it or on an engine of its own, number widths, a MoE
//! schedule, clock, ports and buffers, for one of several networks. Cost vectors of configurations are tabulated once:
//! engines, attention engines and memory configurations are independent of each other.
//!
//! Energy and logic come from linear models with stated coefficients, meant for ranking designs, not for reporting watts.
mod bounds;
mod design;
mod evaluator;
mod fabric;
mod moe;
mod seeds;
mod spec;
mod tables;
mod workload;

pub use design::{DesignDims, EngineKind, Storage};
pub use evaluator::Transformer;
pub use fabric::{EnergyModel, FabricModel, Limits};
pub use spec::TransformerSpec;
pub use workload::Workload;
