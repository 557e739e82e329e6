//! Only what is looked into is read, from a mounted directory and from a volume that was never mounted.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use gravure_io::FileAt;
use gravure_model::event::Silent;

use super::*;
use crate::volume::{ExistingData, VolumeApplyOptions, VolumeFile, apply_to_volume};
use crate::{CaptureOptions, ImageFile, Which, capture_directory};

/// As Windows 7 spells them, with what nobody asks for beside.
const FILES: [(&str, &str); 5] = [
    ("Windows/system32/Config/SYSTEM", "system"),
    ("Windows/system32/drivers/x.sys", "driver"),
    ("Windows/WinSxS/many/files", "many"),
    ("Users/Default/NTUSER.DAT", "user"),
    ("empty", ""),
];

fn files(dir: &Path) {
    for (name, content) in FILES {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// The same on an NTFS volume in a file.
fn volume(dir: &Path) -> std::path::PathBuf {
    let (source, wim, volume) = (dir.join("source"), dir.join("x.wim"), dir.join("x.ntfs"));
    files(&source);
    let ctl = Ctl::default();
    capture_directory(&source, &wim, &CaptureOptions::default(), &ctl, &Silent).unwrap();
    let wim = ImageFile::open_path(&wim).unwrap();
    let image = wim.image(wim.find(&Which::Only).unwrap()).unwrap();
    let device = VolumeFile::open(&volume, Some(8 << 20)).unwrap();
    let options = VolumeApplyOptions { existing: ExistingData::Destroy, ..VolumeApplyOptions::default() };
    apply_to_volume(&image, &device, &options, &ctl, &Silent).unwrap();
    volume
}

/// The content at a path, found as who services finds it: in any case, and telling of every directory.
fn content(round: &Round<'_>, path: &str) -> Result<Option<Vec<u8>>, Error> {
    let mut at = round.tree.root();
    for name in path.split('/') {
        (round.looks_into)(at);
        let name = NtName::from(name);
        let mut entries = round.tree.children(at).iter();
        let Some(entry) = entries.find(|entry| entry.name.folded().eq(name.folded())) else {
            return Ok(None);
        };
        at = entry.node;
    }
    round.tree.node(at).data.as_ref().map(|data| (round.read)(data)).transpose()
}

#[test]
fn who_looks_sees_all_and_nothing_else_is_read() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    files(&root);
    let mounted = || PartialTree::of_directory(Arc::new(Dir::open_root(&root).unwrap()));
    let file = volume(temp.path());
    let unmounted = || PartialTree::of_volume(Box::new(FileAt::open(&file).unwrap()), "x.ntfs").unwrap();
    let ctl = Ctl::default();
    for mut tree in [mounted(), unmounted()] {
        let rounds = Cell::new(0);
        let found = tree.service(&ctl, |round| {
            rounds.set(rounds.get() + 1);
            Ok::<_, Error>([
                content(&round, "windows/System32/config/SYSTEM")?,
                content(&round, "WINDOWS/system32/drivers/X.SYS")?,
                content(&round, "empty")?,
                content(&round, "Windows/no/such")?,
            ])
        });
        let (found, _) = found.unwrap();
        let some = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(found, [some("system"), some("driver"), some(""), None]);
        // The root, Windows, system32, then config and drivers at once; then it was all seen.
        assert_eq!(rounds.get(), 5);
        let unread: Vec<String> = tree.unread.values().map(|path| path.join("/")).collect();
        assert_eq!(unread, ["Users", "Windows/WinSxS"]);
    }
    // Who says before what will be asked for needs one round.
    let mut tree = unmounted();
    tree.read_ahead(&["Windows\\System32\\Config", "windows\\system32\\drivers", "Nothing\\there"], &ctl)
        .unwrap();
    let rounds = Cell::new(0);
    let look = |round: Round<'_>| {
        rounds.set(rounds.get() + 1);
        content(&round, "Windows/System32/config/SYSTEM")
    };
    assert_eq!(tree.service(&ctl, look).unwrap().0.as_deref(), Some(b"system".as_slice()));
    assert_eq!(rounds.get(), 1);
}

#[test]
fn what_a_round_that_saw_too_little_did_is_forgotten() {
    let temp = tempfile::tempdir().unwrap();
    files(temp.path());
    let mut tree = PartialTree::of_directory(Arc::new(Dir::open_root(temp.path()).unwrap()));
    let ctl = Ctl::default();
    let add = |round: Round<'_>| {
        if content(&round, "Users/Default/NTUSER.DAT")?.is_none() {
            let name = NtName::from("made in error");
            round.tree.add(round.tree.root(), name, directory()).unwrap();
            // Nor does a failure count that comes of it.
            return Err(unknown());
        }
        Ok(round.tree.add(round.tree.root(), NtName::from("made"), directory()).unwrap())
    };
    let (made, changed) = tree.service(&ctl, add).unwrap();
    assert_eq!(changed.lookup("/made"), Some(made));
    assert_eq!(changed.lookup("/made in error"), None);
    // A failure of one who saw everything is one.
    let fails = |round: Round<'_>| content(&round, "Users").and_then(|_| Err::<(), _>(unknown()));
    assert!(matches!(tree.service(&ctl, fails), Err(Error::NotFound { what: "content", .. })));
    ctl.cancel();
    assert!(tree.service(&ctl, |_| Ok::<_, Error>(())).is_err());
}
