//! Images of other programs become devices again, so that they can be captured as any device is: images of partclone, folders of
//! Clonezilla and FOG, virtual disks. What is compressed or in pieces is expanded into a scratch file first, as only the used blocks are in
//! it that file is no larger than they are.
//!
//! An image says what somebody kept, not what was there. So a file system whose journal was not replayed when the image was made is
//! refused: what its journal would say is used lies in blocks that the image lacks ([`Expanded::is_partial`]).

mod clonezilla;
mod fog;
mod part;
mod sfdisk;
mod stream;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use gravure_io::{FileAt, WriteAt};
use gravure_model::Ctl;
use gravure_vdisk::VirtualDisk;

use crate::{BlockSource, Error, ErrorKind};

/// What a file or folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportKind {
    /// A WIM: file images.
    Wim,
    /// An image of partclone, compressed or not, in one file or several.
    Partclone,
    /// A folder of Clonezilla.
    Clonezilla,
    /// A folder of FOG.
    Fog,
    /// A virtual disk.
    VirtualDisk(gravure_vdisk::Kind),
    /// A disk or partition byte for byte.
    Raw,
}

impl ImportKind {
    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wim => "files",
            Self::Partclone => "partclone",
            Self::Clonezilla => "Clonezilla",
            Self::Fog => "FOG",
            Self::VirtualDisk(kind) => kind.name(),
            Self::Raw => "raw",
        }
    }

    /// Whether it has to be expanded before it can be read at any place.
    pub fn needs_scratch(self) -> bool {
        matches!(self, Self::Partclone | Self::Clonezilla | Self::Fog)
    }

    /// Looks at what is at `path`.
    pub fn of(path: &Path) -> Result<Self, Error> {
        if path.is_dir() {
            if clonezilla::is_folder(path) {
                return Ok(Self::Clonezilla);
            }
            if fog::is_folder(path) {
                return Ok(Self::Fog);
            }
            let what = "folder without an image of Clonezilla or FOG";
            return Err(Error::Unsupported { what, value: path.display().to_string() });
        }
        if crate::is_wim(path) {
            return Ok(Self::Wim);
        }
        let source = FileAt::open(path).map_err(Error::io("open", path.display()))?;
        let found = gravure_vdisk::Kind::of(&source).map_err(Error::io("read", path.display()))?;
        if let Some(kind) = found {
            return Ok(Self::VirtualDisk(kind));
        }
        if stream::is_partclone(&[path.to_owned()])? { Ok(Self::Partclone) } else { Ok(Self::Raw) }
    }
}

/// What came out of an expansion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// Bytes of the device.
    pub size_bytes: u64,
    /// Unit in which it is addressed.
    pub sector_bytes: u32,
    /// Blocks that were free are not in it: what is there is only as right as the map that was used then.
    pub is_partial: bool,
    /// What people should know.
    pub notes: Vec<String>,
}

/// Expands the image at `path` into `scratch`, which is empty and reads as zeros; it has the size of the device when it is made so
/// long afterwards. Every checksum is checked.
pub fn expand(
    path: &Path,
    kind: ImportKind,
    scratch: &dyn WriteAt,
    ctl: &Ctl,
    progress: &mut dyn FnMut(u64),
) -> Result<Expanded, Error> {
    let mut job = Job { scratch, ctl, progress, done: 0 };
    match kind {
        ImportKind::Partclone => part::expand_alone(path, &mut job),
        ImportKind::Clonezilla => clonezilla::expand(path, &mut job),
        ImportKind::Fog => fog::expand(path, &mut job),
        other => {
            let what = "expansion of an image that can be read as it is";
            Err(Error::Unsupported { what, value: other.name().to_owned() })
        }
    }
}

/// The virtual disk or plain file at `path` as a source.
pub fn open_disk(path: &Path, kind: ImportKind) -> Result<BlockSource, Error> {
    let name = path.display().to_string();
    let ImportKind::VirtualDisk(kind) = kind else { return BlockSource::open(path) };
    let file = FileAt::open(path).map_err(Error::io("open", &name))?;
    let disk = VirtualDisk::open(Arc::new(file), kind).map_err(|error| vdisk_error(&name, error))?;
    let sector_bytes = disk.sector_bytes();
    Ok(BlockSource::new(Box::new(disk), &name, sector_bytes))
}

/// An error of a virtual disk file as one of this crate.
pub fn vdisk_error(name: &str, error: gravure_vdisk::Error) -> Error {
    let kind = match &error {
        gravure_vdisk::Error::Unsupported { .. } => ErrorKind::Unsupported,
        gravure_vdisk::Error::Unclean(_) => ErrorKind::Refused,
        error if error.is_integrity() => ErrorKind::Integrity,
        _ => ErrorKind::Io,
    };
    let error = match error {
        // An error of ours that came through a reader comes out as itself.
        gravure_vdisk::Error::Io { what, offset, source } => match source.downcast::<Error>() {
            Ok(own) => return own,
            Err(source) => gravure_vdisk::Error::Io { what, offset, source },
        },
        error => error,
    };
    Error::Other { what: name.to_owned(), source: error.into(), kind }
}

/// An expansion at work.
struct Job<'a> {
    scratch: &'a dyn WriteAt,
    ctl: &'a Ctl,
    progress: &'a mut dyn FnMut(u64),
    done: u64,
}

impl Job<'_> {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.ctl.check()?;
        // What is zero need not be written; the file stays small.
        if bytes.iter().any(|byte| *byte != 0) {
            self.scratch.write_all_at(offset, bytes).map_err(Error::io("write", "scratch file"))?;
        }
        self.done += bytes.len() as u64;
        (self.progress)(self.done);
        Ok(())
    }
}

/// Text of a small file of a folder.
fn small_text(path: &Path) -> Result<String, Error> {
    const MAX_BYTES: u64 = 1 << 20;
    let len = std::fs::metadata(path).map_err(Error::io("read", path.display()))?.len();
    if len > MAX_BYTES {
        let (what, expected) = (path.display().to_string(), format!("at most {MAX_BYTES} bytes"));
        return Err(Error::Usage { what, expected, found: len.to_string() });
    }
    let bytes = std::fs::read(path).map_err(Error::io("read", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Names of the files in a folder, ascending.
fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let failed = || Error::io("list", dir.display());
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed())? {
        out.push(entry.map_err(failed())?.file_name().to_string_lossy().into_owned());
    }
    out.sort();
    Ok(out)
}

/// A folder that lacks something.
fn incomplete(dir: &Path, what: &str) -> Error {
    Error::NotFound { what: "file", which: format!("{what} in {}", dir.display()) }
}

/// The parts of a file that was split: `name`, or `name.aa`, `name.ab` and so on, or `name.000`.
fn parts_of(dir: &Path, name: &str, all: &[String]) -> Vec<PathBuf> {
    let is_part = |other: &str| {
        let Some(rest) = other.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')) else {
            return false;
        };
        let is_letters = rest.len() >= 2 && rest.bytes().all(|byte| byte.is_ascii_lowercase());
        is_letters && !stream::is_extension(rest)
            || rest.len() == 3 && rest.bytes().all(|byte| byte.is_ascii_digit())
    };
    if all.iter().any(|other| other == name) {
        return vec![dir.join(name)];
    }
    all.iter().filter(|other| is_part(other)).map(|other| dir.join(other)).collect()
}

/// The header of a swap space of `len` bytes, as mkswap writes it: where nothing of it was kept but its name.
fn swap_header(len: u64, uuid: &str, label: &str) -> Vec<u8> {
    const PAGE: usize = 4096;
    let mut out = vec![0; PAGE];
    let pages = u32::try_from(len / PAGE as u64).unwrap_or(u32::MAX);
    out[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    out[1028..1032].copy_from_slice(&pages.saturating_sub(1).to_le_bytes());
    let digits: Vec<u8> = uuid.bytes().filter(u8::is_ascii_hexdigit).collect();
    let value = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
    for (to, pair) in out[1036..1052].iter_mut().zip(digits.chunks_exact(2)) {
        *to = value(pair[0]) << 4 | value(pair[1]);
    }
    let label = &label.as_bytes()[..label.len().min(16)];
    out[1052..1052 + label.len()].copy_from_slice(label);
    out[PAGE - 10..].copy_from_slice(b"SWAPSPACE2");
    out
}

/// Puts the copy of a GPT where it belongs: its header into the last sector.
fn write_backup(copy: &[u8], size: u64, sector: u64, job: &mut Job<'_>) -> Result<(), Error> {
    let step = usize::try_from(sector).unwrap_or(512).max(1);
    let header = copy.chunks(step).rposition(|chunk| chunk.starts_with(b"EFI PART"));
    let missing = || Error::NotFound { what: "copy of the partition table", which: "its header".to_owned() };
    let len = (header.ok_or_else(missing)? + 1) * step;
    let start = size.checked_sub(len as u64).ok_or_else(missing)?;
    job.write(start, &copy[..len.min(copy.len())])
}
