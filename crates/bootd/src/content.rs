//! What is asked for and what is found: the seam between the two file services and whoever knows the files.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::SystemTime;

use bytes::Bytes;
use gravure_netboot::names::RelativeName;

use crate::refusals::Refused;

/// By which way a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// TFTP.
    Tftp,
    /// HTTP.
    Http,
}

/// Whether the content itself is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// Only its length (HTTP HEAD). Nothing that is given once may be given for that.
    Length,
    /// The content.
    Content,
}

/// A request for a file.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The file.
    pub name: RelativeName,
    /// Fields of the query, decoded, in order.
    pub query: Vec<(String, String)>,
    /// Who asks.
    pub peer: IpAddr,
    /// Our address and port the request came to.
    pub local: SocketAddr,
    /// How.
    pub via: Via,
    /// What for.
    pub asking: Asking,
    /// What came before was wrong: a copy that is kept here is to be looked at before it is given (HTTP `Cache-Control: no-cache`).
    pub afresh: bool,
}

impl Ask {
    /// The first value of a field of the query.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The answer to an [`Ask`].
#[derive(Debug)]
pub enum Found {
    /// No such file.
    Nothing,
    /// Not to be had, although a name leads to it. The client is told that it is not there; the log says more.
    Refused(Refusal),
    /// Made for this request.
    Bytes(Bytes),
    /// A file on disk.
    File {
        /// Opened for reading.
        file: File,
        /// Its length in bytes when it was opened.
        len: u64,
        /// When it was changed last.
        modified: SystemTime,
    },
    /// At this address of another server. By TFTP that is nothing.
    Elsewhere(String),
}

/// Why a file is not to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A link leads out of the served directory.
    LeadsOutside,
    /// It cannot be read, and what the system says.
    Unreadable(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeadsOutside => f.write_str("a link that leads out of the served directory"),
            Self::Unreadable(why) => write!(f, "a file that cannot be read: {why}"),
        }
    }
}

impl Refusal {
    pub(crate) fn kind(&self) -> Refused {
        match self {
            Self::LeadsOutside => Refused::Link,
            Self::Unreadable(_) => Refused::Unreadable,
        }
    }
}

impl Found {
    /// A text made for this request.
    pub fn text(text: String) -> Self {
        Self::Bytes(Bytes::from(text))
    }

    /// Bytes made for this request.
    pub fn binary(bytes: Vec<u8>) -> Self {
        Self::Bytes(Bytes::from(bytes))
    }
}

/// Knows the files. Shared by all transfers, so it must not block: what touches disk or database runs elsewhere.
pub trait Library: Send + Sync + 'static {
    /// Looks for what is asked.
    fn find(&self, ask: Ask) -> Pin<Box<dyn Future<Output = Found> + Send + '_>>;
}
