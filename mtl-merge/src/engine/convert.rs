//! Between stored floating-point types and `f64`; every rounding is to nearest, ties to even.
//!
//! Values pass through `f32` on their way out, so a result in a narrower type is within half a unit in the last place
//! and one rounding to `f32` of the `f64` it came from.
use crate::{Error, FloatType, Result};
use mtl_core::params::{Dtype, convert};
use multiversion::multiversion;

/// Widens little-endian elements to `f64` and tells whether all are finite.
///
/// # Errors
///
/// As [`convert::to_f32`].
pub(crate) fn to_f64(dtype: Dtype, bytes: &[u8], out: &mut [f64]) -> Result<bool> {
    match dtype {
        Dtype::Bf16 => Ok(bf16(bytes, out)),
        Dtype::F32 => Ok(f32(bytes, out)),
        Dtype::F64 => Ok(f64(bytes, out)),
        _ => {
            let mut buffer = [0.0_f32; 256];
            let mut largest = 0;
            let elements = bytes.chunks(256 * dtype.size());
            for (part, out) in elements.zip(out.chunks_mut(256)) {
                let buffer = &mut buffer[..out.len()];
                convert::to_f32(dtype, part, buffer)?;
                for (out, &x) in out.iter_mut().zip(&*buffer) {
                    largest = largest.max(x.to_bits() & 0x7fff_ffff);
                    *out = f64::from(x);
                }
            }
            Ok(largest < 0x7f80_0000)
        }
    }
}

#[multiversion(targets("x86_64+avx2"))]
fn bf16(bytes: &[u8], out: &mut [f64]) -> bool {
    let (elements, _) = bytes.as_chunks::<2>();
    let mut largest = 0_u16;
    for (out, &element) in out.iter_mut().zip(elements) {
        let bits = u16::from_le_bytes(element);
        largest = largest.max(bits & 0x7fff);
        *out = f64::from(f32::from_bits(u32::from(bits) << 16));
    }
    largest < 0x7f80
}

#[multiversion(targets("x86_64+avx2"))]
fn f32(bytes: &[u8], out: &mut [f64]) -> bool {
    let (elements, _) = bytes.as_chunks::<4>();
    let mut largest = 0_u32;
    for (out, &element) in out.iter_mut().zip(elements) {
        let bits = u32::from_le_bytes(element);
        largest = largest.max(bits & 0x7fff_ffff);
        *out = f64::from(f32::from_bits(bits));
    }
    largest < 0x7f80_0000
}

#[multiversion(targets("x86_64+avx2"))]
fn f64(bytes: &[u8], out: &mut [f64]) -> bool {
    let (elements, _) = bytes.as_chunks::<8>();
    let mut largest = 0_u64;
    for (out, &element) in out.iter_mut().zip(elements) {
        let bits = u64::from_le_bytes(element);
        largest = largest.max(bits & (u64::MAX >> 1));
        *out = f64::from_bits(bits);
    }
    largest < 0x7ff0 << 48
}

/// Appends the values, rounded to `float`, to `bytes`.
///
/// # Errors
///
/// The position of the first value that `float` would round to infinity, unless `any` allows it.
pub(crate) fn from_f64(
    float: FloatType,
    values: &[f64],
    any: bool,
    bytes: &mut Vec<u8>,
) -> Result<(), usize> {
    let start = bytes.len();
    bytes.resize(start + values.len() * float.dtype().size(), 0);
    let out = &mut bytes[start..];
    // Halfway between the largest value of the type and what would follow it.
    let (limit, fits) = match float {
        FloatType::F64 => (f64::MAX, to_f64_bytes(values, out)),
        FloatType::F32 => (2_f64.powi(128) - 2_f64.powi(103), to_f32_bytes(values, out)),
        FloatType::Bf16 => (255.5 * 2_f64.powi(120), to_bf16_bytes(values, out)),
        FloatType::F16 => (65520.0, to_f16_bytes(values, out)),
    };
    if fits < limit || any {
        return Ok(());
    }
    // A NaN is larger than every limit here.
    match values.iter().position(|x| x.abs() >= limit || x.is_nan()) {
        Some(position) => Err(position),
        None => Ok(()),
    }
}

/// The larger of two magnitudes; a NaN wins.
#[inline(always)]
fn larger(a: f64, b: f64) -> f64 {
    if a >= b { a } else { b }
}

#[multiversion(targets("x86_64+avx2"))]
fn to_f64_bytes(values: &[f64], out: &mut [u8]) -> f64 {
    let (elements, _) = out.as_chunks_mut::<8>();
    let mut largest = 0.0;
    for (element, &x) in elements.iter_mut().zip(values) {
        *element = x.to_le_bytes();
        largest = larger(largest, x.abs());
    }
    if values.iter().any(|x| x.is_nan()) { f64::INFINITY } else { largest }
}

#[multiversion(targets("x86_64+avx2"))]
fn to_f32_bytes(values: &[f64], out: &mut [u8]) -> f64 {
    let (elements, _) = out.as_chunks_mut::<4>();
    let mut largest = 0_u32;
    for (element, &x) in elements.iter_mut().zip(values) {
        let bits = (x as f32).to_bits();
        largest = largest.max(bits & 0x7fff_ffff);
        *element = bits.to_le_bytes();
    }
    if largest >= 0x7f80_0000 { f64::INFINITY } else { 0.0 }
}

#[multiversion(targets("x86_64+avx2"))]
fn to_bf16_bytes(values: &[f64], out: &mut [u8]) -> f64 {
    let (elements, _) = out.as_chunks_mut::<2>();
    let mut largest = 0_u32;
    for (element, &x) in elements.iter_mut().zip(values) {
        let bits = (x as f32).to_bits();
        largest = largest.max(bits & 0x7fff_ffff);
        let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
        // Rounding up a NaN could make it an infinity or a zero.
        let nan = (bits >> 16) as u16 | 0x40;
        let bits = if bits & 0x7fff_ffff > 0x7f80_0000 { nan } else { rounded };
        *element = bits.to_le_bytes();
    }
    if largest >= 0x7f7f_8000 { f64::INFINITY } else { 0.0 }
}

fn to_f16_bytes(values: &[f64], out: &mut [u8]) -> f64 {
    let (elements, _) = out.as_chunks_mut::<2>();
    let mut singles = [0.0_f32; 256];
    let mut largest = 0_u32;
    let mut halves = Vec::with_capacity(512);
    for (elements, values) in elements.chunks_mut(256).zip(values.chunks(256)) {
        for (single, &x) in singles.iter_mut().zip(values) {
            *single = x as f32;
            largest = largest.max(single.to_bits() & 0x7fff_ffff);
        }
        halves.clear();
        // `F16` is a floating-point type, the one error `from_f32` has.
        let _ = convert::from_f32(Dtype::F16, &singles[..values.len()], &mut halves);
        for (element, half) in elements.iter_mut().zip(halves.as_chunks::<2>().0) {
            *element = *half;
        }
    }
    if largest >= 65520_f32.to_bits() { f64::INFINITY } else { 0.0 }
}

/// The error of a value that does not fit.
pub(crate) fn overflow(tensor: &str, float: FloatType, index: usize) -> Error {
    Error::Overflow { tensor: tensor.to_owned(), dtype: float.name(), index }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn narrow(float: FloatType, x: f64) -> Result<f64, usize> {
        let mut bytes = Vec::new();
        from_f64(float, &[x], false, &mut bytes)?;
        let mut back = [0.0];
        to_f64(float.dtype(), &bytes, &mut back).unwrap();
        Ok(back[0])
    }

    #[test]
    fn every_type_has_its_largest_value() {
        for (float, largest, above) in [
            (FloatType::F16, 65504.0, 65520.0),
            (FloatType::Bf16, 255.0 * 2_f64.powi(120), 255.5 * 2_f64.powi(120)),
            (FloatType::F32, f64::from(f32::MAX), 3.5e38),
        ] {
            assert_eq!(narrow(float, -largest), Ok(-largest), "{float:?}");
            assert_eq!(narrow(float, above), Err(0), "{float:?}");
            assert_eq!(narrow(float, f64::NAN), Err(0), "{float:?}");
        }
        assert_eq!(narrow(FloatType::F64, 1e300), Ok(1e300));
        assert_eq!(narrow(FloatType::F64, f64::INFINITY), Err(0));
        assert_eq!(narrow(FloatType::F64, f64::NAN), Err(0));
    }

    #[test]
    fn non_finite_values_are_seen_in_every_type() {
        for (dtype, bytes) in [
            (Dtype::Bf16, vec![0x80, 0x7f]),
            (Dtype::F16, vec![0x00, 0xfc]),
            (Dtype::F32, f32::NAN.to_le_bytes().to_vec()),
            (Dtype::F64, f64::NEG_INFINITY.to_le_bytes().to_vec()),
            (Dtype::F8E4M3, vec![0x7f]),
            (Dtype::F8E5M2, vec![0x7c]),
        ] {
            assert!(!to_f64(dtype, &bytes, &mut [0.0]).unwrap(), "{dtype}");
            assert!(to_f64(dtype, &vec![0x11; dtype.size()], &mut [0.0]).unwrap(), "{dtype}");
        }
    }

    proptest! {
        #[test]
        fn bfloat16_agrees_with_the_conversion_of_the_core(x in proptest::num::f32::NORMAL) {
            let mut expected = Vec::new();
            convert::from_f32(Dtype::Bf16, &[x], &mut expected).unwrap();
            let mut found = Vec::new();
            from_f64(FloatType::Bf16, &[x.into()], true, &mut found).unwrap();
            prop_assert_eq!(found, expected);
        }
    }
}
