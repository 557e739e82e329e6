//! Applying an image to a directory.

use std::fs::File;
use std::path::Path;

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_tree::{Loss, NodeId, Tree};

use crate::damage;
use crate::directory::{
    DirectoryTarget, Existing, Handles, LinkTargets, RootMetadata, UnixKind, UnixMetadata, kind_of,
};
use crate::meter::{Context, Meter, default_threads};
use crate::reading::{self, Damaged, OnDamage, ReadPlan, Target};
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
    /// What happens to content that is damaged.
    pub damaged: DamagedContent,
    /// What happens when there is not enough room for it.
    pub room: LackOfRoom,
}

/// What happens when more is to be written than there is room for, by the figures of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LackOfRoom {
    /// The operation is refused before anything is written, with the figures.
    #[default]
    Refuse,
    /// It is tried: file systems that compress may hold more than they say.
    Try,
}

/// What an apply does with content that does not have its SHA-1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DamagedContent {
    /// The first ends the work.
    #[default]
    Refuse,
    /// What can be decoded of a file is kept, with zeros where nothing can; links are left out. Each is a warning that
    /// counts as something not done.
    Keep,
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
            damaged: DamagedContent::default(),
            room: LackOfRoom::default(),
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
    /// Files among them whose content stood there already and was not fetched ([`Existing::Keep`]).
    pub kept_files: u64,
    /// Bytes of their contents.
    pub kept_bytes: u64,
    /// What was odd, in words. The observer was told of each.
    pub warnings: Vec<String>,
    /// How many warnings are about things asked for and not done.
    pub skipped: u64,
    /// Paths of files that are not what the image says, because their content is damaged and was to be kept all the
    /// same, and of those left out for it.
    pub damaged: Vec<String>,
    /// What a directory cannot hold of the image, or this user may not set.
    pub losses: Vec<Loss>,
    /// Wall time, milliseconds.
    pub milliseconds: u64,
}

/// Applies `image` to the directory `path`, which is made when it is not there. Every content is checked against its
/// SHA-1; the first that does not match ends the work with an error that names it, unless damaged content is to be kept.
pub fn apply_to_directory(
    image: &Image,
    path: &Path,
    options: &ApplyOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<ApplyReport, Error> {
    apply_with(image, path, options, ctl, observer, |context, meter, target| {
        let (tree, archives) = (image.tree(), image.archives());
        let plan = ReadPlan::new(tree, archives, |wanted| target.wants(wanted), |node| target.makes(node))?;
        meter.expect(plan.total_bytes);
        let policy = options.damaged.policy();
        let found = reading::run(context, meter, archives, &plan, target, policy)
            .map_err(|error| damage::explain(error, archives, Some(tree), &plan))?;
        judge(tree, &plan, found, options.damaged, meter, |blob, found| {
            damage::blob_error(archives, Some(tree), &plan.blobs[blob], found)
        })
    })
}

/// Everything about an apply but the reading: `read` gives the target all contents it wants and makes the nodes that have
/// none; it returns the paths of files that are not what they should be.
pub(crate) fn apply_with(
    image: &Image,
    path: &Path,
    options: &ApplyOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
    read: impl FnOnce(&Context<'_>, &Meter<'_>, &DirectoryTarget<'_>) -> Result<Vec<String>, Error>,
) -> Result<ApplyReport, Error> {
    let context = Context { ctl, observer, threads: options.threads.unwrap_or_else(default_threads) };
    let meter = Meter::start(&context, &options.stage);
    image.warnings().iter().for_each(|warning| meter.warn(|| warning.clone()));
    if options.unix == UnixMetadata::Leave {
        warn_of_devices(image.tree(), &meter);
    }
    let replaces = matches!(options.existing, Existing::Replace | Existing::Keep);
    let needed =
        if options.room == LackOfRoom::Refuse { needed_bytes(image.tree(), options.unix) } else { 0 };
    if !replaces {
        check_room(path, needed, 0)?;
    }
    let (existing, root) = (options.existing, options.root);
    let (unix, links) = (options.unix, options.links);
    let mut target = DirectoryTarget::open(path, image.tree(), existing, root, unix, links, &meter)?;
    target.structure(ctl)?;
    if replaces && check_room(path, needed, 0).is_err() {
        // What is replaced makes room first.
        check_room(path, needed, target.standing_bytes())?;
    }
    target.keep_what_is_right(&context)?;
    let damaged = read(&context, &meter, &target)?;
    let losses = target.metadata(ctl)?;
    if options.durability == Durability::Stable {
        target.sync()?;
    }
    let (files, (kept_files, kept_bytes)) = (target.count(), target.kept());
    let totals = meter.finish();
    Ok(ApplyReport {
        bytes: totals.bytes,
        files,
        kept_files,
        kept_bytes,
        warnings: totals.warnings,
        skipped: totals.skipped,
        damaged,
        losses,
        milliseconds: totals.milliseconds,
    })
}

/// Bytes that the files of an image have, each name of its own, and none for what a directory does not hold.
fn needed_bytes(tree: &Tree, unix: UnixMetadata) -> u64 {
    let is_file = |id: &NodeId| match kind_of(tree.node(*id)) {
        UnixKind::File => true,
        UnixKind::Special(_) => unix == UnixMetadata::Leave,
        _ => false,
    };
    let sizes =
        uses::nodes(tree).filter(is_file).map(|id| tree.node(id).data.as_ref().map_or(0, |data| data.size));
    sizes.fold(0, u64::saturating_add)
}

/// Refuses when `needed` bytes are more than there is room for at `path`, or above it where it is to be made, with `standing` bytes
/// that are going to be replaced.
fn check_room(path: &Path, needed: u64, standing: u64) -> Result<(), Error> {
    let Some(place) = path.ancestors().find(|place| place.as_os_str().is_empty() || place.exists()) else {
        return Ok(());
    };
    let place = if place.as_os_str().is_empty() { Path::new(".") } else { place };
    let free = gravure_linux::health::free_bytes(place).map_err(Error::linux(place.display()))?;
    if needed <= free.saturating_add(standing) {
        return Ok(());
    }
    let (what, room) = (format!("applying to {}", path.display()), free.saturating_add(standing));
    Err(Error::Refused {
        what,
        why: format!("no room: its files have {needed} bytes, the file system has {room} free"),
    })
}

impl DamagedContent {
    pub(crate) fn policy(self) -> OnDamage {
        match self {
            Self::Refuse => OnDamage::Stop,
            Self::Keep => OnDamage::Keep,
        }
    }
}

/// Damaged blobs are an error, or warnings and a list of paths.
pub(crate) fn judge(
    tree: &Tree,
    plan: &ReadPlan,
    found: Vec<Damaged>,
    damaged: DamagedContent,
    meter: &Meter<'_>,
    error: impl Fn(usize, String) -> Error,
) -> Result<Vec<String>, Error> {
    let mut paths = Vec::new();
    for Damaged { blob, found, is_kept } in found {
        let error = error(blob, found);
        if damaged == DamagedContent::Refuse {
            return Err(error);
        }
        let outcome = if is_kept { "what could be read is kept" } else { "left out" };
        meter.skip(|| format!("{error}; {outcome}"));
        let nodes: Vec<NodeId> = plan.blobs[blob].uses.iter().map(|wanted| wanted.node).collect();
        paths.extend(uses::paths(tree, &nodes, usize::MAX));
    }
    Ok(paths)
}

/// Says how many nodes are less than they were when Unix data is not applied.
fn warn_of_devices(tree: &Tree, meter: &Meter<'_>) {
    let is_special = |id: &NodeId| matches!(kind_of(tree.node(*id)), UnixKind::Special(_));
    let special = uses::nodes(tree).filter(is_special).count();
    if special > 0 {
        meter.warn(|| {
            format!("{special} devices, pipes and sockets become empty files, as Unix data is not applied")
        });
    }
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

    fn wants_turns(&self) -> bool {
        true
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
