//! What stands in the distribution part of the initramfs: kernel modules, Debian programs and libraries in one
//! archive, `/init` and the manifest in a second one behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::debian::Stage;
use super::elf;
use super::modules::Modules;

/// Debian programs in the payload: package and path; their libraries follow by themselves.
const PROGRAMS: [(&str, &str); 4] = [
    ("e2fsprogs", "usr/sbin/mke2fs"),
    ("e2fsprogs", "usr/sbin/e2fsck"),
    // Makes file systems of images smaller than their blocks reach.
    ("e2fsprogs", "usr/sbin/resize2fs"),
    // Makes the file system that files of an XFS image go to where its blocks have no place.
    ("xfsprogs", "usr/sbin/mkfs.xfs"),
];

/// Other files of packages.
const FILES: [(&str, &str); 1] = [("e2fsprogs", "etc/mke2fs.conf")];

/// Names programs are called by.
const LINKS: [(&str, &str); 6] = [
    ("bin", "usr/bin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("sbin", "usr/sbin"),
    ("usr/sbin/mkfs.ext4", "mke2fs"),
    ("usr/sbin/fsck.ext4", "e2fsck"),
];

/// Directories PID 1 mounts on or writes to.
const DIRECTORIES: [&str; 9] = ["dev", "etc", "mnt", "proc", "run", "sys", "tmp", "usr/bin", "var"];

/// Directories a library is looked for in, as the dynamic loader does.
const LIBRARY_DIRS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib"];

/// Our own program and the manifest, unpacked over [`system`].
pub(super) fn own(init: &Path, manifest: &[u8]) -> Result<Archive> {
    let mut archive = Archive::default();
    archive.file("init", 0o755, read(init)?)?;
    archive.file("usr/share/gravure/manifest.json", 0o644, manifest.to_vec())?;
    Ok(archive)
}

/// Everything that comes from Debian, with the directories PID 1 needs.
pub(super) fn system(stage: &Stage, modules: &Modules) -> Result<Archive> {
    let mut archive = Archive::default();
    for path in DIRECTORIES {
        archive.directory(path);
    }
    for (path, target) in LINKS {
        archive.link(path, target)?;
    }
    // The kernel opens the console for PID 1 before anything can mount a device file system.
    archive.char_device("dev/console", 0o600, 5, 1)?;
    archive.char_device("dev/null", 0o666, 1, 3)?;
    for (path, bytes) in &modules.files {
        archive.file(&format!("usr/{path}"), 0o644, bytes.clone())?;
    }
    for (package, path) in FILES {
        archive.file(path, 0o644, read(&stage.file(package, path)?)?)?;
    }
    for (path, program) in programs(stage)? {
        archive.file(&path, 0o755, program.bytes)?;
    }
    Ok(archive)
}

/// Names of the packages whose files are in [`system`], beside the kernel's.
pub(super) fn packages(stage: &Stage) -> Result<BTreeSet<String>> {
    let files = FILES.iter().map(|(package, _)| (*package).to_owned());
    Ok(programs(stage)?.into_values().map(|program| program.package).chain(files).collect())
}

/// A program or library of a package.
#[derive(Debug)]
struct Program {
    package: String,
    bytes: Vec<u8>,
}

/// The programs, their loader and their libraries, by path; each library under the name it is asked for by.
fn programs(stage: &Stage) -> Result<BTreeMap<String, Program>> {
    let mut queue: Vec<(String, String, PathBuf)> = Vec::new();
    for (package, path) in PROGRAMS {
        queue.push((path.to_owned(), package.to_owned(), stage.file(package, path)?));
    }
    let mut found: BTreeMap<String, Program> = BTreeMap::new();
    while let Some((path, package, file)) = queue.pop() {
        let bytes = read(&file)?;
        let needs = elf::needs(&bytes).with_context(|| format!("cannot tell what {path} needs"))?;
        found.insert(path.clone(), Program { package, bytes });
        // `/lib64` is a link into `usr/`, so the loader stands where the program asks for it.
        let loader = needs.interpreter.map(|loader| vec![format!("usr{loader}")]);
        let libraries =
            needs.libraries.iter().map(|name| LIBRARY_DIRS.map(|dir| format!("{dir}/{name}")).to_vec());
        for places in loader.into_iter().chain(libraries) {
            // The loader is often listed as a library too; it is at the place the program names.
            let name = places[0].rsplit('/').next().unwrap_or_default();
            let known = |path: &str| path.rsplit('/').next() == Some(name);
            if found.keys().any(|path| known(path)) || queue.iter().any(|(path, ..)| known(path)) {
                continue;
            }
            let item = places.iter().find_map(|place| find(stage, place));
            queue.push(
                item.with_context(|| format!("{path} needs {name}, which no package of the payload brings"))?,
            );
        }
    }
    Ok(found)
}

/// The file `path`, with the package that brings it; links are followed within the package.
fn find(stage: &Stage, path: &str) -> Option<(String, String, PathBuf)> {
    stage.packages.iter().find_map(|package| {
        let dir = stage.package_dir(&package.name);
        let target = std::fs::canonicalize(dir.join(path)).ok()?;
        // A link must not lead out of the package to the file of this machine.
        let inside = std::fs::canonicalize(&dir).ok()?;
        let is_ours = target.starts_with(inside) && target.is_file();
        is_ours.then(|| (path.to_owned(), package.name.clone(), target))
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts this test's own program in place of Debian's, which needs a loader and the C library too.
    fn stage_with_programs(dir: &Path) -> Stage {
        for (package, path) in PROGRAMS {
            let place = dir.join(package).join(path);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::copy(std::env::current_exe().unwrap(), place).unwrap();
        }
        Stage::sample(dir, &["e2fsprogs", "libraries", "xfsprogs"])
    }

    #[test]
    fn a_library_no_package_brings_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = programs(&stage_with_programs(dir.path())).unwrap_err().to_string();
        assert!(
            error.starts_with("usr/sbin/") && error.contains("which no package of the payload brings"),
            "{error}"
        );
    }

    #[test]
    fn libraries_come_under_the_name_they_are_asked_for_by_and_links_stay_inside_packages() {
        let dir = tempfile::tempdir().unwrap();
        let stage = stage_with_programs(dir.path());
        let needs = elf::needs(&std::fs::read(std::env::current_exe().unwrap()).unwrap()).unwrap();
        let lib = dir.path().join("libraries/usr/lib/x86_64-linux-gnu");
        std::fs::create_dir_all(&lib).unwrap();
        // A program that needs nothing more stands for every library.
        let mut still = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        still[0x38..0x3a].fill(0);
        let loader =
            dir.path().join("libraries/usr").join(needs.interpreter.unwrap().trim_start_matches('/'));
        std::fs::create_dir_all(loader.parent().unwrap()).unwrap();
        std::fs::write(&loader, &still).unwrap();
        for name in &needs.libraries {
            std::fs::write(lib.join(format!("{name}.real")), &still).unwrap();
            std::os::unix::fs::symlink(format!("{name}.real"), lib.join(name)).unwrap();
        }
        let found = programs(&stage).unwrap();
        for (package, path) in PROGRAMS {
            assert_eq!(found[path].package, package, "{path}");
        }
        for name in needs.libraries.iter().filter(|name| !name.starts_with("ld-")) {
            assert_eq!(found[&format!("usr/lib/x86_64-linux-gnu/{name}")].package, "libraries");
        }
        assert_eq!(
            packages(&stage).unwrap().into_iter().collect::<Vec<_>>(),
            ["e2fsprogs", "libraries", "xfsprogs"]
        );

        let libc = lib.join(needs.libraries.iter().find(|name| name.starts_with("libc.so")).unwrap());
        std::fs::remove_file(&libc).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &libc).unwrap();
        let error = programs(&stage).unwrap_err().to_string();
        assert!(error.contains("libc.so"), "{error}");
    }
}
