//! Files that are either the old version or the new one, never half of one.
use crate::{Error, Result};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

/// Writes `path` so that a kill at any instant leaves the old content or the new.
///
/// # Errors
///
/// [`Error::Io`] when the directory is missing, read-only or full; `path` is then untouched.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let attempt = || -> io::Result<()> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".tmp-");
        #[cfg(unix)] // tempfile's own mode is 0600: colleagues could not read the result.
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let temp = builder.tempfile_in(dir)?;
        let mut buffer = BufWriter::new(temp.as_file());
        write(&mut buffer)?;
        buffer.flush()?;
        drop(buffer);
        temp.as_file().sync_all()?;
        temp.persist(path).map_err(|e| e.error)?;
        File::open(dir)?.sync_all() // Makes the rename itself durable.
    };
    attempt().map_err(|source| Error::io("write", path, source))
}

/// Removes what killed writers left behind; call it when a run directory is opened.
///
/// # Errors
///
/// [`Error::Io`] when the directory cannot be listed.
pub fn sweep(dir: &Path) -> Result<usize> {
    let entries =
        fs::read_dir(dir).map_err(|source| Error::io("read", dir, source))?;
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
}
