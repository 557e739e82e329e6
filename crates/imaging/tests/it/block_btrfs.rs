//! Btrfs without room for its blocks is made smaller by the kernel: subvolumes, snapshots, compressed and shared extents are there, nothing but a
//! whole volume can ever be mounted, and what cannot fit is refused before a byte is written.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use gravure_fsmap::{BtrfsContent, BtrfsLayout};
use gravure_imaging::{
    BlockSource, Error, ErrorKind, FitOptions, FitPlan, VolumeDevice, VolumeFile, least_disk_bytes,
};
use gravure_io::{FileAt, ReadAt, WriteAt};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_testkit::{Fault, MountedFile, Operation, full_run};

use crate::block_filesystems::used_target;
use crate::block_fit::{Sectors, capture, have, options, run, tool};
use crate::kernel_volumes::{apply, put_on_disk};
use crate::windows::noise;

const MIB: u64 = 1 << 20;
const SOURCE_BYTES: u64 = 1100 * MIB;
const TARGET_BYTES: u64 = 480 * MIB;
const SUPER: u64 = 64 << 10;
/// Its first copy.
const COPY: u64 = 64 << 20;
/// Lets groups of blocks hold contents and trees alike.
const MIXED: &str = "-M";
const MAGIC: &[u8] = b"_BHRfS_M";

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    /// `None` where something that is needed is not here.
    fn new() -> Option<Self> {
        if !Path::new("/dev/fuse").exists() {
            gravure_testkit::skipped("no /dev/fuse");
            return None;
        }
        if !have(&["mkfs.btrfs", "btrfs", "setfattr", "getfattr"]) {
            return None;
        }
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        let probe = lab.path("probe");
        fs::File::create(&probe).unwrap().set_len(128 * MIB).unwrap();
        run(tool("mkfs.btrfs").args(["-q", "-f"]).arg(&probe));
        let can_mount = MountedFile::new(&probe, "").is_some();
        fs::remove_file(probe).unwrap();
        can_mount.then_some(lab)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A volume whose files lie behind much that was removed later: nearly all of it has no place on the target.
    fn volume(&self, args: &[&str]) -> PathBuf {
        let path = self.path("source");
        fs::File::create(&path).unwrap().set_len(SOURCE_BYTES).unwrap();
        run(tool("mkfs.btrfs").args(["-q", "-f", "-L", "daten"]).args(args).arg(&path));
        let mounted = MountedFile::new(&path, "subvolid=5").unwrap();
        populate(&mounted.root, args.contains(&MIXED));
        drop(mounted);
        let reach = self.layout(&path).chunks.iter().map(gravure_fsmap::BtrfsChunk::end).max().unwrap();
        assert!(reach > TARGET_BYTES + 100 * MIB, "{reach}");
        path
    }

    fn layout(&self, volume: &Path) -> BtrfsLayout {
        BtrfsLayout::read(&FileAt::open(volume).unwrap(), &|| true).unwrap()
    }

    /// Everything that the kernel says of a volume; it checks contents against their checksums.
    fn facts(&self, volume: &Path) -> (BTreeMap<PathBuf, String>, String, String) {
        let mounted = MountedFile::new(volume, "ro,noatime,subvolid=5").unwrap();
        let mut all = BTreeMap::new();
        walk(&mounted.root, Path::new(""), &mut all);
        let attributes = run(tool("getfattr")
            .args(["-R", "-h", "-d", "-m", "-", "-e", "hex", "."])
            .current_dir(&mounted.root));
        let mut attributes: Vec<&str> = attributes.split("\n\n").collect();
        attributes.sort_unstable();
        let list = run(tool("btrfs").args(["subvolume", "list", "-p", "-u", "-q"]).arg(&mounted.root));
        let default = run(tool("btrfs").args(["subvolume", "get-default"]).arg(&mounted.root));
        let all_subvolumes = format!("{list}{default}");
        // When a tree was written last is nobody's business.
        let words: Vec<&str> = all_subvolumes.split_whitespace().collect();
        let kept =
            (0..words.len()).filter(|at| at.checked_sub(1).is_none_or(|before| words[before] != "gen"));
        let subvolumes: Vec<&str> = kept.map(|at| words[at]).collect();
        (all, attributes.join("\n\n"), subvolumes.join(" "))
    }

    /// `target` is sound, of `bytes`, and the same volume as `source`.
    fn assert_same(&self, source: &Path, target: &Path, bytes: u64) {
        run(tool("btrfs").args(["check", "--readonly", "--check-data-csum"]).arg(target));
        let [old, new] = [source, target].map(|volume| self.facts(volume));
        assert!(old.0.len() > 150, "{}", old.0.len());
        for (path, expected) in &old.0 {
            assert_eq!(Some(expected), new.0.get(path), "{}", path.display());
        }
        assert_eq!(old.0.len(), new.0.len());
        assert!(old.1.contains("user.large"));
        assert_eq!(old.1, new.1);
        assert!(old.2.contains("snapshot") && old.2.contains("inner"), "{}", old.2);
        assert_eq!(old.2, new.2);
        let [before, after] = [source, target].map(|volume| self.layout(volume));
        assert_eq!(after.device_bytes, bytes);
        assert!(after.chunks.iter().all(|chunk| chunk.end() <= bytes));
        // What was shared and compressed still is: as many bytes are used.
        let of = |layout: &BtrfsLayout, content| {
            let all = layout.chunks.iter().filter(|one| one.content == content);
            all.map(|chunk| chunk.used).sum::<u64>()
        };
        let [data, mixed] = [BtrfsContent::Data, BtrfsContent::Mixed]
            .map(|content| [&before, &after].map(|layout| of(layout, content)));
        assert!(data[0] + mixed[0] > 100 * MIB, "{data:?} {mixed:?}");
        assert_eq!(data[0], data[1]);
        // Beside trees, which are written anew.
        assert!(mixed[0].abs_diff(mixed[1]) < MIB, "{mixed:?}");
        let probes =
            [source, target].map(|volume| gravure_fsmap::probe(&FileAt::open(volume).unwrap()).unwrap());
        let [old, new] = &probes;
        assert_eq!((&old.label, &old.uuid, old.state), (&new.label, &new.uuid, new.state));
    }
}

/// Whether `mkfs.btrfs` can make volumes with it.
fn knows(feature: &str) -> bool {
    let listed = tool("mkfs.btrfs").args(["-O", "list-all"]).output().unwrap();
    // On standard output or error, by version.
    let text = [listed.stdout, listed.stderr].concat();
    String::from_utf8_lossy(&text).lines().any(|line| line.split_whitespace().next() == Some(feature))
}

fn walk(root: &Path, below: &Path, all: &mut BTreeMap<PathBuf, String>) {
    let path = root.join(below);
    let meta = path.symlink_metadata().unwrap();
    let kind = meta.file_type();
    let content = match kind {
        kind if kind.is_file() => blake3::hash(&fs::read(&path).unwrap()).to_string(),
        kind if kind.is_symlink() => fs::read_link(&path).unwrap().display().to_string(),
        _ => String::new(),
    };
    // What stands for a subvolume in a snapshot has the time at which somebody looks.
    let time = if meta.ino() == 2 { [0, 0] } else { [meta.mtime(), meta.mtime_nsec()] };
    let facts = format!(
        "{:o} {}:{} links {} bytes {} at {time:?} inode {}: {content}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.nlink(),
        meta.len(),
        meta.ino()
    );
    all.insert(below.to_owned(), facts);
    if kind.is_dir() {
        for entry in fs::read_dir(&path).unwrap() {
            walk(root, &below.join(entry.unwrap().file_name()), all);
        }
    }
}

fn populate(root: &Path, is_mixed: bool) {
    let btrfs = |args: &[&str]| run(tool("btrfs").args(args).current_dir(root));
    let filler = fs::File::create(root.join("filler")).unwrap();
    let content = noise(1 << 20, 3);
    for n in 0..550 {
        filler.write_all_at(&content, n * MIB).unwrap();
        // With groups of one kind no gaps may stay that what comes next would go into.
        if is_mixed && n % 16 == 15 {
            filler.sync_all().unwrap();
        }
    }
    filler.sync_all().unwrap();
    drop(filler);
    btrfs(&["subvolume", "create", "@"]);
    btrfs(&["subvolume", "create", "@/inner"]);
    for n in 0..60usize {
        let dir = root.join(format!("@/dir{}/deep{}", n % 4, n % 3));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("file{n}")), noise(n * n * 1500, n as u64)).unwrap();
        fs::write(root.join(format!("@/inner/small{n}")), noise(n * 40, n as u64)).unwrap();
    }
    fs::create_dir(root.join("@/packed")).unwrap();
    btrfs(&["property", "set", "-t", "inode", "@/packed", "compression", "zstd"]);
    for n in 0..8u8 {
        let line = format!("line {n} of a text that is told again and again\n").repeat(40_000);
        fs::write(root.join(format!("@/packed/text{n}")), line).unwrap();
    }
    btrfs(&["filesystem", "sync", "."]);
    btrfs(&["subvolume", "snapshot", "-r", "@", "snapshot"]);
    // From here on both differ in some blocks and share the others.
    let changed = fs::File::options().write(true).open(root.join("@/dir3/deep2/file59")).unwrap();
    (0..50).for_each(|n| changed.write_all_at(&noise(5000, 100 + n), n * 40_000).unwrap());
    let original = root.join("@/dir2/deep1/file58");
    run(tool("cp").arg("--reflink=always").arg(original).arg(root.join("@/copy that shares")));
    fs::hard_link(root.join("@/dir1/deep1/file1"), root.join("@/dir2/same file")).unwrap();
    symlink("somewhere", root.join("@/link")).unwrap();
    let holes = fs::File::create(root.join("@/holes")).unwrap();
    (0..20).for_each(|n| holes.write_all_at(&vec![n; 3000], u64::from(n) * 1_000_000).unwrap());
    for (name, value) in [("user.small", "value".to_owned()), ("user.large", "x".repeat(3000))] {
        run(tool("setfattr").args(["-n", name, "-v", &value]).arg(root.join("@/holes")));
    }
    // Not always the first number: caches of free space may have that.
    let number = btrfs(&["inspect-internal", "rootid", "@"]);
    btrfs(&["subvolume", "set-default", number.trim(), "."]);
    btrfs(&["filesystem", "sync", "."]);
    fs::remove_file(root.join("filler")).unwrap();
    btrfs(&["filesystem", "sync", "."]);
    // Chunks that are empty go now, and not when the driver gets to it; of mixed ones both have to be said.
    btrfs(&["balance", "start", "-dusage=0", "-musage=0", "."]);
    btrfs(&["filesystem", "sync", "."]);
}

#[test]
fn btrfs_without_room_for_its_blocks_is_made_smaller_with_all_that_is_on_it() {
    let Some(lab) = Lab::new() else { return };
    let all = [
        &[][..],
        &["-m", "single", "-n", "4096"],
        &[MIXED],
        &["-O", "^no-holes", "-R", "^free-space-tree"],
        &["-O", "block-group-tree"],
    ];
    for args in all.into_iter().take(if full_run() { 5 } else { 1 }) {
        if let ["-O", feature] = args
            && !knows(feature)
        {
            eprintln!("SKIPPED: this mkfs.btrfs does not know {feature}");
            continue;
        }
        let source = lab.volume(args);
        let image = capture(BlockSource::open(&source).unwrap());
        let target = lab.path("target");
        // Not whole blocks.
        used_target(&target, TARGET_BYTES + 1536);
        let device = VolumeFile::open(&target, None).unwrap();
        let report = apply(&image, &device).unwrap();
        drop(device);
        assert_eq!((report.made_smaller.as_slice(), report.laid_out_anew.as_slice()), (&[0][..], &[][..]));
        assert!(report.apply.is_verified && report.apply.skipped == 0, "{report:?}");
        let note = "the volume: Btrfs made smaller by the kernel, as its blocks reach over 1153433600 bytes";
        assert!(report.notes[0].starts_with(note), "{:?}", report.notes);
        lab.assert_same(&source, &target, TARGET_BYTES);
    }
}

#[test]
fn btrfs_on_a_smaller_disk_is_made_smaller_in_its_partition_or_refused() {
    let Some(lab) = Lab::new() else { return };
    let source = lab.volume(&[]);
    let disk = lab.path("disk");
    put_on_disk(&source, &disk);
    let image = capture(BlockSource::open(&disk).unwrap());
    let least = least_disk_bytes(&image, &Ctl::default()).unwrap().unwrap();
    // More than the kernel makes volumes of at least.
    assert!((320 * MIB..520 * MIB).contains(&least), "{least}");
    let target = lab.path("target");
    used_target(&target, least);
    let device = VolumeFile::open(&target, None).unwrap();
    let plan = FitPlan::new(&image, &device, &FitOptions::default()).unwrap();
    let report = plan.apply(&image, &device, &options(), &Ctl::default(), &Silent).unwrap();
    assert_eq!((report.made_smaller.as_slice(), report.laid_out_anew.as_slice()), (&[2][..], &[][..]));
    let to = report.partitions[1].to.clone();
    assert!(to.end - to.start > 256 * MIB && to.end <= least, "{to:?}");
    let note = "partition 2: Btrfs made smaller by the kernel, as its blocks reach over";
    assert!(report.notes.iter().any(|said| said.starts_with(note)), "{:?}", report.notes);
    let volume = lab.path("volume");
    fs::write(&volume, device.read_vec_at(to.start, usize::try_from(to.end - to.start).unwrap()).unwrap())
        .unwrap();
    lab.assert_same(&source, &volume, (to.end - to.start) / 4096 * 4096);
    // Block by block only, or on a disk that has no room for what is used either, it is refused with what would be needed.
    let refused = FitPlan::of_blocks(&image, &device, &FitOptions::default()).unwrap_err();
    assert!(refused.to_string().contains("Btrfs on partition 2 only block by block"), "{refused}");
    drop(device);
    used_target(&target, least - 2 * MIB);
    let before = fs::read(&target).unwrap();
    let device = VolumeFile::open(&target, None).unwrap();
    let refused = FitPlan::new(&image, &device, &FitOptions::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("the files on partition 2 need "), "{refused}");
    // The volume alone, likewise.
    let image = capture(BlockSource::open(&source).unwrap());
    let small = VolumeFile::open(&lab.path("small"), Some(250 * MIB)).unwrap();
    let refused = apply(&image, &small).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("there is room for 262144000; its files need "), "{refused}");
    drop((device, small));
    assert!(before == fs::read(&target).unwrap());
    assert!(!lab.path("small").exists(), "not made before the first write");
}

/// The size in the super block at `place`; none where there is no super block.
fn claim(disk: &Sectors, place: u64) -> Option<u64> {
    let block = disk.0.inner().read_vec_at(place, 4096).unwrap();
    let size = u64::from_le_bytes(block[0x70..0x78].try_into().unwrap());
    (block[0x40..0x48] == *MAGIC).then_some(size)
}

/// A disk that notes what its super blocks say, whenever that changes.
struct Watching(Sectors, Mutex<Vec<[Option<u64>; 2]>>);

impl Watching {
    fn look(&self) {
        let mut seen = self.1.lock().unwrap();
        let now = [SUPER, COPY].map(|place| claim(&self.0, place));
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
}

impl ReadAt for Watching {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.0.read_exact_at(offset, buf)
    }
}

impl WriteAt for Watching {
    fn block_size(&self) -> u32 {
        self.0.block_size()
    }
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> std::io::Result<()> {
        self.0.write_all_at(offset, buf)?;
        self.look();
        Ok(())
    }
    fn zero_range(&self, range: std::ops::Range<u64>) -> std::io::Result<()> {
        self.0.zero_range(range)?;
        self.look();
        Ok(())
    }
    fn discard(&self, range: std::ops::Range<u64>) -> std::io::Result<()> {
        self.0.discard(range)?;
        self.look();
        Ok(())
    }
    fn sync(&self) -> std::io::Result<()> {
        self.0.sync()
    }
}

impl VolumeDevice for Watching {
    fn sector_bytes(&self) -> u32 {
        512
    }
    fn name(&self) -> &'static str {
        "disk"
    }
    fn drop_cache(&self) -> Result<(), Error> {
        Ok(())
    }
}

#[test]
fn btrfs_is_none_until_all_of_it_is_on_the_target() {
    let Some(lab) = Lab::new() else { return };
    let source = lab.volume(&[]);
    let image = capture(BlockSource::open(&source).unwrap());
    let watching = Watching(Sectors::new(TARGET_BYTES, 512, u64::MAX, Fault::Fail), Mutex::default());
    apply(&image, &watching).unwrap();
    let count = watching.0.0.count(Operation::Write);
    let (before, after) = (Some(SOURCE_BYTES), Some(TARGET_BYTES));
    // Restored as it was, which no kernel mounts for its size; none while blocks move; and the copy comes before the first one.
    let expected = [
        [None, None],
        [None, before],
        [before, before],
        [None, before],
        [None, None],
        [None, after],
        [after, after],
    ];
    assert_eq!(*watching.1.lock().unwrap(), expected);
    drop(watching);
    let claims = |disk: &Sectors| claim(disk, SUPER);
    let step = usize::try_from(1 + count / if full_run() { 40 } else { 4 }).unwrap();
    let mut moving = 0;
    for at in (0..count).step_by(step).chain([count - 30, count - 2, count - 1]) {
        for fault in [Fault::PowerCut { bytes: 300 }, Fault::ENOSPC] {
            let disk = Sectors::new(TARGET_BYTES, 512, at, fault);
            // The driver does not write the same number of times each time.
            let Err(error) = apply(&image, &disk) else {
                assert_eq!(claims(&disk), Some(TARGET_BYTES), "write {at} of {count}");
                continue;
            };
            assert_eq!(error.kind(), ErrorKind::Io, "write {at} of {count}: {error}");
            match claims(&disk) {
                // What was restored and not yet made smaller: no kernel mounts what is larger than its device.
                Some(SOURCE_BYTES) => {}
                Some(TARGET_BYTES) => assert!(at + 20 > count, "write {at} of {count}: {error}"),
                Some(other) => panic!("write {at} of {count}: {other} bytes"),
                None => moving += 1,
            }
        }
    }
    assert!(moving > 4, "{moving}");
}
