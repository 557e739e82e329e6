//! The last touches: everything that differs from build to build, or that names the builder, goes.

use std::fs;
use std::path::{Path, PathBuf};

use super::{System, keeps_sources};
use crate::{AptRoot, Error};

/// Files and directories whose content is made anew by the system itself.
const TRANSIENT: [&str; 16] = [
    "/var/log/*",
    "/var/cache/apt/*",
    "/var/cache/ldconfig/*",
    "/var/cache/debconf/*-old",
    "/var/lib/apt/lists/*",
    "/var/lib/dbus/machine-id",
    "/var/lib/dpkg/*-old",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/catalog/database",
    "/var/backups/*",
    "/tmp/*",
    "/var/tmp/*",
    "/run/*",
    "/etc/resolv.conf.systemd-resolved.bak",
    "/etc/ssh/ssh_host_*",
    "/etc/*-",
];

impl System<'_> {
    pub(super) fn settle(&self, apt: &AptRoot) -> Result<(), Error> {
        for pattern in TRANSIENT.iter().copied().chain(self.recipe.remove.iter().map(String::as_str)) {
            for path in self.matching(pattern)? {
                remove(&path)?;
            }
        }
        self.put("/etc/hostname", format!("{}\n", self.recipe.host_name).as_bytes(), 0o644)?;
        // Empty, not missing: systemd takes the one a plan writes, or makes one at the first boot.
        self.put("/etc/machine-id", b"", 0o444)?;
        self.put("/etc/fstab", b"# Written when the system is deployed.\n", 0o644)?;
        for path in self.matching("/etc/apt/sources.list.d/*")? {
            remove(&path)?;
        }
        if self.path("/etc/apt").is_dir() {
            let sources = if keeps_sources(self.recipe) {
                apt.sources_for_mmdebstrap().join("\n") + "\n"
            } else {
                String::new()
            };
            self.put("/etc/apt/sources.list", sources.as_bytes(), 0o644)?;
        }
        Ok(())
    }

    /// Paths that fit `pattern`, sorted; `*` may stand in the last component, for any run of characters.
    fn matching(&self, pattern: &str) -> Result<Vec<PathBuf>, Error> {
        let (dir, last) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        let dir = self.path(dir);
        let Ok(entries) = fs::read_dir(&dir) else { return Ok(Vec::new()) };
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io("cannot list", &dir))?;
            if fits(last, &entry.file_name().to_string_lossy()) {
                paths.push(entry.path());
            }
        }
        paths.sort();
        Ok(paths)
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    let is_dir = path.is_dir() && !path.is_symlink();
    let removed = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(Error::io("cannot remove", path))
}

/// Whether `name` fits `pattern`, in which `*` stands for any run of characters.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(before) else { return false };
    (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|tail| fits(after, tail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, wanted) in [
            ("*", "anything", true),
            ("*-", "passwd-", true),
            ("*-", "passwd", false),
            ("ssh_host_*", "ssh_host_rsa_key.pub", true),
            ("*-old", "status-old", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("plain", "plain", true),
        ] {
            assert_eq!(fits(pattern, name), wanted, "{pattern} {name}");
        }
    }
}
