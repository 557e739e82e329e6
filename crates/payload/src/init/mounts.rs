//! The kernel's file systems.

use std::ffi::OsStr;
use std::path::Path;

use gravure_linux::mount::{self, MountOptions};

use crate::files::{self, chain};

/// Type, place, options, and whether its absence is worth a word.
const MOUNTS: [(&str, &str, &str, bool); 6] = [
    ("proc", "/proc", "", true),
    ("sysfs", "/sys", "", true),
    ("devtmpfs", "/dev", "mode=755", true),
    ("tmpfs", "/run", "mode=755", true),
    ("tmpfs", "/tmp", "mode=1777", true),
    ("efivarfs", gravure_linux::efivars::EFIVARS, "", false),
];

/// Mounts everything that is not mounted yet; gives a line for each that cannot be.
pub(super) fn mount_all() -> Vec<String> {
    let mut problems = Vec::new();
    for (kind, place, data, needed) in MOUNTS {
        if let Err(error) = mount_one(kind, Path::new(place), data)
            && needed
        {
            problems.push(error);
        }
    }
    if let Err(error) = std::fs::create_dir_all(files::RUN_DIR) {
        problems.push(format!("{}: {error}", files::RUN_DIR));
    }
    problems
}

/// The firmware's variables, once their driver is loaded. BIOS machines have no place to mount them on.
pub(super) fn mount_firmware_variables() -> Option<String> {
    let place = Path::new(gravure_linux::efivars::EFIVARS);
    if !place.is_dir() || mount::is_mounted_at(place).unwrap_or(false) {
        return None;
    }
    mount_one("efivarfs", place, "").err()
}

fn mount_one(kind: &str, place: &Path, data: &str) -> Result<(), String> {
    // The kernel may have mounted /dev itself (CONFIG_DEVTMPFS_MOUNT).
    if mount::is_mounted_at(place).unwrap_or(false) {
        return Ok(());
    }
    // Absent on BIOS machines: sysfs makes no such directory, and nobody else can.
    let _ = std::fs::create_dir_all(place);
    let options = MountOptions {
        no_suid: true,
        no_exec: kind != "devtmpfs" && kind != "tmpfs",
        data,
        ..MountOptions::default()
    };
    mount::mount(OsStr::new(kind), place, kind, options).map_err(|error| chain(&error))
}
