//! M³ViT: Liang, Fan et al., *M³ViT: Mixture-of-Experts Vision Transformer for Efficient Multi-task Learning with
//! Model-Accelerator Co-design*, NeurIPS 2022, arXiv 2210.14793.
use crate::{
    ExpertBank, MoeFeedForward,
    router::{MultiGate, Router, SingleGate, TaskConditioned, TopK},
};
use mtl_core::{
    Error, Result,
    models::{Vit, VitConfig},
    nn::Init,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How the router knows the task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskRouting {
    /// It does not: one gate for all tasks.
    Single,
    /// A gate for each task; the best of the three in the paper.
    #[default]
    MultiGate,
    /// One gate that is given an embedding of the task.
    TaskConditioned,
}

/// Hyper-parameters of M³ViT; the default is the paper's for ViT-small.
///
/// Every second block, beginning with the second, has a mixture of experts for its feed-forward network. With experts a
/// quarter as wide as the dense network and four of them for each token, a token costs what it costs in the dense model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct M3VitConfig {
    /// Number of tasks. At least 1.
    pub tasks: usize,
    /// How the router knows the task.
    pub routing: TaskRouting,
    /// Experts of each mixture. At least 1.
    pub experts: i64,
    /// Experts of each token. At least 1, at most `experts`.
    pub top_k: i64,
    /// Width of an expert between its two maps; that of a token when absent.
    pub expert_hidden: Option<i64>,
    /// Deviation σ of the router's noise in training, divided by the number of experts; 0 in the paper's command.
    pub noise_std: f64,
    /// Width of the task embedding of [`TaskRouting::TaskConditioned`].
    pub task_embedding: i64,
}

impl Default for M3VitConfig {
    fn default() -> Self {
        Self {
            tasks: 1,
            routing: TaskRouting::default(),
            experts: 16,
            top_k: 4,
            expert_hidden: None,
            noise_std: 0.0,
            task_embedding: 64,
        }
    }
}

impl M3VitConfig {
    /// The paper's configuration for `tasks` tasks.
    pub fn new(tasks: usize) -> Self {
        Self { tasks, ..Self::default() }
    }

    /// Sets [`M3VitConfig::routing`].
    #[must_use]
    pub fn routing(mut self, routing: TaskRouting) -> Self {
        self.routing = routing;
        self
    }

    /// Sets [`M3VitConfig::experts`].
    #[must_use]
    pub fn experts(mut self, experts: i64) -> Self {
        self.experts = experts;
        self
    }

    /// Sets [`M3VitConfig::top_k`].
    #[must_use]
    pub fn top_k(mut self, top_k: i64) -> Self {
        self.top_k = top_k;
        self
    }

    /// Sets [`M3VitConfig::expert_hidden`].
    #[must_use]
    pub fn expert_hidden(mut self, expert_hidden: i64) -> Self {
        self.expert_hidden = Some(expert_hidden);
        self
    }

    /// Sets [`M3VitConfig::noise_std`].
    #[must_use]
    pub fn noise_std(mut self, noise_std: f64) -> Self {
        self.noise_std = noise_std;
        self
    }

    /// Sets [`M3VitConfig::task_embedding`].
    #[must_use]
    pub fn task_embedding(mut self, task_embedding: i64) -> Self {
        self.task_embedding = task_embedding;
        self
    }

    /// The blocks of a ViT with `layers` blocks that get a mixture of experts.
    pub fn moe_layers(layers: usize) -> impl Iterator<Item = usize> {
        (1..layers).step_by(2)
    }

    /// The encoder: `vit` with mixtures of experts in its odd blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when a value is outside its range, here or in `vit`, or there is no odd block.
    pub fn build(&self, vit: VitConfig) -> Result<Vit> {
        for (field, value) in
            [("tasks", self.tasks as i64), ("experts", self.experts), ("task_embedding", self.task_embedding)]
        {
            if value < 1 {
                return Err(Error::config(field, "at least 1", value));
            }
        }
        let mut vit = vit.build()?;
        let (dim, layers) = (vit.config().hidden_size, vit.config().num_hidden_layers as usize);
        if layers < 2 {
            return Err(Error::config("num_hidden_layers", "at least 2, to have an odd block", layers));
        }
        let experts = ExpertBank {
            dim,
            hidden: self.expert_hidden.unwrap_or(dim),
            experts: self.experts,
            weight: Init::TruncatedNormal { std: vit.config().initializer_range },
            ..ExpertBank::default()
        };
        if experts.hidden < 1 {
            return Err(Error::config("expert_hidden", "at least 1", experts.hidden));
        }
        let choice = TopK { k: self.top_k, noise_std: self.noise_std };
        for layer in Self::moe_layers(layers) {
            let moe = MoeFeedForward::new(self.router(dim), choice, experts)?;
            vit = vit.with_feed_forward(layer, Arc::new(moe))?;
        }
        Ok(vit)
    }

    fn router(&self, dim: i64) -> Arc<dyn Router> {
        let Self { experts, tasks, .. } = *self;
        match self.routing {
            TaskRouting::Single => Arc::new(SingleGate { dim, experts }),
            TaskRouting::MultiGate => Arc::new(MultiGate { dim, experts, tasks }),
            TaskRouting::TaskConditioned => {
                let shared = "vit.task_embedding".to_owned();
                Arc::new(TaskConditioned { dim, experts, tasks, embedding: self.task_embedding, shared })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mtl_core::{Context, Encoder, Input, Seed, rng};
    use tch::{Kind, Tensor};

    fn vit() -> VitConfig {
        VitConfig::default().image(1, 8, 4).size(16, 4, 2).intermediate_size(32)
    }

    fn images(n: i64) -> Input {
        rng::normal(&mut Seed(5).stream("test", 0), &[n, 1, 8, 8], 1.0).into()
    }

    fn small(routing: TaskRouting) -> Vit {
        M3VitConfig::new(2).routing(routing).experts(4).top_k(2).task_embedding(8).build(vit()).unwrap()
    }

    #[test]
    fn only_task_routers_tell_tasks_apart() {
        for (routing, conditioned) in [
            (TaskRouting::Single, false),
            (TaskRouting::MultiGate, true),
            (TaskRouting::TaskConditioned, true),
        ] {
            let encoder = small(routing);
            let params = encoder.init(Seed(0)).unwrap();
            let pooled =
                |task| encoder.encode(&params, &images(4), &Context::eval().with_task(task)).unwrap().pooled;
            assert_eq!(encoder.is_task_conditioned(), conditioned);
            assert_eq!(!pooled(0).equal(&pooled(1)), conditioned, "{routing:?}");
        }
    }

    #[test]
    fn a_missing_or_unknown_task_is_named() {
        let encoder = small(TaskRouting::MultiGate);
        let params = encoder.init(Seed(0)).unwrap();
        let err = encoder.encode(&params, &images(1), &Context::eval()).unwrap_err();
        insta::assert_snapshot!(err, @"`task of router vit.encoder.layer.1.moe` must be set in the context, but is missing");
        let err = encoder.encode(&params, &images(1), &Context::eval().with_task(2)).unwrap_err();
        insta::assert_snapshot!(err, @"`task of router vit.encoder.layer.1.moe` must be below 2, but is 2");
    }

    #[test]
    fn every_mixture_reports_balance_and_choice() {
        let encoder = small(TaskRouting::MultiGate);
        let params = encoder.init(Seed(0)).unwrap();
        let ctx = Context::eval().with_task(0).with_traces();
        encoder.encode(&params, &images(3), &ctx).unwrap();
        let aux: Vec<String> = ctx.take_aux().into_iter().map(|(name, _)| name).collect();
        assert_eq!(aux, ["vit.encoder.layer.1.balance", "vit.encoder.layer.3.balance"]);
        let traces = ctx.take_traces();
        assert_eq!(traces[0].1.size(), [3 * 5, 2]); // four patches and the class token, two experts each
    }

    #[test]
    fn four_quarter_experts_cost_what_the_dense_block_costs() {
        let dense = vit().build().unwrap().cost();
        let moe = M3VitConfig::new(2).experts(8).top_k(2).expert_hidden(16).build(vit()).unwrap().cost();
        let gates = 2 * 5 * 16 * 8; // two mixtures, five tokens, a gate from 16 to 8
        assert_eq!(moe.macs, dense.macs + gates);
    }

    #[test]
    fn balance_gradients_reach_the_gate_of_the_task_only() {
        let encoder = small(TaskRouting::MultiGate);
        let params = encoder.init(Seed(0)).unwrap().trainable();
        let ctx = Context::eval().with_task(1);
        let pooled = encoder.encode(&params, &images(4), &ctx).unwrap().pooled;
        let aux = ctx
            .take_aux()
            .into_iter()
            .map(|(_, loss)| loss)
            .fold(pooled.sum(Kind::Float), |a: Tensor, b| a + b);
        let grads = params.gradients(&aux, false).unwrap();
        assert!(grads.get("vit.encoder.layer.1.moe.gate.0.weight").is_none());
        assert!(grads.get("vit.encoder.layer.1.moe.gate.1.weight").unwrap().norm().double_value(&[]) > 0.0);
    }
}
