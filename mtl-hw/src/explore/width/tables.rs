//! Cost of every part at every width, built once.
use super::space::{SlimLayer, SlimNet, WidthSpace, Widths};
use crate::cost::Accelerator;
use crate::explore::rng::fnv1a;
use crate::math::{positive, product};
use crate::{HwError, Result, text};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where costs come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CostSource {
    /// Multiply-accumulates.
    Macs,
    /// Seconds on an accelerator: for each layer the longer of its cycles and its weight load.
    Latency(Box<Accelerator>),
    /// Joules on an accelerator: its seconds times its power.
    Energy(Box<Accelerator>),
}

/// Unit of a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CostUnit {
    /// Multiply-accumulates.
    Macs,
    /// Seconds.
    Seconds,
    /// Joules.
    Joules,
}

impl fmt::Display for CostUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Macs => "MACs",
            Self::Seconds => "s",
            Self::Joules => "J",
        })
    }
}

impl CostSource {
    /// Unit of its costs.
    #[must_use]
    pub fn unit(&self) -> CostUnit {
        match self {
            Self::Macs => CostUnit::Macs,
            Self::Latency(_) => CostUnit::Seconds,
            Self::Energy(_) => CostUnit::Joules,
        }
    }

    fn layer(&self, positions: u64, inner: u64, channels: u64) -> Result<f64> {
        match self {
            Self::Macs => Ok(product("macs", &[positions, inner, channels])? as f64),
            Self::Latency(a) => seconds(a, positions, inner, channels),
            Self::Energy(a) => Ok(seconds(a, positions, inner, channels)? * a.power.watts()),
        }
    }
}

fn seconds(acc: &Accelerator, positions: u64, inner: u64, channels: u64) -> Result<f64> {
    let compute = acc.engine.get().gemm_cycles(positions, inner, channels)?;
    let weights = crate::math::sum("params", [product("params", &[inner, channels])?, channels])?;
    let load = acc.load_cycles(acc.weight_bytes(weights)?)?;
    Ok(compute.max(load) as f64 / acc.clock_hz() as f64)
}

/// Costs of encoder stages by width of the stage before and their own, of decoders by width of the encoder's end and their
/// own: the first layer of a part reads what the part before gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostTables {
    /// Unit of all entries.
    pub unit: CostUnit,
    /// `[stage][width before][width]`; the first stage has one width before it.
    pub encoder: Vec<Vec<Vec<f64>>>,
    /// `[task][width of the last stage][width]`.
    pub decoders: Vec<Vec<Vec<f64>>>,
    /// Hash of everything the costs depend on.
    pub hash: u64,
}

impl CostTables {
    /// Computes all entries. Channel numbers are rounded to the nearest multiple of `round_to`, at least one: 1 for plain
    /// counts, 8 or the array's width for hardware.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for a bad network, width or accelerator; [`HwError::Overflow`] beyond 64 bits.
    pub fn build(space: &WidthSpace, net: &SlimNet, round_to: u64, source: &CostSource) -> Result<Self> {
        net.validate(space)?;
        positive("round_to", round_to)?;
        if let CostSource::Latency(a) | CostSource::Energy(a) = source {
            a.validate()?;
        }
        let mut encoder = Vec::with_capacity(net.encoder.len());
        // Output channels of the part before, by its width.
        let mut before = vec![net.input_channels];
        for (layers, widths) in net.encoder.iter().zip(&space.encoder) {
            encoder.push(part(layers, widths, &before, round_to, source)?);
            before = widths.iter().map(|&w| outputs(layers, w, round_to)).collect();
        }
        let decoders = net.decoders.iter().zip(&space.decoders);
        let decoders = decoders.map(|(layers, widths)| part(layers, widths, &before, round_to, source));
        let tables = Self {
            unit: source.unit(),
            encoder,
            decoders: decoders.collect::<Result<_>>()?,
            hash: hash(space, net, round_to, source)?,
        };
        tables.validate(space)?;
        Ok(tables)
    }

    /// Refuses tables built for another network, other widths, another rounding or another accelerator.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] when the hash differs.
    pub fn check(&self, space: &WidthSpace, net: &SlimNet, round_to: u64, source: &CostSource) -> Result<()> {
        let now = hash(space, net, round_to, source)?;
        if now == self.hash {
            return Ok(());
        }
        let must = format!(
            "built from the present network, widths, rounding and accelerator (hash {now:016x}); build them again"
        );
        Err(HwError::config("cost tables", must, format!("stale (hash {:016x})", self.hash)))
    }

    /// Checks the shape against a space, and that no cost is negative or falls as a width grows.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] naming the part.
    pub fn validate(&self, space: &WidthSpace) -> Result<()> {
        space.validate()?;
        let mut before = 1;
        let same = |kind: &str, tables: usize, lists: usize| {
            if tables == lists {
                Ok(())
            } else {
                Err(HwError::config(format!("costs.{kind}"), format!("{lists} tables"), tables))
            }
        };
        same("encoder", self.encoder.len(), space.encoder.len())?;
        same("decoders", self.decoders.len(), space.decoders.len())?;
        for (i, (table, widths)) in self.encoder.iter().zip(&space.encoder).enumerate() {
            check_table(&format!("costs.encoder[{i}]"), table, before, widths.len())?;
            before = widths.len();
        }
        for (i, (table, widths)) in self.decoders.iter().zip(&space.decoders).enumerate() {
            check_table(&format!("costs.decoders[{i}]"), table, before, widths.len())?;
        }
        Ok(())
    }

    /// Cost of a stage; infinite outside the table.
    #[must_use]
    pub fn stage(&self, stage: usize, before: usize, width: usize) -> f64 {
        entry(&self.encoder, stage, before, width)
    }

    /// Cost of a decoder; infinite outside the table.
    #[must_use]
    pub fn decoder(&self, task: usize, encoder: usize, width: usize) -> f64 {
        entry(&self.decoders, task, encoder, width)
    }

    /// Cost of an encoder.
    #[must_use]
    pub fn encoder_cost(&self, encoder: &[usize]) -> f64 {
        let mut before = 0;
        let mut total = 0.0;
        for (stage, &width) in encoder.iter().enumerate() {
            total += self.stage(stage, before, width);
            before = width;
        }
        total
    }

    /// Cost of decoders behind an encoder's last width.
    #[must_use]
    pub fn decoders_cost(&self, last: usize, decoders: &[usize]) -> f64 {
        decoders.iter().enumerate().map(|(task, &w)| self.decoder(task, last, w)).sum()
    }

    /// Cost of a whole network.
    #[must_use]
    pub fn cost(&self, widths: &Widths) -> f64 {
        let last = widths.encoder.last().copied().unwrap_or(0);
        self.encoder_cost(&widths.encoder) + self.decoders_cost(last, &widths.decoders)
    }

    /// Reads tables in JSON, such as those of measured latencies.
    ///
    /// # Errors
    ///
    /// [`HwError::Parse`] naming the key, or an error of [`CostTables::validate`].
    pub fn from_json(json: &str, space: &WidthSpace) -> Result<Self> {
        let tables: Self = text::from_json("cost tables", json)?;
        tables.validate(space)?;
        Ok(tables)
    }

    /// Writes JSON that [`CostTables::from_json`] reads.
    ///
    /// # Errors
    ///
    /// [`HwError::Write`] when serialisation fails.
    pub fn to_json(&self) -> Result<String> {
        text::to_json("cost tables", self)
    }
}

fn entry(tables: &[Vec<Vec<f64>>], part: usize, before: usize, width: usize) -> f64 {
    let row = tables.get(part).and_then(|t| t.get(before));
    row.and_then(|r| r.get(width)).copied().unwrap_or(f64::INFINITY)
}

fn check_table(name: &str, table: &[Vec<f64>], before: usize, widths: usize) -> Result<()> {
    if table.len() != before || table.iter().any(|row| row.len() != widths) {
        return Err(HwError::config(name, format!("{before} rows of {widths} costs"), format!("{table:?}")));
    }
    let fine = |v: &f64| *v >= 0.0 && v.is_finite();
    let along = table.iter().all(|row| row.iter().all(fine) && row.is_sorted());
    let across = table.iter().zip(table.iter().skip(1)).all(|(a, b)| a.iter().zip(b).all(|(x, y)| x <= y));
    if along && across {
        return Ok(());
    }
    Err(HwError::config(name, "finite, not negative, and not falling as widths grow", format!("{table:?}")))
}

fn hash(space: &WidthSpace, net: &SlimNet, round_to: u64, source: &CostSource) -> Result<u64> {
    Ok(fnv1a(text::to_json("cost tables", &(space, net, round_to, source))?.bytes()))
}

fn round(channels: u64, width: f64, to: u64) -> u64 {
    let multiples = (width * channels as f64 / to as f64).round() as u64;
    multiples.max(1).saturating_mul(to)
}

fn outputs(layers: &[SlimLayer], width: f64, to: u64) -> u64 {
    layers.last().map_or(1, |l| if l.fixed { l.channels } else { round(l.channels, width, to) })
}

/// One part by input channels and width.
fn part(
    layers: &[SlimLayer],
    widths: &[f64],
    before: &[u64],
    to: u64,
    source: &CostSource,
) -> Result<Vec<Vec<f64>>> {
    let one = |input: u64, width: f64| -> Result<f64> {
        let (mut total, mut input) = (0.0, input);
        for layer in layers {
            let output = if layer.fixed { layer.channels } else { round(layer.channels, width, to) };
            let inner = product("inner", &[layer.kernel, layer.kernel, input])?;
            total += source.layer(layer.positions, inner, output)?;
            input = output;
        }
        Ok(total)
    };
    before.iter().map(|&input| widths.iter().map(|&w| one(input, w)).collect()).collect()
}
