//! A site: `gravure init` and `gravure serve` inside a lab, and the commands an operator would type.
//!
//! What is expected of the program, all in one place:
//! - `gravure init --dir DIR --interface IF --payload DIR` makes `DIR/gravure.toml` and all keys;
//! - `gravure serve --config FILE` logs a line with `ready` when every socket is open, and a line with `state=STATE`
//!   and the machine's address whenever a machine changes its state;
//! - the other commands find the server through `GRAVURE_CONFIG`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use gravure_model::api::{MachineReport, MachineState};

use crate::{Lab, Running};

/// Opening a database and some sockets takes no longer, even on a loaded machine.
const START_PATIENCE: Duration = Duration::from_secs(60);

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
            .args(["--interface", lab.interface(), "--payload"])
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
        command.env("GRAVURE_CONFIG", config(&self.dir)).args(args);
        command
    }

    /// Runs a `gravure` command; its standard output, or an error with what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        output(&mut self.gravure(args))
    }

    /// Plans `image` for the machine with address `mac`.
    pub fn plan(&self, mac: &str, image: &Path, name: &str) -> Result<String> {
        let image = image.to_str().context("the image's path is not Unicode")?;
        self.run(&["plan", "create", "--machine", mac, "--image", image, "--name", name])
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
