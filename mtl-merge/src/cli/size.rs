//! Sizes and tolerances as people write them.

/// Bytes of a shard: `5B`, `200m`, `1.5b`, `100000`; 0 or less is no limit, which is 0.
pub(crate) fn shard(text: &str) -> Result<u64, String> {
    let fault = || {
        format!("`{text}` must be a number of bytes, such as 5B, 200M or 100000 (k, m, b: 10^3, 10^6, 10^9)")
    };
    let (number, unit) = split(text);
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "b" | "g" | "gb" => 1e9,
        _ => return Err(fault()),
    };
    let bytes = number.parse::<f64>().map_err(|_| fault())? * scale;
    if bytes.is_finite() && bytes < 1e18 { Ok(bytes.max(0.0).round() as u64) } else { Err(fault()) }
}

/// Bytes of memory: `256M`, `2GiB`, in powers of 1024.
pub(crate) fn memory(text: &str) -> Result<u64, String> {
    let fault = || format!("`{text}` must be a size such as 256M or 2G");
    let (number, unit) = split(text);
    let unit = unit.to_ascii_lowercase();
    let scale = match unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit) {
        "k" => 1024.0,
        "m" => 1_048_576.0,
        "g" => 1_073_741_824.0,
        _ => return Err(fault()),
    };
    let bytes = number.parse::<f64>().map_err(|_| fault())? * scale;
    if (1_048_576.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(fault()) }
}

/// A finite number of at least 0.
pub(crate) fn tolerance(text: &str) -> Result<f64, String> {
    let accepted = text.parse::<f64>().ok().filter(|x| x.is_finite() && *x >= 0.0);
    accepted.ok_or_else(|| format!("`{text}` must be a finite number of at least 0"))
}

/// A size for people, in powers of ten.
pub(crate) fn human(bytes: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.iter().find(|(_, scale)| bytes as f64 >= *scale) {
        Some((unit, scale)) => format!("{:.2} {unit}", bytes as f64 / scale),
        None => format!("{bytes} B"),
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len();
    (text[..end].trim_end(), &text[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_sizes_are_those_of_mergekit_and_fractions() {
        for (text, bytes) in [
            ("5B", 5_000_000_000),
            ("1.5b", 1_500_000_000),
            ("200m", 200_000_000),
            ("7K", 7000),
            ("100000", 100_000),
        ] {
            assert_eq!(shard(text), Ok(bytes), "{text}");
        }
        assert_eq!((shard("0"), shard("-1")), (Ok(0), Ok(0)));
        assert!(shard("5T").is_err() && shard("B").is_err() && shard("nanB").is_err());
    }

    #[test]
    fn memory_needs_a_unit() {
        assert_eq!(memory("256M"), Ok(256 << 20));
        assert_eq!((memory("1.5GiB"), memory("2048k")), (Ok(3 << 29), Ok(2 << 20)));
        assert!(memory("256").is_err() && memory("1k").is_err() && memory("-1G").is_err());
    }

    #[test]
    fn sizes_are_rounded_for_people() {
        assert_eq!(
            (human(999), human(164_848), human(5_000_000_000)),
            ("999 B".into(), "164.85 kB".into(), "5.00 GB".into())
        );
    }
}
