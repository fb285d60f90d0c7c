//! Texts that combine skills: Yu et al., *SKILL-MIX*, ICLR 2024, arXiv 2310.17567; Zhao et al., *Can Models Learn Skill
//! Composition from Examples?*, NeurIPS 2024, arXiv 2409.19808.
//!
//! A [`Combo`] is k skills and a topic; a system writes a short text that shows all of the skills, and a [`Grader`] gives one
//! point per skill and three more (see [`crate::metrics::SkillGrade`]). There are far more combinations than texts to learn
//! from, so large k needs composition. The [`Catalogue`] here has skills that programs can check, a grammar that writes texts
//! with them ([`write()`]) and a grader ([`Rubric`]); the checks do not know the grammar.
//!
//! # Departures
//!
//! - The papers' skills come from textbooks and are graded by a large model; these are checked by rule.
//! - At most k sentences are allowed (the papers: k − 1 for k > 1), because the grammar writes one sentence per skill.
//! - A text makes sense when the grammar accepts each of its sentences.
mod catalogue;
mod check;
mod combos;
mod evaluate;
mod grammar;

pub use catalogue::{Catalogue, SKILLS, Skill, TOPICS, Topic};
pub use check::Text;
pub use combos::{Combo, Pool, combinations};
pub use evaluate::{Grader, Item, Noisy, Options, Report, Rubric, evaluate, prompt};
pub use grammar::{Grammar, write};
