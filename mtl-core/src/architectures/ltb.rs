//! LTB: Guo et al., *Learning to Branch for Multi-Task Learning*, ICML 2020, arXiv 2006.01895.
use super::{Architecture, Backbone, Network, Sharing, mixing};
use crate::{Context, Cost, Error, MultiTaskModel, ParamSource, Result, Seed, StateDict, registry};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

pub(super) const ENTRY: registry::Entry<dyn Architecture> = registry::Entry {
    info: registry::MethodInfo {
        name: "ltb",
        paper: "Learning to Branch for Multi-Task Learning",
        source: "arXiv 2006.01895",
    },
    build: |config| Ok(Box::new(registry::parse::<LtbConfig>(config)?.build()?)),
};

/// Hyper-parameters of [`Ltb`]; the schedules are those of LibMTL, in steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LtbConfig {
    /// Epochs of the whole training. At least 1.
    pub epochs: u64,
    /// Optimiser steps of one epoch. At least 1.
    pub steps_per_epoch: u64,
    /// Steps in which every node is the sum of all its parents; by default a hundredth of the training.
    pub warm_up_steps: Option<u64>,
    /// Each node takes one parent in the forward pass; the gradient is that of the soft choice.
    pub hard: bool,
}

impl Default for LtbConfig {
    fn default() -> Self {
        Self { epochs: 100, steps_per_epoch: 100, warm_up_steps: None, hard: true }
    }
}

impl LtbConfig {
    /// Sets [`LtbConfig::epochs`] and [`LtbConfig::steps_per_epoch`].
    #[must_use]
    pub fn length(mut self, epochs: u64, steps_per_epoch: u64) -> Self {
        (self.epochs, self.steps_per_epoch) = (epochs, steps_per_epoch);
        self
    }

    /// Sets [`LtbConfig::warm_up_steps`].
    #[must_use]
    pub fn warm_up_steps(mut self, steps: u64) -> Self {
        self.warm_up_steps = Some(steps);
        self
    }

    /// Sets [`LtbConfig::hard`].
    #[must_use]
    pub fn hard(mut self, hard: bool) -> Self {
        self.hard = hard;
        self
    }

    /// Checks the values and builds the architecture.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when a number of epochs or steps is 0 or the training has too many steps to count.
    pub fn build(self) -> Result<Ltb> {
        for (field, value) in [("epochs", self.epochs), ("steps_per_epoch", self.steps_per_epoch)] {
            if value == 0 {
                return Err(Error::config(field, "at least 1", value));
            }
        }
        if self.epochs.checked_mul(self.steps_per_epoch).is_none() {
            return Err(Error::config("epochs", "few enough to count all steps", self.epochs));
        }
        Ok(Ltb { config: self })
    }

    /// The temperature at `step`: `epochs / 20 / √(epoch + 1)`.
    pub fn temperature(&self, step: u64) -> f64 {
        let epoch = step / self.steps_per_epoch.max(1);
        self.epochs as f64 / 20.0 / (epoch as f64 + 1.0).sqrt()
    }

    /// Whether `step` belongs to the warm-up.
    pub fn is_warm_up(&self, step: u64) -> bool {
        // An epoch e is of the warm-up where e < epochs / 100.
        let default = || self.epochs.div_ceil(100).saturating_mul(self.steps_per_epoch);
        step < self.warm_up_steps.unwrap_or_else(default)
    }
}

/// As many nodes in each stage as tasks, `nodes.{k}.stage{s}`; each learns which node of the stage before is its parent.
///
/// The logits of the choice are `branch.stage{s}` `[tasks, tasks]`, row k for node k, from the second stage on; in
/// `branch.heads` each task chooses a node of the last stage. In training a choice is drawn by the Gumbel-softmax at a
/// falling temperature; in the warm-up every node is the sum of all parents. In evaluation each node takes its most
/// likely parent, of equal ones the first, so that a task costs one encoder. The choices are traced under their names.
///
/// ```
/// use mtl_core::{Model, Seed, TaskSpec, architectures::{LtbConfig, Network}, models::Mlp};
/// use std::sync::Arc;
/// use tch::Tensor;
///
/// let tasks = vec![TaskSpec::classification("digit", 10), TaskSpec::classification("parity", 2)];
/// let model = Network::new(LtbConfig::default().build()?, Arc::new(Mlp::new(&[4, 8])?), tasks)?;
/// let mut params = model.init(Seed(0))?;
/// params.insert("branch.heads", Tensor::from_slice(&[3.0f32, 1.0, 0.0, 2.0]).view([2, 2]));
/// assert_eq!(model.branch(&params)?, [[0, 1]]); // Each task has a node of its own.
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Ltb {
    config: LtbConfig,
}

/// A choice by the Gumbel-softmax: `softmax((logits − ln(−ln uniform)) / temperature)` over the last axis.
///
/// `uniform` has the shape of `logits` and values between 0 and 1. A `hard` choice is 1 at the largest and 0 elsewhere,
/// with the gradient of the soft one.
pub fn gumbel_softmax(logits: &Tensor, uniform: &Tensor, temperature: f64, hard: bool) -> Tensor {
    let gumbel = -(-uniform.log()).log();
    let soft = ((logits + gumbel) / temperature).softmax(-1, None);
    if !hard {
        return soft;
    }
    let choice = one_hot_of_largest(&soft);
    // Exactly 0 or 1 in value: soft − soft is 0.
    choice + (&soft - soft.detach())
}

/// 1 at the largest element of each row, of equal ones the first, and 0 elsewhere, outside the graph.
fn one_hot_of_largest(x: &Tensor) -> Tensor {
    let index = x.detach().argmax(-1, true);
    x.detach().zeros_like().scatter_value(-1, &index, 1.0)
}

fn draw(rng: &mut ChaCha8Rng, like: &Tensor) -> Tensor {
    let values: Vec<f64> = (0..like.numel()).map(|_| rng.random::<f64>().clamp(1e-12, 1.0 - 1e-12)).collect();
    Tensor::from_slice(&values).view(like.size().as_slice()).to_kind(Kind::Double)
}

fn node(k: usize) -> String {
    format!("nodes.{k}")
}

/// Name of the logits by which stage `stage` chooses its parents; the heads come after the last.
fn logits_name(backbone: &Backbone, stage: usize) -> String {
    if stage == backbone.stages() { "branch.heads".to_owned() } else { format!("branch.stage{stage}") }
}

/// The step of the run that `ctx` belongs to; the generator of a step is the stream with its number.
fn step_of(ctx: &Context) -> Option<u64> {
    ctx.stream("ltb step").map(|rng| rng.get_stream())
}

impl Ltb {
    /// The configuration that it was built from.
    pub fn config(&self) -> &LtbConfig {
        &self.config
    }

    fn logits(backbone: &Backbone, params: &dyn ParamSource, stage: usize) -> Result<Tensor> {
        let (name, tasks) = (logits_name(backbone, stage), backbone.tasks().len() as i64);
        let logits = params.param(&name)?.into_tensor();
        if logits.size() != [tasks, tasks] {
            return Err(Error::shape(name, format!("[{tasks}, {tasks}]"), logits.size()));
        }
        Ok(logits)
    }

    /// The weights `[tasks, tasks]` of the parents in training step `step`.
    fn choice(
        &self,
        backbone: &Backbone,
        params: &dyn ParamSource,
        stage: usize,
        step: u64,
        ctx: &Context,
    ) -> Result<Tensor> {
        let (name, logits) = (logits_name(backbone, stage), Self::logits(backbone, params, stage)?);
        let choice = match ctx.stream(&format!("gumbel {name}")) {
            Some(mut rng) if !self.config.is_warm_up(step) => {
                // In double precision, where the logarithms of the draws are finite; back in that of the logits.
                let temperature = self.config.temperature(step);
                let uniform = draw(&mut rng, &logits).to_device(logits.device());
                let wide = logits.to_kind(Kind::Double);
                gumbel_softmax(&wide, &uniform, temperature, self.config.hard).to_kind(logits.kind())
            }
            // The logits take no part in the warm-up; times 0, so that they are in the graph.
            _ => logits * 0.0 + 1.0,
        };
        ctx.trace(|| name, || choice.shallow_clone());
        Ok(choice)
    }

    fn parents(backbone: &Backbone, params: &dyn ParamSource, stage: usize) -> Result<Vec<usize>> {
        let largest = Self::logits(backbone, params, stage)?.detach().argmax(-1, false);
        Ok((0..backbone.tasks().len()).map(|k| largest.int64_value(&[k as i64]) as usize).collect())
    }

    fn tree(backbone: &Backbone, params: &dyn ParamSource) -> Result<Vec<Vec<usize>>> {
        (1..=backbone.stages()).map(|stage| Self::parents(backbone, params, stage)).collect()
    }

    /// The features of each task along its path in the tree; nodes that paths share are computed once.
    fn along_paths(
        backbone: &Backbone,
        params: &dyn ParamSource,
        x: &Tensor,
        wanted: &[usize],
        ctx: &Context,
    ) -> Result<Vec<Tensor>> {
        let tree = Self::tree(backbone, params)?;
        let mut done: BTreeMap<(usize, usize), Tensor> = BTreeMap::new();
        let mut walk = |task: usize| -> Result<Tensor> {
            // From the head back to the input, then forward again.
            let mut path = vec![task];
            for parents in tree.iter().rev() {
                let at = path.last().copied().unwrap_or(task);
                path.push(parents.get(at).copied().unwrap_or(at));
            }
            let mut features = x.shallow_clone();
            for (stage, &k) in path.iter().skip(1).rev().enumerate() {
                features = match done.get(&(stage, k)) {
                    Some(known) => known.shallow_clone(),
                    None => backbone.forward_stage(params, &node(k), stage, &features, ctx)?,
                };
                done.insert((stage, k), features.shallow_clone());
            }
            Ok(features)
        };
        wanted.iter().map(|&task| walk(task)).collect()
    }
}

impl Network<Ltb> {
    /// The tree that the logits stand for: for each stage from the second on, and last for the heads, the most likely
    /// parent of each node.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] without logits, [`Error::Shape`] when they do not fit.
    pub fn branch(&self, params: &dyn ParamSource) -> Result<Vec<Vec<usize>>> {
        Ltb::tree(self.backbone(), params)
    }

    /// Names of the logits, to be trained at a rate of their own.
    pub fn branch_names(&self) -> Vec<String> {
        (1..=self.backbone().stages()).map(|stage| logits_name(self.backbone(), stage)).collect()
    }

    /// Parameters that no task's path in the tree passes: what a trained network no longer needs.
    ///
    /// # Errors
    ///
    /// See [`branch`](Self::branch).
    pub fn unused(&self, params: &dyn ParamSource) -> Result<Vec<String>> {
        let (tree, stages) = (self.branch(params)?, self.backbone().stages());
        let mut used: Vec<Vec<usize>> = vec![(0..self.tasks().len()).collect()];
        for parents in tree.iter().rev() {
            let last = used.last().map_or(&[][..], Vec::as_slice);
            used.push(last.iter().filter_map(|&k| parents.get(k).copied()).collect());
        }
        used.reverse(); // Nodes of stage 0 first, the heads last.
        let unused = |name: &String| {
            (0..stages).any(|stage| {
                let needed = used.get(stage).map_or(&[][..], Vec::as_slice);
                (0..self.tasks().len())
                    .any(|k| !needed.contains(&k) && name.starts_with(&format!("nodes.{k}.stage{stage}.")))
            })
        };
        Ok(params.names().into_iter().filter(unused).collect())
    }
}

impl Sharing for Ltb {
    fn init(&self, backbone: &Backbone, seed: Seed, into: &mut StateDict) -> Result<()> {
        let tasks = backbone.tasks().len();
        for k in 0..tasks {
            backbone.init(&node(k), seed, into)?;
        }
        for stage in 1..=backbone.stages() {
            let ones = Tensor::ones([tasks as i64, tasks as i64], (Kind::Float, tch::Device::Cpu));
            into.insert(logits_name(backbone, stage), ones);
        }
        Ok(())
    }

    fn features(
        &self,
        backbone: &Backbone,
        params: &dyn ParamSource,
        x: &Tensor,
        wanted: &[usize],
        ctx: &Context,
    ) -> Result<Vec<Tensor>> {
        let Some(step) = step_of(ctx) else {
            return Self::along_paths(backbone, params, x, wanted, ctx);
        };
        let nodes = 0..backbone.tasks().len();
        let mut streams: Vec<Tensor> = nodes.clone().map(|_| x.shallow_clone()).collect();
        for stage in 0..backbone.stages() {
            let run = |(k, x)| backbone.forward_stage(params, &node(k), stage, x, ctx);
            let features: Vec<Tensor> = nodes.clone().zip(&streams).map(run).collect::<Result<_>>()?;
            let choice = self.choice(backbone, params, stage + 1, step, ctx)?;
            streams = mixing::combine(&choice, &features, &format!("after stage {stage}"))?;
        }
        Ok(super::pick(&streams, wanted))
    }

    fn is_shared(&self, _backbone: &Backbone, _name: &str) -> bool {
        true
    }

    /// That of the tree; in training all nodes are computed.
    fn cost(&self, backbone: &Backbone, _task: usize) -> Cost {
        backbone.cost()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Model, TaskSpec, models::Mlp};
    use std::sync::Arc;

    #[test]
    fn schedules_are_those_of_libmtl() {
        let config = LtbConfig::default().length(200, 10);
        assert!(config.is_warm_up(19) && !config.is_warm_up(20));
        assert_eq!(config.temperature(0), 10.0);
        assert_eq!(config.temperature(35), 5.0); // Epoch 3: 10 / √4.
        assert!(!config.warm_up_steps(3).is_warm_up(3));
        let err = LtbConfig::default().length(0, 10).build().unwrap_err();
        insta::assert_snapshot!(err, @"`epochs` must be at least 1, but is 0");
    }

    #[test]
    fn evaluation_follows_the_tree_that_branch_shows() {
        let tasks = ["a", "b", "c"].map(|name| TaskSpec::classification(name, 2)).to_vec();
        let ltb = LtbConfig::default().warm_up_steps(0).build().unwrap();
        let model = Network::new(ltb, Arc::new(Mlp::new(&[4, 5, 3]).unwrap()), tasks).unwrap();
        let mut params = model.init(Seed(0)).unwrap();
        let rows = |parents: [i64; 3]| Tensor::from_slice(&parents).one_hot(3).to_kind(Kind::Float) * 4.0;
        params.insert("branch.stage1", rows([2, 2, 1]));
        params.insert("branch.heads", rows([0, 0, 2]));
        assert_eq!(model.branch(&params).unwrap(), [[2, 2, 1], [0, 0, 2]]);
        let x = crate::rng::normal(&mut Seed(1).stream("test", 0), &[6, 4], 1.0);
        let outputs = model.forward_all(&params, &x.shallow_clone().into(), &Context::eval()).unwrap();
        let mlp = model.backbone();
        let path = |nodes: [&str; 2], head: &str| {
            let (eval, [first, second]) = (Context::eval(), nodes);
            let h = mlp.forward_stage(&params, first, 0, &x, &eval).unwrap();
            let h = mlp.forward_stage(&params, second, 1, &h, &eval).unwrap();
            params.linear(head, &h).unwrap()
        };
        assert_eq!(outputs[0], path(["nodes.2", "nodes.0"], "heads.a"));
        assert_eq!(outputs[1], path(["nodes.2", "nodes.0"], "heads.b"));
        assert_eq!(outputs[2], path(["nodes.1", "nodes.2"], "heads.c"));
        let unused = model.unused(&params).unwrap();
        let wanted: Vec<String> = ["nodes.0.stage0", "nodes.1.stage1"]
            .iter()
            .flat_map(|n| ["bias", "weight"].map(|part| format!("{n}.{part}")))
            .collect();
        assert_eq!(unused, wanted);
        // In training the choices are 0 or 1 and fall with the seed.
        let ctx = Context::train(Seed(0), 5).with_traces();
        model.forward_all(&params, &x.into(), &ctx).unwrap();
        for (_, choice) in ctx.take_traces() {
            assert_eq!(
                choice.sum_dim_intlist([1i64].as_slice(), false, None),
                Tensor::from_slice(&[1.0f32; 3])
            );
            assert_eq!(choice.max_dim(1, false).0, Tensor::from_slice(&[1.0f32; 3]));
        }
    }
}
