//! Costs and accuracies by width as plain JSON and CSV, for tools that search without the network.
use super::{SlimmableNet, WidthConfig, WidthRatio};
use crate::{Error, MultiTaskModel, Result};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt::Write};

/// Multiply-accumulates of every part at every width. As each part reads the one before, a row belongs to its width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostTable {
    /// `macs`.
    pub unit: String,
    /// `[stage][width before][width]`; the first stage has one width before it.
    pub encoder: Vec<Vec<Vec<f64>>>,
    /// `[task][width of the last stage][width]`.
    pub decoders: Vec<Vec<Vec<f64>>>,
    /// Hash of everything the costs depend on.
    pub hash: u64,
}

impl CostTable {
    /// The table as indented JSON.
    ///
    /// # Errors
    ///
    /// [`Error::Parse`] for a number that is not finite.
    pub fn to_json(&self) -> Result<String> {
        finite(self.encoder.iter().chain(&self.decoders).flatten().flatten(), "cost table")?;
        json(self)
    }
}

/// The cost table of a network; widths are in the order of its configuration.
///
/// # Errors
///
/// [`Error::Parse`] when the configuration cannot be written.
///
/// ```
/// use mtl_core::TaskSpec;
/// use mtl_core::slimmable::{SlimInput, SlimStage, SlimmableConfig, cost_table};
///
/// let config = SlimmableConfig::default()
///     .input(SlimInput::Vector { features: 3 })
///     .stages(&[SlimStage::Dense { units: 4, layers: 1 }])
///     .decoder(&[]);
/// let table = cost_table(&config.build(vec![TaskSpec::classification("parity", 2)])?)?;
/// assert_eq!(table.encoder, [[[3.0, 6.0, 9.0, 12.0]]]);
/// assert_eq!(table.decoders[0][1], [4.0; 4]); // two channels in, two out, at any width of the decoder
/// # Ok::<(), mtl_core::Error>(())
/// ```
pub fn cost_table(net: &SlimmableNet) -> Result<CostTable> {
    let ratios = &net.config().widths;
    let row = |macs: &dyn Fn(WidthRatio) -> u64| ratios.iter().map(|w| macs(*w) as f64).collect();
    let stage = |i: usize| -> Vec<Vec<f64>> {
        let before = if i == 0 { &[WidthRatio::FULL][..] } else { ratios };
        before.iter().map(|b| row(&|w| net.stage_macs(i, *b, w))).collect()
    };
    let decoder = |task: usize| -> Vec<Vec<f64>> {
        ratios.iter().map(|last| row(&|w| net.decoder_macs(task, *last, w))).collect()
    };
    Ok(CostTable {
        unit: "macs".to_owned(),
        encoder: (0..net.stages()).map(stage).collect(),
        decoders: (0..net.tasks().len()).map(decoder).collect(),
        hash: fnv1a(json(&(net.config(), net.tasks()))?.bytes()),
    })
}

/// Measured scores of one network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccuracyRow {
    /// Ratio of each stage.
    pub encoder: Vec<WidthRatio>,
    /// Ratio of each decoder.
    pub decoders: Vec<WidthRatio>,
    /// Score of each task, larger is better.
    pub tasks: Vec<f64>,
}

/// Measured scores by widths.
///
/// ```
/// use mtl_core::slimmable::{AccuracyTable, WidthConfig, WidthRatio};
///
/// let mut table = AccuracyTable::default();
/// table.insert(WidthConfig::uniform(1, WidthRatio::new(0.5)?, 2, WidthRatio::FULL), vec![0.9, 0.8])?;
/// assert_eq!(table.to_csv(), "encoder.0,decoder.0,decoder.1,task.0,task.1\n0.5,1,1,0.9,0.8\n");
/// assert_eq!(AccuracyTable::from_json(&table.to_json()?)?, table);
/// # Ok::<(), mtl_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AccuracyTable {
    rows: BTreeMap<WidthConfig, Vec<f64>>,
}

impl AccuracyTable {
    /// Adds a network.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for scores that are not one finite number per decoder, for another number of stages or tasks
    /// than the rows before, and for widths that are there already.
    pub fn insert(&mut self, widths: WidthConfig, scores: Vec<f64>) -> Result<()> {
        let tasks = widths.decoders.len();
        if scores.len() != tasks || scores.iter().any(|s| !s.is_finite()) {
            let must = format!("{tasks} finite numbers, one per task");
            return Err(Error::config(format!("scores at {widths}"), must, format!("{scores:?}")));
        }
        if let Some(first) = self.rows.keys().next()
            && (first.encoder.len(), first.decoders.len()) != (widths.encoder.len(), tasks)
        {
            let must = format!("of {} stages and {} tasks", first.encoder.len(), first.decoders.len());
            return Err(Error::config("widths", must, widths));
        }
        if self.rows.contains_key(&widths) {
            return Err(Error::config("widths", "those of no earlier row", widths));
        }
        self.rows.insert(widths, scores);
        Ok(())
    }

    /// The scores of all tasks at some widths.
    pub fn get(&self, widths: &WidthConfig) -> Option<&[f64]> {
        self.rows.get(widths).map(Vec::as_slice)
    }

    /// Number of networks.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no network.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// CSV with the columns `encoder.0`, …, `decoder.0`, …, `task.0`, …; rows from small to large widths.
    pub fn to_csv(&self) -> String {
        let mut text = String::new();
        if let Some(first) = self.rows.keys().next() {
            let names = |kind: &'static str, n: usize| (0..n).map(move |i| format!("{kind}.{i}"));
            let (stages, tasks) = (first.encoder.len(), first.decoders.len());
            let header = names("encoder", stages).chain(names("decoder", tasks)).chain(names("task", tasks));
            line(&mut text, header);
        }
        for (widths, scores) in &self.rows {
            let ratios = widths.encoder.iter().chain(&widths.decoders).map(WidthRatio::to_string);
            line(&mut text, ratios.chain(scores.iter().map(f64::to_string)));
        }
        text
    }

    /// An indented JSON list of [`AccuracyRow`]s, from small to large widths.
    ///
    /// # Errors
    ///
    /// None for a table made by [`insert`](Self::insert).
    pub fn to_json(&self) -> Result<String> {
        let row = |(widths, tasks): (&WidthConfig, &Vec<f64>)| AccuracyRow {
            encoder: widths.encoder.clone(),
            decoders: widths.decoders.clone(),
            tasks: tasks.clone(),
        };
        json(&self.rows.iter().map(row).collect::<Vec<_>>())
    }

    /// Reads what [`to_json`](Self::to_json) writes.
    ///
    /// # Errors
    ///
    /// [`Error::Parse`] naming the field, or those of [`insert`](Self::insert).
    pub fn from_json(text: &str) -> Result<Self> {
        let fault = |e: &dyn std::fmt::Display| Error::Parse {
            path: "accuracy table".to_owned(),
            message: e.to_string(),
        };
        let value: serde_json::Value = serde_json::from_str(text).map_err(|e| fault(&e))?;
        let rows: Vec<AccuracyRow> = crate::registry::parse(value)?;
        let mut table = Self::default();
        for AccuracyRow { encoder, decoders, tasks } in rows {
            table.insert(WidthConfig { encoder, decoders }, tasks)?;
        }
        Ok(table)
    }
}

fn line(text: &mut String, cells: impl Iterator<Item = String>) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join(","));
}

fn finite<'a>(mut values: impl Iterator<Item = &'a f64>, what: &str) -> Result<()> {
    match values.find(|v| !v.is_finite()) {
        Some(v) => Err(Error::Parse { path: what.to_owned(), message: format!("{v} cannot be written") }),
        None => Ok(()),
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(value)
        .map_err(|e| Error::Parse { path: "table".to_owned(), message: e.to_string() })
}

/// FNV-1a.
fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}
