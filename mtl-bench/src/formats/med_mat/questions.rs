//! Choice questions.
use crate::formats::document::Document;
use crate::system::{Request, System};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A question with lettered options, about an image that is not part of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Question {
    /// Identifier.
    pub id: String,
    /// Identifier of the data set (`data-no`).
    pub subset: String,
    /// Path or name of the image.
    pub image: String,
    /// Question with its options, one per line, each as `A: text`, `A. text` or `A) text`.
    pub text: String,
    /// Options in the order of their letters, two to four.
    pub options: Vec<String>,
    /// Index of the right one.
    pub answer: usize,
}

/// Reads a JSON list of records with `id`, `image`, `Question-choice`, `Answer-choice` (a letter) and `data-no`.
///
/// # Errors
///
/// [`mtl_core::Error::Io`] when it cannot be read; [`Error::Format`] for a missing key, a wrong type, fewer than two options
/// or more than four, options that are equal, or an answer that is not the letter of one.
pub fn read_questions(path: &Path) -> Result<Vec<Question>> {
    let document = Document::read(path)?;
    let (mut questions, mut seen) = (Vec::new(), BTreeSet::new());
    for node in document.root().items()? {
        let text = |key: &str| node.need(key).and_then(|n| n.text().map(str::to_owned));
        let asked = node.need("Question-choice")?;
        let options = options(asked.text()?);
        if !(2..=4).contains(&options.len()) {
            return Err(
                asked.error(format!("must have 2 to 4 options such as `A: text`, but has {}", options.len()))
            );
        }
        if options.iter().collect::<BTreeSet<_>>().len() < options.len() {
            return Err(asked.error("has an option twice"));
        }
        let right = node.need("Answer-choice")?;
        let letter = right.text()?.trim().trim_end_matches(['.', ':', ')']);
        let answer = LETTERS.iter().position(|l| *l == letter).filter(|a| *a < options.len());
        let answer =
            answer.ok_or_else(|| right.error(format!("`{letter}` is not the letter of an option")))?;
        let id = text("id")?;
        if !seen.insert(id.clone()) {
            return Err(node.need("id")?.error(format!("`{id}` is there twice")));
        }
        let (subset, image, text) = (text("data-no")?, text("image")?, asked.text()?.to_owned());
        questions.push(Question { id, subset, image, text, options, answer });
    }
    Ok(questions)
}

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// Lines that start with the next letter and a mark.
fn options(text: &str) -> Vec<String> {
    let mut options: Vec<String> = Vec::new();
    for line in text.lines() {
        let Some(letter) = LETTERS.get(options.len()) else { break };
        let rest = line.trim().strip_prefix(letter).and_then(|r| r.strip_prefix([':', '.', ')']));
        if let Some(option) = rest {
            options.push(option.trim().to_owned());
        }
    }
    options
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MatPrediction {
    /// Identifier of the question.
    pub id: String,
    /// Index of the option read from the answer; `None` when none is recognised.
    pub option: Option<usize>,
    /// Whether it is the right one.
    pub right: bool,
}

/// Accuracy beside chance.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MatScores {
    /// Share of right answers.
    pub accuracy: f64,
    /// Mean of 1 / number of options.
    pub chance: f64,
    /// Accuracy of each data set.
    pub subsets: BTreeMap<String, f64>,
    /// What was answered.
    pub predictions: Vec<MatPrediction>,
}

/// Asks a system all questions. An answer counts as the option of the first capital letter A to D that stands alone, or else
/// as the option whose text it equals after trimming.
///
/// # Errors
///
/// [`Error::Missing`] for no questions; [`Error::System`] from the system or for a wrong number of answers.
pub fn evaluate(questions: &[Question], system: &mut dyn System) -> Result<MatScores> {
    if questions.is_empty() {
        return Err(Error::Missing { what: "questions".into() });
    }
    let requests: Vec<Request> = questions.iter().map(|q| Request::new(&q.id, &q.text)).collect();
    let answers = system.respond(&requests)?;
    if answers.len() != questions.len() {
        let message = format!("gave {} answers to {} questions", answers.len(), questions.len());
        return Err(Error::System { system: system.name().to_owned(), message });
    }
    let mut subsets: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut predictions = Vec::with_capacity(questions.len());
    for (question, answer) in questions.iter().zip(&answers) {
        let option = chosen(question, answer);
        let right = option == Some(question.answer);
        let counts = subsets.entry(question.subset.clone()).or_default();
        *counts = (counts.0 + usize::from(right), counts.1 + 1);
        predictions.push(MatPrediction { id: question.id.clone(), option, right });
    }
    let n = questions.len() as f64;
    Ok(MatScores {
        accuracy: predictions.iter().filter(|p| p.right).count() as f64 / n,
        chance: questions.iter().map(|q| 1.0 / q.options.len() as f64).sum::<f64>() / n,
        subsets: subsets.into_iter().map(|(id, (right, all))| (id, right as f64 / all as f64)).collect(),
        predictions,
    })
}

fn chosen(question: &Question, answer: &str) -> Option<usize> {
    let words = answer.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    let letter = words.filter_map(|w| LETTERS.iter().position(|l| *l == w)).next();
    match letter {
        Some(i) => (i < question.options.len()).then_some(i),
        None => question.options.iter().position(|o| o == answer.trim()),
    }
}
