//! Partitions that are laid out anew, file by file, out of an image of their blocks: NTFS where there is no room for its blocks or its
//! sectors have another size, FAT where sectors have, XFS where there is no room (`xfs.rs`). Of ext2/3/4 and Btrfs that have no room as many
//! blocks are restored as fit, the others are moved (`shrink.rs`, `btrfs.rs`). All other partitions of a disk are restored as they are.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use gravure_disk::fat::{FatBuilder, FatImage, FatOptions, FatTime, FatVolume};
use gravure_fsmap::Kind;
use gravure_io::{ReadAt, Window, WriteAt};
use gravure_model::Ctl;
use gravure_model::event::Observer;

use super::btrfs::BtrfsSource;
use super::xfs::XfsSource;
use super::{disk_error, shrink};
use crate::block::apply::{BlockApplyOptions, BlockVerify};
use crate::block::at::BlockImageAt;
use crate::meter::{Context, Meter};
use crate::volume::{PartOf, RemakeOptions, SourceVolume, VolumeDevice, with_spare_bytes};
use crate::{Error, ErrorKind};

/// Files and directories of a FAT volume at most: a loop of directories ends somewhere.
const MAX_FAT_ENTRIES: usize = 1 << 20;

/// A partition of an image.
pub(super) type Volume = Window<Arc<BlockImageAt>>;

/// A volume as its files.
#[derive(Debug)]
pub(super) enum Files {
    Ntfs(Box<SourceVolume>),
    Fat(Volume),
    /// Not files, but blocks that can be moved, of so many bytes.
    Ext(Volume, u32),
    Xfs(Box<XfsSource>),
    /// Likewise blocks.
    Btrfs(Box<BtrfsSource>),
}

/// A partition that is laid out anew.
#[derive(Debug)]
pub(super) struct Anew {
    pub(super) number: u32,
    pub(super) files: Files,
    /// Why it cannot be restored block by block.
    pub(super) why: String,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) written_bytes: u64,
    pub(crate) verified_bytes: u64,
    pub(crate) warnings: Vec<String>,
    pub(crate) skipped: u64,
    pub(crate) notes: Vec<String>,
}

/// Name of a partition, or of the one volume, in messages.
pub(super) fn which(number: u32) -> String {
    match number {
        0 => "the volume".to_owned(),
        number => format!("partition {number}"),
    }
}

impl Files {
    /// Reads the files of the volume in `range` of an image.
    pub(super) fn open(
        image: &Arc<BlockImageAt>,
        number: u32,
        range: &Range<u64>,
        kind: Kind,
        ctl: &Ctl,
    ) -> Result<Self, Error> {
        let volume = Window::new(Arc::clone(image), range.start, range.end.saturating_sub(range.start));
        let name = format!("{} of {}", which(number), image.image().name());
        match kind {
            Kind::Ntfs => Ok(Self::Ntfs(Box::new(SourceVolume::open(Box::new(volume), name, ctl)?))),
            Kind::Fat16 | Kind::Fat32 => Ok(Self::Fat(volume)),
            Kind::Ext2 | Kind::Ext3 | Kind::Ext4 => {
                let probe = gravure_fsmap::probe(&volume).map_err(|error| Error::Other {
                    what: name,
                    source: error.into(),
                    kind: ErrorKind::Integrity,
                })?;
                Ok(Self::Ext(volume, probe.block_size.unwrap_or(1024)))
            }
            Kind::Xfs => Ok(Self::Xfs(Box::new(XfsSource::open(volume, name, ctl)?))),
            Kind::Btrfs => Ok(Self::Btrfs(Box::new(BtrfsSource::open(volume, name, ctl)?))),
            other => Err(Error::Unsupported {
                what: "laying a volume out anew",
                value: format!("{} on {name}", other.name()),
            }),
        }
    }

    /// Bytes that a partition for them has at least.
    pub(super) fn least_bytes(&self, sector_bytes: u32) -> Result<u64, Error> {
        match self {
            Self::Ntfs(volume) => volume.least_bytes(sector_bytes),
            // A system partition: what a firmware finds on it is not worth a risk.
            Self::Fat(volume) => with_fat(volume, volume.size(), sector_bytes, 0, |_| Ok(volume.size())),
            Self::Ext(volume, block) => shrink::least_bytes(volume, *block).map(with_spare_bytes),
            Self::Xfs(source) => source.least_bytes(sector_bytes),
            Self::Btrfs(source) => source.needs_means().map(|()| source.least_bytes()),
        }
    }

    /// The same where it is known without the means to make them smaller.
    pub(super) fn judged_bytes(&self) -> Option<u64> {
        match self {
            Self::Btrfs(source) => Some(source.least_bytes()),
            _ => None,
        }
    }

    /// Whether blocks are restored, too, as many as fit.
    pub(super) fn keeps_blocks(&self) -> bool {
        matches!(self, Self::Ext(..) | Self::Btrfs(_))
    }
}

impl Anew {
    /// One sentence on it.
    pub(super) fn note(&self) -> String {
        let (name, why) = (which(self.number), &self.why);
        let (kind, not_kept) = match self.files {
            Files::Ntfs(_) => ("NTFS", "page files, shadow copies and the change journal are not kept"),
            Files::Fat(_) => ("FAT", "times and attributes of files are not kept"),
            Files::Xfs(_) => ("XFS", "blocks that files shared are theirs alone now"),
            Files::Ext(..) => return format!("{name}: ext made smaller by resize2fs, as {why}"),
            Files::Btrfs(_) => return format!("{name}: Btrfs made smaller by the kernel, as {why}"),
        };
        format!("{name}: {kind} laid out anew, file by file, as {why}; {not_kept}")
    }

    /// Makes `range` of `device` a volume with the files.
    pub(super) fn write(
        &self,
        device: &dyn VolumeDevice,
        range: &Range<u64>,
        options: &BlockApplyOptions,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<Outcome, Error> {
        let part = PartOf::new(device, range, &which(self.number));
        let is_verified = options.verify == BlockVerify::Full;
        match &self.files {
            Files::Ntfs(volume) => {
                let how = RemakeOptions { stage: &options.stage, threads: options.threads, is_verified };
                let report = volume.lay(&part, how, ctl, observer)?;
                let name = which(self.number);
                let lost =
                    |loss: &gravure_tree::Loss| format!("{name}: {} {} not kept", loss.count, loss.what);
                Ok(Outcome {
                    written_bytes: report.written_bytes,
                    verified_bytes: report.verified_bytes,
                    warnings: report.warnings,
                    skipped: report.skipped,
                    notes: report.losses.iter().map(lost).collect(),
                })
            }
            Files::Fat(volume) => {
                let sector = part.sector_bytes();
                let hidden = part.first_byte() / u64::from(sector);
                let name = part.name();
                part.discard(0..part.size()).map_err(Error::io("discard", name))?;
                let used = with_fat(volume, part.size(), sector, hidden, |image| {
                    image.write(&part).map_err(disk_error(name))?;
                    if is_verified {
                        part.drop_cache()?;
                        image.verify(&part).map_err(disk_error(name))?;
                    }
                    Ok(image.used_bytes())
                })?;
                let verified_bytes = if is_verified { used } else { 0 };
                Ok(Outcome { written_bytes: used, verified_bytes, ..Outcome::default() })
            }
            Files::Xfs(source) => {
                let context = Context { ctl, observer, threads: 1 };
                let meter = Meter::start(&context, &options.stage);
                let outcome = source.write(&part, is_verified, &meter, ctl)?;
                let totals = meter.finish();
                Ok(Outcome { warnings: totals.warnings, skipped: totals.skipped, ..outcome })
            }
            Files::Ext(volume, block) => {
                let moved = shrink::shrink(&part, volume, *block, is_verified, ctl)?;
                let verified_bytes = if is_verified { moved } else { 0 };
                Ok(Outcome { written_bytes: moved, verified_bytes, ..Outcome::default() })
            }
            Files::Btrfs(source) => {
                let moved = source.shrink(&part, is_verified, ctl)?;
                let verified_bytes = if is_verified { moved } else { 0 };
                Ok(Outcome { written_bytes: moved, verified_bytes, ..Outcome::default() })
            }
        }
    }
}

/// What our reader says, as an error of this crate; `name` is the volume's.
pub(super) fn failed<'a>(name: &'a str, ctl: &'a Ctl) -> impl FnOnce(gravure_fsmap::Error) -> Error + 'a {
    move |error| {
        let kind = match &error {
            gravure_fsmap::Error::Stopped => match ctl.check() {
                Err(stopped) => return stopped.into(),
                Ok(()) => ErrorKind::Failed,
            },
            gravure_fsmap::Error::Io { .. } => ErrorKind::Io,
            gravure_fsmap::Error::Unsupported { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Integrity,
        };
        Error::Other { what: name.to_owned(), source: error.into(), kind }
    }
}

/// A file of a FAT volume, where it lies.
struct FatFile<'a> {
    source: &'a dyn ReadAt,
    /// In its order.
    ranges: Vec<Range<u64>>,
    size: u64,
}

impl ReadAt for FatFile<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = offset + buf.len() as u64;
        if end > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut start = 0;
        for range in &self.ranges {
            let next = start + (range.end - range.start);
            let (first, last) = (start.max(offset), next.min(end));
            if first < last {
                let place = (first - offset) as usize..(last - offset) as usize;
                self.source.read_exact_at(range.start + (first - start), &mut buf[place])?;
            }
            start = next;
        }
        Ok(())
    }
}

/// Lays the files of the FAT volume `source` out for a partition of `size` bytes, and calls `work` with that.
fn with_fat<T>(
    source: &dyn ReadAt,
    size: u64,
    sector_bytes: u32,
    hidden_sectors: u64,
    work: impl FnOnce(&FatImage<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let failed = || disk_error("FAT volume of the image");
    let volume = FatVolume::open(source).map_err(failed())?;
    let (mut directories, mut files) = (Vec::new(), Vec::new());
    let mut todo = vec![String::new()];
    while let Some(above) = todo.pop() {
        for entry in volume.list(&above).map_err(failed())? {
            let path = format!("{above}/{}", entry.name);
            if directories.len() + files.len() >= MAX_FAT_ENTRIES {
                return Err(Error::Other {
                    what: path,
                    source: format!("more than {MAX_FAT_ENTRIES} files on a FAT volume").into(),
                    kind: ErrorKind::Integrity,
                });
            }
            if entry.directory {
                todo.push(path.clone());
                directories.push(path);
            } else {
                let ranges = volume.file_ranges(&path).map_err(failed())?;
                files.push((path, FatFile { source, ranges, size: entry.size.into() }));
            }
        }
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut builder = FatBuilder::new(FatOptions {
        size_bytes: size,
        sector_bytes,
        hidden_sectors,
        serial: volume.serial(),
        label: volume.label().to_owned(),
        time: FatTime::from_unix(i64::try_from(now.as_secs()).unwrap_or(i64::MAX)),
    })
    .map_err(failed())?;
    for path in &directories {
        builder.add_dir(path).map_err(failed())?;
    }
    for (path, file) in &files {
        builder.add_file(path, file).map_err(failed())?;
    }
    work(&builder.finish().map_err(failed())?)
}
