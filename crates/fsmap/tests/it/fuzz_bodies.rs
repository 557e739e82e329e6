//! The fuzz body as plain tests: file systems of real tools, spoiled at random where their structures are, and cut.
#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests start programs and write files")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::support::{Lab, files, have, map_of, open, run, tool};
use gravure_fsmap::{Class, Kind, Options, fuzz, map, probe};
use gravure_io::ReadAt;
use gravure_testkit::{Random, full_run, seed};

const BLOCK: u64 = 4096;

/// A device of which only what is not zero is held; copies share what they do not change.
#[derive(Clone)]
struct Sparse {
    size: u64,
    blocks: BTreeMap<u64, Arc<Vec<u8>>>,
}

impl Sparse {
    fn load(path: &Path) -> Self {
        let file = open(path);
        let size = file.size();
        let mut blocks = BTreeMap::new();
        for at in (0..size).step_by(1 << 20) {
            let len = (size - at).min(1 << 20);
            let bytes = file.read_vec_at(at, usize::try_from(len).unwrap()).unwrap();
            for (nth, block) in
                bytes.chunks(4096).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0))
            {
                blocks.insert(at / BLOCK + nth as u64, Arc::new(block.to_vec()));
            }
        }
        Self { size, blocks }
    }

    fn set(&mut self, at: u64, value: &[u8]) {
        for (at, byte) in (at..self.size).zip(value) {
            let block = self.blocks.entry(at / BLOCK).or_insert_with(|| Arc::new(vec![0; 4096]));
            Arc::make_mut(block)[usize::try_from(at % BLOCK).unwrap()] = *byte;
        }
    }
}

impl ReadAt for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset + buf.len() as u64;
        if end > self.size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        buf.fill(0);
        if offset == end {
            return Ok(());
        }
        for (number, block) in self.blocks.range(offset / BLOCK..=(end - 1) / BLOCK) {
            let start = number * BLOCK;
            let (from, to) = (start.max(offset), (start + block.len() as u64).min(end));
            let at = |pos: u64, base: u64| usize::try_from(pos - base).unwrap();
            if from < to {
                buf[at(from, offset)..at(to, offset)].copy_from_slice(&block[at(from, start)..at(to, start)]);
            }
        }
        Ok(())
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 != 0 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 },
        )
    })
}

/// Puts checksums right that would else stop the reading at the first byte that was spoiled: exFAT's boot region, nodes and super
/// block of Btrfs, inodes, directories and trees of extents of XFS.
fn mend(dev: &mut Sparse, kind: Kind, at: u64) {
    match kind {
        Kind::ExFat if at < 12 * 512 => {
            let region = dev.read_vec_at(0, 11 * 512).unwrap();
            let sum = region.iter().enumerate().fold(0u32, |sum, (at, byte)| match at {
                106 | 107 | 112 => sum,
                _ => sum.rotate_right(1).wrapping_add(u32::from(*byte)),
            });
            (0..128).for_each(|nth| dev.set(11 * 512 + nth * 4, &sum.to_le_bytes()));
        }
        Kind::Btrfs => {
            // Nodes of 4 KiB, as the super block.
            let start = at / BLOCK * BLOCK;
            let node = dev.read_vec_at(start, 4096).unwrap();
            dev.set(start, &crc32c(&node[32..]).to_le_bytes());
        }
        Kind::Xfs => {
            let start = at / BLOCK * BLOCK;
            let block = dev.read_vec_at(start, 4096).unwrap();
            match &block[..4] {
                b"XDB3" | b"XDD3" => mend_xfs(dev, start, &block, 4),
                b"BMA3" => mend_xfs(dev, start, &block, 64),
                b"XSLM" => mend_xfs(dev, start, &block, 12),
                _ => {
                    for (nth, inode) in (0..).zip(block.chunks(512)) {
                        if inode.starts_with(b"IN") && inode[4] == 3 {
                            mend_xfs(dev, start + nth * 512, inode, 100);
                        }
                    }
                }
            }
        }
        _ => {}
    }
}

fn mend_xfs(dev: &mut Sparse, start: u64, bytes: &[u8], at: usize) {
    let whole = [&bytes[..at], &[0; 4], &bytes[at + 4..]].concat();
    dev.set(start + at as u64, &crc32c(&whole).to_le_bytes());
}

/// Spoils `dev` again and again where it says to have structures. Returns how many still had a map.
fn spoil(dev: &Sparse, rounds: u64, places: &[u64]) -> u64 {
    let kind = probe(dev).unwrap().kind;
    assert!(fuzz::device(dev), "{}", kind.name());
    let mut random = Random::new(seed());
    let mut maps = 0;
    for _ in 0..rounds {
        let mut copy = Sparse { size: dev.size, blocks: BTreeMap::new() };
        // Only what changes is copied.
        let mut spoiled = Over { below: dev, above: &mut copy };
        for _ in 0..=random.below(3) {
            let block = *random.pick(places).unwrap();
            let at = block * BLOCK + random.below(BLOCK);
            let numbers = [0, 1, 7, 8, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX];
            let number =
                if random.once_in(2) { random.next_u64() as u32 } else { *random.pick(&numbers).unwrap() };
            let len = *random.pick(&[1usize, 2, 4]).unwrap();
            spoiled.set(at, &number.to_le_bytes()[..len], kind);
        }
        let merged = spoiled.merged();
        maps += u64::from(fuzz::device(&merged));
    }
    maps
}

struct Over<'a> {
    below: &'a Sparse,
    above: &'a mut Sparse,
}

impl Over<'_> {
    fn set(&mut self, at: u64, value: &[u8], kind: Kind) {
        let mut one = Sparse { size: self.below.size, blocks: BTreeMap::new() };
        for block in at / BLOCK..=(at + 4) / BLOCK {
            let old = self.above.blocks.get(&block).or_else(|| self.below.blocks.get(&block));
            one.blocks.extend(old.map(|old| (block, old.clone())));
        }
        if kind == Kind::ExFat {
            let first = (0..3).filter_map(|block| Some((block, self.below.blocks.get(&block)?.clone())));
            for (block, old) in first {
                one.blocks.entry(block).or_insert(old);
            }
        }
        one.set(at, value);
        mend(&mut one, kind, at);
        self.above.blocks.extend(one.blocks);
    }

    fn merged(&self) -> Sparse {
        let mut merged = self.below.clone();
        merged.blocks.extend(self.above.blocks.clone());
        merged
    }
}

/// Blocks that the file system uses but no file does.
fn structures(path: &Path) -> Vec<u64> {
    let options = Options { max_runs: usize::MAX, ..Options::default() };
    let made = map(&open(path), &options).unwrap();
    let sparse = Sparse::load(path);
    let blocks = sparse.blocks.keys().copied().filter(|block| {
        let at = block * BLOCK;
        let is_file =
            made.extents.iter().any(|extent| extent.offset <= at && at < extent.offset + extent.len);
        let is_used =
            made.runs.iter().any(|run| run.class == Class::Used && run.offset <= at && at < run.end());
        is_used && !is_file
    });
    blocks.collect()
}

fn rounds(usual: u64) -> u64 {
    if full_run() { usual * 20 } else { usual }
}

#[test]
fn ext_spoiled_at_random() {
    if !have(&["mke2fs", "debugfs"]) {
        return;
    }
    for args in [
        &["-t", "ext2", "-b", "1024", "-N", "64"][..],
        &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^64bit", "-N", "64"],
        &["-t", "ext4", "-b", "4096", "-O", "^metadata_csum,bigalloc,inline_data", "-N", "64"],
    ] {
        let lab = Lab::new();
        let image = lab.blank("image", 16 << 20);
        let tree = lab.tree("tree", &files(1, 20, 40_000));
        run(tool("mke2fs").args(["-q", "-F", "-d"]).arg(tree).args(args).arg(&image));
        let mut places = structures(&image);
        if args.contains(&"ext4") {
            // A journal to be replayed.
            let block = lab.path("block");
            fs::write(&block, vec![3; 12_288]).unwrap();
            let script = lab.path("script");
            let text = format!(
                "journal_open\njournal_write -b 500,501,502 {0}\njournal_write -r 501\njournal_close\n",
                block.display()
            );
            fs::write(&script, text).unwrap();
            run(tool("debugfs").arg("-w").arg("-f").arg(&script).arg(&image));
            places = Sparse::load(&image)
                .blocks
                .keys()
                .copied()
                .filter(|block| *block < 40 || places.contains(block))
                .collect();
        }
        let maps = spoil(&Sparse::load(&image), rounds(60), &places);
        assert!(maps > 0, "{args:?}");
    }
}

#[test]
fn fat_and_exfat_spoiled_at_random() {
    if !have(&["mkfs.fat", "mkfs.exfat"]) {
        return;
    }
    for (program, args) in [
        ("mkfs.fat", &["-F", "12"][..]),
        ("mkfs.fat", &["-F", "16", "-s", "1"]),
        ("mkfs.fat", &["-F", "32", "-s", "1"]),
        ("mkfs.exfat", &["-L", "Stick"]),
    ] {
        let lab = Lab::new();
        let image = lab.blank("image", 9 << 20);
        run(tool(program).args(args).arg(&image));
        let dev = Sparse::load(&image);
        let places: Vec<u64> = (0..6).chain(dev.blocks.keys().copied()).collect();
        spoil(&dev, rounds(60), &places);
    }
}

#[test]
fn xfs_spoiled_at_random() {
    if !have(&["mkfs.xfs"]) {
        return;
    }
    for (crc, rounds) in [("crc=0", rounds(15)), ("crc=1", rounds(60))] {
        let lab = Lab::new();
        let image = lab.blank("image", 320 << 20);
        let mut proto = "/dev/null\n0 0\nd--755 0 0\n".to_owned();
        for count in [5, 40, 300] {
            proto += &format!("with{count} d--755 0 0\n");
            (0..count).for_each(|n| proto += &format!("{n:020} p--600 0 0\n"));
            proto += "$\n";
        }
        let content = lab.path("content");
        fs::write(&content, vec![3; 40_000]).unwrap();
        proto += &format!("file ---644 0 0 {}\nlink l--777 0 0 {}\n", content.display(), "x/".repeat(300));
        let path = lab.path("proto");
        fs::write(&path, proto + "$\n").unwrap();
        let mut mkfs = tool("mkfs.xfs");
        run(mkfs.args(["-q", "-f", "-m", crc, "-d", "agcount=2", "-p"]).arg(path).arg(&image));
        let dev = Sparse::load(&image);
        let mut places = structures(&image);
        if crc == "crc=1" {
            // Where files are: headers of groups have checksums that nobody mends.
            places.retain(|block| {
                let head = &dev.blocks[block][..4];
                head.starts_with(b"IN") || [b"XDB3", b"XDD3", b"XSLM"].contains(&head.first_chunk().unwrap())
            });
        }
        assert!(places.len() > 10);
        spoil(&dev, rounds, &places);
    }
}

#[test]
fn ntfs_spoiled_at_random() {
    if !have(&["mkntfs", "ntfscp"]) {
        return;
    }
    let lab = Lab::new();
    let image = lab.blank("image", 12 << 20);
    run(tool("mkntfs").args(["-Q", "-F", "-q"]).arg(&image));
    let page = lab.path("page");
    fs::write(&page, vec![7; 100_000]).unwrap();
    for name in ["pagefile.sys", "hiberfil.sys", "other"] {
        run(tool("ntfscp").arg("-f").arg(&image).arg(&page).arg(name));
        fs::write(&page, [vec![0; 8], vec![9; 50_000]].concat()).unwrap();
    }
    let places = structures(&image);
    spoil(&Sparse::load(&image), rounds(60), &places);
}

#[test]
fn btrfs_spoiled_at_random() {
    if !have(&["mkfs.btrfs"]) {
        return;
    }
    let lab = Lab::new();
    let image = lab.blank("image", 120 << 20);
    let tree = lab.tree("tree", &files(1, 20, 40_000));
    run(tool("mkfs.btrfs").args(["-q", "-f", "-n", "4096", "-m", "dup", "--rootdir"]).arg(tree).arg(&image));
    let map = map_of(&image);
    assert_eq!(map.probe.block_size, Some(4096));
    // All nodes, and the super block.
    let dev = Sparse::load(&image);
    let uuid = dev.read_vec_at(0x1_0020, 16).unwrap();
    let is_node = |block: &&u64| dev.blocks[*block][32..48] == uuid[..];
    let places: Vec<u64> = dev.blocks.keys().filter(is_node).copied().collect();
    assert!(places.len() > 10);
    let maps = spoil(&dev, rounds(60), &places);
    assert!(maps > 0);
}

#[test]
fn devices_cut_anywhere_are_errors_or_wholly_used() {
    if !have(&["mke2fs", "mkfs.fat", "mkfs.exfat", "mkswap", "mkfs.btrfs"]) {
        return;
    }
    for (program, args, size) in [
        ("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "1024"][..], 8u64 << 20),
        ("mkfs.fat", &["-F", "16"], 9 << 20),
        ("mkfs.exfat", &[], 9 << 20),
        ("mkswap", &[], 1 << 20),
        ("mkfs.btrfs", &["-q", "-f"], 120 << 20),
    ] {
        let lab = Lab::new();
        let image = lab.blank("image", size);
        run(tool(program).args(args).arg(&image));
        let dev = Sparse::load(&image);
        let mut random = Random::new(seed());
        let cuts = [0, 1, 511, 512, 1024, 1025, 2048, 4095, 4096, 65_536, 69_632, size / 2, size - 1];
        for cut in cuts.into_iter().chain((0..20).map(|_| random.below(size))) {
            let part = Sparse {
                size: cut,
                blocks: dev
                    .blocks
                    .range(..cut.div_ceil(BLOCK))
                    .map(|(at, block)| (*at, block.clone()))
                    .collect(),
            };
            fuzz::device(&part);
            if let Ok(map) = map(&part, &Options::default()) {
                // A swap space or a device without any signature; and FAT does not reach to the very end of its device.
                let is_free_of_loss = map.kept() + map.excluded() == map.size || map.probe.size <= cut;
                assert!(is_free_of_loss, "{program} at {cut}: {map:?}");
            }
        }
    }
}

#[test]
fn texts_of_lvm() {
    let text = "vg {\nextent_size = 8192\nphysical_volumes {\npv0 {\nid = \"123456-7890-abcd-efgh-ijkl-mnop-qrstuv\"\npe_start = 2048\n\
                pe_count = 100\n}\n}\nlogical_volumes {\na {\nsegment1 {\nstart_extent = 0\nextent_count = 5\ntype = \"striped\"\n\
                stripes = [\"pv0\", 7]\n}\n}\n}\n}\n";
    let mut random = Random::new(seed());
    for len in 0..text.len() {
        fuzz::lvm_text(&text.as_bytes()[..len]);
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..4 {
            let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
            bytes[at] = random.pick(b"{}[]=\"#9,\n a").copied().unwrap();
        }
        fuzz::lvm_text(&bytes);
    }
}

/// A FAT in which every other cluster is used, computed as it is read.
struct Striped {
    clusters: u32,
}

impl Striped {
    const TABLE: u64 = 32 * 512;
}

impl ReadAt for Striped {
    fn size(&self) -> u64 {
        u64::from(self.sectors()) * 512
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        if offset + buf.len() as u64 > self.size() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        let boot = self.boot();
        for (at, byte) in (offset..).zip(buf.iter_mut()) {
            *byte = match at {
                0..512 => boot[usize::try_from(at).unwrap()],
                _ if (Self::TABLE..Self::TABLE + 8).contains(&at) => 0xff,
                // Entries 3, 5, 7 and so on.
                _ if at > Self::TABLE && at < Self::TABLE + u64::from(self.table_sectors()) * 512 => {
                    u8::from(at % 8 == 4)
                }
                _ => 0,
            };
        }
        Ok(())
    }
}

impl Striped {
    fn table_sectors(&self) -> u32 {
        ((u64::from(self.clusters) + 2) * 4).div_ceil(512) as u32
    }

    fn sectors(&self) -> u32 {
        32 + self.table_sectors() + self.clusters
    }

    fn boot(&self) -> [u8; 512] {
        let mut boot = [0; 512];
        boot[11..13].copy_from_slice(&512u16.to_le_bytes());
        boot[13] = 1;
        boot[14..16].copy_from_slice(&32u16.to_le_bytes());
        boot[16] = 1;
        boot[32..36].copy_from_slice(&self.sectors().to_le_bytes());
        boot[36..40].copy_from_slice(&self.table_sectors().to_le_bytes());
        boot[0x52..0x5a].copy_from_slice(b"FAT32   ");
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        boot
    }
}

/// The memory of a map is that of its runs, and those are bounded: short gaps count as used.
#[test]
fn a_volume_in_a_million_pieces_has_as_many_runs_as_are_allowed() {
    let dev = Striped { clusters: if full_run() { 100 << 20 } else { 2 << 20 } };
    let map = map(&dev, &Options { max_runs: 1000, ..Options::default() }).unwrap();
    assert_eq!(map.probe.kind, Kind::Fat32);
    assert!(map.runs.len() <= 1000);
    let used = map.size - u64::from(dev.clusters / 2) * 512;
    assert_eq!(map.allocated, used);
    assert!(map.kept() >= used);
    assert!(map.notes.iter().any(|note| note.contains("short gaps")), "{:?}", map.notes);
}
