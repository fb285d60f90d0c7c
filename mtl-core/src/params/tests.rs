//! Files written and read back, by this crate and by `safetensors`.
use super::*;
use proptest::prelude::*;
use safetensors::{SafeTensors, tensor::TensorView};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

fn at(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    (dir, path)
}

fn theirs(dtype: Dtype) -> safetensors::Dtype {
    use safetensors::Dtype as T;
    match dtype {
        Dtype::Bool => T::BOOL,
        Dtype::U8 => T::U8,
        Dtype::I8 => T::I8,
        Dtype::F8E4M3 => T::F8_E4M3,
        Dtype::F8E5M2 => T::F8_E5M2,
        Dtype::I16 => T::I16,
        Dtype::U16 => T::U16,
        Dtype::F16 => T::F16,
        Dtype::Bf16 => T::BF16,
        Dtype::I32 => T::I32,
        Dtype::U32 => T::U32,
        Dtype::F32 => T::F32,
        Dtype::I64 => T::I64,
        Dtype::U64 => T::U64,
        Dtype::F64 => T::F64,
    }
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn tensors() -> impl Strategy<Value = Tensors> {
    let name = r#"[a-z"\\ü.0-9]{1,8}"#.prop_filter("a segment", |name: &String| name != "..");
    let spec = (0..Dtype::ALL.len(), prop::collection::vec(0usize..4, 0..4), any::<u8>());
    let tensor = spec.prop_map(|(which, shape, fill)| {
        let dtype = Dtype::ALL[which];
        let nbytes = shape.iter().product::<usize>() * dtype.size();
        let bytes =
            (0..nbytes).map(|i| if dtype == Dtype::Bool { fill % 2 } else { fill.wrapping_add(i as u8) });
        (dtype, shape, bytes.collect())
    });
    prop::collection::btree_map(name, tensor, 0..12)
        .prop_filter("no path segments", |all| all.keys().all(|n| !n.split('\\').any(|part| part == "..")))
}

fn metadata() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(".{0,6}", ".{0,6}", 0..3)
}

fn views(all: &Tensors) -> Vec<ParamView<'_>> {
    all.iter().map(|(name, (dtype, shape, bytes))| ParamView::new(name, *dtype, shape, bytes)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn files_of_ours_are_read_by_safetensors_and_aligned(all in tensors(), metadata in metadata()) {
        let (_dir, path) = at("model.safetensors");
        write_params(&path, &metadata, &views(&all)).unwrap();
        let bytes = fs::read(&path).unwrap();
        let (length, header) = SafeTensors::read_metadata(&bytes).unwrap();
        prop_assert_eq!(length % 8, 0);
        let stored = header.metadata().clone().unwrap_or_default();
        prop_assert_eq!(stored.into_iter().collect::<BTreeMap<_, _>>(), metadata);
        let read = SafeTensors::deserialize(&bytes).unwrap();
        prop_assert_eq!(read.len(), all.len());
        let file = ParamFile::open(&path).unwrap();
        for (name, (dtype, shape, content)) in &all {
            let tensor = read.tensor(name).unwrap();
            prop_assert_eq!((tensor.dtype(), tensor.shape(), tensor.data()), (theirs(*dtype), &shape[..], &content[..]));
            prop_assert_eq!(file.bytes(name).unwrap(), &content[..]);
            prop_assert_eq!(file.info(name).unwrap().offsets.start % dtype.size(), 0);
        }
    }

    #[test]
    fn files_of_safetensors_are_read_here(all in tensors(), metadata in metadata()) {
        let views: Vec<(String, TensorView<'_>)> = all
            .iter()
            .map(|(name, (dtype, shape, bytes))| {
                (name.clone(), TensorView::new(theirs(*dtype), shape.clone(), bytes).unwrap())
            })
            .collect();
        // With neither tensors nor entries, `Some` of an empty map makes safetensors 0.8.0 write invalid JSON.
        let theirs = (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect::<HashMap<_, _>>());
        let file = ParamFile::from_bytes(safetensors::serialize(views, theirs).unwrap()).unwrap();
        prop_assert_eq!(file.metadata(), &metadata);
        prop_assert_eq!(file.names().collect::<Vec<_>>(), all.keys().collect::<Vec<_>>());
        for (name, (dtype, shape, content)) in &all {
            let info = file.info(name).unwrap();
            prop_assert_eq!((info.dtype, &info.shape, file.bytes(name).unwrap()), (*dtype, shape, &content[..]));
        }
    }

    #[test]
    fn equal_content_gives_equal_bytes(all in tensors(), metadata in metadata()) {
        let (_dir, path) = at("model.safetensors");
        let mut order = views(&all);
        write_params(&path, &metadata, &order).unwrap();
        let first = fs::read(&path).unwrap();
        order.reverse();
        write_params(&path, &metadata, &order).unwrap();
        prop_assert_eq!(first, fs::read(&path).unwrap());
    }
}

#[test]
fn aligned_f32_is_borrowed_and_everything_else_converted() {
    let (_dir, path) = at("model.safetensors");
    let mut plan: Vec<_> =
        Dtype::ALL.iter().filter(|d| d.is_float()).map(|d| ParamSpec::new(d.name(), *d, [3])).collect();
    plan.push(ParamSpec::new("count", Dtype::I64, [1]));
    file_order(&mut plan);
    let mut writer = ParamWriter::create(&path, &plan, &BTreeMap::new()).unwrap();
    while let Some(spec) = writer.expected().cloned() {
        match spec.dtype {
            Dtype::I64 => writer.write(&spec.name, &7i64.to_le_bytes()).unwrap(),
            _ => writer.write_f32s(&spec.name, &[1.0, -0.5, 240.0]).unwrap(),
        }
    }
    writer.finish().unwrap();
    let file = ParamFile::open(&path).unwrap();
    for (name, info) in file.iter().filter(|(_, info)| info.dtype.is_float()) {
        let values = file.f32s(name).unwrap();
        let last = if info.dtype == Dtype::F8E5M2 { 256.0 } else { 240.0 };
        assert_eq!(*values, [1.0, -0.5, last], "{name}");
        assert_eq!(matches!(values, std::borrow::Cow::Borrowed(_)), info.dtype == Dtype::F32, "{name}");
    }
    let err = file.f32s("count").unwrap_err().to_string();
    assert!(err.ends_with("tensor `count` is I64; expected a floating-point type"), "{err}");
    assert_eq!(
        file.bytes("cuont").unwrap_err().to_string(),
        "unknown parameter `cuont`; did you mean `count`?"
    );
}

#[test]
fn misaligned_f32_is_copied() {
    let json = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} "#;
    assert_ne!(json.len() % 4, 0);
    let bytes = [&(json.len() as u64).to_le_bytes(), json.as_bytes(), &1.5f32.to_le_bytes()].concat();
    assert_eq!(*ParamFile::from_bytes(bytes).unwrap().f32s("a").unwrap(), [1.5]);
}

#[test]
fn an_open_file_keeps_its_content_when_a_new_one_takes_its_name() {
    let (_dir, path) = at("model.safetensors");
    write_params(&path, &BTreeMap::new(), &[ParamView::f32("a", &[1], &[1.0])]).unwrap();
    let old = ParamFile::open(&path).unwrap();
    write_params(&path, &BTreeMap::new(), &[ParamView::f32("a", &[1], &[2.0])]).unwrap();
    assert_eq!(*old.f32s("a").unwrap(), [1.0]);
    assert_eq!(*ParamFile::open(&path).unwrap().f32s("a").unwrap(), [2.0]);
}

fn spec(name: &str, dtype: Dtype, shape: &[usize]) -> ParamSpec {
    ParamSpec::new(name, dtype, shape)
}

#[test]
fn a_writer_that_is_not_finished_leaves_the_old_file() {
    let (dir, path) = at("model.safetensors");
    fs::write(&path, "old").unwrap();
    let plan = [spec("a", Dtype::F32, &[1]), spec("b", Dtype::F32, &[1])];
    let mut writer = ParamWriter::create(&path, &plan, &BTreeMap::new()).unwrap();
    writer.write_f32s("a", &[1.0]).unwrap();
    assert_eq!(
        writer.finish().unwrap_err().to_string(),
        "`plan` must be complete; `b` comes next, but is written up to tensor 1"
    );
    drop(ParamWriter::create(&path, &plan, &BTreeMap::new()).unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_writer_takes_only_what_was_planned() {
    let (_dir, path) = at("model.safetensors");
    let plan = [spec("a", Dtype::F32, &[2]), spec("n", Dtype::U8, &[1])];
    let mut writer = ParamWriter::create(&path, &plan, &BTreeMap::new()).unwrap();
    let wrong = writer.write("n", &[0]).unwrap_err();
    assert_eq!(wrong.to_string(), "`name` must be `a`, the next in the plan, but is n");
    let short = writer.write_f32s("a", &[1.0]).unwrap_err();
    assert_eq!(short.to_string(), "`a` must be 8 bytes long for F32 of shape [2], but is 4");
    writer.write_f32s("a", &[1.0, 2.0]).unwrap();
    assert!(writer.write_f32s("n", &[1.0]).unwrap_err().to_string().contains("a floating-point type"));
    writer.write("n", &[9]).unwrap();
    assert!(writer.write("n", &[9]).is_err());
    writer.finish().unwrap();
    assert_eq!(ParamFile::open(&path).unwrap().bytes("n").unwrap(), [9]);
}

#[test]
fn unusable_plans_are_refused_before_anything_is_written() {
    let (dir, path) = at("model.safetensors");
    let long = "x".repeat(513);
    let many: Vec<_> = (0..40_000).map(|i| spec(&format!("{i:0>400}"), Dtype::U8, &[0])).collect();
    let plans: [(&[ParamSpec], &str); 8] = [
        (&[spec("", Dtype::U8, &[1])], "is empty"),
        (&[spec("../a", Dtype::U8, &[1])], "`..` segment"),
        (&[spec("a\n", Dtype::U8, &[1])], "control characters"),
        (&[spec(&long, Dtype::U8, &[1])], "longer than 512 bytes"),
        (&[spec("__metadata__", Dtype::U8, &[1])], "`name` must be different"),
        (&[spec("a", Dtype::U8, &[1]), spec("a", Dtype::U8, &[1])], "`name` must be different"),
        (&[spec("a", Dtype::U8, &[1]), spec("b", Dtype::F32, &[1])], "`file_order` sorts it so"),
        (&[spec("a", Dtype::U8, &[usize::MAX, 2])], "at most 2^63 - 1 bytes"),
    ];
    for (plan, says) in plans.into_iter().chain([(&many[..], "split the tensors")]) {
        let err = ParamWriter::create(&path, plan, &BTreeMap::new()).unwrap_err().to_string();
        assert!(err.contains(says), "{err}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let absent = dir.path().join("absent").join("model.safetensors");
    let err = write_params(&absent, &BTreeMap::new(), &[]).unwrap_err();
    assert!(err.to_string().starts_with("cannot write"), "{err}");
    assert!(write_params(dir.path(), &BTreeMap::new(), &[]).is_err());
}

#[cfg(unix)]
#[test]
fn shards_linked_as_in_the_cache_of_hugging_face_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = dir.path().join("models--a--b/snapshots/0123");
    let blobs = dir.path().join("models--a--b/blobs");
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(&blobs).unwrap();
    write_params(blobs.join("77"), &BTreeMap::new(), &[ParamView::f32("a", &[1], &[1.0])]).unwrap();
    let link =
        |name: &str| std::os::unix::fs::symlink(Path::new("../../blobs/77"), snapshot.join(name)).unwrap();
    link("s.safetensors");
    fs::write(snapshot.join("model.safetensors.index.json"), r#"{"weight_map":{"a":"s.safetensors"}}"#)
        .unwrap();
    assert_eq!(*ParamStore::open(&snapshot).unwrap().f32s("a").unwrap(), [1.0]);
    link("model.safetensors");
    assert_eq!(ParamStore::open(&snapshot).unwrap().len(), 1);
}
