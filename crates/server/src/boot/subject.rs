//! Which machine a boot loader's request is about, and whether that is to be believed.
//!
//! Loaders name their machine in the query, and anybody can name any. Where this server sees the DHCP of a network, as its server
//! or as the proxy beside it, it knows who has which address there, and what does not fit that is nobody's request: it gets the
//! menu that anybody gets, no token, no boot that was chosen once. In other networks (`dhcp = "off"`, machines behind relays
//! that do not ask us) the name is all there is. What this proves and what not is in `pxe/TRUST.md`.

use std::net::{IpAddr, Ipv6Addr};

use gravure_bootd::{Ask, Presence};
use gravure_model::identity::{Mac, MachineIdentity};
use gravure_netboot::dhcp::Network;

/// Networks in which every machine that boots got its address before our eyes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched {
    /// With our DHCP or ProxyDHCP.
    pub(crate) networks: Vec<Network>,
    /// Addresses of ours with DHCPv6, for their first 64 bits.
    pub(crate) prefixes: Vec<Ipv6Addr>,
}

impl Watched {
    /// Whether DHCP must have seen who is at `peer`.
    fn covers(&self, peer: IpAddr) -> bool {
        match peer.to_canonical() {
            IpAddr::V4(peer) => self.networks.iter().any(|network| network.contains(peer)),
            IpAddr::V6(peer) => {
                let prefix = |address: &Ipv6Addr| address.to_bits() >> 64;
                !self.prefixes.is_empty()
                    && (peer.is_unicast_link_local()
                        || self.prefixes.iter().any(|own| prefix(own) == prefix(&peer)))
            }
        }
    }
}

/// Whose request it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Subject {
    /// This machine's. `seen`: DHCP saw it at that address.
    Machine { identity: MachineIdentity, seen: bool },
    /// It names a machine, and its address says that it is not that one; why, in words.
    Stranger { named: Mac, why: String },
    /// It names none, and its address is not known.
    Nobody,
}

/// Who the request says it is for, held against what DHCP saw at the address it came from.
pub(super) fn of(ask: &Ask, presence: &Presence, watched: &Watched) -> Subject {
    let sighting = presence.who(ask.peer);
    let named = ask.field("mac").and_then(|text| text.parse::<Mac>().ok());
    let watched = watched.covers(ask.peer);
    match (&sighting, named) {
        (Some(seen), Some(named)) if seen.mac != named.0 => {
            let why = format!("that is the address of {}", Mac(seen.mac));
            return Subject::Stranger { named, why };
        }
        (None, Some(named)) if watched => {
            let why = "DHCP has not seen any machine take that address".to_owned();
            return Subject::Stranger { named, why };
        }
        _ => {}
    }
    let mac = named.or(sighting.map(|seen| Mac(seen.mac)));
    let told = sighting.and_then(|seen| seen.uuid).map(|uuid| uuid.to_string());
    let asked = ask.field("uuid").map(str::to_owned).filter(|uuid| is_uuid(uuid));
    // Where DHCP looks on, the UUID is the one told there: a machine's own address with another's UUID fits as little.
    let uuid = if watched { told } else { asked.or(told) };
    let identity = MachineIdentity::new(uuid.as_deref(), None, mac);
    if identity.is_empty() {
        return Subject::Nobody;
    }
    Subject::Machine { identity, seen: watched }
}

fn is_uuid(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok() && text.len() == 36
}

/// Query fields that name the machine again.
pub(super) fn query(identity: &MachineIdentity) -> String {
    let mac = identity.macs.first().map(Mac::to_string).unwrap_or_default();
    format!("mac={mac}&uuid={}", identity.uuid.as_deref().unwrap_or_default())
}

/// The strongest name, which tokens are kept under.
pub(super) fn key(identity: &MachineIdentity) -> String {
    match (&identity.uuid, identity.macs.first()) {
        (Some(uuid), _) => format!("uuid {uuid}"),
        (None, Some(mac)) => format!("mac {mac}"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use gravure_bootd::{Asking, Seen, Via};
    use gravure_netboot::dhcp::MachineUuid;
    use gravure_netboot::names::normalise_name;

    use super::*;

    const OWN: &str = "52:54:00:00:00:01";
    const OTHER: &str = "52:54:00:00:00:02";
    const UUID: &str = "12345678-0000-0000-0000-000000000001";

    fn ask(peer: &str, query: &[(&str, &str)]) -> Ask {
        Ask {
            name: normalise_name(b"boot/grub.cfg").unwrap(),
            query: query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            peer: peer.parse().unwrap(),
            local: "10.77.0.1:80".parse().unwrap(),
            via: Via::Http,
            asking: Asking::Content,
            afresh: false,
        }
    }

    #[test]
    fn where_dhcp_looks_on_a_name_must_fit_the_address() {
        let watched =
            Watched { networks: vec![Network::new([10, 77, 0, 1].into(), 24).unwrap()], prefixes: vec![] };
        let nobody = Presence::default();
        let seen = |uuid| {
            let presence = Presence::default();
            let mac = OWN.parse::<Mac>().unwrap().0;
            presence.saw("10.77.0.9".parse().unwrap(), Seen { mac, uuid });
            presence
        };
        let anonymous = seen(None);
        let named = seen(MachineUuid::from_wire([7; 16]));
        let told = MachineUuid::from_wire([7; 16]).unwrap().to_string();
        let off = Watched::default();
        let of_own = [("mac", OWN), ("uuid", UUID)];
        // Presence, networks that are watched, address, query, and what comes of it: MAC, UUID, seen.
        type Case<'a> = (
            &'a str,
            &'a Presence,
            &'a Watched,
            &'a str,
            &'a [(&'a str, &'a str)],
            Option<(&'a str, Option<&'a str>, bool)>,
        );
        let cases: [Case<'_>; 9] = [
            ("a static address, any name", &nobody, &watched, "10.77.0.9", &of_own, None),
            ("another machine's name", &anonymous, &watched, "10.77.0.9", &[("mac", OTHER)], None),
            ("its own name", &anonymous, &watched, "10.77.0.9", &of_own, Some((OWN, None, true))),
            (
                "its own name, and what DHCP was told",
                &named,
                &watched,
                "10.77.0.9",
                &of_own,
                Some((OWN, Some(&told), true)),
            ),
            ("no name at all", &named, &watched, "10.77.0.9", &[], Some((OWN, Some(&told), true))),
            ("its own name from elsewhere", &anonymous, &watched, "10.77.0.10", &of_own, None),
            (
                "behind a relay that does not ask us",
                &nobody,
                &watched,
                "10.78.0.9",
                &of_own,
                Some((OWN, Some(UUID), false)),
            ),
            ("no DHCP here", &nobody, &off, "10.77.0.9", &of_own, Some((OWN, Some(UUID), false))),
            ("no DHCP here, seen before", &anonymous, &off, "10.77.0.9", &[("mac", OTHER)], None),
        ];
        for (what, presence, watched, peer, query, expected) in cases {
            let found = of(&ask(peer, query), presence, watched);
            let found = match &found {
                Subject::Machine { identity, seen } => {
                    Some((identity.macs[0].to_string(), identity.uuid.as_deref(), *seen))
                }
                Subject::Stranger { .. } => None,
                Subject::Nobody => panic!("{what}"),
            };
            let expected = expected.map(|(mac, uuid, seen)| (mac.to_owned(), uuid, seen));
            assert_eq!(found, expected, "{what}");
        }
        assert_eq!(of(&ask("10.77.0.10", &[]), &named, &watched), Subject::Nobody);
    }

    #[test]
    fn the_same_over_ipv6() {
        let watched = Watched { networks: vec![], prefixes: vec!["fd77::1".parse().unwrap()] };
        let presence = Presence::default();
        let mac = OWN.parse::<Mac>().unwrap().0;
        presence.saw("fd77::67:5254:0:1".parse().unwrap(), Seen { mac, uuid: None });
        let cases = [
            ("fd77::67:5254:0:1", true),
            ("fd77::9", false),
            ("fe80::9", false),
            ("fd78::9", true),
            ("10.77.0.9", true),
        ];
        for (peer, expected) in cases {
            let found = of(&ask(peer, &[("mac", OWN)]), &presence, &watched);
            assert_eq!(matches!(found, Subject::Machine { .. }), expected, "{peer}: {found:?}");
        }
    }
}
