//! What the tests of whole merges share.
#![allow(dead_code, unreachable_pub)] // Not every test program uses everything.
use mtl_core::params::{ParamFile, ParamView, write_params};
use mtl_merge::{Engine, Kernel, MergeMethod, MethodSpec, Methods, Recipe, Resolved, Result, Tensor};
use std::{collections::BTreeMap, fs, path::Path};

/// A folder of small checkpoints, and the text of errors without its path.
pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }

    pub fn write(&self, name: &str, tensors: &[ParamView<'_>]) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        write_params(path, &Default::default(), tensors).unwrap();
        self
    }

    pub fn vector(&self, name: &str, values: &[f32]) -> &Self {
        self.write(name, &[ParamView::f32("w", &[values.len()], values)])
    }

    /// A folder with `tensors` vectors of `n` elements that differ from model to model.
    pub fn model(&self, name: &str, tensors: usize, n: usize, config: &str) -> &Self {
        let seed = name.bytes().map(usize::from).sum::<usize>();
        let names: Vec<String> = (0..tensors).map(|i| format!("model.layers.{i}.w")).collect();
        let values: Vec<f32> =
            (0..n).map(|i| ((i * 7919 + seed * 31) % 1013) as f32 / 1013.0 - 0.5).collect();
        let shape = [n];
        let views: Vec<_> = names.iter().map(|name| ParamView::f32(name, &shape, &values)).collect();
        self.write(&format!("{name}/model.safetensors"), &views);
        self.text(&format!("{name}/config.json"), config)
    }

    pub fn text(&self, name: &str, text: &str) -> &Self {
        fs::write(self.path(name), text).unwrap();
        self
    }

    /// Equal weights for the models called `names`.
    pub fn linear(&self, names: &[&str]) -> Recipe {
        names.iter().fold(Recipe::new("linear"), |r, name| r.model(self.path(name), 1.0))
    }

    /// Runs the recipe into a file and into a folder, expects the same error and that neither came to be.
    pub fn refusal(&self, recipe: &Recipe) -> String {
        self.refusal_of(&Engine::default(), recipe)
    }

    pub fn refusal_of(&self, engine: &Engine, recipe: &Recipe) -> String {
        let before = self.names("");
        let error = |out: &str| engine.run(recipe, self.path(out).as_ref()).unwrap_err().to_string();
        let found = error("out");
        assert_eq!(found, error("out.safetensors"));
        assert_eq!(self.names(""), before, "nothing is left behind");
        self.local(&found)
    }

    /// A text without the path of this folder.
    pub fn local(&self, text: &str) -> String {
        let real = self.0.path().canonicalize().unwrap();
        text.replace(&format!("{}/", self.0.path().display()), "")
            .replace(&format!("{}/", real.display()), "")
    }

    pub fn run(&self, recipe: &Recipe) -> ParamFile {
        recipe.run(self.path("out.safetensors").as_ref()).unwrap();
        ParamFile::open(self.path("out.safetensors")).unwrap()
    }

    /// Names in a folder of this folder, sorted.
    pub fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.path().join(name)).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Name and content of every file in a folder of this folder.
    pub fn content(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let read = |file: String| (file.clone(), fs::read(self.0.path().join(name).join(&file)).unwrap());
        self.names(name).into_iter().map(read).collect()
    }
}

/// How long each tensor takes at least, for processes that are to be killed half way.
pub const SLOW_MS: &str = "MTL_MERGE_TEST_SLOW_MS";

/// Keeps or drops each element at random, so that a wrong stream shows.
#[derive(Debug)]
pub struct Dropout;

static DROPOUT: MethodSpec = MethodSpec::new("dropout", "none", "none");

impl MergeMethod for Dropout {
    fn spec(&self) -> &'static MethodSpec {
        &DROPOUT
    }

    fn prepare<'t>(&self, tensor: &'t Tensor<'_>, _params: &'t Resolved) -> Result<Kernel<'t>> {
        if let Some(ms) = std::env::var(SLOW_MS).ok().and_then(|ms| ms.parse().ok()) {
            std::thread::sleep(std::time::Duration::from_millis(ms));
        }
        let streams: Vec<_> = (0..tensor.n_models()).map(|m| tensor.uniform("mask", m)).collect();
        Ok(Box::new(move |piece, out| {
            let mut words = vec![0; out.len()];
            for (values, stream) in piece.models.iter().zip(&streams) {
                stream.words(piece.start, &mut words);
                for ((out, x), word) in out.iter_mut().zip(*values).zip(&words) {
                    *out += if *word < 1 << 31 { *x } else { 0.0 };
                }
            }
        }))
    }
}

/// An engine that knows [`Dropout`].
pub fn engine() -> Engine {
    Engine::default().methods(Methods::default().with(&Dropout))
}
