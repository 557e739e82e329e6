//! Printed fields that several commands share: blobs, attributes, times.

use std::fmt::Write as _;

use gravure_imaging::ImageFile;
use gravure_nttypes::FileTime;
use gravure_tree::{ContentRef, Origin, Sha1Hash};
use gravure_wim::{Blob, BlobId, MetadataResource, ResourceFlags, ResourceHeader, Wim};

/// A blob as it stands in one of the opened files.
pub(super) struct Place {
    part: u16,
    references: u32,
    header: ResourceHeader,
    /// Of a solid resource: its plain size, and where in it the blob starts.
    solid: Option<(u64, u64)>,
}

impl Place {
    /// Of a blob of `wim`.
    pub(super) fn of(wim: &Wim, blob: &Blob) -> Option<Self> {
        let resource = wim.resource(blob.resource)?;
        let (part, references) = (wim.header().part, blob.references);
        let solid = resource.solid.is_some().then(|| (resource.size(), blob.offset));
        Some(Self { part, references, header: resource.header, solid })
    }

    /// Of the metadata of an image of `wim`.
    pub(super) fn of_metadata(wim: &Wim, metadata: &MetadataResource) -> Self {
        Self { part: wim.header().part, references: 1, header: metadata.header, solid: None }
    }

    /// Of a content that a tree of `file` refers to.
    fn find(file: &ImageFile, content: &ContentRef) -> Option<Self> {
        let Origin::Source { source, key } = &content.origin else { return None };
        let (_, wim) = file.wims().nth(usize::try_from(source.0).ok()?)?;
        Self::of(wim, wim.blob(BlobId::from_key(*key)?)?)
    }
}

/// The lines about a content of an image.
pub(super) fn content(out: &mut String, file: &ImageFile, content: &ContentRef) {
    let hash = content.sha1.unwrap_or(Sha1Hash::ZERO);
    blob(out, &hash, content.size, Place::find(file, content).as_ref());
}

/// The lines about a blob; what is empty or missing has no place.
pub(super) fn blob(out: &mut String, sha1: &Sha1Hash, size: u64, place: Option<&Place>) {
    line(out, "Hash", &format!("0x{sha1}"));
    line(out, "Uncompressed size", &format!("{size} bytes"));
    let (part, references) = place.map_or((0, 0), |place| (place.part, place.references));
    match place {
        Some(Place { header, solid: Some((plain, offset)), .. }) => {
            let (stored, at) = (header.stored_size, header.offset);
            line(out, "Solid resource", &format!("{plain} => {stored} bytes @ offset {at}"));
            line(out, "Solid offset", &format!("{offset} bytes"));
        }
        _ => {
            let (stored, at) = place.map_or((0, 0), |it| (it.header.stored_size, it.header.offset));
            line(out, "Compressed size", &format!("{stored} bytes"));
            line(out, "Offset in WIM", &format!("{at} bytes"));
        }
    }
    line(out, "Part Number", &part.to_string());
    line(out, "Reference Count", &references.to_string());
    line(out, "Flags", &place.map_or_else(String::new, |place| resource_flags(place.header.flags)));
    out.push('\n');
}

/// Names of the flags of a resource, each with the blanks that go with it.
pub(super) fn resource_flags(flags: ResourceFlags) -> String {
    const NAMES: [(u8, &str); 5] =
        [(0x01, "FREE"), (0x02, "METADATA"), (0x04, "COMPRESSED"), (0x08, "SPANNED"), (0x10, "SOLID")];
    // Compressed comes first, as it is what people look for.
    let order = [NAMES[2], NAMES[0], NAMES[1], NAMES[3], NAMES[4]];
    let set = order.into_iter().filter(|(bit, _)| flags.0 & bit != 0);
    set.map(|(_, name)| format!("WIM_RESHDR_FLAG_{name}  ")).collect()
}

/// Names of file attributes.
pub(super) const ATTRIBUTES: [(u32, &str); 15] = [
    (0x1, "READONLY"),
    (0x2, "HIDDEN"),
    (0x4, "SYSTEM"),
    (0x10, "DIRECTORY"),
    (0x20, "ARCHIVE"),
    (0x40, "DEVICE"),
    (0x80, "NORMAL"),
    (0x100, "TEMPORARY"),
    (0x200, "SPARSE_FILE"),
    (0x400, "REPARSE_POINT"),
    (0x800, "COMPRESSED"),
    (0x1000, "OFFLINE"),
    (0x2000, "NOT_CONTENT_INDEXED"),
    (0x4000, "ENCRYPTED"),
    (0x10000, "VIRTUAL"),
];

/// A time as `ctime` writes it, in UTC.
pub(super) fn time(time: FileTime) -> String {
    let (seconds, _) = time.to_unix();
    let stamp = jiff::Timestamp::from_second(seconds);
    stamp.map_or_else(
        |_| format!("{seconds} s"),
        |stamp| stamp.strftime("%a %b %d %H:%M:%S %Y UTC").to_string(),
    )
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn line(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "{name:<18}= {value}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_look_as_ever() {
        assert_eq!(time(FileTime::from_unix(1_795_856_316, 5)), "Sat Nov 28 08:58:36 2026 UTC");
        assert_eq!(hex(&[0, 0xab]), "00ab");
        let both = ResourceFlags(0x06);
        assert_eq!(resource_flags(both), "WIM_RESHDR_FLAG_COMPRESSED  WIM_RESHDR_FLAG_METADATA  ");
        let mut out = String::new();
        blob(&mut out, &Sha1Hash::ZERO, 0, None);
        assert!(out.starts_with("Hash              = 0x0000"), "{out}");
        assert!(out.ends_with("Reference Count   = 0\nFlags             = \n\n"), "{out}");
    }
}
