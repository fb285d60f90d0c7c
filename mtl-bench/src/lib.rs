//! Metrics, statistics, tables, plots and reports over experiment records, without libtorch.
//!
//! A study writes [`Record`]s. This crate reads them back as [`Results`], and turns them into numbers with intervals
//! ([`stats`]), tables ([`Table`], [`Pivot`]), figures ([`plot`]), verdicts in plain words ([`Comparison`]) and one
//! self-contained report ([`report`]). The scores themselves come from [`metrics`]; [`formats`] reads released benchmarks and asks
//! a [`system`] their questions; [`interchange`] reads and writes what other tools do; [`data`] holds a small data set.
//!
//! ```
//! use mtl_bench::{Comparison, Pivot, Record, Results, metrics::Better, store::Key};
//!
//! let run = |method: &str, seed, value| Record::new("accuracy", value).method(method).task("parity").seed(seed);
//! let results = Results::from_records([
//!     run("equal-weights", 0, 0.90), run("equal-weights", 1, 0.88), run("equal-weights", 2, 0.91),
//!     run("pcgrad", 0, 0.92), run("pcgrad", 1, 0.90), run("pcgrad", 2, 0.931),
//! ])?;
//!
//! let table = Pivot::new(Key::Method, Key::Task).percent().table(&results)?;
//! assert!(table.to_markdown().contains("| pcgrad | **91.7** ± 3.9 |"));
//!
//! let verdicts = Comparison::new("accuracy", Better::Higher).points().against(&results, "equal-weights", &["pcgrad"])?;
//! assert!(verdicts[0].to_string().starts_with("pcgrad beat equal-weights on accuracy by 2.03 points"));
//! # Ok::<(), mtl_bench::Error>(())
//! ```
#[cfg(feature = "cli")]
pub mod cli;
pub mod compare;
pub mod data;
mod error;
pub mod formats;
pub mod interchange;
pub mod metrics;
pub mod plot;
pub mod report;
pub mod stats;
pub mod store;
pub mod system;
pub mod table;

pub use compare::{Comparison, Outcome, Verdict};
pub use error::{Error, Result};
pub use mtl_core::Record;
pub use plot::Plot;
pub use report::{Report, Section};
pub use stats::{Estimate, Interval};
pub use store::Results;
pub use table::{Pivot, Table};
