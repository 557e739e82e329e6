//! The format does not change by accident: an image made of fixed content has fixed bytes, and one made long ago is read.

use crate::support;

use gravure_blockimg::{ChunkId, ImageFile};
use support::{contents, small_image};

/// Made by `small_image` when the format was settled.
const GOLDEN: &[u8] = include_bytes!("golden.gim");

#[test]
fn an_image_of_the_first_version_is_read() {
    let (_, found) = contents(GOLDEN).unwrap();
    let (_, expected) = contents(&small_image(Some(b"signature"))).unwrap();
    assert_eq!(found, expected);
    let file = ImageFile::open(&GOLDEN.to_vec()).unwrap();
    let tree = "8f578a728dedf2045982ce288315bd8c5fb002053dba9008034ddaaa40d4f4d1";
    assert_eq!(file.root.tree_hash().to_string(), tree);
    assert_eq!(file.signature.as_deref(), Some(b"signature".as_slice()));
    assert_eq!(file.facts, support::facts());
}

#[test]
fn structures_are_written_as_they_were() {
    // Compressed bytes depend on the version of zstd; what is hashed does not.
    let (new, old) = (small_image(None), GOLDEN.to_vec());
    let (new, old) = (ImageFile::open(&new).unwrap(), ImageFile::open(&old).unwrap());
    assert_eq!(new.root, old.root);
    assert_eq!(new.id, old.id);
    assert_eq!(ChunkId::of(&new.root.to_bytes().unwrap()), old.id);
}
