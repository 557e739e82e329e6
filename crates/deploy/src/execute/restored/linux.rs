//! A restored Linux system becomes this machine's. What makes machines of one image twins goes: SSH host keys, the seed of random numbers,
//! the machine id that D-Bus keeps beside the system's.

use std::path::Path;

use gravure_linux::Dir;
use gravure_linux::mount::MountOptions;

use super::super::root::RootEditor;
use super::super::{Run, confirm, personalise};
use super::Candidate;
use crate::failure::StepError;

/// Directories of Btrfs's top level that systems have as their root: Debian's installer, Ubuntu's and openSUSE's, Fedora's.
const SUBVOLUMES: [&str; 3] = ["@rootfs", "@", "root"];
/// Shows the top level instead of the subvolume that is the default.
const TOP_LEVEL: &str = "subvolid=5";

const SSH_DIR: &str = "etc/ssh";
const SSH_KEYGEN: &str = "usr/bin/ssh-keygen";
const SSH_UNIT: &str = "etc/systemd/system/gravure-ssh-keys.service";
const SSH_WANTED: &str = "etc/systemd/system/multi-user.target.wants/gravure-ssh-keys.service";
/// Not every distribution makes keys that are missing: Debian does when the package is set up, and never again.
const SSH_UNIT_TEXT: &str = "\
[Unit]
Description=Make SSH host keys for this machine
Before=ssh.service sshd.service ssh.socket sshd.socket

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
";

impl Run<'_> {
    /// Whether there was a system, which has the machine's name now.
    pub(super) fn personalise_linux(&mut self, one: &Candidate<'_>, stage: &str) -> Result<bool, StepError> {
        let usual = match one.fs_type {
            // The disk that this is a copy of may be there, too.
            "xfs" => "nouuid",
            _ => "",
        };
        // The default subvolume first: that is what such a system starts from when nothing else is said.
        let ways = match one.fs_type {
            "btrfs" => &[usual, TOP_LEVEL][..],
            _ => &[usual],
        };
        for data in ways {
            let options = MountOptions { data, ..MountOptions::default() };
            if !self.mount_candidate(one, options, stage)? {
                return Ok(false);
            }
            let place = Place { is_top_level: *data == TOP_LEVEL };
            let Some(mut root) = place.find(&self.machine.mount_point)? else {
                self.unmount()?;
                continue;
            };
            self.change_root(&mut root)?;
            self.changes = root.into_changes();
            self.verify_mounted(one, data, |mounted| place.find(mounted))?;
            return Ok(true);
        }
        Ok(false)
    }

    fn change_root(&self, root: &mut RootEditor) -> Result<(), StepError> {
        let personality = &self.plan.personality;
        let name = &personality.host_name;
        root.write("etc/hostname", format!("{name}\n").as_bytes(), 0o644)?;
        let hosts = personalise::hosts(root.read("etc/hosts")?.as_deref(), name);
        root.write("etc/hosts", hosts.as_bytes(), 0o644)?;
        part_from_twins(root, &personality.machine_id)?;
        if let Some(report) = &personality.confirm {
            confirm::install(root, report, self.machine, &self.plan.id)?;
        }
        Ok(())
    }
}

/// Takes away what all copies of a system would share, and gives it its machine id.
fn part_from_twins(root: &mut RootEditor, machine_id: &str) -> Result<(), StepError> {
    let machine_id = format!("{machine_id}\n");
    root.write("etc/machine-id", machine_id.as_bytes(), 0o444)?;
    // Where it is a link, it leads to the other.
    if root.is_file("var/lib/dbus/machine-id")? {
        root.write("var/lib/dbus/machine-id", machine_id.as_bytes(), 0o644)?;
    }
    root.remove("var/lib/systemd/random-seed")?;
    let names = root.names(SSH_DIR)?;
    let keys: Vec<&String> = names.iter().filter(|name| name.starts_with("ssh_host_")).collect();
    for key in &keys {
        root.remove(&format!("{SSH_DIR}/{key}"))?;
    }
    if !keys.is_empty() && root.read(SSH_KEYGEN)?.is_some() && root.is_dir("etc/systemd/system") {
        root.write(SSH_UNIT, SSH_UNIT_TEXT.as_bytes(), 0o644)?;
        root.link(SSH_WANTED, "/etc/systemd/system/gravure-ssh-keys.service")?;
    }
    // New files have no label of SELinux here; its own service gives them theirs at the first start.
    if root.read("etc/selinux/config")?.is_some_and(|config| is_selinux_used(&config)) {
        root.write(".autorelabel", b"", 0o644)?;
    }
    Ok(())
}

fn is_selinux_used(config: &[u8]) -> bool {
    let text = String::from_utf8_lossy(config);
    let mode = text.lines().filter_map(|line| line.trim().strip_prefix("SELINUX=")).next_back();
    mode.is_some_and(|mode| !mode.trim().trim_matches('"').eq_ignore_ascii_case("disabled"))
}

/// Where on a file system a system's root is looked for.
struct Place {
    is_top_level: bool,
}

impl Place {
    /// The root of the system below `mounted`.
    fn find(&self, mounted: &Path) -> Result<Option<RootEditor>, StepError> {
        let top = Dir::open_root(mounted)?;
        let mut places = Vec::new();
        if self.is_top_level {
            for name in SUBVOLUMES {
                // A link is none of them.
                places.extend(top.open_dir(name.as_ref()).ok());
            }
        } else {
            places.push(top);
        }
        for dir in places {
            let root = RootEditor::new(dir);
            if root.read("etc/os-release")?.is_some() {
                return Ok(Some(root));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn system(root: &Path) {
        for dir in ["etc/ssh", "etc/systemd/system", "var/lib/dbus", "var/lib/systemd", "usr/bin", "usr/lib"]
        {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        for (path, content) in [
            ("usr/lib/os-release", "ID=x\n"),
            ("usr/bin/ssh-keygen", "program"),
            ("etc/machine-id", "golden\n"),
            ("var/lib/dbus/machine-id", "golden\n"),
            ("var/lib/systemd/random-seed", "seed"),
            ("etc/ssh/ssh_host_ed25519_key", "secret"),
            ("etc/ssh/ssh_host_ed25519_key.pub", "public"),
            ("etc/ssh/sshd_config", "Port 22\n"),
        ] {
            fs::write(root.join(path), content).unwrap();
        }
        std::os::unix::fs::symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
    }

    #[test]
    fn copies_of_a_system_share_neither_keys_nor_ids() {
        if !gravure_linux::process::is_root() {
            gravure_testkit::skipped("files are given to root, which needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        system(dir.path());
        let mut root = RootEditor::new(Dir::open_root(dir.path()).unwrap());
        part_from_twins(&mut root, "0123456789abcdef0123456789abcdef").unwrap();
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
        for path in ["etc/machine-id", "var/lib/dbus/machine-id"] {
            assert_eq!(read(path), "0123456789abcdef0123456789abcdef\n", "{path}");
        }
        let mut left: Vec<_> =
            fs::read_dir(dir.path().join("etc/ssh")).unwrap().map(|one| one.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["sshd_config"]);
        assert!(!dir.path().join("var/lib/systemd/random-seed").exists());
        assert!(read(SSH_UNIT).contains("ExecStart=/usr/bin/ssh-keygen -A"));
        assert!(fs::symlink_metadata(dir.path().join(SSH_WANTED)).unwrap().is_symlink());
        assert!(!dir.path().join(".autorelabel").exists());
        let gone = |path: &str| root_changes(&root).any(|(known, is_gone)| known == path && is_gone);
        assert!(gone("etc/ssh/ssh_host_ed25519_key") && gone("var/lib/systemd/random-seed"));
        assert!(!gone("etc/machine-id"));
    }

    fn root_changes(root: &RootEditor) -> impl Iterator<Item = (&str, bool)> {
        root.changes()
            .iter()
            .map(|change| (change.path.as_str(), change.content == super::super::super::Expected::Gone))
    }

    #[test]
    fn roots_are_found_where_distributions_have_them() {
        let dir = tempfile::tempdir().unwrap();
        let place = |is_top_level| Place { is_top_level };
        assert!(place(false).find(dir.path()).unwrap().is_none());
        assert!(place(true).find(dir.path()).unwrap().is_none());
        for name in SUBVOLUMES {
            let dir = tempfile::tempdir().unwrap();
            system(&dir.path().join(name));
            assert!(place(false).find(dir.path()).unwrap().is_none(), "{name}");
            let found = place(true).find(dir.path()).unwrap().unwrap();
            assert_eq!(found.read("etc/machine-id").unwrap().unwrap(), b"golden\n", "{name}");
            assert!(place(false).find(&dir.path().join(name)).unwrap().is_some(), "{name}");
        }
        // A home of the system's owner called `root` is no system.
        fs::create_dir_all(dir.path().join("root/etc")).unwrap();
        assert!(place(true).find(dir.path()).unwrap().is_none());
    }

    #[test]
    fn selinux_says_whether_it_is_used() {
        for (config, is_used) in [
            (&b"# SELINUX=disabled\nSELINUX=enforcing\nSELINUXTYPE=targeted\n"[..], true),
            (b"SELINUX=permissive\n", true),
            (b"SELINUX=disabled\n", false),
            (b"", false),
        ] {
            assert_eq!(is_selinux_used(config), is_used, "{}", String::from_utf8_lossy(config));
        }
    }
}
