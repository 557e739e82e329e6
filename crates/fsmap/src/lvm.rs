//! LVM2 physical volume: label and header in the first sectors, metadata as text in a ring, logical volumes in extents.
//!
//! Linear volumes that lie on this device as a whole are looked into, and only what their content uses is used. Everything else of
//! LVM (thin pools, mirrors, snapshots, parts of volumes on several devices) counts as used. Extents of no volume are free.

mod text;

use std::collections::BTreeSet;
use std::ops::Range;

use gravure_disk::Found;
use gravure_io::ReadAt;

use self::text::{Section, Value};
use crate::checksum;
use crate::field::{le32, le64, read, size, slice, wide};
use crate::map::{Draft, map_nested};
use crate::probe::fact;
use crate::{
    Basis, Class, Error, Excluded, Fallback, Kind, NestedVolume, Options, Overlay, Probe, Segment, Segments,
};

const SECTOR_BYTES: u64 = 512;
/// Sectors in which the label may stand.
const LABEL_SECTORS: usize = 4;
/// Header of a metadata area.
const AREA_HEADER_BYTES: usize = 512;
const AREA_MAGIC: &[u8] = b" LVM2 x[5A%r0N*>";
/// The text is some hundred bytes a volume.
const MAX_TEXT_BYTES: u64 = 16 << 20;
/// Metadata of this place is not to be used.
const FLAG_IGNORED: u32 = 1;
/// Levels of volumes within volumes that are looked into.
const MAX_DEPTH: u32 = 2;

/// Header of the physical volume.
#[derive(Debug)]
struct Header {
    /// 32 letters.
    id: String,
    bytes: u64,
    /// Metadata areas: first byte and length.
    areas: Vec<(u64, u64)>,
}

impl Header {
    fn read(dev: &dyn ReadAt) -> Result<Self, Error> {
        let head = read(dev, "LVM label", 0, size(SECTOR_BYTES).saturating_mul(LABEL_SECTORS))?;
        let found = head.as_chunks::<512>().0.iter().zip((0u64..).step_by(512)).find(|(sector, _)| {
            sector.starts_with(b"LABELONE") && slice(sector.as_slice(), 24, 8) == b"LVM2 001"
        });
        let Some((sector, offset)) = found else {
            return Err(Error::corrupt("LVM label", 0, "LABELONE in one of four sectors", "none"));
        };
        let expected = checksum::lvm(slice(sector, 20, 492));
        let stored = le32(sector, 16);
        if expected != stored || le64(sector, 8).saturating_mul(SECTOR_BYTES) != offset {
            let (expected, found) = (format!("{expected:#x}"), format!("{stored:#x}"));
            return Err(Error::corrupt("LVM label, checksum or own place", offset, expected, found));
        }
        let start = size(le32(sector, 20).into());
        let header = sector.get(start..).unwrap_or_default();
        let id = String::from_utf8_lossy(slice(header, 0, 32)).into_owned();
        let mut at = 40usize;
        // Two lists of places, each ended by zeros: data, then metadata.
        let mut list = || {
            let mut places = Vec::new();
            while at.saturating_add(16) <= header.len() {
                let place = (le64(header, at), le64(header, at.saturating_add(8)));
                at = at.saturating_add(16);
                if place == (0, 0) {
                    break;
                }
                places.push(place);
            }
            places
        };
        let (_, areas) = (list(), list());
        Ok(Self { id, bytes: le64(header, 32), areas })
    }
}

/// Reads the text of the first metadata area that is sound; `None` when the volume is in no group yet.
fn metadata(dev: &dyn ReadAt, header: &Header) -> Result<Option<String>, Error> {
    let mut first_error = None;
    for (start, len) in &header.areas {
        match area(dev, *start, *len) {
            Ok(Some(text)) => return Ok(Some(text)),
            Ok(None) => {}
            Err(error @ Error::Corrupt { .. }) => drop(first_error.get_or_insert(error)),
            Err(error) => return Err(error),
        }
    }
    first_error.map_or(Ok(None), Err)
}

fn area(dev: &dyn ReadAt, start: u64, len: u64) -> Result<Option<String>, Error> {
    let head = read(dev, "LVM metadata area", start, AREA_HEADER_BYTES)?;
    let expected = checksum::lvm(slice(&head, 4, AREA_HEADER_BYTES.saturating_sub(4)));
    if slice(&head, 4, 16) != AREA_MAGIC || le32(&head, 0) != expected || le64(&head, 24) != start {
        let found = format!("{:#x}", le32(&head, 0));
        return Err(Error::corrupt("LVM metadata area", start, format!("checksum {expected:#x}"), found));
    }
    let (pos, bytes, sum, flags) = (le64(&head, 40), le64(&head, 48), le32(&head, 56), le32(&head, 60));
    if pos == 0 || bytes == 0 || flags & FLAG_IGNORED != 0 {
        return Ok(None);
    }
    let header_bytes = wide(AREA_HEADER_BYTES);
    let room = len.saturating_sub(header_bytes);
    if bytes > room.min(MAX_TEXT_BYTES) || pos < header_bytes || pos >= len || le64(&head, 32) != len {
        let found = format!("{bytes} bytes at {pos}");
        return Err(Error::corrupt("LVM metadata, place", start, format!("inside {len} bytes"), found));
    }
    // The area is a ring: what passes its end goes on behind its header.
    let before_end = bytes.min(len.saturating_sub(pos));
    let mut text = read(dev, "LVM metadata", start.saturating_add(pos), size(before_end))?;
    let rest = bytes.saturating_sub(before_end);
    text.extend(read(dev, "LVM metadata", start.saturating_add(header_bytes), size(rest))?);
    let found = checksum::lvm(&text);
    if found != sum {
        return Err(Error::corrupt(
            "LVM metadata, checksum",
            start,
            format!("{sum:#x}"),
            format!("{found:#x}"),
        ));
    }
    while text.last() == Some(&0) {
        text.pop();
    }
    let text = String::from_utf8(text);
    text.map(Some).map_err(|_| Error::corrupt("LVM metadata", start, "text", "other bytes"))
}

/// For fuzzing.
pub(crate) fn parse_text(text: &str) {
    let _ = layout(text, "1234567890abcdefghijklmnopqrstuv", 1 << 40);
}

/// What the metadata says about this device.
#[derive(Debug)]
struct Layout {
    group: String,
    extent_bytes: u64,
    /// First byte of extent 0.
    start: u64,
    extents: u64,
    volumes: Vec<Volume>,
}

/// A logical volume's part of this device.
#[derive(Debug)]
struct Volume {
    name: String,
    /// Where it lies here; empty when it cannot be read from this device alone.
    segments: Vec<Segment>,
    /// All of its bytes on this device.
    places: Vec<Range<u64>>,
}

fn layout(text: &str, id: &str, dev_bytes: u64) -> Result<Layout, Error> {
    let root = text::parse(text)?;
    let wrong = |what: &str| Error::corrupt("LVM metadata", 0, what, "none");
    let (group, body) = root.sections().next().ok_or_else(|| wrong("a volume group"))?;
    let extent_bytes = body.number("extent_size").unwrap_or(0).saturating_mul(SECTOR_BYTES);
    let devices = body.section("physical_volumes").ok_or_else(|| wrong("physical volumes"))?;
    let plain = |id: &str| id.replace('-', "");
    let (own, device) = devices
        .sections()
        .find(|(_, device)| device.text("id").is_some_and(|found| plain(found) == id))
        .ok_or_else(|| wrong("this physical volume"))?;
    let start = device.number("pe_start").unwrap_or(0).saturating_mul(SECTOR_BYTES);
    let extents = device.number("pe_count").unwrap_or(0);
    let end = extents.checked_mul(extent_bytes).and_then(|len| len.checked_add(start));
    if extent_bytes == 0 || start == 0 || end.is_none_or(|end| end > dev_bytes) {
        let found = format!("{extents} of {extent_bytes} bytes from {start}");
        return Err(Error::corrupt("LVM metadata, extents", 0, format!("inside {dev_bytes} bytes"), found));
    }
    let mut layout = Layout { group: group.to_owned(), extent_bytes, start, extents, volumes: Vec::new() };
    let volumes = || body.section("logical_volumes").map(Section::sections).into_iter().flatten();
    // Names that segments mention: a snapshot reads of its origin what the origin's file system says is free, and a pool, a
    // mirror or a cache has an order of its own in the volumes that it is made of. What a stripe names is a device where there is one of
    // that name, and only else a volume; the type of a segment and its tags name none.
    let is_device = |name: &str| devices.section(name).is_some();
    let parts: BTreeSet<&str> = volumes()
        .flat_map(|(_, volume)| volume.sections())
        .flat_map(|(_, segment)| segment.texts())
        .filter(|(key, name)| match *key {
            "type" | "tags" => false,
            "stripes" => !is_device(name),
            _ => true,
        })
        .map(|(_, name)| name)
        .collect();
    for (name, volume) in volumes() {
        let is_visible = volume.list("status").contains(&Value::Text("VISIBLE".to_owned()));
        let mut read = layout.volume(name, volume, own)?;
        if !is_visible || parts.contains(name) {
            read.segments.clear();
        }
        layout.volumes.push(read);
    }
    Ok(layout)
}

impl Layout {
    fn volume(&self, name: &str, volume: &Section, own: &str) -> Result<Volume, Error> {
        let wrong = |found: String| {
            Error::corrupt(
                format!("LVM metadata, volume {name}"),
                0,
                format!("extents below {}", self.extents),
                found,
            )
        };
        let mut out =
            Volume { name: format!("{}/{name}", self.group), segments: Vec::new(), places: Vec::new() };
        let mut is_linear = true;
        for (_, segment) in volume.sections().filter(|(name, _)| name.starts_with("segment")) {
            let count = segment.number("extent_count").unwrap_or(0);
            let logical = segment.number("start_extent").unwrap_or(0);
            let kind = segment.text("type").unwrap_or("");
            let stripes = segment.list("stripes");
            // Pairs of a device and its first extent; a stripe each, of which a part of the extents lies on each.
            for pair in stripes.chunks_exact(2) {
                let [Value::Text(device), Value::Number(first)] = pair else {
                    is_linear = false;
                    continue;
                };
                if device != own {
                    is_linear = false;
                    continue;
                }
                let ways = wide(stripes.len() >> 1).max(1);
                let here = count.div_ceil(ways);
                let inside = first.checked_add(here).is_some_and(|end| end <= self.extents);
                let (Some(len), true) = (here.checked_mul(self.extent_bytes), inside && count > 0) else {
                    return Err(wrong(format!("{here} from {first}")));
                };
                let physical = first.saturating_mul(self.extent_bytes).saturating_add(self.start);
                out.places.push(physical..physical.saturating_add(len));
                let logical = logical.saturating_mul(self.extent_bytes);
                out.segments.push(Segment { logical, physical, len });
            }
            is_linear &= matches!(kind, "striped" | "linear") && stripes.len() == 2;
        }
        out.segments.sort_unstable_by_key(|segment| segment.logical);
        if !is_linear {
            out.segments.clear();
        }
        Ok(out)
    }

    fn area(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.extents.saturating_mul(self.extent_bytes))
    }
}

pub(crate) fn probe(dev: &dyn ReadAt, found: &Found) -> Result<Probe, Error> {
    let header = Header::read(dev)?;
    let size = if header.bytes == 0 { dev.size() } else { header.bytes.min(dev.size()) };
    let mut probe = Probe::new(Kind::Lvm, size);
    probe.uuid.clone_from(&found.uuid);
    probe.version = Some("2".to_owned());
    if let Some(text) = metadata(dev, &header)? {
        let layout = layout(&text, &header.id, dev.size())?;
        probe.label = Some(layout.group.clone());
        probe.block_size = u32::try_from(layout.extent_bytes).ok();
        probe.facts = vec![
            fact("extent-bytes", layout.extent_bytes),
            fact("extents", layout.extents),
            fact("volumes", layout.volumes.len()),
        ];
    }
    Ok(probe)
}

pub(crate) fn map(dev: &dyn ReadAt, options: &Options<'_>, depth: u32) -> Result<Draft, Error> {
    let mut draft = Draft::new(dev.size(), u32::try_from(SECTOR_BYTES).unwrap_or(512), options);
    let header = Header::read(dev)?;
    let Some(text) = metadata(dev, &header)? else {
        draft.notes.push("in no volume group: everything counts as used".to_owned());
        return Ok(draft);
    };
    let layout = layout(&text, &header.id, dev.size())?;
    let mut inside = Inside::default();
    for volume in &layout.volumes {
        let nested = look_into(dev, volume, options, depth, &mut draft, &mut inside)?;
        draft.volumes.push(nested);
    }
    let Inside { mut free, excluded, overlay } = inside;
    free.extend(gaps(&layout));
    free.sort_unstable_by_key(|range| range.start);
    // Used by two volumes is used, whatever one of them says is free in it.
    let mut places: Vec<Range<u64>> =
        layout.volumes.iter().flat_map(|volume| volume.places.clone()).collect();
    places.sort_unstable_by_key(|range| range.start);
    if places.is_sorted_by(|a, b| a.end <= b.start) {
        draft.runs.exclude(excluded);
        free.into_iter().for_each(|range| draft.runs.free(range));
        draft.overlay = Some(overlay);
        return Ok(draft);
    }
    Err(Error::corrupt("LVM metadata", 0, "volumes that lie apart", "two that overlap"))
}

/// What the volumes' contents say, at places on the device.
#[derive(Debug, Default)]
struct Inside {
    free: Vec<Range<u64>>,
    excluded: Vec<(Range<u64>, Excluded)>,
    overlay: Overlay,
}

/// Extents that belong to no volume.
fn gaps(layout: &Layout) -> Vec<Range<u64>> {
    let mut places: Vec<Range<u64>> =
        layout.volumes.iter().flat_map(|volume| volume.places.clone()).collect();
    places.sort_unstable_by_key(|range| range.start);
    let area = layout.area();
    let mut next = area.start;
    let mut free = Vec::new();
    for place in places {
        if next < place.start {
            free.push(next..place.start);
        }
        next = next.max(place.end);
    }
    if next < area.end {
        free.push(next..area.end);
    }
    free
}

/// Adds what a volume's content says is free, its files and its journal, all at their places on the device.
fn look_into(
    dev: &dyn ReadAt,
    volume: &Volume,
    options: &Options<'_>,
    depth: u32,
    draft: &mut Draft,
    inside: &mut Inside,
) -> Result<NestedVolume, Error> {
    let mut nested = NestedVolume {
        name: volume.name.clone(),
        segments: volume.segments.clone(),
        probe: None,
        basis: Basis::NoMap,
    };
    let Some(view) =
        Segments::new(dev, volume.segments.clone()).filter(|view| view.size() > 0 && depth < MAX_DEPTH)
    else {
        draft.notes.push(format!("volume {} counts as used as a whole", volume.name));
        return Ok(nested);
    };
    let map = match map_nested(&view, options, depth.saturating_add(1)) {
        Ok(map) => map,
        Err(Error::Stopped) => return Err(Error::Stopped),
        Err(error) if options.fallback == Fallback::Refuse => {
            return Err(Error::Volume { name: volume.name.clone(), source: Box::new(error) });
        }
        Err(error) => return Err(error),
    };
    let mut next = 0u64;
    for run in &map.runs {
        inside.free.extend(view.physical(next..run.offset.max(next)));
        next = run.end();
        if let Class::Excluded(why) = run.class {
            inside.excluded.extend(view.physical(run.offset..next).map(|range| (range, why)));
        }
    }
    inside.free.extend(view.physical(next..map.size));
    for extent in &map.extents {
        let mut within = 0u64;
        for place in view.physical(extent.offset..extent.offset.saturating_add(extent.len)) {
            let len = place.end.saturating_sub(place.start);
            let content = extent.content.saturating_sub(within).min(len);
            if content > 0 {
                let file_offset = extent.file_offset.saturating_add(within);
                draft.extents.push(crate::FileExtent { offset: place.start, len, file_offset, content });
            }
            within = within.saturating_add(len);
        }
    }
    inside
        .overlay
        .extend(map.overlay.as_ref().map(|inner| inner.on_device(&volume.segments)).unwrap_or_default());
    draft.notes.extend(map.notes.iter().map(|note| format!("{}: {note}", volume.name)));
    nested.probe = Some(map.probe);
    nested.basis = map.basis;
    Ok(nested)
}
