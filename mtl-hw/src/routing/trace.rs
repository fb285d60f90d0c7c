//! Routing traces in the format `mtl-route/1`, as records found by layer, image and task.
use super::{PackedTrace, SyntheticRouting, TraceHeader, TraceReader, TraceRecord};
use crate::{HwError, Result};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::io::{BufRead, Read, Write};

/// A checked trace, with records found by layer, image and task.
///
/// ```
/// use mtl_hw::routing::{RoutingTrace, TraceHeader, TraceLayer, TraceRecord};
/// let layer = TraceLayer { id: "blk.1".into(), experts: 4, top_k: 1, d_model: 8, d_hidden: 8 };
/// let mut trace = RoutingTrace::new(TraceHeader::new("toy", vec!["digit".into()], 2, vec![layer]))?;
/// trace.push(TraceRecord::tokens(0, 0, "blk.1", vec![vec![3], vec![0]]))?;
/// assert!(trace.push(TraceRecord::tokens(1, 0, "blk.1", vec![vec![4], vec![0]])).is_err());
/// let mut text = Vec::new();
/// trace.write(&mut text)?;
/// assert_eq!(RoutingTrace::read(text.as_slice())?, trace);
/// # Ok::<(), mtl_hw::HwError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RoutingTrace {
    header: TraceHeader,
    records: Vec<TraceRecord>,
    index: BTreeMap<(u64, u32, String), usize>,
}

impl RoutingTrace {
    /// An empty trace.
    ///
    /// # Errors
    ///
    /// As [`TraceHeader::validate`].
    pub fn new(header: TraceHeader) -> Result<Self> {
        header.validate()?;
        Ok(Self { header, records: Vec::new(), index: BTreeMap::new() })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &TraceHeader {
        &self.header
    }

    /// All records in the order they were added.
    #[must_use]
    pub fn records(&self) -> &[TraceRecord] {
        &self.records
    }

    /// Images that have a record for a task, in ascending order.
    pub fn images(&self, task: u32) -> impl Iterator<Item = u64> + '_ {
        let mut last = None;
        self.index.keys().filter(move |(_, t, _)| *t == task).map(|(i, _, _)| *i).filter(move |&image| {
            let new = last != Some(image);
            last = Some(image);
            new
        })
    }

    /// Adds a record after checking it against the header.
    ///
    /// # Errors
    ///
    /// [`HwError::Routing`] for an unknown layer or task, a repeated record, experts out of range or repeated, a wrong
    /// number of tokens, or weights that are not finite or of another shape.
    pub fn push(&mut self, record: TraceRecord) -> Result<()> {
        let fault = self.header.check(&record).err().or_else(|| {
            let key = (record.image, record.task, record.layer.clone());
            let again = self.index.contains_key(&key);
            again.then(|| format!("image {}, task {} is recorded twice", record.image, record.task))
        });
        if let Some(reason) = fault {
            return Err(HwError::Routing { layer: record.layer, reason });
        }
        self.insert(record);
        Ok(())
    }

    fn insert(&mut self, record: TraceRecord) {
        self.index.insert((record.image, record.task, record.layer.clone()), self.records.len());
        self.records.push(record);
    }

    /// The record of a layer, image and task.
    ///
    /// # Errors
    ///
    /// [`HwError::MissingRecord`] when there is none.
    pub fn record(&self, layer: &str, image: u64, task: u32) -> Result<&TraceRecord> {
        self.index
            .get(&(image, task, layer.to_owned()))
            .and_then(|&i| self.records.get(i))
            .ok_or_else(|| HwError::MissingRecord { layer: layer.to_owned(), image, task })
    }

    /// Reads JSON lines: a header, then records. Blank lines are skipped. [`TraceReader`] does the same record by record.
    ///
    /// # Errors
    ///
    /// [`HwError::Trace`] naming the line.
    pub fn read<R: BufRead>(reader: R) -> Result<Self> {
        let mut reader = TraceReader::new(reader)?;
        let mut trace = Self::new(reader.header().clone())?;
        // The reader has checked every record and that none is repeated.
        reader.try_for_each(|record| record.map(|r| trace.insert(r)))?;
        Ok(trace)
    }

    /// Reads the binary variant, see [`PackedTrace::read_binary`].
    ///
    /// # Errors
    ///
    /// [`HwError::Trace`] naming the record as the line that it has in JSON.
    pub fn read_binary<R: Read>(reader: R) -> Result<Self> {
        PackedTrace::read_binary(reader)?.unpack()
    }

    /// Writes the binary variant, see [`PackedTrace::write_binary`].
    ///
    /// # Errors
    ///
    /// [`HwError::Trace`] naming the record at which writing failed.
    pub fn write_binary<W: Write>(&self, writer: &mut W) -> Result<()> {
        self.pack()?.write_binary(writer)
    }

    /// The same decisions in flat arrays.
    ///
    /// # Errors
    ///
    /// [`HwError::Config`] for more than 2³² ids.
    pub fn pack(&self) -> Result<PackedTrace> {
        let mut packed = PackedTrace::new(self.header.clone())?;
        self.records.iter().try_for_each(|r| packed.push(r))?;
        Ok(packed)
    }

    /// Draws a trace, see [`SyntheticRouting`].
    ///
    /// # Errors
    ///
    /// As [`SyntheticRouting::generate`].
    pub fn synthetic(config: &SyntheticRouting, rng: &mut ChaCha8Rng) -> Result<Self> {
        config.generate(rng)?.unpack()
    }

    /// Writes JSON lines that [`RoutingTrace::read`] reads.
    ///
    /// # Errors
    ///
    /// [`HwError::Trace`] naming the line at which writing failed.
    pub fn write<W: Write>(&self, writer: &mut W) -> Result<()> {
        let mut put = |line: usize, json: serde_json::Result<String>| {
            json.map_err(|e| e.to_string())
                .and_then(|json| writeln!(writer, "{json}").map_err(|e| e.to_string()))
                .map_err(|reason| HwError::Trace { line, reason })
        };
        put(1, serde_json::to_string(&self.header))?;
        for (i, record) in self.records.iter().enumerate() {
            put(i + 2, serde_json::to_string(record))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"{"format":"mtl-route/1","model":"toy","layers":[{"id":"blk.1","experts":4,"top_k":2,"d_model":8,"d_hidden":8}],"tasks":["a","b"],"tokens_per_image":2,"token_order":"class,row-major"}"#;

    fn error(record: &str) -> String {
        RoutingTrace::read(format!("{HEADER}\n{record}\n").as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn broken_records_name_line_and_cause() {
        insta::assert_snapshot!(error(r#"{"image":0,"task":0,"layer":"blk.1","experts":[[0,1],[2,9]]}"#), @"routing trace, line 2: routing of layer `blk.1`: token 1 names expert 9, but there are 4");
        insta::assert_snapshot!(error(r#"{"image":0,"task":0,"layer":"blk.1","experts":[[0,1],[2,2]]}"#), @"routing trace, line 2: routing of layer `blk.1`: token 1 names expert 2 twice");
        insta::assert_snapshot!(error(r#"{"image":0,"task":0,"layer":"blk.1","experts":[[0,1]]}"#), @"routing trace, line 2: routing of layer `blk.1`: expected 2 tokens, but found 1");
        insta::assert_snapshot!(error(r#"{"image":0,"task":2,"layer":"blk.1","experts":[[0,1],[2,3]]}"#), @"routing trace, line 2: routing of layer `blk.1`: task 2 is out of range; the header names 2");
        insta::assert_snapshot!(error(r#"{"image":0,"task":0,"layer":"blk.9","experts":[[0,1],[2,3]]}"#), @"routing trace, line 2: routing of layer `blk.9`: not in the trace's header");
        insta::assert_snapshot!(error(r#"{"image":0,"task":0,"layer":"blk.1"}"#), @"routing trace, line 2: routing of layer `blk.1`: exactly one of `experts` and `histogram` is needed");
        insta::assert_snapshot!(error(r#"{"image":0,"task":0,"layer":"blk.1","histogram":[3,1,0,0]}"#), @"routing trace, line 2: routing of layer `blk.1`: an expert has 3 tokens, but the image has 2");
        insta::assert_snapshot!(error(r#"{"image":0,"task":0,"layer":"blk.1","experts":[[0,-1],[2,3]]}"#), @"routing trace, line 2: record: `experts[0][1]`: invalid value: integer `-1`, expected u16 at line 1 column 52");
        insta::assert_snapshot!(error("not json"), @"routing trace, line 2: record: `.`: expected ident at line 1 column 2");
        insta::assert_snapshot!(error(r#"{"image":0,"task":0,"layer":"blk.1","experts":[[0,1],[2,3]],"weights":[[0.5,NaN],[0.5,0.5]]}"#), @"routing trace, line 2: record: `weights[0][1]`: expected value at line 1 column 77; weights must be finite numbers");
        insta::assert_snapshot!(error(r#"{"image":0,"task":0,"layer":"blk.1","experts":[[0,1],[2,3]],"weights":[[0.5,1e40],[0.5,0.5]]}"#), @"routing trace, line 2: record: `weights[0][1]`: number out of range at line 1 column 80");
        insta::assert_snapshot!(error(r#"{"image":0,"task":0,"layer":"blk.1","experts":[[0,1],[2,3]],"weights":[[0.5,0.2],[0.4,0.5]]}"#), @"routing trace, line 2: routing of layer `blk.1`: the experts of token 1 are not in order of falling weight, and of rising id where equal");
        insta::assert_snapshot!(error(r#"{"image":0,"task":0,"layer":"blk.1","experts":[[0,1,2,3],[2,3]]}"#), @"routing trace, line 2: routing of layer `blk.1`: token 0 names all 4 experts, but top-K is 2: a dense gate routes nothing");
        insta::assert_snapshot!(error(&format!("{good}\n{good}", good = r#"{"image":0,"task":0,"layer":"blk.1","experts":[[0,1],[2,3]]}"#)), @"routing trace, line 3: routing of layer `blk.1`: image 0, task 0 is recorded twice");
        insta::assert_snapshot!(RoutingTrace::read(HEADER.replace("\"top_k\":2", "\"top_k\":4").as_bytes()).unwrap_err(), @"routing trace, line 1: `layers[0].top_k` must be below `experts` = 4, since a dense gate routes nothing, but is 4");
        insta::assert_snapshot!(RoutingTrace::read(format!("{HEADER}\n{}", r#"{"image":0,"task":0,"layer":"blk.1","experts":[[0,1"#).as_bytes()).unwrap_err(), @"routing trace, line 2: record: `experts[0]`: EOF while parsing a list at line 1 column 51; the line is cut off");
        insta::assert_snapshot!(RoutingTrace::read(&b""[..]).unwrap_err(), @"routing trace, line 1: expected a header of `mtl-route/1`, but found nothing");
        insta::assert_snapshot!(RoutingTrace::read(HEADER.replace("route/1", "route/2").as_bytes()).unwrap_err(), @"routing trace, line 1: `format` must be `mtl-route/1`, but is `mtl-route/2`");
    }

    #[test]
    fn records_are_found_by_layer_image_and_task() {
        let text = format!(
            "{HEADER}\n{}\n{}\n",
            r#"{"image":0,"task":1,"layer":"blk.1","histogram":[1,1,1,1]}"#,
            r#"{"image":7,"task":1,"layer":"blk.1","experts":[[0,1],[2,3]],"weights":[[0.5,0.25],[0.5,0.5]]}"#,
        );
        let trace = RoutingTrace::read(text.as_bytes()).unwrap();
        assert_eq!(trace.images(1).collect::<Vec<_>>(), [0, 7]);
        assert_eq!(trace.images(0).count(), 0);
        assert!(trace.record("blk.1", 7, 1).is_ok());
        insta::assert_snapshot!(trace.record("blk.1", 7, 0).unwrap_err(), @"the routing trace has no record of layer `blk.1`, image 7, task 0");
        let mut again = Vec::new();
        trace.write(&mut again).unwrap();
        assert_eq!(RoutingTrace::read(again.as_slice()).unwrap(), trace);
    }
}
