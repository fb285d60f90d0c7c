//! Opens the checkpoints of a recipe and reads off what a plan wants to know.
use super::{
    inputs::{self, Opened},
    layout::Layout,
    lora::LoraSource,
    plan::is_head,
    source::{FileSource, Source},
};
use crate::{Error, ModelRef, Recipe, Result, checkpoint::ModelConfig};
use std::path::{Path, PathBuf};

/// Opens every checkpoint of the recipe; also gives a remark about mixed architectures, if `mix` allows them.
///
/// # Errors
///
/// [`Error::Open`], [`Error::Adapter`], [`Error::DuplicateModel`], [`Error::Architectures`], [`Error::Quantized`].
pub(super) fn open(recipe: &Recipe, mix: bool) -> Result<(Vec<Opened<'static>>, Option<String>)> {
    let mut opened: Vec<Opened<'static>> = Vec::new();
    let mut real: Vec<(String, PathBuf)> = Vec::new();
    for (role, name) in inputs::names(recipe) {
        let model = one(&role, name)?;
        let canonical = model.roots.iter().fold(PathBuf::new(), |all, root| {
            all.join(if all.as_os_str().is_empty() { root } else { root.strip_prefix("/").unwrap_or(root) })
        });
        if let Some((first, _)) = real.iter().find(|(_, known)| *known == canonical) {
            return Err(Error::DuplicateModel { model: model.name, first: first.clone(), second: role });
        }
        real.push((role, canonical));
        opened.push(model);
    }
    let mixture = mixture(&opened);
    match mixture {
        Some(error) if !mix => Err(error),
        mixture => Ok((opened, mixture.map(|error| error.to_string()))),
    }
}

/// Opens `path` or `path+adapter`.
fn one(role: &str, name: String) -> Result<Opened<'static>> {
    let place = |error: Error| match error {
        Error::Recipe { message, .. } => Error::Recipe { path: role.to_owned(), message },
        error => Error::Recipe { path: role.to_owned(), message: error.to_string() },
    };
    let model = ModelRef::parse(&name).map_err(place)?;
    // Relative paths stay short in messages.
    let (path, adapter) = (model.locate("".as_ref()), model.locate_lora("".as_ref()));
    let (path, adapter) = (path.map_err(place)?, adapter.map_err(place)?);
    let (path, adapter) = (path.as_path(), adapter.as_deref());
    let fail = |source: mtl_core::Error| Error::Open { role: role.to_owned(), source };
    let mut source: Box<dyn Source> = Box::new(FileSource::open(path).map_err(fail)?);
    let dir = path.is_dir().then(|| path.to_owned());
    let config = match dir.as_deref().map(ModelConfig::read).transpose() {
        Err(Error::Core(source)) => return Err(fail(source)),
        config => config?.flatten(),
    };
    if let Some(quantization) = config.as_ref().and_then(ModelConfig::quantization) {
        return Err(Error::Quantized { model: name, quantization });
    }
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut roots = vec![real(path)];
    if let Some(adapter) = adapter {
        source = Box::new(LoraSource::open(source, adapter)?);
        roots.push(real(adapter));
    }
    let mut opened = Opened::new(name, source);
    let head = opened.source.tensors().iter().any(|t| is_head(&t.name));
    // Without a word about it, a model whose files lack the head takes the table.
    opened.tied = config.as_ref().is_some_and(|config| config.tied().unwrap_or(!head));
    opened.vocab_size = config.as_ref().and_then(ModelConfig::vocab_size);
    (opened.config, opened.dir, opened.roots) = (config, dir, roots);
    Ok(opened)
}

/// The error of the first checkpoint of another architecture than the first.
fn mixture(opened: &[Opened<'_>]) -> Option<Error> {
    let known =
        |model: &Opened<'_>| Some((model.name.clone(), model.config.as_ref()?.architecture()?.to_owned()));
    let mut known = opened.iter().filter_map(known);
    let (first, first_architecture) = known.next()?;
    let (second, second_architecture) = known.find(|(_, other)| *other != first_architecture)?;
    Some(Error::Architectures { first, first_architecture, second, second_architecture })
}

impl<'a> Opened<'a> {
    /// A checkpoint without configuration.
    pub(super) fn new(name: String, source: Box<dyn Source + 'a>) -> Self {
        let layout = Layout::of(source.tensors().iter().map(|t| t.name.as_str()));
        let (tied, vocab_size, config, dir) = (false, None, None, None);
        Self { name, source, layout, tied, vocab_size, config, dir, roots: Vec::new() }
    }
}
