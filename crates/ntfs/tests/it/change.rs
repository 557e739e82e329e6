//! Volumes given another label, serial number and size: right afterwards, and at every write on the way.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]
#![allow(clippy::ptr_arg, reason = "sources are made of what has a size")]

use crate::support::{Builder, compare, noise, options, shapes, volume};
use gravure_io::MemoryDisk;
use gravure_ntfs::{
    CheckObserver, CheckReport, Error, Finding, Rule, SectorSize, Strictness, Volume, VolumeOptions, check,
    grow, set_label, set_serial,
};
use gravure_nttypes::NtName;
use gravure_testkit::{Fault, FaultyDisk, Operation, Random, RecordingDisk, Survives, oracle};
use gravure_tree::Tree;

#[derive(Default)]
struct Keep {
    all: Vec<String>,
    rules: Vec<Rule>,
}

impl CheckObserver for Keep {
    fn finding(&mut self, finding: &Finding) {
        self.all.push(finding.to_string());
        self.rules.push(finding.rule);
    }
}

#[expect(clippy::ptr_arg, reason = "`ReadAt` is for vectors")]
fn found(bytes: &Vec<u8>, strictness: Strictness) -> (CheckReport, Keep) {
    let mut keep = Keep::default();
    (check(bytes, strictness, &mut keep).unwrap(), keep)
}

/// A sound volume with the files of `tree`, as when it was made.
fn assert_sound(bytes: &Vec<u8>, tree: &Tree, what: &str) -> Volume {
    assert_eq!(found(bytes, Strictness::Fresh).1.all, Vec::<String>::new(), "{what}");
    let (volume, scan) = compare::scan(bytes);
    compare::compare(tree, bytes, &volume, &scan);
    volume
}

/// A volume with some of everything in 8 MiB and more.
fn small_tree() -> Tree {
    let mut b = Builder::new(9);
    let root = b.tree.root();
    let dir = b.directory(root, "directory");
    for n in 0..60 {
        b.file(dir, &format!("file {n}"), &noise(n * 97, n as u64));
    }
    b.tree
}

/// In a larger partition, whose new part holds old bytes.
fn enlarged(mut bytes: Vec<u8>, partition_bytes: usize) -> Vec<u8> {
    bytes.resize(partition_bytes, 0x77);
    bytes
}

fn grow_to(bytes: Vec<u8>, sector: SectorSize) -> (Vec<u8>, gravure_ntfs::Grown) {
    let sectors = bytes.len() as u64 / u64::from(sector.bytes());
    let disk = MemoryDisk::from_bytes(bytes);
    let grown = grow(&disk, sectors).unwrap();
    (disk.to_vec(), grown)
}

#[test]
fn volumes_of_every_shape_grow() {
    let tree = small_tree();
    for (sector_size, cluster) in shapes() {
        let what = format!("{sector_size:?}, clusters of {cluster}");
        let size = 40 << 20;
        let options = VolumeOptions { sector_size, cluster_bytes: Some(cluster), ..options(size) };
        let (bytes, _) = volume(&tree, &options);
        // The end of the partition does not fill a cluster.
        let target = usize::try_from(size).unwrap() * 2 + 3 * 4096;
        let (bytes, grown) = grow_to(enlarged(bytes, target), sector_size);
        let grown_volume = assert_sound(&bytes, &tree, &what);
        let sectors = target as u64 / u64::from(sector_size.bytes()) - 1;
        assert_eq!(grown_volume.boot().sectors, sectors, "{what}");
        assert_eq!((grown.steps, grown.clusters), (1, grown_volume.boot().clusters), "{what}");
        let free = grown_volume.boot().clusters - grown_volume.used_clusters(&bytes).unwrap();
        assert!(free * u64::from(cluster) > size * 8 / 10, "{what}: {free} free");
        let (again, grown) = grow_to(bytes.clone(), sector_size);
        assert_eq!((grown.steps, again == bytes), (0, true), "{what}");
    }
}

/// The longer bitmap does not fit into what is free, so that the volume grows in steps.
#[test]
fn full_volumes_grow_step_by_step() {
    let mut b = Builder::new(3);
    let root = b.tree.root();
    b.file(root, "large", &noise(3_000_000, 1));
    let tree = b.tree;
    // Clusters of 512 bytes: a cluster of the bitmap is worth 2 MiB.
    let probe = VolumeOptions { cluster_bytes: Some(512), ..options(1 << 20) };
    let needed = match gravure_ntfs::VolumePlan::new(&tree, &gravure_ntfs::NoGuide, &probe) {
        Err(Error::TooSmall { needed, .. }) => needed,
        other => panic!("{other:?}"),
    };
    let mut most_steps = 0;
    for slack in [0u64, 512, 4096, 100 << 10] {
        let size = (needed + slack).next_multiple_of(512);
        let options = VolumeOptions { volume_bytes: size, ..probe.clone() };
        let plan = gravure_ntfs::VolumePlan::new(&tree, &gravure_ntfs::NoGuide, &options);
        let Ok(_) = plan else { continue };
        let (bytes, _) = volume(&tree, &options);
        let (bytes, grown) = grow_to(enlarged(bytes, 60 << 20), SectorSize::Bytes512);
        assert_sound(&bytes, &tree, &format!("{slack} bytes free"));
        assert_eq!(grown.clusters, (60 << 20) / 512 - 1);
        most_steps = most_steps.max(grown.steps);
    }
    assert!(most_steps > 1, "{most_steps}");
}

#[test]
fn other_programs_accept_volumes_that_grew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume.ntfs");
    let run = |program: &str, arguments: &[&str]| {
        let mut command = oracle(program)?;
        let output = command.args(arguments).arg(&path).env("LC_ALL", "C.UTF-8").output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{program}: {text}");
        Some(text)
    };
    // One of ours, and one that mkntfs made.
    for theirs in [false, true] {
        let size = 60 << 20;
        if theirs {
            std::fs::File::create(&path).unwrap().set_len(size).unwrap();
            if run("mkntfs", &["-F", "-q", "-Q", "-L", "theirs"]).is_none() {
                continue;
            }
        } else {
            std::fs::write(&path, volume(&small_tree(), &options(size)).0).unwrap();
        }
        let (bytes, grown) =
            grow_to(enlarged(std::fs::read(&path).unwrap(), 200 << 20), SectorSize::Bytes512);
        assert_eq!((grown.old_clusters, grown.clusters), (15_359, 51_199));
        let (report, keep) = found(&bytes, Strictness::Usual);
        assert_eq!(report.errors, 0, "{:?}", keep.all);
        std::fs::write(&path, &bytes).unwrap();
        drop(bytes);
        run("ntfsfix", &["-n"]);
        if let Some(text) = run("ntfsresize", &["--info", "--force", "--no-progress-bar"]) {
            assert!(text.contains("Current volume size: 209711616 bytes"), "{text}");
        }
        if let Some(text) = run("ntfsinfo", &["--mft"]) {
            assert!(text.contains("Volume Size in Clusters: 51199"), "{text}");
            let free = text.lines().find(|line| line.contains("Free Clusters")).unwrap();
            assert!(free.contains("(9"), "{free}");
        }
    }
}

/// States of a disk after a cut at every change, torn there, and with what was not flushed in any order.
fn cuts(before: &[u8], change: impl Fn(&RecordingDisk<MemoryDisk>), mut judge: impl FnMut(Vec<u8>, &str)) {
    let disk = RecordingDisk::new(MemoryDisk::from_bytes(before.to_vec()));
    change(&disk);
    let recording = disk.into_recording();
    let mut random = Random::new(11);
    for count in 0..=recording.len() {
        judge(recording.cut(before, count, Survives::All), &format!("cut after {count}"));
        judge(recording.cut(before, count, Survives::Torn(512)), &format!("torn at {count}"));
        for _ in 0..3 {
            judge(
                recording.cut(before, count, Survives::Some(&mut random)),
                &format!("mixed before {count}"),
            );
        }
    }
}

#[test]
fn growing_may_be_cut_anywhere() {
    let tree = small_tree();
    // The bitmap moves, or has room.
    for (cluster, old, new) in [(512, 7 << 20, 13 << 20), (512, 7 << 20, 15 << 19), (4096, 7 << 20, 8 << 20)]
    {
        let (bytes, _) = volume(&tree, &VolumeOptions { cluster_bytes: Some(cluster), ..options(old) });
        let before = enlarged(bytes, new);
        let sectors = new as u64 / 512;
        let old_sectors = old / 512 - 1;
        let (mut old_ones, mut new_ones) = (0, 0);
        cuts(
            &before,
            |disk| assert_eq!(grow(disk, sectors).unwrap().steps, 1),
            |state, what| {
                let (report, keep) = found(&state, Strictness::Usual);
                assert_eq!(report.errors, 0, "{what}: {:?}", keep.all);
                // A copy of sizes may lag behind for a moment.
                let allowed =
                    [Rule::Growth, Rule::BitmapEnd, Rule::BootSlack, Rule::EntryCopy, Rule::NameSizes];
                assert!(keep.rules.iter().all(|rule| allowed.contains(rule)), "{what}: {:?}", keep.all);
                let (volume, scan) = compare::scan(&state);
                compare::compare(&tree, &state, &volume, &scan);
                if volume.boot().sectors == old_sectors {
                    old_ones += 1;
                } else {
                    assert_eq!(keep.all, Vec::<String>::new(), "{what}");
                    new_ones += 1;
                }
                let (state, _) = grow_to(state, SectorSize::Bytes512);
                assert_sound(&state, &tree, what);
            },
        );
        assert!(old_ones > 10 && new_ones > 3, "{old_ones} {new_ones}");
    }
}

#[test]
fn a_growth_that_fails_can_be_done_again() {
    let tree = small_tree();
    let (bytes, _) = volume(&tree, &VolumeOptions { cluster_bytes: Some(512), ..options(7 << 20) });
    let before = enlarged(bytes, 13 << 20);
    let sectors = (13 << 20) / 512;
    let counting = FaultyDisk::counting(MemoryDisk::from_bytes(before.to_vec()));
    grow(&counting, sectors).unwrap();
    for at in 0..counting.count(Operation::Write) {
        for fault in [Fault::Fail, Fault::Short { bytes: 512 }] {
            let disk = FaultyDisk::new(MemoryDisk::from_bytes(before.to_vec()), Operation::Write, at, fault);
            let error = grow(&disk, sectors).unwrap_err();
            assert!(matches!(error, Error::Write { .. }), "{error}");
            grow(&disk, sectors).unwrap();
            assert_sound(&disk.into_inner().to_vec(), &tree, &format!("{fault:?} at {at}"));
        }
    }
}

#[test]
fn what_cannot_grow_is_told() {
    let (bytes, _) = volume(&small_tree(), &options(12 << 20));
    let disk = FaultyDisk::counting(MemoryDisk::from_bytes(enlarged(bytes.clone(), 20 << 20)));
    let error = |sectors| grow(&disk, sectors).unwrap_err().to_string();
    assert_eq!(error(50_000), "size: 50000 sectors of 512 bytes asked for, the disk has 40960");
    assert_eq!(error(24_000), "size: the volume has 24575 sectors and does not shrink to 23999");
    assert_eq!(disk.count(Operation::Write), 0);

    let (volume, _) = compare::scan(&bytes);
    // The flags of $Volume, guarded by no update sequence here: their record is shorter than a sector.
    let record = 4096 * volume.boot().mft_lcn + 3 * 1024;
    let mut dirty = bytes.clone();
    let start = usize::try_from(record).unwrap();
    let flags = dirty[start..start + 510].windows(4).position(|four| four == [3, 1, 0x80, 0]).unwrap();
    dirty[start + flags + 2] |= 1;
    let disk = MemoryDisk::from_bytes(dirty);
    let error = grow(&disk, 24_576).unwrap_err();
    assert!(matches!(error, Error::Unclean(_)), "{error}");
    assert!(set_label(&disk, &"x".into()).is_err() && set_serial(&disk, 1).is_err());
}

#[test]
fn labels_and_serial_numbers_change() {
    let tree = small_tree();
    for (sector_size, cluster) in shapes() {
        let what = format!("{sector_size:?}, clusters of {cluster}");
        let options = VolumeOptions { sector_size, cluster_bytes: Some(cluster), ..options(40 << 20) };
        let disk = MemoryDisk::from_bytes(volume(&tree, &options).0);
        for label in ["Windows", "", "\u{65e5}\u{672c} and thirty-two units of text", "x"] {
            let label = NtName::from(label);
            set_label(&disk, &label).unwrap();
            let volume = assert_sound(&disk.to_vec(), &tree, &what);
            assert_eq!(volume.label(), &label, "{what}");
        }
        set_serial(&disk, 0x1234_5678_9abc_def0).unwrap();
        assert_eq!(assert_sound(&disk.to_vec(), &tree, &what).boot().serial, 0x1234_5678_9abc_def0, "{what}");
    }
    let disk = MemoryDisk::from_bytes(volume(&tree, &options(12 << 20)).0);
    let error = set_label(&disk, &"thirty-three units, one too many.".into()).unwrap_err();
    assert_eq!(error.to_string(), "label: 33 units; at most 32, none of them zero");
}

#[test]
fn other_programs_read_label_and_serial_number() {
    let Some(mut mkntfs) = oracle("mkntfs") else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("volume.ntfs");
    std::fs::File::create(&path).unwrap().set_len(20 << 20).unwrap();
    assert!(mkntfs.args(["-F", "-q", "-Q"]).arg(&path).output().unwrap().status.success());
    let disk = MemoryDisk::from_bytes(std::fs::read(&path).unwrap());
    set_label(&disk, &"A new label".into()).unwrap();
    set_serial(&disk, 0x0123_4567_89ab_cdef).unwrap();
    let bytes = disk.to_vec();
    let (report, keep) = found(&bytes, Strictness::Usual);
    assert_eq!(report.errors, 0, "{:?}", keep.all);
    std::fs::write(&path, bytes).unwrap();
    for (program, expected) in [("ntfslabel", "A new label"), ("ntfsfix", "processed successfully")] {
        let Some(mut command) = oracle(program) else { continue };
        let output = command.args((program == "ntfsfix").then_some("-n")).arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains(expected), "{program}: {text}");
    }
    if let Some(mut blkid) = oracle("blkid") {
        let output = blkid.args(["-p", "-o", "export"]).arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("UUID=0123456789ABCDEF"), "{text}");
    }
}

#[test]
fn a_new_label_may_be_cut_anywhere() {
    let tree = small_tree();
    let (before, _) = volume(&tree, &options(12 << 20));
    let label = NtName::from("a longer label than before");
    let mut torn = 0;
    cuts(
        &before,
        |disk| set_label(disk, &label).unwrap(),
        |state, what| {
            let (report, keep) = found(&state, Strictness::Usual);
            let labels = [NtName::from("Gravure"), label.clone()];
            match Volume::open(&state) {
                Ok(volume) => assert!(labels.contains(volume.label()), "{what}: {}", volume.label()),
                // A record torn in two: its copy is whole, which is what repairs it.
                Err(error) => {
                    assert!(report.errors > 0 && error.to_string().contains("record 3"), "{what}: {error}");
                    let (volume, _) = compare::scan(&before);
                    let boot = *volume.boot();
                    let at =
                        |lcn: u64| usize::try_from(lcn * boot.cluster_bytes).unwrap() + 3 * boot.record_bytes;
                    let mut repaired = state.clone();
                    repaired.copy_within(
                        at(boot.mirror_lcn)..at(boot.mirror_lcn) + boot.record_bytes,
                        at(boot.mft_lcn),
                    );
                    let volume = assert_sound(&repaired, &tree, what);
                    assert_eq!(volume.label(), &label, "{what}: {:?}", keep.all);
                    torn += 1;
                }
            }
        },
    );
    assert!(torn > 0);
}
