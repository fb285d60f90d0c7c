//! All records of a routing trace through their layers.
use super::layer::{LayerRun, LayerSim};
use super::moe::SimOptions;
use crate::cost::{Accelerator, MoeSchedule};
use crate::math::sum;
use crate::routing::{PackedTrace, Spread};
use crate::{HwError, Result};
use std::collections::BTreeMap;

/// Cost of every record of a trace under one schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// The schedule.
    pub schedule: MoeSchedule,
    /// One run per record, in the order of the trace.
    pub runs: Vec<LayerRun>,
}

/// MoE layers of one image and task together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageRun {
    /// Index of the image.
    pub image: u64,
    /// Index of the task.
    pub task: u32,
    /// Sums over the layers.
    pub total: LayerRun,
}

/// Runs every record of a trace through its layer, by itself, under each of several schedules.
///
/// ```
/// use mtl_hw::cost::MoeSchedule;
/// use mtl_hw::routing::SyntheticRouting;
/// use mtl_hw::sim::{SimOptions, sweep};
/// use rand::SeedableRng;
/// let config = SyntheticRouting { images: 2, ..SyntheticRouting::default() };
/// let trace = config.generate(&mut rand_chacha::ChaCha8Rng::seed_from_u64(0))?;
/// let schedules = [MoeSchedule::reordered(), MoeSchedule::TokenByToken { cache_experts: 4 }];
/// let accelerator = mtl_hw::presets::zcu104_m3vit()?;
/// let sweeps = sweep(&trace, &accelerator, &schedules, SimOptions::default())?;
/// let images = sweeps[0].images(&trace)?;
/// assert_eq!(images.len(), 2 * 2); // images and tasks
/// assert!(images[0].total.expert_loads <= 6 * 16);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// [`HwError::Config`] for a bad accelerator, schedule or option; [`HwError::NeedsTrace`] when a cache meets a histogram;
/// [`HwError::Overflow`] beyond 64 bits.
pub fn sweep(
    trace: &PackedTrace,
    accelerator: &Accelerator,
    schedules: &[MoeSchedule],
    options: SimOptions,
) -> Result<Vec<Sweep>> {
    accelerator.validate()?;
    let header = trace.header();
    let run = |&schedule: &MoeSchedule| {
        let mut layers = Vec::with_capacity(header.layers.len());
        for (i, layer) in header.layers.iter().enumerate() {
            let Some(shape) = header.shape(i) else { continue };
            layers.push(LayerSim::with_schedule(&layer.id, &shape, accelerator, schedule, options)?);
        }
        let mut runs = Vec::with_capacity(trace.len());
        for r in trace.records() {
            let Some(layer) = layers.get_mut(r.layer) else { continue };
            // Records were checked when they entered the trace.
            runs.push(match (r.choices, r.histogram) {
                (Some(choices), _) => layer.unchecked(choices)?,
                (None, histogram) => layer.run_queues(histogram.unwrap_or_default())?,
            });
        }
        Ok(Sweep { schedule, runs })
    };
    schedules.iter().map(run).collect()
}

impl Sweep {
    /// Sums over the layers of each image and task, in ascending order.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a trace of another length, [`HwError::Overflow`] beyond 64 bits.
    pub fn images(&self, trace: &PackedTrace) -> Result<Vec<ImageRun>> {
        if trace.len() != self.runs.len() {
            let must = format!("of {} records, as simulated", self.runs.len());
            return Err(HwError::config("trace", must, trace.len()));
        }
        let mut images: BTreeMap<(u64, u32), LayerRun> = BTreeMap::new();
        for (r, run) in trace.records().zip(&self.runs) {
            let total = images.entry((r.image, r.task)).or_default();
            for (all, one) in [
                (&mut total.active_experts, run.active_experts),
                (&mut total.expert_loads, run.expert_loads),
                (&mut total.weight_bytes, run.weight_bytes),
                (&mut total.compute_cycles, run.compute_cycles),
                (&mut total.load_cycles, run.load_cycles),
                (&mut total.cycles, run.cycles),
            ] {
                *all = sum("totals", [*all, one])?;
            }
        }
        Ok(images.into_iter().map(|((image, task), total)| ImageRun { image, task, total }).collect())
    }

    /// Mean and standard deviation over images and tasks of a number of each, such as its cycles.
    ///
    /// # Errors
    ///
    /// As [`Sweep::images`].
    pub fn spread(&self, trace: &PackedTrace, of: impl Fn(&LayerRun) -> f64) -> Result<Spread> {
        let mut spread = Spread::default();
        spread.extend(self.images(trace)?.iter().map(|i| of(&i.total)));
        Ok(spread)
    }
}
