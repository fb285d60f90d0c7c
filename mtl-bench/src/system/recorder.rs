//! Questions written down instead of asked.
use super::{Request, System};
use crate::Result;
use serde_json::Value;
use std::io::{self, Write};

/// Answers nothing and keeps every question, so that a program elsewhere can answer them into a file of
/// [`SavedResponses`](super::SavedResponses).
///
/// Later turns of a conversation depend on earlier answers, which are empty here.
///
/// ```
/// use mtl_bench::system::{Recorder, Request, System};
///
/// let mut recorder = Recorder::default();
/// recorder.respond(&[Request::new("q1", "6 × 7?")])?;
/// let mut lines = Vec::new();
/// recorder.write(&mut lines).unwrap();
/// assert!(String::from_utf8_lossy(&lines).starts_with(r#"{"id":"q1","messages":[{"content":"6 × 7?","role":"user"}]"#));
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recorder {
    questions: Vec<(Request, Option<Vec<String>>)>,
}

impl Recorder {
    /// The questions in order, with the choices of those that ask for scores.
    pub fn questions(&self) -> &[(Request, Option<Vec<String>>)] {
        &self.questions
    }

    /// Writes one JSON object per line: the request, and `choices` where scores of them are asked for.
    ///
    /// # Errors
    ///
    /// What `out` returns.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for (request, choices) in &self.questions {
            let Value::Object(mut line) = serde_json::to_value(request)? else { continue };
            if let Some(choices) = choices {
                line.insert("choices".to_owned(), choices.clone().into());
            }
            writeln!(out, "{}", Value::Object(line))?;
        }
        Ok(())
    }
}

impl System for Recorder {
    fn name(&self) -> &str {
        "recorder"
    }

    fn respond(&mut self, requests: &[Request]) -> Result<Vec<String>> {
        self.questions.extend(requests.iter().map(|r| (r.clone(), None)));
        Ok(vec![String::new(); requests.len()])
    }

    fn score(&mut self, request: &Request, choices: &[String]) -> Result<Vec<f64>> {
        self.questions.push((request.clone(), Some(choices.to_vec())));
        Ok(vec![0.0; choices.len()])
    }
}
