//! A foreign reader (the `ntfs` crate) finds every name by search and by listing, and every content.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

use std::collections::BTreeMap;
use std::io::Cursor;

use crate::support::{Builder, options, shapes, volume, windows_tree};
use gravure_ntfs::{Collisions, Error, ListedName, Volume, VolumeOptions};
use gravure_nttypes::ReparseTag;
use gravure_tree::{ContentRef, NodeId, Origin, Tree};
use ntfs::indexes::NtfsFileNameIndex;
use ntfs::structured_values::{NtfsFileNamespace, NtfsStandardInformation};
use ntfs::{Ntfs, NtfsAttributeType, NtfsFile, NtfsReadSeek};

type Disk = Cursor<Vec<u8>>;

fn read_stream(disk: &mut Disk, file: &NtfsFile<'_>, name: &str) -> Vec<u8> {
    let item = file.data(disk, name).unwrap_or_else(|| panic!("no stream {name:?}")).unwrap();
    let attribute = item.to_attribute().unwrap();
    let mut value = attribute.value(disk).unwrap();
    let mut bytes = vec![0; usize::try_from(value.len()).unwrap()];
    value.read_exact(disk, &mut bytes).unwrap();
    bytes
}

fn bytes_of(content: &ContentRef) -> &[u8] {
    match &content.origin {
        Origin::Inline(bytes) => bytes,
        _ => &[],
    }
}

/// Compares a directory and everything below it. Returns how many names were compared.
fn compare(disk: &mut Disk, ntfs: &Ntfs, tree: &Tree, id: NodeId, file: &NtfsFile<'_>, path: &str) -> u64 {
    let index = file.directory_index(disk).unwrap();
    let mut listed = BTreeMap::new();
    let mut entries = index.entries();
    while let Some(entry) = entries.next(disk) {
        let entry = entry.unwrap();
        let key = entry.key().unwrap().unwrap();
        let name: Vec<u16> =
            key.name().0.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        let number = entry.file_reference().file_record_number();
        listed.insert(name, (number, key.namespace()));
    }
    let mut count = 0;
    for entry in tree.children(id) {
        let here = format!("{path}/{}", entry.name);
        let (number, namespace) =
            listed.remove(entry.name.units()).unwrap_or_else(|| panic!("{here} is missing"));
        if let Some(short) = &entry.short_name
            && namespace == NtfsFileNamespace::Win32
        {
            assert_eq!(listed.remove(short.units()), Some((number, NtfsFileNamespace::Dos)), "{here}");
        }
        let mut finder = index.finder();
        let found = NtfsFileNameIndex::find(&mut finder, ntfs, disk, &entry.name.to_string());
        assert_eq!(found.unwrap().unwrap().file_reference().file_record_number(), number, "{here}");
        let child = ntfs.file(disk, number).unwrap();
        count += 1 + compare_file(disk, ntfs, tree, entry.node, &child, &here);
    }
    listed
        .retain(|name, _| path.is_empty() == name.first().is_none_or(|unit| *unit != 0x24 && *unit != 0x2e));
    assert!(listed.is_empty(), "{path}: {listed:?}");
    count
}

fn compare_file(
    disk: &mut Disk,
    ntfs: &Ntfs,
    tree: &Tree,
    id: NodeId,
    file: &NtfsFile<'_>,
    path: &str,
) -> u64 {
    let node = tree.node(id);
    let item = file.info().unwrap();
    assert_eq!(item.creation_time().nt_timestamp(), node.times.created.0, "{path}");
    assert_eq!(item.modification_time().nt_timestamp(), node.times.written.0, "{path}");
    assert_eq!(item.access_time().nt_timestamp(), node.times.accessed.0, "{path}");
    check_information(&item, path);
    let mut names = 0;
    let mut attributes = file.attributes();
    while let Some(attribute) = attributes.next(disk) {
        let attribute = attribute.unwrap();
        let attribute = attribute.to_attribute().unwrap();
        names += u16::from(attribute.ty().unwrap() == NtfsAttributeType::FileName);
    }
    assert_eq!(names, file.hard_link_count(), "{path}");
    for stream in &node.named_streams {
        let found = read_stream(disk, file, &stream.name.to_string());
        assert!(found == bytes_of(&stream.content), "{path}: stream {}", stream.name);
    }
    if node.is_directory() {
        return compare(disk, ntfs, tree, id, file, path);
    }
    let data = node.data.as_ref().map_or(&[][..], bytes_of);
    assert!(read_stream(disk, file, "") == data, "{path}: content");
    0
}

fn check_information(item: &NtfsStandardInformation, path: &str) {
    assert!(item.security_id().is_some_and(|id| id >= 0x100), "{path}: {:?}", item.security_id());
}

fn check(tree: &Tree, options: &VolumeOptions) -> u64 {
    let (bytes, _) = volume(tree, options);
    let mut disk = Cursor::new(bytes);
    let mut ntfs = Ntfs::new(&mut disk).unwrap();
    ntfs.read_upcase_table(&mut disk).unwrap();
    let root = ntfs.root_directory(&mut disk).unwrap();
    compare(&mut disk, &ntfs, tree, tree.root(), &root, "")
}

#[test]
fn everything_is_found_on_every_shape_of_volume_this_reader_knows() {
    let tree = windows_tree(3000);
    // The crate counts blocks of an index in clusters. In volumes whose clusters are larger than such a block the unit is
    // 512 bytes (specs/ntfs.md, 1.3), and it finds none there, whoever wrote them; ntfs-3g's tools judge those.
    const INDEX_BLOCK_BYTES: u32 = 4096;
    for (sector_size, cluster) in shapes().into_iter().filter(|(_, cluster)| *cluster <= INDEX_BLOCK_BYTES) {
        let cluster_bytes = Some(cluster);
        let count = check(&tree, &VolumeOptions { sector_size, cluster_bytes, ..options(128 << 20) });
        assert!(count > 4000, "{count}");
    }
}

#[test]
fn a_volume_without_room_for_content_in_records_is_the_same_volume() {
    let tree = windows_tree(500);
    let little = VolumeOptions { max_resident_bytes: 1000, ..options(64 << 20) };
    assert!(check(&tree, &little) > 1500);
}

#[test]
fn names_that_differ_in_case_only_are_found_each() {
    let mut b = Builder::new(2);
    let root = b.tree.root();
    for name in ["FAQ.html", "faq.html", "Faq.html", "a.txt", "A.TXT", "A.txt", "other"] {
        b.file(root, name, name.as_bytes());
    }
    let options = VolumeOptions { collisions: Collisions::Keep, ..options(16 << 20) };
    let (bytes, notes) = volume(&b.tree, &options);
    assert_eq!(notes.posix_names, 0);
    let mut disk = Cursor::new(bytes);
    let ntfs = Ntfs::new(&mut disk).unwrap();
    let root = ntfs.root_directory(&mut disk).unwrap();
    let index = root.directory_index(&mut disk).unwrap();
    let mut entries = index.entries();
    let mut found = Vec::new();
    while let Some(entry) = entries.next(&mut disk) {
        let entry = entry.unwrap();
        let name = entry.key().unwrap().unwrap().name().to_string_lossy();
        if !name.starts_with(['$', '.']) {
            found.push(name);
        }
    }
    assert_eq!(found, ["A.TXT", "A.txt", "a.txt", "FAQ.html", "Faq.html", "faq.html", "other"]);
}

/// Our own reader, one directory at a time.
#[test]
fn single_directories_are_listed_by_their_path_in_any_case() {
    let tree = windows_tree(500);
    let (bytes, _) = volume(&tree, &options(64 << 20));
    let ours = Volume::open(&bytes).unwrap();
    let whole = |path: &str| ours.list(&bytes, path, 1 << 20).unwrap();
    let mut directories = vec![(tree.root(), String::new())];
    let inner = tree.walk().filter(|step| tree.node(step.entry.node).is_directory());
    directories.extend(inner.map(|step| (step.entry.node, step.display_path().to_string())));
    let (mut count, mut links) = (0, 0);
    for (id, path) in directories.iter().filter(|(_, path)| !path.contains('\u{fffd}')) {
        let mut found = whole(&path.to_uppercase()).unwrap();
        let mut wanted: Vec<ListedName> = tree
            .children(*id)
            .iter()
            .map(|entry| {
                let node = tree.node(entry.node);
                let tag = node.reparse.as_ref().map(|reparse| reparse.tag);
                ListedName {
                    name: entry.name.clone(),
                    is_directory: node.is_directory(),
                    is_link: matches!(tag, Some(ReparseTag::SYMLINK | ReparseTag::MOUNT_POINT)),
                    size: node.data.as_ref().map_or(0, |data| data.size),
                }
            })
            .collect();
        let by_name = |a: &ListedName, b: &ListedName| a.name.units().cmp(b.name.units());
        found.sort_by(by_name);
        wanted.sort_by(by_name);
        assert_eq!(found, wanted, "{path}");
        count += found.len();
        links += found.iter().filter(|entry| entry.is_link).count();
    }
    assert!(count > 500 && links > 0, "{count}, {links} links");
    assert_eq!((whole("no-such-directory"), whole("no/such")), (None, None));
    let file = tree.walk().find(|step| tree.node(step.entry.node).data.is_some()).unwrap();
    assert_eq!(whole(&file.display_path().to_string()), None, "a file has no entries");
    let fullest = directories.iter().max_by_key(|(id, _)| tree.children(*id).len()).unwrap();
    let error = ours.list(&bytes, &fullest.1, tree.children(fullest.0).len() - 1).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    // A damaged volume is an error or another answer, never a panic.
    for at in (0..bytes.len()).step_by(800_011) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        if let Ok(volume) = Volume::open(&damaged) {
            let _ = volume.list(&damaged, &fullest.1, 1 << 20);
        }
    }
}

/// Our own reader, one file at a time.
#[test]
fn single_files_are_read_by_their_path_in_any_case() {
    let tree = windows_tree(500);
    let (bytes, _) = volume(&tree, &options(64 << 20));
    let ours = Volume::open(&bytes).unwrap();
    let (mut count, mut in_place) = (0, 0);
    for step in tree.walk() {
        let node = tree.node(step.entry.node);
        let path = step.display_path().to_string();
        let is_text = !path.contains('\u{fffd}');
        if node.is_directory() || node.reparse.is_some() || node.efs.is_some() || !is_text {
            continue;
        }
        let Some(data) = &node.data else { continue };
        let found = ours.read_file(&bytes, &path.to_uppercase(), 1 << 30).unwrap();
        assert!(found.as_deref() == Some(bytes_of(data)), "{path}");
        count += 1;
        if data.size > 0 {
            // Where it can be changed in place, that is where it stands.
            if let Ok(ranges) = ours.file_ranges(&bytes, &path) {
                let pieces = ranges.unwrap().into_iter().map(|range| {
                    bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].to_vec()
                });
                assert_eq!(Some(pieces.collect::<Vec<_>>().concat()), found, "{path}");
                in_place += 1;
            }
            let error = ours.read_file(&bytes, &path, data.size - 1).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{path}: {error}");
        }
    }
    assert!(count > 500 && (1..count).contains(&in_place), "{count}, {in_place} in place");
    assert_eq!(ours.file_ranges(&bytes, "no-such-file").unwrap(), None);
    for missing in ["no-such-file", "no-such-directory/x"] {
        assert_eq!(ours.read_file(&bytes, missing, 1 << 20).unwrap(), None, "{missing}");
    }
    assert_eq!(ours.read_file(&bytes, "", 1 << 20).unwrap(), None, "a directory has no content");
    // A damaged volume is an error or another answer, never a panic.
    let path = tree.walk().find(|step| tree.node(step.entry.node).data.is_some()).unwrap();
    let path = path.display_path().to_string();
    for at in (0..bytes.len()).step_by(40_009) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xff;
        if let Ok(volume) = Volume::open(&damaged) {
            let _ = volume.read_file(&damaged, &path, 1 << 20);
        }
    }
}
