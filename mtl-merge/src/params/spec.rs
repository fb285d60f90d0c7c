//! Parameters as methods declare them.
use super::ParamValue;
use crate::{Error, Result};

/// What a parameter holds and for how many it holds.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ParamKind {
    /// One flag for the whole merge.
    Flag,
    /// One number for the whole merge.
    Number(Range),
    /// One text for the whole merge.
    Text,
    /// One number per model; a value of the slice, module or recipe stands for every model without its own.
    PerModel(Range),
    /// One text per model, such as the path of a statistics file.
    PerModelText,
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

/// Finite numbers above 0.
pub const POSITIVE: Range = Range { must: "a finite number above 0", accepts: |x| x.is_finite() && x > 0.0 };

/// Finite numbers from 0 on.
pub const NON_NEGATIVE: Range =
    Range { must: "a finite number of at least 0", accepts: |x| x.is_finite() && x >= 0.0 };

/// Numbers from 0 to 1.
pub const SHARE: Range = Range { must: "a number from 0 to 1", accepts: |x| (0.0..=1.0).contains(&x) };

/// Whole numbers from 0 on.
pub const COUNT: Range = Range {
    must: "a whole number of at least 0",
    accepts: |x| x.is_finite() && x >= 0.0 && x.fract() == 0.0 && x < 9e15,
};

/// A parameter's value where the recipe has none.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Preset {
    /// The recipe must give it.
    Required,
    /// It may be missing, which the method can see.
    Absent,
    /// A flag.
    Flag(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(&'static str),
}

/// A parameter as a method declares it.
#[derive(Debug, Clone, Copy)]
pub struct ParamSpec {
    /// Name in recipes.
    pub name: &'static str,
    /// Type, scope and range.
    pub kind: ParamKind,
    /// Value when the recipe has none.
    pub preset: Preset,
    /// One line for help texts.
    pub about: &'static str,
}

impl ParamSpec {
    /// A flag of the whole merge.
    pub const fn flag(name: &'static str, preset: bool, about: &'static str) -> Self {
        Self { name, kind: ParamKind::Flag, preset: Preset::Flag(preset), about }
    }

    /// A number of the whole merge.
    pub const fn number(name: &'static str, preset: Preset, range: Range, about: &'static str) -> Self {
        Self { name, kind: ParamKind::Number(range), preset, about }
    }

    /// A number per model.
    pub const fn per_model(name: &'static str, preset: Preset, range: Range, about: &'static str) -> Self {
        Self { name, kind: ParamKind::PerModel(range), preset, about }
    }

    /// A text of the whole merge.
    pub const fn text(name: &'static str, preset: Preset, about: &'static str) -> Self {
        Self { name, kind: ParamKind::Text, preset, about }
    }

    /// A text per model.
    pub const fn per_model_text(name: &'static str, preset: Preset, about: &'static str) -> Self {
        Self { name, kind: ParamKind::PerModelText, preset, about }
    }

    /// Whether models may have values of their own.
    pub fn is_per_model(&self) -> bool {
        matches!(self.kind, ParamKind::PerModel(_) | ParamKind::PerModelText)
    }

    /// Checks one constant; `path` says where it stands, such as `parameters.t[1]`.
    pub(crate) fn accept(&self, path: &str, value: &ParamValue) -> Result<()> {
        let must = match (self.kind, value) {
            (ParamKind::Flag, ParamValue::Flag(_)) => return Ok(()),
            (ParamKind::Flag, ParamValue::Number(x)) if *x == 0.0 || *x == 1.0 => return Ok(()),
            (ParamKind::Flag, _) => "true or false",
            (ParamKind::Number(range) | ParamKind::PerModel(range), ParamValue::Number(x)) => {
                if (range.accepts)(*x) {
                    return Ok(());
                }
                range.must
            }
            (ParamKind::Number(range) | ParamKind::PerModel(range), _) => range.must,
            (ParamKind::Text | ParamKind::PerModelText, ParamValue::Text(_)) => return Ok(()),
            (ParamKind::Text | ParamKind::PerModelText, _) => "a text",
        };
        Err(Error::Parameter { path: path.to_owned(), must: must.to_owned(), found: value.to_string() })
    }

    pub(super) fn preset_value(&self) -> Option<ParamValue> {
        match self.preset {
            Preset::Required | Preset::Absent => None,
            Preset::Flag(value) => Some(ParamValue::Flag(value)),
            Preset::Number(value) => Some(ParamValue::Number(value)),
            Preset::Text(value) => Some(ParamValue::Text(value.to_owned())),
        }
    }
}
