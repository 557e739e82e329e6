//! FAT, exFAT, XFS, Btrfs, swap and LVM against their own tools and partclone.
#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests start programs and write files")]

use crate::support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use gravure_fsmap::{
    Basis, Class, Error, Excluded, Fallback, Kind, ListKind, Options, Owner, Reason, State, UsedMap, map,
    probe,
};
use gravure_io::ReadAt;
use gravure_testkit::{MountedExfat, MountedFile};
use support::{
    Files, Lab, allocated, assert_same_files, every_third, files, have, map_of, open, partclone, read_tree,
    run, sampled, tool, transplant,
};

/// Bytes in all.
fn count(ranges: &[std::ops::Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

fn refusal(path: &Path) -> Reason {
    match map(&open(path), &Options::default()) {
        Err(Error::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// Everything is kept without being asked for, and a note says why.
fn assert_whole(path: &Path) {
    let map = map_of(path);
    assert_eq!((map.basis, map.kept()), (Basis::Refused(Reason::NotUnmounted), map.size));
    assert!(map.notes.iter().any(|note| note.contains("not unmounted")), "{:?}", map.notes);
}

fn everything(path: &Path) -> UsedMap {
    let options = Options { fallback: Fallback::Everything, ..Options::default() };
    let map = map(&open(path), &options).unwrap();
    assert_eq!(map.kept(), map.size);
    map
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

/// Files put there and taken away by mtools.
fn fat(lab: &Lab, args: &[&str], size: u64) -> (PathBuf, Files) {
    let mut content = files(3, 40, 60_000);
    let image = lab.blank("image", size);
    run(tool("mkfs.fat").args(args).arg(&image));
    let tree = lab.tree("tree", &content);
    let mut copy = tool("mcopy");
    copy.arg("-i").arg(&image).arg("-s");
    for n in 0..5 {
        copy.arg(tree.join(format!("dir{n}")));
    }
    run(copy.arg("::/"));
    for path in every_third(&mut content) {
        run(tool("mdel").arg("-i").arg(&image).arg(format!("::/{path}")));
    }
    (image, content)
}

/// Bytes of a cluster of a FAT or exFAT volume, as its boot sector has them.
fn cluster_bytes(dev: &dyn ReadAt) -> u64 {
    let boot = dev.read_vec_at(0, 512).unwrap();
    if boot[3..8] == *b"EXFAT" {
        return 1 << (boot[108] + boot[109]);
    }
    u64::from(u16::from_le_bytes([boot[11], boot[12]])) * u64::from(boot[13])
}

/// The clusters that are said to be of a file hold all of it and no more than its last one has room for: contents have no piece in common.
fn assert_owners(image: &Path, content: &Files) {
    let dev = open(image);
    // Bytes that are said to be of a file, and sectors of these that hold a piece of it.
    let mut found: BTreeMap<String, (u64, usize)> = BTreeMap::new();
    for owned in gravure_fsmap::owners(&dev, &support::whole(dev.size()), &|| true).unwrap() {
        assert_ne!(owned.owner, Owner::Unknown, "{owned:?}");
        let Owner::File(names) = owned.owner else { continue };
        let [name] = names.as_slice() else { panic!("{names:?}") };
        let path = name.trim_start_matches('/').to_owned();
        let Some(whole) = content.get(&path) else {
            let is_directory =
                name == "/" || content.keys().any(|other| other.starts_with(&format!("{path}/")));
            assert!(is_directory, "{name}");
            continue;
        };
        let (bytes, pieces) = found.entry(path).or_default();
        *bytes += owned.range.end - owned.range.start;
        for at in owned.range.step_by(512) {
            let sector = dev.read_vec_at(at, 512).unwrap();
            *pieces += usize::from(whole.chunks(512).any(|part| sector.starts_with(part)));
        }
    }
    let cluster = cluster_bytes(&dev);
    for (path, content) in content {
        let (bytes, pieces) = found.get(path).copied().unwrap_or_default();
        let len = content.len() as u64;
        assert!(bytes >= len && bytes < len + cluster, "{path}: {bytes} of {len}");
        assert!(pieces >= content.chunks(512).count(), "{path}: {pieces} pieces");
    }
}

/// Directories and files by their paths.
fn assert_listed(image: &Path, content: &Files) {
    let dev = open(image);
    let list = |path: &str| gravure_fsmap::list(&dev, path, &|| true).unwrap();
    let dirs: BTreeSet<&str> = content.keys().filter_map(|path| Some(path.split_once('/')?.0)).collect();
    let root: Vec<String> = list("/").unwrap().into_iter().map(|one| one.name).collect();
    assert_eq!(root, dirs.iter().map(|dir| (*dir).to_owned()).collect::<Vec<_>>());
    for dir in dirs {
        let files: Vec<(String, u64)> = content
            .iter()
            .filter_map(|(path, content)| {
                Some((path.strip_prefix(&format!("{dir}/"))?.to_owned(), content.len() as u64))
            })
            .collect();
        let listed = list(dir).unwrap();
        assert!(listed.iter().all(|one| one.kind == ListKind::File));
        assert_eq!(listed.iter().map(|one| (one.name.clone(), one.size)).collect::<Vec<_>>(), files);
        assert_eq!(list(&format!("/{}/{}", dir.to_uppercase(), files[0].0)).unwrap()[0], listed[0]);
    }
    assert_eq!(list("/dir0/nothing"), None);
}

#[test]
fn fat_of_every_kind() {
    if !have(&["mkfs.fat", "mcopy", "mdel", "fsck.fat"]) {
        return;
    }
    for (nth, (kind, args, size)) in [
        (Kind::Fat12, &["-F", "12", "-n", "ESP"][..], 8u64 << 20),
        (Kind::Fat16, &["-F", "16", "-s", "4", "-n", "ESP"], 40 << 20),
        (Kind::Fat32, &["-F", "32", "-s", "1", "-n", "ESP"], 40 << 20),
        (Kind::Fat32, &["-F", "32", "-S", "4096", "-s", "1", "-n", "ESP"], 300 << 20),
        (Kind::Fat16, &["-F", "16", "-f", "1", "-S", "2048", "-n", "ESP"], 60 << 20),
    ]
    .into_iter()
    .enumerate()
    {
        if !sampled(nth, 2) {
            continue;
        }
        let lab = Lab::new();
        let (image, content) = fat(&lab, args, size);
        let map = map_of(&image);
        let probe = &map.probe;
        assert_eq!((probe.kind, probe.state, probe.label.as_deref()), (kind, State::Clean, Some("ESP")));
        let target = transplant(&lab, &image, &map);
        run(tool("fsck.fat").arg("-n").arg(&target));
        let out = lab.path("out");
        fs::create_dir(&out).unwrap();
        run(tool("mcopy").arg("-i").arg(&target).args(["-s", "-n", "::/*"]).arg(&out));
        assert_same_files(&read_tree(&out), &content);
        assert_owners(&image, &content);
        // Partclone 0.3.23 takes other clusters than those in use where entries have 12 bits.
        if kind != Kind::Fat12
            && sampled(nth, 5)
            && let Some(expected) = partclone(&lab, "partclone.fat", &image)
        {
            // Partclone keeps nothing of a last cluster that is not whole; it belongs to no file.
            let ours = allocated(&map);
            assert!(support::covers(&ours, &expected), "{args:?}");
            let slack = count(&ours) - count(&expected);
            assert!(slack < u64::from(probe.block_size.unwrap()), "{args:?}: {slack}");
        }
    }
}

#[test]
fn fat_that_was_not_unmounted_is_kept_whole_and_refused_with_errors() {
    if !have(&["mkfs.fat"]) {
        return;
    }
    for (args, size, mark, table) in [(["-F", "16"], 20u64 << 20, 0x25, 3), (["-F", "32"], 64 << 20, 0x41, 7)]
    {
        let lab = Lab::new();
        let image = lab.blank("image", size);
        run(tool("mkfs.fat").args(args).arg(&image));
        let reserved = u64::from(open(&image).read_vec_at(14, 1).unwrap()[0]);
        // Linux marks the boot sector, Windows the table.
        write_at(&image, mark, &[1]);
        assert_whole(&image);
        write_at(&image, mark, &[0]);
        map_of(&image);
        let at = reserved * 512 + table;
        let byte = open(&image).read_vec_at(at, 1).unwrap()[0];
        let clean = if table == 3 { 0x80 } else { 0x08 };
        write_at(&image, at, &[byte & !clean]);
        assert_whole(&image);
        write_at(&image, at, &[byte & !(clean >> 1)]);
        assert_eq!(refusal(&image), Reason::HasErrors);
        assert_eq!(everything(&image).basis, Basis::Refused(Reason::HasErrors));
        // A table that has something where the other has nothing: used.
        write_at(&image, at, &[byte]);
        let before = map_of(&image).allocated;
        write_at(&image, reserved * 512 + 400, &[9]);
        let map = map_of(&image);
        assert_eq!(map.allocated, before + u64::from(map.probe.block_size.unwrap()));
        assert_eq!(map.notes.iter().filter(|note| note.contains("differ")).count(), 1);
    }
}

#[test]
fn exfat_with_files_put_there_by_another_driver() {
    if !have(&["mkfs.exfat", "fsck.exfat", "mount.exfat-fuse", "losetup"]) {
        return;
    }
    let lab = Lab::new();
    let image = lab.blank("image", 60 << 20);
    run(tool("mkfs.exfat").args(["-L", "Stick", "-c", "4K"]).arg(&image));
    let mut content = files(4, 40, 60_000);
    // Names of several entries each; one of three files is removed below.
    for n in [1, 2] {
        content.insert(format!("dir0/zu lang für einen Eintrag im Verzeichnis {n}.bin"), vec![n; 5000]);
    }
    let mounted = |image: &Path| MountedExfat::new(image, &lab.path("mounted")).unwrap();
    {
        let mounted = mounted(&image);
        for (path, content) in &content {
            let path = mounted.root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        every_third(&mut content).iter().for_each(|path| fs::remove_file(mounted.root.join(path)).unwrap());
    }
    assert!(content.keys().any(|path| path.starts_with("dir0/zu lang")));
    let map = map_of(&image);
    assert_eq!(
        (map.probe.kind, map.probe.state, map.probe.label.as_deref()),
        (Kind::ExFat, State::Clean, Some("Stick"))
    );
    let target = transplant(&lab, &image, &map);
    run(tool("fsck.exfat").arg("-n").arg(&target));
    assert_same_files(&read_tree(&mounted(&target).root), &content);
    if let Some(expected) = partclone(&lab, "partclone.exfat", &image) {
        assert_eq!(allocated(&map), expected);
    }
    assert_owners(&image, &content);
    assert_listed(&image, &content);
    write_at(&image, 106, &[2]);
    assert_eq!(refusal(&image), Reason::NotUnmounted);
    write_at(&image, 106, &[4]);
    assert_eq!(refusal(&image), Reason::HasErrors);
    write_at(&image, 108, &[10]);
    assert!(matches!(map_error(&image), Error::Corrupt { .. }));
    assert_eq!(everything(&image).basis, Basis::Unreadable);
}

fn map_error(path: &Path) -> Error {
    map(&open(path), &Options::default()).unwrap_err()
}

/// A file system made by `mkfs`, filled and aged through the kernel; its image as it was before it was unmounted, too.
fn through_the_kernel(
    lab: &Lab,
    size: u64,
    mkfs: &mut std::process::Command,
) -> Option<(PathBuf, PathBuf, Files)> {
    let image = lab.blank("image", size);
    run(mkfs.arg(&image));
    let mut content = files(6, 60, 200_000);
    let crash = lab.path("crash");
    let mounted = MountedFile::new(&image, "")?;
    for (path, content) in &content {
        let path = mounted.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::File::open(&path).unwrap().sync_all().unwrap();
    }
    every_third(&mut content).iter().for_each(|path| fs::remove_file(mounted.root.join(path)).unwrap());
    let last = mounted.root.join("last");
    fs::write(&last, b"last").unwrap();
    content.insert("last".to_owned(), b"last".to_vec());
    fs::File::open(&last).unwrap().sync_all().unwrap();
    fs::copy(&image, &crash).unwrap();
    drop(mounted);
    Some((image, crash, content))
}

#[test]
fn xfs_of_both_versions() {
    if !have(&["mkfs.xfs", "xfs_repair"]) {
        return;
    }
    for (nth, args) in [
        &["-m", "crc=1,rmapbt=1,reflink=1"][..],
        &["-m", "crc=0", "-b", "size=1024"],
        &["-d", "agcount=3", "-b", "size=2048"],
        &["-m", "uuid=11111111-2222-3333-4444-555555555555", "-i", "sparse=0", "-d", "agcount=3,su=64k,sw=2"],
    ]
    .into_iter()
    .enumerate()
    {
        if !sampled(nth, 2) {
            continue;
        }
        let lab = Lab::new();
        let mut mkfs = tool("mkfs.xfs");
        mkfs.args(["-q", "-f", "-L", "daten"]).args(args);
        let Some((image, crash, content)) = through_the_kernel(&lab, 320 << 20, &mut mkfs) else { return };
        let map = map_of(&image);
        let probe = &map.probe;
        assert_eq!(
            (probe.kind, probe.state, probe.label.as_deref()),
            (Kind::Xfs, State::Clean, Some("daten"))
        );
        let target = transplant(&lab, &image, &map);
        run(tool("xfs_repair").args(["-n", "-f"]).arg(&target));
        {
            let mounted = MountedFile::new(&target, "ro,norecovery,nouuid").unwrap();
            assert_same_files(&read_tree(&mounted.root), &content);
        }
        if sampled(nth, 4)
            && let Some(theirs) = partclone(&lab, "partclone.xfs", &image)
        {
            // Blocks that a group keeps at hand for its own trees (AGFL) count as used here, as free there.
            let ours = allocated(&map);
            assert!(support::covers(&ours, &theirs), "{args:?}");
            let dev = open(&image);
            let be32 = |at| u32::from_be_bytes(dev.read_vec_at(at, 4).unwrap().try_into().unwrap());
            let block = u64::from(map.unit);
            let at_hand: u64 = (0..u64::from(be32(88)))
                .map(|n| u64::from(be32(n * u64::from(be32(84)) * block + 512 + 48)))
                .sum();
            assert_eq!(count(&ours), count(&theirs) + at_hand * block, "{args:?}");
        }
        // The log has what was synced; the trees of free space have not.
        assert_eq!(refusal(&crash), Reason::LogPending);
        assert_eq!(everything(&crash).basis, Basis::Refused(Reason::LogPending));
    }
}

#[test]
fn xfs_is_clean_when_just_made_and_after_a_repair() {
    if !have(&["mkfs.xfs", "xfs_repair"]) {
        return;
    }
    let lab = Lab::new();
    let image = lab.blank("image", 320 << 20);
    run(tool("mkfs.xfs").args(["-q", "-f"]).arg(&image));
    let before = map_of(&image);
    run(tool("xfs_repair").arg("-f").arg(&image));
    assert_eq!(map_of(&image).allocated, before.allocated);
    run(tool("xfs_repair").args(["-L", "-f"]).arg(&image));
    assert_eq!(map_of(&image).probe.state, State::Clean);
}

#[test]
fn swap_keeps_its_header_alone() {
    if !have(&["mkswap"]) {
        return;
    }
    for page in [4096u64, 65536] {
        let lab = Lab::new();
        let image = lab.blank("image", 8 << 20);
        run(tool("mkswap").args(["-L", "tausch", "-p"]).arg(page.to_string()).arg(&image));
        let map = map_of(&image);
        let probe = &map.probe;
        assert_eq!(
            (probe.kind, probe.label.as_deref(), probe.block_size),
            (Kind::Swap, Some("tausch"), Some(page as u32))
        );
        assert!(probe.uuid.is_some());
        assert_eq!((map.kept(), map.excluded()), (page, (8 << 20) - page));
        assert_eq!(map.runs[1].class, Class::Excluded(Excluded::Swap));
        let target = transplant(&lab, &image, &map);
        assert_eq!(gravure_fsmap::probe(&open(&target)).unwrap(), *probe);
        // A suspended system sleeps in it.
        write_at(&image, page - 10, b"S1SUSPEND\0");
        assert_eq!(refusal(&image), Reason::Hibernated);
    }
}

#[test]
fn btrfs_with_one_and_two_copies_of_its_metadata() {
    if !have(&["mkfs.btrfs", "btrfs"]) {
        return;
    }
    for (nth, args) in [
        &["-m", "dup"][..],
        &["-m", "single", "-n", "4096"],
        &["--mixed"],
        &["-O", "no-holes", "-R", "free-space-tree", "-n", "32768"],
    ]
    .into_iter()
    .enumerate()
    {
        if !sampled(nth, 2) {
            continue;
        }
        let lab = Lab::new();
        let mut mkfs = tool("mkfs.btrfs");
        mkfs.args(["-q", "-f", "-L", "baum"]).args(args);
        let Some((image, crash, content)) = through_the_kernel(&lab, 300 << 20, &mut mkfs) else { return };
        let map = map_of(&image);
        let probe = &map.probe;
        assert_eq!(
            (probe.kind, probe.state, probe.label.as_deref()),
            (Kind::Btrfs, State::Clean, Some("baum"))
        );
        let target = transplant(&lab, &image, &map);
        run(tool("btrfs").args(["check", "--check-data-csum"]).arg(&target));
        let out = lab.path("out");
        fs::create_dir(&out).unwrap();
        run(tool("btrfs").arg("restore").arg(&target).arg(&out));
        assert_same_files(&read_tree(&out), &content);
        if args.contains(&"single") {
            // What its own count says, the first MiB, and the super block's copy at 64 MiB.
            let used: u64 = probe.fact("bytes-used").unwrap().parse().unwrap();
            assert_eq!(map.allocated, used + (1 << 20) + (64 << 10));
        }
        // Synced, but not in a commit yet.
        assert_eq!(refusal(&crash), Reason::LogPending);
    }
}

#[test]
fn btrfs_on_several_devices_is_refused() {
    if !have(&["mkfs.btrfs"]) {
        return;
    }
    let lab = Lab::new();
    let (one, two) = (lab.blank("one", 150 << 20), lab.blank("two", 150 << 20));
    run(tool("mkfs.btrfs").args(["-q", "-f"]).arg(&one).arg(&two));
    assert_eq!(refusal(&one), Reason::SeveralDevices);
    run(tool("mkfs.btrfs").args(["-q", "-f", "--csum", "sha256"]).arg(&one));
    let error = map_error(&one).to_string();
    assert_eq!(error, "checksum of Btrfs not supported: sha256");
}

/// A physical volume made by hand of the texts that LVM writes; `pvck` judges it. Pieces of two volumes lie in turns, the second
/// in reverse order.
fn physical_volume(lab: &Lab, volumes: &[(&str, &Path, &[u64])], extra: &str) -> PathBuf {
    let image = lab.blank("pv", 200 << 20);
    let read: Vec<_> =
        volumes.iter().map(|(name, path, extents)| (*name, fs::read(path).unwrap(), *extents)).collect();
    let volumes: Vec<_> =
        read.iter().map(|(name, content, extents)| (*name, content.as_slice(), *extents)).collect();
    for (offset, bytes) in gravure_testkit::lvm::physical_volume(200, &volumes, extra) {
        write_at(&image, offset, &bytes);
    }
    image
}

/// The content of a logical volume, read back out of a device.
fn volume_of(lab: &Lab, name: &str, device: &Path, map: &UsedMap) -> PathBuf {
    let volume = map.volumes.iter().find(|volume| volume.name == name).unwrap();
    let dev = open(device);
    let segments = gravure_fsmap::Segments::new(&dev, volume.segments.clone()).unwrap();
    let path = lab.path("volume");
    fs::write(&path, segments.read_vec_at(0, usize::try_from(segments.size()).unwrap()).unwrap()).unwrap();
    path
}

#[test]
fn lvm_volumes_are_looked_into_where_their_pieces_lie() {
    if !have(&["mke2fs", "e2fsck", "debugfs", "mkswap"]) {
        return;
    }
    let lab = Lab::new();
    let content = files(8, 30, 100_000);
    let tree = lab.tree("tree", &content);
    let root = lab.blank("root", 40 << 20);
    run(tool("mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(&tree).arg(&root));
    // A journal that has to be replayed, in blocks that move.
    let block = lab.path("block");
    fs::write(&block, vec![0x5a; 1024]).unwrap();
    let script = lab.path("script");
    let path = content.iter().max_by_key(|(_, content)| content.len()).unwrap().0;
    let text = run(tool("debugfs").arg("-R").arg(format!("bmap /{path} 3")).arg(&root));
    let number = text.lines().next().unwrap().trim().to_owned();
    fs::write(
        &script,
        format!("journal_open\njournal_write -b {number} {}\njournal_close\n", block.display()),
    )
    .unwrap();
    run(tool("debugfs").arg("-w").arg("-f").arg(&script).arg(&root));
    let swap = lab.blank("swap", 10 << 20);
    run(tool("mkswap").arg(&swap));
    let forwards: Vec<u64> = (0..40).map(|n| n * 3 + 5).collect();
    let backwards: Vec<u64> = (0..10).map(|n| 60 - n * 3 + 1).collect();
    let pool = "\npool {\nid = \"paaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg\"\nstatus = [\"READ\"]\nsegment_count = 1\n\
                \nsegment1 {\nstart_extent = 0\nextent_count = 4\n\ntype = \"mirror\"\nstripes = [\n\"pv0\", 150\n]\n}\n}\n";
    let pv = physical_volume(&lab, &[("root", &root, &forwards), ("swap", &swap, &backwards)], pool);
    if let Some(mut pvck) = gravure_testkit::oracle("pvck") {
        let text = run(pvck.args(["--dump", "metadata"]).arg(&pv));
        assert!(text.contains("segment40"), "{text}");
    }
    let map = map_of(&pv);
    assert_eq!((map.probe.kind, map.probe.label.as_deref()), (Kind::Lvm, Some("vg0")));
    let names: Vec<(&str, Option<Kind>)> = map
        .volumes
        .iter()
        .map(|volume| (volume.name.as_str(), volume.probe.as_ref().map(|probe| probe.kind)))
        .collect();
    assert_eq!(names, [("vg0/root", Some(Kind::Ext4)), ("vg0/swap", Some(Kind::Swap)), ("vg0/pool", None)]);
    let inner = map_of(&root);
    // Metadata, what the volumes use, and the extents of the volume that is not looked into.
    let mirror = 4u64 << 20;
    assert_eq!(map.kept(), (1 << 20) + inner.kept() + 4096 + mirror);
    assert_eq!(map.excluded(), (10 << 20) - 4096);
    let count =
        |extents: &[gravure_fsmap::FileExtent]| extents.iter().map(|extent| extent.content).sum::<u64>();
    assert_eq!(count(&map.extents), count(&inner.extents));
    support::check_extents(&pv, &map, &with_block(&content, path));
    let target = transplant(&lab, &pv, &map);
    let volume = volume_of(&lab, "vg0/root", &target, &map);
    run(tool("e2fsck").arg("-fn").arg(&volume));
    let whole = volume_of(&lab, "vg0/swap", &target, &map);
    assert_eq!(gravure_fsmap::probe(&open(&whole)).unwrap().uuid, inner_uuid(&swap));
    // A volume that has no map refuses the whole, by its name.
    write_at(&swap, 4086, b"S1SUSPEND\0");
    let pv = physical_volume(&lab, &[("root", &root, &forwards), ("swap", &swap, &backwards)], "");
    assert_eq!(map_error(&pv).to_string(), "volume vg0/swap");
    let options = Options { fallback: Fallback::Everything, ..Options::default() };
    let map = gravure_fsmap::map(&open(&pv), &options).unwrap();
    assert_eq!(map.volumes[1].basis, Basis::Refused(Reason::Hibernated));
}

/// A snapshot reads unchanged blocks of its origin, those that the origin's file system freed since among them.
#[test]
fn origins_of_lvm_snapshots_are_used_as_a_whole() {
    if !have(&["mke2fs"]) {
        return;
    }
    let lab = Lab::new();
    let root = lab.blank("root", 8 << 20);
    run(tool("mke2fs").args(["-q", "-F", "-t", "ext2"]).arg(&root));
    let extents: Vec<u64> = (0..8).collect();
    let snapshot = "\nsnapshot0 {\nid = \"paaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg\"\nstatus = [\"READ\"]\nsegment_count = 1\n\
                    \nsegment1 {\nstart_extent = 0\nextent_count = 8\n\ntype = \"snapshot\"\nchunk_size = 8\norigin = \"root\"\n\
                    cow_store = \"cow\"\n}\n}\n";
    let free = |extra: &str| {
        let pv = physical_volume(&lab, &[("root", &root, &extents)], extra);
        let map = map_of(&pv);
        (map.kept(), map.volumes[0].probe.is_some())
    };
    let (alone, is_known) = free("");
    assert!(is_known && alone < 3 << 20, "{alone}");
    assert_eq!(free(snapshot), (9 << 20, false));
}

/// A volume that is called as its device, or as the type of its segments, is as linear as any; one that lies in another volume is none.
#[test]
fn lvm_volumes_may_have_the_names_of_other_things() {
    if !have(&["mke2fs"]) {
        return;
    }
    let lab = Lab::new();
    let root = lab.blank("root", 8 << 20);
    run(tool("mke2fs").args(["-q", "-F", "-t", "ext2"]).arg(&root));
    let places: [Vec<u64>; 3] = [0, 20, 40].map(|first| (first..first + 8).rev().collect());
    let volumes: Vec<(&str, &Path, &[u64])> = ["pv0", "striped", "data"]
        .into_iter()
        .zip(&places)
        .map(|(name, places)| (name, root.as_path(), places.as_slice()))
        .collect();
    let within = "\nmoved {\nid = \"paaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg\"\nstatus = [\"READ\", \"VISIBLE\"]\nsegment_count = 1\n\
                  \nsegment1 {\nstart_extent = 0\nextent_count = 8\n\ntype = \"striped\"\ntags = [\"striped\"]\nstripes = [\n\
                  \"data\", 0\n]\n}\n}\n";
    let looked_into = |extra: &str| {
        let pv = physical_volume(&lab, &volumes, extra);
        let map = map_of(&pv);
        let target = transplant(&lab, &pv, &map);
        let names = map.volumes.iter().filter(|volume| volume.probe.is_some());
        let names: Vec<String> = names.map(|volume| volume.name.clone()).collect();
        for name in &names {
            // What its file system uses is there again.
            let there = volume_of(&lab, name, &target, &map);
            let (inner, there) = (map_of(&root), fs::read(&there).unwrap());
            let whole = fs::read(&root).unwrap();
            for run in &inner.runs {
                let at = |offset| usize::try_from(offset).unwrap();
                let place = at(run.offset)..at(run.end());
                assert!(there[place.clone()] == whole[place], "{name} at {:#x}", run.offset);
            }
        }
        names
    };
    assert_eq!(looked_into(""), ["vg0/pv0", "vg0/striped", "vg0/data"]);
    assert_eq!(looked_into(within), ["vg0/pv0", "vg0/striped"]);
}

fn inner_uuid(path: &Path) -> Option<String> {
    probe(&open(path)).unwrap().uuid
}

/// The files after the journal put its block into one of them.
fn with_block(files: &Files, path: &str) -> Files {
    let mut files = files.clone();
    files.get_mut(path).unwrap()[3 * 1024..4 * 1024].fill(0x5a);
    files
}

/// Windows' files that it makes anew, put there by ntfs-3g.
#[test]
fn ntfs_without_page_and_hibernation_files() {
    if !have(&["mkntfs", "ntfscp", "ntfscat", "ntfsfix"]) {
        return;
    }
    let lab = Lab::new();
    let image = lab.blank("image", 64 << 20);
    run(tool("mkntfs").args(["-Q", "-F", "-q", "-L", "Windows"]).arg(&image));
    let content: Files =
        files(2, 24, 300_000).into_iter().map(|(path, content)| (path.replace('/', "-"), content)).collect();
    let tree = lab.tree("tree", &content);
    let put = |from: &Path, name: &str| drop(run(tool("ntfscp").arg("-f").arg(&image).arg(from).arg(name)));
    content.keys().for_each(|name| put(&tree.join(name), name));
    let page = lab.path("page");
    fs::write(&page, vec![7; 3 << 20]).unwrap();
    put(&page, "pagefile.sys");
    let mut hibernation = vec![9; 2 << 20];
    hibernation[..4].copy_from_slice(b"wake");
    fs::write(&page, hibernation).unwrap();
    put(&page, "hiberfil.sys");
    let map = map_of(&image);
    let probe = &map.probe;
    assert_eq!(
        (probe.kind, probe.state, probe.label.as_deref()),
        (Kind::Ntfs, State::Clean, Some("Windows"))
    );
    assert_eq!(map.excluded(), 5 << 20);
    assert!(map.runs.iter().any(|run| run.class == Class::Excluded(Excluded::Hibernation)));
    if let Some(expected) = partclone(&lab, "partclone.ntfs", &image) {
        // Partclone forgets what stands behind the last cluster: the copy of the boot sector.
        let ours = allocated(&map);
        assert!(support::covers(&ours, &expected));
        let count =
            |ranges: &[std::ops::Range<u64>]| ranges.iter().map(|range| range.end - range.start).sum::<u64>();
        let tail = map.size - probe.fact("clusters").unwrap().parse::<u64>().unwrap() * 4096;
        assert_eq!(count(&ours), count(&expected) + tail);
    }
    let target = transplant(&lab, &image, &map);
    run(tool("ntfsfix").arg("-n").arg(&target));
    for (name, content) in &content {
        let out = support::output(tool("ntfscat").arg(&target).arg(name));
        assert!(out.stdout == *content, "{name}");
    }
    let woken = support::output(tool("ntfscat").arg(&target).arg("hiberfil.sys"));
    assert!(woken.stdout.len() == 2 << 20 && woken.stdout.iter().all(|byte| *byte == 0));
    // With everything in: the pieces of all files.
    let all = Options { exclude: gravure_fsmap::Exclusions::NONE, ..Options::default() };
    let whole = gravure_fsmap::map(&open(&image), &all).unwrap();
    assert_eq!((whole.excluded(), whole.allocated), (0, map.allocated));
    let large: Files = content.clone().into_iter().filter(|(_, content)| content.len() > 1024).collect();
    let pieces: Vec<_> = map.extents.iter().filter(|extent| extent.len < 2 << 20).collect();
    let sum: u64 = pieces.iter().map(|extent| extent.content).sum();
    assert!(sum >= large.values().map(|content| content.len() as u64).sum());
    let dev = open(&image);
    let ranges: Vec<_> = map.extents.iter().map(|extent| extent.offset..extent.offset + extent.len).collect();
    for (owned, extent) in gravure_fsmap::owners(&dev, &ranges, &|| true).unwrap().iter().zip(&map.extents) {
        let gravure_fsmap::Owner::File(names) = &owned.owner else { panic!("{owned:?}") };
        let Some(content) = content.get(names[0].trim_start_matches('/')) else {
            assert!(names[0].ends_with(".sys"), "{names:?}");
            continue;
        };
        let at = usize::try_from(extent.file_offset).unwrap();
        let bytes = dev.read_vec_at(extent.offset, usize::try_from(extent.content).unwrap()).unwrap();
        assert!(content[at..].starts_with(&bytes), "{names:?}");
    }
    let everything = gravure_fsmap::owners(&dev, &support::whole(map.size), &|| true).unwrap();
    assert!(!everything.iter().any(|owned| owned.owner == gravure_fsmap::Owner::Unknown), "{everything:?}");
    // A system sleeps in it.
    fs::write(&page, b"hibr").unwrap();
    let hibernated =
        map.runs.iter().find(|run| run.class == Class::Excluded(Excluded::Hibernation)).unwrap().offset;
    write_at(&image, hibernated, b"hibr");
    assert_eq!(refusal(&image), Reason::Hibernated);
    assert_eq!(everything_of(&image), Basis::Refused(Reason::Hibernated));
}

fn everything_of(path: &Path) -> Basis {
    everything(path).basis
}
