//! The files of IFEval, M-IFEval and Multi-IF.
use super::Builder;
use super::build::Verifier;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;

/// One instruction of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// Its kind, such as `punctuation:no_comma`; in M-IFEval with the language in front.
    pub id: String,
    /// Its arguments, none of them `null`.
    pub kwargs: Map<String, Value>,
}

/// One question with the instructions that are in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// What the user says.
    pub prompt: String,
    /// The instructions in force, those of earlier turns first and in their order.
    pub instructions: Vec<Instruction>,
}

impl Turn {
    /// The verifiers of the instructions.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn verifiers(&self, builder: &Builder) -> Result<Vec<Box<dyn Verifier>>> {
        self.instructions.iter().map(|i| builder.build(&i.id, &i.kwargs)).collect()
    }
}

/// A conversation; a prompt of IFEval is one of a single turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// Names it in its file.
    pub key: String,
    /// Language of the prompts, as the file has it.
    pub language: String,
    /// At least one.
    pub turns: Vec<Turn>,
}

#[derive(Deserialize)]
struct Line {
    key: Value,
    prompt: String,
    instruction_id_list: Vec<String>,
    kwargs: Vec<Map<String, Value>>,
}

/// Reads prompts of IFEval or M-IFEval: one JSON object per line with `key`, `prompt`, `instruction_id_list` and `kwargs`.
///
/// The language is the one in front of the first instruction's name, else `en`. Kinds and arguments are not checked here:
/// M-IFEval has kinds of its own that have no verifier; see [`Turn::verifiers`].
///
/// # Errors
///
/// [`mtl_core::Error::Io`] when the file cannot be read; [`Error::Format`] for a line that is no such object, has no
/// instructions, not one object of arguments for each, or a key that was there before.
pub fn read_ifeval(path: &Path) -> Result<Vec<Conversation>> {
    let text = std::fs::read_to_string(path).map_err(|e| mtl_core::Error::io("read", path, e))?;
    let mut keys = BTreeSet::new();
    let mut conversations = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let wrong = |message: String| format_error(path, format!("line {}", i + 1), message);
        let line: Line = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        let key = match &line.key {
            Value::String(s) => s.clone(),
            Value::Number(n) => n.to_string(),
            other => return Err(wrong(format!("`key` must be a text or a number, but is {other}"))),
        };
        let instructions = pair(line.instruction_id_list, line.kwargs).map_err(wrong)?;
        let language = instructions.first().and_then(|i| i.id.split(':').next()).filter(|l| l.len() == 2);
        let language = language.unwrap_or("en").to_owned();
        if !keys.insert(key.clone()) {
            return Err(wrong(format!("key `{key}` was there before")));
        }
        conversations.push(Conversation {
            key,
            language,
            turns: vec![Turn { prompt: line.prompt, instructions }],
        });
    }
    some(path, conversations)
}

fn some(path: &Path, conversations: Vec<Conversation>) -> Result<Vec<Conversation>> {
    if conversations.is_empty() {
        return Err(Error::Format {
            path: path.to_owned(),
            record: None,
            message: "holds no prompts".into(),
        });
    }
    Ok(conversations)
}

fn format_error(path: &Path, record: String, message: String) -> Error {
    Error::Format { path: path.to_owned(), record: Some(record), message }
}

fn pair(ids: Vec<String>, kwargs: Vec<Map<String, Value>>) -> Result<Vec<Instruction>, String> {
    if ids.is_empty() {
        return Err("the list of instructions is empty".into());
    }
    if ids.len() != kwargs.len() {
        return Err(format!("{} instructions, but {} objects of arguments", ids.len(), kwargs.len()));
    }
    let one = |(id, mut kwargs): (String, Map<String, Value>)| {
        kwargs.retain(|_, v| !v.is_null());
        Instruction { id, kwargs }
    };
    Ok(ids.into_iter().zip(kwargs).map(one).collect())
}

/// Reads conversations of Multi-IF from CSV: `key`, `language`, and for turns 1, 2, … `turn_1_prompt` (a JSON message),
/// `turn_1_instruction_id_list` (a JSON list) and `turn_1_kwargs` (a JSON list of objects that are JSON texts themselves).
///
/// `None` or nothing stands for a turn that is not there. Other columns are ignored.
///
/// # Errors
///
/// [`mtl_core::Error::Io`] when the file cannot be read; [`Error::Format`], naming line and column, when a column is missing,
/// a cell does not hold what it should, a turn follows a missing one or lacks a part, the instructions of a turn do not begin
/// with those of the turn before, or a key was there before.
pub fn read_multi_if(path: &Path) -> Result<Vec<Conversation>> {
    let text = std::fs::read_to_string(path).map_err(|e| mtl_core::Error::io("read", path, e))?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| format_error(path, "line 1".into(), e.to_string()))?.clone();
    let column = |name: &str| header.iter().position(|h| h.trim() == name);
    let need = |name: String| {
        column(&name).ok_or_else(|| format_error(path, "line 1".into(), format!("has no column `{name}`")))
    };
    let (key_at, language_at) = (need("key".into())?, need("language".into())?);
    let mut turns_at = Vec::new();
    while turns_at.is_empty() || column(&format!("turn_{}_prompt", turns_at.len() + 1)).is_some() {
        let t = turns_at.len() + 1;
        let names =
            [format!("turn_{t}_prompt"), format!("turn_{t}_instruction_id_list"), format!("turn_{t}_kwargs")];
        let [prompt, ids, kwargs] = names;
        turns_at.push([need(prompt)?, need(ids)?, need(kwargs)?]);
    }

    let mut keys = BTreeSet::new();
    let mut conversations = Vec::new();
    for row in reader.records() {
        let row = row.map_err(|e| {
            let line = e.position().map_or(0, csv::Position::line);
            format_error(path, format!("line {line}"), e.to_string())
        })?;
        let line = row.position().map_or(0, csv::Position::line);
        let wrong =
            |what: String, message: String| format_error(path, format!("line {line}, {what}"), message);
        let cell = |at: usize| row.get(at).map(str::trim).filter(|c| !c.is_empty() && *c != "None");
        let key = cell(key_at).ok_or_else(|| wrong("key".into(), "is empty".into()))?.to_owned();
        let language =
            cell(language_at).ok_or_else(|| wrong("language".into(), "is empty".into()))?.to_owned();
        let mut turns: Vec<Turn> = Vec::new();
        let mut ended = None;
        for (i, at) in turns_at.iter().enumerate() {
            let what = |part: &str| format!("turn_{}_{part}", i + 1);
            let Some(prompt) = cell(at[0]) else {
                ended.get_or_insert(i + 1);
                continue;
            };
            if let Some(gap) = ended {
                return Err(wrong(what("prompt"), format!("is there, but turn {gap} is not")));
            }
            let part = |name: &str, at: usize| cell(at).ok_or_else(|| wrong(what(name), "is empty".into()));
            let prompt = message(prompt).map_err(|e| wrong(what("prompt"), e))?;
            let ids: Vec<String> = serde_json::from_str(part("instruction_id_list", at[1])?)
                .map_err(|e| wrong(what("instruction_id_list"), e.to_string()))?;
            let kwargs = objects(part("kwargs", at[2])?).map_err(|e| wrong(what("kwargs"), e))?;
            let instructions = pair(ids, kwargs).map_err(|e| wrong(what("instruction_id_list"), e))?;
            if let Some(before) = turns.last() {
                cumulative(before, &instructions).map_err(|e| wrong(what("instruction_id_list"), e))?;
            }
            turns.push(Turn { prompt, instructions });
        }
        if turns.is_empty() {
            return Err(wrong("turn_1_prompt".into(), "is empty".into()));
        }
        if !keys.insert(key.clone()) {
            return Err(wrong("key".into(), format!("`{key}` was there before")));
        }
        conversations.push(Conversation { key, language, turns });
    }
    some(path, conversations)
}

fn message(cell: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Message {
        role: String,
        content: String,
    }
    let message: Message = serde_json::from_str(cell).map_err(|e| e.to_string())?;
    if message.role != "user" {
        return Err(format!("`role` must be `user`, but is `{}`", message.role));
    }
    Ok(message.content)
}

/// A JSON list of objects, each of them encoded as a JSON text or not.
fn objects(cell: &str) -> Result<Vec<Map<String, Value>>, String> {
    let items: Vec<Value> = serde_json::from_str(cell).map_err(|e| e.to_string())?;
    let one = |(i, item): (usize, Value)| match item {
        Value::Object(object) => Ok(object),
        Value::String(text) => serde_json::from_str(&text).map_err(|e| format!("item {i}: {e}")),
        other => Err(format!("item {i} must be an object, but is {other}")),
    };
    items.into_iter().enumerate().map(one).collect()
}

fn cumulative(before: &Turn, instructions: &[Instruction]) -> Result<(), String> {
    let old = &before.instructions;
    if instructions.len() < old.len() {
        return Err(format!(
            "has {} instructions, but the turn before had {}",
            instructions.len(),
            old.len()
        ));
    }
    match old.iter().zip(instructions).position(|(a, b)| a.id != b.id) {
        Some(i) => Err(format!("instruction {i} is not that of the turn before")),
        None => Ok(()),
    }
}
