//! What users of wimlib are used to, in commands of our own names.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::support::{contents, fails, files, ok};

fn names(dir: &Path) -> Vec<String> {
    contents(dir).into_iter().map(|(name, _)| name).collect()
}

fn extract<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["extract", "x.wim"], arguments, &["--progress", "none"]].concat()
}

fn capture<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["capture"], arguments, &["--progress", "none"]].concat()
}

#[test]
fn the_image_may_stand_before_the_target() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    files(dir, "in");
    std::fs::create_dir(dir.join("other")).unwrap();
    std::fs::write(dir.join("other/file"), "other").unwrap();
    ok(dir, &["capture", "in", "x.wim", "First", "--check", "--progress", "none"]);
    ok(dir, &["capture", "other", "x.wim", "Second one", "--append", "--progress", "none"]);
    for (which, target, expected) in [("1", "a", "in"), ("Second one", "b", "other"), ("2", "c", "other")] {
        ok(dir, &["apply", "x.wim", which, target, "--check", "--progress", "none"]);
        assert!(contents(&dir.join(target)) == contents(&dir.join(expected)), "{which}");
    }
    ok(dir, &["apply", "x.wim:2", "d", "--progress", "none"]);
    ok(dir, &["apply", "x.wim:1", "cached", "--no-sync", "--verify", "decode", "--progress", "none"]);
    assert!(contents(&dir.join("cached")) == contents(&dir.join("in")));
    for (arguments, code) in [
        (["apply", "x.wim:1", "2", "e"], 2),
        (["apply", "x.wim", "3", "e"], 3),
        (["apply", "x.wim", "Third", "e"], 3),
    ] {
        assert_eq!(fails(dir, &arguments).0, code, "{arguments:?}");
    }
    assert!(!dir.join("e").exists());
    ok(dir, &["apply", "x.wim", "2", "v.ntfs", "--size", "16M", "--progress", "none"]);
}

#[test]
fn the_integrity_table_is_checked_first_when_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    files(dir, "in");
    ok(dir, &["capture", "in", "x.wim", "--check", "--progress", "none"]);
    // A byte that no command needs: between contents and tables of another image, which was deleted.
    ok(dir, &["capture", "in", "plain.wim", "--progress", "none"]);
    for command in
        [&["verify", "plain.wim"][..], &["apply", "plain.wim", "a"], &["extract", "plain.wim", "/README"]]
    {
        let output = crate::support::gravure(dir, &[command, &["--check", "--progress", "none"]].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && error.contains("no integrity table"), "{command:?}: {error}");
    }
    std::fs::remove_file(dir.join("README")).unwrap();
    let mut bytes = std::fs::read(dir.join("x.wim")).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(dir.join("x.wim"), bytes).unwrap();
    for command in [&["verify", "x.wim"][..], &["apply", "x.wim", "b"], &["extract", "x.wim", "/README"]] {
        let (code, error) = fails(dir, &[command, &["--check", "--progress", "none"]].concat());
        assert!(code == 5 && error.contains("integrity"), "{command:?}: {code} {error}");
    }
    assert!(!dir.join("b").exists() && !dir.join("README").exists());
}

#[test]
fn patterns_and_lists_are_extracted() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    files(dir, "in");
    std::fs::write(dir.join("in/odd *name"), "odd").unwrap();
    ok(dir, &["capture", "in", "x.wim", "--progress", "none"]);
    ok(dir, &extract(&["/sub/file1?", "--dest-dir", "a", "--threads", "1"]));
    assert_eq!(names(&dir.join("a")), ["file10", "file12", "file14", "file16", "file18"]);
    std::fs::write(dir.join("list"), "# a list\n/sub/deeper/file*3\n\n/README\n").unwrap();
    ok(dir, &extract(&["@list", "--dest-dir", "b"]));
    assert_eq!(
        names(&dir.join("b")),
        ["README", "sub/deeper/file13", "sub/deeper/file23", "sub/deeper/file3"]
    );
    let (code, error) = fails(dir, &extract(&["/none*", "--dest-dir", "c"]));
    assert!(code == 3 && error.contains("/none*"), "{error}");
    ok(dir, &extract(&["/none*", "/README", "--nullglob", "--dest-dir", "c"]));
    ok(dir, &extract(&["/odd *name", "--no-globs", "--dest-dir", "c"]));
    ok(dir, &extract(&["/SUB/FILE0", "--ignore-case", "--dest-dir", "c"]));
    assert_eq!(names(&dir.join("c")), ["README", "file0", "odd *name"]);
    assert_eq!(ok(dir, &extract(&["/READ*", "--to-stdout"])), "hello");
    assert_eq!(fails(dir, &extract(&["/sub/file*", "--to-stdout"])).0, 2);
}

#[test]
fn other_parts_are_named_by_a_pattern() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    files(dir, "in");
    ok(dir, &["capture", "in", "base.wim", "--progress", "none"]);
    std::fs::write(dir.join("in/more"), "more").unwrap();
    ok(dir, &["capture", "in", "delta.wim", "--delta-from", "base.wim", "--progress", "none"]);
    assert_ne!(fails(dir, &["verify", "delta.wim", "--progress", "none"]).0, 0);
    for command in
        [&["verify", "delta.wim"][..], &["apply", "delta.wim", "a"], &["extract", "delta.wim", "/sub"]]
    {
        ok(dir, &[command, &["--ref", "b*.wim", "--progress", "none"]].concat());
    }
    assert!(contents(&dir.join("a")) == contents(&dir.join("in")));
    let (code, error) = fails(dir, &["apply", "delta.wim", "b", "--ref", "c*.wim"]);
    assert!(code == 3 && error.contains("c*.wim"), "{error}");
}

#[test]
fn captures_are_configured_as_they_always_were() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    files(dir, "in");
    std::fs::create_dir(dir.join("second")).unwrap();
    std::fs::write(dir.join("second/file"), "second").unwrap();
    symlink("README", dir.join("in/link")).unwrap();
    let absolute = dir.canonicalize().unwrap().join("in/sub");
    symlink(&absolute, dir.join("in/absolute")).unwrap();

    std::fs::write(dir.join("config"), "[ExclusionList]\n/sub\n[ExclusionException]\n/sub/file0\n").unwrap();
    ok(dir, &capture(&["in", "config.wim", "--config", "config", "--flags", "ServerStandard"]));
    ok(dir, &["apply", "config.wim", "config-out", "--progress", "none"]);
    let left = names(&dir.join("config-out"));
    let is_left = |path: &str| left.iter().any(|name| name == path);
    assert!(is_left("README") && is_left("sub/file0"), "{left:?}");
    assert!(!is_left("sub/file2") && !left.iter().any(|name| name.starts_with("sub/deeper")), "{left:?}");
    assert!(ok(dir, &["wim", "info", "config.wim"]).contains("ServerStandard"));

    std::fs::write(dir.join("sources"), "in /\nsecond 'some where/second'\nsecond/file top\n").unwrap();
    ok(dir, &capture(&["sources", "sources.wim", "--source-list"]));
    ok(dir, &["apply", "sources.wim", "sources-out", "--progress", "none"]);
    for (path, content) in [("some where/second/file", "second"), ("top", "second"), ("README", "hello")] {
        assert_eq!(std::fs::read_to_string(dir.join("sources-out").join(path)).unwrap(), content);
    }
    let (code, error) = fails(dir, &capture(&["config", "no.wim", "--source-list"]));
    assert!(code != 0 && !dir.join("no.wim").exists(), "{error}");

    ok(dir, &capture(&["in", "followed.wim", "--dereference"]));
    ok(dir, &["apply", "followed.wim", "followed-out", "--progress", "none"]);
    assert!(!std::fs::symlink_metadata(dir.join("followed-out/link")).unwrap().is_symlink());
    assert_eq!(std::fs::read_to_string(dir.join("followed-out/link")).unwrap(), "hello");
    ok(dir, &capture(&["in", "fixed.wim", "--rpfix"]));
    ok(dir, &capture(&["in", "kept.wim", "--norpfix"]));
    ok(dir, &["apply", "fixed.wim", "fixed-out", "--progress", "none"]);
    let fixed = std::fs::read_link(dir.join("fixed-out/absolute")).unwrap();
    assert_eq!(fixed, std::path::Path::new("/sub"), "from the root of the image");
    ok(dir, &["apply", "kept.wim", "kept-out", "--progress", "none"]);
    assert_eq!(std::fs::read_link(dir.join("kept-out/absolute")).unwrap(), absolute);

    ok(dir, &capture(&["in", "unix.wim", "--unix-data"]));
    ok(dir, &capture(&["in", "plain.wim", "--no-unix-data"]));
    let len = |name: &str| std::fs::metadata(dir.join(name)).unwrap().len();
    assert!(len("unix.wim") > len("plain.wim"), "owners and modes take room");
    assert_eq!(fails(dir, &capture(&["in", "no.wim", "--no-acls", "--strict-acls"])).0, 2);

    // Of a volume descriptors can be left out.
    ok(dir, &["apply", "plain.wim", "v.ntfs", "--size", "32M", "--progress", "none"]);
    ok(dir, &capture(&["v.ntfs", "with.wim", "--strict-acls"]));
    ok(dir, &capture(&["v.ntfs", "without.wim", "--no-acls"]));
    let detailed = |image: &str| ok(dir, &["wim", "dir", image, "--detailed"]);
    assert!(detailed("with.wim").contains("Security Descriptor"));
    assert!(!detailed("without.wim").contains("Security Descriptor"));
}
