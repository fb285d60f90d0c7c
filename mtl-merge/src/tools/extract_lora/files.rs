//! The files of an adapter, as PEFT reads them.
use super::{Change, ExtractedModule, Pair, factor::Factors, select::Chosen};
use crate::{
    Error, FloatType, Result,
    engine::convert::{from_f64, overflow},
    tensor::BLOCK,
};
use mtl_core::params::{Dtype, ParamScatter, ParamSpec, file_order};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Prefix of PEFT's names.
const PREFIX: &str = "base_model.model.";
/// Bytes copied at once.
const CHUNK: usize = 1 << 20;

/// An adapter in the making: factors wait in a file, since the header that goes before them needs every rank.
#[derive(Debug)]
pub(super) struct Draft {
    float: FloatType,
    path: PathBuf,
    file: BufWriter<File>,
    /// Tensors in that file, in its order.
    specs: Vec<ParamSpec>,
    has_bias: bool,
    /// What the factors are of.
    pub(super) modules: Vec<ExtractedModule>,
    /// Modules to take as they are.
    pub(super) saved: Vec<String>,
    /// Their tensors in the fine-tuned model.
    pub(super) whole: Vec<usize>,
}

impl Draft {
    pub(super) fn create(float: FloatType, path: PathBuf) -> Result<Self> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path);
        let file = BufWriter::new(file.map_err(|e| mtl_core::Error::io("write", &path, e))?);
        let (specs, modules) = (Vec::new(), Vec::new());
        let (saved, whole) = (Vec::new(), Vec::new());
        Ok(Self { float, path, file, specs, has_bias: false, modules, saved, whole })
    }

    /// Adds a module as it is in the fine-tuned model.
    pub(super) fn take(&mut self, chosen: &Chosen) {
        self.saved.push(chosen.module.clone());
        self.whole.extend(chosen.weight.iter().chain(&chosen.bias).map(|(tuned, _)| *tuned));
    }

    /// Adds the factors of a module.
    pub(super) fn add(&mut self, module: &str, change: &Change) -> Result<()> {
        let ([rows, cols], Factors { rank, left, right, energy }) = (change.shape, &change.factors);
        let kind = |which: &str| match change.embedding {
            true => format!("{PREFIX}{module}.lora_embedding_{which}"),
            false => format!("{PREFIX}{module}.lora_{which}.weight"),
        };
        if change.flip {
            // The weight is (B A)ᵀ = Aᵀ Bᵀ: A is the left factor transposed.
            self.put(kind("A"), vec![*rank, rows], &transposed(left, *rank))?;
            self.put(kind("B"), vec![cols, *rank], &transposed(right, cols))?;
        } else {
            self.put(kind("A"), vec![*rank, cols], right)?;
            self.put(kind("B"), vec![rows, *rank], left)?;
        }
        if let Some(bias) = &change.bias {
            self.has_bias = true;
            self.put(format!("{PREFIX}{module}.lora_B.bias"), vec![bias.len()], bias)?;
        }
        let (module, shape, norm) = (module.to_owned(), change.shape, change.norm);
        self.modules.push(ExtractedModule { module, shape, rank: *rank, energy: *energy, norm });
        Ok(())
    }

    fn put(&mut self, name: String, shape: Vec<usize>, values: &[f64]) -> Result<()> {
        let mut bytes = Vec::new();
        from_f64(self.float, values, false, &mut bytes).map_err(|at| overflow(&name, self.float, at))?;
        self.file.write_all(&bytes).map_err(|e| mtl_core::Error::io("write", &self.path, e))?;
        self.specs.push(ParamSpec::new(name, self.float.dtype(), shape));
        Ok(())
    }

    /// Largest rank of a module.
    pub(super) fn rank(&self) -> usize {
        self.modules.iter().map(|m| m.rank).max().unwrap_or(1)
    }

    /// `adapter_config.json`; `all` are the modules of the model.
    ///
    /// Alpha is the rank, module by module, so that the product counts once.
    pub(super) fn config(
        &self,
        base: &str,
        model: &Map<String, Value>,
        fan_in_fan_out: bool,
        all: &[&str],
    ) -> Value {
        let r = self.rank();
        let other: BTreeMap<&str, usize> =
            self.modules.iter().filter(|m| m.rank != r).map(|m| (m.module.as_str(), m.rank)).collect();
        let saved: BTreeSet<&str> = self.saved.iter().map(|module| last(module)).collect();
        let causal = model.get("architectures").and_then(|a| a.get(0)).and_then(Value::as_str);
        json!({
            "peft_type": "LORA",
            "task_type": causal.filter(|name| name.ends_with("ForCausalLM")).map(|_| "CAUSAL_LM"),
            "base_model_name_or_path": base,
            "r": r,
            "lora_alpha": r,
            "rank_pattern": other,
            "alpha_pattern": other,
            "target_modules": self.targets(all),
            "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved) },
            "lora_dropout": 0.0,
            "lora_bias": self.has_bias,
            "bias": "none",
            "use_rslora": false,
            "use_dora": false,
            "fan_in_fan_out": fan_in_fan_out,
            "inference_mode": true,
        })
    }

    /// Names by which PEFT finds the factored modules and no other: the last part of a name where it stands for them
    /// all, the full name otherwise.
    fn targets(&self, all: &[&str]) -> Vec<String> {
        let factored: BTreeSet<&str> = self.modules.iter().map(|m| m.module.as_str()).collect();
        let mixed: BTreeSet<&str> = all.iter().filter(|m| !factored.contains(**m)).map(|m| last(m)).collect();
        let mut targets: BTreeSet<&str> = BTreeSet::new();
        for module in factored {
            targets.insert(if mixed.contains(last(module)) { module } else { last(module) });
        }
        targets.into_iter().map(str::to_owned).collect()
    }

    /// The adapter's page.
    pub(super) fn readme(&self, base: &str, tuned: &str) -> String {
        let rows: String = self
            .modules
            .iter()
            .map(|m| {
                format!(
                    "| `{}` | {} × {} | {} | {:.4} |\n",
                    m.module, m.shape[0], m.shape[1], m.rank, m.energy
                )
            })
            .collect();
        format!(
            "---\nbase_model: {base}\nlibrary_name: peft\ntags:\n- lora\n- mtl-merge\n---\n# LoRA adapter\n\nExtracted with \
             `mtl-merge extract-lora`: the difference between `{tuned}` and `{base}`.\n\n| module | shape | rank | share of \
             the squared norm |\n|---|---|---|---|\n{rows}"
        )
    }

    /// Writes `adapter_model.safetensors`; gives its size in bytes and the number of its elements.
    pub(super) fn write(&mut self, pair: &Pair<'_>, path: &Path) -> Result<(u64, u64)> {
        let fail = |e| mtl_core::Error::io("read", &self.path, e);
        self.file.flush().map_err(fail)?;
        let tensors = pair.tuned.tensors();
        let whole = self.whole.iter().map(|&at| {
            let meta = &tensors[at];
            ParamSpec::new(format!("{PREFIX}{}", meta.name), meta.dtype, meta.shape.as_slice())
        });
        let unsorted: Vec<ParamSpec> = self.specs.iter().cloned().chain(whole).collect();
        let mut sorted = unsorted.clone();
        file_order(&mut sorted);
        let at: BTreeMap<&str, usize> =
            sorted.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let writer = ParamScatter::create(path, &sorted, &metadata)?;
        let file = self.file.get_mut();
        file.seek(SeekFrom::Start(0)).map_err(fail)?;
        let mut buffer = vec![0; CHUNK];
        for spec in &self.specs {
            let len = spec.shape.iter().product::<usize>() * spec.dtype.size();
            for start in (0..len).step_by(CHUNK) {
                let buffer = &mut buffer[..CHUNK.min(len - start)];
                file.read_exact(buffer).map_err(fail)?;
                writer.write_at(at[spec.name.as_str()], start as u64, buffer)?;
            }
        }
        for (&tensor, spec) in self.whole.iter().zip(&unsorted[self.specs.len()..]) {
            copy(pair, tensor, &writer, at[spec.name.as_str()])?;
        }
        writer.finish()?;
        let size = std::fs::metadata(path).map_err(|e| mtl_core::Error::io("read", path, e))?.len();
        Ok((size, sorted.iter().map(|s| s.shape.iter().product::<usize>() as u64).sum()))
    }

    /// Removes the file of the factors.
    pub(super) fn discard(self) -> Result<()> {
        let removed = std::fs::remove_file(&self.path);
        Ok(removed.map_err(|e| mtl_core::Error::io("remove", &self.path, e))?)
    }
}

/// Writes a tensor of the fine-tuned model as it is.
fn copy(pair: &Pair<'_>, tensor: usize, writer: &ParamScatter, at: usize) -> Result<()> {
    let meta = &pair.tuned.tensors()[tensor];
    let float = match meta.dtype {
        Dtype::F32 => FloatType::F32,
        Dtype::F16 => FloatType::F16,
        Dtype::Bf16 => FloatType::Bf16,
        Dtype::F64 => FloatType::F64,
        _ => return Ok(writer.write_at(at, 0, &pair.tuned.bytes(tensor)?)?),
    };
    // Through numbers, since an adapter on top of the model may make the tensor up on the fly.
    let (mut values, mut bytes) = (vec![0.0; BLOCK.min(meta.numel())], Vec::new());
    for start in (0..meta.numel()).step_by(BLOCK) {
        let values = &mut values[..BLOCK.min(meta.numel() - start)];
        Pair::read(pair.tuned, tensor, start..start + values.len(), values)?;
        bytes.clear();
        from_f64(float, values, false, &mut bytes).map_err(|i| overflow(&meta.name, float, start + i))?;
        writer.write_at(at, (start * float.dtype().size()) as u64, &bytes)?;
    }
    Ok::<(), Error>(())
}

fn last(module: &str) -> &str {
    module.rsplit('.').next().unwrap_or(module)
}

/// The transpose of a matrix with `cols` columns.
fn transposed(matrix: &[f64], cols: usize) -> Vec<f64> {
    (0..cols).flat_map(|c| matrix.iter().skip(c).step_by(cols.max(1)).copied()).collect()
}
