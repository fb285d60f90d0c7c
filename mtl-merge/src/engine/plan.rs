//! What is done with each tensor, settled before any output exists.
use super::{align::align, source::Source};
use crate::{Base, Error, FloatType, MergeMethod, Recipe, Resolved, Result, Work};
use mtl_core::{Seed, params::Dtype};

/// A merge that is ready to run.
pub(crate) struct Plan<'a> {
    pub(crate) method: &'static dyn MergeMethod,
    pub(crate) params: Resolved,
    pub(crate) seed: Seed,
    /// Whether the first source is the method's base.
    pub(crate) has_base: bool,
    pub(crate) sources: Vec<&'a dyn Source>,
    pub(crate) tensors: Vec<Planned>,
}

/// One tensor of the output.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) numel: usize,
    /// Type in the output.
    pub(crate) dtype: Dtype,
    pub(crate) action: Action,
    /// Position of the tensor in each source.
    pub(crate) places: Vec<usize>,
}

/// How a tensor comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// By the merge method, in this type.
    Merge(FloatType),
    /// As it is in the first source, which all others must equal.
    Copy,
}

impl FloatType {
    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::Bf16,
        }
    }
}

impl<'a> Plan<'a> {
    /// Compares the checkpoints and settles the type of every tensor; the base comes first in `sources`.
    pub(crate) fn new(
        recipe: &Recipe,
        method: &'static dyn MergeMethod,
        params: Resolved,
        sources: Vec<&'a dyn Source>,
    ) -> Result<Self> {
        let has_base = uses_base(recipe, method);
        let out_dtype = recipe.out_dtype.or(recipe.dtype);
        let mut tensors = Vec::new();
        for (meta, places) in align(&sources)? {
            let action = match meta.dtype.is_float() {
                true => Action::Merge(match out_dtype {
                    Some(dtype) => dtype,
                    None => common_type(&meta.name, &sources, &places)?,
                }),
                false => Action::Copy,
            };
            let dtype = match action {
                Action::Merge(float) => float.dtype(),
                Action::Copy => meta.dtype,
            };
            let numel = meta.numel();
            tensors.push(Planned { name: meta.name, shape: meta.shape, numel, dtype, action, places });
        }
        // The order in which safetensors files align every tensor: larger elements first, then by name.
        tensors
            .sort_by(|a: &Planned, b| b.dtype.size().cmp(&a.dtype.size()).then_with(|| a.name.cmp(&b.name)));
        Ok(Self { method, params, seed: recipe.seed, has_base, sources, tensors })
    }

    /// Whether tensors may be cut into pieces.
    pub(crate) fn divisible(&self) -> bool {
        self.method.spec().work == Work::Elements
    }
}

/// Whether the method reads the recipe's base as such.
pub(crate) fn uses_base(recipe: &Recipe, method: &dyn MergeMethod) -> bool {
    recipe.base.is_some() && method.spec().base != Base::Unused
}

/// The narrowest type that holds the values of every source exactly, float8 rising to float16 or bfloat16.
fn common_type(name: &str, sources: &[&dyn Source], places: &[usize]) -> Result<FloatType> {
    let mut common: Option<FloatType> = None;
    for (source, &place) in sources.iter().zip(places) {
        let own = match source.tensors()[place].dtype {
            Dtype::F32 => FloatType::F32,
            Dtype::F16 | Dtype::F8E4M3 => FloatType::F16,
            Dtype::Bf16 | Dtype::F8E5M2 => FloatType::Bf16,
            other => {
                return Err(Error::Precision {
                    tensor: name.to_owned(),
                    file: source.place(place),
                    dtype: other.to_string(),
                });
            }
        };
        common = match common {
            None => Some(own),
            Some(earlier) if earlier == own => common,
            Some(_) => Some(FloatType::F32),
        };
    }
    Ok(common.unwrap_or(FloatType::F32))
}
