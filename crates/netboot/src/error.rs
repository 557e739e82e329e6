//! The one error of this crate: bytes that are not what they claim to be, things refused by name, settings that cannot work.

/// What was wrong with bytes from the network or with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes contradict the format.
    #[error("{what} at {offset:#x}: {expected} expected, found {found}")]
    Corrupt {
        /// Field or structure.
        what: &'static str,
        /// Position in the packet, in bytes.
        offset: usize,
        /// What the format allows there.
        expected: &'static str,
        /// What stood there.
        found: String,
    },
    /// Well-formed, but not something this crate does.
    #[error("{what} {value} is not supported")]
    Unsupported {
        /// Field or feature.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// A configuration that could not work, refused before the first packet.
    #[error("setting {what} {value}: {why}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// Why it cannot work.
        why: &'static str,
    },
}
