//! A block image of a whole disk onto a disk that is larger, smaller, or has sectors of another size; new identifiers for the table.
//!
//! Partitions are restored as they are, at the places that [`gravure_disk::transfer`] finds; the source was never shrunk for it. Where there
//! is no room for the blocks of an NTFS volume, or its sectors cannot be counted otherwise, it is laid out anew out of its files (`anew.rs`), XFS
//! likewise (`xfs.rs`), ext2/3/4 and Btrfs are made smaller (`shrink.rs`, `btrfs.rs`); which ones, `places.rs` decides. The table
//! is computed anew for this disk and written last, behind what its partitions need to be started from their new places: the count of
//! hidden sectors in boot sectors of NTFS and FAT, the sectors that GRUB's boot code names.
//!
//! Order, and what a crash between leaves: both ends of the disk are zeroed (nothing that looks bootable); what belongs to no partition is
//! discarded, so that nothing of an old disk stays there; partitions are restored and read back (no table), then those that are laid out anew, likewise; boot sectors are patched (no table); table, its first sector last.

mod anew;
mod btrfs;
mod device;
mod fitted;
mod kernel;
mod least;
mod logical;
mod mounted;
mod peek;
mod places;
mod program;
mod references;
mod sectors;
mod shown;
mod shrink;
mod straddling;
mod volume;
mod volumes;
mod xfs;

use std::ops::Range;
use std::sync::Arc;

use gravure_blockimg::facts::Scope;
use gravure_disk::mbr::BOOT_CODE_BYTES;
use gravure_disk::transfer::{self, Growth, Names, Placed, Resident};
use gravure_disk::{DiskShape, Guid, Identity, Layout, Table, TableImage};
use gravure_fsmap::Kind;
use gravure_io::{ReadAt, Window};
use gravure_model::Ctl;
use gravure_model::event::Observer;

use super::apply::{BlockApplyOptions, BlockApplyReport, BlockVerify, LATE_BYTES, refuse_data};
use super::at::BlockImageAt;
use super::image::BlockImage;
use crate::capture::chain;
use crate::volume::{ExistingData, VolumeDevice};
use crate::{Error, ErrorKind};
pub(super) use anew::Outcome;
use anew::{Anew, Files};
use device::Relocated;
use fitted::{has_room, is_larger, is_recovery, is_sized, probe};
use least::Listed;
use logical::Logical;
pub(super) use peek::Peek;
use places::{Candidate, Wish};
use references::{Changed, MbrChanged, VolumeChanges};
use sectors::Fate;

pub use fitted::FittedPartition;
pub use kernel::{FinishReport, finish_file_systems};
pub use least::least_disk_bytes;
pub use volume::{apply_volume_anew, is_laid_out_anew};
pub use volumes::{Mountable, Mountables, mountables};

/// Kept behind a file system when its partition becomes smaller: copies of boot sectors and labels of arrays stand there.
const BEHIND_BYTES: u64 = 1 << 20;

/// What is made of the disk.
#[derive(Debug, Clone, Default)]
pub struct FitOptions {
    /// What becomes of room that is left.
    pub growth: Growth,
    /// Seed of new identifiers for disk and partitions; those of the image when `None`.
    pub identity: Option<[u8; 32]>,
}

/// What a restore onto another disk came to.
#[derive(Debug, Clone, Default)]
pub struct FitReport {
    /// The partitions' contents.
    pub apply: BlockApplyReport,
    /// Where they are.
    pub partitions: Vec<FittedPartition>,
    /// Identifiers of the table that changed: old and new.
    pub renamed: Vec<(String, String)>,
    /// Files of FAT and NTFS partitions that name the new ones now.
    pub changed: Vec<(u32, String)>,
    /// Numbers of partitions that were laid out anew, file by file, as their blocks had no place there.
    pub laid_out_anew: Vec<u32>,
    /// Numbers of partitions whose file systems were made smaller, as not all of their blocks had a place there.
    pub made_smaller: Vec<u32>,
    /// What people should know.
    pub notes: Vec<String>,
    /// Who may name the disk or its partitions as they were called before, one sentence each.
    pub undone: Vec<String>,
}

/// A disk as it is to be: decided before a byte is written.
#[derive(Debug)]
pub struct FitPlan {
    table: SourceTable,
    placed: Vec<Placed>,
    anew: Vec<Anew>,
    partitions: Vec<FittedPartition>,
    new: NewTable,
    renamed: Vec<(String, String)>,
    /// Signature of a disk with an MBR, old and new.
    mbr_signature: Option<[u32; 2]>,
    notes: Vec<String>,
    sectors: [u32; 2],
    /// Numbers of partitions that hold logical ones.
    extended: Vec<u32>,
}

/// Files that name the new disk, by partition, and what was not done.
#[derive(Debug, Default)]
struct Fixed {
    files: Vec<(u32, String)>,
    undone: Vec<String>,
}

#[derive(Debug)]
enum SourceTable {
    Gpt,
    Mbr,
}

#[derive(Debug)]
enum NewTable {
    Gpt(Box<Layout>),
    Mbr(Box<[u8; 512]>),
}

/// Whether `image` has to be fitted to a device of this shape: a whole disk of another size or sector size.
pub fn has_to_be_fitted(image: &BlockImage, device: &dyn VolumeDevice) -> Result<bool, Error> {
    Ok(image.facts().scope == Scope::Disk
        && (image.root().size != device.size() || image.sector_bytes()? != device.sector_bytes()))
}

impl FitPlan {
    /// Decides where everything goes on `device`. Nothing is written. What has no place there block by block, and can be read, is to be
    /// laid out anew.
    pub fn new(image: &BlockImage, device: &dyn VolumeDevice, options: &FitOptions) -> Result<Self, Error> {
        Self::decide(image, device, options, true)
    }

    /// The same, but every partition is restored block by block, or the disk is refused.
    pub fn of_blocks(
        image: &BlockImage,
        device: &dyn VolumeDevice,
        options: &FitOptions,
    ) -> Result<Self, Error> {
        Self::decide(image, device, options, false)
    }

    fn decide(
        image: &BlockImage,
        device: &dyn VolumeDevice,
        options: &FitOptions,
        has_files: bool,
    ) -> Result<Self, Error> {
        let root = image.root();
        let refuse = |why: String| Error::Refused {
            what: format!("applying {} to {}", image.name(), device.name()),
            why,
        };
        if image.facts().scope != Scope::Disk {
            return Err(refuse("it is no image of a whole disk".to_owned()));
        }
        let counted_in = image.sector_bytes()?;
        let shape = DiskShape { size_bytes: device.size(), sector_bytes: device.sector_bytes() };
        let peek = Peek::new(image)?;
        let table = Table::read(&peek, counted_in).map_err(disk_error(image.name()))?;
        let old_sector = least::sector_bytes(&table, counted_in);
        let listed = least::listed(&table, old_sector)
            .ok_or_else(|| refuse(format!("its own table cannot be moved: {table}")))?;
        let read = Arc::new(BlockImageAt::new(image.clone()));
        let ctl = Ctl::default();
        let mut residents = Vec::new();
        let mut partitions: Vec<FittedPartition> = Vec::new();
        let mut candidates = Vec::new();
        let mut probes = Vec::new();
        let mut extended: Vec<(u32, Vec<Logical>)> = Vec::new();
        for Listed { number, range, is_plain } in listed {
            let range = range.start..range.end.min(root.size);
            if range.is_empty() {
                return Err(refuse(format!("partition {number} lies outside of it")));
            }
            let probe = is_plain.then(|| probe(&peek, &range)).transpose()?;
            let inside = match &table {
                Table::Mbr(mbr) if !is_plain => logical::within(mbr, &range, old_sector, &peek)?,
                _ => Vec::new(),
            };
            let len = range.end - range.start;
            let mut forced = None;
            if old_sector != shape.sector_bytes {
                let boot_len = usize::try_from(len).unwrap_or(usize::MAX).min(sectors::BOOT_BYTES);
                let boot =
                    peek.read_vec_at(range.start, boot_len).map_err(Error::io("read", image.name()))?;
                let fate = sectors::judge(number, probe.as_ref(), &boot, len, shape.sector_bytes);
                forced = match (fate.map_err(refuse)?, &probe) {
                    (Fate::Anew(why), Some(probe)) if has_files => {
                        Some((Files::open(&read, number, &range, probe.kind, &ctl)?, why))
                    }
                    (Fate::Anew(why), _) => {
                        return Err(refuse(format!(
                            "partition {number} cannot be restored block by block: {why}"
                        )));
                    }
                    (Fate::Kept | Fate::Converted, _) => None,
                };
            }
            if forced.is_some() || (has_files && probe.as_ref().is_some_and(|it| can_shrink(it.kind))) {
                candidates.push(Candidate { number, forced });
            }
            let size = probe.as_ref().map_or(len, |probe| probe.size.saturating_add(BEHIND_BYTES).min(len));
            let content = probe.as_ref().map_or(Kind::Unknown, |probe| probe.kind);
            let at_least = if is_sized(content) { size } else { len };
            residents.push(Resident {
                number,
                range: range.clone(),
                at_least,
                can_grow: match inside.last() {
                    Some(last) => last.can_grow(image),
                    None => is_sized(content) && !is_recovery(image, &range),
                },
            });
            probes.push(probe);
            if !is_plain {
                extended.push((number, inside));
            }
            partitions.push(FittedPartition {
                number,
                content,
                from: range.clone(),
                to: range,
                grows: false,
            });
        }
        let area = match &table {
            Table::Gpt { .. } => transfer::gpt_area(shape).map_err(disk_error(device.name()))?,
            _ => transfer::mbr_area(shape),
        };
        let open = |number: u32| {
            let one = partitions.iter().find(|one| one.number == number);
            let one = one.ok_or_else(|| Error::NotFound { what: "partition", which: number.to_string() })?;
            Files::open(&read, number, &one.from, one.content, &ctl)
        };
        let wish =
            Wish { residents, area, growth: options.growth, sector_bytes: shape.sector_bytes, open: &open };
        let found = wish.find(candidates);
        let (mut placed, anew) = found.map_err(|why| {
            let (blocks, whole) = (blocks_only(&partitions, has_files), logical::whole(&extended));
            refuse(format!("{why}{blocks}{whole}"))
        })?;
        placed.sort_by_key(|one| one.from.start);
        for (partition, probe) in partitions.iter_mut().zip(&probes) {
            if let Some(one) = placed.iter().find(|one| one.number == partition.number) {
                partition.to = one.to.clone();
            }
            let wants_more = options.growth == Growth::Largest && !is_recovery(image, &partition.from);
            partition.grows = is_larger(&partition.from, &partition.to)
                || (wants_more && has_room(probe.as_ref(), &partition.to));
        }
        for (number, inside) in &extended {
            // It has no file system of its own.
            partitions.iter_mut().filter(|one| one.number == *number).for_each(|one| one.grows = false);
            if let Some(outer) = placed.iter().find(|one| one.number == *number) {
                partitions.extend(logical::place(inside, outer, image, options.growth));
            }
        }
        let mut this = Self {
            table: SourceTable::Gpt,
            placed,
            anew,
            partitions,
            new: NewTable::Mbr(Box::new([0; 512])),
            renamed: Vec::new(),
            mbr_signature: None,
            notes: Vec::new(),
            sectors: [old_sector, shape.sector_bytes],
            extended: extended.into_iter().map(|(number, _)| number).collect(),
        };
        let identity = options.identity.map(Identity::new);
        this.make_table(&table, &peek, shape, identity.as_ref(), device.name())?;
        this.describe();
        Ok(this)
    }

    fn make_table(
        &mut self,
        table: &Table,
        peek: &Peek<'_>,
        shape: DiskShape,
        identity: Option<&Identity>,
        name: &str,
    ) -> Result<(), Error> {
        let mut rename = |old: String, new: String| {
            if old != new {
                self.renamed.push((old, new));
            }
        };
        match table {
            Table::Gpt { gpt, .. } => {
                let names = identity.map_or(Names::Kept, Names::New);
                let layout =
                    transfer::gpt_layout(gpt, &self.placed, shape, names).map_err(disk_error(name))?;
                rename(gpt.disk_guid.to_string(), layout.disk_guid.to_string());
                for entry in &gpt.entries {
                    let new: Option<Guid> = layout
                        .partitions
                        .iter()
                        .find(|partition| partition.number == entry.number)
                        .map(|partition| partition.unique_guid);
                    rename(entry.unique_guid.to_string(), new.unwrap_or(entry.unique_guid).to_string());
                }
                self.new = NewTable::Gpt(Box::new(layout));
            }
            Table::Mbr(mbr) => {
                self.table = SourceTable::Mbr;
                let mut first = [0; 512];
                peek.read_exact_at(0, &mut first).map_err(Error::io("read", name))?;
                let signature = identity.map(Identity::mbr_signature);
                self.mbr_signature = Some([mbr.disk_signature, signature.unwrap_or(mbr.disk_signature)]);
                let sector = transfer::mbr_sector(&first, mbr, &self.placed, shape.sector_bytes, signature)
                    .map_err(disk_error(name))?;
                if let Some(signature) = signature {
                    // As PARTUUID has it.
                    for entry in &mbr.entries {
                        rename(
                            format!("{:08x}-{:02x}", mbr.disk_signature, entry.number),
                            format!("{signature:08x}-{:02x}", entry.number),
                        );
                    }
                }
                self.new = NewTable::Mbr(Box::new(sector));
            }
            Table::Empty | Table::BrokenGpt { .. } => {}
        }
        Ok(())
    }

    fn describe(&mut self) {
        for one in &self.placed {
            let mut words = Vec::new();
            if one.is_moved() {
                words.push(format!("moved from {:#x} to {:#x}", one.from.start, one.to.start));
            }
            if one.is_resized() {
                words.push(format!(
                    "resized from {} to {} bytes",
                    one.from.end - one.from.start,
                    one.size_bytes()
                ));
            }
            if !words.is_empty() {
                self.notes.push(format!("partition {} {}", one.number, words.join(", ")));
            }
        }
        self.notes.extend(self.anew.iter().map(Anew::note));
        let [old, new] = self.sectors;
        if old != new {
            self.notes.push(format!("table written for sectors of {new} bytes, not {old}"));
        }
    }

    /// Numbers of partitions that are laid out anew, or of those that are made smaller.
    fn numbers(&self, keeps_blocks: bool) -> Vec<u32> {
        let wanted = self.anew.iter().filter(|one| one.files.keeps_blocks() == keeps_blocks);
        wanted.map(|one| one.number).collect()
    }

    fn is_anew(&self, number: u32) -> bool {
        self.anew.iter().any(|one| one.number == number)
    }

    /// Where partitions go.
    pub fn partitions(&self) -> &[FittedPartition] {
        &self.partitions
    }

    /// The GPT that the disk will have; `None` where it is an MBR.
    pub fn layout(&self) -> Option<&Layout> {
        match &self.new {
            NewTable::Gpt(layout) => Some(layout),
            NewTable::Mbr(_) => None,
        }
    }

    /// What people should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Restores `image`, the one this was made for, onto `device`, likewise.
    pub fn apply(
        self,
        image: &BlockImage,
        device: &dyn VolumeDevice,
        options: &BlockApplyOptions,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<FitReport, Error> {
        if options.existing == ExistingData::Refuse && !options.is_blank {
            refuse_data(device)?;
        }
        erase_ends(device)?;
        let root = image.root();
        let freed = if options.is_blank { 0 } else { self.discard_free(device)? };
        let find = |number: u32| self.anew.iter().find(|one| one.number == number);
        let is_kept = |one: &&Placed| find(one.number).is_none_or(|anew| anew.files.keeps_blocks());
        let kept: Vec<Placed> = self.placed.iter().filter(is_kept).cloned().collect();
        // Of those that become smaller, what is behind their new end.
        let left_out = self.placed.iter().filter_map(|one| match find(one.number)?.files.keeps_blocks() {
            true => Some(one.from.start + one.size_bytes()..one.from.end),
            false => Some(one.from.clone()),
        });
        let left_out: Vec<Range<u64>> = left_out.collect();
        let view = Relocated::new(device, root.size, image.sector_bytes()?, &kept);
        // What the disk held was judged above, by its own addresses.
        let inner = BlockApplyOptions { existing: ExistingData::Destroy, ..options.clone() };
        let mut apply = super::apply::apply_parts(image, &view, &inner, &left_out, ctl, observer)?;
        apply.discarded_bytes += freed;
        ctl.check()?;
        let mut notes = self.notes.clone();
        for one in &self.anew {
            let Some(place) = self.placed.iter().find(|it| it.number == one.number) else { continue };
            let outcome = one.write(device, &place.to, options, ctl, observer)?;
            apply.add(&outcome);
            notes.extend(outcome.notes);
            ctl.check()?;
        }
        let mut patches = self.patches(device, &view, &mut notes)?;
        let Fixed { files: changed, undone } = self.fix_references(device, &mut patches)?;
        for (offset, bytes) in &patches {
            device.write_all_at(*offset, bytes).map_err(Error::io("write", device.name()))?;
        }
        device.sync().map_err(Error::io("sync", device.name()))?;
        self.write_table(device, &view, &mut notes)?;
        if options.verify == BlockVerify::Full {
            device.drop_cache()?;
            for (offset, bytes) in &patches {
                expect(device, *offset, bytes, "boot sector")?;
            }
            match &self.new {
                NewTable::Gpt(layout) => {
                    let table = TableImage::new(layout, Some(&boot_code(&view)?));
                    let table = self.with_grub(table, &view)?;
                    table.verify(device).map_err(disk_error(device.name()))?;
                }
                NewTable::Mbr(first) => expect(device, 0, &first[..], "partition table")?,
            }
        }
        let (laid_out_anew, made_smaller) = (self.numbers(false), self.numbers(true));
        let (partitions, renamed) = (self.partitions, self.renamed);
        Ok(FitReport { apply, partitions, renamed, changed, laid_out_anew, made_smaller, notes, undone })
    }

    /// Discards what no block of the image comes to: between partitions, behind them, and where one is larger than it was. The ends
    /// stay as they are: zeros. Returns the bytes.
    fn discard_free(&self, device: &dyn VolumeDevice) -> Result<u64, Error> {
        let (mut at, mut bytes) = (LATE_BYTES, 0);
        let end = device.size().saturating_sub(LATE_BYTES);
        let mut taken: Vec<_> = self
            .placed
            .iter()
            .map(|one| one.to.start..one.to.start + one.size_bytes().min(one.from.end - one.from.start))
            .collect();
        taken.sort_by_key(|range| range.start);
        for next in taken.into_iter().chain(std::iter::once(end..end)) {
            let free = at..next.start.min(end);
            if !free.is_empty() {
                bytes += free.end - free.start;
                device.discard(free).map_err(Error::io("discard", device.name()))?;
            }
            at = at.max(next.end);
        }
        Ok(bytes)
    }

    /// Table, from the end to the front, its first sector last.
    fn write_table(
        &self,
        device: &dyn VolumeDevice,
        view: &Relocated<'_>,
        notes: &mut Vec<String>,
    ) -> Result<(), Error> {
        let name = device.name();
        let [old, new] = self.sectors;
        let first = self.placed.iter().map(|one| one.from.start).min().unwrap_or(0);
        let free = self.placed.iter().map(|one| one.to.start).min().unwrap_or(0);
        let table_end = match &self.new {
            NewTable::Gpt(layout) => layout.first_usable_lba * u64::from(new),
            NewTable::Mbr(_) => 512,
        };
        // Boot loaders of old disks stand between table and first partition.
        if old == new {
            for (offset, bytes) in view.spare(&(table_end..first.min(free))) {
                device.write_all_at(offset, &bytes).map_err(Error::io("write", name))?;
            }
        } else if boot_code(view)?.iter().any(|byte| *byte != 0) {
            notes.push(format!(
                "boot code for a BIOS is not taken over, for it counts in sectors of {old} bytes"
            ));
        }
        device.sync().map_err(Error::io("sync", name))?;
        match &self.new {
            NewTable::Gpt(layout) => {
                let table = TableImage::new(layout, Some(&boot_code(view)?));
                self.with_grub(table, view)?.write(device).map_err(disk_error(name))
            }
            NewTable::Mbr(first) => {
                let mut sector = vec![0; new as usize];
                sector[..512].copy_from_slice(&first[..]);
                device.write_all_at(0, &sector).map_err(Error::io("write", name))?;
                device.sync().map_err(Error::io("sync", name))
            }
        }
    }

    /// The table with GRUB's boot code naming the new place of its core image.
    fn with_grub(&self, table: TableImage, view: &Relocated<'_>) -> Result<TableImage, Error> {
        let NewTable::Gpt(layout) = &self.new else { return Ok(table) };
        let [old, new] = self.sectors;
        if old != new {
            return Ok(TableImage::new(layout, None));
        }
        let mut code = boot_code(view)?;
        if let Some(moved) = self.moved_core(&code) {
            let lba = moved.to.start / u64::from(new);
            transfer::grub::set_sector(&mut code, transfer::grub::BOOT_KERNEL_SECTOR, lba);
            return Ok(TableImage::new(layout, Some(&code)));
        }
        Ok(table)
    }

    /// The partition that moved and whose first sector GRUB's boot code names.
    fn moved_core(&self, code: &[u8]) -> Option<&Placed> {
        let named = transfer::grub::sector(code, transfer::grub::BOOT_KERNEL_SECTOR)?;
        let [old, new] = self.sectors;
        self.placed
            .iter()
            .filter(|_| old == new)
            .find(|one| one.is_moved() && one.from.start / u64::from(old) == named)
    }

    /// Boot stores, letters and menus on unmounted volumes that name the old disk; the pieces go to `patches`.
    fn fix_references(
        &self,
        device: &dyn VolumeDevice,
        patches: &mut Vec<(u64, Vec<u8>)>,
    ) -> Result<Fixed, Error> {
        let Fixed { mut files, mut undone } = Fixed::default();
        let mbr = self.mbr_signature.map(|signature| {
            // Logical ones too: a menu on the disk may start a system from one of them.
            let starts = self.partitions.iter().map(|one| [one.from.start, one.to.start]).collect();
            MbrChanged { signature, starts }
        });
        let changed = Changed { renamed: &self.renamed, mbr: mbr.as_ref() };
        if !changed.is_any() {
            return Ok(Fixed::default());
        }
        for one in &self.partitions {
            let volume = Window::new(device, one.to.start, one.to.end - one.to.start);
            let found = match one.content {
                Kind::Fat16 | Kind::Fat32 => references::on_fat(&volume, changed)?,
                // What it says is not needed for the system to be right in every case; the restore is.
                Kind::Ntfs => references::on_ntfs(&volume, changed).unwrap_or_else(|error| VolumeChanges {
                    undone: vec![format!("not searched for the old identifiers: {}", chain(&error))],
                    ..VolumeChanges::default()
                }),
                _ => continue,
            };
            patches.extend(found.pieces.into_iter().map(|(offset, bytes)| (one.to.start + offset, bytes)));
            files.extend(found.files.into_iter().map(|path| (one.number, path)));
            undone.extend(found.undone.into_iter().map(|why| format!("partition {}: {why}", one.number)));
        }
        Ok(Fixed { files, undone })
    }

    /// What has to change in partitions because of their new places: offset on the disk and bytes.
    fn patches(
        &self,
        device: &dyn VolumeDevice,
        view: &Relocated<'_>,
        notes: &mut Vec<String>,
    ) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let mut out = Vec::new();
        let [old, new] = self.sectors.map(u64::from);
        for (partition, one) in self.placed.iter().filter_map(|one| {
            self.partitions.iter().find(|partition| partition.number == one.number).map(|it| (it, one))
        }) {
            if (!one.is_moved() && old == new) || self.is_anew(one.number) {
                continue;
            }
            if old != new
                && let Some(pieces) = converted(device, partition.content, one)?
            {
                out.extend(pieces);
                continue;
            }
            let hidden = u32::try_from(one.to.start / new).unwrap_or(u32::MAX);
            for at in boot_sectors(device, partition.content, one)? {
                let mut sector = device.read_vec_at(at, 512).map_err(Error::io("read", device.name()))?;
                if sector[510..512] == [0x55, 0xaa] {
                    sector[0x1c..0x20].copy_from_slice(&hidden.to_le_bytes());
                    out.push((at, sector));
                }
            }
        }
        for outer in self.placed.iter().filter(|one| self.extended.contains(&one.number)) {
            if is_larger(&outer.from, &outer.to) {
                out.extend(logical::records_to_end(device, outer, self.sectors[1])?);
            }
        }
        if let Some(core) = self.moved_core(&boot_code(view)?) {
            let at = core.to.start;
            let mut sector = device.read_vec_at(at, 512).map_err(Error::io("read", device.name()))?;
            let next = |range: &Range<u64>| range.start / new + 1;
            let list = transfer::grub::CORE_BLOCK_LIST;
            if transfer::grub::sector(&sector, list) == Some(next(&core.from)) {
                transfer::grub::set_sector(&mut sector, list, next(&core.to));
                out.push((at, sector));
                notes.push("GRUB's boot code names the new place of its core image".to_owned());
            }
        }
        Ok(out)
    }
}

/// Boot code of the old first sector.
fn boot_code(view: &Relocated<'_>) -> Result<[u8; BOOT_CODE_BYTES], Error> {
    let mut code = [0; BOOT_CODE_BYTES];
    view.read_exact_at(0, &mut code).map_err(Error::io("read", "memory"))?;
    Ok(code)
}

/// Where boot sectors with a count of hidden sectors stand: the first one, and its copy.
fn boot_sectors(device: &dyn VolumeDevice, content: Kind, one: &Placed) -> Result<Vec<u64>, Error> {
    let first = one.to.start;
    let boot = || device.read_vec_at(first, 512).map_err(Error::io("read", device.name()));
    Ok(match content {
        Kind::Fat12 | Kind::Fat16 => vec![first],
        Kind::Fat32 => {
            let boot = boot()?;
            let sector = u64::from(u16::from_le_bytes([boot[11], boot[12]]));
            let copy = u64::from(u16::from_le_bytes([boot[0x32], boot[0x33]]));
            let copy = (copy > 0 && copy < 32).then(|| first + copy * sector);
            std::iter::once(first).chain(copy).collect()
        }
        Kind::Ntfs => {
            let boot = boot()?;
            let sector = u64::from(u16::from_le_bytes([boot[11], boot[12]]));
            let mut count = [0; 8];
            count.copy_from_slice(&boot[0x28..0x30]);
            // Behind the last sector that the volume counts.
            let copy = first.saturating_add(u64::from_le_bytes(count).saturating_mul(sector));
            let is_inside = copy > first && copy.saturating_add(512) <= one.to.end;
            std::iter::once(first).chain(is_inside.then_some(copy)).collect()
        }
        _ => Vec::new(),
    })
}

fn expect(device: &dyn VolumeDevice, offset: u64, expected: &[u8], what: &'static str) -> Result<(), Error> {
    let found = device.read_vec_at(offset, expected.len()).map_err(Error::io("read", device.name()))?;
    if found == expected {
        return Ok(());
    }
    Err(Error::Differs {
        path: format!("{} at {offset:#x}", device.name()),
        what,
        expected: "what was written".to_owned(),
        found: "other bytes".to_owned(),
        more: 0,
    })
}

/// From here on the disk is nothing.
fn erase_ends(device: &dyn VolumeDevice) -> Result<(), Error> {
    let size = device.size();
    for range in [0..LATE_BYTES.min(size), size.saturating_sub(LATE_BYTES)..size] {
        device.zero_range(range).map_err(Error::io("zero", device.name()))?;
    }
    device.sync().map_err(Error::io("sync", device.name()))
}

/// File systems that can do with less room than their blocks take.
fn can_shrink(kind: Kind) -> bool {
    matches!(kind, Kind::Ntfs | Kind::Ext2 | Kind::Ext3 | Kind::Ext4 | Kind::Xfs | Kind::Btrfs)
}

/// Which file systems have to have room for all their blocks, in words.
fn blocks_only(partitions: &[FittedPartition], has_files: bool) -> String {
    let is_meant = |one: &&FittedPartition| is_sized(one.content) && !(has_files && can_shrink(one.content));
    let words = partitions.iter().filter(is_meant);
    words
        .map(|one| format!("; {} on partition {} only block by block", one.content.name(), one.number))
        .collect()
}

/// The boot sectors of a volume for the sectors that the disk has, whole sectors of it; `None` where they need not change.
fn converted(device: &dyn VolumeDevice, kind: Kind, one: &Placed) -> Result<Option<sectors::Pieces>, Error> {
    if !matches!(kind, Kind::Ntfs | Kind::Fat16 | Kind::Fat32) {
        return Ok(None);
    }
    let (sector, name) = (device.sector_bytes(), device.name());
    let read = |at: u64, len: usize| device.read_vec_at(at, len).map_err(Error::io("read", name));
    let boot = read(one.to.start, sectors::BOOT_BYTES)?;
    if u32::from(u16::from_le_bytes([boot[11], boot[12]])) == sector {
        return Ok(None);
    }
    let hidden = one.to.start / u64::from(sector);
    let pieces = sectors::convert(kind, &boot, one.size_bytes(), sector, hidden);
    let pieces =
        pieces.map_err(|why| Error::Refused { what: format!("converting a volume of {name}"), why })?;
    let mut out = Vec::new();
    for (at, bytes) in pieces {
        // The copy of NTFS is one of the whole sector, with the code behind the numbers.
        let from = if kind == Kind::Ntfs { one.to.start } else { one.to.start + at };
        let len = bytes.len().next_multiple_of(sector as usize);
        let mut whole = read(from, len)?;
        whole[..bytes.len()].copy_from_slice(&bytes);
        out.push((one.to.start + at, whole));
    }
    Ok(Some(out))
}

pub(super) fn disk_error<'a>(name: &'a str) -> impl FnOnce(gravure_disk::Error) -> Error + 'a {
    move |source| {
        let kind = match &source {
            gravure_disk::Error::Io { .. } => ErrorKind::Io,
            gravure_disk::Error::Unsupported { .. } => ErrorKind::Unsupported,
            gravure_disk::Error::DoesNotFit { .. } => ErrorKind::Refused,
            _ => ErrorKind::Integrity,
        };
        Error::Other { what: format!("partition table of {name}"), source: source.into(), kind }
    }
}
