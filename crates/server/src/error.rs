//! What keeps a site from being made or served, and the remedy for each.

use std::path::{Path, PathBuf};

use crate::db::DbError;
use crate::vault::VaultError;

/// Why `init`, `serve` or an operator's call fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory.
    #[error("cannot {what} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The configuration.
    #[error("{}: {message}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// There is a site already.
    #[error("{} is there already; a site is never overwritten", .path.display())]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// No interface, or several and none chosen.
    #[error("{0}")]
    Interface(String),
    /// A file of the site that should be there.
    #[error("{what} is missing: {}", .path.display())]
    Missing {
        /// What.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Keys and statements.
    #[error(transparent)]
    Trust(#[from] gravure_trust::Error),
    /// Certificates and TLS.
    #[error("TLS: {0}")]
    Tls(String),
    /// The site's own Secure Boot key and image.
    #[error("signed image: {0}")]
    SecureBoot(String),
    /// A boot program that the shim in front of it refuses to start.
    #[error("machines with Secure Boot would refuse to start {}: {message}; the shim is {}", .program.display(), .shim.display())]
    Generation {
        /// The program.
        program: PathBuf,
        /// The shim.
        shim: PathBuf,
        /// Component, what the shim asks for, and what the program is.
        message: String,
    },
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Secrets in the database.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A boot service.
    #[error(transparent)]
    Boot(#[from] gravure_bootd::Error),
    /// A boot menu template.
    #[error("template: {0:#}")]
    Template(#[from] minijinja::Error),
    /// An image.
    #[error("image {image}: {message}")]
    Image {
        /// File name.
        image: String,
        /// What is wrong with it.
        message: String,
    },
    /// The store, where it is no directory.
    #[error("store: {message}")]
    Store {
        /// What is wrong with it.
        message: String,
    },
    /// Drivers or layers.
    #[error("{what}: {message}")]
    Bundle {
        /// Which.
        what: String,
        /// What is wrong with them.
        message: String,
    },
    /// The server refused an operator's call.
    #[error("{message}")]
    Refused {
        /// Stable word of [`gravure_model::api::ApiError`].
        error: String,
        /// What, where, expected, found.
        message: String,
        /// The server's advice.
        cure: Option<String>,
    },
    /// The server cannot be reached.
    #[error("server {server} does not answer: {message}")]
    Unreachable {
        /// URL.
        server: String,
        /// Why.
        message: String,
    },
}

/// Families of errors, for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Anything else.
    Failed,
    /// The command or configuration asks for something that cannot be.
    Usage,
    /// Something is not there.
    NotFound,
    /// Refused for safety.
    Refused,
    /// Files and disks.
    Io,
    /// The network.
    Network,
    /// No permission.
    Permission,
}

impl Error {
    pub(crate) fn io(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source }
    }

    /// Its family.
    pub fn kind(&self) -> ErrorKind {
        use gravure_bootd::Error as Boot;
        match self {
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::NotFound => ErrorKind::NotFound,
                std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
                _ => ErrorKind::Io,
            },
            Self::Config { .. } | Self::Interface(_) | Self::Template(_) => ErrorKind::Usage,
            Self::Exists { .. } | Self::Generation { .. } => ErrorKind::Refused,
            Self::Missing { .. } => ErrorKind::NotFound,
            Self::Boot(Boot::NoPermission { .. }) => ErrorKind::Permission,
            Self::Boot(_) | Self::Unreachable { .. } => ErrorKind::Network,
            Self::Refused { error, .. } => match error.as_str() {
                "not_found" => ErrorKind::NotFound,
                "unauthorised" => ErrorKind::Permission,
                "invalid" => ErrorKind::Usage,
                _ => ErrorKind::Refused,
            },
            _ => ErrorKind::Failed,
        }
    }

    /// What to do about it, where that can be said.
    pub fn cure(&self) -> Option<String> {
        use gravure_bootd::Error as Boot;
        match self {
            Self::Exists { .. } => Some("choose another --dir, or remove the old site yourself".into()),
            Self::Interface(_) => {
                Some("name one: --interface IF or --listen ADDRESS (`ip -4 address` lists them)".into())
            }
            Self::Missing { .. } => {
                Some("make the site with `gravure init`; the boot files with `cargo xtask payload`".into())
            }
            Self::Generation { .. } => Some(
                "take shim, GRUB and systemd's stub of one Debian release (`cargo xtask payload --update-lock`), and sign the \
                 site's own image again (`gravure init --uki`) if it has one"
                    .into(),
            ),
            Self::Boot(Boot::PortInUse { address, .. }) => Some(format!(
                "see who has it with `ss -lnptu 'sport = :{}'`; stop that program or choose another port under [ports]",
                address.port()
            )),
            Self::Boot(Boot::NoPermission { .. }) => {
                Some("run as root, or give the program CAP_NET_BIND_SERVICE and CAP_NET_RAW".into())
            }
            Self::Vault(_) => {
                Some("put the key back from a backup, or cancel the jobs and make them again".into())
            }
            Self::Unreachable { .. } => Some("is `gravure serve` running, and is this its address?".into()),
            Self::Refused { cure, .. } => cure.clone(),
            _ => None,
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
