//! Makespans of double buffering: loads L₀, L₁, … feed computations C₀, C₁, … through two buffers.
//!
//! For any times, [`free_running`] ≤ [`barrier`] ≤ [`serial`].
use crate::math::sum;
use crate::{HwError, Result};

/// One step: cycles to load its buffer, then cycles to compute on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Cycles of the load.
    pub load: u64,
    /// Cycles of the computation.
    pub compute: u64,
}

/// No overlap: Σ (Lᵢ + Cᵢ).
///
/// # Errors
///
/// [`HwError::Overflow`] beyond 64 bits.
pub fn serial(steps: &[Step]) -> Result<u64> {
    sum("cycles", steps.iter().flat_map(|s| [s.load, s.compute]))
}

/// A barrier after every step: L₀ + Σ max(Cᵢ, Lᵢ₊₁).
///
/// ```
/// use mtl_hw::cost::ping_pong::{Step, barrier};
/// let steps = [Step { load: 10, compute: 4 }, Step { load: 6, compute: 5 }];
/// assert_eq!(barrier(&steps)?, 10 + 6 + 5);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
///
/// # Errors
///
/// [`HwError::Overflow`] beyond 64 bits.
pub fn barrier(steps: &[Step]) -> Result<u64> {
    let first = steps.first().map_or(0, |s| s.load);
    sum("cycles", [first, barrier_after_first(steps)?])
}

/// [`barrier`] without the first load, which may be hidden behind earlier work.
pub(crate) fn barrier_after_first(steps: &[Step]) -> Result<u64> {
    let next_loads = steps.iter().skip(1).map(|s| s.load).chain([0]);
    sum("cycles", steps.iter().zip(next_loads).map(|(s, next)| s.compute.max(next)))
}

/// No barrier: a load waits for the previous load and for the computation that last used its buffer.
///
/// # Errors
///
/// [`HwError::Overflow`] beyond 64 bits.
pub fn free_running(steps: &[Step]) -> Result<u64> {
    let (mut load_end, mut compute_end, mut buffer_free) = (0u64, 0u64, 0u64);
    for s in steps {
        load_end = add(load_end.max(buffer_free), s.load)?;
        // The next load goes to the other buffer, released by the computation before this one.
        buffer_free = compute_end;
        compute_end = add(load_end.max(compute_end), s.compute)?;
    }
    Ok(compute_end)
}

/// Two matrices per step that share two buffers, one each, with a barrier after each half step:
/// L₀ + Σ [max(Cᵢ, L′ᵢ) + max(C′ᵢ, Lᵢ₊₁)].
///
/// # Errors
///
/// [`HwError::Overflow`] beyond 64 bits; [`HwError::Config`] when the slices differ in length.
pub fn matrix_level(first: &[Step], second: &[Step]) -> Result<u64> {
    if first.len() != second.len() {
        return Err(HwError::config("second", format!("as long as `first`, {}", first.len()), second.len()));
    }
    let halves: Vec<Step> = first.iter().zip(second).flat_map(|(&a, &b)| [a, b]).collect();
    barrier(&halves)
}

fn add(a: u64, b: u64) -> Result<u64> {
    sum("cycles", [a, b])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn free_is_at_most_barrier_is_at_most_serial(
            times in proptest::collection::vec((0u64..1000, 0u64..1000), 0..20),
        ) {
            let steps: Vec<Step> = times.into_iter().map(|(load, compute)| Step { load, compute }).collect();
            let (free, barrier, serial) =
                (free_running(&steps).unwrap(), barrier(&steps).unwrap(), serial(&steps).unwrap());
            prop_assert!(free <= barrier && barrier <= serial);
            let loads: u64 = steps.iter().map(|s| s.load).sum();
            let computes: u64 = steps.iter().map(|s| s.compute).sum();
            prop_assert!(free >= loads.max(computes));
        }
    }

    #[test]
    fn times_beyond_64_bits_are_an_error() {
        let steps = [Step { load: u64::MAX, compute: 1 }];
        assert!(serial(&steps).is_err() && barrier(&steps).is_err() && free_running(&steps).is_err());
        assert!(matrix_level(&steps, &[]).is_err());
    }
}
