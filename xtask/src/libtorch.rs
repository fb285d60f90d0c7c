//! Set-up: which libtorch is used, and its link in the checkout.

use crate::install::Cache;
use crate::platform::{self, VERSION};
use crate::verify::{compiler, verify};
use crate::workspace::Workspace;
use crate::{Error, Result};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// What set-up did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ready {
    source: &'static str,
    dir: PathBuf,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "libtorch {VERSION} is ready: {}, {}", self.source, self.dir.display())
    }
}

/// Makes libtorch available at `target/libtorch/torch`; at once when it is.
pub(crate) fn ensure(workspace: &Workspace) -> Result<Ready> {
    let link = workspace.libtorch_link();
    let wish = workspace.user_libtorch()?;
    let linked = link.canonicalize().ok();
    if let Some(dir) = &linked {
        let wanted = wish.as_ref().is_none_or(|wish| wish.canonicalize().is_ok_and(|wish| wish == *dir));
        if wanted && is_stamped(workspace, dir) {
            return Ok(Ready { source: "verified before", dir: dir.clone() });
        }
    }
    compiler()?;
    let scratch = Scratch::new(workspace)?;
    let ready = match wish {
        Some(wish) => from_user(&wish, &scratch.dir)?,
        None => match linked.and_then(|dir| in_place(&link, dir, &scratch.dir).transpose()) {
            Some(ready) => ready?,
            None => from_cache(&scratch.dir)?,
        },
    };
    point(&link, &ready.dir)?;
    let stamp = stamp_file(workspace);
    fs::write(&stamp, stamp_of(&ready.dir)).map_err(|error| Error::io("write", &stamp, &error))?;
    Ok(ready)
}

fn from_user(wish: &Path, scratch: &Path) -> Result<Ready> {
    let what = format!("`LIBTORCH` ({})", wish.display());
    let remedy = format!(
        "set LIBTORCH to a folder with lib/ and include/ of libtorch {VERSION}, or `unset LIBTORCH` to have it \
         downloaded"
    );
    let dir = wish.canonicalize().map_err(|error| Error::new(format!("{what}: {error}"), &remedy))?;
    verify(&dir, &what, &remedy, scratch)?;
    Ok(Ready { source: "from LIBTORCH", dir })
}

/// What is at the link already, if it is good; `None` if it is a link that may be replaced.
fn in_place(link: &Path, dir: PathBuf, scratch: &Path) -> Result<Option<Ready>> {
    let remedy = format!("run `rm -r {}` and then `cargo xtask setup` again", link.display());
    match verify(&dir, &format!("`{}`", link.display()), &remedy, scratch) {
        Ok(()) => Ok(Some(Ready { source: "kept", dir })),
        Err(error) if link.is_symlink() => {
            eprintln!("note: {}; the link is replaced", error.message());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn from_cache(scratch: &Path) -> Result<Ready> {
    let cache = Cache::of_user(platform::current()?)?;
    let Some(dir) = cache.find() else {
        let (dir, source) = cache.install(scratch)?;
        return Ok(Ready { source, dir });
    };
    let remedy = format!(
        "if the copy is damaged, run `rm -r {}` and then `cargo xtask setup` again",
        dir.parent().unwrap_or(&dir).display()
    );
    verify(&dir, &format!("the cached copy `{}`", dir.display()), &remedy, scratch)?;
    Ok(Ready { source: "from the cache", dir })
}

/// Makes `link` a symbolic link to `dir`, in one step, so that a build that runs never misses it.
///
/// Half a gigabyte is shared by all checkouts this way; the libraries find each other from where they really are.
fn point(link: &Path, dir: &Path) -> Result<()> {
    if link.canonicalize().is_ok_and(|now| now == dir) {
        return Ok(());
    }
    if link.is_dir() && !link.is_symlink() {
        return Err(Error::new(
            format!(
                "`{}` is a folder, and a link to `{}` must take its place",
                link.display(),
                dir.display()
            ),
            "move or remove that folder and run the command again",
        ));
    }
    let temporary = link.with_extension(format!("tmp-{}", std::process::id()));
    symlink(dir, &temporary)
        .and_then(|()| fs::rename(&temporary, link))
        .map_err(|error| Error::io("create", link, &error))
}

#[cfg(unix)]
fn symlink(dir: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(dir, link)
}

#[cfg(not(unix))]
fn symlink(_dir: &Path, _link: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

fn stamp_file(workspace: &Workspace) -> PathBuf {
    workspace.libtorch_dir().join(".verified")
}

fn is_stamped(workspace: &Workspace, dir: &Path) -> bool {
    fs::read_to_string(stamp_file(workspace)).is_ok_and(|stamp| stamp == stamp_of(dir))
}

/// Tells a verified libtorch from one that was moved or changed since.
fn stamp_of(dir: &Path) -> String {
    let suffix = if cfg!(target_os = "macos") { "dylib" } else { "so" };
    let library = fs::metadata(dir.join(format!("lib/libtorch_cpu.{suffix}"))).ok();
    let written = library.as_ref().and_then(|meta| meta.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    let size = library.as_ref().map_or(0, fs::Metadata::len);
    format!("{VERSION} {size} {} {}\n", written.unwrap_or_default().as_nanos(), dir.display())
}

/// A folder for the load test, removed in the end.
#[derive(Debug)]
struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    fn new(workspace: &Workspace) -> Result<Self> {
        let parent = workspace.libtorch_dir();
        let dir = parent.join(format!(".scratch-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|error| Error::io("create", &dir, &error))?;
        // What killed set-ups left.
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let stale = entry
                .metadata()
                .and_then(|meta| meta.modified())
                .is_ok_and(|time| time.elapsed().is_ok_and(|age| age > Duration::from_secs(24 * 3600)));
            if stale && entry.file_name().to_string_lossy().starts_with(".scratch-") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(Self { dir })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test alone, removed in the end.
    fn folder(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Scratch { dir: dir.canonicalize().unwrap() }
    }

    #[cfg(unix)]
    #[test]
    fn the_link_is_made_moved_and_repaired() {
        let folder = folder("link");
        let [first, second, link] = ["a", "b", "torch"].map(|name| folder.dir.join(name));
        fs::create_dir(&first).unwrap();
        fs::create_dir(&second).unwrap();
        for target in [&first, &first, &second] {
            point(&link, target).unwrap();
            assert_eq!(link.canonicalize().unwrap(), *target);
        }
        fs::remove_dir(&second).unwrap();
        point(&link, &first).unwrap();
        assert_eq!(link.canonicalize().unwrap(), first);
    }

    #[test]
    fn a_folder_in_the_place_of_the_link_is_not_removed() {
        let folder = folder("folder");
        let link = folder.dir.join("torch");
        fs::create_dir(&link).unwrap();
        let error = point(&link, &folder.dir).unwrap_err();
        assert!(error.message().contains("is a folder"), "{error}");
        assert!(link.is_dir());
    }

    #[test]
    fn a_changed_library_is_noticed() {
        let folder = folder("stamp");
        let lib = folder.dir.join("lib");
        fs::create_dir(&lib).unwrap();
        let before = stamp_of(&folder.dir);
        for name in ["libtorch_cpu.so", "libtorch_cpu.dylib"] {
            fs::write(lib.join(name), "x").unwrap();
        }
        assert_ne!(before, stamp_of(&folder.dir));
        assert_eq!(stamp_of(&folder.dir), stamp_of(&folder.dir));
    }

    #[test]
    fn a_wish_that_is_not_there_says_how_to_go_on() {
        let error = from_user(Path::new("/nonexistent"), Path::new("/")).unwrap_err().to_string();
        assert!(error.starts_with("error: `LIBTORCH` (/nonexistent): "), "{error}");
        assert!(error.contains("`unset LIBTORCH` to have it downloaded"), "{error}");
    }
}
