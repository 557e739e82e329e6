//! Volumes in files, mounted by the kernel where nobody but the test sees them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gravure_linux::loopdev::{LoopDevice, LoopOptions};
use gravure_linux::mount::{HiddenMount, MountOptions};

use crate::{oracle, skipped};

/// Programs that other tests are just starting have files of the volume open for a moment.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where file systems say what they are, and how.
const MAGICS: [(u64, &[u8], &str); 3] =
    [(0, b"XFSB", "xfs"), (0x438, &[0x53, 0xef], "ext4"), (0x1_0040, b"_BHRfS_M", "btrfs")];

/// An ext, XFS or Btrfs volume in a file, mounted without a place in the tree: other tests start programs in mount namespaces of their own, which
/// would keep a copy of any other mount, and so the volume in use with its log open, after it was unmounted here. Unmounted when dropped.
#[derive(Debug)]
pub struct MountedFile {
    /// Its root, for the test and for programs that it starts.
    pub root: PathBuf,
    mount: Option<(HiddenMount, LoopDevice)>,
}

impl MountedFile {
    /// Mounts `volume` with `options`, as mount(8) takes them after `-o`. Says so loudly and returns `None` where this kernel or user cannot.
    ///
    /// # Panics
    /// When no file system is on it.
    pub fn new(volume: &Path, options: &str) -> Option<Self> {
        let kind = kind(volume).unwrap_or_else(|| panic!("no file system on {}", volume.display()));
        let has = |wanted: &str| options.split(',').any(|option| option == wanted);
        let data = options.split(',').filter(|option| !["ro", "noatime"].contains(option));
        let data = data.collect::<Vec<_>>().join(",");
        let options = MountOptions {
            read_only: has("ro"),
            no_atime: has("noatime"),
            data: &data,
            ..MountOptions::default()
        };
        let of_device =
            LoopOptions { read_only: options.read_only, partitions: false, ..LoopOptions::default() };
        let mounted = LoopDevice::attach(volume, of_device).and_then(|device| {
            let mount = HiddenMount::new(device.path().as_os_str(), kind, options)?;
            Ok((mount, device))
        });
        match mounted {
            Ok((mount, device)) => Some(Self { root: mount.path().to_owned(), mount: Some((mount, device)) }),
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                skipped(&format!("cannot mount: {error}: {}", source.unwrap_or_default()));
                None
            }
        }
    }
}

/// Unmounts what a program mounted at `place`, by FUSE or for others to see; whether that is done. Programs that other tests are just starting have
/// files of the volume open for a moment: that is waited for.
pub fn unmounted(place: &Path) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let done = Command::new("umount").arg(place).stderr(Stdio::null()).status();
        if done.is_ok_and(|status| status.success()) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// An exFAT volume in a file, mounted by a program of others' (FUSE). When it is dropped, everything is in the file.
#[derive(Debug)]
pub struct MountedExfat {
    /// Its root.
    pub root: PathBuf,
    volume: PathBuf,
}

impl MountedExfat {
    /// Mounts `volume` at `root`, a directory that is made. Says so loudly and returns `None` where that cannot be.
    ///
    /// # Panics
    /// When `root` cannot be made.
    pub fn new(volume: &Path, root: &Path) -> Option<Self> {
        let (mut losetup, mut mount) = (oracle("losetup")?, oracle("mount.exfat-fuse")?);
        let made = std::fs::create_dir_all(root);
        assert!(made.is_ok(), "{}: {made:?}", root.display());
        // It mounts devices only; the device goes away by itself once it is unmounted.
        let attached = said(losetup.args(["--find", "--show"]).arg(volume))?;
        let device = attached.trim();
        let mounted = said(mount.arg(device).arg(root));
        said(Command::new("losetup").args(["--detach", device]))?;
        mounted.map(|_| Self { root: root.to_owned(), volume: volume.to_owned() })
    }
}

impl Drop for MountedExfat {
    fn drop(&mut self) {
        let is_unmounted = unmounted(&self.root);
        // The program writes the rest and ends after that, and then the device is flushed into the file and goes.
        let start = Instant::now();
        let is_attached = || {
            let users = Command::new("losetup").arg("-j").arg(&self.volume).output();
            users.is_ok_and(|users| !users.stdout.is_empty())
        };
        let mut is_free = !is_attached();
        while !is_free && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
            is_free = !is_attached();
        }
        assert!(
            is_unmounted && is_free || std::thread::panicking(),
            "{} is still in use",
            self.root.display()
        );
    }
}

/// What a program printed; `None` after a loud skip when it failed.
fn said(command: &mut Command) -> Option<String> {
    match command.output() {
        Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        output => {
            skipped(&format!("{command:?}: {output:?}"));
            None
        }
    }
}

fn kind(volume: &Path) -> Option<&'static str> {
    let file = File::open(volume).ok()?;
    let is_there = |offset: u64, magic: &[u8]| {
        let mut found = vec![0; magic.len()];
        file.read_exact_at(&mut found, offset).is_ok_and(|()| found == magic)
    };
    MAGICS.iter().find(|(offset, magic, _)| is_there(*offset, magic)).map(|(_, _, kind)| *kind)
}

impl Drop for MountedFile {
    fn drop(&mut self) {
        let Some((mount, device)) = self.mount.take() else { return };
        let released = mount.release(device.path(), PATIENCE);
        let detached = device.detach();
        let is_done = released.is_ok() && detached.is_ok();
        assert!(is_done || std::thread::panicking(), "{released:?} {detached:?}");
    }
}
