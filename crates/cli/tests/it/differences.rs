//! `gravure diff` where something differs: what it says to people and programs, and its exit code.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::{fails, gravure, ok};

#[test]
fn differences_are_told_in_text_and_json_and_by_the_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (side, content) in [("a", "one"), ("b", "two")] {
        let at = |name: &str| dir.join(side).join(name);
        std::fs::create_dir_all(at("same")).unwrap();
        std::fs::write(at("same/file"), "same").unwrap();
        std::fs::write(at("content"), content).unwrap();
        std::fs::write(at("mode"), "mode").unwrap();
        symlink(content, at("link")).unwrap();
    }
    std::fs::set_permissions(dir.join("a/mode"), std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(dir.join("b/mode"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(dir.join("a/only a/below")).unwrap();
    std::fs::write(dir.join("b/only b"), "").unwrap();
    for side in ["a", "b"] {
        ok(dir, &["capture", side, &format!("{side}.wim"), "--progress", "none"]);
    }
    let quiet = ["--ignore", "times", "--progress", "none"];
    let output = gravure(dir, &[&["diff", "a.wim", "b.wim"], &quiet[..]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "~ /content");
    assert!(lines[1].starts_with("    content: SHA-1 ") && lines[1].contains(" | SHA-1 "), "{text}");
    assert_eq!(lines[2..4], ["~ /link", "    target: one | two"]);
    assert_eq!(lines[4..6], ["~ /mode", "    mode: 0600 | 0755"]);
    assert_eq!(lines[6..8], ["- /only a (directory, 1 entries below)", "+ /only b (file)"]);
    assert_eq!(lines[8], "5 differences; 6 entries are in both");
    assert_eq!(lines.len(), 9, "{text}");

    let output = gravure(dir, &[&["diff", "a.wim", "b.wim", "--format", "json"], &quiet[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((json["same"].as_bool(), json["compared"].as_u64()), (Some(false), Some(6)));
    let changes = json["changes"].as_array().unwrap();
    let of =
        |index: usize| (changes[index]["path"].as_str().unwrap(), changes[index]["change"].as_str().unwrap());
    let expected = [
        ("/content", "differs"),
        ("/link", "differs"),
        ("/mode", "differs"),
        ("/only a", "removed"),
        ("/only b", "added"),
    ];
    assert_eq!((0..changes.len()).map(of).collect::<Vec<_>>(), expected);
    let field = &changes[1]["differences"][0];
    assert_eq!((field["aspect"].as_str(), field["first"].as_str()), (Some("target"), Some("one")));
    assert_eq!((changes[3]["kind"].as_str(), changes[3]["below"].as_u64()), (Some("directory"), Some(1)));

    // Nothing that counts differs, and what cannot be compared is no difference.
    ok(dir, &["diff", "a.wim", "a", "--progress", "none"]);
    let ignore: Vec<&str> =
        ["content", "target", "mode", "times"].iter().flat_map(|aspect| ["--ignore", aspect]).collect();
    let (code, _) = fails(dir, &[&["diff", "a.wim", "b", "--progress", "none"], &ignore[..]].concat());
    assert_eq!(code, 1);
    std::fs::remove_dir_all(dir.join("a/only a")).unwrap();
    std::fs::remove_file(dir.join("b/only b")).unwrap();
    ok(dir, &[&["diff", "a", "b", "--progress", "none"], &ignore[..]].concat());
    assert_eq!(fails(dir, &["diff", "a.wim", "absent.wim"]).0, 3);
}
