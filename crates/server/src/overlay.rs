//! The parts of the initramfs that the server adds: for the site (whom to believe) and for one boot (a token).
//!
//! cpio in the form "newc" (kernel documentation, driver-api/early-userspace/buffer-format): fields of eight hexadecimal
//! digits, everything padded to four bytes. Uncompressed parts come before the compressed one, as loaders and kernels
//! have it since early microcode updates.

use gravure_model::Secret;
use gravure_model::site::{OFFLINE_PATH, OfflinePart, SITE_PATH, SiteSettings, TOKEN_PATH};

/// Type and permissions of a directory.
const DIRECTORY: u32 = 0o040_755;
/// Type and permissions of a file only root reads.
const PRIVATE_FILE: u32 = 0o100_600;
/// Length of a whole part is a multiple of this, as other tools make it.
const BLOCK_BYTES: usize = 512;

/// The per-site part.
pub(crate) fn site_part(settings: &SiteSettings) -> Result<Vec<u8>, serde_json::Error> {
    Ok(part(SITE_PATH, &serde_json::to_vec(settings)?))
}

/// The part of a medium that deploys without a server.
pub(crate) fn offline_part(order: &OfflinePart) -> Result<Vec<u8>, serde_json::Error> {
    Ok(part(OFFLINE_PATH, &serde_json::to_vec(order)?))
}

/// The per-boot part. Without a token it is as long as with one, and the payload finds none.
pub(crate) fn token_part(token: Option<&Secret>) -> Vec<u8> {
    match token {
        Some(token) => part(TOKEN_PATH, token.reveal().as_bytes()),
        None => {
            let mut empty = part(TOKEN_PATH, &[b'0'; 64]);
            let mut archive = Archive::default();
            archive.entry("TRAILER!!!", 0, &[]);
            empty.fill(0);
            for (to, from) in empty.iter_mut().zip(archive.bytes) {
                *to = from;
            }
            empty
        }
    }
}

/// An archive of one file and its directories.
fn part(path: &str, content: &[u8]) -> Vec<u8> {
    let mut archive = Archive::default();
    for (end, _) in path.match_indices('/') {
        archive.entry(path.get(..end).unwrap_or_default(), DIRECTORY, &[]);
    }
    archive.entry(path, PRIVATE_FILE, content);
    archive.entry("TRAILER!!!", 0, &[]);
    archive.pad(BLOCK_BYTES);
    archive.bytes
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let number = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let links = if mode == DIRECTORY { 2 } else { 1 };
        // Inode, mode, uid, gid, links, mtime, size, device and its own device (major, minor each), name length, check.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            number(content.len()),
            0,
            0,
            0,
            0,
            number(name.len() + 1),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad(4);
        self.bytes.extend_from_slice(content);
        self.pad(4);
    }

    fn pad(&mut self, unit: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(unit), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(archive: &[u8]) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        let mut pos = 0;
        loop {
            let field = |number: usize| {
                let from = pos + 6 + number * 8;
                usize::from_str_radix(std::str::from_utf8(&archive[from..from + 8]).unwrap(), 16).unwrap()
            };
            assert_eq!(&archive[pos..pos + 6], b"070701");
            let (size, name_len) = (field(6), field(11));
            let name = std::str::from_utf8(&archive[pos + 110..pos + 110 + name_len - 1]).unwrap().to_owned();
            let end = name == "TRAILER!!!";
            found.push((name, size));
            if end {
                return found;
            }
            pos = (pos + 110 + name_len).next_multiple_of(4) + size;
            pos = pos.next_multiple_of(4);
        }
    }

    #[test]
    fn parts_hold_their_file_and_its_directories() {
        let token = Secret::new("ab".repeat(32));
        let with = token_part(Some(&token));
        let expected = [("etc", 0), ("etc/gravure", 0), ("etc/gravure/token", 64), ("TRAILER!!!", 0)];
        assert_eq!(names(&with), expected.map(|(name, size)| (name.to_owned(), size)));
        assert_eq!(with.len() % BLOCK_BYTES, 0);
        let without = token_part(None);
        assert_eq!(without.len(), with.len());
        assert_eq!(names(&without), [("TRAILER!!!".to_owned(), 0)]);
    }

    #[test]
    fn cpio_reads_the_site_part() {
        use std::io::Write;
        let settings = SiteSettings {
            version: 1,
            name: "test".into(),
            root_key: "00".repeat(32),
            ca_pem: "pem".into(),
            servers: Vec::new(),
            made: gravure_model::Timestamp(1),
        };
        let part = site_part(&settings).unwrap();
        let command = std::process::Command::new("cpio")
            .args(["-t", "--quiet"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn();
        let Ok(mut command) = command else {
            assert!(std::env::var_os("GRAVURE_REQUIRE_ORACLES").is_none(), "cpio is not installed");
            eprintln!("SKIPPED: cpio is not installed");
            return;
        };
        command.stdin.take().unwrap().write_all(&part).unwrap();
        let listed = command.wait_with_output().unwrap();
        assert!(listed.status.success());
        assert_eq!(String::from_utf8(listed.stdout).unwrap(), "etc\netc/gravure\netc/gravure/site.json\n");
    }
}
