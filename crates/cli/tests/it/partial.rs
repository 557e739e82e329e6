//! What a capture cannot read is left out, named, and told by exit code 10.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use gravure_testkit::oracle;

/// Runs the program as somebody for whom permissions count; root without its capabilities is one.
fn gravure(dir: &Path, arguments: &[&str]) -> Option<Output> {
    let mut command = oracle("setpriv")?;
    command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(env!("CARGO_BIN_EXE_gravure"));
    Some(command.args(arguments).current_dir(dir).output().unwrap())
}

#[test]
fn files_that_cannot_be_read_are_left_out_and_listed() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    fs::create_dir_all(dir.join("in/d")).unwrap();
    fs::write(dir.join("in/d/readable"), "readable").unwrap();
    for (name, len) in [("in/secret", 10), ("in/d/large secret", 3_000_000)] {
        fs::write(dir.join(name), vec![7; len]).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o0)).unwrap();
    }
    let forms: [&[&str]; 4] = [
        &["x.wim", "n", "--compress=xpress"],
        &["x.esd", "n", "--solid-compress=xpress"],
        &["p.wim", "n", "--pipable"],
        &["x.wim", "again", "--append"],
    ];
    for form in forms {
        let arguments = [&["capture", "in"], form, &["--format", "json"]].concat();
        let Some(output) = gravure(dir, &arguments) else { return };
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(10), "{form:?}: {err}");
        let result: serde_json::Value = serde_json::from_str(&out).unwrap();
        let warnings = result["warnings"].to_string();
        for path in ["/secret", "/d/large secret"] {
            assert!(warnings.contains(path) && warnings.contains("left out"), "{form:?}: {warnings}");
        }
        assert_eq!(warnings.matches("left out").count(), 2, "{form:?}: {warnings}");
        // What is in the file is whole.
        let listed = gravure(dir, &["ls", &format!("{}:1", form[0]), "--format", "jsonl"]).unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.contains("/d/readable") && !listed.contains("secret"), "{form:?}: {listed}");
        let verified = gravure(dir, &["verify", form[0]]).unwrap();
        assert_eq!(verified.status.code(), Some(0), "{form:?}");
    }
}
