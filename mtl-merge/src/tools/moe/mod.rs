//! Mixtures of experts out of dense models of one architecture: attention, norms and embeddings of the base, the
//! perceptrons of the experts, and a router made from prompts.
//!
//! Named after and compatible with `mergekit-moe` (Goddard et al., *Arcee's MergeKit*, arXiv 2403.13257); sparse
//! upcycling (Komatsuzaki et al., arXiv 2212.05055) is the case of one model, random gates and noise.
//!
//! # Departures
//!
//! In mode `hidden_avg` mergekit averages over padding as well, so that a prompt's state depends on the others' lengths;
//! here each prompt counts with its own tokens. States are computed in `f32`, not `bf16`.
mod arch;
mod config;
mod gates;
mod llama;
mod noise;
mod plan;
mod prompts;

use super::{folder::NewFolder, model, shards};
use crate::{Error, FloatType, Progress, Result, engine::source::Source};
pub use arch::Architecture;
pub use config::{Expert, GateMode, MoeConfig, Prompt};
use mtl_core::params::Dtype;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, path::Path};

/// Builds a mixture of experts.
///
/// ```no_run
/// use mtl_merge::tools::moe::{MoeBuilder, MoeConfig};
///
/// let config = MoeConfig::read("moe.yml".as_ref())?;
/// let report = MoeBuilder::new(config).run("models/mixture".as_ref())?;
/// println!("{} with {} tensors", report.architecture.name(), report.tensors);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MoeBuilder {
    config: MoeConfig,
    shard_bytes: u64,
    allow_same: bool,
    fused: bool,
    overwrite: bool,
}

/// What a mixture consists of.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct MoeReport {
    /// Architecture of the output.
    pub architecture: Architecture,
    /// Experts per layer, without the shared one.
    pub experts: usize,
    /// Layers.
    pub layers: usize,
    /// Tensors.
    pub tensors: usize,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// Numbers that take part in the computation of one token.
    pub active_parameters: u64,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Names of the files with tensors; empty when nothing was written.
    pub files: Vec<String>,
    /// Remarks.
    pub warnings: Vec<String>,
}

/// The models of a mixture, opened once each.
struct Models {
    /// By name, as the configuration has it.
    sources: BTreeMap<String, Box<dyn Source>>,
    base_config: Map<String, Value>,
    architecture: Architecture,
    float: FloatType,
}

impl MoeBuilder {
    /// A builder with shards of 5 GB.
    #[must_use]
    pub fn new(config: MoeConfig) -> Self {
        Self { config, shard_bytes: 5_000_000_000, allow_same: false, fused: false, overwrite: false }
    }

    /// Sets the size up to which tensors share a file, in bytes; 0 means one file.
    #[must_use]
    pub fn shard_bytes(mut self, bytes: u64) -> Self {
        self.shard_bytes = bytes;
        self
    }

    /// Accepts experts that are all the same model, for a mixture that is to be trained.
    #[must_use]
    pub fn allow_same(mut self, allow: bool) -> Self {
        self.allow_same = allow;
        self
    }

    /// Writes the experts of a layer as one tensor, `experts.gate_up_proj` and `experts.down_proj`, as transformers 5
    /// keeps them in memory, instead of one per expert, which every version reads.
    #[must_use]
    pub fn fused(mut self, fused: bool) -> Self {
        self.fused = fused;
        self
    }

    /// Replaces an output folder that has content.
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Checks configuration, models and prompts as [`MoeBuilder::run`] does; gives what it would write. The router is
    /// not computed.
    ///
    /// # Errors
    ///
    /// As [`MoeBuilder::run`], without those of values and of writing.
    pub fn check(&self) -> Result<MoeReport> {
        self.config.validate(self.allow_same)?;
        let models = self.open()?;
        let (plan, _) = self.plan(&models)?;
        Ok(self.report(&plan, &models))
    }

    /// Builds the mixture in the folder `out`, which appears complete or not at all.
    ///
    /// # Errors
    ///
    /// Those of [`MoeConfig::validate`]; [`Error::Open`] and [`Error::Mismatch`] for models that are missing, damaged or
    /// do not fit together; [`Error::Recipe`] for prompts and architectures that do not work; [`Error::NonFinite`] and
    /// [`Error::Overflow`] for values; [`Error::Core`] when `out` cannot be written.
    pub fn run(&self, out: &Path) -> Result<MoeReport> {
        self.run_watched(out, &Progress::default())
    }

    /// As [`MoeBuilder::run`], watched and stopped from another thread.
    ///
    /// # Errors
    ///
    /// As [`MoeBuilder::run`], and [`Error::Interrupted`].
    pub fn run_watched(&self, out: &Path, progress: &Progress) -> Result<MoeReport> {
        let config = &self.config;
        config.validate(self.allow_same)?;
        let models = self.open()?;
        let (mut plan, prompts) = self.plan(&models)?;
        let folder = NewFolder::create(out, self.overwrite)?;
        let base = models.base(config)?;
        let gates = gates::gates(
            config,
            base,
            &models.base_config,
            &prompts.places,
            &prompts.encoded,
            (plan.layers, plan.sizes.hidden),
        )?;
        let n = config.experts.len();
        let routed: gates::Gates = gates.iter().map(|rows| rows[..n].to_vec()).collect();
        plan.warnings.extend(gates::degenerate(&routed));
        plan.route(&gates, n);
        let mut report = self.report(&plan, &models);
        let settings = models.architecture.config(&models.base_config, config, models.float, plan.sizes);
        model::write_json(&folder.file("config.json"), &settings)?;
        model::copy_companions(&model::folder(&config.base_model), folder.path())?;
        model::write_json(&folder.file("mtl_moe_config.json"), config)?;
        model::write_text(&folder.file("README.md"), self.readme(&report).as_bytes())?;
        report.files = shards::write(&folder, &plan.outputs, self.shard_bytes, progress)?;
        drop(plan);
        folder.finish()?;
        Ok(report)
    }

    fn open(&self) -> Result<Models> {
        let config = &self.config;
        let mut sources = BTreeMap::new();
        let mut types = Vec::new();
        let named = std::iter::once(("base_model".to_owned(), &config.base_model))
            .chain(config.all().map(|(place, e)| (format!("{place}.source_model"), &e.source_model)));
        for (role, name) in named {
            if sources.contains_key(name) {
                continue;
            }
            sources.insert(name.clone(), model::open(&role, name)?);
            let kind = model::config(name)?.get("model_type").and_then(Value::as_str).map(str::to_owned);
            types.push(kind.unwrap_or_else(|| "none".into()));
        }
        let base_config = model::config(&config.base_model)?;
        let architecture = Architecture::choose(config, &types)?;
        if self.fused && !architecture.can_fuse() {
            let message = format!("{} has no fused layout of experts", architecture.name());
            return Err(Error::Recipe { path: "architecture".into(), message });
        }
        let stated = ["torch_dtype", "dtype"].iter().find_map(|key| base_config.get(*key));
        let stated = stated.and_then(|value| serde_json::from_value(value.clone()).ok());
        let mut models = Models { sources, base_config, architecture, float: FloatType::F32 };
        models.float = match config.dtype.or(stated) {
            Some(float) => float,
            None => models.stored(config)?,
        };
        Ok(models)
    }

    /// What is to be written, without the router's values, and the prompts that it will be made from.
    fn plan<'m>(&self, models: &'m Models) -> Result<(plan::Plan<'m>, Prompts)> {
        let config = &self.config;
        let plan = plan::Plan::new(config, models, self.fused)?;
        if matches!(config.gate_mode, GateMode::Hidden | GateMode::HiddenAvg) {
            llama::Llama::new(models.base(config)?, &models.base_config)?; // Refused before anything is computed.
        }
        if !config.gate_mode.is_random() && plan.vocabulary == 0 {
            let differences = "the base has no `model.embed_tokens.weight` to look prompts up in".to_owned();
            return Err(Error::Mismatch { differences });
        }
        let prompted = config.shared().iter().any(|e| !e.positive_list().is_empty());
        let gated = models.architecture.gates_shared(config.gate_mode, prompted);
        let count = config.experts.len() + if gated { config.shared().len() } else { 0 };
        let experts: Vec<(String, &Expert)> = config.all().take(count).collect();
        let encoded = match config.gate_mode.is_random() {
            true => Vec::new(),
            false => prompts::encode(config, &experts, plan.vocabulary)?,
        };
        Ok((plan, Prompts { places: experts.into_iter().map(|(place, _)| place).collect(), encoded }))
    }

    fn report(&self, plan: &plan::Plan<'_>, models: &Models) -> MoeReport {
        let parameters: u64 = plan.outputs.iter().map(|o| o.shape.iter().product::<usize>() as u64).sum();
        let expert = (3 * plan.layers * plan.sizes.hidden * plan.sizes.inner) as u64;
        let idle = (self.config.experts.len() - self.config.experts_per_token) as u64;
        MoeReport {
            architecture: models.architecture,
            experts: self.config.experts.len(),
            layers: plan.layers,
            tensors: plan.outputs.len(),
            parameters,
            active_parameters: parameters - idle * expert,
            bytes: parameters * models.float.dtype().size() as u64,
            files: Vec::new(),
            warnings: plan.warnings.clone(),
        }
    }

    /// The model's page.
    fn readme(&self, report: &MoeReport) -> String {
        let config = &self.config;
        let mode = json!(config.gate_mode);
        let rows: String =
            config.all().map(|(place, e)| format!("| {place} | `{}` |\n", e.source_model)).collect();
        format!(
            "---\nbase_model: {}\nlibrary_name: transformers\ntags:\n- moe\n- mtl-merge\n---\n# Mixture of experts\n\n\
             {} with {} experts per layer, of which every token passes {}: {:.2} billion parameters, {:.2} billion of them \
             active. Built with `mtl-merge moe`, gate mode {mode}; `mtl_moe_config.json` is the configuration.\n\n\
             | part | model |\n|---|---|\n| base | `{}` |\n{rows}",
            config.base_model,
            report.architecture.name(),
            report.experts,
            config.experts_per_token,
            report.parameters as f64 / 1e9,
            report.active_parameters as f64 / 1e9,
            config.base_model,
        )
    }
}

/// Prompts of the experts that get a row of a gate, and their places in the configuration.
struct Prompts {
    places: Vec<String>,
    encoded: Vec<prompts::Encoded>,
}

impl Models {
    fn source(&self, name: &str) -> Result<&dyn Source> {
        let missing = || Error::Mismatch { differences: format!("model `{name}` was not opened") };
        self.sources.get(name).map(|source| &**source).ok_or_else(missing)
    }

    fn base(&self, config: &MoeConfig) -> Result<&dyn Source> {
        self.source(&config.base_model)
    }

    /// Type in which the base's first floating-point tensor is stored.
    fn stored(&self, config: &MoeConfig) -> Result<FloatType> {
        let first = self.base(config)?.tensors().iter().find_map(|t| match t.dtype {
            Dtype::F32 => Some(FloatType::F32),
            Dtype::F16 => Some(FloatType::F16),
            Dtype::Bf16 => Some(FloatType::Bf16),
            Dtype::F64 => Some(FloatType::F64),
            _ => None,
        });
        let message = "is in no `config.json` and cannot be read off the base; give it".to_owned();
        first.ok_or(Error::Recipe { path: "dtype".into(), message })
    }
}

#[cfg(test)]
mod tests;
