//! A recipe becomes a directory with a Debian system in it, the same for the same inputs.
//!
//! `mmdebstrap` unpacks and configures the packages of the private apt root; what follows runs inside the new system
//! with `chroot`. Everything that differs from run to run (logs, caches, identities, the builder's name) is removed or
//! set at the end; times are clamped by whoever captures the directory.

mod boot;
mod settle;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use boot::ROOT_LABEL;

use crate::recipe::{AptSources, Base, Recipe};
use crate::{AptRoot, Error};

/// What is going on, for whoever shows it: a line in plain English.
pub type Say<'a> = dyn FnMut(&str) + 'a;

/// Error lines of mmdebstrap that are kept.
const KEPT_LINES: usize = 12;

/// A system being built; its directory goes when this is dropped, unless it is kept.
#[derive(Debug)]
pub struct System<'a> {
    recipe: &'a Recipe,
    dir: PathBuf,
    /// `SOURCE_DATE_EPOCH`: seconds since 1970 that tools put into what they generate.
    epoch: i64,
}

impl<'a> System<'a> {
    /// Builds the system of `recipe` in `dir`, which must not exist. Needs root: packages run scripts as root in the
    /// new system, and device nodes are made.
    pub fn build(
        recipe: &'a Recipe,
        apt: &AptRoot,
        dir: &Path,
        epoch: i64,
        say: &mut Say<'_>,
    ) -> Result<Self, Error> {
        let system = Self { recipe, dir: dir.to_owned(), epoch };
        say(&format!("Installing {} packages and what they need", recipe.all_packages().len()));
        system.bootstrap(apt, say)?;
        say("Configuring the system");
        system.write_files()?;
        system.make_users()?;
        system.set_services()?;
        if let Some(kernel) = &recipe.kernel {
            say("Making the initial RAM disk");
            system.prepare_kernel(kernel)?;
        }
        if recipe.boot.bios {
            system.prepare_bios_boot()?;
        }
        system.settle(apt)?;
        Ok(system)
    }

    /// Where the system is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn bootstrap(&self, apt: &AptRoot, say: &mut Say<'_>) -> Result<(), Error> {
        let variant = match self.recipe.base {
            Base::Essential => "essential",
            Base::Minbase => "minbase",
            Base::Important => "important",
        };
        let mut command = Command::new("mmdebstrap");
        command.args(["--mode=root", "--format=directory", "--architectures=amd64"]);
        command.arg(format!("--variant={variant}"));
        command.arg(format!("--include={}", self.recipe.all_packages().join(",")));
        for option in apt.apt_options() {
            command.arg(format!("--aptopt={option}"));
        }
        command.arg("--aptopt=APT::Install-Recommends \"false\"");
        for path in &self.recipe.exclude {
            command.arg(format!("--dpkgopt=path-exclude={path}"));
        }
        if self.recipe.kernel.is_some() {
            // Packages ask for a new initrd several times on the way; one at the end is enough.
            command.arg(
                "--essential-hook=mkdir -p \"$1/etc/initramfs-tools\" && \
                 echo update_initramfs=no > \"$1/etc/initramfs-tools/update-initramfs.conf\"",
            );
            // The same for the kernel's own script.
            command.env("INITRD", "No");
            // The packaged configuration file would ask what to do with ours.
            command.arg("--dpkgopt=force-confold");
        }
        command.arg(apt.suite()).arg(&self.dir).args(apt.sources_for_mmdebstrap());
        command.env("SOURCE_DATE_EPOCH", self.epoch.to_string());
        command.env("LC_ALL", "C.UTF-8").env("DEBIAN_FRONTEND", "noninteractive");
        run_telling(command, "mmdebstrap", say)
    }

    fn write_files(&self) -> Result<(), Error> {
        for file in &self.recipe.files {
            let content = match (&file.content, &file.source) {
                (Some(content), _) => content.clone().into_bytes(),
                (None, Some(source)) => fs::read(source).map_err(Error::io("cannot read", source))?,
                (None, None) => Vec::new(),
            };
            self.put(&file.path, &content, file.mode_bits().unwrap_or(0o644))?;
        }
        Ok(())
    }

    fn make_users(&self) -> Result<(), Error> {
        for user in &self.recipe.users {
            if user.name != "root" {
                let mut add = self.inside("useradd");
                add.args(["--create-home", "--shell", &user.shell]);
                if !user.groups.is_empty() {
                    add.arg("--groups").arg(user.groups.join(","));
                }
                self.run(add.arg(&user.name), "useradd")?;
            }
            let hash = if user.password == "locked" { "!" } else { &user.password };
            self.run(self.inside("usermod").args(["--password", hash, &user.name]), "usermod")?;
            if !user.authorized_keys.is_empty() {
                let home = if user.name == "root" { "/root".into() } else { format!("/home/{}", user.name) };
                let keys = user.authorized_keys.join("\n") + "\n";
                self.put(&format!("{home}/.ssh/authorized_keys"), keys.as_bytes(), 0o600)?;
                let owner = format!("{0}:{0}", user.name);
                self.run(self.inside("chown").args(["-R", &owner, &format!("{home}/.ssh")]), "chown")?;
            }
        }
        Ok(())
    }

    fn set_services(&self) -> Result<(), Error> {
        let services = &self.recipe.services;
        for (verb, names) in
            [("enable", &services.enable), ("disable", &services.disable), ("mask", &services.mask)]
        {
            if !names.is_empty() {
                self.run(self.inside("systemctl").arg(verb).args(names), "systemctl")?;
            }
        }
        Ok(())
    }

    /// A path inside the system. Links are not resolved: recipes write before anything untrusted has run.
    fn path(&self, path: &str) -> PathBuf {
        self.dir.join(path.trim_start_matches('/'))
    }

    /// Writes a file, replacing what is there, a link included.
    fn put(&self, path: &str, content: &[u8], mode: u32) -> Result<(), Error> {
        use std::os::unix::fs::PermissionsExt as _;
        let to = self.path(path);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(Error::io("cannot create", parent))?;
        }
        match fs::remove_file(&to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("cannot replace", to)(error));
            }
            _ => {}
        }
        fs::write(&to, content).map_err(Error::io("cannot write", &to))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))
            .map_err(Error::io("cannot set mode of", to))
    }

    /// A program run inside the system, with nothing of the builder's environment.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.dir).arg(program).env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("SOURCE_DATE_EPOCH", self.epoch.to_string()).env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn run(&self, command: &mut Command, program: &'static str) -> Result<Vec<u8>, Error> {
        crate::apt::checked(command, program, "inside the new system")
    }
}

/// Runs a program that reports its steps as `I: ...` lines on standard error, and passes them on.
fn run_telling(mut command: Command, program: &'static str, say: &mut Say<'_>) -> Result<(), Error> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|_| Error::ProgramMissing { program })?;
    let mut last: Vec<String> = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if let Some(step) = line.strip_prefix("I: ") {
                say(step.trim_end_matches('.'));
            }
            last.push(line);
            if last.len() > KEPT_LINES {
                last.remove(0);
            }
        }
    }
    let status = child.wait().map_err(Error::io("cannot wait for", program))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Program { program, action: "of the new system".into(), said: last.join("; ") })
}

/// Whether the recipe wants package sources left in the system.
fn keeps_sources(recipe: &Recipe) -> bool {
    recipe.apt_sources == AptSources::Builder
}
