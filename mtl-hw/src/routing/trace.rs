//! Routing traces in the format `mtl-route/1`: JSON lines, a header and one record per image, task and layer.
use super::{LayerRouting, check_choices};
use crate::{HwError, Result, text};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufRead, Write};

const FORMAT: &str = "mtl-route/1";

/// One MoE layer of a trace's model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceLayer {
    /// Identifier, `blk.<block>` in graphs of this crate.
    pub id: String,
    /// Experts E.
    pub experts: u64,
    /// Experts per token K.
    pub top_k: u64,
    /// Width of a token.
    pub d_model: u64,
    /// Hidden width of one expert.
    pub d_hidden: u64,
}

/// First line of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceHeader {
    /// Always `mtl-route/1`.
    pub format: String,
    /// The model that was traced.
    pub model: String,
    /// Its MoE layers.
    pub layers: Vec<TraceLayer>,
    /// Names of the tasks; records refer to them by index.
    pub tasks: Vec<String>,
    /// Tokens of one image, class token included.
    pub tokens_per_image: u64,
    /// Order of the tokens, such as `class,row-major`.
    pub token_order: String,
}

impl TraceHeader {
    /// A header with the class token first and patches row by row.
    #[must_use]
    pub fn new(model: &str, tasks: Vec<String>, tokens_per_image: u64, layers: Vec<TraceLayer>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            model: model.to_owned(),
            layers,
            tasks,
            tokens_per_image,
            token_order: "class,row-major".to_owned(),
        }
    }
}

/// Decisions of one image, task and layer: expert ids per token, or only their histogram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRecord {
    /// Index of the image.
    pub image: u64,
    /// Index of the task.
    pub task: u32,
    /// Identifier of the layer.
    pub layer: String,
    /// Expert ids per token in sequence order, best score first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<Vec<Vec<u16>>>,
    /// Gate weights in the shape of `experts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<Vec<f32>>>,
    /// Tokens per expert, instead of `experts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Vec<u64>>,
}

impl TraceRecord {
    /// A record of expert ids per token.
    #[must_use]
    pub fn tokens(image: u64, task: u32, layer: &str, experts: Vec<Vec<u16>>) -> Self {
        Self { image, task, layer: layer.to_owned(), experts: Some(experts), weights: None, histogram: None }
    }

    /// The decisions in the form that cost models take.
    #[must_use]
    pub fn routing(&self) -> LayerRouting<'_> {
        match (&self.experts, &self.histogram) {
            (Some(tokens), _) => LayerRouting::Tokens(tokens),
            (None, histogram) => {
                LayerRouting::Queues(Cow::Borrowed(histogram.as_deref().unwrap_or_default()))
            }
        }
    }
}

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
    /// [`HwError::Config`] for another format, a repeated layer, no task, or a bad dimension.
    pub fn new(header: TraceHeader) -> Result<Self> {
        if header.format != FORMAT {
            return Err(HwError::config("format", format!("`{FORMAT}`"), format!("`{}`", header.format)));
        }
        crate::math::positive("tokens_per_image", header.tokens_per_image)?;
        crate::math::positive("tasks", header.tasks.len() as u64)?;
        for (i, l) in header.layers.iter().enumerate() {
            let shape = crate::graph::MoeShape {
                tokens: header.tokens_per_image,
                dim: l.d_model,
                hidden: l.d_hidden,
                experts: l.experts,
                top_k: l.top_k,
            };
            shape.validate().map_err(|e| e.within(&format!("layers[{i}]")))?;
            if header.layers.iter().take(i).any(|earlier| earlier.id == l.id) {
                return Err(HwError::config(format!("layers[{i}].id"), "unique", &l.id));
            }
        }
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
        if let Some(reason) = self.fault(&record) {
            return Err(HwError::Routing { layer: record.layer, reason });
        }
        self.index.insert((record.image, record.task, record.layer.clone()), self.records.len());
        self.records.push(record);
        Ok(())
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

    fn fault(&self, r: &TraceRecord) -> Option<String> {
        let Some(layer) = self.header.layers.iter().find(|l| l.id == r.layer) else {
            return Some("not in the trace's header".to_owned());
        };
        if r.task as usize >= self.header.tasks.len() {
            return Some(format!(
                "task {} is out of range; the header names {}",
                r.task,
                self.header.tasks.len()
            ));
        }
        if self.index.contains_key(&(r.image, r.task, r.layer.clone())) {
            return Some(format!("image {}, task {} is recorded twice", r.image, r.task));
        }
        let tokens = self.header.tokens_per_image;
        match (&r.experts, &r.histogram) {
            (Some(experts), None) => {
                if experts.len() as u64 != tokens {
                    return Some(format!("expected {tokens} tokens, but found {}", experts.len()));
                }
                check_choices(experts, layer.experts, layer.top_k).or_else(|| weights_fault(r, experts))
            }
            (None, Some(histogram)) => {
                if r.weights.is_some() {
                    return Some("`weights` need `experts`".to_owned());
                }
                let shape = crate::graph::MoeShape {
                    tokens,
                    dim: layer.d_model,
                    hidden: layer.d_hidden,
                    experts: layer.experts,
                    top_k: layer.top_k,
                };
                match LayerRouting::Queues(Cow::Borrowed(histogram)).check(&r.layer, &shape) {
                    Ok(()) => None,
                    Err(HwError::Routing { reason, .. }) => Some(reason),
                    Err(other) => Some(other.to_string()),
                }
            }
            _ => Some("exactly one of `experts` and `histogram` is needed".to_owned()),
        }
    }

    /// Reads JSON lines: a header, then records. Blank lines are skipped.
    ///
    /// # Errors
    ///
    /// [`HwError::Trace`] naming the line.
    pub fn read<R: BufRead>(reader: R) -> Result<Self> {
        let mut trace: Option<Self> = None;
        for (i, line) in reader.lines().enumerate() {
            let at = |reason: String| HwError::Trace { line: i + 1, reason };
            let line = line.map_err(|e| at(e.to_string()))?;
            if line.trim().is_empty() {
                continue;
            }
            let wrap = |e: HwError| at(e.to_string());
            match &mut trace {
                None => {
                    let header = text::from_json("header", &line).map_err(wrap)?;
                    trace = Some(Self::new(header).map_err(wrap)?);
                }
                Some(t) => t.push(text::from_json("record", &line).map_err(wrap)?).map_err(wrap)?,
            }
        }
        trace.ok_or_else(|| HwError::Trace {
            line: 1,
            reason: "expected a header, but found nothing".to_owned(),
        })
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

fn weights_fault(r: &TraceRecord, experts: &[Vec<u16>]) -> Option<String> {
    let weights = r.weights.as_ref()?;
    if weights.len() != experts.len() || weights.iter().zip(experts).any(|(w, e)| w.len() != e.len()) {
        return Some("`weights` and `experts` differ in shape".to_owned());
    }
    let bad = weights.iter().position(|w| w.iter().any(|x| !x.is_finite()))?;
    Some(format!("the weights of token {bad} are not finite"))
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
        insta::assert_snapshot!(RoutingTrace::read(&b""[..]).unwrap_err(), @"routing trace, line 1: expected a header, but found nothing");
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
