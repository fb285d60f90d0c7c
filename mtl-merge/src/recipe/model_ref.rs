//! References to checkpoints: `path[@revision][+adapter[@revision]]`.
use crate::{Error, Result};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    env, fmt, fs,
    path::{Component, Path, PathBuf},
};

/// A checkpoint as recipes name it, with an adapter on top if there is one.
///
/// ```
/// use mtl_merge::recipe::ModelRef;
///
/// let model = ModelRef::parse("org/model@v2+org/adapter")?;
/// assert_eq!((model.path.as_str(), model.revision.as_deref()), ("org/model", Some("v2")));
/// assert_eq!(model.to_string(), "org/model@v2+org/adapter");
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRef {
    /// File, folder, or name in the model cache.
    pub path: String,
    /// Branch, tag or commit, for models of the cache.
    pub revision: Option<String>,
    /// Path and revision of a LoRA adapter.
    pub lora: Option<(String, Option<String>)>,
}

/// The mapping form; the reference tool writes it when it prints a configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    model: Part,
    #[serde(default)]
    lora: Option<Part>,
    #[serde(default, rename = "override_architecture")]
    _override_architecture: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a path, or {path, revision}")]
enum Part {
    Text(String),
    Mapping(PartMapping),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartMapping {
    path: String,
    #[serde(default)]
    revision: Option<String>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a model: `path`, `path@revision`, `path+adapter`, or {model: {path, revision}, lora: {path, revision}}"
)]
enum Raw {
    Text(String),
    Mapping(Mapping),
}

impl<'de> Deserialize<'de> for ModelRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let part = |part: Part| match part {
            Part::Text(text) => split(&text).map_err(D::Error::custom),
            Part::Mapping(PartMapping { path, revision }) => Ok((path, revision)),
        };
        let model = match Raw::deserialize(deserializer)? {
            Raw::Text(text) => return read(&text).map_err(D::Error::custom),
            Raw::Mapping(mapping) => {
                let (path, revision) = part(mapping.model)?;
                Self { path, revision, lora: mapping.lora.map(part).transpose()? }
            }
        };
        // The string form is what recipes keep: it must mean the same.
        match read(&model.to_string()) {
            Ok(same) if same == model => Ok(model),
            _ => Err(D::Error::custom(format!("`{model}`: a path must not contain `@` or `+`"))),
        }
    }
}

/// `path[@revision]`.
fn split(text: &str) -> Result<(String, Option<String>), String> {
    let mut parts = text.split('@');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(path), None, None) if !path.is_empty() => Ok((path.to_owned(), None)),
        (Some(path), Some(revision), None) if !path.is_empty() && !revision.is_empty() => {
            Ok((path.to_owned(), Some(revision.to_owned())))
        }
        (_, _, Some(_)) => Err(format!("`{text}` has more than one `@`; a model is `path@revision`")),
        _ => Err(format!("`{text}` names no model; expected `path` or `path@revision`")),
    }
}

fn read(text: &str) -> Result<ModelRef, String> {
    let mut parts = text.split('+');
    let (model, lora) = match (parts.next(), parts.next(), parts.next()) {
        (Some(model), lora, None) => (model, lora),
        _ => return Err(format!("`{text}` has more than one `+`; a model takes one adapter")),
    };
    let (path, revision) = split(model)?;
    Ok(ModelRef { path, revision, lora: lora.map(split).transpose()? })
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |f: &mut fmt::Formatter<'_>, path: &str, revision: &Option<String>| match revision {
            Some(revision) => write!(f, "{path}@{revision}"),
            None => f.write_str(path),
        };
        part(f, &self.path, &self.revision)?;
        if let Some((path, revision)) = &self.lora {
            f.write_str("+")?;
            part(f, path, revision)?;
        }
        Ok(())
    }
}

impl ModelRef {
    /// Reads the string form.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] when there is more than one `+`, more than one `@` in a part, or an empty part.
    pub fn parse(text: &str) -> Result<Self> {
        read(text).map_err(|message| Error::Recipe { path: "model".to_owned(), message })
    }

    /// Finds the checkpoint on this machine: a file or folder relative to `cwd`, else a snapshot in the model cache of
    /// Hugging Face (`$HF_HUB_CACHE`, `$HF_HOME/hub`, `~/.cache/huggingface/hub`). Never asks the network.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] with the places that were looked at.
    pub fn locate(&self, cwd: &Path) -> Result<PathBuf> {
        find(&self.path, self.revision.as_deref(), cwd, &cache_folders(|name| env::var_os(name)))
    }

    /// Finds the adapter, if there is one, as [`ModelRef::locate`] finds the checkpoint.
    ///
    /// # Errors
    ///
    /// As [`ModelRef::locate`].
    pub fn locate_lora(&self, cwd: &Path) -> Result<Option<PathBuf>> {
        let caches = cache_folders(|name| env::var_os(name));
        self.lora.as_ref().map(|(path, revision)| find(path, revision.as_deref(), cwd, &caches)).transpose()
    }
}

/// The folder of cached models, by the environment.
fn cache_folders(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Vec<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set("HOME").map(|home| home.join(".cache/huggingface/hub"));
    let xdg = || set("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub"));
    let own = || set("HF_HOME").map(|home| home.join("hub"));
    set("HF_HUB_CACHE").or_else(own).or_else(xdg).or_else(home).into_iter().collect()
}

/// A local path, or a snapshot in one of the caches.
fn find(path: &str, revision: Option<&str>, cwd: &Path, caches: &[PathBuf]) -> Result<PathBuf> {
    let local = cwd.join(path);
    // A link that leads nowhere counts as there, so that opening it says so.
    if local.symlink_metadata().is_ok() {
        return Ok(local);
    }
    let mut looked = vec![local.display().to_string()];
    let plain = |text: &str| {
        Path::new(text).components().all(|c| matches!(c, Component::Normal(_))) && !text.contains('\\')
    };
    let revision = revision.unwrap_or("main");
    if plain(path) && plain(revision) && path.split('/').count() <= 2 {
        for cache in caches {
            let model = cache.join(format!("models--{}", path.replace('/', "--")));
            let named = model.join("snapshots").join(revision);
            if named.is_dir() {
                return Ok(named);
            }
            looked.push(named.display().to_string());
            let reference = model.join("refs").join(revision);
            if let Ok(commit) = fs::read_to_string(&reference)
                && let commit = commit.trim()
                && plain(commit)
                && !commit.contains('/')
            {
                let snapshot = model.join("snapshots").join(commit);
                if snapshot.is_dir() {
                    return Ok(snapshot);
                }
                looked.push(snapshot.display().to_string());
            }
        }
    }
    Err(Error::NotFound { model: path.to_owned(), looked })
}

/// Canonical string form of a model, from any form.
pub(super) fn model_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Deserialize::deserialize(deserializer).map(|model: ModelRef| model.to_string())
}

/// As [`model_name`], for keys that may be absent.
pub(super) fn optional_model_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let model: Option<ModelRef> = Deserialize::deserialize(deserializer)?;
    Ok(model.map(|model| model.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<ModelRef, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn every_form_means_the_same() {
        let full = ModelRef::parse("a/b@r1+c/d@r2").unwrap();
        assert_eq!(full.lora, Some(("c/d".into(), Some("r2".into()))));
        let mapping =
            r#"{"model": {"path": "a/b", "revision": "r1"}, "lora": {"path": "c/d", "revision": "r2"}}"#;
        assert_eq!(json(mapping).unwrap(), full);
        assert_eq!(
            json(r#"{"model": "a/b@r1", "lora": "c/d@r2", "override_architecture": "X"}"#).unwrap(),
            full
        );
        assert_eq!(json(r#""a/b@r1+c/d@r2""#).unwrap(), full);
        let plain = json(r#"{"model": {"path": "x"}, "lora": null}"#).unwrap();
        assert_eq!((plain.to_string().as_str(), plain), ("x", ModelRef::parse("x").unwrap()));
    }

    #[test]
    fn repeated_separators_and_empty_parts_are_refused() {
        let message = |text: &str| ModelRef::parse(text).unwrap_err().to_string();
        insta::assert_snapshot!(message("a@b@c"), @"model: `a@b@c` has more than one `@`; a model is `path@revision`");
        insta::assert_snapshot!(message("a+b+c"), @"model: `a+b+c` has more than one `+`; a model takes one adapter");
        insta::assert_snapshot!(message("a@"), @"model: `a@` names no model; expected `path` or `path@revision`");
        for text in ["", "+x", "a+", "@r", "a+b@c@d"] {
            assert!(ModelRef::parse(text).is_err(), "{text}");
        }
        assert!(json(r#"{"model": {"path": "a+b"}}"#).is_err(), "the string form would mean something else");
    }

    #[test]
    fn folders_come_before_the_cache_and_the_cache_follows_references() {
        let dir = tempfile::tempdir().unwrap();
        let (cwd, cache) = (dir.path().join("work"), dir.path().join("hub"));
        let model = cache.join("models--org--name");
        fs::create_dir_all(model.join("snapshots/abc")).unwrap();
        fs::create_dir_all(model.join("refs")).unwrap();
        fs::create_dir_all(&cwd).unwrap();
        fs::write(model.join("refs/main"), "abc\n").unwrap();
        fs::write(model.join("refs/evil"), "../../../work\n").unwrap();
        let caches = [cache.clone()];
        let find = |path: &str, revision| find(path, revision, &cwd, &caches);
        assert_eq!(find("org/name", None).unwrap(), model.join("snapshots/abc"));
        assert_eq!(find("org/name", Some("abc")).unwrap(), model.join("snapshots/abc"));
        let gone = find("org/name", Some("v2")).unwrap_err().to_string();
        assert!(gone.contains("work/org/name") && gone.contains("models--org--name/snapshots/v2"), "{gone}");
        assert!(find("org/name", Some("evil")).is_err(), "a reference must not leave the cache");
        assert!(find("../hub", None).is_ok(), "local paths may go anywhere");
        fs::create_dir_all(cwd.join("org/name")).unwrap();
        assert_eq!(find("org/name", None).unwrap(), cwd.join("org/name"));
    }

    #[test]
    fn the_environment_names_the_cache() {
        let folder = |set: &[(&str, &str)]| {
            let get = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into());
            cache_folders(get).pop()
        };
        let home = ("HOME", "/h");
        assert_eq!(folder(&[home]), Some("/h/.cache/huggingface/hub".into()));
        assert_eq!(folder(&[home, ("HF_HOME", "/c")]), Some("/c/hub".into()));
        assert_eq!(folder(&[home, ("HF_HOME", "/c"), ("HF_HUB_CACHE", "/d")]), Some("/d".into()));
        assert_eq!(folder(&[]), None);
    }
}
