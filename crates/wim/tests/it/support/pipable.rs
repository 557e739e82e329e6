//! Pipable files of trees whose contents are inline.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(unreachable_pub, reason = "a module of several programs")]

use std::collections::HashMap;

use gravure_codec::Level;
use gravure_tree::{ContentRef, Node, Origin, Sha1Hash, Tree};
use gravure_wim::{ChunkData, ImageInfo, Metadata, PipableWriter, WriteOptions};
use sha1::{Digest, Sha1};

/// A few files, empty, small and of several chunks, two of them equal, and a directory.
pub fn small_tree() -> Tree {
    let dir = || Node { children: Some(Vec::new()), ..Node::default() };
    let mut tree = Tree::new(dir());
    let below = tree.add(tree.root(), "d".into(), dir()).unwrap();
    let pattern: Vec<u8> = (0..40_000u32).map(|at| (at % 251) as u8).collect();
    for (number, bytes) in [&b""[..], b"a", b"a", b"bcd", &pattern].into_iter().enumerate() {
        let node = Node { data: Some(ContentRef::inline(bytes)), ..Node::default() };
        let into = if number % 2 == 0 { tree.root() } else { below };
        tree.add(into, format!("f{number}").as_str().into(), node).unwrap();
    }
    tree
}

/// Writes `tree` as the only image, with an integrity table.
pub fn make_pipable(tree: &Tree, options: &WriteOptions) -> Vec<u8> {
    let mut tree = tree.clone();
    let mut contents: HashMap<Sha1Hash, Vec<u8>> = HashMap::new();
    let nodes: Vec<_> = std::iter::once(tree.root()).chain(tree.walk().map(|step| step.entry.node)).collect();
    for id in nodes {
        for content in tree.node_mut(id).contents_mut() {
            if let Origin::Inline(bytes) = &content.origin {
                let sha1 = Sha1Hash(Sha1::digest(bytes).into());
                contents.insert(sha1, bytes.to_vec());
                content.sha1 = Some(sha1);
            }
        }
    }
    let metadata = Metadata::from_tree(&tree).unwrap();
    let order: Vec<Sha1Hash> = metadata.references.iter().map(|(sha1, _)| *sha1).collect();
    let mut out = Vec::new();
    let images = vec![(metadata, ImageInfo::new("test"))];
    let mut writer = PipableWriter::create(&mut out, options, images, Level::Fast, true).unwrap();
    for sha1 in order {
        let bytes = &contents[&sha1];
        writer.begin(sha1, bytes.len() as u64).unwrap();
        match options.compression {
            None => writer.append_chunk(ChunkData::Raw(bytes)).unwrap(),
            Some(compression) => {
                let mut encoder = compression.encoder(Level::Fast).unwrap();
                for plain in bytes.chunks(compression.chunk_size() as usize) {
                    let mut encoded = vec![0; plain.len()];
                    let chunk = match encoder.encode(plain, &mut encoded) {
                        Some(len) => ChunkData::Compressed(&encoded[..len]),
                        None => ChunkData::Raw(plain),
                    };
                    writer.append_chunk(chunk).unwrap();
                }
            }
        }
        writer.finish_blob().unwrap();
    }
    let size = writer.finish().unwrap().size;
    assert_eq!(size, out.len() as u64);
    out
}
