//! ProxyDHCP against recorded firmware: what is offered in one phase and in two, what is left alone, and why.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::wire::{Always, Chain, FOREIGN, Packet, SERVER, Seen, dhcp, offer, port_4011, proxy, proxy_with};
use gravure_netboot::dhcp::{
    BootDecision, BootOffer, Decided, Destination, DhcpConfig, FileIn, IgnoredBecause, NoBoot, ProxyStyle,
    Quirks, Stage,
};

const NOBODY: [u8; 4] = [0, 0, 0, 0];
const UUID_OPTION: [u8; 17] =
    [0, 0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];

fn ignored(outcome: &gravure_netboot::dhcp::Outcome) -> &IgnoredBecause {
    assert_eq!(outcome.reply, None, "{}", outcome.journal);
    let Decided::Ignored(why) = &outcome.journal.decided else { panic!("{}", outcome.journal) };
    why
}

#[test]
fn ovmf_gets_everything_in_one_phase() {
    let outcome = proxy(&Packet(fixture!("ovmf-pxe-discover")), dhcp(NOBODY));
    let seen = Seen::of(&outcome);
    assert_eq!(seen.codes(), [53, 54, 97, 60, 43, 67, 66]);
    assert_eq!(seen.kind(), 2);
    assert_eq!(seen.get(54).unwrap(), SERVER.octets());
    assert_eq!(seen.get(60).unwrap(), b"PXEClient");
    assert_eq!(seen.get(43).unwrap(), [6, 1, 8, 255]);
    assert_eq!(seen.get(97).unwrap(), UUID_OPTION);
    assert_eq!(seen.get(67).unwrap(), b"shimx64.efi\0");
    assert_eq!((seen.yiaddr(), seen.siaddr()), (Ipv4Addr::UNSPECIFIED, SERVER));
    assert_eq!(seen.file(), "shimx64.efi");
    assert_eq!(seen.bytes.len().max(300), seen.bytes.len());
    // Transaction, hardware and flags are the client's.
    let request = fixture!("ovmf-pxe-discover");
    assert_eq!((seen.bytes[0], &seen.bytes[1..3], &seen.bytes[4..8]), (2, &request[1..3], &request[4..8]));
    assert_eq!((&seen.bytes[10..12], &seen.bytes[28..44]), (&request[10..12], &request[28..44]));
    assert_eq!(outcome.reply.unwrap().destination, Destination::Broadcast);
    assert_eq!(
        outcome.journal.to_string(),
        "saw DISCOVER from PXEClient arch 7 (UEFI x64) 52:54:00:aa:00:02: sent OFFER with shimx64.efi from 10.77.0.1 \
         because of rule \"test\""
    );
    assert_eq!(outcome.restarted.unwrap().to_string(), "52:54:00:aa:00:02");
}

#[test]
fn two_phases_keep_the_file_for_port_4011() {
    let config = DhcpConfig { proxy_style: ProxyStyle::TwoPhase, ..DhcpConfig::proxy(SERVER) };
    let outcome = proxy_with(&config, &Chain, &Packet(fixture!("ovmf-pxe-discover")), dhcp(NOBODY));
    let seen = Seen::of(&outcome);
    assert_eq!(seen.codes(), [53, 54, 97, 60]);
    assert_eq!(seen.file(), "");
    assert!(outcome.journal.to_string().ends_with(", to be named on port 4011"), "{}", outcome.journal);

    let request = Packet(fixture!("ovmf-pxe-request-4011"));
    let outcome = proxy_with(&config, &Chain, &request, port_4011([10, 77, 0, 102], 4011));
    let seen = Seen::of(&outcome);
    assert_eq!((seen.kind(), seen.file().as_str()), (5, "shimx64.efi"));
    assert_eq!(
        (seen.ciaddr(), seen.yiaddr(), seen.siaddr()),
        ([10, 77, 0, 102].into(), Ipv4Addr::UNSPECIFIED, SERVER)
    );
    assert_eq!((seen.get(60).unwrap(), seen.get(97).unwrap()), (&b"PXEClient"[..], &UUID_OPTION[..]));
    assert_eq!(seen.get(43), None);
    let to = Destination::Unicast(SocketAddrV4::new([10, 77, 0, 102].into(), 4011));
    assert_eq!(outcome.reply.unwrap().destination, to);
    assert_eq!(outcome.sighting.unwrap().address, Ipv4Addr::new(10, 77, 0, 102));

    // iPXE and HTTP boot never wait for a second phase.
    for packet in [fixture!("ipxe-bios-discover"), fixture!("ovmf-http-discover")] {
        let seen = Seen::of(&proxy_with(&config, &Chain, &Packet(packet), dhcp(NOBODY)));
        assert!(seen.file().starts_with("http://"));
    }
}

#[test]
fn a_rule_can_choose_the_style_for_one_client() {
    let quirks = Quirks { proxy_style: Some(ProxyStyle::TwoPhase), ..Quirks::default() };
    let BootDecision::Boot(plain) = offer(Stage::Firmware, "a.efi") else { unreachable!() };
    let policy = Always(BootDecision::Boot(BootOffer { quirks, ..plain }));
    let outcome =
        proxy_with(&DhcpConfig::proxy(SERVER), &policy, &Packet(fixture!("ovmf-pxe-discover")), dhcp(NOBODY));
    assert_eq!(Seen::of(&outcome).codes(), [53, 54, 97, 60]);
}

#[test]
fn ipxe_asks_port_4011_from_port_68_and_gets_its_item_back() {
    let outcome = proxy(&Packet(fixture!("ipxe-bios-request-4011")), port_4011([10, 77, 0, 104], 68));
    let seen = Seen::of(&outcome);
    assert_eq!(seen.get(43).unwrap(), [71, 4, 0x80, 0, 0, 0, 255]);
    assert_eq!(seen.get(61).unwrap(), [1, 0x52, 0x54, 0, 0xaa, 0, 5]);
    assert_eq!(seen.file(), "http://10.77.0.1/boot.ipxe");
    let to = Destination::Unicast(SocketAddrV4::new([10, 77, 0, 104].into(), 68));
    assert_eq!(outcome.reply.unwrap().destination, to);
}

#[test]
fn http_boot_needs_its_class_echoed_and_no_menu() {
    let seen = Seen::of(&proxy(&Packet(fixture!("ovmf-http-discover")), dhcp(NOBODY)));
    assert_eq!(seen.get(60).unwrap(), b"HTTPClient");
    assert_eq!(seen.get(43), None);
    assert_eq!(seen.get(66), None, "a URL names its server itself");
    assert_eq!(seen.get(67).unwrap(), b"http://10.77.0.1/shimx64.efi\0");
    assert_eq!(seen.file(), "http://10.77.0.1/shimx64.efi");
}

#[test]
fn ipxe_gets_the_script_whatever_its_architecture() {
    for packet in [fixture!("ipxe-bios-discover"), fixture!("ipxe-uefi-discover")] {
        let outcome = proxy(&Packet(packet), dhcp(NOBODY));
        let seen = Seen::of(&outcome);
        assert_eq!(seen.file(), "http://10.77.0.1/boot.ipxe");
        assert_eq!(seen.get(43).unwrap(), [6, 1, 8, 255]);
        // No address to unicast to: a proxy's offer is broadcast although the flag is clear.
        assert_eq!(outcome.reply.unwrap().destination, Destination::Broadcast);
    }
}

#[test]
fn a_loader_for_firmware_never_reaches_ipxe_nor_a_script_firmware() {
    let cases = [
        (fixture!("ipxe-uefi-discover"), Stage::Firmware, "shimx64.efi"),
        (fixture!("ovmf-pxe-discover"), Stage::Ipxe, "boot.ipxe"),
    ];
    for (packet, stage, file) in cases {
        let policy = Always(offer(stage, file));
        let outcome = proxy_with(&DhcpConfig::proxy(SERVER), &policy, &Packet(packet), dhcp(NOBODY));
        let guard = NoBoot::LoopGuard { rule: "test".into(), file: file.into() };
        assert_eq!(ignored(&outcome), &IgnoredBecause::NotForUs(guard));
    }
}

#[test]
fn files_that_cannot_reach_the_client_are_withheld_with_the_reason() {
    let long = "x".repeat(128);
    let huge = format!("http://s/{}", "x".repeat(1000));
    let in_field = Quirks { file_in: FileIn::Field, ..Quirks::default() };
    let cases: [(Vec<u8>, &str, Quirks, &str); 6] = [
        (fixture!("ovmf-http-discover"), "shimx64.efi", Quirks::default(), "but HTTP boot needs a URL"),
        (fixture!("ovmf-pxe-discover"), "http://s/x.efi", Quirks::default(), "but PXE firmware takes no URL"),
        (fixture!("ovmf-pxe-discover"), "", Quirks::default(), "which is empty"),
        (fixture!("ovmf-pxe-discover"), "a\0b", Quirks::default(), "with control characters"),
        (fixture!("ovmf-pxe-discover"), &long, in_field, "longer than the 127 bytes of the file field"),
        (fixture!("ovmf-http-discover"), &huge, Quirks::default(), "longer than 1000 bytes"),
    ];
    for (packet, file, quirks, reason) in cases {
        let BootDecision::Boot(plain) = offer(Stage::Firmware, file) else { unreachable!() };
        let policy = Always(BootDecision::Boot(BootOffer { quirks, ..plain }));
        let outcome = proxy_with(&DhcpConfig::proxy(SERVER), &policy, &Packet(packet), dhcp(NOBODY));
        let IgnoredBecause::NotForUs(NoBoot::Unusable { why, .. }) = ignored(&outcome) else {
            panic!("{file}")
        };
        assert_eq!(*why, reason);
    }
}

#[test]
fn long_urls_stand_in_option_67_alone_and_short_names_can_stand_in_the_field_alone() {
    let url = format!("http://10.77.0.1/{}", "x".repeat(111));
    assert_eq!(url.len(), 128);
    let policy = Always(offer(Stage::Firmware, &url));
    let outcome = proxy_with(
        &DhcpConfig::proxy(SERVER),
        &policy,
        &Packet(fixture!("ovmf-http-discover")),
        dhcp(NOBODY),
    );
    let seen = Seen::of(&outcome);
    assert_eq!(seen.file(), "");
    assert_eq!(seen.get(67).unwrap(), format!("{url}\0").as_bytes());
    assert!(outcome.journal.to_string().ends_with("; name of 128 bytes in option 67 only"));

    let quirks = Quirks { file_in: FileIn::Field, ..Quirks::default() };
    let BootDecision::Boot(plain) = offer(Stage::Firmware, "old.rom") else { unreachable!() };
    let policy = Always(BootDecision::Boot(BootOffer { quirks, ..plain }));
    let outcome =
        proxy_with(&DhcpConfig::proxy(SERVER), &policy, &Packet(fixture!("ovmf-pxe-discover")), dhcp(NOBODY));
    let seen = Seen::of(&outcome);
    assert_eq!((seen.file().as_str(), seen.get(67)), ("old.rom", None));
}

#[test]
fn a_proxy_never_touches_address_service() {
    let other = Packet(fixture!("ovmf-pxe-request-other-server"));
    let outcome = proxy(&other, dhcp(NOBODY));
    assert_eq!(ignored(&outcome), &IgnoredBecause::OtherServerChosen(FOREIGN));
    // It is still how the proxy learns which address the machine will have.
    let sighting = outcome.sighting.unwrap();
    assert_eq!(
        (sighting.hardware.to_string().as_str(), sighting.address),
        ("52:54:00:aa:00:03", [10, 77, 0, 102].into())
    );

    // Renewals, INIT-REBOOT with a foreign address, releases, declines, informs: never a NAK, never anything.
    let renew = other.clone().without(54).without(50).ciaddr([10, 77, 0, 102]);
    let reboot = other.clone().without(54).option(50, &[192, 168, 1, 9]);
    for packet in [renew, reboot, other.clone().kind(7), other.clone().kind(4), other.kind(8)] {
        assert_eq!(ignored(&proxy(&packet, dhcp(NOBODY))), &IgnoredBecause::UnknownLease);
    }
}

#[test]
fn a_request_on_port_67_that_names_the_proxy_is_answered_like_one_on_4011() {
    let request = Packet(fixture!("ovmf-pxe-request-4011")).option(54, &SERVER.octets());
    let outcome = proxy(&request, dhcp([10, 77, 0, 102]));
    let seen = Seen::of(&outcome);
    assert_eq!((seen.kind(), seen.file().as_str()), (5, "shimx64.efi"));
    let to = Destination::Unicast(SocketAddrV4::new([10, 77, 0, 102].into(), 68));
    assert_eq!(outcome.reply.unwrap().destination, to);
}

#[test]
fn ordinary_clients_are_left_alone_and_count_as_noise() {
    for packet in [fixture!("udhcpc-discover"), fixture!("dhclient-discover")] {
        let outcome = proxy(&Packet(packet), dhcp(NOBODY));
        assert_eq!(ignored(&outcome), &IgnoredBecause::NotForUs(NoBoot::NotABootClient));
        assert!(outcome.journal.is_noise());
        assert_eq!(outcome.restarted, None);
    }
    let outcome = proxy(&Packet(fixture!("udhcpc-request")), port_4011([10, 77, 0, 9], 68));
    assert_eq!(ignored(&outcome), &IgnoredBecause::NotForUs(NoBoot::NotABootClient));
    let discover = Packet(fixture!("ovmf-pxe-discover"));
    assert_eq!(ignored(&proxy(&discover, port_4011(NOBODY, 68))), &IgnoredBecause::UnknownLease);
}

#[test]
fn what_the_policy_ignores_is_explained_and_not_noise() {
    let policy = Always(BootDecision::Ignore { rule: "kiosks".into(), why: "boots from its disk".into() });
    let outcome =
        proxy_with(&DhcpConfig::proxy(SERVER), &policy, &Packet(fixture!("ovmf-pxe-discover")), dhcp(NOBODY));
    assert_eq!(outcome.reply, None);
    assert!(!outcome.journal.is_noise());
    assert_eq!(
        outcome.journal.to_string(),
        "saw DISCOVER from PXEClient arch 7 (UEFI x64) 52:54:00:aa:00:02: ignored: boots from its disk (rule \"kiosks\")"
    );
}

#[test]
fn server_messages_bootp_and_garbage_get_no_answer() {
    let discover = Packet(fixture!("ovmf-pxe-discover"));
    for kind in [0, 2, 5, 6, 9] {
        assert_eq!(ignored(&proxy(&discover.clone().kind(kind), dhcp(NOBODY))), &IgnoredBecause::NotARequest);
    }
    assert_eq!(ignored(&proxy(&discover.clone().without(53), dhcp(NOBODY))), &IgnoredBecause::NotARequest);
    let mut reply = discover.clone();
    reply.0[0] = 2;
    assert_eq!(ignored(&proxy(&reply, dhcp(NOBODY))), &IgnoredBecause::NotARequest);
    let mut looping = discover.clone();
    looping.0[3] = 17;
    assert_eq!(ignored(&proxy(&looping, dhcp(NOBODY))), &IgnoredBecause::TooManyHops(17));
    let mut nobody = discover.clone();
    nobody.0[28..44].fill(0);
    assert_eq!(ignored(&proxy(&nobody, dhcp(NOBODY))), &IgnoredBecause::Anonymous);
    let cut = Packet(discover.0[..239].to_vec());
    assert!(matches!(ignored(&proxy(&cut, dhcp(NOBODY))), IgnoredBecause::Unreadable(_)));
}

#[test]
fn a_torn_option_costs_what_follows_it_and_is_reported() {
    let mut packet = Packet(fixture!("ovmf-pxe-discover")).option(12, b"name");
    let len = packet.0.len();
    packet.0.truncate(len - 3);
    let outcome = proxy(&packet, dhcp(NOBODY));
    assert_eq!(Seen::of(&outcome).file(), "shimx64.efi");
    assert!(
        outcome.journal.to_string().contains("; option 12 at 0x15a runs past its field"),
        "{}",
        outcome.journal
    );
}
