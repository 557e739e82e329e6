//! `gravure wim` beside wimlib-imagex over the same inputs: the same trees, the same success or failure, the same printed
//! fields. Cases are our own.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use gravure_testkit::{SampleOptions, Snapshot, oracle, sample_tree};

/// A way to run the commands of this syntax in a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tool {
    Ours,
    Theirs,
}

pub(crate) const BOTH: [Tool; 2] = [Tool::Ours, Tool::Theirs];

impl Tool {
    fn command(self) -> Command {
        match self {
            Self::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_gravure"));
                command.arg("wim");
                command
            }
            Self::Theirs => Command::new("wimlib-imagex"),
        }
    }

    pub(crate) fn run(self, dir: &Path, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command();
        command.args(arguments).current_dir(dir).env("LC_ALL", "C.UTF-8");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that does not read its input closes the pipe; that is its right.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    pub(crate) fn succeeds(self, dir: &Path, arguments: &[&str]) -> String {
        let output = self.run(dir, arguments, "");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?} {arguments:?}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// A directory for each tool with the same input in it.
pub(crate) struct Bench {
    temp: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Option<Self> {
        oracle("wimlib-imagex")?;
        let this = Self { temp: tempfile::tempdir().unwrap() };
        BOTH.iter().for_each(|tool| fs::create_dir(this.dir(*tool)).unwrap());
        Some(this)
    }

    pub(crate) fn dir(&self, tool: Tool) -> PathBuf {
        self.temp.path().join(format!("{tool:?}"))
    }

    /// The same files for both.
    pub(crate) fn fill(&self, fill: impl Fn(&Path)) {
        BOTH.iter().for_each(|tool| fill(&self.dir(*tool)));
    }

    /// Runs a command with both tools; both succeed or both fail, which is returned.
    pub(crate) fn agree(&self, arguments: &[&str], input: &str) -> bool {
        let [ours, theirs] = BOTH.map(|tool| tool.run(&self.dir(tool), arguments, input));
        let errors = [&ours, &theirs].map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        let (ours, theirs) = (ours.status.success(), theirs.status.success());
        assert_eq!(ours, theirs, "{arguments:?} {input:?}: ours {ours}, theirs {theirs}: {errors:?}");
        ours
    }

    /// The listing of a file that each tool made, by the other tool.
    fn listings(&self, file: &str) -> [String; 2] {
        [(Tool::Ours, Tool::Theirs), (Tool::Theirs, Tool::Ours)]
            .map(|(maker, reader)| reader.succeeds(&self.dir(maker), &["dir", file]))
    }
}

pub(crate) fn small_tree(dir: &Path) {
    for path in ["in/d1/s", "in/d2/s", "in/empty", "more/d1"] {
        fs::create_dir_all(dir.join(path)).unwrap();
    }
    for (path, text) in [
        ("in/d1/s/f1", "one"),
        ("in/d1/s/F2", "two"),
        ("in/d2/s/f1", "three"),
        ("in/top.txt", "top"),
        ("in/zero", ""),
        ("in/a*b", "star"),
        ("more/d1/new", "new"),
        ("more/top.txt", "other"),
        ("file", "a file"),
        ("Some File", "with a blank"),
    ] {
        fs::write(dir.join(path), text).unwrap();
    }
    fs::hard_link(dir.join("in/top.txt"), dir.join("in/d1/link")).unwrap();
    std::os::unix::fs::symlink("d1/s/f1", dir.join("in/relative")).unwrap();
    std::os::unix::fs::symlink("/nowhere/at/all", dir.join("in/absolute")).unwrap();
    std::os::unix::fs::symlink(dir.canonicalize().unwrap().join("in/d1"), dir.join("in/inside")).unwrap();
}

#[test]
fn what_is_printed_of_a_file_is_the_same() {
    let Some(bench) = Bench::new() else { return };
    bench.fill(small_tree);
    let captures: [&[&str]; 3] = [
        &["in", "a.wim", "A name", "A description", "--boot", "--check", "--compress=XPRESS"],
        &["in", "b.wim", "--flags=Pro", "--unix-data", "--image-property", "WINDOWS/VERSION/BUILD=19041"],
        &["in", "c.wim", "", "--compress=none", "--image-property=DISPLAYNAME=Shown", "--norpfix"],
    ];
    let link_group = |text: String| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with("Link Group")).map(str::to_owned).collect()
    };
    for maker in BOTH {
        let dir = bench.dir(maker);
        for capture in captures {
            maker.succeeds(&dir, &[&["capture"], capture].concat());
            let file = capture[1];
            for view in [
                &["info", file][..],
                &["info", file, "1"],
                &["info", file, "--header"],
                &["info", file, "--xml"],
                &["dir", file],
                &["dir", file, "1", "--path=/d1"],
                &["dir", file, "--path=d1/s/f1", "--one-file-only"],
            ] {
                let [ours, theirs] = BOTH.map(|tool| tool.succeeds(&dir, view));
                assert_eq!(ours, theirs, "{view:?} of a file by {maker:?}");
            }
            let [ours, theirs] =
                BOTH.map(|tool| link_group(tool.succeeds(&dir, &["dir", file, "--detailed"])));
            assert_eq!(ours, theirs, "detailed listing of {file} by {maker:?}");
            let [ours, theirs] = BOTH.map(|tool| {
                let text = tool.succeeds(&dir, &["info", file, "--blobs"]);
                text.split("\n\n").map(str::to_owned).collect::<BTreeSet<String>>()
            });
            assert_eq!(ours, theirs, "blobs of {file} by {maker:?}");
        }
    }
}

#[test]
fn trees_come_out_the_same_whoever_captures_and_whoever_applies() {
    let Some(bench) = Bench::new() else { return };
    let source = bench.temp.path().join("source");
    fs::create_dir(&source).unwrap();
    sample_tree(&source, &SampleOptions { seed: 11, files: 120, ..SampleOptions::default() }).unwrap();
    let source = source.to_str().unwrap();
    for unix in [&["--unix-data"][..], &[]] {
        let mut trees = Vec::new();
        for maker in BOTH {
            let made = bench.dir(maker);
            let capture = [&["capture", source, "x.wim", "--compress=LZX:20", "--norpfix"], unix].concat();
            maker.succeeds(&made, &capture);
            for reader in BOTH {
                let target = format!("{}/out-{maker:?}-{reader:?}-{}", made.display(), unix.len());
                reader.succeeds(&made, &[&["apply", "x.wim", "1", &target], unix].concat());
                trees.push((maker, reader, Snapshot::of(Path::new(&target)).unwrap()));
            }
            assert!(Tool::Theirs.succeeds(&made, &["verify", "x.wim"]).contains("successfully verified"));
            assert!(Tool::Ours.succeeds(&made, &["verify", "x.wim"]).contains("successfully verified"));
        }
        let (_, _, first) = &trees[0];
        assert!(first.entries.len() > 100, "{} entries", first.entries.len());
        for (maker, reader, tree) in &trees {
            let found = first.differences(tree);
            assert!(found.is_empty(), "captured by {maker:?}, applied by {reader:?}, {unix:?}: {found:?}");
        }
    }
}

#[test]
fn images_are_changed_the_same_way() {
    let Some(bench) = Bench::new() else { return };
    bench.fill(small_tree);
    // Arguments, input; the file x.wim is compared after each.
    let steps: &[(&[&str], &str)] = &[
        (&["append", "in", "x.wim"], ""),
        (&["append", "in", "x.wim", "--create", "--compress=none"], ""),
        (&["capture", "in", "x.wim", "first"], ""),
        (&["append", "more", "x.wim", "first"], ""),
        (&["append", "more", "x.wim", "second", "desc", "--boot"], ""),
        (&["append", "more", "x.wim"], ""),
        (&["append", "more", "x.wim", "--check"], ""),
        (&["append", "nosuch", "x.wim"], ""),
        (&["info", "x.wim", "9", "--boot"], ""),
        (&["info", "x.wim", "--boot"], ""),
        (&["info", "x.wim", "1", "renamed", "described", "--boot"], ""),
        (&["info", "x.wim", "2", "renamed"], ""),
        (&["info", "x.wim", "0", "--boot"], ""),
        (&["info", "x.wim", "renamed", "--image-property", "EXTRA=1"], ""),
        (&["info", "x.wim", "x", "--bogus"], ""),
        (&["info", "x.wim", "1", "--image-property", "A/B[2]=no first"], ""),
        (&["info", "x.wim", "1", "--image-property", "A/B=one"], ""),
        (&["info", "x.wim", "1", "--image-property", "A/B[2]=two"], ""),
        (&["info", "x.wim", "1", "--image-property", "A[2]/B=three"], ""),
        (&["info", "x.wim", "1", "--image-property", "A/B[4]=gap"], ""),
        (&["info", "x.wim", "1", "--image-property", "A/B[0]=zero"], ""),
        (&["info", "x.wim", "1", "--image-property", "A/B="], ""),
        (&["info", "x.wim", "1", "--image-property", "A/B[7]="], ""),
        (&["delete", "x.wim", "9"], ""),
        (&["delete", "x.wim", "second"], ""),
        (&["delete", "x.wim", "3", "--soft"], ""),
        (&["delete", "x.wim", "2"], ""),
        (&["optimize", "x.wim", "--recompress", "--compress=XPRESS"], ""),
        (&["update", "x.wim"], "add file /file\nadd 'Some File' \"/new dir/Some File\"\n# c\n\n"),
        (&["update", "x.wim"], "delete /nonexistent\n"),
        (&["update", "x.wim"], "delete --force /nonexistent\nADD more /d9\n"),
        (&["update", "x.wim"], "delete /d1\n"),
        (&["update", "x.wim"], "delete --recursive d1\n"),
        (&["update", "x.wim"], "add more /\n"),
        (&["update", "x.wim", "--no-replace"], "add file /file\n"),
        (&["update", "x.wim"], "add file /d1\n"),
        (&["update", "x.wim"], "add more /file\n"),
        (&["update", "x.wim"], "add file /file/below\n"),
        (&["update", "x.wim"], "rename /file /renamed file\n"),
        (&["update", "x.wim"], "rename /file '/renamed file'\nrename \\d9 /d10\n"),
        (&["update", "x.wim"], "rename /nope /x\n"),
        (&["update", "x.wim"], "rename /d10 /d10/below\n"),
        (&["update", "x.wim"], "rename /top.txt /nodir/top.txt\n"),
        (&["update", "x.wim", "--command=delete /zero"], ""),
        (&["update", "x.wim", "--command=bogus /zero"], ""),
        (&["update", "x.wim"], "add nosuch /x\n"),
        (&["update", "x.wim"], "add 'unterminated /x\n"),
        (&["update", "x.wim", "1", "--rebuild", "--check"], "add in /d1/again\n"),
        (&["export", "x.wim", "1", "y.wim", "exported"], ""),
        (&["export", "x.wim", "1", "y.wim", "exported"], ""),
        (&["export", "x.wim", "all", "y.wim", "--boot"], ""),
        (&["export", "x.wim", "all", "y.wim", "name"], ""),
        (&["export", "x.wim", "renamed", "z.wim", "--compress=LZX", "--recompress"], ""),
        (&["split", "x.wim", "x.swm", "0.0001"], ""),
        (&["split", "x.wim", "y.swm", "0"], ""),
        (&["info", "x.swm", "1", "name"], ""),
        (&["dir", "x2.swm"], ""),
        (&["delete", "x.wim", "all"], ""),
        (&["append", "in", "x.wim", "again", "--boot", "--check"], ""),
        (&["verify", "x.wim"], ""),
        (&["verify", "nosuch.wim"], ""),
        (&["bogus"], ""),
        (&[], ""),
    ];
    let fields =
        ["Image Count", "Boot Index", "Attributes", "Name", "Description", "Part Number", "Compression"];
    let mut failures = 0;
    for (arguments, input) in steps {
        failures += usize::from(!bench.agree(arguments, input));
        if !bench.dir(Tool::Ours).join("x.wim").exists() {
            continue;
        }
        let [ours, theirs] = bench.all_listings("x.wim");
        assert_eq!(ours, theirs, "files after {arguments:?} {input:?}");
        let [ours, theirs] = BOTH.map(|tool| {
            let text = Tool::Theirs.succeeds(&bench.dir(tool), &["info", "x.wim"]);
            // An empty file keeps its integrity table with us; the other program drops it.
            let is_empty = text.contains("Image Count:    0");
            let is_wanted = |line: &str| fields.iter().any(|field| line.starts_with(field));
            let wanted =
                text.lines().filter(|line| is_wanted(line) && !(is_empty && line.starts_with("Attr")));
            wanted.map(|line| line.trim_end().to_owned()).collect::<Vec<_>>()
        });
        assert_eq!(ours, theirs, "fields after {arguments:?}");
        let [ours, theirs] = BOTH.map(|tool| properties(&bench.dir(tool)));
        assert_eq!(ours, theirs, "properties after {arguments:?}");
    }
    assert!(failures > 15, "{failures} failures: the mistakes among the steps are to fail");
}

impl Bench {
    /// The listings of all images, or nothing when a file has none.
    pub(crate) fn all_listings(&self, file: &str) -> [String; 2] {
        [(Tool::Ours, Tool::Theirs), (Tool::Theirs, Tool::Ours)].map(|(maker, reader)| {
            let output = reader.run(&self.dir(maker), &["dir", file, "all"], "");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }
}

/// What stands in the elements `A` of the XML document of a file.
fn properties(dir: &Path) -> Vec<String> {
    let output = Tool::Theirs.run(dir, &["info", "x.wim", "--xml"], "");
    let units: Vec<u16> =
        output.stdout.chunks_exact(2).map(|it| u16::from_le_bytes([it[0], it[1]])).collect();
    let text = String::from_utf16_lossy(&units);
    text.split("<A>")
        .skip(1)
        .filter_map(|rest| rest.split_once("</A>"))
        .map(|(it, _)| it.to_owned())
        .collect()
}

#[test]
fn configurations_and_source_lists_choose_the_same_files() {
    let Some(bench) = Bench::new() else { return };
    bench.fill(|dir| {
        small_tree(dir);
        fs::create_dir_all(dir.join("in/System Volume Information/x")).unwrap();
        fs::write(dir.join("in/hiberfil.sys"), "").unwrap();
    });
    let configs = [
        "",
        "[ExclusionList]\n*.txt\n",
        "[ExclusionList]\n*.*\n; c\n# c\n",
        "[ExclusionList]\n/d1/s\n",
        "[ExclusionList]\n\\d1\\s\\\n",
        "[ExclusionList]\nC:\\d1\n",
        "[ExclusionList]\n\"/d1\"\n'/d2'\n",
        "[ExclusionList]\n/*/*\n",
        "[ExclusionList]\nd1/s\n",
        "[ExclusionList]\n/*\n[ExclusionException]\n/d1/s/f1\n",
        "[ExclusionList]\n/d1\n[ExclusionException]\n/d1/s\n",
        "[ExclusionList]\nf?\n[ExclusionException]\nF*\n",
        "[ExclusionList]\r\n/d1\r\n[Unknown]\r\n/d2\r\n",
        "[ExclusionList]\n/\n",
        "[ExclusionList]\n**\n",
        "[exclusionlist]\n*\n",
        "[PrepopulateList]\n/d1\n[CompressionExclusionList]\n*.zip\n",
    ];
    for config in configs {
        bench.fill(|dir| fs::write(dir.join("c.ini"), config).unwrap());
        if bench.agree(&["capture", "in", "x.wim", "--config=c.ini", "--compress=none"], "") {
            let [ours, theirs] = bench.listings("x.wim");
            assert_eq!(ours, theirs, "{config}");
        }
    }
    assert!(bench.agree(&["capture", "in", "x.wim"], ""));
    let [ours, theirs] = bench.listings("x.wim");
    assert_eq!(ours, theirs);
    assert!(!ours.contains("hiberfil") && !ours.contains("System Volume"), "{ours}");
    let lists = [
        "in /\nmore /\n",
        "more /\nin /\n",
        "in\nmore /a/b/\n",
        "'Some File' \"a b\"\nfile  /x/y/z\n# c\n\n",
        "in /\nfile /d1/s/f1\n",
        "in /\nfile /d1\n",
        "file /d1\nin /\n",
        "file /\n",
        "nosuch /x\n",
        "\"in\n",
        "\n",
        "in/relative /link\nin/inside \\linked\\dir\n",
    ];
    for list in lists {
        bench.fill(|dir| fs::write(dir.join("list"), list).unwrap());
        if bench.agree(&["capture", "list", "x.wim", "--source-list", "--compress=none"], "") {
            let [ours, theirs] = bench.listings("x.wim");
            assert_eq!(ours, theirs, "{list}");
            let trees = BOTH.map(|tool| {
                let target = bench.dir(tool).join("out");
                let _ = fs::remove_dir_all(&target);
                Tool::Theirs.succeeds(&bench.dir(tool), &["apply", "x.wim", "out", "--norpfix"]);
                kinds(&target)
            });
            assert_eq!(trees[0], trees[1], "{list}");
        }
    }
}

#[test]
fn the_same_files_are_extracted() {
    let Some(bench) = Bench::new() else { return };
    bench.fill(small_tree);
    assert!(bench.agree(&["capture", "in", "x.wim"], ""));
    bench.fill(|dir| fs::write(dir.join("list"), "; c\n# c\n  d1\\s\\*  \n/top.txt\n").unwrap());
    let cases: &[&[&str]] = &[
        &[],
        &["/"],
        &["/d1/s/f1"],
        &["/d1/s/f1", "/d1/s/f1"],
        &["/d1/s", "/d1/s/f1"],
        &["/d1/s/f1", "/d2/s/f1"],
        &["/d?/s"],
        &["d1\\s\\f1"],
        &["//d1//s/"],
        &["/d1/*", "--preserve-dir-structure"],
        &["/*/s/f1", "--preserve"],
        &["/D1"],
        &["/nope"],
        &["/nope*", "--nullglob"],
        &["/nope", "--nullglob"],
        &["/a*b", "--no-globs"],
        &["/d1/s/f?", "--no-wildcards"],
        &["/d1/s/f1/x"],
        &["/d1/../top.txt"],
        &["relative", "absolute", "inside"],
        &["@list"],
        &["@list", "--no-globs"],
        &["/top.txt", "/d1/link"],
        &["/d1", "--to-stdout"],
        &["/relative", "--to-stdout"],
        &["/d1/s/f1", "/top.txt", "--to-stdout"],
    ];
    for case in cases {
        bench.fill(|dir| {
            let _ = fs::remove_dir_all(dir.join("out"));
        });
        let arguments = [&["extract", "x.wim", "1", "--dest-dir=out"], *case].concat();
        if !bench.agree(&arguments, "") {
            continue;
        }
        if case.contains(&"--to-stdout") {
            let [ours, theirs] = BOTH.map(|tool| tool.succeeds(&bench.dir(tool), &arguments));
            assert_eq!(ours, theirs, "{case:?}");
            continue;
        }
        let [ours, theirs] = BOTH.map(|tool| kinds(&bench.dir(tool).join("out")));
        assert_eq!(ours, theirs, "{case:?}");
    }
    let [ours, theirs] = BOTH.map(|tool| {
        let mut command = tool.command();
        command.args(["extract", "x.wim", "1", "/D1/S/F1", "--dest-dir=folded"]);
        command.env("WIMLIB_IMAGEX_IGNORE_CASE", "1").current_dir(bench.dir(tool));
        assert!(command.output().unwrap().status.success());
        kinds(&bench.dir(tool).join("folded"))
    });
    assert_eq!(ours, theirs);
    assert!(ours.len() > 1, "{ours:?}");
}

/// Paths below a directory with what they are; links with their targets, those into the bench without its directory.
pub(crate) fn kinds(root: &Path) -> Vec<String> {
    if !root.exists() {
        return Vec::new();
    }
    let bench = root.parent().unwrap().canonicalize().unwrap();
    let snapshot = Snapshot::of(root).unwrap();
    let line = |(path, entry): (&PathBuf, &gravure_testkit::Entry)| {
        let kind = format!("{:?}", entry.kind).replace(bench.to_str().unwrap(), "");
        format!("{} {kind} {:?}", path.display(), entry.linked_to)
    };
    snapshot.entries.iter().map(line).collect()
}

#[test]
fn absolute_links_follow_the_place_of_the_image() {
    let Some(bench) = Bench::new() else { return };
    bench.fill(small_tree);
    for (capture, apply) in [
        (&["--rpfix"][..], &[][..]),
        (&["--rpfix"], &["--norpfix"]),
        (&["--norpfix"], &[]),
        (&["--norpfix"], &["--rpfix"]),
        (&[], &[]),
        (&["--dereference", "--config=no-links.ini"], &[]),
    ] {
        bench.fill(|dir| {
            let _ = fs::remove_dir_all(dir.join("out"));
            fs::write(dir.join("no-links.ini"), "[ExclusionList]\n/absolute\n").unwrap();
        });
        assert!(bench.agree(&[&["capture", "in", "x.wim"], capture].concat(), ""));
        for (maker, reader) in [(Tool::Ours, Tool::Theirs), (Tool::Theirs, Tool::Ours)] {
            reader.succeeds(&bench.dir(maker), &[&["apply", "x.wim", "1", "out"], apply].concat());
        }
        let [ours, theirs] = BOTH.map(|tool| kinds(&bench.dir(tool).join("out")));
        assert_eq!(ours, theirs, "{capture:?} {apply:?}");
    }
}

#[test]
fn the_name_of_the_program_is_the_command() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("in")).unwrap();
    fs::write(temp.path().join("in/f"), "x").unwrap();
    for name in ["wimcapture", "wiminfo", "wimlib-imagex"] {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_gravure"), temp.path().join(name)).unwrap();
    }
    let run = |name: &str, arguments: &[&str]| {
        let output =
            Command::new(temp.path().join(name)).args(arguments).current_dir(temp.path()).output().unwrap();
        assert!(output.status.success(), "{name} {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run("wimcapture", &["in", "x.wim", "named"]);
    assert!(run("wiminfo", &["x.wim"]).contains("Name:                   named"));
    assert_eq!(run("wimlib-imagex", &["dir", "x.wim"]), "/\n/f\n");
    assert!(run("wimlib-imagex", &["--help"]).contains("extract WIMFILE IMAGE"));
}

/// A command whose output goes to a file, or whose input comes from one.
fn through_a_pipe(tool: Tool, dir: &Path, arguments: &[&str], input: Option<&str>, output: Option<&str>) {
    let mut command = tool.command();
    command.args(arguments).current_dir(dir).stderr(Stdio::piped()).stdin(Stdio::piped());
    command.stdout(output.map_or_else(Stdio::null, |path| fs::File::create(dir.join(path)).unwrap().into()));
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let bytes = input.map_or_else(Vec::new, |path| fs::read(dir.join(path)).unwrap());
    // A process of its own feeds the pipe, as a shell would.
    let feeder = std::thread::spawn(move || drop(pipe.write_all(&bytes)));
    let ended = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{tool:?} {arguments:?}: {stderr}");
}

#[test]
fn pipable_and_solid_files_go_both_ways() {
    let Some(bench) = Bench::new() else { return };
    let source = bench.temp.path().join("source");
    fs::create_dir(&source).unwrap();
    sample_tree(&source, &SampleOptions { seed: 12, files: 60, ..SampleOptions::default() }).unwrap();
    let source = source.to_str().unwrap();
    let mut trees = Vec::new();
    for maker in BOTH {
        let dir = bench.dir(maker);
        let capture = ["capture", source, "-", "--compress=LZX:20", "--norpfix", "--unix-data"];
        through_a_pipe(maker, &dir, &capture, None, Some("piped.wim"));
        maker.succeeds(
            &dir,
            &[&["capture", source, "solid.wim", "--norpfix", "--unix-data"], &SOLID[..]].concat(),
        );
        for reader in BOTH {
            let piped = format!("piped-{reader:?}");
            through_a_pipe(
                reader,
                &dir,
                &["apply", "-", "1", &piped, "--unix-data"],
                Some("piped.wim"),
                None,
            );
            let solid = format!("solid-{reader:?}");
            reader.succeeds(&dir, &["apply", "solid.wim", "1", &solid, "--unix-data"]);
            for target in [piped, solid] {
                trees.push((maker, reader, Snapshot::of(&dir.join(target)).unwrap()));
            }
        }
        let [ours, theirs] = BOTH.map(|tool| tool.succeeds(&dir, &["info", "solid.wim", "--header"]));
        assert_eq!(ours, theirs, "header of a solid file by {maker:?}");
    }
    let (.., first) = &trees[0];
    for (maker, reader, tree) in &trees {
        assert_eq!(tree, first, "made by {maker:?}, applied by {reader:?}");
    }
    assert!(!bench.agree(&["capture", source, "no.wim", "--solid", "--pipable"], ""));
}

#[test]
fn files_get_the_same_form_when_they_are_made_anew() {
    let Some(bench) = Bench::new() else { return };
    bench.fill(small_tree);
    let steps: &[&[&str]] = &[
        &["capture", "in", "x.wim", "n", "--compress=XPRESS"],
        &["export", "x.wim", "1", "solid.esd", "--solid", "--solid-chunk-size=1M"],
        &["export", "solid.esd", "1", "again.esd"],
        &["export", "solid.esd", "1", "plain.wim", "--compress=LZX"],
        &["export", "x.wim", "1", "piped.wim", "--pipable", "--boot"],
        &["export", "piped.wim", "1", "plain2.wim"],
        &["optimize", "piped.wim"],
        &["optimize", "piped.wim", "--not-pipable"],
        &["optimize", "piped.wim", "--pipable", "--check"],
        &["append", "in", "piped.wim", "second"],
        &["update", "piped.wim", "1", "--command=add in /copy"],
        &["info", "piped.wim", "2", "other", "--boot"],
        &["delete", "piped.wim", "1", "--soft"],
        &["optimize", "plain.wim", "--solid", "--solid-compress=LZX", "--solid-chunk-size=64K"],
        &["optimize", "again.esd", "--recompress", "--nocheck"],
        &["export", "x.wim", "1", "no.wim", "--solid", "--pipable"],
        &["split", "again.esd", "no.swm", "1"],
    ];
    for step in steps {
        bench.agree(step, "");
        for file in ["solid.esd", "again.esd", "plain.wim", "piped.wim", "plain2.wim"] {
            if !bench.dir(Tool::Ours).join(file).exists() {
                continue;
            }
            let what = format!("{file} after {step:?}");
            let [ours, theirs] = bench.all_listings(file);
            assert_eq!(ours, theirs, "{what}");
            let [ours, theirs] = BOTH.map(|tool| form(&bench.dir(tool), file));
            assert_eq!(ours, theirs, "{what}");
        }
    }
}

/// How a file is laid out: fields of its header, and whether its contents are in solid resources.
pub(crate) fn form(dir: &Path, file: &str) -> Vec<String> {
    let kept = ["Magic", "Version", "Flags", "    WIM", "Chunk Size", "Boot Index", "Integrity Flags"];
    let header = Tool::Theirs.succeeds(dir, &["info", file, "--header"]);
    let fields = header.lines().filter(|line| kept.iter().any(|name| line.starts_with(name)));
    let blobs = Tool::Theirs.succeeds(dir, &["info", file, "--blobs"]);
    let solid = blobs.lines().filter(|line| line.starts_with("Solid resource")).count();
    fields.map(str::to_owned).chain([format!("{solid} in solid resources")]).collect()
}

const SOLID: [&str; 3] = ["--solid", "--solid-compress=LZX", "--solid-chunk-size=1M"];

#[test]
fn what_decodes_of_a_damaged_file_is_kept_when_asked() {
    let Some(bench) = Bench::new() else { return };
    let text: String = (0..40_000).map(|number| format!("line {number}\n")).collect();
    bench.fill(|dir| {
        fs::create_dir(dir.join("in")).unwrap();
        fs::write(dir.join("in/long"), &text).unwrap();
    });
    for maker in BOTH {
        let dir = bench.dir(maker);
        maker.succeeds(&dir, &["capture", "in", "x.wim", "--compress=XPRESS"]);
        let mut bytes = fs::read(dir.join("x.wim")).unwrap();
        // In the middle of the content, which comes first in the file.
        let at = bytes.len() / 2;
        bytes[at..at + 64].fill(0xff);
        fs::write(dir.join("bad.wim"), bytes).unwrap();
    }
    assert!(!bench.agree(&["apply", "bad.wim", "1", "refused"], ""));
    for tool in BOTH {
        let dir = bench.dir(tool);
        tool.succeeds(&dir, &["apply", "bad.wim", "1", "kept", "--recover-data"]);
        let kept = fs::read(dir.join("kept/long")).unwrap();
        assert_eq!(kept.len(), text.len(), "{tool:?}");
        assert_eq!(
            kept[..32768],
            text.as_bytes()[..32768],
            "{tool:?}: what comes before the damage is whole"
        );
    }
}

/// Extended attributes are not shown by the other program.
fn mounted_tree(root: &Path) -> Snapshot {
    let mut seen = Snapshot::of(root).unwrap();
    seen.entries.values_mut().for_each(|entry| entry.xattrs.clear());
    seen
}

#[test]
fn mounts_show_the_same_and_go_again() {
    let Some(bench) = Bench::new() else { return };
    if fs::File::options().read(true).write(true).open("/dev/fuse").is_err() {
        return gravure_testkit::skipped("no /dev/fuse");
    }
    bench.fill(|dir| {
        small_tree(dir);
        fs::create_dir(dir.join("mnt")).unwrap();
    });
    let captured = |tool: Tool| {
        tool.succeeds(&bench.dir(tool), &["capture", "in", "x.wim", "--unix-data", "--rpfix"]);
        fs::remove_file(bench.dir(tool).join("in/absolute")).unwrap();
    };
    BOTH.iter().for_each(|tool| captured(*tool));
    for arguments in [&["x.wim", "mnt"][..], &["x.wim", "1", "mnt", "--unix-data", "--check"]] {
        let [ours, theirs] = BOTH.map(|tool| {
            let dir = bench.dir(tool);
            tool.succeeds(&dir, &[&["mount"], arguments].concat());
            let seen = kinds(&dir.join("mnt"));
            let tree = mounted_tree(&dir.join("mnt"));
            tool.succeeds(&dir, &["unmount", "mnt"]);
            assert_eq!(fs::read_dir(dir.join("mnt")).unwrap().count(), 0, "{tool:?}");
            (seen, tree.entries.into_iter().map(|(path, it)| (path, it.mode, it.uid)).collect::<Vec<_>>())
        });
        assert_eq!(ours, theirs, "{arguments:?}");
        assert!(ours.0.len() > 8, "{ours:?}");
    }
    for arguments in [
        &["unmount", "mnt"][..],
        &["unmount", "nosuch"],
        &["mount", "x.wim", "2", "mnt"],
        &["mount", "nosuch.wim", "1", "mnt"],
        &["mount", "x.wim", "1", "nosuch"],
        &["mount", "x.wim", "1", "mnt", "--streams-interface=bogus"],
        &["mount", "x.wim"],
    ] {
        assert!(!bench.agree(arguments, ""), "{arguments:?}");
    }
    let refused = Tool::Ours.run(&bench.dir(Tool::Ours), &["mountrw", "x.wim", "1", "mnt"], "");
    assert_eq!(refused.status.code(), Some(9));
}

/// Names, sizes, descriptors and hashes of everything on a volume, as wimlib captures it. Not short names: as Windows does, we
/// make a name that is a short one already both at once, where ntfs-3g makes it the long one only.
fn listing_of_volume(dir: &Path, volume: &str) -> Vec<String> {
    Tool::Theirs.succeeds(dir, &["capture", volume, "listed.wim", "--compress=none"]);
    let text = Tool::Theirs.succeeds(dir, &["dir", "listed.wim", "--detailed"]);
    fs::remove_file(dir.join("listed.wim")).unwrap();
    let kept = ["Full Path", "Security Descriptor", "Hash", "Uncompressed size", "Attributes"];
    let is_kept = |line: &&str| kept.iter().any(|kept| line.contains(kept));
    text.lines().map(str::trim).filter(is_kept).map(str::to_owned).collect()
}

#[test]
fn volumes_are_captured_and_empty_ones_filled() {
    let Some(bench) = Bench::new() else { return };
    let Some(_) = oracle("mkntfs") else { return };
    let dir = bench.dir(Tool::Ours);
    bench.fill(small_tree);
    for volume in ["from.ntfs", "to.ntfs"] {
        fs::File::create(dir.join(volume)).unwrap().set_len(24 << 20).unwrap();
        let mut mkntfs = Command::new("mkntfs");
        mkntfs.args(["-F", "-Q", "-q", "-c", "8192", "-L", "Label"]).arg(dir.join(volume));
        assert!(mkntfs.output().unwrap().status.success());
    }
    Tool::Theirs.succeeds(&dir, &["capture", "in", "in.wim"]);
    Tool::Theirs.succeeds(&dir, &["apply", "in.wim", "1", "from.ntfs"]);

    Tool::Ours.succeeds(&dir, &["capture", "from.ntfs", "volume.wim"]);
    Tool::Ours.succeeds(&dir, &["append", "from.ntfs", "volume.wim", "again"]);
    Tool::Ours.succeeds(&dir, &["apply", "volume.wim", "2", "to.ntfs"]);
    let listed = listing_of_volume(&dir, "from.ntfs");
    assert!(listed.iter().any(|line| line.contains("/d1/s/f1")), "{listed:?}");
    assert_eq!(listing_of_volume(&dir, "to.ntfs"), listed);
    let mut info = Command::new(env!("CARGO_BIN_EXE_gravure"));
    info.current_dir(&dir).args(["ntfs", "info", "to.ntfs", "--format", "json"]);
    let info: serde_json::Value = serde_json::from_slice(&info.output().unwrap().stdout).unwrap();
    assert_eq!((info["label"].as_str(), info["cluster_bytes"].as_u64()), (Some("Label"), Some(8192)));

    // What is there stays.
    let refused = Tool::Ours.run(&dir, &["apply", "volume.wim", "1", "to.ntfs"], "");
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(
        refused.status.code() == Some(4) && error.contains("expected an empty volume, found \""),
        "{error}"
    );
    assert_eq!(listing_of_volume(&dir, "to.ntfs"), listed);
    assert!(!Tool::Ours.run(&dir, &["apply", "volume.wim", "all", "to.ntfs"], "").status.success());
    assert!(!Tool::Ours.run(&dir, &["capture", "file", "no.wim"], "").status.success());
}
