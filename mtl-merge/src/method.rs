//! What a merge method is: a function from one tensor of every checkpoint to the merged tensor.
use crate::{Error, ParamSpec, Resolved, Result, methods::METHODS, tensor::Tensor};
use mtl_core::registry::MethodInfo;
use std::{any::Any, fmt::Debug};

/// Combines several versions of a tensor into one.
///
/// The engine calls [`prepare`](Self::prepare) once per tensor, from many threads and in no particular order. The
/// method may look over the whole tensor ([`Tensor::blocks`]: norms, ranks, thresholds) and returns the function that
/// gives the merged values of any piece. So tensors larger than memory stream through, and a method keeps no state
/// between calls; it draws chance only from [`Tensor::uniform`].
///
/// A method of one's own, used by name:
///
/// ```
/// use mtl_merge::{Engine, HostTensor, Kernel, MergeMethod, MethodSpec, Methods, Recipe, Resolved, Result, Tensor,
///     TensorMap};
///
/// /// Keeps the value of largest magnitude.
/// #[derive(Debug)]
/// struct Loudest;
///
/// static SPEC: MethodSpec = MethodSpec::new("loudest", "none", "none");
///
/// impl MergeMethod for Loudest {
///     fn spec(&self) -> &'static MethodSpec {
///         &SPEC
///     }
///
///     fn prepare<'t>(&self, _tensor: &'t Tensor<'_>, _params: &'t Resolved) -> Result<Kernel<'t>> {
///         Ok(Box::new(|piece, out| {
///             for (i, out) in out.iter_mut().enumerate() {
///                 *out = piece.models.iter().map(|m| m[i]).fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
///             }
///         }))
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

    /// Checks what the parameters of one tensor must satisfy together; called for every tensor, before any value is
    /// read.
    ///
    /// # Errors
    ///
    /// Whatever the method finds wrong with its parameters.
    fn check(&self, params: &Resolved) -> Result<()> {
        let _ = params;
        Ok(())
    }

    /// Looks over all tensors before the first is merged, for methods that need facts about whole models; the result
    /// is [`Tensor::survey`] afterwards.
    ///
    /// Called only if [`MethodSpec::surveys`] is set. Every item is a tensor that this method will merge, with its
    /// parameters.
    ///
    /// # Errors
    ///
    /// Whatever the method cannot merge, and errors of reading.
    fn survey(&self, tensors: &[(Tensor<'_>, &Resolved)]) -> Result<Survey> {
        let _ = tensors;
        Ok(Box::new(()))
    }

    /// Bytes that [`prepare`](Self::prepare) takes for a tensor of `shape` that `models` models have; `None` is one `f64`
    /// matrix per input and one for the result. Only asked of methods that need whole tensors ([`Work::Tensors`]).
    fn workspace(&self, shape: &[usize], models: usize, params: &Resolved) -> Option<usize> {
        let _ = (shape, models, params);
        None
    }

    /// Looks over one tensor, if need be, and returns the function that merges it piece by piece.
    ///
    /// # Errors
    ///
    /// [`Error::Undeclared`] for a parameter that the spec lacks, errors of reading, and whatever the method cannot
    /// merge.
    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, params: &'t Resolved) -> Result<Kernel<'t>>;
}

/// Writes the merged values of a piece; all slices are of one length.
pub type Kernel<'t> = Box<dyn Fn(&Piece<'_>, &mut [f64]) + Send + Sync + 't>;

/// What a method knows about whole models.
pub type Survey = Box<dyn Any + Send + Sync>;

/// A run of elements of one tensor, from every checkpoint.
///
/// Values are exact whatever the stored type; they are finite unless the user allowed otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Position of the first element in the tensor, in row-major order.
    pub start: usize,
    /// Values in the base model, if there is one.
    pub base: Option<&'a [f64]>,
    /// Values in the models, in the recipe's order.
    pub models: &'a [&'a [f64]],
}

impl Piece<'_> {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.base.or(self.models.first().copied()).map_or(0, <[f64]>::len)
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Facts about a method, and what it needs.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct MethodSpec {
    /// Name in recipes (mergekit's where it has the method), paper and source.
    pub info: MethodInfo,
    /// Use of the base model.
    pub base: Base,
    /// Fewest models besides the base.
    pub min_models: usize,
    /// Most models besides the base, if there is a limit.
    pub max_models: Option<usize>,
    /// How far the engine may cut tensors.
    pub work: Work,
    /// What becomes of a tensor that some checkpoints lack.
    pub partial: Partial,
    /// Whether [`MergeMethod::survey`] is to be called.
    pub surveys: bool,
    /// Parameters, in the order of help texts.
    pub params: &'static [ParamSpec],
}

impl MethodSpec {
    /// A method for one or more models without base, parameters or need for more than single elements; the setters
    /// change that.
    #[must_use]
    pub const fn new(name: &'static str, paper: &'static str, source: &'static str) -> Self {
        Self {
            info: MethodInfo { name, paper, source },
            base: Base::Unused,
            min_models: 1,
            max_models: None,
            work: Work::Elements,
            partial: Partial::Merge,
            surveys: false,
            params: &[],
        }
    }

    /// Sets the use of the base model.
    #[must_use]
    pub const fn base(mut self, base: Base) -> Self {
        self.base = base;
        self
    }

    /// Sets the fewest and the most models besides the base.
    #[must_use]
    pub const fn models(mut self, min: usize, max: Option<usize>) -> Self {
        (self.min_models, self.max_models) = (min, max);
        self
    }

    /// Sets how far the engine may cut tensors.
    #[must_use]
    pub const fn work(mut self, work: Work) -> Self {
        self.work = work;
        self
    }

    /// Sets what becomes of a tensor that some checkpoints lack.
    #[must_use]
    pub const fn partial(mut self, partial: Partial) -> Self {
        self.partial = partial;
        self
    }

    /// Asks for [`MergeMethod::survey`].
    #[must_use]
    pub const fn surveys(mut self) -> Self {
        self.surveys = true;
        self
    }

    /// Sets the parameters.
    #[must_use]
    pub const fn params(mut self, params: &'static [ParamSpec]) -> Self {
        self.params = params;
        self
    }

    /// Whether the method has a parameter of that name.
    #[must_use]
    pub fn has(&self, parameter: &str) -> bool {
        self.params.iter().any(|p| p.name == parameter)
    }
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
    /// Each output element depends on the same element of the inputs, and on what `prepare` found out.
    Elements,
    /// Pieces hold whole rows (runs along the last axis).
    Rows,
    /// `prepare` loads whole tensors; the engine prepares one at a time and counts them against the memory limit.
    Tensors,
}

/// What becomes of a tensor that only some of the checkpoints have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partial {
    /// Those that have it are merged; a method with a required base needs it in the base.
    Merge,
    /// A single one is copied.
    Copy,
    /// The base's is copied; without it the tensor is left out, with a warning.
    Base,
}

/// The merge methods a recipe can name; those of this crate unless more are added.
///
/// ```
/// use mtl_merge::Methods;
///
/// assert!(Methods::default().infos().any(|info| info.name == "ties"));
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

    /// What every method needs, in registration order.
    pub fn specs(&self) -> impl Iterator<Item = &'static MethodSpec> + '_ {
        self.rows.iter().map(|row| row.spec())
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
