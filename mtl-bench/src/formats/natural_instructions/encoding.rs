//! Prompts of version 2: the rules of yizhongw/Tk-Instruct, `src/ni_collator.py`.
use super::{NiExample, NiInstance, NiTask};
use mtl_core::Seed;
use rand::RngExt;
use std::fmt::Debug;

/// What a prompt shows of the instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Encoding {
    /// The task's name.
    pub task_name: bool,
    /// The definition.
    pub definition: bool,
    /// Most positive examples.
    pub positives: usize,
    /// Most negative examples.
    pub negatives: usize,
    /// Explanations of the examples.
    pub explanations: bool,
}

/// Counts tokens for a limit on the prompt's length.
pub trait TokenCounter: Debug {
    /// Number of tokens.
    fn count(&self, text: &str) -> usize;

    /// The text of the first `most` tokens.
    fn cut<'t>(&self, text: &'t str, most: usize) -> &'t str;
}

/// Words between white space as tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WhiteSpace;

impl TokenCounter for WhiteSpace {
    fn count(&self, text: &str) -> usize {
        text.split_whitespace().count()
    }

    fn cut<'t>(&self, text: &'t str, most: usize) -> &'t str {
        let Some(word) = most.checked_sub(1).and_then(|last| text.split_whitespace().nth(last)) else {
            return if most == 0 { "" } else { text };
        };
        let end = word.as_ptr() as usize - text.as_ptr() as usize + word.len();
        text.get(..end).unwrap_or(text)
    }
}

/// The longest prompt.
#[derive(Debug, Clone, Copy)]
pub struct Budget<'a> {
    /// Most tokens; 1024 in Tk-Instruct.
    pub tokens: usize,
    /// What a token is.
    pub counter: &'a dyn TokenCounter,
}

impl Encoding {
    /// Nothing but the instance.
    pub const NONE: Self =
        Self { task_name: false, definition: false, positives: 0, negatives: 0, explanations: false };
    /// The definition only.
    pub const DEFINITION: Self = Self { definition: true, ..Self::NONE };
    /// Definition and two positive examples: the default of Tk-Instruct.
    pub const DEFAULT: Self = Self { positives: 2, ..Self::DEFINITION };
    /// The five encodings of which the "Tk-Instruct" mode draws one per instance.
    pub const TK_INSTRUCT: [Self; 5] = [
        Self::DEFINITION,
        Self { positives: 2, ..Self::NONE },
        Self::DEFAULT,
        Self { negatives: 2, ..Self::DEFAULT },
        Self { explanations: true, ..Self::DEFAULT },
    ];

    /// One of [`Encoding::TK_INSTRUCT`], by seed and the instance's identifier.
    pub fn draw(seed: Seed, instance: &NiInstance) -> Self {
        let mut rng = seed.fork("natural-instructions encoding").stream(&instance.id, 0);
        let [first, ..] = Self::TK_INSTRUCT;
        Self::TK_INSTRUCT.get(rng.random_range(0..Self::TK_INSTRUCT.len())).copied().unwrap_or(first)
    }

    /// The prompt. Examples are added in order while the whole stays within the budget, and a prompt that is longer without
    /// any is cut; a task with fewer examples than asked shows those it has. The prompt ends with a blank.
    pub fn prompt(&self, task: &NiTask, instance: &NiInstance, budget: Option<Budget<'_>>) -> String {
        let mut query = String::from("Now complete the following example -\n");
        line(&mut query, "Input: ", &instance.input);
        query.push_str("Output: ");
        let mut prompt = String::new();
        if self.task_name {
            prompt.push_str(&format!("{}. ", task.name));
        }
        if let (true, Some(definition)) = (self.definition, task.definition.first()) {
            line(&mut prompt, "Definition: ", definition);
            prompt.push('\n');
        }
        let fits = |text: &str| budget.is_none_or(|b| b.counter.count(text) <= b.tokens);
        for (kind, examples, most) in
            [("Positive", &task.positive, self.positives), ("Negative", &task.negative, self.negatives)]
        {
            for (i, example) in examples.iter().take(most).enumerate() {
                let longer = format!("{prompt}{}", self.example(kind, i + 1, example));
                if !fits(&format!("{longer}{query}")) {
                    break;
                }
                prompt = longer;
            }
        }
        prompt.push_str(&query);
        match budget {
            Some(b) if !fits(&prompt) => b.counter.cut(&prompt, b.tokens).to_owned(),
            _ => prompt,
        }
    }

    fn example(&self, kind: &str, number: usize, example: &NiExample) -> String {
        let mut text = format!(" {kind} Example {number} -\n");
        line(&mut text, "Input: ", &example.input);
        line(&mut text, " Output: ", &example.output);
        if let (true, Some(explanation)) = (self.explanations, &example.explanation) {
            line(&mut text, " Explanation: ", explanation);
        }
        text.push('\n');
        text
    }
}

/// Adds a line; it ends with a full stop if it does not end in ASCII punctuation.
fn line(text: &mut String, before: &str, content: &str) {
    text.push_str(before);
    text.push_str(content.trim());
    if !text.ends_with(|c: char| c.is_ascii_punctuation()) {
        text.push('.');
    }
    text.push('\n');
}
