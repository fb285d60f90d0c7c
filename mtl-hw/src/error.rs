//! The crate's error type.

/// What can go wrong while a board, a graph, a routing trace or a cost is read or computed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HwError {
    /// A value is outside its accepted range.
    #[error("`{field}` must be {must}, but is {value}")]
    Config {
        /// The key or argument, as a path where it is nested.
        field: String,
        /// What was expected.
        must: String,
        /// What was found.
        value: String,
    },
    /// TOML or JSON text does not describe the expected object.
    #[error("{what}: `{path}`: {reason}")]
    Parse {
        /// The kind of object that was read.
        what: &'static str,
        /// The key at which reading stopped.
        path: String,
        /// The parser's message, first line.
        reason: String,
    },
    /// An object cannot be written as text.
    #[error("{what} cannot be written: {reason}")]
    Write {
        /// The kind of object.
        what: &'static str,
        /// The serialiser's message.
        reason: String,
    },
    /// No built-in of that name.
    #[error("unknown {kind} `{name}`; {hint}")]
    Unknown {
        /// What was looked up.
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// The nearest name, or all of them.
        hint: String,
    },
    /// A product or sum does not fit in 64 bits.
    #[error("`{what}` does not fit in 64 bits; check the dimensions")]
    Overflow {
        /// The quantity.
        what: String,
    },
    /// A routing decision contradicts the layer it belongs to.
    #[error("routing of layer `{layer}`: {reason}")]
    Routing {
        /// The layer's identifier.
        layer: String,
        /// What was expected and found.
        reason: String,
    },
    /// A routing trace holds no record of a layer, image and task.
    #[error("the routing trace has no record of layer `{layer}`, image {image}, task {task}")]
    MissingRecord {
        /// The layer's identifier.
        layer: String,
        /// The image's index.
        image: u64,
        /// The task's index.
        task: u32,
    },
    /// A schedule depends on the order of tokens, which a histogram does not keep.
    #[error(
        "layer `{layer}`: an expert cache depends on token order; give a routing trace instead of a histogram"
    )]
    NeedsTrace {
        /// The layer's identifier.
        layer: String,
    },
    /// A routing trace cannot be read or written.
    #[error("routing trace, line {line}: {reason}")]
    Trace {
        /// The line, from 1.
        line: usize,
        /// What was expected and found.
        reason: String,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = HwError> = std::result::Result<T, E>;

impl HwError {
    /// A [`HwError::Config`] from anything printable.
    pub(crate) fn config(
        field: impl Into<String>,
        must: impl Into<String>,
        value: impl std::fmt::Display,
    ) -> Self {
        Self::Config { field: field.into(), must: must.into(), value: value.to_string() }
    }

    /// Prepends the path of the object that holds the offending key.
    pub(crate) fn within(self, prefix: &str) -> Self {
        match self {
            Self::Config { field, must, value } => {
                Self::Config { field: format!("{prefix}.{field}"), must, value }
            }
            Self::Overflow { what } => Self::Overflow { what: format!("{prefix}.{what}") },
            other => other,
        }
    }
}
