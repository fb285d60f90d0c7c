//! Prompts with and without solved examples.
use super::{Example, Task};
use crate::{Error, Result};
use mtl_core::Seed;
use rand::RngExt;
use rand::seq::index;
use regex::Regex;

/// What stands around the parts of a prompt, and how answers are cut; defaults are those of the schema.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PromptFormat {
    /// Before everything: `""`.
    pub task_prefix: String,
    /// Before each question: `"\nQ: "`.
    pub input_prefix: String,
    /// Before each answer: `"\nA: "`.
    pub output_prefix: String,
    /// Before each choice: `"\n  choice: "`.
    pub choice_prefix: String,
    /// Whether the choices follow the question: yes.
    pub append_choices: bool,
    /// After each solved example: `"\n"`.
    pub shot_separator: String,
    /// The answer ends before this text.
    pub stop: Option<String>,
    /// The part of the answer that counts: the first group, or the whole match. An answer without a match counts whole.
    pub output_regex: Option<Regex>,
}

impl Default for PromptFormat {
    fn default() -> Self {
        Self {
            task_prefix: String::new(),
            input_prefix: "\nQ: ".into(),
            output_prefix: "\nA: ".into(),
            choice_prefix: "\n  choice: ".into(),
            append_choices: true,
            shot_separator: "\n".into(),
            stop: None,
            output_regex: None,
        }
    }
}

impl PromptFormat {
    /// What counts of an answer: cut at the stop text, reduced by the expression, trimmed.
    pub fn clean<'t>(&self, answer: &'t str) -> &'t str {
        let answer = match self.stop.as_deref().and_then(|stop| answer.split(stop).next()) {
            Some(before) => before,
            None => answer,
        };
        let found = self.output_regex.as_ref().and_then(|r| r.captures(answer));
        let found = found.and_then(|c| c.get(1).or_else(|| c.get(0)));
        found.map_or(answer, |m| m.as_str()).trim()
    }

    fn question(&self, example: &Example, prompt: &mut String) {
        prompt.push_str(&self.input_prefix);
        prompt.push_str(&example.input);
        if self.append_choices {
            for (choice, _) in &example.choices {
                prompt.push_str(&self.choice_prefix);
                prompt.push_str(choice);
            }
        }
        prompt.push_str(&self.output_prefix);
    }
}

/// A solved example in a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shot {
    /// Which example.
    pub example: usize,
    /// Which of its [`Example::answers`]; 0 is the first.
    pub answer: usize,
}

impl Shot {
    /// An example with its first answer.
    pub fn first(example: usize) -> Self {
        Self { example, answer: 0 }
    }
}

impl Task {
    /// The prompt of an example, after solved ones.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for an example or an answer that is not there, or the query among the shots.
    pub fn prompt(&self, query: usize, shots: &[Shot]) -> Result<String> {
        let example = |argument, i: usize| {
            let must = format!("one of the {} examples of `{}`", self.examples.len(), self.name);
            self.examples.get(i).ok_or_else(|| Error::argument(argument, must, i))
        };
        let mut prompt = self.format.task_prefix.clone();
        for shot in shots {
            if shot.example == query {
                return Err(Error::argument("shots", "other examples than the query", query));
            }
            let solved = example("shots", shot.example)?;
            let answers = solved.answers();
            let answer = answers.get(shot.answer).ok_or_else(|| {
                Error::argument("shots", format!("one of {} answers", answers.len()), shot.answer)
            })?;
            self.format.question(solved, &mut prompt);
            prompt.push_str(answer);
            prompt.push_str(&self.format.shot_separator);
        }
        self.format.question(example("query", query)?, &mut prompt);
        Ok(prompt)
    }

    /// Draws `n` solved examples for a query, without replacement and never the query itself, and for each one of its
    /// answers. The draw depends on the seed, the task's name and the query only.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when there are not that many other examples.
    pub fn draw_shots(&self, query: usize, n: usize, seed: Seed) -> Result<Vec<Shot>> {
        let others = self.examples.len().saturating_sub(1);
        if n > others || query > others {
            let must = format!("at most the {others} other examples of `{}`", self.name);
            return Err(Error::argument("shots", must, n));
        }
        let mut rng = seed.fork("big-bench shots").stream(&self.name, query as u64);
        let drawn = index::sample(&mut rng, others, n).into_vec();
        let shot = |i: usize| {
            let example = if i < query { i } else { i + 1 };
            let answers = self.examples.get(example).map_or(1, |e| e.answers().len());
            Shot { example, answer: if answers > 1 { rng.random_range(0..answers) } else { 0 } }
        };
        Ok(drawn.into_iter().map(shot).collect())
    }
}
