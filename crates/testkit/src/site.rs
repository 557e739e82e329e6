//! A site: `gravure init` and `gravure serve` inside a lab, and the commands an operator would type.
//!
//! What the server's log says is part of the contract: `serving` when every socket is open, `image is ready` when an
//! image can be deployed, and the audit entries named in [`Site::wait_for_state`].

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use gravure_model::api::{MachineReport, MachineState};

use crate::{Lab, Running};

/// Opening a database and some sockets takes no longer, even on a loaded machine.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// Addresses the server gives in the lab, where no other DHCP server is.
const POOL: &str = "10.77.0.100-10.77.0.200";

/// A running server with its keys, its images and its lab.
#[derive(Debug)]
pub struct Site {
    lab: Lab,
    program: PathBuf,
    dir: PathBuf,
    server: Running,
    starts: u32,
}

impl Site {
    /// Makes the site in `dir` and starts its server. `payload` is what `cargo xtask payload` built.
    pub fn start(lab: Lab, program: &Path, payload: &Path, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut init = lab.command(program);
        init.args(["init", "--dir"])
            .arg(dir)
            .args(["--interface", lab.interface(), "--dhcp", "full", "--pool", POOL, "--boot-dir"])
            .arg(payload);
        output(&mut init)?;
        let server = serve(&lab, program, dir, 1)?;
        Ok(Self { lab, program: program.to_owned(), dir: dir.to_owned(), server, starts: 1 })
    }

    /// The network.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Directory of configuration, keys, database and logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The server.
    pub fn server(&mut self) -> &mut Running {
        &mut self.server
    }

    /// `gravure` with the site's configuration, inside the lab.
    pub fn gravure(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command(&self.program);
        command.env("GRAVURE_SITE", &self.dir).args(args);
        command
    }

    /// Runs a `gravure` command; its standard output, or an error with what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        output(&mut self.gravure(args))
    }

    /// Plans `image` for the machine with address `mac`. An image from elsewhere is put into the site first.
    pub fn plan(&self, mac: &str, image: &Path, name: &str) -> Result<String> {
        let file =
            image.file_name().and_then(|file| file.to_str()).context("the image's name is not Unicode")?;
        let own = self.dir.join("images").join(file);
        if own != image {
            // A link costs nothing; across file systems it has to be a copy.
            std::fs::hard_link(image, &own)
                .or_else(|_| std::fs::copy(image, &own).map(drop))
                .with_context(|| format!("cannot put the image into {}", own.display()))?;
        }
        self.run(&["plan", "create", "--machine", mac, "--image", file, "--name", name])
    }

    /// What the server knows about the machine.
    pub fn machine(&self, mac: &str) -> Result<MachineReport> {
        let text = self.run(&["machine", "show", mac, "--format", "json"])?;
        serde_json::from_str(&text).with_context(|| format!("`machine show` printed {text}"))
    }

    /// Waits until a machine gets to `state`; fails at once when it gets to `failed` instead.
    pub fn wait_for_state(&self, state: MachineState, timeout: Duration) -> Result<()> {
        let line = |state: MachineState| format!("state={}", state.as_str());
        let (wanted, failed) = (line(state), line(MachineState::Failed));
        let (index, line) = self.server.console().wait_for_any(&[&wanted, &failed], timeout)?;
        if index == 1 && state != MachineState::Failed {
            bail!("the machine failed: {line}");
        }
        Ok(())
    }

    /// Stops the server as `systemctl stop` would, and starts it again.
    pub fn restart_server(&mut self) -> Result<()> {
        let status = self.server.terminate(START_PATIENCE)?;
        if !status.success() {
            bail!("the server ended with {status} after SIGTERM:\n{}", self.server.console().text());
        }
        self.starts += 1;
        self.server = serve(&self.lab, &self.program, &self.dir, self.starts)?;
        Ok(())
    }
}

fn config(dir: &Path) -> PathBuf {
    dir.join("gravure.toml")
}

fn serve(lab: &Lab, program: &Path, dir: &Path, start: u32) -> Result<Running> {
    let mut command = lab.command(program);
    command.arg("serve").arg("--config").arg(config(dir)).env("NO_COLOR", "1");
    let server = Running::start(&mut command, Some(&dir.join(format!("server-{start}.log"))))?;
    server.console().wait_for("ready", START_PATIENCE).context("the server did not start")?;
    Ok(server)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
    if !output.status.success() {
        let args: Vec<_> = command.get_args().skip(6).map(|arg| arg.to_string_lossy().into_owned()).collect();
        bail!(
            "`{}` ended with {}: {}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).context("the program printed something that is not UTF-8")
}
