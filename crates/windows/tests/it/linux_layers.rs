//! Layers on a small Linux system in memory: links, modes, what is refused, once, and back again.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use gravure_nttypes::{FileAttributes, FileTime, LinkTarget, NtName, ReparseTag};
use gravure_tree::{ContentRef, Node, NodeId, Origin, Reparse, Tree, UnixData};
use gravure_windows::layers::{Layer, Platform};
use gravure_windows::{Change, LinuxImage};

use crate::support::{NOW, nothing_outside};

fn unix(mode: u32) -> Option<UnixData> {
    Some(UnixData { uid: 0, gid: 0, mode, rdev: 0 })
}

fn directory(mode: u32) -> Node {
    let attributes = FileAttributes::DIRECTORY;
    Node { attributes, children: Some(Vec::new()), unix: unix(0o040_000 | mode), ..Node::default() }
}

/// A tree of directories (`/` at the end), links (`path -> target`) and files (`path = content`), with modes.
fn tree(lines: &[(&str, u32)]) -> Tree {
    let mut tree = Tree::new(directory(0o755));
    for (line, mode) in lines {
        let (path, node) = if let Some((path, target)) = line.split_once(" -> ") {
            let data = LinkTarget::from_unix(&NtName::from(target)).to_bytes(ReparseTag::SYMLINK).unwrap();
            let content = ContentRef::inline(data);
            let reparse = Some(Reparse { tag: ReparseTag::SYMLINK, reserved: 0, link_flags: 1, content });
            let attributes = FileAttributes::REPARSE_POINT;
            (path, Node { attributes, reparse, unix: unix(0o120_000 | mode), ..Node::default() })
        } else if let Some((path, content)) = line.split_once(" = ") {
            let content = ContentRef::inline(content.as_bytes().to_vec());
            (path, Node { data: Some(content), unix: unix(0o100_000 | mode), ..Node::default() })
        } else {
            (line.trim_end_matches('/'), directory(*mode))
        };
        let (above, name) = path.rsplit_once('/').unwrap();
        let dir = tree.lookup(above).unwrap_or(tree.root());
        tree.add(dir, NtName::from(name), node).unwrap();
    }
    tree
}

/// A system with merged `/usr`, as Debian has it.
fn linux() -> Tree {
    tree(&[
        ("/etc/", 0o755),
        ("/etc/hosts = 127.0.0.1 localhost\n", 0o644),
        ("/etc/shadow = root:x\n", 0o640),
        ("/etc/app.conf = [Main]\nRoom=old\n; room=x\n", 0o600),
        ("/etc/os-release -> ../usr/lib/os-release", 0o777),
        ("/usr/", 0o755),
        ("/usr/bin/", 0o755),
        ("/usr/bin/tool = #!/bin/sh\n", 0o755),
        ("/usr/lib/", 0o755),
        ("/usr/lib/os-release = ID=debian\nPRETTY_NAME=\"Debian 13\"\n", 0o644),
        ("/usr/lib/systemd/", 0o755),
        ("/usr/lib/systemd/systemd = ELF", 0o755),
        ("/bin -> usr/bin", 0o777),
        ("/lib -> /usr/lib", 0o777),
        ("/loop -> loop", 0o777),
        ("/out -> ../../../../etc", 0o777),
    ])
}

/// Path, mode, and content or target of everything.
fn listing(tree: &Tree) -> Vec<String> {
    let mut out: Vec<String> =
        tree.walk().map(|step| shown(tree, &step.display_path(), step.entry.node)).collect();
    out.sort();
    out
}

fn shown(tree: &Tree, path: &str, id: NodeId) -> String {
    let node = tree.node(id);
    let bytes = |content: &ContentRef| match &content.origin {
        Origin::Inline(bytes) => bytes.to_vec(),
        _ => Vec::new(),
    };
    let mode = node.unix.map_or(0, |unix| unix.mode);
    let what = match (&node.reparse, &node.data) {
        (Some(reparse), _) => {
            let target = LinkTarget::parse(reparse.tag, &bytes(&reparse.content)).unwrap();
            format!("-> {}", target.to_unix())
        }
        (_, Some(data)) => format!("{:?}", String::from_utf8_lossy(&bytes(data))),
        _ => String::new(),
    };
    format!("{path} {mode:o} {what}")
}

fn layer(text: &str, base: &Path) -> Result<Layer, gravure_windows::Error> {
    let facts = BTreeMap::from([("ROOM".to_owned(), "B7".to_owned())]);
    Layer::parse_for(Platform::Linux, &format!("[layer]\nid='room'\nversion=2\n{text}"), base, &facts)
}

const LAYER: &str = r#"
[[directory]]
path = "/srv/school"
mode = "2775"

[[file]]
to = "/bin/room"
from = "room.sh"

[[file]]
to = "${ETC}/motd"
text = "Room ${ROOM}\n"

[[file]]
to = "/etc/shadow"
text = "root:*\n"

[[file]]
to = "/etc/hosts"
text = "never"
when = "if-absent"

[[file]]
to = "/usr/bin/tool"
action = "delete"

[[file]]
to = "/etc/secret"
text = "s"
mode = "0400"

[[text]]
file = "/etc/hosts"
ensure-line = "10.0.0.1 server"

[[text]]
file = "/etc/os-release"
find = "Debian 13"
with = "School"

[[ini]]
file = "/etc/app.conf"
section = "Main"
key = "Room"
value = "${ROOM}"

[[ini]]
file = "${UNITS}/x.service"
section = "Unit"
key = "After"
value = "a.service"

[[command]]
run = "echo 'it is ${ROOM}' > /etc/room"
"#;

fn base() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("room.sh"), "#!/bin/sh\necho room\n").unwrap();
    let mode = std::fs::Permissions::from_mode(0o750);
    std::fs::set_permissions(dir.path().join("room.sh"), mode).unwrap();
    dir
}

#[test]
fn a_layer_does_what_it_says_once_and_all_of_it_is_undone() {
    let dir = base();
    let layer = layer(LAYER, dir.path()).unwrap();
    let mut tree = linux();
    let before = listing(&tree);
    let mut image = LinuxImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    assert_eq!(image.name().as_deref(), Some("Debian 13"));
    let report = layer.apply_to_linux(&mut image).unwrap();
    assert_eq!((report.applied, report.passed_over, report.not_done), (true, 1, vec![]));
    let changes = image.finish("layer").unwrap();
    let after = listing(&tree);
    for line in [
        "/srv 40755 ",
        "/srv/school 42775 ",
        // Through the link, executable as the layer's file is.
        "/usr/bin/room 100755 \"#!/bin/sh\\necho room\\n\"",
        "/etc/motd 100644 \"Room B7\\n\"",
        // What is there keeps its mode.
        "/etc/shadow 100640 \"root:*\\n\"",
        "/etc/secret 100400 \"s\"",
        "/etc/hosts 100644 \"127.0.0.1 localhost\\n10.0.0.1 server\\n\"",
        "/usr/lib/os-release 100644 \"ID=debian\\nPRETTY_NAME=\\\"School\\\"\\n\"",
        "/etc/os-release 120777 -> ../usr/lib/os-release",
        "/etc/app.conf 100600 \"[Main]\\nRoom=B7\\n; room=x\\n\"",
        "/etc/systemd/system/x.service 100644 \"[Unit]\\nAfter=a.service\\n\"",
        "/etc/systemd/system/multi-user.target.wants/gravure-layer-room.service 120777 -> \
         /etc/systemd/system/gravure-layer-room.service",
        "/var/lib/gravure/layers/room 100644 \"2\\n\"",
    ] {
        assert!(after.iter().any(|found| found == line), "{line}: {after:#?}");
    }
    assert!(!after.iter().any(|line| line.starts_with("/usr/bin/tool ") || line.starts_with("/bin/room ")));
    let script =
        after.iter().find(|line| line.starts_with("/var/lib/gravure/first-boot/room.sh 100700 ")).unwrap();
    assert!(script.contains("it is B7"), "{script}");
    // What was replaced may be secret: its place is root's alone.
    for line in ["/var/lib/gravure/changes/0001 40700 ", "/var/lib/gravure/first-boot 40700 "] {
        assert!(after.iter().any(|found| found == line), "{line}: {after:#?}");
    }
    assert!(changes.iter().any(|change| change.describe(true) == "- /usr/bin/tool"), "{changes:?}");
    assert!(changes.iter().any(|change| change.describe(true) == "+ /srv/school/"), "{changes:?}");

    // Once; a higher version again.
    let mut image = LinuxImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    assert!(!layer.apply_to_linux(&mut image).unwrap().applied);
    assert_eq!(image.finish("again").unwrap(), []);
    assert_eq!(listing(&tree), after);
    let mut image = LinuxImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let record = image.undo_last().unwrap();
    assert_eq!((record.what.as_str(), record.changes.len()), ("layer", changes.len()));
    assert_eq!(image.finish("undo").unwrap(), []);
    assert_eq!(listing(&tree), before);
}

#[test]
fn rules_for_windows_are_named_before_anything_is_done() {
    let dir = base();
    for (rule, expected) in [
        ("[[registry]]\nkey='HKLM\\SOFTWARE\\x'\n", "rule [[registry]] \"HKLM\\\\SOFTWARE\\\\x\""),
        ("[[acl]]\npath='/x'\nsddl='O:BA'\n", "rule [[acl]] \"/x\""),
        ("[[shortcut]]\npath='/x.lnk'\ntarget='/y'\n", "rule [[shortcut]] \"/x.lnk\""),
        ("[[service]]\nname='spooler'\nstart='auto'\n", "rule [[service]] \"spooler\""),
        ("[[file]]\nto='C:\\x'\ntext=''\n", "path: expected one from the root"),
        ("[[file]]\nto='/a/../b'\ntext=''\n", "path: expected one from the root"),
        ("[[file]]\nto='/a'\ntext=''\nmode='888'\n", "three or four octal digits"),
        ("[[file]]\nto='/a'\ntext=''\nmode='+644'\n", "three or four octal digits"),
        ("[[file]]\nto='/a'\ntext='${WINDIR}'\n", "found \"WINDIR\""),
    ] {
        let error = layer(rule, dir.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{rule}: {error}");
    }
    let error = Layer::parse(
        "[layer]\nid='x'\nversion=1\n[[file]]\nto='x'\ntext=''\nmode='0644'\n",
        dir.path(),
        &BTreeMap::new(),
    );
    assert!(error.unwrap_err().to_string().contains("no mode, which Windows does not know"));
}

#[test]
fn links_that_lead_nowhere_or_in_circles_harm_nothing() {
    let dir = base();
    let mut tree = linux();
    let mut image = LinuxImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let error = layer("[[file]]\nto='/loop/x'\ntext=''\n", dir.path()).unwrap().apply_to_linux(&mut image);
    assert!(error.unwrap_err().to_string().contains("at most 40 links"));
    // A link out of the image ends at its root, as it does in a running system.
    let rule = layer("[[file]]\nto='/out/x'\ntext='1'\n", dir.path()).unwrap();
    assert!(rule.apply_to_linux(&mut image).unwrap().applied);
    assert_eq!(image.read_file("/etc/x", 9).unwrap().as_deref(), Some(&b"1"[..]));
    // Deleting a link deletes the link.
    assert!(image.remove_file("/lib").unwrap());
    assert!(image.exists("/usr/lib/os-release").unwrap());
    assert!(image.remove_file("/etc").is_err());
    assert!(!image.remove_file("/no/such").unwrap());
}

#[test]
fn commands_need_systemd_and_modes_an_image_that_has_some() {
    let dir = base();
    let mut tree = tree(&[("/data/", 0o755), ("/data/x = 1", 0o644)]);
    let mut image = LinuxImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let error =
        layer("[[command]]\nrun='true'\n", dir.path()).unwrap().apply_to_linux(&mut image).unwrap_err();
    assert!(error.to_string().contains("rule [[command]] \"true\""), "{error}");
    assert_eq!(image.changes(), []);
    // A tree without Unix data: the same files, without modes, which is told.
    let mut bare = Tree::new(Node { children: Some(Vec::new()), ..Node::default() });
    let mut image = LinuxImage::open(&mut bare, &nothing_outside, FileTime(5)).unwrap();
    let report = layer("[[file]]\nto='/a'\ntext='1'\nmode='0600'\n", dir.path())
        .unwrap()
        .apply_to_linux(&mut image)
        .unwrap();
    assert_eq!(report.not_done.len(), 1);
    assert!(image.changes().contains(&Change::FileAdded { path: "/a".into() }));
    image.finish("x").unwrap();
    assert!(bare.walk().all(|step| bare.node(step.entry.node).unix.is_none()));
}
