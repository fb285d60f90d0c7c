//! Writes tensors that are put together from parts, in shards, in parallel and in bounded memory.
use super::{folder::NewFolder, model::write_json};
use crate::{
    Error, FloatType, Progress, Result,
    engine::convert::{from_f64, overflow},
    tensor::{BLOCK, PIECE, Values, with_scratch},
};
use mtl_core::params::{ParamScatter, ParamSpec, file_order};
use rayon::prelude::*;
use serde_json::json;
use std::{collections::BTreeMap, ops::Range};

/// A run of elements of an output tensor.
pub(crate) struct Part<'a> {
    pub(crate) values: Box<dyn Values + 'a>,
    pub(crate) len: usize,
}

/// A tensor to be written: its parts follow each other in row-major order.
pub(crate) struct Output<'a> {
    pub(crate) name: String,
    pub(crate) float: FloatType,
    pub(crate) shape: Vec<usize>,
    pub(crate) parts: Vec<Part<'a>>,
}

impl Output<'_> {
    pub(crate) fn bytes(&self) -> u64 {
        (self.numel() * self.float.dtype().size()) as u64
    }

    pub(crate) fn numel(&self) -> usize {
        self.parts.iter().map(|part| part.len).sum()
    }

    /// Elements `span`.
    fn read(&self, span: Range<usize>, out: &mut [f64]) -> Result<()> {
        let (mut first, mut rest) = (0, out);
        for part in &self.parts {
            let (start, end) = (span.start.max(first), span.end.min(first + part.len));
            if start < end {
                let (here, behind) = std::mem::take(&mut rest).split_at_mut(end - start);
                if !part.values.read(start - first..end - first, here)? {
                    return Err(non_finite(part)?);
                }
                rest = behind;
            }
            first += part.len;
        }
        Ok(())
    }
}

/// Values at hand.
pub(crate) struct Given<'a> {
    pub(crate) name: &'a str,
    pub(crate) values: Vec<f64>,
}

impl Values for Given<'_> {
    fn read(&self, span: Range<usize>, out: &mut [f64]) -> Result<bool> {
        out.copy_from_slice(&self.values[span]);
        Ok(out.iter().all(|x| x.is_finite()))
    }

    fn label(&self) -> String {
        "computed values".into()
    }

    fn name(&self) -> &str {
        self.name
    }
}

/// Writes the tensors in their order to `model.safetensors`, or to shards of about `shard_bytes` with an index; gives
/// the names of the files.
///
/// # Errors
///
/// [`Error::NonFinite`], [`Error::Overflow`], [`Error::Interrupted`], and errors of reading and writing.
pub(crate) fn write(
    folder: &NewFolder,
    outputs: &[Output<'_>],
    shard_bytes: u64,
    progress: &Progress,
) -> Result<Vec<String>> {
    let total: u64 = outputs.iter().map(Output::bytes).sum();
    progress.begin(0, total);
    let shards = split(outputs, shard_bytes);
    let name = |shard: usize| match shards.len() {
        1 => "model.safetensors".to_owned(),
        n => format!("model-{:05}-of-{n:05}.safetensors", shard + 1),
    };
    let mut files = Vec::with_capacity(shards.len());
    let mut weight_map = BTreeMap::new();
    for (i, shard) in shards.iter().enumerate() {
        let file = name(i);
        weight_map.extend(outputs[shard.clone()].iter().map(|output| (output.name.as_str(), file.clone())));
        write_file(folder, &file, &outputs[shard.clone()], progress)?;
        files.push(file);
    }
    if shards.len() > 1 {
        let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
        write_json(&folder.file("model.safetensors.index.json"), &index)?;
    }
    Ok(files)
}

/// Consecutive outputs that share a file; a shard is closed before the tensor that would make it too long.
fn split(outputs: &[Output<'_>], shard_bytes: u64) -> Vec<Range<usize>> {
    let (mut shards, mut start, mut size) = (Vec::new(), 0, 0);
    for (i, output) in outputs.iter().enumerate() {
        if shard_bytes > 0 && i > start && size + output.bytes() > shard_bytes {
            shards.push(start..i);
            (start, size) = (i, 0);
        }
        size += output.bytes();
    }
    shards.push(start..outputs.len());
    shards
}

fn write_file(folder: &NewFolder, name: &str, outputs: &[Output<'_>], progress: &Progress) -> Result<()> {
    let mut specs: Vec<ParamSpec> = outputs
        .iter()
        .map(|output| ParamSpec::new(&output.name, output.float.dtype(), output.shape.as_slice()))
        .collect();
    file_order(&mut specs);
    let at: BTreeMap<&str, usize> = specs.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let writer = ParamScatter::create(folder.file(name), &specs, &metadata)?;
    let blocks = |output: &Output<'_>| {
        let n = output.numel();
        (0..n).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(n)).collect::<Vec<_>>()
    };
    let work: Vec<(&Output<'_>, Range<usize>)> = outputs
        .iter()
        .flat_map(|output| blocks(output).into_iter().map(move |span| (output, span)))
        .collect();
    work.into_par_iter().try_for_each(|(output, span)| {
        progress.check()?;
        let mut bytes = Vec::with_capacity(span.len() * output.float.dtype().size());
        for start in span.clone().step_by(PIECE) {
            let end = (start + PIECE).min(span.end);
            with_scratch(|values| {
                values.resize(end - start, 0.0);
                output.read(start..end, values)?;
                let converted = from_f64(output.float, values, false, &mut bytes);
                converted.map_err(|position| overflow(&output.name, output.float, start + position))
            })?;
        }
        let offset = (span.start * output.float.dtype().size()) as u64;
        writer.write_at(at[output.name.as_str()], offset, &bytes)?;
        progress.add(bytes.len() as u64);
        Ok::<(), Error>(())
    })?;
    Ok(writer.finish()?)
}

/// The error for values known to hold a NaN or an infinity; counts them all.
fn non_finite(part: &Part<'_>) -> Result<Error> {
    let (mut count, mut index) = (0, None);
    let mut buffer = vec![0.0; PIECE];
    for start in (0..part.len).step_by(PIECE) {
        let end = (start + PIECE).min(part.len);
        let buffer = &mut buffer[..end - start];
        part.values.read(start..end, buffer)?;
        for (i, _) in buffer.iter().enumerate().filter(|(_, x)| !x.is_finite()) {
            count += 1;
            index.get_or_insert(start + i);
        }
    }
    let (tensor, file) = (part.values.name().to_owned(), part.values.label());
    Ok(Error::NonFinite { tensor, file, index: index.unwrap_or_default(), count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mtl_core::params::ParamStore;

    fn output<'a>(name: &'a str, parts: &[&[f64]]) -> Output<'a> {
        let part = |values: &&[f64]| Part {
            len: values.len(),
            values: Box::new(Given { name, values: values.to_vec() }) as Box<dyn Values>,
        };
        let shape = vec![parts.iter().map(|p| p.len()).sum()];
        Output { name: name.into(), float: FloatType::F32, shape, parts: parts.iter().map(part).collect() }
    }

    #[test]
    fn tensors_of_several_parts_go_to_shards_with_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let folder = NewFolder::create(&out, false).unwrap();
        let long: Vec<f64> = (0..BLOCK + 7).map(|i| i as f64).collect();
        let outputs = [output("a", &[&[1.0], &[2.0, 3.0]]), output("b", &[&[0.5], &long])];
        let files = write(&folder, &outputs, 100, &Progress::default()).unwrap();
        assert_eq!(files, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]);
        folder.finish().unwrap();
        let store = ParamStore::open(&out).unwrap();
        assert_eq!(*store.f32s("a").unwrap(), [1.0, 2.0, 3.0]);
        let b = store.f32s("b").unwrap();
        assert!(b[0] == 0.5 && b[1..].iter().enumerate().all(|(i, &x)| x == i as f32));
    }

    #[test]
    fn values_that_are_not_finite_are_refused_with_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let folder = NewFolder::create(&dir.path().join("out"), false).unwrap();
        let outputs = [output("a", &[&[1.0], &[2.0, f64::NAN]])];
        let error = write(&folder, &outputs, 0, &Progress::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`a` in `computed values` has 1 NaN or infinite values, the first at element 1"
        );
    }
}
