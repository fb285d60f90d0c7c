//! Safetensors files that must be refused, and some that must not.
use super::Case;

/// A file from its header and data.
pub(crate) fn file(json: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.bytes());
    bytes.extend(data);
    bytes
}

/// A file with another length in front of its header.
fn lying(length: u64) -> Vec<u8> {
    let mut bytes = file(&one("F32", "[1]", "[0,4]"), &[0; 4]);
    bytes[..8].copy_from_slice(&length.to_le_bytes());
    bytes
}

fn record(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

fn one(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"a":{}}}"#, record(dtype, shape, offsets))
}

fn two(a: (&str, &str), b: (&str, &str)) -> String {
    format!(r#"{{"a":{},"b":{}}}"#, record("U8", a.0, a.1), record("U8", b.0, b.1))
}

fn named(name: &str) -> String {
    format!(r#"{{"{name}":{}}}"#, record("U8", "[1]", "[0,1]"))
}

pub(crate) fn all() -> Vec<Case> {
    [foreign(), lengths(), json(), fields(), layout(), names(), metadata(), values(), truncations()].concat()
}

fn foreign() -> Vec<Case> {
    let mut tar = vec![b'a'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let list: [(&str, Vec<u8>, &'static str); 20] = [
        ("empty", b"".to_vec(), "is empty"),
        ("seven bytes", b"\x02\0\0\0\0\0\0".to_vec(), "has only 7 bytes"),
        ("zip", b"PK\x03\x04\x14\0\0\0\x08\0archive/data.pkl".to_vec(), "zip archive"),
        ("empty zip", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0".to_vec(), "zip archive"),
        ("pickle 2", b"\x80\x02}q\0X\x01\0\0\0aq".to_vec(), "pickle"),
        ("pickle 4", b"\x80\x04\x95\0\0\0\0\0\0\0\0}".to_vec(), "pickle"),
        (
            "lfs",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n".to_vec(),
            "git lfs pull",
        ),
        ("html", b"<!DOCTYPE html><html><body>404</body></html>".to_vec(), "web page"),
        ("html in lower case", b"\n<html><head>".to_vec(), "web page"),
        ("xml", b"<?xml version=\"1.0\"?><Error>AccessDenied</Error>".to_vec(), "web page"),
        ("html with mark", b"\xEF\xBB\xBF<!doctype html>".to_vec(), "web page"),
        ("gzip", b"\x1F\x8B\x08\0\0\0\0\0\0\x03".to_vec(), "gunzip"),
        ("gguf", b"GGUF\x03\0\0\0\0\0\0\0".to_vec(), "GGUF"),
        ("hdf5", b"\x89HDF\r\n\x1A\n\0\0".to_vec(), "HDF5"),
        ("numpy", b"\x93NUMPY\x01\0v\0{'descr'".to_vec(), "NumPy"),
        ("zstd", b"\x28\xB5\x2F\xFD\0\0\0\0\0\0".to_vec(), "zstd"),
        ("tar", tar, "tar archive"),
        ("zeros", vec![0; 4096], "zeros"),
        ("index given as file", br#"{"weight_map": {"a": "b"}}"#.to_vec(), "shard index"),
        ("text", b"these are not weights".to_vec(), "is not safetensors"),
    ];
    list.into_iter().map(|(name, bytes, says)| Case::new(name, bytes, says)).collect()
}

fn lengths() -> Vec<Case> {
    let sound = file(&one("F32", "[1]", "[0,4]"), &[0; 4]).len() as u64 - 12;
    let mut cases: Vec<Case> = [
        (0, "expected 2 to"),
        (1, "expected 2 to"),
        (1 << 60, "the header would have 1152921504606846976 bytes"),
        (u64::MAX, "the header would have"),
        (i64::MAX as u64, "the header would have"),
        (100_000_001, "the header would have"),
        ((16 << 20) + 1, "the header would have"),
        (16 << 20, "is truncated"),
        (sound + 5, "is truncated"),
        (sound + 1, "damaged"),
        (sound + 4, "damaged"),
        (sound - 1, "damaged"),
        (2, "damaged"),
        (sound.swap_bytes(), "the header would have"),
    ]
    .into_iter()
    .map(|(length, says)| Case::new(format!("length {length}"), lying(length), says))
    .collect();
    cases.push(Case::new("length alone", 10u64.to_le_bytes(), "is truncated"));
    cases
}

fn json() -> Vec<Case> {
    let sound = one("U8", "[1]", "[0,1]");
    let nested = format!("{{\"a\":{}", "[".repeat(100_000));
    let deep = format!("{{\"a\":{}", "{\"a\":".repeat(100_000));
    let mut cases: Vec<Case> = [
        ("list", "[]".to_owned(), "does not begin with `{`"),
        ("null", "null".into(), "does not begin with `{`"),
        ("string", "\"a\"".into(), "does not begin with `{`"),
        ("leading blank", format!(" {sound}"), "does not begin with `{`"),
        ("byte-order mark", format!("\u{feff}{sound}"), "does not begin with `{`"),
        ("trailing text", format!("{sound}x"), "trailing characters"),
        ("second object", format!("{sound}{sound}"), "trailing characters"),
        ("NUL padding", format!("{sound}\0\0"), "damaged"),
        ("trailing comma", sound.replace("}}", "},}"), "damaged"),
        ("cut", sound[..sound.len() - 1].to_owned(), "EOF"),
        ("cut in a string", sound[..6].to_owned(), "EOF"),
        ("single quotes", sound.replace('"', "'"), "damaged"),
        ("comment", format!("{{/**/{}", &sound[1..]), "damaged"),
        ("nested lists", nested, "expected a record"),
        ("nested maps", deep, "unknown field"),
        ("record is a list", "{\"a\":[]}".into(), "expected a record"),
        ("record is null", "{\"a\":null}".into(), "expected a record"),
        ("record is a number", "{\"a\":1}".into(), "expected a record"),
        ("lone surrogate", "{\"\\ud800\":1}".into(), "damaged"),
        ("bad escape", "{\"\\x\":1}".into(), "damaged"),
        ("raw line break in a name", "{\"a\nb\":1}".into(), "control character"),
    ]
    .into_iter()
    .map(|(name, json, says)| Case::new(name, file(&json, &[0]), says))
    .collect();
    let mut latin = file("{\"a\":1}", &[]);
    latin[10] = 0xE9;
    cases.push(Case::new("not UTF-8", latin, "utf-8"));
    cases
}

fn fields() -> Vec<Case> {
    let list: Vec<(&str, String, &'static str)> = vec![
        ("no dtype", r#"{"a":{"shape":[1],"data_offsets":[0,1]}}"#.into(), "missing field `dtype`"),
        ("no shape", r#"{"a":{"dtype":"U8","data_offsets":[0,1]}}"#.into(), "missing field `shape`"),
        ("no offsets", r#"{"a":{"dtype":"U8","shape":[1]}}"#.into(), "missing field `data_offsets`"),
        ("empty record", r#"{"a":{}}"#.into(), "missing field"),
        (
            "extra",
            r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}"#.into(),
            "unknown field \"x\"",
        ),
        (
            "dtype twice",
            r#"{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}"#.into(),
            "`dtype` is there twice",
        ),
        (
            "shape twice",
            r#"{"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}"#.into(),
            "`shape` is there twice",
        ),
        (
            "offsets twice",
            r#"{"a":{"dtype":"U8","data_offsets":[0,1],"shape":[1],"data_offsets":[0,1]}}"#.into(),
            "`data_offsets` is there twice",
        ),
        ("lower case", one("f32", "[1]", "[0,4]"), "unknown dtype `f32`"),
        ("unknown dtype", one("BF61", "[2]", "[0,4]"), "unknown dtype `BF61`; did you mean `BF16`?"),
        ("four bits", one("F4", "[2]", "[0,1]"), "unknown dtype `F4`"),
        ("complex", one("C64", "[1]", "[0,8]"), "unknown dtype `C64`"),
        ("empty dtype", one("", "[1]", "[0,4]"), "unknown dtype ``"),
        ("endless dtype", one(&"F".repeat(100_000), "[1]", "[0,4]"), "unknown dtype `FFFF"),
        (
            "dtype is a number",
            r#"{"a":{"dtype":1,"shape":[1],"data_offsets":[0,1]}}"#.into(),
            "expected a string",
        ),
        ("shape is a number", one("U8", "1", "[0,1]"), "a list of at most 16 dimensions"),
        ("shape is null", one("U8", "null", "[0,1]"), "a list of at most 16 dimensions"),
        ("negative dimension", one("U8", "[-1]", "[0,1]"), "`-1`"),
        ("fraction", one("U8", "[1.5]", "[0,1]"), "`1.5`"),
        ("float", one("U8", "[1.0]", "[0,1]"), "floating point"),
        ("dimension is a string", one("U8", r#"["1"]"#, "[0,1]"), "expected u64"),
        ("dimension 2^63", one("U8", "[9223372036854775808]", "[0,1]"), "exceeds 2^63 - 1"),
        ("dimension 2^64", one("U8", "[18446744073709551616]", "[0,1]"), "expected u64"),
        ("huge beside zero", one("U8", "[0,9223372036854775813]", "[0,0]"), "exceeds 2^63 - 1"),
        ("product over 64 bits", one("U8", "[4294967296,4294967296]", "[0,1]"), "does not fit"),
        ("bytes over 64 bits", one("F64", "[4611686018427387904]", "[0,1]"), "does not fit"),
        (
            "17 dimensions",
            one("U8", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,1]"),
            "more than 16 dimensions",
        ),
        (
            "100 000 dimensions",
            one("U8", &format!("[1{}]", ",1".repeat(99_999)), "[0,1]"),
            "more than 16 dimensions",
        ),
        ("one offset", one("U8", "[1]", "[0]"), "has 1 numbers"),
        ("no offset", one("U8", "[1]", "[]"), "has 0 numbers"),
        ("three offsets", one("U8", "[1]", "[0,1,2]"), "more than 2"),
        ("reversed", one("U8", "[1]", "[1,0]"), "end before they begin"),
        ("negative offset", one("U8", "[1]", "[-1,0]"), "`-1`"),
        ("fractional offset", one("U8", "[1]", "[0,1.5]"), "`1.5`"),
        ("offset 2^64", one("U8", "[1]", "[0,18446744073709551616]"), "expected u64"),
        ("offset 2^64 - 1", one("U8", "[1]", "[0,18446744073709551615]"), "exceeds 2^63 - 1"),
        ("offsets are strings", one("U8", "[1]", r#"["0","1"]"#), "expected u64"),
        ("offsets are a map", one("U8", "[1]", "{}"), "a list of at most 2"),
        ("too few bytes", one("F32", "[2]", "[0,4]"), "needs 8 bytes"),
        ("too many bytes", one("F32", "[1]", "[0,8]"), "needs 4 bytes"),
        ("bytes without elements", one("F32", "[0]", "[0,4]"), "needs 0 bytes"),
        ("scalar without bytes", one("F32", "[]", "[0,0]"), "needs 4 bytes"),
        ("wide type", one("F64", "[1]", "[0,4]"), "needs 8 bytes"),
    ];
    list.into_iter().map(|(name, json, says)| Case::new(name, file(&json, &[0; 4]), says)).collect()
}

fn layout() -> Vec<Case> {
    let list: Vec<(&str, String, usize, &'static str)> = vec![
        ("overlap", two(("[4]", "[0,4]"), ("[4]", "[2,6]")), 6, "overlap at byte 2"),
        ("equal spans", two(("[4]", "[0,4]"), ("[4]", "[0,4]")), 4, "overlap"),
        ("contained", two(("[8]", "[0,8]"), ("[2]", "[2,4]")), 8, "overlap"),
        ("one byte shared", two(("[4]", "[0,4]"), ("[4]", "[3,7]")), 7, "overlap at byte 3"),
        ("overlap in reverse", two(("[4]", "[2,6]"), ("[4]", "[0,4]")), 6, "overlap"),
        ("hole", two(("[4]", "[0,4]"), ("[4]", "[5,9]")), 9, "bytes 4 to 5"),
        ("hole in front", one("U8", "[4]", "[1,5]"), 5, "bytes 0 to 1"),
        ("empty tensor beyond a hole", two(("[4]", "[0,4]"), ("[0]", "[6,6]")), 6, "bytes 4 to 6"),
        ("empty tensor within another", two(("[4]", "[0,4]"), ("[0]", "[2,2]")), 4, "overlap"),
        ("one byte short", one("U8", "[4]", "[0,4]"), 3, "the file has only 3"),
        ("no data", one("U8", "[4]", "[0,4]"), 0, "the file has only 0"),
        ("out of range", one("U8", "[4]", "[100,104]"), 4, "bytes 0 to 100"),
        ("second out of range", two(("[4]", "[0,4]"), ("[4]", "[4,8]")), 4, "ends at byte 8"),
        ("a terabyte", one("U8", "[1099511627776]", "[0,1099511627776]"), 4, "ends at byte 1099511627776"),
        (
            "2^63 - 1 bytes",
            one("U8", "[9223372036854775807]", "[0,9223372036854775807]"),
            4,
            "the file has only 4",
        ),
        ("far away", one("U8", "[1]", "[9223372036854775806,9223372036854775807]"), 1, "belong to no tensor"),
        ("one byte long", one("U8", "[4]", "[0,4]"), 5, "1 bytes follow"),
        ("data without tensors", "{}".into(), 4, "4 bytes follow"),
        (
            "tensor twice",
            format!(r#"{{"a":{0},"a":{0}}}"#, record("U8", "[1]", "[0,1]")),
            1,
            "tensor \"a\" is there twice",
        ),
        (
            "tensor twice, apart",
            format!(r#"{{"a":{},"a":{}}}"#, record("U8", "[1]", "[0,1]"), record("U8", "[1]", "[1,2]")),
            2,
            "is there twice",
        ),
        (
            "tensor twice, once escaped",
            format!(r#"{{"a":{0},"\u0061":{0}}}"#, record("U8", "[1]", "[0,1]")),
            1,
            "is there twice",
        ),
    ];
    let mut cases: Vec<Case> = list
        .into_iter()
        .map(|(name, json, data, says)| Case::new(name, file(&json, &vec![0; data]), says))
        .collect();
    let sound = file(&one("U8", "[4]", "[0,4]"), &[0; 4]);
    let follow = sound.len();
    let mut twice = sound.clone();
    twice.extend(sound);
    assert_eq!(twice.len(), 2 * follow);
    cases.push(Case::new("a second file appended", twice, "bytes follow the last tensor"));
    let records: Vec<String> =
        (0..200_000).map(|i| format!(r#""t{i}":{}"#, record("U8", "[1]", "[0,1]"))).collect();
    cases.push(Case::new(
        "200 000 tensors at one place",
        file(&format!("{{{}}}", records.join(",")), &[0]),
        "overlap",
    ));
    cases
}

fn names() -> Vec<Case> {
    let list: Vec<(&str, String, &'static str)> = vec![
        ("no name", named(""), "is empty"),
        ("parent directory", named("../a"), "`..` segment"),
        ("parent inside", named("a/../b"), "`..` segment"),
        ("parent alone", named(".."), "`..` segment"),
        ("backslashes", named(r"..\\a"), "`..` segment"),
        ("NUL", named(r"a\u0000b"), "control characters"),
        ("line break", named(r"a\nb"), "control characters"),
        ("escape sequence", named(r"\u001b[2J"), "control characters"),
        ("C1 control", named("\u{85}"), "control characters"),
        ("513 bytes", named(&"a".repeat(513)), "longer than 512 bytes"),
        ("513 bytes of umlauts", named(&"ü".repeat(257)), "longer than 512 bytes"),
        ("1 MiB", named(&"a".repeat(1 << 20)), "longer than 512 bytes"),
    ];
    list.into_iter()
        .map(|(name, json, says)| Case::new(format!("name: {name}"), file(&json, &[0]), says))
        .collect()
}

fn metadata() -> Vec<Case> {
    let list: Vec<(&str, String, &'static str)> = vec![
        ("list", r#"{"__metadata__":[]}"#.into(), "a map of strings"),
        ("null", r#"{"__metadata__":null}"#.into(), "a map of strings"),
        ("string", r#"{"__metadata__":"pt"}"#.into(), "a map of strings"),
        ("number inside", r#"{"__metadata__":{"a":1}}"#.into(), "expected a string"),
        ("map inside", r#"{"__metadata__":{"a":{}}}"#.into(), "expected a string"),
        ("null inside", r#"{"__metadata__":{"a":null}}"#.into(), "expected a string"),
        ("twice", r#"{"__metadata__":{},"__metadata__":{}}"#.into(), "`__metadata__` is there twice"),
        ("key twice", r#"{"__metadata__":{"a":"1","a":"2"}}"#.into(), "metadata key \"a\" is there twice"),
        (
            "50 MiB",
            format!(r#"{{"__metadata__":{{"a":"{}"}}}}"#, "x".repeat(50 << 20)),
            "the header would have",
        ),
    ];
    list.into_iter()
        .map(|(name, json, says)| Case::new(format!("metadata: {name}"), file(&json, &[]), says))
        .collect()
}

fn values() -> Vec<Case> {
    [2u8, 7, 255]
        .into_iter()
        .map(|byte| {
            let bytes = file(&one("BOOL", "[3]", "[0,3]"), &[0, 1, byte]);
            Case::new(format!("BOOL {byte}"), bytes, "element 2 is")
        })
        .collect()
}

/// A sound file cut after each eighth byte.
fn truncations() -> Vec<Case> {
    let sound = file(&two(("[4]", "[0,4]"), ("[4]", "[4,8]")), &[0; 8]);
    (8..sound.len())
        .step_by(8)
        .map(|len| Case::new(format!("cut after {len} bytes"), &sound[..len], "truncated"))
        .collect()
}

/// Unusual, but sound.
pub(crate) fn controls() -> Vec<Case> {
    let records: Vec<String> =
        (0..100_000).map(|i| format!(r#""t{i}":{}"#, record("U8", "[0]", "[0,0]"))).collect();
    let list: Vec<(&str, String, usize)> = vec![
        ("no tensors", "{}".into(), 0),
        ("scalar", one("F32", "[]", "[0,4]"), 4),
        ("empty tensor", one("F32", "[3,0]", "[0,0]"), 0),
        ("two empty tensors at one place", two(("[0]", "[0,0]"), ("[0]", "[0,0]")), 0),
        ("empty tensors between", two(("[4]", "[0,4]"), ("[0]", "[4,4]")), 4),
        ("file order is not name order", two(("[4]", "[4,8]"), ("[4]", "[0,4]")), 8),
        ("blanks at the end", format!("{}   ", one("U8", "[1]", "[0,1]")), 1),
        ("misaligned", format!("{} ", one("F64", "[1]", "[0,8]")), 8),
        ("16 dimensions", one("U8", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,1]"), 1),
        ("umlauts", named("Größe"), 1),
        ("dots", named("a..b"), 1),
        ("100 000 empty tensors", format!("{{{}}}", records.join(",")), 0),
    ];
    list.into_iter().map(|(name, json, data)| Case::new(name, file(&json, &vec![0; data]), "")).collect()
}
