//! Logical partitions of an MBR: mapped and judged as any, restored, browsed, and fitted to other disks with the extended one that holds them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::block_fit::{capture, have, options, run, tool};
use crate::block_names::hive;

use gravure_disk::Table;
use gravure_imaging::{
    BlockImageAt, BlockPlan, BlockPlanOptions, BlockSource, Error, ErrorKind, FitOptions, FitPlan, FitReport,
    Growth, Keep, VolumeFile, apply_block_image, finish_file_systems,
};
use gravure_io::FileAt;
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_testkit::{Random, skipped};

const MIB: u64 = 1 << 20;
const DISK_BYTES: u64 = 160 * MIB;
/// Primary FAT, an extended partition, in it two of ext4 with a gap between them.
const SCRIPT: &str = "label: dos\nlabel-id: 0xfeed0001\nstart=2048, size=32768, type=c\nstart=73728, size=204800, type=5\n\
                      start=75776, size=65536, type=83\nstart=180224, size=65536, type=83\n";
const SIGNATURE: u32 = 0xfeed_0001;
const PLACES: [(u32, u64, u64); 3] = [(1, MIB, 16 * MIB), (5, 37 * MIB, 32 * MIB), (6, 88 * MIB, 32 * MIB)];

struct Lab {
    dir: tempfile::TempDir,
    files: Vec<(String, Vec<u8>)>,
}

impl Lab {
    /// A disk of noise with file systems in its partitions.
    fn new() -> Option<Self> {
        if !have(&["sfdisk", "mkfs.fat", "mcopy", "mmd", "mkfs.ext4", "e2fsck", "debugfs"]) {
            return None;
        }
        let mut this = Self { dir: tempfile::tempdir().unwrap(), files: Vec::new() };
        let mut random = Random::new(14);
        let mut noise = vec![0; usize::try_from(DISK_BYTES).unwrap()];
        random.fill(&mut noise);
        // Nothing of a table, nor at the places of its records.
        noise[..MIB as usize].fill(0);
        std::fs::write(this.disk(), noise).unwrap();
        partition(&this.disk(), SCRIPT);
        let tree = this.path("tree");
        std::fs::create_dir_all(tree.join("etc")).unwrap();
        for number in 0..20u64 {
            let mut content = vec![0; usize::try_from(1 + random.below(200_000)).unwrap()];
            random.fill(&mut content);
            std::fs::write(tree.join(format!("file{number}")), &content).unwrap();
            this.files.push((format!("file{number}"), content));
        }
        std::fs::write(tree.join("etc/fstab"), "PARTUUID=feed0001-06 / ext4 defaults 0 1\n").unwrap();
        for (number, start, len) in PLACES {
            let volume = this.path("volume");
            std::fs::File::create(&volume).unwrap().set_len(len).unwrap();
            if number == 1 {
                run(tool("mkfs.fat").args(["-F", "16"]).arg(&volume));
                // A boot store that starts what is in the last logical partition.
                std::fs::write(this.path("BCD"), hive(true, SIGNATURE, PLACES[2].1)).unwrap();
                run(tool("mmd").arg("-i").arg(&volume).arg("::/Boot"));
                run(tool("mcopy").arg("-i").arg(&volume).arg(this.path("BCD")).arg("::/Boot/BCD"));
            } else {
                let mut mkfs = tool("mkfs.ext4");
                run(mkfs.args(["-q", "-F", "-b", "4096", "-E", "nodiscard", "-d"]).arg(&tree).arg(&volume));
            }
            put(&this.disk(), start, &std::fs::read(&volume).unwrap());
        }
        Some(this)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn disk(&self) -> PathBuf {
        self.path("disk")
    }

    fn target(&self, size: u64) -> PathBuf {
        let path = self.path("target");
        std::fs::write(&path, vec![0xaa; usize::try_from(size).unwrap()]).unwrap();
        path
    }

    fn plan(&self, keep: Keep) -> Result<BlockPlan, Error> {
        let options = BlockPlanOptions { name: "test".to_owned(), keep, ..BlockPlanOptions::default() };
        BlockPlan::new(BlockSource::open(&self.disk()).unwrap(), &options, &Ctl::default())
    }

    /// The ext4 in `range` is sound and holds every file.
    fn check(&self, disk: &Path, range: Range<u64>) {
        let volume = self.path("volume");
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        std::fs::File::open(disk).unwrap().read_exact_at(&mut bytes, range.start).unwrap();
        std::fs::write(&volume, bytes).unwrap();
        run(tool("e2fsck").arg("-fn").arg(&volume));
        let out = self.path("out");
        drop(std::fs::remove_dir_all(&out));
        std::fs::create_dir(&out).unwrap();
        run(tool("debugfs").arg("-R").arg(format!("rdump / {}", out.display())).arg(&volume));
        for (name, content) in &self.files {
            assert!(std::fs::read(out.join(name)).unwrap() == *content, "{name}");
        }
    }

    /// The boot store names the last logical partition where it is now.
    fn check_store(&self, disk: &Path, offset: u64) {
        let bytes = std::fs::read(disk).unwrap();
        let signature = u32::from_le_bytes(bytes[0x1b8..0x1bc].try_into().unwrap());
        let volume = self.path("volume");
        std::fs::write(&volume, &bytes[MIB as usize..17 * MIB as usize]).unwrap();
        run(tool("mcopy").args(["-n", "-o", "-i"]).arg(&volume).arg("::/Boot/BCD").arg(self.path("found")));
        let found = std::fs::read(self.path("found")).unwrap();
        assert!(found == hive(true, signature, offset), "signature {signature:08x}, offset {offset:#x}");
    }

    fn check_both(&self, disk: &Path, report: &FitReport) {
        for number in [5, 6] {
            let one = report.partitions.iter().find(|one| one.number == number).unwrap();
            self.check(disk, one.to.clone());
        }
    }
}

fn put(disk: &Path, offset: u64, bytes: &[u8]) {
    std::fs::File::options().write(true).open(disk).unwrap().write_all_at(bytes, offset).unwrap();
}

fn partition(disk: &Path, script: &str) {
    let mut child =
        tool("sfdisk").args(["-q", "--wipe", "never"]).arg(disk).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// Places in MiB by number, as sfdisk finds them: start and size.
fn places(disk: &Path) -> Vec<(u64, u64)> {
    let text = run(tool("sfdisk").arg("-d").arg(disk));
    let number = |line: &str, word: &str| -> u64 {
        let rest = line.split_once(word).unwrap().1.trim_start();
        rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse::<u64>().unwrap() * 512 / MIB
    };
    let lines = text.lines().filter(|line| line.contains("start="));
    lines.map(|line| (number(line, "start="), number(line, "size="))).collect()
}

#[test]
fn logical_partitions_are_mapped_restored_and_browsed() {
    let Some(lab) = Lab::new() else { return };
    let plan = lab.plan(Keep::Used).unwrap();
    let volumes: Vec<_> = plan
        .facts()
        .volumes
        .iter()
        .map(|volume| (volume.number.unwrap(), volume.offset_bytes, volume.size_bytes))
        .collect();
    assert_eq!(volumes, PLACES);
    let said: Vec<_> =
        plan.facts().volumes.iter().map(|it| (it.content.as_str(), it.basis.as_str())).collect();
    assert_eq!(said, [("FAT16", "allocation"), ("ext4", "allocation"), ("ext4", "allocation")]);
    // Everything between them is kept: noise, all of it.
    let image = capture(BlockSource::open(&lab.disk()).unwrap());
    let gaps = MIB + 19 * MIB + 16 * MIB;
    let used: u64 = plan.facts().volumes.iter().map(|volume| volume.used_bytes).sum();
    let kept = image.root().outcome.data_bytes + image.root().outcome.zero_bytes;
    assert!(kept < used + gaps + 4 * MIB && kept >= used + gaps, "{kept} of {used} and {gaps}");

    let target = lab.target(DISK_BYTES);
    let device = VolumeFile::open(&target, None).unwrap();
    apply_block_image(&image, &device, &options(), &Ctl::default(), &Silent).unwrap();
    drop(device);
    assert_eq!(places(&target), places(&lab.disk()));
    let (before, after) = (std::fs::read(lab.disk()).unwrap(), std::fs::read(&target).unwrap());
    for gap in [36..37, 69..88, 120..136] {
        let range = (gap.start * MIB) as usize..(gap.end * MIB) as usize;
        assert!(before[range.clone()] == after[range], "MiB {gap:?} as they were");
    }
    for (_, start, len) in &PLACES[1..] {
        lab.check(&target, *start..start + len);
    }
    let read = Arc::new(BlockImageAt::new(image));
    for number in [5, 6] {
        let listed = read.list(Some(number), "/", &Ctl::default()).unwrap();
        assert!(listed.iter().any(|entry| entry.name == "file7"), "{listed:?}");
    }
    let missing = read.list(Some(7), "/", &Ctl::default()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn what_nobody_may_image_unasked_is_refused_in_a_logical_partition_too() {
    let Some(lab) = Lab::new() else { return };
    let (_, start, len) = PLACES[2];
    if have(&["qemu-img"]) {
        let (plain, locked) = (lab.path("plain"), lab.path("locked"));
        std::fs::File::create(&plain).unwrap().set_len(MIB).unwrap();
        let how = ["convert", "-f", "raw", "-O", "luks", "--object", "secret,id=s,data=1234", "-o"];
        run(tool("qemu-img").args(how).arg("key-secret=s,iter-time=10").arg(&plain).arg(&locked));
        let mut bytes = std::fs::read(&locked).unwrap();
        bytes.truncate(usize::try_from(len).unwrap());
        put(&lab.disk(), start, &bytes);
        let error = lab.plan(Keep::Used).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains("partition 6 of"), "{error}");
        let plan = lab.plan(Keep::UsedOrEverything).unwrap();
        let last = plan.facts().volumes.last().unwrap();
        assert_eq!((last.content.as_str(), last.basis.as_str()), ("LUKS1", "everything"));
    }
    // A table that contradicts itself is refused, and kept whole on request.
    for (sectors, said) in [(150_000_u32, "overlap"), (400_000, "outside")] {
        let disk = FileAt::open(&lab.disk()).unwrap();
        let Table::Mbr(mbr) = Table::read(&disk, 512).unwrap() else { panic!("no MBR") };
        drop(disk);
        // The record of the first logical partition stands where the extended one begins.
        let record = mbr.entries.iter().find(|entry| entry.number == 2).unwrap().first_lba * 512;
        put(&lab.disk(), record + 0x1be + 12, &sectors.to_le_bytes());
        let error = lab.plan(Keep::Used).unwrap_err();
        assert!(error.kind() == ErrorKind::Refused && error.to_string().contains(said), "{error}");
        let plan = lab.plan(Keep::Everything).unwrap();
        let numbers: Vec<_> = plan.facts().volumes.iter().map(|volume| volume.number.unwrap()).collect();
        assert_eq!(numbers, [1]);
        let whole = plan.layout().used.iter().any(|span| {
            span.offset <= 36 * MIB && span.offset + span.len >= 136 * MIB && span.excluded.is_none()
        });
        assert!(whole, "{:?}", plan.layout().used);
    }
}

#[test]
fn an_extended_partition_is_fitted_with_all_that_is_in_it() {
    let Some(lab) = Lab::new() else { return };
    let image = capture(BlockSource::open(&lab.disk()).unwrap());
    assert_eq!(places(&lab.disk()), [(1, 16), (36, 100), (37, 32), (88, 32)]);

    // Larger: the last one gets the room, and the extended one with it.
    let larger = 240 * MIB;
    let target = lab.target(larger);
    let device = VolumeFile::open(&target, None).unwrap();
    let how = FitOptions { growth: Growth::Largest, identity: Some([7; 32]) };
    let plan = FitPlan::new(&image, &device, &how).unwrap();
    let report = plan.apply(&image, &device, &options(), &Ctl::default(), &Silent).unwrap();
    drop(device);
    let grows: Vec<_> = report.partitions.iter().map(|one| (one.number, one.grows)).collect();
    assert_eq!(grows, [(1, false), (2, false), (5, false), (6, true)]);
    assert_eq!(places(&target), [(1, 16), (36, 204), (37, 32), (88, 152)]);
    lab.check_store(&target, 88 * MIB);
    let checked = Command::new("sfdisk").arg("-V").arg(&target).output().unwrap();
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("No errors detected"), "{said}{}", String::from_utf8_lossy(&checked.stderr));
    let old = 88 * MIB..120 * MIB;
    lab.check(&target, old);
    let finished = finish_file_systems(&target, &report.partitions, &report.renamed).unwrap();
    if finished.undone.is_empty() {
        assert_eq!(finished.grown, [(6, 152 * MIB)]);
        assert_eq!(finished.changed, [(5, "etc/fstab".to_owned()), (6, "etc/fstab".to_owned())]);
        lab.check_both(&target, &report);
        let text = std::fs::read_to_string(lab.path("out/etc/fstab")).unwrap();
        let id = u32::from_le_bytes(std::fs::read(&target).unwrap()[0x1b8..0x1bc].try_into().unwrap());
        assert_eq!(text, format!("PARTUUID={id:08x}-06 / ext4 defaults 0 1\n"));
    } else {
        skipped(&finished.undone.join("; "));
    }

    // Smaller, but not too small: it moves to the front, records and all.
    let target = lab.target(130 * MIB);
    let device = VolumeFile::open(&target, None).unwrap();
    let plan = FitPlan::new(&image, &device, &FitOptions::default()).unwrap();
    let report = plan.apply(&image, &device, &options(), &Ctl::default(), &Silent).unwrap();
    drop(device);
    assert_eq!(places(&target), [(1, 16), (30, 100), (31, 32), (82, 32)]);
    lab.check_both(&target, &report);
    lab.check_store(&target, 82 * MIB);

    // Too small: what holds logical partitions keeps its size, and that is said.
    let target = lab.target(100 * MIB);
    let device = VolumeFile::open(&target, None).unwrap();
    let error = FitPlan::new(&image, &device, &FitOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("partition 2 holds logical ones and keeps its size"), "{error}");
    assert!(std::fs::read(&target).unwrap().iter().all(|byte| *byte == 0xaa), "nothing was written");
}
