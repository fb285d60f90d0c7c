//! Which checkpoints' layers go into which layers of the output, whatever the form of the recipe.
use super::{
    layout::{Layout, Role},
    source::{Source, TensorMeta},
};
use crate::{
    Base, Error, MethodSpec, Params, Recipe, Result,
    checkpoint::ModelConfig,
    recipe::{ModelEntry, Slice},
};
use std::{collections::BTreeMap, ops::Range, path::PathBuf};

/// An opened checkpoint.
pub(crate) struct Opened<'a> {
    /// As the recipe names it.
    pub(crate) name: String,
    pub(crate) source: Box<dyn Source + 'a>,
    pub(crate) layout: Layout,
    /// Whether the head is the embedding table (`tie_word_embeddings`).
    pub(crate) tied: bool,
    /// Rows of the embedding table by `config.json`.
    pub(crate) vocab_size: Option<usize>,
    /// `config.json`, if the checkpoint is a folder that has one.
    pub(crate) config: Option<ModelConfig>,
    /// The folder, if the checkpoint is one.
    pub(crate) dir: Option<PathBuf>,
    /// Files and folders that are read, without links; none in memory.
    pub(crate) roots: Vec<PathBuf>,
}

impl std::fmt::Debug for Opened<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("name", &self.name).finish_non_exhaustive()
    }
}

/// One model's part in a slice.
#[derive(Debug, Clone)]
pub(crate) struct Part<'r> {
    /// Position among the opened checkpoints.
    pub(crate) model: usize,
    /// Layers, or all of them.
    pub(crate) layers: Option<Range<usize>>,
    pub(crate) params: &'r Params,
}

/// A slice after normalization: base and models told apart.
#[derive(Debug, Clone)]
pub(crate) struct Cut<'r> {
    /// Where it stands in the recipe.
    pub(crate) path: String,
    pub(crate) base: Option<Part<'r>>,
    pub(crate) models: Vec<Part<'r>>,
    /// Parameters of the slice, the module and the recipe.
    pub(crate) shared: Vec<&'r Params>,
}

/// Everything one module is made of.
#[derive(Debug, Clone)]
pub(crate) struct Cuts<'r> {
    /// Name in the recipe; `default` stands for the whole model.
    pub(crate) module: String,
    /// Whether layer ranges were given.
    pub(crate) sliced: bool,
    pub(crate) cuts: Vec<Cut<'r>>,
}

static NONE: Params = Params::new();

/// Names of all checkpoints of the recipe: the base first, then in order of mention.
pub(crate) fn names(recipe: &Recipe) -> Vec<(String, String)> {
    let mut names: Vec<(String, String)> = Vec::new();
    let mut add = |path: String, name: &str| {
        if names.iter().all(|(_, known)| known != name) {
            names.push((path, name.to_owned()));
        }
    };
    if let Some(base) = &recipe.base {
        add("base_model".into(), base);
    }
    let models = |path: &str, models: &[ModelEntry], add: &mut dyn FnMut(String, &str)| {
        for (i, entry) in models.iter().enumerate() {
            add(format!("{path}models[{i}]"), &entry.model);
        }
    };
    let slices = |path: &str, slices: &[Slice], add: &mut dyn FnMut(String, &str)| {
        for (i, slice) in slices.iter().enumerate() {
            if let Some(base) = &slice.base_model {
                add(format!("{path}slices[{i}].base_model"), base);
            }
            for (j, source) in slice.sources.iter().enumerate() {
                add(format!("{path}slices[{i}].sources[{j}]"), &source.model);
            }
        }
    };
    models("", &recipe.models, &mut add);
    slices("", &recipe.slices, &mut add);
    for (name, module) in &recipe.modules {
        models(&format!("modules.{name}."), &module.models, &mut add);
        slices(&format!("modules.{name}."), &module.slices, &mut add);
    }
    names
}

/// Brings the recipe's form to slices.
pub(crate) fn cuts<'r>(recipe: &'r Recipe, spec: &MethodSpec, opened: &[Opened<'_>]) -> Vec<Cuts<'r>> {
    let index = |name: &str| opened.iter().position(|o| o.name == name).unwrap_or_default();
    let whole = |path: &str, models: &'r [ModelEntry], shared: Vec<&'r Params>| -> Cut<'r> {
        let parts = models.iter().map(|entry| Part {
            model: index(&entry.model),
            layers: None,
            params: &entry.parameters,
        });
        let base = recipe.base.as_deref().map(index);
        split(&format!("{path}models"), spec, base, parts.collect(), true, shared)
    };
    let sliced = |path: &str, slices: &'r [Slice], shared: &[&'r Params]| -> Vec<Cut<'r>> {
        let cut = |(i, slice): (usize, &'r Slice)| {
            let parts = slice.sources.iter().map(|source| Part {
                model: index(&source.model),
                layers: source.layer_range.map(|[start, end]| start..end),
                params: &source.parameters,
            });
            let base = slice.base_model.as_deref().or(recipe.base.as_deref()).map(index);
            let mut levels = vec![&slice.parameters];
            levels.extend(shared);
            split(&format!("{path}slices[{i}]"), spec, base, parts.collect(), false, levels)
        };
        slices.iter().enumerate().map(cut).collect()
    };
    if recipe.modules.is_empty() {
        let module = "default".to_owned();
        return vec![if recipe.slices.is_empty() {
            Cuts { module, sliced: false, cuts: vec![whole("", &recipe.models, vec![&recipe.parameters])] }
        } else {
            Cuts { module, sliced: true, cuts: sliced("", &recipe.slices, &[&recipe.parameters]) }
        }];
    }
    let module = |(name, module): (&'r String, &'r crate::recipe::Module)| {
        let path = format!("modules.{name}.");
        let shared = vec![&module.parameters, &recipe.parameters];
        if module.slices.is_empty() {
            Cuts { module: name.clone(), sliced: false, cuts: vec![whole(&path, &module.models, shared)] }
        } else {
            Cuts { module: name.clone(), sliced: true, cuts: sliced(&path, &module.slices, &shared) }
        }
    };
    recipe.modules.iter().map(module).collect()
}

/// Tells base and models apart; [`Recipe::validate`] has checked that they suit the method.
fn split<'r>(
    path: &str,
    spec: &MethodSpec,
    base: Option<usize>,
    mut parts: Vec<Part<'r>>,
    complete: bool,
    shared: Vec<&'r Params>,
) -> Cut<'r> {
    if let Some(model) = base
        && complete
        && parts.iter().all(|p| p.model != model)
    {
        // As the reference tool does: a base that is not listed takes part all the same.
        parts.push(Part { model, layers: None, params: &NONE });
    }
    let at = base.and_then(|base| parts.iter().position(|p| p.model == base));
    let base = match (spec.base, at) {
        (Base::Unused, _) | (_, None) => None,
        (_, Some(at)) => Some(parts.remove(at)),
    };
    Cut { path: path.to_owned(), base, models: parts, shared }
}

/// One tensor to be planned: its name in the output, its depth, and its name in each part (the base's first, if there
/// is one).
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) t: f64,
    pub(crate) inputs: Vec<String>,
}

/// The tensors of one module in the order of the output, each with the number of its cut; and the layers of each stack.
///
/// # Errors
///
/// [`Error::Recipe`] for ranges that do not fit the checkpoints or each other.
pub(crate) fn wanted(all: &[Cuts<'_>], opened: &[Opened<'_>]) -> Result<Wants> {
    let mut list = Vec::new();
    let mut layers = BTreeMap::new();
    for (m, cuts) in all.iter().enumerate() {
        let (Some(first), Some(last)) = (cuts.cuts.first(), cuts.cuts.last()) else { continue };
        let lead = |cut: &Cut<'_>| cut.base.iter().chain(&cut.models).map(|p| p.model).collect::<Vec<_>>();
        let Some(reference) = lead(first).first().map(|&model| &opened[model]) else { continue };
        let stacks = stacks_of(cuts, reference)?;
        let outside = |cut: usize, role: Role<'_>, list: &mut Vec<(usize, usize, Wanted)>| {
            let parts = lead(&cuts.cuts[cut]);
            for name in union(&parts, opened, |opened, name| opened.layout.role(name) == role) {
                if in_module(&cuts.module, &name) {
                    list.push((m, cut, Wanted { t: 0.0, inputs: vec![name.clone(); parts.len()], name }));
                }
            }
        };
        outside(0, Role::Before, &mut list);
        for &stack in &stacks {
            let mut next = 0;
            for (c, cut) in cuts.cuts.iter().enumerate() {
                let ranges = ranges(cut, opened, &reference.layout, stack)?;
                let length = ranges.first().map_or(0, Range::len);
                for j in 0..length {
                    let suffixes = suffixes(cut, opened, reference, stack, &ranges, j);
                    let t = if length == 1 { 1.0 } else { j as f64 / (length - 1) as f64 };
                    let out = &reference.layout.stacks[stack];
                    for suffix in suffixes {
                        let named =
                            |(range, _): (&Range<usize>, &Part<'_>)| out.name(range.start + j, &suffix);
                        let parts = cut.base.iter().chain(&cut.models);
                        let inputs = ranges.iter().zip(parts).map(named).collect();
                        list.push((m, c, Wanted { name: out.name(next, &suffix), t, inputs }));
                    }
                    next += 1;
                }
            }
            layers.insert(reference.layout.stacks[stack].prefix.clone(), next);
        }
        let _ = last;
        outside(cuts.cuts.len() - 1, Role::After, &mut list);
    }
    Ok(Wants { list, layers })
}

/// What is to be planned.
pub(crate) struct Wants {
    /// (module, cut, tensor), in the order of the output.
    pub(crate) list: Vec<(usize, usize, Wanted)>,
    /// Layers of the output by prefix.
    pub(crate) layers: BTreeMap<String, usize>,
}

/// Stacks that the module covers.
fn stacks_of(cuts: &Cuts<'_>, reference: &Opened<'_>) -> Result<Vec<usize>> {
    let stacks = &reference.layout.stacks;
    let fits = |&i: &usize| in_module(&cuts.module, &stacks[i].prefix);
    let chosen: Vec<usize> = (0..stacks.len()).filter(fits).collect();
    let complain = |message: String| {
        let path =
            if cuts.module == "default" { "slices".to_owned() } else { format!("modules.{}", cuts.module) };
        Err(Error::Recipe { path, message })
    };
    if cuts.module != "default" && chosen.is_empty() {
        let known: Vec<&str> = stacks.iter().map(|s| s.prefix.as_str()).collect();
        return complain(format!("no layers of that module; the checkpoint has `{}`", known.join("`, `")));
    }
    if cuts.sliced && chosen.len() != 1 {
        let known: Vec<&str> = chosen.iter().map(|&s| stacks[s].prefix.as_str()).collect();
        return complain(match known.as_slice() {
            [] => "the tensors' names show no layers to slice; use `models`".to_owned(),
            _ => format!("there are several runs of layers, `{}`; use `modules`", known.join("`, `")),
        });
    }
    Ok(chosen)
}

fn in_module(module: &str, name: &str) -> bool {
    module == "default" || name.split('.').any(|part| part == module)
}

/// Names in any of the checkpoints that `keep` accepts, in the first one's order, then the others'.
fn union(parts: &[usize], opened: &[Opened<'_>], keep: impl Fn(&Opened<'_>, &str) -> bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for &part in parts {
        for tensor in opened[part].source.tensors() {
            if keep(&opened[part], &tensor.name) && !names.contains(&tensor.name) {
                names.push(tensor.name.clone());
            }
        }
    }
    names
}

/// Layer ranges of the parts, all of one length.
fn ranges(
    cut: &Cut<'_>,
    opened: &[Opened<'_>],
    reference: &Layout,
    stack: usize,
) -> Result<Vec<Range<usize>>> {
    let prefix = &reference.stacks[stack].prefix;
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut first: Option<(usize, String)> = None;
    for part in cut.base.iter().chain(&cut.models) {
        let model = &opened[part.model];
        let all = model.layout.stacks.iter().find(|s| s.prefix == *prefix).map_or(0..0, |s| s.all());
        let range = part.layers.clone().unwrap_or(all.clone());
        let complain = |message: String| Err(Error::Recipe { path: cut.path.clone(), message });
        let (start, end) = (range.start, range.end);
        if end > all.end {
            return complain(format!(
                "layer_range [{start}, {end}] of `{}` is beyond its {} layers",
                model.name, all.end
            ));
        }
        match &first {
            Some((length, other)) if *length != range.len() => {
                return complain(format!(
                    "all sources must span the same number of layers, but `{}` has {} and `{other}` has {length}{}",
                    model.name,
                    range.len(),
                    opened.iter().find(|o| o.name == *other).map_or_else(String::new, |o| shapes(model, o))
                ));
            }
            Some(_) => {}
            None => first = Some((range.len(), model.name.clone())),
        }
        ranges.push(range);
    }
    Ok(ranges)
}

/// The first tensor that two checkpoints have in different shapes, if there is one: they may be of different models.
fn shapes(a: &Opened<'_>, b: &Opened<'_>) -> String {
    let (a, b) = (&a.source, &b.source);
    let pairs = a.tensors().iter().filter_map(|t| Some((t, &b.tensors()[b.find(&t.name)?])));
    let different = pairs.into_iter().find(|(t, other)| t.shape != other.shape);
    let tell = |(t, other): (&TensorMeta, &TensorMeta)| {
        format!("; their `{}` have shapes {:?} and {:?}", t.name, t.shape, other.shape)
    };
    different.map(tell).unwrap_or_default()
}

/// Names within layer `j` of the cut, in the first part's order.
fn suffixes(
    cut: &Cut<'_>,
    opened: &[Opened<'_>],
    reference: &Opened<'_>,
    stack: usize,
    ranges: &[Range<usize>],
    j: usize,
) -> Vec<String> {
    let prefix = &reference.layout.stacks[stack].prefix;
    let mut suffixes: Vec<String> = Vec::new();
    for (part, range) in cut.base.iter().chain(&cut.models).zip(ranges) {
        let start = format!("{prefix}{}", range.start + j);
        for tensor in opened[part.model].source.tensors() {
            let suffix = match tensor.name.strip_prefix(&start) {
                Some("") => "",
                Some(rest) => match rest.strip_prefix('.') {
                    Some(suffix) => suffix,
                    None => continue,
                },
                None => continue,
            };
            if suffixes.iter().all(|s| s != suffix) {
                suffixes.push(suffix.to_owned());
            }
        }
    }
    suffixes
}
