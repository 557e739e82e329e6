//! A site: `gravure init` and `gravure serve` inside a lab, and the commands an operator would type.
//!
//! What the server's log says is part of the contract: `serving` when every socket is open, `image is ready` when an
//! image can be deployed, and the audit entries named in [`Site::wait_for_state`].

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use gravure_model::api::{MachineReport, MachineState};

use crate::{Lab, Running};

/// Opening a database and some sockets takes no longer, even on a loaded machine.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Describing an image reads all of it.
const IMAGE_PATIENCE: Duration = Duration::from_secs(300);
/// The journal is written in batches after the answer; a machine under load takes its time.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(60);
const JOURNAL_PAUSE: Duration = Duration::from_millis(200);
/// The audit entry of a plan that failed.
const FAILED: &str = "plan failed";
/// Addresses the server gives in the lab, where no other DHCP server is.
const POOL: &str = "10.77.0.100-10.77.0.200";

/// A running server with its keys, its image and its lab.
#[derive(Debug)]
pub struct Site {
    // Dropped in this order: the server ends before its network goes away.
    server: Running,
    lab: Lab,
    program: PathBuf,
    dir: PathBuf,
    image: Option<PathBuf>,
    starts: u32,
}

/// What a site is made of.
#[derive(Debug)]
pub struct SiteSetup<'a> {
    /// The `gravure` program.
    pub program: &'a Path,
    /// What `cargo xtask payload` built.
    pub payload: &'a Path,
    /// The site's directory, which must not exist yet.
    pub dir: &'a Path,
    /// An image to copy there.
    pub image: Option<&'a Path>,
    /// What its DHCP does.
    pub dhcp: SiteDhcp,
}

/// The site's DHCP service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteDhcp {
    /// It gives addresses; nobody else does.
    Full,
    /// The same, and over IPv6 too.
    FullAnd6,
    /// It adds boot files beside another server.
    Proxy,
    /// The network's own server names the boot files.
    Off,
}

impl Site {
    /// Makes the site and starts its server.
    pub fn start(lab: Lab, setup: &SiteSetup<'_>) -> Result<Self> {
        let SiteSetup { program, payload, dir, image, dhcp } = *setup;
        let mut init = lab.command(program);
        init.args(["init", "--dir"]).arg(dir).args(["--interface", lab.interface(), "--dhcp"]);
        match dhcp {
            SiteDhcp::Full => init.args(["full", "--pool", POOL]),
            SiteDhcp::FullAnd6 => init.args(["full", "--pool", POOL, "--ipv6"]),
            SiteDhcp::Proxy => init.arg("proxy"),
            SiteDhcp::Off => init.arg("off"),
        };
        output(init.arg("--boot-dir").arg(payload))?;
        let mut own = None;
        if let Some(image) = image {
            let copy = dir.join("images").join(image.file_name().context("the image has no name")?);
            std::fs::copy(image, &copy).with_context(|| format!("cannot copy {}", image.display()))?;
            own = Some(copy);
        }
        let server = serve(&lab, program, dir, 1)?;
        if own.is_some() {
            server.console().wait_for_anywhere("image is ready", IMAGE_PATIENCE)?;
        }
        Ok(Self { server, lab, program: program.to_owned(), dir: dir.to_owned(), image: own, starts: 1 })
    }

    /// The network.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Directory of configuration, keys, database and logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The site's own copy of the image it was made with.
    pub fn image(&self) -> Result<&Path> {
        self.image.as_deref().context("this site was made without an image")
    }

    /// The server.
    pub fn server(&mut self) -> &mut Running {
        &mut self.server
    }

    /// What the server logged since it was started.
    pub fn log(&self) -> String {
        self.server.console().text()
    }

    /// `gravure` as the site's operator, inside the lab.
    pub fn gravure(&self, args: &[&str]) -> Command {
        let mut command = self.lab.command(&self.program);
        command.env("GRAVURE_SITE", &self.dir).args(args);
        command
    }

    /// Runs a `gravure` command; its standard output, or an error with what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        output(&mut self.gravure(args))
    }

    /// Plans the image for the machine with address `mac`.
    pub fn plan(&self, mac: &str, name: &str) -> Result<String> {
        let image = self.image()?.file_name().and_then(|name| name.to_str());
        let image = image.context("the image's name is not Unicode")?;
        self.run(&["plan", "create", "--machine", mac, "--image", image, "--name", name])
    }

    /// What the server knows about the machine. Its log tells of a machine a moment before the database has it.
    pub fn machine(&self, mac: &str) -> Result<MachineReport> {
        let given_up = Instant::now() + JOURNAL_PATIENCE;
        let text = loop {
            match self.run(&["machine", "show", mac, "--format", "json"]) {
                Err(error) if error.to_string().contains("no machine") && Instant::now() < given_up => {
                    std::thread::sleep(JOURNAL_PAUSE);
                }
                shown => break shown?,
            }
        };
        serde_json::from_str(&text).with_context(|| format!("`machine show` printed {text}"))
    }

    /// The machine's journal once it has each of the `wanted` texts: the server writes it after it has answered, so the
    /// last lines come a moment after what they tell of.
    pub fn journal_with(&self, mac: &str, wanted: &[&str]) -> Result<String> {
        let given_up = Instant::now() + JOURNAL_PATIENCE;
        loop {
            let journal = self.run(&["machine", "journal", mac])?;
            let Some(missing) = wanted.iter().find(|text| !journal.contains(**text)) else {
                return Ok(journal);
            };
            if Instant::now() > given_up {
                bail!("{missing:?} is missing in the journal:\n{journal}");
            }
            std::thread::sleep(JOURNAL_PAUSE);
        }
    }

    /// Waits until a machine gets to `state`, as the server's audit entries tell; fails at once when its plan fails
    /// instead.
    pub fn wait_for_state(&self, state: MachineState, timeout: Duration) -> Result<()> {
        let entry = match state {
            MachineState::Registered => "machine registered",
            MachineState::Armed => "job created",
            MachineState::Deploying => "plan handed out",
            MachineState::Failed => FAILED,
            MachineState::Verified => "plan verified",
            MachineState::Confirmed => "first boot confirmed",
            MachineState::Captured => "plan captured",
        };
        let (index, line) = self.server.console().wait_for_any(&[entry, FAILED], timeout)?;
        if index == 1 {
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
    server.console().wait_for(" serving ", START_PATIENCE).context("the server did not start")?;
    Ok(server)
}

/// Runs a command that `Lab::command` made; what stands before the program in it is not shown in errors.
fn output(command: &mut Command) -> Result<String> {
    // `--pdeathsig KILL ip netns exec NAME`
    const WRAPPING: usize = 6;
    let output = command.output().context("cannot start a program in the lab")?;
    if !output.status.success() {
        let args: Vec<_> = command.get_args().skip(WRAPPING).map(|arg| arg.to_string_lossy()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` ended with {}: {}", args.join(" "), output.status, said.trim());
    }
    String::from_utf8(output.stdout).context("the program printed something that is not UTF-8")
}
