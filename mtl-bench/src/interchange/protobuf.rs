//! The part of the protobuf wire format that event files use.

pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const BYTES: u8 = 2;
pub(super) const FIXED32: u8 = 5;

/// A field as read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_key(out: &mut Vec<u8>, field: u32, wire: u8) {
    put_varint(out, u64::from(field << 3 | u32::from(wire)));
}

pub(super) fn put_double(out: &mut Vec<u8>, field: u32, value: f64) {
    put_key(out, field, FIXED64);
    out.extend(value.to_le_bytes());
}

pub(super) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_key(out, field, BYTES);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Reads the fields of a message one after the other.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(n).ok_or_else(|| {
            format!("a field of {n} bytes ends {} bytes after the message", n - self.rest.len())
        })?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            let part = u64::from(byte & 0x7F);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number has more than 64 bits".to_owned())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// The next field and its number; `None` at the end of the message.
    pub(super) fn field(&mut self) -> Result<Option<(u32, Wire<'a>)>, String> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = u32::try_from(key >> 3)
            .ok()
            .filter(|f| *f > 0)
            .ok_or_else(|| format!("no field {}", key >> 3))?;
        let wire = match (key & 7) as u8 {
            VARINT => Wire::Varint(self.varint()?),
            FIXED64 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            FIXED32 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            BYTES => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| format!("a field of {length} bytes"))?;
                Wire::Bytes(self.take(length)?)
            }
            wire => return Err(format!("field {field} has the unknown wire type {wire}")),
        };
        Ok(Some((field, wire)))
    }
}

impl Wire<'_> {
    pub(super) fn double(self) -> Option<f64> {
        match self {
            Self::Fixed64(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }
}

/// The doubles of a packed field, or the one of a plain field.
pub(super) fn doubles(wire: Wire<'_>) -> Result<Vec<f64>, String> {
    match wire {
        Wire::Fixed64(bits) => Ok(vec![f64::from_bits(bits)]),
        Wire::Bytes(bytes) if bytes.len().is_multiple_of(8) => {
            let mut array = [0; 8];
            let one = |chunk: &[u8]| {
                array.copy_from_slice(chunk);
                f64::from_le_bytes(array)
            };
            Ok(bytes.chunks_exact(8).map(one).collect())
        }
        other => Err(format!("expected packed doubles, found {other:?}")),
    }
}

/// As [`doubles`], for floats.
pub(super) fn floats(wire: Wire<'_>) -> Result<Vec<f32>, String> {
    match wire {
        Wire::Fixed32(bits) => Ok(vec![f32::from_bits(bits)]),
        Wire::Bytes(bytes) if bytes.len().is_multiple_of(4) => {
            let mut array = [0; 4];
            let one = |chunk: &[u8]| {
                array.copy_from_slice(chunk);
                f32::from_le_bytes(array)
            };
            Ok(bytes.chunks_exact(4).map(one).collect())
        }
        other => Err(format!("expected packed floats, found {other:?}")),
    }
}
