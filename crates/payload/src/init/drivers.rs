//! Loads kernel modules for the devices that are there, and for those that come.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gravure_linux::disks::Roots;
use gravure_linux::machine::{Uevents, modaliases};
use gravure_linux::{kernel, sysfs};
use gravure_probe::modules::{ModuleTexts, Modules};

use super::console::Consoles;
use super::mounts;
use crate::files::chain;

/// Largest list read; `modules.alias` of a full Debian kernel has 1.5 MB.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// Modules that no device asks for by alias: what disks, firmware and installed systems need, and making file systems smaller.
const ALWAYS: [&str; 6] = ["efivarfs", "sd_mod", "ext4", "vfat", "loop", "fuse"];
/// Time between two walks while devices are still coming.
const WALK_INTERVAL: Duration = Duration::from_millis(200);
/// How often devices are looked for anew when no news came.
const QUIET_INTERVAL: Duration = Duration::from_secs(30);

/// The module lists of the running kernel and what was loaded.
#[derive(Debug)]
pub(super) struct Drivers {
    dir: PathBuf,
    modules: Modules,
    done: Mutex<Done>,
}

#[derive(Debug, Default)]
struct Done {
    /// Aliases that were looked at.
    aliases: BTreeSet<String>,
    /// Modules that were tried.
    tried: BTreeSet<String>,
    loaded: usize,
    failures: Vec<String>,
}

impl Drivers {
    /// Reads the lists of the running kernel.
    pub(super) fn open() -> Result<Self, String> {
        let dir = Path::new("/lib/modules").join(kernel::release());
        let read = |name: &str| {
            let bytes = sysfs::read_bounded(&dir.join(name), MAX_LIST_BYTES);
            bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let dep = read("modules.dep").map_err(|error| chain(&error))?;
        // The others may be absent without harm.
        let [alias, softdep, builtin] = ["modules.alias", "modules.softdep", "modules.builtin"]
            .map(|name| read(name).unwrap_or_default());
        let texts = ModuleTexts { dep: &dep, alias: &alias, softdep: &softdep, builtin: &builtin };
        Ok(Self { dir, modules: Modules::parse(texts), done: Mutex::default() })
    }

    /// Has the kernel call us when it wants a module itself (file systems, ciphers).
    pub(super) fn serve_kernel_requests(&self) {
        // Kernels without this file have a fixed path, and fall back to what is loaded by device.
        let _ = sysfs::write(Path::new("/proc/sys/kernel/modprobe"), b"/init\n");
    }

    /// Loads for everything that is there, again and again until nothing new came for a whole `settle`.
    pub(super) fn cold_plug(&self, settle: Duration) {
        for name in ALWAYS {
            // Built in, absent or broken: the summary tells, and whoever needs it will say so.
            let _ = self.load_for(name);
        }
        mounts::mount_firmware_variables();
        let mut quiet_since = Instant::now();
        while quiet_since.elapsed() < settle {
            if self.walk() {
                quiet_since = Instant::now();
            } else {
                std::thread::sleep(WALK_INTERVAL);
            }
        }
    }

    /// Loads for all devices; whether there was an alias not seen before.
    fn walk(&self) -> bool {
        let mut any = false;
        for alias in modaliases(&Roots::default()) {
            any |= self.load_for_alias(&alias);
        }
        any
    }

    fn load_for_alias(&self, alias: &str) -> bool {
        let new = self.done.lock().unwrap_or_else(PoisonError::into_inner).aliases.insert(alias.to_owned());
        if new {
            // Most devices have no module of their own; that is no failure.
            let _ = self.load_for(alias);
        }
        new
    }

    /// Loads the modules that a name or alias stands for, with all they need. `Err` when there is none or one failed.
    pub(super) fn load_for(&self, wanted: &str) -> Result<(), String> {
        if self.modules.is_builtin(wanted) {
            return Ok(());
        }
        let names = self.modules.resolve(wanted);
        if names.is_empty() {
            return Err(format!("no module for {wanted}"));
        }
        let mut result = Ok(());
        for name in names {
            for load in self.modules.load_order(name) {
                let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
                if !done.tried.insert(load.name.to_owned()) {
                    continue;
                }
                match kernel::load_module(&self.dir.join(load.path), "") {
                    Ok(()) => done.loaded += 1,
                    Err(error) => {
                        let line = format!("{}: {}", load.name, chain(&error));
                        done.failures.push(line.clone());
                        result = Err(line);
                    }
                }
            }
        }
        result
    }

    /// One line on what was loaded, and the failures, for the log.
    pub(super) fn summary(&self) -> String {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = format!("{} of {} modules loaded", done.loaded, self.modules.len());
        if !done.failures.is_empty() {
            line.push_str(&format!("; failed: {}", done.failures.join("; ")));
        }
        line
    }

    /// Loads for devices that come later. Does not return while news can be had.
    pub(super) fn follow(&self, news: &Uevents, consoles: &Consoles) {
        loop {
            match news.next(QUIET_INTERVAL) {
                Ok(Some(device)) => match device.modalias {
                    Some(alias) => {
                        self.load_for_alias(&alias);
                    }
                    // The kernel's queue overflowed: look at everything again.
                    None if device.action.is_empty() => {
                        self.walk();
                    }
                    None => {}
                },
                Ok(None) => {
                    self.walk();
                }
                Err(error) => {
                    consoles.say(&format!("devices plugged in from now on are not seen: {}", chain(&error)));
                    return;
                }
            }
        }
    }
}
