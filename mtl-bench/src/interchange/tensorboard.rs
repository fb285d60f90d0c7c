//! TensorBoard event files: records of length (u64), masked CRC-32C of the length, payload, masked CRC-32C of the
//! payload, all little-endian; the mask rotates right by 15 and adds 0xa282ead8. From the TFRecord format.
use super::{Content, Data, Event};
use crate::store::Results;
use crate::{Error, Result};
use mtl_core::Record;
use std::path::Path;

/// CRC-32C, rotated right by 15 bits, plus a constant.
///
/// ```
/// assert_eq!(mtl_bench::interchange::masked_crc32c(b"123456789"), 3347755237);
/// ```
pub fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// One record of an event file.
pub fn record_bytes(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(payload.len() + 16);
    out.extend(length);
    out.extend(masked_crc32c(&length).to_le_bytes());
    out.extend(payload);
    out.extend(masked_crc32c(payload).to_le_bytes());
    out
}

/// Writes an event file; TensorBoard finds it when its name contains `tfevents`. A kill leaves the old file or the new.
///
/// # Errors
///
/// [`mtl_core::Error::Io`] when the file cannot be written.
pub fn write_events(path: &Path, events: &[Event]) -> Result<()> {
    Ok(mtl_core::files::write_atomic(path, |out| {
        events.iter().try_for_each(|event| out.write_all(&record_bytes(&event.encode())))
    })?)
}

/// Reads an event file as a whole.
///
/// # Errors
///
/// [`Error::Format`] with the number and position of the first record that is cut off, has a wrong checksum or holds no
/// event; [`mtl_core::Error::Io`] when the file cannot be read.
pub fn read_events(path: &Path) -> Result<Vec<Event>> {
    let bytes = std::fs::read(path).map_err(|e| mtl_core::Error::io("read", path, e))?;
    let (mut events, mut rest) = (Vec::new(), &bytes[..]);
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let fault = |message: String| Error::Format {
            path: path.to_owned(),
            record: Some(format!("record {} at byte {at}", events.len())),
            message,
        };
        let payload = next_record(&mut rest).map_err(fault)?;
        let event = Event::decode(payload).map_err(fault)?;
        events.push(event);
    }
    match events.first() {
        None | Some(Event { content: Content::FileVersion(_), .. }) => Ok(events),
        Some(_) => Err(Error::Format {
            path: path.to_owned(),
            record: Some("record 0".to_owned()),
            message: "the first event must name the file version, such as `brain.Event:2`".to_owned(),
        }),
    }
}

fn next_record<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let available = rest.len();
    let (length, tail) = rest
        .split_first_chunk::<8>()
        .ok_or_else(|| format!("cut off: {available} bytes of a 12-byte header"))?;
    let (crc, tail) = tail
        .split_first_chunk::<4>()
        .ok_or_else(|| format!("cut off: {available} bytes of a 12-byte header"))?;
    verify("length", length, *crc)?;
    let length = u64::from_le_bytes(*length);
    let cut = || format!("cut off: {} bytes are left of a payload of {length} and its checksum", tail.len());
    let wanted = usize::try_from(length).map_err(|_| cut())?;
    let (payload, tail) = tail.split_at_checked(wanted).ok_or_else(cut)?;
    let (crc, tail) = tail.split_first_chunk::<4>().ok_or_else(cut)?;
    verify("payload", payload, *crc)?;
    *rest = tail;
    Ok(payload)
}

fn verify(what: &str, bytes: &[u8], stored: [u8; 4]) -> Result<(), String> {
    let (stored, found) = (u32::from_le_bytes(stored), masked_crc32c(bytes));
    if stored == found {
        return Ok(());
    }
    Err(format!(
        "the {what} has the checksum {found:#010x}, but {stored:#010x} is stored: the file is damaged"
    ))
}

/// The scalars of an event file as records with the names of `run` (study, method, setting, seed, cell). A tag
/// `metric/task` gives metric and task, split at the first slash; a tag without slash is a metric over all tasks.
///
/// # Errors
///
/// [`Error::Metric`] for a scalar that is not finite or a negative step, [`Error::Ambiguous`] for a tag that has two
/// values at one step.
pub fn records_of_events(events: &[Event], run: &Record) -> Result<Results> {
    let mut records = Vec::new();
    for event in events {
        let Content::Summary(values) = &event.content else { continue };
        for summary in values {
            let Data::Scalar(value) = summary.data else { continue };
            let (metric, task) = summary.tag.split_once('/').unwrap_or((&summary.tag, ""));
            let odd = |message: String| Error::metric("scalar", message).in_task(&summary.tag);
            let step =
                u64::try_from(event.step).map_err(|_| odd(format!("step {} is negative", event.step)))?;
            if !value.is_finite() {
                return Err(odd(format!("the value at step {step} is {value}")));
            }
            records.push(Record {
                metric: metric.to_owned(),
                task: task.to_owned(),
                step,
                value: f64::from(value),
                ..run.clone()
            });
        }
    }
    Results::from_records(records)
}

/// The records of one run as events, the file version first, then by step; tags are `metric/task`, values are rounded
/// to 32 bits.
///
/// # Errors
///
/// [`Error::Ambiguous`] when the results hold several runs (studies, methods, settings, seeds or cells),
/// [`Error::Missing`] when they hold none, [`Error::Argument`] for a step or value that the format cannot hold.
pub fn events_of_run(results: &Results, wall_time: f64) -> Result<Vec<Event>> {
    let Some(first) = results.records().first() else {
        return Err(Error::Missing { what: "a run to write as events".to_owned() });
    };
    let run = |r: &Record| (r.study.clone(), r.cell.clone(), r.method.clone(), r.setting.clone(), r.seed);
    let mut runs: Vec<_> = results.records().iter().map(run).collect();
    runs.sort();
    runs.dedup();
    if runs.len() > 1 {
        return Err(Error::Ambiguous { what: format!("the run of `{}`", first.metric), count: runs.len() });
    }
    let mut records: Vec<&Record> = results.records().iter().collect();
    records.sort_by_key(|r| r.step);
    let mut events = vec![Event::file_version(wall_time)];
    for record in records {
        let tag = if record.task.is_empty() {
            record.metric.clone()
        } else {
            format!("{}/{}", record.metric, record.task)
        };
        let step =
            i64::try_from(record.step).map_err(|_| Error::argument("step", "below 2^63", record.step))?;
        let value = record.value as f32;
        if !value.is_finite() {
            return Err(Error::argument(
                "value",
                "within the range of 32-bit floats",
                format!("{:e}", record.value),
            ));
        }
        events.push(Event::scalar(wall_time, step, tag, value));
    }
    Ok(events)
}
