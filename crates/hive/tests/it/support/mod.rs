//! What the tests share: new hives, dumps to compare, real hives, foreign readers.
#![allow(clippy::unwrap_used, reason = "helpers of tests; not every test uses all")]

use std::fmt::Write as _;

use gravure_hive::{CreateOptions, Editor, Hive};
use gravure_nttypes::{FileTime, NtName, SecurityDescriptor};

/// 2023-11-14.
pub(crate) const NOW: FileTime = FileTime(133_444_736_000_000_000);

pub(crate) fn security() -> SecurityDescriptor {
    SecurityDescriptor::from_sddl("O:BAG:SYD:PAI(A;CI;KA;;;BA)(A;CI;KA;;;SY)(A;CI;KR;;;BU)").unwrap()
}

pub(crate) fn empty(minor: u32) -> Hive {
    let root_name = NtName::from("ROOT");
    Hive::create(&CreateOptions { minor, root_name, security: security(), now: NOW }).unwrap()
}

pub(crate) fn editor(hive: &Hive) -> Editor {
    Editor::new(hive.clone(), NOW).unwrap()
}

/// Saves and reads again.
pub(crate) fn saved(editor: Editor) -> Hive {
    Hive::parse(editor.finish().unwrap()).unwrap()
}

/// Every key and value, in stored order: what foreign readers must see too.
pub(crate) fn dump(hive: &Hive) -> String {
    let mut out = String::new();
    for step in hive.walk() {
        let (key, level) = step.unwrap();
        writeln!(out, "K {level} {} {:x}", hex(&key.name().to_le_bytes()), key.written().0).unwrap();
        for value in key.values().unwrap() {
            let value = value.unwrap();
            let (name, bytes) = (value.name().to_le_bytes(), value.bytes().unwrap());
            writeln!(out, "V {} {:x} {}", hex(&name), value.kind().0, hex(&bytes)).unwrap();
        }
    }
    out
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

/// The same dump by foreign readers: `pyregf` (libregf), `hivex` and `dissect.regf`.
const FOREIGN: &str = r#"
import sys
def text(name): return (name or "").encode("utf-16-le", "surrogatepass").hex()
def line(*words): out.write(" ".join(words) + "\n")
reader, path, target = sys.argv[1:4]
out = open(target, "w")
if reader == "pyregf":
    import pyregf
    file = pyregf.file(); file.open(path)
    todo = [(file.get_root_key(), 0)]
    while todo:
        key, level = todo.pop()
        line("K", str(level), text(key.name), "%x" % key.get_last_written_time_as_integer())
        for value in key.values:
            data = value.data if value.data_size else b""
            line("V", text(value.name), "%x" % value.type, (data or b"").hex())
        todo += [(below, level + 1) for below in key.sub_keys][::-1]
elif reader == "dissect.regf":
    from dissect.regf import RegistryHive
    todo = [(RegistryHive(open(path, "rb")).root(), 0)]
    while todo:
        key, level = todo.pop()
        line("K", str(level), text(key.name), "%x" % key.cell.LastWriteTime)
        for value in key.values():
            # The default value gets a name of that reader's own.
            name = "" if value.name == "(Default)" else value.name
            line("V", text(name), "%x" % value.type, bytes(value.data).hex())
        todo += [(below, level + 1) for below in key.subkeys()][::-1]
else:
    import hivex
    h = hivex.Hivex(path)
    todo = [(h.root(), 0)]
    while todo:
        key, level = todo.pop()
        line("K", str(level), text(h.node_name(key)), "%x" % h.node_timestamp(key))
        for value in h.node_values(key):
            kind, data = h.value_value(value)
            line("V", text(h.value_key(value)), "%x" % (kind & 0xffffffff), data.hex())
        todo += [(below, level + 1) for below in h.node_children(key)][::-1]
"#;

/// Comes from the Python package index, as `cargo xtask setup` installs it; the others are Debian packages.
const DISSECT: &str = "dissect.regf";

/// The dumping script for `reader`; `None` after a loud skip.
fn foreign(reader: &str) -> Option<std::process::Command> {
    if reader == DISSECT {
        return gravure_testkit::python_oracle_script(DISSECT, FOREIGN);
    }
    gravure_testkit::debian_python_script(reader, FOREIGN)
}

/// Whether `reader` can be used; a loud skip when not.
pub(crate) fn can_read_with(reader: &str) -> bool {
    foreign(reader).is_some()
}

pub(crate) fn foreign_dump(reader: &str, hive: &[u8], dir: &tempfile::TempDir) -> String {
    let (file, target) = (dir.path().join("hive"), dir.path().join("dump"));
    std::fs::write(&file, hive).unwrap();
    let mut command = foreign(reader).unwrap();
    let output = command.arg(reader).args([&file, &target]).output().unwrap();
    assert!(output.status.success(), "{reader}: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::read_to_string(&target).unwrap()
}

/// Compares line by line, so that a difference is named and not printed whole.
pub(crate) fn assert_same_dump(ours: &str, theirs: &str, context: &str) {
    let differs = ours.lines().zip(theirs.lines()).position(|(a, b)| a != b);
    if let Some(at) = differs {
        let line = |text: &str| text.lines().nth(at).unwrap().chars().take(300).collect::<String>();
        panic!("{context}: line {at}:\n  ours   {}\n  theirs {}", line(ours), line(theirs));
    }
    assert_eq!(ours.lines().count(), theirs.lines().count(), "{context}");
}

/// What can be compared with `reader`. The Python module of libregf trims texts, reads past those without
/// terminator and misreads data shorter than four bytes; hivex, which reads every byte, is compared whole.
pub(crate) fn comparable(reader: &str, dump: &str) -> String {
    if reader != "pyregf" {
        return dump.to_owned();
    }
    let line = |line: &str| match line.split(' ').collect::<Vec<_>>().as_slice() {
        ["V", name, kind, data] if data.len() < 8 => format!("V {name} {kind} {}\n", data.len().min(1)),
        ["V", name, kind @ ("1" | "2" | "6" | "7"), _] => format!("V {name} {kind}\n"),
        _ => format!("{line}\n"),
    };
    dump.lines().map(line).collect()
}

/// A real hive or log of the shared corpus, unpacked; `None` after a loud skip.
pub(crate) fn corpus_file(name: &str) -> Option<Vec<u8>> {
    let path = gravure_testkit::shared_dir()?.join("corpus/hives").join(name);
    if !path.is_file() {
        gravure_testkit::skipped(&format!("{} is not there", path.display()));
        return None;
    }
    if !name.ends_with(".xz") {
        return Some(std::fs::read(&path).unwrap());
    }
    let output = gravure_testkit::oracle("xz")?.arg("-dkc").arg(&path).output().unwrap();
    assert!(output.status.success(), "xz -dkc {name}");
    Some(output.stdout)
}

/// Hives that hold together, with keys and values as several foreign readers counted them, and whether they are clean.
pub(crate) const CORPUS: &[(&str, usize, usize, bool)] = &[
    ("regipy/BCD.xz", 132, 103, true),
    ("regipy/NTUSER.DAT.xz", 1812, 4094, true),
    ("regipy/SAM.xz", 65, 70, true),
    ("regipy/SECURITY.xz", 100, 109, false),
    ("regipy/SYSTEM_2.xz", 20015, 49779, false),
    ("regipy/SYSTEM_WIN_10_1709.xz", 43211, 90307, false),
    ("regipy/UsrClass.dat.xz", 6205, 12369, false),
    ("bcd/gzu/boot/bcd", 66, 46, true),
    ("bcd/gzu/efi/bcd", 67, 47, true),
    ("other/minimal", 1, 0, true),
    ("other/nt-hive-testhive", 528, 12, true),
    ("other/rlenvalue_test_hive", 2, 6, true),
    ("other/special", 4, 3, true),
];
