//! Wine's setupapi as an oracle: it reads every file of the corpus, and sections, lines, keys and values must be ours.
//! Full runs only: Wine takes half a minute to set itself up.
#![expect(clippy::disallowed_types, reason = "tests read files")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use crate::support;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use gravure_inf::{Encoding, Inf};

/// Where Debian's package `wine64` puts the program, which is in no PATH.
const WINE: &str = "/usr/lib/wine/wine64";

/// Sections in order, with `key or None, values` of each line; or the error.
type Read = Result<Vec<(String, Vec<Vec<String>>)>, String>;

#[test]
fn reads_what_wine_reads() {
    if !gravure_testkit::full_run() {
        eprintln!("Wine is asked in full runs only");
        return;
    }
    let Some(corpus) = support::corpus() else { return };
    let Some(compiler) = gravure_testkit::oracle("x86_64-w64-mingw32-gcc") else { return };
    if !Path::new(WINE).is_file() {
        gravure_testkit::skipped("wine64 is not installed");
        return;
    }
    let read = wine(compiler, &corpus.iter().map(|file| file.path.as_path()).collect::<Vec<_>>());
    let (mut accepted, mut refused, mut lines, mut skipped) = (0, 0, 0, 0);
    for file in &corpus {
        let path = file.path.display();
        let theirs = &read[&file.path.display().to_string()];
        let ours = Inf::parse(&file.bytes);
        let Ok(theirs) = theirs else {
            refused += 1;
            assert!(ours.is_err(), "{path}: Wine says {theirs:?}");
            continue;
        };
        let ours = ours.unwrap_or_else(|error| panic!("{path}: {error}"));
        accepted += 1;
        let names = |sections: &mut dyn Iterator<Item = &String>| {
            sections.map(|name| name.trim().to_lowercase()).collect::<Vec<_>>()
        };
        let our_names = names(&mut ours.sections().iter().map(|section| &section.name));
        assert_eq!(our_names, names(&mut theirs.iter().map(|(name, _)| name)), "{path}");
        for (section, (name, their_lines)) in ours.sections().iter().zip(theirs) {
            assert_eq!(section.lines.len(), their_lines.len(), "{path} [{name}]");
            for (line, fields) in section.lines.iter().zip(their_lines) {
                lines += 1;
                let raw: Vec<&str> = line.key.iter().chain(&line.values).map(String::as_str).collect();
                // A line of a single value without key has it as key too; without a key there is a mark.
                let fields = if line.key.is_some() { &fields[..] } else { &fields[1..] };
                assert_eq!(raw.len(), fields.len(), "{path}:{} {raw:?} {fields:?}", line.number);
                for (raw, field) in raw.iter().zip(fields) {
                    // Wine puts directories of its own in the place of numbers, and takes another code page.
                    let text = ours.text(raw);
                    if has_number_token(raw) || (!text.is_ascii() && ours.encoding() != Encoding::Utf16Le) {
                        skipped += 1;
                        continue;
                    }
                    assert_eq!(text.trim_end(), field.trim_end(), "{path}:{}", line.number);
                }
            }
        }
    }
    eprintln!(
        "{accepted} files accepted by both, {refused} refused by both, {lines} lines equal, {skipped} values skipped"
    );
    assert!(accepted > 500 && lines > 80_000, "{accepted} {lines}");
}

fn has_number_token(raw: &str) -> bool {
    raw.split('%').any(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
        && raw.contains('%')
}

/// Builds the program, and lets it read all files.
fn wine(mut compiler: Command, files: &[&Path]) -> HashMap<String, Read> {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("dump.exe");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wine/dump.c");
    let built = compiler.args(["-O1", "-o"]).args([&program, &source]).arg("-lsetupapi").status().unwrap();
    assert!(built.success());
    let list = dir.path().join("list");
    // `Z:` is the root.
    let lines: Vec<String> =
        files.iter().map(|path| format!("Z:{}\n", path.display().to_string().replace('/', "\\"))).collect();
    std::fs::write(&list, lines.concat()).unwrap();
    let output = Command::new(WINE)
        .args([&program, &list])
        .env("WINEPREFIX", dir.path().join("prefix"))
        .env("WINEDEBUG", "-all")
        .env("WINEDLLOVERRIDES", "mscoree,mshtml=")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut out: HashMap<String, Read> = HashMap::new();
    let mut current = String::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let line = line.trim_end_matches('\r');
        if let Some(path) = line.strip_prefix("FILE Z:") {
            current = path.replace('\\', "/");
            out.insert(current.clone(), Ok(Vec::new()));
        } else if let Some(error) = line.strip_prefix("ERROR ") {
            out.insert(current.clone(), Err(error.to_owned()));
        } else if let Some(name) = line.strip_prefix("SECTION ") {
            out.get_mut(&current).unwrap().as_mut().unwrap().push((unescaped(name), Vec::new()));
        } else if let Some(fields) = line.strip_prefix("L\t") {
            let fields = fields.split('\t').map(unescaped).collect();
            out.get_mut(&current).unwrap().as_mut().unwrap().last_mut().unwrap().1.push(fields);
        } else {
            panic!("{line:?}");
        }
    }
    out
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next().unwrap() {
                't' => out.push('\t'),
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                other => out.push(other),
            },
            (c, _) => out.push(c),
        }
    }
    out
}
