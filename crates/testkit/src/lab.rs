//! A network of its own: a namespace with a bridge, the host's address on it, and a tap for each machine.
//!
//! specs/netboot.md, section 5.1. The server under test and the machines run inside; nothing of it is seen outside,
//! so the well-known ports are free and any number of labs can run side by side.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use crate::oracle::find;
use crate::running::mortal;
use crate::{Running, Vm, VmOptions, skipped};

/// The host's address on the bridge, where servers listen.
pub const HOST_ADDRESS: &str = "10.77.0.1";
/// Length of the network's prefix, bits.
pub const PREFIX_LEN: u8 = 24;

/// The host's IPv6 address there; its network has 64 bits.
pub const HOST_ADDRESS6: &str = "fd77::1";

/// Start of every namespace's name; a process id and a number follow.
const NAME: &str = "gravure";
const BRIDGE: &str = "br0";
/// A neighbour's network interface.
const CARD: &str = "eth0";

/// Whether this process may make labs; a loud skip with the reason when not.
///
/// # Panics
/// When it may not and oracles are required.
pub fn can_make_labs() -> bool {
    match Lab::new() {
        Ok(_) => true,
        Err(error) => {
            skipped(&format!("no network namespaces: {error:#}"));
            false
        }
    }
}

/// A network namespace that goes away when dropped, with everything that still runs in it.
#[derive(Debug)]
pub struct Lab {
    name: String,
    taps: AtomicU32,
}

impl Lab {
    /// Makes the namespace, the bridge and the host's address. Needs root.
    pub fn new() -> Result<Self> {
        for program in ["ip", "setpriv"] {
            find(program).with_context(|| format!("{program} is not installed"))?;
        }
        if !Path::new("/dev/net/tun").exists() {
            bail!("/dev/net/tun is missing");
        }
        remove_stale()?;
        let lab = Self::namespace()?;
        // Forwarding must begin at once: firmware asks for an address only for some seconds.
        lab.ip(&["link", "add", BRIDGE, "type", "bridge", "stp_state", "0", "forward_delay", "0"])?;
        lab.ip(&["address", "add", &format!("{HOST_ADDRESS}/{PREFIX_LEN}"), "dev", BRIDGE])?;
        lab.ip(&["link", "set", BRIDGE, "up"])?;
        // Nobody else is there who could have it: usable at once.
        lab.ip(&["address", "add", &format!("{HOST_ADDRESS6}/64"), "dev", BRIDGE, "nodad"])?;
        Ok(lab)
    }

    /// A namespace with a loopback and nothing else.
    fn namespace() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{NAME}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]).context("cannot make a network namespace (root is needed)")?;
        // From here on the namespace is removed again when a step fails.
        let lab = Self { name, taps: AtomicU32::new(0) };
        lab.ip(&["link", "set", "lo", "up"])?;
        Ok(lab)
    }

    /// Name of the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of the bridge inside, where servers listen.
    pub fn interface(&self) -> &'static str {
        BRIDGE
    }

    /// A command that runs `program` inside and dies with the thread that starts it.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = mortal("ip");
        command.args(["netns", "exec", &self.name]).arg(program.as_ref());
        command
    }

    /// Runs `ip` inside.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        let mut all = vec!["-netns", &self.name];
        all.extend(args);
        ip(&all)
    }

    /// Adds a tap to the bridge and returns its name.
    pub fn add_tap(&self) -> Result<String> {
        let tap = format!("tap{}", self.taps.fetch_add(1, Ordering::Relaxed));
        self.ip(&["tuntap", "add", "dev", &tap, "mode", "tap"])?;
        self.ip(&["link", "set", &tap, "master", BRIDGE, "up"])?;
        Ok(tap)
    }

    /// Starts a machine on this network. Its files (serial log, firmware variables, sockets) go to `dir`.
    pub fn start_vm(&self, options: &VmOptions, dir: &Path) -> Result<Vm> {
        let tap = self.add_tap()?;
        Vm::start(self, &tap, options, dir)
    }

    /// Another computer on this network, in a namespace of its own, without an address yet.
    pub fn neighbour(&self) -> Result<Neighbour> {
        let other = Self::namespace()?;
        let port = format!("peer{}", self.taps.fetch_add(1, Ordering::Relaxed));
        self.ip(&["link", "add", &port, "type", "veth", "peer", "name", CARD, "netns", &other.name])?;
        self.ip(&["link", "set", &port, "master", BRIDGE, "up"])?;
        other.ip(&["link", "set", CARD, "up"])?;
        Ok(Neighbour { lab: other })
    }

    /// Prints what goes over the bridge, one line a packet, decoded by tcpdump; `filter` is a pcap-filter(7). Returns
    /// when the capture has begun.
    pub fn watch(&self, filter: &str) -> Result<Running> {
        find("tcpdump").context("tcpdump is not installed")?;
        let mut command = self.command("tcpdump");
        command.args(["-l", "-nn", "-e", "-v", "--immediate-mode", "-i", BRIDGE, filter]);
        let running = Running::start(&mut command, None)?;
        running.console().wait_for("listening on", std::time::Duration::from_secs(30))?;
        Ok(running)
    }
}

/// A computer beside the host of a [`Lab`]: a foreign DHCP server, a client.
#[derive(Debug)]
pub struct Neighbour {
    lab: Lab,
}

impl Neighbour {
    /// Name of its only network interface.
    pub fn interface(&self) -> &'static str {
        CARD
    }

    /// Gives it an address, `10.77.0.2/24` or `fd77::2/64`, usable at once.
    pub fn set_address(&self, address: &str) -> Result<()> {
        let probing: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        self.lab.ip(&[&["address", "add", address, "dev", CARD], probing].concat())
    }

    /// Another computer, on a network of its own behind this one, which gets `address` there and forwards packets.
    pub fn behind(&self, address: &str) -> Result<Neighbour> {
        const FAR_CARD: &str = "far0";
        let other = Lab::namespace()?;
        self.lab.ip(&[
            "link",
            "add",
            FAR_CARD,
            "type",
            "veth",
            "peer",
            "name",
            CARD,
            "netns",
            &other.name,
        ])?;
        self.lab.ip(&["address", "add", address, "dev", FAR_CARD])?;
        self.lab.ip(&["link", "set", FAR_CARD, "up"])?;
        other.ip(&["link", "set", CARD, "up"])?;
        let forward = self.command("sysctl").args(["-q", "-w", "net.ipv4.ip_forward=1"]).status();
        if !forward.context("cannot start sysctl")?.success() {
            bail!("forwarding cannot be switched on in {}", self.lab.name);
        }
        Ok(Neighbour { lab: other })
    }

    /// Runs `ip` there.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        self.lab.ip(args)
    }

    /// A command that runs `program` there and dies with the thread that starts it.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        self.lab.command(program)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Ends what runs in the namespace and removes it.
fn remove(name: &str) {
    // Failures are not told: there may be nothing left, and a destructor has nobody to tell.
    if let Ok(output) = Command::new("ip").args(["netns", "pids", name]).stderr(Stdio::null()).output() {
        for pid in String::from_utf8_lossy(&output.stdout).lines() {
            let pid = pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
    let _ = ip(&["netns", "delete", name]);
}

/// Removes namespaces whose process was killed before it could.
fn remove_stale() -> Result<()> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return Ok(()) };
    for entry in entries {
        let name = entry.context("cannot list /run/netns")?.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
    Ok(())
}

/// The process id in a namespace's name.
fn owner(name: &str) -> Option<&str> {
    let (pid, number) = name.strip_prefix(NAME)?.strip_prefix('-')?.split_once('-')?;
    [pid, number]
        .iter()
        .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
        .then_some(pid)
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output().context("cannot start ip")?;
    if !output.status.success() {
        bail!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn labs_are_apart_and_go_away() {
        if !can_make_labs() {
            return;
        }
        let (one, two) = (Lab::new().unwrap(), Lab::new().unwrap());
        let tap = one.add_tap().unwrap();
        let links = |lab: &Lab| {
            let mut running = Running::start(lab.command("ip").args(["-brief", "link"]), None).unwrap();
            assert!(running.wait(Duration::from_secs(30)).unwrap().success());
            running.console().text()
        };
        assert!(links(&one).contains(&tap) && !links(&two).contains(&tap));
        let path = Path::new("/run/netns").join(one.name());
        assert!(path.exists());
        drop(one);
        assert!(!path.exists());
    }

    #[test]
    fn only_our_own_names_are_taken_for_stale() {
        assert_eq!(owner("gravure-123-0"), Some("123"));
        for other in ["gravure", "gravure-x-0", "gravure-1-", "gravure--1", "other-1-0", "gravure-1-2-3x"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }
}
