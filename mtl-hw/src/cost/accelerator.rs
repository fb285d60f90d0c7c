//! An accelerator: engines, port, precision, schedule and power on a board.
use super::dram::memory_cycles;
use super::engine::{AttentionEngine, Engine};
use super::off_chip::OffChip;
use super::{MoeSchedule, WeightPort};
use crate::math::{bytes, positive, positive_float, product, sum};
use crate::platform::Platform;
use crate::power::PowerModel;
use crate::{HwError, Result, text};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Widths of stored numbers in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Precision {
    /// Activations.
    pub activation_bits: u32,
    /// Weights and biases.
    pub weight_bits: u32,
}

/// How the gate is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum GateUnit {
    /// Its own unit, with a fixed number of cycles per token.
    PerToken {
        /// Cycles per token.
        cycles: u32,
    },
    /// Scores on the matrix engine, then one cycle per expert and token for the top-K insertion.
    MatrixEngine,
}

/// Streaming unit for softmax, layer norm, GELU and additions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VectorUnit {
    /// Elements per cycle.
    pub lanes: u32,
    /// Cycles per row for divisions and square roots.
    pub row_latency: u32,
}

impl VectorUnit {
    pub(crate) fn cycles(&self, rows: u64, elements: u64) -> Result<u64> {
        let lanes = positive("vector.lanes", self.lanes.into())?;
        sum("cycles", [elements.div_ceil(lanes), product("cycles", &[rows, self.row_latency.into()])?])
    }
}

/// What the numbers that an accelerator yields can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Provenance {
    /// Published numbers for this design are estimates themselves.
    ClosedFormEstimate,
    /// Published numbers for this design were measured on a board.
    BoardMeasurement,
    /// Nothing was published for this design.
    Unpublished,
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClosedFormEstimate => {
                "closed-form estimate, checked against a published estimate, not against a board"
            }
            Self::BoardMeasurement => "closed-form estimate of a design that was measured on a board",
            Self::Unpublished => "closed-form estimate of a design with no published numbers",
        })
    }
}

/// An accelerator for transformer encoders. Weights stream in; activations stay on chip, or travel through off-chip memory
/// between kernels.
///
/// Start from a [preset](crate::presets) and change fields; [`Accelerator::validate`] runs before every use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accelerator {
    /// Name of the design.
    pub name: String,
    /// The board.
    pub platform: Platform,
    /// Clock in MHz.
    pub clock_mhz: f64,
    /// Engine for all matrix products.
    pub engine: Engine,
    /// Engine for the products of attention; absent when the matrix engine computes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<AttentionEngine>,
    /// How activations travel through off-chip memory; absent when they stay on chip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_chip: Option<OffChip>,
    /// Gate unit.
    pub gate: GateUnit,
    /// Vector unit; absent when its work is taken to be hidden in the matrix pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector: Option<VectorUnit>,
    /// Port of the weight stream.
    pub port: WeightPort,
    /// Share of the board's peak bandwidth that a long burst reaches, in (0, 1].
    pub dram_efficiency: f64,
    /// Number widths.
    pub precision: Precision,
    /// Schedule of MoE layers.
    pub schedule: MoeSchedule,
    /// Whether the patch embedding charges one row per class token too, as M³ViT's closed form does.
    #[serde(default)]
    pub embed_prefix_rows: bool,
    /// Power.
    pub power: PowerModel,
    /// What its numbers can be compared with.
    pub provenance: Provenance,
}

impl Accelerator {
    /// Reads and checks a design in TOML. Its `platform` is a table, or the name of a board that comes with the crate.
    ///
    /// ```
    /// use mtl_hw::{cost::Accelerator, presets};
    /// let design = presets::zcu104_m3vit()?;
    /// assert_eq!(Accelerator::from_toml(&design.to_toml()?)?, design);
    /// # Ok::<(), mtl_hw::HwError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`HwError::Parse`] naming the key, [`HwError::Unknown`] for a board, or an error of [`Accelerator::validate`].
    pub fn from_toml(toml: &str) -> Result<Self> {
        let mut table: toml::Table = text::from_toml("accelerator", toml)?;
        let design: Self = match table.get("platform").and_then(toml::Value::as_str) {
            None => text::from_toml("accelerator", toml)?,
            Some(name) => {
                let board = text::from_toml("platform", &Platform::builtin(name)?.to_toml()?)?;
                table.insert("platform".to_owned(), toml::Value::Table(board));
                text::from_toml("accelerator", &text::to_toml("accelerator", &table)?)?
            }
        };
        design.validate()?;
        Ok(design)
    }

    /// Writes TOML that [`Accelerator::from_toml`] reads, with the board in full.
    ///
    /// # Errors
    ///
    /// [`HwError::Write`] when a number exceeds TOML's 63 bits.
    pub fn to_toml(&self) -> Result<String> {
        text::to_toml("accelerator", self)
    }

    /// The same design with another schedule of MoE layers.
    #[must_use]
    pub fn with_schedule(mut self, schedule: MoeSchedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Clock in Hz.
    #[must_use]
    pub fn clock_hz(&self) -> u64 {
        (self.clock_mhz * 1e6).round() as u64
    }

    /// Checks every parameter against its range and the board.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the key: a zero, a clock above the board's, ports wider or more than the board has.
    pub fn validate(&self) -> Result<()> {
        self.platform.validate().map_err(|e| e.within("platform"))?;
        positive_float("clock_mhz", self.clock_mhz)?;
        let memory = &self.platform.memory;
        let fastest = self.platform.max_clock_mhz.min(memory.port_max_clock_mhz);
        if self.clock_mhz > fastest {
            let must = format!("at most {fastest}, the limit of {}", self.platform.name);
            return Err(HwError::config("clock_mhz", must, self.clock_mhz));
        }
        self.engine.get().peak_macs().map_err(|e| e.within("engine"))?;
        self.engine.get().gemm_cycles(1, 1, 1).map_err(|e| e.within("engine"))?;
        if let GateUnit::PerToken { cycles } = self.gate {
            positive("gate.cycles", cycles.into())?;
        }
        if let Some(vector) = &self.vector {
            positive("vector.lanes", vector.lanes.into())?;
        }
        self.port.cycles(1, 1)?;
        if self.port.width_bits > memory.port_bits {
            let must = format!("at most {}, the width of a port of {}", memory.port_bits, self.platform.name);
            return Err(HwError::config("port.width_bits", must, self.port.width_bits));
        }
        if self.port.count > memory.ports {
            let must = format!("at most {}, the ports of {}", memory.ports, self.platform.name);
            return Err(HwError::config("port.count", must, self.port.count));
        }
        if !(self.dram_efficiency > 0.0 && self.dram_efficiency <= 1.0) {
            return Err(HwError::config("dram_efficiency", "in (0, 1]", self.dram_efficiency));
        }
        for (field, bits) in [
            ("precision.activation_bits", self.precision.activation_bits),
            ("precision.weight_bits", self.precision.weight_bits),
        ] {
            if !(1..=64).contains(&bits) {
                return Err(HwError::config(field, "from 1 to 64", bits));
            }
        }
        if let Some(attention) = &self.attention {
            positive("attention.queries", attention.queries.into())?;
            positive("attention.lanes", attention.lanes.into())?;
        }
        if let Some(design) = &self.off_chip {
            design
                .master
                .validate(self.precision.activation_bits)
                .map_err(|e| e.within("off_chip.master"))?;
            if design.master.port_bits > memory.port_bits {
                let must =
                    format!("at most {}, the width of a port of {}", memory.port_bits, self.platform.name);
                return Err(HwError::config("off_chip.master.port_bits", must, design.master.port_bits));
            }
            if let Some(own) = &design.projections {
                own.get().gemm_cycles(1, 1, 1).map_err(|e| e.within("off_chip.projections"))?;
            }
        }
        self.power.validate()
    }

    /// Bytes of `params` weights.
    pub(crate) fn weight_bytes(&self, params: u64) -> Result<u64> {
        bytes("weight bytes", params, self.precision.weight_bits)
    }

    /// Cycles to read `bytes` of contiguous weights: the port's time, but never faster than the memory.
    pub(crate) fn load_cycles(&self, bytes: u64) -> Result<u64> {
        if bytes == 0 {
            return Ok(0);
        }
        let memory =
            memory_cycles(bytes, self.clock_hz(), self.platform.peak_bytes_per_s(), self.dram_efficiency)?;
        Ok(self.port.cycles(bytes, 1)?.max(memory))
    }
}
