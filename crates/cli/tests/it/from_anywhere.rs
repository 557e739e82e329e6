//! Reading commands take an image from a file, a web server and standard input alike, in both syntaxes; and what a file may ask
//! for is limited everywhere.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::{contents, fails, files, gravure, ok};

/// Serves the files of a directory in ranges, each answer on a connection of its own, for as long as the process lives.
fn serve(dir: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let dir = dir.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut first, mut range) = (String::new(), (0, 0));
                let _ = reader.read_line(&mut first);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                        break;
                    }
                    if let Some(text) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
                        let (start, last) = text.trim().split_once('-').unwrap();
                        range = (start.parse::<u64>().unwrap(), last.parse::<u64>().unwrap());
                    }
                }
                let path = first.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
                let Ok(file) = File::open(dir.join(path)) else {
                    let _ = stream.write_all(
                        b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                    );
                    return;
                };
                let (size, (start, last)) = (file.metadata().unwrap().len(), range);
                let mut body = vec![0; (last.min(size - 1) + 1 - start) as usize];
                file.read_exact_at(&mut body, start).unwrap();
                let head = format!(
                    "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\ncontent-range: bytes {start}-{}/{size}\r\n\
                     connection: close\r\n\r\n",
                    body.len(),
                    start + body.len() as u64 - 1,
                );
                let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            });
        }
    });
    url
}

/// Runs the program with `input` in a pipe.
fn piped(dir: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gravure"));
    command
        .current_dir(dir)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A process that does not read to the end closes the pipe; what it says counts.
    let feeder = std::thread::spawn(move || drop(pipe.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

fn piped_ok(dir: &Path, arguments: &[&str], input: &[u8]) -> String {
    let output = piped(dir, arguments, input);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Two images of different files, and the first one again in other forms.
fn fill(dir: &Path) {
    files(dir, "in");
    for number in 0..6 {
        let mut noise = vec![0; 300_000];
        gravure_testkit::Random::new(number).fill(&mut noise);
        fs::write(dir.join(format!("in/noise{number}")), noise).unwrap();
    }
    ok(dir, &["capture", "in", "a.wim", "first", "--check"]);
    fs::write(dir.join("in/README"), "changed").unwrap();
    fs::write(dir.join("in/sub/new"), vec![9; 100_000]).unwrap();
    ok(dir, &["capture", "in", "a.wim", "second", "--append"]);
    ok(dir, &["export", "a.wim:2", "p.wim", "--pipable"]);
    ok(dir, &["split", "a.wim", "s.swm", "0.5"]);
    assert!(dir.join("s3.swm").exists(), "at least three parts");
}

#[test]
fn reading_commands_take_an_address() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    fill(dir);
    let url = serve(dir.to_owned());
    let far = |name: &str| format!("{url}/{name}");
    let (image, set) = (far("a.wim"), far("s.swm"));
    let listed = ok(dir, &["ls", "a.wim:2"]);
    assert_eq!(ok(dir, &["ls", &format!("{image}:2")]), listed);
    assert_eq!(ok(dir, &["ls", &format!("{set}:2")]), listed);
    ok(dir, &["verify", &image]);
    ok(dir, &["verify", &set]);
    ok(dir, &["apply", &format!("{image}:2"), "out"]);
    assert_eq!(contents(&dir.join("out")), contents(&dir.join("in")));
    assert_eq!(ok(dir, &["extract", &format!("{image}:1"), "/README", "--to-stdout"]), "hello");
    ok(dir, &["diff", &format!("{image}:2"), "a.wim:2"]);
    let (code, error) = fails(dir, &["diff", &format!("{image}:1"), "a.wim:2"]);
    assert_eq!(code, 1, "{error}");
    ok(dir, &["export", &format!("{image}:1"), "far.wim"]);
    assert_eq!(ok(dir, &["ls", "far.wim"]), ok(dir, &["ls", "a.wim:1"]));
    let parts = |first: &str| {
        (2..).map(|n| format!("s{n}.swm")).take_while(|name| dir.join(name).exists()).fold(
            vec![first.to_owned()],
            |mut all, name| {
                all.push(far(&name));
                all
            },
        )
    };
    // One part here, the others there.
    let all = parts("s.swm");
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    ok(dir, &[&["join", "joined.wim"], names.as_slice()].concat());
    assert_eq!(ok(dir, &["ls", "joined.wim:2"]), listed);
    ok(dir, &["capture", "in", "delta.wim", "--delta-from", &image, "--update-of", &format!("{image}:2")]);
    assert!(fs::metadata(dir.join("delta.wim")).unwrap().len() < 20_000, "all contents are in the base");
    ok(dir, &["apply", "delta.wim", "whole", "--ref", &image]);
    assert_eq!(contents(&dir.join("whole")), contents(&dir.join("in")));
}

#[test]
fn commands_of_the_other_syntax_take_an_address() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    fill(dir);
    let url = serve(dir.to_owned());
    let (image, set) = (format!("{url}/a.wim"), format!("{url}/s.swm"));
    for (far, near) in [(&image, "a.wim"), (&set, "s.swm")] {
        assert_eq!(ok(dir, &["wim", "dir", far, "2"]), ok(dir, &["wim", "dir", near, "2"]));
        let shown = |name: &str| ok(dir, &["wim", "info", name]).replace(name, "FILE");
        assert_eq!(shown(far), shown(near));
        ok(dir, &["wim", "verify", far]);
        ok(dir, &["wim", "apply", far, "2", "out"]);
        assert_eq!(contents(&dir.join("out")), contents(&dir.join("in")));
        fs::remove_dir_all(dir.join("out")).unwrap();
        assert_eq!(ok(dir, &["wim", "extract", far, "1", "/README", "--to-stdout"]), "hello");
        ok(dir, &["wim", "export", far, "2", "exported.wim"]);
        assert_eq!(ok(dir, &["wim", "dir", "exported.wim"]), ok(dir, &["wim", "dir", near, "2"]));
        fs::remove_file(dir.join("exported.wim")).unwrap();
    }
    let others: Vec<String> =
        (2..).map(|n| format!("s{n}.swm")).take_while(|name| dir.join(name).exists()).collect();
    let others: Vec<String> = others.iter().map(|name| format!("{url}/{name}")).collect();
    let parts: Vec<&str> = std::iter::once("s.swm").chain(others.iter().map(String::as_str)).collect();
    ok(dir, &[&["wim", "join", "joined.wim"], parts.as_slice()].concat());
    assert_eq!(ok(dir, &["wim", "dir", "joined.wim", "2"]), ok(dir, &["wim", "dir", "a.wim", "2"]));
    let update = format!("--update-of={image}:-1");
    ok(dir, &["wim", "capture", "in", "delta.wim", &format!("--delta-from={image}"), &update]);
    assert!(fs::metadata(dir.join("delta.wim")).unwrap().len() < 20_000, "all contents are in the base");
    ok(dir, &["wim", "apply", "delta.wim", "whole", &format!("--ref={image}")]);
    assert_eq!(contents(&dir.join("whole")), contents(&dir.join("in")));
    // What is changed must be here.
    for command in [
        &["wim", "delete", image.as_str(), "1"][..],
        &["wim", "optimize", image.as_str()],
        &["wim", "append", "in", image.as_str()],
        &["wim", "info", image.as_str(), "1", "name"],
        &["wim", "update", "-", "1", "--command=delete /README"],
    ] {
        let (code, error) = fails(dir, command);
        assert_eq!(code, 9, "{command:?}: {error}");
    }
}

#[test]
fn reading_commands_take_standard_input() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    fill(dir);
    for name in ["p.wim", "a.wim"] {
        let bytes = fs::read(dir.join(name)).unwrap();
        let which = if name == "a.wim" { ":2" } else { "" };
        // Two hyphens first: what follows is no option, though it looks like one.
        let (pipe, near) = (format!("-{which}"), format!("{name}{which}"));
        assert_eq!(piped_ok(dir, &["ls", "--", &pipe], &bytes), ok(dir, &["ls", &near]), "{name}");
        piped_ok(dir, &["diff", "--", &pipe, "a.wim:2"], &bytes);
        piped_ok(dir, &["export", "--", &pipe, "out.wim", "n"], &bytes);
        assert_eq!(ok(dir, &["ls", "out.wim"]), ok(dir, &["ls", &near]), "{name}");
        ok(dir, &["verify", "out.wim"]);
        fs::remove_file(dir.join("out.wim")).unwrap();
        let number = if name == "a.wim" { "2" } else { "1" };
        assert_eq!(
            piped_ok(dir, &["wim", "dir", "-", number], &bytes),
            ok(dir, &["wim", "dir", name, number])
        );
        piped_ok(dir, &["wim", "verify", "-"], &bytes);
        assert!(piped_ok(dir, &["wim", "info", "-"], &bytes).contains("Image Count"));
        assert_eq!(
            piped_ok(dir, &["wim", "extract", "-", number, "/README", "--to-stdout"], &bytes),
            "changed"
        );
    }
    // Reading once needs no place to put the image aside; the others say what they need.
    let bytes = fs::read(dir.join("p.wim")).unwrap();
    for (command, is_there) in [(&["verify", "-"][..], true), (&["ls", "-"], false)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gravure"));
        child.current_dir(dir).args(command).env("TMPDIR", "/nowhere/at/all");
        child.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(&bytes);
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        assert_eq!(child.wait().unwrap().success(), is_there, "{command:?}: {error}");
        assert_eq!(error.contains("TMPDIR"), !is_there, "{command:?}: {error}");
    }
}

#[test]
fn a_split_pipable_image_goes_through_one_pipe() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    fill(dir);
    ok(dir, &["split", "p.wim", "q.swm", "0.5"]);
    let mut bytes = fs::read(dir.join("q.swm")).unwrap();
    let parts: Vec<Vec<u8>> =
        (2..).map_while(|number| fs::read(dir.join(format!("q{number}.swm"))).ok()).collect();
    assert!(parts.len() > 1, "{} further parts", parts.len());
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    piped_ok(dir, &["verify", "-"], &bytes);
    piped_ok(dir, &["apply", "-", "out"], &bytes);
    assert_eq!(contents(&dir.join("out")), contents(&dir.join("in")));
    // As files, too.
    ok(dir, &["verify", "q.swm"]);
    ok(dir, &["apply", "q.swm", "again"]);
    assert_eq!(contents(&dir.join("again")), contents(&dir.join("in")));
    // A part that is missing, or in another place, is found.
    let without = [fs::read(dir.join("q.swm")).unwrap(), parts[1].clone()].concat();
    let output = piped(dir, &["apply", "-", "no"], &without);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(5) && error.contains("part 2 of"), "{error}");
    if gravure_testkit::oracle("wimlib-imagex").is_some() {
        fs::create_dir(dir.join("theirs")).unwrap();
        // It stumbles over tables of integrity between parts, its own as well.
        ok(dir, &["split", "p.wim", "q.swm", "0.5", "--no-check"]);
        let shell = "cat q.swm q2.swm q3.swm q4.swm q5.swm q6.swm q7.swm q8.swm q9.swm 2>/dev/null \
                     | wimlib-imagex apply - 1 theirs";
        let output = Command::new("bash").args(["-c", shell]).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(contents(&dir.join("theirs")), contents(&dir.join("in")));
    }
}

#[test]
fn limits_can_be_raised_and_lowered() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    files(dir, "in");
    // A chunk of 128 MiB is legal, but nobody grants it unasked.
    let large = ["--solid-compress=lzms:fast", "--solid-chunk-size", "128M"];
    let (code, error) = fails(dir, &[&["capture", "in", "x.esd"], &large[..]].concat());
    assert!(code == 2 && error.contains("--limit chunk=134217728"), "{code} {error}");
    let imagex = ["wim", "capture", "in", "x.esd", "--solid", "--solid-chunk-size=128M"];
    let (code, error) = fails(dir, &imagex);
    assert!(code == 2 && error.contains("--limit chunk=134217728"), "{code} {error}");
    assert!(!dir.join("x.esd").exists());
    for command in [
        [&["--limit", "chunk=128M", "capture", "in", "x.esd"], &large[..]].concat(),
        [&imagex[..], &["--limit=chunk=128M", "--solid-compress=LZMS:20"]].concat(),
    ] {
        ok(dir, &command);
        // Whoever reads it has to grant them, too.
        let (_, error) = fails(dir, &["verify", "x.esd"]);
        assert!(error.contains("--limit"), "{error}");
        ok(dir, &["--limit", "chunk=128M", "verify", "x.esd"]);
        fs::remove_file(dir.join("x.esd")).unwrap();
    }
    ok(dir, &["capture", "in", "x.wim"]);
    ok(dir, &["capture", "in", "p.wim", "--pipable"]);
    let bytes = fs::read(dir.join("p.wim")).unwrap();
    for (limit, what) in [
        ("chunk=4K", "chunk"),
        ("xml=100", "XML document"),
        ("metadata=200", "metadata resource"),
        ("depth=1", "directory depth"),
        ("contents=1M", "contents of the image"),
    ] {
        for command in [
            &["--limit", limit, "apply", "x.wim", "no"][..],
            &["wim", "apply", "x.wim", "1", "no", "--limit", limit],
        ] {
            let (code, error) = fails(dir, command);
            assert!(
                code == 9 && error.contains(what) && error.contains("--limit WHAT=SIZE"),
                "{limit}: {error}"
            );
        }
        let output = piped(dir, &["--limit", limit, "apply", "-", "no"], &bytes);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(9) && error.contains(what), "{limit} in a pipe: {error}");
        let _ = fs::remove_dir_all(dir.join("no"));
    }
    ok(dir, &["--limit", "contents=100M", "--limit", "depth=3", "apply", "x.wim", "yes"]);
    assert_eq!(contents(&dir.join("yes")), contents(&dir.join("in")));
    let output = gravure(dir, &["--limit", "chunks=1", "ls", "x.wim"]);
    assert_eq!(output.status.code(), Some(2));
}
