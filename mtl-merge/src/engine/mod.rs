//! Runs recipes: on files by streaming, in memory for studies.
use crate::{Error, HostTensor, MergeMethod, Methods, Recipe, Result, TensorMap, recipe::no_repeats};
use mtl_core::params::{ParamSpec, ParamWriter};
use plan::{Action, Plan};
use source::{FileSource, MapSource, Source};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

pub(crate) mod align;
mod plan;
mod run;
pub(crate) mod source;

pub(crate) use run::{largest_bits, non_finite};

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
}

impl Default for Engine {
    /// The methods of this crate, the current rayon pool, 64 MiB.
    fn default() -> Self {
        Self { methods: Methods::default(), threads: None, max_memory_mib: 64 }
    }
}

/// What a finished merge did.
#[derive(Debug, Clone, PartialEq, Eq)]
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

    /// Sets the size of the buffers in MiB, mapped input files apart.
    ///
    /// Methods that work element by element keep to it, whatever the size of tensors. One that needs whole tensors
    /// takes at least the largest tensor's inputs.
    #[must_use]
    pub fn max_memory_mib(mut self, mib: usize) -> Self {
        self.max_memory_mib = mib;
        self
    }

    /// Merges the checkpoints that the recipe names into the safetensors file `out`.
    ///
    /// `out` appears complete or not at all; a file that is there stays until the new one replaces it.
    ///
    /// # Errors
    ///
    /// Those of [`Recipe::validate`]; [`Error::Open`] for a checkpoint that is missing or damaged;
    /// [`Error::Mismatch`], [`Error::Precision`] and [`Error::NotMergeable`] for checkpoints that do not fit together;
    /// [`Error::NonFinite`] and [`Error::Overflow`] for values; [`Error::Core`] when `out` cannot be written.
    pub fn run(&self, recipe: &Recipe, out: &Path) -> Result<MergeReport> {
        let (method, params) = recipe.resolve(&self.methods)?;
        let files = open(recipe, method)?;
        let sources = files.iter().map(|file| file as &dyn Source).collect();
        let plan = Plan::new(recipe, method, params, sources)?;
        tracing::debug!(
            method = recipe.method,
            tensors = plan.tensors.len(),
            "merging into {}",
            out.display()
        );
        self.write(&plan, out)?;
        Ok(report(&plan))
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
        let (method, params) = recipe.resolve(&self.methods)?;
        let maps = sources_in_memory(recipe, method, base, models)?;
        let sources = maps.iter().map(|map| map as &dyn Source).collect();
        self.collect(&Plan::new(recipe, method, params, sources)?)
    }

    fn write(&self, plan: &Plan<'_>, out: &Path) -> Result<()> {
        let specs: Vec<ParamSpec> =
            plan.tensors.iter().map(|t| ParamSpec::new(&t.name, t.dtype, t.shape.as_slice())).collect();
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let mut writer = ParamWriter::create(out, &specs, &metadata)?;
        self.execute(plan, &mut |tensor, bytes, _| Ok(writer.write_part(&specs[tensor].name, bytes)?))?;
        Ok(writer.finish()?)
    }

    fn collect(&self, plan: &Plan<'_>) -> Result<TensorMap> {
        let mut merged = TensorMap::new();
        let mut values = Vec::new();
        self.execute(plan, &mut |tensor, bytes, last| {
            let planned = &plan.tensors[tensor];
            let start = values.len();
            values.resize(start + bytes.len() / planned.dtype.size(), 0.0);
            mtl_core::params::convert::to_f32(planned.dtype, bytes, &mut values[start..])?;
            if last {
                let tensor = HostTensor::new(planned.shape.clone(), std::mem::take(&mut values))?;
                merged.insert(planned.name.clone(), tensor);
            }
            Ok(())
        })?;
        Ok(merged)
    }

    fn execute(&self, plan: &Plan<'_>, sink: &mut run::Sink<'_>) -> Result<()> {
        let budget = self.max_memory_mib.saturating_mul(1 << 20);
        let Some(threads) = self.threads else { return run::run(plan, budget, sink) };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Error::Threads { threads, message: e.to_string() })?;
        pool.install(|| run::run(plan, budget, sink))
    }
}

/// Opens the base, if the method reads one, and then the models.
fn open(recipe: &Recipe, method: &dyn MergeMethod) -> Result<Vec<FileSource>> {
    let base = recipe.base.as_deref().filter(|_| plan::uses_base(recipe, method));
    let named = base.map(|path| ("base_model".to_owned(), path)).into_iter();
    let models = recipe.models.iter().enumerate().map(|(i, m)| (format!("models[{i}]"), m.model.as_str()));
    let mut files = Vec::new();
    let mut real: Vec<PathBuf> = Vec::new();
    for (role, path) in named.chain(models) {
        let path = Path::new(path);
        let open = FileSource::open(path);
        files.push(open.map_err(|source| Error::Open { role, source })?);
        real.push(path.canonicalize().unwrap_or_else(|_| path.to_owned()));
    }
    let real: Vec<&Path> = real.iter().map(PathBuf::as_path).collect();
    match base.and(real.split_first()) {
        Some((base, models)) => no_repeats(Some(base), models)?,
        None => no_repeats(None, &real)?,
    }
    Ok(files)
}

fn sources_in_memory<'m>(
    recipe: &Recipe,
    method: &dyn MergeMethod,
    base: Option<&'m TensorMap>,
    models: &[&'m TensorMap],
) -> Result<Vec<MapSource<'m>>> {
    let needs_base = plan::uses_base(recipe, method);
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
    let base = base.map(|map| MapSource::new(recipe.base.as_deref().unwrap_or("base"), map));
    let models = recipe.models.iter().zip(models).map(|(entry, map)| MapSource::new(&*entry.model, map));
    Ok(base.into_iter().chain(models).collect())
}

fn report(plan: &Plan<'_>) -> MergeReport {
    let size = |numel: usize, dtype: mtl_core::params::Dtype| (numel * dtype.size()) as u64;
    let read = plan.tensors.iter().flat_map(|t| {
        plan.sources
            .iter()
            .zip(&t.places)
            .map(move |(source, &place)| size(t.numel, source.tensors()[place].dtype))
    });
    MergeReport {
        tensors: plan.tensors.len(),
        copied: plan.tensors.iter().filter(|t| t.action == Action::Copy).count(),
        elements: plan.tensors.iter().map(|t| t.numel as u64).sum(),
        bytes_written: plan.tensors.iter().map(|t| size(t.numel, t.dtype)).sum(),
        bytes_read: read.sum(),
    }
}
