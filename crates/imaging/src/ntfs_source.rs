//! An unmounted NTFS volume as a source of files: its MFT is read in one pass into a tree, contents come straight from its
//! clusters, decoded by whichever thread wants them.

use std::ops::Range;
use std::path::Path;

use gravure_io::{FileAt, ReadAt};
use gravure_linux::BlockDevice;
use gravure_model::Ctl;
use gravure_ntfs::{Contents, Decoders, ScanGuide, Volume, WofAlgorithm};
use gravure_nttypes::{FileTime, NtName};
use gravure_tree::{NodeId, SourceId, Tree};
use gravure_wim::{Compression, Method};

use crate::directory::{ScanOptions, SecurityMetadata};
use crate::glob::NameCase;
use crate::meter::Meter;
use crate::{CaptureConfig, Error, ErrorKind, Exclusions};

/// Where the name of the file system stands in a boot sector, and the name.
const NAME_OFFSET: u64 = 3;
const NAME: [u8; 8] = *b"NTFS    ";

/// What happens to a volume that was not left in order: marked dirty, with a log to be replayed, hibernated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UncleanVolumes {
    /// It is refused: its files may be older than Windows believes, or half written.
    #[default]
    Refuse,
    /// It is read as it stands.
    Read,
}

/// A volume that was scanned, ready to give the contents of its files.
pub(crate) struct NtfsSource {
    source: Box<dyn ReadAt>,
    volume: Volume,
    contents: Contents,
    /// Directories that are marked case-sensitive, ascending.
    case_sensitive: Vec<NodeId>,
    name: String,
}

impl std::fmt::Debug for NtfsSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NtfsSource").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Opens a partition that is not in use, or a file, for reading.
pub(crate) fn open_volume(path: &Path) -> Result<Box<dyn ReadAt>, Error> {
    use std::os::unix::fs::FileTypeExt;
    let metadata = std::fs::metadata(path).map_err(Error::io("open", path.display()))?;
    if metadata.file_type().is_block_device() {
        // A mounted volume changes under its reader. One that is write-protected cannot be claimed, nor does it change.
        let device = match BlockDevice::open_exclusive(path) {
            Err(gravure_linux::Error::Refused { .. }) => BlockDevice::open_read(path),
            other => other,
        };
        let device = device.map_err(|error| match error.io_kind() {
            std::io::ErrorKind::ResourceBusy => Error::Refused {
                what: format!("reading {}", path.display()),
                why: "it is mounted, or in use otherwise".to_owned(),
            },
            _ => Error::linux(path.display())(error),
        })?;
        return Ok(Box::new(device));
    }
    Ok(Box::new(FileAt::open(path).map_err(Error::io("open", path.display()))?))
}

/// Whether `path` is a partition or a file with an NTFS volume.
pub fn is_ntfs_volume(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let Ok(metadata) = std::fs::metadata(path) else { return false };
    if !metadata.is_file() && !metadata.file_type().is_block_device() {
        return false;
    }
    let mut found = [0; NAME.len()];
    let file = std::fs::File::open(path);
    file.and_then(|file| std::os::unix::fs::FileExt::read_exact_at(&file, &mut found, NAME_OFFSET)).is_ok()
        && found == NAME
}

/// Options under which what Windows makes anew is left out, unless somebody chose what is.
pub(crate) fn without_paging_files(options: &ScanOptions) -> ScanOptions {
    let exclude = options.exclude.clone().or_config(CaptureConfig::windows_default(NameCase::Ignore));
    ScanOptions { exclude, ..options.clone() }
}

/// An error of the format as one of this crate.
pub(crate) fn ntfs_error(name: &str, error: gravure_ntfs::Error) -> Error {
    let kind = match &error {
        gravure_ntfs::Error::Corrupt { .. } => ErrorKind::Integrity,
        // An image as the device may be damaged itself.
        gravure_ntfs::Error::Io { source, .. } => {
            let cause = source.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
            cause.map_or(ErrorKind::Io, Error::kind)
        }
        gravure_ntfs::Error::Unsupported { .. } => ErrorKind::Unsupported,
        gravure_ntfs::Error::Unclean(_) => ErrorKind::Refused,
        _ => ErrorKind::Failed,
    };
    Error::Other { what: name.to_owned(), source: Box::new(error), kind }
}

impl NtfsSource {
    /// Reads the volume at `path`. Contents of the tree refer to `id`.
    pub(crate) fn scan(
        path: &Path,
        id: SourceId,
        options: &ScanOptions,
        meter: &Meter<'_>,
        ctl: &Ctl,
    ) -> Result<(Tree, Self), Error> {
        let name = path.display().to_string();
        let source = open_volume(path)?;
        let (tree, source) = Self::scan_source(source, name, id, options, meter, ctl)?;
        let marked = source.case_sensitive.len();
        if marked > 0 {
            meter.warn(|| {
                format!(
                    "{}: {marked} directories are marked case-sensitive, which an image cannot say of them",
                    source.name
                )
            });
        }
        Ok((tree, source))
    }

    pub(crate) fn scan_source(
        source: Box<dyn ReadAt>,
        name: String,
        id: SourceId,
        options: &ScanOptions,
        meter: &Meter<'_>,
        ctl: &Ctl,
    ) -> Result<(Tree, Self), Error> {
        refuse_others(&*source, &name)?;
        let volume = Volume::open(&*source).map_err(|error| ntfs_error(&name, error))?;
        if let Some(unclean) = volume.state().unclean() {
            match options.unclean {
                UncleanVolumes::Refuse => {
                    let what = format!("reading {name}");
                    return Err(Error::Refused { what, why: format!("the volume is {unclean}") });
                }
                UncleanVolumes::Read => meter.warn(|| format!("{name} is {unclean}; read all the same")),
            }
        }
        let security = options.security;
        let mut guide =
            Guide { exclude: &options.exclude, meter, ctl, path: Vec::new(), security, refused: None };
        let scan = match volume.scan(&*source, id, &mut guide) {
            Err(gravure_ntfs::Error::Stopped) => {
                if let Some(message) = guide.refused {
                    return Err(refused_descriptor(&name, &message));
                }
                ctl.check()?;
                return Err(ntfs_error(&name, gravure_ntfs::Error::Stopped));
            }
            other => other.map_err(|error| ntfs_error(&name, error))?,
        };
        if let Some(message) = guide.refused {
            return Err(refused_descriptor(&name, &message));
        }
        let mut tree = scan.tree;
        if options.security == SecurityMetadata::Leave {
            without_descriptors(&mut tree);
        }
        if let Some(latest) = options.latest_time {
            clamp(&mut tree, FileTime::from_unix(latest, 0));
        }
        let (contents, case_sensitive) = (scan.contents, scan.case_sensitive);
        Ok((tree, Self { source, volume, contents, case_sensitive, name }))
    }

    /// The volume itself.
    pub(crate) fn volume(&self) -> &Volume {
        &self.volume
    }

    /// What it is read from.
    pub(crate) fn device(&self) -> &dyn ReadAt {
        &*self.source
    }

    /// Whether a directory is marked case-sensitive.
    pub(crate) fn is_case_sensitive(&self, node: NodeId) -> bool {
        self.case_sensitive.binary_search(&node).is_ok()
    }

    /// In which form of the overlay filter content `key` is stored, and how many bytes that has.
    pub(crate) fn compressed_form(&self, key: u64) -> Option<(WofAlgorithm, u64)> {
        self.contents.compressed_form(key)
    }

    /// Fills `buf` from byte `pos` of the compressed stream of content `key`.
    pub(crate) fn read_compressed(&self, key: u64, pos: u64, buf: &mut [u8]) -> Result<(), Error> {
        let read = self.contents.read_compressed(&*self.source, key, pos, buf);
        read.map_err(|error| ntfs_error(&self.name, error))
    }

    /// Parts of content `key` that stand nowhere, in bytes.
    pub(crate) fn holes(&self, key: u64) -> Vec<Range<u64>> {
        self.contents.holes(key)
    }

    /// Where content `key` starts on the volume.
    pub(crate) fn position(&self, key: u64) -> u64 {
        self.contents.position(&self.volume, key)
    }

    /// Name of content `key` for messages.
    pub(crate) fn display(&self, key: u64) -> String {
        format!("content at {:#x} of {}", self.position(key), self.name)
    }

    /// Whether content `key` is stored as a WIM of this compression would store it.
    pub(crate) fn is_stored_as(&self, key: u64, compression: Compression) -> bool {
        let method = match compression.method() {
            Method::Xpress => gravure_codec::Method::Xpress,
            Method::Lzx => gravure_codec::Method::Lzx,
            // The overlay filter knows no other.
            _ => return false,
        };
        self.contents.is_stored_as(key, (method, compression.chunk_size()))
    }

    /// Appends the stored bytes of the chunk at plain byte `pos` of such a content; how many they are.
    pub(crate) fn stored_chunk(&self, key: u64, pos: u64, out: &mut Vec<u8>) -> Result<usize, Error> {
        let read = self.contents.stored_chunk(&*self.source, key, pos, out);
        read.map_err(|error| ntfs_error(&self.name, error))
    }

    /// Fills `buf` from byte `pos` of content `key`.
    pub(crate) fn read(
        &self,
        key: u64,
        pos: u64,
        buf: &mut [u8],
        decoders: &mut Decoders,
    ) -> Result<(), Error> {
        let read = self.contents.read(&self.volume, &*self.source, key, pos, buf, decoders);
        read.map_err(|error| ntfs_error(&self.name, error))
    }
}

/// Whether an NTFS volume starts here, by its boot sector.
pub(crate) fn is_ntfs(source: &dyn ReadAt) -> bool {
    let mut found = [0; NAME.len()];
    source.size() > NAME_OFFSET.saturating_add(NAME.len() as u64)
        && source.read_exact_at(NAME_OFFSET, &mut found).is_ok()
        && found == NAME
}

/// A file system other than NTFS is named.
fn refuse_others(source: &dyn ReadAt, name: &str) -> Result<(), Error> {
    let mut found = [0; NAME.len()];
    if source.size() > NAME_OFFSET.saturating_add(NAME.len() as u64) {
        source.read_exact_at(NAME_OFFSET, &mut found).map_err(Error::io("read", name))?;
    }
    if found == NAME {
        return Ok(());
    }
    let recognised = gravure_disk::recognise(&source).unwrap_or_default();
    let recognised: Vec<String> = recognised.iter().map(ToString::to_string).collect();
    let value = match recognised.as_slice() {
        [] => format!("{name}: no NTFS volume"),
        list => format!("{name}: {}", list.join(", ")),
    };
    Err(Error::Unsupported { what: "capture of files from what is no NTFS volume", value })
}

fn refused_descriptor(name: &str, message: &str) -> Error {
    let source = "all security descriptors are to be captured".into();
    Error::Other { what: format!("{name}: {message}"), source, kind: ErrorKind::Integrity }
}

/// Takes all security descriptors out of a tree.
fn without_descriptors(tree: &mut Tree) {
    let nodes: Vec<_> = crate::uses::nodes(tree).collect();
    nodes.into_iter().for_each(|id| tree.node_mut(id).security = None);
    tree.set_security_descriptors(Vec::new());
}

/// As captures of directories do it for reproducible images.
fn clamp(tree: &mut Tree, latest: FileTime) {
    let nodes: Vec<_> = crate::uses::nodes(tree).collect();
    for id in nodes {
        let times = &mut tree.node_mut(id).times;
        times.written = times.written.min(latest);
        times.created = times.created.min(latest);
        times.accessed = times.written;
    }
}

/// Leaves out what is excluded, passes warnings on.
struct Guide<'a> {
    exclude: &'a Exclusions,
    meter: &'a Meter<'a>,
    ctl: &'a Ctl,
    path: Vec<u8>,
    /// What a security descriptor means that cannot be read.
    security: SecurityMetadata,
    /// The first of them.
    refused: Option<String>,
}

impl ScanGuide for Guide<'_> {
    fn keeps(&mut self, path: &[NtName], is_directory: bool) -> bool {
        if self.exclude.is_empty() {
            return true;
        }
        self.path.clear();
        for name in path {
            self.path.push(b'/');
            self.path.extend(name.to_unix());
        }
        !self.exclude.excludes(&self.path, is_directory)
    }

    fn goes_on(&mut self, _: u32, _: u32) -> bool {
        self.refused.is_none() && self.ctl.check().is_ok()
    }

    fn warn(&mut self, message: String) {
        if message.contains("security descriptor") {
            match self.security {
                SecurityMetadata::Keep => {}
                // Nobody asked for it.
                SecurityMetadata::Leave => return,
                SecurityMetadata::Require => {
                    self.refused.get_or_insert(message);
                    return;
                }
            }
        }
        self.meter.skip(|| message);
    }
}
