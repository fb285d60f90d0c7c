//! Which value holds for a tensor: the most specific level that has one.
use super::{ParamKind, ParamSpec, ParamValue, Params, Preset};
use crate::{Error, MethodSpec, Result};
use std::collections::BTreeMap;

/// The parameters of one tensor's merge, complete and within their ranges.
#[derive(Debug, Clone)]
pub struct Resolved {
    method: &'static str,
    shared: BTreeMap<&'static str, ParamValue>,
    per_model: BTreeMap<&'static str, Vec<f64>>,
    per_model_text: BTreeMap<&'static str, Vec<Option<String>>>,
}

impl Resolved {
    /// A number of the whole merge.
    ///
    /// # Errors
    ///
    /// [`Error::Undeclared`] when the method's spec declares no such number, or one that may be absent and is.
    pub fn number(&self, name: &str) -> Result<f64> {
        self.optional_number(name).ok_or_else(|| self.undeclared(name, "a number"))
    }

    /// A number of the whole merge that may be absent.
    #[must_use]
    pub fn optional_number(&self, name: &str) -> Option<f64> {
        match self.shared.get(name) {
            Some(ParamValue::Number(value)) => Some(*value),
            _ => None,
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
            Some(ParamValue::Number(value)) => Ok(*value != 0.0),
            _ => Err(self.undeclared(name, "a flag")),
        }
    }

    /// A text of the whole merge, if there is one.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.shared.get(name) {
            Some(ParamValue::Text(value)) => Some(value),
            _ => None,
        }
    }

    /// The values of a per-model parameter, in the order of the tensor's models.
    ///
    /// # Errors
    ///
    /// [`Error::Undeclared`] when the method's spec declares no such parameter, or one that may be absent and is.
    pub fn per_model(&self, name: &str) -> Result<&[f64]> {
        match self.per_model.get(name) {
            Some(values) => Ok(values),
            None => Err(self.undeclared(name, "a number per model")),
        }
    }

    /// The values of a per-model text, in the order of the tensor's models.
    ///
    /// # Errors
    ///
    /// [`Error::Undeclared`] when the method's spec declares no such parameter.
    pub fn per_model_text(&self, name: &str) -> Result<&[Option<String>]> {
        match self.per_model_text.get(name) {
            Some(values) => Ok(values),
            None => Err(self.undeclared(name, "a text per model")),
        }
    }

    /// The parameters of the models `kept`, positions in the current order.
    pub(crate) fn select(&self, kept: &[usize]) -> Self {
        fn pick<V: Clone>(
            all: &BTreeMap<&'static str, Vec<V>>,
            kept: &[usize],
        ) -> BTreeMap<&'static str, Vec<V>> {
            let some = |values: &Vec<V>| kept.iter().filter_map(|&i| values.get(i).cloned()).collect();
            all.iter().map(|(name, values)| (*name, some(values))).collect()
        }
        Self {
            method: self.method,
            shared: self.shared.clone(),
            per_model: pick(&self.per_model, kept),
            per_model_text: pick(&self.per_model_text, kept),
        }
    }

    fn undeclared(&self, parameter: &str, kind: &'static str) -> Error {
        Error::Undeclared { method: self.method.to_owned(), parameter: parameter.to_owned(), kind }
    }
}

/// Parameters from the most specific place to the most general.
#[derive(Debug, Clone, Default)]
pub(crate) struct Levels<'a> {
    /// Each model's own, in the order of the models.
    pub(crate) models: Vec<&'a Params>,
    /// Those of the slice, the module and the recipe, in this order.
    pub(crate) shared: Vec<&'a Params>,
}

/// The tensor that parameters are resolved for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place<'a> {
    /// Name in the output; filters of shared parameters look at it.
    pub(crate) output: &'a str,
    /// Name in each model; filters of per-model parameters look at these.
    pub(crate) inputs: Vec<&'a str>,
    /// The models, for messages.
    pub(crate) models: Vec<&'a str>,
    /// Relative depth, in [0, 1].
    pub(crate) t: f64,
}

/// Completes the parameters of one tensor: the model's own, else the slice's, the module's, the recipe's, the preset.
///
/// # Errors
///
/// [`Error::MissingParameter`] and [`Error::Parameter`].
pub(crate) fn resolve(spec: &'static MethodSpec, levels: &Levels<'_>, place: &Place<'_>) -> Result<Resolved> {
    let mut resolved = Resolved {
        method: spec.info.name,
        shared: BTreeMap::new(),
        per_model: BTreeMap::new(),
        per_model_text: BTreeMap::new(),
    };
    for p in spec.params {
        let look = |own: Option<&Params>, tensor: &str| -> Result<Option<ParamValue>> {
            let levels = own.into_iter().chain(levels.shared.iter().copied());
            let found = levels.filter_map(|level| level.get(p.name)?.at(tensor, place.t)).next();
            if let Some(value) = &found {
                p.accept(p.name, value)?;
            }
            Ok(found.or_else(|| p.preset_value()))
        };
        if !p.is_per_model() {
            match look(None, place.output)? {
                Some(value) => drop(resolved.shared.insert(p.name, value)),
                None if p.preset == Preset::Required => return Err(missing(spec, p, place, None)),
                None => {}
            }
            continue;
        }
        let own = levels.models.iter().zip(&place.inputs);
        let values: Vec<Option<ParamValue>> =
            own.map(|(params, input)| look(Some(params), input)).collect::<Result<_>>()?;
        if let (Preset::Required, Some(at)) = (p.preset, values.iter().position(Option::is_none)) {
            return Err(missing(spec, p, place, Some(at)));
        }
        if matches!(p.kind, ParamKind::PerModelText) {
            let text = |v: Option<ParamValue>| match v {
                Some(ParamValue::Text(text)) => Some(text),
                _ => None,
            };
            resolved.per_model_text.insert(p.name, values.into_iter().map(text).collect());
        } else {
            let number = |v: &Option<ParamValue>| match v {
                Some(ParamValue::Number(x)) => Some(*x),
                _ => None,
            };
            // A parameter that may be absent is there for every model or for none.
            if let Some(numbers) = values.iter().map(number).collect() {
                resolved.per_model.insert(p.name, numbers);
            }
        }
    }
    Ok(resolved)
}

fn missing(spec: &MethodSpec, param: &ParamSpec, place: &Place<'_>, model: Option<usize>) -> Error {
    let at = |names: &[&str], i: usize| names.get(i).copied().unwrap_or_default().to_owned();
    Error::MissingParameter {
        method: spec.info.name.to_owned(),
        parameter: param.name.to_owned(),
        model: model.map(|i| at(&place.models, i)),
        tensor: model.map_or_else(|| place.output.to_owned(), |i| at(&place.inputs, i)),
    }
}
