//! `mtl-merge run`: merges.
use crate::{
    args::{MergeArgs, Run},
    print_json, progress, say, size,
};
use anyhow::Context;
use mtl_core::Seed;
use mtl_merge::{Engine, MergeReport, Progress, Recipe};
use std::{path::Path, sync::Arc};

pub(crate) fn run(args: &Run) -> anyhow::Result<u8> {
    if let (Some(note), false) = (args.ignored.note(), args.quiet) {
        say(&note);
    }
    let recipe = read(&args.config, &args.merge)?;
    tracing::debug!(
        model_card = !args.no_write_model_card,
        tokenizer = !args.no_copy_tokenizer,
        mixed_architectures = args.merge.allow_crimes,
        strict = args.merge.strict,
        "options"
    );
    let progress = Arc::new(Progress::default());
    let engine = engine(&args.merge)?
        .shard_bytes(args.out_shard_size)
        .overwrite(args.overwrite)
        .progress(Arc::clone(&progress));
    let started = std::time::Instant::now();
    let report = progress::watch("merging", args.quiet, &progress, || engine.run(&recipe, &args.out))??;
    if !args.quiet {
        warn(&report);
        say(&format!(
            "merged {} tensors, {}, into `{}` in {:.1} s",
            report.tensors,
            size::human(report.bytes_written),
            args.out.display(),
            started.elapsed().as_secs_f64()
        ));
    }
    if args.json {
        print_json(&report)?;
    }
    Ok(0)
}

/// Reads a recipe as the options want it.
pub(crate) fn read(path: &Path, args: &MergeArgs) -> anyhow::Result<Recipe> {
    let text = std::fs::read_to_string(path).map_err(|e| mtl_core::Error::io("read", path, e))?;
    let mut recipe: Recipe =
        serde_json::from_str(&text).with_context(|| format!("`{}` is no recipe", path.display()))?;
    if let Some(seed) = args.random_seed {
        recipe.seed = Seed(seed);
    }
    Ok(recipe)
}

/// The engine as the options want it.
pub(crate) fn engine(args: &MergeArgs) -> anyhow::Result<Engine> {
    let mib = usize::try_from(args.max_memory >> 20).context("`--max-memory` exceeds this machine")?;
    Ok(Engine::default()
        .threads(args.num_threads)
        .max_memory_mib(mib)
        .allow_non_finite(args.allow_nan)
        .truncate_embeddings(args.unsafe_truncate_embeddings))
}

/// Tells the remarks of a merge.
pub(crate) fn warn(report: &MergeReport) {
    report.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
}
