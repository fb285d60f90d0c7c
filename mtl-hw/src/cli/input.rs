//! What arguments name: models, designs, boards, schedules, routing.
use crate::cli::{args, files, models};
use crate::cost::{Accelerator, FirstLoad, Granularity, MoeSchedule};
use crate::graph::{HfModel, ModelGraph};
use crate::platform::Platform;
use crate::presets;
use crate::routing::{Routing, RoutingTrace, SyntheticRouting, TraceHeader, TraceLayer, TraceRecord};
use anyhow::{Context, bail, ensure};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// A model by name, or from a file: a graph in TOML or JSON, or a Hugging Face configuration.
pub(crate) fn model(text: &str, tokens: Option<u32>) -> anyhow::Result<ModelGraph> {
    if !files::is_path(text) {
        ensure!(
            tokens.is_none(),
            "`--tokens` is for a config.json; a model by name takes its tokens after a colon, as bert-base:512"
        );
        return Ok(models::by_name(text)?);
    }
    let path = Path::new(text);
    let content = files::read(path)?;
    let name = || format!("`{text}`");
    if text.ends_with(".toml") {
        ensure!(tokens.is_none(), "`--tokens` is for a config.json, but {text} is a graph");
        return ModelGraph::from_toml(&content).with_context(name);
    }
    let keys: serde_json::Value = serde_json::from_str(&content).with_context(name)?;
    if keys.get("model_type").is_none() {
        ensure!(tokens.is_none(), "`--tokens` is for a config.json, but {text} has no `model_type`");
        return ModelGraph::from_json(&content).with_context(name);
    }
    let mut model = HfModel::from_config(&content).with_context(name)?;
    if let Some(tokens) = tokens {
        model = model.tokens(tokens);
    }
    model.graph().with_context(name)
}

/// A board by name or from a file.
pub(crate) fn board(text: &str) -> anyhow::Result<Platform> {
    if files::is_path(text) {
        let content = files::read(Path::new(text))?;
        return Platform::from_toml(&content).with_context(|| format!("`{text}`"));
    }
    Ok(Platform::builtin(text)?)
}

/// A design by name or from a file, perhaps on another board.
pub(crate) fn design(text: &str, on: Option<&str>) -> anyhow::Result<Accelerator> {
    let mut design = if files::is_path(text) {
        let content = files::read(Path::new(text))?;
        Accelerator::from_toml(&content).with_context(|| format!("`{text}`"))?
    } else {
        presets::by_name(text)?
    };
    if let Some(name) = on {
        design.platform = board(name)?;
        design.validate().with_context(|| format!("design `{}` on board `{name}`", design.name))?;
    }
    Ok(design)
}

/// A schedule of experts by name.
pub(crate) fn schedule(text: &str) -> anyhow::Result<MoeSchedule> {
    let mut words = text.split('+');
    let name = words.next().unwrap_or_default();
    let (name, number) = name.split_once(':').map_or((name, None), |(name, n)| (name, Some(n)));
    let mut schedule = match (name, number) {
        ("all-resident", None) => MoeSchedule::AllResident,
        ("reordered", None) => MoeSchedule::reordered(),
        ("token-by-token", n) => {
            let cache_experts = n.map_or(Ok(0), str::parse);
            let cache_experts =
                cache_experts.with_context(|| format!("experts cached by schedule `{text}`"))?;
            MoeSchedule::TokenByToken { cache_experts }
        }
        ("expert-by-expert", None) => MoeSchedule::ExpertByExpert {
            prefetch: true,
            granularity: Granularity::Expert,
            first_load: FirstLoad::AfterGate,
        },
        _ => bail!(
            "unknown schedule `{text}`; known are reordered, all-resident, token-by-token[:CACHED] and \
             expert-by-expert with +matrix, +speculative, +no-prefetch"
        ),
    };
    for word in words {
        match (&mut schedule, word) {
            (MoeSchedule::ExpertByExpert { granularity, .. }, "matrix") => *granularity = Granularity::Matrix,
            (MoeSchedule::ExpertByExpert { first_load, .. }, "speculative") => {
                *first_load = FirstLoad::Speculative;
            }
            (MoeSchedule::ExpertByExpert { prefetch, .. }, "no-prefetch") => *prefetch = false,
            _ => bail!(
                "schedule `{text}`: `+{word}` is not known there; expert-by-expert takes +matrix, +speculative, +no-prefetch"
            ),
        }
    }
    Ok(schedule)
}

/// A schedule as [`schedule`] reads it.
pub(crate) fn schedule_name(schedule: MoeSchedule) -> String {
    match schedule {
        MoeSchedule::AllResident => "all-resident".to_owned(),
        MoeSchedule::TokenByToken { cache_experts } => format!("token-by-token:{cache_experts}"),
        schedule if schedule == MoeSchedule::reordered() => "reordered".to_owned(),
        MoeSchedule::ExpertByExpert { prefetch, granularity, first_load } => {
            let matrix = if granularity == Granularity::Matrix { "+matrix" } else { "" };
            let speculative = if first_load == FirstLoad::Speculative { "+speculative" } else { "" };
            let prefetch = if prefetch { "" } else { "+no-prefetch" };
            format!("expert-by-expert{matrix}{speculative}{prefetch}")
        }
    }
}

/// Choices of experts, held for as long as a [`Routing`] borrows them.
#[derive(Debug)]
pub(crate) enum Choices {
    Uniform,
    Histogram(Vec<u64>),
    Trace { trace: RoutingTrace, image: u64, task: u32 },
}

impl Choices {
    /// What the arguments name, for a graph.
    pub(crate) fn of(args: &args::RoutingArgs, graph: &ModelGraph) -> anyhow::Result<Self> {
        match &args.trace {
            Some(path) => Self::recorded(path, args.image, args.task.unwrap_or(0)),
            None => Self::drawn(&args.routing, args.seed, graph),
        }
    }

    pub(crate) fn recorded(path: &Path, image: u64, task: u32) -> anyhow::Result<Self> {
        Ok(Self::Trace { trace: files::read_trace(path)?.unpack()?, image, task })
    }

    /// Reads `uniform`, `zipf:S[:P]` or `histogram:N,N,…`.
    pub(crate) fn drawn(text: &str, seed: u64, graph: &ModelGraph) -> anyhow::Result<Self> {
        let bad = || format!("routing `{text}`");
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "uniform" if rest.is_empty() => Ok(Self::Uniform),
            "histogram" => {
                let counts = rest.split(',').map(|n| n.trim().parse::<u64>()).collect::<Result<_, _>>();
                Ok(Self::Histogram(counts.with_context(bad)?))
            }
            "zipf" => {
                let (zipf, stickiness) = rest.split_once(':').unwrap_or((rest, "0"));
                let zipf: f64 = zipf.parse().with_context(bad)?;
                let stickiness: f64 = stickiness.parse().with_context(bad)?;
                let config = SyntheticRouting { zipf, stickiness, tasks: 1, ..SyntheticRouting::default() };
                let trace = synthetic(&config, graph, seed).with_context(bad)?;
                Ok(Self::Trace { trace, image: 0, task: 0 })
            }
            _ => bail!("unknown routing `{text}`; known are uniform, zipf:S, zipf:S:P and histogram:N,N,…"),
        }
    }

    pub(crate) fn routing(&self) -> Routing<'_> {
        match self {
            Self::Uniform => Routing::Uniform,
            Self::Histogram(counts) => Routing::Histogram(counts),
            Self::Trace { trace, image, task } => Routing::Trace { trace, image: *image, task: *task },
        }
    }
}

/// A synthetic trace of the MoE layers of a graph, in place of those of the configuration; each layer is drawn by itself.
pub(crate) fn synthetic(
    config: &SyntheticRouting,
    graph: &ModelGraph,
    seed: u64,
) -> anyhow::Result<RoutingTrace> {
    let shapes: Vec<_> = graph.moe_layers().collect();
    let Some((_, first)) = shapes.first() else {
        bail!("`{}` has no mixture-of-experts layers to route", graph.name)
    };
    let tokens = first.tokens;
    if let Some((id, shape)) = shapes.iter().find(|(_, s)| s.tokens != tokens) {
        bail!("layer `{id}` has {} tokens, but the first has {tokens}; a trace has one number", shape.tokens);
    }
    let layers = shapes.iter().map(|(id, s)| TraceLayer {
        id: id.clone(),
        experts: s.experts,
        top_k: s.top_k,
        d_model: s.dim,
        d_hidden: s.hidden,
    });
    let tasks = (0..config.tasks).map(|t| format!("task{t}")).collect();
    let header = TraceHeader::new(&graph.name, tasks, tokens, layers.collect());
    let mut trace = RoutingTrace::new(header)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for (id, s) in &shapes {
        let one = SyntheticRouting {
            layers: 1,
            tokens,
            experts: s.experts,
            top_k: s.top_k,
            d_model: s.dim,
            d_hidden: s.hidden,
            ..config.clone()
        };
        let drawn = one.generate(&mut rng)?;
        for record in drawn.records() {
            trace.push(TraceRecord { layer: id.clone(), ..drawn.to_record(&record) })?;
        }
    }
    Ok(trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read_as_they_are_written() {
        for text in [
            "reordered",
            "all-resident",
            "token-by-token:4",
            "expert-by-expert",
            "expert-by-expert+matrix+speculative+no-prefetch",
        ] {
            assert_eq!(schedule_name(schedule(text).unwrap()), text);
        }
        assert_eq!(schedule_name(schedule("expert-by-expert+speculative").unwrap()), "reordered");
        assert!(schedule("fifo").is_err() && schedule("all-resident+matrix").is_err());
        assert!(schedule("token-by-token:x").is_err() && schedule("reordered:3").is_err());
    }

    #[test]
    fn drawn_routing_belongs_to_the_graph() {
        let graph = models::by_name("m3vit-tiny").unwrap();
        let choices = Choices::drawn("zipf:1.2", 0, &graph).unwrap();
        for (id, shape) in graph.moe_layers() {
            choices.routing().layer(&id, &shape).unwrap();
        }
        let dense = models::by_name("vit-tiny").unwrap();
        assert!(Choices::drawn("zipf:1.2", 0, &dense).is_err());
        assert!(Choices::drawn("zipf:x", 0, &graph).is_err() && Choices::drawn("zipf", 0, &graph).is_err());
    }
}
