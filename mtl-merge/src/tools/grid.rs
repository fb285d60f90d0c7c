//! Grids over the parameters of a recipe.
use crate::{Error, ParamValue, Params, Recipe, Result};
use serde::Serialize;

/// Most points a grid may have.
const MAX_POINTS: usize = 100_000;

/// A parameter and the values to try.
///
/// The name says which parameter:
/// - `lambda`: of the whole merge, instead of every value the recipe gives anywhere;
/// - `models[0].weight` or `models[0].parameters.weight`: of one model;
/// - `slices[1].scale`, `slices[1].sources[0].scale`: of a slice or of a model within it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Axis {
    /// Name of the parameter, as above.
    pub name: String,
    /// The values, in order.
    pub values: Vec<ParamValue>,
}

impl Axis {
    /// Reads `name=first:last:step` or `name=value,value,…`; the last value of a range belongs to it.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] that tells what is wrong with the text.
    ///
    /// ```
    /// use mtl_merge::{ParamValue, tools::Axis};
    ///
    /// let axis = Axis::parse("lambda=0.1:0.5:0.2")?;
    /// assert_eq!(axis.values, [0.1, 0.3, 0.5].map(ParamValue::Number));
    /// # Ok::<(), mtl_merge::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self> {
        let fault = |message: String| Error::Recipe { path: format!("--grid {text}"), message };
        let Some((name, list)) = text.split_once('=') else {
            return Err(fault("must read `name=first:last:step` or `name=value,value,…`".to_owned()));
        };
        Target::parse(name).map_err(&fault)?;
        let parts: Vec<&str> = list.split(':').collect();
        let values = match parts.as_slice() {
            [first, last, step] => range(first, last, step).map_err(&fault)?,
            [list] => list.split(',').map(|value| constant(value.trim())).collect(),
            _ => return Err(fault(format!("`{list}` must be `first:last:step` or `value,value,…`"))),
        };
        if values.iter().any(|v| matches!(v, ParamValue::Text(text) if text.is_empty())) {
            return Err(fault("has an empty value".to_owned()));
        }
        Ok(Self { name: name.to_owned(), values })
    }

    /// Gives the parameter its value in `recipe`.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] when the recipe has no such model, slice or source.
    pub fn set(&self, recipe: &mut Recipe, value: &ParamValue) -> Result<()> {
        let fault = |message: String| Error::Recipe { path: format!("--grid {}", self.name), message };
        let target = Target::parse(&self.name).map_err(&fault)?;
        let (params, key): (&mut Params, &str) = match target {
            Target::Everywhere(key) => {
                every_model(recipe).into_iter().for_each(|params| drop(params.remove(key)));
                (&mut recipe.parameters, key)
            }
            Target::Model(i, key) => {
                let found = recipe.models.len();
                let entry = recipe.models.get_mut(i);
                (&mut entry.ok_or_else(|| fault(format!("the recipe has {found} models")))?.parameters, key)
            }
            Target::Slice(i, source, key) => {
                let found = recipe.slices.len();
                let slice = recipe.slices.get_mut(i);
                let slice = slice.ok_or_else(|| fault(format!("the recipe has {found} slices")))?;
                let found = slice.sources.len();
                match source {
                    None => (&mut slice.parameters, key),
                    Some(j) => {
                        let entry = slice.sources.get_mut(j);
                        let entry = entry.ok_or_else(|| fault(format!("the slice has {found} sources")))?;
                        (&mut entry.parameters, key)
                    }
                }
            }
        };
        params.insert(key.to_owned(), value.clone());
        Ok(())
    }
}

/// Parameters of every part of the recipe below the top level.
fn every_model(recipe: &mut Recipe) -> Vec<&mut Params> {
    let mut all: Vec<&mut Params> = recipe.models.iter_mut().map(|m| &mut m.parameters).collect();
    let modules = recipe.modules.values_mut();
    let mut slices: Vec<_> = recipe.slices.iter_mut().collect();
    for module in modules {
        all.push(&mut module.parameters);
        all.extend(module.models.iter_mut().map(|m| &mut m.parameters));
        slices.extend(module.slices.iter_mut());
    }
    for slice in slices {
        all.push(&mut slice.parameters);
        all.extend(slice.sources.iter_mut().map(|s| &mut s.parameters));
    }
    all
}

/// All combinations of the values, the last axis changing fastest.
///
/// # Errors
///
/// [`Error::Recipe`] for no axis, an axis named twice, or more than 100 000 points.
pub fn grid(axes: &[Axis]) -> Result<Vec<Vec<ParamValue>>> {
    let fault = |message: String| Error::Recipe { path: "--grid".to_owned(), message };
    if axes.is_empty() {
        return Err(fault("at least one parameter must be given".to_owned()));
    }
    for (i, axis) in axes.iter().enumerate() {
        let same = |other: &Axis| Target::parse(&other.name).ok() == Target::parse(&axis.name).ok();
        if axes[..i].iter().any(same) {
            return Err(fault(format!("`{}` is given twice", axis.name)));
        }
    }
    let points = axes.iter().try_fold(1_usize, |n, axis| n.checked_mul(axis.values.len()));
    if points.is_none_or(|n| n > MAX_POINTS) {
        return Err(fault(format!("the grid has more than {MAX_POINTS} points")));
    }
    let mut all = vec![Vec::new()];
    for axis in axes {
        let longer = |point: &Vec<ParamValue>| -> Vec<Vec<ParamValue>> {
            let with = |value: &ParamValue| [point.as_slice(), std::slice::from_ref(value)].concat();
            axis.values.iter().map(with).collect()
        };
        all = all.iter().flat_map(longer).collect();
    }
    Ok(all)
}

#[derive(Debug, PartialEq)]
enum Target<'n> {
    Everywhere(&'n str),
    Model(usize, &'n str),
    Slice(usize, Option<usize>, &'n str),
}

impl<'n> Target<'n> {
    fn parse(name: &'n str) -> Result<Self, String> {
        let help = || {
            format!(
                "`{name}` must be a parameter such as `lambda`, `models[0].weight` or `slices[0].sources[1].scale`"
            )
        };
        let mut steps: Vec<&str> = name.split('.').filter(|step| *step != "parameters").collect();
        let key = steps.pop().filter(|key| is_key(key)).ok_or_else(help)?;
        match steps.as_slice() {
            [] => Ok(Self::Everywhere(key)),
            [one] => match (indexed(one, "models"), indexed(one, "slices")) {
                (Some(i), _) => Ok(Self::Model(i, key)),
                (_, Some(i)) => Ok(Self::Slice(i, None, key)),
                _ => Err(help()),
            },
            [slice, source] => match (indexed(slice, "slices"), indexed(source, "sources")) {
                (Some(i), Some(j)) => Ok(Self::Slice(i, Some(j), key)),
                _ => Err(help()),
            },
            _ => Err(help()),
        }
    }
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn indexed(step: &str, list: &str) -> Option<usize> {
    step.strip_prefix(list)?.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn constant(text: &str) -> ParamValue {
    match (text, text.parse::<f64>()) {
        ("true", _) => ParamValue::Flag(true),
        ("false", _) => ParamValue::Flag(false),
        (_, Ok(number)) if number.is_finite() => ParamValue::Number(number),
        _ => ParamValue::Text(text.to_owned()),
    }
}

fn range(first: &str, last: &str, step: &str) -> Result<Vec<ParamValue>, String> {
    let number = |text: &str| match text.trim().parse::<f64>() {
        Ok(x) if x.is_finite() => Ok(x),
        _ => Err(format!("`{text}` is not a finite number")),
    };
    let (first, last, step) = (number(first)?, number(last)?, number(step)?);
    let steps = (last - first) / step;
    if step == 0.0 || steps < 0.0 {
        return Err(format!("from {first} no step of {step} leads to {last}"));
    }
    if steps >= MAX_POINTS as f64 {
        return Err(format!("has more than {MAX_POINTS} values"));
    }
    let count = (steps + 1e-9).floor() as usize;
    // 0.1 + 2 · 0.1 is not 0.3: rounded to twelve digits, as nobody writes more.
    let round = |x: f64| format!("{x:.12e}").parse().unwrap_or(x);
    Ok((0..=count).map(|i| ParamValue::Number(round(first + i as f64 * step))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn recipe() -> Recipe {
        Recipe::new("linear").model("a", 1.0).model("b", 1.0)
    }

    #[test]
    fn a_range_includes_its_end_and_has_round_numbers() {
        let axis = Axis::parse("w=0.1:1.0:0.1").unwrap();
        assert_eq!(axis.values.len(), 10);
        assert_eq!(axis.values[2], ParamValue::Number(0.3));
        let down = Axis::parse("w=1:-1:-0.5").unwrap();
        assert_eq!(down.values.last(), Some(&ParamValue::Number(-1.0)));
        let list = Axis::parse("normalize=true,false").unwrap();
        assert_eq!(list.values, [ParamValue::Flag(true), ParamValue::Flag(false)]);
    }

    #[test]
    fn points_run_through_the_last_axis_first() {
        let axes = [Axis::parse("a=1,2").unwrap(), Axis::parse("b=3,4").unwrap()];
        let points = grid(&axes).unwrap();
        assert_eq!(points.len(), 4);
        assert_eq!(points[1], [ParamValue::Number(1.0), ParamValue::Number(4.0)]);
    }

    #[test]
    fn a_bare_name_replaces_the_values_of_single_models() {
        let mut recipe = recipe();
        let axis = Axis::parse("weight=0.3").unwrap();
        axis.set(&mut recipe, &axis.values[0]).unwrap();
        assert_eq!(recipe.parameters["weight"], ParamValue::Number(0.3));
        assert!(recipe.models.iter().all(|m| m.parameters.is_empty()));
        let one = Axis::parse("models[1].parameters.weight=0.7").unwrap();
        one.set(&mut recipe, &one.values[0]).unwrap();
        assert_eq!(recipe.models[1].parameters["weight"], ParamValue::Number(0.7));
    }

    #[test]
    fn errors_tell_what_would_be_right() {
        let error = |text: &str| Axis::parse(text).unwrap_err().to_string();
        assert_snapshot!(error("lambda"), @"--grid lambda: must read `name=first:last:step` or `name=value,value,…`");
        assert_snapshot!(error("lambda=0:1"), @"--grid lambda=0:1: `0:1` must be `first:last:step` or `value,value,…`");
        assert_snapshot!(error("lambda=0:1:-0.1"), @"--grid lambda=0:1:-0.1: from 0 no step of -0.1 leads to 1");
        assert_snapshot!(error("model[0].weight=1"), @"--grid model[0].weight=1: `model[0].weight` must be a parameter such as `lambda`, `models[0].weight` or `slices[0].sources[1].scale`");
        let axis = Axis::parse("models[7].weight=1").unwrap();
        let error = axis.set(&mut recipe(), &axis.values[0]).unwrap_err();
        assert_snapshot!(error, @"--grid models[7].weight: the recipe has 2 models");
        let twice = [Axis::parse("models[0].w=1").unwrap(), Axis::parse("models[0].parameters.w=1").unwrap()];
        assert_snapshot!(grid(&twice).unwrap_err(), @"--grid: `models[0].parameters.w` is given twice");
    }
}
