//! Greedy roofline-balanced designs, and the evaluator's traits.
use super::design;
use super::evaluator::Transformer;
use super::fabric::bandwidth;
use crate::explore::{Bound, Evaluate, Objectives, Partial, Point, Rejection, TwoStage};
use crate::{HwError, Result};

/// Shares of the multiplier ceiling that seeds use.
const SHARES: [f64; 5] = [1.0 / 16.0, 0.125, 0.25, 0.5, 1.0];

impl Evaluate for Transformer {
    fn eval(&self, point: &Point) -> Result<Objectives, Rejection> {
        self.cost(&self.decode(point)?)
    }

    fn lower_bound(&self, partial: &Partial<'_>) -> Bound {
        // An error here is met again, and reported, when a point below is evaluated.
        self.bound(partial).unwrap_or(Bound::Unknown)
    }

    fn seeds(&self) -> Vec<Point> {
        let all = (0..self.plans.len()).map(|w| self.seeds_of(w)).collect::<Result<Vec<_>>>();
        all.unwrap_or_default().concat()
    }

    fn two_stage(&self) -> Option<&dyn TwoStage> {
        let separate = self.attention_engines.iter().any(Option::is_some);
        (separate && self.spec.memoise).then_some(self as &dyn TwoStage)
    }
}

impl TwoStage for Transformer {
    fn attention_dims(&self) -> &[usize] {
        &[design::ATTENTION]
    }

    fn linear_dims(&self) -> &[usize] {
        &[design::KIND, design::ROWS, design::COLS, design::COPIES]
    }

    fn stage_cycles(&self, point: &Point) -> Result<(f64, f64)> {
        let d = self.decode(point)?;
        let plan = self.plan(d.workload)?;
        let engine = plan.engine(self.engine_row(d.workload, d.engine));
        let attention = d.attention.map(|(a, ..)| plan.products(self.attention_row(d.workload, a)).total);
        let n = plan.workload.routings;
        let experts: f64 = (0..n).map(|r| plan.moe_compute(&engine, d.schedule, r) / n as f64).sum();
        // Attention on the linear engine is no stage of its own.
        Ok((attention.unwrap_or(f64::INFINITY), engine.total + experts))
    }

    fn stage_dsp(&self, point: &Point) -> Result<(f64, f64)> {
        let d = self.decode(point)?;
        let kind = self.spec.base.platform.dsp_kind;
        let ceiling = self.spec.limits.ceilings.dsp * self.usable.dsp as f64;
        let units = d.attention.map_or(0, |(_, p, u)| u64::from(p) * u64::from(u));
        let dsp = |units, b| {
            Ok::<f64, HwError>(self.spec.fabric.dsp(kind, units, d.activation, b)? as f64 / ceiling)
        };
        Ok((dsp(units, d.activation)?, dsp(d.linear.units(), d.weight)?))
    }
}

/// An engine that no smaller one beats.
struct Candidate {
    index: usize,
    units: u64,
    cycles: f64,
    shared: f64,
}

impl Transformer {
    /// For each precision, schedule and share of the multipliers: the engines that compute fastest, the clock at its top, just
    /// enough ports to keep up, small weight buffers, activations on chip where they fit.
    fn seeds_of(&self, workload: usize) -> Result<Vec<Point>> {
        if !self.spec.memoise {
            return Ok(Vec::new());
        }
        let dims = &self.spec.dims;
        let candidates = self.candidates(workload)?;
        let mut seeds = Vec::new();
        for a in 0..dims.activation_bits.len() {
            for w in 0..dims.weight_bits.len() {
                for share in SHARES {
                    let Some((engine, attention)) = self.fastest(workload, &candidates, (a, w), share)?
                    else {
                        continue;
                    };
                    for schedule in 0..dims.schedules.len() {
                        for storage in 0..dims.storage.len() {
                            seeds.push(self.balanced(
                                workload,
                                engine,
                                attention,
                                (a, w),
                                schedule,
                                storage,
                            )?);
                        }
                    }
                }
            }
        }
        Ok(seeds)
    }

    fn candidates(&self, workload: usize) -> Result<Vec<Candidate>> {
        let plan = self.plan(workload)?;
        let schedule =
            self.spec.dims.schedules.first().copied().unwrap_or_else(crate::cost::MoeSchedule::reordered);
        let mut all: Vec<Candidate> = (0..self.spec.dims.engines())
            .filter_map(|index| {
                let engine = plan.engine(self.engine_row(workload, index));
                let cycles = engine.total + plan.moe_compute(&engine, schedule, 0);
                let units = self.spec.dims.linear(index)?.units();
                Some(Candidate { index, units, cycles, shared: engine.products.total })
            })
            .collect();
        all.sort_by(|a, b| {
            a.units.cmp(&b.units).then(a.cycles.total_cmp(&b.cycles)).then(a.index.cmp(&b.index))
        });
        let mut fastest = f64::INFINITY;
        all.retain(|c| {
            let keep = c.cycles < fastest;
            fastest = fastest.min(c.cycles);
            keep
        });
        Ok(all)
    }

    /// Engine and attention engine of least cycles within a share of the multipliers.
    fn fastest(
        &self,
        workload: usize,
        candidates: &[Candidate],
        (a, w): (usize, usize),
        share: f64,
    ) -> Result<Option<(usize, usize)>> {
        let dims = &self.spec.dims;
        let (Some(&activation), Some(&weight)) = (dims.activation_bits.get(a), dims.weight_bits.get(w))
        else {
            return Ok(None);
        };
        let plan = self.plan(workload)?;
        let kind = self.spec.base.platform.dsp_kind;
        let budget = share * self.spec.limits.ceilings.dsp * self.usable.dsp as f64;
        let dsp = |units, b| Ok::<f64, HwError>(self.spec.fabric.dsp(kind, units, activation, b)? as f64);
        let mut best: Option<(f64, usize, usize)> = None;
        for (i, attention) in self.attention_engines.iter().enumerate() {
            let taken = attention.map_or(Ok(0.0), |(p, u)| dsp(u64::from(p) * u64::from(u), activation))?;
            for c in candidates {
                if dsp(c.units, weight)? + taken > budget {
                    break;
                }
                let products = match attention {
                    Some(_) => plan.products(self.attention_row(workload, i)).total,
                    None => c.shared,
                };
                let cycles = if self.spec.overlap_images && attention.is_some() {
                    products.max(c.cycles)
                } else {
                    products + c.cycles
                };
                if best.is_none_or(|(b, ..)| cycles < b) {
                    best = Some((cycles, c.index, i));
                }
            }
        }
        Ok(best.map(|(_, engine, attention)| (engine, attention)))
    }

    fn balanced(
        &self,
        workload: usize,
        engine: usize,
        attention: usize,
        (a, w): (usize, usize),
        schedule: usize,
        storage: usize,
    ) -> Result<Point> {
        let (dims, base) = (&self.spec.dims, &self.spec.base);
        let plan = self.plan(workload)?;
        let position =
            |list: &[u32], best: Option<u32>| list.iter().position(|v| Some(*v) == best).unwrap_or(0);
        let clock = position(&dims.clock_mhz, dims.clock_mhz.iter().copied().max());
        let hz = dims.clock_mhz.get(clock).map_or(0.0, |&c| f64::from(c) * 1e6);
        let engine_row = plan.engine(self.engine_row(workload, engine));
        let seconds = engine_row.total / hz;
        let (activation, weight) = (
            dims.activation_bits.get(a).copied().unwrap_or(1),
            dims.weight_bits.get(w).copied().unwrap_or(1),
        );
        let params: f64 = plan
            .workload
            .steps
            .iter()
            .zip(&plan.workload.counts)
            .map(|(s, &n)| s.params as f64 * n as f64)
            .sum();
        let bytes = (params + plan.least_expert_params(0)) * f64::from(weight) / 8.0;
        let enough = |&&n: &&u32| {
            bytes / bandwidth(&base.platform, base.port.width_bits, n, hz, base.dram_efficiency) <= seconds
        };
        let ports = dims.ports.iter().filter(enough).min().or(dims.ports.iter().max());
        let linear = dims.linear(engine);
        let tile = linear.map_or(0, |l| u64::from(l.rows) * u64::from(l.cols) * u64::from(weight));
        let kib = dims.weight_kib.iter().filter(|&&k| u64::from(k) * 1024 * 8 >= 2 * tile).min();
        let need = plan.workload.tokens.saturating_mul(u64::from(activation));
        let tokens = dims.activation_kib.iter().filter(|&&k| u64::from(k) * 1024 * 8 >= need).min();
        let mut indices = vec![workload];
        let (n, c, r) = (dims.copies.len(), dims.cols.len(), dims.rows.len());
        indices.extend([engine / (n * c * r), engine / (n * c) % r, engine / n % c, engine % n, a, w]);
        indices.extend([attention, schedule, clock]);
        indices.push(position(&dims.ports, ports.copied()));
        indices.push(position(&dims.weight_kib, kib.or(dims.weight_kib.iter().max()).copied()));
        indices.push(position(&dims.activation_kib, tokens.or(dims.activation_kib.iter().max()).copied()));
        indices.push(storage);
        Ok(Point::new(indices.into_iter().map(|i| i as u32).collect()))
    }
}
