//! Benchmarks in their released formats: loaders, prompts, splits and scores as their authors prescribe them.
pub mod big_bench;
mod document;
pub mod med_mat;
pub mod natural_instructions;
pub mod tasksource;
