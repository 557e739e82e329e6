//! Where each content is. The truth stands in the packs; here is a sorted copy of it that needs no memory: ids are uniform, so a
//! lookup guesses the place in the file and reads a few KiB around it. Packs that are newer than the copy are kept in
//! memory until there are enough of them for a new copy.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use gravure_blockimg::{ChunkId, PackEntry};
use gravure_io::{Cursor, ReadAt};

use crate::Error;
use crate::objects::{Objects, read_whole};

const MAGIC: [u8; 8] = *b"GRAVIDX\x01";
/// Magic, packs u32, shard bits u32, seal; names of packs follow, then name and rows of each shard.
const HEADER_BYTES: usize = 48;
const SHARD_BYTES: usize = 40;
const ROW_BYTES: usize = 56;
/// Rows read at a time: 14 KiB.
const WINDOW_ROWS: u64 = 256;
/// Rows of a shard aimed at: 14 MiB, which is what a merge holds in memory.
const SHARD_ROWS: u64 = 1 << 18;
/// Shards are open files; 2^9 of them hold 134 million contents at the size aimed at.
const MAX_SHARD_BITS: u32 = 9;
/// Packs an index may name: 16 TB of full ones.
const MAX_PACKS: u32 = 1 << 19;

/// Where a content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its pack.
    pub pack: ChunkId,
    /// Where in the pack, and how long it is.
    pub entry: PackEntry,
}

/// A part of the index: all ids that begin with the same bits.
struct Shard {
    name: String,
    source: Arc<dyn ReadAt>,
    rows: u64,
}

/// A sorted index: its head with the packs it covers, and its shards.
pub(crate) struct IndexFile {
    name: String,
    packs: Vec<ChunkId>,
    bits: u32,
    shards: Vec<Shard>,
}

impl std::fmt::Debug for IndexFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexFile")
            .field("name", &self.name)
            .field("rows", &self.rows())
            .finish_non_exhaustive()
    }
}

impl IndexFile {
    /// Opens the index with the head `name`; head and lengths are checked, rows when they are used.
    pub(crate) fn open(objects: &dyn Objects, name: &str) -> Result<Self, Error> {
        let shards_len = (SHARD_BYTES as u64) << MAX_SHARD_BITS;
        let limit = HEADER_BYTES as u64 + u64::from(MAX_PACKS) * 32 + shards_len;
        let bytes = read_whole(objects, name, limit)?;
        let corrupt = |expected: &str, found: String| Error::Corrupt {
            name: name.to_owned(),
            expected: expected.to_owned(),
            found,
        };
        let mut cursor = Cursor::new(&bytes);
        let cut = |_| corrupt("a whole head", format!("{} bytes", bytes.len()));
        let magic: [u8; 8] = cursor.array().map_err(cut)?;
        let (packs, bits) = (cursor.u32().map_err(cut)?, cursor.u32().map_err(cut)?);
        let check: [u8; 32] = cursor.array().map_err(cut)?;
        let body = cursor.rest();
        if magic != MAGIC || packs > MAX_PACKS || bits > MAX_SHARD_BITS || check != seal(packs, bits, body) {
            return Err(corrupt("an index of this version and its checksum", "another".to_owned()));
        }
        let names = cursor.take(packs as usize * 32).map_err(cut)?;
        let packs = names.chunks_exact(32).filter_map(|id| id.try_into().ok()).map(ChunkId).collect();
        let mut shards = Vec::new();
        for _ in 0..1u32 << bits {
            let id = ChunkId(cursor.array().map_err(cut)?);
            let rows = cursor.u64().map_err(cut)?;
            let name = shard_name(&id);
            let source: Arc<dyn ReadAt> = match rows {
                0 => Arc::new(Vec::new()),
                _ => objects.open(&name)?,
            };
            if rows.checked_mul(ROW_BYTES as u64) != Some(source.size()) {
                let expected = format!("{rows} rows of {ROW_BYTES} bytes");
                return Err(Error::Corrupt { name, expected, found: format!("{} bytes", source.size()) });
            }
            shards.push(Shard { name, source, rows });
        }
        Ok(Self { name: name.to_owned(), packs, bits, shards })
    }

    pub(crate) fn packs(&self) -> &[ChunkId] {
        &self.packs
    }

    /// Head and shards.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &str> {
        let shards = self.shards.iter().filter(|shard| shard.rows > 0).map(|shard| shard.name.as_str());
        std::iter::once(self.name.as_str()).chain(shards)
    }

    pub(crate) fn rows(&self) -> u64 {
        self.shards.iter().map(|shard| shard.rows).sum()
    }

    /// A place of `id` whose pack is wanted.
    pub(crate) fn find(
        &self,
        id: &ChunkId,
        is_wanted: &dyn Fn(&ChunkId) -> bool,
    ) -> Result<Option<Place>, Error> {
        let Some(shard) = self.shards.get(shard_of(id, self.bits)) else { return Ok(None) };
        let mut at = shard.lower_bound(id)?;
        while at < shard.rows {
            let bytes = shard.read_rows(at, WINDOW_ROWS.min(shard.rows - at))?;
            for row in bytes.chunks_exact(ROW_BYTES) {
                let Some((found, pack, entry)) = parse_row(row).filter(|(found, ..)| found == id) else {
                    return Ok(None);
                };
                let pack = self.packs.get(pack as usize).filter(|pack| is_wanted(pack));
                if let Some(pack) = pack {
                    return Ok(Some(Place { pack: *pack, entry: PackEntry { id: found, ..entry } }));
                }
                at += 1;
            }
        }
        Ok(None)
    }
}

impl Shard {
    fn read_rows(&self, start: u64, count: u64) -> Result<Vec<u8>, Error> {
        let len = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(ROW_BYTES);
        self.source.read_vec_at(start * ROW_BYTES as u64, len).map_err(Error::io("read", &self.name))
    }

    /// The first row that is not before `id`. Ids are uniform, so it is near where it should be.
    fn lower_bound(&self, id: &ChunkId) -> Result<u64, Error> {
        // Rows before `low` are smaller, those from `high` on are not.
        let (mut low, mut high) = (0, self.rows);
        let (mut low_key, mut high_key) = (0u64, u64::MAX);
        let mut is_halved = false;
        while low < high {
            let span = high_key.saturating_sub(low_key).max(1);
            let share = u128::from(key(&id.0).saturating_sub(low_key)) * u128::from(high - low);
            let guess = u64::try_from(share / u128::from(span)).unwrap_or(u64::MAX).min(high - low - 1);
            // Every other step halves, so that ids that are not uniform cost no more than a search by halves.
            let guess = low + if is_halved { (high - low) / 2 } else { guess };
            is_halved = !is_halved;
            let start = guess.saturating_sub(WINDOW_ROWS / 2).max(low);
            let bytes = self.read_rows(start, WINDOW_ROWS.min(high - start))?;
            let mut rows = bytes.chunks_exact(ROW_BYTES).map(|row| &row[..32]);
            let count = rows.len() as u64;
            match rows.clone().position(|row| *row >= id.0[..]) {
                Some(0) => {
                    high = start;
                    high_key = rows.next().map_or(high_key, key);
                }
                Some(position) => return Ok(start + position as u64),
                None => {
                    low = start + count;
                    low_key = rows.next_back().map_or(low_key, key);
                }
            }
        }
        Ok(low)
    }
}

fn key(id: &[u8]) -> u64 {
    id.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn shard_of(id: &ChunkId, bits: u32) -> usize {
    if bits == 0 { 0 } else { (key(&id.0) >> (64 - bits)) as usize }
}

fn shard_name(id: &ChunkId) -> String {
    format!("index/{id}")
}

fn seal(packs: u32, bits: u32, body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&packs.to_le_bytes());
    hasher.update(&bits.to_le_bytes());
    hasher.update(body);
    *hasher.finalize().as_bytes()
}

/// Row: id, pack u32, entry u32, offset of the frame u64, bytes of the frame u32, plain bytes u32.
fn write_row(out: &mut Vec<u8>, id: &ChunkId, pack: u32, entry: &PackEntry) {
    out.extend_from_slice(&id.0);
    out.extend_from_slice(&pack.to_le_bytes());
    out.extend_from_slice(&entry.entry.to_le_bytes());
    out.extend_from_slice(&entry.frame_offset.to_le_bytes());
    out.extend_from_slice(&entry.frame_len.to_le_bytes());
    out.extend_from_slice(&entry.len.to_le_bytes());
}

fn parse_row(row: &[u8]) -> Option<(ChunkId, u32, PackEntry)> {
    let mut cursor = Cursor::new(row);
    let id = ChunkId(cursor.array().ok()?);
    let (pack, entry) = (cursor.u32().ok()?, cursor.u32().ok()?);
    let frame_offset = cursor.u64().ok()?;
    let (frame_len, len) = (cursor.u32().ok()?, cursor.u32().ok()?);
    Some((id, pack, PackEntry { id, len, frame_offset, frame_len, entry }))
}

/// Packs that are in no index file yet.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    packs: Vec<ChunkId>,
    rows: HashMap<ChunkId, (u32, PackEntry)>,
    /// Further places of the same content: a pack that goes must not take the others with it.
    twins: HashMap<ChunkId, Vec<(u32, PackEntry)>>,
}

impl Recent {
    pub(crate) fn add(&mut self, pack: ChunkId, entries: &[PackEntry]) {
        let number = u32::try_from(self.packs.len()).unwrap_or(u32::MAX);
        self.packs.push(pack);
        for entry in entries {
            match self.rows.entry(entry.id) {
                Entry::Vacant(place) => {
                    place.insert((number, *entry));
                }
                Entry::Occupied(_) => self.twins.entry(entry.id).or_default().push((number, *entry)),
            }
        }
    }

    pub(crate) fn find(&self, id: &ChunkId, is_wanted: &dyn Fn(&ChunkId) -> bool) -> Option<Place> {
        let first = self.rows.get(id)?;
        let twins = self.twins.get(id).map(Vec::as_slice).unwrap_or_default();
        std::iter::once(first).chain(twins).find_map(|(pack, entry)| {
            let pack = self.packs.get(*pack as usize).filter(|pack| is_wanted(pack))?;
            Some(Place { pack: *pack, entry: *entry })
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len() + self.twins.len()
    }

    /// Writes `old`, without the packs that are gone, and the recent packs as a new index. Returns the name of its head.
    pub(crate) fn merge(
        &self,
        objects: &dyn Objects,
        old: Option<&IndexFile>,
        is_there: &dyn Fn(&ChunkId) -> bool,
    ) -> Result<String, Error> {
        let old_packs = old.map(IndexFile::packs).unwrap_or_default();
        let mut numbers: HashMap<&ChunkId, u32> = HashMap::new();
        let mut names = Vec::new();
        for pack in old_packs.iter().chain(&self.packs).filter(|pack| is_there(pack)) {
            numbers.entry(pack).or_insert_with(|| {
                names.extend_from_slice(&pack.0);
                (names.len() / 32 - 1) as u32
            });
        }
        let mut recent: Vec<(ChunkId, u32, PackEntry)> = Vec::with_capacity(self.rows.len());
        let twins = self.twins.iter().flat_map(|(id, twins)| twins.iter().map(move |place| (id, place)));
        for (id, (pack, entry)) in self.rows.iter().chain(twins) {
            let number = self.packs.get(*pack as usize).and_then(|pack| numbers.get(pack));
            recent.extend(number.map(|number| (*id, *number, *entry)));
        }
        recent.sort_unstable_by_key(|(id, pack, _)| (*id, *pack));
        let rows = old.map_or(0, IndexFile::rows) + recent.len() as u64;
        let bits = rows.div_ceil(SHARD_ROWS).max(1).next_power_of_two().trailing_zeros().min(MAX_SHARD_BITS);
        let mut shards = ShardWriter { objects, bits, current: 0, rows: Vec::new(), written: Vec::new() };
        let mut recent = recent.into_iter().peekable();
        for shard in old.map(|old| old.shards.as_slice()).unwrap_or_default() {
            let mut start = 0;
            while start < shard.rows {
                let count = (WINDOW_ROWS * 64).min(shard.rows - start);
                for row in shard.read_rows(start, count)?.chunks_exact(ROW_BYTES) {
                    let Some((id, pack, entry)) = parse_row(row) else { continue };
                    while let Some((new, pack, entry)) = recent.next_if(|(new, ..)| *new < id) {
                        shards.put(&new, pack, &entry)?;
                    }
                    let number = old_packs.get(pack as usize).and_then(|pack| numbers.get(pack));
                    if let Some(number) = number {
                        shards.put(&id, *number, &entry)?;
                    }
                }
                start += count;
            }
        }
        for (id, pack, entry) in recent {
            shards.put(&id, pack, &entry)?;
        }
        let packs = (names.len() / 32) as u32;
        let body = [names, shards.finish()?].concat();
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&packs.to_le_bytes());
        out.extend_from_slice(&bits.to_le_bytes());
        out.extend_from_slice(&seal(packs, bits, &body));
        out.extend_from_slice(&body);
        let name = format!("{HEAD_PREFIX}{}", ChunkId::of(&out));
        objects.put_new(&name, &out)?;
        Ok(name)
    }
}

/// What names of heads begin with.
pub(crate) const HEAD_PREFIX: &str = "index/head-";

/// Writes shards one after the other; rows come in order.
struct ShardWriter<'a> {
    objects: &'a dyn Objects,
    bits: u32,
    current: usize,
    rows: Vec<u8>,
    /// Name and rows of each.
    written: Vec<u8>,
}

impl ShardWriter<'_> {
    fn put(&mut self, id: &ChunkId, pack: u32, entry: &PackEntry) -> Result<(), Error> {
        while self.current < shard_of(id, self.bits) {
            self.end_shard()?;
        }
        write_row(&mut self.rows, id, pack, entry);
        Ok(())
    }

    fn end_shard(&mut self) -> Result<(), Error> {
        let id = ChunkId::of(&self.rows);
        if !self.rows.is_empty() {
            self.objects.put_new(&shard_name(&id), &self.rows)?;
        }
        self.written.extend_from_slice(&id.0);
        self.written.extend_from_slice(&((self.rows.len() / ROW_BYTES) as u64).to_le_bytes());
        self.rows.clear();
        self.current += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>, Error> {
        while self.current < 1 << self.bits {
            self.end_shard()?;
        }
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalObjects;

    fn entry(number: u32) -> PackEntry {
        let id = ChunkId::of(&number.to_le_bytes());
        PackEntry {
            id,
            len: number + 1,
            frame_offset: u64::from(number) * 7,
            frame_len: 9,
            entry: number % 5,
        }
    }

    #[test]
    fn everything_is_found_in_files_of_any_size() {
        let dir = tempfile::tempdir().unwrap();
        let objects = LocalObjects::new(dir.path());
        for count in [0u32, 1, 2, 255, 256, 257, 5000, 300_000] {
            let mut recent = Recent::default();
            let (a, b) = (ChunkId::of(b"a"), ChunkId::of(b"b"));
            recent.add(a, &(0..count / 2).map(entry).collect::<Vec<_>>());
            let name = recent.merge(&objects, None, &|_| true).unwrap();
            let first = IndexFile::open(&objects, &name).unwrap();
            let mut recent = Recent::default();
            recent.add(b, &(count / 2..count).map(entry).collect::<Vec<_>>());
            let name = recent.merge(&objects, Some(&first), &|_| true).unwrap();
            let file = IndexFile::open(&objects, &name).unwrap();
            assert_eq!(
                (file.rows(), file.shards.len()),
                (u64::from(count), if count > 1 << 18 { 2 } else { 1 })
            );
            for number in (0..count + 100).step_by(if count > 10_000 { 97 } else { 1 }) {
                let expected = entry(number);
                let found = file.find(&expected.id, &|_| true).unwrap();
                let pack = if number < count / 2 { a } else { b };
                let expected = (number < count).then_some(Place { pack, entry: expected });
                assert_eq!(found, expected, "{number} of {count}");
            }
            let name = Recent::default().merge(&objects, Some(&file), &|pack| *pack == a).unwrap();
            assert_eq!(IndexFile::open(&objects, &name).unwrap().rows(), u64::from(count / 2));
        }
    }

    #[test]
    fn an_id_in_several_packs_is_found_in_the_one_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let objects = LocalObjects::new(dir.path());
        let same = entry(1);
        let mut shards =
            ShardWriter { objects: &objects, bits: 0, current: 0, rows: vec![], written: vec![] };
        (0..600).for_each(|pack| shards.put(&same.id, pack, &same).unwrap());
        let rows = std::mem::take(&mut shards.rows);
        let shard = Shard { name: "x".into(), source: Arc::new(rows), rows: 600 };
        let packs: Vec<ChunkId> = (0..600u32).map(|number| ChunkId::of(&number.to_be_bytes())).collect();
        let file = IndexFile { name: "x".into(), packs: packs.clone(), bits: 0, shards: vec![shard] };
        for wanted in [0, 1, 299, 598, 599] {
            let found = file.find(&same.id, &|pack| *pack == packs[wanted]).unwrap();
            assert_eq!(found.map(|place| place.pack), Some(packs[wanted]), "{wanted}");
        }
    }

    #[test]
    fn a_damaged_head_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let objects = LocalObjects::new(dir.path());
        let mut recent = Recent::default();
        recent.add(ChunkId::of(b"a"), &[entry(1), entry(2)]);
        let name = recent.merge(&objects, None, &|_| true).unwrap();
        let bytes = read_whole(&objects, &name, 10_000).unwrap();
        for len in (0..bytes.len()).step_by(7) {
            objects.replace("index/head-x", &bytes[..len]).unwrap();
            assert!(IndexFile::open(&objects, "index/head-x").is_err(), "{len}");
        }
        for at in (0..bytes.len()).step_by(5) {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            objects.replace("index/head-x", &bad).unwrap();
            assert!(IndexFile::open(&objects, "index/head-x").is_err(), "{at}");
        }
    }
}
