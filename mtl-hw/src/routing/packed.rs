//! Routing traces in flat arrays: two bytes per choice.
use super::record::row_fault;
use super::{Choices, RoutingStats, RoutingTrace, TraceHeader, TraceReader, TraceRecord};
use crate::{HwError, Result};
use std::collections::BTreeMap;
use std::io::BufRead;
use std::ops::Range;

/// A checked trace for many images. Ids of all records lie in one array, so that a million choices take 2 MB.
///
/// ```
/// use mtl_hw::routing::{PackedTrace, TraceHeader, TraceLayer, TraceRecord};
/// let layer = TraceLayer { id: "blk.1".into(), experts: 4, top_k: 1, d_model: 8, d_hidden: 8 };
/// let mut trace = PackedTrace::new(TraceHeader::new("toy", vec!["digit".into()], 2, vec![layer]))?;
/// trace.push(&TraceRecord::tokens(0, 0, "blk.1", vec![vec![3], vec![0]]))?;
/// trace.push_ids(1, 0, 0, &[2, 2])?;
/// let mut bytes = Vec::new();
/// trace.write_binary(&mut bytes)?;
/// assert_eq!(PackedTrace::read_binary(bytes.as_slice())?, trace);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PackedTrace {
    header: TraceHeader,
    records: Vec<Entry>,
    ids: Vec<u16>,
    ends: Vec<u32>, // per token of a ragged record, relative to the record's ids
    weights: Vec<f32>,
    counts: Vec<u64>,
    index: BTreeMap<(u64, u32, u32), usize>,
}

/// Where the parts of a record lie. Absent parts are empty.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    image: u64,
    task: u32,
    layer: u32,
    ids: Range<usize>,
    ends: Range<usize>,
    weights: Range<usize>,
    counts: Range<usize>,
    dropped: bool,
}

/// One record of a [`PackedTrace`].
#[derive(Debug, Clone, Copy)]
pub struct PackedRecord<'a> {
    /// Index of the image.
    pub image: u64,
    /// Index of the task.
    pub task: u32,
    /// Index of the layer in the header.
    pub layer: usize,
    /// Expert ids per token, unless only their histogram is known.
    pub choices: Option<Choices<'a>>,
    /// Gate weights of all ids, where recorded.
    pub weights: Option<&'a [f32]>,
    /// Tokens per expert, where ids are not known.
    pub histogram: Option<&'a [u64]>,
    /// Whether a capacity limit took experts away.
    pub capacity_dropped: bool,
}

impl PackedTrace {
    /// An empty trace.
    ///
    /// # Errors
    ///
    /// As [`TraceHeader::validate`].
    pub fn new(header: TraceHeader) -> Result<Self> {
        header.validate()?;
        Ok(Self {
            header,
            records: Vec::new(),
            ids: Vec::new(),
            ends: Vec::new(),
            weights: Vec::new(),
            counts: Vec::new(),
            index: BTreeMap::new(),
        })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &TraceHeader {
        &self.header
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Number of expert ids in all records.
    #[must_use]
    pub fn choices(&self) -> usize {
        self.ids.len()
    }

    /// All records in the order they were added.
    pub fn records(&self) -> impl ExactSizeIterator<Item = PackedRecord<'_>> {
        self.records.iter().map(|e| self.view(e))
    }

    /// The record of a layer (by index), image and task.
    #[must_use]
    pub fn get(&self, layer: usize, image: u64, task: u32) -> Option<PackedRecord<'_>> {
        let layer = u32::try_from(layer).ok()?;
        self.index.get(&(image, task, layer)).and_then(|&i| self.records.get(i)).map(|e| self.view(e))
    }

    fn view(&self, e: &Entry) -> PackedRecord<'_> {
        // Ranges are those of arrays that only grow.
        let ids = self.ids.get(e.ids.clone()).unwrap_or_default();
        let layer = e.layer as usize;
        let choices = if !e.ends.is_empty() {
            Some(Choices::Ragged { ids, ends: self.ends.get(e.ends.clone()).unwrap_or_default() })
        } else if !ids.is_empty() {
            let top_k = self.header.layers.get(layer).map_or(1, |l| l.top_k as usize);
            Some(Choices::Flat { ids, top_k })
        } else {
            None
        };
        let counts = self.counts.get(e.counts.clone()).filter(|c| !c.is_empty());
        PackedRecord {
            image: e.image,
            task: e.task,
            layer,
            choices,
            weights: self.weights.get(e.weights.clone()).filter(|w| !w.is_empty()),
            histogram: counts,
            capacity_dropped: e.dropped,
        }
    }

    /// Adds a record after checking it against the header.
    ///
    /// # Errors
    ///
    /// [`HwError::Routing`] as [`RoutingTrace::push`].
    pub fn push(&mut self, record: &TraceRecord) -> Result<()> {
        let layer = self.header.check(record).map_err(|reason| fault(&record.layer, reason))?;
        self.insert(record, layer)
    }

    /// Adds a full record, `top_k` ids per token one token after the other, for a layer by index.
    ///
    /// # Errors
    ///
    /// [`HwError::Routing`] as [`RoutingTrace::push`], [`HwError::Config`] for a layer that the header lacks.
    pub fn push_ids(&mut self, image: u64, task: u32, layer: usize, ids: &[u16]) -> Result<()> {
        let Some(l) = self.header.layers.get(layer) else {
            return Err(HwError::config("layer", format!("below {}", self.header.layers.len()), layer));
        };
        let pairs = self.header.pairs(l)?;
        let check = || {
            self.header.check_task(task)?;
            if ids.len() as u64 != pairs {
                return Err(format!("expected {pairs} token-expert pairs, but found {}", ids.len()));
            }
            self.header.check_choices(l, Choices::Flat { ids, top_k: l.top_k as usize }, false)
        };
        check().map_err(|reason| fault(&l.id, reason))?;
        self.claim(image, task, layer)?;
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.add(Entry { ids: start..self.ids.len(), ..self.entry(image, task, layer, false) });
        Ok(())
    }

    /// Adds a record in parts, as the binary file has them: `lengths` are tokens' numbers of ids where they vary.
    pub(crate) fn push_parts(&mut self, record: RawRecord) -> Result<()> {
        let Some(l) = self.header.layers.get(record.layer as usize) else {
            return Err(HwError::config(
                "layer",
                format!("below {}", self.header.layers.len()),
                record.layer,
            ));
        };
        let choices = match &record.ends {
            Some(ends) => Choices::Ragged { ids: &record.ids, ends },
            None => Choices::Flat { ids: &record.ids, top_k: l.top_k as usize },
        };
        let check = || {
            self.header.check_task(record.task)?;
            match &record.counts {
                Some(counts) => {
                    self.header.check_histogram(record.layer as usize, counts, record.dropped)?;
                }
                None => self.header.check_choices(l, choices, record.dropped)?,
            }
            let mut start = 0;
            for (t, row) in choices.rows().enumerate().take_while(|_| !record.weights.is_empty()) {
                let weights = record.weights.get(start..start + row.len()).unwrap_or_default();
                start += row.len();
                row_fault(t, weights, row).map_or(Ok(()), Err)?;
            }
            Ok(())
        };
        check().map_err(|reason| fault(&l.id, reason))?;
        self.claim(record.image, record.task, record.layer as usize)?;
        let mut entry = self.entry(record.image, record.task, record.layer as usize, record.dropped);
        entry.ids = append(&mut self.ids, record.ids);
        entry.ends = append(&mut self.ends, record.ends.unwrap_or_default());
        entry.weights = append(&mut self.weights, record.weights);
        entry.counts = append(&mut self.counts, record.counts.unwrap_or_default());
        self.add(entry);
        Ok(())
    }

    /// Adds a record that was checked.
    fn insert(&mut self, record: &TraceRecord, layer: usize) -> Result<()> {
        self.claim(record.image, record.task, layer)?;
        let mut entry = self.entry(record.image, record.task, layer, record.capacity_dropped);
        if let Some(experts) = &record.experts {
            let (first, first_end) = (self.ids.len(), self.ends.len());
            for row in experts {
                self.ids.extend_from_slice(row);
                if record.capacity_dropped {
                    self.ends.push(u32::try_from(self.ids.len() - first).map_err(|_| too_long())?);
                }
            }
            entry.ids = first..self.ids.len();
            entry.ends = first_end..self.ends.len();
        }
        for row in record.weights.iter().flatten() {
            self.weights.extend_from_slice(row);
        }
        entry.weights.end = self.weights.len();
        entry.counts = append(&mut self.counts, record.histogram.clone().unwrap_or_default());
        self.add(entry);
        Ok(())
    }

    fn entry(&self, image: u64, task: u32, layer: usize, dropped: bool) -> Entry {
        let (ids, ends) = (self.ids.len(), self.ends.len());
        let (weights, counts) = (self.weights.len(), self.counts.len());
        Entry {
            image,
            task,
            layer: layer as u32,
            ids: ids..ids,
            ends: ends..ends,
            weights: weights..weights,
            counts: counts..counts,
            dropped,
        }
    }

    /// Refuses a second record of the same image, task and layer.
    fn claim(&self, image: u64, task: u32, layer: usize) -> Result<()> {
        if self.index.contains_key(&(image, task, layer as u32)) {
            let id = self.header.layers.get(layer).map_or("", |l| &l.id);
            return Err(fault(id, format!("image {image}, task {task} is recorded twice")));
        }
        Ok(())
    }

    fn add(&mut self, entry: Entry) {
        self.index.insert((entry.image, entry.task, entry.layer), self.records.len());
        self.records.push(entry);
    }

    /// Reads JSON lines record by record.
    ///
    /// # Errors
    ///
    /// [`HwError::Trace`] naming the line.
    pub fn read<R: BufRead>(reader: R) -> Result<Self> {
        let mut reader = TraceReader::new(reader)?;
        let mut trace = Self::new(reader.header().clone())?;
        while let Some(record) = reader.next() {
            let record = record?;
            let layer = trace.header.layer_index(&record.layer).unwrap_or_default();
            trace
                .insert(&record, layer)
                .map_err(|e| HwError::Trace { line: reader.line(), reason: e.to_string() })?;
        }
        Ok(trace)
    }

    /// The same decisions as records of their own.
    ///
    /// # Errors
    ///
    /// None for a trace that was built through this type.
    pub fn unpack(&self) -> Result<RoutingTrace> {
        let mut trace = RoutingTrace::new(self.header.clone())?;
        self.records().try_for_each(|r| trace.push(self.to_record(&r)))?;
        Ok(trace)
    }

    /// One record in the form of the JSON lines.
    #[must_use]
    pub fn to_record(&self, r: &PackedRecord<'_>) -> TraceRecord {
        let experts: Option<Vec<Vec<u16>>> = r.choices.map(|c| c.rows().map(<[u16]>::to_vec).collect());
        let mut rest = r.weights.unwrap_or_default();
        let weights = r.weights.and(experts.as_ref()).map(|rows| {
            let take = |row: &Vec<u16>| {
                let (row, later) = rest.split_at(row.len().min(rest.len()));
                rest = later;
                row.to_vec()
            };
            rows.iter().map(take).collect()
        });
        TraceRecord {
            image: r.image,
            task: r.task,
            layer: self.header.layers.get(r.layer).map_or_else(String::new, |l| l.id.clone()),
            experts,
            weights,
            histogram: r.histogram.map(<[u64]>::to_vec),
            capacity_dropped: r.capacity_dropped,
        }
    }
}

impl PackedRecord<'_> {
    /// Adds the tokens per expert to `counts`.
    pub fn count_into(&self, counts: &mut [u64]) {
        if let Some(choices) = self.choices {
            choices.count_into(counts);
        }
        counts.iter_mut().zip(self.histogram.unwrap_or_default()).for_each(|(sum, n)| *sum += n);
    }

    /// Statistics of this record, given its trace's header.
    ///
    /// # Errors
    ///
    /// As [`RoutingStats::of_choices`].
    pub fn stats(&self, header: &TraceHeader) -> Result<RoutingStats> {
        let Some(layer) = header.layers.get(self.layer) else {
            return Err(HwError::config("layer", format!("below {}", header.layers.len()), self.layer));
        };
        match (self.choices, self.histogram) {
            (Some(choices), _) => RoutingStats::of_checked(
                &layer.id,
                choices,
                layer.experts,
                layer.top_k,
                self.capacity_dropped,
            ),
            (None, histogram) => {
                let mut stats = RoutingStats::of_histogram(&layer.id, histogram.unwrap_or_default())?;
                stats.dropped_pairs = header.pairs(layer)?.saturating_sub(stats.pairs);
                Ok(stats)
            }
        }
    }
}

/// A record in parts, not yet checked.
#[derive(Debug, Default)]
pub(crate) struct RawRecord {
    pub image: u64,
    pub task: u32,
    pub layer: u32,
    pub dropped: bool,
    pub ids: Vec<u16>,
    pub ends: Option<Vec<u32>>,
    pub weights: Vec<f32>,
    pub counts: Option<Vec<u64>>,
}

fn append<T>(all: &mut Vec<T>, mut part: Vec<T>) -> Range<usize> {
    let start = all.len();
    all.append(&mut part);
    start..all.len()
}

fn fault(layer: &str, reason: String) -> HwError {
    HwError::Routing { layer: layer.to_owned(), reason }
}

fn too_long() -> HwError {
    HwError::config("experts", "at most 2³² ids per record", "more")
}
