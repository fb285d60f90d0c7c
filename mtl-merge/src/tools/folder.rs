//! An output folder that appears complete or not at all.
use crate::Result;
use mtl_core::{Error, files};
use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Name of the file whose lock says that a run is under way.
const LOCK: &str = ".lock";

/// A folder being filled under a temporary name beside its own.
///
/// Dropped before [`NewFolder::finish`], it leaves nothing behind; what a killed run left is removed by the next.
#[derive(Debug)]
#[must_use = "the folder appears only after `finish`"]
pub(crate) struct NewFolder {
    out: PathBuf,
    staging: PathBuf,
    lock: Option<File>,
    finished: bool,
}

impl NewFolder {
    /// Begins the folder `out`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when `out` has content and `overwrite` is false, or another run is writing it;
    /// [`Error::Io`] when nothing can be written there.
    pub(crate) fn create(out: &Path, overwrite: bool) -> Result<Self> {
        let refuse = |must: &str| Error::config("out", must, out.display());
        let name = out.file_name().ok_or_else(|| refuse("the name of a folder"))?;
        if out.exists() && !out.is_dir() {
            return Err(refuse("a folder, not a file").into());
        }
        let filled =
            out.is_dir() && fs::read_dir(out).map_err(|e| Error::io("read", out, e))?.next().is_some();
        if filled && !overwrite {
            return Err(refuse("a new or an empty folder, unless it may be overwritten").into());
        }
        let parent = parent(out);
        files::ensure_dir(parent)?;
        let staging = parent.join(hidden(".tmp-", name));
        files::ensure_dir(&staging)?;
        let lock_path = staging.join(LOCK);
        let lock = File::create(&lock_path).map_err(|e| Error::io("write", &lock_path, e))?;
        if lock.try_lock().is_err() {
            return Err(refuse("a folder that no other run is writing").into());
        }
        for entry in fs::read_dir(&staging).map_err(|e| Error::io("read", &staging, e))?.flatten() {
            if entry.file_name() != LOCK {
                remove(&entry.path())?;
            }
        }
        Ok(Self { out: out.to_owned(), staging, lock: Some(lock), finished: false })
    }

    /// Where a file of the folder is to be written.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.staging.join(name)
    }

    /// Where the files are until the folder is complete.
    pub(crate) fn path(&self) -> &Path {
        &self.staging
    }

    /// Gives the folder its name, in place of what had it.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be renamed; what was there before is untouched then.
    pub(crate) fn finish(mut self) -> Result<()> {
        remove(&self.staging.join(LOCK))?;
        sync(&self.staging)?;
        let parent = parent(&self.out).to_owned();
        let old = parent.join(hidden(".tmp-old-", self.out.file_name().unwrap_or_default()));
        if old.exists() {
            remove(&old)?;
        }
        let renamed = |from: &Path, to: &Path| fs::rename(from, to).map_err(|e| Error::io("write", to, e));
        if self.out.exists() {
            renamed(&self.out, &old)?;
        }
        if let Err(error) = renamed(&self.staging, &self.out) {
            if old.exists() {
                renamed(&old, &self.out)?;
            }
            return Err(error.into());
        }
        self.finished = true;
        sync(&parent)?;
        if old.exists() {
            remove(&old)?;
        }
        Ok(())
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing can be done about a failure here; the next run tries again.
            let _ = fs::remove_dir_all(&self.staging);
        }
        self.lock.take();
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn hidden(prefix: &str, name: &std::ffi::OsStr) -> OsString {
    let mut hidden = OsString::from(prefix);
    hidden.push(name);
    hidden
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    Ok(removed.map_err(|e| Error::io("remove", path, e))?)
}

fn sync(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    Ok(synced.map_err(|e| Error::io("write", dir, e))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_appears_when_it_is_finished_and_replaces_only_if_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let folder = NewFolder::create(&out, false).unwrap();
        fs::write(folder.file("a"), "1").unwrap();
        let second = NewFolder::create(&out, false).unwrap_err().to_string();
        assert!(second.contains("no other run"), "{second}");
        assert!(!out.exists());
        folder.finish().unwrap();
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);

        let refusal = NewFolder::create(&out, false).unwrap_err().to_string();
        assert!(refusal.contains("unless it may be overwritten"), "{refusal}");
        let folder = NewFolder::create(&out, true).unwrap();
        fs::write(folder.file("b"), "2").unwrap();
        folder.finish().unwrap();
        assert!(out.join("b").exists() && !out.join("a").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1); // Nothing else is left.
    }

    #[test]
    fn what_is_not_finished_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        fs::create_dir(dir.path().join(".tmp-out")).unwrap();
        fs::write(dir.path().join(".tmp-out/half"), "of a killed run").unwrap();
        let folder = NewFolder::create(&out, false).unwrap();
        assert!(!folder.file("half").exists());
        drop(folder);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
