//! XFS without room for its blocks is laid out anew: every file is there with all that is known of it, by the kernel and by the tools of XFS, and
//! nothing that can be mounted is ever incomplete.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use gravure_imaging::{BlockSource, Error, ErrorKind, FitOptions, FitPlan, VolumeDevice, VolumeFile};
use gravure_io::{FileAt, ReadAt, WriteAt};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_testkit::{Fault, MountedFile, Operation, full_run};

use crate::block_filesystems::used_target;
use crate::block_fit::{Sectors, capture, have, options, run, tool};
use crate::kernel_volumes::{apply, put_on_disk};
use crate::windows::noise;

const MIB: u64 = 1 << 20;
const SOURCE_BYTES: u64 = 700 * MIB;
const TARGET_BYTES: u64 = 330 * MIB;
const UUID: &str = "11111111-2222-3333-4444-555555555555";

struct Lab {
    dir: tempfile::TempDir,
}

/// All that is known of a file.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    mode: u32,
    owner: [u32; 2],
    links: u64,
    device: u64,
    times: [i64; 4],
    content: Vec<u8>,
    /// Of a file; other blocks may be counted otherwise.
    blocks_at_most: u64,
}

impl Lab {
    /// `None` where something that is needed is not here.
    fn new() -> Option<Self> {
        if !Path::new("/dev/fuse").exists() {
            gravure_testkit::skipped("no /dev/fuse");
            return None;
        }
        if !have(&["mkfs.xfs", "xfs_repair", "setfattr", "getfattr", "fallocate", "mknod"]) {
            return None;
        }
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        let probe = lab.path("probe");
        fs::File::create(&probe).unwrap().set_len(320 * MIB).unwrap();
        run(tool("mkfs.xfs").args(["-q", "-f"]).arg(&probe));
        let can_mount = MountedFile::new(&probe, "").is_some();
        fs::remove_file(probe).unwrap();
        can_mount.then_some(lab)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A volume whose files lie behind much that was removed later.
    fn volume(&self, args: &[&str]) -> PathBuf {
        let path = self.path("source");
        fs::File::create(&path).unwrap().set_len(SOURCE_BYTES).unwrap();
        let uuid = format!("uuid={UUID}");
        run(tool("mkfs.xfs").args(["-q", "-f", "-L", "daten", "-m", &uuid]).args(args).arg(&path));
        let mounted = MountedFile::new(&path, "nouuid").unwrap();
        populate(&mounted.root);
        drop(mounted);
        path
    }

    /// Everything that the kernel says of a volume.
    fn facts(&self, volume: &Path) -> (BTreeMap<PathBuf, Facts>, String) {
        let mounted = MountedFile::new(volume, "ro,noatime,nouuid").unwrap();
        let mut all = BTreeMap::new();
        walk(&mounted.root, Path::new(""), &mut all);
        let attributes = run(tool("getfattr")
            .args(["-R", "-h", "-d", "-m", "-", "-e", "hex", "."])
            .current_dir(&mounted.root));
        // In the order in which directories have them.
        let mut attributes: Vec<&str> = attributes.split("\n\n").collect();
        attributes.sort_unstable();
        (all, attributes.join("\n\n"))
    }

    /// `target` is sound, and the same volume as `source` but smaller.
    fn assert_same(&self, source: &Path, target: &Path) {
        run(tool("xfs_repair").args(["-n", "-f"]).arg(target));
        let [(expected, attributes), (found, found_attributes)] =
            [source, target].map(|volume| self.facts(volume));
        assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
        for (path, expected) in &expected {
            let found = &found[path];
            assert!(found.blocks_at_most <= expected.blocks_at_most + 128, "{}", path.display());
            let is_same = Facts { blocks_at_most: 0, content: Vec::new(), ..copy(expected) }
                == Facts { blocks_at_most: 0, content: Vec::new(), ..copy(found) };
            assert!(is_same, "{}: {expected:?} {found:?}", path.display());
            assert!(expected.content == found.content, "{}", path.display());
        }
        assert!(attributes.len() > 40_000);
        assert_eq!(attributes, found_attributes);
        let [old, new] =
            [source, target].map(|volume| gravure_fsmap::probe(&FileAt::open(volume).unwrap()).unwrap());
        assert_eq!((old.label, old.uuid, old.block_size), (new.label, new.uuid, new.block_size));
        let features = |volume: &Path| {
            let volume = FileAt::open(volume).unwrap();
            gravure_fsmap::XfsVolume::open(&volume, &|| true).unwrap().facts().features.clone()
        };
        assert_eq!(features(source), features(target));
    }
}

fn copy(facts: &Facts) -> Facts {
    Facts { content: Vec::new(), ..*facts }
}

fn walk(root: &Path, below: &Path, all: &mut BTreeMap<PathBuf, Facts>) {
    let path = root.join(below);
    let meta = path.symlink_metadata().unwrap();
    let kind = meta.file_type();
    let content = match kind {
        // What is far behind is a hole.
        kind if kind.is_file() && meta.len() > 64 * MIB => {
            let mut front = vec![0; 4 << 20];
            fs::File::open(&path).unwrap().read_exact_at(&mut front, 0).unwrap();
            front
        }
        kind if kind.is_file() => fs::read(&path).unwrap(),
        kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
        _ => Vec::new(),
    };
    let facts = Facts {
        mode: meta.mode(),
        owner: [meta.uid(), meta.gid()],
        links: meta.nlink(),
        device: if kind.is_block_device() { meta.rdev() } else { meta.len() * u64::from(kind.is_file()) },
        times: [meta.mtime(), meta.mtime_nsec(), meta.atime(), meta.atime_nsec()],
        content,
        blocks_at_most: meta.blocks(),
    };
    all.insert(below.to_owned(), facts);
    if kind.is_dir() {
        for entry in fs::read_dir(&path).unwrap() {
            walk(root, &below.join(entry.unwrap().file_name()), all);
        }
    }
}

fn populate(root: &Path) {
    let filler = fs::File::create(root.join("filler")).unwrap();
    for n in 0..500 {
        filler.write_all_at(&vec![3; 1 << 20], n * MIB).unwrap();
    }
    filler.sync_all().unwrap();
    for n in 0..60usize {
        let dir = root.join(format!("dir{}/inner{}", n % 4, n % 3));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("file{n}")), noise(n * n * 90, n as u64)).unwrap();
    }
    fs::remove_file(root.join("filler")).unwrap();
    fs::hard_link(root.join("dir1/inner1/file1"), root.join("dir2/same file")).unwrap();
    symlink("short", root.join("short link")).unwrap();
    symlink("long/".repeat(190), root.join("long link")).unwrap();
    fs::hard_link(root.join("long link"), root.join("dir3/long link")).unwrap();
    run(tool("mknod").arg(root.join("device")).args(["b", "259", "65537"]));
    run(tool("mkfifo").args(["-m", "0620"]).arg(root.join("pipe")));
    let holes = fs::File::create(root.join("holes")).unwrap();
    (0..60).for_each(|n| holes.write_all_at(&vec![n; 3000], u64::from(n) * 50_000).unwrap());
    holes.set_len(300 << 30).unwrap();
    run(tool("chown").args(["-h", "70001:70002"]).arg(root.join("short link")).arg(root.join("dir3")));
    run(tool("chmod").arg("6751").arg(root.join("dir1/inner1/file1")));
    run(tool("chmod").arg("3711").arg(root.join("dir3")));
    run(tool("chmod").arg("0701").arg(root));
    let attributes = [
        ("dir0", "user.small", "value".to_owned()),
        ("dir0", "security.other", "0x00".to_owned()),
        ("long link", "trusted.link", "of a link".to_owned()),
        ("dir1/inner1/file1", "security.capability", "0x0100000200040000000000000000000000000000".to_owned()),
        ("holes", "user.large", "x".repeat(20_000)),
        (".", "trusted.root", "of all".to_owned()),
        // Owner, one more user, group, mask, others; and what is made in a directory is given.
        ("dir0/inner0/file0", "system.posix_acl_access", ACL.to_owned()),
        ("dir2", "system.posix_acl_default", ACL.to_owned()),
    ];
    for (path, name, value) in attributes {
        run(tool("setfattr").args(["-h", "-n", name, "-v", &value]).arg(root.join(path)));
    }
    run(tool("touch").args(["-h", "-d", "1931-05-06 07:08:09.123456789Z"]).arg(root.join("long link")));
    run(tool("touch").args(["-d", "2031-05-06 07:08:09.987654321Z"]).arg(root.join("dir2")));
    run(tool("touch").args(["-d", "2011-01-02 03:04:05.5Z"]).arg(root));
}

const ACL: &str =
    "0x0200000001000600ffffffff02000700d204000004000400ffffffff10000700ffffffff20000400ffffffff";

#[test]
fn xfs_without_room_for_its_blocks_is_laid_out_anew_with_all_its_files() {
    let Some(lab) = Lab::new() else { return };
    let all = [
        &["-b", "size=1024"][..],
        &["-m", "bigtime=0,rmapbt=0,reflink=0,inobtcount=0", "-i", "nrext64=0,size=1024"],
        &["-m", "rmapbt=1", "-n", "size=8192", "-i", "nrext64=1"],
    ];
    for args in all.into_iter().take(if full_run() { 3 } else { 1 }) {
        let source = lab.volume(args);
        let image = capture(BlockSource::open(&source).unwrap());
        let target = lab.path("target");
        used_target(&target, TARGET_BYTES);
        let device = VolumeFile::open(&target, None).unwrap();
        let report = apply(&image, &device).unwrap();
        drop(device);
        assert_eq!((report.laid_out_anew.as_slice(), report.made_smaller.as_slice()), (&[0][..], &[][..]));
        assert!(report.apply.is_verified && report.apply.skipped == 0, "{report:?}");
        assert!(
            report.apply.verified_bytes > 5 * MIB && report.apply.verified_bytes < 20 * MIB,
            "{report:?}"
        );
        let note = "the volume: XFS laid out anew, file by file, as its blocks reach over 734003200 bytes";
        assert!(report.notes[0].starts_with(note), "{:?}", report.notes);
        lab.assert_same(&source, &target);
    }
}

#[test]
fn xfs_on_a_smaller_disk_is_laid_out_anew_in_its_partition() {
    let Some(lab) = Lab::new() else { return };
    let source = lab.volume(&[]);
    let disk = lab.path("disk");
    put_on_disk(&source, &disk);
    let image = capture(BlockSource::open(&disk).unwrap());
    let target = lab.path("target");
    used_target(&target, 400 * MIB);
    let device = VolumeFile::open(&target, None).unwrap();
    let plan = FitPlan::new(&image, &device, &FitOptions::default()).unwrap();
    let report = plan.apply(&image, &device, &options(), &Ctl::default(), &Silent).unwrap();
    assert_eq!(report.laid_out_anew, [2]);
    let to = report.partitions[1].to.clone();
    assert!(to.end - to.start > 350 * MIB && to.end <= 400 * MIB, "{to:?}");
    let volume = lab.path("volume");
    fs::write(&volume, device.read_vec_at(to.start, usize::try_from(to.end - to.start).unwrap()).unwrap())
        .unwrap();
    lab.assert_same(&source, &volume);
    // Sectors of another size: there it can have no blocks of its own at all.
    let larger = Sectors::new(420 * MIB, 4096, u64::MAX, Fault::Fail);
    let plan = FitPlan::new(&image, &larger, &FitOptions::default()).unwrap();
    let report = plan.apply(&image, &larger, &options(), &Ctl::default(), &Silent).unwrap();
    assert_eq!(report.laid_out_anew, [2]);
    let note = "partition 2: XFS laid out anew, file by file, as it was made for sectors of 512 bytes, the target has 4096";
    assert!(report.notes.iter().any(|said| said.starts_with(note)), "{:?}", report.notes);
    let to = report.partitions[1].to.clone();
    fs::write(&volume, larger.read_vec_at(to.start, usize::try_from(to.end - to.start).unwrap()).unwrap())
        .unwrap();
    assert_eq!(gravure_fsmap::probe(&FileAt::open(&volume).unwrap()).unwrap().sector_size, Some(4096));
    lab.assert_same(&source, &volume);
    drop(larger);
    // Block by block only, or on a disk that has no room for the files either, it is refused with what would be needed.
    let refused = FitPlan::of_blocks(&image, &device, &FitOptions::default()).unwrap_err();
    assert!(refused.to_string().contains("XFS on partition 2 only block by block"), "{refused}");
    let small = VolumeFile::open(&lab.path("small"), Some(250 * MIB)).unwrap();
    let refused = FitPlan::new(&image, &small, &FitOptions::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.to_string().contains("the files on partition 2 need 314572800 bytes"), "{refused}");
}

#[test]
fn xfs_is_none_until_its_files_were_read_back() {
    let Some(lab) = Lab::new() else { return };
    let source = lab.volume(&[]);
    let image = capture(BlockSource::open(&source).unwrap());
    let is_there = |disk: &Sectors| disk.0.inner().read_vec_at(0, 4).unwrap() == *b"XFSB";
    let counting = Sectors::new(TARGET_BYTES, 512, u64::MAX, Fault::Fail);
    apply(&image, &counting).unwrap();
    assert!(is_there(&counting));
    let count = counting.0.count(Operation::Write);
    drop(counting);
    let step = usize::try_from(1 + count / if full_run() { 40 } else { 4 }).unwrap();
    for at in (0..count).step_by(step).chain([count - 1]) {
        for fault in [Fault::PowerCut { bytes: 300 }, Fault::ENOSPC] {
            let disk = Sectors::new(TARGET_BYTES, 512, at, fault);
            let error = apply(&image, &disk).expect_err("a write failed");
            assert_eq!(error.kind(), ErrorKind::Io, "write {at} of {count}: {error}");
            // The last write is that of the first page.
            assert!(!is_there(&disk) || at + 1 == count, "write {at} of {count}: {error}");
        }
    }
    // A page of a file that is not what was written.
    let flipped = Flipping(
        Sectors::new(TARGET_BYTES, 512, u64::MAX, Fault::Fail),
        noise(59 * 59 * 90, 59)[..4096].to_vec(),
    );
    let error = apply(&image, &flipped).unwrap_err();
    assert!(error.is_integrity() && error.to_string().contains("file59"), "{error}");
    assert!(!is_there(&flipped.0));
}

/// A disk that changes what looks like this page.
struct Flipping(Sectors, Vec<u8>);

impl ReadAt for Flipping {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.0.read_exact_at(offset, buf)
    }
}

impl WriteAt for Flipping {
    fn block_size(&self) -> u32 {
        self.0.block_size()
    }
    fn write_all_at(&self, offset: u64, buf: &[u8]) -> std::io::Result<()> {
        let mut bytes = buf.to_vec();
        for page in bytes.chunks_mut(4096).filter(|page| **page == *self.1) {
            page[77] ^= 4;
        }
        self.0.write_all_at(offset, &bytes)
    }
    fn zero_range(&self, range: std::ops::Range<u64>) -> std::io::Result<()> {
        self.0.zero_range(range)
    }
    fn discard(&self, range: std::ops::Range<u64>) -> std::io::Result<()> {
        self.0.discard(range)
    }
    fn sync(&self) -> std::io::Result<()> {
        self.0.sync()
    }
}

impl VolumeDevice for Flipping {
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
