//! LoRA adapters out of fine-tuned models: the difference to the base, factored by singular value decomposition.
//!
//! The inverse of merging an adapter (Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, arXiv
//! 2106.09685). The best approximation of rank r in the Frobenius norm is the truncated singular value decomposition
//! (Eckart and Young, 1936): `B A` with `A = √S Vᵀ` and `B = U √S`.
mod factor;
mod files;
mod select;

use super::{folder::NewFolder, model};
use crate::{
    Error, FloatType, Progress, Result,
    engine::source::{Source, non_finite},
    tensor::BLOCK,
};
use factor::Factors;
use files::Draft;
use rayon::prelude::*;
use select::{Chosen, Form};
use serde::{Deserialize, Serialize};
use std::{ops::Range, path::Path};

/// How an adapter is extracted; the default is that of mergekit.
///
/// ```
/// # #[cfg(feature = "spectral")] {
/// use mtl_core::params::{ParamView, write_params};
/// use mtl_merge::tools::extract_lora::ExtractLora;
///
/// let dir = tempfile::tempdir()?;
/// let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
/// for (name, q) in [("base", [0.0; 4]), ("tuned", [2.0, 4.0, 1.0, 2.0])] {
///     let q = ParamView::f32("layers.0.q.weight", &[2, 2], &q);
///     write_params(path(name), &Default::default(), &[q])?;
/// }
/// let report = ExtractLora::default().run(&path("base"), &path("tuned"), path("adapter").as_ref())?;
/// assert_eq!((report.r, report.modules[0].module.as_str()), (1, "layers.0.q"));
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ExtractLora {
    /// Largest rank of a module; 128.
    pub max_rank: usize,
    /// Share of the squared Frobenius norm of each difference to keep, in (0, 1]: the smallest rank that does, within
    /// `max_rank`. None: no limit of this kind.
    pub energy: Option<f64>,
    /// Singular values up to this are dropped; 0. Those below rounding errors always are.
    pub sv_epsilon: f64,
    /// `A = √S Vᵀ, B = U √S` when true, `A = S Vᵀ, B = U` otherwise; true.
    pub distribute_scale: bool,
    /// Factors embeddings and the output head as well, instead of saving them whole; false.
    pub embed_lora: bool,
    /// Modules to save whole, by full name or by its last part.
    pub save_modules: Vec<String>,
    /// Regular expressions: only modules in whose name one is found are extracted, if there are any.
    pub include: Vec<String>,
    /// Regular expressions: modules in whose name one is found are left out.
    pub exclude: Vec<String>,
    /// Leaves out norms and whatever else is no matrix, instead of saving them whole; false.
    pub skip_undecomposable: bool,
    /// Element type of the factors; single precision.
    pub dtype: FloatType,
    /// Replaces an output folder that has content; false.
    pub overwrite: bool,
}

impl Default for ExtractLora {
    fn default() -> Self {
        Self {
            max_rank: 128,
            energy: None,
            sv_epsilon: 0.0,
            distribute_scale: true,
            embed_lora: false,
            save_modules: Vec::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            skip_undecomposable: false,
            dtype: FloatType::F32,
            overwrite: false,
        }
    }
}

/// What an extraction wrote.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExtractReport {
    /// Factored modules, by name.
    pub modules: Vec<ExtractedModule>,
    /// Tensors saved whole.
    pub saved: Vec<String>,
    /// Modules that are the same in both models, or as good as the same, and need nothing.
    pub unchanged: Vec<String>,
    /// Modules left out by the options.
    pub skipped: Vec<String>,
    /// Rank of the adapter: the largest of a module.
    pub r: usize,
    /// Share of the squared norm of all differences of factored modules that the adapter keeps.
    pub energy: f64,
    /// Numbers in the adapter.
    pub parameters: u64,
    /// Size of `adapter_model.safetensors` in bytes.
    pub bytes: u64,
    /// Remarks.
    pub warnings: Vec<String>,
}

/// One factored module.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ExtractedModule {
    /// Name of the module.
    pub module: String,
    /// Shape of its weight.
    pub shape: [usize; 2],
    /// Rank of its factors.
    pub rank: usize,
    /// Share of the squared Frobenius norm of the difference that the factors keep.
    pub energy: f64,
    /// Frobenius norm of the difference.
    pub norm: f64,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty => $apply:expr;)*) => {
        impl ExtractLora {$(
            $(#[$doc])*
            #[must_use]
            pub fn $name(mut self, value: $type) -> Self {
                let apply: fn(&mut Self, $type) = $apply;
                apply(&mut self, value);
                self
            }
        )*}
    };
}

setters! {
    /// Sets the largest rank.
    max_rank: usize => |o, v| o.max_rank = v;
    /// Sets the share of the squared norm to keep.
    energy: f64 => |o, v| o.energy = Some(v);
    /// Sets the singular value from which on all smaller ones are dropped.
    sv_epsilon: f64 => |o, v| o.sv_epsilon = v;
    /// Whether both factors carry the square root of the scale.
    distribute_scale: bool => |o, v| o.distribute_scale = v;
    /// Whether embeddings and head are factored.
    embed_lora: bool => |o, v| o.embed_lora = v;
    /// Adds a module to save whole.
    save_module: &str => |o, v| o.save_modules.push(v.to_owned());
    /// Adds a pattern of modules to extract.
    include: &str => |o, v| o.include.push(v.to_owned());
    /// Adds a pattern of modules to leave out.
    exclude: &str => |o, v| o.exclude.push(v.to_owned());
    /// Whether norms and the like are left out.
    skip_undecomposable: bool => |o, v| o.skip_undecomposable = v;
    /// Sets the element type of the factors.
    dtype: FloatType => |o, v| o.dtype = v;
    /// Whether a folder with content may be replaced.
    overwrite: bool => |o, v| o.overwrite = v;
}

impl ExtractLora {
    /// Extracts the adapter that leads from checkpoint `base` to checkpoint `tuned` into the folder `out`.
    ///
    /// Both may be `checkpoint+adapter`. The folder has `adapter_model.safetensors` and `adapter_config.json` as PEFT
    /// reads them; it appears complete or not at all. One difference and its decomposition are in memory at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Feature`] in a build without `spectral`; [`Error::Core`] for an option out of its range, and for files;
    /// [`Error::Open`] and [`Error::Mismatch`] for checkpoints; [`Error::NonFinite`] and [`Error::Overflow`] for values.
    pub fn run(&self, base: &str, tuned: &str, out: &Path) -> Result<ExtractReport> {
        self.run_watched(base, tuned, out, &Progress::default())
    }

    /// As [`ExtractLora::run`], watched and stopped from another thread; progress counts bytes of the fine-tuned model.
    ///
    /// # Errors
    ///
    /// As [`ExtractLora::run`], and [`Error::Interrupted`].
    pub fn run_watched(
        &self,
        base: &str,
        tuned: &str,
        out: &Path,
        progress: &Progress,
    ) -> Result<ExtractReport> {
        self.check()?;
        let (base_name, tuned_name) = (base, tuned);
        let base = model::open("the base model", base_name)?;
        let tuned = model::open("the fine-tuned model", tuned_name)?;
        let selection = select::select(self, &*base, &*tuned)?;
        let config = model::read_object(&model::folder(base_name).join("config.json"))?.unwrap_or_default();
        // GPT-2 keeps its linear maps transposed.
        let fan_in_fan_out = config.get("model_type").is_some_and(|kind| kind == "gpt2");
        let folder = NewFolder::create(out, self.overwrite)?;
        let mut draft = Draft::create(self.dtype, folder.file("factors.tmp"))?;
        let pair = Pair { base: &*base, tuned: &*tuned };
        let size = |chosen: &Chosen| chosen.weight.map_or(0, |(t, _)| pair.bytes(t));
        progress.begin(0, selection.chosen.iter().map(size).sum());
        let (mut kept, mut total) = (0.0, 0.0);
        let mut unchanged = Vec::new();
        for group in groups(&selection.chosen, &size) {
            progress.check()?;
            // Side by side, since one decomposition runs on one thread; written in order.
            let found: Vec<Result<Outcome>> =
                group.par_iter().map(|chosen| examine(self, &pair, chosen, fan_in_fan_out)).collect();
            for (chosen, outcome) in group.iter().zip(found) {
                match outcome? {
                    Outcome::Same => unchanged.push(chosen.module.clone()),
                    Outcome::Whole => draft.take(chosen),
                    Outcome::Factors(change) => {
                        kept += change.factors.energy * change.norm * change.norm;
                        total += change.norm * change.norm;
                        draft.add(&chosen.module, &change)?;
                    }
                }
                progress.add(size(chosen));
            }
        }
        if draft.modules.is_empty() && draft.whole.is_empty() {
            let differences = "no chosen module differs, so there is nothing to extract".to_owned();
            return Err(Error::Mismatch { differences });
        }
        let mut warnings = selection.warnings;
        if draft.modules.is_empty() {
            warnings.push("no module has factors; loaders may refuse an adapter without any".to_owned());
        }
        let tied = config.get("tie_word_embeddings").is_some_and(|tied| tied == true);
        let changed = |at: &Chosen| at.vocabulary && !unchanged.contains(&at.module);
        if tied && selection.chosen.iter().any(changed) {
            warnings.push(
                "the embeddings are also the output head; PEFT changes only one of the two unless its \
                 `ensure_weight_tying` is set, merging here changes both"
                    .to_owned(),
            );
        }
        let all = tuned.tensors().iter().filter_map(|t| t.name.strip_suffix(".weight"));
        let adapter = draft.config(base_name, &config, fan_in_fan_out, &all.collect::<Vec<_>>());
        model::write_json(&folder.file("adapter_config.json"), &adapter)?;
        let readme = draft.readme(base_name, tuned_name);
        model::write_text(&folder.file("README.md"), readme.as_bytes())?;
        let (bytes, parameters) = draft.write(&pair, &folder.file("adapter_model.safetensors"))?;
        let report = ExtractReport {
            r: draft.rank(),
            saved: draft.whole.iter().map(|&at| tuned.tensors()[at].name.clone()).collect(),
            energy: if total > 0.0 { kept / total } else { 1.0 },
            modules: std::mem::take(&mut draft.modules),
            unchanged,
            skipped: selection.skipped,
            parameters,
            bytes,
            warnings,
        };
        draft.discard()?;
        folder.finish()?;
        Ok(report)
    }

    fn check(&self) -> Result<()> {
        let refuse = |field: &str, must: &str, value: String| {
            Err(Error::Core(mtl_core::Error::config(field, must, value)))
        };
        if self.max_rank == 0 {
            return refuse("max_rank", "at least 1", "0".into());
        }
        if let Some(energy) = self.energy.filter(|e| !(*e > 0.0 && *e <= 1.0)) {
            return refuse("energy", "in (0, 1]", energy.to_string());
        }
        if !(self.sv_epsilon >= 0.0 && self.sv_epsilon.is_finite()) {
            return refuse("sv_epsilon", "at least 0 and finite", self.sv_epsilon.to_string());
        }
        if cfg!(not(feature = "spectral")) {
            return Err(Error::Feature { what: "extract-lora", feature: "spectral" });
        }
        Ok(())
    }
}

/// The two models.
pub(super) struct Pair<'s> {
    base: &'s dyn Source,
    tuned: &'s dyn Source,
}

impl Pair<'_> {
    fn bytes(&self, tuned: usize) -> u64 {
        let meta = &self.tuned.tensors()[tuned];
        (meta.numel() * meta.dtype.size()) as u64
    }

    /// Elements `span` of a tensor of the fine-tuned model.
    fn read(source: &dyn Source, tensor: usize, span: Range<usize>, out: &mut [f64]) -> Result<()> {
        if source.read(tensor, span, out)? { Ok(()) } else { Err(non_finite(source, tensor)?) }
    }

    /// The fine-tuned tensor minus the base's.
    fn difference(&self, (tuned, base): (usize, usize)) -> Result<Vec<f64>> {
        let mut out = vec![0.0; self.tuned.tensors()[tuned].numel()];
        out.par_chunks_mut(BLOCK).enumerate().try_for_each(|(i, out)| {
            let span = i * BLOCK..i * BLOCK + out.len();
            let mut before = vec![0.0; out.len()];
            Self::read(self.base, base, span.clone(), &mut before)?;
            Self::read(self.tuned, tuned, span, out)?;
            out.iter_mut().zip(&before).for_each(|(out, x)| *out -= x);
            Ok::<(), Error>(())
        })?;
        Ok(out)
    }

    /// Whether the fine-tuned tensor is the base's.
    fn same(&self, (tuned, base): (usize, usize)) -> Result<bool> {
        let meta = &self.tuned.tensors()[tuned];
        if meta.shape != self.base.tensors()[base].shape {
            return Ok(false);
        }
        let n = meta.numel();
        let blocks: Vec<usize> = (0..n).step_by(BLOCK).collect();
        let same = blocks.into_par_iter().map(|start| {
            let len = BLOCK.min(n - start);
            let (mut before, mut after) = (vec![0.0; len], vec![0.0; len]);
            Self::read(self.base, base, start..start + len, &mut before)?;
            Self::read(self.tuned, tuned, start..start + len, &mut after)?;
            Ok(before == after)
        });
        same.try_reduce(|| true, |a, b| Ok(a && b))
    }
}

/// What becomes of a module.
enum Outcome {
    /// It does not differ.
    Same,
    /// It is taken as it is.
    Whole,
    Factors(Change),
}

/// The change of a module, in factors.
pub(super) struct Change {
    embedding: bool,
    /// The weight is `(B A)ᵀ`.
    flip: bool,
    shape: [usize; 2],
    factors: Factors,
    bias: Option<Vec<f64>>,
    norm: f64,
}

/// Modules to work on side by side: as many as there are threads, and no more than fit into the memory for it.
fn groups<'c>(chosen: &'c [Chosen], size: &impl Fn(&Chosen) -> u64) -> Vec<&'c [Chosen]> {
    /// Bytes of weights in work at a time; a decomposition takes about ten times as much for half precision.
    const BUDGET: u64 = 256 << 20;
    let threads = rayon::current_num_threads();
    let (mut groups, mut start, mut sum) = (Vec::new(), 0, 0);
    for (i, one) in chosen.iter().enumerate() {
        if i > start && (i - start >= threads || sum + size(one) > BUDGET) {
            groups.push(&chosen[start..i]);
            (start, sum) = (i, 0);
        }
        sum += size(one);
    }
    groups.push(&chosen[start..]);
    groups
}

fn examine(options: &ExtractLora, pair: &Pair<'_>, chosen: &Chosen, transposed: bool) -> Result<Outcome> {
    let (embedding, weight) = match (chosen.form, chosen.weight) {
        (Form::Factors { embedding }, Some(weight)) => (embedding, weight),
        _ => {
            for places in chosen.weight.into_iter().chain(chosen.bias) {
                if !pair.same(places)? {
                    return Ok(Outcome::Whole);
                }
            }
            return Ok(Outcome::Same);
        }
    };
    let meta = &pair.tuned.tensors()[weight.0];
    let &[rows, cols] = meta.shape.as_slice() else { return Ok(Outcome::Whole) };
    let flip = embedding || transposed;
    let difference = pair.difference(weight)?;
    let bias = chosen.bias.map(|bias| pair.difference(bias)).transpose()?;
    let bias = bias.filter(|bias| bias.iter().any(|&x| x != 0.0));
    let square: f64 = difference.iter().map(|x| x * x).sum();
    let mut factors = Factors { rank: 0, left: Vec::new(), right: Vec::new(), energy: 1.0 };
    if square > 0.0 {
        factors = factor::factor(options, &meta.name, (rows, cols), &difference, flip)?;
    }
    if factors.rank == 0 {
        if bias.is_none() {
            return Ok(Outcome::Same);
        }
        // A bias is part of B: an empty change of the weight has to go with it.
        let energy = if square > 0.0 { 0.0 } else { 1.0 };
        factors = Factors { rank: 1, left: vec![0.0; rows], right: vec![0.0; cols], energy };
    }
    let (shape, norm) = ([rows, cols], square.sqrt());
    Ok(Outcome::Factors(Change { embedding, flip, shape, factors, bias, norm }))
}

#[cfg(all(test, feature = "spectral"))]
mod tests;
