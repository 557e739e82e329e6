//! What lies on this machine: boot files, keys, space, clock.

use std::path::Path;

use gravure_linux::health;
use gravure_model::Timestamp;

use super::Check;
use crate::boot::Shims;
use crate::config::Config;
use crate::keys::{KeyFiles, Keys};

/// Without these nothing boots, and what is missing without each.
const BOOT_FILES: [(&str, &str); 6] = [
    ("vmlinuz", "no machine gets a kernel"),
    ("initramfs.cpio.zst", "no machine gets the payload"),
    ("pxe/shimx64.efi", "UEFI machines cannot start"),
    ("pxe/grubx64.efi", "UEFI machines cannot start"),
    ("pxe/mmx64.efi", "keys cannot be enrolled when shim asks for it"),
    ("pxe/undionly.kpxe", "BIOS machines without iPXE in their ROM cannot start"),
];
/// Below this the next image does not fit.
const LITTLE_SPACE: u64 = 10 << 30;
/// Below this the database stops.
const NO_SPACE: u64 = 256 << 20;
/// 2026-01-01: no server runs this version before it.
const EARLIEST_SECONDS: i64 = 1_767_225_600;

pub(super) fn boot_files(config: &Config) -> Vec<Check> {
    let dir = &config.paths.boot;
    let cure = format!(
        "build them with `cargo xtask payload` and name the place as paths.boot (now {})",
        dir.display()
    );
    let missing = BOOT_FILES.iter().filter(|(name, _)| !dir.join(name).is_file());
    let mut checks: Vec<Check> = missing
        .map(|(name, why)| Check::problem("boot files", format!("{name} is missing: {why}"), cure.clone()))
        .collect();
    if checks.is_empty() {
        checks.push(Check::ok("boot files", format!("all are in {}", dir.display())));
    }
    let signed_by = Shims::load(&dir.join("pxe")).described();
    if !signed_by.is_empty() {
        let found: Vec<String> = signed_by.into_iter().map(|(name, by)| format!("{name}: {by}")).collect();
        checks.push(Check::ok("shim", found.join(", ")));
    }
    let read = |name: &str| std::fs::read(dir.join(name));
    if let (Ok(shim), Ok(grub)) = (read("pxe/shimx64.efi"), read("pxe/grubx64.efi")) {
        checks.push(match gravure_disk::sbat::check(&shim, &grub) {
            Ok(()) => Check::ok("secure boot", "this shim accepts the generation of this GRUB"),
            Err(error) => Check::problem(
                "secure boot",
                format!("machines with Secure Boot will refuse to start: {error}"),
                "take shim and GRUB of one Debian release: `cargo xtask payload --update-lock`",
            ),
        });
    }
    checks
}

pub(super) fn keys(config: &Config) -> Vec<Check> {
    let files = KeyFiles::in_dir(&config.paths.keys);
    let mut checks = match Keys::load(&files) {
        Ok(_) => vec![Check::ok("keys", "plan key, its statement and the certificate authority are read")],
        Err(error) => {
            let cure = "run as the user the server runs as; keys that are lost need a new site, since machines trust the old one";
            vec![Check::problem("keys", error.to_string(), cure)]
        }
    };
    if files.root().exists() {
        let found = format!(
            "{} is on this machine, which needs it only to certify a new plan key",
            files.root().display()
        );
        checks.push(Check::warning("root key", found, "move it to a place off this machine"));
    }
    checks
}

pub(super) fn space(config: &Config) -> Vec<Check> {
    let paths = [("space for images", config.paths.images.as_path())];
    let database = config.paths.database.strip_prefix("sqlite://").and_then(|rest| rest.split('?').next());
    let database =
        database.and_then(|file| Path::new(file).parent()).map(|dir| ("space for the database", dir));
    let mut checks = Vec::new();
    for (name, dir) in paths.into_iter().chain(database) {
        let check = match health::free_bytes(dir) {
            Err(error) => Check::problem(
                name,
                error.to_string(),
                "make the directory, or correct [paths] in gravure.toml",
            ),
            Ok(free) => {
                let found = format!("{} MiB free in {}", free >> 20, dir.display());
                if free < NO_SPACE {
                    Check::problem(name, found, "free some space, or move the directory to a larger disk")
                } else if free < LITTLE_SPACE && name == "space for images" {
                    Check::warning(name, found, "the next image may not fit: free some space")
                } else {
                    Check::ok(name, found)
                }
            }
        };
        checks.push(check);
    }
    checks
}

pub(super) fn clock(config: &Config) -> Vec<Check> {
    let now = Timestamp::now();
    // Written when the site was made: a clock behind it is wrong, whatever anybody says.
    let made =
        std::fs::metadata(KeyFiles::in_dir(&config.paths.keys).authority()).and_then(|meta| meta.modified());
    let made = made.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let made = made.and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(EARLIEST_SECONDS);
    let cure = "set the clock and keep it with an NTP service: payloads take the time from this server, and plans expire";
    let shown =
        jiff::Timestamp::from_microsecond(now.0).map_or_else(|_| now.0.to_string(), |time| time.to_string());
    if now.seconds() < made.max(EARLIEST_SECONDS) {
        return vec![Check::problem("clock", format!("it is {shown} here, before this site was made"), cure)];
    }
    match health::clock_is_kept() {
        Some(true) => vec![Check::ok("clock", format!("it is {shown}, and kept by a time service"))],
        Some(false) => {
            // A virtual machine may get its time from the host without the kernel being told.
            let found = format!("it is {shown}, and no time service has told the kernel that it keeps it");
            vec![Check { cure: Some(cure.to_owned()), ..Check::note("clock", found) }]
        }
        None => vec![Check::note("clock", format!("it is {shown}; the kernel does not say who keeps it"))],
    }
}
