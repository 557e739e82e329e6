//! Is every chunk of a block image there and what it should be?

use gravure_blockimg::{ChunkId, FrameDecoder};
use gravure_model::Ctl;
use gravure_model::event::Observer;

use super::blockimg;
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

/// Chunks and bytes that are right, or where and why not.
type Checked = Result<(u64, u64), Error>;

impl Work<Fetch, Vec<u8>, (u64, Checked)> for Checker<'_> {
    fn work(&mut self, mut item: Item<Fetch, Vec<u8>>, out: &Outbox<(u64, Checked), Vec<u8>>) {
        let first = item.job.targets.first().map_or(0, |target| target.offset);
        let fetched = self.image.fetch(&item.job, &mut self.decoder, &mut item.permit);
        let checked = fetched.and_then(|frame| {
            let mut bytes = 0;
            for target in &item.job.targets {
                bytes += self.image.part(&frame, &item.permit, target)?.len() as u64;
            }
            Ok((item.job.targets.len() as u64, bytes))
        });
        out.done(item.ticket, (first, checked), item.permit);
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
    let mut tables = Vec::new();
    let mut decoder = new_decoder()?;
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
            let listed = image
                .extents(&mut decoder, region)
                .and_then(|extents| image.fetches(&mut decoder, region, &extents, &|_| true));
            match listed {
                Ok(listed) => fetches = listed.into_iter(),
                Err(error) if is_damage(&error) => {
                    tables.push(line(image, region_start(image, region), &error))
                }
                Err(error) => return Err(error),
            }
            region += 1;
        }
    };
    stage::run(ctl, permits, workers, source, |(first, checked): (u64, Checked), _| {
        match checked {
            Ok((chunks, bytes)) => {
                report.chunks += chunks;
                report.bytes += bytes;
                meter.add(bytes);
            }
            Err(error) if is_damage(&error) => {
                if report.damage.len() < MAX_DAMAGE {
                    report.damage.push(line(image, first, &error));
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
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
    let volume = image
        .facts()
        .volumes
        .iter()
        .find(|volume| offset >= volume.offset_bytes && offset - volume.offset_bytes < volume.size_bytes);
    match volume.and_then(|volume| volume.number) {
        Some(number) => format!("partition {number}, {text}"),
        None => text,
    }
}
