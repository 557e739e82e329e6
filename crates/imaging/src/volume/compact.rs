//! Which files of a volume are written compressed behind the Windows overlay filter ("CompactOS"), and why others are not.
//!
//! A resource of a WIM has the bytes of such a compressed stream when method and chunk size are those of the filter
//! (wim-container section 13), so it is copied as it is. The filter is a driver: what is read before it runs, by the boot loader
//! or by the kernel while it starts, stays plain.

use std::collections::{BTreeMap, HashMap, HashSet};

use gravure_ntfs::{Encoding, WofAlgorithm};
use gravure_nttypes::{FileAttributes, NtName};
use gravure_tree::{ContentRef, Node, NodeId, Origin, Tree};
use gravure_wim::{Compression, Layout, Method, ResourceFlags};

use super::recode::Recoding;
use crate::glob::{Glob, NameCase};
use crate::meter::{Context, Meter};
use crate::reading::gather;
use crate::uses::{self, Part, Use};
use crate::{CaptureConfig, Error, Image, read_text};

/// Windows that has the filter, 10.0.10240.
const FIRST_MAJOR: u64 = 10;
const FIRST_BUILD: u64 = 10_240;
/// Name of the stream that the filter keeps the compressed bytes in.
const STREAM: &str = "WofCompressedData";
/// Files up to this size are never compressed, however small clusters are: they stand in their records or in one cluster.
const SMALL_BYTES: u64 = 4096;

/// What the boot loader and the starting kernel read (wim-container section 13), beside the drivers.
const BOOT_FILES: &str = r"[PrepopulateList]
\bootmgr
\bootnxt
\Boot
\EFI
\Windows\Boot
\Windows\ELAMBKUP
\Windows\AppPatch\drvmain.sdb
\Windows\Fonts\vgaoem.fon
\Windows\Fonts\vgasys.fon
\Windows\Globalization\*.nls
\Windows\INF\errata.inf
\Windows\System32\apisetschema.dll
\Windows\System32\api-ms-*.dll
\Windows\System32\ext-ms-*.dll
\Windows\System32\Boot
\Windows\System32\bootvid.dll
\Windows\System32\bootfont.bin
\Windows\System32\bootspaces.dll
\Windows\System32\bootstr.dll
\Windows\System32\ci.dll
\Windows\System32\CodeIntegrity
\Windows\System32\config
\Windows\System32\drivers
\Windows\System32\hal*.dll
\Windows\System32\hv*.exe
\Windows\System32\hv*.dll
\Windows\System32\kd*.dll
\Windows\System32\mcupdate_*.dll
\Windows\System32\nt*krnl*.exe
\Windows\System32\ntkr*.exe
\Windows\System32\ntdll.dll
\Windows\System32\pshed.dll
\Windows\System32\securekernel*.exe
\Windows\System32\skci.dll
\Windows\System32\smss.exe
\Windows\System32\tcblaunch.*
\Windows\System32\vertdll.dll
\Windows\System32\winload.*
\Windows\System32\winresume.*
\Windows\System32\*.nls
";

/// Whether files are written compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compact {
    /// None is.
    #[default]
    Never,
    /// Those whose compressed bytes the image has, if it says that it holds a Windows with the overlay filter: 10.0.10240 or later.
    Auto,
    /// The same, whatever the image says of itself.
    Always,
}

/// What was written compressed, and what not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CompactReport {
    /// Files written compressed.
    pub files: u64,
    /// Bytes that they have.
    pub plain_bytes: u64,
    /// Bytes that their compressed streams have.
    pub stored_bytes: u64,
    /// How many of the files were compressed anew.
    pub recoded_files: u64,
    /// Files that are not, by reason. Empty files count nowhere.
    pub others: Vec<NotCompact>,
    /// Why none is, although it was asked for.
    pub why_not: Option<String>,
}

/// Files that are not compressed for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotCompact {
    /// The reason.
    pub why: WhyPlain,
    /// How many.
    pub files: u64,
    /// Bytes that they have.
    pub bytes: u64,
}

/// Why a file is not compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WhyPlain {
    /// It is read before the overlay filter runs.
    Boot,
    /// The image's own `WimBootCompress.ini` lists it.
    Listed,
    /// It would take as many clusters.
    NothingSaved,
    /// The image has it in another form: uncompressed, solid, in chunks of another size, or changed on the way.
    OtherForm,
    /// It is a reparse point, marked sparse or encrypted, or has a stream of the filter's name.
    Special,
}

impl WhyPlain {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Boot => "read before the overlay filter runs",
            Self::Listed => "listed in WimBootCompress.ini",
            Self::NothingSaved => "would take as many clusters",
            Self::OtherForm => "not in a form of the overlay filter in the image",
            Self::Special => "reparse points, sparse or encrypted",
        }
    }
}

/// What was decided for each file.
#[derive(Debug, Default)]
pub(super) struct Compaction {
    chosen: HashMap<NodeId, (WofAlgorithm, u64)>,
    /// What is compressed anew; files of it that are not among the chosen are written plain.
    pub(super) recoding: Option<Recoding>,
    recoded: HashSet<NodeId>,
    pub(super) report: CompactReport,
}

impl Compaction {
    /// Decides for all files of `image`, on a volume with clusters of `cluster_bytes`. With `recode` what the image has in another
    /// form is compressed anew, which is measured here.
    pub(super) fn decide(
        image: &Image,
        compact: Compact,
        recode: Option<WofAlgorithm>,
        cluster_bytes: u64,
        context: &Context<'_>,
        meter: &Meter<'_>,
    ) -> Result<Self, Error> {
        let mut this = Self::default();
        this.report.why_not = match compact {
            Compact::Never => return Ok(this),
            Compact::Auto => too_old(image).err(),
            Compact::Always => None,
        };
        if this.report.why_not.is_some() {
            return Ok(this);
        }
        let early = early(image, context, meter)?;
        let mut others: BTreeMap<WhyPlain, (u64, u64)> = BTreeMap::new();
        let mut plain = |why: WhyPlain, bytes: u64| {
            let (files, all) = others.entry(why).or_default();
            *files += 1;
            *all = all.saturating_add(bytes);
        };
        let mut candidates = Vec::new();
        for id in uses::nodes(image.tree()) {
            let node = image.tree().node(id);
            let Some(data) = node.data.as_ref().filter(|data| !node.is_directory() && data.size > 0) else {
                continue;
            };
            let chosen = match early.get(&id) {
                Some(why) => Err(*why),
                None => form(image, node, cluster_bytes),
            };
            match chosen {
                Ok((algorithm, stored_bytes)) => this.choose(id, data.size, algorithm, stored_bytes),
                Err(WhyPlain::OtherForm) if recode.is_some() && is_in_file(data) => candidates.push(id),
                Err(why) => plain(why, data.size),
            }
        }
        if let Some(algorithm) = recode.filter(|_| !candidates.is_empty()) {
            let recoding = Recoding::measure(image, &candidates, algorithm, context)?;
            for (id, stored_bytes) in recoding.sizes() {
                let size = image.tree().node(id).data.as_ref().map_or(0, |data| data.size);
                if stored_bytes.div_ceil(cluster_bytes) < size.div_ceil(cluster_bytes) {
                    this.choose(id, size, algorithm, stored_bytes);
                    this.recoded.insert(id);
                } else {
                    plain(WhyPlain::NothingSaved, size);
                }
            }
            this.report.recoded_files = this.recoded.len() as u64;
            this.recoding = Some(recoding);
        }
        let others = others.into_iter().map(|(why, (files, bytes))| NotCompact { why, files, bytes });
        this.report.others = others.collect();
        Ok(this)
    }

    /// Nothing is written compressed, although `wanted` says otherwise, as damaged content is to be kept.
    pub(super) fn none(wanted: Compact) -> Self {
        let mut this = Self::default();
        if wanted != Compact::Never {
            this.report.why_not =
                Some("what can be read of damaged files is kept, which takes decoding".to_owned());
        }
        this
    }

    fn choose(&mut self, id: NodeId, size: u64, algorithm: WofAlgorithm, stored_bytes: u64) {
        self.report.files += 1;
        self.report.plain_bytes = self.report.plain_bytes.saturating_add(size);
        self.report.stored_bytes = self.report.stored_bytes.saturating_add(stored_bytes);
        self.chosen.insert(id, (algorithm, stored_bytes));
    }

    /// Whether a file is compressed anew.
    pub(super) fn is_recoded(&self, id: NodeId) -> bool {
        self.recoded.contains(&id)
    }

    /// Whether a file is written as it is.
    pub(super) fn is_plain(&self, id: NodeId) -> bool {
        !self.chosen.contains_key(&id)
    }

    pub(super) fn encoding(&self, id: NodeId) -> Encoding {
        match self.chosen.get(&id) {
            Some((algorithm, stored_bytes)) => {
                Encoding::Wof { algorithm: *algorithm, stored_bytes: *stored_bytes }
            }
            None => Encoding::Plain,
        }
    }
}

/// Says why Windows in the image, if there is any, does not read compressed files.
fn too_old(image: &Image) -> Result<(), String> {
    let found = image.archives().iter().next().and_then(|(_, archive)| {
        archive.wim().info().image(image.index().index())?.windows().map(|windows| windows.version)
    });
    let Some(version) = found else {
        return Err("the image does not say that it holds Windows".to_owned());
    };
    match (version.major, version.build) {
        (Some(major), Some(build)) if major >= FIRST_MAJOR && build >= FIRST_BUILD => Ok(()),
        (major, build) => {
            let number = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), |n| n.to_string());
            let found = [major, version.minor, build].map(number).join(".");
            Err(format!("the image holds Windows {found}; {FIRST_MAJOR}.0.{FIRST_BUILD} or later is needed"))
        }
    }
}

/// Files that stay plain for what they are called; any of their names counts.
fn early(
    image: &Image,
    context: &Context<'_>,
    meter: &Meter<'_>,
) -> Result<HashMap<NodeId, WhyPlain>, Error> {
    let boot = CaptureConfig::parse(BOOT_FILES, "list of boot files", NameCase::Ignore)?;
    let listed = own_list(image, context, meter)?;
    let system = [Glob::literal("Windows", NameCase::Ignore), Glob::literal("System32", NameCase::Ignore)];
    let driver = Glob::new("*.sys", NameCase::Ignore);
    // Boot drivers are loaded from the driver store, too.
    let is_driver = |path: &[&NtName]| {
        let below = path.len() > 2 && system.iter().zip(path).all(|(glob, name)| glob.matches(name));
        below && path.last().is_some_and(|name| driver.matches(name))
    };
    let mut early = HashMap::new();
    for step in image.tree().walk() {
        if image.tree().node(step.entry.node).is_directory() {
            continue;
        }
        if boot.prepopulates(&step.path) || is_driver(&step.path) {
            early.insert(step.entry.node, WhyPlain::Boot);
        } else if listed.prepopulates(&step.path) {
            early.entry(step.entry.node).or_insert(WhyPlain::Listed);
        }
    }
    Ok(early)
}

/// The image's own list.
fn own_list(image: &Image, context: &Context<'_>, meter: &Meter<'_>) -> Result<CaptureConfig, Error> {
    const PATH: [&str; 3] = ["Windows", "System32", "WimBootCompress.ini"];
    let Some(id) = find(image.tree(), &PATH) else { return Ok(CaptureConfig::default()) };
    let wanted = Use { node: id, part: Part::Data };
    let found = gather(image, context.threads, context.ctl, |other| other == wanted)?;
    let Some(bytes) = found.get(&wanted) else { return Ok(CaptureConfig::default()) };
    let name = format!("/{}", PATH.join("/"));
    // A list that nobody can read protects nothing; the files that matter most are in our own.
    let parsed =
        read_text(&**bytes, &name).and_then(|text| CaptureConfig::parse(&text, &name, NameCase::Ignore));
    match parsed {
        Ok(config) => {
            config.warnings().iter().for_each(|warning| meter.warn(|| warning.clone()));
            Ok(config)
        }
        Err(error) => {
            meter.warn(|| format!("{error}; the list is not followed"));
            Ok(CaptureConfig::default())
        }
    }
}

fn find(tree: &Tree, path: &[&str]) -> Option<NodeId> {
    path.iter().try_fold(tree.root(), |at, name| {
        let glob = Glob::literal(name, NameCase::Ignore);
        tree.children(at).iter().find(|entry| glob.matches(&entry.name)).map(|entry| entry.node)
    })
}

/// In which form of the filter the image has a file's content, and how many bytes that has.
fn form(image: &Image, node: &Node, cluster_bytes: u64) -> Result<(WofAlgorithm, u64), WhyPlain> {
    let marks = FileAttributes::SPARSE | FileAttributes::ENCRYPTED | FileAttributes::REPARSE_POINT;
    let stream = Glob::literal(STREAM, NameCase::Ignore);
    let is_special = node.attributes.0 & marks.0 != 0
        || node.reparse.is_some()
        || node.efs.is_some()
        || node.named_streams.iter().any(|named| stream.matches(&named.name));
    let Some(data) = node.data.as_ref().filter(|_| !is_special) else { return Err(WhyPlain::Special) };
    if data.size <= SMALL_BYTES.max(cluster_bytes) {
        return Err(WhyPlain::NothingSaved);
    }
    let Origin::Source { source, key } = data.origin else { return Err(WhyPlain::OtherForm) };
    let (archive, id) = image.archives().find(source, key).ok_or(WhyPlain::OtherForm)?;
    let archive = image.archives().get(archive);
    let (blob, resource) = archive.blob(id).map_err(|_| WhyPlain::OtherForm)?;
    let (header, place) = (archive.wim().header(), &resource.header);
    let is_whole = resource.solid.is_none() && header.layout == Layout::Normal && blob.size == data.size;
    let algorithm = header.compression.and_then(algorithm).filter(|_| is_whole);
    let algorithm = algorithm.ok_or(WhyPlain::OtherForm)?;
    if !place.flags.contains(ResourceFlags::COMPRESSED) {
        // Whoever made the image found that compression saves nothing.
        return Err(WhyPlain::NothingSaved);
    }
    if place.stored_size.div_ceil(cluster_bytes) >= data.size.div_ceil(cluster_bytes) {
        return Err(WhyPlain::NothingSaved);
    }
    Ok((algorithm, place.stored_size))
}

/// Whether a content lies in an image file. What is in memory was put there on the way and is little.
fn is_in_file(content: &ContentRef) -> bool {
    matches!(content.origin, Origin::Source { .. })
}

/// The filter's name for a compression.
fn algorithm(compression: Compression) -> Option<WofAlgorithm> {
    Some(match (compression.method(), compression.chunk_size()) {
        (Method::Lzx, 0x8000) => WofAlgorithm::Lzx,
        (Method::Xpress, 0x1000) => WofAlgorithm::Xpress4K,
        (Method::Xpress, 0x2000) => WofAlgorithm::Xpress8K,
        (Method::Xpress, 0x4000) => WofAlgorithm::Xpress16K,
        _ => return None,
    })
}
