//! Checks of tensors at the public boundary. A shape check costs well under a microsecond.
use crate::{Error, Result};
use tch::{Kind, Tensor};

/// Two-dimensional shape of `t`.
///
/// # Errors
///
/// [`Error::Shape`] naming the argument, with `expected` in the notation of the docs.
pub fn dims2(t: &Tensor, name: &str, expected: &str) -> Result<(i64, i64)> {
    match t.size()[..] {
        [a, b] => Ok((a, b)),
        ref found => Err(Error::shape(name, expected, found.to_vec())),
    }
}

/// Three-dimensional shape of `t`.
///
/// # Errors
///
/// [`Error::Shape`] naming the argument.
pub fn dims3(t: &Tensor, name: &str, expected: &str) -> Result<(i64, i64, i64)> {
    match t.size()[..] {
        [a, b, c] => Ok((a, b, c)),
        ref found => Err(Error::shape(name, expected, found.to_vec())),
    }
}

/// Four-dimensional shape of `t`.
///
/// # Errors
///
/// [`Error::Shape`] naming the argument.
pub fn dims4(t: &Tensor, name: &str, expected: &str) -> Result<(i64, i64, i64, i64)> {
    match t.size()[..] {
        [a, b, c, d] => Ok((a, b, c, d)),
        ref found => Err(Error::shape(name, expected, found.to_vec())),
    }
}

/// Fails unless the last dimension of `t` is `size`.
///
/// # Errors
///
/// [`Error::Shape`] naming the argument.
pub fn last_dim(t: &Tensor, name: &str, size: i64) -> Result<()> {
    let found = t.size();
    if found.last() == Some(&size) {
        return Ok(());
    }
    Err(Error::shape(name, format!("[…, {size}]"), found))
}

/// Fails unless every element of `t` is finite.
///
/// # Errors
///
/// [`Error::NonFinite`] with the first offending position along dimension 0.
pub fn finite(t: &Tensor, name: &str) -> Result<()> {
    if is_finite(t) {
        return Ok(());
    }
    let bad = t.isfinite().logical_not().flatten(0, -1).to_kind(Kind::Int64).argmax(0, false);
    let per_row = (t.numel() as i64 / t.size().first().copied().unwrap_or(1).max(1)).max(1);
    Err(Error::NonFinite { name: name.to_owned(), index: bad.int64_value(&[]) / per_row })
}

/// Whether every element of `t` is finite.
///
/// A sum is NaN or infinite as soon as one addend is, and one reduction is much cheaper than a mask; only a sum that
/// overflows by itself needs the mask.
pub fn is_finite(t: &Tensor) -> bool {
    if !t.is_floating_point() || t.numel() == 0 {
        return true;
    }
    t.sum(Kind::Float).double_value(&[]).is_finite() || t.isfinite().all().int64_value(&[]) == 1
}

/// Fails unless `labels` are integers in `0..classes`.
///
/// # Errors
///
/// [`Error::Config`] for an empty batch or with the first label outside the range.
pub fn labels(labels: &Tensor, name: &str, classes: i64) -> Result<()> {
    if labels.kind() != Kind::Int64 {
        return Err(Error::config(name, "of kind Int64", format!("{:?}", labels.kind())));
    }
    if labels.numel() == 0 {
        return Err(Error::config(name, "a batch of at least one example", "empty"));
    }
    let (low, high) = (labels.min().int64_value(&[]), labels.max().int64_value(&[]));
    if low < 0 || high >= classes {
        let value = if low < 0 { low } else { high };
        return Err(Error::config(name, format!("in 0..{classes}"), value));
    }
    Ok(())
}

/// Fails when `what` wants more than four fifths of the memory that is left.
///
/// Asking is not allocating: the system grants more than there is and kills whoever uses it.
///
/// # Errors
///
/// [`Error::Memory`] with both numbers. Where the system does not say how much is left, nothing is refused.
pub fn memory(what: &str, bytes: u64) -> Result<()> {
    if bytes < 1 << 20 {
        return Ok(()); // Not worth asking the system.
    }
    let Some(available) = available_memory().map(|free| free / 5 * 4) else { return Ok(()) };
    if bytes <= available {
        return Ok(());
    }
    let (needed_mib, available_mib) = (bytes.div_ceil(1 << 20), available >> 20);
    Err(Error::Memory { what: what.to_owned(), needed_mib, available_mib })
}

/// Bytes left on the machine or, where that is less, to the control group; on Linux.
fn available_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let number = |text: String| text.trim().parse::<u64>().ok();
    let info = read("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)?;
    let limit = read("/sys/fs/cgroup/memory.max").and_then(number); // `max` where there is no limit
    let used = read("/sys/fs/cgroup/memory.current").and_then(number);
    let group = limit.zip(used).map(|(limit, used)| limit.saturating_sub(used));
    Some(group.map_or(machine, |group| group.min(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_rank_names_the_argument() {
        let err = dims2(&Tensor::from_slice(&[1.0f32]), "grads", "[tasks, params]").unwrap_err();
        insta::assert_snapshot!(err, @"`grads` must have shape [tasks, params], but has [1]");
    }

    #[test]
    fn the_first_row_that_is_not_finite_is_named() {
        let t = Tensor::from_slice(&[1.0f32, 0.0, f32::NAN, 0.0]).view([2, 2]);
        insta::assert_snapshot!(finite(&t, "grads").unwrap_err(), @"`grads` is not finite at index 1");
        assert!(finite(&Tensor::from_slice(&[f32::MAX, f32::MAX]), "big").is_ok());
    }

    #[test]
    fn a_label_outside_the_range_is_refused() {
        let err = labels(&Tensor::from_slice(&[0i64, 7]), "target", 3).unwrap_err();
        insta::assert_snapshot!(err, @"`target` must be in 0..3, but is 7");
        let err = labels(&Tensor::from_slice(&[-100i64]), "target", 3).unwrap_err();
        insta::assert_snapshot!(err, @"`target` must be in 0..3, but is -100");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn more_memory_than_there_is_is_refused_with_both_numbers() {
        let err = memory("replay memory", 1 << 50).unwrap_err();
        assert!(err.to_string().starts_with("replay memory needs 1073741824 MiB, but only "), "{err}");
        assert!(memory("a page", 4096).is_ok());
    }
}
