//! Two trees compared, each an image or a directory: what is in one only, and what differs in which respect. Contents
//! of images are compared by the hashes they are listed under; only directories have to be read.

mod fields;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use gravure_model::Ctl;
use gravure_model::event::Observer;
use gravure_nttypes::NtName;
use gravure_tree::{NodeId, Origin, SourceId, Tree};

use self::fields::Fields;
use crate::capture::{Content, Reader, hash_all};
use crate::directory::{DirectorySource, ScanOptions, UnixKind, kind_of};
use crate::meter::{Context, Meter, default_threads};
use crate::ntfs_source::{NtfsSource, without_paging_files};
use crate::uses::{self, Part, Use};
use crate::{Error, Image};

/// One side of a comparison.
#[derive(Debug, Clone, Copy)]
pub enum Side<'a> {
    /// An image.
    Image(&'a Image),
    /// A directory of this machine.
    Directory(&'a Path),
    /// An unmounted NTFS volume: a partition or a file.
    Volume(&'a Path),
}

/// A respect in which files may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Aspect {
    /// File, directory, link, device.
    Kind,
    /// Size of the content.
    Size,
    /// The content.
    Content,
    /// Target of a link, or other reparse data.
    Target,
    /// Named data streams.
    Streams,
    /// Owner and group.
    Owner,
    /// Permissions.
    Mode,
    /// Time of last write, and creation between images.
    Times,
    /// Windows attributes.
    Attributes,
    /// Security descriptor.
    Security,
    /// Extended attributes.
    ExtendedAttributes,
    /// Short (8.3) name.
    ShortName,
    /// NTFS object id.
    ObjectId,
    /// Which names are one file.
    HardLinks,
    /// Flags of links between images: whether the target was changed when it was captured, and the field beside the tag.
    LinkFlags,
    /// Items of an image that nobody here knows, between images.
    TaggedItems,
}

impl Aspect {
    /// Every aspect.
    pub const ALL: [Self; 16] = [
        Self::Kind,
        Self::Size,
        Self::Content,
        Self::Target,
        Self::Streams,
        Self::Owner,
        Self::Mode,
        Self::Times,
        Self::Attributes,
        Self::Security,
        Self::ExtendedAttributes,
        Self::ShortName,
        Self::ObjectId,
        Self::HardLinks,
        Self::LinkFlags,
        Self::TaggedItems,
    ];
    /// What a directory of a Unix system says nothing about.
    const WINDOWS: [Self; 5] =
        [Self::Streams, Self::Attributes, Self::Security, Self::ShortName, Self::ObjectId];

    /// Its name, as it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Size => "size",
            Self::Content => "content",
            Self::Target => "target",
            Self::Streams => "streams",
            Self::Owner => "owner",
            Self::Mode => "mode",
            Self::Times => "times",
            Self::Attributes => "attributes",
            Self::Security => "security",
            Self::ExtendedAttributes => "xattrs",
            Self::ShortName => "short-name",
            Self::ObjectId => "object-id",
            Self::HardLinks => "hard-links",
            Self::LinkFlags => "link-flags",
            Self::TaggedItems => "tagged-items",
        }
    }
}

/// How trees are compared.
#[derive(Debug, Clone)]
pub struct DiffOptions {
    /// Name of the stage in events.
    pub stage: String,
    /// Threads; one for each processor when `None`.
    pub threads: Option<usize>,
    /// Aspects that do not count.
    pub ignore: Vec<Aspect>,
    /// How directories are read.
    pub scan: ScanOptions,
}

impl Default for DiffOptions {
    fn default() -> Self {
        let scan = ScanOptions::default();
        Self { stage: "compare".to_owned(), threads: None, ignore: Vec::new(), scan }
    }
}

/// How an entry differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is in the first tree only, with so many entries below it.
    Removed {
        /// What it is.
        kind: &'static str,
        /// Entries below it.
        below: u64,
    },
    /// It is in the second tree only, with so many entries below it.
    Added {
        /// What it is.
        kind: &'static str,
        /// Entries below it.
        below: u64,
    },
    /// It is in both and differs.
    Differs(Vec<Difference>),
}

/// A difference in one respect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The respect.
    pub aspect: Aspect,
    /// In the first tree.
    pub first: String,
    /// In the second one.
    pub second: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiffReport {
    /// Paths that differ, ascending.
    pub changes: Vec<(String, Change)>,
    /// Entries that are in both trees.
    pub compared: u64,
    /// Bytes read from directories.
    pub bytes: u64,
    /// What was odd, in words. The observer was told of each.
    pub warnings: Vec<String>,
    /// How many warnings are about things that could not be compared.
    pub skipped: u64,
    /// Wall time, milliseconds.
    pub milliseconds: u64,
}

/// Compares `first` with `second`.
pub fn diff(
    first: Side<'_>,
    second: Side<'_>,
    options: &DiffOptions,
    ctl: &Ctl,
    observer: &dyn Observer,
) -> Result<DiffReport, Error> {
    let context = Context { ctl, observer, threads: options.threads.unwrap_or_else(default_threads) };
    let meter = Meter::start(&context, &options.stage);
    let mut sides = [Opened::new(first, options, &meter, ctl)?, Opened::new(second, options, &meter, ctl)?];
    let mut ignore: HashSet<Aspect> = options.ignore.iter().copied().collect();
    if sides.iter().any(|side| side.directory.is_some()) {
        ignore.extend(Aspect::WINDOWS);
    }
    if !ignore.contains(&Aspect::Content) {
        hash(&context, &meter, &mut sides)?;
    }
    let mut report = DiffReport::default();
    let mut found = Walk::new(&sides, &ignore);
    found.run(ctl)?;
    let Walk { mut changes, compared, .. } = found;
    changes.sort_by(|(a, _), (b, _)| a.cmp(b));
    (report.changes, report.compared) = (changes, compared);
    let totals = meter.finish();
    report.bytes = totals.bytes;
    report.warnings = totals.warnings;
    report.skipped = totals.skipped;
    report.milliseconds = totals.milliseconds;
    Ok(report)
}

/// A side with its tree.
struct Opened<'a> {
    image: Option<&'a Image>,
    tree: Tree,
    directory: Option<DirectorySource>,
    volume: Option<NtfsSource>,
}

impl<'a> Opened<'a> {
    fn new(side: Side<'a>, options: &DiffOptions, meter: &Meter<'_>, ctl: &Ctl) -> Result<Self, Error> {
        match side {
            Side::Image(image) => {
                image.warnings().iter().for_each(|warning| meter.warn(|| warning.clone()));
                Ok(Self { image: Some(image), tree: image.tree().clone(), directory: None, volume: None })
            }
            Side::Directory(path) => {
                let id = SourceId(u32::MAX);
                let (tree, directory) = DirectorySource::scan(path, id, &options.scan, meter, ctl)?;
                Ok(Self { image: None, tree, directory: Some(directory), volume: None })
            }
            Side::Volume(path) => {
                let id = SourceId(u32::MAX);
                // An image captured from it has none of these either.
                let scan = without_paging_files(&options.scan);
                let (tree, volume) = NtfsSource::scan(path, id, &scan, meter, ctl)?;
                Ok(Self { image: None, tree, directory: None, volume: Some(volume) })
            }
        }
    }
}

impl Opened<'_> {
    /// Named streams of a volume, which no hash is known of.
    fn unhashed_streams(&self) -> impl Iterator<Item = Use> {
        let nodes = self.volume.iter().flat_map(|_| uses::nodes(&self.tree));
        nodes.flat_map(|node| {
            let streams = 0..self.tree.node(node).named_streams.len();
            streams.map(move |index| Use { node, part: Part::Named(index) })
        })
    }

    /// A content to be read; `None` when there is nothing to read.
    fn content(&self, wanted: Use) -> Option<Content> {
        let node = self.tree.node(wanted.node);
        let content = match wanted.part {
            Part::Data => node.data.as_ref(),
            Part::Named(index) => node.named_streams.get(index).map(|stream| &stream.content),
            _ => None,
        }?;
        let is_open = content.sha1.is_none() && !content.is_empty();
        is_open.then(|| Content {
            origin: content.origin.clone(),
            size: content.size,
            sha1: None,
            uses: vec![wanted],
        })
    }
}

/// Fills in the hashes of those contents of directories that have a partner of the same size.
fn hash(context: &Context<'_>, meter: &Meter<'_>, sides: &mut [Opened<'_>; 2]) -> Result<(), Error> {
    let mut pairs = Vec::new();
    let [first, second] = &*sides;
    walk_pairs(&first.tree, &second.tree, |_, _, pair| pairs.extend(pair));
    for side in 0..2 {
        let mut nodes: Vec<NodeId> = Vec::new();
        for (a, b) in &pairs {
            let (here, there) = if side == 0 { (*a, *b) } else { (*b, *a) };
            let data = sides[side].tree.node(here).data.as_ref();
            let other = sides[1 - side].tree.node(there).data.as_ref();
            let (Some(data), Some(other)) = (data, other) else { continue };
            // Missing content has no size.
            let same_size = data.size == other.size || other.origin == Origin::Missing;
            if data.sha1.is_none() && !data.is_empty() && same_size {
                nodes.push(here);
            }
        }
        nodes.sort_unstable();
        nodes.dedup();
        let opened = &sides[side];
        let id = SourceId(u32::MAX);
        let reader = match (&opened.directory, &opened.volume) {
            (Some(directory), _) => Reader { directories: vec![(id, directory)], ..Reader::default() },
            (None, Some(volume)) => Reader { volume: Some((id, volume)), ..Reader::default() },
            (None, None) => continue,
        };
        let data = nodes.into_iter().map(|node| Use { node, part: Part::Data });
        let list: Vec<Content> =
            data.chain(opened.unhashed_streams()).filter_map(|wanted| opened.content(wanted)).collect();
        meter.expect_more(list.iter().map(|content| content.size).sum());
        let mut hashes = vec![None; list.len()];
        hash_all(context, meter, &reader, &list, |number, result| match result {
            Ok(sha1) => {
                hashes[number] = Some(sha1);
                Ok(())
            }
            Err(error @ Error::Interrupted(_)) => Err(error),
            Err(error) => {
                meter.skip(|| format!("{}; its content is not compared", crate::capture::chain(&error)));
                Ok(())
            }
        })?;
        for (content, sha1) in list.iter().zip(hashes) {
            for wanted in &content.uses {
                if let Some(found) = uses::part_mut(sides[side].tree.node_mut(wanted.node), wanted.part) {
                    found.sha1 = sha1;
                }
            }
        }
    }
    Ok(())
}

/// Goes through both trees at once. `each` gets the path, entries that are in one only, and pairs.
fn walk_pairs(first: &Tree, second: &Tree, mut each: impl FnMut(&str, OneSided, Option<(NodeId, NodeId)>)) {
    let mut todo = vec![(first.root(), second.root(), String::new())];
    while let Some((a, b, path)) = todo.pop() {
        each(&path, OneSided::Neither, Some((a, b)));
        if !(first.node(a).is_directory() && second.node(b).is_directory()) {
            continue;
        }
        let mut others: HashMap<&NtName, NodeId> =
            second.children(b).iter().map(|entry| (&entry.name, entry.node)).collect();
        for entry in first.children(a) {
            let below = format!("{path}/{}", entry.name);
            match others.remove(&entry.name) {
                Some(partner) => todo.push((entry.node, partner, below)),
                None => each(&below, OneSided::First(entry.node), None),
            }
        }
        for (name, node) in others {
            each(&format!("{path}/{name}"), OneSided::Second(node), None);
        }
    }
}

/// An entry that is in one tree only.
#[derive(Debug, Clone, Copy)]
enum OneSided {
    Neither,
    First(NodeId),
    Second(NodeId),
}

/// The comparison.
struct Walk<'a> {
    sides: &'a [Opened<'a>; 2],
    fields: Fields<'a>,
    changes: Vec<(String, Change)>,
    compared: u64,
}

impl<'a> Walk<'a> {
    fn new(sides: &'a [Opened<'a>; 2], ignore: &'a HashSet<Aspect>) -> Self {
        let [first, second] = sides;
        let fields = Fields::new([&first.tree, &second.tree], [first.image, second.image], ignore);
        Self { sides, fields, changes: Vec::new(), compared: 0 }
    }

    fn run(&mut self, ctl: &Ctl) -> Result<(), Error> {
        let [first, second] = self.sides;
        let mut pairs = Vec::new();
        let mut changes = Vec::new();
        walk_pairs(&first.tree, &second.tree, |path, one_sided, pair| match (one_sided, pair) {
            (OneSided::First(node), _) => {
                let (kind, below) = (kind_name(&first.tree, node), count_below(&first.tree, node));
                changes.push((path.to_owned(), Change::Removed { kind, below }));
            }
            (OneSided::Second(node), _) => {
                let (kind, below) = (kind_name(&second.tree, node), count_below(&second.tree, node));
                changes.push((path.to_owned(), Change::Added { kind, below }));
            }
            (OneSided::Neither, Some(pair)) => pairs.push((path.to_owned(), pair)),
            (OneSided::Neither, None) => {}
        });
        // Which name of a file is met first decides what its partner is, so the order must not depend on chance.
        pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.changes = changes;
        for (path, (a, b)) in pairs {
            ctl.check()?;
            self.compared += 1;
            let found = self.fields.compare(a, b, &path)?;
            if !found.is_empty() {
                let path = if path.is_empty() { "/".to_owned() } else { path };
                self.changes.push((path, Change::Differs(found)));
            }
        }
        Ok(())
    }
}

/// What a node is, in a word.
fn kind_name(tree: &Tree, node: NodeId) -> &'static str {
    match kind_of(tree.node(node)) {
        UnixKind::Directory => "directory",
        UnixKind::File => "file",
        UnixKind::Link => "link",
        UnixKind::Special(_) => "special file",
        UnixKind::Opaque => "reparse point",
    }
}

/// Entries below a node.
fn count_below(tree: &Tree, node: NodeId) -> u64 {
    let (mut todo, mut count) = (vec![node], 0);
    while let Some(node) = todo.pop() {
        count += tree.children(node).len() as u64;
        todo.extend(tree.children(node).iter().map(|entry| entry.node));
    }
    count
}
