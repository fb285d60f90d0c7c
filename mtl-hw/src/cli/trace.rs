//! `mtl-hw trace`: statistics, synthesis and conversion of routing traces.
use crate::cli::args::{Trace, TraceGenerate, TraceStats};
use crate::cli::table::{Cell, Table};
use crate::cli::{files, input, print, print_json};
use crate::routing::{PackedTrace, Spread, SyntheticRouting, TraceSummary};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::io::{self, Write};
use std::path::Path;

pub(crate) fn trace(command: &Trace) -> anyhow::Result<u8> {
    match command {
        Trace::Stats(args) => stats(args)?,
        Trace::Generate(args) => generate(args)?,
        Trace::Convert { from, to } => save(&files::read_trace(from)?, to)?,
    }
    Ok(0)
}

fn generate(args: &TraceGenerate) -> anyhow::Result<()> {
    let config = SyntheticRouting {
        images: args.images,
        layers: args.layers,
        tasks: args.tasks,
        tokens: args.tokens,
        experts: args.experts,
        top_k: args.top_k,
        zipf: args.zipf,
        stickiness: args.stickiness,
        grid_width: args.grid_width,
        task_overlap: args.task_overlap,
        ..SyntheticRouting::default()
    };
    let trace = match &args.model {
        Some(model) => input::synthetic(&config, &input::model(model, None)?, args.seed)?.pack()?,
        None => config.generate(&mut ChaCha8Rng::seed_from_u64(args.seed))?,
    };
    match &args.out {
        Some(path) => save(&trace, path),
        None => match lines(&trace, &mut io::BufWriter::new(io::stdout().lock())) {
            Err(e) if e.chain().any(is_broken_pipe) => Ok(()),
            done => done,
        },
    }
}

fn is_broken_pipe(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes JSON lines or, unless the name ends so, the binary format.
fn save(trace: &PackedTrace, path: &Path) -> anyhow::Result<()> {
    let text = path.extension().is_some_and(|e| e == "jsonl" || e == "json");
    files::write(path, |mut out| if text { lines(trace, out) } else { Ok(trace.write_binary(&mut out)?) })
}

/// Record by record, since a trace may be larger as JSON than memory.
fn lines(trace: &PackedTrace, out: &mut dyn Write) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, trace.header())?;
    out.write_all(b"\n")?;
    for record in trace.records() {
        serde_json::to_writer(&mut *out, &trace.to_record(&record))?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

fn stats(args: &TraceStats) -> anyhow::Result<()> {
    let trace = files::read_trace(&args.file)?;
    let summary = TraceSummary::of(&trace)?;
    if args.output.json {
        return print_json(&summary);
    }
    let layers = layer_table(&trace, &summary);
    if args.output.csv {
        return print(&layers.csv());
    }
    let header = trace.header();
    let images: std::collections::BTreeSet<u64> = trace.records().map(|r| r.image).collect();
    let mut text = format!(
        "{}: {} records of {} images, {} layers and {} tasks ({}), {} tokens per image, {} choices\n\n{layers}",
        header.model,
        trace.len(),
        images.len(),
        header.layers.len(),
        header.tasks.len(),
        header.tasks.join(", "),
        header.tokens_per_image,
        trace.choices(),
    );
    if !summary.overlaps.is_empty() {
        text += &format!("\nBetween tasks\n\n{}", overlap_table(&summary));
    }
    if !args.output.quiet {
        text += "\nMeans over images. active: experts with a token; imbalance: longest over mean queue; entropy: over ln E;\n\
                 reuse: experts shared with the previous token; temporal: with the same token of the previous image;\n\
                 LRU c: misses of a cache of c experts per image; predicted: share of the next layer's choices that these\n\
                 explain (mutual information over entropy).\n";
    }
    print(&text)
}

/// The mean, unless no image has the value.
fn mean(spread: &Spread) -> Cell {
    (spread.n > 0).then_some(spread.mean).into()
}

fn layer_table(trace: &PackedTrace, summary: &TraceSummary) -> Table {
    let most = trace.header().layers.iter().map(|l| l.experts).max().unwrap_or(1);
    // 1, 2, 4, … and all.
    let mut sizes: Vec<u64> = (0..20).map(|p| 1u64 << p).take_while(|&c| c < most).collect();
    sizes.push(most);
    let fixed =
        ["layer", "task", "experts", "top-K", "active", "imbalance", "cv", "entropy", "reuse", "temporal"];
    let head = fixed.into_iter().chain(["dropped", "predicted"]).map(str::to_owned);
    let mut table = Table::new(head.chain(sizes.iter().map(|c| format!("LRU {c}"))));
    for l in &summary.layers {
        let Some(layer) = trace.header().layers.iter().find(|h| h.id == l.layer) else { continue };
        let misses = |c: u64| l.lru_misses.get(c as usize - 1).map_or(Cell::None, mean);
        let cells = [
            l.layer.as_str().into(),
            task(trace, l.task).into(),
            layer.experts.into(),
            layer.top_k.into(),
            mean(&l.active),
            mean(&l.imbalance),
            mean(&l.cv),
            mean(&l.normalised_entropy),
            mean(&l.adjacency),
            mean(&l.temporal),
            mean(&l.dropped_pairs),
            l.next_layer.as_ref().map(|n| n.explained()).into(),
        ];
        table.row(cells.into_iter().chain(sizes.iter().map(|&c| misses(c))));
    }
    table
}

fn task(trace: &PackedTrace, index: u32) -> String {
    trace.header().tasks.get(index as usize).cloned().unwrap_or_else(|| index.to_string())
}

fn overlap_table(summary: &TraceSummary) -> Table {
    let head = ["layer", "tasks", "equal per token", "histogram overlap", "active Jaccard", "batch reuse"];
    let mut table = Table::new(head);
    for o in &summary.overlaps {
        table.row([
            o.layer.as_str().into(),
            format!("{} and {}", o.tasks.0, o.tasks.1).into(),
            mean(&o.shared_per_token),
            mean(&o.histogram_overlap),
            mean(&o.active_jaccard),
            mean(&o.batch_reuse),
        ]);
    }
    table
}
