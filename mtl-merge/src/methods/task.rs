//! For methods that give one model per task: which of them is written.
use crate::{Error, ParamSpec, Preset, Resolved, Result, Tensor, params::COUNT};

/// The parameter.
pub(super) const TASK: ParamSpec = ParamSpec::number(
    "task",
    Preset::Absent,
    COUNT,
    "number of the model, from 0 in the recipe's list, whose own version is written; absent: the unified model",
);

/// What a tensor becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// The one for all tasks.
    Unified,
    /// That of a model, by its position among those that have the tensor.
    Of(usize),
    /// That of a model which lacks the tensor.
    Base,
}

/// What `tensor` becomes.
pub(super) fn version(tensor: &Tensor<'_>, params: &Resolved) -> Version {
    let Some(task) = params.optional_number(TASK.name) else { return Version::Unified };
    let own = (0..tensor.n_models()).find(|&m| tensor.number(m) as f64 == task);
    own.map_or(Version::Base, Version::Of)
}

/// Whether the model chosen exists.
///
/// # Errors
///
/// [`Error::Parameter`] when no tensor is one of that model's.
pub(super) fn check_task(tensors: &[(Tensor<'_>, &Resolved)]) -> Result<()> {
    let chosen = |params: &Resolved| params.optional_number(TASK.name);
    let Some(task) = tensors.iter().find_map(|(_, params)| chosen(params)) else { return Ok(()) };
    let numbers: std::collections::BTreeSet<usize> =
        tensors.iter().flat_map(|(t, _)| (0..t.n_models()).map(|m| t.number(m))).collect();
    let differ = tensors.iter().any(|(_, params)| chosen(params) != Some(task));
    if !differ && numbers.iter().any(|&n| n as f64 == task) {
        return Ok(());
    }
    let list: Vec<String> = numbers.iter().map(usize::to_string).collect();
    Err(Error::Parameter {
        path: "parameters.task".to_owned(),
        must: format!("one number for all tensors, that of a model ({})", list.join(", ")),
        found: if differ { "not the same for all tensors".to_owned() } else { task.to_string() },
    })
}
