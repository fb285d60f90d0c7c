//! One evaluation of the training objective: losses, and gradients as the balancer wants them.
use super::{
    options::{GradSource, GramRoute, Options},
    spare::Spare,
};
use crate::{
    Batch, Context, Error, MultiTaskModel, ParamSource, Result, StateDict,
    balancing::{Balanced, Balancer, Call, Gram, LayerGrads, REPRESENTATION, Recorder, StepCtx, TaskGrads},
    learner::Step,
    loss, no_grad,
};
use rand_chacha::ChaCha8Rng;
use std::cell::RefCell;
use tch::Tensor;

/// Batches at given parameters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) model: &'a dyn MultiTaskModel,
    pub(super) params: &'a StateDict,
    pub(super) batches: &'a [Batch],
    pub(super) step: Step,
    pub(super) options: Options,
    pub(super) spare: &'a Spare,
    /// Where the traces of the first forward pass go.
    pub(super) traces: &'a RefCell<Vec<(String, Tensor)>>,
}

/// Losses in the graph.
#[derive(Debug)]
struct Forward {
    losses: Vec<Tensor>,
    /// Weighted sum of the auxiliary losses, where a layer gave any that trains something.
    aux: Option<Tensor>,
    /// Whether the losses have part of their graph in common.
    shared_graph: bool,
    /// What all heads start from, where the model was asked for it.
    representations: Vec<Tensor>,
}

/// What the optimiser gets.
#[derive(Debug)]
pub(super) struct Gradients {
    pub(super) losses: Vec<f64>,
    pub(super) direction: StateDict,
    pub(super) norm: f64,
    pub(super) weights: Option<Vec<f64>>,
    pub(super) gram: Option<Gram>,
}

/// Gradients of each task apart.
#[derive(Debug)]
pub(super) struct PerTask {
    pub(super) losses: Vec<f64>,
    pub(super) shared: Vec<StateDict>,
    pub(super) own: Vec<StateDict>,
    /// Those of the auxiliary losses.
    pub(super) aux: Option<StateDict>,
}

impl Pass<'_> {
    /// The losses as numbers, without gradients.
    pub(super) fn losses(&self) -> Result<Vec<f64>> {
        no_grad(|| Ok(values(&self.forward(self.params, false)?.losses)))
    }

    /// The gradient of the plain sum of all losses.
    pub(super) fn sum_gradients(&self) -> Result<Gradients> {
        let forward = self.forward(self.params, false)?;
        let losses = self.finite_losses(&forward)?;
        self.weighted(forward, vec![1.0; losses.len()], losses)
    }

    /// The random stream of the balancer in this step.
    pub(super) fn rng(&self) -> ChaCha8Rng {
        self.step.seed.stream("balancer", self.step.index)
    }

    /// The direction that `balancer` makes of the losses or gradients, with those of the auxiliary losses added.
    pub(super) fn balanced_gradients(&self, balancer: &mut Balancer) -> Result<Gradients> {
        let representation = self.options.grad_source != GradSource::Parameters;
        match balancer {
            Balancer::Losses(method) => {
                let forward = self.forward(self.params, false)?;
                let losses = self.finite_losses(&forward)?;
                let weights = method.weights(&mut StepCtx {
                    losses: &losses,
                    step: self.step.index,
                    rng: &mut self.rng(),
                })?;
                let gram = self.options.measure.then(|| self.gram()).transpose()?;
                Ok(Gradients { gram, ..self.weighted(forward, weights, losses)? })
            }
            _ if representation => self.at_representation(balancer),
            Balancer::Sampled(_) => self.sampled(balancer),
            Balancer::Gram(_) if self.options.gram == GramRoute::Auto => self.layered(balancer),
            _ => {
                // A method on inner products refuses those that are not finite.
                let by_products = matches!(balancer, Balancer::Gram(_));
                let found = self.per_task_checked(!by_products)?;
                self.spare.keep(&found.shared);
                let grads = TaskGrads::new(found.shared)?;
                let gram = match balancer {
                    Balancer::Gradients(_) if self.options.measure => Some(grads.gram()?),
                    _ => None,
                };
                let mut ctx = StepCtx { losses: &found.losses, step: self.step.index, rng: &mut self.rng() };
                let balanced = match balancer.combine_owned(grads, &mut ctx) {
                    Err(error @ Error::NonFinite { .. }) => return Err(self.blame_or(error)),
                    balanced => balanced?,
                };
                let balanced = Balanced { gram: balanced.gram.or(gram), ..balanced };
                self.complete(balancer, balanced, found.losses, found.own, found.aux)
            }
        }
    }

    /// The inner products of the task gradients of the shared parameters.
    pub(super) fn gram(&self) -> Result<Gram> {
        let layers = self.per_layer()?;
        layers.grads.gram()
    }

    /// Adds what single tasks and auxiliary losses get to the balanced direction of the shared parameters.
    fn complete(
        &self,
        balancer: &Balancer,
        balanced: Balanced,
        losses: Vec<f64>,
        own: Vec<StateDict>,
        aux: Option<StateDict>,
    ) -> Result<Gradients> {
        let Balanced { mut direction, weights, gram } = balanced;
        let head_grad = self.options.head_grad.unwrap_or(balancer.head_grad());
        let factors = balancer.head_factors(head_grad, weights.as_deref(), losses.len());
        no_grad(|| {
            for (grads, factor) in own.into_iter().zip(factors) {
                let scale = |grad: Tensor| if factor == 1.0 { grad } else { grad * factor };
                add(&mut direction, grads.into_iter().map(|(name, grad)| (name, scale(grad))));
            }
            add(&mut direction, aux.into_iter().flatten());
        });
        let norm = direction.norm();
        if !norm.is_finite() {
            return Err(self.blame(&direction));
        }
        Ok(Gradients { losses, direction, norm, weights, gram })
    }

    /// One backward pass of the weighted sum.
    fn weighted(&self, forward: Forward, weights: Vec<f64>, losses: Vec<f64>) -> Result<Gradients> {
        if weights.len() != losses.len() {
            let expected = format!("[{}]", losses.len());
            return Err(Error::shape("weights", expected, vec![weights.len() as i64]));
        }
        let scale = |(loss, &weight): (Tensor, &f64)| if weight == 1.0 { loss } else { loss * weight };
        let terms = forward.losses.into_iter().zip(&weights).map(scale).chain(forward.aux);
        let Some(total) = terms.reduce(|total, term| total + term) else {
            return Err(Error::config("batches", "at least one", "empty"));
        };
        let direction = self.params.gradients(&total, false)?;
        let norm = direction.norm();
        if !norm.is_finite() {
            return Err(self.blame(&direction));
        }
        Ok(Gradients { losses, direction, norm, weights: Some(weights), gram: None })
    }

    /// Gradients of each loss: those of shared parameters, and those of the task's own.
    pub(super) fn per_task(&self) -> Result<PerTask> {
        self.per_task_checked(true)
    }

    /// As [`per_task`](Self::per_task); whoever does without the check of the shared ones must notice by himself.
    fn per_task_checked(&self, check: bool) -> Result<PerTask> {
        let forward = self.forward(self.params, false)?;
        let losses = self.finite_losses(&forward)?;
        let count = forward.losses.len();
        let (mut shared, mut own) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (i, (loss, batch)) in forward.losses.iter().zip(self.batches).enumerate() {
            let keep_graph = forward.aux.is_some() || (forward.shared_graph && i + 1 < count);
            self.spare.let_go();
            let grads = self.params.gradients(loss, keep_graph)?;
            let (common, private) = self.split(grads);
            // Inner products would tell as well, and cost another look at every number.
            let looked_at = if check { common.norm() } else { 0.0 };
            if !(looked_at.is_finite() && private.norm().is_finite()) {
                let bad = first_bad(&common).or_else(|| first_bad(&private));
                return Err(self.diverged("gradient", self.task(batch), bad));
            }
            shared.push(common);
            own.push(private);
        }
        let aux = forward.aux.as_ref().map(|aux| self.params.gradients(aux, false)).transpose()?;
        Ok(PerTask { losses, shared, own, aux })
    }

    /// Shared parameters, and the others.
    fn split(&self, grads: StateDict) -> (StateDict, StateDict) {
        let (common, private): (Vec<_>, Vec<_>) =
            grads.into_iter().partition(|(name, _)| self.model.is_shared(name));
        (common.into_iter().collect(), private.into_iter().collect())
    }

    /// Three independent batches: the inner products between the first two weigh the gradients of the third.
    fn sampled(&self, balancer: &mut Balancer) -> Result<Gradients> {
        let thirds = thirds(self.batches)?;
        let found: Vec<PerTask> =
            thirds.iter().map(|batches| Pass { batches, ..*self }.per_task()).collect::<Result<_>>()?;
        let mean = |pick: &dyn Fn(&PerTask) -> f64| found.iter().map(pick).sum::<f64>() / 3.0;
        let losses: Vec<f64> = (0..self.batches.len())
            .map(|k| mean(&|part| part.losses.get(k).copied().unwrap_or(0.0)))
            .collect();
        let mut grads = Vec::with_capacity(3);
        let (mut own, mut aux): (Vec<StateDict>, Option<StateDict>) = (Vec::new(), None);
        for part in found {
            grads.push(TaskGrads::new(part.shared)?);
            // Heads and auxiliary losses learn from all three.
            own.resize_with(part.own.len(), StateDict::new);
            no_grad(|| {
                let third = |(name, grad): (String, Tensor)| (name, grad / 3.0);
                own.iter_mut().zip(part.own).for_each(|(sum, dict)| add(sum, dict.into_iter().map(third)));
                if let Some(dict) = part.aux {
                    add(aux.get_or_insert_with(StateDict::new), dict.into_iter().map(third));
                }
            });
        }
        let mut ctx = StepCtx { losses: &losses, step: self.step.index, rng: &mut self.rng() };
        let (Balancer::Sampled(method), Ok([first, second, third])) =
            (&mut *balancer, <[TaskGrads; 3]>::try_from(grads))
        else {
            return Err(Error::config("balancer", "one of sampled gradients", "another kind"));
        };
        let weights = method.weights(&first.cross(&second)?, &mut ctx)?;
        let gram = self.options.measure.then(|| third.gram()).transpose()?;
        let direction = third.into_combined(&weights)?;
        self.complete(balancer, Balanced { direction, weights: Some(weights), gram }, losses, own, aux)
    }

    /// Balances the gradients of the shared representation, and goes on from there with one backward pass.
    fn at_representation(&self, balancer: &mut Balancer) -> Result<Gradients> {
        let forward = self.forward(self.params, true)?;
        let losses = self.finite_losses(&forward)?;
        let [z] = forward.representations.as_slice() else {
            let found = if forward.shared_graph { forward.representations.len() } else { 0 };
            let must =
                "`parameters` for a model without one representation that all tasks share in this step";
            return Err(Error::config("grad_source", must, format!("of {found} representations")));
        };
        if !z.requires_grad() {
            return Err(Error::config("representation", "a function of trained parameters", "constant"));
        }
        let heads: Vec<(&str, &Tensor)> =
            self.params.iter().filter(|(name, t)| t.requires_grad() && !self.model.is_shared(name)).collect();
        let inputs: Vec<&Tensor> = std::iter::once(z).chain(heads.iter().map(|(_, t)| *t)).collect();
        let (mut grads, mut own) = (Vec::new(), Vec::new());
        for loss in &forward.losses {
            let mut found = Tensor::f_run_backward(&[loss], &inputs, true, false)?.into_iter();
            let of_z = found.next().filter(Tensor::defined).unwrap_or_else(|| no_grad(|| z.zeros_like()));
            grads.push(of_z);
            let named = heads.iter().zip(found).filter(|(_, grad)| grad.defined());
            own.push(named.map(|((name, _), grad)| ((*name).to_owned(), grad)).collect::<StateDict>());
        }
        let summed = |grads: &[Tensor]| -> Result<Gram> {
            let sum = |g: &Tensor| no_grad(|| g.sum_dim_intlist([0i64].as_slice(), true, g.kind()));
            let at = no_grad(|| z.narrow(0, 0, 1));
            TaskGrads::of_representation(&at, grads.iter().map(sum).collect())?.gram()
        };
        let by_sum = self.options.grad_source == GradSource::RepresentationSum;
        let mut ctx = StepCtx { losses: &losses, step: self.step.index, rng: &mut self.rng() };
        let balanced = match balancer {
            Balancer::Gram(method) if by_sum => {
                let gram = summed(&grads)?;
                let weights = method.weights(&gram, &mut ctx)?;
                let direction = TaskGrads::of_representation(z, grads)?.into_combined(&weights)?;
                Balanced { direction, weights: Some(weights), gram: Some(gram) }
            }
            _ => balancer.combine(&TaskGrads::of_representation(z, grads)?, &mut ctx)?,
        };
        let Some(of_z) = balanced.direction.get(REPRESENTATION) else {
            return Err(Error::config("direction", "that of the representation", "empty"));
        };
        let through = (z * of_z).sum(z.kind());
        let total = forward.aux.iter().fold(through, |total, aux| total + aux);
        let (direction, _) = self.split(self.params.gradients(&total, false)?);
        self.complete(balancer, Balanced { direction, ..balanced }, losses, own, None)
    }

    /// Gradients of each task with those of linear layers not formed.
    fn per_layer(&self) -> Result<PerLayer> {
        let is_shared = |name: &str| self.model.is_shared(name);
        let recorder = Recorder::new(self.params, &is_shared, self.batches.len());
        let forward = self.forward(&recorder, false)?;
        let losses = self.finite_losses(&forward)?;
        let (calls, names) = recorder.finish()?;
        let leaves: Vec<(&String, &Tensor)> =
            names.iter().filter_map(|name| Some((name, self.params.get(name)?))).collect();
        let inputs: Vec<&Tensor> =
            calls.iter().map(|call| &call.y).chain(leaves.iter().map(|(_, t)| *t)).collect();
        let backward = |loss: &Tensor, keep_graph: bool| -> Result<(Vec<Tensor>, StateDict)> {
            if !loss.requires_grad() {
                let must = "a function of a parameter that requires gradients";
                return Err(Error::config("loss", must, "constant"));
            }
            let mut found = Tensor::f_run_backward(&[loss], &inputs, keep_graph, false)?;
            let rest = found.split_off(calls.len());
            let named = leaves.iter().zip(rest).filter(|(_, grad)| grad.defined());
            let mut rest: StateDict = named.map(|((name, _), grad)| ((*name).clone(), grad)).collect();
            for (call, output) in calls.iter().zip(&mut found) {
                let [weight, bias] = call.params();
                if names.contains(&weight) || names.contains(&bias) {
                    call.form(self.params.get(&bias).is_some(), output, &mut rest);
                }
            }
            Ok((found, rest))
        };
        let count = forward.losses.len();
        let (mut outputs, mut shared, mut own) = (Vec::new(), Vec::new(), Vec::new());
        for (i, loss) in forward.losses.iter().enumerate() {
            let keep_graph = forward.aux.is_some() || (forward.shared_graph && i + 1 < count);
            self.spare.let_go();
            let (found, rest) = backward(loss, keep_graph)?;
            let (common, private) = self.split(rest);
            outputs.push(found);
            shared.push(common);
            own.push(private);
        }
        let aux = forward.aux.as_ref().map(|aux| backward(aux, false)).transpose()?;
        self.spare.keep(&shared);
        let grads = LayerGrads::new(self.params, &calls, &outputs, shared)?;
        Ok(PerLayer { losses, grads, own, aux, calls })
    }

    /// A balancer that sees inner products alone.
    fn layered(&self, balancer: &mut Balancer) -> Result<Gradients> {
        let PerLayer { losses, grads, own, aux, calls } = self.per_layer()?;
        let gram = match grads.gram() {
            Ok(gram) => gram,
            Err(error) => return Err(self.blame_or(error)),
        };
        let mut ctx = StepCtx { losses: &losses, step: self.step.index, rng: &mut self.rng() };
        let Balancer::Gram(method) = &mut *balancer else {
            return Err(Error::config("balancer", "one of inner products", "another kind"));
        };
        let weights = method.weights(&gram, &mut ctx)?;
        let (through, aux) = aux.map_or((None, None), |(outputs, rest)| (Some(outputs), Some(rest)));
        let direction = grads.combine(&weights, through.map(|outputs| (calls.as_slice(), outputs)))?;
        self.complete(
            balancer,
            Balanced { direction, weights: Some(weights), gram: Some(gram) },
            losses,
            own,
            aux,
        )
    }

    fn forward(&self, params: &dyn ParamSource, represent: bool) -> Result<Forward> {
        self.step.seed.seed_torch(self.step.index);
        let ctx = Context::train(self.step.seed, self.step.index);
        let ctx = if represent { ctx.with_representation() } else { ctx };
        let trace = self.options.trace && self.traces.borrow().is_empty();
        let traced = |ctx: Context| if trace { ctx.with_traces() } else { ctx };
        let ctx = traced(ctx);
        let mut traces = Vec::new();
        let shared_graph = self.one_input_for_all();
        let mut outputs = Vec::with_capacity(self.batches.len());
        let mut aux = Vec::new();
        if let (true, Some(first)) = (shared_graph, self.batches.first()) {
            outputs = self.model.forward_all(params, &first.input, &ctx)?;
            aux = ctx.take_aux();
            traces = ctx.take_traces();
        } else {
            for batch in self.batches {
                let ctx = traced(Context::train(self.step.seed, self.step.index).with_task(batch.task));
                outputs.push(self.model.forward(params, &batch.input, &ctx)?);
                aux.extend(ctx.take_aux());
                traces.extend(ctx.take_traces());
            }
        }
        if trace {
            let outside = |(name, value): (String, Tensor)| (name, value.detach());
            *self.traces.borrow_mut() = traces.into_iter().map(outside).collect();
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
        let aux_weight = self.options.aux_weight;
        let aux =
            total.filter(|loss| loss.requires_grad() && aux_weight != 0.0).map(|loss| loss * aux_weight);
        Ok(Forward { losses, aux, shared_graph, representations: ctx.take_representations() })
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
        self.blame_or(self.diverged("gradient", "all tasks", first_bad(direction)))
    }

    /// The task and parameter whose gradient is not finite; `otherwise` when each is by itself.
    fn blame_or(&self, otherwise: Error) -> Error {
        match self.per_task() {
            Err(found @ Error::Diverged { .. }) => found,
            _ => otherwise,
        }
    }

    fn task(&self, batch: &Batch) -> &str {
        self.model.tasks().get(batch.task).map_or("unknown", |spec| &spec.name)
    }

    pub(super) fn diverged(&self, what: &'static str, task: &str, param: Option<String>) -> Error {
        Error::Diverged { what, task: task.to_owned(), step: self.step.index, param }
    }
}

/// Gradients of each task with those of linear layers not formed.
struct PerLayer {
    losses: Vec<f64>,
    grads: LayerGrads,
    own: Vec<StateDict>,
    /// Gradients of the auxiliary losses: of the outputs of the calls, and of the other parameters.
    aux: Option<(Vec<Tensor>, StateDict)>,
    calls: Vec<Call>,
}

/// Each batch in three parts of equal size; what is left over is not used.
fn thirds(batches: &[Batch]) -> Result<[Vec<Batch>; 3]> {
    let smallest = batches.iter().map(|batch| batch.input.batch()).min().unwrap_or(0);
    if smallest < 3 {
        let must = "at least 3 examples for each task, as this balancer takes three independent batches";
        return Err(Error::config("batches", must, smallest));
    }
    let part = |i: i64| -> Vec<Batch> {
        let cut = |t: &Tensor, n: i64| t.narrow(0, i * n, n);
        let of = |batch: &Batch| {
            let n = batch.input.batch() / 3;
            let mut input = batch.input.shallow();
            input.values = cut(&input.values, n);
            input.mask = input.mask.as_ref().map(|mask| cut(mask, n));
            Batch { task: batch.task, input, target: cut(&batch.target, n) }
        };
        batches.iter().map(of).collect()
    };
    Ok([part(0), part(1), part(2)])
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
pub(super) fn add(total: &mut StateDict, grads: impl IntoIterator<Item = (String, Tensor)>) {
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
