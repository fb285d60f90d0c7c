//! `experiments clean`: removes a run directory, and nothing else.
use super::{args::Clean, held, say, store};
use crate::{runner::Study, studies};
use mtl_core::Error;
use std::{
    fs,
    io::{self, BufRead, IsTerminal},
};

/// What a run writes; the manifest last, so that a cleaning that was cut short can be finished.
const OURS: [&str; 8] =
    ["records.csv", "failed.csv", "run.log", "report", "logs", "cells", "manifest.json", "lock"];

/// Removes the run after asking.
pub(super) fn clean(options: Clean) -> anyhow::Result<u8> {
    let study = options.study.as_deref().map(studies::find).transpose()?;
    let store = store(study.map(Study::name), options.out)?;
    held(&store, study)?; // Refuses directories that are not ours.
    let _lock = store.open()?;
    let dir = store.dir();
    if !options.yes && !confirmed(&format!("remove the results in `{}`? [y/N]", dir.display()))? {
        say("nothing was removed");
        return Ok(1);
    }
    for name in OURS {
        let path = store.path(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", path, e).into()),
            _ => {}
        }
    }
    match fs::remove_dir(dir) {
        Ok(()) => say(&format!("removed `{}`", dir.display())),
        Err(_) => say(&format!("removed the run; `{}` stays, because it holds other files", dir.display())),
    }
    Ok(0)
}

fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(Error::config("--yes", "given where nobody can be asked", "absent").into());
    }
    say(question);
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
