//! State dictionaries in files.
use super::StateDict;
use crate::{
    Error, Result, check,
    params::{Dtype, ParamSpec, ParamStore, ParamWriter, file_order},
};
use std::{collections::BTreeMap, path::Path};
use tch::{Device, Kind, Tensor};

impl StateDict {
    /// Reads every tensor of a safetensors file, or of a directory with one or with shards and their index.
    ///
    /// Bytes go from the memory map straight into the tensors; 8-bit floats become `f32`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Format`] as [`ParamStore::open`]; [`Error::Format`] for an element type that libtorch
    /// cannot hold.
    ///
    /// ```
    /// use mtl_core::StateDict;
    /// use tch::Tensor;
    ///
    /// let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("model.safetensors");
    /// let theta = StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&[1.0f32, 2.0]))]);
    /// theta.save(&path, &Default::default())?;
    /// StateDict::load(&path)?.same_layout(&theta, "the file")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let store = ParamStore::open(path)?;
        Self::from_store(&store)
    }

    /// Reads every tensor of an open store.
    ///
    /// # Errors
    ///
    /// [`Error::Format`] for a damaged value or an element type that libtorch cannot hold, [`Error::Memory`] for more
    /// than the machine has left.
    pub fn from_store(store: &ParamStore) -> Result<Self> {
        check::memory(&store.path().display().to_string(), store.nbytes() as u64)?;
        let mut dict = Self::new();
        for (name, info) in store.iter() {
            let size: Vec<i64> = info.shape.iter().map(|&dim| dim as i64).collect();
            let tensor = match info.dtype {
                Dtype::F8E4M3 | Dtype::F8E5M2 => {
                    Tensor::from_slice(&store.f32s(name)?).f_view(size.as_slice())?
                }
                dtype => match kind(dtype) {
                    Some(kind) => Tensor::f_from_data_size(store.bytes(name)?, &size, kind)?,
                    None => {
                        let message =
                            format!("`{name}` is {dtype}, which libtorch cannot hold; convert it first");
                        return Err(Error::format(store.file_of(name)?.path(), message));
                    }
                },
            };
            dict.insert(name, tensor);
        }
        Ok(dict)
    }

    /// Writes every tensor to a safetensors file, which appears whole or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a kind that the format lacks or an unusable name, [`Error::Io`] when writing fails; an old
    /// file is untouched then.
    pub fn save(&self, path: impl AsRef<Path>, metadata: &BTreeMap<String, String>) -> Result<()> {
        let spec = |(name, tensor): (&str, &Tensor)| {
            let dtype = dtype(tensor.kind()).ok_or_else(|| {
                Error::config(name, "of a kind safetensors has", format!("{:?}", tensor.kind()))
            })?;
            let shape: Vec<usize> = tensor.size().iter().map(|&dim| dim as usize).collect();
            Ok(ParamSpec::new(name, dtype, shape))
        };
        let mut plan: Vec<ParamSpec> = self.iter().map(spec).collect::<Result<_>>()?;
        file_order(&mut plan);
        let mut writer = ParamWriter::create(path, &plan, metadata)?;
        let mut bytes = Vec::new();
        for spec in &plan {
            let Some(tensor) = self.get(&spec.name) else { continue };
            let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
            bytes.clear();
            bytes.resize(tensor.numel() * spec.dtype.size(), 0);
            tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
            writer.write(&spec.name, &bytes)?;
        }
        writer.finish()
    }
}

/// The kinds that exist on both sides.
const KINDS: [(Dtype, Kind); 10] = [
    (Dtype::Bool, Kind::Bool),
    (Dtype::U8, Kind::Uint8),
    (Dtype::I8, Kind::Int8),
    (Dtype::I16, Kind::Int16),
    (Dtype::F16, Kind::Half),
    (Dtype::Bf16, Kind::BFloat16),
    (Dtype::I32, Kind::Int),
    (Dtype::F32, Kind::Float),
    (Dtype::I64, Kind::Int64),
    (Dtype::F64, Kind::Double),
];

fn kind(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|(d, _)| *d == dtype).map(|(_, kind)| *kind)
}

fn dtype(kind: Kind) -> Option<Dtype> {
    KINDS.iter().find(|(_, k)| *k == kind).map(|(dtype, _)| *dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let values = Tensor::from_slice(&[0i64, 1, 1, 0, 1, 0]).view([2, 3]);
        let mut dict: StateDict =
            KINDS.iter().map(|(_, kind)| (format!("{kind:?}"), values.to_kind(*kind))).collect();
        dict.insert("scalar", Tensor::from(2.5f32));
        dict.insert("empty", Tensor::zeros([0, 3], (Kind::Float, Device::Cpu)));
        dict.insert("transposed", values.to_kind(Kind::Float).tr());
        dict.save(&path, &BTreeMap::new()).unwrap();
        let back = StateDict::load(&path).unwrap();
        back.same_layout(&dict, "the file").unwrap();
        for (name, tensor) in dict.iter() {
            assert!(tensor.equal(back.get(name).unwrap()), "{name}");
        }
    }
}
