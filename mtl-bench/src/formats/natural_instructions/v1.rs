//! Prompts of version 1: allenai/natural-instructions-v1, `src/utils/encodeinstruction.py`.
use super::{NiInstance, NiTask};

/// A part of the instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum V1Part {
    /// Title.
    Title,
    /// Short instruction.
    Prompt,
    /// Definition.
    Definition,
    /// Things to avoid.
    Avoid,
    /// Emphasis and caution.
    Caution,
}

/// What a prompt of version 1 shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1Encoding {
    /// Parts in their order; those that a task lacks are left out.
    pub parts: Vec<V1Part>,
    /// Most positive examples.
    pub positives: usize,
    /// Most negative examples.
    pub negatives: usize,
    /// Whether positive examples have a heading and their reason; without, they are input and output alone.
    pub reasons: bool,
}

impl V1Encoding {
    /// The prompt.
    pub fn prompt(&self, task: &NiTask, instance: &NiInstance) -> String {
        let mut prompt = String::new();
        for part in &self.parts {
            let (name, text) = match part {
                V1Part::Title => ("Title", task.title.as_ref()),
                V1Part::Prompt => ("Prompt", task.prompt.as_ref()),
                V1Part::Definition => ("Definition", task.definition.first().filter(|d| d.trim() != "-")),
                V1Part::Avoid => ("Things to Avoid", task.avoid.as_ref()),
                V1Part::Caution => ("Emphasis & Caution", task.caution.as_ref()),
            };
            if let Some(text) = text {
                prompt.push_str(&format!("{name}: {}\n", text.trim()));
            }
        }
        let mut add = |name: &str, text: Option<&String>| {
            if let Some(text) = text {
                prompt.push_str(&format!("{name}: {}\n", text.trim()));
            }
        };
        for (i, example) in task.positive.iter().take(self.positives).enumerate() {
            let heading =
                if self.reasons { format!("Positive Example {}- \ninput", i + 1) } else { "input".into() };
            add(&heading, Some(&example.input));
            add("output", Some(&example.output));
            add("reason", example.explanation.as_ref().filter(|_| self.reasons));
        }
        for (i, example) in task.negative.iter().take(self.negatives).enumerate() {
            add(&format!("Negative Example {}- \ninput", i + 1), Some(&example.input));
            add("output", Some(&example.output));
            add("reason", example.explanation.as_ref());
            add("suggestion", example.suggestion.as_ref());
        }
        format!("{prompt}\ninput: {}\noutput:", instance.input.trim())
    }
}
