//! What stands in the distribution part of the initramfs: kernel modules, Debian programs and libraries in one
//! archive, `/init` and the manifest in a second one behind it.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::debian::Stage;
use super::elf;
use super::modules::Modules;

/// Debian programs in the payload: package and path; their libraries follow by themselves.
const PROGRAMS: [(&str, &str); 2] = [("e2fsprogs", "usr/sbin/mke2fs"), ("e2fsprogs", "usr/sbin/e2fsck")];

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
    add_programs(stage, &mut archive)?;
    Ok(archive)
}

/// Adds the programs, their loader and their libraries, each library under the name it is asked for by.
fn add_programs(stage: &Stage, archive: &mut Archive) -> Result<()> {
    let mut queue = VecDeque::new();
    for (package, path) in PROGRAMS {
        queue.push_back((path.to_owned(), stage.file(package, path)?));
    }
    let mut seen: BTreeSet<String> = BTreeSet::new();
    while let Some((path, file)) = queue.pop_front() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let bytes = read(&file)?;
        let needs = elf::needs(&bytes).with_context(|| format!("cannot tell what {path} needs"))?;
        archive.file(&path, 0o755, bytes)?;
        if let Some(loader) = needs.interpreter {
            // `/lib64` is a link into `usr/`, so the loader stands where the program asks for it.
            let inside = format!("usr{loader}");
            let found = find(stage, &inside).with_context(|| format!("{path} needs the loader {loader}"))?;
            queue.push_back((inside, found));
        }
        for library in needs.libraries {
            // The loader itself is often listed; it is at the place the program names.
            if seen
                .iter()
                .chain(queue.iter().map(|(path, _)| path))
                .any(|path| path.ends_with(&format!("/{library}")))
            {
                continue;
            }
            let places = LIBRARY_DIRS.map(|dir| format!("{dir}/{library}"));
            let Some((inside, found)) =
                places.into_iter().find_map(|place| Some((place.clone(), find(stage, &place)?)))
            else {
                bail!("{path} needs {library}, which no package of the payload brings");
            };
            queue.push_back((inside, found));
        }
    }
    Ok(())
}

/// The file `path` in whichever package brings it, links followed within the package.
fn find(stage: &Stage, path: &str) -> Option<PathBuf> {
    stage.package_dirs().find_map(|dir| {
        let target = std::fs::canonicalize(dir.join(path)).ok()?;
        // A link must not lead out of the package to the file of this machine.
        let inside = std::fs::canonicalize(&dir).ok()?;
        (target.starts_with(inside) && target.is_file()).then_some(target)
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
