//! Files that are either the old version or the new one, never half of one.
use crate::{Error, Result};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tempfile::NamedTempFile;

/// Pauses before the second, third and fourth attempt at an operation that may succeed later.
const BACK_OFF_MS: [u64; 3] = [1, 20, 200];

/// Repeats what a network file system or a signal may interrupt; gives up after three repetitions.
fn patient<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    use io::ErrorKind::{Interrupted, StaleNetworkFileHandle, WouldBlock};
    for pause in BACK_OFF_MS {
        match operation() {
            Err(e) if matches!(e.kind(), Interrupted | WouldBlock | StaleNetworkFileHandle) => {
                std::thread::sleep(Duration::from_millis(pause));
            }
            outcome => return outcome,
        }
    }
    operation()
}

/// A file that repeats interrupted writes.
#[derive(Debug)]
struct Patient(NamedTempFile);

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        patient(|| self.0.as_file().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file being written that takes its name only when it is complete.
///
/// The bytes go to a temporary file in the same directory. [`AtomicFile::commit`] makes them durable and renames;
/// without it the temporary file is removed, and whatever had the name before stays.
///
/// ```
/// use mtl_core::files::AtomicFile;
/// use std::io::Write;
///
/// let dir = tempfile::tempdir()?;
/// let path = dir.path().join("table.csv");
/// let mut file = AtomicFile::create(&path, None)?;
/// file.write_all(b"seed,accuracy\n")?;
/// assert!(!path.exists());
/// file.commit()?;
/// assert_eq!(std::fs::read(&path)?, b"seed,accuracy\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "the file appears only after `commit`"]
pub struct AtomicFile {
    path: PathBuf,
    buffer: BufWriter<Patient>,
    written: u64,
    wanted: Option<u64>,
}

impl AtomicFile {
    /// Begins the file; `wanted` is its final length, if it is known, for the message of a full disk.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the directory is missing or read-only, or when `path` is there and no regular file.
    pub fn create(path: &Path, wanted: Option<u64>) -> Result<Self> {
        let attempt = || -> io::Result<NamedTempFile> {
            refuse_special(path)?;
            let mut builder = tempfile::Builder::new();
            builder.prefix(".tmp-");
            #[cfg(unix)] // tempfile's own mode is 0600: colleagues could not read the result.
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
            patient(|| builder.tempfile_in(parent(path)))
        };
        let temp = attempt().map_err(|source| Error::io("write", path, without_path(source)))?;
        Ok(Self { path: path.to_owned(), buffer: BufWriter::new(Patient(temp)), written: 0, wanted })
    }

    /// Writes `bytes` at `offset`, from any thread, once the buffered bytes before it are flushed.
    ///
    /// # Errors
    ///
    /// As [`Write::write_all`].
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = self.buffer.get_ref().0.as_file();
        #[cfg(unix)]
        let written = std::os::unix::fs::FileExt::write_all_at(file, bytes, offset);
        #[cfg(not(unix))]
        let written = {
            use std::io::{Seek, SeekFrom};
            static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
            let _one = ONE.lock();
            let mut file = file;
            file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(bytes))
        };
        written.map_err(|e| explain_full(e, self.written, self.wanted))
    }

    /// Makes the content durable and gives it its name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the disk is full or the rename fails; the old file is untouched then.
    pub fn commit(self) -> Result<()> {
        let Self { path, buffer, written, wanted } = self;
        let attempt = || -> io::Result<()> {
            let Patient(mut temp) = buffer.into_inner().map_err(io::IntoInnerError::into_error)?;
            patient(|| temp.as_file().sync_all())?;
            for pause in BACK_OFF_MS.map(Some).into_iter().chain([None]) {
                match temp.persist(&path) {
                    Ok(_) => break,
                    Err(e) => match pause {
                        Some(pause) if e.error.kind() == io::ErrorKind::StaleNetworkFileHandle => {
                            std::thread::sleep(Duration::from_millis(pause));
                            temp = e.file;
                        }
                        _ => return Err(e.error),
                    },
                }
            }
            // Makes the rename itself durable.
            patient(|| File::open(parent(&path))?.sync_all())
        };
        attempt().map_err(|source| write_error(&path, source, written, wanted))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.buffer.write(bytes).map_err(|e| explain_full(e, self.written, self.wanted))?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.buffer.flush().map_err(|e| explain_full(e, self.written, self.wanted))
    }
}

/// Writes `path` so that a kill at any instant leaves the old content or the new.
///
/// # Errors
///
/// [`Error::Io`] when the directory is missing, read-only or full; `path` is then untouched.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut file = AtomicFile::create(path, None)?;
    write(&mut file).map_err(|source| Error::io("write", path, source))?;
    file.commit()
}

/// Directory of a file; `.` for a plain name.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A rename would silently replace `/dev/null` or a pipe by a file.
fn refuse_special(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => {
            Err(io::Error::other("it is a device, a pipe or a socket, not a file"))
        }
        _ => Ok(()),
    }
}

/// The cause alone: tempfile adds the name of the temporary file, which means nothing to a user.
fn without_path(error: io::Error) -> io::Error {
    use io::ErrorKind::{
        NotADirectory, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    match error.kind() {
        NotFound => io::Error::new(NotFound, "its directory does not exist"),
        kind @ (NotADirectory | PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull) => {
            kind.into()
        }
        _ => error,
    }
}

fn write_error(path: &Path, source: io::Error, written: u64, wanted: Option<u64>) -> Error {
    Error::io("write", path, explain_full(source, written, wanted))
}

/// Adds to the message of a full disk how much there was to write.
fn explain_full(source: io::Error, written: u64, wanted: Option<u64>) -> io::Error {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    if !matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge) || source.get_ref().is_some() {
        return source;
    }
    let need = match wanted {
        Some(wanted) => format!("{wanted} bytes are needed"),
        None => format!("{written} bytes were written before"),
    };
    io::Error::new(source.kind(), format!("{source}; {need}, and the old file is unchanged"))
}

/// Opens a regular file for reading; never waits on a pipe.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be read; [`Error::Format`] when it is a directory, a pipe, a device or a socket.
pub fn open_regular(path: &Path) -> Result<File> {
    let there = patient(|| fs::metadata(path)).map_err(|source| Error::io("read", path, source))?;
    let what = match there.file_type() {
        kind if kind.is_file() => "",
        kind if kind.is_dir() => "is a directory; expected a file",
        _ => "is a device, a pipe or a socket; expected a regular file",
    };
    if !what.is_empty() {
        return Err(Error::format(path, what));
    }
    patient(|| File::open(path)).map_err(|source| Error::io("read", path, source))
}

/// Length and time of the last change of a file: what tells whether it is still the file that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileStamp {
    /// Length in bytes.
    pub len: u64,
    /// Time of the last change, where the file system knows it.
    pub modified: Option<SystemTime>,
}

impl FileStamp {
    /// The stamp of the file that now has the name `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when there is none.
    pub fn read(path: &Path) -> Result<Self> {
        let there = patient(|| fs::metadata(path)).map_err(|source| Error::io("read", path, source))?;
        Ok(Self::of(&there))
    }

    pub(crate) fn of(there: &fs::Metadata) -> Self {
        Self { len: there.len(), modified: there.modified().ok() }
    }

    /// Nanoseconds from 1970 to the last change; 0 where that is unknown.
    pub fn modified_ns(&self) -> u128 {
        let since = self.modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        since.map_or(0, |since| since.as_nanos())
    }
}

/// Creates a directory and its parents unless they are there.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be created, or [`Error::Format`] when something else has the name.
pub fn ensure_dir(path: &Path) -> Result<()> {
    match patient(|| fs::create_dir_all(path)) {
        Err(_) if fs::metadata(path).is_ok_and(|there| !there.is_dir()) => {
            Err(Error::format(path, "is a file; expected a directory"))
        }
        outcome => outcome.map_err(|source| Error::io("create", path, source)),
    }
}

/// Removes what killed writers left behind; call it when a run directory is opened.
///
/// # Errors
///
/// [`Error::Io`] when the directory cannot be listed.
pub fn sweep(dir: &Path) -> Result<usize> {
    let entries = fs::read_dir(dir).map_err(|source| Error::io("read", dir, source))?;
    let stale = entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(".tmp-"));
    Ok(stale.filter(|e| fs::remove_file(e.path()).is_ok()).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails once `left` bytes are through: a full disk.
    struct Full<'a> {
        left: usize,
        inner: &'a mut dyn Write,
    }

    impl Write for Full<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.left == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let n = bytes.len().min(self.left);
            self.left -= n;
            self.inner.write(&bytes[..n])
        }
        fn flush(&mut self) -> io::Result<()> {
            self.inner.flush()
        }
    }

    #[test]
    fn a_full_disk_at_any_byte_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.csv");
        write_atomic(&path, |w| w.write_all(b"old")).unwrap();
        for left in 0..8 {
            let err = write_atomic(&path, |w| Full { left, inner: w }.write_all(b"new text")).unwrap_err();
            assert!(err.to_string().starts_with("cannot write"));
            assert_eq!(fs::read(&path).unwrap(), b"old");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        write_atomic(&path, |w| w.write_all(b"new text")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new text");
    }

    #[test]
    fn a_file_that_is_not_committed_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = AtomicFile::create(&dir.path().join("a"), None).unwrap();
        file.write_all(&[0; 100_000]).unwrap();
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_was_interrupted_is_repeated_but_not_for_ever() {
        for kind in
            [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock, io::ErrorKind::StaleNetworkFileHandle]
        {
            let mut calls = 0;
            let mut failing = |times: u32| {
                calls = 0;
                patient(|| {
                    calls += 1;
                    if calls <= times { Err(io::Error::from(kind)) } else { Ok(calls) }
                })
            };
            assert_eq!(failing(2).unwrap(), 3);
            assert_eq!(failing(9).unwrap_err().kind(), kind);
            assert_eq!(calls, 4);
        }
        let mut calls = 0;
        let full = patient(|| -> io::Result<()> {
            calls += 1;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(full.is_err());
        assert_eq!(calls, 1);
    }

    #[test]
    fn a_full_disk_says_how_much_was_needed() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let path = Path::new("a");
        assert_eq!(
            write_error(path, full(), 5, Some(20)).to_string(),
            "cannot write `a`: no storage space; 20 bytes are needed, and the old file is unchanged"
        );
        let unknown = write_error(path, full(), 5, None).to_string();
        assert!(unknown.contains("5 bytes were written before"), "{unknown}");
    }

    #[test]
    fn directories_are_made_unless_a_file_is_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let err = write_atomic(&path.join("c"), |_| Ok(())).unwrap_err().to_string();
        assert!(err.starts_with("cannot write") && err.ends_with("its directory does not exist"), "{err}");
        ensure_dir(&path).unwrap();
        ensure_dir(&path).unwrap();
        let file = path.join("file");
        fs::write(&file, "x").unwrap();
        assert!(ensure_dir(&file).unwrap_err().to_string().ends_with("is a file; expected a directory"));
        assert!(ensure_dir(&file.join("c")).unwrap_err().to_string().starts_with("cannot create"));
        assert!(open_regular(&path).unwrap_err().to_string().ends_with("is a directory; expected a file"));
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_directories_are_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for path in [Path::new("/dev/null"), dir.path()] {
            assert!(write_atomic(path, |w| w.write_all(b"x")).is_err());
        }
        use std::os::unix::fs::FileTypeExt;
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }
}
