//! The cpio archive ("newc") the kernel unpacks as its first root file system.
//!
//! Follows the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. The same entries give the same
//! bytes: sorted by path, numbered in order, one time stamp, owned by root.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// Kinds of entry with what they carry.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    File { mode: u32, bytes: Vec<u8> },
    Link { target: String },
    CharDevice { mode: u32, major: u32, minor: u32 },
}

/// Bits of `st_mode` that tell the kind.
const S_IFDIR: u32 = 0o040_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// The archive ends with an entry of this name.
const TRAILER: &str = "TRAILER!!!";

/// Entries by path, without leading slash. Parents are added by themselves.
#[derive(Debug, Default)]
pub(super) struct Archive {
    nodes: BTreeMap<String, Node>,
}

impl Archive {
    /// Adds a directory and its parents.
    pub(super) fn directory(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.nodes.entry(path[..at].to_owned()).or_insert(Node::Directory);
        }
        self.nodes.entry(path.to_owned()).or_insert(Node::Directory);
    }

    /// Adds a file; `mode` holds the permission bits.
    pub(super) fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) -> Result<()> {
        self.add(path, Node::File { mode, bytes })
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.add(path, Node::Link { target: target.to_owned() })
    }

    /// Adds a character device.
    pub(super) fn char_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) -> Result<()> {
        self.add(path, Node::CharDevice { mode, major, minor })
    }

    fn add(&mut self, path: &str, node: Node) -> Result<()> {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
            let above = self.nodes.get(parent);
            ensure!(above == Some(&Node::Directory), "{path}: {parent} is not a directory");
        }
        let old = self.nodes.insert(path.to_owned(), node);
        ensure!(old.is_none(), "{path} is in the initramfs twice");
        Ok(())
    }

    /// The archive's bytes; every entry gets `mtime`, seconds since 1970.
    pub(super) fn to_bytes(&self, mtime: u64) -> Result<Vec<u8>> {
        let mtime = u32::try_from(mtime).context("time stamp does not fit into a cpio header")?;
        let mut out = Vec::new();
        for (index, (path, node)) in self.nodes.iter().enumerate() {
            let inode = u32::try_from(index + 1).context("too many entries")?;
            let (mode, links, body, device) = match node {
                Node::Directory => (S_IFDIR | 0o755, 2, &[][..], (0, 0)),
                Node::File { mode, bytes } => (S_IFREG | mode, 1, bytes.as_slice(), (0, 0)),
                Node::Link { target } => (S_IFLNK | 0o777, 1, target.as_bytes(), (0, 0)),
                Node::CharDevice { mode, major, minor } => (S_IFCHR | mode, 1, &[][..], (*major, *minor)),
            };
            header(&mut out, Header { inode, mode, links, mtime, len: body.len(), device, path })?;
            out.extend_from_slice(body);
            pad(&mut out);
        }
        header(
            &mut out,
            Header { inode: 0, mode: 0, links: 1, mtime: 0, len: 0, device: (0, 0), path: TRAILER },
        )?;
        Ok(out)
    }
}

/// Fields of one header.
#[derive(Debug, Clone, Copy)]
struct Header<'a> {
    inode: u32,
    mode: u32,
    links: u32,
    mtime: u32,
    len: usize,
    device: (u32, u32),
    path: &'a str,
}

/// Six bytes of magic, thirteen numbers of eight hexadecimal digits, the name with a NUL, padding to four.
fn header(out: &mut Vec<u8>, h: Header<'_>) -> Result<()> {
    let len = u32::try_from(h.len).with_context(|| format!("{} is too long for cpio", h.path))?;
    let name_len = u32::try_from(h.path.len() + 1).context("name too long")?;
    let (owner, group, volume) = (0, 0, (0, 0));
    let numbers = [
        h.inode, h.mode, owner, group, h.links, h.mtime, len, volume.0, volume.1, h.device.0, h.device.1,
        name_len, 0,
    ];
    out.extend_from_slice(b"070701");
    for number in numbers {
        out.extend_from_slice(format!("{number:08x}").as_bytes());
    }
    out.extend_from_slice(h.path.as_bytes());
    out.push(0);
    pad(out);
    Ok(())
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::process;

    fn sample() -> Archive {
        let mut archive = Archive::default();
        archive.file("usr/lib/odd", 0o644, b"12345".to_vec()).unwrap();
        archive.file("init", 0o755, b"#!/bin/sh\n".to_vec()).unwrap();
        archive.link("lib", "usr/lib").unwrap();
        archive.char_device("dev/console", 0o600, 5, 1).unwrap();
        archive.directory("proc");
        archive
    }

    #[test]
    fn order_of_adding_does_not_matter_and_every_entry_starts_at_four() {
        let bytes = sample().to_bytes(1_700_000_000).unwrap();
        let mut other = Archive::default();
        other.directory("proc");
        other.char_device("dev/console", 0o600, 5, 1).unwrap();
        other.link("lib", "usr/lib").unwrap();
        other.file("init", 0o755, b"#!/bin/sh\n".to_vec()).unwrap();
        other.file("usr/lib/odd", 0o644, b"12345".to_vec()).unwrap();
        assert_eq!(other.to_bytes(1_700_000_000).unwrap(), bytes);
        let starts: Vec<usize> = (0..bytes.len() - 6).filter(|at| &bytes[*at..at + 6] == b"070701").collect();
        assert_eq!(starts.len(), 9, "eight entries with their parents, and the trailer");
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
    }

    #[test]
    fn what_would_hide_another_entry_is_refused() {
        let mut archive = sample();
        assert_eq!(
            archive.file("init", 0o755, Vec::new()).unwrap_err().to_string(),
            "init is in the initramfs twice"
        );
        let error = archive.file("lib/x", 0o644, Vec::new()).unwrap_err().to_string();
        assert_eq!(error, "lib/x: lib is not a directory");
    }

    #[test]
    fn cpio_reads_it() {
        if process::find("cpio").is_none() {
            assert!(std::env::var_os("GRAVURE_REQUIRE_ORACLES").is_none(), "cpio is required");
            eprintln!("SKIPPED: cpio is not installed");
            return;
        }
        let mut child = Command::new("cpio")
            .args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"])
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&sample().to_bytes(0).unwrap()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        let seen: Vec<(&str, &str)> = text
            .lines()
            .map(|line| (line.split_whitespace().next().unwrap(), line.split("1970 ").nth(1).unwrap_or(line)))
            .collect();
        assert_eq!(
            seen,
            [
                ("drwxr-xr-x", "dev"),
                ("crw-------", "dev/console"),
                ("-rwxr-xr-x", "init"),
                ("lrwxrwxrwx", "lib -> usr/lib"),
                ("drwxr-xr-x", "proc"),
                ("drwxr-xr-x", "usr"),
                ("drwxr-xr-x", "usr/lib"),
                ("-rw-r--r--", "usr/lib/odd"),
            ]
        );
    }
}
