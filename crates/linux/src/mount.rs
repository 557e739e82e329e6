//! Mounting, unmounting and the list of what is mounted (`/proc/self/mountinfo`, proc(5)).

mod hidden;

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::{DeviceNumber, Error};

pub use hidden::{HiddenMount, needs_driver};

/// Largest mount table read. A line is some 100 bytes; ten thousand mounts fit.
const MAX_MOUNTINFO_BYTES: u64 = 1 << 22;

/// How to mount; the default is a plain read-write mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountOptions<'a> {
    /// Nothing may be written.
    pub read_only: bool,
    /// Set-id bits are ignored.
    pub no_suid: bool,
    /// Device nodes cannot be opened.
    pub no_dev: bool,
    /// Nothing can be executed.
    pub no_exec: bool,
    /// Reading leaves access times alone.
    pub no_atime: bool,
    /// Options of the file system itself, e.g. `mode=755` or `data=ordered`.
    pub data: &'a str,
}

impl MountOptions<'_> {
    fn flags(&self) -> MountFlags {
        let table = [
            (self.read_only, MountFlags::RDONLY),
            (self.no_suid, MountFlags::NOSUID),
            (self.no_dev, MountFlags::NODEV),
            (self.no_exec, MountFlags::NOEXEC),
            (self.no_atime, MountFlags::NOATIME),
        ];
        table.iter().filter(|(wanted, _)| *wanted).fold(MountFlags::empty(), |all, (_, flag)| all | *flag)
    }
}

/// Mounts `source` (a device, or a word for file systems without one) of the type `fs_type` on the directory `target`.
pub fn mount(source: &OsStr, target: &Path, fs_type: &str, options: MountOptions<'_>) -> Result<(), Error> {
    let what = "mount";
    let data = CString::new(options.data)
        .map_err(|_| Error::Unsupported { what: "mount option", value: options.data.into() })?;
    rustix::mount::mount(source, target, fs_type, options.flags(), data.as_c_str())
        .map_err(|e| Error::io(what, format!("{} ({fs_type}) on {}", source.display(), target.display()), e))
}

/// Shows the directory or file `source` at `target` too, with everything mounted below it.
pub fn bind(source: &Path, target: &Path) -> Result<(), Error> {
    rustix::mount::mount_bind_recursive(source, target).map_err(Error::on_path("bind-mount on", target))
}

/// Moves a mount, e.g. onto the new root.
pub fn move_to(source: &Path, target: &Path) -> Result<(), Error> {
    rustix::mount::mount_move(source, target).map_err(Error::on_path("move mount to", target))
}

/// Makes a mounted volume read-only; fails with `EBUSY` while a file is open for writing.
pub fn remount_read_only(target: &Path) -> Result<(), Error> {
    rustix::mount::mount_remount(target, MountFlags::RDONLY, c"")
        .map_err(Error::on_path("remount read-only", target))
}

/// Detaches the mounts of this process's namespace from all others: nothing mounted later is seen outside.
pub fn make_all_private() -> Result<(), Error> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(Error::on_path("make private", Path::new("/")))
}

/// Unmounts `target`; `EBUSY` while anything below it is in use. Everything is on the disk when this returns, unless another mount namespace
/// has a copy of the mount, which nobody is told of: see [`HiddenMount`].
pub fn unmount(target: &Path) -> Result<(), Error> {
    rustix::mount::unmount(target, UnmountFlags::NOFOLLOW).map_err(Error::on_path("unmount", target))
}

/// Takes `target` out of the tree at once and unmounts it when its last user is gone. Says nothing about when the data
/// is on the disk: for cleaning up only.
pub fn detach(target: &Path) -> Result<(), Error> {
    rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)
        .map_err(Error::on_path("detach", target))
}

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Device of the volume; major 0 for file systems without one.
    pub device: DeviceNumber,
    /// The directory of the volume that is shown, `/` but for bind mounts.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Mount options, comma-separated.
    pub options: String,
    /// File system type.
    pub fs_type: String,
    /// Device path or word given when mounting.
    pub source: OsString,
}

impl Mount {
    /// Whether this mount forbids writing (the volume itself may be writable elsewhere).
    pub fn is_read_only(&self) -> bool {
        self.options.split(',').any(|option| option == "ro")
    }
}

/// All mounts this process sees, in the order they were made.
pub fn mounts() -> Result<Vec<Mount>, Error> {
    mounts_of(Path::new("/proc/self/mountinfo"))
}

/// The same from another process's file.
pub(crate) fn mounts_of(path: &Path) -> Result<Vec<Mount>, Error> {
    let text = crate::sysfs::read_bounded(path, MAX_MOUNTINFO_BYTES)?;
    text.split(|&b| b == b'\n').filter(|line| !line.is_empty()).map(parse_mountinfo_line).collect()
}

/// Parses one line: `id parent major:minor root target options [tag...] - type source super-options`.
fn parse_mountinfo_line(line: &[u8]) -> Result<Mount, Error> {
    let corrupt = |expected| Error::Corrupt {
        what: "mountinfo line",
        on: "/proc/self/mountinfo".into(),
        expected,
        found: String::from_utf8_lossy(line).into_owned(),
    };
    let mut words = line.split(|&b| b == b' ');
    let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    let device =
        words.nth(2).and_then(parse_device).ok_or_else(|| corrupt("a device number as third word"))?;
    let root = words.next().ok_or_else(|| corrupt("a root"))?;
    let target = words.next().ok_or_else(|| corrupt("a mount point"))?;
    let options = words.next().ok_or_else(|| corrupt("mount options"))?;
    let mut words = words.skip_while(|word| *word != b"-").skip(1);
    let fs_type = words.next().ok_or_else(|| corrupt("a file system type after a lone hyphen"))?;
    let source = words.next().ok_or_else(|| corrupt("a source"))?;
    Ok(Mount {
        device,
        root: PathBuf::from(unescape(root)),
        target: PathBuf::from(unescape(target)),
        options: text(options),
        fs_type: text(fs_type),
        source: unescape(source),
    })
}

/// `major:minor`, as sysfs and mountinfo write it.
pub(crate) fn parse_device(word: &[u8]) -> Option<DeviceNumber> {
    let (major, minor) = std::str::from_utf8(word).ok()?.trim_ascii().split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

/// Undoes the kernel's `\ooo` (space, tab, newline, backslash); anything else stays.
pub(crate) fn unescape(word: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten().and_then(|digits| {
            digits.iter().try_fold(0u16, |value, &digit| {
                (b'0'..=b'7').contains(&digit).then(|| value * 8 + u16::from(digit - b'0'))
            })
        });
        match octal.and_then(|value| u8::try_from(value).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(out)
}

/// Whether two paths are the same after the kernel's escapes, for looking a mount up by target.
pub fn is_mounted_at(target: &Path) -> Result<bool, Error> {
    Ok(mounts()?.iter().any(|mount| mount.target.as_os_str().as_bytes() == target.as_os_str().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_optional_fields_and_escapes() {
        let line = br"36 35 98:0 /mnt1 /mnt/a\040b\134c rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        let mount = parse_mountinfo_line(line).unwrap();
        assert_eq!(mount.device, DeviceNumber { major: 98, minor: 0 });
        assert_eq!(mount.root, Path::new("/mnt1"));
        assert_eq!(mount.target, Path::new(r"/mnt/a b\c"));
        assert_eq!((mount.fs_type.as_str(), mount.source.to_str()), ("ext3", Some("/dev/root")));
        assert!(!mount.is_read_only());
        let bare = parse_mountinfo_line(b"1 1 0:2 / / ro - rootfs none ro").unwrap();
        assert_eq!((bare.fs_type.as_str(), bare.is_read_only()), ("rootfs", true));
    }

    #[test]
    fn names_what_a_broken_line_lacks() {
        for (line, expected) in [
            (&b"36 35 98 / / rw - ext3 x"[..], "a device number as third word"),
            (b"36 35 98:0 / /", "mount options"),
            (b"36 35 98:0 / / rw shared:1 ext3 x", "a file system type after a lone hyphen"),
            (b"36 35 98:0 / / rw - ext3", "a source"),
        ] {
            match parse_mountinfo_line(line).unwrap_err() {
                Error::Corrupt { expected: found, .. } => assert_eq!(found, expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(unescape(br"a\04"), r"a\04");
        assert_eq!(unescape(br"a\777"), r"a\777");
        assert_eq!(unescape(br"\011x\"), "\tx\\");
    }

    #[test]
    fn finds_proc_among_the_mounts() {
        let proc = mounts().unwrap().into_iter().find(|mount| mount.target == Path::new("/proc")).unwrap();
        assert_eq!((proc.fs_type.as_str(), proc.device.major), ("proc", 0));
        assert!(is_mounted_at(Path::new("/proc")).unwrap());
    }
}
