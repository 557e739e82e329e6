//! Who uses which address, and which connections belong to it.
//!
//! GRUB's TCP starts every boot with the same ports and sequence numbers and never answers a challenge with a reset. If
//! we still hold a connection of the machine's last boot, each of its files hangs for 16 s. So connections are ended by
//! reset when their machine starts anew (specs/netboot.md, finding 3).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use gravure_netboot::dhcp::MachineUuid;
use tokio::sync::watch;

use crate::refusals::{Refusals, Refused};
use crate::{Journal, NoteKind, Via};

/// Machines remembered. A flood of made-up DHCP requests pushes out the oldest; they are learnt again when they boot.
const MAX_MACHINES: usize = 16384;

/// A machine behind an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its link-layer address.
    pub mac: [u8; 6],
    /// Its SMBIOS UUID, if it told.
    pub uuid: Option<MachineUuid>,
}

/// Shared by all services of one server.
#[derive(Debug, Default)]
pub struct Presence {
    tables: Mutex<Tables>,
    journal: Option<Arc<Journal>>,
    refusals: Refusals,
}

#[derive(Debug, Default)]
struct Tables {
    machines: HashMap<IpAddr, Known>,
    connections: HashMap<IpAddr, Vec<Open>>,
    last: u64,
}

/// What is known of an address.
#[derive(Debug, Clone)]
struct Known {
    seen: Seen,
    /// What the program there calls itself in DHCP.
    class: Option<Arc<str>>,
    at: Instant,
}

/// A connection in the register.
#[derive(Debug)]
struct Open {
    number: u64,
    via: Via,
    end: watch::Sender<bool>,
}

/// A connection or transfer that can be ended from outside. Leaves the register when dropped.
#[derive(Debug)]
pub struct Connection {
    presence: Arc<Presence>,
    peer: IpAddr,
    number: u64,
    ended: watch::Receiver<bool>,
}

impl Connection {
    /// Returns once the connection must end because its machine has restarted.
    pub async fn ended(&mut self) {
        // An error means that the sender is gone, which only happens after it was told.
        let _ = self.ended.wait_for(|ended| *ended).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.presence.forget(self.peer, self.number);
    }
}

impl Presence {
    /// A register whose services write to `journal`.
    pub fn with_journal(journal: Arc<Journal>) -> Self {
        Self { journal: Some(journal), ..Self::default() }
    }

    /// The journal, if one is kept.
    pub fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref()
    }

    /// Notes that the machine at `address` got the file `name`; who is not known has no journal.
    pub(crate) fn fetched(&self, address: IpAddr, name: &str, text: impl FnOnce() -> String) {
        if let (Some(journal), Some(seen)) = (&self.journal, self.who(address)) {
            journal.fetched(seen.mac, name, &text());
        }
    }

    /// Notes something about the machine at `address`.
    pub(crate) fn note(&self, address: IpAddr, kind: NoteKind, text: impl FnOnce() -> String) {
        if let (Some(journal), Some(seen)) = (&self.journal, self.who(address)) {
            journal.note(seen.mac, kind, &text(), None);
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // The tables are plain data; a panic elsewhere leaves them usable.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine was seen using `address`.
    pub fn saw(&self, address: IpAddr, seen: Seen) {
        let mut tables = self.tables();
        if tables.machines.len() >= MAX_MACHINES && !tables.machines.contains_key(&address) {
            let oldest =
                tables.machines.iter().min_by_key(|(_, known)| known.at).map(|(address, _)| *address);
            oldest.map(|address| tables.machines.remove(&address));
        }
        // Without a UUID the one known before stays, if it is the same machine.
        let old = tables.machines.get(&address).filter(|old| old.seen.mac == seen.mac);
        let uuid = seen.uuid.or_else(|| old.and_then(|old| old.seen.uuid));
        let class = old.and_then(|old| old.class.clone());
        tables.machines.insert(address, Known { seen: Seen { uuid, ..seen }, class, at: Instant::now() });
    }

    /// What the program at `address`, which was just seen there, calls itself in DHCP.
    pub fn saw_class(&self, address: IpAddr, class: Option<&str>) {
        if let Some(known) = self.tables().machines.get_mut(&address)
            && known.class.as_deref() != class
        {
            known.class = class.map(Arc::from);
        }
    }

    /// What the program at `address` called itself last.
    pub fn class(&self, address: IpAddr) -> Option<Arc<str>> {
        self.tables().machines.get(&address).and_then(|known| known.class.clone())
    }

    /// Logs that something was refused, once for each client and kind.
    pub(crate) fn refused(&self, peer: IpAddr, via: Via, what: Refused, text: impl FnOnce() -> String) {
        if self.refusals.is_news(peer, via, what) {
            // Names come from the network.
            let text: String =
                text().chars().map(|sign| if sign.is_control() { '\u{fffd}' } else { sign }).collect();
            tracing::warn!(%peer, ?via, "refused: {text}; told once for this client");
        }
    }

    /// Who uses `address`, as far as we saw.
    pub fn who(&self, address: IpAddr) -> Option<Seen> {
        self.tables().machines.get(&address).map(|known| known.seen)
    }

    /// Enters a connection from `peer`.
    pub fn connection(self: &Arc<Self>, peer: IpAddr, via: Via) -> Connection {
        let (end, ended) = watch::channel(false);
        let mut tables = self.tables();
        tables.last = tables.last.wrapping_add(1);
        let number = tables.last;
        tables.connections.entry(peer).or_default().push(Open { number, via, end });
        Connection { presence: Arc::clone(self), peer, number, ended }
    }

    /// Connections from `peer` now. Those of TFTP count apart: anybody can begin transfers in another's name.
    pub fn connections(&self, peer: IpAddr, via: Via) -> usize {
        let tables = self.tables();
        tables.connections.get(&peer).map_or(0, |open| open.iter().filter(|open| open.via == via).count())
    }

    /// The machine with this address begins to boot: ends what is left of its last boot, and says how much that was.
    pub fn restarted(&self, mac: [u8; 6]) -> usize {
        if let Some(journal) = &self.journal {
            journal.restarted(mac);
        }
        let tables = self.tables();
        let addresses = tables.machines.iter().filter(|(_, known)| known.seen.mac == mac);
        let dead = addresses.filter_map(|(address, _)| tables.connections.get(address)).flatten();
        dead.map(|open| open.end.send_replace(true)).filter(|already| !already).count()
    }

    fn forget(&self, peer: IpAddr, number: u64) {
        let mut tables = self.tables();
        if let Some(list) = tables.connections.get_mut(&peer) {
            list.retain(|open| open.number != number);
            if list.is_empty() {
                tables.connections.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[tokio::test]
    async fn a_restart_ends_the_machines_own_connections_only() {
        let presence = Arc::new(Presence::default());
        let (one, two) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let uuid = MachineUuid::from_wire([7; 16]);
        presence.saw(A, Seen { mac: one, uuid });
        presence.saw(B, Seen { mac: two, uuid: None });
        presence.saw(A, Seen { mac: one, uuid: None });
        assert_eq!(presence.who(A), Some(Seen { mac: one, uuid }), "the UUID is kept");
        let mut first = presence.connection(A, Via::Http);
        let second = presence.connection(A, Via::Http);
        let transfer = presence.connection(A, Via::Tftp);
        let other = presence.connection(B, Via::Http);
        assert_eq!((presence.connections(A, Via::Http), presence.connections(A, Via::Tftp)), (2, 1));
        drop((second, transfer));
        assert_eq!(presence.connections(A, Via::Http), 1);
        assert_eq!(presence.restarted(one), 1);
        first.ended().await;
        assert_eq!(presence.restarted(one), 0, "told once");
        assert!(!*other.ended.borrow());
        drop(first);
        assert_eq!(presence.connections(A, Via::Http), 0);
    }

    #[test]
    fn what_a_machine_calls_itself_is_kept_as_long_as_it_is_the_same() {
        let presence = Presence::default();
        let one = Seen { mac: [2, 0, 0, 0, 0, 1], uuid: None };
        presence.saw_class(A, Some("nobody there"));
        assert_eq!(presence.class(A), None);
        presence.saw(A, one);
        presence.saw_class(A, Some("PXEClient"));
        presence.saw(A, one);
        assert_eq!(presence.class(A).as_deref(), Some("PXEClient"));
        presence.saw(A, Seen { mac: [2, 0, 0, 0, 0, 2], uuid: None });
        assert_eq!(presence.class(A), None, "another machine");
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_goes() {
        let presence = Presence::default();
        for number in 0..=u32::try_from(MAX_MACHINES).unwrap() {
            presence.saw(std::net::Ipv4Addr::from_bits(number).into(), Seen { mac: [2; 6], uuid: None });
        }
        assert_eq!(presence.tables().machines.len(), MAX_MACHINES);
        assert_eq!(presence.who(std::net::Ipv4Addr::from_bits(0).into()), None);
    }
}
