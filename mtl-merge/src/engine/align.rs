//! Do checkpoints have the same tensors? For tools that compare whole checkpoints.
use super::source::{Source, TensorMeta};
use crate::{Error, Result};

/// Differences told in full; the rest is counted.
const SHOWN: usize = 10;

/// A tensor of the reference checkpoint and its position in every source, the reference's first.
pub(crate) type Row = (TensorMeta, Vec<usize>);

/// The tensors that all `sources` share, in the order of the first, which is the reference.
///
/// # Errors
///
/// [`Error::Mismatch`] with every tensor that is missing, extra, or of another shape or kind of type.
pub(crate) fn align(sources: &[&dyn Source]) -> Result<Vec<Row>> {
    let Some((reference, others)) = sources.split_first() else { return Ok(Vec::new()) };
    let mut differences = Vec::new();
    let mut rows = Vec::with_capacity(reference.tensors().len());
    for (index, meta) in reference.tensors().iter().enumerate() {
        let mut places = vec![index];
        for other in others {
            match other.find(&meta.name) {
                Some(found) => {
                    differences.extend(difference(*reference, index, *other, found));
                    places.push(found);
                }
                None => differences.push(format!(
                    "`{}` of `{}` is missing from `{}`",
                    meta.name,
                    reference.place(index),
                    other.label()
                )),
            }
        }
        rows.push((meta.clone(), places));
    }
    for other in others {
        for (index, meta) in other.tensors().iter().enumerate() {
            if reference.find(&meta.name).is_none() {
                differences.push(format!(
                    "`{}` of `{}` is missing from `{}`",
                    meta.name,
                    other.place(index),
                    reference.label()
                ));
            }
        }
    }
    if differences.is_empty() { Ok(rows) } else { Err(Error::Mismatch { differences: listed(&differences) }) }
}

fn difference(reference: &dyn Source, index: usize, other: &dyn Source, found: usize) -> Option<String> {
    let (a, b) = (&reference.tensors()[index], &other.tensors()[found]);
    let places = || (reference.place(index), other.place(found));
    if a.shape != b.shape {
        let (first, second) = places();
        return Some(format!(
            "`{}` has shape {:?} in `{second}`, but {:?} in `{first}`",
            a.name, b.shape, a.shape
        ));
    }
    // Floating-point types mix; anything else must be the same to be copied.
    if a.dtype != b.dtype && !(a.dtype.is_float() && b.dtype.is_float()) {
        let (first, second) = places();
        return Some(format!("`{}` is {} in `{second}`, but {} in `{first}`", a.name, b.dtype, a.dtype));
    }
    None
}

pub(crate) fn listed(differences: &[String]) -> String {
    let mut text = differences.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    if differences.len() > SHOWN {
        text += &format!("; and {} more", differences.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostTensor, TensorMap, engine::source::MapSource};
    use insta::assert_snapshot;

    fn map(names: &[(&str, usize)]) -> TensorMap {
        names.iter().map(|&(name, n)| (name.to_owned(), HostTensor::vector(vec![0.0; n]))).collect()
    }

    #[test]
    fn all_differences_are_told_with_both_places() {
        let (base, other) = (map(&[("a", 2), ("b", 3), ("c", 1)]), map(&[("b", 4), ("c", 1), ("d", 5)]));
        let (base, other) = (MapSource::new("base", &base), MapSource::new("ft", &other));
        let error = align(&[&base, &other]).unwrap_err();
        assert_snapshot!(error, @"the checkpoints do not fit together: `a` of `base` is missing from `ft`; `b` has shape [4] in `ft`, but [3] in `base`; `d` of `ft` is missing from `base`");
    }

    #[test]
    fn the_eleventh_difference_is_counted() {
        let names: Vec<String> = (0..13).map(|i| format!("layer.{i:02}")).collect();
        let base = map(&names.iter().map(|n| (n.as_str(), 1)).collect::<Vec<_>>());
        let (base, empty) = (MapSource::new("base", &base), TensorMap::new());
        let error = align(&[&base, &MapSource::new("ft", &empty)]).unwrap_err().to_string();
        assert!(error.contains("`layer.09` of"), "{error}");
        assert!(error.ends_with("; and 3 more"), "{error}");
    }
}
