//! What is measured on: Windows programs out of the wheels that PyPI has for Windows, and many small files made here. Both
//! are kept below the target directory, so only the first run takes long and needs the network.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Extent;
use crate::bench::apply::count;
use crate::console::{Remedy, Step, size};
use crate::process;

/// Wheels, pinned so that every machine measures the same bytes; taken from the front until there is enough.
const WHEELS: [&str; 8] = [
    "numpy==2.5.5",
    "pyarrow==26.0.1",
    "scipy==1.18.1",
    "opencv-python-headless==5.0.0.93",
    "PySide6-Essentials==6.12.0",
    "PySide6-Addons==6.12.0",
    "PyQt6-Qt6==6.11.2",
    "PyQt6-WebEngine-Qt6==6.11.2",
];

/// The wheel for solid images: their encoder takes a minute for a hundred megabytes of one core.
const SOLID_WHEEL: &str = WHEELS[4];

/// Small files in one directory.
const FILES_PER_DIRECTORY: usize = 200;

/// Bytes taken together when the codecs' sample is drawn.
const STRETCH: u64 = 1 << 20;

/// Bytes of the codecs' sample: one chunk of the largest size in use.
const SAMPLE: u64 = 64 << 20;
const QUICK_SAMPLE: u64 = 16 << 20;

/// A directory of files.
#[derive(Debug)]
pub(super) struct Corpus {
    pub(super) dir: PathBuf,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

/// All input.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) programs: Corpus,
    pub(super) small: Corpus,
    /// The part of the programs for solid images.
    pub(super) solid: Corpus,
    /// One file: stretches of the programs, evenly spread.
    pub(super) sample: PathBuf,
}

impl Input {
    /// Makes what is not there yet below `dir`.
    pub(super) fn prepare(extent: Extent, dir: &Path) -> Result<Self> {
        let suffix = if extent.is_quick { "-quick" } else { "" };
        let programs = programs(extent, dir, &dir.join(format!("programs{suffix}")))?;
        let small = small(extent, &dir.join(format!("small{suffix}")))?;
        let wanted = if extent.is_quick { QUICK_SAMPLE } else { SAMPLE };
        let sample = dir.join(format!("sample-{}-{wanted}", programs.bytes));
        if !sample.is_file() {
            draw(&programs, wanted, &sample)?;
        }
        let dir = Some(unpacked(&programs.dir, SOLID_WHEEL)).filter(|dir| dir.is_dir());
        let dir = dir.unwrap_or_else(|| programs.dir.clone());
        let (files, bytes) = count(&dir)?;
        let solid = Corpus { dir, files, bytes };
        Ok(Self { programs, small, solid, sample })
    }
}

/// Where a wheel is unpacked below `programs`.
fn unpacked(programs: &Path, wheel: &str) -> PathBuf {
    programs.join(wheel.replace("==", "-"))
}

/// Downloads and unpacks wheels until there are `extent.megabytes`.
fn programs(extent: Extent, dir: &Path, to: &Path) -> Result<Corpus> {
    let wheels = dir.join("wheels");
    std::fs::create_dir_all(&wheels).with_context(|| format!("cannot create {}", wheels.display()))?;
    let wanted = extent.megabytes * 1_000_000;
    for wheel in WHEELS {
        if count(to)?.1 >= wanted {
            break;
        }
        let unpacked = unpacked(to, wheel);
        if !unpacked.is_dir() {
            unpack(wheel, &wheels, &unpacked)?;
        }
    }
    let (files, bytes) = count(to)?;
    if bytes < wanted {
        bail!(Remedy::new(
            format!("all wheels together have only {}", size(bytes)),
            "ask for less with --megabytes, or add wheels in xtask/src/bench/wim/input.rs",
        ));
    }
    Ok(Corpus { dir: to.to_owned(), files, bytes })
}

/// Makes the directory `to` of one wheel; it gets its name when it is complete.
fn unpack(wheel: &str, wheels: &Path, to: &Path) -> Result<()> {
    let step = Step::start(format!("Windows wheel {wheel}"));
    // A directory for each, as a wheel's file name cannot be foreseen.
    let download = wheels.join(wheel.replace("==", "-"));
    let mut pip = process::tool("python3")?;
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    pip.args(["--platform", "win_amd64", "--python-version", "3.12", "--only-binary=:all:", "--dest"]);
    process::output(pip.arg(&download).arg(wheel)).map_err(|error| {
        let remedy =
            "check the network; where the version is gone, pin another in xtask/src/bench/wim/input.rs";
        error.context(Remedy::new(format!("cannot download {wheel}"), remedy))
    })?;
    let file = std::fs::read_dir(&download)
        .with_context(|| format!("cannot list {}", download.display()))?
        .find_map(|entry| entry.ok().map(|entry| entry.path()))
        .with_context(|| format!("pip left nothing in {}", download.display()))?;
    let partial = to.with_extension("partial");
    if partial.exists() {
        std::fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    std::fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    let mut zip = process::tool("python3")?;
    process::output(zip.args(["-m", "zipfile", "--extract"]).arg(&file).arg(&partial))?;
    std::fs::rename(&partial, to).with_context(|| format!("cannot rename {}", partial.display()))?;
    step.done(size(count(to)?.1));
    Ok(())
}

/// Makes `extent.small_files` files, the same ones every time.
fn small(extent: Extent, to: &Path) -> Result<Corpus> {
    if !to.is_dir() {
        let step = Step::start(format!("{} small files", extent.small_files));
        let partial = to.with_extension("partial");
        if partial.exists() {
            std::fs::remove_dir_all(&partial)
                .with_context(|| format!("cannot remove {}", partial.display()))?;
        }
        let mut random = Random(1);
        for number in 0..extent.small_files {
            let dir = partial.join(format!("dir{:04}", number / FILES_PER_DIRECTORY));
            if number % FILES_PER_DIRECTORY == 0 {
                std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
            }
            let (content, extension) = content(&mut random, number);
            let path = dir.join(format!("file{number:05}.{extension}"));
            std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
        std::fs::rename(&partial, to).with_context(|| format!("cannot rename {}", partial.display()))?;
        step.done("made");
    }
    let (files, bytes) = count(to)?;
    Ok(Corpus { dir: to.to_owned(), files, bytes })
}

/// A small generator (splitmix64): the same files on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 32) % end
    }
}

/// Content and extension of a small file: text, a table of numbers, records, or bytes that do not compress. Most have some
/// hundred bytes to some kilobytes, as the small files of a system have.
fn content(random: &mut Random, number: usize) -> (Vec<u8>, &'static str) {
    const WORDS: [&str; 16] = [
        "driver",
        "device",
        "the",
        "service",
        "and",
        "version",
        "value=",
        "Microsoft",
        "\r\n",
        "of",
        "file",
        "HKLM\\Software\\",
        "is",
        "0x0000",
        "language",
        "en-US",
    ];
    let scale = 5 + random.below(9);
    let len = 100 + random.below(1 << scale) as usize;
    let mut bytes = Vec::with_capacity(len + 32);
    let extension = match number % 8 {
        0..4 => {
            while bytes.len() < len {
                bytes.extend_from_slice(WORDS[random.below(16) as usize].as_bytes());
                bytes.push(b' ');
            }
            "txt"
        }
        4 | 5 => {
            let mut text = String::new();
            while text.len() < len {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{};{}", text.len(), random.below(10_000));
            }
            bytes = text.into_bytes();
            "csv"
        }
        6 => {
            let base = random.below(1 << 16) as u32;
            for row in 0..(len / 16) as u32 {
                bytes.extend_from_slice(&(base + row * 48).to_le_bytes());
                bytes.extend_from_slice(&[0, 0, 1, 0]);
                bytes.extend_from_slice(&random.below(1 << 20).to_le_bytes());
            }
            "bin"
        }
        _ => {
            bytes.extend((0..len).map(|_| random.below(256) as u8));
            "dat"
        }
    };
    (bytes, extension)
}

/// Writes `wanted` bytes of the programs to `to`: every so many stretches of all files in the order of their paths.
fn draw(programs: &Corpus, wanted: u64, to: &Path) -> Result<()> {
    let mut files = Vec::new();
    list(&programs.dir, &mut files)?;
    let stretches = programs.bytes / STRETCH;
    let taken = (wanted / STRETCH).min(stretches);
    let is_taken = |index: u64| (index + 1) * taken / stretches.max(1) > index * taken / stretches.max(1);
    let (mut pos, mut stretch) = (0, vec![0; STRETCH as usize]);
    let mut out = Vec::new();
    for file in files {
        let mut input =
            std::fs::File::open(&file).with_context(|| format!("cannot open {}", file.display()))?;
        loop {
            // Up to the next border of a stretch.
            let most = (STRETCH - pos % STRETCH) as usize;
            let got = input
                .read(&mut stretch[..most])
                .with_context(|| format!("cannot read {}", file.display()))?;
            if got == 0 {
                break;
            }
            if is_taken(pos / STRETCH) {
                out.extend_from_slice(&stretch[..got]);
            }
            pos += got as u64;
        }
    }
    let partial = to.with_extension("partial");
    let mut output =
        std::fs::File::create(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    output.write_all(&out).with_context(|| format!("cannot write {}", partial.display()))?;
    std::fs::rename(&partial, to).with_context(|| format!("cannot rename {}", partial.display()))
}

/// All files below `dir`, sorted.
fn list(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        entries.push(entry.with_context(|| format!("cannot list {}", dir.display()))?.path());
    }
    entries.sort();
    for path in entries {
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_are_the_same_every_time() {
        let make = || {
            let mut random = Random(1);
            (0..200).map(|number| content(&mut random, number)).collect::<Vec<_>>()
        };
        let files = make();
        assert_eq!(files, make());
        let bytes: usize = files.iter().map(|(content, _)| content.len()).sum();
        assert!((100_000..1_000_000).contains(&bytes), "{bytes} bytes");
    }

    #[test]
    fn the_sample_is_drawn_from_all_parts() {
        let dir = tempfile::tempdir().unwrap();
        let programs = dir.path().join("programs");
        std::fs::create_dir(&programs).unwrap();
        for (name, byte) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
            std::fs::write(programs.join(name), vec![byte; STRETCH as usize]).unwrap();
        }
        let corpus = Corpus { dir: programs, files: 4, bytes: 4 * STRETCH };
        let to = dir.path().join("sample");
        draw(&corpus, 2 * STRETCH, &to).unwrap();
        let sample = std::fs::read(to).unwrap();
        assert_eq!(sample.len() as u64, 2 * STRETCH);
        assert_eq!((sample[0], sample[STRETCH as usize]), (2, 4));
    }
}
