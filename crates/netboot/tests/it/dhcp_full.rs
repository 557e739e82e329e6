//! Full DHCP: the states of RFC 2131 section 4.3 with recorded clients, and the boot file along with the address.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::wire::{FOREIGN, Full, Packet, SERVER, Seen, dhcp, port_4011};
use gravure_netboot::dhcp::{
    Decided, Destination, HardwareAddress, Identify, IgnoredBecause, LeaseChange, LeaseState, LeaseTable,
    Outcome, RefusedBecause, Reservation,
};

const NOBODY: [u8; 4] = [0, 0, 0, 0];

fn ignored(outcome: &Outcome) -> &IgnoredBecause {
    assert_eq!(outcome.reply, None, "{}", outcome.journal);
    let Decided::Ignored(why) = &outcome.journal.decided else { panic!("{}", outcome.journal) };
    why
}

fn refused(outcome: &Outcome) -> RefusedBecause {
    let Decided::Refused { why, .. } = outcome.journal.decided else { panic!("{}", outcome.journal) };
    assert_eq!(Seen::of(outcome).kind(), 6);
    why
}

/// A client back with an address it had before: INIT-REBOOT.
fn reboot(packet: Vec<u8>, address: impl Into<Ipv4Addr>) -> Packet {
    Packet(packet).kind(3).without(54).option(50, &address.into().octets())
}

/// A client that uses an address and wants to keep it: RENEWING.
fn renew(packet: Vec<u8>, address: impl Into<Ipv4Addr>) -> Packet {
    Packet(packet).kind(3).without(54).without(50).ciaddr(address)
}

#[test]
fn ovmf_gets_address_and_file_without_a_second_server_being_claimed() {
    let mut full = Full::new();
    let outcome = full.take(&Packet(fixture!("ovmf-pxe-discover")), dhcp(NOBODY));
    let seen = Seen::of(&outcome);
    assert_eq!(seen.codes(), [53, 54, 97, 51, 58, 59, 1, 67, 3, 6, 28, 15, 66]);
    assert_eq!(seen.get(51).unwrap(), 3600u32.to_be_bytes());
    assert_eq!(seen.get(58).unwrap(), 1800u32.to_be_bytes());
    assert_eq!(seen.get(59).unwrap(), 3150u32.to_be_bytes());
    assert_eq!(seen.get(1).unwrap(), [255, 255, 255, 0]);
    assert_eq!(seen.get(3).unwrap(), [10, 77, 0, 254]);
    assert_eq!(seen.get(6).unwrap(), [10, 77, 0, 1, 9, 9, 9, 9]);
    assert_eq!(seen.get(28).unwrap(), [10, 77, 0, 255]);
    assert_eq!(seen.get(15).unwrap(), b"lab.example");
    assert_eq!(seen.get(66).unwrap(), b"10.77.0.1");
    assert_eq!((seen.siaddr(), seen.file().as_str()), (SERVER, "shimx64.efi"));
    let address = seen.yiaddr();
    assert!(full.subnet().pools[0].contains(address));
    assert_eq!(outcome.reply.as_ref().unwrap().destination, Destination::Broadcast);
    assert_eq!(
        outcome.journal.to_string(),
        format!(
            "saw DISCOVER from PXEClient arch 7 (UEFI x64) 52:54:00:aa:00:02: sent OFFER of {address} with shimx64.efi \
             from 10.77.0.1 because of rule \"test\""
        )
    );
}

#[test]
fn http_boot_gets_its_class_back_and_ipxe_need_not_wait_for_proxies() {
    let mut full = Full::new();
    let seen = Seen::of(&full.take(&Packet(fixture!("ovmf-http-discover")), dhcp(NOBODY)));
    assert_eq!((seen.get(60).unwrap(), seen.get(43)), (&b"HTTPClient"[..], None));
    assert_eq!(seen.get(175), None);

    let outcome = full.take(&Packet(fixture!("ipxe-bios-discover")), dhcp(NOBODY));
    let seen = Seen::of(&outcome);
    assert_eq!(seen.get(175).unwrap(), [176, 1, 1]);
    assert_eq!(seen.get(60), None);
    assert_eq!(seen.get(61).unwrap(), [1, 0x52, 0x54, 0, 0xaa, 0, 1]);
    // No broadcast flag, no address yet: ARP would fail.
    let hardware = HardwareAddress::ethernet([0x52, 0x54, 0, 0xaa, 0, 1]);
    let before_arp = Destination::BeforeArp { hardware, address: seen.yiaddr() };
    assert_eq!(outcome.reply.unwrap().destination, before_arp);
}

#[test]
fn ordinary_clients_get_an_address_and_no_boot_file() {
    let mut full = Full::new();
    let outcome = full.take(&Packet(fixture!("udhcpc-discover")), dhcp(NOBODY));
    let seen = Seen::of(&outcome);
    assert_eq!(seen.codes(), [53, 54, 61, 51, 58, 59, 1, 3, 6, 28, 15]);
    assert_eq!((seen.file().as_str(), seen.siaddr()), ("", Ipv4Addr::UNSPECIFIED));
    assert!(outcome.journal.to_string().ends_with(&format!("sent OFFER of {}", seen.yiaddr())));
    let named = full.take(&Packet(fixture!("dhclient-discover")), dhcp(NOBODY));
    assert_eq!(named.journal.saw.unwrap().client.host_name.as_deref(), Some("vm"));
}

#[test]
fn one_machine_keeps_one_address_through_all_its_programs() {
    let mut full = Full::new();
    let address = full.lease(&Packet(fixture!("udhcpc-discover")));
    // The same MAC, now without client identifier, later with another one.
    assert_eq!(full.lease(&Packet(fixture!("dhclient-discover"))), address);
    assert_eq!(full.lease(&Packet(fixture!("dhclient-discover")).option(61, &[255, 1, 2, 3, 4])), address);

    let mut full = Full::new();
    full.config.identify = Identify::ClientIdentifier;
    let address = full.lease(&Packet(fixture!("udhcpc-discover")));
    assert_ne!(full.lease(&Packet(fixture!("dhclient-discover"))), address);
    assert_eq!(full.lease(&Packet(fixture!("udhcpc-discover"))), address);
}

#[test]
fn selecting_another_server_frees_what_was_offered() {
    let mut full = Full::new();
    let discover = Packet(fixture!("ovmf-pxe-discover"));
    let offered = Seen::of(&full.take(&discover, dhcp(NOBODY))).yiaddr();
    assert_eq!(full.leases.entries().count(), 1);
    let request = Packet(fixture!("ovmf-pxe-request")).option(54, &FOREIGN.octets());
    assert_eq!(ignored(&full.take(&request, dhcp(NOBODY))), &IgnoredBecause::OtherServerChosen(FOREIGN));
    assert_eq!(full.leases.entries().count(), 0, "{offered}");
}

#[test]
fn selecting_us_after_a_restart_is_granted_when_the_address_is_free() {
    let mut full = Full::new();
    let outcome = full.take(&Packet(fixture!("ovmf-pxe-request")), dhcp(NOBODY));
    let seen = Seen::of(&outcome);
    assert_eq!((seen.kind(), seen.yiaddr()), (5, [10, 77, 0, 101].into()));
    let sighting = outcome.sighting.unwrap();
    assert_eq!(sighting.address, Ipv4Addr::new(10, 77, 0, 101));
    assert_eq!(sighting.uuid.unwrap().to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    // Not when somebody else has it, nor when it is not to be had.
    let other = Packet(fixture!("ovmf-pxe-request")).mac(9);
    let outcome = full.take(&other, dhcp(NOBODY));
    assert_eq!(refused(&outcome), RefusedBecause::Taken);
    assert_eq!(Seen::of(&outcome).codes(), [53, 54, 56]);
    assert_eq!(outcome.reply.unwrap().destination, Destination::Broadcast);
    for (address, why) in
        [([10, 77, 0, 5], RefusedBecause::Outside), ([10, 9, 0, 5], RefusedBecause::WrongNetwork)]
    {
        assert_eq!(refused(&full.take(&other.clone().option(50, &address), dhcp(NOBODY))), why);
    }
}

#[test]
fn rebooting_clients_keep_what_is_theirs_and_strangers_depend_on_our_authority() {
    let mut full = Full::new();
    let address = full.lease(&Packet(fixture!("udhcpc-discover")));
    let ack = Seen::of(&full.take(&reboot(fixture!("udhcpc-request"), address), dhcp(NOBODY)));
    assert_eq!((ack.kind(), ack.yiaddr()), (5, address));

    let stranger = |full: &mut Full, address: [u8; 4]| {
        full.take(&reboot(fixture!("ovmf-pxe-request"), address), dhcp(NOBODY))
    };
    assert_eq!(refused(&stranger(&mut full, address.octets())), RefusedBecause::Taken);
    for unknown in [[10, 77, 0, 149], [10, 77, 0, 5], [192, 168, 7, 7]] {
        assert_eq!(ignored(&stranger(&mut full, unknown)), &IgnoredBecause::UnknownLease, "{unknown:?}");
    }
    let mut sole = Full::new().sole();
    assert_eq!(Seen::of(&stranger(&mut sole, [10, 77, 0, 149])).yiaddr(), Ipv4Addr::new(10, 77, 0, 149));
    assert_eq!(refused(&stranger(&mut sole, [10, 77, 0, 5])), RefusedBecause::Outside);
    assert_eq!(refused(&stranger(&mut sole, [192, 168, 7, 7])), RefusedBecause::WrongNetwork);
}

#[test]
fn renewals_extend_the_lease_and_go_back_by_unicast() {
    let mut full = Full::new();
    let address = full.lease(&Packet(fixture!("udhcpc-discover")));
    let granted = full.leases.holder(address, full.now).unwrap().until;
    full.now = full.now.after(Duration::from_secs(1800));
    let outcome = full.take(&renew(fixture!("udhcpc-request"), address), dhcp(address.octets()));
    let seen = Seen::of(&outcome);
    assert_eq!((seen.kind(), seen.yiaddr(), seen.ciaddr()), (5, address, address));
    assert_eq!(outcome.reply.unwrap().destination, Destination::Unicast(SocketAddrV4::new(address, 68)));
    let renewed = full.leases.holder(address, full.now).unwrap().until;
    assert_eq!(renewed.since(granted), Duration::from_secs(1800));
    // Long expired, but nobody else's since: still its own.
    full.now = full.now.after(Duration::from_secs(100_000));
    assert_eq!(full.leases.holder(address, full.now), None);
    assert_eq!(
        Seen::of(&full.take(&renew(fixture!("udhcpc-request"), address), dhcp(address.octets()))).kind(),
        5
    );
}

#[test]
fn a_client_may_ask_for_a_shorter_lease_but_not_for_a_longer_one() {
    for (asked, granted) in [(7200u32, 3600u32), (600, 600), (1, 60), (u32::MAX, 3600)] {
        let packet = Packet(fixture!("udhcpc-discover")).option(51, &asked.to_be_bytes());
        let seen = Seen::of(&Full::new().take(&packet, dhcp(NOBODY)));
        assert_eq!(seen.get(51).unwrap(), granted.to_be_bytes(), "{asked}");
    }
}

#[test]
fn inform_gets_parameters_and_no_lease() {
    let mut full = Full::new();
    let inform = Packet(fixture!("dhclient-discover")).kind(8).ciaddr([10, 77, 0, 20]);
    let outcome = full.take(&inform, dhcp([10, 77, 0, 20]));
    let seen = Seen::of(&outcome);
    assert_eq!(seen.codes(), [53, 54, 1, 3, 6, 28, 15]);
    assert_eq!((seen.kind(), seen.yiaddr()), (5, Ipv4Addr::UNSPECIFIED));
    assert_eq!(
        outcome.reply.unwrap().destination,
        Destination::Unicast(SocketAddrV4::new([10, 77, 0, 20].into(), 68))
    );
    assert_eq!(full.leases.entries().count(), 0);
}

#[test]
fn release_and_decline_count_only_from_the_holder() {
    let mut full = Full::new();
    let address = full.lease(&Packet(fixture!("udhcpc-discover")));
    let release = Packet(fixture!("udhcpc-request")).kind(7).ciaddr(address);
    let stranger = release.clone().mac(9);
    assert_eq!(ignored(&full.take(&stranger, dhcp(address.octets()))), &IgnoredBecause::UnknownLease);
    let outcome = full.take(&release, dhcp(address.octets()));
    assert_eq!(outcome.journal.decided, Decided::Noted(LeaseChange::Released(address)));
    assert_eq!(full.leases.entries().next().unwrap().state, LeaseState::Released);

    assert_eq!(full.lease(&Packet(fixture!("udhcpc-discover"))), address);
    let decline = Packet(fixture!("udhcpc-request")).kind(4).option(50, &address.octets());
    assert_eq!(ignored(&full.take(&decline.clone().mac(9), dhcp(NOBODY))), &IgnoredBecause::UnknownLease);
    assert_eq!(ignored(&full.take(&decline.clone().without(50), dhcp(NOBODY))), &IgnoredBecause::NoAddress);
    let outcome = full.take(&decline, dhcp(NOBODY));
    assert_eq!(outcome.journal.decided, Decided::Noted(LeaseChange::Declined(address)));
    assert!(outcome.journal.to_string().ends_with("is used by somebody else; set aside"));
    assert_ne!(full.lease(&Packet(fixture!("udhcpc-discover"))), address);
}

#[test]
fn reservations_hold_and_a_full_pool_is_reported() {
    let mut full = Full::new();
    let hardware = HardwareAddress::ethernet([0x52, 0x54, 0, 0xaa, 0, 7]);
    full.subnet().reservations.push(Reservation { hardware, address: [10, 77, 0, 20].into() });
    full.subnet().pools = vec!["10.77.0.100-10.77.0.101".parse().unwrap()];
    assert_eq!(full.lease(&Packet(fixture!("udhcpc-discover"))), Ipv4Addr::new(10, 77, 0, 20));
    for last in 1..=2 {
        full.lease(&Packet(fixture!("dhclient-discover")).mac(last));
    }
    let outcome = full.take(&Packet(fixture!("dhclient-discover")).mac(3), dhcp(NOBODY));
    assert_eq!(ignored(&outcome), &IgnoredBecause::PoolExhausted);
}

#[test]
fn leases_survive_a_restart_through_their_entries() {
    let mut full = Full::new();
    let address = full.lease(&Packet(fixture!("udhcpc-discover")));
    full.leases = LeaseTable::import(full.leases.take_changes());
    let outcome = full.take(&reboot(fixture!("udhcpc-request"), address), dhcp(NOBODY));
    assert_eq!(Seen::of(&outcome).yiaddr(), address);
    let other = full.take(&reboot(fixture!("ovmf-pxe-request"), address), dhcp(NOBODY));
    assert_eq!(refused(&other), RefusedBecause::Taken);
}

#[test]
fn port_4011_is_served_beside_full_dhcp() {
    let mut full = Full::new();
    let outcome = full.take(&Packet(fixture!("ovmf-pxe-request-4011")), port_4011([10, 77, 0, 102], 4011));
    let seen = Seen::of(&outcome);
    assert_eq!((seen.kind(), seen.file().as_str(), seen.yiaddr()), (5, "shimx64.efi", Ipv4Addr::UNSPECIFIED));
    assert_eq!(full.leases.entries().count(), 0);
}

#[test]
fn replies_keep_within_the_clients_limit() {
    let mut full = Full::new();
    full.subnet().dns = vec![[9, 9, 9, 9].into(); 8];
    full.subnet().ntp = vec![[9, 9, 9, 9].into(); 8];
    full.subnet().routers = vec![[10, 77, 0, 254].into(); 8];
    full.subnet().domain = Some("d".repeat(200));
    // 576 bytes of IP datagram, 548 of payload: the domain name does not fit any more, the shorter NTP list does.
    let packet = Packet(fixture!("udhcpc-discover")).option(61, &[7; 50]);
    let outcome = full.take(&packet, dhcp(NOBODY));
    let seen = Seen::of(&outcome);
    assert!(seen.bytes.len() <= 548, "{}", seen.bytes.len());
    assert_eq!(seen.codes(), [53, 54, 61, 51, 58, 59, 1, 3, 6, 28, 42]);
    assert!(outcome.journal.to_string().ends_with("; no room for options [15]"), "{}", outcome.journal);
    // With more room everything is sent.
    let seen = Seen::of(&full.take(&packet.clone().option(57, &1472u16.to_be_bytes()), dhcp(NOBODY)));
    assert_eq!(seen.get(15).unwrap(), "d".repeat(200).as_bytes());
    // What cannot be left out does not fit: no reply rather than a wrong one.
    let relay = packet.option(61, &[7; 250]).option(82, &[7; 250]);
    assert_eq!(ignored(&full.take(&relay, dhcp(NOBODY))), &IgnoredBecause::ReplyTooLarge(548));
}
