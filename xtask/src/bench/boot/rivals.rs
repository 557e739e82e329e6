//! The servers that are measured, each started alone inside the lab. Debian's packages of the rivals are unpacked, not installed:
//! installing them would start services on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use gravure_testkit::{HOST_ADDRESS, Lab, Running};

use crate::process;

/// A server that is ready takes no longer.
const START: Duration = Duration::from_secs(30);

/// A server with what it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rival {
    Dnsmasq,
    Atftpd,
    TftpdHpa,
    Nginx,
}

/// Port nginx is given; ours keeps 80.
pub(super) const NGINX_PORT: u16 = 8090;

impl Rival {
    pub(super) const TFTP: [Self; 3] = [Self::Dnsmasq, Self::Atftpd, Self::TftpdHpa];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dnsmasq => "dnsmasq",
            Self::Atftpd => "atftpd",
            Self::TftpdHpa => "tftpd-hpa",
            Self::Nginx => "nginx",
        }
    }

    /// Debian packages, the program's first, then libraries that are rarely installed; and the program in it.
    fn packages(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::Dnsmasq => (&["dnsmasq-base"], "usr/sbin/dnsmasq"),
            Self::Atftpd => (&["atftpd", "libwrap0"], "usr/sbin/atftpd"),
            Self::TftpdHpa => (&["tftpd-hpa", "libwrap0"], "usr/sbin/in.tftpd"),
            Self::Nginx => (&["nginx"], "usr/sbin/nginx"),
        }
    }

    /// The program, unpacked below `dir`.
    pub(super) fn program(self, dir: &Path) -> Result<PathBuf> {
        let (packages, inside) = self.packages();
        let root = dir.join(self.name());
        let program = root.join(inside);
        if program.is_file() {
            return Ok(program);
        }
        std::fs::create_dir_all(&root).with_context(|| format!("cannot create {}", root.display()))?;
        for package in packages {
            process::output(process::tool("apt-get")?.args(["download", package]).current_dir(dir))?;
            let prefix = format!("{package}_");
            let entries = std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
            let file = entries.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
            });
            let file = file.with_context(|| format!("apt-get brought no {package}"))?;
            process::output(process::tool("dpkg-deb")?.arg("-x").arg(file).arg(&root))?;
        }
        if !program.is_file() {
            bail!("package {} holds no {inside}", packages[0]);
        }
        Ok(program)
    }

    /// Starts it on the lab's address, serving `files`; `dir` takes its own files.
    pub(super) fn start(self, lab: &Lab, program: &Path, files: &Path, dir: &Path) -> Result<Running> {
        let mut command = lab.command(program);
        // program is ROOT/usr/sbin/NAME
        let root = program.ancestors().nth(3).unwrap_or(program);
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|dir| root.join(dir));
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).context("library path")?);
        let shown = files.display();
        match self {
            Self::Dnsmasq => {
                command.args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--enable-tftp"]);
                command.args(["--user=root", "--group=root", "--bind-interfaces", "--tftp-max=1000"]);
                command.args([format!("--listen-address={HOST_ADDRESS}"), format!("--tftp-root={shown}")]);
            }
            Self::Atftpd => {
                command.args(["--daemon", "--no-fork", "--user", "root.root", "--maxthread", "1000"]);
                command.args(["--bind-address", HOST_ADDRESS, "--logfile", "-", "--verbose=5"]).arg(files);
            }
            Self::TftpdHpa => {
                command.args(["--foreground", "--listen", "--user", "root", "--secure"]);
                command.args(["--address", &format!("{HOST_ADDRESS}:69")]).arg(files);
            }
            Self::Nginx => {
                let text = format!(
                    "daemon off; user root; worker_processes 1; pid {0}/nginx.pid; error_log stderr;\n\
                     events {{ worker_connections 4096; }}\n\
                     http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000;\n\
                     client_body_temp_path {0}; proxy_temp_path {0}; fastcgi_temp_path {0}; uwsgi_temp_path {0};\n\
                     scgi_temp_path {0};\n\
                     server {{ listen {HOST_ADDRESS}:{NGINX_PORT}; root {shown}; }} }}\n",
                    dir.display()
                );
                let config = dir.join("nginx.conf");
                std::fs::write(&config, text)
                    .with_context(|| format!("cannot write {}", config.display()))?;
                command.arg("-e").arg("stderr").arg("-c").arg(config);
            }
        }
        let running = Running::start(&mut command, None)?;
        let port = if self == Self::Nginx { NGINX_PORT } else { 69 };
        wait_for_port(lab, self == Self::Nginx, port)
            .with_context(|| format!("{} did not start: {}", self.name(), running.console().text()))?;
        Ok(running)
    }
}

/// Waits until somebody listens; the rivals do not all say so.
fn wait_for_port(lab: &Lab, tcp: bool, port: u16) -> Result<()> {
    let table = if tcp { "/proc/net/tcp" } else { "/proc/net/udp" };
    let start = std::time::Instant::now();
    while start.elapsed() < START {
        let mut cat: Command = lab.command("cat");
        let text = process::output(cat.arg(table))?;
        let wanted = format!(":{port:04X} ");
        if String::from_utf8_lossy(&text).lines().skip(1).any(|line| line.contains(&wanted)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("nobody listens at port {port}")
}
