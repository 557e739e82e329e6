//! The shared vectors, byte for byte: every good chunk decodes to its plain data, every bad one is refused.
#![expect(clippy::unwrap_used, reason = "a vector that cannot be read is a failed test")]
#![expect(clippy::disallowed_types, reason = "the vectors are files")]

use std::path::{Path, PathBuf};

use gravure_codec::{Decoder, Method};
use serde::Deserialize;

#[derive(Deserialize)]
struct Index {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    chunk_size: u32,
    raw_size: usize,
    #[serde(default)]
    stored_raw: bool,
    expect: String,
}

/// The folder of vectors, or `None` after saying loudly that it is missing.
fn vectors(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let shared = std::env::var_os("GRAVURE_SHARED").map_or(beside, PathBuf::from);
    let folder = shared.join("vectors").join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(std::env::var_os("GRAVURE_REQUIRE_ORACLES").is_none(), "no vectors at {}", folder.display());
    eprintln!("SKIPPED: no {name} vectors at {}; set GRAVURE_SHARED", folder.display());
    None
}

fn check(method: Method, name: &str) {
    let Some(folder) = vectors(name) else { return };
    let index: Index = serde_json::from_slice(&std::fs::read(folder.join("index.json")).unwrap()).unwrap();
    let (mut good, mut bad) = (0, 0);
    for case in index.cases {
        let compressed = std::fs::read(folder.join(format!("{}.compressed", case.name))).unwrap();
        let mut decoder = Decoder::new(method, case.chunk_size).unwrap();
        let mut output = vec![0xaa; case.raw_size];
        if case.expect == "error" {
            let error = decoder.decode(&compressed, &mut output).expect_err(&case.name);
            eprintln!("{name} {}: {error}", case.name);
            bad += 1;
            continue;
        }
        let raw = std::fs::read(folder.join(format!("{}.raw", case.name))).unwrap();
        if case.stored_raw {
            assert_eq!(compressed, raw, "{}", case.name);
            continue;
        }
        decoder.decode(&compressed, &mut output).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert!(output == raw, "{}: wrong bytes", case.name);
        good += 1;
        // Cut anywhere: an error, or (if only unused bytes went) the same output; never a panic.
        for len in (0..compressed.len()).filter(|len| len % 97 == 0 || len + 40 > compressed.len()) {
            if decoder.decode(&compressed[..len], &mut output).is_ok() {
                assert!(output == raw, "{} cut to {len}: wrong bytes", case.name);
                assert!(len + 4 >= compressed.len(), "{} cut to {len}: accepted", case.name);
            }
        }
    }
    assert!(good > 10 && bad > 3, "{name}: {good} good and {bad} bad cases");
}

#[test]
fn xpress_vectors_decode_as_their_index_says() {
    check(Method::Xpress, "xpress");
}

#[test]
fn lzms_vectors_decode_as_their_index_says() {
    check(Method::Lzms, "lzms");
}

#[test]
fn lzx_vectors_decode_as_their_index_says() {
    check(Method::Lzx, "lzx");
}
