//! What is done with each tensor, settled before any output exists.
use super::{
    inputs::{Cut, Cuts, Opened, Wanted, cuts, wanted},
    remap::Remapped,
    source::{Stored, TensorMeta},
    vocab,
};
use crate::{
    Base, Error, FloatType, MergeMethod, Methods, Partial, Recipe, Resolved, Result, Work,
    method::Survey,
    params::{Levels, Place, resolve},
    tensor::{Tensor, Values, Warnings},
    tokenizer::{RowSource, VocabPlan},
};
use mtl_core::{Seed, params::Dtype};
use std::{collections::BTreeMap, sync::OnceLock};

/// A merge that is ready to run.
pub(crate) struct Plan<'a> {
    pub(crate) method: &'static dyn MergeMethod,
    pub(crate) seed: Seed,
    pub(crate) opened: Vec<Opened<'a>>,
    /// In the order of the output.
    pub(crate) tensors: Vec<Planned>,
    /// Layers of the output by name prefix.
    pub(crate) layers: BTreeMap<String, usize>,
    pub(crate) warnings: Warnings,
    pub(crate) allow_non_finite: bool,
    /// The output's vocabulary, if the recipe has a tokenizer section.
    pub(crate) vocabulary: Option<VocabPlan>,
}

/// One tensor of the output.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) numel: usize,
    /// Type in the output.
    pub(crate) dtype: Dtype,
    pub(crate) action: Action,
    /// Where the rows of a table come from, if the output has a vocabulary of its own.
    pub(crate) rows: Option<Rows>,
}

/// Rows of a table in the output's vocabulary, by the checkpoint's position in the plan.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The checkpoint's tensor.
    pub(crate) tables: BTreeMap<usize, usize>,
    /// Where each row of the checkpoint's re-indexed table comes from.
    pub(crate) sources: BTreeMap<usize, Vec<RowSource>>,
}

/// How a tensor comes about.
#[derive(Debug)]
pub(crate) enum Action {
    /// By the merge method, in this type.
    Merge { float: FloatType, params: Resolved, base: Option<Input>, models: Vec<Input>, numbers: Vec<usize> },
    /// A single floating-point tensor in this type.
    Convert { float: FloatType, input: Input },
    /// As it is in the first input, which all others must equal.
    Copy { inputs: Vec<Input> },
}

/// A tensor of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) model: usize,
    pub(crate) tensor: usize,
}

/// What the user allows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Leave {
    /// NaN and infinity in inputs and output.
    pub(crate) non_finite: bool,
    /// Embedding tables of different lengths are cut to the shortest.
    pub(crate) truncate: bool,
}

/// Tensors that a checkpoint may do without.
const OPTIONAL: [&str; 4] = ["lm_head.weight", "embed_out.weight", "rotary_emb.inv_freq", "output.weight"];
/// Embedding tables, which stand in for a head that is tied to them.
const TABLES: [&str; 3] = ["embed_tokens.weight", "wte.weight", "embed_in.weight"];
/// Heads that may be tied to a table.
const HEADS: [&str; 2] = ["lm_head.weight", "embed_out.weight"];
/// Tensors whose first axis is the vocabulary.
pub(crate) const VOCABULARY: [&str; 9] = [
    "embed_tokens.weight",
    "wte.weight",
    "embed_in.weight",
    "word_embeddings.weight",
    "shared.weight",
    "lm_head.weight",
    "lm_head.bias",
    "embed_out.weight",
    "tok_embeddings.weight",
];

/// Whether the first axis of the tensor called `name` is the vocabulary.
pub(crate) fn by_token(name: &str) -> bool {
    VOCABULARY.iter().any(|end| name.ends_with(end))
}

/// Whether the tensor is a head that may be tied to an embedding table.
pub(crate) fn is_head(name: &str) -> bool {
    HEADS.iter().any(|end| name.ends_with(end))
}

/// Whether the tensor is an embedding table.
pub(crate) fn is_table(name: &str) -> bool {
    TABLES.iter().any(|end| name.ends_with(end))
}

impl<'a> Plan<'a> {
    /// Decides everything that can be decided without reading a value.
    pub(crate) fn new(
        recipe: &Recipe,
        methods: &Methods,
        opened: Vec<Opened<'a>>,
        leave: Leave,
    ) -> Result<Self> {
        let method = methods.get(&recipe.method)?;
        let all = cuts(recipe, method.spec(), &opened);
        let wants = wanted(&all, &opened)?;
        let warnings = Warnings::default();
        let vocabulary = vocab::plan(recipe, &opened)?;
        let base = recipe.base.as_ref().and_then(|base| opened.iter().position(|o| o.name == *base));
        let (models, vocab) = (opened.as_slice(), vocabulary.as_ref());
        let planner =
            Planner { recipe, method, opened: models, warnings: &warnings, leave, vocabulary: vocab, base };
        let mut tensors = Vec::with_capacity(wants.list.len());
        let mut differences = Vec::new();
        for (module, cut, want) in &wants.list {
            let cut = &all[*module].cuts[*cut];
            match planner.tensor(cut, want)? {
                Ok(Some(planned)) => tensors.push(planned),
                Ok(None) => {}
                Err(mut found) => differences.append(&mut found),
            }
        }
        if !differences.is_empty() {
            return Err(Error::Mismatch { differences: super::align::listed(&differences) });
        }
        if tensors.is_empty() && all.iter().any(|c: &Cuts<'_>| !c.cuts.is_empty()) {
            let sized = opened.iter().any(|o| !o.source.tensors().is_empty());
            if sized {
                let message = "no tensor of the checkpoints takes part; check the module's name".to_owned();
                return Err(Error::Recipe { path: "modules".into(), message });
            }
        }
        Ok(Self {
            method,
            seed: recipe.seed,
            tensors,
            layers: wants.layers,
            warnings,
            allow_non_finite: leave.non_finite,
            vocabulary,
            opened,
        })
    }

    /// The view of a merged tensor that the method gets.
    pub(crate) fn tensor<'p>(
        &'p self,
        planned: &'p Planned,
        survey: Option<&'p Survey>,
    ) -> Option<Tensor<'p>> {
        let Action::Merge { base, models, numbers, .. } = &planned.action else { return None };
        let stored = |input: &Input| self.values(planned, *input);
        Some(Tensor {
            name: &planned.name,
            shape: &planned.shape,
            spec: self.method.spec(),
            base: base.as_ref().map(stored),
            models: models.iter().map(stored).collect(),
            numbers: numbers.clone(),
            seed: self.seed,
            allow_non_finite: self.allow_non_finite,
            survey,
            warnings: &self.warnings,
        })
    }

    /// The values of one input, in the output's vocabulary.
    pub(crate) fn values<'p>(&'p self, planned: &'p Planned, input: Input) -> Box<dyn Values + 'p> {
        let source = |model: usize| &*self.opened[model].source;
        let Some((rows, sources)) =
            planned.rows.as_ref().and_then(|rows| Some((rows, rows.sources.get(&input.model)?)))
        else {
            return Box::new(Stored { source: source(input.model), tensor: input.tensor });
        };
        let tables = rows.tables.iter().map(|(&model, &tensor)| (model, (source(model), tensor))).collect();
        let width = planned.shape[1..].iter().product();
        Box::new(Remapped { tables, own: input.model, rows: sources, width, mean: OnceLock::new() })
    }

    /// Inputs of a tensor, the base's first.
    pub(crate) fn inputs(planned: &Planned) -> Vec<Input> {
        match &planned.action {
            Action::Merge { base, models, .. } => base.iter().chain(models).copied().collect(),
            Action::Convert { input, .. } => vec![*input],
            Action::Copy { inputs } => inputs.clone(),
        }
    }

    /// Bytes that the method holds while it works on whole tensors; 0 for methods that stream.
    pub(crate) fn whole_bytes(&self, planned: &Planned) -> usize {
        match (&planned.action, self.method.spec().work) {
            (Action::Merge { base, models, params, .. }, Work::Tensors) => {
                let own = self.method.workspace(&planned.shape, models.len(), params);
                let usual =
                    planned.numel.saturating_mul(8 * (models.len() + 1 + usize::from(base.is_some())));
                own.unwrap_or(usual)
            }
            _ => 0,
        }
    }
}

struct Planner<'p, 'a> {
    recipe: &'p Recipe,
    method: &'static dyn MergeMethod,
    opened: &'p [Opened<'a>],
    warnings: &'p Warnings,
    leave: Leave,
    vocabulary: Option<&'p VocabPlan>,
    /// The recipe's base, whether or not the method is relative to it.
    base: Option<usize>,
}

/// A part that has the tensor: its position in the cut (0 is the base, if there is one) and the tensor.
type Present = (usize, Input);

impl Planner<'_, '_> {
    fn meta(&self, input: Input) -> &TensorMeta {
        &self.opened[input.model].source.tensors()[input.tensor]
    }

    fn place(&self, input: Input) -> String {
        self.opened[input.model].source.place(input.tensor)
    }

    /// The inner error lists differences between the checkpoints.
    fn tensor(&self, cut: &Cut<'_>, want: &Wanted) -> Result<Result<Option<Planned>, Vec<String>>> {
        let parts: Vec<usize> = cut.base.iter().chain(&cut.models).map(|p| p.model).collect();
        let (present, absent) = self.find(&parts, want);
        let optional = OPTIONAL.iter().any(|end| want.name.ends_with(end));
        if !absent.is_empty() && !optional {
            let place = present.first().map(|&(_, input)| self.place(input)).unwrap_or_default();
            let tell = |part: &usize| {
                let lacking = self.opened[parts[*part]].source.label();
                format!("`{}` of `{place}` is missing from `{lacking}`", want.name)
            };
            return Ok(Err(absent.iter().map(tell).collect()));
        }
        if !absent.is_empty() {
            let names: Vec<_> = absent.iter().map(|&p| self.opened[parts[p]].name.as_str()).collect();
            self.warnings.add(format!("`{}` is missing from `{}`", want.name, names.join("`, `")));
        }
        let Some(&(_, first)) = present.first() else { return Ok(Ok(None)) };
        let mut shape = match self.shape(want, &present) {
            Ok(shape) => shape,
            Err(differences) => return Ok(Err(differences)),
        };
        let rows = self.rows(cut, want, &present)?;
        if let (Some(vocabulary), Some(_)) = (self.vocabulary, &rows) {
            shape[0] = vocabulary.rows();
        }
        if !self.meta(first).dtype.is_float() {
            let planned = Planned {
                name: want.name.clone(),
                numel: shape.iter().product(),
                shape,
                dtype: self.meta(first).dtype,
                action: Action::Copy { inputs: present.iter().map(|p| p.1).collect() },
                rows: None,
            };
            return Ok(Ok(Some(planned)));
        }
        let float = self.recipe.out_dtype.or(self.recipe.dtype).unwrap_or_else(|| self.common(&present));
        let action = match self.action(cut, want, &present, absent.is_empty(), float)? {
            Some(action) => action,
            None => {
                self.warnings.add(format!("`{}` is left out: the base lacks it", want.name));
                return Ok(Ok(None));
            }
        };
        let numel = shape.iter().product();
        let (name, dtype) = (want.name.clone(), float.dtype());
        Ok(Ok(Some(Planned { name, shape, numel, dtype, action, rows })))
    }

    /// Where the rows of a table come from.
    fn rows(&self, cut: &Cut<'_>, want: &Wanted, present: &[Present]) -> Result<Option<Rows>> {
        let table = |&(_, input): &Present| {
            let meta = self.meta(input);
            meta.dtype.is_float() && !meta.shape.is_empty()
        };
        let Some(vocabulary) = self.vocabulary.filter(|_| by_token(&want.name) && present.iter().all(table))
        else {
            return Ok(None);
        };
        let tables: BTreeMap<usize, usize> =
            present.iter().map(|(_, input)| (input.model, input.tensor)).collect();
        let models: Vec<(usize, usize)> =
            present.iter().map(|&(_, input)| (input.model, self.meta(input).shape[0])).collect();
        let base = cut.base.as_ref().map(|part| part.model).or(self.base);
        let mapped = vocabulary.mapping(&models, base)?;
        let sources = models.iter().map(|(model, _)| *model).zip(mapped).collect();
        Ok(Some(Rows { tables, sources }))
    }

    /// The parts that have the tensor, by its name or by that of the table it is tied to, and those that do not.
    fn find(&self, parts: &[usize], want: &Wanted) -> (Vec<Present>, Vec<usize>) {
        let direct = |part: usize| self.opened[parts[part]].source.find(&want.inputs[part]);
        let any = (0..parts.len()).any(|part| direct(part).is_some());
        let (mut present, mut absent) = (Vec::new(), Vec::new());
        for (part, &model) in parts.iter().enumerate() {
            let table = || {
                let opened = &self.opened[model];
                let table = |t: &TensorMeta| is_table(&t.name);
                let head = is_head(&want.name);
                (any && head && opened.tied).then(|| opened.source.tensors().iter().position(table))?
            };
            match direct(part).or_else(table) {
                Some(tensor) => present.push((part, Input { model, tensor })),
                None => absent.push(part),
            }
        }
        (present, absent)
    }

    /// The shape that all inputs share.
    fn shape(&self, want: &Wanted, present: &[Present]) -> Result<Vec<usize>, Vec<String>> {
        let Some(&(_, first)) = present.first() else { return Ok(Vec::new()) };
        let reference = self.meta(first);
        let mut shape = reference.shape.clone();
        let mut differences = Vec::new();
        for &(_, input) in &present[1..] {
            let meta = self.meta(input);
            let (place, first) = (self.place(input), self.place(first));
            // Floating-point types mix; anything else must be the same to be copied.
            if meta.dtype != reference.dtype && !(meta.dtype.is_float() && reference.dtype.is_float()) {
                let (a, b) = (meta.dtype, reference.dtype);
                differences.push(format!("`{}` is {a} in `{place}`, but {b} in `{first}`", want.name));
            }
            if meta.shape == shape {
                continue;
            }
            let rows_alone = meta.shape.len() == shape.len() && meta.shape.get(1..) == shape.get(1..);
            if by_token(&want.name) && rows_alone && !shape.is_empty() {
                if self.vocabulary.is_some() {
                    continue;
                }
                if self.leave.truncate {
                    let rows = meta.shape[0].min(shape[0]);
                    self.warnings.add(format!("`{}` is cut to {rows} rows", want.name));
                    shape[0] = rows;
                    continue;
                }
                differences.push(format!(
                    "`{}` has {} rows in `{place}`, but {} in `{first}`: the vocabularies differ; add a `tokenizer` \
                     section or cut the tables with `--unsafe-truncate-embeddings`",
                    want.name, meta.shape[0], shape[0]
                ));
                continue;
            }
            let (a, b) = (&meta.shape, &reference.shape);
            differences.push(format!("`{}` has shape {a:?} in `{place}`, but {b:?} in `{first}`", want.name));
        }
        if differences.is_empty() { Ok(shape) } else { Err(differences) }
    }

    /// Merge, convert, or nothing.
    fn action(
        &self,
        cut: &Cut<'_>,
        want: &Wanted,
        present: &[Present],
        complete: bool,
        float: FloatType,
    ) -> Result<Option<Action>> {
        let spec = self.method.spec();
        let offset = usize::from(cut.base.is_some());
        let base = present.iter().find(|(part, _)| offset == 1 && *part == 0).map(|p| p.1);
        let models: Vec<Present> = present.iter().filter(|(part, _)| *part >= offset).copied().collect();
        if !complete {
            let one = (present.len() == 1).then(|| present[0].1);
            match spec.partial {
                Partial::Copy => {
                    if let Some(input) = one {
                        return Ok(Some(Action::Convert { float, input }));
                    }
                }
                Partial::Base => return Ok(base.map(|input| Action::Convert { float, input })),
                Partial::Merge => {}
            }
            if cut.base.is_some() && base.is_none() && spec.base == Base::Required {
                let message =
                    "the base model lacks it, and the method is defined relative to the base".to_owned();
                let (method, tensor) = (spec.info.name.to_owned(), want.name.clone());
                return Err(Error::Unmergeable { method, tensor, message });
            }
            if let (true, Some(input)) = (models.is_empty(), base) {
                return Ok(Some(Action::Convert { float, input }));
            }
        }
        let levels =
            Levels { models: cut.models.iter().map(|p| p.params).collect(), shared: cut.shared.clone() };
        let place = Place {
            output: &want.name,
            inputs: want.inputs[offset..].iter().map(String::as_str).collect(),
            models: cut.models.iter().map(|p| self.opened[p.model].name.as_str()).collect(),
            t: want.t,
        };
        let mut params = resolve(spec, &levels, &place)?;
        let numbers: Vec<usize> = models.iter().map(|(part, _)| part - offset).collect();
        if !complete {
            params = params.select(&numbers);
        }
        self.method.check(&params)?;
        let models = models.into_iter().map(|p| p.1).collect();
        Ok(Some(Action::Merge { float, params, base, models, numbers }))
    }

    /// The narrowest type that holds the values of every input exactly, float8 rising to float16 or bfloat16.
    fn common(&self, present: &[Present]) -> FloatType {
        let own = |&(_, input): &Present| match self.meta(input).dtype {
            Dtype::F16 | Dtype::F8E4M3 => FloatType::F16,
            Dtype::Bf16 | Dtype::F8E5M2 => FloatType::Bf16,
            Dtype::F64 => FloatType::F64,
            _ => FloatType::F32,
        };
        let join = |a: FloatType, b: FloatType| match (a, b) {
            (a, b) if a == b => a,
            (FloatType::F64, _) | (_, FloatType::F64) => FloatType::F64,
            _ => FloatType::F32,
        };
        present.iter().map(own).reduce(join).unwrap_or(FloatType::F32)
    }
}
