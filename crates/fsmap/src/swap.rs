//! Linux swap space: a header at the start, whose signature closes the first page. The kernel keeps nothing else.

use gravure_disk::Found;
use gravure_io::ReadAt;

use crate::field::{le32, read, text, uuid, wide};
use crate::map::Draft;
use crate::probe::fact;
use crate::{Error, Excluded, Kind, Options, Probe, State};

/// Page sizes of the machines Linux runs on; the header says only where it ends.
const PAGE_BYTES: [usize; 5] = [4096, 8192, 16384, 32768, 65536];
const SIGNATURE: &[u8] = b"SWAPSPACE2";
/// A suspended system writes this in the place of the signature.
const SUSPENDED: &[u8] = b"S1SUSPEND";

/// Page size of the swap space on `dev`, and whether a system sleeps in it.
fn page(dev: &dyn ReadAt) -> Result<Option<(u32, bool)>, Error> {
    for page in PAGE_BYTES {
        let at = wide(page).saturating_sub(wide(SIGNATURE.len()));
        if dev.size() < wide(page) {
            break;
        }
        let signature = read(dev, "swap signature", at, SIGNATURE.len())?;
        let is_asleep = signature.starts_with(SUSPENDED);
        if signature == SIGNATURE || is_asleep {
            return Ok(u32::try_from(page).ok().map(|page| (page, is_asleep)));
        }
    }
    Ok(None)
}

/// A suspended system hides the signature that others look for.
pub(crate) fn is_suspended(dev: &dyn ReadAt) -> Result<bool, Error> {
    Ok(page(dev)?.is_some_and(|(_, is_asleep)| is_asleep))
}

pub(crate) fn probe(dev: &dyn ReadAt, _: &Found) -> Result<Probe, Error> {
    let (page, is_asleep) = page(dev)?
        .ok_or_else(|| Error::corrupt("swap header", 0, "a signature at the end of a page", "none"))?;
    let head = read(dev, "swap header", 1024, 44)?;
    let version = le32(&head, 0);
    // The number is in the byte order of the machine that made it; 1 is the only version.
    if version != 1 && version.swap_bytes() != 1 {
        return Err(Error::unsupported("version of swap space", version));
    }
    let last_page = if version == 1 { le32(&head, 4) } else { le32(&head, 4).swap_bytes() };
    let size = u64::from(last_page).saturating_add(1).saturating_mul(u64::from(page));
    let mut probe = Probe::new(Kind::Swap, size.min(dev.size()));
    probe.version = Some("1".to_owned());
    probe.uuid = uuid(&head, 12);
    probe.label = text(crate::field::slice(&head, 28, 16));
    probe.block_size = Some(page);
    let bad = if version == 1 { le32(&head, 8) } else { le32(&head, 8).swap_bytes() };
    probe.facts = vec![fact("pages", last_page), fact("bad-pages", bad)];
    if is_asleep {
        probe.state = State::Unclean(crate::Reason::Hibernated);
    }
    Ok(probe)
}

pub(crate) fn map(dev: &dyn ReadAt, probe: &Probe, options: &Options<'_>) -> Result<Draft, Error> {
    let page = probe.block_size.unwrap_or(4096);
    let mut draft = Draft::new(dev.size(), page, options);
    if options.exclude.swap {
        draft.runs.exclude(vec![(u64::from(page)..probe.size, Excluded::Swap)]);
    }
    draft.free_tail(probe.size);
    Ok(draft)
}
