//! The runner: grids of cells, worker processes, checkpoints, resumption, reports.
//!
//! A [`Study`] names a grid of [`Cell`]s and knows how to run one of them. The runner multiplies the grid out, hands
//! the cells to worker processes, keeps what they record and can be killed at any instant: a finished cell is never
//! computed again, a started one goes on from its last checkpoint, and the records come out bit for bit the same.
mod cell;
mod checkpoint;
mod claim;
mod context;
mod grid;
mod judge;
mod ledger;
mod machine;
mod overrides;
mod plan;
mod pool;
mod progress;
mod protocol;
mod report;
mod schedule;
mod signals;
mod source;
mod store;
mod study;
mod worker;

pub(crate) use protocol::tell_error;

pub use cell::{Cell, Scope};
pub use claim::{Claim, ClaimOutcome, Effect, Paper};
pub use context::CellContext;
pub use grid::{Grid, MAX_CELLS};
pub use judge::PairedTest;
pub use ledger::{Ledger, LedgerRow};
pub use machine::Machine;
pub use overrides::Overrides;
pub use plan::{DataSource, Manifest, Plan, Request};
pub use report::Report;
pub use schedule::{Options, Outcome, execute};
pub use signals::stop_flag;
pub use store::{FailedCell, Lock, State, Store};
pub use study::Study;
pub use worker::{Assignment, work};
