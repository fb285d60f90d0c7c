//! Resources and the check of a design against a board.
use serde::{Deserialize, Serialize};
use std::fmt;

/// A kind of on-chip resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Resource {
    /// Look-up tables (not marketing logic cells).
    Lut,
    /// Flip-flops.
    Ff,
    /// Block RAMs of 18 Kib.
    Ramb18,
    /// UltraRAMs of 288 Kib.
    Uram,
    /// Multiplier blocks.
    Dsp,
}

impl Resource {
    const ALL: [Self; 5] = [Self::Lut, Self::Ff, Self::Ramb18, Self::Uram, Self::Dsp];

    /// Share of the device up to which designs still close timing (FINN's ceilings).
    #[must_use]
    pub fn ceiling(self) -> f64 {
        match self {
            Self::Lut => 0.70,
            Self::Ff => 0.50,
            Self::Ramb18 | Self::Uram | Self::Dsp => 0.80,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lut => "lut",
            Self::Ff => "ff",
            Self::Ramb18 => "ramb18",
            Self::Uram => "uram",
            Self::Dsp => "dsp",
        })
    }
}

/// Amounts of each resource; block RAM is counted in 18 Kib halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Look-up tables.
    pub lut: u64,
    /// Flip-flops.
    pub ff: u64,
    /// Block RAMs of 18 Kib.
    pub ramb18: u64,
    /// UltraRAMs of 288 Kib.
    pub uram: u64,
    /// Multiplier blocks.
    pub dsp: u64,
}

impl Resources {
    /// The amount of one resource.
    #[must_use]
    pub fn get(&self, resource: Resource) -> u64 {
        match resource {
            Resource::Lut => self.lut,
            Resource::Ff => self.ff,
            Resource::Ramb18 => self.ramb18,
            Resource::Uram => self.uram,
            Resource::Dsp => self.dsp,
        }
    }

    /// All amounts.
    pub fn iter(&self) -> impl Iterator<Item = (Resource, u64)> + '_ {
        Resource::ALL.into_iter().map(|r| (r, self.get(r)))
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        Self {
            lut: self.lut.saturating_sub(other.lut),
            ff: self.ff.saturating_sub(other.ff),
            ramb18: self.ramb18.saturating_sub(other.ramb18),
            uram: self.uram.saturating_sub(other.uram),
            dsp: self.dsp.saturating_sub(other.dsp),
        }
    }
}

/// How well something fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FitLevel {
    /// Below the ceiling.
    Ok,
    /// Above the ceiling at which timing usually closes, within the device.
    OverCeiling,
    /// More than the device has.
    DoesNotFit,
}

impl fmt::Display for FitLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "fits",
            Self::OverCeiling => "is over the timing ceiling",
            Self::DoesNotFit => "does not fit",
        })
    }
}

/// One resource of a [`FitReport`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// The resource.
    pub resource: Resource,
    /// What the design uses.
    pub used: u64,
    /// What the board offers to a design.
    pub total: u64,
    /// Verdict.
    pub level: FitLevel,
}

impl Fit {
    /// Used share in percent; infinite for a resource that the board lacks.
    #[must_use]
    pub fn percent(&self) -> f64 {
        100.0 * self.used as f64 / self.total as f64
    }
}

/// A design against a board, the binding resource first. Resources that the design does not use, or for which it has
/// no estimate, are not listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// The board.
    pub platform: String,
    /// One entry per used resource, the fullest first.
    pub entries: Vec<Fit>,
    /// Mean share of block RAM, UltraRAM and multipliers in percent, of those that the board has.
    pub mean_percent: f64,
}

/// Mean share of block RAM, UltraRAM and multipliers in percent up to which designs still close timing (FINN).
const MEAN_CEILING_PERCENT: f64 = 70.0;

impl FitReport {
    pub(crate) fn new(platform: &str, usable: &Resources, used: &Resources) -> Self {
        let mut entries: Vec<Fit> = used
            .iter()
            .filter(|&(_, n)| n > 0)
            .map(|(resource, used)| {
                let total = usable.get(resource);
                let level = if used > total {
                    FitLevel::DoesNotFit
                } else if used as f64 > resource.ceiling() * total as f64 {
                    FitLevel::OverCeiling
                } else {
                    FitLevel::Ok
                };
                Fit { resource, used, total, level }
            })
            .collect();
        entries.sort_by(|a, b| b.percent().total_cmp(&a.percent()));
        let hard =
            [Resource::Ramb18, Resource::Uram, Resource::Dsp].into_iter().filter(|&r| usable.get(r) > 0);
        let shares: Vec<f64> = hard.map(|r| 100.0 * used.get(r) as f64 / usable.get(r) as f64).collect();
        let mean_percent = shares.iter().sum::<f64>() / (shares.len().max(1)) as f64;
        Self { platform: platform.to_owned(), entries, mean_percent }
    }

    /// The worst level of all resources and of their mean.
    #[must_use]
    pub fn level(&self) -> FitLevel {
        let mean =
            if self.mean_percent > MEAN_CEILING_PERCENT { FitLevel::OverCeiling } else { FitLevel::Ok };
        self.entries.iter().map(|e| e.level).fold(mean, FitLevel::max)
    }

    /// Whether every resource is within the device.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.level() < FitLevel::DoesNotFit
    }
}

impl fmt::Display for FitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.platform)?;
        for (i, e) in self.entries.iter().enumerate() {
            let separator = if i > 0 { "; " } else { "" };
            write!(
                f,
                "{separator}{} {} of {} ({:.1} %) {}",
                e.resource,
                e.used,
                e.total,
                e.percent(),
                e.level
            )?;
        }
        Ok(())
    }
}
