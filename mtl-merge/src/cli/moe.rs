//! `mtl-merge moe`: mixtures of experts out of dense models.
use crate::cli::{print, print_json, progress, say, size, table::Table};
use crate::{
    Progress,
    tools::moe::{MoeBuilder, MoeConfig, MoeReport},
};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mtl-merge moe moe.yml mixture/
  mtl-merge moe moe.yml mixture/ --check
  mtl-merge moe upcycle.yml mixture/ --out-shard-size 2B --json

A configuration, as for mergekit-moe:
  base_model: models/base
  gate_mode: hidden        # hidden, hidden_avg, cheap_embed, random, uniform_random
  dtype: bfloat16
  experts_per_token: 2
  experts:
    - source_model: models/code
      positive_prompts: ['Write a function that', [1, 822, 9]]  # text, or token ids
      negative_prompts: ['Once upon a time']
    - source_model: models/prose
      positive_prompts: ['Once upon a time']
      residual_scale: 0.9

Text needs a build with the feature `tokenizers`; token ids never do. The modes hidden and hidden_avg run the
base model on the prompts: Llama, Mistral, Qwen2 and Qwen3.")]
pub(crate) struct MoeArgs {
    /// Configuration of the mixture, YAML.
    pub(crate) config: PathBuf,
    /// Folder of the mixture; appears complete or not at all.
    pub(crate) out: PathBuf,
    /// Bytes per output shard, with suffix k, m or b for 10^3, 10^6, 10^9; 0 for one file.
    #[arg(long, alias = "shard-size", value_name = "SIZE", default_value = "5B", value_parser = size::shard,
          allow_negative_numbers = true)]
    pub(crate) out_shard_size: u64,
    /// Keep the experts of a layer in one tensor, as transformers 5 does in memory.
    #[arg(long)]
    pub(crate) fused: bool,
    /// Accept experts that are all the same model.
    #[arg(long = "i-understand-this-is-not-useful-without-training")]
    pub(crate) allow_same: bool,
    /// Check configuration, models and prompts; write nothing.
    #[arg(long)]
    pub(crate) check: bool,
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

pub(crate) fn moe(args: &MoeArgs) -> anyhow::Result<u8> {
    let builder = MoeBuilder::new(MoeConfig::read(&args.config)?)
        .shard_bytes(args.out_shard_size)
        .fused(args.fused)
        .allow_same(args.allow_same)
        .overwrite(args.overwrite);
    let progress = Progress::default();
    let report = progress::watch("building", args.quiet, &progress, || {
        progress::on_threads(args.threads, || match args.check {
            true => builder.check(),
            false => builder.run_watched(&args.out, &progress),
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

fn text(report: &MoeReport) -> String {
    let mut table = Table::new(&["", ""]).bare();
    for (what, value) in [
        ("architecture", report.architecture.name().to_owned()),
        ("layers", report.layers.to_string()),
        ("experts", report.experts.to_string()),
        ("tensors", report.tensors.to_string()),
        ("parameters", report.parameters.to_string()),
        ("of these active", report.active_parameters.to_string()),
        ("size", size::human(report.bytes)),
        ("files", report.files.len().to_string()),
    ] {
        table.row(&[what, &value]);
    }
    table.to_string()
}
