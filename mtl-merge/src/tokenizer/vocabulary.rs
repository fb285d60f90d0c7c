//! The tokens of a model and the rows of its embedding that they name.
use super::document::{self, OrderedMap, RawObject};
use mtl_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};

/// Tokens a vocabulary may have, and one more than the largest number of one; the largest in use have about 10^6.
pub(super) const MAX_TOKENS: usize = 1 << 23;

/// Special tokens that the configuration names, in the order in which the libraries add missing ones.
const SPECIAL: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A token that the tokenizer finds before it splits the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AddedToken {
    /// Row of the embedding.
    #[serde(default)]
    pub id: u32,
    /// Text of the token.
    pub content: String,
    /// Match whole words only.
    #[serde(default)]
    pub single_word: bool,
    /// Swallow white space before it.
    #[serde(default)]
    pub lstrip: bool,
    /// Swallow white space after it.
    #[serde(default)]
    pub rstrip: bool,
    /// Match in the normalized text.
    #[serde(default)]
    pub normalized: bool,
    /// Left out when ids are turned into text.
    #[serde(default)]
    pub special: bool,
}

impl AddedToken {
    /// A plain word, or a special token.
    pub(super) fn new(content: &str, special: bool) -> Self {
        let (id, content) = (0, content.to_owned());
        let (single_word, lstrip, rstrip) = (false, false, false);
        Self { id, content, single_word, lstrip, rstrip, normalized: !special, special }
    }
}

/// Which files a vocabulary is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `tokenizer.json`.
    Json,
    /// `vocab.json`, `merges.txt` and `added_tokens.json`.
    Pairs,
    /// `vocab.txt`, a token a line, and `added_tokens.json`.
    Lines,
}

/// The tokens of one tokenizer with their numbers.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    pub(super) dir: PathBuf,
    pub(super) layout: Layout,
    /// Tokens of the model itself; added ones get the numbers that follow.
    pub(super) base_count: usize,
    /// Number, and whether the token is the model's own.
    ids: HashMap<String, (u32, bool)>,
    used: HashSet<u32>,
    added: BTreeMap<u32, AddedToken>,
}

impl Vocabulary {
    /// Reads the tokenizer of a model directory; `None` when it has none.
    ///
    /// Reads `tokenizer.json` (BPE, WordPiece, Unigram, WordLevel), else `vocab.json` or `vocab.txt`, and what
    /// `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json` add to it. Tokens added beyond the
    /// model's own get the numbers that the tokenizer libraries give them, whatever number the file states.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] for a damaged file or a SentencePiece model without `tokenizer.json`, [`Error::Io`] for an
    /// unreadable one.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let json = dir.join("tokenizer.json");
        if let Some(bytes) = document::read(&json)? {
            return Self::read_json(dir, &json, &bytes).map(Some);
        }
        for (name, layout) in [("vocab.json", Layout::Pairs), ("vocab.txt", Layout::Lines)] {
            let path = dir.join(name);
            let tokens = match layout {
                Layout::Pairs => document::read_json::<OrderedMap<u32>>(&path)?.map(|map| map.0),
                _ => document::read_text(&path)?.map(|text| {
                    let text = text.strip_suffix('\n').unwrap_or(&text);
                    text.split('\n').map(|t| t.trim_end_matches('\r').to_owned()).zip(0_u32..).collect()
                }),
            };
            if let Some(tokens) = tokens {
                let mut vocabulary = Self::new(dir, layout, &path, tokens)?;
                vocabulary.add_configured()?;
                return Ok(Some(vocabulary));
            }
        }
        for name in ["tokenizer.model", "spiece.model", "sentencepiece.bpe.model"] {
            let path = dir.join(name);
            if path.is_file() {
                let message = "is the only tokenizer file, and SentencePiece models are not read; convert it to \
                               `tokenizer.json`, which `AutoTokenizer.from_pretrained(…).save_pretrained(…)` does";
                return Err(Error::format(path, message));
            }
        }
        Ok(None)
    }

    fn read_json(dir: &Path, path: &Path, bytes: &[u8]) -> Result<Self> {
        let file: RawObject = document::parse(path, bytes)?;
        let Some(model) = file.get::<RawObject>(path, "model")? else {
            return Err(Error::format(
                path,
                "has no `model`; expected a tokenizer of the `tokenizers` library",
            ));
        };
        let kind = model.get::<String>(path, "type")?;
        let tokens = match kind.as_deref() {
            Some("Unigram") => {
                let pieces: Vec<(String, f64)> = model.get(path, "vocab")?.unwrap_or_default();
                let mut last = HashMap::new();
                for ((piece, _), id) in pieces.into_iter().zip(0_u32..) {
                    if last.insert(piece.clone(), id).is_some() {
                        tracing::warn!(
                            "`{}`: piece `{piece}` is there twice; the last counts",
                            path.display()
                        );
                    }
                }
                last.into_iter().collect()
            }
            Some("BPE" | "WordPiece" | "WordLevel") | None => {
                model.get::<OrderedMap<u32>>(path, "vocab")?.map(|map| map.0).unwrap_or_default()
            }
            Some(other) => {
                let message =
                    format!("has a model of type `{other}`; expected BPE, WordPiece, Unigram or WordLevel");
                return Err(Error::format(path, message));
            }
        };
        let mut vocabulary = Self::new(dir, Layout::Json, path, tokens)?;
        for token in file.get::<Vec<AddedToken>>(path, "added_tokens")?.unwrap_or_default() {
            let (stated, content) = (token.id, token.content.clone());
            let id = vocabulary.add(token)?;
            if id != stated && !content.is_empty() {
                tracing::warn!(
                    "`{}`: added token `{content}` states the number {stated}, but is loaded as {id}",
                    path.display()
                );
            }
        }
        vocabulary.add_configured()?;
        Ok(vocabulary)
    }

    fn new(dir: &Path, layout: Layout, path: &Path, tokens: Vec<(String, u32)>) -> Result<Self> {
        if tokens.is_empty() || tokens.len() > MAX_TOKENS {
            let message = format!("has {} tokens; expected 1 to {MAX_TOKENS}", tokens.len());
            return Err(Error::format(path, message));
        }
        let base_count = tokens.len();
        let mut used = HashSet::with_capacity(base_count);
        for (token, id) in &tokens {
            if *id as usize >= MAX_TOKENS {
                let message = format!("token `{token}` has number {id}; expected one below {MAX_TOKENS}");
                return Err(Error::format(path, message));
            }
            if !used.insert(*id) {
                return Err(Error::format(
                    path,
                    format!("number {id} is given to two tokens, one of them `{token}`"),
                ));
            }
        }
        let ids: HashMap<_, _> = tokens.into_iter().map(|(text, id)| (text, (id, true))).collect();
        if ids.len() != base_count {
            return Err(Error::format(path, "lists a token twice"));
        }
        Ok(Self { dir: dir.to_owned(), layout, base_count, ids, used, added: BTreeMap::new() })
    }

    /// What the files beside the vocabulary add: declared tokens in the order of their numbers, then special ones.
    fn add_configured(&mut self) -> Result<()> {
        let path = self.dir.join("tokenizer_config.json");
        let mut config: BTreeMap<String, Value> = document::read_json(&path)?.unwrap_or_default();
        let wrong = |key: &str, e: serde_json::Error| Error::format(&path, format!("`{key}`: {e}"));
        let key = "added_tokens_decoder";
        let mut declared: BTreeMap<u32, AddedToken> = match config.remove(key) {
            Some(map) if !map.is_null() => serde_json::from_value(map).map_err(|e| wrong(key, e))?,
            _ => {
                let map = self.dir.join("special_tokens_map.json");
                config.extend(document::read_json::<BTreeMap<String, Value>>(&map)?.unwrap_or_default());
                BTreeMap::new()
            }
        };
        let special = special_tokens(&config);
        if declared.is_empty() {
            let map = self.dir.join("added_tokens.json");
            for (text, id) in
                document::read_json::<OrderedMap<u32>>(&map)?.map(|map| map.0).unwrap_or_default()
            {
                declared.insert(id, AddedToken::new(&text, special.contains(&text)));
            }
        }
        for token in declared.into_values() {
            self.add(token)?;
        }
        for text in special {
            let known = self.id(&text).is_some_and(|id| self.added.contains_key(&id));
            if !known {
                self.add(AddedToken::new(&text, true))?;
            }
        }
        Ok(())
    }

    /// Adds a token by the libraries' rule: a known text keeps its number, a new one gets the next.
    pub(super) fn add(&mut self, mut token: AddedToken) -> Result<u32> {
        if token.content.is_empty() {
            return Ok(0); // The libraries ignore it.
        }
        let next = self
            .added
            .last_key_value()
            .map_or(self.base_count as u64, |(&last, _)| (u64::from(last) + 1).max(self.base_count as u64));
        let id = match self.id(&token.content) {
            Some(id) => id,
            None => {
                let id = u32::try_from(next).ok().filter(|&id| (id as usize) < MAX_TOKENS);
                let free = id.filter(|id| !self.used.contains(id)).ok_or_else(|| {
                    let message = format!(
                        "token `{}` cannot be added: its number would be {next}, which is taken or out of range",
                        token.content
                    );
                    Error::format(&self.dir, message)
                })?;
                self.used.insert(free);
                self.ids.insert(token.content.clone(), (free, false));
                free
            }
        };
        token.id = id;
        self.added.insert(id, token);
        Ok(id)
    }

    /// How many tokens there are, added ones included.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// A vocabulary is never empty.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Number of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).map(|&(id, _)| id)
    }

    /// The tokens with their numbers, in the order of the numbers.
    pub fn tokens(&self) -> Vec<(&str, u32)> {
        let mut tokens: Vec<_> = self.ids.iter().map(|(text, &(id, _))| (text.as_str(), id)).collect();
        tokens.sort_unstable_by_key(|&(_, id)| id);
        tokens
    }

    /// Added tokens in the order of their numbers.
    pub fn added(&self) -> impl Iterator<Item = &AddedToken> {
        self.added.values()
    }

    /// The added token of that number.
    pub(super) fn added_with(&self, id: u32) -> Option<&AddedToken> {
        self.added.get(&id)
    }

    /// Leaves the tokens whose number is below `rows`; says whether any went.
    pub(super) fn strip(&mut self, rows: usize) -> bool {
        let before = self.ids.len();
        let outside = |id: u32| id as usize >= rows;
        self.base_count -= self.ids.values().filter(|&&(id, own)| own && outside(id)).count();
        self.ids.retain(|_, &mut (id, _)| !outside(id));
        self.used.retain(|&id| !outside(id));
        self.added.retain(|&id, _| !outside(id));
        self.ids.len() != before
    }

    /// Added tokens that the model's own vocabulary lacks.
    pub(super) fn beyond_base(&self) -> impl Iterator<Item = &AddedToken> {
        self.added.values().filter(|token| self.ids.get(&token.content).is_some_and(|&(_, own)| !own))
    }
}

/// Texts of the special tokens that a configuration names.
fn special_tokens(config: &BTreeMap<String, Value>) -> Vec<String> {
    fn text(value: &Value) -> Option<&str> {
        value.as_str().or_else(|| value.get("content")?.as_str())
    }
    let mut texts: Vec<&str> = SPECIAL.iter().filter_map(|key| text(config.get(*key)?)).collect();
    for key in ["extra_special_tokens", "additional_special_tokens"] {
        match config.get(key) {
            Some(Value::Array(list)) => texts.extend(list.iter().filter_map(text)),
            Some(Value::Object(map)) => texts.extend(map.values().filter_map(text)),
            _ => {}
        }
    }
    let mut seen = HashSet::new();
    texts.into_iter().filter(|text| !text.is_empty() && seen.insert(*text)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(files: &[(&str, &str)]) -> Result<Option<Vocabulary>> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        Vocabulary::read(dir.path())
    }

    fn tokens(files: &[(&str, &str)]) -> Vec<String> {
        let vocabulary = read(files).unwrap().unwrap();
        let mark = |id| if vocabulary.added_with(id).is_some() { "+" } else { "" };
        vocabulary.tokens().into_iter().map(|(text, id)| format!("{text}:{id}{}", mark(id))).collect()
    }

    #[test]
    fn every_model_type_is_read() {
        for model in [
            r#"{"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}"#,
            r#"{"type": "WordPiece", "vocab": {"b": 1, "a": 0}}"#,
            r#"{"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"}"#,
            r#"{"type": "Unigram", "vocab": [["a", 0.0], ["b", -1.5]]}"#,
            r#"{"vocab": {"a": 0, "b": 1}}"#,
        ] {
            let json = format!(r#"{{"model": {model}, "added_tokens": [{{"id": 2, "content": "<s>"}}]}}"#);
            assert_eq!(tokens(&[("tokenizer.json", &json)]), ["a:0", "b:1", "<s>:2+"], "{model}");
        }
        let pairs = [("vocab.json", r#"{"a": 0, "b": 1}"#), ("added_tokens.json", r#"{"<s>": 2}"#)];
        assert_eq!(tokens(&pairs), ["a:0", "b:1", "<s>:2+"]);
        assert_eq!(tokens(&[("vocab.txt", "a\r\nb\n")]), ["a:0", "b:1"]);
        assert!(read(&[("config.json", "{}")]).unwrap().is_none());
    }

    /// As transformers 5.24 with tokenizers 0.23 numbers them.
    #[test]
    fn added_tokens_get_the_numbers_of_the_libraries() {
        let json = |added: &str| {
            let model = r#"{"type": "WordLevel", "vocab": {"a": 0, "b": 1, "c": 2}}"#;
            format!(r#"{{"added_tokens": {added}, "model": {model}}}"#)
        };
        let gap = json(r#"[{"id": 60, "content": "<h>"}, {"id": 50, "content": "<g>"}]"#);
        assert_eq!(tokens(&[("tokenizer.json", &gap)]), ["a:0", "b:1", "c:2", "<h>:3+", "<g>:4+"]);
        let known = json(r#"[{"id": 9, "content": "b"}, {"id": 3, "content": ""}]"#);
        assert_eq!(tokens(&[("tokenizer.json", &known)]), ["a:0", "b:1+", "c:2"]);
        let config = r#"{"pad_token": "<pad>", "bos_token": "a", "eos_token": {"content": "<eos>"},
            "additional_special_tokens": ["<x>", "c"], "extra_special_tokens": {"image_token": "<img>"}}"#;
        let all = [("tokenizer.json", json("[]")), ("tokenizer_config.json", config.to_owned())];
        let all: Vec<_> = all.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let expected = ["a:0+", "b:1", "c:2+", "<eos>:3+", "<pad>:4+", "<img>:5+", "<x>:6+"];
        assert_eq!(tokens(&all), expected);
        let config = r#"{"pad_token": "<pad>", "added_tokens_decoder": {
            "4": {"content": "<4>", "special": true}, "3": {"content": "<3>"}, "1": {"content": "b"}}}"#;
        let files = [("tokenizer.json", json("[]")), ("tokenizer_config.json", config.to_owned())];
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        assert_eq!(tokens(&files), ["a:0", "b:1+", "c:2", "<3>:3+", "<4>:4+", "<pad>:5+"]);
    }

    #[test]
    fn damaged_files_are_refused_with_the_reason() {
        let deep = "[".repeat(100_000);
        for (name, text, reason) in [
            ("tokenizer.json", "{\"model\": ", "EOF"),
            ("tokenizer.json", "{}", "has no `model`"),
            ("tokenizer.json", "[]", "expected an object"),
            ("tokenizer.json", deep.as_str(), "expected an object"),
            ("tokenizer.json", r#"{"model": {"type": "Trie", "vocab": {}}}"#, "model of type `Trie`"),
            ("tokenizer.json", r#"{"model": {"type": "BPE", "vocab": {}}}"#, "has 0 tokens"),
            ("tokenizer.json", r#"{"model": {"type": "BPE", "vocab": {"a": -1}}}"#, "invalid value"),
            ("tokenizer.json", r#"{"model": {"vocab": {"a": 4294967295}}}"#, "has number 4294967295"),
            (
                "tokenizer.json",
                r#"{"model": {"vocab": {"a": 0, "b": 0}}}"#,
                "number 0 is given to two tokens",
            ),
            ("tokenizer.json", r#"{"model": {"vocab": {"a": 0, "a": 1}}}"#, "`a` is there twice"),
            (
                "tokenizer.json",
                r#"{"model": {"vocab": {"a": 1}}, "added_tokens": [{"content": "b"}]}"#,
                "is taken",
            ),
            ("vocab.json", "{\"a\": 1.5}", "invalid type"),
            ("tokenizer.model", "x", "SentencePiece models are not read; convert it to `tokenizer.json`"),
        ] {
            let error = read(&[(name, text)]).unwrap_err().to_string();
            assert!(error.contains(name) || error.contains("is taken"), "{error}");
            assert!(error.contains(reason), "{text}: {error}");
        }
        let error = read(&[("vocab.json", r#"{"a": 0}"#), ("tokenizer_config.json", "{")]).unwrap_err();
        assert!(error.to_string().contains("tokenizer_config.json"));
    }
}
