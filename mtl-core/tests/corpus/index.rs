//! Shard indices that must be refused. The shards: `one.safetensors` with `a` = [1, 2], `two.safetensors` with `b` = [3].
use super::{Case, ParamView, write_params};
use std::{fs, path::Path};

/// Changes the directory before the index is opened.
pub(crate) type Prepare = fn(&Path);

pub(crate) fn write_shards(dir: &Path) {
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    write_params(dir.join("one.safetensors"), &metadata, &[ParamView::f32("a", &[2], &[1.0, 2.0])]).unwrap();
    write_params(dir.join("two.safetensors"), &metadata, &[ParamView::f32("b", &[1], &[3.0])]).unwrap();
}

pub(crate) fn sound() -> String {
    index(r#""a":"one.safetensors","b":"two.safetensors""#)
}

fn index(weight_map: &str) -> String {
    format!(r#"{{"metadata":{{"total_size":12}},"weight_map":{{{weight_map}}}}}"#)
}

fn sized(size: &str) -> String {
    sound().replace(":12}", &format!(":{size}}}"))
}

pub(crate) fn all() -> Vec<(Case, Option<Prepare>)> {
    let plain = [text(), maps(), shard_names()].concat();
    plain.into_iter().map(|case| (case, None)).chain(prepared()).collect()
}

fn text() -> Vec<Case> {
    let list: Vec<(&str, String, &'static str)> = vec![
        ("empty", "".into(), "EOF"),
        ("list", "[]".into(), "expected a map with `weight_map`"),
        ("null", "null".into(), "expected a map with `weight_map`"),
        ("no map", "{}".into(), "missing field `weight_map`"),
        ("metadata alone", r#"{"metadata":{"total_size":12}}"#.into(), "missing field `weight_map`"),
        ("cut", sound()[..40].into(), "EOF"),
        ("trailing text", format!("{}x", sound()), "trailing characters"),
        ("byte-order mark", format!("\u{feff}{}", sound()), "is no valid shard index"),
        ("LFS pointer", "version https://git-lfs.github.com/spec/v1\n".into(), "git lfs pull"),
        ("web page", "<!DOCTYPE html>".into(), "web page"),
        ("unknown key", r#"{"weights":{}}"#.into(), "unknown key \"weights\""),
        ("map twice", r#"{"weight_map":{},"weight_map":{}}"#.into(), "`weight_map` is there twice"),
        ("metadata twice", r#"{"metadata":{},"metadata":{}}"#.into(), "`metadata` is there twice"),
        ("metadata is a list", sound().replace(r#"{"total_size":12}"#, "[]"), "expected a map"),
        ("total_size is a string", sized("\"12\""), "`metadata.total_size` must be a number of bytes"),
        ("total_size is negative", sized("-12"), "but is -12"),
        ("total_size is a fraction", sized("12.5"), "but is 12.5"),
        ("total_size is null", sized("null"), "but is null"),
        ("total_size is 1e400", sized("1e400"), "is no valid shard index"),
        ("total_size is 1e300", sized("1e300"), "`metadata.total_size` must be"),
        ("total_size too large", sized("13"), "is 13, but the shards hold 12 bytes"),
        ("total_size too small", sized("0"), "is 0, but the shards hold 12 bytes"),
        ("nested", format!(r#"{{"metadata":{{"a":{}"#, "[".repeat(100_000)), "recursion limit"),
    ];
    list.into_iter().map(|(name, text, says)| Case::new(format!("index: {name}"), text, says)).collect()
}

fn maps() -> Vec<Case> {
    let list: Vec<(&str, String, &'static str)> = vec![
        ("empty", index(""), "`weight_map` is empty"),
        ("list", r#"{"weight_map":[]}"#.into(), "a map of strings"),
        ("null", r#"{"weight_map":null}"#.into(), "a map of strings"),
        ("number", index(r#""a":1"#), "expected a string"),
        ("list of shards", index(r#""a":["one.safetensors"]"#), "expected a string"),
        (
            "tensor twice",
            index(r#""a":"one.safetensors","a":"two.safetensors""#),
            "tensor \"a\" is there twice",
        ),
        (
            "tensor of no shard",
            index(r#""a":"one.safetensors","b":"two.safetensors","c":"two.safetensors""#),
            "`c` is not in shard `two.safetensors`",
        ),
        (
            "tensor of another shard",
            index(r#""a":"two.safetensors","b":"one.safetensors""#),
            "but the index puts it in",
        ),
        (
            "tensor not in the index",
            index(r#""b":"two.safetensors","x":"one.safetensors""#),
            "`a` of shard `one.safetensors` is not in the index",
        ),
        ("nameless tensor", index(r#""":"one.safetensors""#), "is empty"),
        ("tensor with `..`", index(r#""../a":"one.safetensors""#), "`..` segment"),
        ("tensor with NUL", index(r#""\u0000":"one.safetensors""#), "control characters"),
        ("long tensor", index(&format!(r#""{}":"one.safetensors""#, "a".repeat(600))), "longer than 512"),
    ];
    list.into_iter().map(|(name, text, says)| Case::new(format!("weight_map: {name}"), text, says)).collect()
}

fn shard_names() -> Vec<Case> {
    let long = format!("{}.safetensors", "a".repeat(300));
    let list: [(&str, &'static str); 20] = [
        ("", "has no name"),
        ("../one.safetensors", "plain file name"),
        ("../../etc/passwd", "plain file name"),
        ("/etc/passwd", "plain file name"),
        ("/one.safetensors", "plain file name"),
        ("sub/one.safetensors", "plain file name"),
        ("./one.safetensors", "plain file name"),
        (r"..\\one.safetensors", "plain file name"),
        (r"sub\\one.safetensors", "plain file name"),
        (r"C:\\one.safetensors", "plain file name"),
        ("C:one.safetensors", "plain file name"),
        ("..", "plain file name"),
        (".", "is not a `.safetensors` file"),
        (r"one\u0000.safetensors", "control characters"),
        (r"one\n.safetensors", "control characters"),
        ("model.safetensors.index.json", "is not a `.safetensors` file"),
        ("pytorch_model.bin", "is a PyTorch pickle"),
        ("one", "is not a `.safetensors` file"),
        ("gone.safetensors", "shard `gone.safetensors` is missing"),
        (&long, "more than 255 bytes"),
    ];
    list.into_iter()
        .map(|(shard, says)| Case::new(format!("shard {shard}"), index(&format!(r#""a":"{shard}""#)), says))
        .collect()
}

fn prepared() -> Vec<(Case, Option<Prepare>)> {
    let mut list: Vec<(&str, &'static str, Prepare)> = vec![
        ("shard removed", "shard `two.safetensors` is missing", |dir| {
            fs::remove_file(dir.join("two.safetensors")).unwrap();
        }),
        ("shard cut", "is truncated", |dir| {
            let bytes = fs::read(dir.join("two.safetensors")).unwrap();
            fs::write(dir.join("two.safetensors"), &bytes[..bytes.len() - 2]).unwrap();
        }),
        ("shard is a pointer", "git lfs pull", |dir| {
            fs::write(dir.join("two.safetensors"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
        }),
        ("shard is a directory", "is a directory", |dir| {
            fs::remove_file(dir.join("two.safetensors")).unwrap();
            fs::create_dir(dir.join("two.safetensors")).unwrap();
        }),
        ("tensor in two shards", "but the index puts it in `one.safetensors`", |dir| {
            let tensors = [ParamView::f32("a", &[1], &[1.0]), ParamView::f32("b", &[1], &[3.0])];
            write_params(dir.join("two.safetensors"), &Default::default(), &tensors).unwrap();
        }),
        ("shard of another version", "`metadata.total_size` is 12", |dir| {
            let tensors = [ParamView::f32("b", &[2], &[3.0, 4.0])];
            write_params(dir.join("two.safetensors"), &Default::default(), &tensors).unwrap();
        }),
    ];
    #[cfg(unix)]
    list.push(("shard links out", "outside of the checkpoint", |dir| {
        let elsewhere = tempfile::Builder::new().suffix(".safetensors").tempfile().unwrap();
        fs::copy(dir.join("two.safetensors"), elsewhere.path()).unwrap();
        fs::remove_file(dir.join("two.safetensors")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.join("two.safetensors")).unwrap();
        elsewhere.keep().unwrap();
    }));
    list.into_iter().map(|(name, says, prepare)| (Case::new(name, sound(), says), Some(prepare))).collect()
}
