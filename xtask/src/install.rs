//! Download of libtorch into the user's cache.
//!
//! ```text
//! <cache>/mtl-lab/libtorch-2.11.0-linux-x86_64/           complete and verified: it appears by a rename
//! <cache>/mtl-lab/libtorch-2.11.0-linux-x86_64.lock       held while one set-up works
//! <cache>/mtl-lab/.partial-libtorch-2.11.0-linux-x86_64/  wheels/ (kept for the next try) and tree/
//! ```

use crate::platform::{Platform, VERSION};
use crate::progress::{self, Watch};
use crate::verify::{find_program, last_lines, verify};
use crate::{Error, Result, workspace};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const FETCH: &str = include_str!("fetch.py");
const UNPACK: &str = include_str!("unpack.py");

/// Room for the wheels, what is unpacked from them, and pip's temporary copy.
const NEEDED_MIB: u64 = 1700;

/// The cache of one platform's libtorch.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    platform: Platform,
    dir: PathBuf,
}

impl Cache {
    /// The cache in the user's cache folder.
    pub(crate) fn of_user(platform: Platform) -> Result<Self> {
        let var = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let base = cache_base(cfg!(target_os = "macos"), var("XDG_CACHE_HOME"), var("HOME"))?;
        Ok(Self { platform, dir: base.join("mtl-lab") })
    }

    fn name(&self) -> String {
        format!("libtorch-{VERSION}-{}", self.platform.name)
    }

    fn complete(&self) -> PathBuf {
        self.dir.join(self.name())
    }

    fn partial(&self) -> PathBuf {
        self.dir.join(format!(".partial-{}", self.name()))
    }

    /// The complete copy, if there is one.
    pub(crate) fn find(&self) -> Option<PathBuf> {
        Some(self.complete().join("torch")).filter(|torch| torch.is_dir())
    }

    /// Downloads, unpacks and verifies libtorch, and returns its folder and where it came from.
    ///
    /// Of two calls at once the second waits and then finds the work of the first.
    pub(crate) fn install(&self, scratch: &Path) -> Result<(PathBuf, &'static str)> {
        create_dir(&self.dir)?;
        let lock = lock(&self.dir.join(format!("{}.lock", self.name())))?;
        if let Some(torch) = self.find() {
            return Ok((torch, "from the cache"));
        }
        self.sweep();
        let python = python()?;
        let wheels = self.partial().join("wheels");
        create_dir(&wheels)?;
        check_disk(&self.dir, NEEDED_MIB.saturating_sub(progress::size(&wheels) >> 20))?;
        self.download(&python, &wheels, &lock)?;
        self.unpack(&python, &wheels, &lock)?;
        let tree = self.partial().join("tree");
        verify(
            &tree.join("torch"),
            "the downloaded libtorch",
            "report it as a bug of this platform",
            scratch,
        )?;
        fs::rename(&tree, self.complete()).map_err(|error| Error::io("create", &self.complete(), &error))?;
        // The copy is complete; what is left of its making is only space, and the next sweep tries again.
        let _ = fs::remove_dir_all(self.partial());
        Ok((self.complete().join("torch"), "downloaded"))
    }

    /// A Python process that keeps the lock while it lives.
    ///
    /// Its standard input is the lock file: if this process is killed, the child goes on writing for a while, and
    /// the lock, which belongs to the open file and not to a process, keeps the next set-up waiting so long.
    fn python(&self, python: &Path, lock: &File) -> Result<Command> {
        let mut command = Command::new(python);
        let inherited = lock.try_clone().map_err(|error| Error::io("lock", &self.dir, &error))?;
        command.stdin(inherited).current_dir(self.partial());
        // A user's own settings of pip that would fight with ours.
        for (name, value) in [("PIP_USER", "0"), ("PIP_REQUIRE_VIRTUALENV", "0"), ("PIP_NO_INPUT", "1")] {
            command.env(name, value);
        }
        Ok(command)
    }

    fn download(&self, python: &Path, wheels: &Path, lock: &File) -> Result<()> {
        let total = self.platform.bytes();
        eprintln!(
            "downloading libtorch {VERSION}: {} MiB, once for this user, into {}",
            total.div_ceil(1 << 20),
            self.dir.display()
        );
        let label = format!("downloading libtorch {VERSION}");
        let watch = Watch { label: &label, dir: wheels, total };
        let mut fetch = self.python(python, lock)?;
        fetch.args(["-c", FETCH]).arg(wheels);
        fetch.args(self.platform.wheels.iter().flat_map(|wheel| [wheel.project, wheel.file, wheel.sha256]));
        let (status, said) = progress::run(&mut fetch, watch)?;
        match status.code() {
            Some(0) => return Ok(()),
            // Another way would fail alike, and would start again from the first byte.
            Some(3) => return Err(download_error(&said)),
            _ => eprintln!("{}\nasking pip instead", last_lines(&said, 1).trim_start()),
        }
        let temporary = wheels.join("pip");
        remove_dir(&temporary)?;
        create_dir(&temporary)?;
        let mut pip = self.python(python, lock)?;
        // pip's temporary files count as progress, and belong on the disk whose room was checked.
        pip.env("TMPDIR", &temporary).args(pip_arguments(&self.platform, &temporary));
        let (status, said) = progress::run(&mut pip, watch)?;
        if !status.success() {
            return Err(download_error(&said));
        }
        for wheel in self.platform.wheels {
            let from = temporary.join(wheel.file);
            fs::rename(&from, wheels.join(wheel.file)).map_err(|error| Error::io("find", &from, &error))?;
        }
        Ok(())
    }

    fn unpack(&self, python: &Path, wheels: &Path, lock: &File) -> Result<()> {
        let tree = self.partial().join("tree");
        remove_dir(&tree)?;
        eprintln!("unpacking and checking it");
        let mut unpack = self.python(python, lock)?;
        unpack.args(["-c", UNPACK]).arg(&tree);
        for wheel in self.platform.wheels {
            unpack.arg(wheel.sha256).arg(wheels.join(wheel.file));
        }
        let output = unpack.output().map_err(|error| workspace::cannot_start(&unpack, &error))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(Error::new(
            format!("cannot unpack the download:\n{}", last_lines(&text, 3)),
            no_space_hint(&text).unwrap_or("run `cargo xtask setup` again"),
        ))
    }

    /// Removes what interrupted set-ups of other versions left, unless one is at work.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(owner) = name.strip_prefix(".partial-").filter(|owner| *owner != self.name()) else {
                continue;
            };
            let age = entry.metadata().and_then(|meta| meta.modified()).map(|time| time.elapsed());
            let old = matches!(age, Ok(Ok(age)) if age > Duration::from_secs(24 * 3600));
            let lock_file = self.dir.join(format!("{owner}.lock"));
            let free = File::create(&lock_file).is_ok_and(|file| file.try_lock().is_ok());
            if old && free {
                // Only space is lost if this fails. The lock file stays: removing one is a race of its own.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn cache_base(macos: bool, xdg: Option<PathBuf>, home: Option<PathBuf>) -> Result<PathBuf> {
    if let Some(xdg) = xdg.filter(|path| path.is_absolute()) {
        return Ok(xdg);
    }
    let below = if macos { "Library/Caches" } else { ".cache" };
    home.filter(|path| path.is_absolute()).map(|home| home.join(below)).ok_or_else(|| {
        Error::new(
            "no cache folder: neither XDG_CACHE_HOME nor HOME is set",
            "set XDG_CACHE_HOME to a folder",
        )
    })
}

fn create_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|error| Error::io("create", dir, &error))
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", dir, &error)),
        _ => Ok(()),
    }
}

/// Takes the lock that is freed when the returned file, and all its copies, are closed.
fn lock(path: &Path) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| Error::io("open", path, &error))?;
    let locked = match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            eprintln!("another set-up is at work (it holds {}); waiting for it", path.display());
            file.lock()
        }
        Err(TryLockError::Error(error)) => Err(error),
    };
    locked.map(|()| file).map_err(|error| Error::io("lock", path, &error))
}

/// The Python program, with a pip that works.
fn python() -> Result<PathBuf> {
    let Some(python) = find_program("python3") else {
        return Err(Error::new(
            "`python3` was not found, and the download of libtorch needs it and its pip",
            format!("install Python 3 with pip, or set LIBTORCH to the folder of a libtorch {VERSION}"),
        ));
    };
    let mut command = Command::new(&python);
    let output = command.args(["-m", "pip", "--version"]).output();
    match output.map_err(|error| workspace::cannot_start(&command, &error))? {
        output if output.status.success() => Ok(python),
        output => Err(Error::new(
            format!(
                "`python3 -m pip` does not work:\n{}",
                last_lines(&String::from_utf8_lossy(&output.stderr), 2)
            ),
            format!(
                "install pip, e.g. `apt install python3-pip` or `python3 -m ensurepip --user`, or set LIBTORCH to \
                 the folder of a libtorch {VERSION}"
            ),
        )),
    }
}

/// Refuses to start a download that cannot end for lack of room.
fn check_disk(dir: &Path, needed_mib: u64) -> Result<()> {
    // Without `df`, or with one that answers otherwise, the download itself will tell.
    let Ok(output) = Command::new("df").arg("-Pk").arg(dir).output() else { return Ok(()) };
    match free_mib(&String::from_utf8_lossy(&output.stdout)) {
        Some(free) if free < needed_mib => Err(Error::new(
            format!("too little room in `{}`: {free} MiB are free, {needed_mib} MiB needed", dir.display()),
            "make room on that disk, or set XDG_CACHE_HOME to a folder on another one",
        )),
        _ => Ok(()),
    }
}

/// The free space in the answer of `df -Pk`.
fn free_mib(text: &str) -> Option<u64> {
    let fields: Vec<&str> = text.lines().nth(1)?.split_whitespace().collect();
    // The name of a file system may hold blanks: the number stands before the percentage.
    let percent = fields.iter().rposition(|field| field.ends_with('%'))?;
    fields.get(percent.checked_sub(1)?)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

/// The `pip download` of exactly the pinned files, whatever the version of the Python at hand.
fn pip_arguments(platform: &Platform, dest: &Path) -> Vec<String> {
    let fixed = "-m pip download --no-deps --only-binary=:all: --no-cache-dir --progress-bar off \
                 --python-version 3.12 --implementation cp --abi cp312";
    let mut args: Vec<String> = fixed.split_whitespace().map(str::to_owned).collect();
    args.extend(platform.tags.iter().map(|tag| format!("--platform={tag}")));
    args.extend(["--dest".to_owned(), dest.display().to_string()]);
    args.extend(platform.wheels.iter().map(|wheel| format!("{}=={}", wheel.project, wheel.version)));
    args
}

fn download_error(said: &str) -> Error {
    let hint = no_space_hint(said).unwrap_or(
        "check the network (and HTTPS_PROXY, PIP_INDEX_URL), then run `cargo xtask setup` again: it resumes",
    );
    Error::new(format!("the download failed:\n{}", last_lines(said, 5)), hint)
}

fn no_space_hint(text: &str) -> Option<&'static str> {
    let full = text.contains("No space left") || text.contains("Disk quota exceeded");
    full.then_some(
        "make room on that disk, or set XDG_CACHE_HOME to a folder on another one, and run it again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_follows_the_platforms_custom() {
        let home = || Some(PathBuf::from("/home/u"));
        assert_eq!(cache_base(false, None, home()), Ok("/home/u/.cache".into()));
        assert_eq!(cache_base(true, None, home()), Ok("/home/u/Library/Caches".into()));
        assert_eq!(cache_base(false, Some("/big".into()), home()), Ok("/big".into()));
        // The specification says that a relative path is to be ignored.
        assert_eq!(cache_base(false, Some("big".into()), home()), Ok("/home/u/.cache".into()));
        assert!(cache_base(false, None, None).unwrap_err().to_string().contains("hint: set XDG_CACHE_HOME"));
    }

    #[test]
    fn free_space_is_read_from_df() {
        let text = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 100 1 20480 16% /\n";
        assert_eq!(free_mib(text), Some(20));
        assert_eq!(free_mib("Filesystem\nmap of home 100 1 2048 16% /x y\n"), Some(2));
        assert_eq!(free_mib("df: no such file\n"), None);
    }

    #[test]
    fn pip_is_asked_for_the_pinned_files() {
        let platform = crate::platform::current().unwrap();
        let args = pip_arguments(&platform, Path::new("/d")).join(" ");
        assert!(args.starts_with("-m pip download --no-deps"), "{args}");
        assert!(args.contains("torch==2.11.0") && args.contains("--dest /d"), "{args}");
    }

    #[test]
    fn a_full_disk_is_told_from_a_broken_network() {
        assert!(no_space_hint("OSError: [Errno 28] No space left on device").is_some());
        assert!(no_space_hint("connection reset").is_none());
    }
}
