//! `mtl-merge extract-lora`: adapters out of fine-tuned models.
use crate::cli::{print, print_json, progress, say, size, table::Table};
use crate::{
    FloatType, Progress,
    tools::extract_lora::{ExtractLora, ExtractReport},
};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mtl-merge extract-lora --model tuned/ --base-model base/ --out-path adapter/ --max-rank 64
  mtl-merge extract-lora --model tuned/ --base-model base/ --out-path adapter/ --energy 0.95 --json
  mtl-merge extract-lora --model tuned/ --base-model base/ --out-path adapter/ \\
      -i self_attn -e 'layers\\.(0|1)\\.' --skip-undecomposable

PEFT reads the adapter, and so does every command here as base/+adapter/.")]
pub(crate) struct ExtractLoraArgs {
    /// Fine-tuned model.
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: String,
    /// Model that it was fine-tuned from.
    #[arg(long, value_name = "MODEL")]
    pub(crate) base_model: String,
    /// Folder of the adapter; appears complete or not at all.
    #[arg(long, value_name = "DIR")]
    pub(crate) out_path: PathBuf,
    /// Largest rank of a module.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(crate) max_rank: usize,
    /// Share of the squared norm of each difference to keep: the smallest rank up to `--max-rank` that does.
    #[arg(long, value_name = "SHARE")]
    pub(crate) energy: Option<f64>,
    /// Drop singular values up to this.
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub(crate) sv_epsilon: f64,
    /// Put the whole scale into A and leave B orthonormal.
    #[arg(long, overrides_with = "distribute_scale")]
    pub(crate) no_distribute_scale: bool,
    /// Share the scale between A and B [default].
    #[arg(long, hide_short_help = true)]
    pub(crate) distribute_scale: bool,
    /// Factor embeddings and the output head as well, instead of saving them whole.
    #[arg(long, overrides_with = "no_embed_lora")]
    pub(crate) embed_lora: bool,
    #[arg(long, hide = true)]
    pub(crate) no_embed_lora: bool,
    /// Module to save whole, by full name or its last part; repeat for several.
    #[arg(long = "save-module", value_name = "NAME")]
    pub(crate) save_modules: Vec<String>,
    /// Only modules in whose name this is found; repeat for several.
    #[arg(long, short = 'i', value_name = "REGEX")]
    pub(crate) include_regex: Vec<String>,
    /// No modules in whose name this is found; repeat for several.
    #[arg(long, short = 'e', value_name = "REGEX")]
    pub(crate) exclude_regex: Vec<String>,
    /// Leave out norms and whatever else is no matrix, instead of saving them whole.
    #[arg(long)]
    pub(crate) skip_undecomposable: bool,
    /// Element type of the factors: float32, bfloat16, float16 or float64.
    #[arg(long, value_name = "TYPE", default_value = "float32", value_parser = float_type)]
    pub(crate) dtype: FloatType,
    /// Replace a folder that has content already.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads; 0 for one per core.
    #[arg(long, short = 'j', alias = "num-threads", value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    /// Show no progress and no remarks.
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// The name of a floating-point type, as recipes spell it.
fn float_type(name: &str) -> Result<FloatType, String> {
    let parsed = serde_json::from_value(name.into());
    parsed.map_err(|_| format!("`{name}` must be float32, bfloat16, float16 or float64"))
}

pub(crate) fn extract_lora(args: &ExtractLoraArgs) -> anyhow::Result<u8> {
    let mut options = ExtractLora::default()
        .max_rank(args.max_rank)
        .sv_epsilon(args.sv_epsilon)
        .distribute_scale(!args.no_distribute_scale)
        .embed_lora(args.embed_lora)
        .skip_undecomposable(args.skip_undecomposable)
        .dtype(args.dtype)
        .overwrite(args.overwrite);
    options.energy = args.energy;
    options.save_modules.clone_from(&args.save_modules);
    options.include.clone_from(&args.include_regex);
    options.exclude.clone_from(&args.exclude_regex);
    let progress = Progress::default();
    let report = progress::watch("extracting", args.quiet, &progress, || {
        progress::on_threads(args.threads, || {
            options.run_watched(&args.base_model, &args.model, &args.out_path, &progress)
        })
    })???;
    if !args.quiet {
        report.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    }
    if args.json {
        print_json(&report)?;
    } else if !args.quiet {
        print(&text(&report))?;
    }
    Ok(0)
}

fn text(report: &ExtractReport) -> String {
    let mut table = Table::new(&["module", "rows", "columns", "rank", "energy"]);
    for m in &report.modules {
        let [rows, columns] = m.shape.map(|n| n.to_string());
        table.row(&[m.module.clone(), rows, columns, m.rank.to_string(), format!("{:.4}", m.energy)]);
    }
    format!(
        "{table}{} modules of rank up to {} with {:.4} of the squared norm; {} tensors whole, {} modules unchanged, {} left \
         out; {} parameters, {}\n",
        report.modules.len(),
        report.r,
        report.energy,
        report.saved.len(),
        report.unchanged.len(),
        report.skipped.len(),
        report.parameters,
        size::human(report.bytes),
    )
}
