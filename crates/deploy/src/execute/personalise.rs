//! What makes the deployed system this machine: name, machine id, file system table, boot menu, first-boot report.

use gravure_disk::identity::print_uuid;
use gravure_linux::Dir;
use gravure_model::plan::PartitionRole;

use super::root::RootEditor;
use super::{Run, confirm, grub, partition_index};
use crate::failure::StepError;

impl Run<'_> {
    pub(super) fn personalise(&mut self) -> Result<(), StepError> {
        let personality = &self.plan.personality;
        let name = &personality.host_name;
        let root_uuid = self.root_uuid()?;
        let mut root = RootEditor::new(Dir::open_root(&self.machine.mount_point)?);

        root.write("etc/hostname", format!("{name}\n").as_bytes(), 0o644)?;
        let hosts = hosts(root.read("etc/hosts")?.as_deref(), name);
        root.write("etc/hosts", hosts.as_bytes(), 0o644)?;
        root.write("etc/machine-id", format!("{}\n", personality.machine_id).as_bytes(), 0o444)?;
        let fstab = self.fstab(&root_uuid);
        root.write("etc/fstab", fstab.as_bytes(), 0o644)?;
        if self.esp_index().is_some() {
            root.ensure_dir("boot/efi")?;
        }

        let title = system_title(root.read("etc/os-release")?.as_deref());
        let kernels = grub::kernels(&root)?;
        let command_line = grub::command_line(root.read("etc/default/grub")?.as_deref());
        let menu = grub::grub_cfg(&title, &kernels, &root_uuid, &command_line);
        root.write("boot/grub/grub.cfg", menu.as_bytes(), 0o600)?;

        if let Some(report) = &personality.confirm {
            confirm::install(&mut root, report, self.machine, &self.plan.id)?;
        }
        self.changes = root.into_changes();
        Ok(())
    }

    /// UUID of the system volume, as `root=UUID=` wants it.
    pub(super) fn root_uuid(&self) -> Result<String, StepError> {
        let index = partition_index(self.partitions, PartitionRole::Root)?;
        Ok(print_uuid(self.identity.volume_uuid(u32::try_from(index).unwrap_or(u32::MAX))))
    }

    /// Zero-based place of the EFI system partition, when there is one.
    pub(super) fn esp_index(&self) -> Option<u32> {
        let index = partition_index(self.partitions, PartitionRole::Esp).ok()?;
        u32::try_from(index).ok()
    }

    fn fstab(&self, root_uuid: &str) -> String {
        let mut text = String::from("# Written by Gravure when this system was deployed.\n");
        text.push_str(&format!("UUID={root_uuid} / ext4 errors=remount-ro 0 1\n"));
        if let Some(index) = self.esp_index() {
            let serial = self.identity.fat_serial(index);
            let uuid = format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff);
            text.push_str(&format!("UUID={uuid} /boot/efi vfat umask=0077 0 1\n"));
        }
        text
    }
}

/// Sets the line of 127.0.1.1, which Debian keeps for the machine's own name.
pub(super) fn hosts(old: Option<&[u8]>, name: &str) -> String {
    let old = String::from_utf8_lossy(old.unwrap_or(b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n"));
    let kept = old.lines().filter(|line| line.split_whitespace().next() != Some("127.0.1.1"));
    let mut text: String = kept.map(|line| format!("{line}\n")).collect();
    text.push_str(&format!("127.0.1.1\t{name}\n"));
    text
}

/// `PRETTY_NAME` of os-release, for the boot menu.
fn system_title(os_release: Option<&[u8]>) -> String {
    let text = String::from_utf8_lossy(os_release.unwrap_or_default());
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_own_line_is_replaced_and_the_rest_kept() {
        let old = b"127.0.0.1 localhost\n127.0.1.1 template\n10.0.0.1 server # 127.0.1.1\n";
        let text = hosts(Some(old), "pc-7");
        assert_eq!(text, "127.0.0.1 localhost\n10.0.0.1 server # 127.0.1.1\n127.0.1.1\tpc-7\n");
        assert!(hosts(None, "pc-7").starts_with("127.0.0.1\tlocalhost\n"));
    }

    #[test]
    fn title_comes_from_os_release() {
        assert_eq!(system_title(Some(b"ID=debian\nPRETTY_NAME=\"Debian 13\"\n")), "Debian 13");
        assert_eq!(system_title(None), "Linux");
    }
}
