//! Requests through relays: which network is meant, where the answer goes, what is repeated (RFC 3046, 3011, 3527, 5107).

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::wire::{Full, Packet, SERVER, Seen, dhcp, proxy};
use gravure_netboot::dhcp::{
    AddressRange, Decided, Destination, IgnoredBecause, Network, RefusedBecause, Subnet,
};

const RELAY: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);

fn network(second: u8) -> Subnet {
    let network = Network::new([10, second, 0, 0].into(), 24).expect("24 is a prefix");
    Subnet::new(
        network,
        AddressRange { first: [10, second, 0, 100].into(), last: [10, second, 0, 150].into() },
    )
}

fn two_networks() -> Full {
    Full::with(vec![network(77), network(88), network(99)])
}

fn relayed(packet: Vec<u8>) -> Packet {
    let mut packet = Packet(packet).giaddr(RELAY);
    packet.0[3] = 1;
    packet
}

#[test]
fn the_relay_chooses_the_network_and_gets_the_answer_whatever_the_flag() {
    for flag in [false, true] {
        let mut full = two_networks();
        let packet = relayed(fixture!("ovmf-pxe-discover")).broadcast(flag);
        let outcome = full.take(&packet, dhcp(RELAY.octets()));
        let seen = Seen::of(&outcome);
        assert_eq!(seen.yiaddr().octets()[..3], [10, 88, 0]);
        assert_eq!(seen.giaddr(), RELAY);
        assert_eq!((seen.bytes[3], seen.bytes[10] & 0x80 != 0), (0, flag), "hops cleared, flag repeated");
        assert_eq!(
            outcome.reply.as_ref().unwrap().destination,
            Destination::Unicast(SocketAddrV4::new(RELAY, 67))
        );
        assert!(outcome.journal.to_string().contains("through relay 10.88.0.1: sent OFFER of 10.88.0."));
    }
}

#[test]
fn option_82_is_repeated_unchanged_as_the_last_option() {
    // Circuit and remote id with bytes of every kind, and a length that lies.
    for value in [&[1, 4, 0, 0xff, 0x52, 9, 2, 2, 0xff, 0][..], &[1, 200, 7], &[]] {
        let packet = relayed(fixture!("ovmf-pxe-discover")).option(82, value);
        for outcome in
            [two_networks().take(&packet, dhcp(RELAY.octets())), proxy(&packet, dhcp(RELAY.octets()))]
        {
            let seen = Seen::of(&outcome);
            assert_eq!(seen.options.last().unwrap(), &(82, value.to_vec()));
        }
    }
}

#[test]
fn link_selection_beats_subnet_selection_beats_the_relays_address() {
    let plain = relayed(fixture!("ovmf-pxe-discover"));
    let by_option = plain.clone().option(118, &[10, 99, 0, 0]);
    let by_link = by_option.clone().option(82, &[1, 1, 9, 5, 4, 10, 77, 0, 0]);
    for (packet, second) in [(plain, 88), (by_option.clone(), 99), (by_link, 77)] {
        let seen = Seen::of(&two_networks().take(&packet, dhcp(RELAY.octets())));
        assert_eq!(seen.yiaddr().octets()[..3], [10, second, 0]);
    }
    let seen = Seen::of(&two_networks().take(&by_option, dhcp(RELAY.octets())));
    assert_eq!(seen.get(118).unwrap(), [10, 99, 0, 0], "RFC 3011: repeated");
}

#[test]
fn a_relay_may_stand_in_as_the_server() {
    let packet = relayed(fixture!("ovmf-pxe-discover")).option(82, &[11, 4, 10, 88, 0, 1]);
    let mut full = two_networks();
    let seen = Seen::of(&full.take(&packet, dhcp(RELAY.octets())));
    assert_eq!(seen.get(54).unwrap(), RELAY.octets());
    assert_eq!(seen.siaddr(), SERVER, "the files still come from us");
    let request = packet.kind(3).option(50, &seen.yiaddr().octets()).option(54, &RELAY.octets());
    assert_eq!(Seen::of(&full.take(&request, dhcp(RELAY.octets()))).kind(), 5);
}

#[test]
fn refusals_pass_the_relay_with_the_broadcast_flag() {
    let packet = relayed(fixture!("ovmf-pxe-request")).broadcast(false).option(54, &SERVER.octets());
    let outcome = two_networks().take(&packet, dhcp(RELAY.octets()));
    let Decided::Refused { why, .. } = outcome.journal.decided else { panic!("{}", outcome.journal) };
    assert_eq!(why, RefusedBecause::WrongNetwork);
    let seen = Seen::of(&outcome);
    assert_eq!((seen.kind(), seen.bytes[10]), (6, 0x80));
    assert_eq!(outcome.reply.unwrap().destination, Destination::Unicast(SocketAddrV4::new(RELAY, 67)));
}

#[test]
fn renewals_from_behind_a_relay_arrive_without_it() {
    let mut full = two_networks();
    let discover = relayed(fixture!("udhcpc-discover"));
    let address = full.lease(&discover);
    assert_eq!(address.octets()[..3], [10, 88, 0]);
    let renew = Packet(fixture!("udhcpc-request")).without(50).without(54).ciaddr(address);
    let outcome = full.take(&renew, dhcp(address.octets()));
    assert_eq!(Seen::of(&outcome).yiaddr(), address);
    assert_eq!(outcome.reply.unwrap().destination, Destination::Unicast(SocketAddrV4::new(address, 68)));
}

#[test]
fn links_without_a_network_are_named() {
    let packet = relayed(fixture!("ovmf-pxe-discover")).giaddr([172, 16, 0, 1]);
    let outcome = two_networks().take(&packet, dhcp([172, 16, 0, 1]));
    let link = Ipv4Addr::new(172, 16, 0, 1);
    assert_eq!(outcome.journal.decided, Decided::Ignored(IgnoredBecause::NoNetwork(link)));
    assert_eq!(outcome.reply, None);
}
