//! A system under evaluation: text in, text or scores out.
//!
//! Benchmarks ask through [`System`] and do not know what answers: a language model, a file of saved responses
//! ([`SavedResponses`]), a [`Recorder`] of the questions, or a program that reads and writes JSON lines ([`Program`]).
mod program;
mod recorder;
mod saved;

pub use program::Program;
pub use recorder::Recorder;
pub use saved::SavedResponses;

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// The one who asks.
    User,
    /// The system under evaluation.
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// What a system is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Names the question within its benchmark; the key of saved responses.
    pub id: String,
    /// The conversation so far, at least one message; the last is the user's.
    pub messages: Vec<Message>,
    /// Most tokens of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u32>,
    /// Texts at which the answer ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
}

impl Request {
    /// A single question.
    pub fn new(id: impl Into<String>, prompt: impl Into<String>) -> Self {
        let messages = vec![Message { role: Role::User, content: prompt.into() }];
        Self { id: id.into(), messages, max_new_tokens: None, stop: Vec::new() }
    }

    /// The last message: the question.
    pub fn prompt(&self) -> &str {
        self.messages.last().map_or("", |m| &m.content)
    }
}

/// Answers questions.
///
/// ```
/// use mtl_bench::system::{Request, System};
/// use mtl_bench::Result;
///
/// struct Echo;
/// impl System for Echo {
///     fn name(&self) -> &str {
///         "echo"
///     }
///     fn respond(&mut self, requests: &[Request]) -> Result<Vec<String>> {
///         Ok(requests.iter().map(|r| r.prompt().to_owned()).collect())
///     }
/// }
/// assert_eq!(Echo.respond(&[Request::new("q1", "What?")])?, ["What?"]);
/// assert!(Echo.score(&Request::new("q1", "What?"), &["a".into()]).is_err());
/// # Ok::<(), mtl_bench::Error>(())
/// ```
pub trait System {
    /// Name in records and tables.
    fn name(&self) -> &str;

    /// Answers to independent questions, in their order.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when an answer is not to be had.
    fn respond(&mut self, requests: &[Request]) -> Result<Vec<String>>;

    /// Log-probability (natural, up to a constant of the question) of each choice as the answer.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when it has none; so by default.
    fn score(&mut self, request: &Request, _choices: &[String]) -> Result<Vec<f64>> {
        Err(Error::System {
            system: self.name().to_owned(),
            message: format!("gives no scores of choices, but `{}` needs them", request.id),
        })
    }
}

/// Answers the same text to everything: with an empty text, a benchmark's floor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Constant(pub String);

impl System for Constant {
    fn name(&self) -> &str {
        "constant"
    }

    fn respond(&mut self, requests: &[Request]) -> Result<Vec<String>> {
        Ok(vec![self.0.clone(); requests.len()])
    }

    /// Equal scores.
    fn score(&mut self, _request: &Request, choices: &[String]) -> Result<Vec<f64>> {
        Ok(vec![0.0; choices.len()])
    }
}
