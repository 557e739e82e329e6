//! Several sources in one tree, links that are followed, and what is left out.

use std::fs;
use std::os::unix::fs::symlink;

use gravure_model::event::Silent;

use super::*;
use crate::meter::Context;

/// Scans `sources` (path below `root`, target) and lists what comes out, or the error.
fn scan(root: &Path, sources: &[(&str, &str)], options: &ScanOptions) -> Result<Vec<String>, String> {
    let ctl = Ctl::default();
    let context = Context { ctl: &ctl, observer: &Silent, threads: 1 };
    let meter = Meter::start(&context, "test");
    let mut scanner = Scanner::new(SourceId(0), options, &meter, &ctl);
    let mut tree = scanner.empty();
    for (path, target) in sources {
        let target: Vec<NtName> = crate::extract::split_path(target).map(NtName::from).collect();
        let added = scanner.add(&mut tree, &root.join(path), &target, Overlay::Replace);
        added.map_err(|error| error.to_string().replace(&root.display().to_string(), ""))?;
    }
    let source = scanner.finish();
    let mut lines: Vec<String> = Vec::new();
    for step in tree.walk() {
        let node = tree.node(step.entry.node);
        let data = node.data.as_ref().filter(|data| !data.is_empty());
        let from = match data.map(|data| &data.origin) {
            Some(Origin::Source { key, .. }) => {
                // What is noted can be opened.
                source.open(*key, &mut source.handles()).unwrap();
                source.display_path(*key).replace(&root.display().to_string(), "")
            }
            _ => String::new(),
        };
        let links = tree.link_count(step.entry.node);
        let kind = match (node.is_directory(), &node.reparse) {
            (true, _) => "dir",
            (false, Some(_)) => "link",
            (false, None) => "file",
        };
        lines.push(format!("{} {kind} {links} {from}", step.display_path()).trim_end().to_owned());
    }
    lines.sort();
    Ok(lines)
}

fn sample() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    for dir in ["a/d", "b/d/e", "links"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for file in ["a/d/x", "a/d/y", "b/d/x", "b/d/e/z", "single"] {
        fs::write(root.join(file), file).unwrap();
    }
    fs::hard_link(root.join("a/d/y"), root.join("b/other-y")).unwrap();
    symlink("../single", root.join("links/to-file")).unwrap();
    symlink("../a/d", root.join("links/to-dir")).unwrap();
    temp
}

#[test]
fn several_sources_make_one_tree() {
    let temp = sample();
    let options = ScanOptions::default();
    let both = scan(temp.path(), &[("a", "/"), ("b", "/")], &options).unwrap();
    let expected = [
        "/d dir 1",
        "/d/e dir 1",
        "/d/e/z file 1 /b/d/e/z",
        "/d/x file 1 /b/d/x",
        "/d/y file 2 /a/d/y",
        "/other-y file 2 /a/d/y",
    ];
    assert_eq!(both, expected);
    let below = scan(temp.path(), &[("single", "/p/q/s"), ("b/d/e", "p")], &options).unwrap();
    assert_eq!(below, ["/p dir 1", "/p/q dir 1", "/p/q/s file 1 /single", "/p/z file 1 /b/d/e/z"]);
    let replaced = scan(temp.path(), &[("a/d", "/"), ("single", "/x")], &options).unwrap();
    assert_eq!(replaced, ["/x file 1 /single", "/y file 1 /a/d/y"]);
}

#[test]
fn files_and_directories_do_not_take_each_others_place() {
    let temp = sample();
    let options = ScanOptions::default();
    let fails = |sources: &[(&str, &str)]| scan(temp.path(), sources, &options).unwrap_err();
    assert_eq!(
        fails(&[("a", "/"), ("single", "/d")]),
        "refused: putting a file at /d: a directory of that name is there already"
    );
    assert_eq!(
        fails(&[("single", "/d"), ("a", "/d")]),
        "refused: putting a directory at /d: a file of that name is there already"
    );
    assert_eq!(fails(&[("single", "/")]), "/single: expected a directory, found something else");
    assert!(fails(&[("single", "/f"), ("a", "/f/g")]).contains("expected a directory"));
    assert!(fails(&[("nothing", "/")]).starts_with("read /nothing"));
}

#[test]
fn links_are_followed_when_they_are_to_be_but_not_in_a_circle() {
    let temp = sample();
    let kept = scan(temp.path(), &[("links", "/")], &ScanOptions::default()).unwrap();
    assert_eq!(kept, ["/to-dir link 1", "/to-file link 1"]);
    let options = ScanOptions { symlinks: Symlinks::Follow, ..ScanOptions::default() };
    let followed = scan(temp.path(), &[("links", "/")], &options).unwrap();
    let expected =
        ["/to-dir dir 1", "/to-dir/x file 1 /a/d/x", "/to-dir/y file 1 /a/d/y", "/to-file file 1 /single"];
    assert_eq!(followed, expected);
    symlink("..", temp.path().join("links/up")).unwrap();
    let error = scan(temp.path(), &[("links", "/")], &options).unwrap_err();
    assert!(error.contains("/links") && error.contains("no end"), "{error}");
}

#[test]
fn without_unix_metadata_special_files_are_left_out() {
    let temp = sample();
    let _socket = std::os::unix::net::UnixListener::bind(temp.path().join("a/socket")).unwrap();
    let keep = scan(temp.path(), &[("a", "/")], &ScanOptions::default()).unwrap();
    assert!(keep.contains(&"/socket file 1".to_owned()), "{keep:?}");
    let options = ScanOptions { unix: UnixMetadata::Leave, ..ScanOptions::default() };
    let left = scan(temp.path(), &[("a", "/")], &options).unwrap();
    assert_eq!(left, ["/d dir 1", "/d/x file 1 /a/d/x", "/d/y file 1 /a/d/y"]);
}
