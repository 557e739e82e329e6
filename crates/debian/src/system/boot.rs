//! Kernel modules, initial RAM disk and GRUB of the new system.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::System;
use crate::Error;
use crate::recipe::Kernel;

/// Label of the volume a plan formats for the system; GRUB's BIOS core image looks for it. The same word stands in
/// `gravure_deploy::ROOT_LABEL`, and a test there compares the two.
pub const ROOT_LABEL: &str = "gravure-root";

/// What GRUB's BIOS core image can do before it reads its modules from the disk.
const CORE_MODULES: [&str; 20] = [
    "biosdisk",
    "part_gpt",
    "part_msdos",
    "ext2",
    "search",
    "search_label",
    "search_fs_uuid",
    "search_fs_file",
    "normal",
    "configfile",
    "linux",
    "boot",
    "echo",
    "test",
    "ls",
    "cat",
    "minicmd",
    "serial",
    "terminal",
    "gzio",
];

impl System<'_> {
    pub(super) fn prepare_kernel(&self, kernel: &Kernel) -> Result<(), Error> {
        for release in self.releases()? {
            if let Some(modules) = &kernel.modules {
                self.keep_modules(&release, modules)?;
                self.put("/etc/initramfs-tools/modules", (modules.join("\n") + "\n").as_bytes(), 0o644)?;
                // `list`: only what stands there, not whatever the builder's hardware needs.
                self.put("/etc/initramfs-tools/conf.d/gravure", b"MODULES=list\n", 0o644)?;
            }
            self.put(
                "/etc/initramfs-tools/update-initramfs.conf",
                b"update_initramfs=yes\nbackup_initramfs=no\n",
                0o644,
            )?;
            self.run(self.inside("update-initramfs").args(["-c", "-k", &release]), "update-initramfs")?;
        }
        let defaults = format!(
            "GRUB_DEFAULT=0\nGRUB_TIMEOUT=2\nGRUB_DISTRIBUTOR=Debian\nGRUB_CMDLINE_LINUX_DEFAULT=\"\"\n\
             GRUB_CMDLINE_LINUX=\"{}\"\n",
            kernel.command_line
        );
        self.put("/etc/default/grub", defaults.as_bytes(), 0o644)
    }

    /// Kernel releases in `/boot`, sorted.
    fn releases(&self) -> Result<Vec<String>, Error> {
        let boot = self.path("/boot");
        let entries = fs::read_dir(&boot).map_err(Error::io("cannot list", &boot))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut releases: Vec<String> =
            names.filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned)).collect();
        releases.sort();
        Ok(releases)
    }

    /// Removes every module that is not wanted and that no wanted one needs.
    fn keep_modules(&self, release: &str, wanted: &[String]) -> Result<(), Error> {
        let dir = self.path(&format!("/usr/lib/modules/{release}"));
        let dep_path = dir.join("modules.dep");
        let text = fs::read_to_string(&dep_path).map_err(Error::io("cannot read", &dep_path))?;
        let builtin = fs::read_to_string(dir.join("modules.builtin")).unwrap_or_default();
        let kept = closure(&text, &builtin, wanted)
            .map_err(|module| Error::NoModule { module, release: release.to_owned() })?;
        prune(&dir, Path::new(""), &kept)?;
        self.run(self.inside("depmod").arg(release), "depmod")?;
        Ok(())
    }

    /// Makes GRUB's core image for BIOS machines as `grub-install` would, but for a volume found by its label: where
    /// on the disk it goes is decided when the system is deployed.
    pub(super) fn prepare_bios_boot(&self) -> Result<(), Error> {
        let early = format!("search.fs_label {ROOT_LABEL} root\nset prefix=($root)/boot/grub\n");
        self.put("/boot/grub/early.cfg", early.as_bytes(), 0o600)?;
        let from = self.path("/usr/lib/grub/i386-pc");
        let to = self.path("/boot/grub/i386-pc");
        fs::create_dir_all(&to).map_err(Error::io("cannot create", &to))?;
        let mut names: Vec<_> = fs::read_dir(&from)
            .map_err(Error::io("cannot list", &from))?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".mod") || name.ends_with(".lst") || name == "boot.img")
            .collect();
        names.sort();
        for name in names {
            fs::copy(from.join(&name), to.join(&name)).map_err(Error::io("cannot copy", from.join(&name)))?;
        }
        let mut make = self.inside("grub-mkimage");
        make.args(["-O", "i386-pc", "-o", "/boot/grub/i386-pc/core.img", "-p", "/boot/grub"]);
        make.args(["-c", "/boot/grub/early.cfg"]).args(CORE_MODULES);
        self.run(&mut make, "grub-mkimage")?;
        let early = self.path("/boot/grub/early.cfg");
        fs::remove_file(&early).map_err(Error::io("cannot remove", early))
    }
}

/// Module name as the kernel knows it: file name without endings, `-` as `_`.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

/// Paths (relative to the release's directory) of the wanted modules and of all they need. The error is the name of a
/// module that is neither there nor built in.
fn closure(modules_dep: &str, builtin: &str, wanted: &[String]) -> Result<BTreeSet<String>, String> {
    let lines = modules_dep.lines().filter_map(|line| line.split_once(':'));
    let by_name: BTreeMap<String, (&str, Vec<&str>)> =
        lines.map(|(path, needs)| (module_name(path), (path, needs.split_whitespace().collect()))).collect();
    let built_in: BTreeSet<String> = builtin.lines().map(module_name).collect();
    let mut kept = BTreeSet::new();
    for name in wanted {
        let name = name.replace('-', "_");
        match by_name.get(&name) {
            // modules.dep lists the whole chain, so one level is all levels.
            Some((path, needs)) => {
                kept.insert((*path).to_owned());
                kept.extend(needs.iter().map(|path| (*path).to_owned()));
            }
            None if built_in.contains(&name) => {}
            None => return Err(name),
        }
    }
    Ok(kept)
}

/// Removes module files that are not kept, and directories that become empty.
fn prune(root: &Path, below: &Path, kept: &BTreeSet<String>) -> Result<bool, Error> {
    let dir = root.join(below);
    let mut is_empty = true;
    for entry in fs::read_dir(&dir).map_err(Error::io("cannot list", &dir))? {
        let entry = entry.map_err(Error::io("cannot list", &dir))?;
        let relative = below.join(entry.file_name());
        let path = root.join(&relative);
        let name = relative.to_string_lossy();
        if path.is_dir() && !path.is_symlink() {
            if prune(root, &relative, kept)? {
                fs::remove_dir(&path).map_err(Error::io("cannot remove", &path))?;
            } else {
                is_empty = false;
            }
        } else if name.contains(".ko") && !kept.contains(name.as_ref()) {
            fs::remove_file(&path).map_err(Error::io("cannot remove", &path))?;
        } else {
            is_empty = false;
        }
    }
    Ok(is_empty && !below.as_os_str().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/a/virtio-net.ko.xz: kernel/a/virtio.ko.xz kernel/b/ring.ko.xz\n\
        kernel/a/virtio.ko.xz: kernel/b/ring.ko.xz\nkernel/b/ring.ko.xz:\nkernel/c/other.ko.xz:\n";

    #[test]
    fn what_is_needed_is_kept_and_what_is_missing_is_named() {
        let wanted = ["virtio_net".to_owned(), "ext4".to_owned()];
        let kept = closure(DEP, "kernel/fs/ext4/ext4.ko\n", &wanted).unwrap();
        assert_eq!(kept.len(), 3);
        assert!(!kept.contains("kernel/c/other.ko.xz"));
        assert_eq!(closure(DEP, "", &wanted), Err("ext4".to_owned()));
    }

    #[test]
    fn pruning_leaves_what_is_kept_and_what_is_no_module() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["kernel/a/virtio.ko.xz", "kernel/c/other.ko.xz", "modules.order"] {
            fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            fs::write(dir.path().join(path), b"x").unwrap();
        }
        let kept = BTreeSet::from(["kernel/a/virtio.ko.xz".to_owned()]);
        assert!(!prune(dir.path(), Path::new(""), &kept).unwrap());
        assert!(dir.path().join("kernel/a/virtio.ko.xz").exists());
        assert!(dir.path().join("modules.order").exists());
        assert!(!dir.path().join("kernel/c").exists());
    }
}
