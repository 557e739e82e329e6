//! Random directory trees with everything that makes images hard: odd sizes, odd names, links, devices, attributes.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, utimensat,
};

use crate::Random;

/// What the tree is to hold.
#[derive(Debug, Clone)]
pub struct SampleOptions {
    /// The same seed gives the same tree.
    pub seed: u64,
    /// Files of all kinds.
    pub files: usize,
    /// Largest file, bytes.
    pub max_file_bytes: usize,
    /// Owners, devices and privileged attributes, which only root can make.
    pub privileged: bool,
}

impl Default for SampleOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            files: 150,
            max_file_bytes: 300_000,
            privileged: rustix::process::geteuid().is_root(),
        }
    }
}

/// Sizes at which chunked and clustered formats go wrong.
const EDGES: [usize; 14] =
    [0, 1, 2, 511, 512, 4095, 4096, 4097, 32_767, 32_768, 32_769, 65_536, 65_537, 131_072];

/// Names that need care somewhere; a number is added to keep them apart.
const NAMES: [&str; 10] = [
    "plain",
    "with space",
    ".hidden",
    "UPPER.TXT",
    "\u{fc}ml\u{e4}ut",
    "\u{65e5}\u{672c}",
    "\u{1f600}",
    "two..dots",
    "semi;colon",
    "quote'",
];

/// Fills `root`, which must exist and be empty.
pub fn sample_tree(root: &Path, options: &SampleOptions) -> Result<()> {
    let mut builder =
        Builder { random: Random::new(options.seed), options, dirs: vec![root.to_owned()], files: vec![] };
    for number in 0..options.files {
        builder.add(number).with_context(|| format!("sample tree, file {number}"))?;
    }
    // Times last, deepest first: making an entry changes its directory's time.
    builder.times()
}

struct Builder<'a> {
    random: Random,
    options: &'a SampleOptions,
    dirs: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Builder<'_> {
    fn add(&mut self, number: usize) -> Result<()> {
        let path = self.path(number);
        match self.random.below(20) {
            0..=3 => {
                fs::create_dir(&path)?;
                let modes = [0o755, 0o700, 0o2775, 0o1777];
                fs::set_permissions(
                    &path,
                    fs::Permissions::from_mode(*self.random.pick(&modes).unwrap_or(&0o755)),
                )?;
                self.own(&path)?;
                self.attributes(&path)?;
                self.dirs.push(path);
                return Ok(());
            }
            4 => {
                let targets = ["plain", "../up", "/absolute/target", "no such file"];
                let long = "x/".repeat(500);
                let target =
                    if self.random.once_in(4) { &long } else { *self.random.pick(&targets).unwrap_or(&"t") };
                symlink(target, &path)?;
                if self.options.privileged {
                    lchown(&path, Some(1000), Some(1000))?;
                }
            }
            5 if !self.files.is_empty() => {
                let target = self.random.pick(&self.files).cloned().unwrap_or_default();
                fs::hard_link(target, &path)?;
            }
            6 if self.options.privileged => self.special(&path)?,
            _ => self.file(&path)?,
        }
        self.files.push(path);
        Ok(())
    }

    fn path(&mut self, number: usize) -> PathBuf {
        let dir = self.random.pick(&self.dirs).cloned().unwrap_or_default();
        let name = *self.random.pick(&NAMES).unwrap_or(&"plain");
        // Once in a while as long as a name may be.
        let long = if self.random.once_in(30) { "n".repeat(200) } else { String::new() };
        dir.join(format!("{name}{long}-{number}"))
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        let bytes = self.content();
        File::create_new(path)?.write_all(&bytes)?;
        self.own(path)?;
        let modes = [0o644, 0o600, 0o755, 0o444, 0o4755, 0o2755, 0o000];
        fs::set_permissions(path, fs::Permissions::from_mode(*self.random.pick(&modes).unwrap_or(&0o644)))?;
        self.attributes(path)
    }

    /// Random, repetitive, zero, or the same as in many other files.
    fn content(&mut self) -> Vec<u8> {
        let max = self.options.max_file_bytes;
        let edge = self.random.pick(&EDGES).copied().unwrap_or(0);
        let any = usize::try_from(self.random.below(u64::try_from(max).unwrap_or(u64::MAX))).unwrap_or(max);
        let len = if self.random.once_in(2) { edge.min(max) } else { any };
        let mut bytes = vec![0; len];
        match self.random.below(4) {
            0 => self.random.fill(&mut bytes),
            1 => {
                let words = b"the quick brown fox jumps over the lazy dog \r\n";
                bytes.iter_mut().zip(words.iter().cycle()).for_each(|(to, from)| *to = *from);
            }
            2 => bytes.fill(b'='),
            _ => {}
        }
        bytes
    }

    fn special(&mut self, path: &Path) -> Result<()> {
        let mode = Mode::from_raw_mode(0o640);
        match self.random.below(4) {
            0 => mknodat(CWD, path, FileType::CharacterDevice, mode, rustix::fs::makedev(1, 3))?,
            1 => mknodat(CWD, path, FileType::BlockDevice, mode, rustix::fs::makedev(259, 70_000))?,
            2 => mknodat(CWD, path, FileType::Socket, mode, 0)?,
            _ => mknodat(CWD, path, FileType::Fifo, mode, 0)?,
        }
        Ok(())
    }

    fn own(&mut self, path: &Path) -> Result<()> {
        if self.options.privileged {
            let ids = [0, 1, 1000, 65_534, 4_000_000_000];
            let (uid, gid) = (self.random.pick(&ids).copied(), self.random.pick(&ids).copied());
            chown(path, uid, gid)?;
        }
        Ok(())
    }

    fn attributes(&mut self, path: &Path) -> Result<()> {
        if self.random.once_in(4) {
            lsetxattr(path, "user.gravure", b"a value\0with zero", XattrFlags::empty())?;
        }
        if self.random.once_in(12) {
            lsetxattr(path, "user.empty", b"", XattrFlags::empty())?;
        }
        if self.options.privileged && self.random.once_in(10) {
            let mut value = [0; 300];
            self.random.fill(&mut value);
            lsetxattr(path, "trusted.gravure", &value, XattrFlags::empty())?;
        }
        if self.options.privileged && self.random.once_in(10) && path.is_file() {
            // Version 2 of the kernel's capability attribute: cap_net_raw, permitted.
            let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            lsetxattr(path, OsStr::new("security.capability"), &capability, XattrFlags::empty())?;
        }
        Ok(())
    }

    /// Times between 1980 and 2038 in steps of 100 ns, the finest that Windows formats keep.
    fn times(&mut self) -> Result<()> {
        let mut all: Vec<PathBuf> = self.files.iter().chain(&self.dirs).cloned().collect();
        all.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        for path in all {
            let seconds = 315_532_800 + self.random.below(1_800_000_000);
            let time = Timespec {
                tv_sec: i64::try_from(seconds)?,
                tv_nsec: i64::try_from(self.random.below(10_000_000) * 100)?,
            };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Snapshot};

    #[test]
    fn a_seed_gives_the_same_tree_and_another_seed_another() {
        let make = |seed| {
            let dir = tempfile::tempdir().unwrap();
            sample_tree(dir.path(), &SampleOptions { seed, ..SampleOptions::default() }).unwrap();
            Snapshot::of(dir.path()).unwrap()
        };
        let first = make(3);
        first.assert_same(&make(3));
        assert_ne!(first.differences(&make(4)), [""; 0]);
        let has = |test: fn(&Kind) -> bool| first.entries.values().any(|entry| test(&entry.kind));
        assert!(has(|k| matches!(k, Kind::Symlink(_))) && has(|k| matches!(k, Kind::File { len: 0, .. })));
        assert!(
            first.entries.values().any(|e| e.linked_to.is_some())
                && first.entries.values().any(|e| !e.xattrs.is_empty())
        );
        if SampleOptions::default().privileged {
            assert!(has(|k| matches!(
                k,
                Kind::CharDevice(_) | Kind::BlockDevice(_) | Kind::Fifo | Kind::Socket
            )));
            assert!(first.entries.values().any(|entry| entry.uid == 4_000_000_000));
        }
    }
}
