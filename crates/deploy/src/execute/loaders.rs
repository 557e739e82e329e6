//! Which boot loader on an EFI system partition starts the system that was restored with it: shim, or the loader itself where there is no
//! shim, of whatever distribution; Windows' own; else what firmware falls back to.

use gravure_disk::Error;
use gravure_disk::fat::FatVolume;

/// A program of the system partition, and what boot lists call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loader {
    /// From the root of the partition.
    pub(super) path: String,
    pub(super) title: String,
}

/// Directories below `EFI` and the titles that their distributions enter; of several systems, the first one is taken. Others are called as
/// their directory is.
const TITLES: [(&str, &str); 11] = [
    ("debian", "debian"),
    ("ubuntu", "ubuntu"),
    ("fedora", "Fedora"),
    ("opensuse", "opensuse-secureboot"),
    ("sles", "sles-secureboot"),
    ("redhat", "Red Hat Enterprise Linux"),
    ("centos", "CentOS"),
    ("rocky", "Rocky Linux"),
    ("almalinux", "AlmaLinux"),
    ("arch", "arch"),
    ("systemd", "Linux Boot Manager"),
];
/// Directories that are no distribution's.
const OTHERS: [&str; 4] = ["boot", "microsoft", "linux", "tools"];
/// What starts a system, best first; `{}` is the processor. shim starts GRUB where Secure Boot asks who signed it.
const PROGRAMS: [&str; 6] =
    ["shim{}.efi", "shim.efi", "grub{}.efi", "grub.efi", "systemd-boot{}.efi", "refind_{}.efi"];

/// How the names of programs for a processor end, as the UEFI specification has it (3.5.1.1); `processor` is Rust's name.
fn ending(processor: &str) -> &'static str {
    match processor {
        "aarch64" => "aa64",
        "arm" => "arm",
        "x86" => "ia32",
        "riscv64" => "riscv64",
        _ => "x64",
    }
}

/// The loader for `processor`; `None` when there is none at all.
pub(super) fn find(esp: &FatVolume<'_>, processor: &str) -> Result<Option<Loader>, Error> {
    let ending = ending(processor);
    let mut directories: Vec<String> = Vec::new();
    if esp.contains("/EFI")? {
        let listed = esp.list("/EFI")?;
        directories.extend(listed.iter().filter(|entry| entry.directory).map(|entry| entry.name.clone()));
    }
    let is = |name: &str, other: &str| name.eq_ignore_ascii_case(other);
    directories.retain(|name| !OTHERS.iter().any(|other| is(name, other)));
    let rank = |name: &str| TITLES.iter().position(|(known, _)| is(name, known)).unwrap_or(TITLES.len());
    directories.sort_by_key(|name| (rank(name), name.to_lowercase()));
    for directory in &directories {
        for program in PROGRAMS {
            let path = format!("/EFI/{directory}/{}", program.replace("{}", ending));
            if esp.contains(&path)? {
                let known = TITLES.iter().find(|(known, _)| is(directory, known));
                let title = known.map_or(directory.as_str(), |(_, title)| title).to_owned();
                return Ok(Some(Loader { path, title }));
            }
        }
    }
    let rest = [
        ("/EFI/Microsoft/Boot/bootmgfw.efi".to_owned(), "Windows Boot Manager"),
        (format!("/EFI/BOOT/BOOT{}.EFI", ending.to_uppercase()), "Operating system"),
    ];
    for (path, title) in rest {
        if esp.contains(&path)? {
            return Ok(Some(Loader { path, title: title.to_owned() }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use gravure_disk::fat::{FatBuilder, FatOptions, FatTime};
    use gravure_io::MemoryDisk;

    use super::*;

    const BYTES: usize = 40 << 20;

    fn found(files: &[&str], processor: &str) -> Option<(String, String)> {
        let mut builder = FatBuilder::new(FatOptions {
            size_bytes: BYTES as u64,
            sector_bytes: 512,
            hidden_sectors: 0,
            serial: 1,
            label: "ESP".into(),
            time: FatTime::from_unix(1_700_000_000),
        })
        .unwrap();
        let content = b"MZ".to_vec();
        for path in files {
            builder.add_file(path, &content).unwrap();
        }
        let disk = MemoryDisk::from_bytes(vec![0; BYTES]);
        builder.finish().unwrap().write(&disk).unwrap();
        let loader = find(&FatVolume::open(&disk).unwrap(), processor).unwrap();
        loader.map(|loader| (loader.path, loader.title))
    }

    #[test]
    fn loaders_of_distributions_are_found_and_else_the_fallback() {
        let fallback = "EFI/BOOT/BOOTX64.EFI";
        let windows = "EFI/Microsoft/Boot/bootmgfw.efi";
        for (files, processor, expected) in [
            (
                &[fallback, "EFI/debian/shimx64.efi", "EFI/debian/grubx64.efi"][..],
                "x86_64",
                Some(("/EFI/debian/shimx64.efi", "debian")),
            ),
            (&["EFI/fedora/shimx64.efi", windows], "x86_64", Some(("/EFI/fedora/shimx64.efi", "Fedora"))),
            (
                &["EFI/opensuse/shim.efi", "EFI/opensuse/grubx64.efi"],
                "x86_64",
                Some(("/EFI/opensuse/shim.efi", "opensuse-secureboot")),
            ),
            // Arch by GRUB under a name of its own, and by systemd-boot.
            (&["EFI/GRUB/grubx64.efi", fallback], "x86_64", Some(("/EFI/GRUB/grubx64.efi", "GRUB"))),
            (
                &["EFI/systemd/systemd-bootx64.efi", "EFI/Linux/arch.efi", fallback],
                "x86_64",
                Some(("/EFI/systemd/systemd-bootx64.efi", "Linux Boot Manager")),
            ),
            (
                &["EFI/debian/shimaa64.efi", "EFI/debian/shimx64.efi"],
                "aarch64",
                Some(("/EFI/debian/shimaa64.efi", "debian")),
            ),
            (
                &["EFI/debian/shimx64.efi", "EFI/BOOT/BOOTAA64.EFI"],
                "aarch64",
                Some(("/EFI/BOOT/BOOTAA64.EFI", "Operating system")),
            ),
            (
                &[windows, fallback],
                "x86_64",
                Some(("/EFI/Microsoft/Boot/bootmgfw.efi", "Windows Boot Manager")),
            ),
            (&[fallback], "x86_64", Some(("/EFI/BOOT/BOOTX64.EFI", "Operating system"))),
            // Drivers and tools beside it start nothing.
            (&["EFI/tools/shell.efi", "EFI/Dell/x.efi"], "x86_64", None),
            (&["readme.txt"], "x86_64", None),
        ] {
            let expected = expected.map(|(path, title)| (path.to_owned(), title.to_owned()));
            assert_eq!(found(files, processor), expected, "{files:?} for {processor}");
        }
    }

    #[test]
    fn of_several_systems_the_same_one_is_taken_every_time() {
        let one =
            found(&["EFI/ubuntu/shimx64.efi", "EFI/debian/grubx64.efi", "EFI/aaa/grubx64.efi"], "x86_64");
        assert_eq!(one.unwrap().0, "/EFI/debian/grubx64.efi");
        let one = found(&["EFI/zzz/grubx64.efi", "EFI/Mint/grubx64.efi"], "x86_64");
        assert_eq!(one.unwrap(), ("/EFI/Mint/grubx64.efi".to_owned(), "Mint".to_owned()));
    }
}
