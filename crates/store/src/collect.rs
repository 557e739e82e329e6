//! Collection of garbage beside writers, and scrubbing.
//!
//! A pack without wanted content is *condemned*: named below `condemned/`, with the sessions that went on at that time. Writers that
//! begin later see the name and do not count on the pack; those that were there before may. So it is removed when they have all ended and
//! the images, read again, still do not want it. A crash between any two steps leaves a pack too many, never one too few.

use std::collections::{HashMap, HashSet};

use gravure_blockimg::{ChunkId, Frame, FrameDecoder, PackEntry};
use gravure_model::Ctl;

use crate::objects::{Listed, read_whole};
use crate::store::{is_table, list_packs, pack_entries, pack_name};
use crate::writer::{CONDEMNED, condemned};
use crate::{Error, Store};

/// Bytes of the list of sessions.
const MAX_WAITS_BYTES: u64 = 1 << 20;

/// How a collection is done.
#[derive(Debug, Clone, Copy)]
pub struct CollectOptions {
    /// Packs of which less than this share is wanted are written anew, in percent; 0: none.
    pub repack_below_percent: u8,
}

impl Default for CollectOptions {
    fn default() -> Self {
        Self { repack_below_percent: 50 }
    }
}

/// What a collection did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CollectReport {
    /// Packs removed.
    pub removed_packs: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Packs that wait for writers to end.
    pub waiting_packs: u64,
    /// Packs whose wanted content was written anew.
    pub repacked: u64,
    /// Contents that images want.
    pub wanted: u64,
    /// Contents that images want and no pack has: the images are damaged.
    pub missing: Vec<String>,
}

impl Store {
    /// Removes what no image wants. Safe beside writers and readers of images that stay. Needs 40 bytes of memory for each
    /// content that is wanted.
    pub fn collect(&self, options: &CollectOptions, ctl: &Ctl) -> Result<CollectReport, Error> {
        let mut report = CollectReport::default();
        if self.objects().is_read_only() {
            let why = "it is read-only".to_owned();
            return Err(Error::Refused { what: format!("collecting in {}", self.name()), why });
        }
        self.sweep(&mut report, ctl)?;
        let wanted = self.wanted(&mut report.missing, ctl)?;
        report.wanted = u64::try_from(wanted.len()).unwrap_or(u64::MAX);
        self.condemn(&wanted, options, &mut report, ctl)?;
        self.sweep(&mut report, ctl)?;
        self.objects().clean()?;
        self.write_index()?;
        if self.objects().sessions()?.is_empty() {
            let used = self.index_objects();
            for object in self.objects().list("index")?.iter().filter(|object| !used.contains(&object.name)) {
                self.objects().remove(&object.name)?;
            }
        }
        self.write_catalog()?;
        Ok(report)
    }

    /// Ids of everything images want: tables and chunks.
    fn wanted(&self, missing: &mut Vec<String>, ctl: &Ctl) -> Result<HashSet<ChunkId>, Error> {
        let mut decoder = FrameDecoder::new().map_err(Error::format("zstd"))?;
        let mut wanted = HashSet::new();
        missing.clear();
        for image in self.images()? {
            // An image that cannot be read may want anything: nothing is removed then.
            let manifest = self.image(&image.name)?;
            for region in &manifest.root.regions {
                ctl.check()?;
                if !wanted.insert(region.table) {
                    continue;
                }
                let table = match self.content(&region.table, &mut decoder) {
                    Err(Error::NotFound { which, .. }) => {
                        missing.push(format!("{}: region table {which}", image.name));
                        continue;
                    }
                    table => table?,
                };
                let found = ChunkId::of(&table);
                let extents = gravure_blockimg::check_region(&table, found, region, 0);
                let extents = extents.map_err(Error::format(&image.name))?;
                wanted.extend(extents.iter().filter_map(|extent| extent.id()));
            }
        }
        Ok(wanted)
    }

    /// Names packs for removal; those of which little is wanted after that was written anew.
    fn condemn(
        &self,
        wanted: &HashSet<ChunkId>,
        options: &CollectOptions,
        report: &mut CollectReport,
        ctl: &Ctl,
    ) -> Result<(), Error> {
        let already = condemned(self)?;
        let mut found = HashSet::new();
        let mut candidates = Vec::new();
        let mut kept = Vec::new();
        let mut packs: Vec<(ChunkId, u64)> = list_packs(&**self.objects())?.into_iter().collect();
        packs.sort();
        for (pack, len) in packs.into_iter().filter(|(pack, _)| !already.contains(pack)) {
            ctl.check()?;
            let (entries, _) = match pack_entries(&**self.objects(), &pack) {
                // What cannot be read is left for scrubbing to tell.
                Err(Error::Format { .. } | Error::Corrupt { .. } | Error::NotFound { .. }) => continue,
                entries => entries?,
            };
            let frames: HashSet<u64> = entries
                .iter()
                .filter(|entry| wanted.contains(&entry.id) && found.insert(entry.id))
                .map(|entry| entry.frame_offset)
                .collect();
            let bytes: u64 = frame_lens(&entries)
                .iter()
                .filter(|(offset, _)| frames.contains(offset))
                .map(|(_, len)| u64::from(*len))
                .sum();
            let is_sparse =
                bytes.saturating_mul(100) < len.saturating_mul(options.repack_below_percent.into());
            match (frames.is_empty(), is_sparse) {
                (true, _) => candidates.push(pack),
                (false, true) => kept.push((pack, frames)),
                (false, false) => {}
            }
        }
        // One alone would only be copied.
        if kept.len() > 1 || !candidates.is_empty() && !kept.is_empty() {
            let mut writer = self.writer()?;
            for (pack, frames) in &kept {
                let name = pack_name(pack);
                let source = self.objects().open(&name)?;
                let mut offsets: Vec<u64> = frames.iter().copied().collect();
                offsets.sort_unstable();
                for offset in offsets {
                    ctl.check()?;
                    let frame = Frame::read(&source, offset).map_err(Error::format(&name))?;
                    // A frame that is damaged stays where it is.
                    let mut plain = Vec::new();
                    let mut decoder = FrameDecoder::new().map_err(Error::format("zstd"))?;
                    decoder.decode(&frame, &mut plain).map_err(Error::format(&name))?;
                    writer.put(&frame)?;
                }
                report.repacked += 1;
            }
            writer.flush()?;
            candidates.extend(kept.iter().map(|(pack, _)| *pack));
        }
        for pack in candidates {
            let marker = format!("{CONDEMNED}/{pack}");
            self.objects().put_new(&marker, b"")?;
            let sessions = self.objects().sessions()?.join("\n");
            self.objects().replace(&format!("waits/{pack}"), sessions.as_bytes())?;
        }
        Ok(())
    }

    /// Removes condemned packs whose time has come.
    fn sweep(&self, report: &mut CollectReport, ctl: &Ctl) -> Result<(), Error> {
        report.waiting_packs = 0;
        let waits = self.objects().list("waits")?;
        let marked = condemned(self)?;
        let sessions: HashSet<String> = self.objects().sessions()?.into_iter().collect();
        let mut ripe = Vec::new();
        for (pack, wait) in waits.iter().filter_map(|wait| Some((named(wait)?, wait))) {
            if !marked.contains(&pack) {
                // A collection that ended early between its last two steps.
                self.objects().remove(&wait.name)?;
                continue;
            }
            let text = read_whole(&**self.objects(), &wait.name, MAX_WAITS_BYTES)?;
            let text = String::from_utf8_lossy(&text).into_owned();
            if text.lines().any(|session| sessions.contains(session)) {
                report.waiting_packs += 1;
            } else {
                ripe.push(pack);
            }
        }
        // A marker without its list: the collection that made it ended early. It is condemned anew by the next one.
        let listed: HashSet<ChunkId> = waits.iter().filter_map(named).collect();
        for pack in marked.iter().filter(|pack| !listed.contains(pack)) {
            self.objects().remove(&format!("{CONDEMNED}/{pack}"))?;
        }
        if ripe.is_empty() {
            return Ok(());
        }
        // After the sessions have ended: what they committed is seen here.
        let wanted = self.wanted(&mut report.missing, ctl)?;
        let ripe_set: HashSet<ChunkId> = ripe.iter().copied().collect();
        let mut lens: HashMap<ChunkId, u64> = list_packs(&**self.objects())?;
        let mut elsewhere = HashSet::new();
        for pack in lens.keys().filter(|pack| !ripe_set.contains(pack)) {
            if let Ok((entries, _)) = pack_entries(&**self.objects(), pack) {
                elsewhere.extend(entries.iter().map(|entry| entry.id).filter(|id| wanted.contains(id)));
            }
        }
        for pack in ripe {
            ctl.check()?;
            let entries = match pack_entries(&**self.objects(), &pack) {
                Ok((entries, _)) => entries,
                Err(Error::NotFound { .. }) => Vec::new(),
                Err(error) => return Err(error),
            };
            let is_wanted =
                entries.iter().any(|entry| wanted.contains(&entry.id) && !elsewhere.contains(&entry.id));
            if is_wanted {
                // The next pack with the same content need not stay for it.
                elsewhere.extend(entries.iter().map(|entry| entry.id).filter(|id| wanted.contains(id)));
            } else {
                self.forget_pack(&pack);
                self.objects().remove(&pack_name(&pack))?;
                if let Some(len) = lens.remove(&pack) {
                    report.removed_packs += 1;
                    report.removed_bytes = report.removed_bytes.saturating_add(len);
                }
            }
            self.objects().remove(&format!("{CONDEMNED}/{pack}"))?;
            self.objects().remove(&format!("waits/{pack}"))?;
        }
        Ok(())
    }

    /// Reads every pack whole and checks every content.
    pub fn scrub(&self, ctl: &Ctl, progress: &mut dyn FnMut(u64)) -> Result<ScrubReport, Error> {
        let mut report = ScrubReport::default();
        let mut decoder = FrameDecoder::new().map_err(Error::format("zstd"))?;
        let mut plain = Vec::new();
        let mut sound = HashSet::new();
        let mut packs: Vec<(ChunkId, u64)> = list_packs(&**self.objects())?.into_iter().collect();
        packs.sort();
        for (pack, len) in packs {
            let name = pack_name(&pack);
            let entries = match pack_entries(&**self.objects(), &pack) {
                Ok((entries, damage)) => {
                    report.damage.extend(damage.map(|damage| format!("{name}: index: {damage}")));
                    entries
                }
                Err(error @ (Error::Format { .. } | Error::Corrupt { .. })) => {
                    report.damage.push(chain(&error));
                    continue;
                }
                Err(Error::NotFound { .. }) => continue,
                Err(error) => return Err(error),
            };
            let source = self.objects().open(&name)?;
            for (offset, frame_len) in frame_lens(&entries) {
                ctl.check()?;
                let bytes =
                    source.read_vec_at(offset, frame_len as usize).map_err(Error::io("read", &name))?;
                let checked = Frame::parse(&bytes, offset).and_then(|frame| {
                    decoder.decode(&frame, &mut plain)?;
                    Ok(frame)
                });
                match checked {
                    Ok(frame) => {
                        report.tables += u64::from(is_table(&frame));
                        sound.extend(frame.header.entries.iter().map(|entry| entry.id));
                    }
                    Err(error) => report.damage.push(chain(&Error::format(&name)(error))),
                }
                report.bytes = report.bytes.saturating_add(u64::from(frame_len));
                progress(report.bytes);
            }
            report.packs += 1;
            report.pack_bytes = report.pack_bytes.saturating_add(len);
        }
        let mut missing = Vec::new();
        match self.wanted(&mut missing, ctl) {
            Ok(wanted) => {
                report.lost =
                    wanted.iter().filter(|id| !sound.contains(*id)).map(ToString::to_string).collect();
                report.lost.sort();
                report.damage.extend(missing);
            }
            Err(error) => report.damage.push(chain(&error)),
        }
        report.contents = u64::try_from(sound.len()).unwrap_or(u64::MAX);
        Ok(report)
    }
}

/// What scrubbing found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScrubReport {
    /// Packs read.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Bytes of frames checked.
    pub bytes: u64,
    /// Contents that are sound.
    pub contents: u64,
    /// Region tables among the frames.
    pub tables: u64,
    /// What is damaged, one line each.
    pub damage: Vec<String>,
    /// Contents that images want and that are sound nowhere.
    pub lost: Vec<String>,
}

fn named(object: &Listed) -> Option<ChunkId> {
    object.name.rsplit('/').next()?.parse().ok()
}

/// Frames of a pack, ascending.
pub(crate) fn frame_lens(entries: &[PackEntry]) -> Vec<(u64, u32)> {
    let mut frames: Vec<(u64, u32)> =
        entries.iter().map(|entry| (entry.frame_offset, entry.frame_len)).collect();
    frames.sort_unstable();
    frames.dedup();
    frames
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
