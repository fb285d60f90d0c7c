//! Statistics of models on files: one safetensors file (or folder) per model, entries under the weights' names.
use crate::{Error, Resolved, Result, Tensor, engine::convert::to_f64};
use mtl_core::params::{ParamStore, TensorInfo};
use std::{collections::BTreeMap, ops::Range};

/// The files of all models, by path.
pub(super) struct Statistics {
    kind: &'static str,
    stores: BTreeMap<String, ParamStore>,
}

/// One entry.
#[derive(Clone, Copy)]
pub(super) struct Entry<'s> {
    kind: &'static str,
    store: &'s ParamStore,
    name: &'s str,
    pub(super) info: &'s TensorInfo,
}

impl Statistics {
    /// Opens the files that the per-model parameter `kind` names for any of the tensors.
    ///
    /// # Errors
    ///
    /// [`Error::Open`].
    pub(super) fn open(kind: &'static str, tensors: &[(Tensor<'_>, &Resolved)]) -> Result<Self> {
        let mut stores = BTreeMap::new();
        for (_, params) in tensors {
            for path in params.per_model_text(kind)?.iter().flatten() {
                if !stores.contains_key(path) {
                    let opened = ParamStore::open(path)
                        .map_err(|source| Error::Open { role: format!("parameter `{kind}`"), source })?;
                    stores.insert(path.clone(), opened);
                }
            }
        }
        Ok(Self { kind, stores })
    }

    /// The entry for `tensor` of model number `model`, if its file has one.
    ///
    /// # Errors
    ///
    /// [`Error::Statistics`] when the entry does not have `shape` or holds no floating-point numbers;
    /// [`Error::MissingParameter`] without a file.
    pub(super) fn find(
        &self,
        tensor: &Tensor<'_>,
        params: &Resolved,
        model: usize,
        shape: &[usize],
    ) -> Result<Option<Entry<'_>>> {
        let path = params.per_model_text(self.kind)?.get(model).cloned().flatten();
        let store = path.and_then(|path| self.stores.get(&path)).ok_or_else(|| Error::MissingParameter {
            method: tensor.spec.info.name.to_owned(),
            parameter: self.kind.to_owned(),
            model: Some(format!("model {}", tensor.number(model))),
            tensor: tensor.name().to_owned(),
        })?;
        let wanted = tensor.source_name(model);
        let Some((name, info)) = store.iter().find(|(name, _)| *name == wanted) else { return Ok(None) };
        let entry = Entry { kind: self.kind, store, name, info };
        if info.shape != shape {
            return Err(entry.error(format!("has shape {:?}, but must have {shape:?}", info.shape)));
        }
        if !info.dtype.is_float() {
            return Err(entry.error(format!("holds {}, but must hold floating-point numbers", info.dtype)));
        }
        Ok(Some(entry))
    }

    /// As [`find`](Self::find), for an entry that must be there.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find), and [`Error::Statistics`] when it is not there.
    pub(super) fn expect(
        &self,
        tensor: &Tensor<'_>,
        params: &Resolved,
        model: usize,
        shape: &[usize],
    ) -> Result<Entry<'_>> {
        let found = self.find(tensor, params, model, shape)?;
        let path = || params.per_model_text(self.kind).ok()?.get(model)?.clone();
        found.ok_or_else(|| Error::Statistics {
            kind: self.kind,
            tensor: tensor.source_name(model).to_owned(),
            file: path().unwrap_or_default(),
            message: "is missing".to_owned(),
        })
    }
}

impl Entry<'_> {
    /// The values of `span`.
    ///
    /// # Errors
    ///
    /// Errors of reading.
    pub(super) fn read(&self, span: Range<usize>, out: &mut Vec<f64>) -> Result<bool> {
        let size = self.info.dtype.size();
        let bytes = self.store.bytes(self.name)?;
        let part = bytes.get(span.start * size..span.end * size).unwrap_or_default();
        out.clear();
        out.resize(part.len() / size, 0.0);
        to_f64(self.info.dtype, part, out)
    }

    /// All values, which must be finite.
    ///
    /// # Errors
    ///
    /// [`Error::Statistics`] for NaN or infinity, and errors of reading.
    #[cfg(feature = "spectral")]
    pub(super) fn load(&self) -> Result<Vec<f64>> {
        let mut out = Vec::new();
        if !self.read(0..self.info.numel(), &mut out)? {
            return Err(self.error("holds NaN or infinity".to_owned()));
        }
        Ok(out)
    }

    /// The error that says what is wrong with the entry.
    pub(super) fn error(&self, message: String) -> Error {
        Error::Statistics {
            kind: self.kind,
            tensor: self.name.to_owned(),
            file: self.store.path().display().to_string(),
            message,
        }
    }
}
