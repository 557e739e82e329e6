//! The promise of address service under any traffic: no address is granted to two machines at once.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::wire::{Full, Packet, SERVER, Seen, dhcp};
use gravure_netboot::Millis;
use gravure_netboot::dhcp::{HardwareAddress, LeaseEntry, LeaseState, LeaseTable, Reservation};
use proptest::prelude::*;

/// What some client does next.
#[derive(Debug, Clone, Copy)]
enum Act {
    Discover,
    /// Takes the last offer, or asks for any address of the pool.
    Select(Option<u8>),
    Reboot(u8),
    Renew,
    Release,
    Decline,
    OtherServer,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Discover),
        3 => Just(Act::Select(None)),
        1 => (98u8..108).prop_map(|last| Act::Select(Some(last))),
        1 => (98u8..108).prop_map(Act::Reboot),
        2 => Just(Act::Renew),
        1 => Just(Act::Release),
        1 => Just(Act::Decline),
        1 => Just(Act::OtherServer),
    ]
}

/// Grants as the clients believe them: address to holder and end.
#[derive(Default)]
struct Ledger {
    granted: BTreeMap<Ipv4Addr, (u8, Millis)>,
    offered: BTreeMap<u8, Ipv4Addr>,
}

impl Ledger {
    fn held_by(&self, client: u8, now: Millis) -> Option<Ipv4Addr> {
        let mine = self.granted.iter().find(|(_, (holder, until))| *holder == client && *until > now);
        mine.map(|(address, _)| *address)
    }

    fn grant(&mut self, address: Ipv4Addr, client: u8, until: Millis, now: Millis) {
        if let Some((holder, end)) = self.granted.get(&address) {
            assert!(
                *holder == client || *end <= now,
                "{address} is {holder}'s until {end}, granted to {client} at {now}"
            );
        }
        // A client has one address at a time.
        self.granted.retain(|_, (holder, _)| *holder != client);
        self.granted.insert(address, (client, until));
    }
}

fn packet(full_act: Act, client: u8, ledger: &Ledger, now: Millis) -> Option<Packet> {
    let discover = Packet(fixture!("dhclient-discover")).mac(client);
    let held = ledger.held_by(client, now);
    let address = |last: u8| Ipv4Addr::new(10, 77, 0, last).octets();
    Some(match full_act {
        Act::Discover => discover,
        Act::Select(wish) => {
            let wanted = wish.map(address).or(ledger.offered.get(&client).map(Ipv4Addr::octets))?;
            discover.kind(3).option(50, &wanted).option(54, &SERVER.octets())
        }
        Act::Reboot(last) => discover.kind(3).option(50, &address(last)),
        Act::Renew => discover.kind(3).ciaddr(held?),
        Act::Release => discover.kind(7).ciaddr(held?),
        Act::Decline => discover.kind(4).option(50, &held?.octets()).option(54, &SERVER.octets()),
        Act::OtherServer => discover.kind(3).option(50, &[10, 77, 0, 9]).option(54, &[10, 77, 0, 2]),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_address_is_granted_twice(
        acts in prop::collection::vec((act(), 1u8..9, 0u64..900_000, any::<prop::sample::Index>()), 1..150),
        sole: bool,
        reserved: bool,
    ) {
        let mut full = if sole { Full::new().sole() } else { Full::new() };
        full.subnet().pools = vec!["10.77.0.100-10.77.0.102".parse().unwrap(), "10.77.0.104-10.77.0.105".parse().unwrap()];
        if reserved {
            let hardware = HardwareAddress::ethernet([0x52, 0x54, 0, 0xaa, 0, 1]);
            full.subnet().reservations = vec![Reservation { hardware, address: [10, 77, 0, 101].into() }];
        }
        let mut ledger = Ledger::default();
        for (act, client, pause, restart) in acts {
            full.now = full.now.after(Duration::from_millis(pause));
            if restart.index(20) == 0 {
                // The server restarts; its offers are gone, its leases are not.
                let bound = |entry: &&LeaseEntry| entry.state != LeaseState::Offered;
                let stored: Vec<_> = full.leases.entries().filter(bound).cloned().collect();
                full.leases = LeaseTable::import(stored);
            }
            let Some(packet) = packet(act, client, &ledger, full.now) else { continue };
            if matches!(act, Act::Release | Act::Decline) {
                let held = ledger.held_by(client, full.now);
                ledger.granted.retain(|address, _| Some(*address) != held);
            }
            let outcome = full.take(&packet, dhcp([0, 0, 0, 0]));
            if outcome.reply.is_none() {
                continue;
            }
            let seen = Seen::of(&outcome);
            let given = seen.yiaddr();
            match seen.kind() {
                2 => {
                    ledger.offered.insert(client, given);
                }
                5 => {
                    let seconds = u32::from_be_bytes(seen.get(51).unwrap().try_into().unwrap());
                    ledger.grant(given, client, full.now.after(Duration::from_secs(seconds.into())), full.now);
                }
                _ => ledger.granted.retain(|_, (holder, _)| *holder != client),
            }
            if matches!(seen.kind(), 2 | 5) {
                let allowed = full.subnet().pools.iter().any(|pool| pool.contains(given));
                prop_assert!(allowed, "{given} is not in the pools");
                if reserved {
                    prop_assert_eq!(given == Ipv4Addr::new(10, 77, 0, 101), client == 1 && given.octets()[3] == 101);
                }
            }
        }
    }
}
