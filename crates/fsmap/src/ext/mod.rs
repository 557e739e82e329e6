//! ext2, ext3 and ext4: block bitmaps of the groups, read through the replayed journal.

mod files;
mod groups;
mod inode;
mod journal;
mod list;
mod names;
mod superblock;

use std::ops::Range;

use gravure_disk::Found;
use gravure_io::ReadAt;

use self::groups::Groups;
use self::superblock::{Superblock, compat, incompat};
use crate::bits::zeros;
use crate::field::{le32, read};
use crate::map::Draft;
use crate::probe::fact;
use crate::{Error, Kind, Options, Overlay, Owned, Probe, Reason, State};

/// Multiple mount protection: nobody has it mounted.
const MMP_CLEAN: u32 = 0xff4d_4d50;
const MMP_MAGIC: u32 = 0x004d_4d50;

pub(crate) fn probe(dev: &dyn ReadAt, _: &Found) -> Result<Probe, Error> {
    let sb = Superblock::read(dev)?;
    let is_journal = sb.incompat & incompat::JOURNAL_DEV != 0;
    let kind = if is_journal { Kind::Other(gravure_disk::FoundKind::Ext4) } else { sb.kind };
    let mut probe = Probe::new(kind, sb.offset(sb.blocks));
    probe.label.clone_from(&sb.label);
    probe.uuid.clone_from(&sb.uuid);
    probe.block_size = Some(sb.block_bytes);
    probe.facts = vec![
        fact("features", sb.features()),
        fact("blocks", sb.blocks),
        fact("groups", sb.groups),
        fact("inodes", sb.inodes),
    ];
    if sb.cluster_blocks > 1 {
        probe.facts.push(fact("cluster-blocks", sb.cluster_blocks));
    }
    if is_journal {
        probe.facts.push(fact("role", "journal of another file system"));
        return Ok(probe);
    }
    probe.state = state(dev, &sb)?;
    Ok(probe)
}

fn state(dev: &dyn ReadAt, sb: &Superblock) -> Result<State, Error> {
    if sb.has_errors {
        return Ok(State::Unclean(Reason::HasErrors));
    }
    if sb.incompat & incompat::MMP != 0 {
        let block = read(dev, "mount protection", sb.offset(sb.mmp_block), 8)?;
        if le32(&block, 0) != MMP_MAGIC || le32(&block, 4) != MMP_CLEAN {
            return Ok(State::Unclean(Reason::InUse));
        }
    }
    let has_journal = sb.compat & compat::HAS_JOURNAL != 0;
    let needs_replay = sb.incompat & incompat::RECOVER != 0;
    Ok(match (has_journal, needs_replay) {
        (true, true) if sb.journal_inode == 0 => State::Unclean(Reason::ExternalJournal),
        (true, true) => State::NeedsReplay,
        // While it is mounted with a journal, the mark stays: the journal tells.
        (true, false) => State::Clean,
        (false, true) => {
            let what = "super block, features";
            return Err(Error::corrupt(what, 0x460, "a journal, since one is to be replayed", "none"));
        }
        (false, false) if sb.is_unmounted => State::Clean,
        (false, false) => State::Unclean(Reason::NotUnmounted),
    })
}

/// The file system as it is after its journal was replayed.
fn replayed(
    dev: &dyn ReadAt,
    probe: &Probe,
    goes_on: &dyn Fn() -> bool,
) -> Result<(Option<Overlay>, Vec<String>), Error> {
    if probe.state != State::NeedsReplay {
        return Ok((None, Vec::new()));
    }
    let replay = journal::replay(dev, &Superblock::read(dev)?, goes_on)?;
    let note = format!(
        "journal replayed into an overlay: {} transactions, {} blocks",
        replay.transactions, replay.blocks
    );
    Ok((Some(replay.overlay), vec![note]))
}

pub(crate) fn map(dev: &dyn ReadAt, probe: &Probe, options: &Options<'_>) -> Result<Draft, Error> {
    let (overlay, notes) = replayed(dev, probe, options.goes_on)?;
    let none = Overlay::new();
    let over = overlay.as_ref().unwrap_or(&none).over(dev);
    let sb = Superblock::read(&over)?;
    if sb.has_errors {
        return Err(Error::Refused { kind: sb.kind, reason: Reason::HasErrors });
    }
    let mut draft = Draft::new(dev.size(), sb.block_bytes, options);
    draft.notes = notes;
    free(&over, &sb, options.goes_on, &mut |range| draft.runs.free(range))?;
    draft.free_tail(sb.offset(sb.blocks));
    if options.max_extents > 0 {
        let damaged = files::extents(&over, &sb, options.goes_on, &mut draft.extents)?;
        if damaged > 0 {
            draft.notes.push(format!("{damaged} files have damaged block maps; their pieces are not listed"));
        }
    }
    draft.overlay = overlay;
    Ok(draft)
}

/// Says what is free, in bytes, ascending.
fn free(
    dev: &dyn ReadAt,
    sb: &Superblock,
    goes_on: &dyn Fn() -> bool,
    out: &mut dyn FnMut(Range<u64>),
) -> Result<(), Error> {
    let mut groups = Groups::new(dev, sb);
    let metadata = groups.metadata(goes_on)?;
    let mut pending = 0usize;
    for number in 0..sb.groups {
        if !goes_on() {
            return Err(Error::Stopped);
        }
        let group = groups.get(number)?;
        let (start, end) = (sb.group_start(number), sb.group_end(number));
        let bitmap = if group.is_unused { vec![0; sb.block_len()] } else { groups.bitmap(&group)? };
        let clusters = end.saturating_sub(start).div_ceil(sb.cluster_blocks.into());
        for run in zeros(&bitmap, clusters) {
            let block =
                |bit: u64| start.saturating_add(bit.saturating_mul(sb.cluster_blocks.into())).min(end);
            let (mut next, stop) = (block(run.start), block(run.end));
            // Metadata is used whatever a bitmap says; one that was never written says nothing.
            while metadata.get(pending).is_some_and(|range| range.end <= next) {
                pending = pending.saturating_add(1);
            }
            for range in metadata.get(pending..).unwrap_or_default() {
                if range.start >= stop {
                    break;
                }
                out(sb.offset(next)..sb.offset(range.start.max(next)));
                next = next.max(range.end);
            }
            out(sb.offset(next)..sb.offset(stop.max(next)));
        }
    }
    Ok(())
}

/// Who owns what of `ranges`.
pub(crate) fn owners(
    dev: &dyn ReadAt,
    probe: &Probe,
    ranges: &[Range<u64>],
    goes_on: &dyn Fn() -> bool,
) -> Result<Vec<Owned>, Error> {
    let (overlay, _) = replayed(dev, probe, goes_on)?;
    let none = Overlay::new();
    let over = overlay.as_ref().unwrap_or(&none).over(dev);
    let sb = Superblock::read(&over)?;
    names::owners(&over, &sb, ranges, goes_on)
}

/// The entries of a directory.
pub(crate) fn list(
    dev: &dyn ReadAt,
    probe: &Probe,
    path: &str,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<Vec<crate::Listed>>, Error> {
    let (overlay, _) = replayed(dev, probe, goes_on)?;
    let none = Overlay::new();
    let over = overlay.as_ref().unwrap_or(&none).over(dev);
    let sb = Superblock::read(&over)?;
    list::list(&over, &sb, path, goes_on)
}
