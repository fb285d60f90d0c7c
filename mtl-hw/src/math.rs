//! Checked 64-bit arithmetic: a 4096³ layer overflows 32 bits silently, so nothing here wraps.
use crate::{HwError, Result};

#[cold]
fn overflow(what: &str) -> HwError {
    HwError::Overflow { what: what.to_owned() }
}

/// Product of the factors, or an error that names the quantity.
#[inline]
pub(crate) fn product(what: &str, factors: &[u64]) -> Result<u64> {
    factors.iter().try_fold(1u64, |acc, &f| acc.checked_mul(f)).ok_or_else(|| overflow(what))
}

/// Sum of the terms, or an error that names the quantity.
#[inline]
pub(crate) fn sum(what: &str, terms: impl IntoIterator<Item = u64>) -> Result<u64> {
    terms.into_iter().try_fold(0u64, u64::checked_add).ok_or_else(|| overflow(what))
}

/// Refuses zero.
#[inline]
pub(crate) fn positive(field: &str, value: u64) -> Result<u64> {
    if value == 0 { Err(HwError::config(field, "positive", value)) } else { Ok(value) }
}

/// Refuses zero, negative numbers, NaN and infinities.
pub(crate) fn positive_float(field: &str, value: f64) -> Result<f64> {
    if value > 0.0 && value.is_finite() {
        Ok(value)
    } else {
        Err(HwError::config(field, "positive and finite", value))
    }
}

/// Bytes of `elements` numbers of `bits` bits, stored without gaps.
pub(crate) fn bytes(what: &str, elements: u64, bits: u32) -> Result<u64> {
    Ok(product(what, &[elements, u64::from(bits)])?.div_ceil(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_is_an_error_not_a_wrap() {
        assert_eq!(product("macs", &[4096, 4096, 4096]).unwrap(), 68_719_476_736);
        insta::assert_snapshot!(product("macs", &[u64::MAX, 2]).unwrap_err(), @"`macs` does not fit in 64 bits; check the dimensions");
        assert!(sum("cycles", [u64::MAX, 1]).is_err());
    }

    #[test]
    fn floats_must_be_positive_and_finite() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(positive_float("watts", bad).is_err());
        }
    }
}
