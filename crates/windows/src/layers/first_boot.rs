//! Commands at the first boot of a Linux system: a systemd unit that runs them once and removes itself.

use gravure_tree::ContentRef;

use super::CommandRule;
use crate::Error;
use crate::linux_image::LinuxImage;

/// Where systemd is.
const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
const UNITS: &str = "/etc/systemd/system";
const SCRIPTS: &str = "/var/lib/gravure/first-boot";

/// Whether the image has what runs commands.
pub(super) fn has_systemd(image: &LinuxImage<'_>) -> Result<bool, Error> {
    for path in SYSTEMD {
        if image.exists(path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Puts unit and script into the image.
pub(super) fn install(
    image: &mut LinuxImage<'_>,
    layer: &str,
    commands: &[CommandRule],
) -> Result<(), Error> {
    let unit = format!("gravure-layer-{layer}.service");
    let unit_path = format!("{UNITS}/{unit}");
    let wanted = format!("{UNITS}/multi-user.target.wants/{unit}");
    let script_path = format!("{SCRIPTS}/{layer}.sh");
    image.make_directory(SCRIPTS, Some(0o700))?;
    let script = script(commands, &unit_path, &wanted, &script_path);
    image.put(&script_path, ContentRef::inline(script), Some(0o700))?;
    let text = format!(
        "[Unit]\nDescription=Commands of the Gravure layer {layer}\nConditionPathExists={script_path}\n\
         Wants=network-online.target\nAfter=network-online.target local-fs.target\n\n\
         [Service]\nType=oneshot\nExecStart=/bin/sh {script_path}\nStandardOutput=journal+console\n\n\
         [Install]\nWantedBy=multi-user.target\n"
    );
    image.put(&unit_path, ContentRef::inline(text.into_bytes()), Some(0o644))?;
    image.link(&wanted, &unit_path)
}

/// The commands in their order, each in a shell of its own, so that none changes another's variables or ends the script. The link goes
/// first: a command that restarts the machine does not run again.
fn script(commands: &[CommandRule], unit: &str, wanted: &str, script: &str) -> Vec<u8> {
    let mut out = String::from("#!/bin/sh\n# Written by Gravure; removes itself.\n");
    out.push_str(&format!("rm -f {} {}\n", quoted(wanted), quoted(unit)));
    for CommandRule { run, description } in commands {
        let shown = if description.is_empty() { run } else { description };
        let failed = format!("gravure: failed: {shown}");
        out.push_str(&format!("/bin/sh -c {} || echo {} >&2\n", quoted(run), quoted(&failed)));
    }
    out.push_str(&format!("rm -f {}\n", quoted(script)));
    out.into_bytes()
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_run_once_each_by_itself_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let command = |run: String| CommandRule { run, description: String::new() };
        let commands = [
            command(format!("X=1; echo \"it's $X\" >> '{}'", path("out"))),
            command("exit 3".to_owned()),
            command(format!("echo \"[$X]\" >> '{}'", path("out"))),
        ];
        let (unit, wanted, file) = (path("a unit"), path("wanted"), path("script"));
        for name in [&unit, &wanted] {
            std::fs::write(name, "x").unwrap();
        }
        std::fs::write(&file, script(&commands, &unit, &wanted, &file)).unwrap();
        let output = std::process::Command::new("sh").arg(&file).output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "gravure: failed: exit 3\n");
        assert_eq!(std::fs::read_to_string(path("out")).unwrap(), "it's 1\n[]\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
