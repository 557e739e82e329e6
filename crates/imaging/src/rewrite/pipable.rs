//! Images of other files in a pipable one, whatever layout those have: their hashes are known, so everything is read once and
//! written front to back.

use std::io::{BufWriter, Write};

use gravure_tree::{Origin, Sha1Hash};
use gravure_wim::{Metadata, PipableWriter, WriteOptions};

use super::new_file::{Gathered, Recipe, gather};
use super::read_back::cache_bytes;
use super::{ReadBack, Recompress, RewriteOptions, RewriteReport, read_back};
use crate::blob_reader::BlobReader;
use crate::capture::{Content, Missing, OUT_BUFFER_BYTES, Reader, store_pipable};
use crate::meter::{Context, Meter};
use crate::output_file::OutputFile;
use crate::{Error, ErrorKind};

/// Writes a file and reads it back.
pub(super) fn write_file(
    context: &Context<'_>,
    meter: &Meter<'_>,
    out: &OutputFile,
    recipe: &Recipe<'_>,
    write_options: &WriteOptions,
    options: &RewriteOptions,
) -> Result<RewriteReport, Error> {
    let name = out.path().display().to_string();
    let mut buffer = BufWriter::with_capacity(OUT_BUFFER_BYTES, out.file().file());
    let report = write(context, meter, &mut buffer, &name, recipe, write_options, options)?;
    drop(buffer);
    if options.read_back == ReadBack::Full {
        read_back::check(context, meter, out.temporary(), |_| true)?;
    }
    Ok(report)
}

/// Writes to anything that takes bytes, which messages call `name`.
pub(super) fn write(
    context: &Context<'_>,
    meter: &Meter<'_>,
    out: &mut dyn Write,
    name: &str,
    recipe: &Recipe<'_>,
    write_options: &WriteOptions,
    options: &RewriteOptions,
) -> Result<RewriteReport, Error> {
    let failed = || Error::wim(name);
    let (mut images, mut batches) = (Vec::new(), Vec::new());
    for batch in &recipe.batches {
        let (file, limits) = (batch.file, batch.file.archives().get(0).limits());
        let numbers: Vec<_> = batch.images.iter().map(|(image, _)| *image).collect();
        let Gathered { contents, references, .. } = gather(file, &numbers, meter)?;
        for ((image, info), references) in batch.images.iter().zip(references) {
            let bytes = file.wim().read_metadata(file.source(), *image, limits);
            let bytes = bytes.map_err(Error::wim(file.name()))?;
            images.push((Metadata { bytes, references }, info.clone()));
        }
        batches.push((file, contents));
    }
    let mut report =
        RewriteReport { images: u32::try_from(images.len()).unwrap_or(u32::MAX), ..RewriteReport::default() };
    let has_integrity = options.integrity.is_wanted(recipe.had_integrity);
    let (heir_of, level) = (recipe.heir_of, options.level);
    let writer = PipableWriter::create_like(out, write_options, heir_of, images, level, has_integrity);
    let mut writer = writer.map_err(failed())?;
    for (file, contents) in &batches {
        let blobs = BlobReader::new(file.archives().clone(), cache_bytes(file.archives(), context.threads));
        let takes_stored = options.recompress == Recompress::WhereNeeded;
        let reader = Reader { archives: Some(&blobs), takes_stored, ..Reader::default() };
        let hashes =
            contents.iter().map(|content| hash(content, recipe.missing)).collect::<Result<Vec<_>, _>>()?;
        let stored = |(content, hash): (&Content, &Option<Sha1Hash>)| hash.map_or(0, |_| content.size);
        meter.expect_more(contents.iter().zip(&hashes).map(stored).sum());
        let stored = store_pipable(context, meter, &reader, contents, &hashes, &mut writer, level, name)?;
        report.encoded_blobs += stored.encoded;
        report.copied_blobs += stored.copied;
    }
    writer.set_boot_image(recipe.boot).map_err(failed())?;
    report.file_bytes = writer.finish().map_err(failed())?.size;
    Ok(report)
}

/// The hash of a content; nothing for one that is in another file and is to stay there.
fn hash(content: &Content, missing: Missing) -> Result<Option<Sha1Hash>, Error> {
    match (&content.origin, missing, content.sha1) {
        (Origin::Missing, Missing::Keep, _) => Ok(None),
        (Origin::Missing, Missing::Refuse, sha1) => Err(Error::Other {
            what: format!("blob {}", sha1.unwrap_or_default()),
            source: "it is in none of the opened files; name the file that has it as a reference".into(),
            kind: ErrorKind::NotFound,
        }),
        (_, _, sha1) => Ok(sha1),
    }
}
