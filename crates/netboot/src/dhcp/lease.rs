//! Leases: who has which address until when. The trait the server decides by, and a table in memory behind it.
//!
//! The table can be exported entry by entry and filled again, so that an engine can keep it in its database.

use core::fmt;
use core::net::Ipv4Addr;
use core::str::FromStr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::config::Subnet;
use super::message::HardwareAddress;
use crate::{Error, Millis};

/// How long an offered address is kept for its client: longer than the slowest firmware takes to come back (edk2: 4 s),
/// short enough that a scan of the network with made-up addresses does not block a pool.
const OFFER_HOLD: Duration = Duration::from_secs(60);
/// How long an address that a client found in use is left alone.
const DECLINE_HOLD: Duration = Duration::from_secs(3600);

/// What a lease is kept under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientKey {
    /// Link-layer address.
    Hardware(HardwareAddress),
    /// Option 61.
    Identifier(Vec<u8>),
}

impl fmt::Display for ClientKey {
    /// `hw:01:020000000007` or `id:ff00...`: a text that [`ClientKey::from_str`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match self {
            Self::Hardware(address) => {
                write!(f, "hw:{:02x}:", address.kind())?;
                address.bytes()
            }
            Self::Identifier(bytes) => {
                f.write_str("id:")?;
                bytes
            }
        };
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for ClientKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let key = || {
            let (kind, rest) = text.split_once(':')?;
            match kind {
                "hw" => {
                    let (kind, address) = rest.split_once(':')?;
                    let [kind] = unhex(kind)?.try_into().ok()?;
                    HardwareAddress::new(kind, &unhex(address)?).map(Self::Hardware)
                }
                "id" => unhex(rest).map(Self::Identifier),
                _ => None,
            }
        };
        key().ok_or_else(|| {
            super::subnet::setting("client key", text, "not of the form hw:01:020000000007 or id:00")
        })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(high)?.checked_mul(16)? | digit(low)?)).collect()
}

/// Who asks for an address, and on which network.
#[derive(Debug, Clone, Copy)]
pub struct AddressRequest<'a> {
    /// Key of the lease.
    pub client: &'a ClientKey,
    /// Link-layer address, for reservations and the lease list.
    pub hardware: &'a HardwareAddress,
    /// Host name, for the lease list.
    pub host_name: Option<&'a str>,
    /// The network.
    pub subnet: &'a Subnet,
    /// The address the client would like.
    pub requested: Option<Ipv4Addr>,
}

/// How a client stands to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its own: offered to it, or leased to it now or before, and nobody else's since.
    Own,
    /// Nobody's; the client may have it.
    Free,
    /// Somebody else's, or set aside because it was found in use.
    Taken,
    /// Not one we give to this client.
    Outside,
}

/// What the server needs to know and to change.
pub trait LeaseStore {
    /// Picks an address and keeps it for a while; `None` when there is none.
    fn reserve(&mut self, ask: &AddressRequest<'_>, now: Millis) -> Option<Ipv4Addr>;
    /// How the client stands to `address`.
    fn standing(&self, ask: &AddressRequest<'_>, address: Ipv4Addr, now: Millis) -> Standing;
    /// Leases `address`; refused (with the standing that forbids it) unless it is [`Standing::Own`] or [`Standing::Free`].
    fn commit(
        &mut self,
        ask: &AddressRequest<'_>,
        address: Ipv4Addr,
        lease: Duration,
        now: Millis,
    ) -> Result<(), Standing>;
    /// Forgets what was offered to `client`: it took another server's offer.
    fn withdraw(&mut self, client: &ClientKey);
    /// `client` gives `address` back; false when it was not its own.
    fn release(&mut self, client: &ClientKey, address: Ipv4Addr, now: Millis) -> bool;
    /// `client` found `address` in use; false when it was not its own.
    fn decline(&mut self, client: &ClientKey, address: Ipv4Addr, now: Millis) -> bool;
}

/// State of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    /// Kept for the client that was offered it.
    Offered,
    /// Leased.
    Bound,
    /// Given back; remembered so that the client gets it again.
    Released,
    /// Found in use by somebody unknown.
    Declined,
}

/// One address of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseEntry {
    /// The address.
    pub address: Ipv4Addr,
    /// Whose it is, or was last.
    pub client: ClientKey,
    /// That client's link-layer address.
    pub hardware: HardwareAddress,
    /// That client's host name.
    pub host_name: Option<String>,
    /// What the entry means.
    pub state: LeaseState,
    /// When the state ends; for [`LeaseState::Released`] when it began.
    pub until: Millis,
}

impl LeaseEntry {
    /// Whether the address may not go to another client now.
    fn holds(&self, now: Millis) -> bool {
        self.state != LeaseState::Released && self.until > now
    }
}

/// Leases in memory.
#[derive(Debug, Default)]
pub struct LeaseTable {
    entries: BTreeMap<Ipv4Addr, LeaseEntry>,
    by_client: BTreeSet<(ClientKey, Ipv4Addr)>,
    changed: BTreeSet<Ipv4Addr>,
}

impl LeaseTable {
    /// A table filled with entries exported earlier. Times must be of the same origin.
    #[must_use]
    pub fn import(entries: impl IntoIterator<Item = LeaseEntry>) -> Self {
        let mut table = Self::default();
        entries.into_iter().for_each(|entry| table.put(entry));
        table.changed.clear();
        table
    }

    /// All entries by address.
    pub fn entries(&self) -> impl Iterator<Item = &LeaseEntry> {
        self.entries.values()
    }

    /// Entries changed since the last call, offers excepted: what an engine has to write to its database.
    pub fn take_changes(&mut self) -> Vec<LeaseEntry> {
        let changed = core::mem::take(&mut self.changed);
        let entries = changed.iter().filter_map(|address| self.entries.get(address));
        entries.filter(|entry| entry.state != LeaseState::Offered).cloned().collect()
    }

    /// Who uses `address` now.
    #[must_use]
    pub fn holder(&self, address: Ipv4Addr, now: Millis) -> Option<&LeaseEntry> {
        self.entries.get(&address).filter(|entry| entry.state == LeaseState::Bound && entry.until > now)
    }

    fn put(&mut self, entry: LeaseEntry) {
        let address = entry.address;
        if let Some(old) = self.entries.get(&address) {
            self.by_client.remove(&(old.client.clone(), address));
        }
        self.by_client.insert((entry.client.clone(), address));
        self.entries.insert(address, entry);
        self.changed.insert(address);
    }

    fn remove(&mut self, address: Ipv4Addr) {
        if let Some(entry) = self.entries.remove(&address) {
            self.by_client.remove(&(entry.client, address));
            self.changed.remove(&address);
        }
    }

    /// Addresses on record for `client`.
    fn addresses_of(&self, client: &ClientKey) -> Vec<Ipv4Addr> {
        let from = (client.clone(), Ipv4Addr::UNSPECIFIED);
        let known = self.by_client.range(from..).take_while(|(key, _)| key == client);
        known.map(|(_, address)| *address).collect()
    }

    fn pick(&self, ask: &AddressRequest<'_>, now: Millis) -> Option<Ipv4Addr> {
        let open =
            |address: &Ipv4Addr| matches!(self.standing(ask, *address, now), Standing::Own | Standing::Free);
        let reserved = ask.subnet.reserved_for(ask.hardware);
        if let Some(address) = reserved.filter(open) {
            return Some(address);
        }
        let known = self.addresses_of(ask.client);
        if let Some(address) =
            known.into_iter().find(|address| self.standing(ask, *address, now) == Standing::Own)
        {
            return Some(address);
        }
        if let Some(address) = ask.requested.filter(open) {
            return Some(address);
        }
        self.never_used(ask, now).or_else(|| self.longest_unused(ask, now))
    }

    /// The first address without a record, starting at a place that depends on the client alone, so that a table lost
    /// between two boots leads to the same address again.
    fn never_used(&self, ask: &AddressRequest<'_>, now: Millis) -> Option<Ipv4Addr> {
        let total = ask.subnet.pools.iter().fold(0u64, |sum, pool| sum.saturating_add(pool.count()));
        let start = fingerprint(ask.client).checked_rem(total)?;
        (0..total).find_map(|step| {
            let mut index = start.checked_add(step)?.checked_rem(total)?;
            let address = ask.subnet.pools.iter().find_map(|pool| {
                let inside = pool.nth(index);
                index = index.saturating_sub(if inside.is_none() { pool.count() } else { 0 });
                inside
            })?;
            let free =
                !self.entries.contains_key(&address) && self.standing(ask, address, now) == Standing::Free;
            free.then_some(address)
        })
    }

    fn longest_unused(&self, ask: &AddressRequest<'_>, now: Millis) -> Option<Ipv4Addr> {
        let free = |entry: &&LeaseEntry| self.standing(ask, entry.address, now) == Standing::Free;
        self.entries.values().filter(free).min_by_key(|entry| entry.until).map(|entry| entry.address)
    }

    fn entry(ask: &AddressRequest<'_>, address: Ipv4Addr, state: LeaseState, until: Millis) -> LeaseEntry {
        LeaseEntry {
            address,
            client: ask.client.clone(),
            hardware: *ask.hardware,
            host_name: ask.host_name.map(str::to_owned),
            state,
            until,
        }
    }

    /// The entry of `address`, when it is `client`'s.
    fn own_entry(&self, client: &ClientKey, address: Ipv4Addr) -> Option<&LeaseEntry> {
        self.entries.get(&address).filter(|entry| entry.client == *client)
    }
}

impl LeaseStore for LeaseTable {
    fn reserve(&mut self, ask: &AddressRequest<'_>, now: Millis) -> Option<Ipv4Addr> {
        let address = self.pick(ask, now)?;
        let bound = self
            .own_entry(ask.client, address)
            .is_some_and(|entry| entry.state == LeaseState::Bound && entry.until > now);
        if !bound {
            self.put(Self::entry(ask, address, LeaseState::Offered, now.after(OFFER_HOLD)));
        }
        Some(address)
    }

    fn standing(&self, ask: &AddressRequest<'_>, address: Ipv4Addr, now: Millis) -> Standing {
        if !ask.subnet.may_have(ask.hardware, address) {
            return Standing::Outside;
        }
        match self.entries.get(&address) {
            None => Standing::Free,
            Some(entry) if entry.state == LeaseState::Declined && entry.until > now => Standing::Taken,
            Some(entry) if entry.client == *ask.client && entry.state != LeaseState::Declined => {
                Standing::Own
            }
            Some(entry) if entry.holds(now) => Standing::Taken,
            Some(_) => Standing::Free,
        }
    }

    fn commit(
        &mut self,
        ask: &AddressRequest<'_>,
        address: Ipv4Addr,
        lease: Duration,
        now: Millis,
    ) -> Result<(), Standing> {
        let standing = self.standing(ask, address, now);
        if !matches!(standing, Standing::Own | Standing::Free) {
            return Err(standing);
        }
        // A client has one address on a network: what it had there before is free again.
        for other in self.addresses_of(ask.client) {
            if other != address && ask.subnet.network.contains(other) {
                self.release(ask.client, other, now);
            }
        }
        self.put(Self::entry(ask, address, LeaseState::Bound, now.after(lease)));
        Ok(())
    }

    fn withdraw(&mut self, client: &ClientKey) {
        for address in self.addresses_of(client) {
            if self.entries.get(&address).is_some_and(|entry| entry.state == LeaseState::Offered) {
                self.remove(address);
            }
        }
    }

    fn release(&mut self, client: &ClientKey, address: Ipv4Addr, now: Millis) -> bool {
        let Some(entry) = self.own_entry(client, address).filter(|entry| entry.state != LeaseState::Declined)
        else {
            return false;
        };
        let released = LeaseEntry { state: LeaseState::Released, until: now, ..entry.clone() };
        self.put(released);
        true
    }

    fn decline(&mut self, client: &ClientKey, address: Ipv4Addr, now: Millis) -> bool {
        let Some(entry) = self.own_entry(client, address) else { return false };
        let declined =
            LeaseEntry { state: LeaseState::Declined, until: now.after(DECLINE_HOLD), ..entry.clone() };
        self.put(declined);
        true
    }
}

/// FNV-1a over the key: spreads neighbouring MACs over a pool; nothing depends on its strength.
fn fingerprint(client: &ClientKey) -> u64 {
    let bytes = match client {
        ClientKey::Hardware(address) => address.bytes(),
        ClientKey::Identifier(bytes) => bytes,
    };
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
