//! Whatever the bytes: the readers of parameter files, shard indices, recipes and adapters answer with a value or a
//! typed error, without panic, hang or large allocation.
//!
//! From `mtl-merge`: `cargo +nightly fuzz run readers -- -max_total_time=300 -rss_limit_mb=1024 -timeout=5`
#![no_main]
use libfuzzer_sys::fuzz_target;
use mtl_core::params::{ParamFile, ParamStore, ParamView, write_params};
use mtl_merge::{Engine, Methods, Recipe};
use std::{fs, path::PathBuf, sync::OnceLock};

/// A folder with a sound shard, base and adapter, made once.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder").keep();
        let write = |name: &str, tensors: &[ParamView<'_>]| {
            write_params(dir.join(name), &Default::default(), tensors).expect("a small file");
        };
        write("shard.safetensors", &[ParamView::f32("w", &[2, 2], &[1.0; 4])]);
        write("base.safetensors", &[ParamView::f32("m.weight", &[2, 2], &[1.0; 4])]);
        write("adapter_model.safetensors", &[
            ParamView::f32("base_model.model.m.lora_A.weight", &[1, 2], &[1.0; 2]),
            ParamView::f32("base_model.model.m.lora_B.weight", &[2, 1], &[1.0; 2]),
        ]);
        dir
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    match kind % 4 {
        0 => {
            if let Ok(file) = ParamFile::from_bytes(bytes.to_vec()) {
                for name in file.names() {
                    let _ = file.f32s(name);
                }
            }
        }
        1 => {
            let path = folder().join("model.safetensors.index.json");
            if fs::write(&path, bytes).is_ok() {
                let _ = ParamStore::open(&path);
            }
        }
        2 => {
            if let Ok(text) = std::str::from_utf8(bytes)
                && let Ok(recipe) = Recipe::from_yaml(text)
            {
                let _ = recipe.validate(&Methods::default());
            }
        }
        _ => {
            let dir = folder();
            if fs::write(dir.join("adapter_config.json"), bytes).is_ok() {
                let model = format!("{}+{}", dir.join("base.safetensors").display(), dir.display());
                let _ = Engine::default().check(&Recipe::new("linear").model(model, 1.0));
            }
        }
    }
});
