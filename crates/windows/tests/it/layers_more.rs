//! Rules of layers for shortcuts, services, access and versions, what ties an image to its old disk, and all of it taken back.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use gravure_hive::Data;
use gravure_hive::bcd::Device;
use gravure_nttypes::{Guid, SecurityDescriptor};
use gravure_tree::Tree;
use gravure_windows::layers::Layer;
use gravure_windows::{HiveFile, WindowsImage};

use crate::support::{
    NOW, dump, hive, listing, nothing_outside, software_values, system_values, tree, windows,
};

const HIVES: [&str; 2] = ["/Windows/System32/config/SYSTEM", "/Windows/System32/config/SOFTWARE"];

/// Applies a layer to a fresh image, lets `look` see it, and takes it back.
fn apply_and_undo(text: &str, base: &std::path::Path, look: impl FnOnce(&mut WindowsImage<'_>)) -> Tree {
    let layer = Layer::parse(text, base, &BTreeMap::new()).unwrap();
    let mut tree = windows();
    let files = listing(&tree);
    let before: Vec<_> = HIVES.iter().map(|path| dump(&tree, path)).collect();
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let system = image.system().unwrap();
    assert!(layer.apply(&mut image, &system).unwrap().applied);
    look(&mut image);
    image.finish("layer").unwrap();
    let applied = tree.clone();
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    image.undo_last().unwrap();
    image.finish("").unwrap();
    let after: Vec<_> = HIVES.iter().map(|path| dump(&tree, path)).collect();
    assert_eq!(after, before);
    let bare =
        |list: Vec<String>| list.into_iter().filter(|line| !line.contains("/config/S")).collect::<Vec<_>>();
    assert_eq!(bare(listing(&tree)), bare(files));
    applied
}

#[test]
fn services_are_changed_and_made() {
    let text = "[layer]\nid='x'\nversion=1\n\
                [[service]]\nname='storahci'\nstart='disabled'\n\
                [[service]]\nname='Agent'\nbinary='C:\\Agent\\agent.exe --quiet'\nstart='auto-delayed'\ndepends-on=['Tcpip']\n\
                [[service]]\nname='Absent'\nstart='auto'\n";
    apply_and_undo(text, std::path::Path::new("/"), |image| {
        let number = |image: &mut WindowsImage<'_>, service: &str, value: &str| {
            image.number(HiveFile::System, &format!("ControlSet001\\Services\\{service}"), value).unwrap()
        };
        assert_eq!(number(image, "storahci", "Start"), Some(4));
        assert!(
            !image.has_key(HiveFile::System, "ControlSet001\\Services\\storahci\\StartOverride").unwrap()
        );
        assert_eq!(
            (number(image, "Agent", "Start"), number(image, "Agent", "DelayedAutostart")),
            (Some(2), Some(1))
        );
        assert_eq!(
            (number(image, "Agent", "Type"), number(image, "Agent", "ErrorControl")),
            (Some(16), Some(1))
        );
        let key = "ControlSet001\\Services\\Agent";
        let value =
            |image: &mut WindowsImage<'_>, name: &str| image.value(HiveFile::System, key, name).unwrap();
        assert_eq!(value(image, "ImagePath"), Some(Data::expand_sz("C:\\Agent\\agent.exe --quiet")));
        assert_eq!(value(image, "DependOnService"), Some(Data::multi_sz(["Tcpip"])));
        assert_eq!(value(image, "ObjectName"), Some(Data::sz("LocalSystem")));
        assert!(!image.has_key(HiveFile::System, "ControlSet001\\Services\\Absent").unwrap());
    });
}

#[test]
fn access_is_set_on_files_directories_and_keys() {
    let text = "[layer]\nid='x'\nversion=1\n[[directory]]\npath='C:\\School\\Data'\n\
                [[acl]]\npath='C:\\School'\nsddl='O:BAG:SYD:P(A;OICI;FA;;;BA)'\nrecursive=true\n\
                [[acl]]\nkey='HKLM\\SYSTEM\\CurrentControlSet\\Services\\storahci'\nsddl='O:BAG:SYD:(A;CI;KA;;;SY)'\n\
                [[acl]]\npath='C:\\Absent'\nsddl='O:BA'\n";
    let wanted = SecurityDescriptor::from_sddl("O:BAG:SYD:P(A;OICI;FA;;;BA)").unwrap().to_bytes().unwrap();
    let tree = apply_and_undo(text, std::path::Path::new("/"), |_| {});
    for path in ["/School", "/School/Data"] {
        let id = tree.node(tree.lookup(path).unwrap()).security.unwrap();
        assert_eq!(&*tree.security_descriptors()[id.0 as usize], wanted, "{path}");
    }
    for (rule, expected) in [
        ("[[acl]]\npath='C:\\x'\nsddl='nonsense'\n", "expected SDDL"),
        ("[[acl]]\nsddl='O:BA'\n", "either a path or a key"),
        ("[[service]]\nname='a\\b'\nstart='auto'\n", "a name of 1 to 256 characters"),
        ("[[service]]\nname='a'\n", "expected a setting"),
        ("[[shortcut]]\npath='C:\\x.txt'\ntarget='C:\\y.exe'\n", "a path that ends with .lnk"),
        ("[[shortcut]]\npath='C:\\x.lnk'\ntarget='y.exe'\n", "a target of less than 260 characters"),
        ("[[shortcut]]\npath='C:\\x.lnk'\n", "a target, or nothing"),
        // Conditions that nothing would ask are not passed over in silence.
        (
            "[[file]]\nto='C:\\x'\naction='delete'\nwhen='if-newer'\n",
            "always or if-present for what is deleted",
        ),
        (
            "[[file]]\nto='C:\\x'\naction='delete'\nwhen='if-absent'\n",
            "always or if-present for what is deleted",
        ),
        (
            "[[shortcut]]\npath='C:\\x.lnk'\naction='delete'\nwhen='if-absent'\n",
            "always or if-present for what is deleted",
        ),
        (
            "[[service]]\nname='x'\naction='delete'\nwhen='if-absent'\n",
            "always or if-present for what is deleted",
        ),
        ("[[text]]\nfile='C:\\x'\nappend='y'\nwhen='if-newer'\n", "always, if-absent or if-present"),
        ("[[file]]\nto='x'\ntext=''\nwhen='if-version-newer'\n", "a file with a time or version"),
    ] {
        let text = format!("[layer]\nid='x'\nversion=1\n{rule}");
        let error = Layer::parse(&text, std::path::Path::new("/"), &BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains(expected), "{rule}: {error}");
    }
}

#[test]
fn shortcuts_are_made_once_and_go() {
    let place = "Users\\Public\\Desktop\\School.lnk";
    let text = format!(
        "[layer]\nid='x'\nversion=1\n[[shortcut]]\npath='C:\\{place}'\ntarget='C:\\School\\start.exe'\narguments='--room B7'\n\
         icon='C:\\School\\icons.dll'\nicon-index=2\n[[shortcut]]\npath='C:\\Gone.lnk'\naction='delete'\n"
    );
    apply_and_undo(&text, std::path::Path::new("/"), |image| {
        let bytes = image.read_file(place, 10_000).unwrap().unwrap();
        assert_eq!(&bytes[..8], [0x4c, 0, 0, 0, 1, 0x14, 2, 0]);
        let count = image.changes().len();
        let again = text.replace("version=1", "version=1\nalways=true");
        let layer = Layer::parse(&again, std::path::Path::new("/"), &BTreeMap::new()).unwrap();
        let system = image.system().unwrap();
        layer.apply(image, &system).unwrap();
        assert_eq!(image.changes().len(), count, "what says the same is not written again");
    });
}

#[test]
fn an_image_forgets_its_old_disk() {
    let old = "<WindowsRE version=\"2.0\"><WinreBCD id=\"{d6c2f5b5-1111-11ee-8b3c-001122334455}\"/><InstallState state=\"1\"/></WindowsRE>";
    let letters = |values: Vec<(&'static str, &'static str, Data)>| {
        let mounted = [
            ("MountedDevices", "\\DosDevices\\C:", Data::binary(vec![1; 12])),
            ("MountedDevices", "\\??\\Volume{x}", Data::binary(vec![2; 12])),
        ];
        values.into_iter().chain(mounted).collect::<Vec<_>>()
    };
    let in_use = |values: Vec<(&'static str, &'static str, Data)>| {
        values
            .into_iter()
            .filter(|(key, value, _)| *key != "Setup" && *value != "ImageState")
            .collect::<Vec<_>>()
    };
    let guid: Guid = "11111111-2222-3333-4444-555555555555".parse().unwrap();
    for is_in_use in [false, true] {
        let (mut system, mut software) = (letters(system_values()), software_values());
        if is_in_use {
            (system, software) = (in_use(system), in_use(software));
        }
        let mut tree = tree(&[
            ("Windows\\System32\\config\\SYSTEM", hive(&system)),
            ("Windows\\System32\\config\\SOFTWARE", hive(&software)),
            ("Windows\\System32\\Recovery\\Winre.wim", b"x".to_vec()),
            ("Windows\\System32\\Recovery\\ReAgent.xml", old.as_bytes().to_vec()),
        ]);
        let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
        let found = image.system().unwrap();
        image.settle_on_disk(&found, &Device::Gpt { disk: Guid([9; 16]), partition: guid }).unwrap();
        let values = image.values(HiveFile::System, "MountedDevices").unwrap();
        let place = image.read_file("Windows\\System32\\Recovery\\ReAgent.xml", 10_000).unwrap().unwrap();
        let place = String::from_utf8(place).unwrap();
        assert!(place.contains("{00000000-") && place.contains("state=\"0\""), "{place}");
        let commands = image.answer_file().unwrap().map(|(_, answers)| answers.commands_in_specialize());
        if is_in_use {
            let letter = [&b"DMIO:ID:"[..], &guid.0].concat();
            assert_eq!(values, [("\\DosDevices\\C:".to_owned(), Data::binary(letter))]);
            // On an MBR disk its signature and the place of the partition.
            let place = Device::Mbr { signature: 0x0403_0201, offset: 1 << 20 };
            image.settle_on_disk(&found, &place).unwrap();
            let letter = Data::binary([1, 2, 3, 4, 0, 0, 0x10, 0, 0, 0, 0, 0]);
            let values = image.values(HiveFile::System, "MountedDevices").unwrap();
            assert_eq!(values, [("\\DosDevices\\C:".to_owned(), letter)]);
            assert_eq!(commands, None, "nothing would run it");
        } else {
            assert_eq!(values, []);
            assert!(commands.unwrap()[0].contains("reagentc.exe /enable"));
        }
    }
}

#[test]
fn values_of_every_type_are_set_and_bytes_are_put_together() {
    let text = "[layer]\nid='x'\nversion=1\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='q'\ntype='qword'\ndata=5000000000\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='b'\ntype='binary'\ndata='01 02'\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='b'\ntype='binary'\ndata='03'\naction='append'\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='b'\ntype='binary'\ndata='00'\naction='prepend'\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='r'\ntype='hex(8)'\ndata='0a,0b'\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='p'\ntype='hex(ffff0012)'\ndata='4100 0000'\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='n'\ntype='none'\ndata='fe'\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='d'\ntype='dword'\ndata=4294967295\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='i'\ndata=258\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='i'\ndata=1\nwhen='if-absent'\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='e'\ntype='expand-sz'\ndata='b'\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='e'\ndata='c'\naction='append'\nwhen='if-present'\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='e'\ndata='a'\naction='prepend'\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='m'\ntype='multi-sz'\ndata=['a', 'b']\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='m'\ndata=['B', 'y', 'z']\naction='prepend'\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='m'\ndata=['Y', 'c']\naction='append'\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='new'\ntype='binary'\ndata='07'\naction='append'\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='absent'\ndata='x'\nwhen='if-present'\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T\\Empty'\n";
    apply_and_undo(text, std::path::Path::new("/"), |image| {
        assert!(image.has_key(HiveFile::Software, "T\\Empty").unwrap());
        assert_eq!(image.value(HiveFile::Software, "T", "absent").unwrap(), None);
        let mut value = |name: &str| {
            let data = image.value(HiveFile::Software, "T", name).unwrap().unwrap();
            (data.kind.0, data.bytes)
        };
        assert_eq!(value("q"), (11, 5_000_000_000u64.to_le_bytes().to_vec()));
        assert_eq!(value("b"), (3, vec![0, 1, 2, 3]));
        assert_eq!(value("r"), (8, vec![10, 11]));
        assert_eq!(value("p"), (0xffff_0012, vec![0x41, 0, 0, 0]));
        assert_eq!(value("n"), (0, vec![0xfe]));
        assert_eq!(value("d"), (4, vec![0xff; 4]));
        assert_eq!(value("i"), (4, vec![2, 1, 0, 0]));
        // The type is the one that is there.
        assert_eq!(value("e"), (2, b"a\0b\0c\0\0\0".to_vec()));
        assert_eq!(value("m"), (7, b"y\0\0\0z\0\0\0a\0\0\0b\0\0\0c\0\0\0\0\0".to_vec()));
        assert_eq!(value("new"), (3, vec![7]));
    });
    for (kind, data) in
        [("hex()", "00"), ("hex(g)", "00"), ("hex(123456789)", "00"), ("binary", "0"), ("word", "1")]
    {
        let text = format!(
            "[layer]\nid='x'\nversion=1\n[[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='v'\ntype='{kind}'\ndata='{data}'\n"
        );
        let error = Layer::parse(&text, std::path::Path::new("/"), &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("data of its type"), "{kind}: {error}");
    }
    for (kind, data) in [
        ("dword", "4294967296"),
        ("qword", "-1"),
        ("sz", "1"),
        ("multi-sz", "[1]"),
        ("expand-sz", "['a']"),
        ("binary", "[1]"),
    ] {
        let text = format!(
            "[layer]\nid='x'\nversion=1\n[[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='v'\ntype='{kind}'\ndata={data}\n"
        );
        let error = Layer::parse(&text, std::path::Path::new("/"), &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains("data of its type"), "{kind}: {error}");
    }
    // What cannot be put together is not put in its place.
    let text = "[layer]\nid='x'\nversion=1\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='v'\ntype='dword'\ndata=1\n\
                [[registry]]\nkey='HKLM\\SOFTWARE\\T'\nvalue='v'\ndata='x'\naction='append'\n";
    let layer = Layer::parse(text, std::path::Path::new("/"), &BTreeMap::new()).unwrap();
    let mut tree = windows();
    let mut image = WindowsImage::open(&mut tree, &nothing_outside, NOW).unwrap();
    let system = image.system().unwrap();
    let error = layer.apply(&mut image, &system).unwrap_err();
    assert!(error.to_string().contains("texts, lists of texts or bytes to put together"), "{error}");
}
