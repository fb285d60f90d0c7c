//! Plots as SVG, without a plotting library.
mod gantt;
mod svg;

pub use gantt::{Gantt, TimeUnit};
