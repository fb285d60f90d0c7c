//! What a merge method is: a pure function of one tensor's values, run by the engine over every tensor.
use crate::{Error, ParamSpec, Resolved, Result, methods::METHODS};
use mtl_core::{Seed, registry::MethodInfo};
use rand_chacha::ChaCha8Rng;
use std::fmt::Debug;

/// Combines several versions of a tensor into one.
///
/// The engine calls [`merge`](Self::merge) once per tensor, or once per piece of a tensor where the method works
/// element by element, from many threads and in no particular order. A method therefore keeps no state between
/// calls and draws chance only from [`TensorGroup::rng`].
///
/// A method of one's own, used by name:
///
/// ```
/// use mtl_core::registry::MethodInfo;
/// use mtl_merge::{Base, Engine, HostTensor, MergeMethod, MethodSpec, Methods, Recipe, Resolved, Result, TensorGroup,
///     TensorMap, Work};
///
/// /// Keeps the value of largest magnitude.
/// #[derive(Debug)]
/// struct Loudest;
///
/// impl MergeMethod for Loudest {
///     fn spec(&self) -> &'static MethodSpec {
///         static SPEC: MethodSpec = MethodSpec {
///             info: MethodInfo { name: "loudest", paper: "none", source: "none" },
///             base: Base::Unused,
///             min_models: 1,
///             max_models: None,
///             work: Work::Elements,
///             params: &[],
///         };
///         &SPEC
///     }
///
///     fn merge(&self, group: &TensorGroup<'_>, _params: &Resolved, out: &mut [f32]) -> Result<()> {
///         for (i, out) in out.iter_mut().enumerate() {
///             *out = group.models.iter().map(|m| m[i]).fold(0.0, |a: f32, b| if b.abs() > a.abs() { b } else { a });
///         }
///         Ok(())
///     }
/// }
///
/// let engine = Engine::default().methods(Methods::default().with(&Loudest));
/// let a = TensorMap::from([("w".to_owned(), HostTensor::vector(vec![1.0, -4.0]))]);
/// let b = TensorMap::from([("w".to_owned(), HostTensor::vector(vec![-2.0, 3.0]))]);
/// let recipe = Recipe::new("loudest").input("a").input("b");
/// assert_eq!(engine.run_in_memory(&recipe, None, &[&a, &b])?["w"].data(), [-2.0, -4.0]);
/// # Ok::<(), mtl_merge::Error>(())
/// ```
pub trait MergeMethod: Debug + Send + Sync {
    /// Name, citation and needs of the method.
    fn spec(&self) -> &'static MethodSpec;

    /// Checks what the parameters must satisfy together; called once, before any tensor is read.
    ///
    /// # Errors
    ///
    /// Whatever the method finds wrong with its parameters.
    fn check(&self, params: &Resolved) -> Result<()> {
        let _ = params;
        Ok(())
    }

    /// Writes the merged values of one tensor, or of a piece of one, to `out`.
    ///
    /// All slices of `group` and `out` have the same length, and all inputs are finite.
    ///
    /// # Errors
    ///
    /// [`Error::Undeclared`] for a parameter that the spec lacks, and whatever the method cannot merge.
    fn merge(&self, group: &TensorGroup<'_>, params: &Resolved, out: &mut [f32]) -> Result<()>;
}

/// Facts about a method, and what it needs.
#[derive(Debug, Clone, Copy)]
pub struct MethodSpec {
    /// Name in recipes (mergekit's where it has the method), paper and source.
    pub info: MethodInfo,
    /// Use of the base model.
    pub base: Base,
    /// Fewest models besides the base.
    pub min_models: usize,
    /// Most models besides the base, if there is a limit.
    pub max_models: Option<usize>,
    /// What the method must see at once.
    pub work: Work,
    /// Parameters, in the order of help texts.
    pub params: &'static [ParamSpec],
}

/// What a method does with a base model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// There is none: an original model is an input like any other.
    Unused,
    /// The base changes the result if there is one.
    Optional,
    /// The method is defined relative to a base.
    Required,
}

/// What a method must see at once; decides how far the engine may cut tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Each output element depends only on the same element of the inputs.
    Elements,
    /// Norms, ranks or decompositions: the method needs whole tensors.
    Tensors,
}

/// One tensor, or a piece of one, from every checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct TensorGroup<'a> {
    /// Name of the tensor.
    pub name: &'a str,
    /// Shape of the whole tensor.
    pub shape: &'a [usize],
    /// Position of the first element given, in row-major order; 0 for whole tensors.
    pub start: usize,
    /// Values in the base model, if there is one.
    pub base: Option<&'a [f32]>,
    /// Values in the models, in the recipe's order.
    pub models: &'a [&'a [f32]],
    /// Seed of the recipe.
    pub seed: Seed,
}

impl<'a> TensorGroup<'a> {
    /// A random stream of this tensor for model number `model`, placed at the first element given.
    ///
    /// Draw exactly one 32-bit word (`f32` or `u32`) per element: then the result depends on the seed and the
    /// tensor's name alone, not on how the engine cut the tensor.
    pub fn rng(&self, purpose: &str, model: usize) -> ChaCha8Rng {
        let mut rng = self.seed.fork(self.name).stream(purpose, model as u64);
        rng.set_word_pos(self.start as u128);
        rng
    }

    /// The base's values, for methods that declare [`Base::Required`].
    ///
    /// # Errors
    ///
    /// [`Error::MissingBase`] when the group has no base.
    pub fn required_base(&self, method: &MethodSpec) -> Result<&'a [f32]> {
        self.base.ok_or_else(|| Error::MissingBase { method: method.info.name.to_owned() })
    }
}

/// The merge methods a recipe can name; those of this crate unless more are added.
///
/// ```
/// use mtl_merge::Methods;
///
/// let names: Vec<_> = Methods::default().infos().map(|info| info.name).collect();
/// assert_eq!(names, ["linear", "task_arithmetic"]);
/// let error = Methods::default().get("task-arithmetics").unwrap_err();
/// assert_eq!(error.to_string(), "unknown merge method `task-arithmetics`; did you mean `task_arithmetic`?");
/// ```
#[derive(Debug, Clone)]
pub struct Methods {
    rows: Vec<&'static dyn MergeMethod>,
}

impl Default for Methods {
    fn default() -> Self {
        Self { rows: METHODS.to_vec() }
    }
}

impl Methods {
    /// Adds a method; a later one of the same name wins.
    #[must_use]
    pub fn with(mut self, method: &'static dyn MergeMethod) -> Self {
        self.rows.retain(|row| row.spec().info.name != method.spec().info.name);
        self.rows.push(method);
        self
    }

    /// Name and citation of every method, in registration order.
    pub fn infos(&self) -> impl Iterator<Item = MethodInfo> + '_ {
        self.rows.iter().map(|row| row.spec().info)
    }

    /// The method called `name`; hyphens and underscores are the same.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownMethod`] with the nearest name.
    pub fn get(&self, name: &str) -> Result<&'static dyn MergeMethod> {
        let plain = name.replace('-', "_");
        let found = self.rows.iter().find(|row| row.spec().info.name.replace('-', "_") == plain);
        found.copied().ok_or_else(|| Error::UnknownMethod {
            name: name.to_owned(),
            similar: mtl_core::registry::nearest(&plain, self.infos().map(|info| info.name))
                .map(str::to_owned),
        })
    }
}
