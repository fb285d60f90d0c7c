//! `mtl-bench eval`: a system on a benchmark.
use super::args::{Benchmark, Eval};
use super::{print, say};
use crate::formats::if_eval::{self, Mode};
use crate::formats::{big_bench, med_mat, natural_instructions as ni, skill_mix};
use crate::store::Key;
use crate::system::{Constant, Program, Recorder, SavedResponses, System};
use crate::{Pivot, Record, Results};
use anyhow::{Context, bail, ensure};
use mtl_core::Seed;
use std::collections::BTreeSet;
use std::path::Path;

/// Scores: task, metric, value.
type Scores = Vec<(String, String, f64)>;

pub(super) fn eval(args: &Eval) -> anyhow::Result<u8> {
    if let Some(path) = &args.requests {
        let mut recorder = Recorder::default();
        score(args, &mut recorder)?;
        mtl_core::files::write_atomic(path, |w| recorder.write(w))?;
        say(&format!("{} questions in {}", recorder.questions().len(), path.display()));
        return Ok(0);
    }
    let mut system: Box<dyn System> = match (&args.responses, args.program.split_first(), &args.constant) {
        (Some(path), ..) => Box::new(SavedResponses::read(path)?),
        (None, Some((program, arguments)), _) => Box::new(Program::start(program, arguments)?),
        (None, None, Some(text)) => Box::new(Constant(text.clone())),
        (None, None, None) => {
            bail!(
                "say what is evaluated: `--responses FILE`, `--program PROGRAM …` or `--constant TEXT`; or `--requests FILE`"
            )
        }
    };
    let name = args.name.clone().unwrap_or_else(|| system.name().to_owned());
    let scores = score(args, system.as_mut())?;
    let study = clap::ValueEnum::to_possible_value(&args.benchmark)
        .map_or_else(String::new, |v| v.get_name().to_owned());
    let record = |(task, metric, value): (String, String, f64)| Record {
        study: study.clone(),
        ..Record::new(metric, value).method(&name).task(task).seed(args.seed)
    };
    let results = Results::from_records(scores.into_iter().map(record))?;
    if let Some(path) = &args.records {
        results.write(path)?;
    }
    if args.json {
        let lines = results.records().iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        print(&(lines.join("\n") + "\n"))?;
    } else {
        print(
            &Pivot::new(Key::Task, Key::Metric).table(&results)?.title(format!("{study}: {name}")).to_text(),
        )?;
    }
    Ok(0)
}

fn score(args: &Eval, system: &mut dyn System) -> anyhow::Result<Scores> {
    let path = || args.path.as_deref().context("PATH is missing");
    match args.benchmark {
        Benchmark::Ifeval => instructions(&if_eval::read_ifeval(path()?)?, system),
        Benchmark::MultiIf => instructions(&if_eval::read_multi_if(path()?)?, system),
        Benchmark::BigBench => big_bench(args, path()?, system),
        Benchmark::NaturalInstructions => natural_instructions(args, path()?, system),
        Benchmark::MedMat => {
            let found = med_mat::evaluate(&med_mat::read_questions(path()?)?, system)?;
            let mut scores = vec![
                ("all".to_owned(), "accuracy".to_owned(), found.accuracy),
                ("all".to_owned(), "chance".to_owned(), found.chance),
            ];
            scores.extend(found.subsets.into_iter().map(|(s, v)| (s, "accuracy".to_owned(), v)));
            Ok(scores)
        }
        Benchmark::SkillMix => {
            ensure!(args.path.is_none(), "SKILL-MIX has no file; `-k` says how many skills a text combines");
            let k = args.skills.context("`-k` is missing: skills per text")?;
            let catalogue = skill_mix::Catalogue::default();
            let pool = skill_mix::Pool::all(&catalogue);
            let seed = Seed(args.seed);
            let combos = skill_mix::combinations(&catalogue, &pool, k, args.texts, seed, &BTreeSet::new())?;
            let rubric = skill_mix::Rubric::new(&catalogue)?;
            let options = skill_mix::Options::default();
            let found = skill_mix::evaluate(&catalogue, &combos, system, &rubric, &options)?.scores;
            let task = format!("k = {k}");
            Ok([
                ("full_marks", found.full_marks),
                ("all_skills", found.all_skills),
                ("skill_fraction", found.skill_fraction),
            ]
            .map(|(metric, value)| (task.clone(), metric.to_owned(), value))
            .to_vec())
        }
    }
}

fn instructions(conversations: &[if_eval::Conversation], system: &mut dyn System) -> anyhow::Result<Scores> {
    let report = if_eval::evaluate(conversations, system, &if_eval::Options::default())?;
    let mut scores = Scores::new();
    let several = report.turns() > 1;
    for turn in 0..report.turns() {
        let task = if several { format!("turn {}", turn + 1) } else { "all".to_owned() };
        let mut add = |metric: &str, value: f64| scores.push((task.clone(), metric.to_owned(), value));
        for (mode, name) in [(Mode::Strict, "strict"), (Mode::Loose, "loose")] {
            let accuracy = report.accuracy(turn, mode)?;
            add(&format!("prompt_{name}"), accuracy.prompt);
            add(&format!("instruction_{name}"), accuracy.instruction);
        }
        add("turn_score", report.turn_score(turn)?);
        if turn > 0 {
            let change = report.change(turn, Mode::Strict)?;
            change.forgetting.into_iter().for_each(|v| add("forgetting", v));
            change.correction.into_iter().for_each(|v| add("correction", v));
        }
    }
    Ok(scores)
}

fn big_bench(args: &Eval, path: &Path, system: &mut dyn System) -> anyhow::Result<Scores> {
    let tasks = big_bench::load(path)?;
    let mut options = big_bench::Options::default();
    (options.shots, options.max_examples, options.seed) = (args.shots, args.max_examples, Seed(args.seed));
    let mut scores = Scores::new();
    let (mut normalised, mut n) = (0.0, 0_u32);
    for task in tasks.iter() {
        let found = big_bench::evaluate(task, system, &options)?;
        for metric in &found.unsupported {
            say(&format!("remark: `{}` asks for {}, which is not computed here", found.task, metric.name()));
        }
        scores.extend(found.metrics.iter().map(|(m, v)| (found.task.clone(), (*m).to_owned(), *v)));
        if let Some(value) = found.normalised {
            scores.push((found.task.clone(), "normalised".to_owned(), value));
            (normalised, n) = (normalised + value, n + 1);
        }
    }
    if n > 1 {
        scores.push((format!("mean of {n}"), "normalised".to_owned(), normalised / f64::from(n)));
    }
    Ok(scores)
}

fn natural_instructions(args: &Eval, path: &Path, system: &mut dyn System) -> anyhow::Result<Scores> {
    let tasks = if path.is_dir() { ni::NiTask::read_folder(path)? } else { vec![ni::NiTask::read(path)?] };
    let mut options = ni::NiOptions::default();
    options.instances = args.max_examples.unwrap_or(options.instances);
    let report = ni::evaluate(&tasks.iter().collect::<Vec<_>>(), system, &options)?;
    for task in &report.short_of_examples {
        say(&format!("remark: `{task}` has fewer examples than the prompt shows"));
    }
    let mut scores = Scores::new();
    let mut add = |task: &str, s: &ni::NiScores| {
        scores.push((task.to_owned(), "rouge_l".to_owned(), s.rouge_l));
        scores.push((task.to_owned(), "exact_match".to_owned(), s.exact_match));
    };
    report.tasks.iter().for_each(|(task, s)| add(task, s));
    report.categories.iter().for_each(|(category, s)| add(&format!("category {category}"), s));
    add("overall", &report.overall);
    Ok(scores)
}
