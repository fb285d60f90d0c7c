//! A checkpoint with a LoRA adapter on top (Hu et al., arXiv 2106.09685; PEFT's files), applied while reading.
//!
//! `W + s B A` is formed for the rows that are asked for; no merged copy exists on disk or in memory.
use super::{
    convert::to_f64,
    source::{InputFile, Source, TensorMeta},
};
use crate::{Error, Result, tensor::with_scratch};
use mtl_core::{
    files::{self, FileStamp},
    params::{ParamStore, TensorInfo},
};
use multiversion::multiversion;
use serde::Deserialize;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
};

#[multiversion(targets("x86_64+avx2"))]
fn add_scaled(factor: f64, x: &[f64], out: &mut [f64]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += factor * x;
    }
}

/// PEFT's `adapter_config.json`, as far as it matters for the weights.
#[derive(Debug, Clone, Deserialize)]
struct AdapterConfig {
    peft_type: String,
    r: f64,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    rank_pattern: Option<BTreeMap<String, f64>>,
    #[serde(default)]
    alpha_pattern: Option<BTreeMap<String, f64>>,
}

/// What an adapter does to one tensor.
#[derive(Debug, Clone)]
enum Change {
    /// Adds `scale · B A`, transposed or not; the names are the adapter's.
    Add { a: String, b: String, rank: usize, scale: f64, transposed: bool },
    /// Adds a vector.
    Bias { name: String, scale: f64 },
    /// Stands in its place.
    Replace(String),
}

/// A checkpoint and an adapter.
pub(crate) struct LoraSource {
    inner: Box<dyn Source>,
    adapter: ParamStore,
    /// The adapter's tensors and its configuration.
    files: Vec<InputFile>,
    dir: PathBuf,
    tensors: Vec<TensorMeta>,
    changes: Vec<Option<Change>>,
}

/// Prefix of PEFT's names.
const PREFIX: &str = "base_model.model.";
/// Largest `adapter_config.json` that is read.
const MAX_CONFIG: u64 = 1 << 20;

impl LoraSource {
    /// Reads the adapter in `dir` and matches it with the checkpoint.
    ///
    /// # Errors
    ///
    /// [`Error::Core`] for files that are missing or damaged, [`Error::Adapter`] for adapters that do not fit.
    pub(crate) fn open(inner: Box<dyn Source>, dir: &Path) -> Result<Self> {
        let path = dir.join("adapter_config.json");
        let stamp = FileStamp::read(&path)?;
        let (config, text) = read_config(&path)?;
        let adapter = ParamStore::open(dir.join("adapter_model.safetensors"))?;
        let mut files = InputFile::all(&adapter);
        files.push(InputFile { path, stamp, head: blake3::hash(text.as_bytes()) });
        let complain = |message: String| Error::Adapter { adapter: dir.display().to_string(), message };
        if !config.peft_type.eq_ignore_ascii_case("LORA") {
            return Err(complain(format!("its type is `{}`; only LORA can be merged", config.peft_type)));
        }
        if config.use_dora {
            return Err(complain(
                "it is a DoRA adapter, which is not a sum; merge it into its model first".into(),
            ));
        }
        let mut tensors = inner.tensors().to_vec();
        let mut changes: Vec<Option<Change>> = vec![None; tensors.len()];
        for (name, info) in adapter.iter() {
            let Some((module, kind)) = parts(name) else {
                return Err(complain(format!("`{name}` is no name of a LoRA tensor")));
            };
            let target = match kind {
                Kind::Whole => module.clone(),
                Kind::BBias => format!("{module}.bias"),
                _ => format!("{module}.weight"),
            };
            let Some(at) = inner.find(&target) else {
                return Err(complain(format!(
                    "`{name}` changes `{target}`, which `{}` lacks",
                    inner.label()
                )));
            };
            let scale = config.scale(&module);
            let shape = &inner.tensors()[at].shape;
            match kind {
                Kind::B | Kind::EmbeddingB => {} // Looked up with its A.
                Kind::Whole | Kind::BBias => {
                    if info.shape != *shape {
                        return Err(complain(format!(
                            "`{name}` has shape {:?}, but `{target}` has {shape:?}",
                            info.shape
                        )));
                    }
                    if matches!(kind, Kind::BBias) {
                        changes[at] = Some(Change::Bias { name: name.to_owned(), scale });
                    } else {
                        tensors[at].dtype = info.dtype;
                        changes[at] = Some(Change::Replace(name.to_owned()));
                    }
                }
                Kind::A | Kind::EmbeddingA => {
                    let embedding = matches!(kind, Kind::EmbeddingA);
                    let b = name.replace("lora_A", "lora_B").replace("lora_embedding_A", "lora_embedding_B");
                    let b_info =
                        adapter.info(&b).ok_or_else(|| complain(format!("`{name}` has no `{b}`")))?;
                    let transposed = embedding || config.fan_in_fan_out;
                    let rank = fits(&info.shape, &b_info.shape, shape, transposed)
                        .map_err(|message| complain(format!("`{name}`: {message}")))?;
                    changes[at] = Some(Change::Add { a: name.to_owned(), b, rank, scale, transposed });
                }
            }
        }
        if changes.iter().all(Option::is_none) {
            return Err(complain("it changes nothing".into()));
        }
        Ok(Self { inner, adapter, files, dir: dir.to_owned(), tensors, changes })
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        Ok(self.adapter.expect_info(name)?)
    }

    /// Elements `span` of an adapter's tensor.
    fn part(&self, name: &str, span: Range<usize>, out: &mut [f64]) -> Result<bool> {
        let dtype = self.info(name)?.dtype;
        let bytes = self.adapter.bytes(name)?;
        to_f64(dtype, &bytes[span.start * dtype.size()..span.end * dtype.size()], out)
    }

    /// Adds `scale · B A` to elements `span` of a matrix with `cols` columns.
    fn add(&self, change: &Change, cols: usize, span: Range<usize>, out: &mut [f64]) -> Result<bool> {
        let Change::Add { a, b, rank, scale, transposed } = change else { return Ok(true) };
        // Entry (i, j) is Σ_k left[i, k] right[k, j]: left is B by rows, or A by columns when transposed.
        let rows = span.start / cols..span.end.div_ceil(cols);
        let (rank, height) = (*rank, self.info(a)?.shape.get(1).copied().unwrap_or_default());
        let mut finite = true;
        with_scratch(|right| {
            right.resize(rank * cols + rank, 0.0);
            let (right, left) = right.split_at_mut(rank * cols);
            if *transposed {
                // `right[k, j]` is B[j, k].
                let mut whole = vec![0.0; rank * cols];
                finite &= self.part(b, 0..rank * cols, &mut whole)?;
                for (j, row) in whole.chunks(rank).enumerate() {
                    for (k, &x) in row.iter().enumerate() {
                        right[k * cols + j] = x;
                    }
                }
            } else {
                finite &= self.part(a, 0..rank * cols, right)?;
            }
            for row in rows {
                if *transposed {
                    for (k, left) in left.iter_mut().enumerate() {
                        let at = k * height + row;
                        finite &= self.part(a, at..at + 1, std::slice::from_mut(left))?;
                    }
                } else {
                    finite &= self.part(b, row * rank..(row + 1) * rank, left)?;
                }
                let (start, end) = (span.start.max(row * cols), span.end.min((row + 1) * cols));
                let columns = start - row * cols..end - row * cols;
                let out = &mut out[start - span.start..end - span.start];
                for (k, &factor) in left.iter().enumerate() {
                    add_scaled(scale * factor, &right[k * cols..][columns.clone()], out);
                }
            }
            Ok(finite)
        })
    }
}

impl Source for LoraSource {
    fn tensors(&self) -> &[TensorMeta] {
        &self.tensors
    }

    fn label(&self) -> String {
        format!("{}+{}", self.inner.label(), self.dir.display())
    }

    fn place(&self, tensor: usize) -> String {
        match self.changes[tensor] {
            Some(_) => format!("{}+{}", self.inner.place(tensor), self.dir.display()),
            None => self.inner.place(tensor),
        }
    }

    fn read(&self, tensor: usize, span: Range<usize>, out: &mut [f64]) -> Result<bool> {
        let Some(change) = &self.changes[tensor] else { return self.inner.read(tensor, span, out) };
        match change {
            Change::Replace(name) => self.part(name, span, out),
            Change::Bias { name, scale } => {
                let mut bias = vec![0.0; span.len()];
                let finite =
                    self.part(name, span.clone(), &mut bias)? & self.inner.read(tensor, span, out)?;
                out.iter_mut().zip(bias).for_each(|(out, x)| *out += scale * x);
                Ok(finite)
            }
            Change::Add { .. } => {
                let cols = self.tensors[tensor].shape.last().copied().unwrap_or(1);
                Ok(self.inner.read(tensor, span.clone(), out)? & self.add(change, cols, span, out)?)
            }
        }
    }

    fn bytes(&self, tensor: usize) -> Result<Cow<'_, [u8]>> {
        match &self.changes[tensor] {
            Some(Change::Replace(name)) => Ok(Cow::Borrowed(self.adapter.bytes(name)?)),
            Some(_) => Err(Error::Adapter {
                adapter: self.dir.display().to_string(),
                message: format!("`{}` cannot be copied, it is changed", self.tensors[tensor].name),
            }),
            None => self.inner.bytes(tensor),
        }
    }

    fn files(&self) -> Vec<&InputFile> {
        self.inner.files().into_iter().chain(&self.files).collect()
    }
}

impl AdapterConfig {
    /// Factor of `B A` for a module: α/r, or α/√r for rank-stabilised LoRA.
    fn scale(&self, module: &str) -> f64 {
        let pick = |pattern: &Option<BTreeMap<String, f64>>, default: f64| {
            let fits = |key: &str| module == key || module.ends_with(&format!(".{key}"));
            let found = pattern.iter().flatten().find(|(key, _)| fits(key.trim_start_matches('^')));
            found.map_or(default, |(_, &value)| value)
        };
        let (r, alpha) = (pick(&self.rank_pattern, self.r), pick(&self.alpha_pattern, self.lora_alpha));
        if self.use_rslora { alpha / r.sqrt() } else { alpha / r }
    }
}

fn read_config(path: &Path) -> Result<(AdapterConfig, String)> {
    let mut text = String::new();
    let file = files::open_regular(path)?;
    let read = file.take(MAX_CONFIG + 1).read_to_string(&mut text);
    read.map_err(|source| mtl_core::Error::io("read", path, source))?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(mtl_core::Error::format(path, format!("is longer than {MAX_CONFIG} bytes")).into());
    }
    let config: AdapterConfig = serde_json::from_str(&text)
        .map_err(|e| mtl_core::Error::format(path, format!("is no adapter configuration: {e}")))?;
    let numbers = [config.r, config.lora_alpha].into_iter();
    let patterns = config.rank_pattern.iter().chain(&config.alpha_pattern).flat_map(|p| p.values().copied());
    if numbers.chain(patterns).all(|x| x.is_finite()) && config.r > 0.0 {
        return Ok((config, text));
    }
    Err(mtl_core::Error::format(path, "has a rank or alpha that is not a positive, finite number").into())
}

/// The part of an adapter's tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    A,
    B,
    BBias,
    EmbeddingA,
    EmbeddingB,
    /// A tensor that replaces the checkpoint's.
    Whole,
}

/// Splits an adapter's name into module (or tensor, for whole ones) and kind.
fn parts(name: &str) -> Option<(String, Kind)> {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    // Older files carry the adapter's name, `default`.
    let rest = rest.replace(".default.", ".").replace("modules_to_save.", "");
    let rest = rest.strip_suffix(".default").unwrap_or(&rest);
    let kinds = [
        (".lora_A.weight", Kind::A),
        (".lora_B.weight", Kind::B),
        (".lora_B.bias", Kind::BBias),
        (".lora_embedding_A", Kind::EmbeddingA),
        (".lora_embedding_B", Kind::EmbeddingB),
    ];
    for (end, kind) in kinds {
        if let Some(module) = rest.strip_suffix(end) {
            return Some((module.to_owned(), kind));
        }
    }
    (!rest.contains("lora_") && rest.contains('.')).then(|| (rest.to_owned(), Kind::Whole))
}

/// The rank, when `a` [rank, in] and `b` [out, rank] fit the weight.
fn fits(a: &[usize], b: &[usize], weight: &[usize], transposed: bool) -> Result<usize, String> {
    let (&[rank, input], &[output, b_rank]) = (a, b) else {
        return Err(format!("A and B must be matrices, but have shapes {a:?} and {b:?}"));
    };
    let expected = if transposed { [input, output] } else { [output, input] };
    if rank != b_rank || weight != expected {
        return Err(format!("A {a:?} and B {b:?} do not fit the weight {weight:?}"));
    }
    Ok(rank)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::source::FileSource;
    use mtl_core::params::{ParamView, write_params};

    fn folder(config: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("adapter_config.json"), config).unwrap();
        dir
    }

    fn base(dir: &Path, shape: &[usize], values: &[f32]) -> Box<dyn Source> {
        let path = dir.join("base.safetensors");
        let w = ParamView::f32("layer.q.weight", shape, values);
        let other = ParamView::f32("other.bias", &[2], &[1.0, 2.0]);
        write_params(&path, &BTreeMap::new(), &[w, other]).unwrap();
        Box::new(FileSource::open(&path).unwrap())
    }

    fn adapter(dir: &Path, tensors: &[(&str, &[usize], &[f32])]) {
        let views: Vec<_> = tensors.iter().map(|(n, s, v)| ParamView::f32(n, s, v)).collect();
        write_params(dir.join("adapter_model.safetensors"), &BTreeMap::new(), &views).unwrap();
    }

    fn all(source: &dyn Source, name: &str) -> Vec<f64> {
        let at = source.find(name).unwrap();
        let mut out = vec![0.0; source.tensors()[at].numel()];
        // In two parts that cut a row.
        let (head, tail) = out.split_at_mut(1);
        source.read(at, 0..1, head).unwrap();
        let end = 1 + tail.len();
        source.read(at, 1..end, tail).unwrap();
        out
    }

    const A: (&str, &[usize], &[f32]) =
        ("base_model.model.layer.q.lora_A.weight", &[2, 3], &[1.0, 2.0, 3.0, 0.0, 1.0, 0.0]);
    const B: (&str, &[usize], &[f32]) =
        ("base_model.model.layer.q.lora_B.weight", &[2, 2], &[1.0, 0.0, 2.0, 1.0]);

    #[test]
    fn the_product_is_added_with_its_scale() {
        let dir = folder(r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 1}"#);
        adapter(dir.path(), &[A, B]);
        let source = LoraSource::open(base(dir.path(), &[2, 3], &[10.0; 6]), dir.path()).unwrap();
        // B A = [[1, 2, 3], [2, 5, 6]], halved.
        assert_eq!(all(&source, "layer.q.weight"), [10.5, 11.0, 11.5, 11.0, 12.5, 13.0]);
        assert_eq!(all(&source, "other.bias"), [1.0, 2.0]);
    }

    #[test]
    fn transposed_weights_patterns_and_whole_tensors_are_understood() {
        let dir = folder(
            r#"{"peft_type": "LORA", "r": 8, "lora_alpha": 1, "fan_in_fan_out": true, "use_rslora": true,
                "rank_pattern": {"layer.q": 4}, "alpha_pattern": {"q": 2}}"#,
        );
        adapter(dir.path(), &[A, B, ("base_model.model.other.bias", &[2], &[5.0, 6.0])]);
        let source = LoraSource::open(base(dir.path(), &[3, 2], &[0.0; 6]), dir.path()).unwrap();
        assert_eq!(all(&source, "layer.q.weight"), [1.0, 2.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(all(&source, "other.bias"), [5.0, 6.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let dir = folder(r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 1}"#);
        let refusal = |shape: &[usize]| {
            let inner = base(dir.path(), shape, &[0.0; 6]);
            let text = LoraSource::open(inner, dir.path()).err().unwrap().to_string();
            text.replace(&dir.path().display().to_string(), "DIR")
        };
        adapter(dir.path(), &[A, B]);
        insta::assert_snapshot!(refusal(&[3, 2]), @"adapter `DIR`: `base_model.model.layer.q.lora_A.weight`: A [2, 3] and B [2, 2] do not fit the weight [3, 2]");
        adapter(dir.path(), &[A]);
        insta::assert_snapshot!(refusal(&[2, 3]), @"adapter `DIR`: `base_model.model.layer.q.lora_A.weight` has no `base_model.model.layer.q.lora_B.weight`");
        std::fs::write(
            dir.path().join("adapter_config.json"),
            r#"{"peft_type": "IA3", "r": 2, "lora_alpha": 1}"#,
        )
        .unwrap();
        insta::assert_snapshot!(refusal(&[2, 3]), @"adapter `DIR`: its type is `IA3`; only LORA can be merged");
    }
}
