//! What the oracle tests share: images made by foreign tools, files to fill them, and the transplant that proves a map.
#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests start programs and write files")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use gravure_fsmap::{Class, Options, Run, UsedMap, map};
use gravure_io::{FileAt, ReadAt};
use gravure_testkit::{Random, full_run, oracle, seed};

/// Files by their paths below the root, without a leading slash.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A directory of its own for one test.
pub(crate) struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file of `bytes` that holds nothing yet.
    pub(crate) fn blank(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }

    /// A directory with files.
    pub(crate) fn tree(&self, name: &str, files: &Files) -> PathBuf {
        let root = self.path(name);
        fs::create_dir_all(&root).unwrap();
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }
}

/// `count` files in some directories; no two have a piece of content in common.
pub(crate) fn files(seed: u64, count: u64, largest: u64) -> Files {
    let mut random = Random::new(seed);
    let mut out = Files::new();
    for n in 0..count {
        let len = match n % 4 {
            0 => random.below(200),
            1 => random.below(20_000),
            _ => random.below(largest),
        };
        let mut content = vec![0; usize::try_from(len).unwrap() + 16];
        random.fill(&mut content);
        out.insert(format!("dir{}/file{n:03}.bin", n % 5), content);
    }
    out
}

/// Takes every third file away and names it.
pub(crate) fn every_third(files: &mut Files) -> Vec<String> {
    let gone: Vec<String> = files.keys().step_by(3).cloned().collect();
    gone.iter().for_each(|path| drop(files.remove(path)));
    gone
}

/// All files below `root`.
pub(crate) fn read_tree(root: &Path) -> Files {
    fn walk(root: &Path, dir: &Path, out: &mut Files) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, out);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                out.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut out = Files::new();
    walk(root, root, &mut out);
    out
}

/// Paths that differ.
pub(crate) fn assert_same_files(got: &Files, expected: &Files) {
    let differ: Vec<&String> =
        expected.keys().chain(got.keys()).filter(|path| got.get(*path) != expected.get(*path)).collect();
    assert!(differ.is_empty(), "{differ:?}");
}

pub(crate) fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// Runs a program that must succeed; what it wrote to both streams.
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

/// All of the programs, or a loud skip.
pub(crate) fn have(programs: &[&str]) -> bool {
    programs.iter().all(|program| oracle(program).is_some())
}

pub(crate) fn tool(program: &str) -> Command {
    oracle(program).unwrap()
}

pub(crate) fn open(path: &Path) -> FileAt {
    FileAt::open(path).unwrap()
}

pub(crate) fn map_of(path: &Path) -> UsedMap {
    map(&open(path), &Options::default()).unwrap()
}

/// Runs in use of any class, joined.
pub(crate) fn allocated(map: &UsedMap) -> Vec<Range<u64>> {
    join(map.runs.iter().map(|run| run.offset..run.end()))
}

pub(crate) fn join(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut out: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match out.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => out.push(range),
        }
    }
    out
}

/// `all` covers `part`; both ascending and joined.
pub(crate) fn covers(all: &[Range<u64>], part: &[Range<u64>]) -> bool {
    part.iter().all(|wanted| {
        let at = all.partition_point(|range| range.end <= wanted.start);
        all.get(at).is_some_and(|range| range.start <= wanted.start && range.end >= wanted.end)
    })
}

/// The rules every map keeps.
pub(crate) fn check_rules(map: &UsedMap) {
    let mut last: Option<Run> = None;
    for run in &map.runs {
        assert!(run.len > 0 && run.end() <= map.size, "{run:?}");
        assert_eq!(run.offset % u64::from(map.unit), 0, "{run:?}");
        assert!(run.len % u64::from(map.unit) == 0 || run.end() == map.size, "{run:?} of {}", map.size);
        if let Some(last) = last {
            let limit = last.end() + u64::from(last.class == run.class);
            assert!(limit <= run.offset, "{last:?} {run:?}");
        }
        last = Some(*run);
    }
    assert!(map.extents.is_sorted_by(|a, b| a.offset + a.len <= b.offset));
    assert!(map.extents.iter().all(|extent| extent.content <= extent.len && extent.content > 0));
}

/// A device of 0xAA onto which only what the map keeps was copied; what is excluded is zero.
pub(crate) fn transplant(lab: &Lab, image: &Path, map: &UsedMap) -> PathBuf {
    check_rules(map);
    let source = open(image);
    assert_eq!(source.size(), map.size);
    let path = lab.path("transplant");
    let target = File::create(&path).unwrap();
    let filler = vec![0xaa; 1 << 20];
    let mut offset = 0;
    while offset < map.size {
        let len = (map.size - offset).min(filler.len() as u64);
        target.write_all_at(&filler[..usize::try_from(len).unwrap()], offset).unwrap();
        offset += len;
    }
    let overlaid = map.overlaid(&source);
    for run in &map.runs {
        let (mut offset, end) = (run.offset, run.end());
        while offset < end {
            let len = usize::try_from((end - offset).min(1 << 20)).unwrap();
            let bytes = match run.class {
                Class::Used => overlaid.read_vec_at(offset, len).unwrap(),
                Class::Excluded(_) => vec![0; len],
            };
            target.write_all_at(&bytes, offset).unwrap();
            offset += len as u64;
        }
    }
    path
}

/// Ranges that partclone would copy, by its domain log.
pub(crate) fn partclone(lab: &Lab, program: &str, image: &Path) -> Option<Vec<Range<u64>>> {
    let mut command = oracle(program)?;
    let log = lab.path("domain");
    let _ = fs::remove_file(&log);
    let messages = lab.path("partclone.log");
    run(command.arg("-D").arg("-s").arg(image).arg("-o").arg(&log).arg("-L").arg(messages));
    let text = fs::read_to_string(&log).unwrap();
    let hex = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let ranges = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields.as_slice() {
            [pos, size, "+"] => Some(hex(pos)..hex(pos) + hex(size)),
            _ => None,
        }
    });
    Some(join(ranges))
}

/// Every piece says the truth about the file it belongs to; returns how many bytes of the files are in no piece.
pub(crate) fn check_extents(image: &Path, map: &UsedMap, files: &Files) -> u64 {
    let source = open(image);
    let device = map.overlaid(&source);
    let mut left: u64 = files.values().map(|content| content.len() as u64).sum();
    for extent in &map.extents {
        let bytes = device.read_vec_at(extent.offset, usize::try_from(extent.content).unwrap()).unwrap();
        let at = usize::try_from(extent.file_offset).unwrap();
        let owner =
            files.values().any(|content| content.get(at..).is_some_and(|rest| rest.starts_with(&bytes)));
        assert!(owner, "{extent:?}");
        left = left.checked_sub(extent.content).unwrap();
    }
    left
}

/// Case `nth` is among those of this run: one in `every`, another with each seed; all of them in a full run.
pub(crate) fn sampled(nth: usize, every: u64) -> bool {
    full_run() || (nth as u64 + seed()).is_multiple_of(every)
}

/// All of a device, as one range.
pub(crate) fn whole(size: u64) -> Vec<Range<u64>> {
    std::iter::once(0..size).collect()
}
