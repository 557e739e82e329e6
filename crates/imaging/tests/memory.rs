//! The memory bound: however large the image, a process that captures, applies, extracts, verifies or changes it stays below
//! 64 MiB, wherever the image comes from and whatever it goes to, and the bound does not grow with the number of threads.
//!
//! What an encoder takes beside its chunks is its own, one a thread: LZX with the default level is held to its share on top.
//!
//! This file holds one test, so that nothing else runs in its process.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "it/common/mod.rs"]
mod common;
#[path = "it/common/server.rs"]
mod server;

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use common::{damage, large_sample, open, peak_bytes};
use gravure_imaging::{
    ApplyOptions, CaptureForm, CaptureOptions, Compression, EditOptions, ExportOptions, HttpAt, ImageFile,
    Parents, PipedFile, RemoteOptions, RewriteOptions, Selection, TreeChange, VerifyFileOptions,
    VolumeApplyOptions, VolumeFile, Which, agent, apply_to_directory, apply_to_volume, capture_directory,
    edit, export, extract, verify_file,
};
use gravure_io::FileAt;
use gravure_model::Ctl;
use gravure_model::event::Silent;
use server::Server;

/// What the whole process may take, bytes.
const LIMIT_BYTES: u64 = 64 << 20;
/// What an LZX encoder for chunks of 32 KiB may take, bytes.
const ENCODER_BYTES: u64 = 1 << 20;

/// Ranges of a far file that are kept: 28 MiB (`RemoteOptions`), and what is on its way.
const REMOTE_BYTES: u64 = 40 << 20;
/// What the allocator keeps of earlier operations of the same process.
const KEPT_BYTES: u64 = 12 << 20;

/// The peak of the process may not be above the limit.
fn check(what: &str, threads: usize) {
    held_to(LIMIT_BYTES, what, threads);
}

/// The same after other operations.
fn later(what: &str, threads: usize) {
    held_to(LIMIT_BYTES + KEPT_BYTES, what, threads);
}

fn held_to(limit: u64, what: &str, threads: usize) {
    let peak = peak_bytes();
    eprintln!("{what}, {threads} threads: {peak} bytes");
    assert!(peak < limit, "{what} with {threads} threads: {peak} bytes");
}

fn options(threads: usize, compression: Option<Compression>) -> CaptureOptions {
    CaptureOptions { threads: Some(threads), compression, ..CaptureOptions::default() }
}

fn applied(threads: usize) -> ApplyOptions {
    ApplyOptions { threads: Some(threads), ..ApplyOptions::default() }
}

#[test]
fn memory_stays_bounded_whatever_the_size_and_the_threads() {
    let dir = tempfile::tempdir().unwrap();
    let source = large_sample(dir.path(), 1 << 19);
    let (image, target) = (dir.path().join("x.wim"), dir.path().join("t"));
    let (ctl, xpress) = (Ctl::default(), Some(Compression::XPRESS_32K));
    for threads in [2, 24] {
        capture_directory(&source, &image, &options(threads, xpress), &ctl, &Silent).unwrap();
        check("capture", threads);
        apply_to_directory(&open(&image), &target, &applied(threads), &ctl, &Silent).unwrap();
        fs::remove_dir_all(&target).unwrap();
        check("apply", threads);
    }
    // More operations in one process: what the allocator keeps of one is counted with the next, which is not what the bound is about.
    for threads in [2, 24] {
        let paths = ["/large".to_owned(), "/small7".to_owned()];
        extract(&open(&image), &paths, Parents::Drop, &target, &applied(threads), &ctl, &Silent).unwrap();
        fs::remove_dir_all(&target).unwrap();
        later("extract", threads);
        through_a_pipe(&source, dir.path(), threads);
        onto_a_volume_and_back(&image, dir.path(), threads);
        in_place(&image, dir.path(), threads);
    }
    assert_eq!(damage(&image).unwrap(), [""; 0]);
    later("verify", 2);
    // Last, as the peak of a process never falls.
    for threads in [2, 24] {
        let lzx = options(threads, Some(Compression::LZX_32K));
        capture_directory(&source, &image, &lzx, &ctl, &Silent).unwrap();
        held_to(LIMIT_BYTES + KEPT_BYTES + threads as u64 * ENCODER_BYTES, "capture with LZX", threads);
        apply_to_directory(&open(&image), &target, &applied(threads), &ctl, &Silent).unwrap();
        fs::remove_dir_all(&target).unwrap();
        held_to(LIMIT_BYTES + KEPT_BYTES + threads as u64 * ENCODER_BYTES, "apply with LZX", threads);
    }
    for threads in [2, 24] {
        from_a_server(&image, &target, threads);
    }
}

fn from_a_server(image: &Path, target: &Path, threads: usize) {
    // The encoders before it, and the server, which runs in this process.
    let limit = LIMIT_BYTES + KEPT_BYTES + 24 * ENCODER_BYTES + REMOTE_BYTES;
    let server = Server::start_with(FileAt::open(image).unwrap(), server::Log::default());
    let far = HttpAt::unverified(agent(), &server.url, &RemoteOptions::default()).unwrap();
    let file = ImageFile::open(Arc::new(far), &server.url).unwrap();
    let found = file.image(file.find(&Which::Only).unwrap()).unwrap();
    apply_to_directory(&found, target, &applied(threads), &Ctl::default(), &Silent).unwrap();
    fs::remove_dir_all(target).unwrap();
    held_to(limit, "apply from a server", threads);
    let verify = VerifyFileOptions { threads: Some(threads), ..VerifyFileOptions::default() };
    let report = verify_file(&file, &verify, &Ctl::default(), &Silent).unwrap();
    assert!(report.damage.is_empty());
    held_to(limit, "verify from a server", threads);
}

/// A file that is read as a pipe is, from the front.
struct Front(File);

impl io::Read for Front {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

fn through_a_pipe(source: &Path, dir: &Path, threads: usize) {
    let (image, target) = (dir.join("p.wim"), dir.join("t"));
    let options =
        CaptureOptions { form: CaptureForm::Pipable, ..options(threads, Some(Compression::XPRESS_32K)) };
    capture_directory(source, &image, &options, &Ctl::default(), &Silent).unwrap();
    later("pipable capture", threads);
    let pipe = PipedFile::open(Front(File::open(&image).unwrap()), "pipe").unwrap();
    pipe.apply(&Which::Only, &target, &applied(threads), &Ctl::default(), &Silent).unwrap();
    fs::remove_dir_all(&target).unwrap();
    fs::remove_file(&image).unwrap();
    later("apply from a pipe", threads);
}

fn onto_a_volume_and_back(image: &Path, dir: &Path, threads: usize) {
    let (volume, again) = (dir.join("v.ntfs"), dir.join("v.wim"));
    let device = VolumeFile::open(&volume, Some(400 << 20)).unwrap();
    let apply = VolumeApplyOptions { threads: Some(threads), ..VolumeApplyOptions::default() };
    apply_to_volume(&open(image), &device, &apply, &Ctl::default(), &Silent).unwrap();
    later("apply to a volume", threads);
    let capture = options(threads, Some(Compression::XPRESS_32K));
    capture_directory(&volume, &again, &capture, &Ctl::default(), &Silent).unwrap();
    later("capture of a volume", threads);
    fs::remove_file(&volume).unwrap();
    fs::remove_file(&again).unwrap();
}

/// A file of 100 MB more, in the image and out of it; and the image in another file.
fn in_place(image: &Path, dir: &Path, threads: usize) {
    let (copy, ctl) = (dir.join("c.wim"), Ctl::default());
    let rewrite = || RewriteOptions { threads: Some(threads), ..RewriteOptions::default() };
    let file = ImageFile::open_path(image).unwrap();
    let options = ExportOptions { rewrite: rewrite(), ..ExportOptions::default() };
    export(&file, Selection::All, &copy, &options, &ctl, &Silent).unwrap();
    later("export", threads);
    let add = TreeChange::Add {
        source: dir.join("s/large"),
        to: "/again".to_owned(),
        scan: gravure_imaging::ScanOptions::default(),
        overlay: gravure_imaging::Overlay::Replace,
    };
    let options = EditOptions { rewrite: rewrite(), tree: vec![add], ..EditOptions::default() };
    edit(&copy, &Which::Only, &options, &ctl, &Silent).unwrap();
    later("edit in place", threads);
    fs::remove_file(&copy).unwrap();
}
