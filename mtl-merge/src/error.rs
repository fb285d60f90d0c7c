//! The error type of the crate.
use crate::recipe::place;
use std::path::PathBuf;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can be wrong with a recipe or with the checkpoints it names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No merge method of that name is registered.
    #[error("unknown merge method `{name}`{}", did_you_mean(.similar))]
    UnknownMethod {
        /// Name that was asked for.
        name: String,
        /// Nearest known name.
        similar: Option<String>,
    },
    /// The method has no such parameter.
    #[error("{path}: method `{method}` has no parameter `{parameter}`{}", did_you_mean(.similar))]
    UnknownParameter {
        /// Where in the recipe, such as `models[1].parameters`.
        path: String,
        /// Method of the recipe.
        method: String,
        /// Name that was given.
        parameter: String,
        /// Nearest known name.
        similar: Option<String>,
    },
    /// A parameter of the whole merge was given to a single model.
    #[error("{path}: `{parameter}` concerns the whole merge; move it to the recipe's `parameters`")]
    SharedParameter {
        /// Where in the recipe.
        path: String,
        /// The parameter.
        parameter: String,
    },
    /// A parameter without a default has no value.
    #[error("method `{method}` requires `{parameter}`{} (tensor `{tensor}`)", of_model(.model))]
    MissingParameter {
        /// Method of the recipe.
        method: String,
        /// The parameter.
        parameter: String,
        /// Model that lacks it, if models may have their own.
        model: Option<String>,
        /// Tensor that lacks it.
        tensor: String,
    },
    /// A parameter's value is of the wrong type or outside its range.
    #[error("{path} must be {must}, but is {found}")]
    Parameter {
        /// Where in the recipe, such as `models[0].parameters.weight`.
        path: String,
        /// What is accepted, in words.
        must: String,
        /// The value given.
        found: String,
    },
    /// A method asked for a parameter that its own spec does not declare.
    #[error("method `{method}` reads parameter `{parameter}`, which its spec does not declare as {kind}")]
    Undeclared {
        /// The method.
        method: String,
        /// The parameter.
        parameter: String,
        /// `a number`, `a flag` or `a number per model`.
        kind: &'static str,
    },
    /// The method needs a base model and the recipe has none.
    #[error("method `{method}` needs a `base_model`, but the recipe has none")]
    MissingBase {
        /// The method.
        method: String,
    },
    /// Too few or too many models.
    #[error("{path}: method `{method}` takes {expected}, but there {} {found}", if *.found == 1 { "is" } else { "are" })]
    ModelCount {
        /// Where in the recipe.
        path: String,
        /// The method.
        method: String,
        /// Accepted count, in words.
        expected: String,
        /// Models in the recipe.
        found: usize,
    },
    /// One checkpoint takes two parts in the merge.
    #[error("{second} repeats {first}: `{model}`")]
    DuplicateModel {
        /// The checkpoint.
        model: String,
        /// Its first mention, such as `models[0]` or `base_model`.
        first: String,
        /// The second mention.
        second: String,
    },
    /// An average whose weights cancel.
    #[error(
        "`weight` sums to {sum:e} over the models, so `{method}` cannot normalize; change a weight or set `normalize` to false"
    )]
    ZeroSum {
        /// The method.
        method: String,
        /// Sum of the weights.
        sum: f64,
    },
    /// In-memory inputs that do not correspond to the recipe.
    #[error("the recipe has {expected}, but {found} in memory")]
    Inputs {
        /// What the recipe names.
        expected: String,
        /// What was given.
        found: String,
    },
    /// Checkpoints whose tensors do not correspond.
    #[error("the checkpoints do not fit together: {differences}")]
    Mismatch {
        /// The differences, the first ten in full.
        differences: String,
    },
    /// A tensor's values and its shape disagree.
    #[error("a tensor of shape {shape:?} has {expected} values, but {found} were given")]
    Shape {
        /// Shape given.
        shape: Vec<usize>,
        /// Product of the shape.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A NaN or an infinity in an input.
    #[error("`{tensor}` in `{file}` has {count} NaN or infinite values, the first at element {index}")]
    NonFinite {
        /// The tensor.
        tensor: String,
        /// File or in-memory name.
        file: String,
        /// First offending element in row-major order.
        index: usize,
        /// How many there are in the tensor.
        count: usize,
    },
    /// Finite inputs gave a value the output type cannot hold.
    #[error(
        "merged `{tensor}` overflows {dtype} at element {index}; choose a wider `out_dtype` or smaller weights"
    )]
    Overflow {
        /// The tensor.
        tensor: String,
        /// Output type.
        dtype: &'static str,
        /// First offending element in row-major order.
        index: usize,
    },
    /// An integer tensor that is not the same in every checkpoint.
    #[error(
        "`{tensor}` holds {dtype}, which can only be copied, but differs between `{first}` and `{second}`"
    )]
    NotMergeable {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
        /// File the value would be copied from.
        first: String,
        /// File that disagrees.
        second: String,
    },
    /// The worker threads could not be started.
    #[error("cannot start {threads} worker threads: {message}")]
    Threads {
        /// Count asked for; 0 means one per core.
        threads: usize,
        /// What the system said.
        message: String,
    },
    /// A checkpoint named in the recipe cannot be opened.
    #[error("{role}: {source}")]
    Open {
        /// `base_model` or `models[1]`.
        role: String,
        /// Cause.
        source: mtl_core::Error,
    },
    /// The recipe's parts contradict each other or the checkpoints.
    #[error("{path}: {message}")]
    Recipe {
        /// Where in the recipe.
        path: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// A tensor that the method cannot merge.
    #[error("method `{method}` cannot merge `{tensor}`: {message}")]
    Unmergeable {
        /// The method.
        method: String,
        /// The tensor.
        tensor: String,
        /// Why, and what would help.
        message: String,
    },
    /// The merge needs more memory than it may have.
    #[error(
        "`{tensor}` takes {needed_mib} MiB with method `{method}`, but the limit is {limit_mib} MiB; raise `--max-memory`"
    )]
    Memory {
        /// The method.
        method: String,
        /// The largest tensor.
        tensor: String,
        /// What it takes.
        needed_mib: usize,
        /// What is allowed.
        limit_mib: usize,
    },
    /// A LoRA adapter that cannot be applied.
    #[error("adapter `{adapter}`: {message}")]
    Adapter {
        /// Folder of the adapter.
        adapter: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// The run was asked to stop.
    #[error("interrupted; run the same command again to go on from the shards that are finished")]
    Interrupted,
    /// An error at a known line of a recipe.
    #[error("{}{error}", place(.file.as_deref(), *.line))]
    At {
        /// The recipe's file, if it was read from one.
        file: Option<PathBuf>,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong there.
        error: Box<Error>,
    },
    /// A recipe that is not YAML, JSON or TOML.
    #[error("{}{message}", file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default())]
    Syntax {
        /// The recipe's file, if it was read from one.
        file: Option<PathBuf>,
        /// What is wrong, with line and excerpt.
        message: String,
    },
    /// A key that recipes do not have, spelled nearly like one they have.
    #[error("{path}: unknown key `{key}`{}", did_you_mean(.similar))]
    UnknownKey {
        /// Where in the recipe, such as `models[0].paramters`.
        path: String,
        /// The key.
        key: String,
        /// Nearest known key.
        similar: Option<String>,
    },
    /// A checkpoint that is nowhere on this machine.
    #[error("`{model}` is not on this machine; looked for `{}`; nothing is downloaded", .looked.join("`, `"))]
    NotFound {
        /// As the recipe names it.
        model: String,
        /// Places that were looked at.
        looked: Vec<String>,
    },
    /// A file of statistics that does not suit the models.
    #[error("`{tensor}` in the {kind} statistics `{file}` {message}")]
    Statistics {
        /// The parameter that names the file.
        kind: &'static str,
        /// The entry.
        tensor: String,
        /// The file.
        file: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// A part of the crate that this build lacks.
    #[error("{what} needs the feature `{feature}`; build with `--features {feature}`")]
    Feature {
        /// What was asked for.
        what: &'static str,
        /// The cargo feature.
        feature: &'static str,
    },
    /// An error of the shared core: files, formats.
    #[error(transparent)]
    Core(#[from] mtl_core::Error),
    /// A file of a checkpoint changed after it was opened.
    #[error("`{file}` was changed while it was merged: {change}; run again when it is complete")]
    InputChanged {
        /// The file.
        file: String,
        /// What is different.
        change: String,
    },
    /// The output folder has content.
    #[error("`{out}` is not empty; choose another folder, or replace this one with `--overwrite`")]
    OutputExists {
        /// The folder.
        out: String,
    },
    /// Another run writes to the same output.
    #[error("another run is writing `{out}`; wait for it or choose another folder")]
    OutputBusy {
        /// The folder.
        out: String,
    },
    /// The output and an input overlap.
    #[error(
        "the output `{out}` is, holds or lies in the input `{model}`; choose a place outside of the inputs"
    )]
    OutputOverInput {
        /// The output.
        out: String,
        /// Name of the checkpoint in the recipe.
        model: String,
    },
    /// Checkpoints of different architectures.
    #[error(
        "`{first}` is of architecture {first_architecture}, but `{second}` of {second_architecture}; merge models of one architecture, or accept the mixture with `--allow-crimes`"
    )]
    Architectures {
        /// The base, or the first model.
        first: String,
        /// Its architecture.
        first_architecture: String,
        /// The one that differs.
        second: String,
        /// Its architecture.
        second_architecture: String,
    },
    /// A checkpoint whose numbers are no weights without their scales.
    #[error(
        "`{model}` is quantised ({quantization}), so its stored numbers are no weights; merge the original model and quantise the result"
    )]
    Quantized {
        /// Name of the checkpoint in the recipe.
        model: String,
        /// Method of quantisation.
        quantization: String,
    },
}

impl Error {
    /// The place in the recipe that the error is about, such as `models[1].parameters.weight`.
    #[must_use]
    pub fn path(&self) -> Option<String> {
        match self {
            Self::UnknownMethod { .. } | Self::MissingBase { .. } => Some("merge_method".to_owned()),
            Self::UnknownParameter { path, parameter, .. } | Self::SharedParameter { path, parameter } => {
                Some(format!("{path}.{parameter}"))
            }
            Self::Parameter { path, .. }
            | Self::ModelCount { path, .. }
            | Self::Recipe { path, .. }
            | Self::UnknownKey { path, .. } => Some(path.clone()),
            Self::DuplicateModel { second, .. } => Some(second.clone()),
            Self::Open { role, .. } => Some(role.clone()),
            Self::At { error, .. } => error.path(),
            _ => None,
        }
    }
}

fn did_you_mean(similar: &Option<String>) -> String {
    similar.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

fn of_model(model: &Option<String>) -> String {
    model.as_ref().map(|name| format!(" of every model, but `{name}` has none")).unwrap_or_default()
}
