//! Pipable files: written front to back, read with and without random access.

use std::collections::BTreeMap;

use crate::pipable_support::{make_pipable, small_tree};
use crate::support::{open, options, read_image};
use gravure_codec::Level;
use gravure_tree::Sha1Hash;
use gravure_wim::{
    ChunkDecoder, Compression, ImageInfo, Limits, Metadata, Method, PipableWriter, PipeReader, WriteOptions,
};
use sha1::{Digest, Sha1};

#[test]
fn a_pipable_file_is_the_same_from_a_pipe_and_from_a_disk() {
    for compression in
        [None, Some(Compression::LZX_32K), Some(Compression::new(Method::Xpress, 1 << 12).unwrap())]
    {
        let tree = small_tree();
        let bytes = make_pipable(&tree, &WriteOptions { compression, ..options() });
        let (wim, warnings) = open(&bytes).unwrap();
        assert_eq!(warnings, []);
        assert_eq!(wim.read_integrity(&bytes).unwrap().unwrap().verify(&bytes).unwrap(), []);
        let (dump, warnings) = read_image(&bytes, 1).unwrap();
        assert_eq!((warnings.len(), dump.len()), (0, tree.walk().count() + 1));

        let mut pipe = PipeReader::open(bytes.as_slice(), &Limits::default()).unwrap().value;
        assert_eq!((pipe.header().image_count, pipe.header().guid), (1, wim.header().guid));
        let metadata = pipe.read_metadata().unwrap().unwrap();
        assert_eq!(
            metadata,
            wim.read_metadata(&bytes, wim.images().next().unwrap(), &Limits::default()).unwrap()
        );
        assert!(pipe.read_metadata().unwrap().is_none());
        let parsed = pipe.parse_image(&metadata).unwrap();
        assert_eq!((parsed.warnings.len(), parsed.value.node_count()), (0, tree.node_count()));
        let mut found = BTreeMap::new();
        let (mut decoder, mut stored) = (ChunkDecoder::default(), Vec::new());
        while let Some(resource) = pipe.next_blob().unwrap() {
            let mut content = Vec::new();
            while let Some(chunk) = pipe.read_chunk(&mut stored).unwrap() {
                let mut plain = vec![0; chunk.plain_len as usize];
                decoder.decode(&chunk, &stored, &mut plain).unwrap();
                content.extend_from_slice(&plain);
                stored.clear();
            }
            assert_eq!(Sha1Hash(Sha1::digest(&content).into()), resource.sha1);
            found.insert(resource.sha1, content.len() as u64);
        }
        let listed: BTreeMap<Sha1Hash, u64> = wim.blobs().map(|(_, blob)| (blob.sha1, blob.size)).collect();
        assert_eq!((&found, found.len()), (&listed, 3));
        let (header, table) = pipe.finish().unwrap();
        assert_eq!((&header, table.into_iter().collect::<BTreeMap<_, _>>()), (wim.header(), listed));
        // What nobody reads is passed over.
        let pipe = PipeReader::open(bytes.as_slice(), &Limits::default()).unwrap().value;
        assert_eq!(pipe.finish().unwrap().1.len(), 3);
    }
}

#[test]
fn what_a_pipe_cannot_take_back_is_refused_at_once() {
    let mut tree = small_tree();
    let root = tree.root();
    tree.remove(root, &"f4".into()).unwrap();
    let id = tree.lookup("/f2").unwrap();
    let sha1 = Sha1Hash(Sha1::digest(b"a").into());
    tree.node_mut(id).data.as_mut().unwrap().sha1 = Some(sha1);
    for name in ["/d/f1", "/d/f3"] {
        let name = name.rsplit('/').next().unwrap().into();
        let below = tree.lookup("/d").unwrap();
        tree.remove(below, &name).unwrap();
    }
    let metadata = Metadata::from_tree(&tree).unwrap();
    let mut out = Vec::new();
    let images = vec![(metadata, ImageInfo::new("n"))];
    let options = WriteOptions { compression: None, ..options() };
    let mut writer = PipableWriter::create(&mut out, &options, images, Level::Fast, false).unwrap();
    assert!(writer.begin(Sha1Hash([1; 20]), 1).unwrap_err().to_string().contains("no image refers to it"));
    writer.begin(sha1, 1).unwrap();
    assert!(writer.finish_blob().unwrap_err().to_string().contains("0 of 1 bytes"));
    let error = writer.finish().unwrap_err().to_string();
    assert!(error.contains(&format!("content {sha1} was not written")), "{error}");
}
