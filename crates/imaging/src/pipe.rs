//! Pipable WIM files from a pipe: read once, front to back, on all cores; the parts of a split set one behind the other. What
//! needs random access (listing sizes, the integrity table, files that are not pipable) needs a file.

use std::collections::{HashMap, HashSet};
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_tree::{NodeId, Origin, Sha1Hash, Tree};
use gravure_wim::{Header, ImageIndex, Limits, PipeReader, PipeResource, WimInfo};
use sha1::{Digest, Sha1};

use crate::apply::{ApplyOptions, ApplyReport, DamagedContent, apply_with, judge};
use crate::directory::DirectoryTarget;
use crate::extract::{Parents, Selected, at, file_content, subtree};
use crate::meter::{Context, Meter, default_threads};
use crate::reading::{
    Decoders, OnDamage, PipeOutcome, ReadPlan, Target, Unwanted, missing, nowhere, run_pipe,
};
use crate::uses::{self, Part, Use};
use crate::verify::{Damage, FileReport, VerifyFileOptions};
use crate::{Error, Image, Which, damage};

/// Bytes read from the pipe at a time.
const BUFFER_BYTES: usize = 1 << 20;

type Input<'a> = BufReader<Box<dyn Read + Send + 'a>>;

/// A pipable WIM in a pipe. One operation uses it up.
pub struct PipedFile<'a> {
    pipe: PipeReader<Input<'a>>,
    name: String,
    warnings: Vec<String>,
}

impl std::fmt::Debug for PipedFile<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PipedFile").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> PipedFile<'a> {
    /// Reads header and XML document from `input`, which messages call `name`.
    pub fn open(input: impl Read + Send + 'a, name: &str) -> Result<Self, Error> {
        Self::open_within(input, name, &Limits::default())
    }

    /// As [`PipedFile::open`] with other limits than the usual ones.
    pub fn open_within(input: impl Read + Send + 'a, name: &str, limits: &Limits) -> Result<Self, Error> {
        let input: Box<dyn Read + Send + 'a> = Box::new(input);
        let input = BufReader::with_capacity(BUFFER_BYTES, input);
        let opened = PipeReader::open(input, limits).map_err(Error::wim(name))?;
        let warnings = opened.warnings.iter().map(|warning| format!("{name}: {warning}")).collect();
        Ok(Self { pipe: opened.value, name: name.to_owned(), warnings })
    }

    /// The header, without the places of tables.
    pub fn header(&self) -> &Header {
        self.pipe.header()
    }

    /// The XML document at the front.
    pub fn info(&self) -> &WimInfo {
        self.pipe.info()
    }

    /// Finds an image.
    pub fn find(&self, which: &Which) -> Result<ImageIndex, Error> {
        which.find(self.pipe.info(), self.pipe.header().image_count, &self.name)
    }

    /// What was odd so far.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// As [`crate::apply_to_directory`]. The image that comes back has sizes and link targets, so that
    /// [`crate::verify_applied`] can compare with it; its other contents are gone with the pipe.
    pub fn apply(
        mut self,
        which: &Which,
        path: &Path,
        options: &ApplyOptions,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<(ApplyReport, Image), Error> {
        let image = self.image(which)?;
        self.apply_image(&image, path, options, ctl, observer)
    }

    /// As [`crate::extract`].
    #[expect(clippy::too_many_arguments, reason = "as for files, with the image")]
    pub fn extract(
        mut self,
        which: &Which,
        paths: &[String],
        parents: Parents,
        target: &Path,
        options: &ApplyOptions,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<ApplyReport, Error> {
        let image = self.image(which)?;
        let selected: Vec<Selected> = paths.iter().map(|path| at(path, parents)).collect();
        let part = image.with_tree(subtree(image.tree(), &selected)?);
        Ok(self.apply_image(&part, target, options, ctl, observer)?.0)
    }

    /// As [`crate::extract_to`].
    pub fn extract_to(
        mut self,
        which: &Which,
        path: &str,
        out: &mut dyn Write,
        ctl: &Ctl,
    ) -> Result<u64, Error> {
        let image = self.image(which)?;
        let data = file_content(image.tree(), &at(path, Parents::Drop))?;
        let written = match data.sha1 {
            Some(sha1) if !data.is_empty() => self.stream(sha1, path, out, ctl)?,
            _ => 0,
        };
        self.finish()?;
        Ok(written)
    }

    /// Writes the content with this hash to `out`, chunk by chunk.
    fn stream(&mut self, sha1: Sha1Hash, path: &str, out: &mut dyn Write, ctl: &Ctl) -> Result<u64, Error> {
        let resource = loop {
            ctl.check()?;
            match self.pipe.next_blob().map_err(Error::wim(&self.name))? {
                Some(resource) if resource.sha1 == sha1 => break resource,
                Some(_) => {}
                None => {
                    let which = format!("{path}: blob {sha1} in {}", self.name);
                    return Err(Error::NotFound { what: "content of", which });
                }
            }
        };
        let mismatch = |found: String| Error::BlobMismatch {
            file: self.name.clone(),
            expected: sha1,
            found,
            offset: resource.offset,
            size: resource.size,
            paths: vec![path.to_owned()],
        };
        let (mut decoders, mut hasher) = (Decoders::default(), Sha1::new());
        let (mut stored, mut plain) = (Vec::new(), Vec::new());
        while let Some(chunk) = self.pipe.read_chunk(&mut stored).map_err(Error::wim(&self.name))? {
            ctl.check()?;
            plain.resize(chunk.plain_len as usize, 0);
            decoders.decode(chunk.encoding, &stored, &mut plain).map_err(mismatch)?;
            hasher.update(&plain);
            out.write_all(&plain).map_err(Error::io("write", "standard output"))?;
            stored.clear();
        }
        let found = Sha1Hash(hasher.finalize().into());
        if found == sha1 { Ok(resource.size) } else { Err(mismatch(format!("SHA-1 {found}"))) }
    }

    /// As [`crate::verify_file`], without the integrity table, which covers a file as it lies on a disk.
    pub fn verify(
        mut self,
        options: &VerifyFileOptions,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<FileReport, Error> {
        let context = Context { ctl, observer, threads: options.threads.unwrap_or_else(default_threads) };
        let meter = Meter::start(&context, &options.stage);
        self.warnings.iter().for_each(|warning| meter.warn(|| warning.clone()));
        let mut report = FileReport::default();
        let trees = self.all_trees(&meter, &mut report)?;
        let plan = ReadPlan::whole_pipe(trees.iter())?;
        let (policy, others) = (OnDamage::GoOn, Unwanted::Check);
        let outcome =
            run_pipe(&context, &meter, &mut self.pipe, &self.name, &plan, &nowhere(), policy, others)?;
        let PipeOutcome { damaged, came, others } = outcome;
        let users = damage::users(trees.into_iter());
        let name = self.name.clone();
        let error = |index: usize, found: String| {
            let blob = &plan.blobs[index];
            let place = came[index].map_or((0, 0), |resource| (resource.offset, resource.size));
            let mut error = damage::blob_error_at(&name, None, blob, place, found);
            if let Error::BlobMismatch { paths, expected, .. } = &mut error {
                *paths = users.get(expected).cloned().unwrap_or_default();
            }
            error
        };
        let is_complete = damaged.len() < crate::reading::MAX_FAILURES;
        report.damage.extend(damaged.into_iter().map(|one| Damage { error: error(one.blob, one.found) }));
        report.damage.extend(others.iter().filter_map(|(resource, wrong)| {
            let file = name.clone();
            let PipeResource { sha1: expected, size, offset, .. } = *resource;
            let found = wrong.clone()?;
            let error = Error::BlobMismatch { file, expected, found, offset, size, paths: Vec::new() };
            Some(Damage { error })
        }));
        report.blobs = (came.iter().flatten().count() + others.len()) as u64;
        if is_complete {
            for (blob, _) in plan.blobs.iter().zip(&came).filter(|(_, came)| came.is_none()) {
                let paths = users.get(&blob.sha1).into_iter().flatten();
                report.missing.extend(paths.map(|path| format!("{path}: blob {}", blob.sha1)));
            }
            let seen: HashMap<Sha1Hash, u64> = came
                .iter()
                .flatten()
                .chain(others.iter().map(|(resource, _)| resource))
                .map(|resource| (resource.sha1, resource.size))
                .collect();
            self.check_table(&seen, &meter, &mut report)?;
        }
        let totals = meter.finish();
        report.bytes = totals.bytes;
        report.warnings = totals.warnings;
        report.milliseconds = totals.milliseconds;
        Ok(report)
    }

    /// The trees of all images; those that cannot be parsed are damage.
    fn all_trees(&mut self, meter: &Meter<'_>, report: &mut FileReport) -> Result<Vec<Tree>, Error> {
        let mut trees = Vec::new();
        for number in 1.. {
            let Some(metadata) = self.pipe.read_metadata().map_err(Error::wim(&self.name))? else { break };
            match self.pipe.parse_image(&metadata) {
                Ok(opened) => {
                    let warnings = opened.warnings.iter();
                    warnings.for_each(|warning| meter.warn(|| format!("image {number}: {warning}")));
                    report.images += 1;
                    trees.push(opened.value);
                }
                Err(source) if damage::is_local(&source) => {
                    let error = Error::wim(format_args!("{}, image {number}", self.name))(source);
                    report.damage.push(Damage { error });
                }
                Err(source) => return Err(Error::wim(&self.name)(source)),
            }
        }
        Ok(trees)
    }

    /// Reads to the end, and compares the blob table with what came.
    fn check_table(
        self,
        seen: &HashMap<Sha1Hash, u64>,
        meter: &Meter<'_>,
        report: &mut FileReport,
    ) -> Result<(), Error> {
        let name = self.name.clone();
        let (header, table) = self.finish()?;
        if header.integrity.size != 0 {
            meter.warn(|| format!("{name}: the integrity table is checked in files only"));
        }
        let listed: HashMap<Sha1Hash, u64> = table.into_iter().collect();
        let all: HashSet<&Sha1Hash> = listed.keys().chain(seen.keys()).collect();
        let mut all: Vec<_> = all.into_iter().filter(|sha1| listed.get(sha1) != seen.get(sha1)).collect();
        all.sort_unstable();
        for sha1 in all.into_iter().take(crate::reading::MAX_FAILURES) {
            let text = |size: Option<&u64>| {
                size.map_or_else(|| "none".to_owned(), |size| format!("a blob of {size} bytes"))
            };
            let error = Error::Differs {
                path: format!("{name}: blob {sha1}"),
                what: "blob table",
                expected: text(seen.get(sha1)),
                found: text(listed.get(sha1)),
                more: 0,
            };
            report.damage.push(Damage { error });
        }
        Ok(())
    }

    /// Reads to the end and checks that it is one.
    fn finish(self) -> Result<(Header, Vec<(Sha1Hash, u64)>), Error> {
        self.pipe.finish().map_err(Error::wim(&self.name))
    }

    /// Reads the tree of an image. Metadata of others is passed over.
    fn image(&mut self, which: &Which) -> Result<Image, Error> {
        let index = self.find(which)?;
        let name = format!("{}, image {}", self.name, index.number());
        for number in 1.. {
            let Some(metadata) = self.pipe.read_metadata().map_err(Error::wim(&name))? else { break };
            if ImageIndex::from_number(number) == Some(index) {
                let opened = self.pipe.parse_image(&metadata).map_err(Error::wim(&name))?;
                let warnings = opened.warnings.iter().map(ToString::to_string);
                let warnings = self.warnings.drain(..).chain(warnings).collect();
                return Ok(Image::without_files(index, opened.value, warnings));
            }
        }
        Err(Error::NotFound { what: "image", which: name })
    }

    fn apply_image(
        mut self,
        image: &Image,
        path: &Path,
        options: &ApplyOptions,
        ctl: &Ctl,
        observer: &dyn Observer,
    ) -> Result<(ApplyReport, Image), Error> {
        let mut learned = Learned::default();
        let report = apply_with(image, path, options, ctl, observer, |context, meter, target| {
            let tree = image.tree();
            let plan = ReadPlan::in_pipe(tree, |wanted| target.wants(wanted), |node| target.makes(node))?;
            let remembering = Remembering { target, links: Mutex::default() };
            let policy = options.damaged.policy();
            let name = self.name.clone();
            let outcome =
                run_pipe(context, meter, &mut self.pipe, &name, &plan, &remembering, policy, Unwanted::Skip)?;
            let came = &outcome.came;
            let place = |blob: usize| came[blob].map_or((0, 0), |resource| (resource.offset, resource.size));
            let error = |blob: usize, found| {
                damage::blob_error_at(&name, Some(tree), &plan.blobs[blob], place(blob), found)
            };
            let mut paths = judge(tree, &plan, outcome.damaged, options.damaged, meter, error)?;
            // Everything is here or the table has begun: what did not come will not come.
            for (blob, _) in plan.blobs.iter().zip(came).filter(|(_, came)| came.is_none()) {
                let Some(wanted) = blob.uses.first().copied() else { continue };
                let Some(content) =
                    uses::parts(tree.node(wanted.node)).find(|(part, _)| *part == wanted.part)
                else {
                    continue;
                };
                let error = missing(tree, wanted, content.1);
                if options.damaged == DamagedContent::Refuse {
                    return Err(error);
                }
                meter.skip(|| format!("{error}: blob {} is not in {name}; left out", blob.sha1));
                let nodes: Vec<NodeId> = blob.uses.iter().map(|wanted| wanted.node).collect();
                paths.extend(uses::paths(tree, &nodes, usize::MAX));
            }
            self.finish()?;
            learned.sizes = plan
                .blobs
                .iter()
                .zip(came)
                .filter_map(|(blob, came)| Some((blob.uses.clone(), came.as_ref()?.size)))
                .collect();
            learned.links = remembering.links.into_inner().unwrap_or_else(PoisonError::into_inner);
            Ok(paths)
        })?;
        let tree = learned.complete(image.tree().clone());
        Ok((report, Image::without_files(image.index(), tree, Vec::new())))
    }
}

/// What only the pipe knew of an image.
#[derive(Debug, Default)]
struct Learned {
    sizes: Vec<(Vec<Use>, u64)>,
    links: HashMap<Use, Arc<[u8]>>,
}

impl Learned {
    /// Notes sizes in the tree, and link targets, which can be had from nowhere else any more.
    fn complete(self, mut tree: Tree) -> Tree {
        for (all, size) in self.sizes {
            for wanted in all {
                if let Some(content) = uses::part_mut(tree.node_mut(wanted.node), wanted.part) {
                    content.size = size;
                }
            }
        }
        for (wanted, bytes) in self.links {
            if let Some(content) = uses::part_mut(tree.node_mut(wanted.node), wanted.part) {
                content.origin = Origin::Inline(bytes);
            }
        }
        tree
    }
}

/// A directory that remembers the link targets it was given.
struct Remembering<'a, 't> {
    target: &'a DirectoryTarget<'t>,
    links: Mutex<HashMap<Use, Arc<[u8]>>>,
}

impl Target for Remembering<'_, '_> {
    type Handles = <DirectoryTarget<'static> as Target>::Handles;
    type Open = <DirectoryTarget<'static> as Target>::Open;

    fn handles(&self) -> Self::Handles {
        self.target.handles()
    }

    fn whole(&self, handles: &mut Self::Handles, uses: &[Use], bytes: &[u8]) -> Result<(), Error> {
        for wanted in uses.iter().filter(|wanted| wanted.part == Part::Reparse) {
            let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            links.insert(*wanted, bytes.into());
        }
        self.target.whole(handles, uses, bytes)
    }

    fn open(&self, handles: &mut Self::Handles, uses: &[Use]) -> Result<Self::Open, Error> {
        Target::open(self.target, handles, uses)
    }

    fn piece(&self, uses: &[Use], open: &Self::Open, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        Target::piece(self.target, uses, open, offset, bytes)
    }

    fn finish(
        &self,
        handles: &mut Self::Handles,
        uses: &[Use],
        open: &Self::Open,
        size: u64,
    ) -> Result<(), Error> {
        Target::finish(self.target, handles, uses, open, size)
    }

    fn node(&self, handles: &mut Self::Handles, node: NodeId) -> Result<(), Error> {
        Target::node(self.target, handles, node)
    }
}
