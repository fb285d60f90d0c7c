//! Studies: grids of cells, a resumable runner and reports.
//!
//! A study is one file in `src/studies/`, one grid in `studies/`, and one line in the table of [`studies`]. The
//! [`runner`] does the rest: it multiplies the grid out to cells, validates all of them before any work, computes them
//! in worker processes, survives kills, full disks and cells that fail, and makes the report.
//!
//! ```
//! use experiments::studies;
//!
//! let error = studies::find("selftst").err().map(|e| e.to_string());
//! assert_eq!(error.as_deref(), Some("unknown study `selftst`; did you mean `selftest`?"));
//! # Ok::<(), mtl_core::Error>(())
//! ```
pub mod cli;
pub mod runner;
pub mod studies;
