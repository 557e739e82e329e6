//! The boot files a server hands out before the kernel, copied unmodified so that their signatures hold.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::debian::Stage;
use crate::process;

/// A boot file, named as firmware and shim ask for it.
#[derive(Debug)]
pub(super) struct BootFile {
    /// Name it is served under.
    pub(super) name: &'static str,
    /// Package it comes from.
    pub(super) package: &'static str,
    path: &'static str,
    /// Whether it is a PE program that carries a signature.
    signed: bool,
}

/// All boot files. shim looks for `grubx64.efi` and `mmx64.efi` beside itself.
pub(super) const FILES: [BootFile; 5] = [
    BootFile {
        name: "shimx64.efi",
        package: "shim-signed",
        path: "usr/lib/shim/shimx64.efi.signed",
        signed: true,
    },
    BootFile {
        name: "mmx64.efi",
        package: "shim-helpers-amd64-signed",
        path: "usr/lib/shim/mmx64.efi.signed",
        signed: true,
    },
    BootFile {
        name: "grubx64.efi",
        package: "grub-efi-amd64-signed",
        path: "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
        signed: true,
    },
    BootFile { name: "undionly.kpxe", package: "ipxe", path: "usr/lib/ipxe/undionly.kpxe", signed: false },
    // Not served as it is: a site's own signed image begins with it.
    BootFile {
        name: "linuxx64.efi.stub",
        package: "systemd-boot-efi",
        path: "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
        signed: false,
    },
];

/// Copies the files into `dir`.
pub(super) fn copy(stage: &Stage, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for file in &FILES {
        let from = stage.file(file.package, file.path)?;
        let bytes = std::fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
        if file.signed {
            ensure!(
                carries_signature(&bytes),
                "{} of package {} carries no signature",
                file.path,
                file.package
            );
        }
        let to = dir.join(file.name);
        std::fs::write(&to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
    }
    let read = |name: &str| std::fs::read(dir.join(name)).with_context(|| format!("cannot read {name}"));
    gravure_disk::sbat::check(&read("shimx64.efi")?, &read("grubx64.efi")?)
        .context("this shim would refuse this GRUB on every machine with Secure Boot")
}

/// Where this machine's GRUB for BIOS lies (package grub-pc-bin, which set-up installs).
const GRUB_PC: &str = "/usr/lib/grub/i386-pc";
/// What GRUB needs to find its menu and the payload on a boot medium.
const CORE_MODULES: [&str; 15] = [
    "biosdisk",
    "part_gpt",
    "part_msdos",
    "fat",
    "iso9660",
    "loopback",
    "search",
    "search_fs_file",
    "normal",
    "configfile",
    "linux",
    "echo",
    "test",
    "regexp",
    "sleep",
];

/// Makes GRUB's boot code for BIOS machines that start from a boot medium, in `dir`: for sticks, and for discs.
pub(super) fn bios_media(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let from = Path::new(GRUB_PC).join("boot.img");
    std::fs::copy(&from, dir.join("boot.img")).with_context(|| format!("cannot copy {}", from.display()))?;
    let stick = "search --no-floppy --file --set=root /gravure/vmlinuz\nset prefix=($root)/grub\n";
    bios_core(dir, "core.img", "i386-pc", stick)?;
    // The system partition is a file of the disc.
    let disc = "search --no-floppy --file --set=disc /esp.img\nloopback esp ($disc)/esp.img\n\
                set root=esp\nset prefix=(esp)/grub\n";
    bios_core(dir, "cd.img", "i386-pc-eltorito", disc)
}

fn bios_core(dir: &Path, name: &str, format: &str, first_commands: &str) -> Result<()> {
    let early = dir.join("early.cfg");
    std::fs::write(&early, first_commands).context("cannot write GRUB's first commands")?;
    let mut make = process::tool("grub-mkimage")?;
    make.args(["-O", format, "-p", "/grub", "-d", GRUB_PC, "-c"]).arg(&early);
    make.arg("-o").arg(dir.join(name)).args(CORE_MODULES);
    process::run(&mut make)?;
    std::fs::remove_file(&early).context("cannot remove GRUB's first commands")
}

/// Whether a PE32+ program has a certificate table (PE format, optional header data directory 4).
fn carries_signature(bytes: &[u8]) -> bool {
    let word = |offset: usize| -> Option<usize> {
        let raw = bytes.get(offset..offset.checked_add(4)?)?;
        usize::try_from(u32::from_le_bytes(raw.try_into().ok()?)).ok()
    };
    let table = || -> Option<bool> {
        let header = word(0x3c)?;
        let magic = bytes.get(header..header.checked_add(4)?)?;
        // 24 bytes of file header, 112 of optional header before the directories, 8 per directory.
        let entry = header.checked_add(24 + 112 + 4 * 8)?;
        let (offset, len) = (word(entry)?, word(entry.checked_add(4)?)?);
        Some(magic == b"PE\0\0" && len > 0 && offset.checked_add(len)? <= bytes.len())
    };
    table().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_table_must_lie_inside_the_file() {
        let mut program = vec![0u8; 0x400];
        program[0x3c] = 0x80;
        program[0x80..0x84].copy_from_slice(b"PE\0\0");
        let entry = 0x80 + 24 + 112 + 32;
        program[entry..entry + 4].copy_from_slice(&0x300u32.to_le_bytes());
        assert!(!carries_signature(&program), "length 0");
        program[entry + 4..entry + 8].copy_from_slice(&0x100u32.to_le_bytes());
        assert!(carries_signature(&program));
        program[entry + 4..entry + 8].copy_from_slice(&0x101u32.to_le_bytes());
        assert!(!carries_signature(&program), "beyond the end");
        for cut in 0..program.len() {
            assert!(!carries_signature(&program[..cut]), "cut at {cut}");
        }
    }
}
