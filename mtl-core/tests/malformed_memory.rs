//! A file that promises or unpacks to far more than it holds costs little memory. Alone in its process: the peak counts.
#![allow(clippy::print_stderr)] // A skipped test says why.
use flate2::{Compression, write::GzEncoder};
use mtl_core::{
    data::{csv, idx},
    params::ParamFile,
};
use std::{fs, io::Write};

/// Peak resident memory of this process in KiB, where the system tells.
fn peak_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn bombs_cost_less_than_64_mib() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bomb");

    // 512 MiB of zeros behind a header that declares ten bytes, written in pieces.
    let mut encoder = GzEncoder::new(fs::File::create(&path).unwrap(), Compression::fast());
    encoder.write_all(&[0, 0, 8, 1, 0, 0, 0, 10]).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..512 {
        encoder.write_all(&zeros).unwrap();
    }
    encoder.finish().unwrap();
    let Some(before) = peak_kib() else {
        eprintln!("skipped: this system does not tell the peak memory");
        return;
    };
    assert!(idx::read_idx(&path).unwrap_err().to_string().contains("goes on after the 10 bytes"));

    // Lying headers: 4 GiB of pixels, and a tensor of a terabyte.
    fs::write(&path, [0, 0, 8, 1, 255, 255, 255, 255, 0]).unwrap();
    assert!(idx::read_idx(&path).is_err());
    let header = br#"{"a":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}"#;
    fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header].concat()).unwrap();
    assert!(ParamFile::open(&path).is_err());

    // A cell without end in a sparse file.
    let file = fs::File::create(&path).unwrap();
    (&file).write_all(b"x,y\n1,0\n").unwrap();
    file.set_len(1 << 30).unwrap();
    assert!(csv::load_csv(&path, "y").is_err());

    let grown = peak_kib().unwrap() - before;
    assert!(grown < 64 << 10, "the peak grew by {grown} KiB");
}
