//! Whether a volume was left in a state in which its files are what they seem: mark, log, hibernation.

use super::bytes::{u16_at, u32_at, u64_at};

/// Flags of $VOLUME_INFORMATION.
pub(crate) const VOLUME_DIRTY: u16 = 0x0001;
/// Restart area: the volume was dismounted.
const LOG_IS_CLEAN: u16 = 0x0002;
/// Client index that means none.
const NO_CLIENT: u16 = 0xffff;
/// Bytes of the log that say what state it is in: two restart pages.
pub(crate) const LOG_HEAD_BYTES: usize = 2 * LOG_PAGE_BYTES;
const LOG_PAGE_BYTES: usize = 4096;

/// State of $LogFile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogState {
    /// Never used since the volume was made.
    Empty,
    /// Everything it says was done.
    Clean,
    /// It has to be replayed before the files are what they should be.
    Pending,
    /// It has no form that Windows writes.
    Unknown,
}

/// What the hibernation file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hibernation {
    /// There is none, or it is unused.
    None,
    /// A system sleeps in it and believes to know the volume: also after a fast start's shutdown.
    Asleep,
    /// It has a form that this version does not know.
    Unknown,
}

/// How a volume was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeState {
    /// Marked for a check.
    pub is_dirty: bool,
    /// Its log.
    pub log: LogState,
    /// Its hibernation file.
    pub hibernation: Hibernation,
}

/// Why a volume is not read as if nothing were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unclean {
    /// Marked for a check.
    #[error("marked dirty: it was not unmounted, or Windows found errors")]
    Dirty,
    /// The log has to be replayed.
    #[error("not unmounted: its log has changes that are not in its files yet")]
    LogPending,
    /// The log has no known form.
    #[error("in an unknown state: its log has no form that Windows writes")]
    LogUnknown,
    /// A system sleeps on it.
    #[error("hibernated: hiberfil.sys holds a sleeping Windows; fast startup does that on shutdown, too")]
    Hibernated,
}

impl VolumeState {
    /// The first reason not to take files as they stand.
    pub fn unclean(&self) -> Option<Unclean> {
        if self.hibernation != Hibernation::None {
            return Some(Unclean::Hibernated);
        }
        match self.log {
            LogState::Pending => return Some(Unclean::LogPending),
            LogState::Unknown => return Some(Unclean::LogUnknown),
            LogState::Empty | LogState::Clean => {}
        }
        self.is_dirty.then_some(Unclean::Dirty)
    }
}

/// Judges the first [`LOG_HEAD_BYTES`] of $LogFile.
pub(crate) fn log_state(head: &[u8]) -> LogState {
    if !head.is_empty() && head.iter().all(|byte| *byte == 0xff) {
        return LogState::Empty;
    }
    // chkdsk writes its own mark over a log that it has emptied.
    if head.starts_with(b"CHKD") {
        return LogState::Clean;
    }
    // The page with the higher number counts; the second one stands one page of the size that the first states behind it.
    let second = match u32_at(head, 0x10) {
        Some(page) if head.starts_with(b"RSTR") => super::bytes::at(page),
        _ => LOG_PAGE_BYTES,
    };
    let pages = [head.get(..), head.get(second..)].into_iter().flatten().filter_map(restart_area);
    let newest = pages.max_by_key(|(number, _)| *number);
    match newest {
        None => LogState::Unknown,
        Some((_, true)) => LogState::Clean,
        Some((_, false)) => LogState::Pending,
    }
}

/// Number of a restart page, and whether its log is closed.
fn restart_area(page: &[u8]) -> Option<(u64, bool)> {
    if !page.starts_with(b"RSTR") {
        return None;
    }
    let area = page.get(usize::from(u16_at(page, 0x18)?)..)?;
    let (number, in_use, flags) = (u64_at(area, 0)?, u16_at(area, 0xc)?, u16_at(area, 0xe)?);
    Some((number, in_use == NO_CLIENT || flags & LOG_IS_CLEAN != 0))
}

/// Judges the first bytes of hiberfil.sys.
pub(crate) fn hibernation(head: &[u8]) -> Hibernation {
    let mark: Vec<u8> = head.iter().take(4).map(u8::to_ascii_lowercase).collect();
    match mark.as_slice() {
        b"hibr" | b"rstr" => Hibernation::Asleep,
        // Woken up, or never used.
        b"wake" | [0, 0, 0, 0] | [] => Hibernation::None,
        _ => Hibernation::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u64, in_use: u16, flags: u16) -> Vec<u8> {
        let mut page = vec![0; LOG_PAGE_BYTES];
        page[..4].copy_from_slice(b"RSTR");
        page[0x10..0x14].copy_from_slice(&4096u32.to_le_bytes());
        page[0x18..0x1a].copy_from_slice(&0x30u16.to_le_bytes());
        page[0x30..0x38].copy_from_slice(&number.to_le_bytes());
        page[0x3c..0x3e].copy_from_slice(&in_use.to_le_bytes());
        page[0x3e..0x40].copy_from_slice(&flags.to_le_bytes());
        page
    }

    #[test]
    fn the_newer_restart_page_counts() {
        let open = page(7, 0, 0);
        let closed = page(9, NO_CLIENT, 0);
        let marked = page(3, 0, LOG_IS_CLEAN);
        assert_eq!(log_state(&[open.clone(), closed.clone()].concat()), LogState::Clean);
        assert_eq!(log_state(&[open.clone(), marked.clone()].concat()), LogState::Pending);
        assert_eq!(log_state(&[marked.clone(), vec![0; 4096]].concat()), LogState::Clean);
        assert_eq!(log_state(&[0xff; LOG_HEAD_BYTES]), LogState::Empty);
        assert_eq!(log_state(&[0; LOG_HEAD_BYTES]), LogState::Unknown);
        assert_eq!(log_state(&[]), LogState::Unknown);
    }

    #[test]
    fn sleeping_systems_are_known_by_their_mark() {
        for (head, expected) in [
            (&b"hibr...."[..], Hibernation::Asleep),
            (b"HIBR", Hibernation::Asleep),
            (b"RSTR", Hibernation::Asleep),
            (b"wake", Hibernation::None),
            (b"WAKE", Hibernation::None),
            (&[0; 8], Hibernation::None),
            (b"", Hibernation::None),
            (b"new!", Hibernation::Unknown),
        ] {
            assert_eq!(hibernation(head), expected, "{head:?}");
        }
    }
}
