//! The one `unsafe` of the crate: memory-mapped files.
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
