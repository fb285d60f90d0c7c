//! Parameters of merge methods: declared by the method, given by the recipe, resolved per tensor.
mod resolve;
mod spec;
mod value;

pub use resolve::Resolved;
pub(crate) use resolve::{Levels, Place, resolve};
pub use spec::{COUNT, FINITE, NON_NEGATIVE, POSITIVE, ParamKind, ParamSpec, Preset, Range, SHARE};
pub use value::{Filtered, ParamValue, Params};
