//! A DHCP server that is not ours, as most networks have one.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::{Lab, Neighbour, Running, oracle};

/// Addresses it gives; not ours, so that a test sees who gave one.
const POOL: &str = "10.77.0.50,10.77.0.90,1h";
/// Its own.
const ADDRESS: &str = "10.77.0.2/24";
/// A server that starts to listen takes no longer.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// dnsmasq beside the host of a [`Lab`], giving addresses and knowing nothing of booting. Ends when dropped.
#[derive(Debug)]
pub struct ForeignDhcp {
    // Dropped in this order: the server ends before its network goes away.
    running: Running,
    _neighbour: Neighbour,
}

impl ForeignDhcp {
    /// Starts it on the network of `lab`; its files go to `dir`. `None` after a loud skip.
    pub fn start(lab: &Lab, dir: &Path) -> Result<Option<Self>> {
        if oracle("dnsmasq").is_none() {
            return Ok(None);
        }
        let neighbour = lab.neighbour()?;
        neighbour.set_address(ADDRESS)?;
        let mut command = neighbour.command("dnsmasq");
        command.args(["--no-daemon", "--conf-file=/dev/null", "--port=0", "--log-dhcp", "--no-ping"]);
        command.args(["--bind-interfaces", "--user=root", "--group=root"]);
        command.arg(format!("--interface={}", neighbour.interface()));
        command.arg(format!("--dhcp-range={POOL}"));
        command.arg(format!("--dhcp-leasefile={}", dir.join("foreign.leases").display()));
        command.arg(format!("--pid-file={}", dir.join("foreign.pid").display()));
        let running = Running::start(&mut command, None)?;
        running.console().wait_for("DHCP, IP range", START_PATIENCE)?;
        Ok(Some(Self { running, _neighbour: neighbour }))
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.running.console().text()
    }
}
