//! Files beside the tensors that come from a checkpoint or from elsewhere.
use crate::Result;
use mtl_core::files::{open_regular, write_atomic};
use std::{collections::BTreeMap, fs, io, path::Path};

/// What goes into the folder of a merged checkpoint besides tensors and `config.json`.
#[derive(Debug, Clone)]
pub(crate) struct Extras {
    /// Where the tokenizer comes from.
    pub(crate) tokenizer: TokenizerFiles,
    /// Whether to write a `README.md`.
    pub(crate) card: bool,
    /// The recipe as the user wrote it.
    pub(crate) recipe: Option<String>,
}

impl Default for Extras {
    fn default() -> Self {
        Self { tokenizer: TokenizerFiles::Copy, card: true, recipe: None }
    }
}

/// Where the tokenizer of a merged checkpoint comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenizerFiles {
    /// The base's, or the first model's, as they are.
    Copy,
    /// There is none.
    Leave,
    /// Files by name, and the rows of the embedding table.
    Given { files: BTreeMap<String, Vec<u8>>, vocab_size: Option<usize> },
}

/// Files of tokenizers.
const TOKENIZER: [&str; 13] = [
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
];
/// Files about the use of the model.
const USE: [&str; 5] = [
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
];

impl Extras {
    /// Writes the files into `dir`; `donor` is the folder of the checkpoint that lends its own.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Core`] for files that cannot be read or written.
    pub(super) fn write(&self, donor: Option<&Path>, dir: &Path) -> Result<()> {
        let copied: &[&str] = if self.tokenizer == TokenizerFiles::Copy { &TOKENIZER } else { &[] };
        for name in copied.iter().chain(&USE) {
            if let Some(donor) = donor {
                copy(&donor.join(name), &dir.join(name))?;
            }
        }
        if let TokenizerFiles::Given { files, .. } = &self.tokenizer {
            for (name, bytes) in files {
                write_atomic(&dir.join(name), |out| out.write_all(bytes))?;
            }
        }
        Ok(())
    }
}

/// Copies a file if it is there.
fn copy(from: &Path, to: &Path) -> Result<()> {
    // A link that leads nowhere counts as there, so that opening it says so.
    if fs::symlink_metadata(from).is_err() {
        return Ok(());
    }
    let mut file = open_regular(from)?;
    Ok(write_atomic(to, |mut out| io::copy(&mut file, &mut out).map(drop))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_known_files_are_copied_and_given_ones_stand_in_for_the_tokenizer() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["tokenizer.json", "generation_config.json", "modeling_evil.py", "pytorch_model.bin"] {
            fs::write(from.path().join(name), name).unwrap();
        }
        Extras::default().write(Some(from.path()), to.path()).unwrap();
        assert_eq!(names(to.path()), ["generation_config.json", "tokenizer.json"]);
        let files = BTreeMap::from([("tokenizer.json".to_owned(), b"{}".to_vec())]);
        let tokenizer = TokenizerFiles::Given { files, vocab_size: None };
        Extras { tokenizer, ..Extras::default() }.write(Some(from.path()), to.path()).unwrap();
        assert_eq!(fs::read(to.path().join("tokenizer.json")).unwrap(), b"{}");
        let bare = tempfile::tempdir().unwrap();
        Extras { tokenizer: TokenizerFiles::Leave, ..Extras::default() }
            .write(Some(from.path()), bare.path())
            .unwrap();
        assert_eq!(names(bare.path()), ["generation_config.json"]);
    }
}
