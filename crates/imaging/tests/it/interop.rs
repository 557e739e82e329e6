//! Who reads whose files: every writer against every other reader, in every method and layout that both know.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{
    apply, capture, damage, open, run, small_sample, snapshot, verify, without_special_xattrs,
};
use gravure_imaging::{CaptureForm, CaptureOptions, Compression, Integrity, Level, Method};
use gravure_testkit::{Kind, oracle};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Program {
    Ours,
    Wimlib,
    SevenZip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    None,
    Xpress,
    Lzx,
    Lzms,
    SolidXpress,
    SolidLzx,
    SolidLzms,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extra {
    Plain,
    Integrity,
    Pipable,
}

const LAYOUTS: [Layout; 7] = [
    Layout::None,
    Layout::Xpress,
    Layout::Lzx,
    Layout::Lzms,
    Layout::SolidXpress,
    Layout::SolidLzx,
    Layout::SolidLzms,
];
const EXTRAS: [Extra; 3] = [Extra::Plain, Extra::Integrity, Extra::Pipable];

impl Layout {
    fn is_solid(self) -> bool {
        matches!(self, Self::SolidXpress | Self::SolidLzx | Self::SolidLzms)
    }

    fn for_us(self) -> (CaptureForm, Option<Compression>) {
        let new = |method, size| Compression::new(method, size).unwrap();
        let normal = CaptureForm::Normal;
        match self {
            Self::None => (normal, None),
            Self::Xpress => (normal, Some(Compression::XPRESS_32K)),
            Self::Lzx => (normal, Some(Compression::LZX_32K)),
            Self::Lzms => (normal, Some(new(Method::Lzms, 1 << 17))),
            Self::SolidXpress => {
                (CaptureForm::Solid(new(Method::Xpress, 1 << 16)), Some(Compression::XPRESS_32K))
            }
            Self::SolidLzx => (CaptureForm::Solid(new(Method::Lzx, 1 << 20)), Some(Compression::LZX_32K)),
            Self::SolidLzms => {
                (CaptureForm::Solid(new(Method::Lzms, 64 << 20)), Some(new(Method::Lzms, 1 << 17)))
            }
        }
    }

    fn for_wimlib(self) -> &'static [&'static str] {
        match self {
            Self::None => &["--compress=none"],
            Self::Xpress => &["--compress=XPRESS"],
            Self::Lzx => &["--compress=LZX"],
            Self::Lzms => &["--compress=LZMS"],
            Self::SolidXpress => &["--compress=XPRESS", "--solid", "--solid-compress=XPRESS"],
            Self::SolidLzx => &["--compress=LZX", "--solid", "--solid-compress=LZX"],
            Self::SolidLzms => &["--solid"],
        }
    }
}

impl Program {
    /// Whether it can write or read such a file at all. 7-Zip writes stored files only and knows nothing of pipes.
    fn writes(self, layout: Layout, extra: Extra) -> bool {
        match self {
            Self::Ours | Self::Wimlib => !(layout.is_solid() && extra == Extra::Pipable),
            Self::SevenZip => layout == Layout::None && extra == Extra::Plain,
        }
    }

    fn reads(self, extra: Extra) -> bool {
        self != Self::SevenZip || extra != Extra::Pipable
    }

    /// Writes `source` to `image`; `None` when the program is not there.
    fn write(self, source: &Path, image: &Path, layout: Layout, extra: Extra) -> Option<()> {
        let _ = fs::remove_file(image);
        match self {
            Self::Ours => {
                let (form, compression) = layout.for_us();
                let form = if extra == Extra::Pipable { CaptureForm::Pipable } else { form };
                let integrity = if extra == Extra::Integrity { Integrity::Table } else { Integrity::Without };
                let name = "n".to_owned();
                let options =
                    CaptureOptions { form, compression, integrity, name, ..CaptureOptions::default() };
                capture(source, image, &options);
            }
            Self::Wimlib => {
                let mut wimlib = oracle("wimlib-imagex")?;
                wimlib.args(["capture", "--unix-data"]).args(layout.for_wimlib());
                match extra {
                    Extra::Plain => {}
                    Extra::Integrity => drop(wimlib.arg("--check")),
                    Extra::Pipable => drop(wimlib.arg("--pipable")),
                }
                run(wimlib.arg(source).arg(image));
            }
            Self::SevenZip => {
                let mut seven_zip = oracle("7z")?;
                run(seven_zip.current_dir(source).args(["a", "-twim"]).arg(image).arg("."));
            }
        }
        Some(())
    }

    /// Reads `image` into `target` and compares with `source`; `None` when the program is not there.
    fn read(self, image: &Path, target: &Path, source: &Path, writer: Self) -> Option<()> {
        match self {
            Self::Ours => {
                assert_eq!(damage(image).unwrap(), [""; 0], "{}", image.display());
                let opened = open(image);
                let report = apply(&opened, target).unwrap();
                assert_eq!(report.skipped, 0, "{:?}", report.warnings);
                verify(&opened, target).unwrap();
            }
            Self::Wimlib => {
                fs::create_dir(target).unwrap();
                run(oracle("wimlib-imagex")?.arg("verify").arg(image));
                let mut wimlib = oracle("wimlib-imagex")?;
                run(wimlib.args(["apply", "--unix-data"]).arg(image).arg("1").arg(target));
            }
            Self::SevenZip => {
                let text = run(oracle("7z")?.arg("t").arg(image));
                assert!(text.contains("Everything is Ok"), "{text}");
                // It complains about links to above, and makes none.
                oracle("7z")?.arg("x").arg(format!("-o{}", target.display())).arg(image).output().unwrap();
            }
        }
        match (self, writer) {
            // 7-Zip knows neither owners nor links: contents of files are compared.
            (Self::SevenZip, _) | (_, Self::SevenZip) => compare_contents(source, target),
            _ => without_special_xattrs(source).assert_same(&without_special_xattrs(target)),
        }
        Some(())
    }
}

fn compare_contents(source: &Path, target: &Path) {
    let mut compared = 0;
    for (path, entry) in snapshot(source).entries {
        if matches!(entry.kind, Kind::File { .. }) {
            let (ours, theirs) =
                (fs::read(source.join(&path)).unwrap(), fs::read(target.join(&path)).unwrap());
            assert!(ours == theirs, "{} differs", path.display());
            compared += 1;
        }
    }
    assert!(compared > 2, "{compared} files");
}

/// What 7-Zip can pack: files alone.
fn plain_source(dir: &Path) -> PathBuf {
    let source = dir.join("plain");
    fs::create_dir_all(source.join("d/e")).unwrap();
    for (name, len) in [("a", 0), ("d/b", 1), ("d/e/c", 700_000), ("d/f", 40_000)] {
        fs::write(source.join(name), vec![b'z'; len]).unwrap();
    }
    source
}

#[test]
fn everybody_reads_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let (rich, plain) = (small_sample(dir.path(), "rich", 90), plain_source(dir.path()));
    let programs = [Program::Ours, Program::Wimlib, Program::SevenZip];
    let mut done = 0;
    for layout in LAYOUTS {
        for extra in EXTRAS {
            for writer in programs.into_iter().filter(|program| program.writes(layout, extra)) {
                let source = if writer == Program::SevenZip { &plain } else { &rich };
                let image = dir.path().join("x.wim");
                let Some(()) = writer.write(source, &image, layout, extra) else { return };
                for reader in programs.into_iter().filter(|reader| *reader != writer && reader.reads(extra)) {
                    let target = dir.path().join("t");
                    eprintln!("{writer:?} -> {reader:?}: {layout:?}, {extra:?}");
                    let Some(()) = reader.read(&image, &target, source, writer) else { return };
                    fs::remove_dir_all(&target).unwrap();
                    done += 1;
                }
            }
        }
    }
    // Seven layouts, plain and with integrity, by two writers for two readers each; four pipable ones by two writers for one
    // reader; and one file of 7-Zip for two readers.
    assert_eq!(done, 7 * 2 * 2 * 2 + 4 * 2 + 2);
}

/// Every method and level, in chunks of several sizes and solid, over text, noise and programs.
#[test]
fn every_level_is_read_by_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("s");
    fs::create_dir(&source).unwrap();
    let program = fs::read(std::env::current_exe().unwrap()).unwrap();
    let len = program.len().min(1_500_000);
    fs::write(source.join("program"), &program[..len]).unwrap();
    let text: String = (0..40_000).map(|line| format!("line {line} {}\n", line * line)).collect();
    fs::write(source.join("text"), text).unwrap();
    let mut noise = vec![0; 100_000];
    gravure_testkit::Random::new(9).fill(&mut noise);
    fs::write(source.join("noise"), noise).unwrap();
    fs::write(source.join("zeros"), vec![0; 300_000]).unwrap();
    let new = |method, size| Compression::new(method, size).unwrap();
    let methods = [
        (Method::Xpress, 1 << 12, 1 << 16),
        (Method::Xpress, 1 << 15, 1 << 15),
        (Method::Lzx, 1 << 15, 1 << 21),
        (Method::Lzx, 1 << 16, 1 << 18),
        (Method::Lzms, 1 << 17, 1 << 22),
    ];
    let mut sizes = Vec::new();
    for (method, chunk, solid) in methods {
        for level in [Level::Fast, Level::Balanced, Level::NearOptimal] {
            for form in [CaptureForm::Normal, CaptureForm::Solid(new(method, solid))] {
                let image = dir.path().join("x.wim");
                let _ = fs::remove_file(&image);
                let compression = Some(new(method, chunk));
                capture(
                    &source,
                    &image,
                    &CaptureOptions { compression, level, form, ..CaptureOptions::default() },
                );
                let what = format!("{method:?} {chunk} {level:?} {form:?}");
                assert_eq!(damage(&image).unwrap(), [""; 0], "{what}");
                sizes.push(fs::metadata(&image).unwrap().len());
                let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
                run(wimlib.arg("verify").arg(&image));
                let Some(mut seven_zip) = oracle("7z") else { return };
                let told = run(seven_zip.arg("t").arg(&image));
                assert!(told.contains("Everything is Ok") && told.contains("Files: 4"), "{what}: {told}");
            }
        }
    }
    // The levels are no other names for one.
    for of_method in sizes.chunks(6) {
        assert!(
            of_method[4] < of_method[0],
            "the best level makes smaller files than the fast one: {of_method:?}"
        );
    }
}
