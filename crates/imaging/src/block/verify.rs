//! Is every chunk of a block image there and what it should be?
//!
//! **Memory:** 1 MiB an item, one item a thread and 4; what `early.rs` needs; tables of a region.

use std::collections::BTreeMap;

use gravure_blockimg::facts::Volume;
use gravure_blockimg::{ChunkId, FrameDecoder};
use gravure_model::Ctl;
use gravure_model::event::Observer;

use super::blockimg;
use super::early::{Early, Needed};
use super::image::{BlockImage, Fetch};
use crate::meter::{Context, Meter, default_threads};
use crate::stage::{self, Item, Outbox, Work};
use crate::{Error, ErrorKind};

/// Lines of damage kept.
const MAX_DAMAGE: usize = 1000;

/// What verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockVerifyReport {
    /// Data extents checked.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Hash of what a restored device holds.
    pub tree: Option<ChunkId>,
    /// What is damaged, one line each.
    pub damage: Vec<String>,
    /// Wall time.
    pub milliseconds: u64,
}

struct Checker<'a> {
    image: &'a BlockImage,
    decoder: FrameDecoder,
}

/// What a frame came to.
#[derive(Debug, Default)]
struct Checked {
    chunks: u64,
    bytes: u64,
    damage: Vec<String>,
    /// What kept it from being looked at.
    failed: Option<Error>,
}

impl Work<Fetch, Vec<u8>, Checked> for Checker<'_> {
    fn work(&mut self, mut item: Item<Fetch, Vec<u8>>, out: &Outbox<Checked, Vec<u8>>) {
        let mut checked = Checked::default();
        match self.image.fetch(&item.job, &mut self.decoder, &mut item.permit) {
            Ok(frame) => {
                for target in &item.job.targets {
                    match self.image.part(&frame, &item.permit, target) {
                        Ok(content) => {
                            checked.chunks += 1;
                            checked.bytes += content.len() as u64;
                        }
                        Err(error) => checked.damage.push(line(self.image, target.offset, &error)),
                    }
                }
            }
            Err(error) if is_damage(&error) => {
                // Its content may be missing in several volumes.
                let mut seen = Vec::new();
                for target in &item.job.targets {
                    let volume = volume_at(self.image, target.offset);
                    if !seen.contains(&volume) {
                        seen.push(volume);
                        checked.damage.push(line(self.image, target.offset, &error));
                    }
                }
            }
            Err(error) => checked.failed = Some(error),
        }
        out.done(item.ticket, checked, item.permit);
    }
}

/// The chunks that come with earlier regions, and the regions whose tables are damaged, with what is to be said of them.
struct Survey {
    needed: Needed,
    early: Early,
    damaged: BTreeMap<usize, String>,
}

impl Survey {
    fn new(image: &BlockImage, decoder: &mut FrameDecoder, ctl: &Ctl) -> Result<Self, Error> {
        let (needed, early) = Default::default();
        let mut this = Self { needed, early, damaged: BTreeMap::new() };
        for region in 0..image.root().regions.len() {
            ctl.check()?;
            match this.look(image, decoder, region) {
                Err(error) if is_damage(&error) => {
                    // So that the others have their numbers.
                    if this.needed.regions() <= region {
                        this.needed.push_region(0, false);
                    }
                    this.damaged.insert(region, line(image, region_start(image, region), &error));
                }
                other => other?,
            }
        }
        this.early.end();
        Ok(this)
    }

    fn look(&mut self, image: &BlockImage, decoder: &mut FrameDecoder, region: usize) -> Result<(), Error> {
        let extents = image.extents(decoder, region)?;
        self.needed.push_region(extents.len(), true);
        let wanted = image.wanted(decoder, region, &extents, &|_| true)?;
        self.early.take(region, wanted, &mut self.needed);
        Ok(())
    }

    /// What is fetched for a region, the chunks of later ones that lie in the same frames with it.
    fn fetches(
        &mut self,
        image: &BlockImage,
        decoder: &mut FrameDecoder,
        region: usize,
    ) -> Result<Vec<Fetch>, Error> {
        let extents = image.extents(decoder, region)?;
        let wanted = image.wanted(decoder, region, &extents, &|at| self.needed.get(region, at))?;
        let wanted = wanted.into_iter().map(|(_, at, target)| (at, target));
        Ok(image.joined(wanted.chain(self.early.of_region(region))))
    }
}

/// Reads and checks everything a restore would need. What is damaged is in the report; an error is what kept it from looking.
pub fn verify_block_image(
    image: &BlockImage,
    threads: Option<usize>,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<BlockVerifyReport, Error> {
    let threads = threads.unwrap_or_else(default_threads).clamp(1, super::apply::MAX_THREADS);
    let context = Context { ctl, observer, threads };
    let meter = Meter::start(&context, "verify");
    meter.expect(image.root().data_bytes());
    let new_decoder = || FrameDecoder::new().map_err(blockimg(image.name()));
    let mut report = BlockVerifyReport::default();
    let mut decoder = new_decoder()?;
    let mut survey = Survey::new(image, &mut decoder, ctl)?;
    let mut tables: Vec<String> = survey.damaged.values().cloned().collect();
    let mut region = 0;
    let mut fetches: std::vec::IntoIter<Fetch> = Vec::new().into_iter();
    let mut workers = Vec::new();
    for _ in 0..context.threads {
        workers.push(Checker { image, decoder: new_decoder()? });
    }
    let permits = (0..context.threads + 4).map(|_| Vec::new()).collect();
    let source = |_: &mut Vec<u8>| {
        loop {
            if let Some(fetch) = fetches.next() {
                return Ok(Some(fetch));
            }
            if region >= image.root().regions.len() {
                return Ok(None);
            }
            if !survey.damaged.contains_key(&region) {
                match survey.fetches(image, &mut decoder, region) {
                    Ok(listed) => fetches = listed.into_iter(),
                    // It was sound a moment ago.
                    Err(error) if is_damage(&error) => {
                        tables.push(line(image, region_start(image, region), &error));
                    }
                    Err(error) => return Err(error),
                }
            }
            region += 1;
        }
    };
    stage::run(ctl, permits, workers, source, |checked: Checked, _| {
        report.chunks += checked.chunks;
        report.bytes += checked.bytes;
        meter.add(checked.bytes);
        let room = MAX_DAMAGE.saturating_sub(report.damage.len());
        report.damage.extend(checked.damage.into_iter().take(room));
        checked.failed.map_or(Ok(()), Err)
    })?;
    report.damage.splice(..0, tables);
    report.damage.truncate(MAX_DAMAGE);
    report.tree = report.damage.is_empty().then(|| image.root().tree_hash());
    report.milliseconds = meter.finish().milliseconds;
    Ok(report)
}

fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Integrity | ErrorKind::NotFound | ErrorKind::Unsupported)
}

fn region_start(image: &BlockImage, region: usize) -> u64 {
    image.root().regions.get(region).map_or(0, |region| region.offset)
}

fn line(image: &BlockImage, offset: u64, error: &Error) -> String {
    let mut text = format!("device at {offset:#x}: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    match volume_at(image, offset) {
        Some(number) => format!("partition {number}, {text}"),
        None => text,
    }
}

/// Number of the partition around a byte of the device.
fn volume_at(image: &BlockImage, offset: u64) -> Option<u32> {
    let mut volumes = image.facts().volumes.iter();
    let around =
        |volume: &&Volume| offset >= volume.offset_bytes && offset - volume.offset_bytes < volume.size_bytes;
    volumes.find(around).and_then(|volume| volume.number)
}
