//! File systems that lived: files written, removed and written again, on partitions full of noise. What is restored onto 0xaa has every file and
//! exactly the blocks that the file system's own tool and partclone call used; partclone's own restore of its own image gives the same files.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::block_filesystems::{apply, capture, open, run, used_target};

use gravure_io::FileAt;
use gravure_testkit::{MountedExfat, Random, oracle, skipped};

const MIB: u64 = 1 << 20;
const SECTOR: usize = 512;

type Files = BTreeMap<String, Vec<u8>>;

/// A directory with a volume in it, `volume`.
struct Lab {
    dir: tempfile::TempDir,
    random: Random,
}

impl Lab {
    /// A volume of `size` bytes of noise, not yet formatted.
    fn new(size: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut random = Random::new(size);
        let mut noise = vec![0; usize::try_from(size).unwrap()];
        random.fill(&mut noise);
        std::fs::write(dir.path().join("volume"), noise).unwrap();
        Self { dir, random }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn volume(&self) -> PathBuf {
        self.path("volume")
    }

    /// `count` files called `name` in directories, below `tree`, text and noise.
    fn write(&mut self, name: &str, count: usize) -> Files {
        let mut out = Files::new();
        for number in 0..count {
            let len = match number % 3 {
                0 => self.random.below(600),
                1 => self.random.below(20_000),
                _ => self.random.below(300_000),
            };
            let mut content = vec![b'w'; usize::try_from(len + 1).unwrap()];
            if number % 2 == 0 {
                self.random.fill(&mut content);
            }
            let path = format!("d{}/{name}{number}.bin", number % 3);
            let on_disk = self.path("tree").join(&path);
            std::fs::create_dir_all(on_disk.parent().unwrap()).unwrap();
            std::fs::write(on_disk, &content).unwrap();
            out.insert(path, content);
        }
        out
    }
}

/// Every second file, taken out of `files`.
fn half(files: &mut Files) -> Vec<String> {
    let gone: Vec<String> = files.keys().step_by(2).cloned().collect();
    gone.iter().for_each(|path| drop(files.remove(path)));
    gone
}

fn read_tree(root: &Path) -> Files {
    fn walk(root: &Path, dir: &Path, out: &mut Files) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, out);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                out.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    let mut out = Files::new();
    walk(root, root, &mut out);
    out
}

fn assert_files(found: &Files, expected: &Files, context: &str) {
    let all: BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let differ: Vec<_> = all.into_iter().filter(|path| found.get(*path) != expected.get(*path)).collect();
    assert!(differ.is_empty(), "{context}: {differ:?}");
}

/// An empty directory.
fn fresh(path: PathBuf) -> PathBuf {
    drop(std::fs::remove_dir_all(&path));
    std::fs::create_dir(&path).unwrap();
    path
}

/// The volume restored onto 0xaa from an image of ours, which of its sectors are those of the source, and of which that says nothing: zeros
/// near the ends, where a restore begins with zeros. Noise makes it mean "kept" elsewhere.
fn restored(lab: &Lab) -> (PathBuf, Vec<bool>, Vec<bool>) {
    let (image, target) = (lab.path("x.gim"), lab.path("restored"));
    let report = capture(&lab.volume(), &image);
    used_target(&target, report.size_bytes);
    let applied = apply(&open(&image), &target);
    assert!(applied.is_verified && applied.tree == report.tree);
    let (source, found) = (std::fs::read(lab.volume()).unwrap(), std::fs::read(&target).unwrap());
    let kept = source.chunks(SECTOR).zip(found.chunks(SECTOR)).map(|(a, b)| a == b).collect();
    let (mib, len) = (MIB as usize, source.len());
    let is_unclear = |(number, sector): (usize, &[u8])| {
        let at = number * SECTOR;
        (at < mib || at + SECTOR > len - mib) && sector.iter().all(|byte| *byte == 0)
    };
    let unclear = source.chunks(SECTOR).enumerate().map(is_unclear).collect();
    (target, kept, unclear)
}

/// Which sectors partclone takes.
fn taken(lab: &Lab, program: &str) -> Option<Vec<bool>> {
    let (domain, log) = (lab.path("domain"), lab.path("log"));
    drop(std::fs::remove_file(&domain));
    run(oracle(program)?.arg("-D").arg("-s").arg(lab.volume()).arg("-o").arg(&domain).arg("-L").arg(log));
    let text = std::fs::read_to_string(domain).unwrap();
    let hex = |text: &str| usize::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let sectors = usize::try_from(std::fs::metadata(lab.volume()).unwrap().len()).unwrap() / SECTOR;
    let mut out = vec![false; sectors];
    for line in text.lines() {
        if let [at, len, "+"] = line.split_whitespace().collect::<Vec<_>>().as_slice() {
            let end = (hex(at) + hex(len)).div_ceil(SECTOR).min(sectors);
            out[hex(at) / SECTOR..end].fill(true);
        }
    }
    Some(out)
}

/// The volume as partclone restores it from its own image.
fn restored_by_partclone(lab: &Lab, program: &str) -> Option<PathBuf> {
    let (image, target, log) = (lab.path("x.pc"), lab.path("theirs"), lab.path("log"));
    drop(std::fs::remove_file(&image));
    run(oracle(program)?
        .args(["-c", "-q", "-s"])
        .arg(lab.volume())
        .arg("-o")
        .arg(&image)
        .arg("-L")
        .arg(&log));
    used_target(&target, std::fs::metadata(lab.volume()).unwrap().len());
    let mut restore = oracle("partclone.restore")?;
    run(restore.args(["-q", "-C", "-s"]).arg(&image).arg("-O").arg(&target).arg("-L").arg(&log));
    Some(target)
}

fn count(sectors: &[bool]) -> usize {
    sectors.iter().filter(|is_set| **is_set).count()
}

fn first_difference(ours: &[bool], theirs: &[bool], unclear: &[bool]) -> Option<usize> {
    ours.iter().zip(theirs).zip(unclear).position(|((a, b), is_unclear)| a != b && !is_unclear)
}

/// Blocks that dumpe2fs does not call free, by sectors.
fn used_by_dumpe2fs(volume: &Path) -> Option<Vec<bool>> {
    let output = oracle("dumpe2fs")?.arg(volume).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<usize>().unwrap()
    };
    let (blocks, block) = (value("Block count:"), value("Block size:"));
    let mut used = vec![true; blocks * block / SECTOR];
    let lists = text.lines().filter_map(|line| line.strip_prefix("  Free blocks: "));
    let mut free = 0;
    for range in lists.flat_map(|list| list.split(", ")).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        used[first * block / SECTOR..(last + 1) * block / SECTOR].fill(false);
        free += last + 1 - first;
    }
    assert_eq!(free, value("Free blocks:"), "all lists were read");
    Some(used)
}

fn files_of_ext(lab: &Lab, volume: &Path) -> Files {
    let out = fresh(lab.path("out"));
    run(oracle("debugfs").unwrap().arg("-R").arg(format!("rdump / {}", out.display())).arg(volume));
    drop(std::fs::remove_dir_all(out.join("lost+found")));
    read_tree(&out)
}

fn debugfs(lab: &Lab, commands: &[String]) {
    let script = lab.path("script");
    std::fs::write(&script, commands.join("\n") + "\n").unwrap();
    run(oracle("debugfs").unwrap().args(["-w", "-f"]).arg(script).arg(lab.volume()));
}

#[test]
fn ext_of_every_version_keeps_what_its_tools_call_used() {
    if ["mke2fs", "debugfs", "e2fsck", "dumpe2fs"].iter().any(|program| oracle(program).is_none()) {
        return;
    }
    for (version, block) in [("ext2", "1024"), ("ext3", "1024"), ("ext3", "4096"), ("ext4", "4096")] {
        let context = format!("{version} in blocks of {block}");
        let mut lab = Lab::new(48 * MIB);
        let mut files = lab.write("old", 60);
        let mut mkfs = oracle("mke2fs").unwrap();
        mkfs.args(["-q", "-F", "-t", version, "-b", block, "-E", "nodiscard", "-d"]);
        run(mkfs.arg(lab.path("tree")).arg(lab.volume()));
        // Half of it goes, other files take its place in pieces, and some of those go again.
        debugfs(&lab, &half(&mut files).iter().map(|path| format!("rm /{path}")).collect::<Vec<_>>());
        let mut new = lab.write("new", 40);
        let put = |path: &String| format!("write {} /{path}", lab.path("tree").join(path).display());
        debugfs(&lab, &new.keys().map(put).collect::<Vec<_>>());
        debugfs(&lab, &half(&mut new).iter().map(|path| format!("rm /{path}")).collect::<Vec<_>>());
        files.extend(new);
        let put_right = oracle("e2fsck").unwrap().arg("-fy").arg(lab.volume()).output().unwrap();
        assert!(put_right.status.code().is_some_and(|code| code <= 1), "{context}: {put_right:?}");
        assert_files(&files_of_ext(&lab, &lab.volume()), &files, &context);

        let (target, kept, unclear) = restored(&lab);
        run(oracle("e2fsck").unwrap().arg("-fn").arg(&target));
        assert_files(&files_of_ext(&lab, &target), &files, &context);
        let used = used_by_dumpe2fs(&lab.volume()).unwrap();
        assert_eq!(first_difference(&kept, &used, &unclear), None, "{context}: sector");
        if let Some(theirs) = taken(&lab, "partclone.extfs") {
            assert_eq!(first_difference(&kept, &theirs, &unclear), None, "{context}: sector of partclone");
        }
        if let Some(theirs) = restored_by_partclone(&lab, "partclone.extfs") {
            assert_files(&files_of_ext(&lab, &theirs), &files_of_ext(&lab, &target), &context);
        }
    }
}

fn files_of_fat(lab: &Lab, volume: &Path) -> Files {
    let out = fresh(lab.path("out"));
    run(oracle("mcopy").unwrap().arg("-i").arg(volume).args(["-s", "-n", "::/*"]).arg(&out));
    read_tree(&out)
}

/// What fsck.fat says: where clusters begin, bytes of one, and how many are in use.
fn clusters(volume: &Path) -> [usize; 3] {
    let output = oracle("fsck.fat").unwrap().args(["-n", "-v"]).arg(volume).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let number = |line: &str| -> usize {
        line.split(|c: char| !c.is_ascii_digit()).find_map(|word| word.parse().ok()).unwrap()
    };
    let line = |word: &str| text.lines().find(|line| line.contains(word)).unwrap();
    let used = text.lines().last().unwrap().rsplit_once(", ").unwrap().1;
    [number(line("Data area starts at byte")), number(line("bytes per cluster")), number(used)]
}

#[test]
fn fat_of_every_width_keeps_what_its_tools_call_used() {
    if ["mkfs.fat", "mcopy", "mdel", "fsck.fat"].iter().any(|program| oracle(program).is_none()) {
        return;
    }
    for (width, cluster, size) in [("12", "8", 12 * MIB), ("16", "4", 40 * MIB), ("32", "1", 40 * MIB)] {
        let context = format!("FAT{width}");
        let mut lab = Lab::new(size);
        let volume = lab.volume();
        let mut files = lab.write("old", 40);
        run(oracle("mkfs.fat").unwrap().args(["-F", width, "-s", cluster]).arg(&volume));
        let put = |lab: &Lab, directory: &str, names: &[&String]| {
            let mut copy = oracle("mcopy").unwrap();
            copy.arg("-o").arg("-i").arg(&volume);
            for name in names.iter().filter(|name| name.starts_with(directory)) {
                copy.arg(lab.path("tree").join(name));
            }
            run(copy.arg(format!("::/{directory}")));
        };
        let remove = |paths: &[String]| {
            for path in paths {
                run(oracle("mdel").unwrap().arg("-i").arg(&volume).arg(format!("::/{path}")));
            }
        };
        run(Command::new("mmd").arg("-i").arg(&volume).args(["::/d0", "::/d1", "::/d2"]));
        for directory in ["d0", "d1", "d2"] {
            put(&lab, directory, &files.keys().collect::<Vec<_>>());
        }
        remove(&half(&mut files));
        let mut new = lab.write("new", 30);
        for directory in ["d0", "d1", "d2"] {
            put(&lab, directory, &new.keys().collect::<Vec<_>>());
        }
        remove(&half(&mut new));
        files.extend(new);
        assert_files(&files_of_fat(&lab, &volume), &files, &context);

        let (target, kept, _) = restored(&lab);
        assert_files(&files_of_fat(&lab, &target), &files, &context);
        let [start, bytes, used] = clusters(&target);
        assert_eq!(clusters(&volume), [start, bytes, used], "{context}");
        // Behind the last whole cluster nothing is counted by anybody; it is kept.
        let slack = (usize::try_from(size).unwrap() - start) % bytes / SECTOR;
        let expected = (start + used * bytes) / SECTOR;
        assert!(
            (expected..=expected + slack).contains(&count(&kept)),
            "{context}: {} {expected}",
            count(&kept)
        );
        // Partclone 0.3.23 takes other clusters than those in use where entries have 12 bits.
        if width != "12"
            && let Some(theirs) = taken(&lab, "partclone.fat")
        {
            assert!(theirs.iter().zip(&kept).all(|(theirs, ours)| *ours || !theirs), "{context}");
            assert!(count(&kept) - count(&theirs) <= slack, "{context}");
            if let Some(theirs) = restored_by_partclone(&lab, "partclone.fat") {
                assert_files(&files_of_fat(&lab, &theirs), &files_of_fat(&lab, &target), &context);
            }
        }
    }
}

#[test]
fn exfat_keeps_what_its_tools_call_used() {
    if ["mkfs.exfat", "fsck.exfat"].iter().any(|program| oracle(program).is_none()) {
        return;
    }
    let mut lab = Lab::new(48 * MIB);
    let mut files = lab.write("old", 40);
    run(oracle("mkfs.exfat").unwrap().args(["-c", "4K"]).arg(lab.volume()));
    {
        let Some(mounted) = MountedExfat::new(&lab.volume(), &lab.path("mounted")) else { return };
        let put = |files: &Files| {
            for (path, content) in files {
                let path = mounted.root.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
        };
        let remove = |paths: &[String]| {
            paths.iter().for_each(|path| std::fs::remove_file(mounted.root.join(path)).unwrap());
        };
        put(&files);
        remove(&half(&mut files));
        let mut new = lab.write("new", 30);
        put(&new);
        remove(&half(&mut new));
        files.extend(new);
    }
    let (target, kept, unclear) = restored(&lab);
    run(oracle("fsck.exfat").unwrap().arg("-n").arg(&target));
    let files_of = |volume: &Path| read_tree(&MountedExfat::new(volume, &lab.path("mounted")).unwrap().root);
    assert_files(&files_of(&target), &files, "exFAT");
    if let Some(theirs) = taken(&lab, "partclone.exfat") {
        assert_eq!(first_difference(&kept, &theirs, &unclear), None, "sector of partclone");
        if let Some(theirs) = restored_by_partclone(&lab, "partclone.exfat") {
            assert_files(&files_of(&theirs), &files, "exFAT by partclone");
        }
    }
}

#[test]
fn swap_comes_back_as_its_header() {
    let Some(mut mkswap) = oracle("mkswap") else { return };
    let lab = Lab::new(8 * MIB);
    run(mkswap.args(["-L", "tausch"]).arg(lab.volume()));
    let (target, kept, _) = restored(&lab);
    assert_eq!((count(&kept[..8]), count(&kept[8..])), (8, 0), "the first page alone is kept");
    let probe = |path: &Path| gravure_fsmap::probe(&FileAt::open(path).unwrap()).unwrap();
    assert_eq!(probe(&target), probe(&lab.volume()));
    assert_eq!(probe(&target).label.as_deref(), Some("tausch"));
}

/// A name and pieces.
type LogicalVolume = (&'static str, &'static [(usize, usize)]);

/// Volumes of a group by their pieces, in their order: first extent of 1 MiB, and how many.
const VOLUMES: [LogicalVolume; 2] = [("root", &[(33, 20), (5, 20)]), ("home", &[(26, 7), (55, 8), (0, 4)])];

/// What LVM writes of a group with these volumes.
fn group(device: &str) -> String {
    let volume = |(nth, (name, pieces)): (usize, &LogicalVolume)| {
        let mut start = 0;
        let segments = (1..).zip(*pieces).map(|(number, (at, count))| {
            let text = format!(
                "segment{number} {{\nstart_extent = {start}\nextent_count = {count}\ntype = \"striped\"\nstripe_count = 1\nstripes = [\n\
                 \"pv0\", {at}\n]\n}}\n"
            );
            start += count;
            text
        });
        format!(
            "{name} {{\nid = \"{nth}aaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg\"\nstatus = [\"READ\", \"WRITE\", \"VISIBLE\"]\nflags = []\n\
             segment_count = {}\n{}}}\n",
            pieces.len(),
            segments.collect::<String>()
        )
    };
    format!(
        "contents = \"Text Format Volume Group\"\nversion = 1\ngravuretest {{\nid = \"aaaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg\"\nseqno = 2\n\
         format = \"lvm2\"\nstatus = [\"RESIZEABLE\", \"READ\", \"WRITE\"]\nflags = []\nextent_size = 2048\nmax_lv = 0\nmax_pv = 0\n\
         metadata_copies = 0\nphysical_volumes {{\npv0 {{\nid = \"123456-7890-abcd-efgh-ijkl-mnop-qrstuv\"\ndevice = \"{device}\"\n\
         status = [\"ALLOCATABLE\"]\nflags = []\ndev_size = 131072\npe_start = 2048\npe_count = 63\n}}\n}}\nlogical_volumes {{\n{}}}\n}}\n",
        VOLUMES.iter().enumerate().map(volume).collect::<String>()
    )
}

/// A loop device, given back when dropped.
struct Attached(String);

impl Drop for Attached {
    fn drop(&mut self) {
        drop(Command::new("losetup").args(["--detach", &self.0]).status());
    }
}

#[test]
fn volumes_of_lvm_in_several_pieces_come_back_with_every_file() {
    if ["pvcreate", "vgcfgrestore", "losetup", "mke2fs", "e2fsck", "debugfs", "dumpe2fs"]
        .iter()
        .any(|program| oracle(program).is_none())
    {
        return;
    }
    let lab = Lab::new(64 * MIB);
    {
        let attached = Command::new("losetup").args(["--find", "--show"]).arg(lab.volume()).output().unwrap();
        if !attached.status.success() {
            skipped(&format!("no loop device: {}", String::from_utf8_lossy(&attached.stderr)));
            return;
        }
        let device = Attached(String::from_utf8(attached.stdout).unwrap().trim().to_owned());
        let text = lab.path("group");
        std::fs::write(&text, group(&device.0)).unwrap();
        // This device alone, no daemons, nothing kept in /etc.
        let config = format!(
            "devices{{scan_lvs=0 use_devicesfile=0 filter=[\"a|^{}$|\",\"r|.*|\"]}} activation{{udev_sync=0 udev_rules=0}} \
             backup{{backup=0 archive=0}}",
            device.0
        );
        let uuid = "123456-7890-abcd-efgh-ijkl-mnop-qrstuv";
        let mut make = oracle("pvcreate").unwrap();
        make.args(["-ff", "-y", "--config", &config, "--uuid", uuid, "--restorefile"])
            .arg(&text)
            .arg(&device.0);
        run(&mut make);
        run(oracle("vgcfgrestore").unwrap().args(["--config", &config, "-f"]).arg(&text).arg("gravuretest"));
    }
    // Extent 0 stands 1 MiB behind the start.
    let ranges = |pieces: &[(usize, usize)]| -> Vec<Range<usize>> {
        pieces.iter().map(|(first, count)| (1 + first) << 20..(1 + first + count) << 20).collect()
    };
    // A logical volume as one piece, to be filled and read.
    let joined = |disk: &Path, pieces: &[(usize, usize)], name: &str| {
        let bytes = std::fs::read(disk).unwrap();
        let path = lab.path(name);
        std::fs::write(
            &path,
            ranges(pieces).into_iter().map(|piece| bytes[piece].to_vec()).collect::<Vec<_>>().concat(),
        )
        .unwrap();
        path
    };
    let mut disk = std::fs::read(lab.volume()).unwrap();
    let mut expected = vec![false; disk.len() / SECTOR];
    // Label and metadata of the group stand in front of the first extent.
    expected[..(MIB as usize) / SECTOR].fill(true);
    let mut all_files = Vec::new();
    for (name, pieces) in VOLUMES {
        let inner = joined(&lab.volume(), pieces, name);
        let tree = lab.path(&format!("tree of {name}"));
        let mut lab_of_files = Lab::new(MIB);
        all_files.push(lab_of_files.write(name, 20));
        std::fs::rename(lab_of_files.path("tree"), &tree).unwrap();
        let mut mkfs = oracle("mke2fs").unwrap();
        run(mkfs.args(["-q", "-F", "-t", "ext4", "-E", "nodiscard", "-d"]).arg(&tree).arg(&inner));
        let used = used_by_dumpe2fs(&inner).unwrap();
        let content = std::fs::read(&inner).unwrap();
        let mut from = 0;
        for piece in ranges(pieces) {
            disk[piece.clone()].copy_from_slice(&content[from..from + piece.len()]);
            let (first, last) = (from / SECTOR, (from + piece.len()) / SECTOR);
            expected[piece.start / SECTOR..piece.end / SECTOR].copy_from_slice(&used[first..last]);
            from += piece.len();
        }
    }
    std::fs::write(lab.volume(), disk).unwrap();

    let (target, kept, unclear) = restored(&lab);
    assert_eq!(first_difference(&kept, &expected, &unclear), None, "sector");
    for ((name, pieces), files) in VOLUMES.into_iter().zip(all_files) {
        let inner = joined(&target, pieces, "found");
        run(oracle("e2fsck").unwrap().arg("-fn").arg(&inner));
        assert_files(&files_of_ext(&lab, &inner), &files, name);
    }
    let probe = |path: &Path| gravure_fsmap::probe(&FileAt::open(path).unwrap()).unwrap();
    assert_eq!(probe(&target), probe(&lab.volume()));
}
