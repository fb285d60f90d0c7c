//! Logic, multipliers, block memories and energy of a design: linear models with stated, replaceable coefficients.
use crate::Result;
use crate::explore::Fractions;
use crate::math::positive_float;
use crate::platform::{DspKind, Platform, Resource, Resources};
use serde::{Deserialize, Serialize};

/// Coefficients of the logic estimate. The defaults are orders of magnitude, not a fit: expect ±25 % at best.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FabricModel {
    /// LUTs of control and nonlinear units.
    pub lut_base: f64,
    /// LUTs per multiplier and bit of its two operands.
    pub lut_per_unit_bit: f64,
    /// LUTs per bit of a port.
    pub lut_per_port_bit: f64,
    /// Flip-flops per LUT.
    pub ff_per_lut: f64,
    /// Whether narrow products share a multiplier block: two of 8 bits (three in a DSP58), four of 4 bits.
    pub dsp_packing: bool,
    /// Share of the LUTs above which the clock suffers; it also does where a design does not fit one die of several.
    pub derate_above: f64,
    /// Factor on the clock then, in (0, 1].
    pub clock_derate: f64,
}

impl Default for FabricModel {
    fn default() -> Self {
        Self {
            lut_base: 20_000.0,
            lut_per_unit_bit: 1.0,
            lut_per_port_bit: 10.0,
            ff_per_lut: 1.3,
            dsp_packing: true,
            derate_above: 0.7,
            clock_derate: 0.85,
        }
    }
}

/// Coefficients of the energy estimate: E = P·t + Σ k·resources·busy cycles + k·bytes. The defaults are typical magnitudes of
/// 16 nm devices, not a fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnergyModel {
    /// Power that flows whatever runs, in watts.
    pub static_w: f64,
    /// Per multiplier block and busy cycle, in picojoules.
    pub dsp_pj: f64,
    /// Per block RAM and cycle, in picojoules.
    pub ramb18_pj: f64,
    /// Per UltraRAM and cycle, in picojoules.
    pub uram_pj: f64,
    /// Per LUT and cycle, in picojoules.
    pub lut_pj: f64,
    /// Per byte of off-chip memory, in picojoules.
    pub dram_pj_per_byte: f64,
}

impl Default for EnergyModel {
    fn default() -> Self {
        Self {
            static_w: 4.0,
            dsp_pj: 5.0,
            ramb18_pj: 4.0,
            uram_pj: 12.0,
            lut_pj: 0.01,
            dram_pj_per_byte: 200.0,
        }
    }
}

/// Limits of a design. Shares of the board's usable resources default to those that still close timing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest shares.
    pub ceilings: Fractions,
    /// Longest latency in seconds.
    pub latency_s: Option<f64>,
    /// Highest average power in watts.
    pub power_w: Option<f64>,
    /// Most energy per image in joules.
    pub energy_j: Option<f64>,
    /// Least accuracy.
    pub accuracy: Option<f64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ceilings: Fractions {
                lut: Resource::Lut.ceiling(),
                ff: Resource::Ff.ceiling(),
                ramb18: Resource::Ramb18.ceiling(),
                uram: Resource::Uram.ceiling(),
                dsp: Resource::Dsp.ceiling(),
            },
            latency_s: None,
            power_w: None,
            energy_j: None,
            accuracy: None,
        }
    }
}

impl Limits {
    pub(in crate::explore) fn validate(&self) -> Result<()> {
        let c = &self.ceilings;
        for (field, v) in
            [("lut", c.lut), ("ff", c.ff), ("ramb18", c.ramb18), ("uram", c.uram), ("dsp", c.dsp)]
        {
            positive_float(&format!("limits.ceilings.{field}"), v)?;
        }
        for (field, limit) in
            [("latency_s", self.latency_s), ("power_w", self.power_w), ("energy_j", self.energy_j)]
        {
            if let Some(v) = limit {
                positive_float(&format!("limits.{field}"), v)?;
            }
        }
        if let Some(v) = self.accuracy.filter(|v| !v.is_finite()) {
            return Err(crate::HwError::config("limits.accuracy", "finite", v));
        }
        Ok(())
    }
}

impl FabricModel {
    pub(super) fn validate(&self) -> Result<()> {
        for (field, v) in [
            ("lut_base", self.lut_base),
            ("lut_per_unit_bit", self.lut_per_unit_bit),
            ("lut_per_port_bit", self.lut_per_port_bit),
            ("ff_per_lut", self.ff_per_lut),
            ("derate_above", self.derate_above),
        ] {
            not_negative(&format!("fabric.{field}"), v)?;
        }
        if self.clock_derate > 0.0 && self.clock_derate <= 1.0 {
            return Ok(());
        }
        Err(crate::HwError::config("fabric.clock_derate", "in (0, 1]", self.clock_derate))
    }

    /// Multiplier blocks of `units` multipliers; never fewer for wider operands.
    pub(super) fn dsp(&self, kind: DspKind, units: u64, a_bits: u32, b_bits: u32) -> Result<u64> {
        let widest = a_bits.max(b_bits);
        let shared = match (self.dsp_packing, widest) {
            (true, ..=4) => 4,
            (true, 5..=8) if kind == DspKind::Dsp58 => 3,
            (true, 5..=8) => 2,
            _ => 1,
        };
        let each = kind.blocks_per_multiply(a_bits, b_bits)?;
        Ok(crate::math::product("dsp", &[units, each])?.div_ceil(shared))
    }

    pub(super) fn lut(&self, unit_bits: u64, port_bits: u64) -> f64 {
        self.lut_base + self.lut_per_unit_bit * unit_bits as f64 + self.lut_per_port_bit * port_bits as f64
    }
}

/// What the energy depends on; energy rises with every field.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Activity {
    pub(super) latency_s: f64,
    /// Multiplier blocks times busy cycles, summed over engines.
    pub(super) dsp_cycles: f64,
    pub(super) cycles: f64,
    pub(super) ramb18: f64,
    pub(super) uram: f64,
    pub(super) lut: f64,
    pub(super) bytes: f64,
}

impl EnergyModel {
    pub(super) fn validate(&self) -> Result<()> {
        for (field, v) in [
            ("static_w", self.static_w),
            ("dsp_pj", self.dsp_pj),
            ("ramb18_pj", self.ramb18_pj),
            ("uram_pj", self.uram_pj),
            ("lut_pj", self.lut_pj),
            ("dram_pj_per_byte", self.dram_pj_per_byte),
        ] {
            not_negative(&format!("energy.{field}"), v)?;
        }
        Ok(())
    }

    pub(super) fn joules(&self, a: &Activity) -> f64 {
        let per_cycle = self.ramb18_pj * a.ramb18 + self.uram_pj * a.uram + self.lut_pj * a.lut;
        let dynamic = self.dsp_pj * a.dsp_cycles + per_cycle * a.cycles + self.dram_pj_per_byte * a.bytes;
        self.static_w * a.latency_s + 1e-12 * dynamic
    }
}

fn not_negative(field: &str, v: f64) -> Result<()> {
    if v >= 0.0 && v.is_finite() {
        Ok(())
    } else {
        Err(crate::HwError::config(field, "finite and not negative", v))
    }
}

/// Amounts in floating point, LUTs and flip-flops being estimates.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    pub(super) lut: f64,
    pub(super) ff: f64,
    pub(super) ramb18: f64,
    pub(super) uram: f64,
    pub(super) dsp: f64,
}

impl Used {
    /// Whether no amount exceeds what is there.
    pub(super) fn within(&self, there: &Resources) -> bool {
        [
            (self.lut, there.lut),
            (self.ff, there.ff),
            (self.ramb18, there.ramb18),
            (self.uram, there.uram),
            (self.dsp, there.dsp),
        ]
        .iter()
        .all(|&(used, there)| used <= there as f64)
    }

    pub(super) fn fractions(&self, usable: &Resources) -> Fractions {
        // A device without UltraRAM has no share of it: the amount itself says by how much it does not fit.
        let share = |used: f64, total: u64| if total == 0 { used } else { used / total as f64 };
        Fractions {
            lut: share(self.lut, usable.lut),
            ff: share(self.ff, usable.ff),
            ramb18: share(self.ramb18, usable.ramb18),
            uram: share(self.uram, usable.uram),
            dsp: share(self.dsp, usable.dsp),
        }
    }
}

/// Bytes per second of a number of ports, at most the memory's.
pub(super) fn bandwidth(
    platform: &Platform,
    port_bits: u32,
    ports: u32,
    clock_hz: f64,
    efficiency: f64,
) -> f64 {
    let port = f64::from(port_bits / 8) * f64::from(ports) * clock_hz;
    port.min(platform.peak_bytes_per_s() as f64 * efficiency)
}
