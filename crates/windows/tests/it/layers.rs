//! Layers on a small Windows in memory: every kind of rule, all or nothing, once, and back again.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::{NOW, dump, listing, nothing_outside, windows};
use gravure_hive::Data;
use gravure_windows::layers::Layer;
use gravure_windows::{HiveFile, OutsideFile, WindowsImage};

const LAYER: &str = r#"
[layer]
id = "school.base"
version = 3

[[directory]]
path = 'C:\School\Data'

[[file]]
to = 'C:\School\readme.txt'
text = "Room ${ROOM}, 5 $$\n"

[[file]]
to = 'C:\School\logo.bmp'
from = "logo.bmp"
when = "if-different"

[[file]]
to = 'Windows\INF\OEM2.inf'
action = "delete"

[[file]]
to = 'Windows\System32\drivers\storahci.sys'
text = "never"
when = "if-absent"

[[text]]
file = 'C:\Windows\System32\drivers\etc\hosts'
ensure-line = "10.0.0.1 server"

[[ini]]
file = 'C:\Windows\win.ini'
section = "Mail"
key = "MAPI"
value = "1"

[[registry]]
key = 'HKLM\SOFTWARE\Policies\School'
value = "Room"
data = "${ROOM}"

[[registry]]
key = 'HKLM\SYSTEM\CurrentControlSet\Services\storahci'
value = "Owners"
data = ["mshdc.inf", "school"]
action = "append"

[[registry]]
key = 'HKLM\SYSTEM\CurrentControlSet\Services\storahci\StartOverride'
action = "delete"

[[registry]]
key = 'HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion'
value = "DevicePath"
data = ';D:\Drivers'
action = "append"

[[registry]]
key = 'HKLM\SOFTWARE\Absent'
value = "x"
type = "qword"
data = 7
when = "if-present"

[[registry]]
key = 'HKLM\SOFTWARE\Bytes'
value = ""
type = "binary"
data = "00 ff,1a"

[[command]]
run = "cmd /c echo ${ROOM}"
"#;

fn facts() -> BTreeMap<String, String> {
    BTreeMap::from([("ROOM".to_owned(), "B7".to_owned())])
}

fn base() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("logo.bmp"), b"BM").unwrap();
    dir
}

#[test]
fn every_rule_does_what_it_says_once_and_can_be_taken_back() {
    let dir = base();
    let layer = Layer::parse(LAYER, dir.path(), &facts()).unwrap();
    let mut tree = windows();
    let hives = ["/Windows/System32/config/SYSTEM", "/Windows/System32/config/SOFTWARE"];
    let before: Vec<_> = hives.iter().map(|path| dump(&tree, path)).collect();
    let files = listing(&tree);
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let system = image.system().unwrap();
    let report = layer.apply(&mut image, &system).unwrap();
    assert_eq!((report.applied, report.passed_over, report.not_done.len()), (true, 2, 0));
    let file = |image: &WindowsImage<'_>, path: &str| {
        image.read_file(path, 1000).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
    };
    assert_eq!(file(&image, "School\\readme.txt").as_deref(), Some("Room B7, 5 $\n"));
    assert_eq!(
        file(&image, "windows\\system32\\drivers\\ETC\\hosts").as_deref(),
        Some("10.0.0.1 server\r\n")
    );
    assert_eq!(file(&image, "Windows\\win.ini").as_deref(), Some("[Mail]\r\nMAPI=1\r\n"));
    assert_eq!(file(&image, "Windows\\System32\\drivers\\storahci.sys").as_deref(), Some("MZ storahci"));
    assert!(image.is_directory("School\\Data") && !image.exists("Windows\\INF\\oem2.inf"));
    let software = |image: &mut WindowsImage<'_>, key: &str, value: &str| {
        image.value(HiveFile::Software, key, value).unwrap()
    };
    assert_eq!(software(&mut image, "Policies\\School", "Room"), Some(Data::sz("B7")));
    assert_eq!(software(&mut image, "Bytes", ""), Some(Data::binary(vec![0, 0xff, 0x1a])));
    assert_eq!(software(&mut image, "Absent", "x"), None);
    let path = software(&mut image, "Microsoft\\Windows\\CurrentVersion", "DevicePath");
    assert_eq!(path, Some(Data::expand_sz("%SystemRoot%\\inf;D:\\Drivers")));
    let service = "ControlSet001\\Services\\storahci";
    let owners = image.value(HiveFile::System, service, "Owners").unwrap();
    assert_eq!(owners, Some(Data::multi_sz(["mshdc.inf", "school"])));
    assert!(!image.has_key(HiveFile::System, &format!("{service}\\StartOverride")).unwrap());
    let (_, answers) = image.answer_file().unwrap().unwrap();
    assert_eq!(answers.commands_in_specialize(), ["cmd /c echo B7"]);
    let finished = image.finish("layer").unwrap();
    let logo = OutsideFile { source: dir.path().join("logo.bmp"), to: "School\\logo.bmp".into() };
    assert_eq!(finished.outside, [logo]);

    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    assert!(!layer.apply(&mut image, &system).unwrap().applied);
    let newer = Layer::parse(&LAYER.replace("version = 3", "version = 4"), dir.path(), &facts()).unwrap();
    assert!(newer.apply(&mut image, &system).unwrap().applied);
    drop(image);
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    image.undo_last().unwrap();
    image.finish("").unwrap();
    let after: Vec<_> = hives.iter().map(|path| dump(&tree, path)).collect();
    assert_eq!(after, before);
    let no_hives =
        |list: Vec<String>| list.into_iter().filter(|line| !line.contains("/config/S")).collect::<Vec<_>>();
    assert_eq!(no_hives(listing(&tree)), no_hives(files));
}

#[test]
fn what_would_fail_later_is_refused_before_anything_runs() {
    let dir = base();
    let head = "[layer]\nid='x'\nversion=1\n";
    let cases = [
        ("[layer]\nid='a b'\nversion=1\n".to_owned(), "id: expected 1 to 64"),
        (format!("{head}colour=1\n"), "unknown field `colour`"),
        (format!("{head}[[file]]\nto='C:\\..\\x'\ntext=''\n"), "path: expected one of the Windows volume"),
        (format!("{head}[[file]]\nto='D:\\x'\ntext=''\n"), "path: expected one of the Windows volume"),
        (format!("{head}[[file]]\nto='x'\nfrom='../x'\n"), "expected a file beside the layer"),
        (format!("{head}[[file]]\nto='x'\nfrom='absent'\n"), "file of a layer"),
        (format!("{head}[[file]]\nto='x'\n"), "expected either from or text"),
        (
            format!("{head}[[file]]\nto='x'\ntext='${{HOUSE}}'\n"),
            " PUBLIC ROOM STARTUP START_MENU SYSTEM32 WINDIR, found \"HOUSE\"",
        ),
        (format!("{head}[[registry]]\nkey='HKLM\\SAM\\x'\n"), "key: expected HKLM\\SOFTWARE"),
        (format!("{head}[[registry]]\nkey='HKLM\\SOFTWARE\\x'\nvalue='v'\n"), "expected a value and data"),
        (
            format!("{head}[[registry]]\nkey='HKLM\\SOFTWARE\\x'\nvalue='v'\ntype='dword'\ndata=-1\n"),
            "expected data of its type",
        ),
        (format!("{head}[[ini]]\nfile='x'\nsection='s'\nkey='k'\n"), "expected a key and a value"),
        (format!("{head}[[text]]\nfile='x'\nappend='a'\nprepend='b'\n"), "expected exactly one of"),
        ("not toml".to_owned(), "expected a layer in TOML"),
    ];
    for (text, message) in cases {
        let error = Layer::parse(&text, dir.path(), &facts()).unwrap_err().to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
    assert!(Layer::parse(head, Path::new("/"), &BTreeMap::new()).is_ok());
}
