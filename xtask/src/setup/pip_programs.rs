//! Programs that come as Python packages and are in no Debian release: installed by pip where they are missing.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::console::{self, Remedy};
use crate::process;

/// Program, requirement as pip has it, what it is for.
const NEEDED: [(&str, &str, &str); 1] =
    [("moto_server", "moto[server]>=5,<6", "oracle: an S3 server that tests of stores in buckets start")];

/// Rows for `setup --list`.
pub(super) fn rows() -> impl Iterator<Item = Vec<String>> {
    NEEDED
        .iter()
        .map(|(program, package, why)| vec![format!("{program} (pip: {package})"), (*why).to_owned()])
}

/// Programs that are not there.
pub(super) fn missing() -> Vec<&'static str> {
    NEEDED.iter().map(|(program, ..)| *program).filter(|program| process::find(program).is_none()).collect()
}

/// Installs what is missing. Debian's Python refuses packages from elsewhere unless told that the system is ours to change, as that of a
/// development machine is.
pub(super) fn ensure() -> Result<()> {
    for (program, package, _) in NEEDED.iter().filter(|(program, ..)| process::find(program).is_none()) {
        console::note(format!("installing {package} with pip, for {program}"));
        let output = Command::new("python3")
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--break-system-packages",
            ])
            .arg(package)
            .env("PIP_ROOT_USER_ACTION", "ignore")
            .stdin(Stdio::null())
            .output()
            .context("cannot start python3")?;
        if !output.status.success() || process::find(program).is_none() {
            bail!(Remedy::new(
                format!(
                    "pip did not bring {program}:\n{}",
                    process::tail(&String::from_utf8_lossy(&output.stderr))
                ),
                format!(
                    "install it yourself: python3 -m pip install '{package}', and put {program} into PATH"
                ),
            ));
        }
    }
    Ok(())
}
