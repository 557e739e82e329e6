//! Taking a mounted image away again, from any process.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use gravure_linux::{mount, process};

use super::SOURCE_PREFIX;
use crate::Error;

/// When a mount goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unmount {
    /// Now; refused while anybody uses it.
    #[default]
    Unused,
    /// Now for whoever comes, and for good when the last user is gone.
    Lazy,
}

/// Whether an image is mounted on the directory `dir`.
pub fn is_mounted(dir: &Path) -> Result<bool, Error> {
    let dir = absolute(dir)?;
    let mounts = mount::mounts().map_err(Error::linux("list of mounts"))?;
    // The last one on a directory is the one that is seen.
    let last = mounts.iter().rev().find(|mount| mount.target == dir);
    Ok(last.is_some_and(|mount| {
        matches!(mount.fs_type.as_str(), "fuse" | "fuse.gravure")
            && mount.source.as_bytes().starts_with(SOURCE_PREFIX.as_bytes())
    }))
}

/// Unmounts the image on the directory `dir`. Works on what a killed process left, too.
pub fn unmount(dir: &Path, when: Unmount) -> Result<(), Error> {
    if !is_mounted(dir)? {
        return Err(Error::NotFound { what: "mounted image", which: format!("on {}", dir.display()) });
    }
    let dir = absolute(dir)?;
    if !process::is_root() {
        return by_helper(&dir, when);
    }
    let done = match when {
        Unmount::Unused => mount::unmount(&dir),
        Unmount::Lazy => mount::detach(&dir),
    };
    done.map_err(|error| match error.io_kind() {
        io::ErrorKind::ResourceBusy => busy(&dir),
        _ => Error::linux(dir.display())(error),
    })
}

/// Only the helper of the FUSE package may unmount for other users than root.
fn by_helper(dir: &Path, when: Unmount) -> Result<(), Error> {
    let program = "fusermount3";
    let mut command = Command::new(program);
    command.arg("-u");
    if when == Unmount::Lazy {
        command.arg("-z");
    }
    let output = command.arg("--").arg(dir).output().map_err(Error::io("run", program))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    if text.contains("busy") {
        return Err(busy(dir));
    }
    Err(Error::Program { program: program.to_owned(), status: output.status.to_string(), output: text })
}

fn busy(dir: &Path) -> Error {
    let what = format!("unmounting {}", dir.display());
    Error::Refused { what, why: "a program uses a file or directory in it".to_owned() }
}

/// The path as the list of mounts has it. The directory itself is not looked at: without the process that serves it that
/// fails, and it is to be unmounted all the same.
fn absolute(dir: &Path) -> Result<PathBuf, Error> {
    if let Ok(found) = dir.canonicalize() {
        return Ok(found);
    }
    let (parent, name) = match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) if parent.as_os_str().is_empty() => (Path::new("."), name),
        (Some(parent), Some(name)) => (parent, name),
        _ => return Ok(dir.to_owned()),
    };
    let parent = parent.canonicalize().map_err(Error::io("find the absolute path of", dir.display()))?;
    Ok(parent.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn only_mounts_of_images_are_unmounted() {
        let temp = tempfile::tempdir().unwrap();
        for dir in [temp.path(), Path::new("/proc"), &temp.path().join("nothing")] {
            assert!(!is_mounted(dir).unwrap(), "{}", dir.display());
            let error = unmount(dir, Unmount::Unused).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains(&dir.display().to_string()), "{error}");
        }
    }
}
