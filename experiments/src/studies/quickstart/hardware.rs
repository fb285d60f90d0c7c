//! The trained mixture of experts on a ZCU104: latency and energy under three schedules, from its own routing.
use super::{joint, setup};
use crate::runner::{Cell, CellContext};
use anyhow::Context as _;
use mtl_core::{Context, Encoder, Record, StateDict, TaskSpec};
use mtl_hw::{
    cost::{Analytical, CostModel, MoeSchedule},
    graph::{MoeBlocks, MoeSpec, VitHead, VitSpec},
    presets,
    routing::{Routing, RoutingTrace, TraceHeader, TraceLayer, TraceRecord},
};
use mtl_moe::M3VitConfig;
use serde::Deserialize;

/// Keys of a hardware cell.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    train_examples: usize,
    test_examples: usize,
    #[serde(rename = "batch")]
    _batch: usize,
    #[serde(rename = "checkpoint_every")]
    _checkpoint_every: u64,
    /// Test images that are traced.
    images: usize,
}

impl Keys {
    pub(super) fn of(cell: &Cell) -> anyhow::Result<Self> {
        let keys: Self = cell.config()?;
        setup::at_least_one("images", keys.images)?;
        Ok(keys)
    }
}

/// Schedules of the mixtures, and the dense network of equal cost for comparison.
const DESIGNS: [(&str, Option<MoeSchedule>); 4] = [
    ("dense ViT", None),
    ("all experts resident", Some(MoeSchedule::AllResident)),
    ("token by token, cache of 2", Some(MoeSchedule::TokenByToken { cache_experts: 2 })),
    ("expert by expert", None),
];

/// Traces the trained model on test images and costs every image under every schedule.
pub(super) fn run(cell: &Cell, ctx: &mut CellContext) -> anyhow::Result<()> {
    let keys = Keys::of(cell)?;
    let data = setup::load(ctx.data_dir(), keys.train_examples, keys.test_examples)?;
    let params = StateDict::load(ctx.need("moe")?.join(joint::PARAMS))?;
    let suite = setup::joint_suite(&data.test, data.train.normalize())?;
    let vit = setup::vit(&data.train)?;
    let moe = setup::moe_config(suite.tasks().len());
    let spec = vit_spec(&vit, &moe, suite.tasks())?;
    let trace = trace(&params, &vit, &moe, &suite, keys.images.min(suite.len()), spec.tokens()?)?;
    for (design, schedule) in DESIGNS {
        let dense = design == "dense ViT";
        let graph = if dense { VitSpec { moe: None, ..spec.clone() } } else { spec.clone() }.graph()?;
        let schedule = schedule.unwrap_or_else(MoeSchedule::reordered);
        let accelerator = presets::zcu104_m3vit()?.with_schedule(schedule);
        for (task, name) in suite.tasks().iter().map(|spec| &spec.name).enumerate() {
            let task = task as u32;
            let graph = graph.for_task(task);
            let (mut latency_us, mut energy_uj, mut images) = (0.0, 0.0, 0.0);
            for image in trace.images(task) {
                let routing = Routing::Trace { trace: &trace, image, task };
                let report = Analytical.model(&graph, &accelerator, routing).context(design)?;
                latency_us += 1e3 * report.latency_ms();
                energy_uj += 1e3 * report.energy_mj();
                images += 1.0;
            }
            for (metric, sum) in [("latency_us", latency_us), ("energy_uj", energy_uj)] {
                let record = Record::new(metric, sum / images).method(design).setting("hardware").task(name);
                ctx.record(record)?;
            }
        }
    }
    Ok(())
}

/// The trained architecture in the words of the cost model.
fn vit_spec(
    vit: &mtl_core::models::VitConfig,
    moe: &M3VitConfig,
    tasks: &[TaskSpec],
) -> anyhow::Result<VitSpec> {
    let narrow = |value: i64| u32::try_from(value).context("a size of the model is negative or too large");
    let side = narrow(vit.image_size)?;
    let head =
        |(task, spec): (usize, &TaskSpec)| Ok(VitHead::task(u32::try_from(task)?, narrow(spec.outputs())?));
    Ok(VitSpec {
        name: "quickstart".to_owned(),
        image: [side, side],
        patch: narrow(vit.patch_size)?,
        channels: narrow(vit.num_channels)?,
        dim: narrow(vit.hidden_size)?,
        depth: narrow(vit.num_hidden_layers)?,
        heads: narrow(vit.num_attention_heads)?,
        mlp_hidden: narrow(vit.intermediate_size)?,
        moe: Some(MoeSpec {
            experts: narrow(moe.experts)?,
            top_k: narrow(moe.top_k)?,
            hidden: narrow(moe.expert_hidden.unwrap_or(vit.hidden_size))?,
            gates: u32::try_from(tasks.len())?,
            blocks: MoeBlocks::Odd,
        }),
        heads_out: tasks.iter().enumerate().map(head).collect::<anyhow::Result<_>>()?,
        ..VitSpec::default()
    })
}

/// Which experts the first `images` test images chose, for every task and mixture.
fn trace(
    params: &StateDict,
    vit: &mtl_core::models::VitConfig,
    moe: &M3VitConfig,
    suite: &mtl_core::data::TensorDataset,
    images: usize,
    tokens: u64,
) -> anyhow::Result<RoutingTrace> {
    let encoder = moe.build(vit.clone())?;
    let layers: Vec<usize> = M3VitConfig::moe_layers(vit.num_hidden_layers as usize).collect();
    let describe = |&layer: &usize| TraceLayer {
        id: format!("blk.{layer}"),
        experts: moe.experts as u64,
        top_k: moe.top_k as u64,
        d_model: vit.hidden_size as u64,
        d_hidden: moe.expert_hidden.unwrap_or(vit.hidden_size) as u64,
    };
    let names = suite.tasks().iter().map(|spec| spec.name.clone()).collect();
    let mut trace = RoutingTrace::new(TraceHeader::new(
        "quickstart",
        names,
        tokens,
        layers.iter().map(describe).collect(),
    ))?;
    let indices: Vec<i64> = (0..images as i64).collect();
    for (task, batch) in suite.joint_batch(&indices)?.iter().enumerate() {
        let ctx = Context::eval().with_task(task).with_traces();
        mtl_core::no_grad(|| encoder.encode(params, &batch.input, &ctx))?;
        for (layer, (_, chosen)) in layers.iter().zip(ctx.take_traces()) {
            let chosen: Vec<i64> = chosen.flatten(0, -1).try_into()?;
            let per_token: Vec<Vec<u16>> = chosen
                .chunks(moe.top_k as usize)
                .map(|ids| ids.iter().map(|&id| id as u16).collect())
                .collect();
            for (image, experts) in per_token.chunks(tokens as usize).enumerate() {
                trace.push(TraceRecord::tokens(
                    image as u64,
                    task as u32,
                    &format!("blk.{layer}"),
                    experts.to_vec(),
                ))?;
            }
        }
    }
    Ok(trace)
}
