//! Conditions that set-up, demo and tests need; each failure says what is wrong and what to do.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::console::{self, Remedy, size};
use crate::process;

/// Free bytes the build needs below the target directory: two profiles of everything, images and VM disks.
const TARGET_BYTES: u64 = 12_000_000_000;
/// Free bytes installed packages need.
const SYSTEM_BYTES: u64 = 1_500_000_000;

/// Root is needed for apt, network namespaces and for images with owners and devices.
pub(super) fn root() -> Result<()> {
    let uid = std::fs::metadata("/proc/self").context("cannot read /proc/self")?.uid();
    if uid != 0 {
        bail!(Remedy::new(
            format!("root is needed to install packages and to make network namespaces (this is user {uid})"),
            "run the same command as root, for instance with `sudo -E env PATH=\"$PATH\" cargo xtask ...`",
        ));
    }
    Ok(())
}

/// apt must be there; another Debian release than 12 or 13 is only remarked upon.
pub(super) fn debian() -> Result<()> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |key: &str| {
        let value = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or("unknown").trim_matches('"').to_owned()
    };
    for program in ["apt-get", "dpkg-query"] {
        if process::find(program).is_none() {
            bail!(Remedy::new(
                format!("{program} is missing; this system is {}", field("PRETTY_NAME")),
                "use Debian 12 or 13 (a container or a virtual machine will do), or install the packages of \
                 `cargo xtask setup --list` yourself",
            ));
        }
    }
    if field("ID") != "debian" || !["12", "13"].contains(&field("VERSION_ID").as_str()) {
        console::warning(format!("tried on Debian 12 and 13 only; this is {}", field("PRETTY_NAME")));
    }
    Ok(())
}

/// Space for the build and for packages.
pub(super) fn space(target: &Path) -> Result<()> {
    enough(target, TARGET_BYTES, "set CARGO_TARGET_DIR to a larger file system, or make room")?;
    enough(Path::new("/var"), SYSTEM_BYTES, "make room, for instance with `apt-get clean`")
}

fn enough(path: &Path, needed: u64, remedy: &str) -> Result<()> {
    let free = free_space(path)?;
    // What an earlier build left in the target directory is part of the need, so a full second run passes too.
    let used = if path.join("CACHEDIR.TAG").exists() { needed / 2 } else { 0 };
    if free < needed - used {
        let text = format!("{} free at {}, {} needed", size(free), path.display(), size(needed - used));
        bail!(Remedy::new(text, remedy));
    }
    Ok(())
}

/// Free bytes on the file system that holds `path` or its nearest parent that exists.
fn free_space(path: &Path) -> Result<u64> {
    let there = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let printed = process::output(Command::new("df").args(["--output=avail", "-B1"]).arg(there))?;
    let text = String::from_utf8_lossy(&printed);
    let number = text.lines().nth(1).map(str::trim).unwrap_or_default();
    number.parse().with_context(|| format!("df printed {text:?}, expected a number of bytes"))
}

/// Programs that must work, with the package that brings each: a broken installation is told early.
const PROGRAMS: [(&str, &str); 9] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
    ("ip", "iproute2"),
    ("setpriv", "util-linux"),
    ("tcpdump", "tcpdump"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("mmdebstrap", "mmdebstrap"),
    ("wimlib-imagex", "wimtools"),
];

/// Checks that the installed packages brought their programs.
pub(super) fn programs() -> Result<()> {
    for (program, package) in PROGRAMS {
        if process::find(program).is_none() {
            bail!(Remedy::new(
                format!("{program} is missing although its package is installed"),
                format!("apt-get install --reinstall {package}"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_told_with_both_figures() {
        let error = enough(Path::new("/"), u64::MAX, "make room").unwrap_err().to_string();
        assert!(error.contains("needed\n  remedy: make room"), "{error}");
        assert!(free_space(Path::new("/no/such/directory")).unwrap() > 0);
    }
}
