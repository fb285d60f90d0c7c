//! The one place of the crate with `unsafe`: memory-mapped files, and what happens when one is truncated.
use crate::Result;
use memmap2::Mmap;
use std::{fs::File, io, ops::Deref, sync::Arc};

/// Bytes of a file: mapped, or held in memory.
#[derive(Debug, Clone)]
pub(super) enum Bytes {
    /// A read-only map; the descriptor is closed already.
    Mapped(Arc<Mmap>),
    /// A buffer.
    Owned(Arc<Vec<u8>>),
}

impl Bytes {
    /// Maps a whole file for reading.
    #[allow(unsafe_code)]
    pub(super) fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the map is private and read-only. Rust's view of `&[u8]` holds as long as nobody changes the file in
        // place; our own writers never do (they rename a new file over the old name), and readers of this crate are
        // documented to need the same of other programs.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self::Mapped(Arc::new(map)))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(buffer) => buffer,
        }
    }
}

/// What a process says when a mapped file has lost the page it reads.
#[cfg(unix)]
const TRUNCATED: &[u8] =
    b"error: a file that is being read was truncated or became unreadable (SIGBUS); nothing was \
    completed from it; restore the file and run again\n";

/// Makes the process end with one line on stderr and status 2 when a mapped file is truncated while it is read, instead
/// of a bare `Bus error`.
///
/// For binaries, once at their start; later calls do nothing. On systems without SIGBUS there is nothing to do.
///
/// # Errors
///
/// [`Error::Io`](crate::Error::Io) when stderr is closed or the handler cannot be installed.
pub fn guard_mapped_files() -> Result<()> {
    #[cfg(unix)]
    install().map_err(|source| crate::Error::io("guard", "mapped files", source))?;
    Ok(())
}

#[cfg(unix)]
#[allow(unsafe_code)]
fn install() -> io::Result<()> {
    use signal_hook::{consts::SIGBUS, low_level};
    use std::{
        io::Write,
        os::fd::AsFd,
        sync::atomic::{AtomicBool, Ordering},
    };
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    // A descriptor of our own: `io::stderr` takes a lock, which a signal handler must not.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let tell = move || {
        let _ = (&stderr).write_all(TRUNCATED);
        low_level::exit(2);
    };
    // SAFETY: the handler may run in the middle of anything, so it only calls `write` (through `File`, which neither
    // locks nor allocates) and `_exit`, both async-signal-safe; it touches nothing of the interrupted program.
    let installed = unsafe { low_level::register(SIGBUS, tell) };
    if installed.is_err() {
        DONE.store(false, Ordering::SeqCst);
    }
    installed.map(drop)
}
