//! What can be wrong with a recipe before any file is opened.
use super::Recipe;
use crate::{Error, MethodSpec, Params, Result};

/// Checks form, names and values.
pub(super) fn validate(recipe: &Recipe, spec: &'static MethodSpec) -> Result<()> {
    let forms = [
        ("models", !recipe.models.is_empty()),
        ("slices", !recipe.slices.is_empty()),
        ("modules", !recipe.modules.is_empty()),
    ];
    let given: Vec<&str> = forms.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    if given.len() != 1 {
        let found = if given.is_empty() {
            "there is none".to_owned()
        } else {
            format!("there are {}", given.join(" and "))
        };
        let message = format!("exactly one of `models`, `slices`, `modules` must be given, but {found}");
        return Err(Error::Recipe { path: "recipe".to_owned(), message });
    }
    check(spec, &recipe.parameters, "parameters")?;
    for (i, model) in recipe.models.iter().enumerate() {
        check(spec, &model.parameters, &format!("models[{i}].parameters"))?;
    }
    Ok(())
}

/// Names that the method lacks, and values outside the ranges.
fn check(spec: &'static MethodSpec, given: &Params, path: &str) -> Result<()> {
    for (name, value) in given {
        let Some(param) = spec.params.iter().find(|p| p.name == name) else {
            return Err(Error::UnknownParameter {
                path: path.to_owned(),
                method: spec.info.name.to_owned(),
                parameter: name.clone(),
                similar: mtl_core::registry::nearest(name, spec.params.iter().map(|p| p.name))
                    .map(str::to_owned),
            });
        };
        value.leaves(&format!("{path}.{name}"), &mut |path, value| param.accept(path, value))?;
    }
    Ok(())
}
