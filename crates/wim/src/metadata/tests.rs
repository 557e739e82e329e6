//! Metadata that no writer of ours makes: cycles, bad names, odd fields, limits.

use gravure_tree::{ContentRef, Origin, Sha1Hash, Tree};

use super::*;
use crate::error::{Error, FileIssue, MAX_WARNINGS, Opened, Scope, Warning};
use crate::limits::Limits;
use crate::parts::BlobSet;

const DIRECTORY: u32 = 0x10;

/// A metadata resource under construction; lists are put behind each other.
struct Resource {
    bytes: Vec<u8>,
}

impl Resource {
    /// No descriptors, a root with its list right behind it.
    fn new() -> Self {
        let mut this = Self { bytes: vec![8, 0, 0, 0, 0, 0, 0, 0] };
        this.dentry("", DIRECTORY, 8 + 104 + 8);
        this.end()
    }

    fn dentry(&mut self, name: &str, attributes: u32, children: usize) -> usize {
        let at = self.bytes.len();
        let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let len = disk::dentry_head_len(name.len(), 0);
        let mut dentry = vec![0; len];
        dentry[..8].copy_from_slice(&(len as u64).to_le_bytes());
        dentry[8..12].copy_from_slice(&attributes.to_le_bytes());
        dentry[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        dentry[0x10..0x18].copy_from_slice(&(children as u64).to_le_bytes());
        dentry[0x64..0x66].copy_from_slice(&(name.len() as u16).to_le_bytes());
        dentry[0x66..0x66 + name.len()].copy_from_slice(&name);
        self.bytes.extend(dentry);
        at
    }

    fn end(mut self) -> Self {
        self.bytes.extend([0; 8]);
        self
    }

    fn parse(&self) -> Result<Opened<Tree>, Error> {
        parse(&self.bytes, &BlobSet::default(), &Limits::default())
    }

    fn error(&self) -> String {
        let error = self.parse().unwrap_err();
        assert_eq!(error.scope(), Scope::Image);
        error.to_string()
    }
}

fn issues(opened: &Opened<Tree>) -> Vec<(String, FileIssue)> {
    let issue = |warning: &Warning| match warning {
        Warning::File { path, issue } => (path.clone(), issue.clone()),
        other => panic!("{other:?}"),
    };
    opened.warnings.iter().map(issue).collect()
}

#[test]
fn a_list_inside_itself_and_lists_shared_by_directories_are_refused() {
    let mut inside = Resource::new();
    inside.dentry("loop", DIRECTORY, 120);
    let message = "expected dentries that all fit into the resource, found a cycle, or lists that several";
    assert!(inside.end().error().contains(message));

    let mut shared = Resource::new();
    let list = 120 + 3 * 112 + 8;
    for name in ["a", "b", "c"] {
        shared.dentry(name, DIRECTORY, list);
    }
    let mut shared = shared.end();
    shared.dentry("file", 0, 0);
    assert!(shared.end().error().contains(message));
}

#[test]
fn empty_directories_may_share_an_empty_list() {
    let mut shared = Resource::new();
    let list = 120 + 3 * 112 + 8;
    for name in ["a", "b", "c"] {
        shared.dentry(name, DIRECTORY, list);
    }
    let opened = shared.end().end().parse().unwrap();
    assert_eq!(opened.value.children(opened.value.root()).len(), 3);
    assert_eq!(opened.warnings, []);
}

#[test]
fn bad_names_take_everything_below_with_them() {
    let mut resource = Resource::new();
    let list = 120 + 5 * 112 + 8;
    for (name, children) in [("ok", 0), (".", list), ("..", list), ("a/b", list), ("x", 0)] {
        resource.dentry(name, if children == 0 { 0 } else { DIRECTORY }, children);
    }
    let mut resource = resource.end();
    resource.dentry("below", 0, 0);
    let opened = resource.end().parse().unwrap();
    let paths: Vec<String> = opened.value.walk().map(|step| step.display_path()).collect();
    assert_eq!(paths, ["/ok", "/x"]);
    let bad = |path: &str| (path.to_owned(), FileIssue::BadName);
    assert_eq!(issues(&opened), [bad("/."), bad("/.."), bad("/a/b")]);
}

#[test]
fn of_equal_names_the_first_stays() {
    let mut resource = Resource::new();
    for name in ["a", "A", "a"] {
        resource.dentry(name, 0, 0);
    }
    let opened = resource.end().parse().unwrap();
    let paths: Vec<String> = opened.value.walk().map(|step| step.display_path()).collect();
    assert_eq!(paths, ["/a", "/A"]);
    assert_eq!(issues(&opened), [("/a".to_owned(), FileIssue::DuplicateName)]);
}

#[test]
fn names_longer_than_their_entry_are_refused() {
    for (len, expected) in [(3u16, "3"), (400, "400"), (65_534, "65534")] {
        let mut resource = Resource::new();
        let at = resource.dentry("name", 0, 0);
        resource.bytes[at + 0x64..at + 0x66].copy_from_slice(&len.to_le_bytes());
        let error = resource.end().error();
        let place = format!("{at:#x}");
        assert!(error.contains("name") && error.contains(&place) && error.contains(expected), "{error}");
    }
}

#[test]
fn odd_fields_are_told_with_their_path_and_survived() {
    let mut resource = Resource::new();
    let list = 120 + 112 + 8;
    resource.dentry("sub", DIRECTORY, list);
    let mut resource = resource.end();
    let at = resource.dentry("f", 0, 8);
    resource.bytes[at + 12..at + 16].copy_from_slice(&5u32.to_le_bytes());
    resource.bytes[at + 0x40] = 1;
    let opened = resource.end().parse().unwrap();
    let mut sha1 = Sha1Hash::ZERO;
    sha1.0[0] = 1;
    assert_eq!(
        issues(&opened),
        [FileIssue::ChildrenOfFile, FileIssue::SecurityIndex(5), FileIssue::MissingBlob(sha1)]
            .map(|issue| ("/sub/f".to_owned(), issue))
    );
    let tree = opened.value;
    let node = tree.node(tree.lookup("sub/f").unwrap());
    assert_eq!(node.security, None);
    assert_eq!(node.data, Some(ContentRef { size: 0, sha1: Some(sha1), origin: Origin::Missing }));
}

#[test]
fn offsets_outside_the_lists_are_refused() {
    for (children, found) in [(4, "0x4"), (121, "0x79"), (1 << 40, "0x10000000000"), (usize::MAX, "0xffff")] {
        let mut resource = Resource::new();
        resource.dentry("d", DIRECTORY, children);
        let error = resource.end().error();
        assert!(error.contains("offset of a children list") && error.contains(found), "{error}");
    }
    let mut bytes = Resource::new().bytes;
    bytes.truncate(112);
    let cut = Resource { bytes }.error();
    assert!(cut.contains("offset of a children list"), "{cut}");
}

#[test]
fn the_deepest_directory_is_the_one_the_limit_says() {
    let mut resource = Resource::new();
    for depth in 1..=20 {
        let next = resource.bytes.len() + 112 + 8;
        resource.dentry(&char::from(b'a' + depth).to_string(), DIRECTORY, next);
        resource = resource.end();
    }
    let resource = resource.end();
    let parse_with = |max_depth| {
        let limits = Limits { max_depth, ..Limits::default() };
        parse(&resource.bytes, &BlobSet::default(), &limits).map(|opened| opened.value.node_count())
    };
    assert_eq!(parse_with(21).unwrap(), 21);
    let error = parse_with(20).unwrap_err();
    assert_eq!(error.to_string(), "directory depth at 0x9d8: 21 is above the limit of 20");
}

#[test]
fn millions_of_oddities_are_counted_and_not_listed() {
    let mut resource = Resource::new();
    for _ in 0..MAX_WARNINGS + 50 {
        resource.dentry(".", 0, 0);
    }
    let opened = resource.end().parse().unwrap();
    assert_eq!(opened.warnings.len(), MAX_WARNINGS + 1);
    assert_eq!(opened.warnings.last(), Some(&Warning::More(50)));
}

#[test]
fn long_paths_in_warnings_are_cut_at_the_front() {
    let mut resource = Resource::new();
    let name = "n".repeat(255);
    for _ in 0..20 {
        let next = resource.bytes.len() + disk::dentry_head_len(510, 0) + 8;
        resource.dentry(&name, DIRECTORY, next);
        resource = resource.end();
    }
    resource.dentry(".", 0, 0);
    let opened = resource.end().parse().unwrap();
    let [(path, FileIssue::BadName)] = &issues(&opened)[..] else { panic!("{:?}", opened.warnings) };
    assert!(path.starts_with(".../nnn") && path.ends_with("n/."), "{path}");
    assert!(path.len() < 1100, "{}", path.len());
}

#[test]
fn a_named_root_loses_its_name_and_a_missing_one_is_refused() {
    let mut bytes = vec![8, 0, 0, 0, 0, 0, 0, 0];
    let mut resource = Resource { bytes: bytes.clone() };
    resource.dentry("root", DIRECTORY, 0);
    let opened = resource.end().parse().unwrap();
    assert_eq!(issues(&opened), [("/".to_owned(), FileIssue::NamedRoot)]);
    bytes.extend([0; 8]);
    assert_eq!(Resource { bytes }.error(), "metadata: root dentry at 0x8: expected a directory, found none");
    let mut resource = Resource { bytes: vec![8, 0, 0, 0, 0, 0, 0, 0] };
    resource.dentry("", 0x20, 0);
    assert_eq!(
        resource.end().error(),
        "metadata: root dentry at 0x8: expected a directory, found attributes 0x20"
    );
}

#[test]
fn groups_link_files_of_equal_content_only() {
    let mut resource = Resource::new();
    for (name, attributes, group, hash) in [
        ("a", 0, 7u64, 1),
        ("b", 0, 7, 1),
        ("c", 0, 7, 2),
        ("d", 0, 8, 1),
        ("e", 0, 0, 1),
        ("f", 0, 0, 1),
        ("g", 0x400, 7, 1),
        ("h", DIRECTORY, 7, 0),
    ] {
        let at = resource.dentry(name, attributes, 0);
        resource.bytes[at + 0x58..at + 0x60].copy_from_slice(&group.to_le_bytes());
        resource.bytes[at + 0x40] = hash;
    }
    let tree = resource.end().parse().unwrap().value;
    let links: Vec<u32> =
        tree.children(tree.root()).iter().map(|entry| tree.link_count(entry.node)).collect();
    assert_eq!(links, [2, 2, 1, 1, 1, 1, 1, 1]);
    assert_eq!(tree.lookup("a"), tree.lookup("b"));
}
