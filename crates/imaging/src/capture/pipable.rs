//! Capturing into a pipable file: everything is hashed first, as hashes and names stand before contents, then read a
//! second time and compressed by all cores, and written front to back.

use std::collections::HashSet;
use std::io::Write;

use gravure_codec::Level;
use gravure_nttypes::Guid;
use gravure_tree::{Sha1Hash, Tree};
use gravure_wim::{ChunkData, Compression, Error as WimError, Metadata, PipableWriter, WriteOptions};

use super::contents::{self, Content, Reader, State};
use super::encode::{Purpose, piece_bytes};
use super::hash::hash_some;
use super::known::Known;
use super::write::{BlobOutput, Sink, Stored, chain, is_unreadable, run, settle};
use super::{CaptureOptions, CaptureReport, Integrity, count, guid, image_info};
use crate::Error;
use crate::directory::Symlinks;
use crate::meter::{Context, Meter};

struct Output<'a, 'w> {
    writer: &'a mut PipableWriter<'w>,
    hashes: &'a [Option<Sha1Hash>],
}

impl BlobOutput for Output<'_, '_> {
    fn compression(&self) -> Option<Compression> {
        self.writer.compression()
    }

    fn contains(&self, sha1: &Sha1Hash) -> bool {
        self.writer.contains(sha1)
    }

    fn begin(&mut self, number: usize, size: u64) -> Result<(), WimError> {
        self.writer.begin(self.hashes[number].unwrap_or_default(), size)
    }

    fn append_chunk(&mut self, chunk: ChunkData<'_>) -> Result<(), WimError> {
        self.writer.append_chunk(chunk)
    }

    fn finish_blob(&mut self, _: Sha1Hash) -> Result<bool, WimError> {
        self.writer.finish_blob().map(|_| true)
    }

    fn promised(&self, number: usize) -> Option<Sha1Hash> {
        self.hashes[number]
    }
}

/// Writes the whole file to `out`, which messages call `name`.
#[expect(clippy::too_many_arguments, reason = "one call site; the arguments are what a capture consists of")]
pub(super) fn write(
    context: &Context<'_>,
    meter: &Meter<'_>,
    reader: &Reader<'_>,
    tree: &mut Tree,
    out: &mut dyn Write,
    name: &str,
    options: &CaptureOptions,
    report: &mut CaptureReport,
) -> Result<(), Error> {
    let list = contents::contents(tree);
    let total: u64 = list.iter().map(|content| content.size).sum();
    // Everything is read twice.
    meter.expect(total.saturating_mul(2));
    let hashes = hash(context, meter, reader, &list)?;
    settle(tree, &list, &hashes)?;
    count(tree, report);
    let failed = || Error::wim(name);
    let metadata = Metadata::from_tree(tree).map_err(failed())?;
    let write_options = WriteOptions {
        compression: options.compression,
        guid: Guid(guid(options, &metadata)?),
        links_fixed: options.scan.symlinks == Symlinks::Rebase,
        allow_missing_blobs: false,
    };
    let images = vec![(metadata, image_info(tree, reader, options, meter)?)];
    let has_integrity = options.integrity == Integrity::Table;
    let writer = PipableWriter::create(out, &write_options, images, options.level, has_integrity);
    let mut writer = writer.map_err(failed())?;
    let stored = store(context, meter, reader, &list, &hashes, &mut writer, options.level, name)?;
    report.blobs = stored.encoded + stored.copied;
    report.stored_bytes = writer.len();
    report.file_bytes = writer.finish().map_err(failed())?.size;
    Ok(())
}

/// Writes those of the contents `list` that were not written yet; `hashes` are theirs, and those without one are left out.
/// Returns what became of them, without hashes.
#[expect(
    clippy::too_many_arguments,
    reason = "two call sites; what contents are read with, and what is written"
)]
pub(crate) fn store(
    context: &Context<'_>,
    meter: &Meter<'_>,
    reader: &Reader<'_>,
    list: &[Content],
    hashes: &[Option<Sha1Hash>],
    writer: &mut PipableWriter<'_>,
    level: Level,
    name: &str,
) -> Result<Stored, Error> {
    let compression = writer.compression();
    let mut seen = HashSet::new();
    let mut is_new = |sha1: Sha1Hash| !writer.contains(&sha1) && seen.insert(sha1);
    let wanted: Vec<bool> = hashes.iter().map(|sha1| sha1.is_some_and(&mut is_new)).collect();
    let numbers = (0..list.len()).filter(|number| wanted[*number]).collect();
    let mut output = Output { writer, hashes };
    let mut sink = Sink::new(meter, reader, list, &mut output, name);
    let purpose = Purpose::Store(compression.map(|compression| (compression, level)));
    run(context, &mut sink, purpose, piece_bytes(compression), &Known::default(), numbers)?;
    Ok(Stored { encoded: sink.blobs, copied: sink.copied, ..Stored::default() })
}

/// The hashes of all contents; none for those that cannot be read, which are told of.
fn hash(
    context: &Context<'_>,
    meter: &Meter<'_>,
    reader: &Reader<'_>,
    list: &[Content],
) -> Result<Vec<Option<Sha1Hash>>, Error> {
    let mut hashes = vec![None; list.len()];
    let all = (0..list.len()).collect();
    hash_some(context, meter, reader, list, all, |number, result| {
        match result {
            Ok((sha1, state)) => {
                if state == State::Changed {
                    let name = reader.name(&list[number]);
                    meter.skip(|| format!("{name}: changed while it was captured"));
                }
                hashes[number] = Some(sha1);
            }
            Err(error) if is_unreadable(&error) => {
                meter.skip(|| format!("{}; left out", chain(&error)));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    })?;
    Ok(hashes)
}
