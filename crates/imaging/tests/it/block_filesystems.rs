//! Real file systems, made by their own tools, captured by their used blocks and restored onto a device full of other bytes: their own
//! checkers find nothing, every file is equal, and the image is hardly larger than what is in use.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::block_images::Failing;

use gravure_imaging::{
    BlockApplyOptions, BlockCapture, BlockCaptureOptions, BlockCaptureReport, BlockImage, BlockImageAt,
    BlockPlan, BlockPlanOptions, BlockSource, ErrorKind, ExistingData, VolumeFile, apply_block_image,
};
use gravure_io::FileAt;
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_store::{LocalObjects, OnExisting, Store};
use gravure_testkit::{MountedExfat, Random, oracle};
use gravure_unlock::Key;

const MIB: u64 = 1 << 20;

pub(crate) fn run(command: &mut Command) {
    let output = gravure_testkit::patient_output(command);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
}

/// Files of all sizes, text and noise.
fn populate(dir: &Path, seed: u64) -> Vec<PathBuf> {
    let mut random = Random::new(seed);
    let mut out = Vec::new();
    for name in ["a", "b/c", "b/d"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
        for number in 0..12u64 {
            let bits = 6 + number + random.below(8);
            let len = random.below(1 << bits.min(21));
            let is_noise = random.once_in(2);
            let mut content: Vec<u8> =
                b"words and words\n".iter().copied().cycle().take(len as usize).collect();
            if is_noise {
                random.fill(&mut content);
            }
            let path = PathBuf::from(name).join(format!("file{number}.bin"));
            std::fs::write(dir.join(&path), content).unwrap();
            out.push(path);
        }
    }
    out
}

fn sparse(path: &Path, size: u64) {
    std::fs::File::create(path).unwrap().set_len(size).unwrap();
}

/// A file of `size` bytes, all of them 0xaa.
pub(crate) fn used_target(path: &Path, size: u64) {
    std::fs::write(path, vec![0xaa; usize::try_from(size).unwrap()]).unwrap();
}

fn with_plan<T>(source: &Path, work: impl FnOnce(&BlockCapture<'_>) -> T) -> T {
    let source = BlockSource::open(source).unwrap();
    let options = BlockPlanOptions { name: "test".to_owned(), ..BlockPlanOptions::default() };
    let plan = BlockPlan::new(source, &options, &Ctl::default()).unwrap();
    let hits = |range: &std::ops::Range<u64>| plan.hits(range);
    work(&BlockCapture {
        source: &plan,
        name: plan.name(),
        layout: plan.layout(),
        facts: plan.facts(),
        hits: &hits,
    })
}

pub(crate) fn capture(source: &Path, image: &Path) -> BlockCaptureReport {
    with_plan(source, |capture| {
        capture.to_file(image, &BlockCaptureOptions::default(), &Ctl::default(), &Silent).unwrap()
    })
}

pub(crate) fn open(image: &Path) -> BlockImage {
    BlockImage::open(Arc::new(FileAt::open(image).unwrap()), "image").unwrap()
}

pub(crate) fn apply(image: &BlockImage, target: &Path) -> gravure_imaging::BlockApplyReport {
    let device = VolumeFile::open(target, None).unwrap();
    let options = BlockApplyOptions { existing: ExistingData::Destroy, ..BlockApplyOptions::default() };
    apply_block_image(image, &device, &options, &Ctl::default(), &Silent).unwrap()
}

/// Captures `source` and restores it onto 0xaa; what was kept of it is at most `limit` bytes.
fn round_trip(dir: &Path, source: &Path, limit: u64) -> PathBuf {
    let image = dir.join("x.gim");
    let report = capture(source, &image);
    assert!(report.data_bytes + report.zero_bytes <= limit, "{report:?}");
    let target = dir.join("restored");
    used_target(&target, report.size_bytes);
    let applied = apply(&open(&image), &target);
    assert!(applied.is_verified && applied.tree == report.tree);
    target
}

/// What a directory of the image that `round_trip` made has.
fn names_and_sizes(dir: &Path, path: &str) -> Vec<(String, u64)> {
    let image = Arc::new(BlockImageAt::new(open(&dir.join("x.gim"))));
    let listed = image.list(None, path, &Ctl::default()).unwrap();
    listed.into_iter().map(|one| (one.name, one.size)).collect()
}

/// The same files and sizes are in the directories of the image.
fn assert_listed(dir: &Path, tree: &Path, files: &[PathBuf]) {
    for file in files {
        let above = file.parent().unwrap();
        let listed = names_and_sizes(dir, above.to_str().unwrap());
        let name = file.file_name().unwrap().to_str().unwrap();
        let size = std::fs::metadata(tree.join(file)).unwrap().len();
        assert!(listed.contains(&(name.to_owned(), size)), "{}: {listed:?}", file.display());
        let expected = files.iter().filter(|other| other.parent() == Some(above)).count();
        assert_eq!(listed.len(), expected, "{}", above.display());
    }
}

fn assert_equal(expected: &Path, found: &Path, files: &[PathBuf]) {
    for file in files {
        let (a, b) = (std::fs::read(expected.join(file)).unwrap(), std::fs::read(found.join(file)));
        assert!(b.is_ok_and(|b| a == b), "{}", file.display());
    }
}

#[test]
fn ext4_comes_back_with_every_file() {
    let (Some(mut mkfs), Some(mut fsck), Some(mut debugfs)) =
        (oracle("mkfs.ext4"), oracle("e2fsck"), oracle("debugfs"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("ext4"));
    std::fs::create_dir(&tree).unwrap();
    let files = populate(&tree, 1);
    sparse(&image, 96 * MIB);
    run(mkfs.args(["-q", "-F", "-d"]).arg(&tree).arg(&image));
    // Some are gone again; their blocks are free and full.
    let gone = &files[3];
    run(Command::new(debugfs.get_program())
        .args(["-w", "-R", &format!("rm {}", gone.display())])
        .arg(&image));
    // 1: something was put right, such as counts that debugfs leaves behind.
    let put_right = Command::new(fsck.get_program()).arg("-fy").arg(&image).output().unwrap();
    assert!(put_right.status.code().is_some_and(|code| code <= 1), "{put_right:?}");
    let restored = round_trip(dir.path(), &image, 40 * MIB);
    run(fsck.arg("-fn").arg(&restored));
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    run(debugfs.arg("-R").arg(format!("rdump / {}", out.display())).arg(&restored));
    let left: Vec<PathBuf> = files.iter().filter(|file| *file != gone).cloned().collect();
    assert_equal(&tree, &out, &left);
    assert!(!out.join(gone).exists());
}

#[test]
fn an_encrypted_volume_comes_back_as_what_was_inside() {
    let (Some(mut mkfs), Some(mut qemu), Some(mut fsck), Some(mut debugfs)) =
        (oracle("mkfs.ext4"), oracle("qemu-img"), oracle("e2fsck"), oracle("debugfs"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (tree, plain, locked) = (dir.path().join("tree"), dir.path().join("ext4"), dir.path().join("luks"));
    std::fs::create_dir(&tree).unwrap();
    let files = populate(&tree, 7);
    sparse(&plain, 64 * MIB);
    run(mkfs.args(["-q", "-F", "-d"]).arg(&tree).arg(&plain));
    let options = "key-secret=s,iter-time=10,cipher-alg=aes-256,cipher-mode=xts";
    run(qemu
        .args(["convert", "-f", "raw", "-O", "luks", "--object", "secret,id=s,data=1234", "-o", options])
        .arg(&plain)
        .arg(&locked));
    let plan = |keys: &[&str]| {
        let keys = keys.iter().map(|key| Key::new(key.as_bytes())).collect();
        let options = BlockPlanOptions { name: "test".to_owned(), keys, ..BlockPlanOptions::default() };
        BlockPlan::new(BlockSource::open(&locked).unwrap(), &options, &Ctl::default())
    };
    assert_eq!(plan(&[]).unwrap_err().kind(), ErrorKind::Refused);
    let error = plan(&["4321"]).unwrap_err();
    assert!(error.kind() == ErrorKind::Refused, "{error:?}");
    let plan = plan(&["4321", "1234"]).unwrap();
    let [volume] = plan.facts().volumes.as_slice() else { panic!("{:?}", plan.facts()) };
    assert_eq!(volume.content, "ext4");
    assert!(volume.notes.iter().any(|note| note.contains("encrypted (LUKS)")), "{:?}", volume.notes);
    let hits = |range: &std::ops::Range<u64>| plan.hits(range);
    let captured = BlockCapture {
        source: &plan,
        name: plan.name(),
        layout: plan.layout(),
        facts: plan.facts(),
        hits: &hits,
    };
    let image = dir.path().join("x.gim");
    let report = captured.to_file(&image, &BlockCaptureOptions::default(), &Ctl::default(), &Silent).unwrap();
    assert!(report.data_bytes < 40 * MIB, "{report:?}");
    let target = dir.path().join("restored");
    used_target(&target, report.size_bytes);
    apply(&open(&image), &target);
    run(fsck.arg("-fn").arg(&target));
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    run(debugfs.arg("-R").arg(format!("rdump / {}", out.display())).arg(&target));
    assert_equal(&tree, &out, &files);
}

#[test]
fn ntfs_comes_back_with_every_file() {
    let (Some(mut mkntfs), Some(ntfscp), Some(ntfscat), Some(mut fix)) =
        (oracle("mkntfs"), oracle("ntfscp"), oracle("ntfscat"), oracle("ntfsfix"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("ntfs"));
    std::fs::create_dir(&tree).unwrap();
    let files = populate(&tree, 2);
    sparse(&image, 72 * MIB);
    run(mkntfs.args(["-Q", "-F", "-q"]).arg(&image));
    let name = |file: &Path| file.display().to_string().replace('/', "_");
    for file in &files {
        run(Command::new(ntfscp.get_program())
            .args(["-f", "-q"])
            .arg(&image)
            .arg(tree.join(file))
            .arg(name(file)));
    }
    let restored = round_trip(dir.path(), &image, 40 * MIB);
    run(fix.arg("-n").arg(&restored));
    for file in &files {
        let output =
            Command::new(ntfscat.get_program()).arg("-f").arg(&restored).arg(name(file)).output().unwrap();
        assert!(output.stdout == std::fs::read(tree.join(file)).unwrap(), "{}", file.display());
    }
    // The copy of the boot sector at the very end, too.
    let end = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        bytes[bytes.len() - 512..].to_vec()
    };
    assert_eq!(end(&image), end(&restored));
}

#[test]
fn fat32_comes_back_with_every_file() {
    let (Some(mut mkfs), Some(mut mcopy), Some(mut fsck)) =
        (oracle("mkfs.fat"), oracle("mcopy"), oracle("fsck.fat"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("fat"));
    std::fs::create_dir(&tree).unwrap();
    let files = populate(&tree, 3);
    sparse(&image, 72 * MIB);
    run(mkfs.args(["-F", "32", "-s", "1"]).arg(&image));
    let program = mcopy.get_program().to_owned();
    run(mcopy.args(["-s", "-i"]).arg(&image).args([tree.join("a"), tree.join("b")]).arg("::/"));
    let restored = round_trip(dir.path(), &image, 40 * MIB);
    run(fsck.arg("-n").arg(&restored));
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    run(Command::new(program).args(["-s", "-n", "-i"]).arg(&restored).args(["::/a", "::/b"]).arg(&out));
    assert_equal(&tree, &out, &files);
}

#[test]
fn btrfs_comes_back_with_every_file() {
    let (Some(mut mkfs), Some(btrfs)) = (oracle("mkfs.btrfs"), oracle("btrfs")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("btrfs"));
    std::fs::create_dir(&tree).unwrap();
    let files = populate(&tree, 4);
    sparse(&image, 160 * MIB);
    run(mkfs.args(["-q", "--rootdir"]).arg(&tree).arg(&image));
    let restored = round_trip(dir.path(), &image, 80 * MIB);
    assert_listed(dir.path(), &tree, &files);
    run(Command::new(btrfs.get_program()).args(["check", "--readonly"]).arg(&restored));
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    run(Command::new(btrfs.get_program()).arg("restore").arg(&restored).arg(&out));
    assert_equal(&tree, &out, &files);
}

#[test]
fn xfs_comes_back_sound() {
    let (Some(mut mkfs), Some(mut repair), Some(db)) =
        (oracle("mkfs.xfs"), oracle("xfs_repair"), oracle("xfs_db"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (tree, image) = (dir.path().join("tree"), dir.path().join("xfs"));
    std::fs::create_dir(&tree).unwrap();
    let files = populate(&tree, 5);
    // A prototype file is what this mkfs takes in place of a directory.
    let mut proto = "/\n0 0\nd--755 0 0\n".to_owned();
    for (number, file) in files.iter().enumerate() {
        proto.push_str(&format!("f{number} ---644 0 0 {}\n", tree.join(file).display()));
    }
    proto.push_str("$\n");
    std::fs::write(dir.path().join("proto"), proto).unwrap();
    sparse(&image, 320 * MIB);
    run(mkfs.args(["-q", "-p"]).arg(dir.path().join("proto")).arg(&image));
    let restored = round_trip(dir.path(), &image, 120 * MIB);
    let names: Vec<String> = (0..files.len()).map(|number| format!("f{number}")).collect();
    assert_eq!(names_and_sizes(dir.path(), "/").len(), names.len());
    for (name, file) in names.iter().zip(&files) {
        let size = std::fs::metadata(tree.join(file)).unwrap().len();
        assert_eq!(names_and_sizes(dir.path(), name), [(name.clone(), size)]);
    }
    run(repair.args(["-n", "-f"]).arg(&restored));
    // Every file by its blocks, as the tool of the file system finds them.
    let bytes = std::fs::read(&restored).unwrap();
    let ag_blocks = agblocks(db.get_program(), &restored);
    for (number, file) in files.iter().enumerate() {
        let query = |path: &Path| {
            let mut command = Command::new(db.get_program());
            command.args(["-r", "-f", "-c", &format!("path /f{number}"), "-c", "bmap"]).arg(path);
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        let map = query(&restored);
        assert_eq!(map, query(&image), "{}", file.display());
        let expected = std::fs::read(tree.join(file)).unwrap();
        let mut found = vec![0; expected.len()];
        for line in map.lines().filter(|line| line.starts_with("data offset")) {
            let numbers: Vec<u64> =
                line.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect();
            // data offset O startblock B (ag/block) count N flag F
            let (offset, block, count) = (numbers[0], numbers[1], numbers[4]);
            let log = u64::from(ag_blocks.next_power_of_two().trailing_zeros());
            let linear = (block >> log) * ag_blocks + (block & ((1 << log) - 1));
            let (from, to) = (linear as usize * 4096, offset as usize * 4096);
            let len = (count as usize * 4096).min(found.len().saturating_sub(to));
            found[to..to + len].copy_from_slice(&bytes[from..from + len]);
        }
        assert!(found == expected, "{}", file.display());
    }
}

#[test]
fn bad_sectors_are_named_by_the_files_that_they_hit() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, volume) = (dir.path().join("tree"), dir.path().join("volume"));
    std::fs::create_dir_all(tree.join("letters")).unwrap();
    let mut random = Random::new(31);
    for name in ["before.bin", "letters/secret.bin", "letters/other.bin"] {
        let mut content = vec![0; 200_000];
        random.fill(&mut content);
        std::fs::write(tree.join(name), content).unwrap();
    }
    let secret = std::fs::read(tree.join("letters/secret.bin")).unwrap();
    let ext4 = || {
        run(oracle("mkfs.ext4")?.args(["-q", "-F", "-b", "4096", "-d"]).arg(&tree).arg(&volume));
        Some("letters/secret.bin")
    };
    let ntfs = || {
        run(oracle("mkntfs")?.args(["-Q", "-F", "-q"]).arg(&volume));
        run(oracle("ntfscp")?.arg("-q").arg(&volume).arg(tree.join("letters/secret.bin")).arg("secret.bin"));
        Some("secret.bin")
    };
    let fat = || {
        run(oracle("mkfs.fat")?.args(["-F", "32", "-s", "1"]).arg(&volume));
        run(oracle("mcopy")?.arg("-i").arg(&volume).arg("-s").arg(tree.join("letters")).arg("::/"));
        Some("letters/secret.bin")
    };
    let exfat = || {
        run(oracle("mkfs.exfat")?.args(["-c", "4K"]).arg(&volume));
        let root = dir.path().join("mounted");
        let mounted = MountedExfat::new(&volume, &root)?;
        std::fs::create_dir(root.join("letters")).unwrap();
        for name in ["letters/other.bin", "letters/secret.bin"] {
            std::fs::copy(tree.join(name), root.join(name)).unwrap();
        }
        drop(mounted);
        Some("letters/secret.bin")
    };
    let kinds: [(&str, &dyn Fn() -> Option<&'static str>); 4] =
        [("ext4", &ext4), ("NTFS", &ntfs), ("FAT32", &fat), ("exFAT", &exfat)];
    for (kind, make) in kinds {
        sparse(&volume, 72 * MIB);
        let Some(name) = make() else { return };
        let bytes = std::fs::read(&volume).unwrap();
        // Where the file has its third block.
        let block = &secret[8192..8192 + 64];
        let at = bytes.chunks_exact(512).position(|sector| sector[..64] == *block).unwrap() as u64 * 512;
        let source = Failing { bytes, bad: at..at + 1024, once: Vec::new().into() };
        let source = BlockSource::new(Box::new(source), "bad disk", 512);
        let options = BlockPlanOptions { name: "test".to_owned(), ..BlockPlanOptions::default() };
        let plan = BlockPlan::new(source, &options, &Ctl::default()).unwrap();
        let hits = |range: &std::ops::Range<u64>| plan.hits(range);
        let captured = BlockCapture {
            source: &plan,
            name: plan.name(),
            layout: plan.layout(),
            facts: plan.facts(),
            hits: &hits,
        };
        let image = dir.path().join("bad.gim");
        let how = BlockCaptureOptions::default();
        let report = captured.to_file(&image, &how, &Ctl::default(), &Silent).unwrap();
        assert_eq!((report.unreadable_bytes, report.skipped), (1024, 1), "{kind}");
        let opened = open(&image);
        let [place] = opened.root().outcome.unreadable.as_slice() else { panic!("{kind}: one place") };
        assert_eq!((place.offset_bytes, place.size_bytes), (at, 1024), "{kind}");
        let [hit] = place.hits.as_slice() else { panic!("{kind}: {:?}", place.hits) };
        assert_eq!(hit.trim_start_matches('/'), name, "{kind}");
        if kind != "NTFS" {
            // What can be read of it can be looked at, too.
            let image = Arc::new(BlockImageAt::new(open(&image)));
            let listed = image.list(None, "/letters", &Ctl::default()).unwrap();
            let listed: Vec<(&str, u64)> = listed.iter().map(|one| (one.name.as_str(), one.size)).collect();
            assert_eq!(listed, [("other.bin", 200_000), ("secret.bin", 200_000)], "{kind}");
            let missing = image.list(None, "/letters/nothing", &Ctl::default()).unwrap_err();
            assert_eq!(missing.kind(), ErrorKind::NotFound, "{kind}");
        }
    }
}

fn agblocks(db: &std::ffi::OsStr, image: &Path) -> u64 {
    let output =
        Command::new(db).args(["-r", "-f", "-c", "sb 0", "-c", "p agblocks"]).arg(image).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn file_systems_share_the_content_of_their_files_in_a_store() {
    let (Some(mut mke2fs), Some(mut mkntfs), Some(ntfscp)) =
        (oracle("mkfs.ext4"), oracle("mkntfs"), oracle("ntfscp"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (tree, ext4, ntfs) = (dir.path().join("tree"), dir.path().join("ext4"), dir.path().join("ntfs"));
    std::fs::create_dir(&tree).unwrap();
    // As systems have them: most files small, most bytes in large ones, some of them text, some twice.
    let mut random = Random::new(77);
    let mut names = Vec::new();
    for number in 0..150usize {
        let len = match number % 10 {
            0..7 => 200 + random.below(9000),
            7 | 8 => 30_000 + random.below(200_000),
            _ => 700_000 + random.below(1_500_000),
        };
        let mut content = vec![0; usize::try_from(len).unwrap()];
        match number % 3 {
            0 => random.fill(&mut content),
            _ => content.iter_mut().enumerate().for_each(|(at, byte)| {
                *byte = b"words of a file, and more of them\n"[(at + at / 700 * number) % 34];
            }),
        }
        if number % 25 == 24 {
            content = std::fs::read(tree.join(&names[number - 5])).unwrap();
        }
        names.push(format!("file{number}"));
        std::fs::write(tree.join(&names[number]), content).unwrap();
    }
    sparse(&ext4, 64 * MIB);
    run(mke2fs.args(["-q", "-F", "-d"]).arg(&tree).arg(&ext4));
    sparse(&ntfs, 64 * MIB);
    run(mkntfs.args(["-Q", "-F", "-q"]).arg(&ntfs));
    for name in &names {
        run(Command::new(ntfscp.get_program()).args(["-f", "-q"]).arg(&ntfs).arg(tree.join(name)).arg(name));
    }
    let store = Store::open(Arc::new(LocalObjects::new(&dir.path().join("store")))).unwrap();
    let into_store = |source: &Path, name: &str| {
        with_plan(source, |capture| {
            let options = BlockCaptureOptions::default();
            capture.to_store(&store, name, OnExisting::Refuse, &options, &Ctl::default(), &Silent).unwrap()
        })
    };
    let first = into_store(&ext4, "ext4");
    let second = into_store(&ntfs, "ntfs");
    assert!(first.new_bytes > 8 * MIB, "{first:?}");
    let shared = 1.0 - second.new_bytes as f64 / second.data_bytes as f64;
    assert!(shared >= 0.75, "shared {shared:.3} of {} bytes", second.data_bytes);
}
