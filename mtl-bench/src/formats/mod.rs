//! Benchmarks in their released formats: loaders, prompts, splits and scores as their authors prescribe them.
pub mod basalt;
pub mod guide;
pub mod if_eval;
pub mod skill_mix;
