//! `gravure wim` beside wimlib-imagex where more than one file counts: deltas and their bases, updates of earlier images, split
//! sets, WIMBoot, and all images of a file at once. Both do each step in a directory of their own, then everything in both is compared.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::imagex::{BOTH, Bench, Tool, form, kinds, small_tree};

/// Everything a tool left in its directory: what image files hold, as the other tool sees it, and what directories hold.
fn left(bench: &Bench, tool: Tool) -> BTreeMap<String, Vec<String>> {
    let dir = bench.dir(tool);
    let reader = if tool == Tool::Ours { Tool::Theirs } else { Tool::Ours };
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("out") {
            found.insert(name, kinds(&entry.path()));
        } else if name.ends_with(".wim") || name == "s.swm" {
            // Of a delta only what is in it is listed: sizes are in the other file.
            let listed = reader.succeeds(&dir, &["dir", &name, "all"]);
            let mut lines = form(&dir, &name);
            lines.extend(listed.lines().map(str::to_owned));
            lines.extend(blobs(&dir, &name));
            lines.extend(told(&dir, &name));
            found.insert(name, lines);
        }
    }
    found
}

/// Hashes and reference counts of the contents that a file itself holds.
fn blobs(dir: &Path, name: &str) -> Vec<String> {
    let text = Tool::Theirs.succeeds(dir, &["info", name, "--blobs"]);
    let is_kept = |line: &&str| line.starts_with("Hash") || line.starts_with("Reference Count");
    let mut blobs: Vec<String> = text
        .split("\n\n")
        .filter(|blob| !blob.contains("WIM_RESHDR_FLAG_METADATA"))
        .map(|blob| blob.lines().filter(is_kept).collect::<Vec<_>>().join(" "))
        .filter(|blob| !blob.is_empty())
        .collect();
    blobs.sort();
    blobs
}

/// What the file says of its images.
fn told(dir: &Path, name: &str) -> Vec<String> {
    let kept = ["Name", "Description", "WIMBoot", "Image Count", "Compression", "Chunk Size", "Flags"];
    let text = Tool::Theirs.succeeds(dir, &["info", name]);
    let lines = text.lines().filter(|line| kept.iter().any(|field| line.starts_with(field)));
    lines.map(|line| line.trim_end().to_owned()).collect()
}

/// Runs the steps with both, compares after each, and returns how many failed.
fn steps(bench: &Bench, steps: &[&[&str]]) -> usize {
    let mut failures = 0;
    for step in steps {
        let is_done = bench.agree(step, "");
        failures += usize::from(!is_done);
        if !is_done {
            // What is left of an apply that failed is nobody's promise.
            for tool in BOTH {
                for name in ["out-failed", "failed.wim"] {
                    let path = bench.dir(tool).join(name);
                    let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
                }
            }
        }
        let [ours, theirs] = BOTH.map(|tool| left(bench, tool));
        // Which part of a set a content is dealt to is each program's own matter; the whole is compared when it is joined.
        let compared = |lines: &Vec<String>| {
            let is_part = lines.iter().any(|line| line.contains("WIM_HDR_FLAG_SPANNED"));
            let lines = lines.iter().filter(|line| !is_part || !line.starts_with("Hash"));
            lines.cloned().collect::<Vec<_>>()
        };
        for (name, lines) in &ours {
            assert_eq!(Some(compared(lines)), theirs.get(name).map(compared), "{name} after {step:?}");
        }
        assert_eq!(ours.len(), theirs.len(), "{step:?}: {:?} {:?}", ours.keys(), theirs.keys());
    }
    failures
}

/// Contents that are worth splitting, and times that are the same for both.
fn larger_tree(dir: &Path) {
    small_tree(dir);
    for number in 0..12u8 {
        let bytes: Vec<u8> =
            (0..30_000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ number).collect();
        fs::write(dir.join(format!("in/d2/file{number}")), bytes).unwrap();
    }
}

#[test]
fn updates_and_deltas() {
    let Some(bench) = Bench::new() else { return };
    bench.fill(larger_tree);
    let first: &[&[&str]] = &[&["capture", "in", "base.wim", "base", "--compress=XPRESS"]];
    assert_eq!(steps(&bench, first), 0);
    bench.fill(|dir| {
        fs::write(dir.join("in/d2/new"), vec![b'n'; 50_000]).unwrap();
        fs::write(dir.join("in/d1/s/f1"), "changed").unwrap();
        fs::remove_file(dir.join("in/d2/file3")).unwrap();
    });
    let failures = steps(
        &bench,
        &[
            &["capture", "in", "delta.wim", "delta", "--delta-from=base.wim", "--compress=XPRESS"],
            &["capture", "in", "both.wim", "both", "--delta-from=base.wim", "--update-of=base.wim:1"],
            &["capture", "in", "only.wim", "--delta-from=base.wim", "--update-of=1"],
            &["capture", "in", "full.wim", "full", "--update-of=base.wim:-1", "--check"],
            &["capture", "in", "named.wim", "--update-of=base.wim:base"],
            &["capture", "in", "failed.wim", "--update-of=1"],
            &["capture", "in", "failed.wim", "--update-of=base.wim:9"],
            &["capture", "in", "failed.wim", "--update-of=nosuch.wim:1"],
            &["capture", "in", "failed.wim", "--delta-from=nosuch.wim"],
            &["append", "in", "base.wim", "second", "--update-of=1"],
            &["append", "in", "base.wim", "third", "--update-of=-1"],
            &["append", "in", "base.wim", "fourth", "--update-of=nosuch"],
            &["apply", "delta.wim", "1", "out-failed"],
            &["apply", "delta.wim", "1", "out1", "--ref=base.wim"],
            &["apply", "both.wim", "1", "out2", "--ref=b*.wim"],
            &["apply", "only.wim", "1", "out3", "--ref=full.wim"],
            &["apply", "full.wim", "1", "out4", "--check"],
            &["extract", "delta.wim", "1", "/d2", "/d1/s/f1", "--dest-dir=out5", "--ref=base.wim"],
            &["extract", "delta.wim", "1", "/d2/file1", "--dest-dir=out-failed"],
            &["extract", "delta.wim", "1", "/d2/new", "--dest-dir=out6"],
            &["verify", "delta.wim", "--ref=base.wim"],
            &["verify", "full.wim"],
            &["export", "delta.wim", "1", "failed.wim"],
            &["export", "delta.wim", "1", "whole.wim", "--ref=base.wim"],
            &["apply", "whole.wim", "1", "out7"],
        ],
    );
    assert_eq!(failures, 8);
}

#[test]
fn split_sets() {
    let Some(bench) = Bench::new() else { return };
    bench.fill(larger_tree);
    let failures = steps(
        &bench,
        &[
            &["capture", "in", "x.wim", "one", "--compress=none", "--check"],
            &["append", "more", "x.wim", "two"],
            &["split", "x.wim", "s.swm", "0.08"],
            &["apply", "s.swm", "1", "out1", "--ref=s*.swm"],
            &["apply", "s.swm", "two", "out2", "--ref=s*.swm"],
            &["extract", "s.swm", "1", "/d2/file7", "--dest-dir=out3", "--ref=s*.swm"],
            &["verify", "s.swm", "--ref=s*.swm"],
            &["export", "s.swm", "all", "whole.wim", "--ref=s*.swm"],
            &["join", "joined.wim", "s.swm", "s2.swm", "s3.swm", "s4.swm", "s5.swm", "s6.swm"],
            &["apply", "joined.wim", "1", "out4"],
            &["join", "failed.wim", "s.swm", "s3.swm"],
            &["join", "failed.wim", "s.swm", "s.swm"],
            &["append", "in", "s.swm", "no"],
            &["delete", "s.swm", "1"],
            &["update", "s.swm", "1", "--command=delete /zero"],
            &["optimize", "s2.swm"],
            &["export", "x.wim", "1", "s.swm"],
        ],
    );
    assert_eq!(failures, 7);
    // Parts of one go with parts of the other's reader.
    let dir = bench.dir(Tool::Theirs);
    Tool::Ours
        .succeeds(&dir, &["join", "again.wim", "s.swm", "s2.swm", "s3.swm", "s4.swm", "s5.swm", "s6.swm"]);
    Tool::Theirs.succeeds(&dir, &["verify", "again.wim"]);
}

#[test]
fn wimboot_files_and_their_configuration() {
    let Some(bench) = Bench::new() else { return };
    bench.fill(|dir| {
        larger_tree(dir);
        fs::create_dir_all(dir.join("in/Windows/System32")).unwrap();
        fs::write(dir.join("own.ini"), "[PrepopulateList]\n/d1\n").unwrap();
    });
    let failures = steps(
        &bench,
        &[
            &["capture", "in", "w.wim", "n", "--wimboot"],
            &["capture", "in", "l.wim", "n", "--wimboot", "--compress=LZX"],
            &["capture", "in", "c.wim", "n", "--wimboot", "--chunk-size=8192"],
            &["update", "w.wim", "1", "--wimboot-config=own.ini"],
            &["update", "w.wim", "--wimboot-config=own.ini", "--command=delete /zero"],
            &["update", "w.wim", "1", "--wimboot-config=nosuch.ini"],
            &["export", "l.wim", "1", "e.wim", "--wimboot"],
            &["apply", "w.wim", "1", "out1"],
            &["apply", "w.wim", "1", "out-failed", "--compact=bogus"],
        ],
    );
    assert_eq!(failures, 2);
}

#[test]
fn all_images_of_a_file_at_once() {
    let Some(bench) = Bench::new() else { return };
    bench.fill(small_tree);
    let failures = steps(
        &bench,
        &[
            &["capture", "in", "m.wim", "plain"],
            &["append", "more", "m.wim", "with blank"],
            &["append", "in", "m.wim", ""],
            &["append", "more", "m.wim", "a/b"],
            &["apply", "m.wim", "all", "out1"],
            &["apply", "m.wim", "all", "out1"],
            &["apply", "m.wim", "all", "out2", "--unix-data"],
            &["apply", "m.wim", "out-failed"],
            &["extract", "m.wim", "all", "--dest-dir=out-failed"],
            &["dir", "m.wim", "all"],
            &["dir", "m.wim"],
        ],
    );
    assert!(failures >= 2, "{failures}");
}
