//! IDX files that must be refused, and some that must not.
use super::Case;
use flate2::{Compression, write::GzEncoder};
use std::io::Write;

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn file(code: u8, dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, code, dims.len() as u8];
    bytes.extend(dims.iter().flat_map(|dim| dim.to_be_bytes()));
    bytes.extend(data);
    bytes
}

/// Two images of 1 × 3.
fn sound() -> Vec<u8> {
    file(8, &[2, 1, 3], &[1, 2, 3, 4, 5, 6])
}

pub(crate) fn controls() -> Vec<(&'static str, Vec<u8>)> {
    let sound = sound();
    let (first, second) = sound.split_at(9);
    let floats: Vec<u8> = [1f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|x| x.to_be_bytes()).collect();
    vec![
        ("raw", sound.clone()),
        ("gzip", gzip(&sound)),
        ("two gzip members", [gzip(first), gzip(second)].concat()),
        ("an empty gzip member", [gzip(&sound), gzip(&[])].concat()),
        ("floats", file(0x0D, &[2, 1, 3], &floats)),
    ]
}

pub(crate) fn all() -> Vec<Case> {
    [headers(), raw(), compressed()].concat()
}

fn headers() -> Vec<Case> {
    let mut many = vec![0, 0, 8, 255];
    many.extend([0, 0, 0, 1].repeat(255));
    let list: Vec<(&str, Vec<u8>, &'static str)> = vec![
        ("empty", vec![], "is empty"),
        ("three bytes", vec![0, 0, 8], "the header has 3 of 4 bytes"),
        ("wrong magic", vec![1, 0, 8, 1, 0, 0, 0, 1, 0], "no IDX file"),
        ("little-endian magic", vec![3, 8, 0, 0, 1, 0, 0, 0], "no IDX file"),
        ("text", b"label,pixel0\n5,0\n".to_vec(), "no IDX file"),
        ("web page", b"<!DOCTYPE html><html></html>".to_vec(), "web page"),
        ("zip", b"PK\x03\x04\x14\0\0\0".to_vec(), "zip archive"),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "git lfs pull"),
        ("zeros", vec![0; 100], "unknown type code 0x00"),
        ("type 0x0a", file(0x0A, &[1], &[0]), "unknown type code 0x0a"),
        ("type 0xff", file(0xFF, &[1], &[0]), "unknown type code 0xff"),
        ("signed bytes", file(0x09, &[1], &[0]), "holds signed bytes"),
        ("16-bit", file(0x0B, &[1], &[0, 0]), "holds 16-bit integers"),
        ("32-bit", file(0x0C, &[1], &[0; 4]), "holds 32-bit integers"),
        ("64-bit floats", file(0x0E, &[1], &[0; 8]), "holds 64-bit floats"),
        ("no dimensions", file(8, &[], &[0]), "declares 0 dimensions"),
        ("255 dimensions", many, "declares 255 dimensions"),
        ("5 dimensions", file(8, &[1, 1, 1, 1, 1], &[0]), "declares 5 dimensions"),
        ("cut in the dimensions", sound()[..10].to_vec(), "the list of dimensions has 6 of 12 bytes"),
        ("no dimension given", vec![0, 0, 8, 3], "the list of dimensions has 0 of 12 bytes"),
    ];
    list.into_iter().map(|(name, bytes, says)| Case::new(format!("idx: {name}"), bytes, says)).collect()
}

fn raw() -> Vec<Case> {
    let nan: Vec<u8> = [1f32, f32::NAN].iter().flat_map(|x| x.to_be_bytes()).collect();
    let inf: Vec<u8> = [f32::INFINITY, 1.0].iter().flat_map(|x| x.to_be_bytes()).collect();
    let list: Vec<(&str, Vec<u8>, &'static str)> = vec![
        ("count too large", file(8, &[3, 1, 3], &[0; 6]), "declares 9 bytes of shape [3, 1, 3], but holds 6"),
        ("count too small", file(8, &[1, 1, 3], &[0; 6]), "declares 3 bytes of shape [1, 1, 3], but holds 6"),
        ("one byte short", sound()[..17 + 4].to_vec(), "it is truncated"),
        ("one byte long", [sound(), vec![0]].concat(), "its header is wrong"),
        ("no data", file(8, &[2, 1, 3], &[]), "holds 0"),
        ("over 32 bits", file(8, &[65536, 65536, 2], &[0; 6]), "at most 4096 MiB"),
        ("over 64 bits", file(8, &[u32::MAX, u32::MAX, u32::MAX], &[0; 6]), "at most 4096 MiB"),
        ("4 GiB declared", file(8, &[1 << 31, 2, 1], &[0; 6]), "declares 4294967296 bytes"),
        ("no images", file(8, &[0, 28, 28], &[]), "empty array of shape [0, 28, 28]"),
        ("no rows", file(8, &[2, 0, 28], &[]), "empty array"),
        ("no columns", file(8, &[2, 28, 0], &[]), "empty array"),
        ("no labels", file(8, &[0], &[]), "empty array"),
        ("NaN", file(0x0D, &[2], &nan), "value 1 (from 0) is NaN"),
        ("infinity", file(0x0D, &[2], &inf), "value 0 (from 0) is inf"),
    ];
    list.into_iter().map(|(name, bytes, says)| Case::new(format!("idx: {name}"), bytes, says)).collect()
}

fn compressed() -> Vec<Case> {
    let packed = gzip(&sound());
    let damaged = |from_end: usize| {
        let mut bytes = packed.clone();
        let at = bytes.len() - from_end;
        bytes[at] ^= 0xFF;
        bytes
    };
    let bomb = |declared: u32, bytes: usize| gzip(&file(8, &[declared], &vec![0; bytes]));
    let list: Vec<(&str, Vec<u8>, &'static str)> = vec![
        ("head of gzip alone", b"\x1F\x8B".to_vec(), "gzip data is damaged"),
        ("unknown method", b"\x1F\x8B\x09\0\0\0\0\0\0\0\0\0".to_vec(), "gzip data is damaged"),
        ("cut in the data", packed[..packed.len() - 12].to_vec(), "gzip data is damaged"),
        ("cut in the checksum", packed[..packed.len() - 6].to_vec(), "gzip data is damaged"),
        ("cut in the length", packed[..packed.len() - 1].to_vec(), "gzip data is damaged"),
        ("wrong checksum", damaged(8), "gzip data is damaged"),
        ("wrong length", damaged(1), "gzip data is damaged"),
        ("trailing text", [packed.clone(), b"trailing".to_vec()].concat(), "gzip data is damaged"),
        ("a second array", [packed.clone(), packed.clone()].concat(), "goes on after the 6 bytes"),
        ("count too large", gzip(&file(8, &[9], &[0; 6])), "the data has 6 of 9 bytes"),
        ("count too small", gzip(&file(8, &[3], &[0; 6])), "goes on after the 3 bytes"),
        ("empty", gzip(&[]), "the header has 0 of 4 bytes"),
        ("gzip twice", gzip(&packed), "no IDX file: it begins with [1f, 8b"),
        ("web page", gzip(b"<!DOCTYPE html>"), "no IDX file"),
        ("bomb behind one byte", bomb(1, 32 << 20), "goes on after the 1 bytes"),
        ("4 GiB declared", bomb(u32::MAX, 6), "compressed bytes cannot hold"),
        ("more declared than packed", bomb(1 << 20, 1 << 19), "cannot hold"),
    ];
    list.into_iter().map(|(name, bytes, says)| Case::new(format!("gzip idx: {name}"), bytes, says)).collect()
}

type Pair = (&'static str, Vec<u8>, Vec<u8>, &'static str);

/// Images and labels that do not belong together.
pub(crate) fn pairs() -> Vec<Pair> {
    let labels = file(8, &[2], &[3, 9]);
    vec![
        ("swapped", labels.clone(), sound(), "holds 2 images, not labels; were the two files swapped?"),
        ("labels twice", labels.clone(), labels.clone(), "holds 2 labels, not images"),
        ("images twice", sound(), sound(), "holds 2 images, not labels"),
        ("more labels", sound(), file(8, &[3], &[0; 3]), "holds 2 images, but"),
        ("fewer labels", sound(), file(8, &[1], &[0]), "holds 1 labels"),
        ("label 10", sound(), file(8, &[2], &[0, 10]), "label 1 (from 0) is 10; expected less than 10"),
        ("label 255", sound(), file(8, &[2], &[255, 0]), "label 0 (from 0) is 255"),
        ("labels in a table", sound(), file(8, &[1, 2], &[0, 1]), "has shape [1, 2]"),
        ("labels are floats", sound(), file(0x0D, &[2], &[0; 8]), "expected one byte per label"),
        ("flat images", file(8, &[2, 3], &[0; 6]), labels.clone(), "has 2 dimensions"),
        ("colour images", file(8, &[2, 1, 1, 3], &[0; 6]), labels, "has 4 dimensions"),
    ]
}
