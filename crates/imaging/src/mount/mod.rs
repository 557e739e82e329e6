//! An image shown as a directory of this system, read-only, by FUSE: nothing is unpacked, contents are decoded when they are
//! read.
//!
//! `fuser` speaks to the kernel; it was preferred to `fuse3` and `polyfuse` (async runtimes for what waits for a disk and a
//! processor) and to `fuse-backend-rs` (made for virtual machines): it is threads, mounts without libfuse, and is kept up.
//! [`view`] is the tree as inodes, names and attributes, [`content`] is what is read, [`filesystem`] joins both to `fuser`.
//!
//! **Memory:** decoded chunks in a cache of [`MountOptions::cache_bytes`] (one chunk at least), for each thread a chunk in
//! the making with its stored bytes, at most 32 MiB of pieces that wait for their turn to be hashed, and the tree.

mod content;
mod filesystem;
mod unmount;
mod view;

use std::path::{Path, PathBuf};

use fuser::{Config, MountOption, Session, SessionACL};

use self::content::Contents;
use self::filesystem::ImageFs;
pub use self::unmount::{Unmount, is_mounted, unmount};
use self::view::View;
use crate::directory::{LinkTargets, UnixMetadata};
use crate::{Error, Image};

/// How sources of our mounts start in the list of mounts. Their type is `fuse` when root mounts and `fuse.gravure` when the
/// helper of the FUSE package does.
const SOURCE_PREFIX: &str = "gravure:";

/// How named streams are to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamNames {
    /// Not at all.
    None,
    /// As extended attributes `user.NAME`.
    #[default]
    Xattr,
    /// As `FILE:NAME` beside the file; no listing shows them.
    Windows,
}

/// How an image is mounted.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// How named streams are to be had.
    pub streams: StreamNames,
    /// Whether owners, modes, devices and extended attributes are shown.
    pub unix: UnixMetadata,
    /// Permission bits of what brings none; those an apply would set when `None`.
    pub plain_mode: Option<u16>,
    /// What becomes of links whose target starts at the root of the image.
    pub links: LinkTargets,
    /// Whether other users than the one that mounts may look; permissions are checked in any case.
    pub allow_other: bool,
    /// Threads that answer the kernel; when `None` one for each processor, four at least, as they also wait for disks and
    /// networks.
    pub threads: Option<usize>,
    /// Bytes of decoded chunks kept.
    pub cache_bytes: usize,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            streams: StreamNames::default(),
            unix: UnixMetadata::default(),
            plain_mode: None,
            links: LinkTargets::default(),
            allow_other: false,
            threads: None,
            cache_bytes: 64 << 20,
        }
    }
}

/// Told of everything that could not be read, in words: readers only learn that there was an error.
pub type MountLog = Box<dyn Fn(&str) + Send + Sync>;

/// A mounted image. Dropped, it is unmounted.
pub struct MountedImage {
    session: Session<ImageFs>,
    dir: PathBuf,
}

impl std::fmt::Debug for MountedImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MountedImage").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl MountedImage {
    /// Mounts `image` on the directory `dir`. `name` is shown in the list of mounts. Readers are answered once
    /// [`MountedImage::serve`] runs; until then they wait.
    pub fn new(
        image: &Image,
        name: &str,
        dir: &Path,
        options: &MountOptions,
        log: MountLog,
    ) -> Result<Self, Error> {
        let dir = dir.canonicalize().map_err(Error::io("open directory", dir.display()))?;
        if !dir.is_dir() {
            return Err(Error::Usage {
                what: "mount point".to_owned(),
                expected: "a directory".to_owned(),
                found: dir.display().to_string(),
            });
        }
        if is_mounted(&dir)? {
            return Err(Error::Refused {
                what: format!("mounting on {}", dir.display()),
                why: "an image is mounted there already".to_owned(),
            });
        }
        let threads = options.threads.unwrap_or_else(|| crate::default_threads().max(4)).max(1);
        let contents = Contents::new(image.archives().clone(), options.cache_bytes, threads);
        let base = (options.links == LinkTargets::BelowTarget).then(|| dir.clone());
        let view = View::new(image, options, base);
        view.left_out().iter().for_each(|line| log(line));
        let filesystem = ImageFs::new(view, contents, log);
        let session = Session::new(filesystem, &dir, &config(name, options, threads));
        let session = session.map_err(Error::io("mount on", dir.display()))?;
        Ok(Self { session, dir })
    }

    /// Where the image is mounted, an absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Answers the kernel until somebody unmounts.
    pub fn serve(self) -> Result<(), Error> {
        self.session.run().map_err(Error::io("serve mount on", self.dir.display()))
    }
}

fn config(name: &str, options: &MountOptions, threads: usize) -> Config {
    // Commas separate options in what mount helpers are given.
    let name = format!("{SOURCE_PREFIX}{}", name.replace([',', '\\', '\n'], "_"));
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(name),
        MountOption::Subtype("gravure".to_owned()),
        MountOption::RO,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::DefaultPermissions,
    ];
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(threads);
    config.clone_fd = true;
    config
}
