//! Parameters as values: an ordered map from names to tensors, with arithmetic.
mod io;
mod task_vector;

pub use task_vector::TaskVector;

use crate::{
    Error, Result, check, no_grad,
    source::{Param, ParamSource},
};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// An ordered map from names to tensors.
///
/// Names follow Hugging Face where such an architecture exists (`vit.encoder.layer.0.…`). The order is that of the
/// names, so that everything that walks over parameters does so in the same order on every machine.
///
/// ```
/// use mtl_core::StateDict;
/// use tch::Tensor;
///
/// let mut theta = StateDict::new();
/// theta.insert("b", Tensor::from_slice(&[1.0f32]));
/// theta.insert("a", Tensor::from_slice(&[1.0f32, 2.0]));
/// assert_eq!(theta.names().collect::<Vec<_>>(), ["a", "b"]);
/// assert_eq!(theta.numel(), 3);
/// ```
#[derive(Debug, Default)]
pub struct StateDict {
    tensors: BTreeMap<String, Tensor>,
}

impl StateDict {
    /// An empty dictionary.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the tensor called `name` and returns the one it replaces.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> Option<Tensor> {
        self.tensors.insert(name.into(), tensor)
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Takes the tensor called `name` out.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.remove(name)
    }

    /// Names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Names and tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Names and tensors, sorted by name, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Tensor)> {
        self.tensors.iter_mut().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Number of elements of all tensors together.
    pub fn numel(&self) -> usize {
        self.tensors.values().map(Tensor::numel).sum()
    }

    /// Handles on the same storage, in the same graph.
    #[must_use]
    pub fn shallow(&self) -> Self {
        self.map(Tensor::shallow_clone)
    }

    /// A copy with storage of its own, outside any graph.
    #[must_use]
    pub fn snapshot(&self) -> Self {
        no_grad(|| self.map(|t| t.detach().copy()))
    }

    /// A copy with storage of its own whose floating-point tensors are leaves that require gradients.
    #[must_use]
    pub fn trainable(&self) -> Self {
        let leaf = |t: Tensor| if t.is_floating_point() { t.set_requires_grad(true) } else { t };
        self.snapshot().into_iter().map(|(name, tensor)| (name, leaf(tensor))).collect()
    }

    /// The tensors that `keep` accepts, as handles on the same storage.
    #[must_use]
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        self.iter().filter(|(name, _)| keep(name)).map(|(n, t)| (n.to_owned(), t.shallow_clone())).collect()
    }

    /// Every tensor under `prefix` put before its name, as handles on the same storage.
    #[must_use]
    pub fn with_prefix(&self, prefix: &str) -> Self {
        self.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.shallow_clone())).collect()
    }

    /// The tensors whose name starts with `prefix`, without it, as handles on the same storage.
    #[must_use]
    pub fn strip_prefix(&self, prefix: &str) -> Self {
        let strip = |(name, tensor): (&str, &Tensor)| {
            Some((name.strip_prefix(prefix)?.to_owned(), tensor.shallow_clone()))
        };
        self.iter().filter_map(strip).collect()
    }

    /// `f` of each tensor.
    #[must_use]
    pub fn map(&self, mut f: impl FnMut(&Tensor) -> Tensor) -> Self {
        self.iter().map(|(name, tensor)| (name.to_owned(), f(tensor))).collect()
    }

    /// `f` of each pair of tensors of the same name.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] when names, shapes or kinds differ.
    pub fn zip_map(&self, other: &Self, mut f: impl FnMut(&Tensor, &Tensor) -> Tensor) -> Result<Self> {
        self.same_layout(other, "the other operand")?;
        Ok(self.iter().zip(other.tensors.values()).map(|((name, a), b)| (name.to_owned(), f(a, b))).collect())
    }

    /// `self + scale · other`, in the graph.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] when names, shapes or kinds differ.
    pub fn add_scaled(&self, other: &Self, scale: f64) -> Result<Self> {
        self.zip_map(other, |a, b| a + b * scale)
    }

    /// `θ_t − θ_0`: what training did to `base` to arrive here.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] when names, shapes or kinds differ.
    pub fn task_vector(&self, base: &Self) -> Result<TaskVector> {
        TaskVector::between(base, self)
    }

    /// Overwrites the values of the tensors here with those of `source`, in place, so that leaves stay leaves.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] when names, shapes or kinds differ; nothing is changed then.
    pub fn assign(&mut self, source: &Self) -> Result<()> {
        source.same_layout(self, "the parameters given")?;
        no_grad(|| {
            self.tensors.values_mut().zip(source.tensors.values()).for_each(|(to, from)| to.copy_(from))
        });
        Ok(())
    }

    /// Fails unless names, shapes and kinds are those of `expected`; `what` names this side in the message.
    ///
    /// # Errors
    ///
    /// [`Error::Mismatch`] with every difference counted and the first ten in full.
    pub fn same_layout(&self, expected: &Self, what: &str) -> Result<()> {
        let equal = self.len() == expected.len()
            && self.iter().zip(expected.iter()).all(|((name, a), (wanted, b))| {
                name == wanted && a.size() == b.size() && a.kind() == b.kind()
            });
        if equal {
            return Ok(());
        }
        let mut differences = Vec::new();
        for (name, wanted) in expected.iter() {
            match self.get(name) {
                None => differences.push(format!("`{name}` is missing")),
                Some(found) if found.size() != wanted.size() => differences.push(format!(
                    "`{name}` has shape {:?}, expected {:?}",
                    found.size(),
                    wanted.size()
                )),
                Some(found) if found.kind() != wanted.kind() => differences.push(format!(
                    "`{name}` is of kind {:?}, expected {:?}",
                    found.kind(),
                    wanted.kind()
                )),
                Some(_) => {}
            }
        }
        let extra = self.names().filter(|name| expected.get(name).is_none());
        differences.extend(extra.map(|name| format!("`{name}` is not expected")));
        let more = differences.len().saturating_sub(10);
        differences.truncate(10);
        let mut text = differences.join("; ");
        if more > 0 {
            text += &format!("; and {more} more");
        }
        Err(Error::Mismatch { what: what.to_owned(), differences: text })
    }

    /// The names of the tensors that require gradients, sorted.
    pub fn trainable_names(&self) -> Vec<String> {
        self.iter().filter(|(_, t)| t.requires_grad()).map(|(name, _)| name.to_owned()).collect()
    }

    /// The gradients of `loss` with respect to the tensors here that require them.
    ///
    /// A parameter that `loss` does not depend on is absent from the result. `keep_graph` keeps the graph for another
    /// call.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] when `loss` is not a single number; [`Error::Config`] when it depends on no parameter at all.
    pub fn gradients(&self, loss: &Tensor, keep_graph: bool) -> Result<Self> {
        if loss.numel() != 1 {
            return Err(Error::shape("loss", "[]", loss.size()));
        }
        if !loss.requires_grad() {
            return Err(Error::config(
                "loss",
                "a function of a parameter that requires gradients",
                "constant",
            ));
        }
        let leaves: Vec<(&str, &Tensor)> = self.iter().filter(|(_, t)| t.requires_grad()).collect();
        let inputs: Vec<&Tensor> = leaves.iter().map(|(_, t)| *t).collect();
        let grads = Tensor::f_run_backward(&[loss], &inputs, keep_graph, false)?;
        let named = leaves.iter().zip(grads).filter(|(_, grad)| grad.defined());
        Ok(named.map(|((name, _), grad)| ((*name).to_owned(), grad)).collect())
    }

    /// Euclidean norm over all elements of all floating-point tensors, accumulated in `f64`.
    pub fn norm(&self) -> f64 {
        let squares = |t: &Tensor| -> f64 { t.detach().norm().double_value(&[]).powi(2) };
        self.tensors.values().filter(|t| t.is_floating_point()).map(squares).sum::<f64>().sqrt()
    }

    /// Fails unless every element is finite.
    ///
    /// # Errors
    ///
    /// [`Error::NonFinite`] naming the first tensor concerned.
    pub fn check_finite(&self) -> Result<()> {
        self.iter().try_for_each(|(name, tensor)| check::finite(tensor, name))
    }

    /// All floating-point elements as one `f32` vector in the order of the names.
    pub fn flatten(&self) -> Tensor {
        let rows: Vec<Tensor> =
            self.tensors.values().filter(|t| t.is_floating_point()).map(|t| t.flatten(0, -1)).collect();
        if rows.is_empty() {
            Tensor::zeros([0], (Kind::Float, tch::Device::Cpu))
        } else {
            Tensor::cat(&rows, 0)
        }
    }
}

impl ParamSource for StateDict {
    fn find(&self, name: &str) -> Result<Option<Param<'_>>> {
        Ok(self.tensors.get(name).map(Param::Borrowed))
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }
}

impl FromIterator<(String, Tensor)> for StateDict {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(iter: I) -> Self {
        Self { tensors: iter.into_iter().collect() }
    }
}

impl Extend<(String, Tensor)> for StateDict {
    fn extend<I: IntoIterator<Item = (String, Tensor)>>(&mut self, iter: I) {
        self.tensors.extend(iter);
    }
}

impl IntoIterator for StateDict {
    type Item = (String, Tensor);
    type IntoIter = std::collections::btree_map::IntoIter<String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dict(entries: &[(&str, &[f32])]) -> StateDict {
        entries.iter().map(|(name, values)| ((*name).to_owned(), Tensor::from_slice(values))).collect()
    }

    #[test]
    fn every_difference_of_layout_is_reported() {
        let expected = dict(&[("a", &[1.0]), ("b", &[1.0, 2.0])]);
        let err = dict(&[("a", &[1.0, 2.0]), ("c", &[1.0])]).same_layout(&expected, "model").unwrap_err();
        insta::assert_snapshot!(err, @"parameters of `model` do not fit: `a` has shape [2], expected [1]; `b` is missing; `c` is not expected");
    }

    #[test]
    fn a_snapshot_does_not_follow_the_original() {
        let mut theta = dict(&[("w", &[1.0])]).trainable();
        let before = theta.snapshot();
        theta.assign(&dict(&[("w", &[5.0])])).unwrap();
        assert_eq!(before.get("w").unwrap().double_value(&[0]), 1.0);
        assert_eq!(theta.get("w").unwrap().double_value(&[0]), 5.0);
        assert!(theta.get("w").unwrap().is_leaf() && theta.get("w").unwrap().requires_grad());
    }

    #[test]
    fn gradients_skip_what_the_loss_does_not_use() {
        let theta = dict(&[("used", &[3.0]), ("unused", &[1.0])]).trainable();
        let loss = theta.get("used").unwrap().square().sum(Kind::Float);
        let grads = theta.gradients(&loss, false).unwrap();
        assert_eq!(grads.names().collect::<Vec<_>>(), ["used"]);
        assert_eq!(grads.get("used").unwrap().double_value(&[0]), 6.0);
        let err = theta.gradients(&Tensor::from(1.0f32), false).unwrap_err();
        assert!(err.to_string().contains("requires gradients"), "{err}");
    }
}
