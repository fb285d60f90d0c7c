//! States of learners in files: one safetensors file each, two generations.
use crate::{Error, LearnerState, Result, StateDict, files, params::ParamStore};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Value of `format` in the metadata.
const FORMAT: &str = "mtl-checkpoint";
/// Version of the layout that this program writes and reads.
const VERSION: &str = "1";

/// The last two states of one run, in a directory of their own.
///
/// `last.safetensors` is the newest. It is written beside its final name and renamed when it is complete and durable, so
/// that a kill at any instant leaves a good state. A checksum covers every byte; a damaged file gives way to
/// `prev.safetensors`, with a warning.
///
/// ```
/// use mtl_core::{LearnerState, train::Checkpoints};
/// use serde_json::json;
///
/// let dir = tempfile::tempdir()?;
/// let checkpoints = Checkpoints::open(dir.path(), "hash of the configuration")?;
/// assert!(checkpoints.load()?.is_none());
/// checkpoints.save(&LearnerState { facts: json!({ "counter": 3 }), ..Default::default() }, 40)?;
/// let (state, step) = checkpoints.load()?.unwrap();
/// assert_eq!((state.fact::<u64>("counter")?, step), (3, 40));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Checkpoints {
    dir: PathBuf,
    run: String,
}

/// Why a file cannot be used.
enum Refusal {
    /// Something happened to the file; an older one may be good.
    Damaged(Error),
    /// It is good, but of something else; an older one is no better.
    Foreign(Error),
}

impl Checkpoints {
    /// Opens a directory, which is created and cleared of what killed writers left; `run` identifies the configuration.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Format`] when the directory cannot be created or read.
    pub fn open(dir: impl Into<PathBuf>, run: impl Into<String>) -> Result<Self> {
        let dir = dir.into();
        files::ensure_dir(&dir)?;
        files::sweep(&dir)?;
        Ok(Self { dir, run: run.into() })
    }

    /// Path of the newest state.
    pub fn last(&self) -> PathBuf {
        self.dir.join("last.safetensors")
    }

    /// Path of the state before it.
    pub fn prev(&self) -> PathBuf {
        self.dir.join("prev.safetensors")
    }

    /// Keeps `state`, which was reached after `step` steps, and the one before it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when writing fails, as on a full disk; the state before is kept then. [`Error::Config`] for a tensor
    /// of a kind that files cannot hold.
    pub fn save(&self, state: &LearnerState, step: u64) -> Result<()> {
        match fs::rename(self.last(), self.prev()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("rename", self.last(), source));
            }
            _ => {}
        }
        let facts = state.facts.to_string();
        let checksum = checksum(&facts, &state.tensors)?;
        let entries = [
            ("format", FORMAT.to_owned()),
            ("version", VERSION.to_owned()),
            ("run", self.run.clone()),
            ("step", step.to_string()),
            ("facts", facts),
            ("crc32", checksum),
        ];
        let metadata = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        state.tensors.save(self.last(), &metadata)
    }

    /// The newest good state with its step; `None` when there is no file.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] for a state of another configuration, [`Error::Format`] for one of another version and when
    /// both files are damaged.
    pub fn load(&self) -> Result<Option<(LearnerState, u64)>> {
        let (last, prev) = (self.last(), self.prev());
        let damage = match self.read(&last) {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => None, // Killed between renaming the old and writing the new, or a fresh run.
            Err(Refusal::Foreign(error)) => return Err(error),
            Err(Refusal::Damaged(error)) => Some(error),
        };
        match (self.read(&prev), damage) {
            (Ok(Some(found)), damage) => {
                if let Some(error) = damage {
                    let (last, prev) = (last.display(), prev.display());
                    tracing::warn!("checkpoint `{last}` is damaged ({error}); going on from `{prev}`");
                }
                Ok(Some(found))
            }
            (Ok(None), Some(error)) | (Err(Refusal::Foreign(error)), None) => Err(error),
            (Ok(None), None) => Ok(None),
            (Err(Refusal::Damaged(error)), None) => Err(error),
            (Err(Refusal::Foreign(other) | Refusal::Damaged(other)), Some(error)) => {
                Err(Error::format(&self.dir, format!("both checkpoints are unusable: {error}; {other}")))
            }
        }
    }

    fn read(&self, path: &Path) -> Result<Option<(LearnerState, u64)>, Refusal> {
        if !path.exists() {
            return Ok(None);
        }
        let damaged = |message: &str| Refusal::Damaged(Error::format(path, message));
        let store = ParamStore::open(path).map_err(Refusal::Damaged)?;
        let metadata = store.metadata();
        let entry = |key: &str| metadata.get(key).map(String::as_str).unwrap_or_default();
        if entry("format") != FORMAT {
            return Err(damaged("is no checkpoint: its metadata lack the format"));
        }
        self.check_origin(path, metadata).map_err(Refusal::Foreign)?;
        let tensors = StateDict::from_store(&store).map_err(Refusal::Damaged)?;
        let found = checksum(entry("facts"), &tensors).map_err(Refusal::Damaged)?;
        if found != entry("crc32") {
            return Err(damaged(&format!("has checksum {found}, expected {}", entry("crc32"))));
        }
        let step = entry("step").parse().map_err(|_| damaged("has no number of steps"))?;
        let facts = serde_json::from_str(entry("facts")).map_err(|_| damaged("has unreadable facts"))?;
        Ok(Some((LearnerState { tensors, facts }, step)))
    }

    /// Fails for a file of another program version or another run.
    fn check_origin(&self, path: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
        let entry = |key: &str| metadata.get(key).map(String::as_str).unwrap_or_default();
        if entry("version") != VERSION {
            let message = format!(
                "is a checkpoint of version {}, expected {VERSION}; go on with the program that wrote it",
                entry("version")
            );
            return Err(Error::format(path, message));
        }
        if entry("run") != self.run {
            return Err(Error::Mismatch {
                what: path.display().to_string(),
                differences: format!(
                    "it is of the configuration `{}`, expected `{}`; resume with the configuration it was saved with",
                    entry("run"),
                    self.run
                ),
            });
        }
        Ok(())
    }
}

/// CRC-32 of the facts and of every tensor's name and bytes.
fn checksum(facts: &str, tensors: &StateDict) -> Result<String> {
    let mut crc = flate2::Crc::new();
    crc.update(facts.as_bytes());
    let mut bytes = Vec::new();
    for (name, tensor) in tensors.iter() {
        let tensor = tensor.detach().to_device(tch::Device::Cpu).contiguous();
        bytes.clear();
        bytes.resize(tensor.numel() * tensor.kind().elt_size_in_bytes(), 0);
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        crc.update(name.as_bytes());
        crc.update(&bytes);
    }
    Ok(format!("{:08x}", crc.sum()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tch::Tensor;

    fn state(value: f32) -> LearnerState {
        let tensors = [("p.w".to_owned(), Tensor::from_slice(&[value; 64]))].into_iter().collect();
        LearnerState { tensors, facts: json!({ "kind": "test" }) }
    }

    fn value(state: &LearnerState) -> f64 {
        state.tensors.get("p.w").unwrap().double_value(&[0])
    }

    #[test]
    fn damage_anywhere_falls_back_to_the_older_state() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path(), "run").unwrap();
        checkpoints.save(&state(1.0), 10).unwrap();
        checkpoints.save(&state(2.0), 20).unwrap();
        let good = fs::read(checkpoints.last()).unwrap();
        let (newest, step) = checkpoints.load().unwrap().unwrap();
        assert_eq!((value(&newest), step), (2.0, 20));
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for damaged in [&good[..0], &good[..7], &good[..good.len() - 1], &flipped] {
            fs::write(checkpoints.last(), damaged).unwrap();
            let (older, step) = checkpoints.load().unwrap().unwrap();
            assert_eq!((value(&older), step), (1.0, 10));
        }
        fs::remove_file(checkpoints.last()).unwrap();
        assert_eq!(checkpoints.load().unwrap().unwrap().1, 10);
    }

    #[test]
    fn two_damaged_states_are_an_error_that_names_both() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path(), "run").unwrap();
        fs::write(checkpoints.last(), b"x").unwrap();
        assert!(matches!(checkpoints.load(), Err(Error::Format { .. })));
        fs::write(checkpoints.prev(), b"y").unwrap();
        let text = checkpoints.load().unwrap_err().to_string();
        assert!(text.contains("last.safetensors") && text.contains("prev.safetensors"), "{text}");
    }

    #[test]
    fn a_state_of_another_configuration_or_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path(), "one").unwrap();
        checkpoints.save(&state(1.0), 10).unwrap();
        let other = Checkpoints::open(dir.path(), "two").unwrap();
        let text = other.load().unwrap_err().to_string();
        assert!(text.contains("of the configuration `one`, expected `two`"), "{text}");
        let metadata = [("format", FORMAT), ("version", "9")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        state(1.0).tensors.save(checkpoints.last(), &metadata.into()).unwrap();
        let text = checkpoints.load().unwrap_err().to_string();
        assert!(text.contains("version 9, expected 1"), "{text}");
    }

    #[test]
    fn a_failed_write_keeps_the_state_before() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(dir.path(), "run").unwrap();
        checkpoints.save(&state(1.0), 10).unwrap();
        let complex = Tensor::zeros([1], (tch::Kind::ComplexFloat, tch::Device::Cpu));
        let unwritable =
            LearnerState { tensors: [("c".to_owned(), complex)].into_iter().collect(), ..state(2.0) };
        assert!(checkpoints.save(&unwritable, 20).is_err());
        assert_eq!(checkpoints.load().unwrap().unwrap().1, 10);
    }
}
