//! What the tests of this crate share: trees as plain comparable values, and files made and read on one thread.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(unreachable_pub, reason = "a module of several programs")]

use std::collections::{BTreeMap, HashMap};

use gravure_codec::Level;
use gravure_io::{MemoryDisk, ReadAt};
use gravure_nttypes::{Guid, NtName};
use gravure_tree::{
    ContentRef, ExtendedAttribute, NodeId, Origin, Sha1Hash, SourceId, TaggedItem, Times, Tree, UnixData,
};
use gravure_wim::{
    BlobId, BlobSet, Error, ImageIndex, ImageInfo, Limits, Metadata, Warning, Wim, WimWriter, WriteOptions,
};

/// Largest content a test holds in memory.
pub const MAX_CONTENT: u64 = 64 << 20;

/// A file's content, or why it cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Bytes(Vec<u8>),
    /// Not in the opened files.
    Missing(Sha1Hash),
}

/// Everything a tree says of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub is_directory: bool,
    pub short_name: Option<NtName>,
    pub attributes: u32,
    pub times: Times,
    pub security: Option<Vec<u8>>,
    pub unix: Option<UnixData>,
    pub extended_attributes: Vec<ExtendedAttribute>,
    pub object_id: Option<Vec<u8>>,
    pub unknown_items: Vec<TaggedItem>,
    pub unknown_0x54: u32,
    /// Tag, reserved, link flags, data.
    pub reparse: Option<(u32, u16, u16, Content)>,
    pub data: Option<Content>,
    pub efs: Option<Content>,
    pub named_streams: Vec<(NtName, Content)>,
    /// The first path of the same file, when it has several.
    pub link_of: Option<Vec<NtName>>,
}

/// A tree by path; the root has an empty one.
pub type Dump = BTreeMap<Vec<NtName>, Item>;

/// All of `tree`; `content` fetches bytes.
pub fn dump(tree: &Tree, content: &mut dyn FnMut(&ContentRef) -> Content) -> Dump {
    let mut paths: Vec<(Vec<NtName>, Option<NtName>, NodeId)> = vec![(Vec::new(), None, tree.root())];
    paths.extend(tree.walk().map(|step| {
        let path = step.path.iter().map(|name| (*name).clone()).collect();
        (path, step.entry.short_name.clone(), step.entry.node)
    }));
    paths.sort();
    let mut first: HashMap<NodeId, Vec<NtName>> = HashMap::new();
    paths
        .into_iter()
        .map(|(path, short_name, id)| {
            let node = tree.node(id);
            let link_of = (tree.link_count(id) > 1).then(|| first.entry(id).or_insert(path.clone()).clone());
            let mut get = |found: &Option<ContentRef>| found.as_ref().map(&mut *content);
            let (data, efs) = (get(&node.data), get(&node.efs));
            let reparse = node.reparse.as_ref().map(|reparse| {
                (reparse.tag.0, reparse.reserved, reparse.link_flags, content(&reparse.content))
            });
            let item = Item {
                is_directory: node.is_directory(),
                short_name,
                attributes: node.attributes.0,
                times: node.times,
                security: node
                    .security
                    .map(|id| tree.security_descriptors()[usize::try_from(id.0).unwrap()].to_vec()),
                unix: node.unix,
                extended_attributes: node.extended_attributes.clone(),
                object_id: node.object_id.clone(),
                unknown_items: node.unknown_items.clone(),
                unknown_0x54: node.unknown_0x54,
                reparse,
                data,
                efs,
                named_streams: node
                    .named_streams
                    .iter()
                    .map(|stream| (stream.name.clone(), content(&stream.content)))
                    .collect(),
                link_of,
            };
            (path, item)
        })
        .collect()
}

/// A tree whose contents are all inline.
pub fn dump_inline(tree: &Tree) -> Dump {
    dump(tree, &mut |content| match &content.origin {
        Origin::Empty => Content::Bytes(Vec::new()),
        Origin::Inline(bytes) => Content::Bytes(bytes.to_vec()),
        other => panic!("inline content expected, {other:?} found"),
    })
}

/// Stores the inline contents of `tree` and adds it as an image.
pub fn add_image(writer: &mut WimWriter<'_>, tree: &Tree, info: ImageInfo) -> Result<ImageIndex, Error> {
    let mut tree = tree.clone();
    let mut todo = vec![tree.root()];
    while let Some(id) = todo.pop() {
        todo.extend(tree.children(id).iter().map(|entry| entry.node));
        for content in tree.node_mut(id).contents_mut() {
            if let Origin::Inline(bytes) = &content.origin {
                content.sha1 = Some(writer.add_blob(bytes, Level::Fast)?);
            }
        }
    }
    writer.add_image(&Metadata::from_tree(&tree)?, info, Level::Fast)
}

/// A WIM of one image with an integrity table.
pub fn make_wim(tree: &Tree, options: &WriteOptions) -> Vec<u8> {
    let disk = MemoryDisk::new(0, 1);
    let mut writer = WimWriter::create(&disk, options).unwrap();
    add_image(&mut writer, tree, ImageInfo::new("test")).unwrap();
    let written = writer.finish_with_integrity().unwrap();
    let mut bytes = disk.to_vec();
    bytes.truncate(usize::try_from(written.size).unwrap());
    bytes
}

/// The first image's tree with all contents inline.
pub fn inline_tree(files: &[(&Vec<u8>, &Wim)]) -> Tree {
    let mut blobs = BlobSet::default();
    for (number, (_, wim)) in (0u32..).zip(files) {
        blobs.push(SourceId(number), wim);
    }
    let (bytes, wim) = files[0];
    let index = ImageIndex::from_number(1).unwrap();
    let mut tree = wim.read_image_with(bytes, index, &blobs, &Limits::default()).unwrap().value;
    let mut todo = vec![tree.root()];
    while let Some(id) = todo.pop() {
        todo.extend(tree.children(id).iter().map(|entry| entry.node));
        for content in tree.node_mut(id).contents_mut() {
            if let Content::Bytes(bytes) = content_of(files, content).unwrap() {
                *content = ContentRef::inline(bytes);
            }
        }
    }
    tree
}

/// Options with a fixed GUID.
pub fn options() -> WriteOptions {
    WriteOptions::new(Guid([0x5a; 16]))
}

/// Opens `bytes`, with warnings.
pub fn open(bytes: &[u8]) -> Result<(Wim, Vec<Warning>), Error> {
    let opened = Wim::read(&bytes, &Limits::default())?;
    Ok((opened.value, opened.warnings))
}

/// The image of a WIM in one file with all contents, and the warnings of the image.
pub fn read_image(bytes: &Vec<u8>, image: u32) -> Result<(Dump, Vec<Warning>), Error> {
    let (wim, _) = open(bytes)?;
    read_image_of(&[(bytes, &wim)], image)
}

/// The image `image` (from 1) of the first of `files`, whose contents are in all of them.
pub fn read_image_of(files: &[(&Vec<u8>, &Wim)], image: u32) -> Result<(Dump, Vec<Warning>), Error> {
    let mut blobs = BlobSet::default();
    for (number, (_, wim)) in (0u32..).zip(files) {
        blobs.push(SourceId(number), wim);
    }
    let (bytes, wim) = files[0];
    let index = ImageIndex::from_number(image).unwrap();
    let limits = Limits::default();
    let opened = wim.read_image_with(bytes, index, &blobs, &limits)?;
    let mut failure = None;
    let dump = dump(&opened.value, &mut |content| match content_of(files, content) {
        Ok(content) => content,
        Err(error) => {
            failure.get_or_insert(error);
            Content::Bytes(Vec::new())
        }
    });
    match failure {
        Some(error) => Err(error),
        None => Ok((dump, opened.warnings)),
    }
}

/// Decodes one content.
pub fn content_of(files: &[(&Vec<u8>, &Wim)], content: &ContentRef) -> Result<Content, Error> {
    match &content.origin {
        Origin::Empty => Ok(Content::Bytes(Vec::new())),
        Origin::Inline(bytes) => Ok(Content::Bytes(bytes.to_vec())),
        Origin::Source { source, key } => {
            let (bytes, wim) = files[usize::try_from(source.0).unwrap()];
            let id = BlobId::from_key(*key).unwrap();
            let plain = wim.read_blob(bytes, id, MAX_CONTENT, &Limits::default())?;
            assert_eq!(plain.as_slice().size(), content.size);
            Ok(Content::Bytes(plain))
        }
        _ => Ok(Content::Missing(content.sha1.unwrap())),
    }
}

/// Hexadecimal digits to bytes.
pub fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap()).collect()
}

/// Bytes to hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-1 a WIM lists content under: zeros for empty content.
pub fn sha1_hex(bytes: &[u8]) -> String {
    use sha1::Digest;
    match bytes {
        [] => Sha1Hash::ZERO.to_string(),
        _ => Sha1Hash(sha1::Sha1::digest(bytes).into()).to_string(),
    }
}
