//! `.reg` text: what is understood, what it does to a hive, what is written, and what foreign tools make of it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use crate::support::{CORPUS, assert_same_dump, corpus_file, dump, editor, empty, saved};
use gravure_hive::reg::{Encoding, ExportOptions, Mount, RegFile, RegVersion};
use gravure_hive::{Data, Hive, ValueType};
use gravure_nttypes::NtName;

const V5: &str = "Windows Registry Editor Version 5.00\r\n\r\n";

fn import(hive: &Hive, text: &[u8]) -> Hive {
    let file = RegFile::parse(text).unwrap();
    let mut editor = editor(hive);
    file.apply(&mut editor, &Mount::guess(&file)).unwrap();
    saved(editor)
}

fn utf16(text: &str) -> Vec<u8> {
    [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
}

#[test]
fn every_form_of_data_is_understood() {
    let kind = |number: u32, bytes: &[u8]| Data { kind: ValueType(number), bytes: bytes.to_vec() };
    let table = [
        ("\"a \\\"b\\\" c:\\\\d\"", Data::sz("a \"b\" c:\\d")),
        ("\"two\r\nlines\"", Data::sz("two\r\nlines")),
        ("dword:0000001F", Data::dword(31)),
        ("dword:1f ; comment", Data::dword(31)),
        ("qword:0123456789abcdef", Data::qword(0x0123_4567_89ab_cdef)),
        ("hex:", Data::binary([])),
        ("hex:01,2,FF", Data::binary([1, 2, 255])),
        ("hex:01,\\\r\n  02,\\ ; why\r\n  03", Data::binary([1, 2, 3])),
        ("hex(0):", kind(0, &[])),
        ("hex(2):25,00,00,00", Data::expand_sz("%")),
        ("hex(7):61,00,00,00,00,00", Data::multi_sz(["a"])),
        ("hex(b):01,00,00,00,00,00,00,00", Data::qword(1)),
        ("hex(ffff0012):41,00", kind(0xffff_0012, &[0x41, 0])),
    ];
    for (text, data) in table {
        let whole = format!("{V5}[HKEY_CURRENT_USER\\K]\r\n\"n\"={text}\r\n");
        for bytes in [utf16(&whole), whole.clone().into_bytes()] {
            let hive = import(&empty(5), &bytes);
            assert_eq!(hive.open("K").unwrap().data("n").unwrap(), Some(data.clone()), "{text}");
        }
    }
}

#[test]
fn version_4_is_windows_1252_in_text_and_bytes() {
    let text = b"REGEDIT4\r\n\r\n[HKEY_CURRENT_USER\\Gr\xf6\xdfe]\r\n@=\"\x80\"\r\n\"m\"=hex(7):e9,00,62,00,00\r\n\"b\"=hex:e9\r\n";
    let hive = import(&empty(3), text);
    let key = hive.open("Größe").unwrap();
    assert_eq!(key.data("").unwrap(), Some(Data::sz("€")));
    assert_eq!(key.data("m").unwrap(), Some(Data::multi_sz(["é", "b"])));
    assert_eq!(key.data("b").unwrap(), Some(Data::binary([0xe9])));
}

#[test]
fn keys_and_values_are_deleted_and_made_in_order() {
    let start = format!("{V5}[HKEY_CURRENT_USER\\A\\B]\r\n\"x\"=dword:1\r\n\"y\"=dword:2\r\n");
    let hive = import(&empty(5), start.as_bytes());
    let text = format!(
        "{V5}[HKCU\\A\\B]\r\n\"x\"=-\r\n\"none\"=-\r\n\r\n[-HKEY_CURRENT_USER\\Not\\There]\r\n[HKEY_CURRENT_USER\\C]\r\n@=\"c\"\r\n\
         [-HKEY_CURRENT_USER\\C]\r\n[hkey_current_user\\a\\D\\E]\r\n"
    );
    let file = RegFile::parse(text.as_bytes()).unwrap();
    let mut editor = editor(&hive);
    let applied = file.apply(&mut editor, &Mount::guess(&file)).unwrap();
    let counts = (
        applied.keys_created,
        applied.keys_deleted,
        applied.values_set,
        applied.values_deleted,
        applied.not_there,
    );
    assert_eq!(counts, (3, 1, 1, 1, 2));
    let hive = saved(editor);
    let paths: Vec<String> = hive.walk().map(|step| hive.path(step.unwrap().0.id()).unwrap()).collect();
    assert_eq!(paths, ["", "A", "A\\B", "A\\D", "A\\D\\E"]);
    assert_eq!(hive.open("A\\B").unwrap().values().unwrap().count(), 1);
}

#[test]
fn the_current_control_set_is_the_one_that_select_names() {
    let mut editor = editor(&empty(5));
    let select = editor.create("Select").unwrap();
    editor.set_value(select, &NtName::from("Current"), &Data::dword(3)).unwrap();
    let hive = saved(editor);
    let text =
        format!("{V5}[HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services\\x]\r\n\"Start\"=dword:0\r\n");
    let hive = import(&hive, text.as_bytes());
    assert_eq!(hive.open("ControlSet003\\Services\\x").unwrap().data("Start").unwrap(), Some(Data::dword(0)));
}

#[test]
fn says_in_which_line_what_is_wrong() {
    for (text, expected) in [
        (
            "hello",
            "line 1: expected \"Windows Registry Editor Version 5.00\" or \"REGEDIT4\", found \"hello\"",
        ),
        ("REGEDIT4\n\n\"a\"=\"b\"\n", "line 3: expected a key before it, found value a"),
        ("REGEDIT4\n[a\n", "line 2: expected \"]\", found \"[a\""),
        ("REGEDIT4\n[a]\n\"b\n", "line 3: expected a closing quote, found the end"),
        ("REGEDIT4\n[a]\n\"b\" 1\n", "line 3: expected \"=\", found \"1\""),
        ("REGEDIT4\n[a]\n@=dword:123456789\n", "line 3: expected 1 to 8 hexadecimal digits, found \"9\""),
        ("REGEDIT4\n[a]\n@=hex:1,,2\n", "line 3: expected 1 to 2 hexadecimal digits, found \",2\""),
        ("REGEDIT4\n[a]\n@=hex:1 2\n", "line 3: expected a comma between bytes, found \"2\""),
        ("REGEDIT4\n[a]\n@=hex:1,\\ 2\n", "line 3: expected the end of the line after \\, found \"2\""),
        ("REGEDIT4\n[a]\n@=\"x\" y\n", "line 3: expected the end of the line, found \"y\""),
        (
            "REGEDIT4\n[a]\n@=wert\n",
            "line 3: expected \"text\", dword:, qword:, hex:, hex(type): or -, found \"wert\"",
        ),
        ("REGEDIT4\n[-a]\n@=-\n", "line 3: expected a key before it, found value "),
    ] {
        assert_eq!(RegFile::parse(text.as_bytes()).unwrap_err().to_string(), expected);
    }
    let text = format!("{V5}[HKEY_LOCAL_MACHINE\\SYSTEM\\A]\r\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\B]\r\n");
    let file = RegFile::parse(text.as_bytes()).unwrap();
    let error = file.apply(&mut editor(&empty(5)), &Mount::guess(&file)).unwrap_err().to_string();
    let expected =
        "line 4: expected keys below HKEY_LOCAL_MACHINE\\SYSTEM, found HKEY_LOCAL_MACHINE\\SOFTWARE\\B";
    assert_eq!(error, expected);
}

#[test]
fn writes_what_regedit_writes() {
    let mut editor = editor(&empty(5));
    let key = editor.create("K\\[x]").unwrap();
    let values = [
        ("", Data::sz("q\"\\")),
        ("n\\\"", Data::dword(0x1f)),
        ("bin", Data::binary((0..40).collect::<Vec<u8>>())),
        ("exp", Data::expand_sz("%a%")),
        ("none", Data { kind: ValueType::NONE, bytes: Vec::new() }),
        ("unterminated", Data { kind: ValueType::SZ, bytes: vec![0x61, 0] }),
        ("q", Data::qword(1)),
    ];
    for (name, data) in values {
        editor.set_value(key, &NtName::from(name), &data).unwrap();
    }
    let hive = saved(editor);
    let options = ExportOptions {
        encoding: Encoding::Utf8,
        mount: NtName::from("HKEY_LOCAL_MACHINE\\TEST"),
        ..Default::default()
    };
    let id = hive.open("K").unwrap().id();
    let text = String::from_utf8(hive.export(id, &options).unwrap()).unwrap();
    let expected = "Windows Registry Editor Version 5.00\r\n\r\n[HKEY_LOCAL_MACHINE\\TEST\\K]\r\n\r\n[HKEY_LOCAL_MACHINE\\TEST\\K\\[x]]\r\n\
        @=\"q\\\"\\\\\"\r\n\"n\\\\\\\"\"=dword:0000001f\r\n\
        \"bin\"=hex:00,01,02,03,04,05,06,07,08,09,0a,0b,0c,0d,0e,0f,10,11,12,13,14,15,16,\\\r\n  17,18,19,1a,1b,1c,1d,1e,1f,20,21,22,23,24,25,26,27\r\n\
        \"exp\"=hex(2):25,00,61,00,25,00,00,00\r\n\"none\"=hex(0):\r\n\"unterminated\"=hex(1):61,00\r\n\
        \"q\"=hex(b):01,00,00,00,00,00,00,00\r\n\r\n";
    assert_eq!(text, expected);
    let v4 = ExportOptions { version: RegVersion::V4, ..options };
    let text = String::from_utf8(hive.export(id, &v4).unwrap()).unwrap();
    assert!(text.starts_with("REGEDIT4\r\n\r\n"));
    assert!(text.contains("\"exp\"=hex(2):25,61,25,00\r\n"), "{text}");
}

/// A real hive exported and imported into an empty one has the same keys and values (not the same order of values in
/// keys, nor times).
#[test]
fn real_hives_survive_the_way_through_text() {
    let shape = |hive: &Hive| -> String {
        let without_times = |line: &str| match line.split(' ').collect::<Vec<_>>().as_slice() {
            // The root's name is not part of a text.
            ["K", "0", ..] => "K 0".to_owned(),
            ["K", level, name, _] => format!("K {level} {name}"),
            _ => line.to_owned(),
        };
        dump(hive).lines().map(without_times).collect::<Vec<_>>().join("\n")
    };
    for (name, keys, ..) in CORPUS {
        // Names with zeros have no text; the largest ones take long and show nothing new.
        if name.ends_with("special") || *keys > 7000 {
            continue;
        }
        let Some(bytes) = corpus_file(name) else { return };
        let hive = Hive::parse(bytes).unwrap();
        let root = hive.root().unwrap().id();
        for encoding in [Encoding::Utf16, Encoding::Utf8] {
            let mount = NtName::from("HKEY_USERS\\S-1-5-21");
            let text = hive.export(root, &ExportOptions { encoding, mount, ..Default::default() }).unwrap();
            let again = import(&empty(hive.base().minor), &text);
            assert_same_dump(&shape(&again), &shape(&hive), name);
        }
    }
}

/// hivexregedit, which knows version 5 only, merges what we export.
#[test]
fn hivexregedit_merges_our_text() {
    let Some(mut program) = gravure_testkit::oracle("hivexregedit") else { return };
    let Some(bytes) = corpus_file("regipy/BCD.xz") else { return };
    let hive = Hive::parse(bytes).unwrap();
    let options = ExportOptions {
        encoding: Encoding::Utf8,
        mount: NtName::from("HKEY_LOCAL_MACHINE\\BCD"),
        ..Default::default()
    };
    let text = hive.export(hive.root().unwrap().id(), &options).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (target, file) = (dir.path().join("hive"), dir.path().join("text.reg"));
    std::fs::write(&target, empty(3).as_bytes()).unwrap();
    std::fs::write(&file, text).unwrap();
    let output = program
        .args(["--merge", "--prefix", "HKEY_LOCAL_MACHINE\\BCD", "--encoding", "UTF-16LE"])
        .args([&target, &file])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let merged = Hive::parse(std::fs::read(&target).unwrap()).unwrap();
    let values = |hive: &Hive| {
        let mut out = Vec::new();
        for step in hive.walk() {
            let (key, _) = step.unwrap();
            let path = hive.path(key.id()).unwrap();
            for value in key.values().unwrap() {
                let value = value.unwrap();
                out.push((path.clone(), value.name(), value.data().unwrap().bytes));
            }
        }
        out.sort();
        out
    };
    assert_eq!(values(&merged), values(&hive));
}
