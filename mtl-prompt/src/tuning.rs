//! Training prompts and heads on a frozen model.
use mtl_core::{
    Batch, Context, Error, Input, Learner, LearnerState, MultiTaskModel, Result, StateDict,
    learner::{Step, StepReport},
    loss::task_loss,
    no_grad,
    optim::{Optimizer, Schedule},
    source::Overlay,
    train::descend,
};
use serde_json::json;
use tch::Tensor;

/// Learns a few parameters laid over frozen ones: prompts, and the heads of the tasks.
///
/// Only what is learned is saved, so a state is as small as the prompts; it is loaded over the same frozen parameters.
#[derive(Debug)]
pub struct PromptTuning {
    model: Box<dyn MultiTaskModel>,
    frozen: StateDict,
    learned: StateDict,
    optimizer: Box<dyn Optimizer>,
    schedule: Schedule,
}

impl PromptTuning {
    /// Learns `learned` (prompts and heads) over the parameters of `frozen`, which may hold more than the model reads.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when there is nothing to learn or the schedule is not valid, [`Error::NonFinite`] when a
    /// parameter is NaN or infinite.
    pub fn new(
        model: Box<dyn MultiTaskModel>,
        frozen: StateDict,
        learned: StateDict,
        optimizer: Box<dyn Optimizer>,
        schedule: Schedule,
    ) -> Result<Self> {
        if learned.is_empty() {
            return Err(Error::config("learned", "at least one parameter to learn", "empty"));
        }
        schedule.check()?;
        frozen.check_finite()?;
        learned.check_finite()?;
        Ok(Self { model, frozen: frozen.snapshot(), learned: learned.trainable(), optimizer, schedule })
    }

    /// What has been learned so far, by name.
    pub fn learned(&self) -> &StateDict {
        &self.learned
    }

    fn loss(&self, batch: &Batch, step: Step) -> Result<Tensor> {
        let params = Overlay::new(&self.frozen, &self.learned);
        let ctx = Context::train(step.seed, step.index).with_task(batch.task);
        let output = self.model.forward(&params, &batch.input, &ctx)?;
        let tasks = self.model.tasks();
        let spec = tasks.get(batch.task);
        let spec = spec.ok_or_else(|| Error::config("task", format!("below {}", tasks.len()), batch.task))?;
        task_loss(spec, &output, &batch.target)
    }
}

impl Learner for PromptTuning {
    fn observe(&mut self, batches: &[Batch], step: Step) -> Result<StepReport> {
        let mut losses = Vec::with_capacity(batches.len());
        let mut total: Option<Tensor> = None;
        for batch in batches {
            let loss = self.loss(batch, step)?;
            losses.push(loss.double_value(&[]));
            total = Some(total.map_or_else(|| loss.shallow_clone(), |sum| sum + &loss));
        }
        let Some(total) = total else {
            return Err(Error::config("batches", "at least one batch", "none"));
        };
        // The first task whose own loss is not finite is to blame for that of the sum.
        let blamed = losses.iter().position(|loss| !loss.is_finite()).unwrap_or(0);
        let task =
            batches.get(blamed).and_then(|b| self.model.tasks().get(b.task)).map(|spec| spec.name.clone());
        let (task, lr) = (task.unwrap_or_default(), self.schedule.at(step.index));
        let report = descend(&mut self.learned, &total, &task, step, &mut *self.optimizer, lr)?;
        Ok(StepReport { losses, ..report })
    }

    fn predict(&self, input: &Input, task: Option<usize>) -> Result<Tensor> {
        let ctx = task.into_iter().fold(Context::eval(), Context::with_task);
        no_grad(|| self.model.forward(&Overlay::new(&self.frozen, &self.learned), input, &ctx))
    }

    fn save(&self) -> Result<LearnerState> {
        let mut state =
            LearnerState { facts: json!({ "learner": "prompt-tuning" }), ..LearnerState::default() };
        state.put("p.", &self.learned);
        state.put("o.", &self.optimizer.state());
        Ok(state)
    }

    fn load(&mut self, state: &LearnerState) -> Result<()> {
        let learned = state.section("p.");
        learned.same_layout(&self.learned, "the saved prompts")?;
        self.optimizer.load_state(&state.section("o."), &self.learned)?;
        self.learned.assign(&learned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompts::{Frame, PromptModule, VisualPromptTuningConfig};
    use mtl_core::{
        Encoder, Seed, TaskSpec,
        models::{MultiTask, VitConfig},
        optim::AdamConfig,
        rng,
    };
    use std::sync::Arc;
    use tch::Kind;

    const FRAME: Frame = Frame { layers: 2, dim: 16, patch_values: 16 };

    fn model() -> MultiTask {
        let config = VitConfig::default().image(1, 8, 4).size(16, 2, 2).intermediate_size(32);
        let encoder: Arc<dyn Encoder> = Arc::new(config.build().unwrap());
        MultiTask::new(encoder, vec![TaskSpec::classification("bright", 2)]).unwrap()
    }

    /// The frozen parameters, and a tuner of prompts and head.
    fn tuner(deep: bool) -> (StateDict, PromptTuning) {
        use mtl_core::Model;
        let all = model().init(Seed(0)).unwrap();
        let frozen = all.filter(|name| !name.starts_with("heads."));
        let mut learned = VisualPromptTuningConfig::default().deep(deep).init(&FRAME, Seed(1)).unwrap();
        learned.extend(all.filter(|name| name.starts_with("heads.")));
        let optimizer = Box::new(AdamConfig::default().build().unwrap());
        let schedule = Schedule::constant(0.01);
        let tuner =
            PromptTuning::new(Box::new(model()), frozen.shallow(), learned, optimizer, schedule).unwrap();
        (frozen, tuner)
    }

    /// Noise, and whether its mean is positive.
    fn batch(step: u64) -> Batch {
        let images = rng::normal(&mut Seed(7).stream("test", step), &[16, 1, 8, 8], 1.0);
        let shift = rng::normal(&mut Seed(8).stream("test", step), &[16, 1, 1, 1], 1.0);
        let target = shift.flatten(0, -1).gt(0.0).to_kind(Kind::Int64);
        Batch { task: 0, input: (images + shift).into(), target }
    }

    fn train(tuner: &mut PromptTuning, steps: std::ops::Range<u64>) -> Vec<f64> {
        let step = |index| Step { index, seed: Seed(3) };
        steps.map(|i| tuner.observe(&[batch(i)], step(i)).unwrap().losses[0]).collect()
    }

    #[test]
    fn only_prompts_and_heads_change() {
        let (frozen, mut tuner) = tuner(true);
        let before = tuner.learned().snapshot();
        train(&mut tuner, 0..3);
        for (name, tensor) in tuner.learned().iter() {
            assert!(!tensor.equal(before.get(name).unwrap()), "{name} has not moved");
        }
        for (name, tensor) in tuner.frozen.iter() {
            assert!(tensor.equal(frozen.get(name).unwrap()), "{name} has moved");
            assert!(!tensor.requires_grad());
        }
    }

    #[test]
    fn a_frozen_random_model_is_steered_to_a_new_task() {
        let (_, mut tuner) = tuner(false);
        let losses = train(&mut tuner, 0..120);
        let mean = |l: &[f64]| l.iter().sum::<f64>() / l.len() as f64;
        assert!(mean(&losses[100..]) < 0.6 * mean(&losses[..5]), "{losses:?}");
    }

    #[test]
    fn a_resumed_tuner_goes_on_with_the_same_bits() {
        let (_, mut whole) = tuner(true);
        train(&mut whole, 0..8);
        let (_, mut first) = tuner(true);
        train(&mut first, 0..5);
        let (_, mut second) = tuner(true);
        second.load(&first.save().unwrap()).unwrap();
        train(&mut second, 5..8);
        assert!(second.learned().flatten().equal(&whole.learned().flatten()));
    }

    #[test]
    fn an_input_that_is_not_finite_stops_before_anything_changes() {
        let (_, mut tuner) = tuner(false);
        let before = tuner.learned().flatten().copy();
        let mut bad = batch(0);
        bad.input = (bad.input.values * f64::NAN).into();
        let err = tuner.observe(&[bad], Step { index: 4, seed: Seed(0) }).unwrap_err();
        insta::assert_snapshot!(err, @"loss of task `bright` is not finite at step 4");
        assert!(tuner.learned().flatten().equal(&before));
    }

    #[test]
    fn prompts_of_another_depth_are_refused() {
        let (_, shallow) = tuner(false);
        let (_, mut deep) = tuner(true);
        let err = deep.load(&shallow.save().unwrap()).unwrap_err();
        insta::assert_snapshot!(err, @"parameters of `the saved prompts` do not fit: `vit.prompt.1` is missing");
    }
}
