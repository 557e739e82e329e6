//! Why "nothing happens": notices machines that were offered a boot file and did not come for it.
//!
//! Some firmware drops both offers when a DHCP server and a proxy answer; all one sees is the same DISCOVER again. Others
//! take the address and never ask for the file. Neither shows in a single packet, so this looks at their sequence.

use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::BTreeMap;

use super::journal::{Decided, Given, IgnoredBecause, NoBoot};
use super::message::{HardwareAddress, MessageKind};
use super::server::Outcome;
use crate::Millis;

/// Machines remembered; beyond that the one that was quiet longest is forgotten.
const MAX_MACHINES: usize = 4096;
/// Offers to one transaction before it counts as ignored. iPXE sends two DISCOVERs by design before it takes an offer.
const OFFERS_IGNORED: u32 = 3;
/// From the address to the first request for the file; the slowest seen took four seconds.
const FETCH_WITHIN: Duration = Duration::from_secs(10);
/// The same for HTTPS: the firmware's handshake takes most of it, more than ten seconds on slow machines.
const FETCH_BY_HTTPS_WITHIN: Duration = Duration::from_secs(30);

/// When `file` should have been asked for, from the address on.
fn fetch_within(file: &str) -> Duration {
    if file.starts_with("https://") { FETCH_BY_HTTPS_WITHIN } else { FETCH_WITHIN }
}
/// After this the machine is considered off.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// What was noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The client keeps asking as if no offer had come.
    OffersIgnored {
        /// The file offered.
        file: String,
        /// So often.
        times: u32,
    },
    /// The client has an address and never asked for the file.
    NeverFetched {
        /// The file.
        file: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OffersIgnored { file, times } => {
                write!(f, "offered {file} {times} times and the client asked again without taking any offer")
            }
            Self::NeverFetched { file } => {
                let seconds = fetch_within(file).as_secs();
                write!(f, "the client has an address and did not ask for {file} within {seconds} s")
            }
        }
    }
}

impl Finding {
    /// The likely cause and what to do about it; `proxy` when another server gives the addresses.
    #[must_use]
    pub fn advice(&self, proxy: bool) -> &'static str {
        match (self, proxy) {
            (Self::OffersIgnored { .. }, true) => {
                "either no DHCP server of this network gives an address (a proxy gives none; `gravure doctor` looks for \
                 one), or the firmware is of those that drop all offers when a DHCP server and a proxy answer together: then name the boot file in the \
                 options of your DHCP server instead; `gravure doctor --dhcp-config dnsmasq` (or kea, isc, windows, \
                 mikrotik, pfsense) prints the lines"
            }
            (Self::OffersIgnored { .. }, false) => {
                "the offers do not reach the machine, or it prefers another server: look for a second DHCP server with \
                 `gravure doctor`, then at VLANs and DHCP snooping of the switch"
            }
            (Self::NeverFetched { .. }, _) => {
                "the machine cannot reach this server's files: a firewall on UDP port 69 or TCP port 80, no route from its \
                 network, or a switch port that is not forwarding yet; `gravure doctor` checks this side"
            }
        }
    }
}

#[derive(Debug)]
struct Watched {
    file: String,
    xid: u32,
    offers: u32,
    /// When the file should have been asked for.
    fetch_by: Option<Millis>,
    last: Millis,
}

/// Follows machines from offer to fetch.
#[derive(Debug)]
pub struct OfferWatch {
    server: Ipv4Addr,
    machines: BTreeMap<HardwareAddress, Watched>,
}

impl OfferWatch {
    /// A watch for files that are fetched from `server`; what others serve cannot be seen and is not judged.
    #[must_use]
    pub fn new(server: Ipv4Addr) -> Self {
        Self { server, machines: BTreeMap::new() }
    }

    /// Takes note of a decision.
    pub fn decided(&mut self, outcome: &Outcome, now: Millis) -> Option<Finding> {
        let saw = outcome.journal.saw.as_ref()?;
        let hardware = saw.client.hardware;
        match &outcome.journal.decided {
            Decided::Answered { kind: MessageKind::Offer, boot: Ok(given), .. } if self.sees(given) => {
                self.offered(hardware, given, saw.xid, now)
            }
            Decided::Answered { kind: MessageKind::Ack, boot: Ok(given), .. } if self.sees(given) => {
                self.make_room();
                let entry =
                    self.machines.entry(hardware).or_insert_with(|| Watched::new(given, saw.xid, now));
                entry.file.clone_from(&given.file);
                entry.fetch_by = Some(now.after(fetch_within(&given.file)));
                entry.offers = 0;
                entry.last = now;
                None
            }
            Decided::Ignored(IgnoredBecause::OtherServerChosen(_)) => {
                // Beside another server: the offer with the file was one of two, the address is on its way.
                if let Some(entry) = self.machines.get_mut(&hardware) {
                    entry.fetch_by = Some(now.after(fetch_within(&entry.file)));
                    entry.offers = 0;
                    entry.last = now;
                }
                None
            }
            Decided::Answered { boot: Err(NoBoot::NotABootClient), .. } => {
                // The installed system speaks: no boot to wait for.
                self.machines.remove(&hardware);
                None
            }
            _ => None,
        }
    }

    fn offered(
        &mut self,
        hardware: HardwareAddress,
        given: &Given,
        xid: u32,
        now: Millis,
    ) -> Option<Finding> {
        self.make_room();
        let entry = self.machines.entry(hardware).or_insert_with(|| Watched::new(given, xid, now));
        if entry.xid != xid {
            *entry = Watched::new(given, xid, now);
        }
        entry.offers = entry.offers.saturating_add(1);
        entry.last = now;
        let ignored = entry.offers == OFFERS_IGNORED;
        ignored.then(|| Finding::OffersIgnored { file: given.file.clone(), times: entry.offers })
    }

    /// The machine asked for a file, by TFTP or HTTP.
    pub fn fetched(&mut self, hardware: &HardwareAddress) {
        self.machines.remove(hardware);
    }

    /// Findings whose time has come. Call it every few seconds.
    pub fn due(&mut self, now: Millis) -> Vec<(HardwareAddress, Finding)> {
        self.machines.retain(|_, entry| now.since(entry.last) < FORGET_AFTER);
        let mut found = Vec::new();
        for (hardware, entry) in &mut self.machines {
            if entry.fetch_by.is_some_and(|by| by <= now) {
                entry.fetch_by = None;
                found.push((*hardware, Finding::NeverFetched { file: entry.file.clone() }));
            }
        }
        found
    }

    /// Whether the file comes from the server we see.
    fn sees(&self, given: &Given) -> bool {
        match given.file.split_once("://") {
            Some((_, rest)) => rest.split(['/', ':']).next() == Some(self.server.to_string().as_str()),
            None => given.next_server == self.server,
        }
    }

    fn make_room(&mut self) {
        if self.machines.len() >= MAX_MACHINES {
            let quietest =
                self.machines.iter().min_by_key(|(_, entry)| entry.last).map(|(hardware, _)| *hardware);
            quietest.and_then(|hardware| self.machines.remove(&hardware));
        }
    }
}

impl Watched {
    fn new(given: &Given, xid: u32, now: Millis) -> Self {
        Self { file: given.file.clone(), xid, offers: 0, fetch_by: None, last: now }
    }
}
