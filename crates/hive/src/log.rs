//! Recovery of hives that were not written completely, from their transaction logs (regf specification, "Format of
//! transaction log files").
//!
//! Two formats: since Windows 8.1 entries `HvLE` with hashes, a sequence of them over two files; before, one bitmap `DIRT` of
//! 512-byte pages. Nothing is applied that is not proven to belong to the hive and to continue what was applied before.

mod marvin;
mod new;
mod old;

use zerocopy::FromBytes as _;
use zerocopy::byteorder::little_endian::U32;

use crate::base::{BaseBlock, BaseDisk, State, TYPE_PRIMARY};
use crate::error::{Error, corrupt};
use crate::hive::Hive;
use crate::limits::{BLOCK_BYTES, MAX_BINS_BYTES};

/// Bytes of the base block that a log starts with.
const LOG_HEADER_BYTES: usize = 512;

/// A hive that is complete again.
#[derive(Debug)]
pub struct Recovered {
    /// The hive, clean.
    pub hive: Hive,
    /// What was done.
    pub replay: Replay,
}

/// What was applied from logs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replay {
    /// Entries applied; 1 for a log of the old format, 0 when the hive was clean.
    pub entries: usize,
    /// Pages written over the hive.
    pub pages: usize,
    /// Sequence numbers of the first and last entry.
    pub sequences: Option<(u32, u32)>,
    /// What was left aside, and why.
    pub notes: Vec<String>,
}

/// A log whose header is sound.
struct Log<'a> {
    bytes: &'a [u8],
    header: &'a BaseDisk,
    /// For messages: `log 1`.
    name: String,
}

/// Makes a hive complete: reads `hive`, and when it is dirty applies `logs` (LOG, or LOG1 and LOG2, in any order; empty
/// ones are skipped). A dirty hive that the logs do not complete is an error.
pub fn recover(hive: &[u8], logs: &[&[u8]]) -> Result<Recovered, Error> {
    let state = dirtiness(hive)?;
    if state == State::Clean {
        return Ok(Recovered { hive: Hive::parse(hive)?, replay: Replay::default() });
    }
    let mut replay = Replay::default();
    let mut sound = Vec::new();
    for (index, bytes) in logs.iter().enumerate() {
        let name = format!("log {}", index.saturating_add(1));
        match Log::parse(bytes, name) {
            Ok(log) => sound.push(log),
            Err(note) => replay.notes.push(note),
        }
    }
    let mut bytes = hive.to_vec();
    let is_new = sound.iter().any(|log| log.header.file_type.get() == new::FILE_TYPE);
    let applied = if is_new {
        new::apply(&mut bytes, &state, &sound, &mut replay)
    } else {
        old::apply(&mut bytes, &state, &sound, &mut replay)
    };
    if !applied {
        let logs = if logs.is_empty() { "there are none".to_owned() } else { replay.notes.join("; ") };
        return Err(Error::NotRecoverable { why: state.reason(), logs });
    }
    Ok(Recovered { hive: Hive::parse(bytes)?, replay })
}

/// Whether a hive is dirty; reads no more than its base block, because the bins may be half-written.
fn dirtiness(hive: &[u8]) -> Result<State, Error> {
    let (disk, _) = BaseDisk::ref_from_prefix(hive)
        .map_err(|_| corrupt("base block", 0, "512 bytes", format_args!("{} bytes", hive.len())))?;
    let (stored, computed) = (disk.checksum.get(), disk.computed_checksum());
    let (primary, secondary) = (disk.primary_sequence.get(), disk.secondary_sequence.get());
    if disk.signature == BaseDisk::SIGNATURE && stored != computed {
        return Ok(State::BadChecksum { stored, computed });
    }
    if disk.signature == BaseDisk::SIGNATURE && primary != secondary {
        return Ok(State::Unfinished { primary, secondary });
    }
    // Clean, or no hive at all.
    BaseBlock::parse(hive).map(|base| base.state)
}

impl<'a> Log<'a> {
    fn parse(bytes: &'a [u8], name: String) -> Result<Self, String> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(format!("{name} is empty"));
        }
        let Ok((header, _)) = BaseDisk::ref_from_prefix(bytes) else {
            return Err(format!("{name} has {} bytes, fewer than a header", bytes.len()));
        };
        if header.signature != BaseDisk::SIGNATURE {
            return Err(format!("{name} does not start with \"regf\""));
        }
        let (stored, computed) = (header.checksum.get(), header.computed_checksum());
        if stored != computed {
            return Err(format!("{name}: header checksum {stored:#010x} should be {computed:#010x}"));
        }
        let (primary, secondary) = (header.primary_sequence.get(), header.secondary_sequence.get());
        if primary != secondary {
            return Err(format!(
                "{name} was not written completely: sequence numbers {primary} and {secondary}"
            ));
        }
        let kind = header.file_type.get();
        if ![1, 2, new::FILE_TYPE].contains(&kind) {
            return Err(format!("{name} has file type {kind}, no log's"));
        }
        Ok(Self { bytes, header, name })
    }
}

/// Makes room for `bins_bytes` of bins; false when no hive may be so large.
fn resize(bytes: &mut Vec<u8>, bins_bytes: u32) -> bool {
    if bins_bytes == 0 || bins_bytes > MAX_BINS_BYTES || !bins_bytes.is_multiple_of(BLOCK_BYTES) {
        return false;
    }
    let len = bins_bytes.saturating_add(BLOCK_BYTES);
    let Ok(len) = usize::try_from(len) else { return false };
    if bytes.len() < len {
        bytes.resize(len, 0);
    }
    true
}

/// A base block that says the hive was written completely as number `sequence`.
fn seal(bytes: &mut [u8], sequence: u32, bins_bytes: u32, flags: Option<u32>) {
    if let Ok((disk, _)) = BaseDisk::mut_from_prefix(bytes) {
        disk.file_type = U32::new(TYPE_PRIMARY);
        disk.primary_sequence = U32::new(sequence);
        disk.secondary_sequence = U32::new(sequence);
        disk.bins_bytes = U32::new(bins_bytes);
        if let Some(flags) = flags {
            disk.flags = U32::new(flags);
        }
        disk.seal();
    }
}
