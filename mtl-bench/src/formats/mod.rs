//! Benchmarks in their released formats: loaders, prompts, splits and scores as their authors prescribe them.
pub mod if_eval;
