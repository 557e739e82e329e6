//! The reading end of the stage for a pipe: blobs come in the order of the pipe, those that are wanted fill buffers, the
//! others are passed over.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use gravure_tree::Sha1Hash;
use gravure_wim::{Chunk, ChunkDecoder, PipeReader, PipeResource};
use sha1::{Digest, Sha1};

use super::plan::ReadPlan;
use super::source::{ITEM_BYTES, NODES_PER_ITEM};
use super::{Arriving, Buffers, ChunkIn, Damaged, Failure, Job, Large, OnDamage, Packed, Piece, Target};
use crate::Error;
use crate::meter::{Context, Meter};

/// What happens to blobs that nothing in the plan refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unwanted {
    /// They are passed over.
    Skip,
    /// They are decoded and checked, on the reading thread: they are rare.
    Check,
}

/// What came through a pipe.
#[derive(Debug, Default)]
pub(crate) struct PipeOutcome {
    /// Damaged blobs of the plan.
    pub(crate) damaged: Vec<Damaged>,
    /// Plain size and place of the blobs of the plan that came, by index.
    pub(crate) came: Vec<Option<PipeResource>>,
    /// Blobs outside the plan that were checked, and what was wrong with them.
    pub(crate) others: Vec<(PipeResource, Option<String>)>,
}

/// Reads all blobs of a pipe that `plan` wants. The pipe stands at the blob table afterwards.
#[expect(clippy::too_many_arguments, reason = "as `run`, with what is special to a pipe")]
pub(crate) fn run_pipe<R: Read + Send, T: Target>(
    context: &Context<'_>,
    meter: &Meter<'_>,
    pipe: &mut PipeReader<R>,
    name: &str,
    plan: &ReadPlan,
    target: &T,
    on_damage: OnDamage,
    unwanted: Unwanted,
) -> Result<PipeOutcome, Error> {
    let chunk = pipe.header().compression.map_or(0, |compression| compression.chunk_size() as usize);
    let mut source = PipeSource {
        plan,
        target,
        handles: target.handles(),
        pipe,
        name,
        by_hash: plan.blobs.iter().enumerate().map(|(index, blob)| (blob.sha1, index)).collect(),
        came: vec![None; plan.blobs.len()],
        others: Vec::new(),
        unwanted,
        next_nodes: 0,
        next_inline: 0,
        plain_bytes: 0,
        ready: None,
        cutting: None,
        is_done: false,
    };
    let next = |buffers: &mut Buffers| source.next(buffers);
    let damaged = super::run_source(context, meter, plan, target, on_damage, chunk.max(ITEM_BYTES), next)?;
    Ok(PipeOutcome { damaged, came: source.came, others: source.others })
}

struct PipeSource<'a, R, T: Target> {
    plan: &'a ReadPlan,
    target: &'a T,
    handles: T::Handles,
    pipe: &'a mut PipeReader<R>,
    name: &'a str,
    by_hash: HashMap<Sha1Hash, usize>,
    came: Vec<Option<PipeResource>>,
    others: Vec<(PipeResource, Option<String>)>,
    unwanted: Unwanted,
    next_nodes: usize,
    next_inline: usize,
    /// What all that came takes where it goes.
    plain_bytes: u64,
    /// A wanted blob whose content comes next.
    ready: Option<(usize, PipeResource)>,
    cutting: Option<Cutting<T::Open>>,
    is_done: bool,
}

struct Cutting<O> {
    large: Arc<Large<O>>,
    next_number: u64,
    done: u64,
}

impl<R: Read, T: Target> PipeSource<'_, R, T> {
    fn next(&mut self, buffers: &mut Buffers) -> Result<Option<Job<T::Open>>, Error> {
        buffers.stored.clear();
        buffers.chunks.clear();
        if self.cutting.is_some() {
            return self.cut(buffers).map(Some);
        }
        if let nodes @ [_, ..] = self.plan.nodes.get(self.next_nodes..).unwrap_or_default() {
            let end = self.next_nodes + nodes.len().min(NODES_PER_ITEM);
            let job = Job::Nodes(self.next_nodes..end);
            self.next_nodes = end;
            return Ok(Some(job));
        }
        if self.next_inline < self.plan.inline.len() {
            self.next_inline += 1;
            return Ok(Some(Job::Inline(self.next_inline - 1)));
        }
        let mut packed = Vec::new();
        let mut plain_len = 0;
        while let Some((index, resource)) = self.wanted()? {
            let small = usize::try_from(resource.size).ok().filter(|size| *size <= ITEM_BYTES);
            let Some(size) = small.filter(|size| plain_len + size <= ITEM_BYTES) else {
                if !packed.is_empty() {
                    self.ready = Some((index, resource));
                    break;
                }
                return self.start(index, &resource, buffers).map(Some);
            };
            let first = buffers.chunks.len();
            while self.read_chunk(buffers)?.is_some() {}
            let plain = plain_len..plain_len + size;
            packed.push(Packed { blob: index, chunks: first..buffers.chunks.len(), plain, stored: 0..0 });
            plain_len += size;
        }
        Ok((!packed.is_empty()).then_some(Job::Pack { blobs: packed, plain_len }))
    }

    /// The next blob of the plan; others are passed over.
    fn wanted(&mut self) -> Result<Option<(usize, PipeResource)>, Error> {
        if let Some(ready) = self.ready.take() {
            return Ok(Some(ready));
        }
        while !self.is_done {
            let Some(resource) = self.pipe.next_blob().map_err(Error::wim(self.name))? else {
                self.is_done = true;
                break;
            };
            match self.by_hash.get(&resource.sha1).copied() {
                Some(index) if self.came[index].is_none() => {
                    self.came[index] = Some(resource);
                    let uses = self.plan.blobs[index].uses.len() as u64;
                    self.count(&resource, uses)?;
                    return Ok(Some((index, resource)));
                }
                None if self.unwanted == Unwanted::Check => {
                    let found = self.check(&resource)?;
                    self.others.push((resource, found));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Holds what came to the limit for the contents of an image: sizes come with the contents.
    fn count(&mut self, resource: &PipeResource, uses: u64) -> Result<(), Error> {
        self.plain_bytes = self.plain_bytes.saturating_add(resource.size.saturating_mul(uses));
        let (found, limit) = (self.plain_bytes, self.pipe.limits().max_image_bytes);
        if found <= limit {
            return Ok(());
        }
        let (what, offset, scope) = ("contents of the image", resource.offset, gravure_wim::Scope::Image);
        Err(Error::wim(self.name)(gravure_wim::Error::Limit { what, offset, found, limit, scope }))
    }

    /// Decodes and hashes a blob; what is wrong with it.
    fn check(&mut self, resource: &PipeResource) -> Result<Option<String>, Error> {
        let mut decoder = ChunkDecoder::default();
        let mut hasher = Sha1::new();
        let (mut stored, mut plain, mut wrong) = (Vec::new(), Vec::new(), None);
        while let Some(chunk) = self.pipe.read_chunk(&mut stored).map_err(Error::wim(self.name))? {
            plain.resize(chunk.plain_len as usize, 0);
            if let (None, Err(error)) = (&wrong, decoder.decode(&chunk, &stored, &mut plain)) {
                wrong = Some(error.to_string());
            }
            hasher.update(&plain);
            stored.clear();
        }
        let found = Sha1Hash(hasher.finalize().into());
        Ok(wrong.or_else(|| (found != resource.sha1).then(|| format!("SHA-1 {found}"))))
    }

    fn start(
        &mut self,
        index: usize,
        resource: &PipeResource,
        buffers: &mut Buffers,
    ) -> Result<Job<T::Open>, Error> {
        match self.target.open(&mut self.handles, &self.plan.blobs[index].uses) {
            Err(error) => Ok(Job::Damaged(vec![Failure::Other(error)])),
            Ok(open) => {
                let large = Arc::new(Large::new(index, resource.size, Arriving::Target(open)));
                self.cutting = Some(Cutting { large, next_number: 0, done: 0 });
                self.cut(buffers)
            }
        }
    }

    /// The next piece of the large blob.
    fn cut(&mut self, buffers: &mut Buffers) -> Result<Job<T::Open>, Error> {
        let Some(mut cutting) = self.cutting.take() else { return Ok(Job::Nodes(0..0)) };
        let offset = cutting.done;
        let mut plain_len = 0;
        while plain_len < ITEM_BYTES {
            let Some(chunk) = self.read_chunk(buffers)? else { break };
            plain_len += chunk.plain_len as usize;
        }
        cutting.done += plain_len as u64;
        let large = Arc::clone(&cutting.large);
        let (number, is_last) = (cutting.next_number, cutting.done >= large.size);
        if !is_last {
            cutting.next_number += 1;
            self.cutting = Some(cutting);
        }
        let piece = Piece { large, number, is_last, offset, plain: 0..plain_len, copied: None };
        Ok(Job::Piece { piece, plain_len })
    }

    fn read_chunk(&mut self, buffers: &mut Buffers) -> Result<Option<Chunk>, Error> {
        let base = buffers.stored.len();
        let chunk = self.pipe.read_chunk(&mut buffers.stored).map_err(Error::wim(self.name))?;
        if let Some(chunk) = &chunk {
            buffers.chunks.push(ChunkIn {
                stored: base..buffers.stored.len(),
                plain_len: chunk.plain_len as usize,
                encoding: chunk.encoding,
            });
        }
        Ok(chunk)
    }
}
