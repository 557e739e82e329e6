//! A restored Linux system becomes this machine's, after the plan's layers were put in where it lies. What makes machines of one image twins goes: SSH host keys, the seed of random numbers,
//! the machine id that D-Bus keeps beside the system's.

use std::path::Path;

use gravure_imaging::{PartialTree, Rewriting, Round, ServicedDirectory};
use gravure_linux::Dir;
use gravure_linux::mount::MountOptions;
use gravure_model::Ctl;
use gravure_nttypes::FileTime;
use gravure_tree::ContentRef;
use gravure_windows::{ContentResult, LinuxImage};

use super::super::linux::{Layers, put_layers};
use super::super::root::RootEditor;
use super::super::windows::changes::Told;
use super::super::{Change, Expected, Run, confirm, personalise};
use super::Candidate;
use crate::failure::{StepError, code};

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
            let layered = self.put_layers_on_disk(one, &root, stage)?;
            self.change_root(&mut root)?;
            self.changes = later(layered, root.into_changes());
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

impl Run<'_> {
    /// Puts the plan's layers into the system of `root`; gives what is to be found when it is read back.
    fn put_layers_on_disk(
        &mut self,
        one: &Candidate<'_>,
        root: &RootEditor,
        stage: &str,
    ) -> Result<Vec<Change>, StepError> {
        let Some(layers) = self.layers.clone() else { return Ok(Vec::new()) };
        let place = format!("{}: ", one.name);
        let done = lay(&layers, root, &self.what(), self.now(), self.ctl);
        let (told, changes) =
            done.map_err(|error| StepError { message: format!("{place}{}", error.message), ..error })?;
        self.layered = self.layered.saturating_add(1);
        self.tell_of_layers(told, &place, stage);
        Ok(changes)
    }
}

/// Puts layers into a mounted system: decided in memory first, then written.
fn lay(
    layers: &Layers,
    root: &RootEditor,
    what: &str,
    now: FileTime,
    ctl: &Ctl,
) -> Result<(Told, Vec<Change>), StepError> {
    let mut directory = ServicedDirectory::open_unix(root.dir()?)?;
    let told = directory.service(ctl, |Round { tree, read: own, looks_into }| {
        let read = |content: &ContentRef| -> ContentResult {
            match PartialTree::is_own(content) {
                true => Ok(own(content)?),
                false => Ok(layers.contents.read(content)?),
            }
        };
        let mut image = LinuxImage::open_partial(tree, &read, looks_into, now)?;
        let mut told = put_layers(&mut image, &layers.layers)?;
        if let Some(path) = image.changed_below(&image.mount_points()?) {
            let message = format!(
                "layers change {path}, which is not there when the system runs: its table mounts another file system on the way"
            );
            return Err(StepError::new(code::UNSUPPORTED, message).with_cure(
                "make the plan without --layer, or of an image whose system is on one file system",
            ));
        }
        told.notes.push(format!("{} changes", image.finish(what)?.len()));
        Ok(told)
    })?;
    let contents = |content: &ContentRef| layers.contents.read(content);
    let written = directory.write(&[], &contents, Rewriting::Replace)?;
    let files = written.files.into_iter().map(|file| Change {
        path: file.path,
        content: Expected::Hash { bytes: file.bytes, blake3: file.blake3, mode: file.mode },
    });
    let links = written.links.into_iter().map(|(path, text)| Change { path, content: Expected::Link(text) });
    let gone = written.gone.into_iter().map(|path| Change { path, content: Expected::Gone });
    Ok((told, files.chain(links).chain(gone).collect()))
}

/// What was changed first, as far as nothing else became of it.
fn later(first: Vec<Change>, then: Vec<Change>) -> Vec<Change> {
    let is_kept = |change: &Change| then.iter().all(|other| other.path != change.path);
    let mut out: Vec<Change> = first.into_iter().filter(is_kept).collect();
    out.extend(then);
    out
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
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::sync::Arc;

    use gravure_imaging::{Bundles, CaptureOptions, capture_directory};
    use gravure_io::FileAt;
    use gravure_model::event::Silent;
    use gravure_windows::layers::{Layer, Platform};

    use super::super::super::linux::tests::{LAYER, facts, files};
    use super::super::super::verify::compare;
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

    /// A layer in a bundle, for a system in a directory.
    fn layers(dir: &Path, root: &Path, text: &str) -> Layers {
        let beside = dir.join("layer");
        files(root, &beside, text);
        let wim = dir.join("layer.wim");
        capture_directory(&beside, &wim, &CaptureOptions::default(), &Ctl::default(), &Silent).unwrap();
        let mut bundles = Bundles::default();
        let tree = bundles.add(Arc::new(FileAt::open(&wim).unwrap()), "room", None).unwrap();
        let contents = bundles.contents();
        let read = |content: &ContentRef| -> ContentResult { Ok(contents.read(content)?) };
        let layer = Layer::of_bundle(Platform::Linux, &tree, &read, &facts()).unwrap();
        Layers { layers: vec![layer], contents }
    }

    fn put(layers: &Layers, root: &Path) -> Result<(Told, Vec<Change>), StepError> {
        let root = RootEditor::new(Dir::open_root(root).unwrap());
        lay(layers, &root, "deployment p", FileTime(1 << 56), &Ctl::default())
    }

    #[test]
    fn layers_are_put_in_where_the_system_lies_and_read_back() {
        if !gravure_linux::process::is_root() {
            gravure_testkit::skipped("files are given to root, which needs root");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        let layers = layers(temp.path(), &root, LAYER);
        fs::set_permissions(root.join("etc/motd"), fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::chown(root.join("etc/motd"), Some(7), Some(8)).unwrap();
        let (told, changes) = put(&layers, &root).unwrap();
        assert_eq!((told.notes[0].as_str(), told.not_done.len()), ("layer room 2: applied", 0));
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        let stat = |path: &str| fs::metadata(root.join(path)).unwrap();
        assert_eq!(read("etc/motd"), "Welcome\nRoom B7\n");
        let motd = stat("etc/motd");
        assert_eq!(
            (motd.mode() & 0o7777, motd.uid(), motd.gid()),
            (0o640, 7, 8),
            "what was there keeps its own"
        );
        assert_eq!(read("var/lib/gravure/changes/0001/0"), "Welcome\n", "kept for undoing");
        assert_eq!(stat("var/lib/gravure/changes").mode() & 0o7777, 0o700);
        assert_eq!((read("etc/room"), stat("etc/room").mode() & 0o7777), ("B7 pc-7".to_owned(), 0o600));
        assert_eq!(stat("usr/local/bin/room").mode() & 0o7777, 0o755);

        let editor = RootEditor::new(Dir::open_root(&root).unwrap());
        assert_eq!(compare(&changes, &editor).unwrap(), changes.len() as u64);
        let wanted = "etc/systemd/system/multi-user.target.wants/gravure-layer-room.service";
        for (path, damage, expected) in [
            ("etc/room", None, "expected mode 0600, found 0644"),
            ("etc/motd", Some("Welcome\n"), "expected 16 bytes as written, found 8 other bytes"),
            (
                wanted,
                None,
                "expected a link to /etc/systemd/system/gravure-layer-room.service, found no link",
            ),
        ] {
            let change = changes.iter().find(|change| change.path == path).unwrap();
            match damage {
                Some(text) => fs::write(root.join(path), text).unwrap(),
                None if path == wanted => fs::remove_file(root.join(path)).unwrap(),
                None => fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o644)).unwrap(),
            }
            let failure = compare(std::slice::from_ref(change), &editor).unwrap_err();
            assert_eq!((failure.code, failure.message), (code::INTEGRITY, format!("/{path}: {expected}")));
        }
        // Once: the stamp is there.
        let (told, changes) = put(&layers, &root).unwrap();
        assert_eq!((told.notes[0].as_str(), changes), ("layer room 2: there already", vec![]));
    }

    #[test]
    fn what_the_system_would_hide_behind_a_mount_is_refused_before_anything_is_written() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        let layers = layers(temp.path(), &root, LAYER);
        for (fstab, hidden) in [
            ("UUID=1 / ext4 defaults 0 1\nUUID=2 /var ext4 defaults 0 2\n", "/var/lib/gravure"),
            ("UUID=1 /usr/local\text4 x\n", "/usr/local/bin/room"),
        ] {
            fs::write(root.join("etc/fstab"), fstab).unwrap();
            let refused = put(&layers, &root).unwrap_err();
            assert_eq!(refused.code, code::UNSUPPORTED);
            assert!(refused.message.contains(&format!("layers change {hidden}")), "{}", refused.message);
            assert!(!root.join("etc/room").exists() && !root.join("var/lib/gravure").exists());
        }
    }
}
