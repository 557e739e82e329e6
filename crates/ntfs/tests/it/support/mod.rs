//! Trees with everything a Windows volume has, and volumes made of them.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "imaging's tests use a part of it")]

pub mod checkers;
pub mod compare;
pub mod patch;

use std::collections::HashMap;
use std::sync::Arc;

use gravure_codec::{Encoder, Level, Method};
use gravure_io::{MemoryDisk, WriteAt};
use gravure_ntfs::{
    ContentGuide, Encoding, NoGuide, Notes, Part, Place, SectorSize, VolumeOptions, VolumePlan, WofAlgorithm,
    Write,
};
use gravure_nttypes::{FileAttributes, FileTime, LinkTarget, NtName, ReparseTag};
use gravure_testkit::Random;
use gravure_tree::{
    ContentRef, Entry, ExtendedAttribute, NamedStream, Node, NodeId, Origin, Reparse, SecurityId, Times, Tree,
};

/// 2023 and a bit per file, so that no two times are equal.
fn times(number: u64) -> Times {
    let time = |add: u64| FileTime(133_000_000_000_000_000 + add * 10_000_000);
    Times {
        created: time(number * 3600),
        accessed: time(number * 3600 + 60),
        written: time(number * 3600 + 7),
    }
}

pub fn directory() -> Node {
    Node {
        attributes: FileAttributes::DIRECTORY,
        security: Some(SecurityId(0)),
        children: Some(Vec::new()),
        times: times(0),
        ..Node::default()
    }
}

pub fn file(content: &[u8]) -> Node {
    Node {
        attributes: FileAttributes::ARCHIVE,
        security: Some(SecurityId(1)),
        data: Some(ContentRef::inline(content)),
        times: times(1),
        ..Node::default()
    }
}

/// A tree in the making, every node with times of its own.
pub struct Builder {
    pub tree: Tree,
    number: u64,
}

impl Builder {
    pub fn new(descriptors: usize) -> Self {
        let mut tree = Tree::new(directory());
        tree.set_security_descriptors((0..descriptors.max(2)).map(descriptor).collect());
        Self { tree, number: 0 }
    }

    pub fn add(&mut self, parent: NodeId, name: &str, short_name: Option<&str>, mut node: Node) -> NodeId {
        self.number += 1;
        node.times = times(self.number);
        self.tree.add_checked(parent, name.into(), short_name.map(NtName::from), node).unwrap()
    }

    pub fn file(&mut self, parent: NodeId, name: &str, content: &[u8]) -> NodeId {
        self.add(parent, name, None, file(content))
    }

    pub fn directory(&mut self, parent: NodeId, name: &str) -> NodeId {
        self.add(parent, name, None, directory())
    }

    pub fn link(&mut self, parent: NodeId, name: &str, node: NodeId) {
        let entry = Entry { name: name.into(), short_name: None, node };
        self.tree.link_checked(parent, entry).unwrap();
    }
}

/// Self-relative descriptor number `n`: owner and group SYSTEM, `n % 8` allowing entries.
pub fn descriptor(n: usize) -> Arc<[u8]> {
    let system = [1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0];
    let entries = n % 8;
    let list_len = 8 + 20 * entries;
    let mut out = vec![1, 0, 4, 0x80];
    for offset in [20u32, 32, 0, 44] {
        out.extend_from_slice(&offset.to_le_bytes());
    }
    out.extend_from_slice(&system);
    out.extend_from_slice(&system);
    out.extend_from_slice(&[2, 0]);
    out.extend_from_slice(&u16::try_from(list_len).unwrap().to_le_bytes());
    out.extend_from_slice(&u16::try_from(entries).unwrap().to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    for entry in 0..entries {
        out.extend_from_slice(&[0, 0, 20, 0]);
        let mask = u32::try_from(n / 8 * 8 + entry).unwrap() & 0x1f_01ff;
        out.extend_from_slice(&mask.to_le_bytes());
        out.extend_from_slice(&system);
    }
    out.into()
}

fn reparse(tag: ReparseTag, substitute: &str, print: &str, is_relative: bool) -> Reparse {
    let target = LinkTarget { substitute: substitute.into(), print: print.into(), is_relative };
    Reparse { tag, reserved: 0, link_flags: 1, content: ContentRef::inline(target.to_bytes(tag).unwrap()) }
}

pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Random::new(seed).fill(&mut bytes);
    bytes
}

pub fn streams(list: &[(&str, &[u8])]) -> Vec<NamedStream> {
    let stream = |(name, content): &(&str, &[u8])| NamedStream {
        name: NtName::from(*name),
        content: ContentRef::inline(*content),
    };
    list.iter().map(stream).collect()
}

/// Everything at once: sizes around every border, links, streams, short names, reparse points, object ids, extended
/// attributes, sparse files, odd names, deep and large directories, many descriptors.
pub fn windows_tree(large_directory: usize) -> Tree {
    windows_builder(large_directory).tree
}

/// The same, to be added to.
pub fn windows_builder(large_directory: usize) -> Builder {
    let mut b = Builder::new(1500);
    add_windows(&mut b, large_directory);
    b
}

/// Sparse files with holes at every place; of one the runs do not fit into a record.
pub fn add_holes(b: &mut Builder) {
    let root = b.tree.root();
    let directory = b.directory(root, "holes");
    let unit = |n: u64| noise(64 << 10, 500 + n);
    let zeros = |units: usize| vec![0; units << 16];
    let contents = [
        [unit(1), zeros(3), unit(2)].concat(),
        [zeros(2), unit(3)].concat(),
        [unit(4), zeros(4), vec![0; 12_345]].concat(),
        zeros(5),
        (0..150).flat_map(|n| [unit(n), zeros(1)].concat()).collect(),
    ];
    for (n, content) in contents.iter().enumerate() {
        let mut node = file(content);
        node.attributes |= FileAttributes::SPARSE;
        let id = b.add(directory, &format!("file with holes {n}"), None, node);
        b.link(directory, &format!("second name {n}"), id);
    }
}

/// Files stored compressed, and where sparse ones are zeros.
#[derive(Default)]
pub struct FormGuide {
    /// Their compressed streams.
    pub stored: HashMap<NodeId, (WofAlgorithm, Vec<u8>)>,
}

impl ContentGuide for FormGuide {
    fn position(&self, _: &ContentRef) -> u64 {
        0
    }

    fn encoding(&self, node: NodeId, _: &ContentRef) -> Encoding {
        self.stored.get(&node).map_or(Encoding::Plain, |(algorithm, stored)| Encoding::Wof {
            algorithm: *algorithm,
            stored_bytes: stored.len() as u64,
        })
    }

    fn zeros(&self, node: NodeId, content: &ContentRef) -> Vec<std::ops::Range<u64>> {
        ZeroGuide.zeros(node, content)
    }
}

/// Files that are to be stored compressed, by each algorithm of the overlay filter; some of their chunks do not get smaller.
pub fn add_compact(b: &mut Builder) -> FormGuide {
    use WofAlgorithm::{Lzx, Xpress4K, Xpress8K, Xpress16K};
    let root = b.tree.root();
    let directory = b.directory(root, "compact");
    let text: Vec<u8> =
        (0..).flat_map(|n: u32| format!("{n} bottles\n").into_bytes()).take(200_000).collect();
    let mut guide = FormGuide::default();
    for (algorithm, chunk) in [(Xpress4K, 4096), (Lzx, 32_768), (Xpress8K, 8192), (Xpress16K, 16_384)] {
        let method = if algorithm == Lzx { Method::Lzx } else { Method::Xpress };
        for len in [chunk - 1, chunk, chunk + 1, 3 * chunk + 5, 150_001] {
            let content = [&text[..len / 2], &noise(len - len / 2, len as u64)].concat();
            let id = b.file(directory, &format!("{algorithm:?} {len}"), &content);
            guide.stored.insert(id, (algorithm, compressed(&content, method, chunk)));
            if len == 150_001 {
                b.link(directory, &format!("{algorithm:?}, second name"), id);
            }
        }
    }
    guide
}

/// A whole volume in memory with contents in the forms that `guide` says.
pub fn volume_of_forms(tree: &Tree, options: &VolumeOptions, guide: &FormGuide) -> Vec<u8> {
    let plan = VolumePlan::new(tree, guide, options).unwrap();
    let disk = MemoryDisk::from_bytes(vec![0x5a; usize::try_from(options.volume_bytes).unwrap()]);
    for write in all_writes_with(&plan, tree, &|node| guide.stored[&node].1.clone()) {
        disk.write_all_at(write.offset, &write.bytes).unwrap();
    }
    disk.to_vec()
}

/// The same and components as Windows keeps them: `nodes` files and directories in all and more, three in ten of them in one
/// directory, a descriptor for every forty, each component's files linked from where they are used.
pub fn large_tree(nodes: usize) -> Tree {
    let mut b = Builder::new((nodes / 40).max(1500));
    add_windows(&mut b, nodes * 3 / 10);
    let descriptors = u32::try_from(b.tree.security_descriptors().len()).unwrap();
    let root = b.tree.root();
    let system = b.tree.lookup("/Windows/System32").unwrap();
    let store = b.tree.lookup("/Windows/WinSxS").unwrap();
    let used = b.directory(root, "Used");
    let mut n = 0u32;
    while b.tree.node_count() < nodes {
        n += 1;
        let hash = n.wrapping_mul(2_654_435_761);
        let name = format!(
            "amd64_microsoft-windows-component-{n}_31bf3856ad364e35_10.0.19041.{}_none_{hash:08x}",
            n % 4000
        );
        let component = b.directory(store, &name);
        let place = if n.is_multiple_of(3) { system } else { used };
        for part in 0..3 {
            // Small files as manifests are, some with content of their own, some with one that many have.
            let len = usize::try_from(hash.rotate_left(part) % 900).unwrap()
                + if hash % 50 == part { 9000 } else { 0 };
            let mut node = file(&noise(
                len,
                if hash.is_multiple_of(4) { 1 } else { u64::from(n) * 3 + u64::from(part) },
            ));
            node.security = Some(SecurityId((n * 3 + part) % descriptors));
            node.attributes = match hash.rotate_left(3 * part) % 8 {
                0 => FileAttributes::HIDDEN | FileAttributes::SYSTEM,
                1 => FileAttributes::READ_ONLY | FileAttributes::ARCHIVE,
                _ => FileAttributes::ARCHIVE,
            };
            if hash.rotate_left(part) % 40 == 7 {
                node.named_streams = streams(&[("Zone.Identifier", b"[ZoneTransfer]\r\nZoneId=3\r\n")]);
            }
            let short = format!("C{n:05X}~{part}.DLL");
            let id = b.add(component, &format!("component {n} part {part}.dll"), Some(short.as_str()), node);
            for copy in 0..hash.rotate_left(7) % 3 {
                b.link(place, &format!("component {n} part {part} copy {copy}.dll"), id);
            }
        }
    }
    b.tree
}

fn add_windows(b: &mut Builder, large_directory: usize) {
    let root = b.tree.root();
    let windows = b.add(root, "Windows", None, directory());
    let system = b.directory(windows, "System32");
    b.directory(root, "empty directory");
    for len in [0usize, 1, 7, 8, 500, 600, 640, 680, 700, 720, 760, 1024, 4095, 4096, 4097, 65_536, 300_001] {
        b.file(system, &format!("size {len}"), &noise(len, len as u64));
    }
    for (n, name) in
        ["Uml\u{e4}ute \u{65e5}\u{672c} \u{1f600}.txt", "UPPER.TXT", "lower.txt", "MiXed.Txt", "a:b", "dot."]
            .iter()
            .enumerate()
    {
        b.file(windows, name, &noise(n * 50, 7));
    }
    b.add(windows, "a long name.config", Some("ALONGN~1.CON"), file(&noise(300, 1)));
    b.add(windows, "short.txt", Some("SHORT.TXT"), file(&noise(300, 2)));
    b.add(root, "Program Files", Some("PROGRA~1"), directory());

    let mut node = file(&noise(300, 3));
    node.attributes = FileAttributes::HIDDEN | FileAttributes::SYSTEM | FileAttributes::READ_ONLY;
    node.object_id = Some((0..64).collect());
    let ea = |name: &str, flags, value: Vec<u8>| ExtendedAttribute { name: name.into(), flags, value };
    node.extended_attributes = vec![ea("NAME", 0x80, b"value".to_vec()), ea("OTHER", 0, noise(40, 4))];
    b.add(windows, "attributes", None, node);
    let mut node = file(b"");
    node.object_id = Some(noise(16, 5));
    node.extended_attributes = vec![ea("LARGE", 0, noise(9000, 6))];
    b.add(windows, "large attributes", None, node);
    for n in 0..40u8 {
        let mut node = file(b"");
        node.object_id = Some(noise(16, 100 + u64::from(n)));
        b.add(system, &format!("with id {n}"), None, node);
    }

    let mut node = file(&noise(90, 8));
    node.named_streams = streams(&[("alpha", &noise(50_000, 9)), ("void", b""), ("Beta", b"small")]);
    b.add(root, "streams.txt", None, node);
    let mut node = file(&noise(5000, 10));
    let names: Vec<String> = (0..60).map(|n| format!("stream number {n}")).collect();
    let contents: Vec<Vec<u8>> = (0..60).map(|n| noise(n * 40, n as u64)).collect();
    let list: Vec<(&str, &[u8])> =
        names.iter().zip(&contents).map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    node.named_streams = streams(&list);
    b.add(root, "many streams", None, node);
    let node = Node { named_streams: streams(&[("info", b"of a directory")]), ..directory() };
    let streamed = b.add(root, "directory with a stream", Some("DIRECT~1"), node);
    b.file(streamed, "inside", b"inside");

    let link = |attributes, reparse| Node {
        attributes: FileAttributes::REPARSE_POINT | attributes,
        security: Some(SecurityId(0)),
        data: Some(ContentRef::empty()),
        reparse: Some(reparse),
        ..Node::default()
    };
    let symlink = reparse(ReparseTag::SYMLINK, "..\\one", "..\\one", true);
    b.add(windows, "file link", None, link(FileAttributes::ARCHIVE, symlink.clone()));
    let long_target = format!("..\\{}", "long\\".repeat(200));
    let long_link = reparse(ReparseTag::SYMLINK, &long_target, &long_target, true);
    b.add(windows, "long link", None, link(FileAttributes::ARCHIVE, long_link));
    let junction = reparse(ReparseTag::MOUNT_POINT, "\\??\\C:\\Windows", "C:\\Windows", false);
    let mut node = link(FileAttributes::DIRECTORY, junction);
    node.data = None;
    node.children = Some(Vec::new());
    b.add(root, "junction", None, node);
    for n in 0..80 {
        b.add(system, &format!("link {n}"), None, link(FileAttributes::ARCHIVE, symlink.clone()));
    }

    let mut node = file(&noise(200_000, 11));
    node.attributes |= FileAttributes::SPARSE;
    b.add(root, "sparse", None, node);
    let linked = b.file(windows, "linked 1", &noise(400, 12));
    b.link(root, "linked 2", linked);
    b.link(system, "linked 3", linked);
    let popular = b.file(system, "popular", &noise(70_000, 13));
    let store = b.directory(windows, "WinSxS");
    for n in 0..1023 {
        b.link(store, &format!("component_{n:04}_of_a_long_name.manifest"), popular);
    }
    let large = b.directory(root, "large directory");
    for n in 0..large_directory {
        let mut node = file(&noise(n % 30, n as u64));
        node.security = Some(SecurityId(u32::try_from(n % 1500).unwrap()));
        b.add(
            large,
            &format!("file with number {:x}", n.wrapping_mul(2_654_435_761) % 0xff_ffff),
            None,
            node,
        );
    }
    let mut deep = root;
    for n in 0..60 {
        deep = b.directory(deep, &format!("level {n}"));
    }
    b.file(deep, "at the bottom", &noise(10_000, 14));
    let longest = "n".repeat(255);
    b.file(root, &longest, b"longest name");
}

/// The stream of a compressed file: table of chunks, chunks.
pub fn compressed(plain: &[u8], method: Method, chunk: usize) -> Vec<u8> {
    let mut encoder = Encoder::new(method, u32::try_from(chunk).unwrap(), Level::Fast).unwrap();
    let (mut table, mut chunks) = (Vec::new(), Vec::new());
    for (n, chunk) in plain.chunks(chunk).enumerate() {
        if n > 0 {
            table.extend_from_slice(&u32::try_from(chunks.len()).unwrap().to_le_bytes());
        }
        let mut out = vec![0; chunk.len()];
        match encoder.encode(chunk, &mut out) {
            Some(len) => chunks.extend_from_slice(&out[..len]),
            None => chunks.extend_from_slice(chunk),
        }
    }
    [table, chunks].concat()
}

/// Content by where the plan wants it, ready to be written.
pub struct Contents {
    pub writes: Vec<Write>,
    pub resident: Vec<u8>,
}

fn bytes_of(content: &ContentRef) -> Vec<u8> {
    match &content.origin {
        Origin::Inline(bytes) => bytes.to_vec(),
        Origin::Empty => Vec::new(),
        other => panic!("tests have inline content only, not {other:?}"),
    }
}

/// All contents of the tree. Compressed ones come from `compressed`.
pub fn contents(plan: &VolumePlan<'_>, tree: &Tree, compressed: &dyn Fn(NodeId) -> Vec<u8>) -> Contents {
    let mut out =
        Contents { writes: Vec::new(), resident: vec![0; usize::try_from(plan.resident_bytes()).unwrap()] };
    let mut seen = std::collections::HashSet::new();
    let nodes = std::iter::once(tree.root()).chain(tree.walk().map(|step| step.entry.node));
    for id in nodes.filter(|id| seen.insert(*id)) {
        let node = tree.node(id);
        let mut parts: Vec<(Part, Vec<u8>)> = Vec::new();
        parts.extend(node.data.iter().map(|data| (Part::Data, bytes_of(data))));
        let named = node.named_streams.iter().enumerate();
        parts.extend(named.map(|(n, stream)| (Part::Named(n), bytes_of(&stream.content))));
        parts.extend(node.reparse.iter().map(|reparse| (Part::Reparse, bytes_of(&reparse.content))));
        for (part, bytes) in parts {
            let (offset, allocated, bytes) = match plan.place_of(id, part).unwrap() {
                Place::Empty => {
                    assert!(bytes.is_empty());
                    continue;
                }
                Place::Resident { slot } => {
                    let start = usize::try_from(slot).unwrap();
                    out.resident[start..start + bytes.len()].copy_from_slice(&bytes);
                    continue;
                }
                Place::Clusters { offset, allocated } => (offset, allocated, bytes),
                Place::Pieces => {
                    for piece in plan.pieces(id) {
                        let (pos, len) =
                            (usize::try_from(piece.pos).unwrap(), usize::try_from(piece.allocated).unwrap());
                        let mut part = bytes[pos..bytes.len().min(pos + len)].to_vec();
                        part.resize(len, 0);
                        out.writes.push(Write { offset: piece.offset, bytes: part });
                    }
                    continue;
                }
                Place::Compressed { offset, allocated, stored_bytes } => {
                    let bytes = compressed(id);
                    assert_eq!(bytes.len() as u64, stored_bytes);
                    (offset, allocated, bytes)
                }
            };
            let mut bytes = bytes;
            bytes.resize(usize::try_from(allocated).unwrap(), 0);
            out.writes.push(Write { offset, bytes });
        }
    }
    out
}

/// Every write in the order in which an engine makes them.
pub fn all_writes(plan: &VolumePlan<'_>, tree: &Tree) -> Vec<Write> {
    all_writes_with(plan, tree, &|_| Vec::new())
}

/// The same; compressed contents come from `compressed`.
pub fn all_writes_with(
    plan: &VolumePlan<'_>,
    tree: &Tree,
    compressed: &dyn Fn(NodeId) -> Vec<u8>,
) -> Vec<Write> {
    let contents = contents(plan, tree, compressed);
    let mut writes = plan.wipes().to_vec();
    writes.extend(contents.writes.iter().cloned());
    writes.extend(plan.metadata(&contents.resident));
    writes.extend(plan.boot_sectors());
    writes
}

/// Knows where sparse files are zeros, to the byte.
#[derive(Debug, Clone, Copy)]
pub struct ZeroGuide;

impl ContentGuide for ZeroGuide {
    fn position(&self, _: &ContentRef) -> u64 {
        0
    }

    fn zeros(&self, _: NodeId, content: &ContentRef) -> Vec<std::ops::Range<u64>> {
        let bytes = bytes_of(content);
        let mut found: Vec<std::ops::Range<u64>> = Vec::new();
        for (block, part) in
            bytes.chunks(4096).enumerate().filter(|(_, part)| part.iter().all(|byte| *byte == 0))
        {
            let (start, end) = (block as u64 * 4096, block as u64 * 4096 + part.len() as u64);
            match found.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => found.push(start..end),
            }
        }
        found
    }
}

/// A whole volume in memory.
pub fn volume(tree: &Tree, options: &VolumeOptions) -> (Vec<u8>, Notes) {
    volume_with(tree, options, &NoGuide)
}

pub fn volume_with(tree: &Tree, options: &VolumeOptions, guide: &dyn ContentGuide) -> (Vec<u8>, Notes) {
    let plan = VolumePlan::new(tree, guide, options).unwrap();
    // What was there before must not matter.
    let size = usize::try_from(options.volume_bytes).unwrap();
    let disk = MemoryDisk::from_bytes(vec![0x5a; size]);
    for write in all_writes(&plan, tree) {
        disk.write_all_at(write.offset, &write.bytes).unwrap();
    }
    (disk.to_vec(), plan.notes())
}

pub fn options(volume_bytes: u64) -> VolumeOptions {
    VolumeOptions {
        label: "Gravure".into(),
        seed: [7; 32],
        time: FileTime(133_500_000_000_000_000),
        ..VolumeOptions::new(volume_bytes)
    }
}

/// Sector and cluster sizes worth testing.
pub fn shapes() -> Vec<(SectorSize, u32)> {
    use SectorSize::{Bytes512, Bytes4096};
    vec![
        (Bytes512, 4096),
        (Bytes512, 512),
        (Bytes512, 2048),
        (Bytes512, 8192),
        (Bytes512, 65_536),
        (Bytes512, 262_144),
        (Bytes4096, 4096),
        (Bytes4096, 65_536),
    ]
}
