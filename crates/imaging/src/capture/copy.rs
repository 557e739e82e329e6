//! Contents of other archives, copied as they are stored: no decoding, no encoding, in the order in which they lie.

use std::collections::HashMap;
use std::ops::Range;

use gravure_tree::Origin;
use gravure_wim::{BlobId, CopyOutcome, Resource, ResourceHeader, ResourceId, WimWriter};

use super::contents::{Content, Reader};
use super::known::Known;
use super::write::{Reuse, StoreOptions, Stored};
use crate::Error;
use crate::archive::Archive;
use crate::meter::{Context, Meter};
use crate::read_ahead::ReadAhead;

/// A solid resource is copied as a whole when at least one byte in so many is wanted. Below that, what nobody wants
/// would make the file larger than what compressing blobs singly costs.
const SOLID_SHARE: u64 = 2;

/// A blob that lies in an archive.
struct Place {
    archive: usize,
    offset: u64,
    /// In the plain content of its resource.
    inner: u64,
    id: BlobId,
    resource: ResourceId,
    is_solid: bool,
    number: usize,
}

/// Copies what can be copied of the contents `wanted`; returns the others: those of archives first, in the order in
/// which they lie.
#[expect(clippy::too_many_arguments, reason = "one call site; the arguments are what a copy consists of")]
pub(super) fn copy(
    context: &Context<'_>,
    meter: &Meter<'_>,
    reader: &Reader<'_>,
    list: &[Content],
    wanted: Vec<usize>,
    known: &mut Known,
    writer: &mut WimWriter<'_>,
    stored: &mut Stored,
    options: StoreOptions<'_>,
) -> Result<Vec<usize>, Error> {
    let name = options.name;
    let Some(blobs) = reader.archives else { return Ok(wanted) };
    let (mut places, mut others) = (Vec::new(), Vec::new());
    for number in wanted {
        match place(reader, list, number) {
            Some(place) => places.push(place),
            None => others.push(number),
        }
    }
    places.sort_by_key(|place| (place.archive, place.offset, place.inner));
    let solid = wanted_of_solid(&places, list);
    let aheads: Vec<ReadAhead<'_>> = blobs
        .archives()
        .iter()
        .map(|(number, archive)| {
            let here = places.iter().filter(|place| place.archive == number && !place.is_solid);
            let stored = here.filter_map(|place| archive.wim().resource(place.resource));
            let range =
                |header: ResourceHeader| header.offset..header.offset.saturating_add(header.stored_size);
            let ranges: Vec<Range<u64>> = stored.map(|resource| range(resource.header)).collect();
            ReadAhead::new(archive.source(), &ranges)
        })
        .collect();
    let mut left = Vec::new();
    let mut rest = places.as_slice();
    while let Some(first) = rest.first() {
        context.ctl.check()?;
        let same = |other: &Place| (other.archive, other.resource) == (first.archive, first.resource);
        let (now, after) = rest.split_at(rest.iter().take_while(|other| same(other)).count());
        rest = after;
        let archive = blobs.archives().get(first.archive);
        let outcome = if !first.is_solid {
            match options.reuse {
                Reuse::Solid(_) => Ok(CopyOutcome::MustRecode),
                _ => writer.copy_blob(&aheads[first.archive], archive.wim(), first.id),
            }
        } else if takes_solid(archive, first, &solid, writer, options.reuse) {
            let ids: Vec<BlobId> = now.iter().map(|place| place.id).collect();
            writer.copy_solid(archive.source(), archive.wim(), first.resource, &ids)
        } else {
            Ok(CopyOutcome::MustRecode)
        };
        let outcome = outcome.map_err(|error| {
            let from = archive.name();
            Error::wim(format!("{name}, from {from}"))(error)
        })?;
        if outcome == CopyOutcome::MustRecode {
            left.extend(now.iter().map(|place| place.number));
            continue;
        }
        for place in now {
            let content = &list[place.number];
            let sha1 = archive.wim().blob(place.id).map(|blob| blob.sha1);
            stored.hashes[place.number] = sha1;
            sha1.into_iter().for_each(|sha1| known.add(sha1, content.size));
            stored.copied += u64::from(matches!(outcome, CopyOutcome::Copied(_)));
            meter.add(content.size);
        }
    }
    left.extend(others);
    Ok(left)
}

fn place(reader: &Reader<'_>, list: &[Content], number: usize) -> Option<Place> {
    let Origin::Source { source, key } = list[number].origin else { return None };
    let archives = reader.archives?.archives();
    if reader.directories.iter().any(|(id, _)| *id == source) {
        return None;
    }
    let (archive, id) = archives.find(source, key)?;
    let wim = archives.get(archive).wim();
    let blob = wim.blob(id)?;
    let resource = wim.resource(blob.resource)?;
    let (offset, is_solid) = (resource.header.offset, resource.solid.is_some());
    Some(Place { archive, offset, inner: blob.offset, id, resource: blob.resource, is_solid, number })
}

/// Wanted plain bytes of each solid resource.
fn wanted_of_solid(places: &[Place], list: &[Content]) -> HashMap<(usize, ResourceId), u64> {
    let mut bytes: HashMap<(usize, ResourceId), u64> = HashMap::new();
    for place in places.iter().filter(|place| place.is_solid) {
        *bytes.entry((place.archive, place.resource)).or_default() += list[place.number].size;
    }
    bytes
}

/// Whether a solid resource is copied. Whoever asks for another compression than the archive has does not want its solid
/// resources either, but to ask for solid ones of their kind.
fn takes_solid(
    archive: &Archive,
    place: &Place,
    wanted: &HashMap<(usize, ResourceId), u64>,
    writer: &WimWriter<'_>,
    reuse: Reuse,
) -> bool {
    let resource = archive.wim().resource(place.resource);
    let size = resource.map_or(u64::MAX, |resource| resource.size());
    let is_alike = match reuse {
        Reuse::Nothing | Reuse::Single => false,
        Reuse::Stored => archive.wim().header().compression == writer.compression(),
        Reuse::Solid(wanted) => resource.and_then(Resource::solid_compression) == Some(wanted),
    };
    let wanted = wanted.get(&(place.archive, place.resource)).copied().unwrap_or(0);
    is_alike && wanted >= size / SOLID_SHARE
}
