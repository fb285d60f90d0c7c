//! F-MTL: Phan et al., *Improving Multi-task Learning via Seeking Task-based Flat Regions*, arXiv 2211.13723 (version 5:
//! *Beyond Losses Reweighting*).
use super::pass::{Gradients, Pass, PerTask, add};
use crate::{
    Error, Result, StateDict,
    balancing::{Balanced, Balancer, Gram, StepCtx, TaskGrads},
    learner::Boundary,
    no_grad,
    optim::{Sam, SamConfig},
};
use serde::{Deserialize, Serialize};

/// Over which parameters the length of a task's gradient is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormScope {
    /// Shared parameters and the task's own apart, each with its radius (the paper).
    #[default]
    Separate,
    /// Both together, with the radius of the shared ones (the released script for MultiMNIST).
    Joint,
}

/// How the gradients of losses and of sharpness become one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlatAggregation {
    /// The balanced gradients of the losses plus the balanced gradients of the sharpness (the paper).
    #[default]
    Decomposed,
    /// The gradients at the perturbed points are balanced as they are.
    Direct,
    /// Both families are balanced apart, then their two directions with each other.
    SecondAggre,
    /// For each task its two gradients are balanced with each other, then the tasks.
    EachAggre,
}

/// Hyper-parameters of flat-region training; the radii are SAM's default, the rest is the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FlatConfig {
    /// Radius ρ of the neighbourhood in the shared parameters. At least 0.
    pub rho_shared: f64,
    /// Radius in the parameters of a single task. At least 0.
    pub rho_head: f64,
    /// Measure the neighbourhood relative to the size of each weight (ASAM), as all released experiments do.
    pub adaptive: bool,
    /// Over which parameters the length of a gradient is taken.
    pub norm_scope: NormScope,
    /// How the two families of gradients become one direction.
    pub aggregation: FlatAggregation,
}

impl Default for FlatConfig {
    fn default() -> Self {
        Self {
            rho_shared: 0.05,
            rho_head: 0.05,
            adaptive: false,
            norm_scope: NormScope::default(),
            aggregation: FlatAggregation::default(),
        }
    }
}

impl FlatConfig {
    /// Sets both radii.
    #[must_use]
    pub fn rho(mut self, rho: f64) -> Self {
        (self.rho_shared, self.rho_head) = (rho, rho);
        self
    }

    /// Chooses the adaptive neighbourhood.
    #[must_use]
    pub fn adaptive(mut self, adaptive: bool) -> Self {
        self.adaptive = adaptive;
        self
    }

    /// Sets over which parameters the length of a gradient is taken.
    #[must_use]
    pub fn norm_scope(mut self, norm_scope: NormScope) -> Self {
        self.norm_scope = norm_scope;
        self
    }

    /// Sets how the two families of gradients become one direction.
    #[must_use]
    pub fn aggregation(mut self, aggregation: FlatAggregation) -> Self {
        self.aggregation = aggregation;
        self
    }

    /// Checks the values and builds what `tasks` tasks need, with balancers by `balancer`.
    pub(super) fn build(self, tasks: usize, balancer: &dyn Fn() -> Result<Balancer>) -> Result<Flat> {
        let sam = |rho| SamConfig::default().rho(rho).adaptive(self.adaptive).build();
        let more = match self.aggregation {
            FlatAggregation::SecondAggre => 1,
            FlatAggregation::EachAggre => tasks,
            FlatAggregation::Decomposed | FlatAggregation::Direct => 0,
        };
        let flat = balancer()?;
        if let Balancer::Sampled(_) = flat {
            let must = "one that takes the gradients of one batch, with `flat`";
            return Err(Error::config("balancer", must, "of three independent batches"));
        }
        Ok(Flat {
            shared: sam(self.rho_shared)?,
            head: sam(self.rho_head)?,
            flat,
            more: (0..more).map(|_| balancer()).collect::<Result<_>>()?,
            config: self,
        })
    }
}

/// Each task's gradient where its loss is worst nearby, split into that of the loss and that of its sharpness, which are
/// balanced apart. Every task has a neighbourhood of its own.
#[derive(Debug)]
pub(super) struct Flat {
    config: FlatConfig,
    shared: Sam,
    head: Sam,
    /// Balances the gradients of the sharpness.
    flat: Balancer,
    /// Those of the second stage: one for both families, or one for each task.
    more: Vec<Balancer>,
}

/// A balanced direction, and what is to be reported of it.
struct Part {
    direction: StateDict,
    weights: Option<Vec<f64>>,
    gram: Option<Gram>,
}

impl Flat {
    pub(super) fn balancer_mut(&mut self) -> &mut Balancer {
        &mut self.flat
    }

    pub(super) fn state(&self) -> StateDict {
        let mut state = self.flat.state().with_prefix("flat.");
        for (i, balancer) in self.more.iter().enumerate() {
            state.extend(balancer.state().with_prefix(&format!("more{i}.")));
        }
        state
    }

    pub(super) fn load_state(&mut self, state: &StateDict) -> Result<()> {
        let before = self.state().snapshot();
        let load = |flat: &mut Self, state: &StateDict| -> Result<()> {
            flat.flat.load_state(&state.strip_prefix("flat."))?;
            let more = flat.more.iter_mut().enumerate();
            more.into_iter().try_for_each(|(i, b)| b.load_state(&state.strip_prefix(&format!("more{i}."))))
        };
        let known = |name: &str| {
            name.starts_with("flat.") || (0..self.more.len()).any(|i| name.starts_with(&format!("more{i}.")))
        };
        if let Some(extra) = state.names().find(|name| !known(name)) {
            return Err(Error::Mismatch {
                what: "balancer state".to_owned(),
                differences: format!("`{extra}` is not expected"),
            });
        }
        let loaded = load(self, state);
        if loaded.is_err() {
            load(self, &before)?;
        }
        loaded
    }

    pub(super) fn boundary(&mut self, event: &Boundary<'_>) -> Result<()> {
        self.flat.boundary(event)?;
        self.more.iter_mut().try_for_each(|balancer| balancer.boundary(event))
    }

    /// One evaluation: gradients at the parameters, then at each task's worst point nearby.
    pub(super) fn gradients(&mut self, pass: &Pass<'_>, balancer: &mut Balancer) -> Result<Gradients> {
        let PerTask { losses, shared, own, aux } = pass.per_task()?;
        let (mut worst, mut flat, mut heads) = (Vec::new(), Vec::new(), Vec::new());
        let mut worst_losses = Vec::with_capacity(losses.len());
        for (i, (common, private)) in shared.iter().zip(&own).enumerate() {
            let there = self.perturbed(pass.params, common, private)?;
            let batch = pass.batches.get(i..=i).unwrap_or(&[]);
            let mut options = pass.options;
            options.aux_weight = 0.0; // Auxiliary losses are no task's.
            let mut found = Pass { params: &there, batches: batch, options, ..*pass }.per_task()?;
            worst_losses.extend(found.losses);
            let (sharp, head) = (found.shared.pop(), found.own.pop());
            let sharp = sharp.unwrap_or_default();
            flat.push(difference(&sharp, common));
            worst.push(sharp);
            heads.push(head.unwrap_or_default());
        }
        let sharpness: Vec<f64> =
            worst_losses.iter().zip(&losses).map(|(there, here)| there - here).collect();
        let part = self.aggregate(pass, balancer, &losses, &sharpness, shared, flat, worst)?;
        let Part { mut direction, weights, gram } = part;
        let head_grad = pass.options.head_grad.unwrap_or(balancer.head_grad());
        let factors = balancer.head_factors(head_grad, weights.as_deref(), losses.len());
        no_grad(|| {
            for (grads, factor) in heads.into_iter().zip(factors) {
                add(&mut direction, grads.into_iter().map(|(name, grad)| (name, grad * factor)));
            }
            add(&mut direction, aux.into_iter().flatten());
        });
        let norm = direction.norm();
        if !norm.is_finite() {
            return Err(pass.diverged("gradient", "all tasks", super::pass::first_bad(&direction)));
        }
        Ok(Gradients { losses, direction, norm, weights, gram })
    }

    /// The parameters where the loss of a task is worst nearby.
    fn perturbed(&self, params: &StateDict, shared: &StateDict, own: &StateDict) -> Result<StateDict> {
        match self.config.norm_scope {
            NormScope::Separate => {
                let moved = self.shared.perturb(params, shared)?;
                self.head.perturb(&moved, own)
            }
            NormScope::Joint => {
                let mut all = shared.shallow();
                all.extend(own.shallow());
                self.shared.perturb(params, &all)
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // Two families of gradients with their losses, and whom to ask.
    fn aggregate(
        &mut self,
        pass: &Pass<'_>,
        balancer: &mut Balancer,
        losses: &[f64],
        sharpness: &[f64],
        shared: Vec<StateDict>,
        flat: Vec<StateDict>,
        worst: Vec<StateDict>,
    ) -> Result<Part> {
        let balance = |balancer: &mut Balancer, grads: Vec<StateDict>, losses: &[f64]| -> Result<Part> {
            if grads.iter().all(|dict| dict.norm() == 0.0) {
                // Nothing to balance; most methods would divide by the length of nothing.
                let zeros = grads.into_iter().reduce(|mut all, dict| {
                    all.extend(dict);
                    all
                });
                return Ok(Part { direction: zeros.unwrap_or_default(), weights: None, gram: None });
            }
            let mut ctx = StepCtx { losses, step: pass.step.index, rng: &mut pass.rng() };
            let Balanced { direction, weights, gram } =
                balancer.combine(&TaskGrads::new(grads)?, &mut ctx)?;
            Ok(Part { direction, weights, gram })
        };
        match self.config.aggregation {
            FlatAggregation::Direct => balance(balancer, worst, losses),
            FlatAggregation::Decomposed => {
                let mut part = balance(balancer, shared, losses)?;
                let sharp = balance(&mut self.flat, flat, sharpness)?;
                no_grad(|| add(&mut part.direction, sharp.direction));
                Ok(part)
            }
            FlatAggregation::SecondAggre => {
                let part = balance(balancer, shared, losses)?;
                let sharp = balance(&mut self.flat, flat, sharpness)?;
                let totals = [losses.iter().sum(), sharpness.iter().sum()];
                let Some(second) = self.more.first_mut() else { return Ok(part) };
                let both = balance(second, vec![part.direction, sharp.direction], &totals)?;
                Ok(Part { direction: both.direction, ..part })
            }
            FlatAggregation::EachAggre => {
                let pairs = shared.into_iter().zip(flat).zip(losses.iter().zip(sharpness));
                let each = pairs.zip(&mut self.more).map(|(((g, f), (&loss, &sharp)), own)| {
                    Ok(balance(own, vec![g, f], &[loss, sharp])?.direction)
                });
                let each = each.collect::<Result<Vec<_>>>()?;
                balance(balancer, each, losses)
            }
        }
    }
}

/// `a − b`; a parameter that one of them lacks counts as zero there.
fn difference(a: &StateDict, b: &StateDict) -> StateDict {
    no_grad(|| {
        let mut out = b.map(|t| t.neg());
        for (name, there) in a.iter() {
            let value = match b.get(name) {
                Some(here) => there - here,
                None => there.shallow_clone(),
            };
            out.insert(name, value);
        }
        out
    })
}
