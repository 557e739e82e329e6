//! Which Debian packages the payload is made of, fetched through the private apt root and unpacked side by side.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gravure_debian::{AptRoot, Candidate, Lock, LockedPackage, PackageFile, Progress};
use serde::{Deserialize, Serialize};

use crate::console::{self, size};
use crate::{process, workspace};

/// Debian 13: GRUB 2.12 speaks HTTP, kernel 6.12 has ntfs3, and all is signed.
pub(super) const SUITE: &str = "trixie";

/// The package that depends on the newest kernel image.
const KERNEL: &str = "linux-image-amd64";

/// Boot files; their dependencies are for installed systems and are not needed.
const BOOT: [&str; 5] =
    ["grub-efi-amd64-signed", "ipxe", "shim-helpers-amd64-signed", "shim-signed", "systemd-boot-efi"];

/// Programs that run in the payload, taken with the libraries they depend on.
const PROGRAMS: [&str; 1] = ["e2fsprogs"];

/// The same where a package depends on much that its other programs need: the libraries of the one that is wanted are named here.
const PROGRAM_ALONE: [&str; 3] = ["xfsprogs", "libinih1", "liburcu8t64"];

/// Package lists younger than this are good enough; a package that has gone meanwhile makes us fetch them again.
const LIST_AGE: Duration = Duration::from_secs(24 * 3600);

/// Unpacked packages, each in a directory of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stage {
    #[serde(skip)]
    dir: PathBuf,
    /// Text of the lock file this stage was made with; another text makes another stage.
    lock: String,
    /// What was taken, by name.
    pub(super) packages: Vec<LockedPackage>,
    /// Where it differs from the lock file.
    differences: Vec<String>,
}

/// The kernel of a stage.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Package it comes from.
    pub(super) package: String,
    /// As `uname -r` says it.
    pub(super) release: String,
    /// The signed image.
    pub(super) image: PathBuf,
    /// `usr/lib/modules/<release>` with the lists of depmod.
    pub(super) modules: PathBuf,
}

/// Where the lock file lies.
fn lock_path() -> PathBuf {
    workspace::root().join("pxe/payload.lock")
}

/// Brings the packages below `dir`, from the last run when nothing changed.
pub(super) fn stage(dir: &Path, update_lock: bool, force: bool) -> Result<Stage> {
    let lock_text = std::fs::read_to_string(lock_path()).unwrap_or_default();
    let stamp = dir.join("stage.json");
    let last = read_stage(&stamp).filter(|stage| stage.lock == lock_text && !update_lock && !force);
    if let Some(stage) = last {
        report(&stage.differences);
        return Ok(Stage { dir: dir.to_owned(), ..stage });
    }
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;

    let old = Lock::read(&lock_path())?;
    let pinned = old.as_ref().filter(|_| !update_lock);
    let files = fetch(pinned)?;
    for file in &files {
        file.extract(&dir.join(&file.candidate.name))?;
    }
    let taken = Lock::of(SUITE, files.iter().map(|file| &file.candidate));
    let mut differences = Vec::new();
    if update_lock || old.is_none() {
        taken.write(&lock_path())?;
        console::note(format!("wrote {} with {} packages", lock_path().display(), taken.packages.len()));
    } else if let Some(old) = old {
        differences = old.differences(&taken).iter().map(ToString::to_string).collect();
        report(&differences);
    }
    let lock = std::fs::read_to_string(lock_path()).unwrap_or_default();
    let stage = Stage { dir: dir.to_owned(), lock, packages: taken.packages, differences };
    depmod(&stage.kernel()?)?;
    let text = serde_json::to_string_pretty(&stage).context("cannot write down the stage")?;
    std::fs::write(&stamp, text).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(stage)
}

fn read_stage(stamp: &Path) -> Option<Stage> {
    serde_json::from_str(&std::fs::read_to_string(stamp).ok()?).ok()
}

fn report(differences: &[String]) {
    for difference in differences {
        console::warning(format!("payload.lock: {difference}"));
    }
    if !differences.is_empty() {
        console::note(
            "signatures were verified; `cargo xtask payload --update-lock` records the new versions",
        );
    }
}

/// Downloads everything; when a package has left the archive since the lists were fetched, once more with new lists.
fn fetch(lock: Option<&Lock>) -> Result<Vec<PackageFile>> {
    let root = AptRoot::prepare(&AptRoot::default_cache_dir(), SUITE)
        .context("cannot prepare the private apt root")?;
    root.update(LIST_AGE, &mut show)?;
    let wanted = resolve(&root, lock)?;
    match root.download(&wanted, &mut show) {
        Ok(files) => Ok(files),
        Err(error) => {
            console::note(format!("{error}; trying again with new package lists"));
            root.update(Duration::ZERO, &mut show)?;
            Ok(root.download(&resolve(&root, lock)?, &mut show)?)
        }
    }
}

fn resolve(root: &AptRoot, lock: Option<&Lock>) -> Result<Vec<Candidate>> {
    let meta = root.candidates(&[KERNEL], lock)?;
    let image = meta.first().and_then(|candidate| kernel_image(&candidate.depends));
    let image = image.with_context(|| format!("{KERNEL} depends on no linux-image package"))?;
    let mut names: Vec<String> = root.closure(&PROGRAMS)?;
    names.extend([KERNEL.to_owned(), image]);
    names.extend(BOOT.map(str::to_owned));
    names.extend(PROGRAM_ALONE.map(str::to_owned));
    names.sort();
    names.dedup();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(root.candidates(&names, lock)?)
}

/// The image package in `linux-image-6.12.1+deb13-amd64 (= 6.12.1-1), other`.
fn kernel_image(depends: &str) -> Option<String> {
    let names = depends.split(',').filter_map(|part| part.split_whitespace().next());
    names.into_iter().find(|name| name.starts_with("linux-image-")).map(str::to_owned)
}

fn show(progress: Progress<'_>) {
    match progress {
        Progress::Refreshing => console::note("fetching and verifying the package lists"),
        Progress::Downloading { name, bytes, number, count } => {
            console::note(format!("[{number}/{count}] {name}, {}", size(bytes)));
        }
        _ => {}
    }
}

/// The kernel package brings no module lists; its installation script would make them.
fn depmod(kernel: &Kernel) -> Result<()> {
    let base = kernel.modules.ancestors().nth(3).context("modules lie outside of lib/modules")?;
    process::output(process::tool("depmod")?.arg("--basedir").arg(base).arg(&kernel.release)).map(drop)
}

impl Stage {
    /// A stage of the named packages in `dir`, which the test fills.
    #[cfg(test)]
    pub(super) fn sample(dir: &Path, names: &[&str]) -> Self {
        let packages = names.iter().map(|name| LockedPackage {
            name: (*name).to_owned(),
            version: "1".to_owned(),
            sha256: String::new(),
            source: format!("{name}=1"),
        });
        let (lock, differences) = Default::default();
        Self { dir: dir.to_owned(), lock, packages: packages.collect(), differences }
    }

    /// Directory with the files of `package`.
    pub(super) fn package_dir(&self, package: &str) -> PathBuf {
        self.dir.join(package)
    }

    /// The file `path` of `package`.
    pub(super) fn file(&self, package: &str, path: &str) -> Result<PathBuf> {
        let full = self.package_dir(package).join(path);
        if !full.is_file() {
            bail!("package {package} has no file {path}");
        }
        Ok(full)
    }

    /// The kernel among the packages.
    pub(super) fn kernel(&self) -> Result<Kernel> {
        let mut found = self.packages.iter().filter_map(|package| {
            let release = package.name.strip_prefix("linux-image-")?;
            release.starts_with(|c: char| c.is_ascii_digit()).then_some((package.name.as_str(), release))
        });
        let (package, release) = found.next().context("no kernel image among the packages")?;
        let image = self.file(package, &format!("boot/vmlinuz-{release}"))?;
        let modules = self.package_dir(package).join("usr/lib/modules").join(release);
        if !modules.is_dir() {
            bail!("package {package} has no modules for {release}");
        }
        Ok(Kernel { package: package.to_owned(), release: release.to_owned(), image, modules })
    }

    /// Seconds since 1970 for everything in the initramfs: `SOURCE_DATE_EPOCH`, else the date of the kernel package.
    pub(super) fn timestamp(&self) -> u64 {
        let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
        given.unwrap_or_else(|| {
            let modified = self.kernel().ok().and_then(|k| std::fs::metadata(k.image).ok()?.modified().ok());
            let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            since.map_or(0, |since| since.as_secs())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_image_is_read_from_the_dependencies() {
        let cases = [
            ("linux-image-6.12.1+deb13-amd64 (= 6.12.1-1)", Some("linux-image-6.12.1+deb13-amd64")),
            ("kmod, linux-image-6.1-amd64", Some("linux-image-6.1-amd64")),
            ("kmod | initramfs-tools", None),
        ];
        for (depends, expected) in cases {
            assert_eq!(kernel_image(depends).as_deref(), expected);
        }
    }
}
