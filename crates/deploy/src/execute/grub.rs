//! The boot menu of the deployed system: the kernels found in it, and GRUB's configuration for them. The format follows
//! what the distribution's own `update-grub` writes, which replaces this file at the next kernel update.

use std::cmp::Reverse;

use crate::execute::root::RootEditor;
use crate::failure::{StepError, code};

/// A kernel of the new system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kernel {
    /// Release, e.g. `6.12.57+deb13-amd64`.
    pub(super) release: String,
    /// Whether `/boot/initrd.img-RELEASE` is there.
    pub(super) has_initrd: bool,
}

/// The kernels in `/boot`, newest first.
pub(super) fn kernels(root: &RootEditor) -> Result<Vec<Kernel>, StepError> {
    let names = root.names("boot")?;
    let releases = names.iter().filter_map(|name| name.strip_prefix("vmlinuz-"));
    let mut kernels: Vec<Kernel> = releases
        .map(|release| Kernel {
            release: release.to_owned(),
            has_initrd: names.iter().any(|name| name.strip_prefix("initrd.img-") == Some(release)),
        })
        .collect();
    kernels.sort_by_key(|kernel| Reverse(version_key(&kernel.release)));
    if kernels.is_empty() {
        return Err(StepError::new(
            code::NOT_FOUND,
            "the image has no kernel: nothing is called /boot/vmlinuz-*",
        )
        .with_cure("put a kernel package into the image"));
    }
    Ok(kernels)
}

/// Numbers compare as numbers, everything else as text: `6.9` is older than `6.12`.
fn version_key(release: &str) -> Vec<(u64, String)> {
    let mut key = Vec::new();
    let mut rest = release;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let text = after.bytes().take_while(|c| !c.is_ascii_digit()).count();
        let (text, after) = after.split_at(text);
        key.push((number.parse().unwrap_or(u64::MAX), text.to_owned()));
        rest = after;
    }
    key
}

/// What `/etc/default/grub` adds to the kernel's command line: both variables that `update-grub` reads.
pub(super) fn command_line(defaults: Option<&[u8]>) -> String {
    let text = String::from_utf8_lossy(defaults.unwrap_or_default());
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix('='));
        // The last one wins, as in a shell.
        let value = lines.next_back().unwrap_or_default().trim();
        value.trim_matches(|c| matches!(c, '"' | '\'')).to_owned()
    };
    let words = [value("GRUB_CMDLINE_LINUX"), value("GRUB_CMDLINE_LINUX_DEFAULT")];
    // Quotes, line ends and command separators have no business on a kernel command line.
    let joined = words.join(" ");
    let clean: String =
        joined.chars().filter(|c| !matches!(c, '\'' | '"' | ';' | '{' | '}' | '\n')).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `/boot/grub/grub.cfg`.
pub(super) fn grub_cfg(title: &str, kernels: &[Kernel], root_uuid: &str, command_line: &str) -> String {
    let title: String = title.chars().filter(|c| !matches!(c, '\'' | '\\' | '\n')).collect();
    let mut text = String::from(
        "# Written by Gravure when this system was deployed; update-grub replaces it.\n\
         set default=0\n\
         set timeout=2\n\
         insmod part_gpt\n\
         insmod ext2\n",
    );
    text.push_str(&format!("search --no-floppy --fs-uuid --set=root {root_uuid}\n"));
    for kernel in kernels {
        let release = &kernel.release;
        text.push_str(&format!("\nmenuentry '{title} ({release})' {{\n"));
        let line = format!("root=UUID={root_uuid} ro {command_line}");
        text.push_str(&format!("\tlinux /boot/vmlinuz-{release} {}\n", line.trim_end()));
        if kernel.has_initrd {
            text.push_str(&format!("\tinitrd /boot/initrd.img-{release}\n"));
        }
        text.push_str("}\n");
    }
    text
}

/// The stub on the EFI system partition, as Debian's own installation writes it.
pub(super) fn esp_stub(root_uuid: &str) -> String {
    format!(
        "search --no-floppy --fs-uuid --set=root {root_uuid}\n\
         set prefix=($root)'/boot/grub'\n\
         configfile $prefix/grub.cfg\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_kernels_come_first() {
        let mut releases = ["6.9.7-amd64", "6.12.57+deb13-amd64", "6.12.6-amd64"];
        releases.sort_by_key(|release| Reverse(version_key(release)));
        assert_eq!(releases, ["6.12.57+deb13-amd64", "6.12.6-amd64", "6.9.7-amd64"]);
    }

    #[test]
    fn command_line_joins_both_variables() {
        let text =
            b"GRUB_TIMEOUT=5\n#GRUB_CMDLINE_LINUX=\"no\"\nGRUB_CMDLINE_LINUX=\"console=ttyS0,115200\"\n\
            GRUB_CMDLINE_LINUX_DEFAULT='quiet'\n";
        assert_eq!(command_line(Some(text)), "console=ttyS0,115200 quiet");
        assert_eq!(command_line(None), "");
    }

    #[test]
    fn the_menu_names_every_kernel() {
        let kernels = [
            Kernel { release: "6.12".into(), has_initrd: true },
            Kernel { release: "6.1".into(), has_initrd: false },
        ];
        let text = grub_cfg("Debian's 13", &kernels, "abc-1", "quiet");
        assert!(text.contains(
            "menuentry 'Debians 13 (6.12)' {\n\tlinux /boot/vmlinuz-6.12 root=UUID=abc-1 ro quiet\n"
        ));
        assert!(text.contains("\tinitrd /boot/initrd.img-6.12\n}"));
        assert!(text.ends_with("\tlinux /boot/vmlinuz-6.1 root=UUID=abc-1 ro quiet\n}\n"));
    }
}
