//! Responses saved in a file.
use super::{Request, System};
use crate::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Responses by identifier or by question, from JSON lines such as `{"id": "q1", "response": "42"}`.
///
/// A line has an `id` or a `prompt`, and a `response` or `scores` (`{"yes": -0.1, "no": -2.3}`, log-probabilities by
/// choice) or both. Other keys are ignored, so that a line can be a request with its answer added.
///
/// ```
/// use mtl_bench::system::{Request, SavedResponses, System};
///
/// let mut saved = SavedResponses::new("gold").with("q1", "42");
/// assert_eq!(saved.respond(&[Request::new("q1", "6 × 7?")])?, ["42"]);
/// let error = saved.respond(&[Request::new("q2", "6 × 9?")]).unwrap_err().to_string();
/// assert_eq!(error, "system `gold`: no response to `q2` is saved");
/// # Ok::<(), mtl_bench::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SavedResponses {
    name: String,
    by_id: BTreeMap<String, Saved>,
    by_prompt: BTreeMap<String, Saved>,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Saved {
    response: Option<String>,
    scores: Option<BTreeMap<String, f64>>,
}

#[derive(Deserialize)]
struct Line {
    id: Option<String>,
    prompt: Option<String>,
    response: Option<String>,
    scores: Option<BTreeMap<String, f64>>,
}

impl SavedResponses {
    /// No responses yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds or replaces the response to the question `id`.
    #[must_use]
    pub fn with(mut self, id: impl Into<String>, response: impl Into<String>) -> Self {
        self.by_id.entry(id.into()).or_default().response = Some(response.into());
        self
    }

    /// Adds or replaces the log-probabilities of choices of the question `id`.
    #[must_use]
    pub fn with_scores<S: Into<String>>(
        mut self,
        id: impl Into<String>,
        scores: impl IntoIterator<Item = (S, f64)>,
    ) -> Self {
        let scores = scores.into_iter().map(|(choice, score)| (choice.into(), score)).collect();
        self.by_id.entry(id.into()).or_default().scores = Some(scores);
        self
    }

    /// Reads a file of JSON lines; the name is the file's, without its ending.
    ///
    /// # Errors
    ///
    /// [`mtl_core::Error::Io`] when the file cannot be read; [`Error::Row`] for a line that is not such an object, has
    /// neither key or neither answer, a score that is not a number, or a question that was there before.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| mtl_core::Error::io("read", path, e))?;
        let name = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
        let mut saved = Self::new(name);
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
            saved.add(line).map_err(|message| Error::Row {
                path: path.to_owned(),
                line: i as u64 + 1,
                message,
            })?;
        }
        Ok(saved)
    }

    fn add(&mut self, line: &str) -> std::result::Result<(), String> {
        let line: Line = serde_json::from_str(line).map_err(|e| e.to_string())?;
        if line.response.is_none() && line.scores.is_none() {
            return Err("has neither `response` nor `scores`".into());
        }
        if let Some((choice, value)) = line.scores.iter().flatten().find(|(_, v)| v.is_nan()) {
            return Err(format!("`scores` of `{choice}` is {value}"));
        }
        let saved = Saved { response: line.response, scores: line.scores };
        let (map, key) = match (line.id, line.prompt) {
            (Some(id), _) => (&mut self.by_id, id),
            (None, Some(prompt)) => (&mut self.by_prompt, prompt),
            (None, None) => return Err("has neither `id` nor `prompt`".into()),
        };
        match map.entry(key) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(saved);
                Ok(())
            }
            std::collections::btree_map::Entry::Occupied(entry) => {
                Err(format!("`{}` was answered before", entry.key()))
            }
        }
    }

    /// Number of questions with an answer.
    pub fn len(&self) -> usize {
        self.by_id.len() + self.by_prompt.len()
    }

    /// Whether nothing is saved.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, request: &Request) -> Option<&Saved> {
        self.by_id.get(&request.id).or_else(|| self.by_prompt.get(request.prompt()))
    }

    fn missing(&self, what: &str, request: &Request) -> Error {
        Error::System { system: self.name.clone(), message: format!("no {what} `{}` is saved", request.id) }
    }
}

impl System for SavedResponses {
    fn name(&self) -> &str {
        &self.name
    }

    fn respond(&mut self, requests: &[Request]) -> Result<Vec<String>> {
        let one = |r: &Request| {
            let response = self.find(r).and_then(|s| s.response.clone());
            response.ok_or_else(|| self.missing("response to", r))
        };
        requests.iter().map(one).collect()
    }

    fn score(&mut self, request: &Request, choices: &[String]) -> Result<Vec<f64>> {
        let scores = self.find(request).and_then(|s| s.scores.as_ref());
        let scores = scores.ok_or_else(|| self.missing("score for", request))?;
        let one = |choice: &String| {
            scores
                .get(choice)
                .copied()
                .ok_or_else(|| self.missing(&format!("score of the choice `{choice}` for"), request))
        };
        choices.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SavedResponses> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.jsonl");
        std::fs::write(&path, text).unwrap();
        SavedResponses::read(&path)
    }

    #[test]
    fn lines_answer_by_id_or_by_question() {
        let lines = "{\"id\": \"a\", \"response\": \"1\", \"model\": \"x\"}\n\n{\"prompt\": \"two?\", \"response\": \"2\", \"scores\": {\"2\": -0.5, \"3\": -1.0}}\n";
        let mut saved = read(lines).unwrap();
        let two = Request::new("b", "two?");
        assert_eq!(saved.respond(&[Request::new("a", ""), two.clone()]).unwrap(), ["1", "2"]);
        assert_eq!(saved.score(&two, &["3".into(), "2".into()]).unwrap(), [-1.0, -0.5]);
        assert!(saved.score(&two, &["4".into()]).unwrap_err().to_string().contains("the choice `4`"));
        assert_eq!((saved.name(), saved.len()), ("model", 2));
    }

    #[test]
    fn bad_lines_are_named() {
        for (text, message) in [
            ("{\"id\": \"a\"}", "line 1: has neither `response` nor `scores`"),
            ("{\"response\": \"a\"}", "line 1: has neither `id` nor `prompt`"),
            (
                "{\"id\": \"a\", \"response\": \"\"}\n{\"id\": \"a\", \"response\": \"\"}",
                "line 2: `a` was answered before",
            ),
            ("{\"id\": 1, \"response\": \"\"}", "line 1: invalid type"),
            ("{\"id\": \"a\", \"resp", "line 1: EOF"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
