//! The tokenizer's files of a merged model.
use super::{
    document::{self, OrderedMap, RawObject},
    plan::VocabPlan,
    vocabulary::{AddedToken, Layout},
};
use crate::Result;
use serde_json::{Value, value::RawValue};
use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

/// Files that go from the base or first model to the output when the recipe says nothing about the tokenizer.
pub const SIDE_FILES: [&str; 12] = [
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "video_preprocessor_config.json",
];

/// Those of [`SIDE_FILES`] that say how a tokenizer or a chat works.
const TOKENIZER_FILES: usize = 10;

/// A file of the output directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutputFile {
    /// A copy of `from`, with the same name.
    Copy {
        /// File of an input model.
        from: PathBuf,
        /// Name in the output directory.
        name: &'static str,
    },
    /// New content.
    Write {
        /// Name in the output directory.
        name: &'static str,
        /// Content.
        bytes: Vec<u8>,
    },
}

impl OutputFile {
    /// Name in the output directory.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Copy { name, .. } | Self::Write { name, .. } => name,
        }
    }
}

/// The files of a merge without tokenizer section: those of the `donor` directory, with another chat template if given.
///
/// # Errors
///
/// [`crate::Error::Core`] when the donor's `tokenizer_config.json` is damaged or unreadable.
pub fn copied_files(donor: &Path, template: Option<&str>) -> Result<Vec<OutputFile>> {
    let mut files = present(donor, &SIDE_FILES);
    if let Some(template) = template {
        set_template(donor, template, &mut files)?;
    }
    Ok(files)
}

/// Copies of the files that are there.
fn present(dir: &Path, names: &[&'static str]) -> Vec<OutputFile> {
    let files = names.iter().map(|&name| OutputFile::Copy { from: dir.join(name), name });
    files.filter(|file| matches!(file, OutputFile::Copy { from, .. } if from.is_file())).collect()
}

/// Replaces the file of that name, or appends it.
fn put(files: &mut Vec<OutputFile>, name: &'static str, bytes: Vec<u8>) {
    files.retain(|file| file.name() != name);
    files.push(OutputFile::Write { name, bytes });
}

/// What will be in `tokenizer_config.json`.
fn tokenizer_config(dir: &Path, files: &[OutputFile]) -> Result<RawObject> {
    let path = dir.join("tokenizer_config.json");
    for file in files {
        if let OutputFile::Write { name: "tokenizer_config.json", bytes } = file {
            return Ok(document::parse(&path, bytes)?);
        }
    }
    Ok(document::read_json(&path)?.unwrap_or_default())
}

/// Puts a chat template where old and new readers look for it.
fn set_template(dir: &Path, template: &str, files: &mut Vec<OutputFile>) -> Result<()> {
    let path = dir.join("tokenizer_config.json");
    let mut config = tokenizer_config(dir, files)?;
    config.set(&path, "chat_template", &template)?;
    files.retain(|file| file.name() != "chat_template.json");
    put(files, "tokenizer_config.json", config.to_bytes(&path)?);
    put(files, "chat_template.jinja", template.as_bytes().to_vec());
    Ok(())
}

impl VocabPlan {
    /// The tokenizer's files of the merged model, with `template` as its chat template if one is given.
    ///
    /// An unchanged vocabulary is copied. A changed one is written in the layout it was read from, all other settings
    /// as they were, byte for byte; a `tokenizer.model`, which cannot be extended, is then left out.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Core`] when a file of the source model has become unreadable or is damaged.
    pub fn files(&self, template: Option<&str>) -> Result<Vec<OutputFile>> {
        let dir = &self.vocabulary.dir;
        let mut files = present(dir, &SIDE_FILES[..TOKENIZER_FILES]);
        if self.changed {
            files.retain(|file| !matches!(file.name(), "tokenizer.model" | "added_tokens.json"));
            if self.vocabulary.layout == Layout::Json {
                let path = dir.join("tokenizer.json");
                put(&mut files, "tokenizer.json", self.tokenizer_json(&path)?);
                if self.stripped.is_some() {
                    files.retain(|file| !matches!(file.name(), "vocab.json" | "vocab.txt" | "merges.txt"));
                }
            } else {
                self.put_pairs(&mut files)?;
            }
            self.put_declared(&mut files)?;
        }
        if let Some(template) = template {
            set_template(dir, template, &mut files)?;
        }
        Ok(files)
    }

    /// `tokenizer.json` with the plan's added tokens, and without the tokens that were cut.
    fn tokenizer_json(&self, path: &Path) -> Result<Vec<u8>> {
        let mut file: RawObject = document::read_json(path)?.unwrap_or_default();
        file.set(path, "added_tokens", &self.vocabulary.added().collect::<Vec<_>>())?;
        if let Some(rows) = self.stripped {
            let mut model = file.get::<RawObject>(path, "model")?.unwrap_or_default();
            if model.get::<String>(path, "type")?.as_deref() == Some("Unigram") {
                let mut pieces = model.get::<Vec<Box<RawValue>>>(path, "vocab")?.unwrap_or_default();
                pieces.truncate(rows);
                model.set(path, "vocab", &pieces)?;
            } else {
                let tokens =
                    model.get::<OrderedMap<u32>>(path, "vocab")?.map(|map| map.0).unwrap_or_default();
                let (kept, gone) = split(tokens, rows);
                model.set(path, "vocab", &kept)?;
                if let Some(mut merges) = model.get::<Vec<Value>>(path, "merges")? {
                    merges.retain(|merge| match merge {
                        Value::String(pair) => keeps(pair.split(' '), &gone),
                        Value::Array(parts) => keeps(parts.iter().filter_map(Value::as_str), &gone),
                        _ => true,
                    });
                    model.set(path, "merges", &merges)?;
                }
            }
            file.set(path, "model", &model)?;
        }
        Ok(file.to_bytes(path)?)
    }

    /// `vocab.json` and `merges.txt` (or `vocab.txt`) without the tokens that were cut, and the added tokens.
    fn put_pairs(&self, files: &mut Vec<OutputFile>) -> Result<()> {
        let dir = &self.vocabulary.dir;
        if let Some(rows) = self.stripped {
            if self.vocabulary.layout == Layout::Lines {
                let text = document::read_text(&dir.join("vocab.txt"))?.unwrap_or_default();
                let kept: String = text.split_inclusive('\n').take(rows).collect();
                put(files, "vocab.txt", kept.into_bytes());
            } else {
                let path = dir.join("vocab.json");
                let tokens =
                    document::read_json::<OrderedMap<u32>>(&path)?.map(|map| map.0).unwrap_or_default();
                let (kept, gone) = split(tokens, rows);
                put(files, "vocab.json", document::to_json(&path, &kept)?.into_bytes());
                if let Some(text) = document::read_text(&dir.join("merges.txt"))? {
                    let kept: String = text
                        .split_inclusive('\n')
                        .enumerate()
                        .filter(|(i, line)| {
                            (*i == 0 && line.starts_with("#version"))
                                || keeps(line.trim_end().split(' '), &gone)
                        })
                        .map(|(_, line)| line)
                        .collect();
                    put(files, "merges.txt", kept.into_bytes());
                }
            }
        }
        let path = dir.join("added_tokens.json");
        let added: Vec<_> = self.vocabulary.beyond_base().map(|t| (t.content.clone(), t.id)).collect();
        if !added.is_empty() {
            put(files, "added_tokens.json", document::to_json(&path, &OrderedMap(added))?.into_bytes());
        }
        Ok(())
    }

    /// Brings the list of added tokens in `tokenizer_config.json` up to date, if there is one.
    fn put_declared(&self, files: &mut Vec<OutputFile>) -> Result<()> {
        let dir = &self.vocabulary.dir;
        let path = dir.join("tokenizer_config.json");
        let mut config = tokenizer_config(dir, files)?;
        let key = "added_tokens_decoder";
        if !config.contains(key) {
            return Ok(());
        }
        let declared = self.vocabulary.added().map(|token| {
            let AddedToken { content, single_word, lstrip, rstrip, normalized, special, .. } = token;
            let settings = serde_json::json!({
                "content": content, "lstrip": lstrip, "normalized": normalized,
                "rstrip": rstrip, "single_word": single_word, "special": special,
            });
            (token.id.to_string(), settings)
        });
        config.set(&path, key, &OrderedMap(declared.collect()))?;
        put(files, "tokenizer_config.json", config.to_bytes(&path)?);
        Ok(())
    }
}

/// Tokens below `rows` in the order of their numbers, and the texts of the others.
fn split(tokens: Vec<(String, u32)>, rows: usize) -> (OrderedMap<u32>, HashSet<String>) {
    let mut kept = BTreeMap::new();
    let mut gone = HashSet::new();
    for (text, id) in tokens {
        if (id as usize) < rows {
            kept.insert(id, text);
        } else {
            gone.insert(text);
        }
    }
    (OrderedMap(kept.into_iter().map(|(id, text)| (text, id)).collect()), gone)
}

/// Whether a merge's parts and its result are all there: readers refuse a merge into a missing token.
fn keeps<'a>(parts: impl Iterator<Item = &'a str>, gone: &HashSet<String>) -> bool {
    let mut whole = String::new();
    for part in parts {
        if gone.contains(part) {
            return false;
        }
        whole.push_str(part);
    }
    !gone.contains(&whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{ModelVocabulary, TokenizerConfig, Vocabulary, VocabularySource, plan_vocabulary};
    use std::fs;

    fn golden(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
    }

    fn json(file: &OutputFile) -> Value {
        let OutputFile::Write { bytes, .. } = file else { panic!("{} is copied", file.name()) };
        serde_json::from_slice(bytes).unwrap()
    }

    fn names(files: &[OutputFile]) -> Vec<&str> {
        files.iter().map(OutputFile::name).collect()
    }

    fn find<'a>(files: &'a [OutputFile], name: &str) -> &'a OutputFile {
        files.iter().find(|file| file.name() == name).unwrap()
    }

    /// Writes the files and reads the vocabulary back.
    fn reread(files: &[OutputFile]) -> Vocabulary {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file.name());
            match file {
                OutputFile::Copy { from, .. } => drop(fs::copy(from, path).unwrap()),
                OutputFile::Write { bytes, .. } => fs::write(path, bytes).unwrap(),
            }
        }
        Vocabulary::read(dir.path()).unwrap().unwrap()
    }

    fn model(root: &Path, name: &str, files: &[(&str, &str)], rows: Option<usize>) -> ModelVocabulary {
        let dir = root.join(name);
        fs::create_dir(&dir).unwrap();
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
        }
        ModelVocabulary::new(name, Vocabulary::read(&dir).unwrap(), rows)
    }

    #[test]
    fn the_union_has_the_golden_tokens_with_the_golden_settings() {
        let models = ["a", "b"]
            .map(|name| ModelVocabulary::read(name, &golden(&format!("inputs/vocab/{name}"))).unwrap());
        let plan = plan_vocabulary(&TokenizerConfig::default(), None, &models, None).unwrap();
        let files = plan.files(None).unwrap();
        assert_eq!(names(&files), ["tokenizer_config.json", "tokenizer.json"]);
        let ours = json(find(&files, "tokenizer.json"));
        let text = fs::read_to_string(golden("cases/tokenizer_union/expected_tokenizer.json")).unwrap();
        let theirs: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(ours["model"], theirs["model"]);
        assert_eq!(ours["pre_tokenizer"], theirs["pre_tokenizer"]);
        // There the new tokens come in the random order of a hash table.
        let settings = |file: &Value| {
            let mut all: Vec<Value> = file["added_tokens"].as_array().unwrap().clone();
            for token in &mut all[3..] {
                token.as_object_mut().unwrap().remove("id").unwrap();
            }
            all[3..].sort_by_key(|token| token["content"].to_string());
            all
        };
        assert_eq!(settings(&ours), settings(&theirs));
        assert_eq!(reread(&files).tokens(), plan.vocabulary().tokens());
    }

    #[test]
    fn an_unchanged_vocabulary_is_copied() {
        let models = ["a", "b"]
            .map(|name| ModelVocabulary::read(name, &golden(&format!("inputs/vocab/{name}"))).unwrap());
        let config = TokenizerConfig::new(VocabularySource::Base);
        let plan = plan_vocabulary(&config, Some(1), &models, None).unwrap();
        let files = plan.files(None).unwrap();
        let copy = |name| OutputFile::Copy { from: golden("inputs/vocab/b").join(name), name };
        assert_eq!(files, [copy("tokenizer.json"), copy("tokenizer_config.json")]);
        assert_eq!(copied_files(&golden("inputs/vocab/b"), None).unwrap(), files);
    }

    #[test]
    fn a_template_goes_where_old_and_new_readers_look() {
        let root = tempfile::tempdir().unwrap();
        let config = r#"{"chat_template": "old", "z": 1.0, "a": [1,  2]}"#;
        let old = [
            ("tokenizer_config.json", config),
            ("chat_template.json", "{}"),
            ("generation_config.json", "{}"),
            ("vocab.json", r#"{"a": 0}"#),
        ];
        model(root.path(), "m", &old, None);
        let files = copied_files(&root.path().join("m"), Some("{{ new }}")).unwrap();
        let expected =
            ["vocab.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja"];
        assert_eq!(names(&files), expected);
        let OutputFile::Write { bytes, .. } = find(&files, "tokenizer_config.json") else { panic!() };
        let text = "{\n  \"chat_template\": \"{{ new }}\",\n  \"z\": 1.0,\n  \"a\": [1,  2]\n}";
        assert_eq!(String::from_utf8_lossy(bytes), text);
    }

    #[test]
    fn cut_tokens_go_with_their_merges() {
        let root = tempfile::tempdir().unwrap();
        let bpe = r#"{"added_tokens": [{"id": 0, "content": "<s>"}, {"id": 5, "content": "<pad>"}],
            "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3, "aab": 4},
            "merges": ["a b", ["a", "ab"], "a aab"], "byte_fallback": true}}"#;
        let config = r#"{"added_tokens_decoder": {"0": {"content": "<s>"}, "5": {"content": "<pad>"}}}"#;
        let files = [("tokenizer.json", bpe), ("tokenizer_config.json", config)];
        let models = [model(root.path(), "m", &files, Some(4))];
        let config = TokenizerConfig::new(VocabularySource::Base).token("<new>", None, false);
        let plan = plan_vocabulary(&config, Some(0), &models, None).unwrap();
        let files = plan.files(None).unwrap();
        let written = json(find(&files, "tokenizer.json"));
        assert_eq!(written["model"]["vocab"], serde_json::json!({"<s>": 0, "a": 1, "b": 2, "ab": 3}));
        assert_eq!(written["model"]["merges"], serde_json::json!(["a b"]));
        assert_eq!(written["model"]["byte_fallback"], true);
        let declared = json(find(&files, "tokenizer_config.json"));
        assert_eq!(declared["added_tokens_decoder"]["4"]["content"], "<new>");
        assert_eq!(reread(&files).tokens(), [("<s>", 0), ("a", 1), ("b", 2), ("ab", 3), ("<new>", 4)]);
    }

    #[test]
    fn older_layouts_are_written_as_they_were() {
        let root = tempfile::tempdir().unwrap();
        let pairs = [
            ("vocab.json", r#"{"a": 0, "b": 1, "ab": 2, "bab": 3}"#),
            ("merges.txt", "#version: 0.2\na b\nb ab\nbab a\n"),
        ];
        let lines = [("vocab.txt", "a\nb\nc\nd\n")];
        for (name, files, written) in [
            ("pairs", pairs.as_slice(), ["merges.txt", "vocab.json"].as_slice()),
            ("lines", lines.as_slice(), ["vocab.txt"].as_slice()),
        ] {
            let models = [model(root.path(), name, files, Some(3))];
            let config = TokenizerConfig::default().token("<new>", None, false);
            let plan = plan_vocabulary(&config, None, &models, None).unwrap();
            let files = plan.files(None).unwrap();
            let mut expected = written.to_vec();
            expected.push("added_tokens.json");
            expected.sort_unstable();
            let mut found = names(&files);
            found.sort_unstable();
            assert_eq!(found, expected);
            assert_eq!(reread(&files).tokens(), plan.vocabulary().tokens());
            assert_eq!((plan.vocabulary().len(), plan.vocabulary().id("<new>")), (4, Some(3)));
            if name == "pairs" {
                let merges =
                    OutputFile::Write { name: "merges.txt", bytes: b"#version: 0.2\na b\n".to_vec() };
                assert_eq!(find(&files, "merges.txt"), &merges);
            }
        }
    }
}
