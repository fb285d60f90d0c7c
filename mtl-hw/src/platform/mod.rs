//! Boards as data: resources, memory system, packing rules, and whether a design fits.
mod fit;
mod packing;

pub use fit::{Fit, FitLevel, FitReport, Resource, Resources};
pub use packing::{DspKind, MemoryPacking, RAMB18_BITS, URAM_BITS, lut_multiplier, lutram, pack};

use crate::math::{positive, positive_float, sum};
use crate::{HwError, Result, text};
use serde::{Deserialize, Serialize};

/// The boards that come with the crate: name and TOML.
const BOARDS: [(&str, &str); 7] = [
    ("zcu104", include_str!("boards/zcu104.toml")),
    ("zcu102", include_str!("boards/zcu102.toml")),
    ("kv260", include_str!("boards/kv260.toml")),
    ("pynq-z2", include_str!("boards/pynq-z2.toml")),
    ("alveo-u50", include_str!("boards/alveo-u50.toml")),
    ("alveo-u280", include_str!("boards/alveo-u280.toml")),
    ("vck190", include_str!("boards/vck190.toml")),
];

/// A DDR4 controller built in the fabric, as FINN's planner charges it. Zynq boards have theirs in hard logic.
pub const DDR_CONTROLLER: Resources = Resources { lut: 33_256, ff: 44_889, ramb18: 199, uram: 0, dsp: 3 };
/// An HBM controller of an Alveo board, as FINN's planner charges it.
pub const HBM_CONTROLLER: Resources = Resources { lut: 10_718, ff: 21_793, ramb18: 8, uram: 0, dsp: 0 };

/// Technology of the off-chip memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MemoryKind {
    /// DDR3.
    Ddr3,
    /// DDR4.
    Ddr4,
    /// HBM2.
    Hbm2,
}

/// Off-chip memory and the ports through which the fabric reaches it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemorySystem {
    /// Technology.
    pub kind: MemoryKind,
    /// Channels, or pseudo-channels of HBM.
    pub channels: u32,
    /// Peak bandwidth of all channels, in 1e9 bytes per second.
    pub peak_gb_per_s: f64,
    /// Capacity in 2³⁰ bytes.
    pub capacity_gib: f64,
    /// Ports from the fabric.
    pub ports: u32,
    /// Width of a port in bits.
    pub port_bits: u32,
    /// Highest clock of a port in MHz.
    pub port_max_clock_mhz: f64,
}

/// One board.
///
/// ```
/// use mtl_hw::platform::Platform;
/// let board = Platform::builtin("zcu104")?;
/// assert_eq!(board.total.dsp, 1728);
/// let error = Platform::builtin("zcu14").unwrap_err().to_string();
/// assert!(error.starts_with("unknown platform `zcu14`; did you mean `zcu104`? known are zcu104, zcu102, "));
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// Name of the board.
    pub name: String,
    /// Device and speed grade.
    pub device: String,
    /// Kind of multiplier block.
    pub dsp_kind: DspKind,
    /// Highest clock of the slowest hard block in MHz.
    pub max_clock_mhz: f64,
    /// A typical or published power in watts; where it is from is in the board's file.
    pub typical_watts: f64,
    /// Where the numbers are from.
    pub source: String,
    /// Resources of the device.
    pub total: Resources,
    /// Resources that the static region takes.
    #[serde(default)]
    pub shell: Resources,
    /// What each die of the package offers, where there are several: a unit that spans two needs registers between.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slrs: Vec<Resources>,
    /// Off-chip memory.
    pub memory: MemorySystem,
}

impl Platform {
    /// A board that comes with the crate.
    ///
    /// # Errors
    ///
    /// [`HwError::Unknown`] with all names, and the nearest where one is close.
    pub fn builtin(name: &str) -> Result<Self> {
        match BOARDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, toml)) => Self::from_toml(toml),
            None => Err(unknown(name)),
        }
    }

    /// Names of the boards that come with the crate.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BOARDS.iter().map(|(name, _)| *name)
    }

    /// Reads and checks a board in TOML.
    ///
    /// # Errors
    ///
    /// [`HwError::Parse`] naming the key, or an error of [`Platform::validate`].
    pub fn from_toml(toml: &str) -> Result<Self> {
        let platform: Self = text::from_toml("platform", toml)?;
        platform.validate()?;
        Ok(platform)
    }

    /// Writes TOML that [`Platform::from_toml`] reads.
    ///
    /// # Errors
    ///
    /// [`HwError::Write`] when a number exceeds TOML's 63 bits.
    pub fn to_toml(&self) -> Result<String> {
        text::to_toml("platform", self)
    }

    /// Checks that totals are positive, the shell fits, and clocks, bandwidth and ports make sense.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the key.
    pub fn validate(&self) -> Result<()> {
        if self.name.is_empty() {
            return Err(HwError::config("name", "non-empty", "\"\""));
        }
        for (resource, total) in self.total.iter() {
            // Small devices have no UltraRAM.
            if resource != Resource::Uram {
                positive(&format!("total.{resource}"), total)?;
            }
            let shell = self.shell.get(resource);
            if shell > total {
                return Err(HwError::config(
                    format!("shell.{resource}"),
                    format!("at most the total of {total}"),
                    shell,
                ));
            }
        }
        for resource in self.total.iter().map(|(r, _)| r) {
            let dies = sum(&format!("slrs.{resource}"), self.slrs.iter().map(|s| s.get(resource)))?;
            if dies > self.total.get(resource) {
                let must = format!("at most the total of {}", self.total.get(resource));
                return Err(HwError::config(format!("slrs.{resource} (all)"), must, dies));
            }
        }
        positive_float("max_clock_mhz", self.max_clock_mhz)?;
        positive_float("typical_watts", self.typical_watts)?;
        positive_float("memory.peak_gb_per_s", self.memory.peak_gb_per_s)?;
        positive_float("memory.capacity_gib", self.memory.capacity_gib)?;
        positive_float("memory.port_max_clock_mhz", self.memory.port_max_clock_mhz)?;
        positive("memory.channels", self.memory.channels.into())?;
        positive("memory.ports", self.memory.ports.into())?;
        let bits = self.memory.port_bits;
        if bits < 8 || !bits.is_power_of_two() {
            return Err(HwError::config("memory.port_bits", "a power of two from 8", bits));
        }
        Ok(())
    }

    /// Resources left for a design.
    #[must_use]
    pub fn usable(&self) -> Resources {
        self.total.minus(&self.shell)
    }

    /// Peak off-chip bandwidth in bytes per second.
    #[must_use]
    pub fn peak_bytes_per_s(&self) -> u64 {
        // Saturating cast of a checked positive number.
        (self.memory.peak_gb_per_s * 1e9).round() as u64
    }

    /// Compares a design's resources with the board's.
    ///
    /// ```
    /// use mtl_hw::platform::{FitLevel, Platform, Resources};
    /// let report = Platform::builtin("zcu104")?.check(&Resources { dsp: 2000, ..Resources::default() });
    /// assert_eq!(report.level(), FitLevel::DoesNotFit);
    /// assert_eq!(report.to_string(), "zcu104: dsp 2000 of 1728 (115.7 %) does not fit");
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    #[must_use]
    pub fn check(&self, used: &Resources) -> FitReport {
        FitReport::new(&self.name, &self.usable(), used)
    }
}

/// The error for a board that does not come with the crate.
fn unknown(name: &str) -> HwError {
    let names: Vec<&str> = Platform::names().collect();
    match text::unknown("platform", name, &names) {
        HwError::Unknown { kind, name, hint } if !hint.starts_with("known") => {
            HwError::Unknown { kind, name, hint: format!("{hint} known are {}", names.join(", ")) }
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_is_valid_and_survives_toml() {
        for name in Platform::names() {
            let board = Platform::builtin(name).unwrap();
            assert_eq!(board.name, name);
            assert_eq!(Platform::from_toml(&board.to_toml().unwrap()).unwrap(), board);
        }
    }

    #[test]
    fn block_memory_of_the_zcu104_is_what_its_data_sheet_quotes() {
        let board = Platform::builtin("zcu104").unwrap();
        let mbit = |blocks: u64, bits: u64| (blocks * bits) as f64 / f64::from(1 << 20);
        assert!((mbit(board.total.ramb18, RAMB18_BITS) / 11.2 - 1.0).abs() < 0.03);
        assert!((mbit(board.total.uram, URAM_BITS) / 27.6 - 1.0).abs() < 0.03);
    }

    #[test]
    fn the_reference_dpu_fits_a_kv260() {
        // B3136: 67 RAMB36.
        let dpu = Resources { lut: 45_517, ff: 0, ramb18: 134, uram: 44, dsp: 548 };
        let report = Platform::builtin("kv260").unwrap().check(&dpu);
        assert_eq!(report.level(), FitLevel::Ok, "{report}");
    }

    #[test]
    fn peak_rates_of_the_reference_dpus_follow_from_their_operations_per_cycle() {
        // Operations per cycle times clock: 0.92 TOPS documented for a B3136, 2.46 for two B4096, both at 300 MHz.
        let tops = |macs: u64| 2.0 * macs as f64 * 300e6 / 1e12;
        assert!((tops(3136 / 2) / 0.92 - 1.0).abs() < 0.03);
        assert!((tops(2 * 4096 / 2) - 2.4576).abs() < 1e-9);
        // Two 8-bit products a block and cycle: half as many blocks would do as the DPU has multiply-accumulates.
        let blocks = (3136u64 / 2).div_ceil(DspKind::Dsp48e2.products_per_block(8, 8).unwrap());
        assert_eq!(blocks, 784);
    }

    #[test]
    fn dies_add_up_to_no_more_than_the_device() {
        for (name, dies, dsp) in [("alveo-u50", 2, 2760), ("alveo-u280", 3, 2880)] {
            let board = Platform::builtin(name).unwrap();
            assert_eq!(board.slrs.len(), dies);
            assert_eq!(board.slrs[dies - 1].dsp, dsp);
        }
        let mut board = Platform::builtin("alveo-u50").unwrap();
        board.slrs[0].dsp = 4000;
        insta::assert_snapshot!(board.validate().unwrap_err(), @"`slrs.dsp (all)` must be at most the total of 5952, but is 6760");
    }

    #[test]
    fn the_mean_of_memories_and_multipliers_has_a_ceiling_of_its_own() {
        let board = Platform::builtin("zcu104").unwrap();
        let share = |percent: u64| Resources {
            ramb18: 624 * percent / 100,
            uram: 96 * percent / 100,
            dsp: 1728 * percent / 100,
            ..Resources::default()
        };
        let report = board.check(&share(65));
        assert_eq!(report.level(), FitLevel::Ok);
        let report = board.check(&share(75));
        // Each is below 80 %.
        assert!(report.entries.iter().all(|e| e.level == FitLevel::Ok));
        assert!((report.mean_percent - 75.0).abs() < 0.1);
        assert_eq!(report.level(), FitLevel::OverCeiling);
        // A board without UltraRAM has a mean of two.
        let used = Resources { ramb18: 1824, ..Resources::default() };
        assert!((Platform::builtin("zcu102").unwrap().check(&used).mean_percent - 50.0).abs() < 1e-9);
    }

    #[test]
    fn controllers_in_the_fabric_are_the_shell_of_the_u280() {
        assert_eq!(Platform::builtin("alveo-u280").unwrap().shell, HBM_CONTROLLER);
        assert_eq!(Platform::builtin("alveo-u280").unwrap().check(&DDR_CONTROLLER).level(), FitLevel::Ok);
    }

    #[test]
    fn an_unknown_board_lists_the_known_ones() {
        insta::assert_snapshot!(Platform::builtin("virtex").unwrap_err(), @"unknown platform `virtex`; known are zcu104, zcu102, kv260, pynq-z2, alveo-u50, alveo-u280, vck190");
    }

    #[test]
    fn broken_boards_name_the_key() {
        let good = include_str!("boards/zcu104.toml");
        let error = |from: &str, to: &str| {
            assert!(good.contains(from));
            Platform::from_toml(&good.replace(from, to)).unwrap_err().to_string()
        };
        insta::assert_snapshot!(error("dsp = 1728", "dsp = -1"), @"platform: `total.dsp`: invalid value: integer `-1`, expected u64");
        insta::assert_snapshot!(error("dsp = 1728", "dsp = 0"), @"`total.dsp` must be positive, but is 0");
        insta::assert_snapshot!(error("dsp = 1728", "dps = 1728"), @"platform: `total.dps`: unknown field `dps`, expected one of `lut`, `ff`, `ramb18`, `uram`, `dsp`");
        insta::assert_snapshot!(error("peak_gb_per_s = 19.2", "peak_gb_per_s = nan"), @"`memory.peak_gb_per_s` must be positive and finite, but is NaN");
        insta::assert_snapshot!(error("\"ddr4\"", "\"ddr9\""), @"platform: `memory.kind`: unknown variant `ddr9`, expected one of `ddr3`, `ddr4`, `hbm2`");
        insta::assert_snapshot!(error("port_bits = 128", "port_bits = 100"), @"`memory.port_bits` must be a power of two from 8, but is 100");
        insta::assert_snapshot!(error("[memory]", "[memory"), @"platform: `.`: unclosed table, expected `]`");
    }
}
