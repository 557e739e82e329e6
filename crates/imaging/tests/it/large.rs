//! Contents above 4 GiB: tables of chunks with 8 bytes an entry, sizes and offsets beyond 32 bits. The contents are zeros, so the
//! files are small; a full run reads and writes them whole.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use crate::common::{damage, run};
use gravure_imaging::{Compression, Level, Method, PipedFile, VerifyFileOptions};
use gravure_io::FileAt;
use gravure_model::Ctl;
use gravure_model::event::Silent;
use gravure_nttypes::Guid;
use gravure_testkit::{full_run, oracle, skipped};
use gravure_tree::{ContentRef, Node, Origin, Sha1Hash, Tree};
use gravure_wim::{ChunkData, ImageInfo, Metadata, PipableWriter, WimWriter, WriteOptions};
use sha1::{Digest, Sha1};

/// Zeros, and a number at the end.
const BYTES: u64 = (4 << 30) + 70_001;

/// The chunks of the content: each as often as it is there, stored; what a chunk of zeros becomes is known after the first.
struct Chunks {
    chunk_bytes: usize,
    zeros: Option<Vec<u8>>,
    last: Vec<u8>,
    sha1: Sha1Hash,
}

impl Chunks {
    fn new(compression: Option<Compression>) -> Self {
        let chunk_bytes = compression.map_or(1 << 20, |compression| compression.chunk_size() as usize);
        let plain = vec![0; chunk_bytes];
        let zeros = compression.map(|compression| {
            let mut out = vec![0; chunk_bytes];
            let len = compression.encoder(Level::Fast).unwrap().encode(&plain, &mut out).unwrap();
            out.truncate(len);
            out
        });
        let rest = (BYTES % chunk_bytes as u64) as usize;
        let mut last = vec![0; rest];
        last[rest - 1] = 7;
        let mut hasher = Sha1::new();
        (0..BYTES / chunk_bytes as u64).for_each(|_| hasher.update(&plain));
        hasher.update(&last);
        Self { chunk_bytes, zeros, last, sha1: Sha1Hash(hasher.finalize().into()) }
    }

    fn each(&self, mut append: impl FnMut(ChunkData<'_>)) {
        let plain = vec![0; self.chunk_bytes];
        for _ in 0..BYTES / self.chunk_bytes as u64 {
            match &self.zeros {
                Some(stored) => append(ChunkData::Compressed(stored)),
                None => append(ChunkData::Raw(&plain)),
            }
        }
        append(ChunkData::Raw(&self.last));
    }
}

fn tree(sha1: Sha1Hash) -> Tree {
    let mut tree = Tree::new(Node { children: Some(Vec::new()), ..Node::default() });
    let data = ContentRef { size: BYTES, sha1: Some(sha1), origin: Origin::Missing };
    tree.add(tree.root(), "large".into(), Node { data: Some(data), ..Node::default() }).unwrap();
    tree
}

fn write(path: &Path, compression: Option<Compression>, is_pipable: bool) {
    let chunks = Chunks::new(compression);
    let metadata = Metadata::from_tree(&tree(chunks.sha1)).unwrap();
    let guid = Guid([5; 16]);
    let options = WriteOptions { compression, guid, links_fixed: false, allow_missing_blobs: false };
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    if is_pipable {
        let mut out = std::io::BufWriter::new(file);
        let images = vec![(metadata, ImageInfo::new("n"))];
        let mut writer = PipableWriter::create(&mut out, &options, images, Level::Fast, true).unwrap();
        writer.begin(chunks.sha1, BYTES).unwrap();
        chunks.each(|chunk| writer.append_chunk(chunk).unwrap());
        writer.finish_blob().unwrap();
        writer.finish().unwrap();
    } else {
        let file = FileAt::new(file).unwrap();
        let mut writer = WimWriter::create(&file, &options).unwrap();
        writer.begin(BYTES).unwrap();
        chunks.each(|chunk| writer.append_chunk(chunk).unwrap());
        writer.finish_blob(chunks.sha1).unwrap();
        writer.add_image(&metadata, ImageInfo::new("n"), Level::Fast).unwrap();
        writer.finish_with_integrity().unwrap();
    }
}

#[test]
fn contents_above_4_gib_come_back_in_every_form() {
    if !full_run() {
        return skipped("contents above 4 GiB: only in a full run");
    }
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("x.wim");
    let lzms = Compression::new(Method::Lzms, 1 << 17).unwrap();
    for (compression, is_pipable) in
        [(Some(Compression::XPRESS_32K), false), (Some(lzms), false), (Some(Compression::LZX_32K), true)]
    {
        let what = format!("{compression:?}, pipable: {is_pipable}");
        write(&image, compression, is_pipable);
        assert!(fs::metadata(&image).unwrap().len() < 200 << 20, "{what}");
        assert_eq!(damage(&image).unwrap(), [""; 0], "{what}");
        if is_pipable {
            let pipe = PipedFile::open(BufReader::new(File::open(&image).unwrap()), "pipe").unwrap();
            let report = pipe.verify(&VerifyFileOptions::default(), &Ctl::default(), &Silent).unwrap();
            assert!(report.damage.is_empty() && report.bytes == BYTES, "{what}: {report:?}");
        }
        if let Some(mut wimlib) = oracle("wimlib-imagex") {
            run(wimlib.arg("verify").arg(&image));
        }
        if !is_pipable && let Some(mut seven_zip) = oracle("7z") {
            assert!(run(seven_zip.arg("t").arg(&image)).contains("Everything is Ok"), "{what}");
        }
        fs::remove_file(&image).unwrap();
    }
}
