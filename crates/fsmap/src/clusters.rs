//! Files whose content lies in chains of clusters, as FAT and exFAT have them: walked from the root down for the names of bad sectors, and
//! listed by path. Neither keeps a way from a cluster to its file.
//!
//! Tables and directories come from outside: chains may run in circles, directories hold themselves, files share clusters. A chain ends where
//! the size of its file says, a directory is entered once, and all chains together have no more steps than the volume has clusters.

use std::collections::BTreeSet;
use std::ops::Range;

use gravure_io::ReadAt;

use crate::Error;
use crate::field::{read, size};
use crate::list::{ListKind, Listed};
use crate::owners::{Claims, Names};

/// Bytes of a table that are read at a time; a multiple of 3, so that no entry of 12 bits is cut.
const PAGE_BYTES: u64 = 3 << 14;
/// Bytes of a directory that are read at most: some 700,000 names of exFAT. Microsoft's own limits are 2 MiB for FAT, 256 MiB for exFAT.
const MAX_DIRECTORY_BYTES: u64 = 64 << 20;
/// Directories that are entered at most.
const MAX_DIRECTORIES: usize = 1 << 20;
/// Bytes of paths of directories that wait for being entered; more of them are left out.
const MAX_WAITING_BYTES: usize = 32 << 20;
/// Bytes of a path that is followed, and names on one that is asked for.
const MAX_PATH_BYTES: usize = 32 << 10;
const MAX_DEPTH: usize = 2048;
/// Bytes of all names that are told.
const MAX_NAMES_BYTES: usize = 32 << 20;
/// Bytes of a directory that are read at once: what a sector that cannot be read takes with it.
const STEP_BYTES: u64 = 4096;
/// Steps beyond the count of clusters: a chain that ends in a wrong place costs one more.
const SPARE_STEPS: u64 = 1024;

/// Where a directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Outside of the clusters, as the root of FAT12 and FAT16.
    Region(Range<u64>),
    /// In clusters.
    Clusters(Content),
}

/// Where content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    /// Its first cluster; below 2 where it has none.
    pub(crate) first: u32,
    /// Clusters at most, as far as that is known.
    pub(crate) clusters: Option<u64>,
    /// They lie side by side, and the table says nothing of them.
    pub(crate) is_contiguous: bool,
}

/// A file or directory as its directory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_directory: bool,
    /// Bytes of a file.
    pub(crate) size: u64,
    pub(crate) content: Content,
}

/// What differs between the file systems.
pub(crate) trait Layout {
    /// Clusters of the volume; the first is number 2.
    fn clusters(&self) -> u32;
    /// Bytes of each.
    fn cluster_bytes(&self) -> u64;
    /// Absolute byte of a cluster that there is.
    fn start(&self, cluster: u32) -> u64;
    /// Absolute bytes of the tables, the one that counts first.
    fn tables(&self) -> Vec<u64>;
    /// Bits of an entry of a table.
    fn entry_bits(&self) -> u64;
    /// Entry `index` of what `bytes` holds.
    fn table_entry(&self, bytes: &[u8], index: u64) -> u32;
    /// The root directory.
    fn root(&self) -> Place;
    /// Passes what a directory holds, but for itself and the one above it.
    fn entries(&self, directory: &[u8], found: &mut dyn FnMut(Entry));
}

/// What becomes of a directory that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unreadable {
    /// Its other clusters count.
    Skip,
    /// It is an error.
    Fail,
}

struct Walk<'a, L> {
    dev: &'a dyn ReadAt,
    layout: &'a L,
    goes_on: &'a dyn Fn() -> bool,
    /// A piece of the table and its number.
    page: Option<(u64, Vec<u8>)>,
    steps_left: u64,
}

impl<'a, L: Layout> Walk<'a, L> {
    fn new(dev: &'a dyn ReadAt, layout: &'a L, goes_on: &'a dyn Fn() -> bool) -> Self {
        let steps_left = u64::from(layout.clusters()).saturating_add(SPARE_STEPS);
        Self { dev, layout, goes_on, page: None, steps_left }
    }

    fn is_cluster(&self, number: u32) -> bool {
        number.checked_sub(2).is_some_and(|index| index < self.layout.clusters())
    }

    /// The cluster after `number`, where the table can be read and names one. Of several tables any will do.
    fn next(&mut self, number: u32) -> Option<u32> {
        let bits = self.layout.entry_bits();
        let per_page = PAGE_BYTES.saturating_mul(8).checked_div(bits)?;
        let (wanted, index) =
            (u64::from(number).checked_div(per_page)?, u64::from(number).checked_rem(per_page)?);
        if self.page.as_ref().is_none_or(|(number, _)| *number != wanted) {
            let all = u64::from(self.layout.clusters()).saturating_add(2).saturating_mul(bits).div_ceil(8);
            let start = wanted.saturating_mul(PAGE_BYTES);
            let len = size(PAGE_BYTES.min(all.saturating_sub(start)));
            let bytes = self.layout.tables().into_iter().find_map(|table| {
                read(self.dev, "file allocation table", table.saturating_add(start), len).ok()
            });
            self.page = Some((wanted, bytes?));
        }
        let (_, bytes) = self.page.as_ref()?;
        let next = self.layout.table_entry(bytes, index);
        self.is_cluster(next).then_some(next)
    }

    /// Passes the pieces of `content` in their order, as far as it has any.
    fn pieces(&mut self, content: Content, piece: &mut dyn FnMut(Range<u64>)) -> Result<(), Error> {
        let unit = self.layout.cluster_bytes();
        let all = u64::from(self.layout.clusters());
        let limit = content.clusters.unwrap_or(all).min(all);
        if limit == 0 || !self.is_cluster(content.first) {
            return Ok(());
        }
        let start = self.layout.start(content.first);
        if content.is_contiguous {
            let behind = all.saturating_sub(u64::from(content.first.saturating_sub(2)));
            piece(start..start.saturating_add(limit.min(behind).saturating_mul(unit)));
            return Ok(());
        }
        let mut run = start..start.saturating_add(unit);
        let mut number = content.first;
        for step in 1u64.. {
            if step & 0xfff == 1 && !(self.goes_on)() {
                return Err(Error::Stopped);
            }
            let Some(left) = self.steps_left.checked_sub(1) else { break };
            self.steps_left = left;
            if step >= limit {
                break;
            }
            let Some(next) = self.next(number) else { break };
            number = next;
            let start = self.layout.start(number);
            if start == run.end {
                run.end = run.end.saturating_add(unit);
            } else {
                piece(std::mem::replace(&mut run, start..start.saturating_add(unit)));
            }
        }
        piece(run);
        Ok(())
    }

    /// Where a directory is, piece by piece.
    fn directory(&mut self, place: &Place) -> Result<Vec<Range<u64>>, Error> {
        let mut pieces = Vec::new();
        match place {
            Place::Region(range) => pieces.push(range.clone()),
            Place::Clusters(content) => {
                let most = MAX_DIRECTORY_BYTES.div_ceil(self.layout.cluster_bytes().max(1));
                let clusters = Some(content.clusters.unwrap_or(most).min(most));
                self.pieces(Content { clusters, ..*content }, &mut |range| pieces.push(range))?;
            }
        }
        Ok(pieces)
    }

    /// What stands in these pieces of a directory.
    fn read(&self, pieces: &[Range<u64>], unreadable: Unreadable) -> Result<Vec<u8>, Error> {
        let mut left = MAX_DIRECTORY_BYTES;
        let mut out = Vec::new();
        for piece in pieces {
            let mut at = piece.start;
            while at < piece.end && left > 0 {
                let len = STEP_BYTES.min(piece.end.saturating_sub(at)).min(left);
                match read(self.dev, "directory", at, size(len)) {
                    Ok(bytes) => out.extend_from_slice(&bytes),
                    Err(_) if unreadable == Unreadable::Skip => {}
                    Err(error) => return Err(error),
                }
                at = at.saturating_add(len);
                left = left.saturating_sub(len);
            }
        }
        Ok(out)
    }
}

/// Has files and directories claim what is theirs; gives the names of those that have any of it. What cannot be read names nothing.
pub(crate) fn claim<L: Layout>(
    dev: &dyn ReadAt,
    layout: &L,
    claims: &mut Claims<'_>,
    goes_on: &dyn Fn() -> bool,
) -> Result<Names, Error> {
    let mut walk = Walk::new(dev, layout, goes_on);
    let mut names = Named::default();
    let mut number = 0u64;
    let mut entered = BTreeSet::new();
    let mut waiting = vec![(layout.root(), String::new())];
    let mut waiting_bytes = 0usize;
    while let Some((place, path)) = waiting.pop() {
        if !goes_on() {
            return Err(Error::Stopped);
        }
        waiting_bytes = waiting_bytes.saturating_sub(path.len());
        let pieces = walk.directory(&place)?;
        number = number.saturating_add(1);
        let own = if path.is_empty() { "/" } else { &path };
        for piece in pieces.iter().filter(|piece| claims.wants(piece)).cloned().collect::<Vec<_>>() {
            claims.file(piece, number);
            names.add(number, || own.to_owned());
        }
        let bytes = walk.read(&pieces, Unreadable::Skip)?;
        let mut stopped = None;
        layout.entries(&bytes, &mut |entry| {
            if stopped.is_some() {
                return;
            }
            let inner = || format!("{path}/{}", entry.name);
            number = number.saturating_add(1);
            if !entry.is_directory {
                let mut is_wanted = false;
                let walked = walk.pieces(entry.content, &mut |range| {
                    if claims.wants(&range) {
                        is_wanted = true;
                        claims.file(range, number);
                    }
                });
                stopped = walked.err();
                // Of all files few are hit: only their names are put together.
                if is_wanted {
                    names.add(number, inner);
                }
                return;
            }
            let is_new = entered.len() < MAX_DIRECTORIES && entered.insert(entry.content.first);
            let inner = inner();
            let more = waiting_bytes.saturating_add(inner.len());
            if is_new && inner.len() <= MAX_PATH_BYTES && more <= MAX_WAITING_BYTES {
                waiting_bytes = more;
                waiting.push((Place::Clusters(entry.content), inner));
            }
        });
        if let Some(error) = stopped {
            return Err(error);
        }
    }
    Ok(names.all)
}

/// Names of what was hit, as many as there is room for; what has none is called by its number.
#[derive(Debug, Default)]
struct Named {
    all: Names,
    bytes: usize,
}

impl Named {
    fn add(&mut self, number: u64, name: impl FnOnce() -> String) {
        if self.bytes > MAX_NAMES_BYTES || self.all.contains_key(&number) {
            return;
        }
        let name = name();
        self.bytes = self.bytes.saturating_add(name.len());
        self.all.insert(number, vec![name]);
    }
}

/// The entries of the directory at `path`, ascending by name, or the file itself; `None` when there is none. Names are told apart as these
/// file systems do, without regard to case.
pub(crate) fn list<L: Layout>(
    dev: &dyn ReadAt,
    layout: &L,
    path: &str,
    goes_on: &dyn Fn() -> bool,
) -> Result<Option<Vec<Listed>>, Error> {
    let mut walk = Walk::new(dev, layout, goes_on);
    let mut place = layout.root();
    let mut parts = path.split('/').filter(|part| !part.is_empty()).take(MAX_DEPTH).peekable();
    while let Some(part) = parts.next() {
        let mut found = None;
        let wanted = part.to_lowercase();
        let pieces = walk.directory(&place)?;
        let bytes = walk.read(&pieces, Unreadable::Fail)?;
        layout.entries(&bytes, &mut |entry| {
            if found.is_none() && entry.name.to_lowercase() == wanted {
                found = Some(entry);
            }
        });
        let Some(entry) = found else { return Ok(None) };
        if !entry.is_directory {
            return Ok(parts.peek().is_none().then(|| vec![listed(entry)]));
        }
        place = Place::Clusters(entry.content);
    }
    let pieces = walk.directory(&place)?;
    let bytes = walk.read(&pieces, Unreadable::Fail)?;
    let mut out = Vec::new();
    layout.entries(&bytes, &mut |entry| out.push(listed(entry)));
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(out))
}

fn listed(entry: Entry) -> Listed {
    match entry.is_directory {
        true => Listed { name: entry.name, kind: ListKind::Directory, size: 0 },
        false => Listed { name: entry.name, kind: ListKind::File, size: entry.size },
    }
}

/// Passes the pieces of `content` in their order.
pub(crate) fn each_piece<L: Layout>(
    dev: &dyn ReadAt,
    layout: &L,
    content: Content,
    goes_on: &dyn Fn() -> bool,
    piece: &mut dyn FnMut(Range<u64>),
) -> Result<(), Error> {
    Walk::new(dev, layout, goes_on).pieces(content, piece)
}

#[cfg(test)]
mod tests;
