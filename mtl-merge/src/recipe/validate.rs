//! What can be wrong with a recipe before any file is opened.
use super::{Recipe, Slice, form::groups};
use crate::{Error, MethodSpec, Methods, Params, Result};
use std::fmt;

/// Something in a recipe that has no effect and was probably meant to have one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// Where in the recipe, such as `models[1].parameters.int8_mask`.
    pub path: String,
    /// What is ignored, and why.
    pub message: String,
    /// File and line, if known.
    place: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}", self.place, self.path, self.message)
    }
}

/// Parameters of the reference tool's methods, whether or not a method here has them.
const KNOWN: [&str; 20] = [
    "alpha",
    "density",
    "eps",
    "epsilon",
    "filter_wise",
    "gamma",
    "int8_mask",
    "lambda",
    "max_iter",
    "normalize",
    "normalize_weights",
    "nuslerp_flatten",
    "nuslerp_row_wise",
    "r",
    "rescale",
    "scale",
    "select_topk",
    "t",
    "tol",
    "weight",
];

/// Checks form, names and values; gives what is ignored.
pub(super) fn validate(recipe: &Recipe, methods: &Methods) -> Result<Vec<Warning>> {
    let unknown = recipe.origin.unknown().iter();
    let mut found: Vec<(String, String)> = unknown
        .map(|key| (key.path.clone(), format!("unknown key `{}`, which is ignored", key.key)))
        .collect();
    let spec = methods.get(&recipe.method)?.spec();
    check_forms(recipe)?;
    if recipe.tokenizer.is_some() && recipe.tokenizer_source.is_some() {
        let message = "`tokenizer` and `tokenizer_source` exclude each other; keep one".to_owned();
        return Err(Error::Recipe { path: "tokenizer_source".to_owned(), message });
    }
    let mut names = Names { spec, methods, found: &mut found };
    names.check(&recipe.parameters, "parameters", false)?;
    names.check_slices(&recipe.slices, "")?;
    for (name, module) in &recipe.modules {
        names.check(&module.parameters, &format!("modules.{name}.parameters"), false)?;
        names.check_slices(&module.slices, &format!("modules.{name}."))?;
    }
    let groups = groups(recipe);
    for entry in groups.iter().flat_map(|group| &group.entries) {
        names.check(entry.parameters, &format!("{}.parameters", entry.path), true)?;
    }
    groups.iter().try_for_each(|group| group.check(spec))?;
    found.sort_by_key(|(path, _)| recipe.origin.line(path));
    let warning = |(path, message): (String, String)| {
        let place = recipe.origin.prefix(&path);
        Warning { path, message, place }
    };
    Ok(found.into_iter().map(warning).collect())
}

/// Exactly one of the forms, at the top and in every module.
fn check_forms(recipe: &Recipe) -> Result<()> {
    let one = |path: &str, forms: &[(&str, bool)]| {
        let given: Vec<String> =
            forms.iter().filter(|(_, given)| *given).map(|(name, _)| format!("`{name}`")).collect();
        let names: Vec<String> = forms.iter().map(|(name, _)| format!("`{name}`")).collect();
        let found = match given.as_slice() {
            [_] => return Ok(()),
            [] => "there is none".to_owned(),
            _ => format!("there are {}", given.join(" and ")),
        };
        let message = format!("exactly one of {} must be given, but {found}", names.join(", "));
        Err(Error::Recipe { path: path.to_owned(), message })
    };
    let (models, slices) = (!recipe.models.is_empty(), !recipe.slices.is_empty());
    one("recipe", &[("models", models), ("slices", slices), ("modules", !recipe.modules.is_empty())])?;
    for (name, module) in &recipe.modules {
        let forms = [("models", !module.models.is_empty()), ("slices", !module.slices.is_empty())];
        one(&format!("modules.{name}"), &forms)?;
    }
    Ok(())
}

/// Names and values of parameters.
struct Names<'v> {
    spec: &'static MethodSpec,
    methods: &'v Methods,
    /// Place and text of each remark.
    found: &'v mut Vec<(String, String)>,
}

impl Names<'_> {
    fn check_slices(&mut self, slices: &[Slice], prefix: &str) -> Result<()> {
        for (i, slice) in slices.iter().enumerate() {
            let path = format!("{prefix}slices[{i}]");
            self.check(&slice.parameters, &format!("{path}.parameters"), false)?;
            if slice.sources.is_empty() {
                let message = "a slice needs at least one source".to_owned();
                return Err(Error::Recipe { path: format!("{path}.sources"), message });
            }
            for (j, source) in slice.sources.iter().enumerate() {
                if let Some([start, end]) = source.layer_range
                    && start >= end
                {
                    let message = format!(
                        "[{start}, {end}] is empty or reversed; a range is [first layer, last layer + 1]"
                    );
                    let path = format!("{path}.sources[{j}].layer_range");
                    return Err(Error::Recipe { path, message });
                }
            }
        }
        Ok(())
    }

    /// Checks one set of parameters; `own` tells whether it is a single model's.
    fn check(&mut self, given: &Params, path: &str, own: bool) -> Result<()> {
        let method = self.spec.info.name;
        for (name, value) in given {
            let at = format!("{path}.{name}");
            let Some(param) = self.spec.params.iter().find(|p| p.name == name) else {
                let known = self.methods.specs().any(|spec| spec.has(name)) || KNOWN.contains(&name.as_str());
                let similar = mtl_core::registry::nearest(name, self.spec.params.iter().map(|p| p.name));
                if let (false, Some(similar)) = (known, similar) {
                    return Err(Error::UnknownParameter {
                        path: path.to_owned(),
                        method: method.to_owned(),
                        parameter: name.clone(),
                        similar: Some(similar.to_owned()),
                    });
                }
                let message = format!("method `{method}` has no parameter `{name}`, which is ignored");
                self.found.push((at, message));
                continue;
            };
            if own && !param.is_per_model() {
                let message =
                    format!("`{name}` concerns the whole merge and is ignored here; move it to `parameters`");
                self.found.push((at.clone(), message));
            }
            value.leaves(&at, &mut |path, value| param.accept(path, value))?;
        }
        Ok(())
    }
}
