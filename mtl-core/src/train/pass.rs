//! One evaluation of the training objective: losses, and gradients as the balancer wants them.
use crate::{
    Batch, Context, Error, MultiTaskModel, Result, StateDict,
    balancing::{Balanced, Balancer, StepCtx, TaskGrads},
    learner::Step,
    loss, no_grad,
};
use tch::Tensor;

/// Batches at given parameters.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    pub(super) model: &'a dyn MultiTaskModel,
    pub(super) params: &'a StateDict,
    pub(super) batches: &'a [Batch],
    pub(super) step: Step,
    /// Factor of the auxiliary losses.
    pub(super) aux_weight: f64,
}

/// Losses in the graph.
#[derive(Debug)]
struct Forward {
    losses: Vec<Tensor>,
    /// Weighted sum of the auxiliary losses, where a layer gave any that trains something.
    aux: Option<Tensor>,
    /// Whether the losses have part of their graph in common.
    shared_graph: bool,
}

/// What the optimiser gets.
#[derive(Debug)]
pub(super) struct Gradients {
    pub(super) losses: Vec<f64>,
    pub(super) direction: StateDict,
    pub(super) norm: f64,
}

impl Pass<'_> {
    /// The losses as numbers, without gradients.
    pub(super) fn losses(&self) -> Result<Vec<f64>> {
        no_grad(|| Ok(values(&self.forward()?.losses)))
    }

    /// The gradient of the plain sum of all losses.
    pub(super) fn sum_gradients(&self) -> Result<Gradients> {
        let forward = self.forward()?;
        let losses = self.finite_losses(&forward)?;
        self.weighted(forward, &vec![1.0; losses.len()], losses)
    }

    /// The direction that `balancer` makes of the losses or gradients, with those of the auxiliary losses added.
    pub(super) fn balanced_gradients(&self, balancer: &mut Balancer) -> Result<Gradients> {
        let forward = self.forward()?;
        let losses = self.finite_losses(&forward)?;
        let mut rng = self.step.seed.stream("balancer", self.step.index);
        let mut ctx = StepCtx { losses: &losses, step: self.step.index, rng: &mut rng };
        if let Balancer::Losses(method) = balancer {
            let weights = method.weights(&mut ctx)?;
            return self.weighted(forward, &weights, losses);
        }
        let (shared, own) = self.per_task(&forward)?;
        let Balanced { mut direction, weights, .. } = balancer.combine(&TaskGrads::new(shared)?, &mut ctx)?;
        let factors = balancer.head_factors(balancer.head_grad(), weights.as_deref(), losses.len());
        for (grads, factor) in own.into_iter().zip(factors) {
            let scale = |grad: Tensor| if factor == 1.0 { grad } else { grad * factor };
            no_grad(|| add(&mut direction, grads.into_iter().map(|(name, grad)| (name, scale(grad)))));
        }
        if let Some(aux) = &forward.aux {
            let grads = self.params.gradients(aux, false)?;
            no_grad(|| add(&mut direction, grads));
        }
        let norm = direction.norm();
        if !norm.is_finite() {
            return Err(self.diverged("gradient", "all tasks", first_bad(&direction)));
        }
        Ok(Gradients { losses, direction, norm })
    }

    /// One backward pass of the weighted sum.
    fn weighted(&self, forward: Forward, weights: &[f64], losses: Vec<f64>) -> Result<Gradients> {
        if weights.len() != losses.len() {
            let expected = format!("[{}]", losses.len());
            return Err(Error::shape("weights", expected, vec![weights.len() as i64]));
        }
        let scale = |(loss, &weight): (Tensor, &f64)| if weight == 1.0 { loss } else { loss * weight };
        let terms = forward.losses.into_iter().zip(weights).map(scale).chain(forward.aux);
        let Some(total) = terms.reduce(|total, term| total + term) else {
            return Err(Error::config("batches", "at least one", "empty"));
        };
        let direction = self.params.gradients(&total, false)?;
        let norm = direction.norm();
        if norm.is_finite() { Ok(Gradients { losses, direction, norm }) } else { Err(self.blame(&direction)) }
    }

    /// Gradients of each loss: those of shared parameters, and those of the task's own.
    fn per_task(&self, forward: &Forward) -> Result<(Vec<StateDict>, Vec<StateDict>)> {
        let count = forward.losses.len();
        let (mut shared, mut own) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (i, (loss, batch)) in forward.losses.iter().zip(self.batches).enumerate() {
            let keep_graph = forward.aux.is_some() || (forward.shared_graph && i + 1 < count);
            let grads = self.params.gradients(loss, keep_graph)?;
            if !grads.norm().is_finite() {
                return Err(self.diverged("gradient", self.task(batch), first_bad(&grads)));
            }
            let (common, private): (Vec<_>, Vec<_>) =
                grads.into_iter().partition(|(name, _)| self.model.is_shared(name));
            shared.push(common.into_iter().collect());
            own.push(private.into_iter().collect());
        }
        Ok((shared, own))
    }

    fn forward(&self) -> Result<Forward> {
        self.step.seed.seed_torch(self.step.index);
        let ctx = Context::train(self.step.seed, self.step.index);
        let shared_graph = self.one_input_for_all();
        let mut outputs = Vec::with_capacity(self.batches.len());
        let mut aux = Vec::new();
        if let (true, Some(first)) = (shared_graph, self.batches.first()) {
            outputs = self.model.forward_all(self.params, &first.input, &ctx)?;
            aux = ctx.take_aux();
        } else {
            for batch in self.batches {
                let ctx = Context::train(self.step.seed, self.step.index).with_task(batch.task);
                outputs.push(self.model.forward(self.params, &batch.input, &ctx)?);
                aux.extend(ctx.take_aux());
            }
        }
        let tasks = self.model.tasks();
        let mut losses = Vec::with_capacity(self.batches.len());
        for (i, batch) in self.batches.iter().enumerate() {
            let at = if shared_graph { batch.task } else { i };
            let (Some(spec), Some(output)) = (tasks.get(batch.task), outputs.get(at)) else {
                return Err(Error::config("batch.task", format!("below {}", tasks.len()), batch.task));
            };
            losses.push(loss::task_loss(spec, output, &batch.target)?);
        }
        let total = aux.into_iter().map(|(_, loss)| loss).reduce(|total, loss| total + loss);
        let aux = total.filter(|loss| loss.requires_grad() && self.aux_weight != 0.0);
        Ok(Forward { losses, aux: aux.map(|loss| loss * self.aux_weight), shared_graph })
    }

    /// Whether there is one batch for each task and all have the same tensor as input.
    fn one_input_for_all(&self) -> bool {
        let Some((first, rest)) = self.batches.split_first() else { return false };
        let mut tasks: Vec<usize> = self.batches.iter().map(|batch| batch.task).collect();
        tasks.sort_unstable();
        let same = |a: &Tensor, b: &Tensor| {
            a.data_ptr() == b.data_ptr() && a.size() == b.size() && a.stride() == b.stride()
        };
        let alike = |batch: &Batch| {
            same(&batch.input.values, &first.input.values)
                && match (&batch.input.mask, &first.input.mask) {
                    (Some(a), Some(b)) => same(a, b),
                    (a, b) => a.is_none() && b.is_none(),
                }
        };
        tasks.into_iter().eq(0..self.model.tasks().len()) && rest.iter().all(alike)
    }

    /// The losses as numbers, all of them finite.
    fn finite_losses(&self, forward: &Forward) -> Result<Vec<f64>> {
        let losses = values(&forward.losses);
        match losses.iter().zip(self.batches).find(|(loss, _)| !loss.is_finite()) {
            Some((_, batch)) => Err(self.diverged("loss", self.task(batch), first_bad(self.params))),
            None => Ok(losses),
        }
    }

    /// Which task and parameter brought NaN or infinity into the gradient of a sum. Runs everything once more.
    fn blame(&self, direction: &StateDict) -> Error {
        match self.forward().and_then(|forward| self.per_task(&forward)) {
            Err(found @ Error::Diverged { .. }) => found,
            _ => self.diverged("gradient", "all tasks", first_bad(direction)),
        }
    }

    fn task(&self, batch: &Batch) -> &str {
        self.model.tasks().get(batch.task).map_or("unknown", |spec| &spec.name)
    }

    fn diverged(&self, what: &'static str, task: &str, param: Option<String>) -> Error {
        Error::Diverged { what, task: task.to_owned(), step: self.step.index, param }
    }
}

fn values(losses: &[Tensor]) -> Vec<f64> {
    losses.iter().map(|loss| loss.double_value(&[])).collect()
}

/// The first tensor with NaN or infinity.
pub(super) fn first_bad(dict: &StateDict) -> Option<String> {
    let finite = |t: &Tensor| no_grad(|| t.isfinite().all().int64_value(&[])) != 0;
    dict.iter().find(|(_, t)| t.is_floating_point() && !finite(t)).map(|(name, _)| name.to_owned())
}

/// Adds gradients to those that are there.
fn add(total: &mut StateDict, grads: impl IntoIterator<Item = (String, Tensor)>) {
    for (name, grad) in grads {
        let sum = match total.get(&name) {
            Some(there) => there + grad,
            None => grad,
        };
        total.insert(name, sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn gradients_of_the_same_parameter_add_up() {
        let entry = |name: &str, v: f64| (name.to_owned(), Tensor::from_slice(&[v]));
        let mut total: StateDict = [entry("a", 1.0)].into_iter().collect();
        add(&mut total, [entry("a", 2.0), entry("b", 5.0)]);
        let sum = |name: &str| total.get(name).unwrap().sum(Kind::Double).double_value(&[]);
        assert_eq!([sum("a"), sum("b")], [3.0, 5.0]);
        assert_eq!(first_bad(&total), None);
        add(&mut total, [entry("b", f64::INFINITY)]);
        assert_eq!(first_bad(&total).as_deref(), Some("b"));
    }
}
