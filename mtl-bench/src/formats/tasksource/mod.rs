//! Declarative annotations of data sets: Sileo, *tasksource: Structured Dataset Preprocessing Annotations for Frictionless
//! Extreme Multi-Task Learning and Evaluation*, LREC-COLING 2024, arXiv 2301.05948; rules of sileod/tasksource,
//! `src/tasksource/preprocess.py`.
//!
//! An [`Annotation`] says which columns of a data set fill the columns of a task [`Template`]; [`Annotation::apply`] makes
//! the task. Annotations with a part that is a function upstream load, but are refused unless the function is registered.
mod annotation;
mod apply;
mod field;
mod labels;
mod pattern;
mod splits;
mod table;

pub use annotation::{Annotation, Annotations, Config, Template};
pub use apply::{ApplyOptions, Functions, TaskDataset};
pub use field::{Field, JsonPath};
pub use pattern::expand_pattern;
pub use splits::fix_splits;
pub use table::{Dataset, Row, Table};
