//! `--limit WHAT=SIZE`: how much an image file may ask for. It is said once, to the process, and holds wherever that opens an
//! image file, as a signal of `interrupt` ends whatever it does.

use std::str::FromStr;
use std::sync::OnceLock;

use gravure_imaging::{ErrorKind, Limits};

use crate::exit::Failure;

/// What [`current`] gives; set before a command runs.
static LIMITS: OnceLock<Limits> = OnceLock::new();

/// What can be limited, and how it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Chunk,
    ChunkTable,
    Xml,
    Metadata,
    Depth,
    Contents,
}

const NAMES: [(&str, What); 6] = [
    ("chunk", What::Chunk),
    ("chunk-table", What::ChunkTable),
    ("xml", What::Xml),
    ("metadata", What::Metadata),
    ("depth", What::Depth),
    ("contents", What::Contents),
];

/// One limit, as `chunk=128M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    what: What,
    value: u64,
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, size) = text.split_once('=').unwrap_or((text, ""));
        let found = NAMES.iter().find(|(known, _)| *known == name);
        let Some((_, what)) = found else {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            return Err(format!("{text:?} is not WHAT=SIZE with one of {}", names.join(", ")));
        };
        let value = number(size).ok_or_else(|| format!("{text:?}: {size:?} is no number, such as 128M"))?;
        let is_32_bit = matches!(what, What::Chunk | What::Depth);
        if is_32_bit && u32::try_from(value).is_err() {
            return Err(format!("{text:?}: at most {}", u32::MAX));
        }
        Ok(Self { what: *what, value })
    }
}

/// A number, alone or with K, M, G or T for powers of 1024.
fn number(text: &str) -> Option<u64> {
    let (digits, unit) = match text.char_indices().last()? {
        (at, letter) if letter.is_ascii_alphabetic() => {
            let power = "KMGT".find(letter.to_ascii_uppercase())? + 1;
            (&text[..at], 1u64 << (10 * power))
        }
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// The usual limits with `asked` in their places.
fn with(asked: &[Limit]) -> Limits {
    let mut limits = Limits::default();
    for Limit { what, value } in asked {
        // Checked when it was read.
        let small = u32::try_from(*value).unwrap_or(u32::MAX);
        match what {
            What::Chunk => limits.max_chunk_bytes = small,
            What::ChunkTable => limits.max_chunk_table_bytes = *value,
            What::Xml => limits.max_xml_bytes = *value,
            What::Metadata => limits.max_metadata_bytes = *value,
            What::Depth => limits.max_depth = small,
            What::Contents => limits.max_image_bytes = *value,
        }
    }
    limits
}

/// Lets `asked` hold for this process; the first call counts.
pub(crate) fn set(asked: &[Limit]) {
    let _ = LIMITS.set(with(asked));
}

/// What holds.
pub(crate) fn current() -> Limits {
    LIMITS.get().copied().unwrap_or_default()
}

/// Refuses to write chunks that only those can read who raise the limit; whoever raised it here knows.
pub(crate) fn grant_chunk(bytes: u32) -> Result<(), Failure> {
    let limit = current().max_chunk_bytes;
    if bytes <= limit {
        return Ok(());
    }
    let message =
        format!("chunks of {bytes} bytes: readers grant {limit}, and need {bytes} a thread and more");
    let cure =
        format!("--limit chunk={bytes} writes them all the same; whoever reads the file needs it, too");
    Err(Failure::new(ErrorKind::Usage, message).with_cure(cure))
}

/// What to do about a file that asks for more.
pub(crate) const CURE: &str = "if the file is to be trusted, raise the limit: --limit WHAT=SIZE, such as chunk=128M, with one of \
chunk, chunk-table, xml, metadata, depth, contents";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_named_numbers() {
        let asked: Vec<Limit> = ["chunk=128M", "depth=20", "contents=3T", "xml=1k", "metadata=7"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let expected = Limits {
            max_chunk_bytes: 128 << 20,
            max_depth: 20,
            max_image_bytes: 3 << 40,
            max_xml_bytes: 1 << 10,
            max_metadata_bytes: 7,
            ..Limits::default()
        };
        assert_eq!(with(&asked), expected);
        assert_eq!(with(&[]), Limits::default());
        for wrong in ["chunk", "chunk=", "chunk=x", "chunk=4G", "chunks=1", "xml=1kb", "xml=-1", "=1", ""] {
            assert!(wrong.parse::<Limit>().is_err(), "{wrong}");
        }
    }
}
