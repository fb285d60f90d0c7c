//! What happens to a process that reads a mapped file which another truncates.
#![allow(clippy::expect_used, clippy::unwrap_used)]
#![cfg(unix)]
use mtl_core::params::{ParamFile, ParamView, guard_mapped_files, write_params};
use std::{env, fs, path::Path, process::Command};

const CHILD: &str = "MTL_TEST_TRUNCATED";

/// Runs as its own process: truncates a file that it has mapped, then reads it.
#[test]
fn child() {
    let Some(path) = env::var_os(CHILD) else { return };
    guard_mapped_files().unwrap();
    guard_mapped_files().unwrap();
    let file = ParamFile::open(&path).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let sum: f32 = file.f32s("w").unwrap().iter().sum();
    panic!("read {sum} from a truncated file");
}

#[test]
fn a_truncated_file_ends_the_process_with_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let values = vec![1.0; 1 << 18];
    write_params(&path, &Default::default(), &[ParamView::f32("w", &[values.len()], &values)]).unwrap();
    let child = Command::new(env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(CHILD, Path::new(&path))
        .output()
        .unwrap();
    let stderr = String::from_utf8(child.stderr).unwrap();
    assert_eq!(child.status.code(), Some(2), "{stderr}");
    assert_eq!(
        stderr,
        "error: a file that is being read was truncated or became unreadable (SIGBUS); nothing was completed from \
         it; restore the file and run again\n"
    );
}
