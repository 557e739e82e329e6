//! Applying an image to a directory.

use std::fs::File;
use std::path::Path;

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_tree::{Loss, NodeId};

use crate::damage;
use crate::directory::{
    DirectoryTarget, Existing, Handles, LinkTargets, RootMetadata, UnixKind, UnixMetadata, kind_of,
};
use crate::meter::{Context, Meter, default_threads};
use crate::reading::{self, OnDamage, ReadPlan, Target};
use crate::uses::{self, Use};
use crate::{Error, Image};

/// How an image is applied.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// Name of the stage in events.
    pub stage: String,
    /// Threads; one for each processor when `None`.
    pub threads: Option<usize>,
    /// What happens to entries that are there already.
    pub existing: Existing,
    /// What happens to the target directory itself.
    pub root: RootMetadata,
    /// What becomes of links whose target starts at the root of the image.
    pub links: LinkTargets,
    /// Whether owners, modes, devices and extended attributes are set. Devices become empty files when they are not.
    pub unix: UnixMetadata,
    /// When the operation counts as done.
    pub durability: Durability,
}

/// When written data counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is on stable storage.
    #[default]
    Stable,
    /// When the kernel has it.
    Cached,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            stage: "apply".to_owned(),
            threads: None,
            existing: Existing::default(),
            root: RootMetadata::default(),
            links: LinkTargets::default(),
            unix: UnixMetadata::default(),
            durability: Durability::default(),
        }
    }
}

/// What an apply did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApplyReport {
    /// Plain bytes decoded and written, each content counted once.
    pub bytes: u64,
    /// Files, directories and links made.
    pub files: u64,
    /// What was odd, in words. The observer was told of each.
    pub warnings: Vec<String>,
    /// How many warnings are about things asked for and not done.
    pub skipped: u64,
    /// What a directory cannot hold of the image, or this user may not set.
    pub losses: Vec<Loss>,
    /// Wall time, milliseconds.
    pub milliseconds: u64,
}

/// Applies `image` to the directory `path`, which is made when it is not there. Every content is checked against its
/// SHA-1; the first that does not match ends the work with an error that names it.
pub fn apply_to_directory(
    image: &Image,
    path: &Path,
    options: &ApplyOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<ApplyReport, Error> {
    let context = Context { ctl, observer, threads: options.threads.unwrap_or_else(default_threads) };
    let meter = Meter::start(&context, &options.stage);
    image.warnings().iter().for_each(|warning| meter.warn(|| warning.clone()));
    let plain;
    let image = match options.unix {
        UnixMetadata::Keep => image,
        UnixMetadata::Leave => {
            plain = without_unix_metadata(image, &meter);
            &plain
        }
    };
    let (existing, root) = (options.existing, options.root);
    let mut target = DirectoryTarget::open(path, image.tree(), existing, root, options.links, &meter)?;
    target.structure(ctl)?;
    let plan = ReadPlan::new(
        image.tree(),
        image.archives(),
        |wanted| target.wants(wanted),
        |node| target.makes(node),
    )?;
    meter.expect(plan.total_bytes);
    let explained = |error| damage::explain(error, image.archives(), Some(image.tree()), &plan);
    let damaged = reading::run(&context, &meter, image.archives(), &plan, &target, OnDamage::Stop)
        .map_err(explained)?;
    if let Some((index, found)) = damaged.into_iter().next() {
        let blob = &plan.blobs[index];
        return Err(damage::blob_error(image.archives(), Some(image.tree()), blob, found));
    }
    let losses = target.metadata(ctl)?;
    if options.durability == Durability::Stable {
        target.sync()?;
    }
    let files = target.count();
    let totals = meter.finish();
    Ok(ApplyReport {
        bytes: totals.bytes,
        files,
        warnings: totals.warnings,
        skipped: totals.skipped,
        losses,
        milliseconds: totals.milliseconds,
    })
}

/// The image as a system that knows nothing of Unix sees it.
fn without_unix_metadata(image: &Image, meter: &Meter<'_>) -> Image {
    let mut tree = image.tree().clone();
    let mut special = 0u64;
    let nodes: Vec<NodeId> = uses::nodes(&tree).collect();
    for id in nodes {
        let node = tree.node_mut(id);
        special += u64::from(matches!(kind_of(node), UnixKind::Special(_)));
        node.unix = None;
        node.extended_attributes.clear();
    }
    if special > 0 {
        meter.warn(|| {
            format!("{special} devices, pipes and sockets become empty files, as Unix data is not applied")
        });
    }
    image.with_tree(tree)
}

impl Target for DirectoryTarget<'_> {
    type Handles = Handles;
    type Open = File;

    fn handles(&self) -> Handles {
        DirectoryTarget::handles(self)
    }

    fn whole(&self, handles: &mut Handles, uses: &[Use], bytes: &[u8]) -> Result<(), Error> {
        DirectoryTarget::whole(self, handles, uses, bytes)
    }

    fn open(&self, handles: &mut Handles, uses: &[Use]) -> Result<File, Error> {
        self.create_first(handles, uses)
    }

    fn piece(&self, uses: &[Use], open: &File, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        self.write(uses, open, offset, bytes)
    }

    fn finish(&self, handles: &mut Handles, uses: &[Use], open: &File, size: u64) -> Result<(), Error> {
        DirectoryTarget::finish(self, handles, uses, open, size)
    }

    fn node(&self, handles: &mut Handles, node: NodeId) -> Result<(), Error> {
        DirectoryTarget::node(self, handles, node)
    }
}
