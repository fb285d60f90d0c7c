//! GradVac: Wang et al., *Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively Multilingual
//! Models*, ICLR 2021, arXiv 2010.05874.
//!
//! A corrected gradient is a sum of task gradients, so it is kept as its row of coefficients, as in
//! [`PcGrad`](super::PcGrad).
use super::{Balancer, GradientBalancer, Gram, GramBalancer, Stateful, StepCtx, TaskGrads, memory};
use crate::{Error, Result, StateDict, registry};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tch::Tensor;

pub(super) const ENTRY: registry::Entry<Balancer> = registry::Entry {
    info: registry::MethodInfo {
        name: "gradvac",
        paper: "Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively Multilingual Models",
        source: "arXiv 2010.05874",
    },
    build: |config| {
        let method = registry::parse::<GradVacConfig>(config)?.build()?;
        Ok(Box::new(match method.config.granularity {
            GradVacGranularity::Model => Balancer::Gram(Box::new(method)),
            _ => Balancer::Gradients(Box::new(method)),
        }))
    },
};

/// Which parameters are taken together when angles between gradients are measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GradVacGranularity {
    /// All shared parameters.
    #[default]
    Model,
    /// Those of a layer, which are named alike up to the last dot.
    Layer,
    /// Each by itself.
    Tensor,
}

/// Hyper-parameters of [`GradVac`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GradVacConfig {
    /// Share of the new cosine in the running mean, in `[0, 1]`: 1e-2 in the paper, while LibMTL's default is 0.5.
    pub beta: f64,
    /// Which parameters are taken together.
    pub granularity: GradVacGranularity,
}

impl Default for GradVacConfig {
    fn default() -> Self {
        Self { beta: 1e-2, granularity: GradVacGranularity::Model }
    }
}

impl GradVacConfig {
    /// Sets the share of the new cosine in the running mean.
    #[must_use]
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// Sets which parameters are taken together.
    #[must_use]
    pub fn granularity(mut self, granularity: GradVacGranularity) -> Self {
        self.granularity = granularity;
        self
    }

    /// Checks the values and builds the balancer.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `beta` is out of range.
    pub fn build(self) -> Result<GradVac> {
        if !(0.0..=1.0).contains(&self.beta) {
            return Err(Error::config("beta", "between 0 and 1", self.beta));
        }
        Ok(GradVac { config: self, rho: BTreeMap::new() })
    }
}

/// Turns each task gradient towards another, wherever the cosine of the two is below its running mean, until it has that
/// cosine; then sums.
///
/// The heads get their own gradients. As a [`GramBalancer`] it takes all parameters together; as a [`GradientBalancer`] it
/// follows the configured granularity.
///
/// ```
/// use mtl_core::{Seed, balancing::{GradVacConfig, Gram, GramBalancer, StepCtx}};
///
/// let gram = Gram::from_rows(&[vec![1.0, -1.0], vec![-1.0, 2.0]])?; // of (1, 0) and (−1, 1)
/// let mut ctx = StepCtx { losses: &[1.0, 1.0], step: 0, rng: &mut Seed(0).stream("balancer", 0) };
/// let weights = GradVacConfig::default().build()?.weights(&gram, &mut ctx)?;
/// // The running means begin at 0: at first it is PCGrad.
/// assert!((weights[0] - 2.0).abs() < 1e-6 && (weights[1] - 1.5).abs() < 1e-6);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug)]
pub struct GradVac {
    config: GradVacConfig,
    /// Running mean of the cosine of tasks i and j at i K + j, for each group of parameters.
    rho: BTreeMap<String, Vec<f64>>,
}

/// Name of the running means in the state, with a dot and the group's name where there are groups.
const RHO: &str = "rho";
/// Added to the lengths divided by.
const EPS: f64 = 1e-8;

impl GradVac {
    /// Weight of each task's gradient for known orders: `orders[i]` are the tasks that gradient i is compared with, one after
    /// the other. The running means move on.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] unless there is one order per task; [`Error::Config`] for a task that is not there.
    pub fn vaccinate(&mut self, gram: &Gram, orders: &[Vec<usize>]) -> Result<Vec<f64>> {
        self.group("", gram, orders)
    }

    fn group(&mut self, name: &str, gram: &Gram, orders: &[Vec<usize>]) -> Result<Vec<f64>> {
        let tasks = gram.tasks();
        memory::same_tasks("orders", tasks, orders.len())?;
        if let Some(bad) = orders.iter().flatten().find(|other| **other >= tasks) {
            return Err(Error::config("orders", format!("of tasks below {tasks}"), bad));
        }
        let rho = self.rho.entry(name.to_owned()).or_insert_with(|| vec![0.0; tasks * tasks]);
        if rho.len() != tasks * tasks {
            let before = (rho.len() as f64).sqrt() as i64;
            return Err(Error::shape("gram", format!("[{before}, {before}]"), vec![tasks as i64; 2]));
        }
        let mut weights = vec![0.0; tasks];
        for ((task, order), means) in orders.iter().enumerate().zip(rho.chunks_exact_mut(tasks)) {
            let mut row = vec![0.0; tasks];
            row.iter_mut().skip(task).take(1).for_each(|c| *c = 1.0);
            for &other in order.iter().filter(|other| **other != task) {
                let products = gram.times(&row);
                let length = products.iter().zip(&row).map(|(p, c)| p * c).sum::<f64>().max(0.0).sqrt();
                let (Some(&dot), Some(mean)) = (products.get(other), means.get_mut(other)) else { continue };
                let cosine = (dot / (length * gram.norm(other) + EPS)).clamp(-1.0, 1.0);
                if cosine < *mean {
                    let (sine, wanted) =
                        ((1.0 - cosine * cosine).sqrt(), (1.0 - *mean * *mean).max(0.0).sqrt());
                    let by = length * (*mean * sine - cosine * wanted) / (gram.norm(other) * wanted + EPS);
                    row.iter_mut().skip(other).take(1).for_each(|c| *c += by);
                }
                *mean = (1.0 - self.config.beta) * *mean + self.config.beta * cosine;
            }
            weights.iter_mut().zip(row).for_each(|(total, c)| *total += c);
        }
        Ok(weights)
    }

    fn orders(tasks: usize, ctx: &mut StepCtx<'_>) -> Vec<Vec<usize>> {
        let order = |task| {
            let mut order: Vec<usize> = (0..tasks).filter(|&other| other != task).collect();
            order.shuffle(ctx.rng);
            order
        };
        (0..tasks).map(order).collect()
    }

    /// Group of a parameter.
    fn group_of<'a>(&self, name: &'a str) -> &'a str {
        match self.config.granularity {
            GradVacGranularity::Model => "",
            GradVacGranularity::Layer => name.rsplit_once('.').map_or(name, |(layer, _)| layer),
            GradVacGranularity::Tensor => name,
        }
    }
}

impl Stateful for GradVac {
    fn state(&self) -> StateDict {
        let name = |group: &str| if group.is_empty() { RHO.to_owned() } else { format!("{RHO}.{group}") };
        self.rho.iter().map(|(group, row)| (name(group), Tensor::from_slice(row))).collect()
    }

    fn load_state(&mut self, state: &StateDict) -> Result<()> {
        let mut rho = BTreeMap::new();
        let whole = self.config.granularity == GradVacGranularity::Model;
        for (entry, tensor) in state.iter() {
            let group = match entry.strip_prefix(RHO) {
                Some("") if whole => "",
                Some(rest) if !whole && rest.starts_with('.') => rest.trim_start_matches('.'),
                _ => return Err(memory::unfit("gradvac", entry, "is not expected")),
            };
            let row = memory::numbers("gradvac", entry, tensor)?;
            let tasks = row.len().isqrt();
            if tasks * tasks != row.len() || row.iter().any(|v| v.abs() > 1.0) {
                return Err(memory::unfit("gradvac", entry, "is not a square matrix of cosines"));
            }
            rho.insert(group.to_owned(), row);
        }
        self.rho = rho;
        Ok(())
    }
}

impl GramBalancer for GradVac {
    fn weights(&mut self, gram: &Gram, ctx: &mut StepCtx<'_>) -> Result<Vec<f64>> {
        let orders = Self::orders(gram.tasks(), ctx);
        self.group("", gram, &orders)
    }
}

impl GradientBalancer for GradVac {
    fn direction(
        &mut self,
        grads: &TaskGrads,
        ctx: &mut StepCtx<'_>,
    ) -> Result<(StateDict, Option<Vec<f64>>)> {
        let orders = Self::orders(grads.tasks(), ctx);
        let mut direction = StateDict::new();
        let names = grads.names();
        let groups: BTreeSet<&str> = names.iter().map(|name| self.group_of(name)).collect();
        for group in groups {
            let part = |dict: &StateDict| dict.filter(|name| self.group_of(name) == group);
            let part = TaskGrads::new(grads.per_task().iter().map(part).collect())?;
            let weights = self.group(group, &part.gram()?, &orders)?;
            direction.extend(part.combine(&weights)?);
        }
        Ok((direction, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Seed;

    fn dict(entries: &[(&str, &[f64])]) -> StateDict {
        entries.iter().map(|(name, values)| ((*name).to_owned(), Tensor::from_slice(values))).collect()
    }

    #[test]
    fn a_corrected_gradient_has_the_cosine_it_was_to_have() {
        let mut gradvac = GradVacConfig::default().build().unwrap();
        gradvac.load_state(&dict(&[("rho", &[0.0, 0.6, 0.6, 0.0])])).unwrap();
        // Task 1 has no one to compare with, so the sum is g₁ corrected and g₂.
        let gram = Gram::from_rows(&[vec![1.0, -1.0], vec![-1.0, 2.0]]).unwrap();
        let weights = gradvac.vaccinate(&gram, &[vec![1], vec![]]).unwrap();
        let corrected = [weights[0], weights[1] - 1.0];
        let products = gram.times(&corrected);
        let length = (products[0] * corrected[0] + products[1] * corrected[1]).sqrt();
        assert!((products[1] / length / 2f64.sqrt() - 0.6).abs() < 1e-7);
    }

    #[test]
    fn each_layer_has_angles_of_its_own() {
        let grads = TaskGrads::new(vec![
            dict(&[("a.bias", &[1.0]), ("a.weight", &[1.0, 0.0]), ("b.weight", &[1.0])]),
            dict(&[("a.bias", &[1.0]), ("a.weight", &[0.0, 1.0]), ("b.weight", &[-1.0])]),
        ])
        .unwrap();
        let run = |granularity| {
            let mut gradvac = GradVacConfig::default().granularity(granularity).build().unwrap();
            let mut ctx = StepCtx { losses: &[1.0, 1.0], step: 0, rng: &mut Seed(0).stream("test", 0) };
            let (direction, _) = gradvac.direction(&grads, &mut ctx).unwrap();
            let names: Vec<String> = gradvac.state().names().map(str::to_owned).collect();
            (Vec::<f32>::try_from(direction.flatten().to_kind(tch::Kind::Float)).unwrap(), names)
        };
        // Only the gradients of layer b are opposite; together, the tasks are orthogonal.
        let (whole, names) = run(GradVacGranularity::Model);
        assert_eq!((whole, names), (vec![2.0, 1.0, 1.0, 0.0], vec!["rho".to_owned()]));
        let (layers, names) = run(GradVacGranularity::Layer);
        assert_eq!(names, ["rho.a", "rho.b"]);
        assert!(layers[3].abs() < 1e-6 && layers[..3] == [2.0, 1.0, 1.0], "{layers:?}");
        assert_eq!(run(GradVacGranularity::Tensor).1, ["rho.a.bias", "rho.a.weight", "rho.b.weight"]);
    }

    #[test]
    fn bad_input_is_refused() {
        let err = GradVacConfig::default().beta(1.5).build().unwrap_err();
        insta::assert_snapshot!(err, @"`beta` must be between 0 and 1, but is 1.5");
        let mut gradvac = GradVacConfig::default().build().unwrap();
        let err = gradvac.load_state(&dict(&[("rho.a", &[0.0])])).unwrap_err();
        insta::assert_snapshot!(err, @"parameters of `state of gradvac` do not fit: `rho.a` is not expected");
        let err = gradvac.load_state(&dict(&[("rho", &[0.0, 0.5])])).unwrap_err();
        insta::assert_snapshot!(err, @"parameters of `state of gradvac` do not fit: `rho` is not a square matrix of cosines");
    }
}
