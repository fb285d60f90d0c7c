//! Parallel queries over a stream of keys: the attention unit of Edge-MoE (ICCAD 2023, arXiv 2305.18691).
use crate::math::{positive, product, sum};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// Key steps of `n` queries over `n` keys with `p` queries in registers: ⌈(n + p − 1) / p⌉·n.
///
/// Query slot j starts at key j and wraps round, so one key per step is enough for all p; the price is at most one more
/// pass over the keys.
///
/// ```
/// use mtl_hw::cost::engine::attention_steps;
/// assert_eq!(attention_steps(129, 4)?, 33 * 129);
/// assert!(attention_steps(129, 129).is_err());
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// [`HwError::Config`] unless 0 < p < n, which the design requires; [`HwError::Overflow`] beyond 64 bits.
pub fn attention_steps(n: u64, p: u64) -> Result<u64> {
    check(n, p)?;
    product("steps", &[sum("steps", [n, p - 1])?.div_ceil(p), n])
}

/// Key tokens fetched for one product by [`attention_steps`]: the wrapped passes end early, so (n + p − 1)·n / p at most
/// in whole passes plus the keys of the last, partial one, and n queries.
///
/// # Errors
///
/// As [`attention_steps`].
pub fn attention_loads(n: u64, p: u64) -> Result<u64> {
    let steps = exact_steps(n, p)?;
    sum("loads", [steps, n])
}

/// Steps with the tail pass cut where its last query ends.
fn exact_steps(n: u64, p: u64) -> Result<u64> {
    check(n, p)?;
    let rows = sum("steps", [n, p - 1])?;
    let tail = rows % p;
    sum("steps", [product("steps", &[rows / p, n])?, tail])
}

fn check(n: u64, p: u64) -> Result<()> {
    positive("p", p)?;
    if p >= n {
        return Err(HwError::config("p", format!("below the {n} tokens"), p));
    }
    Ok(())
}

/// Multipliers for p queries × u dimensions per cycle.
///
/// ```
/// use mtl_hw::cost::engine::AttentionEngine;
/// let unit = AttentionEngine { queries: 4, lanes: 8, reordered: true };
/// assert_eq!(unit.product_cycles(129, 192)?, 102_168); // Edge-MoE's Q·Kᵀ
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionEngine {
    /// Query rows p in parallel.
    pub queries: u32,
    /// Dimensions u per cycle and query, summed over heads.
    pub lanes: u32,
    /// Whether queries are staggered so that one key per step feeds all of them; else each needs its own stream.
    pub reordered: bool,
}

impl AttentionEngine {
    /// Passes over the keys.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] unless 0 < p < `tokens`.
    pub fn steps(&self, tokens: u64) -> Result<u64> {
        let p = u64::from(self.queries);
        if self.reordered {
            attention_steps(tokens, p)
        } else {
            check(tokens, p)?;
            product("steps", &[tokens.div_ceil(p), tokens])
        }
    }

    /// Cycles of one of the two products, `[tokens, dim]` with `[tokens, dim]`, heads side by side in `dim`.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] unless 0 < p < `tokens`, or for zero lanes.
    pub fn product_cycles(&self, tokens: u64, dim: u64) -> Result<u64> {
        let lanes = positive("attention.lanes", self.lanes.into())?;
        product("cycles", &[self.steps(tokens)?, positive("dim", dim)?.div_ceil(lanes)])
    }

    /// Key tokens that must arrive per step: 1 with reordering, else p.
    #[must_use]
    pub fn tokens_per_step(&self) -> u64 {
        if self.reordered { 1 } else { self.queries.into() }
    }

    /// Multiply-accumulates per cycle.
    #[must_use]
    pub fn peak_macs(&self) -> u64 {
        u64::from(self.queries) * u64::from(self.lanes)
    }

    /// The smallest p from which the keys' port, not the multipliers, decides the time of one product over all p
    /// queries; none when the multipliers always do.
    ///
    /// With reordering a step takes max(dim / lanes, `cycles_per_token`) cycles whatever p is, so a port that is too slow
    /// for one query is too slow for all; without, p tokens per step saturate it.
    #[must_use]
    pub fn saturating_queries(&self, dim: u64, cycles_per_token: u64) -> Option<u64> {
        let compute = dim.div_ceil(u64::from(self.lanes).max(1));
        if cycles_per_token == 0 {
            return None;
        }
        if self.reordered {
            (cycles_per_token > compute).then_some(1)
        } else {
            Some(compute / cycles_per_token + 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs the staggered schedule and counts steps.
    fn simulate(n: u64, p: u64) -> u64 {
        // Slot j handles queries j, j + p, …; a row starts at step (pass, key j) and takes n steps.
        (0..n).map(|q| (q / p) * n + q % p + n).max().unwrap()
    }

    proptest! {
        #[test]
        fn the_staggered_schedule_takes_the_exact_steps(n in 2u64..300, p in 1u64..40) {
            prop_assume!(p < n);
            let exact = exact_steps(n, p).unwrap();
            prop_assert_eq!(simulate(n, p), exact);
            prop_assert!(exact <= attention_steps(n, p).unwrap());
        }

        #[test]
        fn more_queries_never_take_more_steps_than_one_pass_more(n in 3u64..300, p in 1u64..40) {
            prop_assume!(p + 1 < n);
            prop_assert!(attention_steps(n, p + 1).unwrap() <= attention_steps(n, p).unwrap() + n);
        }
    }

    #[test]
    fn bandwidth_does_not_depend_on_p_with_reordering() {
        let unit = |queries, reordered| AttentionEngine { queries, lanes: 8, reordered };
        for p in 1..=16 {
            assert_eq!(unit(p, true).tokens_per_step(), 1);
            assert_eq!(unit(p, false).tokens_per_step(), u64::from(p));
        }
        // 24 words at two beats each: the 128-bit port binds from the first query on; at one beat it never does.
        assert_eq!(unit(4, true).saturating_queries(192, 48), Some(1));
        assert_eq!(unit(4, true).saturating_queries(192, 24), None);
        assert_eq!(unit(4, false).saturating_queries(192, 24), Some(2));
    }

    #[test]
    fn too_many_queries_are_refused() {
        insta::assert_snapshot!(attention_steps(8, 8).unwrap_err(), @"`p` must be below the 8 tokens, but is 8");
        insta::assert_snapshot!(attention_steps(8, 0).unwrap_err(), @"`p` must be positive, but is 0");
    }
}
