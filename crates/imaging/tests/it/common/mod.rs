//! What the tests of this crate share: short forms of the operations, and trees to run them on.
#![allow(dead_code, clippy::unwrap_used, reason = "helpers of tests, of which each file uses its part")]

use std::path::Path;

use gravure_imaging::{
    ApplyOptions, ApplyReport, CaptureOptions, CaptureReport, Error, Image, ImageFile, LackOfRoom,
    VerifyFileOptions, VerifyOptions, VerifyReport, Which, apply_to_directory, capture_directory,
    verify_directory, verify_file,
};
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_testkit::{Kind, SampleOptions, Snapshot, sample_tree};

/// A tree of all kinds of files in a new directory `name` below `dir`.
pub(crate) fn sample(dir: &Path, name: &str, seed: u64) -> std::path::PathBuf {
    let root = dir.join(name);
    std::fs::create_dir(&root).unwrap();
    // Some files are larger than an item of the pipeline, so that they travel in pieces.
    sample_tree(
        &root,
        &SampleOptions { seed, files: 120, max_file_bytes: 1_200_000, ..SampleOptions::default() },
    )
    .unwrap();
    root
}

/// As [`sample`] with less in it, for tests that do much with it.
pub(crate) fn small_sample(dir: &Path, name: &str, seed: u64) -> std::path::PathBuf {
    let root = dir.join(name);
    std::fs::create_dir(&root).unwrap();
    let options = SampleOptions { seed, files: 70, max_file_bytes: 600_000, ..SampleOptions::default() };
    sample_tree(&root, &options).unwrap();
    root
}

/// What a directory holds, as far as a WIM can say it: times in steps of 100 ns, no hard links of reparse points
/// (wim-container 1, 6.8).
pub(crate) fn snapshot(root: &Path) -> Snapshot {
    let mut snapshot = Snapshot::of(root).unwrap();
    for entry in snapshot.entries.values_mut() {
        entry.mtime.1 -= entry.mtime.1 % 100;
        if matches!(entry.kind, Kind::Symlink(_)) {
            entry.linked_to = None;
        }
    }
    snapshot
}

pub(crate) fn capture(source: &Path, image: &Path, options: &CaptureOptions) -> CaptureReport {
    capture_directory(source, image, options, &Ctl::default(), &Silent).unwrap()
}

pub(crate) fn open(path: &Path) -> Image {
    let file = ImageFile::open_path(path).unwrap();
    file.image(file.find(&Which::Only).unwrap()).unwrap()
}

pub(crate) fn apply(image: &Image, target: &Path) -> Result<ApplyReport, Error> {
    // Images that lie about sizes are to be found out by their contents.
    let options = ApplyOptions { room: LackOfRoom::Try, ..ApplyOptions::default() };
    apply_to_directory(image, target, &options, &Ctl::default(), &Silent)
}

pub(crate) fn verify(image: &Image, target: &Path) -> Result<VerifyReport, Error> {
    verify_directory(image, target, &VerifyOptions::default(), &Ctl::default(), &Silent)
}

/// Checks a file against itself; the damage in words.
pub(crate) fn damage(path: &Path) -> Result<Vec<String>, Error> {
    let file = ImageFile::open_path(path)?;
    let report = verify_file(&file, &VerifyFileOptions::default(), &Ctl::default(), &Silent)?;
    Ok(report.damage.iter().map(|damage| damage.error.to_string()).collect())
}

/// Compression methods to try.
pub(crate) fn compressions() -> Vec<Option<gravure_imaging::Compression>> {
    use gravure_imaging::{Compression, Method};
    vec![
        None,
        Some(Compression::XPRESS_32K),
        Some(Compression::LZX_32K),
        Some(Compression::new(Method::Xpress, 4096).unwrap()),
        Some(Compression::new(Method::Lzx, 2 << 20).unwrap()),
        Some(Compression::new(Method::Lzms, 1 << 17).unwrap()),
        Some(Compression::new(Method::Lzms, 8 << 20).unwrap()),
    ]
}

/// Runs a foreign program; what it prints when it succeeds.
pub(crate) fn run(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// As [`snapshot`] without what wimlib 1.13 does not restore: extended attributes of links and special files.
pub(crate) fn without_special_xattrs(root: &Path) -> Snapshot {
    let mut snapshot = snapshot(root);
    for entry in snapshot.entries.values_mut() {
        if !matches!(entry.kind, Kind::File { .. } | Kind::Directory) {
            entry.xattrs.clear();
        }
    }
    snapshot
}

/// The most memory this process ever had.
pub(crate) fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// 150 MB in one large file and many small ones, for tests of memory; of each block `random` bytes do not shrink.
pub(crate) fn large_sample(dir: &Path, random: usize) -> std::path::PathBuf {
    let source = dir.join("s");
    std::fs::create_dir(&source).unwrap();
    let mut block = vec![0; 1 << 20];
    gravure_testkit::Random::new(1).fill(&mut block[..random]);
    let mut large = std::fs::File::create(source.join("large")).unwrap();
    for number in 0..100u32 {
        block[..4].copy_from_slice(&number.to_le_bytes());
        std::io::Write::write_all(&mut large, &block).unwrap();
    }
    for number in 0..1000u32 {
        block[..4].copy_from_slice(&number.to_le_bytes());
        std::fs::write(source.join(format!("small{number}")), &block[..50_000]).unwrap();
    }
    source
}
