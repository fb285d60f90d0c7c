//! FPGA cost models for multi-task networks: latency, energy, memory and resources, without libtorch.
//!
//! A [`graph::ModelGraph`] says what is computed, a [`cost::Accelerator`] on a [`platform::Platform`] says with what,
//! a [`routing::Routing`] says which experts the tokens chose, and a [`cost::CostModel`] turns the three into a
//! [`cost::Report`]: cycles with the binding term of each layer, energy, on-chip memory, traffic, and whether the design
//! fits the board.
//!
//! Latency and energy of a small vision transformer with task-conditioned mixtures of experts on a ZCU104:
//!
//! ```
//! use mtl_hw::cost::{Analytical, CostModel};
//! use mtl_hw::graph::{MoeBlocks, MoeSpec, VitHead, VitSpec};
//! use mtl_hw::{presets, routing::Routing};
//!
//! let spec = VitSpec {
//!     name: "digits".to_owned(),
//!     image: [8, 8],
//!     patch: 2,
//!     channels: 1,
//!     dim: 64,
//!     depth: 4,
//!     heads: 4,
//!     mlp_hidden: 256,
//!     moe: Some(MoeSpec { experts: 8, top_k: 2, hidden: 128, gates: 2, blocks: MoeBlocks::Odd }),
//!     heads_out: vec![VitHead::task(0, 10), VitHead::task(1, 2)],
//!     ..VitSpec::default()
//! };
//! let graph = spec.graph()?.for_task(0);
//! let report = Analytical.model(&graph, &presets::zcu104_m3vit()?, Routing::Uniform)?;
//! println!("{report}");
//! assert!(report.latency_ms() < 0.1 && report.fit.fits());
//! assert!((report.energy_mj() - 10.0 * report.latency_ms()).abs() < 1e-9); // 10 W
//! # Ok::<(), mtl_hw::HwError>(())
//! ```
//!
//! Numbers are estimates in closed form. What they were checked against is part of every report
//! ([`cost::Provenance`]) and of every preset's documentation.

#[cfg(feature = "cli")]
pub mod cli;
pub mod cost;
mod error;
pub mod explore;
pub mod graph;
mod math;
pub mod platform;
pub mod plot;
pub mod power;
pub mod presets;
pub mod routing;
pub mod sim;
mod text;
pub mod validation;

pub use error::{HwError, Result};
