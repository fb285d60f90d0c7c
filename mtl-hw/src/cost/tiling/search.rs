//! The best tile and outer order of one product.
use super::{GemmShape, OuterOrder, TiledCost, TiledDesign, tiled_cost};
use crate::math::positive;
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// What the search minimises; the other breaks ties, then the smaller tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Cycles.
    Latency,
    /// Off-chip bits.
    Traffic,
}

/// Which tiles are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TilingSpace {
    /// Rows that the engine takes at once: sizes of tiles along m that are tried besides divisors are multiples.
    pub m_step: u64,
    /// The same along k.
    pub k_step: u64,
    /// The same along n.
    pub n_step: u64,
    /// Tiles with more steps are skipped.
    pub max_steps: u64,
}

impl Default for TilingSpace {
    fn default() -> Self {
        Self { m_step: 16, k_step: 16, n_step: 16, max_steps: 1024 }
    }
}

/// The best tile and order over divisors of each dimension and padded sizes, all three orders.
///
/// # Errors
///
/// [`HwError::Config`] when no tile fits the buffers, with the reason for the smallest; errors of the layer as in
/// [`tiled_cost`].
pub fn best_tiling(
    layer: &GemmShape,
    design: &TiledDesign<'_>,
    space: &TilingSpace,
    objective: Objective,
) -> Result<(GemmShape, OuterOrder, TiledCost)> {
    let [m, k, n] = [(layer.m, space.m_step), (layer.k, space.k_step), (layer.n, space.n_step)]
        .map(|(whole, step)| sizes(whole, step));
    let (m, k, n) = (m?, k?, n?);
    let mut best: Option<((u64, u64), GemmShape, OuterOrder, TiledCost)> = None;
    let mut refusal = None;
    for &tm in &m {
        for &tk in &k {
            for &tn in &n {
                let tile = GemmShape { m: tm, k: tk, n: tn };
                let steps = u128::from(layer.m.div_ceil(tm))
                    * u128::from(layer.k.div_ceil(tk))
                    * u128::from(layer.n.div_ceil(tn));
                if steps > u128::from(space.max_steps) {
                    continue;
                }
                for order in
                    [OuterOrder::OutputResident, OuterOrder::WeightResident, OuterOrder::InputResident]
                {
                    let cost = match tiled_cost(layer, &tile, order, design) {
                        Ok(cost) => cost,
                        Err(error @ HwError::Overflow { .. }) => return Err(error),
                        Err(error) => {
                            refusal.get_or_insert(error);
                            continue;
                        }
                    };
                    let traffic = cost.traffic.total()?;
                    let key = match objective {
                        Objective::Latency => (cost.cycles, traffic),
                        Objective::Traffic => (traffic, cost.cycles),
                    };
                    if best.as_ref().is_none_or(|(known, ..)| key < *known) {
                        best = Some((key, tile, order, cost));
                    }
                }
            }
        }
    }
    match (best, refusal) {
        (Some((_, tile, order, cost)), _) => Ok((tile, order, cost)),
        (None, Some(error)) => Err(error),
        (None, None) => Err(HwError::config("space.max_steps", "large enough for one tile", space.max_steps)),
    }
}

/// Divisors of `whole` that are multiples of `step`, doublings of `step`, and `whole` itself, in order.
fn sizes(whole: u64, step: u64) -> Result<Vec<u64>> {
    positive("layer dimension", whole)?;
    let step = positive("step", step)?;
    let mut sizes = vec![whole];
    let mut padded = step;
    while padded < whole {
        sizes.push(padded);
        padded = padded.saturating_mul(2);
    }
    let mut divisor = 1;
    while divisor <= whole / divisor {
        if whole.is_multiple_of(divisor) {
            sizes.extend(
                [divisor, whole / divisor].into_iter().filter(|d| d.is_multiple_of(step) || *d == whole),
            );
        }
        divisor += 1;
        // A dimension beyond 2⁴⁰ has its doublings; walking to its root would take minutes.
        if divisor > 1 << 20 {
            break;
        }
    }
    sizes.sort_unstable();
    sizes.dedup();
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::engine::Tile;
    use crate::cost::tiling::{OperandBits, TileBuffers, TilePorts};

    #[test]
    fn candidates_are_divisors_and_doublings() {
        assert_eq!(sizes(96, 16).unwrap(), [16, 32, 48, 64, 96]);
        assert_eq!(sizes(197, 16).unwrap(), [16, 32, 64, 128, 197]);
        assert!(sizes(0, 16).is_err() && sizes(4, 0).is_err());
    }

    #[test]
    fn too_small_buffers_say_what_does_not_fit() {
        let engine = Tile { t_in: 16, t_out: 16, ii: 1, depth: 0 };
        let design = TiledDesign {
            engine: &engine,
            bits: OperandBits { a: 8, b: 8, c: 8, accumulator: 32 },
            buffers: TileBuffers { a_bits: 64, b_bits: 64, c_bits: 64, ping_pong: true },
            ports: TilePorts::Shared { bits: 128 },
        };
        let layer = GemmShape { m: 64, k: 64, n: 64 };
        let error = best_tiling(&layer, &design, &TilingSpace::default(), Objective::Latency).unwrap_err();
        insta::assert_snapshot!(error, @"`tile bits of a` must be within the buffer's 64 bits, but is 4096");
    }
}
