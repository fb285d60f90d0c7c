//! `mtl-merge run`: merges.
use crate::cli::{
    args::{MergeArgs, Run},
    print_json, progress, say, size,
};
use crate::{Engine, MergeReport, Methods, Progress, Recipe, Stage, Stages};
use anyhow::Context;
use mtl_core::Seed;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

pub(crate) fn run(args: &Run, methods: &Methods) -> anyhow::Result<u8> {
    if let (Some(note), false) = (args.ignored.note(), args.quiet) {
        say(&note);
    }
    let stages = read(&args.config, &args.merge)?;
    let final_stage = stages.iter().any(|stage| stage.recipe.name.is_none()) || stages.len() == 1;
    let parts = match (&args.intermediate_dir, final_stage) {
        (Some(dir), _) => dir.clone(),
        (None, true) => suffixed(&args.out, ".parts"),
        (None, false) => args.out.clone(), // Every recipe has a name: the results lie side by side.
    };
    let mut reports = Vec::new();
    for stage in &stages {
        let out = match &stage.recipe.name {
            Some(name) if stages.len() > 1 => parts.join(name),
            _ => args.out.clone(),
        };
        if out != args.out && !args.no_lazy && out.exists() {
            if !args.quiet {
                say(&format!("`{}` is there already; `--no-lazy` merges it anew", out.display()));
            }
            continue;
        }
        if let (true, Some(parent)) = (stages.len() > 1, out.parent()) {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make `{}`", parent.display()))?;
        }
        let text = as_written(args, &stages).then(|| std::fs::read_to_string(&args.config)).transpose()?;
        reports.push(merge(args, methods, &stage.recipe_in(&parts), text, &out)?);
    }
    match reports.as_slice() {
        _ if !args.json => {}
        [report] if stages.len() == 1 => print_json(report)?,
        reports => print_json(&reports)?,
    }
    Ok(0)
}

/// Whether the text of the recipe is YAML (or JSON, which is YAML) and says all of what is merged. Otherwise, and for
/// each of several recipes, the text that goes into the output is formed anew.
fn as_written(args: &Run, stages: &[Stage]) -> bool {
    let yaml = ["yml", "yaml", "json"];
    let yaml = args.config.extension().is_some_and(|e| yaml.iter().any(|known| e == *known));
    yaml && stages.len() == 1 && args.merge.random_seed.is_none()
}

/// Merges one recipe.
fn merge(
    args: &Run,
    methods: &Methods,
    recipe: &Recipe,
    text: Option<String>,
    out: &Path,
) -> anyhow::Result<MergeReport> {
    let progress = Arc::new(Progress::default());
    let mut engine = engine(&args.merge, methods)?
        .copy_tokenizer(!args.no_copy_tokenizer)
        .model_card(!args.no_write_model_card)
        .shard_bytes(args.out_shard_size)
        .overwrite(args.overwrite || (args.no_lazy && out != args.out))
        .progress(Arc::clone(&progress));
    if let Some(text) = text {
        engine = engine.recipe_text(text);
    }
    let started = Instant::now();
    let report = progress::watch("merging", args.quiet, &progress, || engine.run(recipe, out))??;
    if !args.quiet {
        warn(&report);
        let (bytes, seconds) = (size::human(report.bytes_written), started.elapsed().as_secs_f64());
        let out = out.display();
        say(&format!("merged {} tensors, {bytes}, into `{out}` in {seconds:.1} s", report.tensors));
    }
    Ok(report)
}

fn suffixed(path: &Path, end: &str) -> PathBuf {
    // `merged/` and `merged` are the same folder.
    let mut name = path.components().as_path().as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Reads the recipes of a file as the options want them.
pub(crate) fn read(path: &Path, args: &MergeArgs) -> anyhow::Result<Vec<Stage>> {
    let mut stages = Stages::from_path(path)?.list().to_vec();
    if let Some(seed) = args.random_seed {
        stages.iter_mut().for_each(|stage| stage.recipe.seed = Seed(seed));
    }
    Ok(stages)
}

/// The only recipe of a file.
pub(crate) fn read_one(path: &Path, args: &MergeArgs) -> anyhow::Result<Recipe> {
    let mut recipe = Recipe::from_path(path)?;
    recipe.seed = args.random_seed.map_or(recipe.seed, Seed);
    Ok(recipe)
}

/// The engine as the options want it.
pub(crate) fn engine(args: &MergeArgs, methods: &Methods) -> anyhow::Result<Engine> {
    let mib = usize::try_from(args.max_memory >> 20).context("`--max-memory` exceeds this machine")?;
    Ok(Engine::default()
        .methods(methods.clone())
        .threads(args.num_threads)
        .max_memory_mib(mib)
        .allow_non_finite(args.allow_nan)
        .strict(args.strict)
        .allow_crimes(args.allow_crimes)
        .truncate_embeddings(args.unsafe_truncate_embeddings))
}

/// Tells the remarks of a merge.
pub(crate) fn warn(report: &MergeReport) {
    report.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
}
