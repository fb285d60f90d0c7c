//! Energy per access, as in ZigZag and Accelergy.
use crate::math::{positive_float, sum};
use crate::{HwError, Result};
use serde::{Deserialize, Serialize};

/// One level of the memory hierarchy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Name of the level.
    pub name: String,
    /// Energy of one access in picojoules.
    pub pj: f64,
}

/// Energy of an operation and of an access to each level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessEnergies {
    /// Energy of one multiply-accumulate in picojoules.
    pub mac_pj: f64,
    /// The levels, innermost first.
    pub levels: Vec<Level>,
}

/// Energy from counted operations and accesses.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct AccessJoules(pub f64);

impl AccessEnergies {
    /// 45 nm figures after Horowitz (ISSCC 2014), quoted from memory: an 8-bit multiply-accumulate, 64-bit reads of static
    /// memories of 8 KiB, 32 KiB and 1 MiB, and of DRAM.
    #[must_use]
    pub fn horowitz_45nm() -> Self {
        let level = |name: &str, pj| Level { name: name.to_owned(), pj };
        Self {
            mac_pj: 0.23,
            levels: vec![
                level("sram-8-kib", 10.0),
                level("sram-32-kib", 20.0),
                level("sram-1-mib", 100.0),
                level("dram", 1300.0),
            ],
        }
    }

    /// Energy of `macs` operations and of the accesses to each level, in the order of [`AccessEnergies::levels`].
    ///
    /// ```
    /// let energies = mtl_hw::power::AccessEnergies::horowitz_45nm();
    /// let joules = energies.energy(1000, &[0, 0, 0, 1])?;
    /// assert!((joules.0 - (230.0 + 1300.0) * 1e-12).abs() < 1e-20);
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when the numbers of levels differ, or an energy is not positive and finite;
    /// [`HwError::Overflow`] when the accesses do not fit in 64 bits.
    pub fn energy(&self, macs: u64, accesses: &[u64]) -> Result<AccessJoules> {
        if accesses.len() != self.levels.len() {
            let must = format!("one number for each of the {} levels", self.levels.len());
            return Err(HwError::config("accesses", must, accesses.len()));
        }
        sum("accesses", accesses.iter().copied())?;
        let mut pj = positive_float("mac_pj", self.mac_pj)? * macs as f64;
        for (level, &n) in self.levels.iter().zip(accesses) {
            pj += positive_float(&format!("levels.{}", level.name), level.pj)? * n as f64;
        }
        Ok(AccessJoules(1e-12 * pj))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_level_and_a_bad_energy_are_refused() {
        let mut energies = AccessEnergies::horowitz_45nm();
        insta::assert_snapshot!(energies.energy(1, &[1]).unwrap_err(), @"`accesses` must be one number for each of the 4 levels, but is 1");
        energies.levels[3].pj = f64::INFINITY;
        insta::assert_snapshot!(energies.energy(1, &[0; 4]).unwrap_err(), @"`levels.dram` must be positive and finite, but is inf");
    }
}
