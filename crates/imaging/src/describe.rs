//! Making image descriptors: every content decoded and checked, BLAKE3 of every range of a file and of its tables, what images
//! are in it.

use std::path::Path;

use gravure_model::Ctl;
use gravure_model::descriptor::{
    DESCRIPTOR_VERSION, DescribedImage, DescribedWindows, Digest, ImageDescriptor, RANGE_BYTES, SystemKind,
};
use gravure_model::event::Observer;
use gravure_nttypes::NtName;
use gravure_tree::{NodeId, Tree};
use gravure_wim::{ResourceHeader, WindowsInfo};

use crate::meter::{Context, Meter, default_threads};
use crate::reading::MAX_BYTES_IN_FLIGHT;
use crate::stage::{self, Item, Outbox, Work};
use crate::{Error, ErrorKind, ImageFile, IntegrityTables, VerifyFileOptions, uses, verify_file};

/// Bytes of the WIM header.
const HEADER_BYTES: u64 = 208;
/// Step in which tables are hashed.
const STEP_BYTES: usize = 256 << 10;

/// Describes the file `path`: a WIM in one part with all content it refers to, or a block image.
pub fn describe(path: &Path, ctl: &Ctl, observer: &dyn Observer) -> Result<ImageDescriptor, Error> {
    if crate::is_block_image(path) {
        return crate::describe_block_image(path, ctl, observer);
    }
    let file = ImageFile::open_path(path)?;
    describe_file(&file, ctl, observer)
}

/// As [`describe`] for an opened file. What is damaged is not described: the first damage is the error.
pub fn describe_file(file: &ImageFile, ctl: &Ctl, observer: &dyn Observer) -> Result<ImageDescriptor, Error> {
    if file.wims().count() > 1 {
        let value = format!("{} and {} more files", file.name(), file.wims().count() - 1);
        return Err(Error::Unsupported { what: "describing an image that is in several files", value });
    }
    let context = Context { ctl, observer, threads: default_threads() };
    check_contents(file, &context)?;
    let meter = Meter::start(&context, "describe");
    let size_bytes = file.source().size();
    meter.expect(size_bytes);
    let mut images = Vec::new();
    for index in file.wim().images() {
        let image = file.image(index)?;
        let info = file.wim().info().image(index.index());
        let name = info.as_ref().and_then(|info| info.name()).unwrap_or_default();
        let windows = info.and_then(|info| info.windows()).and_then(|said| windows(image.tree(), &said));
        images.push(DescribedImage { windows, ..described(image.tree(), name) });
    }
    let ranges = ranges(&context, &meter, file)?;
    let tables = tables(file)?;
    meter.finish();
    Ok(ImageDescriptor {
        version: DESCRIPTOR_VERSION,
        format: "wim".to_owned(),
        size_bytes,
        range_bytes: RANGE_BYTES,
        ranges,
        tables,
        contents_checked: true,
        images,
    })
}

/// Whether `file` has the size and the tables that `descriptor` names. Its contents are not looked at: bytes are held against
/// the descriptor when they are read ([`ImageFile::open_described`]).
pub fn is_described_by(file: &ImageFile, descriptor: &ImageDescriptor) -> Result<bool, Error> {
    Ok(file.source().size() == descriptor.size_bytes && tables(file)? == descriptor.tables)
}

/// Decodes everything on all cores and compares it with its SHA-1.
fn check_contents(file: &ImageFile, context: &Context<'_>) -> Result<(), Error> {
    let options = VerifyFileOptions {
        stage: "check".to_owned(),
        threads: Some(context.threads),
        tables: IntegrityTables::Skip,
    };
    let report = verify_file(file, &options, context.ctl, context.observer)?;
    if let Some(damage) = report.damage.into_iter().next() {
        return Err(damage.error);
    }
    match report.missing.into_iter().next() {
        None => Ok(()),
        Some(missing) => Err(Error::Other {
            what: format!("describing {}", file.name()),
            source: missing.into(),
            kind: ErrorKind::NotFound,
        }),
    }
}

fn described(tree: &Tree, name: String) -> DescribedImage {
    let (mut file_count, mut directory_count, mut content_bytes) = (0u64, 0u64, 0u64);
    for id in uses::nodes(tree) {
        let node = tree.node(id);
        if node.is_directory() {
            directory_count += 1;
        } else {
            file_count += 1;
        }
        content_bytes = content_bytes.saturating_add(node.data.as_ref().map_or(0, |data| data.size));
    }
    let system = system_of(tree);
    DescribedImage {
        name,
        system,
        file_count,
        directory_count,
        content_bytes,
        windows: None,
        least_disk_bytes: None,
    }
}

/// What the XML document says of Windows, where the tree has one.
fn windows(tree: &Tree, said: &WindowsInfo) -> Option<DescribedWindows> {
    if system_of(tree) != SystemKind::Windows {
        return None;
    }
    let number = |part: Option<u64>| part.unwrap_or(0);
    let version = &said.version;
    Some(DescribedWindows {
        version: format!("{}.{}.{}", version.major?, number(version.minor), number(version.build)),
        // PROCESSOR_ARCHITECTURE_*.
        arch: match said.architecture? {
            0 => "x86",
            5 => "arm",
            9 => "amd64",
            12 => "arm64",
            _ => return None,
        }
        .to_owned(),
        server: said.product_type.as_deref().is_some_and(|kind| !kind.eq_ignore_ascii_case("WinNT")),
        has_recovery: find_folded(tree, &["windows", "system32", "recovery", "winre.wim"]).is_some(),
    })
}

/// What kind of system a tree holds.
pub fn system_of(tree: &Tree) -> SystemKind {
    let has = |path: &[&str]| find_folded(tree, path).is_some();
    if has(&["windows", "system32", "config", "system"]) {
        SystemKind::Windows
    } else if tree.lookup("boot/grub").is_some() && tree.lookup("etc").is_some() {
        SystemKind::Linux
    } else {
        SystemKind::Unknown
    }
}

/// Finds a path without regard to the case of ASCII letters, as Windows does.
pub(crate) fn find_folded(tree: &Tree, path: &[&str]) -> Option<NodeId> {
    path.iter().try_fold(tree.root(), |at, name| {
        let name = NtName::from(*name);
        let found = tree.children(at).iter().find(|entry| entry.name.folded().eq(name.folded()));
        found.map(|entry| entry.node)
    })
}

/// BLAKE3 over header, blob table, XML document and metadata resources, in this order.
fn tables(file: &ImageFile) -> Result<Digest, Error> {
    let mut hasher = blake3::Hasher::new();
    let header = file.wim().header();
    let metadata =
        file.wim().images().filter_map(|image| file.wim().metadata_resource(image)).map(|found| found.header);
    let places: Vec<ResourceHeader> = [header.blob_table, header.xml].into_iter().chain(metadata).collect();
    hash_range(file, 0, HEADER_BYTES, &mut hasher)?;
    for place in places {
        hash_range(file, place.offset, place.stored_size, &mut hasher)?;
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}

fn hash_range(file: &ImageFile, offset: u64, len: u64, hasher: &mut blake3::Hasher) -> Result<(), Error> {
    let mut buf = vec![0; STEP_BYTES];
    let (mut at, mut left) = (offset, len);
    while left > 0 {
        let step = usize::try_from(left).unwrap_or(usize::MAX).min(STEP_BYTES);
        read(file, at, &mut buf[..step])?;
        hasher.update(&buf[..step]);
        at += step as u64;
        left -= step as u64;
    }
    Ok(())
}

fn read(file: &ImageFile, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
    file.source().read_exact_at(offset, buf).map_err(|error| file.archives().get(0).read_error(offset, error))
}

struct RangeHasher<'a> {
    file: &'a ImageFile,
    meter: &'a Meter<'a>,
}

impl Work<(u64, usize), Vec<u8>, Result<Digest, Error>> for RangeHasher<'_> {
    fn work(&mut self, item: Item<(u64, usize), Vec<u8>>, out: &Outbox<Result<Digest, Error>, Vec<u8>>) {
        let Item { ticket, job: (offset, len), permit: mut buf } = item;
        buf.resize(len, 0);
        let digest = read(self.file, offset, &mut buf).map(|()| Digest(*blake3::hash(&buf).as_bytes()));
        self.meter.add(len as u64);
        out.done(ticket, digest, buf);
    }
}

fn ranges(context: &Context<'_>, meter: &Meter<'_>, file: &ImageFile) -> Result<Vec<Digest>, Error> {
    let size = file.source().size();
    let permits = (context.threads + 2).min(MAX_BYTES_IN_FLIGHT / RANGE_BYTES as usize);
    let workers = (0..context.threads).map(|_| RangeHasher { file, meter }).collect();
    let mut at = 0;
    let mut digests = Vec::new();
    stage::run(
        context.ctl,
        vec![Vec::new(); permits],
        workers,
        |_| {
            let offset = at;
            let len = usize::try_from(size - offset).unwrap_or(usize::MAX).min(RANGE_BYTES as usize);
            at += len as u64;
            Ok((len > 0).then_some((offset, len)))
        },
        |digest: Result<Digest, Error>, _| {
            digests.push(digest?);
            Ok(())
        },
    )?;
    Ok(digests)
}

#[cfg(test)]
mod tests {
    use gravure_tree::{ContentRef, Node};

    use super::*;

    #[test]
    fn systems_are_told_apart() {
        let dir = || Node { children: Some(Vec::new()), ..Node::default() };
        let make = |path: &[&str]| {
            let mut tree = Tree::new(dir());
            let mut at = tree.root();
            for name in path {
                at = tree.add(at, NtName::from(*name), dir()).unwrap();
            }
            tree
        };
        assert_eq!(system_of(&make(&[])), SystemKind::Unknown);
        assert_eq!(system_of(&make(&["WINDOWS", "system32", "Config", "SYSTEM"])), SystemKind::Windows);
        let mut linux = make(&["boot", "grub"]);
        assert_eq!(system_of(&linux), SystemKind::Unknown);
        linux.add(linux.root(), "etc".into(), dir()).unwrap();
        assert_eq!(system_of(&linux), SystemKind::Linux);
    }

    #[test]
    fn content_of_hard_links_counts_once() {
        let mut tree = Tree::new(Node { children: Some(Vec::new()), ..Node::default() });
        let file = Node { data: Some(ContentRef::inline(vec![1; 10])), ..Node::default() };
        let id = tree.add(tree.root(), "a".into(), file.clone()).unwrap();
        tree.link(tree.root(), "b".into(), id).unwrap();
        tree.add(tree.root(), "c".into(), file).unwrap();
        let image = described(&tree, "x".into());
        assert_eq!((image.file_count, image.directory_count, image.content_bytes), (2, 1, 20));
    }
}
