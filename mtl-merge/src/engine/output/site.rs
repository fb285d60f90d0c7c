//! The folder beside the output in which it is built, and the moment when it takes its name.
use super::apart::real;
use crate::{Error, Result};
use mtl_core::files::{ensure_dir, sweep, write_atomic};
use std::{
    ffi::OsString,
    fs::{self, File, TryLockError},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// An output folder under construction.
///
/// The folder `.<name>.partial` beside the output `<name>` holds
/// - `lock`, locked while a run is at work,
/// - `plan.json`, what the run would write,
/// - `new`, the folder that will be renamed to `<name>`,
/// - `old`, the folder that had the name before, for the moment between two renames.
///
/// So a killed run leaves under `<name>` what was there before, or nothing, or the complete new folder; the next run
/// puts back what a kill between the two renames left in `old`.
#[derive(Debug)]
pub(super) struct Site {
    out: PathBuf,
    staging: PathBuf,
    /// Locked until it is dropped.
    lock: File,
}

const LOCK: &str = "lock";
const PLAN: &str = "plan.json";
const NEW: &str = "new";
const OLD: &str = "old";

impl Site {
    /// Checks that `out` may be written, and keeps other runs away from it.
    ///
    /// # Errors
    ///
    /// [`Error::OutputExists`] when `out` is there, not empty and not to be replaced; [`Error::OutputBusy`] when
    /// another run is writing it; [`Error::Core`] when the place cannot be written.
    pub(super) fn claim(out: &Path, replace: bool) -> Result<Self> {
        let out = real(out);
        let (Some(name), Some(parent)) = (out.file_name(), out.parent()) else {
            return Err(mtl_core::Error::format(out, "is no name for a folder").into());
        };
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(".partial");
        let staging = parent.join(hidden);
        if fs::symlink_metadata(&staging).is_err() {
            refuse_existing(&out, replace)?;
        }
        ensure_dir(parent)?;
        let lock = lock(&staging, &out)?;
        let site = Self { out, staging, lock };
        sweep(&site.staging)?;
        let ready = site.restore().and_then(|()| refuse_existing(&site.out, replace));
        if let Err(error) = ready {
            if !site.staging.join(NEW).exists() {
                site.abandon();
            }
            return Err(error);
        }
        Ok(site)
    }

    /// Name of the output.
    pub(super) fn title(&self) -> String {
        self.out.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The folder to fill.
    pub(super) fn dir(&self) -> PathBuf {
        self.staging.join(NEW)
    }

    /// Makes the folder ready for the run that `fingerprint` describes: files of an earlier run with the same
    /// fingerprint stay if `keep` accepts them by name.
    ///
    /// # Errors
    ///
    /// [`Error::Core`] when the place cannot be written.
    pub(super) fn prepare(&self, fingerprint: &str, keep: impl Fn(&str) -> bool) -> Result<()> {
        let (dir, plan) = (self.dir(), self.staging.join(PLAN));
        if fs::read(&plan).is_ok_and(|found| found == fingerprint.as_bytes()) && dir.is_dir() {
            let entries = fs::read_dir(&dir).map_err(|e| io_error("read", &dir, e))?;
            for entry in entries {
                let entry = entry.map_err(|e| io_error("read", &dir, e))?;
                if !entry.file_name().to_str().is_some_and(&keep) {
                    remove(&entry.path())?;
                }
            }
            return Ok(());
        }
        // In this order, a kill in between never puts shards beside a plan that is not theirs.
        remove(&dir)?;
        write_atomic(&plan, |out| out.write_all(fingerprint.as_bytes()))?;
        Ok(fs::create_dir(&dir).map_err(|e| io_error("create", &dir, e))?)
    }

    /// Gives the finished folder its name.
    ///
    /// # Errors
    ///
    /// [`Error::Core`] when a rename fails; what had the name before has it again.
    pub(super) fn publish(self) -> Result<()> {
        let (dir, old, out) = (self.dir(), self.staging.join(OLD), &self.out);
        let parent = out.parent().unwrap_or(Path::new("."));
        sync(&dir)?;
        let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(|e| io_error("rename", from, e));
        let replaces = fs::symlink_metadata(out).is_ok();
        if replaces {
            rename(out, &old)?;
        }
        if let Err(error) = rename(&dir, out) {
            if replaces {
                rename(&old, out)?;
            }
            return Err(error.into());
        }
        sync(parent)?;
        self.abandon();
        Ok(())
    }

    /// Removes everything but the output; what cannot be removed stays.
    pub(super) fn abandon(self) {
        for name in [NEW, OLD, PLAN] {
            if let Err(error) = remove(&self.staging.join(name)) {
                tracing::warn!("{error}");
            }
        }
        // The lock goes last: whoever had opened it finds that it is no longer the one in the folder.
        let _ = fs::remove_file(self.staging.join(LOCK));
        let _ = fs::remove_dir(&self.staging);
        drop(self.lock);
    }

    /// Puts back what a kill between two renames left aside.
    fn restore(&self) -> Result<()> {
        let old = self.staging.join(OLD);
        if fs::symlink_metadata(&old).is_err() {
            return Ok(());
        }
        if is_empty(&self.out)? {
            let _ = fs::remove_dir(&self.out);
            fs::rename(&old, &self.out).map_err(|e| io_error("rename", &old, e))?;
            return Ok(sync(self.out.parent().unwrap_or(Path::new(".")))?);
        }
        remove(&old)
    }
}

/// Takes the lock of the staging folder, which is created if it is not there.
fn lock(staging: &Path, out: &Path) -> Result<File> {
    let path = staging.join(LOCK);
    // Another run may finish and remove folder and lock at any moment.
    for _ in 0..100 {
        match fs::create_dir(staging) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => ours(staging)?,
            Err(e) => return Err(io_error("create", staging, e).into()),
        }
        let file = match File::options().create(true).truncate(false).write(true).open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            opened => opened.map_err(|e| io_error("create", &path, e))?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::OutputBusy { out: out.display().to_string() });
            }
            // Some network file systems have no locks.
            Err(TryLockError::Error(e)) => tracing::warn!("cannot lock `{}`: {e}", path.display()),
        }
        if still_named(&file, &path) {
            return Ok(file);
        }
    }
    Err(Error::OutputBusy { out: out.display().to_string() })
}

/// Whether `path` is still the name of the open file.
fn still_named(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (open.dev(), open.ino()) == (named.dev(), named.ino())
    }
    #[cfg(not(unix))]
    {
        open.is_file() && named.is_file()
    }
}

/// Refuses a folder that some other program made.
fn ours(staging: &Path) -> Result<()> {
    let refuse = |message: String| Err(mtl_core::Error::format(staging, message).into());
    if !fs::symlink_metadata(staging).is_ok_and(|there| there.is_dir()) {
        return refuse("is in the way: it is no folder; remove it".into());
    }
    let entries = match fs::read_dir(staging) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| io_error("read", staging, e))?,
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if ![LOCK, PLAN, NEW, OLD].contains(&name.as_str()) && !name.starts_with(".tmp-") {
            return refuse(format!("is in the way: it holds `{name}`, which no merge wrote; move it"));
        }
    }
    Ok(())
}

/// Refuses an output with content, unless it may be replaced.
fn refuse_existing(out: &Path, replace: bool) -> Result<()> {
    let there = match fs::symlink_metadata(out) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        there => there.map_err(|e| io_error("read", out, e))?,
    };
    if !there.is_dir() {
        let message = "is a file; expected a folder, or a name that ends in `.safetensors`";
        return Err(mtl_core::Error::format(out, message).into());
    }
    if replace || is_empty(out)? {
        Ok(())
    } else {
        Err(Error::OutputExists { out: out.display().to_string() })
    }
}

/// Whether there is nothing, or a folder without content.
fn is_empty(dir: &Path) -> Result<bool> {
    match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
        entries => Ok(entries.map_err(|e| io_error("read", dir, e))?.next().is_none()),
    }
}

/// Removes a file or a folder with its content, if it is there.
fn remove(path: &Path) -> Result<()> {
    let Ok(there) = fs::symlink_metadata(path) else { return Ok(()) };
    let removed = if there.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    Ok(removed.map_err(|e| io_error("remove", path, e))?)
}

/// Makes the entries of a folder durable.
fn sync(dir: &Path) -> mtl_core::Result<()> {
    let synced = if cfg!(unix) { File::open(dir).and_then(|dir| dir.sync_all()) } else { Ok(()) };
    synced.map_err(|e| io_error("write", dir, e))
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> mtl_core::Error {
    mtl_core::Error::io(action, path, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(dir: &Path, text: &str) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("file"), text).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_is_built_aside_and_takes_its_name_at_the_end() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("deep/out");
        let site = Site::claim(&out, false).unwrap();
        site.prepare("plan", |_| false).unwrap();
        fill(&site.dir(), "new");
        assert!(!out.exists());
        site.publish().unwrap();
        assert_eq!(names(&home.path().join("deep")), ["out"]);
        assert_eq!(names(&out), ["file"]);
    }

    #[test]
    fn content_is_replaced_only_on_demand_and_an_empty_folder_always() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("out");
        fs::create_dir(&out).unwrap();
        for (text, replace) in [("a", false), ("b", true)] {
            let site = Site::claim(&out, replace).unwrap();
            site.prepare("plan", |_| false).unwrap();
            fill(&site.dir(), text);
            site.publish().unwrap();
            assert_eq!(fs::read_to_string(out.join("file")).unwrap(), text);
            assert_eq!(names(home.path()), ["out"]);
        }
        let error = Site::claim(&out, false).unwrap_err();
        assert!(matches!(error, Error::OutputExists { .. }), "{error}");
        assert_eq!(names(home.path()), ["out"]);
    }

    #[test]
    fn a_second_run_is_refused_while_the_first_is_at_work() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("out");
        let first = Site::claim(&out, false).unwrap();
        let error = Site::claim(&out, false).unwrap_err();
        assert!(matches!(error, Error::OutputBusy { .. }), "{error}");
        drop(first);
        Site::claim(&out, false).unwrap().abandon();
        assert!(names(home.path()).is_empty());
    }

    #[test]
    fn what_a_kill_between_the_renames_left_is_put_back() {
        let home = tempfile::tempdir().unwrap();
        let (out, staging) = (home.path().join("out"), home.path().join(".out.partial"));
        fill(&staging.join("old"), "old");
        fs::create_dir(&out).unwrap(); // Somebody made it since.
        let error = Site::claim(&out, false).unwrap_err();
        assert!(matches!(error, Error::OutputExists { .. }), "{error}");
        assert_eq!(fs::read_to_string(out.join("file")).unwrap(), "old");
        assert_eq!(names(home.path()), ["out"]);
        // Killed after the second rename: the name is taken by the new one, and the old one goes.
        fill(&staging.join("old"), "older");
        drop(Site::claim(&out, true).unwrap());
        assert_eq!(fs::read_to_string(out.join("file")).unwrap(), "old");
        assert_eq!(names(&staging), ["lock"]);
    }

    #[test]
    fn files_stay_for_the_same_plan_alone() {
        let home = tempfile::tempdir().unwrap();
        let site = Site::claim(&home.path().join("out"), false).unwrap();
        site.prepare("one", |_| true).unwrap();
        for name in ["shard", ".tmp-1", "config.json"] {
            fs::write(site.dir().join(name), "").unwrap();
        }
        site.prepare("one", |name| name == "shard").unwrap();
        assert_eq!(names(&site.dir()), ["shard"]);
        site.prepare("two", |_| true).unwrap();
        assert!(names(&site.dir()).is_empty());
    }

    #[test]
    fn what_is_in_the_way_is_not_removed() {
        let home = tempfile::tempdir().unwrap();
        let out = home.path().join("out");
        fill(&home.path().join(".out.partial"), "mine");
        let error = Site::claim(&out, false).unwrap_err().to_string();
        assert!(error.contains("it holds `file`, which no merge wrote"), "{error}");
        fs::write(&out, "").unwrap();
        let error = Site::claim(&home.path().join("out"), true).unwrap_err().to_string();
        assert!(error.contains("in the way"), "{error}");
        fs::remove_dir_all(home.path().join(".out.partial")).unwrap();
        let error = Site::claim(&out, true).unwrap_err().to_string();
        assert!(error.contains("is a file; expected a folder"), "{error}");
        assert_eq!(names(home.path()), ["out"]);
    }
}
