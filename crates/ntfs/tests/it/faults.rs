//! Single fields of a volume with everything in it are spoiled, one after the other: the checker finds each.
//!
//! The volume is one of ours. A fault is a change of one field; where it is, is found by `support::patch`, which shares no code
//! with the checker. Long, for it is a table: a function for each kind of structure with every field that is spoiled in it.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

use crate::support;

use std::collections::BTreeSet;

use gravure_codec::Method;
use gravure_ntfs::{
    CheckObserver, ContentGuide, Encoding, Finding, Rule, SectorSize, Strictness, VolumeOptions, VolumePlan,
    WofAlgorithm, check,
};
use gravure_tree::{ContentRef, NodeId, Tree};
use support::patch::{BLOCK, Patcher, u16_at, u32_at, u64_at};
use support::{all_writes_with, compressed, file, options};

#[derive(Default)]
struct Found {
    rules: BTreeSet<Rule>,
    texts: Vec<String>,
}

impl CheckObserver for Found {
    fn finding(&mut self, finding: &Finding) {
        self.rules.insert(finding.rule);
        self.texts.push(finding.to_string());
    }
}

fn run(bytes: &[u8]) -> Found {
    let mut found = Found::default();
    check(&bytes, Strictness::Fresh, &mut found).unwrap();
    found
}

/// Text that compresses.
fn prose(len: usize) -> Vec<u8> {
    (0..).flat_map(|n: u32| format!("line {n} of some text\n").into_bytes()).take(len).collect()
}

const WOF_BYTES: usize = 30_000;

/// Stores the file `compact` compressed.
struct Guide(NodeId);

impl ContentGuide for Guide {
    fn position(&self, _: &ContentRef) -> u64 {
        0
    }

    fn encoding(&self, node: NodeId, _: &ContentRef) -> Encoding {
        if node != self.0 {
            return Encoding::Plain;
        }
        let stored_bytes = compressed(&prose(WOF_BYTES), Method::Xpress, 4096).len() as u64;
        Encoding::Wof { algorithm: WofAlgorithm::Xpress4K, stored_bytes }
    }
}

/// A small volume with everything.
fn volume() -> Vec<u8> {
    volume_of(SectorSize::Bytes512, 4096)
}

/// The same in another shape.
fn volume_of(sector_size: SectorSize, cluster: u32) -> Vec<u8> {
    let tree = support::windows_tree(500);
    let (tree, compact) = with_compact(tree);
    let size = if cluster > 4096 { 96 << 20 } else { 16 << 20 };
    let options = VolumeOptions { sector_size, cluster_bytes: Some(cluster), ..options(size) };
    let guide = Guide(compact);
    let plan = VolumePlan::new(&tree, &guide, &options).unwrap();
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    for write in all_writes_with(&plan, &tree, &|_| compressed(&prose(WOF_BYTES), Method::Xpress, 4096)) {
        let start = usize::try_from(write.offset).unwrap();
        bytes[start..start + write.bytes.len()].copy_from_slice(&write.bytes);
    }
    bytes
}

fn with_compact(mut tree: Tree) -> (Tree, NodeId) {
    let root = tree.root();
    let compact = tree.add(root, "compact".into(), file(&prose(WOF_BYTES))).unwrap();
    // So many that the root has blocks even with large records.
    for n in 0..60 {
        tree.add(root, format!("file number {n} in the root").as_str().into(), file(b"")).unwrap();
    }
    let awake = [&b"wake"[..], &[0; 5000]].concat();
    tree.add(root, "hiberfil.sys".into(), file(&awake)).unwrap();
    let pairs = tree.add(root, "pairs".into(), support::directory()).unwrap();
    for n in ["1", "2"] {
        let (long, short) = (format!("two long names {n}"), format!("TWOLON~{n}"));
        tree.add_checked(pairs, long.as_str().into(), Some(short.as_str().into()), file(b"")).unwrap();
    }
    (tree, compact)
}

/// A fault: name, what is changed.
type Fault = (String, Box<dyn Fn(&mut Patcher)>);

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, name: impl Into<String>, change: impl Fn(&mut Patcher) + 'static) {
        self.0.push((name.into(), Box::new(change)));
    }

    /// Takes a fault out again.
    fn drop(&mut self, name: &str) {
        self.0.retain(|(other, _)| other != name);
    }

    /// Every value of `fields`, offset and length in a guarded block, changed in two ways.
    fn fields(&mut self, what: &str, start: usize, base: usize, fields: &[(usize, usize)]) {
        for (offset, len) in fields.iter().copied() {
            for (way, change) in [("low", 0usize), ("high", 1)] {
                self.add(format!("{what} at {offset:#x}, {way} byte"), move |patcher: &mut Patcher| {
                    let pos = base + offset + change * (len - 1);
                    let place = patcher.guarded(start, pos);
                    let byte = patcher.bytes[place] ^ if change == 0 { 0x01 } else { 0x40 };
                    patcher.set_guarded(start, pos, &[byte]);
                });
            }
        }
    }
}

/// Fields of a record's head that have to be right; of the rest nobody can say what it should be.
const RECORD_FIELDS: [(usize, usize); 11] = [
    (0, 4),
    (4, 2),
    (6, 2),
    (0x10, 2),
    (0x12, 2),
    (0x14, 2),
    (0x16, 2),
    (0x18, 4),
    (0x1c, 4),
    (0x20, 8),
    (0x2c, 4),
];
const RESIDENT_FIELDS: [(usize, usize); 8] =
    [(0, 4), (4, 4), (8, 1), (9, 1), (0xc, 2), (0x10, 4), (0x14, 2), (0x16, 1)];
const CLUSTER_FIELDS: [(usize, usize); 11] = [
    (0, 4),
    (4, 4),
    (8, 1),
    (9, 1),
    (0xc, 2),
    (0x10, 8),
    (0x18, 8),
    (0x20, 2),
    (0x22, 1),
    (0x28, 8),
    (0x38, 8),
];
const NAME_FIELDS: [(usize, usize); 12] = [
    (0, 8),
    (8, 8),
    (0x10, 8),
    (0x18, 8),
    (0x20, 8),
    (0x28, 8),
    (0x30, 8),
    (0x38, 4),
    (0x3c, 4),
    (0x40, 1),
    (0x41, 1),
    (0x42, 2),
];

fn record_faults(faults: &mut Faults, p: &Patcher, names: &[&str]) {
    for name in names {
        let number = p.find(name);
        let start = p.record(number);
        faults.fields(&format!("record of {name}"), start, 0, &RECORD_FIELDS);
        for one in p.attributes(number) {
            let what = format!("{name}, attribute {:#x} {:?}", one.kind, one.name);
            let fields: &[(usize, usize)] = if one.is_resident { &RESIDENT_FIELDS } else { &CLUSTER_FIELDS };
            faults.fields(&what, start, one.pos, fields);
            if one.kind == 0x80 && one.is_resident && !one.name.is_empty() {
                // How long a named stream is stands nowhere else.
                faults.drop(&format!("{what} at 0x10, low byte"));
            }
            faults.fields(&format!("{what}, number"), start, one.pos, &[(0xe, 2)]);
            if one.kind == 0x30 {
                faults.fields(&format!("{what}, value"), start, one.value, &NAME_FIELDS);
            }
            if !one.is_resident {
                faults.fields(&format!("{what}, runs"), start, one.value, &[(0, 1), (1, 1)]);
            }
        }
    }
}

fn index_faults(
    faults: &mut Faults,
    what: &str,
    start: usize,
    head: usize,
    entries: &[support::patch::Entry],
    is_names: bool,
) {
    faults.fields(&format!("{what}, node"), start, head, &[(0, 4), (4, 4), (8, 4), (0xc, 4)]);
    let last = entries.len() - 1;
    let middle = last / 2;
    for at in BTreeSet::from([0, middle, last.saturating_sub(1), last]) {
        let entry = &entries[at];
        let what = format!("{what}, entry {at}");
        faults.fields(&what, start, entry.pos, &[(8, 2), (0xa, 2), (0xc, 2)]);
        if entry.flags & 1 != 0 {
            faults.fields(&format!("{what}, child"), start, entry.pos + entry.len - 8, &[(0, 8)]);
        }
        if entry.flags & 2 == 0 {
            if is_names {
                faults.fields(&format!("{what}, file"), start, entry.pos, &[(0, 6), (6, 2)]);
                faults.fields(&format!("{what}, key"), start, entry.pos + 0x10, &NAME_FIELDS);
            } else {
                faults.fields(&format!("{what}, key"), start, entry.pos + 0x10, &[(0, 4)]);
                faults.fields(&format!("{what}, data"), start, entry.pos, &[(0, 2), (2, 2)]);
            }
        }
    }
}

fn all_index_faults(faults: &mut Faults, p: &Patcher) {
    let (root, large, extend) = (5, p.find("large directory"), p.find("$Extend"));
    for (what, number) in
        [("root's root", root), ("large directory's root", large), ("$Extend's root", extend)]
    {
        let (start, head, entries) = p.root_entries(number, "$I30");
        index_faults(faults, what, start, head, &entries, true);
        faults.fields(&format!("{what}, head"), start, head - 0x10, &[(0, 4), (4, 4), (8, 4), (0xc, 1)]);
    }
    for (what, number) in [("root's block", root), ("large directory's block", large)] {
        let (start, head, entries) = p.block_entries(number, "$I30");
        index_faults(faults, what, start, head, &entries, true);
        faults.fields(&format!("{what}, head"), start, 0, &[(0, 4), (4, 2), (6, 2), (0x10, 8)]);
    }
    for (file, name) in [("$Secure", "$SII"), ("$Secure", "$SDH"), ("$ObjId", "$O"), ("$Reparse", "$R")] {
        let number = p.find(file);
        let (start, head, entries) = p.root_entries(number, name);
        index_faults(faults, &format!("{file} {name}'s root"), start, head, &entries, false);
        let (start, head, entries) = p.block_entries(number, name);
        index_faults(faults, &format!("{file} {name}'s block"), start, head, &entries, false);
        faults.fields(&format!("{file} {name}'s block, head"), start, 0, &[(0, 4), (4, 2), (0x10, 8)]);
        if file != "$Secure" {
            continue;
        }
        let data = u16_at(&p.plain(start, BLOCK), entries[1].pos);
        faults.fields(
            &format!("{file} {name}, data"),
            start,
            entries[1].pos + data,
            &[(0, 4), (4, 4), (8, 8), (0x10, 4)],
        );
    }
    let number = p.find("$ObjId");
    let (start, _, entries) = p.block_entries(number, "$O");
    faults.fields("$O, file", start, entries[1].pos + 0x20, &[(0, 6), (6, 2)]);
    let number = p.find("$Quota");
    for name in ["$O", "$Q"] {
        let (start, head, entries) = p.root_entries(number, name);
        index_faults(faults, &format!("$Quota {name}"), start, head, &entries, false);
        let data = u16_at(&p.plain(start, p.record_bytes), entries[0].pos);
        faults.fields(&format!("$Quota {name}, data"), start, entries[0].pos + data, &[(0, 1)]);
    }
}

/// Single bytes as they are on disk.
fn plain_faults(faults: &mut Faults, p: &Patcher) {
    let mut flip = |name: &str, place: usize, mask: u8| {
        faults.add(name, move |patcher: &mut Patcher| {
            let byte = patcher.bytes[place] ^ mask;
            patcher.set(place, &[byte]);
        });
    };
    for (name, offset) in [
        ("jump", 0usize),
        ("name", 5),
        ("sector size", 0xb),
        ("sector size, high", 0xc),
        ("cluster size", 0xd),
        ("zeros", 0xe),
        ("medium", 0x15),
        ("zeros of FAT16", 0x16),
        ("zeros of FAT32", 0x20),
        ("drive", 0x24),
        ("sectors", 0x28),
        ("sectors, high", 0x2c),
        ("place of $MFT", 0x30),
        ("place of $MFTMirr", 0x38),
        ("record size", 0x40),
        ("record size, high", 0x41),
        ("index block size", 0x44),
        ("serial", 0x48),
        ("checksum", 0x50),
        ("code", 0x60),
        ("mark", 0x1fe),
        ("mark, second", 0x1ff),
    ] {
        flip(&format!("boot sector: {name}"), offset, 0x04);
    }
    let size = p.bytes.len();
    let copy = size - p.sector_bytes;
    flip("copy of the boot sector", copy + 0x30, 1);
    flip("copy of the boot sector, mark", copy + 0x1fe, 1);
    for pos in [0, 0x30, p.record_bytes + 0x40, 2 * p.record_bytes + 7, 4 * p.record_bytes - 1] {
        flip(&format!("mirror at {pos:#x}"), p.mirror() + pos, 1);
    }
    let definitions = p.clusters(4, 0x80, "");
    for (name, pos) in [("name", 2usize), ("type", 0x80), ("flags", 0x8c), ("least", 0x90), ("most", 0x98)] {
        flip(&format!("$AttrDef: {name}"), definitions + 3 * 160 + pos, 0x11);
    }
    let upcase = p.clusters(10, 0x80, "");
    for (name, pos) in [("a", 2 * 0x61usize), ("umlaut", 2 * 0xe4), ("last", 131_071)] {
        flip(&format!("$UpCase: {name}"), upcase + pos, 1);
    }
    let bitmap = p.clusters(6, 0x80, "");
    let count = (size / p.sector_bytes - 1) * p.sector_bytes / p.cluster_bytes;
    let is_free = |cluster: &usize| p.bytes[bitmap + cluster / 8] & 1 << (cluster % 8) == 0;
    let mft = p.record(0) / p.cluster_bytes;
    let free = (0..count).rfind(is_free).unwrap();
    for (name, cluster) in [("first", 0), ("of the MFT", mft), ("free", free), ("behind the end", count)] {
        flip(&format!("$Bitmap: {name}"), bitmap + cluster / 8, 1 << (cluster % 8));
    }
    let records = p.clusters(0, 0xb0, "");
    // Behind the last record only the rest of a unit of eight bytes belongs to the bitmap.
    let behind = (!p.count().is_multiple_of(64)).then_some(("behind the end", p.count()));
    for (name, record) in
        [("of a file", 80), ("of a free record", 32), ("of the root", 5)].into_iter().chain(behind)
    {
        flip(&format!("bitmap of the MFT: {name}"), records + record / 8, 1 << (record % 8));
    }
    let log = p.clusters(2, 0x80, "");
    flip("log: first byte", log, 0xff);
    flip("log: somewhere in its first pages", log + 5000, 1);
    let sds = p.clusters(9, 0x80, "$SDS");
    for (name, pos) in
        [("hash", 0usize), ("id", 4), ("offset", 8), ("length", 0x10), ("descriptor", 0x14), ("list", 0x30)]
    {
        flip(&format!("$SDS: {name}"), sds + pos, 1);
        flip(&format!("$SDS, copy: {name}"), sds + (256 << 10) + pos, 1);
    }
    let wof = p.clusters(p.find("compact"), 0x80, "WofCompressedData");
    flip("compressed stream: table", wof + 3, 0x40);
}

/// Values of attributes.
fn value_faults(faults: &mut Faults, p: &Patcher) {
    for name in ["attributes", "$Volume", "WinSxS"] {
        let number = p.find(name);
        let one = p.attribute(number, 0x10, "");
        let fields = [
            (0, 8),
            (8, 8),
            (0x10, 8),
            (0x18, 8),
            (0x20, 4),
            (0x24, 4),
            (0x28, 4),
            (0x2c, 4),
            (0x30, 4),
            (0x34, 4),
            (0x38, 8),
            (0x40, 8),
        ];
        faults.fields(&format!("{name}, information"), p.record(number), one.value, &fields);
        // Another descriptor that there is; a directory may be marked case-sensitive.
        faults.drop(&format!("{name}, information at 0x34, low byte"));
        if name == "WinSxS" {
            faults.drop(&format!("{name}, information at 0x28, low byte"));
        }
    }
    let volume = p.attribute(3, 0x70, "");
    faults.fields("$Volume, information", p.record(3), volume.value, &[(8, 1), (9, 1), (0xa, 1), (0xb, 1)]);
    let number = p.find("file link");
    let one = p.attribute(number, 0xc0, "");
    faults.fields("reparse point", p.record(number), one.value, &[(0, 4), (4, 2), (8 + 2, 2), (8, 2)]);
    let number = p.find("compact");
    let one = p.attribute(number, 0xc0, "");
    faults.fields(
        "compressed file",
        p.record(number),
        one.value,
        &[(0, 4), (4, 2), (8, 4), (0xc, 4), (0x10, 4), (0x14, 4)],
    );
    let one = p.attribute(number, 0x80, "");
    faults.fields(
        "compressed file, hole",
        p.record(number),
        one.pos,
        &[(0x28, 8), (0x30, 8), (0x38, 8), (0x40, 8)],
    );
    let number = p.find("attributes");
    let one = p.attribute(number, 0xd0, "");
    faults.fields("extended attributes, sizes", p.record(number), one.value, &[(0, 2), (2, 2), (4, 4)]);
    let one = p.attribute(number, 0xe0, "");
    faults.fields("extended attributes", p.record(number), one.value, &[(0, 4), (4, 1), (5, 1), (6, 2)]);
    let one = p.attribute(number, 0x40, "");
    faults.fields("object id", p.record(number), one.value, &[(0, 4), (4, 4), (12, 4)]);
    let one = p.attribute(8, 0x80, "$Bad");
    faults.fields("$Bad", p.record(8), one.pos, &[(0x18, 8), (0x28, 8), (0x30, 8), (0x38, 8)]);
    let one = p.attribute(10, 0x80, "$Info");
    faults.fields("$UpCase, $Info", p.record(10), one.value, &[(0, 4), (8, 8)]);
    let number = p.find("sparse");
    let one = p.attribute(number, 0x80, "");
    faults.fields("sparse", p.record(number), one.pos, &[(0x22, 1), (0x30, 8), (0x40, 8)]);
    // Sizes of plain data may be anything up to what is allocated; that names repeat them gives a change away.
    let number = p.find("size 65536");
    let one = p.attribute(number, 0x80, "");
    faults.fields("plain data, size", p.record(number), one.pos, &[(0x30, 8)]);
    let list = p.clusters(p.find("popular"), 0x20, "");
    for (name, pos) in [
        ("type", 0usize),
        ("length", 4),
        ("name", 6),
        ("cluster", 8),
        ("record", 0x10),
        ("sequence", 0x16),
        ("number", 0x18),
    ] {
        let place = list + 32 + pos;
        faults.add(format!("attribute list: {name}"), move |patcher: &mut Patcher| {
            let byte = patcher.bytes[place] ^ 1;
            patcher.set(place, &[byte]);
        });
    }
}

/// More than one field, but one thing that is wrong.
fn whole_faults(faults: &mut Faults, p: &Patcher) {
    let number = p.find("large directory");
    let (start, head, entries) = p.block_entries(number, "$I30");
    let (first, second) = (entries[0].clone(), entries[1].clone());
    if first.len == second.len {
        faults.add("two entries swapped", move |patcher: &mut Patcher| {
            let bytes = patcher.plain(start, BLOCK);
            let take = |entry: &support::patch::Entry| bytes[entry.pos..entry.pos + entry.len].to_vec();
            let (a, b) = (take(&first), take(&second));
            patcher.set_guarded(start, first.pos, &b);
            patcher.set_guarded(start, second.pos, &a);
        });
    }
    let dropped = entries[2].clone();
    let end = entries.last().unwrap().clone();
    faults.add("an entry dropped", move |patcher: &mut Patcher| {
        let bytes = patcher.plain(start, BLOCK);
        let rest = bytes[dropped.pos + dropped.len..end.pos + end.len].to_vec();
        patcher.set_guarded(start, dropped.pos, &rest);
        let used = u32_at(&bytes, head + 4) - dropped.len;
        patcher.set_guarded(start, head + 4, &u32::try_from(used).unwrap().to_le_bytes());
    });
    // The directories of one another.
    let (inner, outer) = (p.find("level 1"), p.find("level 0"));
    let name = p.attribute(outer, 0x30, "");
    let place = p.record(outer);
    faults.add("a directory that lies in itself", move |patcher: &mut Patcher| {
        patcher.set_guarded(place, name.value, &u32::try_from(inner).unwrap().to_le_bytes());
    });
    let sparse = p.clusters(p.find("sparse"), 0x80, "") / p.cluster_bytes;
    let (number, place) = (p.find("size 300001"), 0x80);
    let one = p.attribute(number, place, "");
    let start = p.record(number);
    faults.add("clusters of another file", move |patcher: &mut Patcher| {
        let bytes = patcher.plain(start, patcher.record_bytes);
        let head = bytes[one.value];
        let (count, distance) = (usize::from(head & 15), usize::from(head >> 4));
        let place = sparse.to_le_bytes()[..distance].to_vec();
        patcher.set_guarded(start, one.value + 1 + count, &place);
    });
    let start = p.record(p.find("lower.txt"));
    faults.add("a torn record", move |patcher: &mut Patcher| patcher.set(start + 510, &[0xaa, 0xaa]));
    faults.add("a record marked damaged", move |patcher: &mut Patcher| patcher.set(start, b"BAAD"));
    faults.add("a record of zeros", move |patcher: &mut Patcher| {
        patcher.set(start, &vec![0; patcher.record_bytes])
    });
    let hole = p.record(40);
    faults.add("a free record of something else", move |patcher: &mut Patcher| patcher.set(hole, b"ABCD"));
}

/// A fault and the rule that it breaks.
type Named = (&'static str, Rule, Box<dyn Fn(&mut Patcher)>);

/// Sets bytes of a guarded block.
fn guarded(start: usize, pos: usize, bytes: impl AsRef<[u8]> + 'static) -> Box<dyn Fn(&mut Patcher)> {
    Box::new(move |patcher: &mut Patcher| patcher.set_guarded(start, pos, bytes.as_ref()))
}

/// Sets bytes as they are on disk.
fn plain(pos: usize, bytes: impl AsRef<[u8]> + 'static) -> Box<dyn Fn(&mut Patcher)> {
    Box::new(move |patcher: &mut Patcher| patcher.set(pos, bytes.as_ref()))
}

/// What single bits do not reach.
fn named_faults(p: &Patcher) -> Vec<Named> {
    let mut all: Vec<Named> = Vec::new();
    let mut add = |name, rule, change| all.push((name, rule, change));
    let start = |name: &str| p.record(p.find(name));
    let at = |name: &str, kind, stream: &str| p.attribute(p.find(name), kind, stream);

    // The only file with its descriptor takes that of another.
    let only = format!("file with number {:x}", 301usize.wrapping_mul(2_654_435_761) % 0xff_ffff);
    let place = at(&only, 0x10, "").value + 0x34;
    let id = p.plain(start(&only), p.record_bytes)[place] ^ 1;
    add("a descriptor that nobody uses", Rule::SecurityUnused, guarded(start(&only), place, [id]));
    let information = at("lower.txt", 0x10, "");
    add("a time before 1601", Rule::Time, guarded(start("lower.txt"), information.value + 7, [0x81]));
    add("no security id", Rule::SecurityNone, guarded(start("lower.txt"), information.value + 0x34, [0; 4]));
    add(
        "an unknown security id",
        Rule::SecurityDangling,
        guarded(start("lower.txt"), information.value + 0x34, [0, 0, 9, 0]),
    );
    add("a directory bit", Rule::FileBits, guarded(start("lower.txt"), information.value + 0x20, [0x30]));
    let used = at("lower.txt", 0x80, "");
    add(
        "no end mark",
        Rule::AttributeLength,
        guarded(start("lower.txt"), used.pos + used.len, [0xf0, 0xff, 0, 0]),
    );
    let end = p.plain(start("lower.txt"), p.record_bytes)[0x18];
    add("a mark behind the used bytes", Rule::RecordEnd, guarded(start("lower.txt"), 0x18, [end - 8]));

    let (block, head, entries) = p.block_entries(p.find("large directory"), "$I30");
    let (root, root_head, root_entries) = p.root_entries(p.find("large directory"), "$I30");
    // The root leads to one block, that one to many.
    let last = root_entries.last().unwrap();
    let top = block + p.vcn_bytes * u64_at(&p.plain(root, p.record_bytes), last.pos + last.len - 8);
    let inner = p.entries(top, BLOCK, 0x18);
    let children: Vec<usize> = inner.iter().map(|entry| entry.pos + entry.len - 8).collect();
    assert!(children.len() > 2 && inner.iter().all(|entry| entry.flags & 1 == 1), "{inner:?}");
    let first_child = p.plain(top, BLOCK)[children[0]..children[0] + 8].to_vec();
    add("two entries above one block", Rule::IndexTwice, guarded(top, children[1], first_child));
    add("a block that is not there", Rule::IndexChild, guarded(top, children[1], [0xff, 0xff, 0, 0]));
    let used = u32_at(&p.plain(block, BLOCK), head + 4);
    let tail = entries.last().unwrap().len;
    let shorter = u32::try_from(used - tail).unwrap().to_le_bytes();
    add("a node without an end", Rule::IndexEnd, guarded(block, head + 4, shorter));
    let longer = u32::try_from(used + 8).unwrap().to_le_bytes();
    add("an end before the end", Rule::IndexUsed, guarded(block, head + 4, longer));
    add(
        "an entry of something else",
        Rule::EntryTarget,
        guarded(block, entries[0].pos, [0xff, 0xff, 0xff, 0]),
    );
    // One of the same length before it takes its place.
    let pair = entries.windows(2).position(|pair| pair[0].len == pair[1].len && pair[1].flags == 0).unwrap();
    let (first, second) = (entries[pair].clone(), entries[pair + 1].clone());
    let other = p.plain(block, BLOCK)[second.pos..second.pos + second.len].to_vec();
    add("an entry twice", Rule::EntryTwice, guarded(block, first.pos, other));
    add("a root of another order", Rule::IndexCollation, guarded(root, root_head - 0xc, [0x10]));
    let bitmap = at("large directory", 0xb0, "$I30");
    add("a block that is not marked", Rule::IndexBitmap, guarded(root, bitmap.value, [0xfe]));
    add("a block that nothing leads to", Rule::IndexLeak, guarded(root, bitmap.value + 7, [0x80]));

    let popular = at("size 65536", 0x80, "");
    let place = start("size 65536");
    add(
        "more written than there is",
        Rule::Initialized,
        guarded(place, popular.pos + 0x38, [0xff, 0xff, 0xff]),
    );
    add("more than allocated", Rule::Size, guarded(place, popular.pos + 0x30, [0xff, 0xff, 0xff]));
    add("compressed without a bit", Rule::CompressionUnit, guarded(place, popular.pos + 0x22, [4]));
    let ids: Vec<usize> = (0..2).map(|n| p.find(&format!("with id {n}"))).collect();
    let value = |number: usize| p.record(number) + p.attribute(number, 0x40, "").value;
    let id = p.bytes[value(ids[0])..value(ids[0]) + 16].to_vec();
    add("an object id of two files", Rule::ObjectIdTwice, plain(value(ids[1]), id));

    let links = p.find("a long name.config");
    let pair: Vec<_> = p.attributes(links).into_iter().filter(|one| one.kind == 0x30).collect();
    let spaces: Vec<usize> = pair.iter().map(|one| one.value + 0x41).collect();
    add("two long names", Rule::NamePair, guarded(p.record(links), spaces[1], [1]));
    add("a short name that is long", Rule::Name, guarded(p.record(links), spaces[0], [2]));
    add("a name with a slash", Rule::Name, guarded(p.record(links), pair[0].value + 0x42, [0x2f, 0]));
    let alpha = p.attribute(p.find("streams.txt"), 0x80, "alpha");
    let name = alpha.pos + 0x40;
    add("two streams of one name", Rule::AttributeOrder, guarded(start("streams.txt"), name, [0x7a, 0]));

    let log = p.clusters(2, 0x80, "");
    let mut page = vec![0; 4096];
    page[..4].copy_from_slice(b"RSTR");
    page[0x10..0x14].copy_from_slice(&4096u32.to_le_bytes());
    page[0x18] = 0x30;
    page[0x30] = 7;
    add("a log to be replayed", Rule::LogPending, plain(log, page));
    add("a log of zeros", Rule::LogUnknown, plain(log, [0; 8192]));
    let flags = p.attribute(3, 0x70, "").value + 0xa;
    add("a dirty volume", Rule::VolumeDirty, guarded(p.record(3), flags, [1]));
    add("a volume to be resized", Rule::VolumePending, guarded(p.record(3), flags, [2]));
    let bad = p.attribute(8, 0x80, "$Bad");
    let count = u64::try_from(p.bytes.len() / 4096 - 1).unwrap();
    let mut runs = vec![0x21, 1, 0xb8, 0x0b, 2];
    runs.extend_from_slice(&u16::try_from(count - 1).unwrap().to_le_bytes());
    runs.push(0);
    add("a damaged cluster", Rule::BadClusterFound, guarded(p.record(8), bad.value, runs));
    let upcase = p.attribute(10, 0x80, "");
    add("short capitals", Rule::UpCaseSize, guarded(p.record(10), upcase.pos + 0x30, [0xfe, 0xff, 1]));
    add("a wrong capital", Rule::UpCaseBroken, plain(p.clusters(10, 0x80, "") + 2 * 0x61, [0x42]));
    let sds = p.clusters(9, 0x80, "$SDS");
    add("a descriptor without end", Rule::SdsLength, plain(sds + 0x10, [0xff, 0xff, 0xff, 0]));
    let mft = p.attribute(0, 0x80, "");
    let size = u32::try_from(p.count() * p.record_bytes - 8).unwrap().to_le_bytes();
    add("half a record", Rule::MftSize, guarded(p.record(0), mft.pos + 0x30, size));
    add("a mirror outside", Rule::BootMirrorPlace, plain(0x38, [0xff, 0xff, 0xff, 0]));
    add("the MFT outside", Rule::BootMftPlace, plain(0x30, [0xff, 0xff, 0xff, 0]));
    let compact = at("compact", 0xc0, "");
    add(
        "a file for WIMBoot without its image",
        Rule::WofData,
        guarded(start("compact"), compact.value + 8, [2]),
    );
    let hole = at("compact", 0x80, "");
    add("no plain data", Rule::NameSizes, guarded(start("compact"), hole.pos + 0x30, [0x31]));
    let stream = at("compact", 0x80, "WofCompressedData");
    add(
        "a cut compressed stream",
        Rule::WofStream,
        guarded(start("compact"), stream.pos + 0x30, [9, 0, 0, 0]),
    );
    let list = at("popular", 0x20, "");
    add("a list of too much", Rule::ListSize, guarded(start("popular"), list.pos + 0x30, [0, 0, 0, 1]));
    let reads_beyond: Box<dyn Fn(&mut Patcher)> = {
        let (blocks, child) = (at("large directory", 0xa0, "$I30"), children[1]);
        Box::new(move |patcher: &mut Patcher| {
            patcher.set_guarded(root, blocks.pos + 0x30, &[0, 0, 0, 4]);
            patcher.set_guarded(root, blocks.pos + 0x38, &[0, 0, 0, 4]);
            patcher.set_guarded(top, child, &[0, 0x20, 0, 0]);
        })
    };
    add("a block behind all clusters", Rule::IndexChild, reads_beyond);
    add("a bitmap of no bits", Rule::IndexBitmapSize, guarded(root, bitmap.pos + 0x10, [0]));
    let target = at("long link", 0xc0, "");
    assert!(!target.is_resident);
    add(
        "reparse data behind all clusters",
        Rule::Unreadable,
        guarded(start("long link"), target.pos + 0x31, [0x3f]),
    );
    add("a sleeping system", Rule::Hibernated, plain(p.clusters(p.find("hiberfil.sys"), 0x80, ""), *b"hibr"));
    // Side by side in one record.
    let streams = (0..p.count()).filter(|number| p.bytes[p.record(*number)..].starts_with(b"FILE")).find_map(
        |number| {
            let all = p.attributes(number);
            let at = |name: &str| all.iter().find(|one| one.name == name).map(|one| one.pos);
            Some((number, at("stream number 50")?, at("stream number 51")?))
        },
    );
    let (number, first, _) = streams.unwrap();
    let last = first + u16_at(&p.plain(p.record(number), p.record_bytes), first + 0xa) + 2 * 15;
    add("two streams of the same name", Rule::AttributeOrder, guarded(p.record(number), last, [0x31]));
    let list = at("popular", 0x20, "");
    let size = u64_at(&p.plain(start("popular"), p.record_bytes), list.pos + 0x30) - 32;
    add(
        "a list that ends early",
        Rule::ListMissing,
        guarded(start("popular"), list.pos + 0x30, size.to_le_bytes()),
    );
    let mut drop_of = |name, file: &str, index: &str, rule| {
        let (start, head, entries) = p.block_entries(p.find(file), index);
        let (gone, end) = (entries[1].clone(), entries.last().unwrap().clone());
        assert!(gone.flags & 3 == 0 && entries.len() > 3, "{name}: {entries:?}");
        let change: Box<dyn Fn(&mut Patcher)> = Box::new(move |patcher: &mut Patcher| {
            let bytes = patcher.plain(start, BLOCK);
            patcher.set_guarded(start, gone.pos, &bytes[gone.pos + gone.len..end.pos + end.len]);
            let used = u32::try_from(u32_at(&bytes, head + 4) - gone.len).unwrap();
            patcher.set_guarded(start, head + 4, &used.to_le_bytes());
        });
        add(name, rule, change);
    };
    drop_of("a reparse point that is not listed", "$Reparse", "$R", Rule::ReparseUnlisted);
    drop_of("an object id that is not listed", "$ObjId", "$O", Rule::ObjectIdUnlisted);
    drop_of("a descriptor that is not listed by its id", "$Secure", "$SII", Rule::SecurityUnlisted);
    drop_of("a descriptor that is not listed by its hash", "$Secure", "$SDH", Rule::SecurityUnlisted);
    drop_of("a name that is not listed", "large directory", "$I30", Rule::NameUnlisted);
    for (name, pos) in [("a torn index block", 510), ("an index block torn at its end", BLOCK - 2)] {
        add(name, Rule::UpdateNumber, plain(block + pos, [0xaa, 0xaa]));
    }
    add("no copy of the boot sector", Rule::BootCopy, plain(p.bytes.len() - 512, [0; 512]));

    // The short name of one file becomes that of another in the same directory, in its record and in the index.
    let (taker, directory) = (p.find("two long names 2"), p.find("pairs"));
    let digit = 0x42 + 2 * 7;
    let short = p
        .attributes(taker)
        .into_iter()
        .find(|one| one.kind == 0x30 && p.plain(p.record(taker), p.record_bytes)[one.value + 0x41] == 2);
    let (in_record, place) = (short.unwrap().value + digit, p.record(taker));
    let (index, _, entries) = p.root_entries(directory, "$I30");
    let entry = entries
        .iter()
        .find(|entry| entry.key.len() > digit && entry.key[0x41] == 2 && entry.key[digit] == 0x32);
    let in_index = entry.unwrap().pos + 0x10 + digit;
    let change: Box<dyn Fn(&mut Patcher)> = Box::new(move |patcher: &mut Patcher| {
        patcher.set_guarded(place, in_record, &[0x31]);
        patcher.set_guarded(index, in_index, &[0x31]);
    });
    add("two short names", Rule::NameClash, change);
    let extension = p.record(p.find("popular") + 1);
    add("an extension of another file", Rule::ExtensionLost, guarded(extension, 0x20, [5]));
    all
}

#[test]
fn each_rule_is_told_by_its_name() {
    let mut p = Patcher::new(volume());
    let mut wrong = Vec::new();
    for (name, rule, change) in named_faults(&p) {
        change(&mut p);
        let found = run(&p.bytes);
        p.undo();
        if !found.rules.contains(&rule) {
            wrong.push(format!(
                "{name}: {} not among {:#?}",
                rule.name(),
                found.texts.iter().take(5).collect::<Vec<_>>()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// All faults of a volume.
fn all_faults(p: &Patcher) -> Faults {
    let mut faults = Faults(Vec::new());
    let records =
        ["$MFT", "$MFTMirr", "$LogFile", "$Volume", "$Secure", "$Bitmap", "$Boot", "$Extend", "$Reparse"];
    record_faults(&mut faults, p, &records);
    let files = [
        "attributes",
        "short.txt",
        "a long name.config",
        "streams.txt",
        "large directory",
        "popular",
        "sparse",
        "compact",
        "file link",
    ];
    record_faults(&mut faults, p, &files);
    all_index_faults(&mut faults, p);
    plain_faults(&mut faults, p);
    value_faults(&mut faults, p);
    whole_faults(&mut faults, p);
    // 16 clusters of 2 KiB become 32: 64 KiB, which is as usual.
    if p.cluster_bytes == 2048 {
        for what in ["sparse, attribute 0x80 \"\"", "compact, attribute 0x80 \"\"", "sparse"] {
            faults.drop(&format!("{what} at 0x22, low byte"));
        }
    }
    faults
}

/// Makes every fault, or one in `step` in another choice with every seed; the rules that were broken.
fn assert_all_found(what: &str, p: &mut Patcher, step: usize) -> BTreeSet<Rule> {
    let clean = run(&p.bytes);
    assert!(clean.texts.is_empty(), "{what}: {:#?}", clean.texts);
    let faults = all_faults(p);
    let (mut missed, mut rules, mut count) = (Vec::new(), BTreeSet::new(), 0);
    let first = usize::try_from(gravure_testkit::seed() % step as u64).unwrap();
    for (name, change) in faults.0.iter().skip(first).step_by(step) {
        change(p);
        let found = run(&p.bytes);
        p.undo();
        count += 1;
        if found.texts.is_empty() {
            missed.push(name);
        }
        rules.extend(found.rules);
    }
    println!("{what}: {count} of {} faults, {} of {} rules", faults.0.len(), rules.len(), Rule::ALL.len());
    let seed = gravure_testkit::seed();
    assert!(missed.is_empty(), "{what}, seed {seed}: {} of {count} not found: {missed:#?}", missed.len());
    rules
}

/// Rules that no fault here breaks, each with the test that does, or why none can.
const WITHOUT_FAULT: [(Rule, &str); 7] = [
    (Rule::VcnGap, "only streams in several records have parts; `sparse` reads such, none is spoiled"),
    (Rule::IndexDepth, "25 levels of blocks, each found once, are more than a small volume has"),
    (
        Rule::IndexRead,
        "blocks are read where their places were judged before; what a disk cannot read is another error",
    ),
    (
        Rule::AttributeTwice,
        "in one record that is an order; in two the list would have to be wrong in the same way",
    ),
    (Rule::CompressedUnit, "`faults_compressed`"),
    (Rule::CompressedStream, "`faults_compressed`"),
    (Rule::Growth, "`change`, a volume whose growth was cut"),
];

#[test]
fn every_spoiled_field_is_found() {
    let mut p = Patcher::new(volume());
    let is_full = gravure_testkit::full_run();
    let mut rules =
        assert_all_found("512-byte sectors, clusters of 4096", &mut p, if is_full { 1 } else { 8 });
    if is_full {
        for (_, rule, change) in named_faults(&p) {
            change(&mut p);
            let found = run(&p.bytes);
            p.undo();
            assert!(found.rules.contains(&rule), "{}", rule.name());
            rules.extend(found.rules);
        }
        let never: BTreeSet<Rule> = Rule::ALL.iter().copied().filter(|rule| !rules.contains(rule)).collect();
        let expected: BTreeSet<Rule> = WITHOUT_FAULT.iter().map(|(rule, _)| *rule).collect();
        assert_eq!(never, expected, "rules without a fault; known: {WITHOUT_FAULT:?}");
    }
}

/// Records of 4 KiB; index blocks counted in sectors, in several clusters, in halves of one; a mirror of more than four records.
#[test]
fn every_spoiled_field_is_found_in_volumes_of_other_shapes() {
    use SectorSize::{Bytes512, Bytes4096};
    let step = if gravure_testkit::full_run() { 2 } else { 40 };
    for (sector_size, cluster) in [(Bytes4096, 4096), (Bytes512, 65_536), (Bytes512, 512), (Bytes512, 2048)] {
        let mut p = Patcher::new(volume_of(sector_size, cluster));
        let shape = (p.sector_bytes, p.cluster_bytes, p.record_bytes);
        let record = if sector_size == Bytes4096 { 4096 } else { 1024 };
        assert_eq!(shape, (sector_size.bytes() as usize, cluster as usize, record));
        assert_all_found(&format!("{sector_size:?}, clusters of {cluster}"), &mut p, step);
    }
}
