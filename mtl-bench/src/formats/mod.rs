//! Benchmarks in their released formats: loaders, prompts, splits and scores as their authors prescribe them.
pub mod basalt;
pub mod big_bench;
mod document;
pub mod guide;
pub mod if_eval;
pub mod med_mat;
pub mod natural_instructions;
pub mod skill_mix;
pub mod tasksource;
