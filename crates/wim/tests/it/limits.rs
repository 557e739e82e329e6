//! Limits against hostile files (wim-container 14.1): each is told with what, where, the limit and what was found. Those of
//! chunks, tables, names, depth and counts are tested beside the code that has them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use crate::support::{make_wim, open, options};
use crate::windows_tree::windows_tree;
use gravure_wim::{ImageIndex, Limits, Wim};

const ENTRY_BYTES: usize = 50;

/// A file with one image, and where the entry of its metadata stands.
fn file() -> (Vec<u8>, usize) {
    let bytes = make_wim(&windows_tree(), &options());
    let (wim, _) = open(&bytes).unwrap();
    let table = wim.header().blob_table;
    let start = usize::try_from(table.offset).unwrap();
    let end = start + usize::try_from(table.size).unwrap();
    let is_metadata = |at: &usize| bytes[at + 7] & 2 != 0;
    let entry = (start..end).step_by(ENTRY_BYTES).find(is_metadata).unwrap();
    (bytes, entry)
}

fn metadata_error(bytes: &[u8], limits: &Limits) -> Option<String> {
    let (wim, _) = open(bytes).unwrap();
    let image = ImageIndex::from_number(1).unwrap();
    wim.read_metadata(&bytes, image, limits).err().map(|error| error.to_string())
}

#[test]
fn metadata_larger_than_may_be_held_is_not_decoded() {
    let (bytes, _) = file();
    let (wim, _) = open(&bytes).unwrap();
    let place = wim.metadata_resource(ImageIndex::from_number(1).unwrap()).unwrap().header;
    let (offset, size) = (place.offset, place.size);
    let granted = |max_metadata_bytes| Limits { max_metadata_bytes, ..Limits::default() };
    assert_eq!(metadata_error(&bytes, &granted(size)), None);
    let expected = format!("metadata resource at {offset:#x}: {size} is above the limit of {}", size - 1);
    assert_eq!(metadata_error(&bytes, &granted(size - 1)), Some(expected));
}

#[test]
fn metadata_that_would_be_hundreds_of_times_the_file_is_a_bomb() {
    let (mut bytes, entry) = file();
    let (len, offset) =
        (bytes.len() as u64, u64::from_le_bytes(bytes[entry + 8..entry + 16].try_into().unwrap()));
    let claimed = len * 512 + 1;
    bytes[entry + 16..entry + 24].copy_from_slice(&claimed.to_le_bytes());
    let expected = format!("metadata resource at {offset:#x}: {claimed} is above the limit of {}", len * 512);
    assert_eq!(metadata_error(&bytes, &Limits::default()), Some(expected));
}

#[test]
fn a_document_larger_than_may_be_held_is_not_read() {
    let (bytes, _) = file();
    let (wim, _) = open(&bytes).unwrap();
    let place = wim.header().xml;
    let limits = Limits { max_xml_bytes: place.size - 2, ..Limits::default() };
    let error = Wim::read(&bytes, &limits).unwrap_err().to_string();
    let (offset, size) = (place.offset, place.size);
    assert_eq!(error, format!("XML document at {offset:#x}: {size} is above the limit of {}", size - 2));
}

#[test]
fn content_larger_than_the_caller_wants_is_not_decoded() {
    let (bytes, _) = file();
    let (wim, _) = open(&bytes).unwrap();
    let (id, blob) = wim.blobs().max_by_key(|(_, blob)| blob.size).unwrap();
    let offset = wim.resource(blob.resource).unwrap().header.offset;
    let read = |max_bytes| wim.read_blob(&bytes, id, max_bytes, &Limits::default());
    assert_eq!(read(blob.size).unwrap().len() as u64, blob.size);
    let error = read(blob.size - 1).unwrap_err().to_string();
    assert_eq!(error, format!("blob at {offset:#x}: {} is above the limit of {}", blob.size, blob.size - 1));
}
