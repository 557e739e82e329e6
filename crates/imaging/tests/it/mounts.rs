//! Mounted images: what is seen is what was captured, damage is an error, and wimlib's mount shows the same.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::common::{capture, open, run, sample, small_sample, snapshot};
use gravure_imaging::{
    CaptureForm, CaptureOptions, Compression, Error, ErrorKind, Image, Method, MountOptions, MountedImage,
    StreamNames, UnixMetadata, Unmount, is_mounted, unmount,
};
use gravure_testkit::{Kind, Snapshot, oracle, skipped};
use gravure_tree::{ContentRef, NamedStream};

/// A mount for as long as it lives.
struct Mounted {
    dir: PathBuf,
    log: Arc<Mutex<Vec<String>>>,
    serving: Option<JoinHandle<Result<(), Error>>>,
}

impl Mounted {
    /// Nothing where FUSE is not to be had.
    fn new(image: &Image, dir: &Path, options: &MountOptions) -> Option<Self> {
        if let Err(error) = File::options().read(true).write(true).open("/dev/fuse") {
            skipped(&format!("/dev/fuse: {error}"));
            return None;
        }
        let _ = fs::create_dir(dir);
        let log = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&log);
        let log_to = Box::new(move |line: &str| told.lock().unwrap().push(line.to_owned()));
        let mounted = MountedImage::new(image, "x.wim:1", dir, options, log_to).unwrap();
        let serving = Some(std::thread::spawn(move || mounted.serve()));
        Some(Self { dir: dir.to_owned(), log, serving })
    }

    fn end(mut self) {
        unmount(&self.dir, Unmount::Unused).unwrap();
        self.serving.take().unwrap().join().unwrap().unwrap();
        assert!(!is_mounted(&self.dir).unwrap());
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.serving.is_some() {
            let _ = unmount(&self.dir, Unmount::Lazy);
        }
    }
}

#[test]
fn what_is_mounted_is_what_was_captured() {
    let dir = tempfile::tempdir().unwrap();
    let source = sample(dir.path(), "source", 31);
    let solid = CaptureForm::Solid(Compression::new(Method::Lzms, 1 << 20).unwrap());
    for (compression, form) in [
        (None, CaptureForm::Normal),
        (Some(Compression::LZX_32K), CaptureForm::Normal),
        (Some(Compression::LZX_32K), solid),
        (Some(Compression::XPRESS_32K), CaptureForm::Pipable),
    ] {
        let image = dir.path().join("x.wim");
        capture(&source, &image, &CaptureOptions { compression, form, ..CaptureOptions::default() });
        // A cache too small for the larger chunks: everything works, only slower.
        let options = MountOptions { cache_bytes: 100_000, ..MountOptions::default() };
        let Some(mounted) = Mounted::new(&open(&image), &dir.path().join("mnt"), &options) else { return };
        let expected = snapshot(&source);
        // Several read everything at a time.
        let seen = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..3).map(|_| scope.spawn(|| snapshot(&mounted.dir))).collect();
            readers.into_iter().map(|reader| reader.join().unwrap()).collect::<Vec<_>>()
        });
        for seen in seen {
            expected.assert_same(&seen);
        }
        let written = fs::write(mounted.dir.join("new"), "x").unwrap_err();
        assert_eq!(written.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(mounted.log(), "");
        mounted.end();
    }
}

#[test]
fn a_mount_is_made_once_and_goes_when_nobody_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let source = small_sample(dir.path(), "source", 32);
    let image = dir.path().join("x.wim");
    capture(&source, &image, &CaptureOptions::default());
    let image = open(&image);
    let Some(mounted) = Mounted::new(&image, &dir.path().join("mnt"), &MountOptions::default()) else {
        return;
    };
    let again = MountedImage::new(&image, "y", &mounted.dir, &MountOptions::default(), Box::new(|_| {}));
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Refused);
    let (path, _) = snapshot(&source)
        .entries
        .into_iter()
        .find(|(_, entry)| matches!(entry.kind, Kind::File { len, .. } if len > 0))
        .unwrap();
    let user = File::open(mounted.dir.join(&path)).unwrap();
    assert_eq!(unmount(&mounted.dir, Unmount::Unused).unwrap_err().kind(), ErrorKind::Refused);
    assert!(is_mounted(&mounted.dir).unwrap());
    // Gone for whoever comes; who has a file reads on.
    unmount(&mounted.dir, Unmount::Lazy).unwrap();
    assert!(!is_mounted(&mounted.dir).unwrap());
    let mut byte = [0];
    user.read_exact_at(&mut byte, 0).unwrap();
    assert_eq!(byte[0], fs::read(source.join(&path)).unwrap()[0]);
    drop(user);
    let mut mounted = mounted;
    mounted.serving.take().unwrap().join().unwrap().unwrap();
    assert_eq!(unmount(&mounted.dir, Unmount::Unused).unwrap_err().kind(), ErrorKind::NotFound);
    let file = dir.path().join("x.wim");
    let error = MountedImage::new(&image, "y", &file, &MountOptions::default(), Box::new(|_| {}));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn damaged_contents_are_errors_and_everything_else_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    let large: Vec<u8> = (0..1_500_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(source.join("large"), &large).unwrap();
    fs::write(source.join("small"), "a small file").unwrap();
    fs::write(source.join("sound"), "a sound file").unwrap();
    let path = dir.path().join("x.wim");
    capture(&source, &path, &CaptureOptions { compression: None, ..CaptureOptions::default() });
    // Stored as they are, so that only hashes can tell.
    let mut bytes = fs::read(&path).unwrap();
    for (needle, at) in [(&b"a small file"[..], 0), (&large[..64], 2_000_000)] {
        let found = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
        bytes[found + at] ^= 1;
    }
    fs::write(&path, bytes).unwrap();
    let Some(mounted) = Mounted::new(&open(&path), &dir.path().join("mnt"), &MountOptions::default()) else {
        return;
    };
    assert_eq!(fs::read_to_string(mounted.dir.join("sound")).unwrap(), "a sound file");
    assert_eq!(mounted.log(), "");
    for name in ["small", "large"] {
        for _ in 0..2 {
            let error = fs::read(mounted.dir.join(name)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(5), "{name}: {error}");
        }
        let log = mounted.log();
        for expected in [format!("/{name}: "), "expected".into(), "found SHA-1".into(), "x.wim".into()] {
            assert!(log.contains(&expected), "{expected} missing in {log}");
        }
    }
    assert_eq!(fs::read_to_string(mounted.dir.join("sound")).unwrap(), "a sound file");
    mounted.end();
}

#[test]
fn named_streams_are_attributes_or_files() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("f"), "content").unwrap();
    let path = dir.path().join("x.wim");
    capture(&source, &path, &CaptureOptions::default());
    let image = open(&path);
    let mut tree = image.tree().clone();
    let file = tree.lookup("/f").unwrap();
    let stream =
        |name: &str, bytes: Vec<u8>| NamedStream { name: name.into(), content: ContentRef::inline(bytes) };
    tree.node_mut(file).named_streams =
        vec![stream("s", b"stream".to_vec()), stream("big", vec![7; 100_000])];
    let image = image.with_tree(tree);
    let mnt = dir.path().join("mnt");
    let attribute = |name: &str| {
        let mut value = vec![0; 1 << 16];
        let len = rustix::fs::getxattr(mnt.join("f"), name, &mut value[..]);
        len.map(|len| value[..len].to_vec())
    };
    for streams in [StreamNames::Xattr, StreamNames::Windows, StreamNames::None] {
        let options = MountOptions { streams, ..MountOptions::default() };
        let Some(mounted) = Mounted::new(&image, &mnt, &options) else { return };
        assert_eq!(fs::read_to_string(mnt.join("f")).unwrap(), "content");
        let as_file = fs::read_to_string(mnt.join("f:s")).ok();
        let names = snapshot(&mnt).entries.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names, [PathBuf::new(), PathBuf::from("f")], "streams are not listed");
        let xattrs = attribute_names(&mnt.join("f"));
        match streams {
            StreamNames::Xattr => {
                assert_eq!(attribute("user.s").unwrap(), b"stream");
                assert_eq!(attribute("user.big").unwrap_err(), rustix::io::Errno::TOOBIG);
                assert_eq!((as_file, xattrs), (None, vec!["user.s".to_owned()]));
            }
            StreamNames::Windows => {
                assert_eq!((as_file.as_deref(), xattrs), (Some("stream"), vec![]));
                assert_eq!(fs::read(mnt.join("f:big")).unwrap(), vec![7; 100_000]);
                assert_eq!(fs::metadata(mnt.join("f:big")).unwrap().size(), 100_000);
            }
            StreamNames::None => assert_eq!((as_file, xattrs), (None, vec![])),
        }
        mounted.end();
    }
}

/// Names of the extended attributes of a file.
fn attribute_names(path: &Path) -> Vec<String> {
    let mut list = vec![0; 1 << 12];
    let len = rustix::fs::listxattr(path, &mut list[..]).unwrap();
    let names = list[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| String::from_utf8(name.to_vec()).unwrap()).collect()
}

/// A tree as both mounts can show it. The other one shows no extended attributes, and times of links by following them.
fn comparable(root: &Path) -> BTreeMap<PathBuf, gravure_testkit::Entry> {
    let mut found = Snapshot::of(root).unwrap();
    for entry in found.entries.values_mut() {
        entry.xattrs.clear();
    }
    found.entries
}

#[test]
fn wimlib_mounts_show_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let source = small_sample(dir.path(), "source", 33);
    for (file, extra) in [("x.wim", &["--compress=LZX"][..]), ("solid.wim", &SOLID)] {
        let Some(mut wimlib) = oracle("wimlib-imagex") else { return };
        let image = dir.path().join(file);
        run(wimlib.args(["capture", "--unix-data", "--norpfix"]).args(extra).arg(&source).arg(&image));
        for unix in [UnixMetadata::Keep, UnixMetadata::Leave] {
            let mode = (unix == UnixMetadata::Leave).then_some(0o777);
            let options = MountOptions { unix, plain_mode: mode, ..MountOptions::default() };
            let Some(ours) = Mounted::new(&open(&image), &dir.path().join("ours"), &options) else { return };
            let theirs = dir.path().join("theirs");
            let _ = fs::create_dir(&theirs);
            let mut wimlib = Command::new("wimlib-imagex");
            wimlib.arg("mount").arg(&image).arg("1").arg(&theirs);
            if unix == UnixMetadata::Keep {
                wimlib.arg("--unix-data");
            }
            run(&mut wimlib);
            let seen = [comparable(&ours.dir), comparable(&theirs)];
            run(Command::new("wimlib-imagex").arg("unmount").arg(&theirs));
            assert!(seen[0].len() > 50, "{} entries", seen[0].len());
            for (path, entry) in &seen[0] {
                assert_eq!(Some(entry), seen[1].get(path), "{} with {unix:?}", path.display());
            }
            assert_eq!(seen[0].len(), seen[1].len());
            ours.end();
        }
    }
}

const SOLID: [&str; 3] = ["--solid", "--solid-compress=LZX", "--solid-chunk-size=1M"];
