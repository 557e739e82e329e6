//! What probing or mapping can fail with.

use std::io;

use crate::Kind;

/// Why a map was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device could not be read.
    #[error("read {what} at {offset:#x}")]
    Io {
        /// Structure that was to be read.
        what: &'static str,
        /// Absolute byte.
        offset: u64,
        /// The answer of the operating system.
        source: io::Error,
    },
    /// What stands on the device breaks its format.
    #[error("{what} at {offset:#x}: expected {expected}, found {found}")]
    Corrupt {
        /// Structure and rule.
        what: String,
        /// Absolute byte.
        offset: u64,
        /// As it must be.
        expected: String,
        /// As it is.
        found: String,
    },
    /// Well formed, but this version cannot read it.
    #[error("{what} not supported: {value}")]
    Unsupported {
        /// Which feature.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// The map would be wrong, or is of no use, in the state in which the file system is.
    #[error("{} is not mapped: {reason}", kind.name())]
    Refused {
        /// What stands on the device.
        kind: Kind,
        /// Why there is no map.
        reason: Reason,
    },
    /// A volume inside the device.
    #[error("volume {name}")]
    Volume {
        /// Its name.
        name: String,
        /// Why it has no map.
        source: Box<Error>,
    },
    /// NTFS, from the crate that reads it.
    #[error(transparent)]
    Ntfs(gravure_ntfs::Error),
    /// Whoever asked for it wanted no more.
    #[error("stopped on request")]
    Stopped,
}

/// Why a file system that is well formed has no map. With [`crate::Fallback::Everything`] all of its bytes count as used instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Without a journal, and not unmounted: its maps may be behind its files.
    #[error("not unmounted, its free-space maps may be behind its files")]
    NotUnmounted,
    /// The system that used it found errors.
    #[error("marked as having errors")]
    HasErrors,
    /// A log that only its own driver can replay.
    #[error("its log has changes that are not in its structures yet")]
    LogPending,
    /// A log of a form that is not known.
    #[error("its log is in a form that is not known")]
    LogUnknown,
    /// The journal stands on another device.
    #[error("its journal stands on another device and has to be replayed")]
    ExternalJournal,
    /// The journal holds fast commits, which describe changes rather than blocks.
    #[error("its journal holds fast commits that are not in its structures yet")]
    FastCommits,
    /// A system sleeps on it.
    #[error("a hibernated system believes to know its content")]
    Hibernated,
    /// Another machine says that it has it mounted.
    #[error("in use by another machine, or not unmounted there")]
    InUse,
    /// It needs more devices than this one.
    #[error("spread over several devices")]
    SeveralDevices,
    /// Nothing inside can be told apart.
    #[error("encrypted")]
    Encrypted,
    /// Signatures of several formats, all of them sound.
    #[error("signatures of several formats stand on it")]
    Ambiguous,
}

impl Reason {
    /// Stable word for programs.
    pub fn id(self) -> &'static str {
        match self {
            Self::NotUnmounted => "not-unmounted",
            Self::HasErrors => "has-errors",
            Self::LogPending => "log-pending",
            Self::LogUnknown => "log-unknown",
            Self::ExternalJournal => "external-journal",
            Self::FastCommits => "fast-commits",
            Self::Hibernated => "hibernated",
            Self::InUse => "in-use",
            Self::SeveralDevices => "several-devices",
            Self::Encrypted => "encrypted",
            Self::Ambiguous => "ambiguous",
        }
    }

    /// What puts it right, for the program that talks to people.
    pub fn remedy(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::NotUnmounted | Self::HasErrors, Kind::Ntfs | Kind::ExFat) => {
                "let Windows check it (chkdsk /f) and shut down properly"
            }
            (Self::NotUnmounted | Self::HasErrors, Kind::Fat12 | Kind::Fat16 | Kind::Fat32) => {
                "check it (fsck.fat -a, or chkdsk /f) and unmount it"
            }
            (Self::NotUnmounted | Self::HasErrors, _) => "check it with its own fsck and unmount it",
            (Self::LogPending, Kind::Xfs | Kind::Btrfs) => {
                "mount it once and unmount it, which replays the log"
            }
            (Self::LogPending | Self::LogUnknown, _) => "let its own system mount it and shut down properly",
            (Self::ExternalJournal | Self::FastCommits, _) => {
                "run e2fsck -p on it, or mount and unmount it once"
            }
            (Self::Hibernated, _) => {
                "wake the system and shut it down fully (shutdown /s /f, fast startup off)"
            }
            (Self::InUse, _) => "unmount it on the machine that uses it",
            (Self::SeveralDevices, _) => "image its files instead of its blocks",
            (Self::Encrypted, _) => "unlock it and map what is inside, or ask for all of its blocks",
            (Self::Ambiguous, _) => "erase the stale signature (wipefs), or ask for all of its blocks",
        }
    }
}

impl Error {
    pub(crate) fn io(what: &'static str, offset: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, offset, source }
    }

    #[expect(clippy::needless_pass_by_value, reason = "numbers and texts made for the call")]
    pub(crate) fn corrupt(
        what: impl Into<String>,
        offset: u64,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::Corrupt { what: what.into(), offset, expected: expected.to_string(), found: found.to_string() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "numbers and texts made for the call")]
    pub(crate) fn unsupported(what: &'static str, value: impl ToString) -> Self {
        Self::Unsupported { what, value: value.to_string() }
    }
}

impl From<gravure_ntfs::Error> for Error {
    fn from(error: gravure_ntfs::Error) -> Self {
        match error {
            gravure_ntfs::Error::Stopped => Self::Stopped,
            error => Self::Ntfs(error),
        }
    }
}
