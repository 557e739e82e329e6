//! The seam under a store: named objects, most of them immutable. A directory, a bucket or a web server gives the same.

use std::fmt;
use std::sync::Arc;

use gravure_io::ReadAt;

use crate::Error;

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its whole name.
    pub name: String,
    /// Bytes.
    pub len: u64,
}

/// What became of an object that was to be new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is there now, whole and durable.
    Created,
    /// One of this name was there and stays.
    Exists,
}

/// Named objects. Names are `folder/name` or `folder/xx/name` of letters, digits, `.`, `-` and `_`. Whatever returns has happened and
/// lasts; an object is there whole or not at all.
pub trait Objects: Send + Sync + fmt::Debug {
    /// What messages call it.
    fn name(&self) -> &str;

    /// Opens an object. What is read stays the same while it is open, even when it is replaced or removed.
    fn open(&self, name: &str) -> Result<Arc<dyn ReadAt>, Error>;

    /// Writes an object that must not be there yet.
    fn put_new(&self, name: &str, bytes: &[u8]) -> Result<Put, Error>;

    /// Writes an object, in place of one of this name.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error>;

    /// All objects below a folder, ascending by name.
    fn list(&self, folder: &str) -> Result<Vec<Listed>, Error>;

    /// Removes an object; one that is not there is none.
    fn remove(&self, name: &str) -> Result<(), Error>;

    /// Registers a writer: an object below `sessions/` that lasts until the session is dropped.
    fn begin_session(&self) -> Result<Box<dyn Session>, Error>;

    /// Names of the sessions that go on. One whose process ended is none where that can be told.
    fn sessions(&self) -> Result<Vec<String>, Error>;

    /// Removes what writers that ended early left behind. Called while no session goes on.
    fn clean(&self) -> Result<(), Error>;

    /// Told that what [`open`](Self::open) gave of an object that never changes is wrong, or cannot be read. Whether it gives another copy now.
    fn doubt(&self, _name: &str) -> bool {
        false
    }

    /// Nothing can be written.
    fn is_read_only(&self) -> bool {
        false
    }
}

/// A registered writer; ends when dropped.
pub trait Session: Send + Sync + fmt::Debug {
    /// As [`Objects::sessions`] calls it.
    fn name(&self) -> &str;
}

/// Reads a whole object of at most `limit` bytes.
pub fn read_whole(objects: &dyn Objects, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
    let source = objects.open(name)?;
    let size = source.size();
    let len = usize::try_from(size).ok().filter(|_| size <= limit);
    let len = len.ok_or_else(|| Error::Corrupt {
        name: name.to_owned(),
        expected: format!("at most {limit} bytes"),
        found: size.to_string(),
    })?;
    source.read_vec_at(0, len).map_err(Error::io("read", name))
}

/// A name nobody else has.
pub(crate) fn unique_name() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::Io {
        what: "get random bytes for",
        name: "a session".to_owned(),
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
