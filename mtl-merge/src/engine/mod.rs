//! Runs recipes: on files by streaming, in memory for studies.
use crate::{
    Error, HostTensor, Methods, Recipe, Result, TensorMap,
    checkpoint::{Extras, TokenizerFiles},
    method::Survey,
};
use inputs::Opened;
use mtl_core::params::Dtype;
use open::open;
use plan::{Action, Leave, Plan};
use source::MapSource;
use std::{
    path::Path,
    sync::{Arc, Mutex},
};

pub(crate) mod align;
pub(crate) mod convert;
pub(crate) mod inputs;
pub(crate) mod layout;
pub(crate) mod lora;
mod open;
mod output;
pub(crate) mod plan;
mod remap;
mod run;
pub(crate) mod source;
pub(crate) mod vocab;

pub use run::Progress;

/// How merges run: which methods exist, how many threads, how much memory.
///
/// None of it changes the result: the output is the same to the last bit for any number of threads.
///
/// ```
/// use mtl_core::params::{ParamFile, ParamView, write_params};
/// use mtl_merge::{Engine, Recipe};
///
/// let dir = tempfile::tempdir()?;
/// let path = |name: &str| dir.path().join(name);
/// for (name, values) in [("a", [1.0, 2.0]), ("b", [3.0, 6.0])] {
///     write_params(&path(name), &Default::default(), &[ParamView::f32("w", &[2], &values)])?;
/// }
/// let recipe = Recipe::new("linear").model(path("a").to_string_lossy(), 1.0).model(path("b").to_string_lossy(), 1.0);
/// let report = Engine::default().threads(2).run(&recipe, &path("soup.safetensors"))?;
/// assert_eq!((report.tensors, report.elements), (1, 2));
/// assert_eq!(*ParamFile::open(path("soup.safetensors"))?.f32s("w")?, [2.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Engine {
    methods: Methods,
    threads: Option<usize>,
    max_memory_mib: usize,
    shard_bytes: u64,
    leave: Leave,
    overwrite: bool,
    strict: bool,
    allow_crimes: bool,
    extras: Extras,
    progress: Arc<Progress>,
}

impl Default for Engine {
    /// The methods of this crate, the current rayon pool, 256 MiB, shards of 5 GB.
    fn default() -> Self {
        Self {
            methods: Methods::default(),
            threads: None,
            max_memory_mib: 256,
            shard_bytes: 5_000_000_000,
            leave: Leave::default(),
            overwrite: false,
            strict: false,
            allow_crimes: false,
            extras: Extras::default(),
            progress: Arc::default(),
        }
    }
}

/// What a finished merge did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct MergeReport {
    /// Tensors written.
    pub tensors: usize,
    /// Tensors among them that are not floating-point and were copied.
    pub copied: usize,
    /// Elements of all tensors.
    pub elements: u64,
    /// Bytes of all tensors, as written.
    pub bytes_written: u64,
    /// Bytes of all tensors of all inputs.
    pub bytes_read: u64,
    /// Names of the files with tensors.
    pub files: Vec<String>,
    /// Files among them that an earlier, interrupted run had finished.
    pub resumed: usize,
    /// Remarks.
    pub warnings: Vec<String>,
    /// Memory that the merge takes besides mapped files, in bytes: an estimate.
    pub memory_bytes: u64,
}

impl Engine {
    /// Sets the methods that recipes can name.
    #[must_use]
    pub fn methods(mut self, methods: Methods) -> Self {
        self.methods = methods;
        self
    }

    /// Sets the number of worker threads of each run; 0 means one per core.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Sets the memory of a run in MiB, mapped input files apart.
    ///
    /// Methods that stream stay far below it, whatever the size of tensors. A method that needs whole tensors is refused
    /// when the largest does not fit.
    #[must_use]
    pub fn max_memory_mib(mut self, mib: usize) -> Self {
        self.max_memory_mib = mib;
        self
    }

    /// Sets the size from which on a shard is closed, in bytes; 0 means one file.
    #[must_use]
    pub fn shard_bytes(mut self, bytes: u64) -> Self {
        self.shard_bytes = bytes;
        self
    }

    /// Accepts NaN and infinity in inputs and results.
    #[must_use]
    pub fn allow_non_finite(mut self, allow: bool) -> Self {
        self.leave.non_finite = allow;
        self
    }

    /// Cuts embedding tables of different lengths to the shortest, instead of refusing them.
    #[must_use]
    pub fn truncate_embeddings(mut self, truncate: bool) -> Self {
        self.leave.truncate = truncate;
        self
    }

    /// Replaces an output folder that has content already.
    #[must_use]
    pub fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }

    /// Refuses recipes with keys or parameters that have no effect, instead of remarking on them.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Accepts checkpoints of different architectures.
    #[must_use]
    pub fn allow_crimes(mut self, allow: bool) -> Self {
        self.allow_crimes = allow;
        self
    }

    /// Sets whether an output folder gets the tokenizer of the base, or else of the first model; by default it does.
    #[must_use]
    pub fn copy_tokenizer(mut self, copy: bool) -> Self {
        self.extras.tokenizer = if copy { TokenizerFiles::Copy } else { TokenizerFiles::Leave };
        self
    }

    /// Sets whether an output folder gets a `README.md`; by default it does.
    #[must_use]
    pub fn model_card(mut self, card: bool) -> Self {
        self.extras.card = card;
        self
    }

    /// Sets the text of the recipe as the user wrote it, for the output folder; by default it is formed anew.
    #[must_use]
    pub fn recipe_text(mut self, text: impl Into<String>) -> Self {
        self.extras.recipe = Some(text.into());
        self
    }

    /// Watches and stops runs from another thread.
    #[must_use]
    pub fn progress(mut self, progress: Arc<Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Checks recipe and checkpoints as [`Engine::run`] does before it writes; gives what the run would do.
    ///
    /// # Errors
    ///
    /// As [`Engine::run`], without those of values and of writing.
    pub fn check(&self, recipe: &Recipe) -> Result<MergeReport> {
        let remarks = self.validate(recipe)?;
        let plan = self.plan(recipe)?;
        let mut report = self.report(&plan);
        report.warnings = [remarks, plan.warnings.take()].concat();
        Ok(report)
    }

    /// Merges the checkpoints that the recipe names into `out`: a file if its name ends in `.safetensors`, a folder in
    /// the layout of Hugging Face otherwise.
    ///
    /// `out` appears complete or not at all; what is there stays until the new replaces it. A folder also gets
    /// `config.json`, tokenizer and recipe, and when a run was interrupted the next one of the same recipe, inputs and
    /// settings goes on from the shards that are finished (in `.<name>.partial` beside the folder).
    ///
    /// # Errors
    ///
    /// Those of [`Recipe::validate`]; [`Error::Open`] for a checkpoint that is missing or damaged;
    /// [`Error::Mismatch`] and [`Error::NotMergeable`] for checkpoints that do not fit together;
    /// [`Error::Architectures`] and [`Error::Quantized`] for checkpoints that should not be merged;
    /// [`Error::NonFinite`] and [`Error::Overflow`] for values; [`Error::InputChanged`] for an input that somebody
    /// writes to; [`Error::OutputOverInput`], [`Error::OutputExists`], [`Error::OutputBusy`] for a place that is taken;
    /// [`Error::Core`] when `out` cannot be written.
    pub fn run(&self, recipe: &Recipe, out: &Path) -> Result<MergeReport> {
        let remarks = self.validate(recipe)?;
        let plan = self.plan(recipe)?;
        let mut report = self.report(&plan);
        let vocabulary = plan.vocabulary.as_ref();
        let extras =
            vocab::extras(&self.extras, recipe, &plan.opened, vocabulary).map_err(|e| recipe.explain(e))?;
        let target =
            output::Target { out, shard_bytes: self.shard_bytes, overwrite: self.overwrite, extras: &extras };
        self.install(|| output::write(&plan, recipe, &target, &self.progress, &mut report))??;
        report.warnings = [remarks, plan.warnings.take()].concat();
        Ok(report)
    }

    /// Merges tensors in memory: `models` are those of the recipe, in its order.
    ///
    /// The result is `f32`, rounded to the recipe's output type if it has one.
    ///
    /// # Errors
    ///
    /// As [`Engine::run`], and [`Error::Inputs`] when `base` and `models` are not those of the recipe.
    pub fn run_in_memory(
        &self,
        recipe: &Recipe,
        base: Option<&TensorMap>,
        models: &[&TensorMap],
    ) -> Result<TensorMap> {
        self.validate(recipe)?.iter().for_each(|remark| tracing::warn!("{remark}"));
        let opened = sources_in_memory(recipe, base, models)?;
        let plan = Plan::new(recipe, &self.methods, opened, self.leave).map_err(|e| recipe.explain(e))?;
        self.install(|| self.collect(&plan))?
    }

    /// Checks the recipe without its checkpoints; gives remarks for the report.
    fn validate(&self, recipe: &Recipe) -> Result<Vec<String>> {
        if self.strict {
            recipe.validate_strict(&self.methods)?;
            return Ok(Vec::new());
        }
        Ok(recipe.validate(&self.methods)?.iter().map(ToString::to_string).collect())
    }

    /// Opens the checkpoints and settles everything but values; errors carry the recipe's line.
    fn plan(&self, recipe: &Recipe) -> Result<Plan<'static>> {
        let explained = |error| recipe.explain(error);
        let (opened, mixture) = open(recipe, self.allow_crimes).map_err(explained)?;
        let plan = Plan::new(recipe, &self.methods, opened, self.leave).map_err(explained)?;
        mixture.into_iter().for_each(|text| plan.warnings.add(text));
        run::check_memory(&plan, self.budget())?;
        Ok(plan)
    }

    fn report(&self, plan: &Plan<'_>) -> MergeReport {
        let threads = match self.threads {
            None => rayon::current_num_threads(),
            Some(0) => std::thread::available_parallelism().map_or(1, usize::from),
            Some(threads) => threads,
        };
        report(plan, run::memory(plan, threads) as u64)
    }

    fn budget(&self) -> usize {
        self.max_memory_mib.saturating_mul(1 << 20)
    }

    fn collect(&self, plan: &Plan<'_>) -> Result<TensorMap> {
        let survey: Option<Survey> = run::survey(plan)?;
        let values: Vec<Mutex<Vec<f32>>> =
            plan.tensors.iter().map(|t| Mutex::new(vec![0.0; t.numel])).collect();
        let sink = |tensor: usize, offset: u64, bytes: &[u8]| {
            let dtype = plan.tensors[tensor].dtype;
            let Ok(mut values) = values[tensor].lock() else { return Ok(()) };
            let start = offset as usize / dtype.size();
            let span = start..start + bytes.len() / dtype.size();
            Ok(mtl_core::params::convert::to_f32(dtype, bytes, &mut values[span])?)
        };
        run::run(plan, survey.as_ref(), 0..plan.tensors.len(), &self.progress, &sink)?;
        let named = plan.tensors.iter().zip(values).map(|(planned, values)| {
            let values = values.into_inner().unwrap_or_default();
            Ok((planned.name.clone(), HostTensor::new(planned.shape.clone(), values)?))
        });
        named.collect()
    }

    fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R> {
        let Some(threads) = self.threads else { return Ok(work()) };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Error::Threads { threads, message: e.to_string() })?;
        Ok(pool.install(work))
    }
}

fn sources_in_memory<'m>(
    recipe: &Recipe,
    base: Option<&'m TensorMap>,
    models: &[&'m TensorMap],
) -> Result<Vec<Opened<'m>>> {
    let listed = |name: &str| recipe.models.iter().any(|m| m.model == name);
    let needs_base = recipe.base.as_deref().is_some_and(|base| !listed(base));
    if models.len() != recipe.models.len() || base.is_some() != needs_base {
        let say = |models: usize, base: bool| {
            format!(
                "{models} model{} and {} base",
                if models == 1 { "" } else { "s" },
                if base { "a" } else { "no" }
            )
        };
        return Err(Error::Inputs {
            expected: say(recipe.models.len(), needs_base),
            found: say(models.len(), base.is_some()),
        });
    }
    let base = base.map(|map| (recipe.base.clone().unwrap_or_default(), map));
    let models = recipe.models.iter().zip(models).map(|(entry, map)| (entry.model.clone(), *map));
    let named = base.into_iter().chain(models);
    Ok(named.map(|(name, map)| Opened::new(name.clone(), Box::new(MapSource::new(name, map)))).collect())
}

fn report(plan: &Plan<'_>, memory_bytes: u64) -> MergeReport {
    let size = |numel: usize, dtype: Dtype| (numel * dtype.size()) as u64;
    let read = plan.tensors.iter().flat_map(Plan::inputs).map(|input| {
        let meta = &plan.opened[input.model].source.tensors()[input.tensor];
        size(meta.numel(), meta.dtype)
    });
    MergeReport {
        tensors: plan.tensors.len(),
        copied: plan.tensors.iter().filter(|t| matches!(t.action, Action::Copy { .. })).count(),
        elements: plan.tensors.iter().map(|t| t.numel as u64).sum(),
        bytes_written: plan.tensors.iter().map(|t| size(t.numel, t.dtype)).sum(),
        bytes_read: read.sum(),
        files: Vec::new(),
        resumed: 0,
        warnings: Vec::new(),
        memory_bytes,
    }
}
