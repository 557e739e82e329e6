//! What is served.

use gravure_io::ReadAt;

/// A disk under a name.
#[derive(Clone, Copy)]
pub struct Export<'a> {
    /// What a client asks for.
    pub name: &'a str,
    /// In words, for lists.
    pub description: &'a str,
    /// The bytes.
    pub source: &'a dyn ReadAt,
    /// Unit in which the disk is addressed.
    pub sector_bytes: u32,
    /// Told of what could not be read; the client gets an I/O error.
    pub on_error: &'a (dyn Fn(&std::io::Error) + Sync),
}

impl std::fmt::Debug for Export<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Export").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Bytes that are read for one request at most.
pub(crate) const MAX_READ_BYTES: u32 = 32 << 20;
/// Reading so much at once costs least.
pub(crate) const PREFERRED_BYTES: u32 = 64 << 10;
