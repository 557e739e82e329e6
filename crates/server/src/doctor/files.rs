//! What lies on this machine: boot files, keys, space, clock.

use std::path::Path;

use gravure_linux::health;
use gravure_model::Timestamp;

use super::Check;
use crate::boot::Shims;
use crate::config::{Chain, Config};
use crate::keys::{KeyFiles, Keys};
use crate::sbat;

/// Without these nothing boots, the chains that need each, and what is missing without it.
const BOOT_FILES: [(&str, &[Chain], &str); 6] = [
    ("vmlinuz", &[Chain::Grub, Chain::ShimUki, Chain::Uki], "no machine gets a kernel"),
    ("initramfs.cpio.zst", &[Chain::Grub, Chain::ShimUki, Chain::Uki], "no machine gets the payload"),
    ("pxe/shimx64.efi", &[Chain::Grub, Chain::ShimUki], "UEFI machines cannot start"),
    ("pxe/grubx64.efi", &[Chain::Grub], "UEFI machines cannot start"),
    ("pxe/mmx64.efi", &[Chain::Grub, Chain::ShimUki], "keys cannot be enrolled when shim asks for it"),
    (
        "pxe/undionly.kpxe",
        &[Chain::Grub, Chain::ShimUki, Chain::Uki],
        "BIOS machines without iPXE in their ROM cannot start",
    ),
];
/// What the server asks for to hold requests that come all at once (`gravure_bootd::tftp`).
const BUFFER_BYTES: u64 = 4 << 20;
/// Where the kernel keeps what it gives at most.
const BUFFER_LIMIT: &str = "/proc/sys/net/core/rmem_max";
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
    let chain = config.boot.chain;
    let missing = BOOT_FILES.iter().filter(|(name, of, _)| of.contains(&chain) && !dir.join(name).is_file());
    let mut checks: Vec<Check> = missing
        .map(|(name, _, why)| Check::problem("boot files", format!("{name} is missing: {why}"), cure.clone()))
        .collect();
    if checks.is_empty() {
        checks.push(Check::ok("boot files", format!("all are in {}", dir.display())));
    }
    let signed_by = Shims::load(&dir.join("pxe")).described();
    if !signed_by.is_empty() {
        let found: Vec<String> = signed_by.into_iter().map(|(name, by)| format!("{name}: {by}")).collect();
        checks.push(Check::ok("shim", found.join(", ")));
    }
    if chain != Chain::Uki {
        checks.push(match sbat::check(config) {
            Ok(()) => Check::ok("secure boot", "the shim accepts the generation of what it starts"),
            Err(error) => {
                let cure = error.cure().unwrap_or_default();
                Check::problem("secure boot", error.to_string(), cure)
            }
        });
    }
    if chain != Chain::Grub {
        checks.push(signed_image(config));
    }
    checks
}

/// The image that UEFI machines of the chains `shim-uki` and `uki` start.
fn signed_image(config: &Config) -> Check {
    const NAME: &str = "signed image";
    const CURE: &str = "make it with `gravure init --uki --dir SITE`, where the site's Secure Boot key is";
    let path = config.paths.uki.join(crate::secure_boot::IMAGE);
    let changed = |path: &Path| std::fs::metadata(path).and_then(|facts| facts.modified());
    let Ok(made) = changed(&path) else {
        return Check::problem(
            NAME,
            format!("{} is missing: UEFI machines cannot start", path.display()),
            CURE,
        );
    };
    let newer = ["vmlinuz", "initramfs.cpio.zst"].map(|name| config.paths.boot.join(name));
    let newer = newer.iter().find(|part| changed(part).is_ok_and(|changed| changed > made));
    match newer {
        Some(part) => Check::warning(
            NAME,
            format!(
                "{} is older than {}: UEFI machines start the payload of before",
                path.display(),
                part.display()
            ),
            CURE,
        ),
        None => Check::ok(NAME, path.display().to_string()),
    }
}

/// Whether the kernel lets the server hold requests that come all at once.
pub(super) fn buffers() -> Check {
    let text = std::fs::read_to_string(BUFFER_LIMIT);
    judge_buffers(text.ok().and_then(|text| text.trim().parse().ok()))
}

fn judge_buffers(limit: Option<u64>) -> Check {
    const NAME: &str = "receive buffers";
    match limit {
        None => Check::note(NAME, format!("{BUFFER_LIMIT} cannot be read")),
        Some(limit @ ..BUFFER_BYTES) => Check::warning(
            NAME,
            format!(
                "net.core.rmem_max is {limit} bytes: when hundreds of machines start at once, some of their requests are lost"
            ),
            format!(
                "sysctl -w net.core.rmem_max={BUFFER_BYTES}, and to keep it: a line net.core.rmem_max={BUFFER_BYTES} in \
                 /etc/sysctl.d/gravure.conf; then restart the server"
            ),
        ),
        Some(limit) => Check::ok(NAME, format!("net.core.rmem_max is {limit} bytes")),
    }
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

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn small_buffers_are_told_with_the_command_that_makes_them_large() {
        assert_eq!(judge_buffers(Some(4 << 20)).verdict, Verdict::Ok);
        assert_eq!(judge_buffers(None).verdict, Verdict::Note);
        let check = judge_buffers(Some(212_992));
        assert_eq!(check.verdict, Verdict::Warning);
        assert!(check.cure.unwrap().starts_with("sysctl -w net.core.rmem_max=4194304"), "{}", check.found);
    }

    #[test]
    fn each_chain_misses_its_own_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.paths.boot = dir.path().join("boot");
        config.paths.uki = dir.path().join("uki");
        std::fs::create_dir_all(config.paths.boot.join("pxe")).unwrap();
        std::fs::create_dir_all(&config.paths.uki).unwrap();
        let problems = |config: &Config| -> Vec<String> {
            let checks = boot_files(config).into_iter().filter(|check| check.verdict == Verdict::Problem);
            checks
                .map(|check| {
                    check
                        .found
                        .split_once(" is missing")
                        .map_or(check.found.clone(), |(name, _)| name.to_owned())
                })
                .collect()
        };
        let image = config.paths.uki.join("gravure.efi");
        let always = ["vmlinuz", "initramfs.cpio.zst"];
        config.boot.chain = Chain::Grub;
        let expected =
            [&always[..], &["pxe/shimx64.efi", "pxe/grubx64.efi", "pxe/mmx64.efi", "pxe/undionly.kpxe"]]
                .concat();
        assert_eq!(problems(&config), expected);
        config.boot.chain = Chain::Uki;
        let named = image.display().to_string();
        assert_eq!(problems(&config), [&always[..], &["pxe/undionly.kpxe", &named]].concat());
        config.boot.chain = Chain::ShimUki;
        assert!(problems(&config).contains(&"pxe/shimx64.efi".to_owned()));
        // Made, and then left behind by a new payload.
        std::fs::write(&image, "x").unwrap();
        let of = |config: &Config| {
            boot_files(config).into_iter().find(|check| check.name == "signed image").unwrap()
        };
        assert_eq!(of(&config).verdict, Verdict::Ok);
        let kernel = std::fs::File::create(config.paths.boot.join("vmlinuz")).unwrap();
        kernel.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(60)).unwrap();
        assert_eq!(of(&config).verdict, Verdict::Warning);
    }
}
