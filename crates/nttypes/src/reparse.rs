//! Reparse tags, and the link data of symbolic links and junctions (wim-container 6.9).

use crate::NtName;

/// Reparse tag (IO_REPARSE_TAG_*). Unknown tags are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ReparseTag(pub u32);

impl ReparseTag {
    /// Junction or volume mount point.
    pub const MOUNT_POINT: Self = Self(0xa000_0003);
    /// Symbolic link.
    pub const SYMLINK: Self = Self(0xa000_000c);
    /// Windows overlay file system: CompactOS and WIMBoot (wim-container section 13).
    pub const WOF: Self = Self(0x8000_0017);
    /// Data deduplication: the content is not in the image.
    pub const DEDUP: Self = Self(0x8000_0013);
}

/// Largest reparse data that NTFS takes, without the 8-byte header (wim-container 14.1).
pub const MAX_REPARSE_BYTES: usize = 16376;

/// Why reparse data is no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReparseTextError {
    /// The tag is neither a symbolic link nor a junction.
    #[error("reparse tag {0:#010x} is no link")]
    NotALink(u32),
    /// A name lies outside the data.
    #[error("link names lie outside the {0} bytes of reparse data")]
    OutOfRange(usize),
    /// The target does not fit into reparse data.
    #[error("link target of {0} units is too long")]
    TooLong(usize),
}

/// Where a symbolic link or junction points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkTarget {
    /// The name the system follows, e.g. `\??\C:\Users`.
    pub substitute: NtName,
    /// The name people see.
    pub print: NtName,
    /// True for a symbolic link relative to its own directory.
    pub is_relative: bool,
}

impl LinkTarget {
    /// Reads reparse data (what follows the 8-byte reparse header).
    pub fn parse(tag: ReparseTag, data: &[u8]) -> Result<Self, ReparseTextError> {
        let header_len = match tag {
            ReparseTag::SYMLINK => 12,
            ReparseTag::MOUNT_POINT => 8,
            other => return Err(ReparseTextError::NotALink(other.0)),
        };
        let bad = || ReparseTextError::OutOfRange(data.len());
        let field = |at: usize| match data.get(at..).unwrap_or_default() {
            [low, high, ..] => Ok(usize::from(u16::from_le_bytes([*low, *high]))),
            _ => Err(bad()),
        };
        let names = data.get(header_len..).ok_or_else(bad)?;
        let name = |offset: usize, len: usize| {
            let bytes = names.get(offset..offset.saturating_add(len)).ok_or_else(bad)?;
            NtName::from_le_bytes(bytes).map_err(|_| bad())
        };
        let substitute = name(field(0)?, field(2)?)?;
        let print = name(field(4)?, field(6)?)?;
        let is_relative = tag == ReparseTag::SYMLINK && field(8)? & 1 == 1;
        Ok(Self { substitute, print, is_relative })
    }

    /// Writes reparse data for `tag`, each name followed by a zero unit that its length does not count.
    pub fn to_bytes(&self, tag: ReparseTag) -> Result<Vec<u8>, ReparseTextError> {
        let substitute = self.substitute.to_le_bytes();
        let print = self.print.to_le_bytes();
        let too_long = || ReparseTextError::TooLong(self.substitute.units().len());
        let len = |value: usize| u16::try_from(value).map_err(|_| too_long());
        let print_offset = substitute.len().saturating_add(2);
        let mut out = Vec::new();
        for value in [0, len(substitute.len())?, len(print_offset)?, len(print.len())?] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        match tag {
            ReparseTag::SYMLINK => out.extend_from_slice(&u32::from(self.is_relative).to_le_bytes()),
            ReparseTag::MOUNT_POINT => {}
            other => return Err(ReparseTextError::NotALink(other.0)),
        }
        for name in [substitute, print] {
            out.extend_from_slice(&name);
            out.extend_from_slice(&[0, 0]);
        }
        if out.len() > MAX_REPARSE_BYTES {
            return Err(too_long());
        }
        Ok(out)
    }

    /// The Unix target `text` in the mapping in use between Unix and WIM: `/a/b` becomes `\??\C:\a\b`, a relative
    /// target exchanges `/` and `\` (wim-container 6.9, last mapping).
    pub fn from_unix(text: &NtName) -> Self {
        let swapped: Vec<u16> = text.units().iter().map(|unit| swap_separator(*unit)).collect();
        if text.units().first() != Some(&SLASH) {
            let name = NtName::from_units(&swapped);
            return Self { substitute: name.clone(), print: name, is_relative: true };
        }
        let with_prefix = |prefix: &str| {
            let units: Vec<u16> = prefix.encode_utf16().chain(swapped.iter().copied()).collect();
            NtName::from_units(&units)
        };
        Self { substitute: with_prefix("\\??\\C:"), print: with_prefix("C:"), is_relative: false }
    }

    /// The Unix form of the target: the reverse of [`LinkTarget::from_unix`]; device prefixes such as `\??\C:` or
    /// `\DosDevices\X:` are dropped from absolute targets.
    pub fn to_unix(&self) -> NtName {
        let units = self.substitute.units();
        let path = if self.is_relative { units } else { strip_device(units) };
        NtName::from_units(&path.iter().map(|unit| swap_separator(*unit)).collect::<Vec<_>>())
    }
}

const SLASH: u16 = 0x2f;
const BACKSLASH: u16 = 0x5c;

fn swap_separator(unit: u16) -> u16 {
    match unit {
        SLASH => BACKSLASH,
        BACKSLASH => SLASH,
        other => other,
    }
}

/// Drops `\??\C:`, `\DosDevices\C:`, `\Device\Name` or a bare `C:`.
fn strip_device(units: &[u16]) -> &[u16] {
    let starts = |prefix: &str| {
        let prefix: Vec<u16> = prefix.encode_utf16().collect();
        units.strip_prefix(prefix.as_slice())
    };
    let from_separator =
        |rest: &'_ [u16]| rest.iter().position(|unit| *unit == BACKSLASH).unwrap_or(rest.len());
    for prefix in ["\\??\\", "\\DosDevices\\", "\\Device\\"] {
        if let Some(rest) = starts(prefix) {
            let at = from_separator(rest).saturating_add(units.len().saturating_sub(rest.len()));
            return units.get(at..).unwrap_or_default();
        }
    }
    match units {
        [letter, 0x3a, rest @ ..] if u8::try_from(*letter).is_ok_and(|c| c.is_ascii_alphabetic()) => rest,
        _ => units,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_targets_survive() {
        for text in ["/usr/bin/x", "../lib/y", "a\\b", "/", "plain", "/dev/null"] {
            let name = NtName::from(text);
            let target = LinkTarget::from_unix(&name);
            let bytes = target.to_bytes(ReparseTag::SYMLINK).unwrap();
            let read = LinkTarget::parse(ReparseTag::SYMLINK, &bytes).unwrap();
            assert_eq!(read, target);
            assert_eq!(read.to_unix(), name, "{text}");
        }
    }

    #[test]
    fn absolute_target_has_the_documented_form() {
        let target = LinkTarget::from_unix(&NtName::from("/a/b"));
        assert_eq!(target.substitute, NtName::from("\\??\\C:\\a\\b"));
        assert_eq!(target.print, NtName::from("C:\\a\\b"));
        assert!(!target.is_relative);
    }

    #[test]
    fn cuts_are_errors() {
        let bytes = LinkTarget::from_unix(&NtName::from("/a/b")).to_bytes(ReparseTag::SYMLINK).unwrap();
        for len in 0..bytes.len() - 4 {
            let cut = LinkTarget::parse(ReparseTag::SYMLINK, &bytes[..len]);
            assert_eq!(cut, Err(ReparseTextError::OutOfRange(len)), "{len}");
        }
    }
}
