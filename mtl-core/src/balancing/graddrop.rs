//! GradDrop: Chen et al., *Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout*, NeurIPS 2020,
//! arXiv 2010.06808.
use super::{Balancer, GradientBalancer, Stateful, StepCtx, TaskGrads};
use crate::{Error, Result, StateDict, no_grad, registry, rng};
use serde::{Deserialize, Serialize};
use tch::Tensor;

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "graddrop",
        paper: "Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout",
        source: "arXiv 2010.06808",
    },
    build: |config| {
        let method = registry::parse::<GradDropConfig>(config)?.build()?;
        Ok(Box::new(Balancer::Gradients(Box::new(method))))
    },
};

/// Hyper-parameters of [`GradDrop`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GradDropConfig {
    /// Share of a dropped gradient that is kept, in `[0, 1]`: 0 keeps nothing, 1 is the plain sum.
    pub leak: f64,
}

impl GradDropConfig {
    /// Sets the share of a dropped gradient that is kept.
    #[must_use]
    pub fn leak(mut self, leak: f64) -> Self {
        self.leak = leak;
        self
    }

    /// Checks the values and builds the balancer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `leak` is out of range.
    pub fn build(self) -> Result<GradDrop> {
        if !(0.0..=1.0).contains(&self.leak) {
            return Err(Error::config("leak", "between 0 and 1", self.leak));
        }
        Ok(GradDrop { config: self })
    }
}

/// Picks a sign for every element by chance, positive with probability ½ (1 + Σ g / Σ |g|), and drops the gradients of
/// the other sign. The expectation is the plain sum.
///
/// Gradients of a representation `[batch, …]` are first multiplied by its sign and summed over the batch, and the whole
/// batch shares what is picked; this is the form of the paper. On parameters, each element is picked for itself. The heads get their own gradients. A single task is left alone.
///
/// ```
/// use mtl_core::{StateDict, balancing::{GradDropConfig, TaskGrads}};
/// use tch::Tensor;
///
/// let dict = |v: [f64; 2]| StateDict::from_iter([("w".to_owned(), Tensor::from_slice(&v))]);
/// let grads = TaskGrads::new(vec![dict([3.0, 3.0]), dict([-1.0, -1.0])])?;
/// // Positive with probability ¾.
/// let kept = GradDropConfig::default().build()?.drop(&grads, &dict([0.7, 0.8]))?;
/// assert_eq!(kept.get("w").unwrap(), &Tensor::from_slice(&[3.0, -1.0]));
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct GradDrop {
    config: GradDropConfig,
}

impl GradDrop {
    /// The direction for known draws from `[0, 1)`: one of the shape of each parameter, or of the representation without
    /// its batch axis.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a draw that is missing, [`Error::Shape`] for one of another shape.
    pub fn drop(&self, grads: &TaskGrads, draws: &StateDict) -> Result<StateDict> {
        if grads.tasks() == 1 {
            return grads.combine(&[1.0]);
        }
        let mut direction = StateDict::new();
        for name in grads.names() {
            let Some(draw) = draws.get(name) else {
                return Err(Error::config("draws", format!("given for `{name}`"), "missing"));
            };
            let of: Vec<&Tensor> = grads.per_task().iter().filter_map(|dict| dict.get(name)).collect();
            let wanted = of.first().map(|grad| shape(grads, grad)).unwrap_or_default();
            if draw.size() != wanted {
                return Err(Error::shape(format!("draws of {name}"), format!("{wanted:?}"), draw.size()));
            }
            direction.insert(name, no_grad(|| self.pick(grads.representation(), &of, draw)));
        }
        Ok(direction)
    }

    /// The sum of the gradients of one tensor that have the sign picked.
    fn pick(&self, representation: Option<&Tensor>, of: &[&Tensor], draw: &Tensor) -> Tensor {
        let seen: Vec<Tensor> = match representation {
            Some(value) => {
                let sign = value.sign();
                let sum =
                    |grad: &&Tensor| (*grad * &sign).sum_dim_intlist([0i64].as_slice(), false, grad.kind());
                of.iter().map(sum).collect()
            }
            None => of.iter().map(|grad| grad.shallow_clone()).collect(),
        };
        let seen = Tensor::stack(&seen, 0); // [tasks, …]
        let over_tasks = [0i64];
        let kind = seen.kind();
        let sum = |t: &Tensor| t.sum_dim_intlist(over_tasks.as_slice(), false, kind);
        let positive = (sum(&seen) / (sum(&seen.abs()) + 1e-7) + 1.0) * 0.5;
        let draw = draw.to_device(seen.device()).to_kind(kind);
        let (up, down) = (positive.gt_tensor(&draw), positive.lt_tensor(&draw));
        let mask = (seen.gt(0.0).logical_and(&up)).logical_or(&seen.lt(0.0).logical_and(&down)); // [tasks, …]
        let factor = mask.to_kind(kind) * (1.0 - self.config.leak) + self.config.leak;
        let factor = if representation.is_some() { factor.unsqueeze(1) } else { factor };
        let stacked = Tensor::stack(of, 0);
        (stacked * factor).sum_dim_intlist(over_tasks.as_slice(), false, kind)
    }
}

/// Shape of the draws for a gradient.
fn shape(grads: &TaskGrads, grad: &Tensor) -> Vec<i64> {
    let batch = usize::from(grads.representation().is_some());
    grad.size().into_iter().skip(batch).collect()
}

impl Stateful for GradDrop {}

impl GradientBalancer for GradDrop {
    fn direction(
        &mut self,
        grads: &TaskGrads,
        ctx: &mut StepCtx<'_>,
    ) -> Result<(StateDict, Option<Vec<f64>>)> {
        let mut draws = StateDict::new();
        for name in grads.names() {
            let Some(grad) = grads.per_task().iter().find_map(|dict| dict.get(name)) else { continue };
            draws.insert(name, rng::uniform(ctx.rng, &shape(grads, grad), 0.5) + 0.5);
        }
        Ok((self.drop(grads, &draws)?, None))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::REPRESENTATION, *};
    use crate::Seed;
    use tch::Kind;

    #[test]
    fn the_expectation_is_the_sum_and_a_leak_of_one_gives_it() {
        let dict = |v: f64| {
            StateDict::from_iter([(
                "w".to_owned(),
                Tensor::full([4000], v, (Kind::Double, tch::Device::Cpu)),
            )])
        };
        let grads = TaskGrads::new(vec![dict(3.0), dict(-1.0), dict(0.5)]).unwrap();
        let mean = |leak: f64| {
            let mut graddrop = GradDropConfig::default().leak(leak).build().unwrap();
            let mut ctx = StepCtx { losses: &[1.0; 3], step: 0, rng: &mut Seed(0).stream("test", 0) };
            graddrop
                .direction(&grads, &mut ctx)
                .unwrap()
                .0
                .get("w")
                .unwrap()
                .mean(Kind::Double)
                .double_value(&[])
        };
        // Values of 3.5 and −1: the standard error of 4000 is 0.03.
        assert!((mean(0.0) - 2.5).abs() < 0.12, "{}", mean(0.0));
        assert_eq!(mean(1.0), 2.5);
    }

    #[test]
    fn bad_input_is_refused() {
        let err = GradDropConfig::default().leak(-0.5).build().unwrap_err();
        insta::assert_snapshot!(err, @"`leak` must be between 0 and 1, but is -0.5");
        let value = Tensor::from_slice(&[1.0, 2.0]).view([2, 1]);
        let grads =
            TaskGrads::of_representation(&value, vec![value.shallow_clone(), value.shallow_clone()]).unwrap();
        let draws = |v: &[f64]| StateDict::from_iter([(REPRESENTATION.to_owned(), Tensor::from_slice(v))]);
        let graddrop = GradDropConfig::default().build().unwrap();
        let err = graddrop.drop(&grads, &draws(&[0.1, 0.2])).unwrap_err();
        insta::assert_snapshot!(err, @"`draws of representation` must have shape [1], but has [2]");
        let err = graddrop.drop(&grads, &StateDict::new()).unwrap_err();
        insta::assert_snapshot!(err, @"`draws` must be given for `representation`, but is missing");
        assert_eq!(
            graddrop.drop(&grads, &draws(&[0.1])).unwrap().get(REPRESENTATION).unwrap(),
            &(&value * 2.0)
        );
    }
}
