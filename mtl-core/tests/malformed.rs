//! Files that are damaged, hostile or something else: each is refused with a message that helps, and soon.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used)] // Helpers of tests count as library code for clippy.
use mtl_core::{
    Error, Result,
    data::{csv, idx},
    params::{ParamFile, ParamStore, ParamView, write_params},
};
use proptest::prelude::*;
use std::{
    fs,
    path::Path,
    sync::LazyLock,
    time::{Duration, Instant},
};

#[path = "corpus/csv.rs"]
mod csv_cases;
#[path = "corpus/idx.rs"]
mod idx_cases;
#[path = "corpus/index.rs"]
mod index_cases;
#[path = "corpus/safetensors.rs"]
mod safetensors_cases;

/// A file's content, and a part of the message that must be shown for it.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) says: &'static str,
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>, says: &'static str) -> Self {
        Self { name: name.into(), bytes: bytes.into(), says }
    }
}

/// Processor time of this thread where the system tells, so that a busy machine fails no test; else the wall clock.
fn busy_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let stat = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = stat.and_then(|s| s.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

/// Runs `open`; the outcome must be a typed error with the text, within a second.
fn refused(name: &str, says: &str, open: impl FnOnce() -> Result<()>) {
    let start = busy_time();
    let outcome = open();
    let time = busy_time().saturating_sub(start);
    let Err(err) = outcome else { panic!("{name}: accepted, expected an error with {says:?}") };
    let text = err.to_string();
    assert!(text.contains(says), "{name}: expected {says:?} in {text:?}");
    assert!(text.len() < 700 && !text.contains('\n'), "{name}: unwieldy message {text:?}");
    assert!(time < Duration::from_secs(1), "{name}: took {time:?}");
}

fn run(cases: Vec<Case>, at_least: usize, open: impl Fn(&Path) -> Result<()>) {
    assert!(cases.len() >= at_least, "only {} cases", cases.len());
    let dir = tempfile::tempdir().unwrap();
    for (i, case) in cases.iter().enumerate() {
        let path = dir.path().join(format!("case-{i}"));
        fs::write(&path, &case.bytes).unwrap();
        refused(&case.name, case.says, || open(&path));
        fs::remove_file(path).unwrap();
    }
}

/// Reads everything a file offers.
fn read_all(file: &ParamFile) -> Result<()> {
    for (name, info) in file.iter() {
        assert_eq!(file.bytes(name)?.len(), info.nbytes());
        if info.dtype.is_float() {
            assert_eq!(file.f32s(name)?.len(), info.numel());
        }
    }
    Ok(())
}

#[test]
fn safetensors_files_are_refused() {
    run(safetensors_cases::all(), 140, |path| read_all(&ParamFile::open(path)?));
}

#[test]
fn safetensors_controls_are_accepted() {
    for case in safetensors_cases::controls() {
        let outcome = ParamFile::from_bytes(case.bytes).and_then(|file| read_all(&file));
        assert!(outcome.is_ok(), "{}: {outcome:?}", case.name);
    }
}

#[test]
fn shard_indices_are_refused() {
    let cases = index_cases::all();
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    for (case, extra) in cases {
        let dir = tempfile::tempdir().unwrap();
        index_cases::write_shards(dir.path());
        if let Some(prepare) = extra {
            prepare(dir.path());
        }
        fs::write(dir.path().join("model.safetensors.index.json"), &case.bytes).unwrap();
        refused(&case.name, case.says, || ParamStore::open(dir.path()).map(drop));
    }
}

#[test]
fn sound_shards_are_read_through_their_index() {
    let dir = tempfile::tempdir().unwrap();
    index_cases::write_shards(dir.path());
    fs::write(dir.path().join("model.safetensors.index.json"), index_cases::sound()).unwrap();
    let store = ParamStore::open(dir.path()).unwrap();
    assert_eq!(store.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(*store.f32s("b").unwrap(), [3.0]);
    assert_eq!((store.nbytes(), store.metadata()["format"].as_str()), (12, "pt"));
    assert_eq!(store.f32s("c").unwrap_err().to_string(), "unknown parameter `c`; did you mean `a`?");
}

#[test]
fn idx_files_are_refused() {
    run(idx_cases::all(), 40, |path| idx::read_idx(path).map(drop));
}

#[test]
fn idx_pairs_and_folders_are_refused() {
    for (name, images, labels, says) in idx_cases::pairs() {
        let dir = tempfile::tempdir().unwrap();
        let (images_path, labels_path) = (dir.path().join("images"), dir.path().join("labels"));
        fs::write(&images_path, images).unwrap();
        fs::write(&labels_path, labels).unwrap();
        refused(name, says, || idx::load_idx(&images_path, &labels_path, 10).map(drop));
    }
    let dir = tempfile::tempdir().unwrap();
    refused("empty folder", "`train-images-idx3-ubyte[.gz]`", || idx::load_idx_folder(dir.path()).map(drop));
    for name in ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte.gz"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let missing = "has no `t10k-labels-idx1-ubyte[.gz]`";
    refused("one missing", missing, || idx::load_idx_folder(dir.path()).map(drop));
    fs::write(dir.path().join("t10k-labels-idx1-ubyte.gz"), "").unwrap();
    refused("all empty", "is empty", || idx::load_idx_folder(dir.path()).map(drop));
    refused("no folder", "cannot read", || idx::load_idx_folder(dir.path().join("absent")).map(drop));
}

#[test]
fn idx_controls_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in idx_cases::controls() {
        let path = dir.path().join("file");
        fs::write(&path, bytes).unwrap();
        let outcome = idx::read_idx(&path);
        assert!(outcome.as_ref().is_ok_and(|a| a.shape == [2, 1, 3]), "{name}: {outcome:?}");
    }
}

#[test]
fn csv_files_are_refused() {
    run(csv_cases::all(), 60, |path| csv::load_csv(path, "y").map(drop));
}

#[test]
fn csv_controls_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in csv_cases::controls() {
        let path = dir.path().join("file");
        fs::write(&path, text).unwrap();
        let outcome = csv::load_csv(&path, "y");
        assert!(
            outcome.as_ref().is_ok_and(|s| s.labels == [1, 0] && s.n_features() == 1),
            "{name}: {outcome:?}"
        );
    }
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    refused("directory as file", "is a directory", || ParamFile::open(path).map(drop));
    refused("empty directory", "has neither `model.safetensors`", || ParamStore::open(path).map(drop));
    refused("absent", "cannot read", || ParamStore::open(path.join("absent")).map(drop));
    fs::write(path.join("pytorch_model.bin"), "").unwrap();
    refused("pickle directory", "convert it", || ParamStore::open(path).map(drop));
    fs::write(path.join("adapter_model.safetensors"), "").unwrap();
    refused("adapter directory", "name that file itself", || ParamStore::open(path).map(drop));
    refused("csv directory", "is a directory", || csv::load_csv(path, "y").map(drop));
    refused("idx directory", "is a directory", || idx::read_idx(path).map(drop));
}

#[cfg(unix)]
#[test]
fn devices_pipes_and_links_are_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    for device in ["/dev/zero", "/dev/null"] {
        refused(device, "is a device", || ParamFile::open(device).map(drop));
        refused(device, "is a device", || csv::load_csv(device, "y").map(drop));
    }
    refused("write to a device", "not a file", || write_params("/dev/null", &Default::default(), &[]));
    let pipe = path.join("pipe");
    if std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|s| s.success()) {
        refused("pipe", "a pipe", || ParamFile::open(&pipe).map(drop));
        refused("pipe", "a pipe", || idx::read_idx(&pipe).map(drop));
    }
    let socket = path.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    refused("socket", "a socket", || ParamFile::open(&socket).map(drop));
    std::os::unix::fs::symlink(path.join("loop"), path.join("loop")).unwrap();
    refused("link to itself", "cannot read", || ParamFile::open(path.join("loop")).map(drop));
    std::os::unix::fs::symlink("gone", path.join("model.safetensors")).unwrap();
    refused("dangling link", "cannot read", || ParamStore::open(path).map(drop));
}

#[test]
fn a_sparse_terabyte_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse");
    let file = fs::File::create(&path).unwrap();
    if file.set_len(1 << 40).is_err() {
        eprintln!("skipped: the file system has no sparse files of 1 TiB");
        return;
    }
    refused("safetensors", "filled with zeros", || ParamFile::open(&path).map(drop));
    refused("idx", "type code", || idx::read_idx(&path).map(drop));
    refused("csv", "filled with zeros", || csv::load_csv(&path, "y").map(drop));
}

/// A small sound file with several types.
fn sound_file() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sound");
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let tensors = [
        ParamView::f32("weight", &[2, 2], &[1.0, 2.0, 3.0, 4.0]),
        ParamView::new("mask", mtl_core::params::Dtype::Bool, &[3], &[0, 1, 1]),
        ParamView::new("half", mtl_core::params::Dtype::F16, &[1], &[0, 0x3c]),
    ];
    write_params(&path, &metadata, &tensors).unwrap();
    fs::read(path).unwrap()
}

/// Whatever comes of damaged content, it is no panic.
fn survives(bytes: Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged");
    fs::write(&path, &bytes).unwrap();
    let ok = |e: &Error| matches!(e, Error::Format { .. } | Error::Unknown { .. });
    for outcome in [
        ParamFile::open(&path).and_then(|file| read_all(&file)),
        idx::read_idx(&path).map(drop),
        csv::load_csv(&path, "y").map(drop),
    ] {
        assert!(outcome.as_ref().err().is_none_or(ok), "{outcome:?}");
    }
}

#[test]
fn every_truncation_of_a_sound_file_is_refused() {
    let sound = sound_file();
    assert!(ParamFile::from_bytes(sound.clone()).is_ok());
    for len in 0..sound.len() {
        assert!(
            ParamFile::from_bytes(sound[..len].to_vec()).is_err(),
            "accepted {len} of {} bytes",
            sound.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), which in 0usize..4) {
        let mut bytes = match which {
            0 => sound_file(),
            1 => idx_cases::controls()[0].1.clone(),
            2 => idx_cases::controls()[1].1.clone(),
            _ => csv_cases::controls()[0].1.clone(),
        };
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        survives(bytes);
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survives(bytes);
    }

    #[test]
    fn noise_in_a_header_never_panics(json in r#"\{("[a-c_]{0,3}":(\{("(dtype|shape|data_offsets|x)":("F32"|"BOOL"|\[[0-9]{0,2}(,[0-9]{1,20}){0,2}\]),?){0,4}\}|"a"|1|\[\]),?){0,4}\}"#, data in 0usize..40) {
        survives(safetensors_cases::file(&json, &vec![0; data]));
    }
}

#[test]
fn the_real_data_sets_are_read() {
    let Some(root) = std::env::var_os("MTL_DATA") else {
        eprintln!("skipped: MTL_DATA names no data folder");
        return;
    };
    for name in ["mnist", "fashion-mnist"] {
        let (train, test) = idx::load_idx_folder(Path::new(&root).join(name)).unwrap();
        assert_eq!(
            (train.len(), test.len(), train.shape.as_slice()),
            (60_000, 10_000, [1, 28, 28].as_slice())
        );
        assert_eq!((train.max_label(), train.features.len()), (Some(9), 60_000 * 784));
    }
}
