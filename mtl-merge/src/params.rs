//! Parameters of merge methods: declared by the method, given by the recipe, resolved per tensor.
use crate::{Error, MethodSpec, Result, recipe::Recipe};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// A parameter's value in a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum ParamValue {
    /// `true` or `false`.
    Flag(bool),
    /// Any number; integers are read as `f64`.
    Number(f64),
}

impl From<f64> for ParamValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<bool> for ParamValue {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
        }
    }
}

/// Parameters by name, as a recipe gives them.
pub type Params = BTreeMap<String, ParamValue>;

/// What a parameter holds and for how many it holds.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ParamKind {
    /// One flag for the whole merge.
    Flag,
    /// One number for the whole merge.
    Number(Range),
    /// One number per model; a value among the recipe's own parameters stands for every model without its own.
    PerModel(Range),
}

/// The numbers a parameter accepts.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// The range in words: `finite`, `in (0, 1]`.
    pub must: &'static str,
    /// Whether a value lies in the range.
    pub accepts: fn(f64) -> bool,
}

/// Every finite number.
pub const FINITE: Range = Range { must: "a finite number", accepts: f64::is_finite };

/// A parameter as a method declares it.
#[derive(Debug, Clone, Copy)]
pub struct ParamSpec {
    /// Name in recipes.
    pub name: &'static str,
    /// Type, scope and range.
    pub kind: ParamKind,
    /// Value when the recipe has none; without a default the parameter is required.
    pub default: Option<ParamValue>,
    /// One line for help texts.
    pub about: &'static str,
}

impl ParamSpec {
    fn accept(&self, path: &str, value: ParamValue) -> Result<ParamValue> {
        let must = match (self.kind, value) {
            (ParamKind::Flag, ParamValue::Flag(_)) => return Ok(value),
            (ParamKind::Flag, _) => "true or false",
            (ParamKind::Number(range) | ParamKind::PerModel(range), ParamValue::Number(x)) => {
                if (range.accepts)(x) {
                    return Ok(value);
                }
                range.must
            }
            (ParamKind::Number(range) | ParamKind::PerModel(range), _) => range.must,
        };
        Err(Error::Parameter {
            path: path.to_owned(),
            parameter: self.name.to_owned(),
            must: must.to_owned(),
            found: value.to_string(),
        })
    }
}

/// The parameters of one tensor's merge, complete and within their ranges.
#[derive(Debug, Clone)]
pub struct Resolved {
    method: &'static str,
    shared: BTreeMap<&'static str, ParamValue>,
    per_model: BTreeMap<&'static str, Vec<f64>>,
}

impl Resolved {
    /// A number of the whole merge.
    ///
    /// # Errors
    ///
    /// [`Error::Undeclared`] when the method's spec declares no such number.
    pub fn number(&self, name: &str) -> Result<f64> {
        match self.shared.get(name) {
            Some(ParamValue::Number(value)) => Ok(*value),
            _ => Err(self.undeclared(name, "a number")),
        }
    }

    /// A flag of the whole merge.
    ///
    /// # Errors
    ///
    /// [`Error::Undeclared`] when the method's spec declares no such flag.
    pub fn flag(&self, name: &str) -> Result<bool> {
        match self.shared.get(name) {
            Some(ParamValue::Flag(value)) => Ok(*value),
            _ => Err(self.undeclared(name, "a flag")),
        }
    }

    /// The values of a per-model parameter, in the order of the recipe's models.
    ///
    /// # Errors
    ///
    /// [`Error::Undeclared`] when the method's spec declares no such parameter.
    pub fn per_model(&self, name: &str) -> Result<&[f64]> {
        match self.per_model.get(name) {
            Some(values) => Ok(values),
            None => Err(self.undeclared(name, "a number per model")),
        }
    }

    fn undeclared(&self, parameter: &str, kind: &'static str) -> Error {
        Error::Undeclared { method: self.method.to_owned(), parameter: parameter.to_owned(), kind }
    }
}

/// Completes the recipe's parameters: the model's own, else the recipe's, else the default.
pub(crate) fn resolve(spec: &'static MethodSpec, recipe: &Recipe) -> Result<Resolved> {
    check_names(spec, &recipe.parameters, "parameters")?;
    for (i, model) in recipe.models.iter().enumerate() {
        let path = format!("models[{i}].parameters");
        check_names(spec, &model.parameters, &path)?;
        for p in spec.params.iter().filter(|p| !matches!(p.kind, ParamKind::PerModel(_))) {
            if model.parameters.contains_key(p.name) {
                return Err(Error::SharedParameter { path, parameter: p.name.to_owned() });
            }
        }
    }
    let mut resolved =
        Resolved { method: spec.info.name, shared: BTreeMap::new(), per_model: BTreeMap::new() };
    for p in spec.params {
        let shared = match recipe.parameters.get(p.name) {
            Some(&value) => Some(p.accept("parameters", value)?),
            None => p.default,
        };
        if let ParamKind::PerModel(_) = p.kind {
            resolved.per_model.insert(p.name, per_model(spec, p, shared, recipe)?);
        } else {
            resolved
                .shared
                .insert(p.name, shared.ok_or_else(|| missing(spec, p, "parameters", "the recipe"))?);
        }
    }
    Ok(resolved)
}

fn per_model(
    spec: &MethodSpec,
    param: &ParamSpec,
    shared: Option<ParamValue>,
    recipe: &Recipe,
) -> Result<Vec<f64>> {
    let mut values = Vec::with_capacity(recipe.models.len());
    for (i, model) in recipe.models.iter().enumerate() {
        let path = format!("models[{i}].parameters");
        let value = match model.parameters.get(param.name) {
            Some(&own) => Some(param.accept(&path, own)?),
            None => shared,
        };
        match value {
            Some(ParamValue::Number(value)) => values.push(value),
            _ => return Err(missing(spec, param, &path, &model.model)),
        }
    }
    Ok(values)
}

fn missing(spec: &MethodSpec, param: &ParamSpec, path: &str, model: &str) -> Error {
    Error::MissingParameter {
        path: path.to_owned(),
        method: spec.info.name.to_owned(),
        parameter: param.name.to_owned(),
        model: model.to_owned(),
    }
}

fn check_names(spec: &MethodSpec, given: &Params, path: &str) -> Result<()> {
    match given.keys().find(|name| spec.params.iter().all(|p| p.name != name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let known = spec.params.iter().map(|p| p.name);
            Err(Error::UnknownParameter {
                path: path.to_owned(),
                method: spec.info.name.to_owned(),
                parameter: name.clone(),
                similar: mtl_core::registry::nearest(name, known).map(str::to_owned),
            })
        }
    }
}
