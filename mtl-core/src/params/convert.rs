//! Between stored floating-point types and `f32`; every rounding is to nearest, ties to even.
//!
//! Values too large for the target become what PyTorch makes of them: infinity in `F16`, `BF16`, `F8_E5M2`, and NaN in
//! `F8_E4M3`, which has no infinity. An `F64` beyond the range of `f32` becomes infinite when read.
use super::Dtype;
use crate::{Error, Result};
use half::{bf16, f16, slice::HalfFloatSliceExt};

/// Widens little-endian elements to `f32`.
///
/// ```
/// use mtl_core::params::{Dtype, convert};
///
/// let mut values = [0.0; 2];
/// convert::to_f32(Dtype::Bf16, &[0x80, 0x3f, 0x00, 0xc0], &mut values)?;
/// assert_eq!(values, [1.0, -2.0]);
/// # Ok::<(), mtl_core::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Config`] when `dtype` is not floating-point or `bytes` does not hold as many elements as `values`.
pub fn to_f32(dtype: Dtype, bytes: &[u8], values: &mut [f32]) -> Result<()> {
    if bytes.len() != values.len() * dtype.size() {
        let must =
            format!("{} bytes long for {} elements of {dtype}", values.len() * dtype.size(), values.len());
        return Err(Error::config("bytes", must, bytes.len()));
    }
    match dtype {
        Dtype::F32 => widen(bytes, values, f32::from_le_bytes),
        Dtype::F64 => widen(bytes, values, |b| f64::from_le_bytes(b) as f32),
        Dtype::Bf16 => widen(bytes, values, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
        // The slice conversion of `half` uses the processor's instruction where there is one.
        Dtype::F16 => match bytemuck::try_cast_slice::<u8, f16>(bytes) {
            Ok(halves) if cfg!(target_endian = "little") => halves.convert_to_f32_slice(values),
            _ => widen(bytes, values, |b| f16::from_le_bytes(b).to_f32()),
        },
        Dtype::F8E4M3 => widen(bytes, values, |[b]| E4M3[usize::from(b)]),
        Dtype::F8E5M2 => widen(bytes, values, |[b]| E5M2[usize::from(b)]),
        _ => return Err(not_float(dtype)),
    }
    Ok(())
}

/// Appends the elements, rounded to `dtype`, to `bytes`, little-endian.
///
/// # Errors
///
/// [`Error::Config`] when `dtype` is not floating-point; `bytes` is then untouched.
pub fn from_f32(dtype: Dtype, values: &[f32], bytes: &mut Vec<u8>) -> Result<()> {
    match dtype {
        Dtype::F32 => narrow(values, bytes, f32::to_le_bytes),
        Dtype::F64 => narrow(values, bytes, |x| f64::from(x).to_le_bytes()),
        Dtype::Bf16 => narrow(values, bytes, |x| bf16::from_f32(x).to_le_bytes()),
        Dtype::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            bytes.reserve(2 * halves.len());
            bytes.extend(halves.into_iter().flat_map(f16::to_le_bytes));
        }
        Dtype::F8E4M3 => narrow(values, bytes, |x| [to_e4m3(x)]),
        Dtype::F8E5M2 => narrow(values, bytes, |x| [to_e5m2(x)]),
        _ => return Err(not_float(dtype)),
    }
    Ok(())
}

fn not_float(dtype: Dtype) -> Error {
    Error::config("dtype", "a floating-point type", dtype)
}

fn widen<const N: usize>(bytes: &[u8], values: &mut [f32], one: impl Fn([u8; N]) -> f32) {
    let (elements, _) = bytes.as_chunks::<N>();
    for (value, &element) in values.iter_mut().zip(elements) {
        *value = one(element);
    }
}

fn narrow<const N: usize>(values: &[f32], bytes: &mut Vec<u8>, one: impl Fn(f32) -> [u8; N]) {
    let start = bytes.len();
    bytes.resize(start + N * values.len(), 0);
    let (elements, _) = bytes[start..].as_chunks_mut::<N>();
    for (element, &value) in elements.iter_mut().zip(values) {
        *element = one(value);
    }
}

/// Values of all 256 codes of `F8_E4M3`: bias 7, no infinity, NaN only at exponent and mantissa all ones.
static E4M3: [f32; 256] = table(4, 7);
/// Values of all 256 codes of `F8_E5M2`: bias 15, infinities and NaN as in IEEE formats.
static E5M2: [f32; 256] = table(5, 15);

const fn table(exponent_bits: u32, bias: u32) -> [f32; 256] {
    let mantissa_bits = 7 - exponent_bits;
    let mut values = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        let magnitude = code as u32 & 0x7f;
        let exponent = magnitude >> mantissa_bits;
        let mantissa = magnitude & ((1 << mantissa_bits) - 1);
        let value = if magnitude == 0x7f || (exponent_bits == 5 && magnitude > 0x7c) {
            f32::NAN
        } else if exponent_bits == 5 && magnitude == 0x7c {
            f32::INFINITY
        } else if exponent == 0 {
            // Subnormal: the mantissa counts units of 2^(1 - bias - mantissa_bits).
            mantissa as f32 * f32::from_bits((127 + 1 - bias - mantissa_bits) << 23)
        } else {
            f32::from_bits(((exponent + 127 - bias) << 23) | (mantissa << (23 - mantissa_bits)))
        };
        values[code] = if code < 128 { value } else { -value };
        code += 1;
    }
    values
}

/// Rounds the bits of a magnitude that is normal in the target to `23 - drop` bits of mantissa.
fn round_normal(magnitude: u32, drop: u32) -> u32 {
    let odd = (magnitude >> drop) & 1;
    (magnitude + (1 << (drop - 1)) - 1 + odd) >> drop
}

/// Counts a magnitude in units of the target's smallest subnormal: `shift` is 2^23 such units, and adding it leaves the
/// rounding to the float unit.
fn round_subnormal(magnitude: u32, shift: f32) -> u32 {
    (f32::from_bits(magnitude) + shift).to_bits() - shift.to_bits()
}

fn to_e4m3(x: f32) -> u8 {
    let magnitude = x.to_bits() & 0x7fff_ffff;
    let code = match magnitude {
        0x43f0_0000.. => 0x7f,                                     // 480, infinity and NaN
        0x3c80_0000.. => round_normal(magnitude, 20) - (120 << 3), // 2^-6, the smallest normal
        _ => round_subnormal(magnitude, 16384.0),
    };
    code as u8 | sign(x)
}

fn to_e5m2(x: f32) -> u8 {
    let magnitude = x.to_bits() & 0x7fff_ffff;
    let code = match magnitude {
        0x7f80_0001.. => 0x7f,                                     // NaN
        0x4780_0000.. => 0x7c,                                     // 65536 and infinity
        0x3880_0000.. => round_normal(magnitude, 21) - (112 << 2), // 2^-14, the smallest normal
        _ => round_subnormal(magnitude, 128.0),
    };
    code as u8 | sign(x)
}

fn sign(x: f32) -> u8 {
    if x.is_sign_negative() { 0x80 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HALVES_AND_EIGHTHS: [Dtype; 4] = [Dtype::F16, Dtype::Bf16, Dtype::F8E4M3, Dtype::F8E5M2];

    fn widened(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
        let mut values = vec![0.0; bytes.len() / dtype.size()];
        to_f32(dtype, bytes, &mut values).unwrap();
        values
    }

    fn code(dtype: Dtype, value: f32) -> u16 {
        let mut bytes = Vec::new();
        from_f32(dtype, &[value], &mut bytes).unwrap();
        bytes.resize(2, 0);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    #[test]
    fn every_code_survives_the_way_to_f32_and_back() {
        for dtype in HALVES_AND_EIGHTHS {
            let codes =
                (0..1u32 << (8 * dtype.size())).flat_map(|c| c.to_le_bytes()[..dtype.size()].to_vec());
            let stored: Vec<u8> = codes.collect();
            let values = widened(dtype, &stored);
            let mut back = Vec::new();
            from_f32(dtype, &values, &mut back).unwrap();
            let size = dtype.size();
            for ((value, a), b) in values.iter().zip(stored.chunks(size)).zip(back.chunks(size)) {
                assert!(value.is_nan() || a == b, "{dtype} {a:?} = {value} came back as {b:?}");
            }
        }
    }

    #[test]
    fn e5m2_is_the_upper_half_of_f16() {
        for c in 0..=255u8 {
            let (ours, half) = (E5M2[usize::from(c)], f16::from_bits(u16::from(c) << 8).to_f32());
            assert!(ours == half || (ours.is_nan() && half.is_nan()), "{c:#x}: {ours} and {half}");
        }
    }

    #[test]
    fn landmarks_agree_with_the_definitions() {
        let e4m3 = [(448.0, 0x7e), (464.0, 0x7e), (465.0, 0x7f), (1.0, 0x38), (-0.0, 0x80), (0.001953125, 1)];
        for (value, expected) in e4m3 {
            assert_eq!(code(Dtype::F8E4M3, value), expected, "{value}");
        }
        assert_eq!(code(Dtype::F8E4M3, f32::INFINITY), 0x7f);
        let e5m2 = [(57344.0, 0x7b), (61439.0, 0x7b), (61440.0, 0x7c), (f32::INFINITY, 0x7c), (-1.0, 0xbc)];
        for (value, expected) in e5m2 {
            assert_eq!(code(Dtype::F8E5M2, value), expected, "{value}");
        }
        // Halfway between two codes: the even one wins.
        assert_eq!(code(Dtype::Bf16, f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(code(Dtype::Bf16, f32::from_bits(0x3f81_8000)), 0x3f82);
        assert_eq!(code(Dtype::F16, 65520.0), 0x7c00);
    }

    #[test]
    fn wrong_types_and_lengths_are_refused() {
        let err = to_f32(Dtype::I64, &[0; 8], &mut [0.0]).unwrap_err();
        assert_eq!(err.to_string(), "`dtype` must be a floating-point type, but is I64");
        let err = to_f32(Dtype::Bf16, &[0; 3], &mut [0.0]).unwrap_err();
        assert_eq!(err.to_string(), "`bytes` must be 2 bytes long for 1 elements of BF16, but is 3");
        assert!(from_f32(Dtype::U8, &[0.0], &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn no_code_is_nearer_than_the_chosen_one(x in -70000f32..70000.0, scale in -24i32..1) {
            let x = x * 2f32.powi(scale);
            for (dtype, table, max) in [(Dtype::F8E4M3, &E4M3, 464.0), (Dtype::F8E5M2, &E5M2, 61439.0)] {
                prop_assume!(x.abs() <= max);
                let chosen = table[usize::from(code(dtype, x))];
                let error = (f64::from(chosen) - f64::from(x)).abs();
                for other in table.iter().filter(|v| v.is_finite()) {
                    prop_assert!((f64::from(*other) - f64::from(x)).abs() >= error, "{x}: {other} beats {chosen}");
                }
            }
        }

        #[test]
        fn unaligned_bytes_read_the_same(values in proptest::collection::vec(any::<f32>(), 0..20)) {
            for dtype in HALVES_AND_EIGHTHS.into_iter().chain([Dtype::F32, Dtype::F64]) {
                let mut shifted = vec![0];
                from_f32(dtype, &values, &mut shifted).unwrap();
                let aligned = shifted[1..].to_vec();
                let bits = |v: Vec<f32>| v.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                prop_assert_eq!(bits(widened(dtype, &shifted[1..])), bits(widened(dtype, &aligned)));
            }
        }
    }
}
