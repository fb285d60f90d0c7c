//! `experiments verify`: what the runs there are say about the claims of papers.
use super::{
    FAILED,
    args::{LedgerFormat, Verify},
    finished, held, print, say, store,
};
use crate::{
    runner::{Ledger, LedgerRow, Manifest, Plan, Request, Store, Study},
    studies,
};
use anyhow::Context;
use mtl_bench::Results;
use std::path::Path;

/// Prints the ledger; 0 when every claim is confirmed.
pub(super) fn verify(options: Verify) -> anyhow::Result<u8> {
    let named = options.studies.iter().map(|name| studies::find(name)).collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::new();
    match (options.out, named.as_slice()) {
        (Some(dir), [] | [_]) => {
            let store = Store::new(dir);
            let (study, manifest) = held(&store, named.first().copied())?;
            rows.extend(judged(study, store, manifest)?);
        }
        (Some(_), _) => anyhow::bail!("`--out` is the run directory of one study; name one at most"),
        (None, []) => {
            for study in studies::all().iter().filter(|study| !study.hidden()) {
                rows.extend(rows_of(*study)?);
            }
        }
        (None, named) => {
            for study in named {
                rows.extend(rows_of(*study)?);
            }
        }
    }
    for study in named.iter().filter(|study| !rows.iter().any(|row| row.study == study.name())) {
        say(&format!("note: the study `{}` makes no claim", study.name()));
    }
    let ledger = Ledger::new(rows);
    print(&match options.format {
        LedgerFormat::Text if ledger.rows().is_empty() => String::new(),
        LedgerFormat::Text => ledger.to_text()?,
        LedgerFormat::Markdown => ledger.to_markdown()?,
        LedgerFormat::Csv => ledger.to_csv()?,
        LedgerFormat::Json => ledger.to_json_lines()?,
    })?;
    say(&ledger.counts());
    Ok(if ledger.all_confirmed() { 0 } else { FAILED })
}

/// The rows of a study, from `results/` if it has a run there.
fn rows_of(study: &'static dyn Study) -> anyhow::Result<Vec<LedgerRow>> {
    let store = store(Some(study.name()), None)?;
    if Manifest::read(&store)?.is_some() {
        let (study, manifest) = held(&store, Some(study))?;
        return judged(study, store, manifest);
    }
    let claims = study.claims(&Results::default()).with_context(|| cannot(study))?;
    let row = |mut claim: crate::runner::Claim| {
        claim.why = format!("run it by `experiments run {}`", study.name());
        LedgerRow { study: study.name().to_owned(), claim, run: false }
    };
    Ok(claims.into_iter().map(row).collect())
}

/// The rows of a run, with what a reader must know about it.
fn judged(study: &'static dyn Study, store: Store, manifest: Manifest) -> anyhow::Result<Vec<LedgerRow>> {
    let plan = Plan { study, store, manifest };
    let (done, records, _) = finished(&plan)?;
    let claims = study.claims(&Results::from_records(records)?).with_context(|| cannot(study))?;
    let notes = notes(&plan, done);
    let row = |mut claim: crate::runner::Claim| {
        notes.iter().for_each(|note| claim.why += &format!("; {note}"));
        LedgerRow { study: study.name().to_owned(), claim, run: true }
    };
    Ok(claims.into_iter().map(row).collect())
}

fn cannot(study: &dyn Study) -> String {
    format!("cannot judge the claims of `{}`", study.name())
}

/// How the run differs from a whole run of the study as it is now.
fn notes(plan: &Plan, done: usize) -> Vec<String> {
    let Manifest { request, code, cells, .. } = &plan.manifest;
    let dir: &Path = plan.store.dir();
    let mut notes = Vec::new();
    if done < cells.len() {
        let how = format!("experiments resume --out {}", dir.display());
        notes.push(format!("the run is incomplete, {done} of {} cells; go on by `{how}`", cells.len()));
    }
    let now = plan.code_now();
    if *code != now {
        notes.push(format!("made by version {code}, this is {now}"));
    }
    let own = Request::new(plan.study);
    if request.grid != own.grid {
        notes.push(format!("made with the grid `{}`, not with the study's of today", request.grid_name));
    }
    let changes = request.overrides.set.iter().map(|set| format!("--set {set}"));
    let changes = changes.chain(request.overrides.only.iter().map(|only| format!("--only {only}")));
    let changes = changes.chain(request.data.iter().map(|dir| format!("--data {}", dir.display())));
    let changes: Vec<String> = changes.collect();
    if !changes.is_empty() {
        notes.push(format!("made with {}", changes.join(" ")));
    }
    notes
}
