//! The memory bound: however large the image, a process that captures, applies, extracts, verifies or changes it stays below
//! 64 MiB, wherever the image comes from and whatever it goes to, and the bound does not grow with the number of threads.
//!
//! What an encoder takes beside its chunks is its own, one a thread: LZX with the default level is held to its share on top.
//!
//! Each operation runs in a process of its own, this program started again: what the allocator keeps of one is not the next one's.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "it/common/mod.rs"]
mod common;
#[path = "it/common/server.rs"]
mod server;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
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

/// Set for a process that does one operation: its name, the threads, the folder, and where the image is served.
const OPERATION: &str = "GRAVURE_MEMORY_OPERATION";
/// The test, as a process that does one operation calls it.
const TEST: &str = "memory_stays_bounded_whatever_the_size_and_the_threads";

#[test]
fn memory_stays_bounded_whatever_the_size_and_the_threads() {
    if let Ok(what) = std::env::var(OPERATION) {
        let words: Vec<&str> = what.split('\t').collect();
        let [name, threads, dir, url] = words[..] else { panic!("{what}") };
        let lab = Lab { threads: threads.parse().unwrap(), dir: PathBuf::from(dir), url: url.to_owned() };
        lab.run(name);
        println!("peak {}", peak_bytes());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    large_sample(dir.path(), 1 << 19);
    let encoders = |threads: u64| LIMIT_BYTES + threads * ENCODER_BYTES;
    for threads in [2, 24] {
        for name in ["capture", "apply", "extract", "verify", "export", "edit"] {
            held_to(LIMIT_BYTES, name, threads, dir.path(), "-");
        }
        for name in ["pipable capture", "apply from a pipe", "apply to a volume", "capture of a volume"] {
            held_to(LIMIT_BYTES, name, threads, dir.path(), "-");
        }
        held_to(encoders(threads), "capture with LZX", threads, dir.path(), "-");
        held_to(LIMIT_BYTES, "apply", threads, dir.path(), "-");
    }
    let server = Server::start_with(FileAt::open(&dir.path().join("x.wim")).unwrap(), server::Log::default());
    for threads in [2, 24] {
        for name in ["apply from a server", "verify from a server"] {
            held_to(LIMIT_BYTES + REMOTE_BYTES, name, threads, dir.path(), &server.url);
        }
    }
}

/// Does the operation in a process of its own, whose peak may not be above `limit`.
fn held_to(limit: u64, name: &str, threads: u64, dir: &Path, url: &str) {
    let operation = format!("{name}\t{threads}\t{}\t{url}", dir.display());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", TEST, "--nocapture"]).env(OPERATION, operation);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{name}: {said}{}", String::from_utf8_lossy(&output.stderr));
    // Behind what the harness prints of the test's name.
    let peak: u64 = said.split_once("peak ").unwrap().1.split_whitespace().next().unwrap().parse().unwrap();
    eprintln!("{name}, {threads} threads: {peak} bytes");
    assert!(peak < limit, "{name} with {threads} threads: {peak} bytes, at most {limit}");
}

fn options(threads: usize, compression: Option<Compression>) -> CaptureOptions {
    CaptureOptions { threads: Some(threads), compression, ..CaptureOptions::default() }
}

fn applied(threads: usize) -> ApplyOptions {
    ApplyOptions { threads: Some(threads), ..ApplyOptions::default() }
}

/// A folder in which one operation takes the files of another.
struct Lab {
    threads: usize,
    dir: PathBuf,
    url: String,
}

impl Lab {
    fn run(&self, name: &str) {
        match name {
            "capture" => self.capture("s", "x.wim", Compression::XPRESS_32K, CaptureForm::Normal),
            "apply" => self.apply(&open(&self.path("x.wim"))),
            "extract" => self.extract(),
            "verify" => assert_eq!(damage(&self.path("x.wim")).unwrap(), [""; 0]),
            "export" => self.export(),
            "edit" => self.edit(),
            "pipable capture" => self.capture("s", "p.wim", Compression::XPRESS_32K, CaptureForm::Pipable),
            "apply from a pipe" => self.apply_pipe(),
            "apply to a volume" => self.apply_to_volume(),
            "capture of a volume" => {
                self.capture("v.ntfs", "v.wim", Compression::XPRESS_32K, CaptureForm::Normal);
            }
            "capture with LZX" => self.capture("s", "x.wim", Compression::LZX_32K, CaptureForm::Normal),
            "apply from a server" => {
                let file = self.far();
                self.apply(&file.image(file.find(&Which::Only).unwrap()).unwrap());
            }
            "verify from a server" => {
                let verify =
                    VerifyFileOptions { threads: Some(self.threads), ..VerifyFileOptions::default() };
                let report = verify_file(&self.far(), &verify, &Ctl::default(), &Silent).unwrap();
                assert!(report.damage.is_empty());
            }
            other => panic!("{other}"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn capture(&self, source: &str, image: &str, compression: Compression, form: CaptureForm) {
        let options = CaptureOptions { form, ..options(self.threads, Some(compression)) };
        let (source, image) = (self.path(source), self.path(image));
        drop(fs::remove_file(&image));
        capture_directory(&source, &image, &options, &Ctl::default(), &Silent).unwrap();
    }

    fn apply(&self, image: &gravure_imaging::Image) {
        let target = self.path("t");
        apply_to_directory(image, &target, &applied(self.threads), &Ctl::default(), &Silent).unwrap();
        self.has_large_file();
    }

    /// What was applied is there; then it is not.
    fn has_large_file(&self) {
        let size = |at: PathBuf| fs::metadata(at).unwrap().len();
        assert_eq!(size(self.path("t/large")), size(self.path("s/large")));
        fs::remove_dir_all(self.path("t")).unwrap();
    }

    fn extract(&self) {
        let paths = ["/large".to_owned(), "/small7".to_owned()];
        let (image, target, options) = (open(&self.path("x.wim")), self.path("t"), applied(self.threads));
        extract(&image, &paths, Parents::Drop, &target, &options, &Ctl::default(), &Silent).unwrap();
        self.has_large_file();
    }

    fn apply_pipe(&self) {
        let pipe = PipedFile::open(Front(File::open(self.path("p.wim")).unwrap()), "pipe").unwrap();
        let target = self.path("t");
        pipe.apply(&Which::Only, &target, &applied(self.threads), &Ctl::default(), &Silent).unwrap();
        self.has_large_file();
    }

    fn apply_to_volume(&self) {
        let volume = self.path("v.ntfs");
        drop(fs::remove_file(&volume));
        let device = VolumeFile::open(&volume, Some(400 << 20)).unwrap();
        let apply = VolumeApplyOptions { threads: Some(self.threads), ..VolumeApplyOptions::default() };
        apply_to_volume(&open(&self.path("x.wim")), &device, &apply, &Ctl::default(), &Silent).unwrap();
    }

    fn rewrite(&self) -> RewriteOptions {
        RewriteOptions { threads: Some(self.threads), ..RewriteOptions::default() }
    }

    fn export(&self) {
        let (copy, file) = (self.path("c.wim"), ImageFile::open_path(&self.path("x.wim")).unwrap());
        drop(fs::remove_file(&copy));
        let options = ExportOptions { rewrite: self.rewrite(), ..ExportOptions::default() };
        export(&file, Selection::All, &copy, &options, &Ctl::default(), &Silent).unwrap();
    }

    /// A file of 100 MB more in the exported image.
    fn edit(&self) {
        let add = TreeChange::Add {
            source: self.path("s/large"),
            to: "/again".to_owned(),
            scan: gravure_imaging::ScanOptions::default(),
            overlay: gravure_imaging::Overlay::Replace,
        };
        let options = EditOptions { rewrite: self.rewrite(), tree: vec![add], ..EditOptions::default() };
        edit(&self.path("c.wim"), &Which::Only, &options, &Ctl::default(), &Silent).unwrap();
    }

    fn far(&self) -> ImageFile {
        let far = HttpAt::unverified(agent(), &self.url, &RemoteOptions::default()).unwrap();
        ImageFile::open(Arc::new(far), &self.url).unwrap()
    }
}

/// A file that is read as a pipe is, from the front.
struct Front(File);

impl io::Read for Front {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}
