//! Compositional generalisation over medical images: *On the Compositional Generalization of Multimodal LLMs for Medical
//! Imaging*, arXiv 2412.20070 (Med-MAT).
//!
//! A [`Catalogue`] holds data sets as triplets of modality, area and task; it tells which others share an element with a
//! target or cover it, and [`Catalogue::plan`] composes training sets of equal size. [`evaluate`] scores choice questions.
mod catalogue;
mod plan;
mod questions;

pub use catalogue::{Catalogue, CatalogueStats, Element, Subset, TargetStats, Triplet, coarse_task};
pub use plan::{Regime, SplitPlan};
pub use questions::{MatPrediction, MatScores, Question, evaluate, read_questions};
