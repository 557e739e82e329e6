//! `dhcproto` as a second opinion: it must read in our packets what we meant, and in recorded ones what we read.

use crate::wire::{Full, Packet, SERVER, Seen, dhcp, proxy};
use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};
use dhcproto::{Decodable, Decoder};
use gravure_netboot::Millis;
use gravure_netboot::dhcp::{BootClient, HardwareAddress, Message as Ours};
use gravure_netboot::dhcp_client::{ClientConfig, ClientInput, DhcpClient};
use proptest::prelude::*;

fn foreign(bytes: &[u8]) -> Message {
    Message::decode(&mut Decoder::new(bytes)).expect("dhcproto reads it")
}

/// Both readings of the fields both have.
fn compare(bytes: &[u8]) {
    let (theirs, ours) = (foreign(bytes), Ours::parse(bytes).expect("we read it"));
    assert_eq!(theirs.xid(), ours.head.xid);
    assert_eq!(theirs.secs(), ours.head.secs);
    assert_eq!(theirs.flags().broadcast(), ours.head.broadcast);
    assert_eq!(theirs.ciaddr(), ours.head.ciaddr);
    assert_eq!(theirs.yiaddr(), ours.head.yiaddr);
    assert_eq!(theirs.siaddr(), ours.head.siaddr);
    assert_eq!(theirs.giaddr(), ours.head.giaddr);
    assert_eq!(theirs.chaddr(), ours.head.hardware.bytes());
    assert_eq!(
        theirs.fname().unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default(),
        ours.file
    );
    let kind = theirs.opts().msg_type().expect("a type");
    assert_eq!(format!("{kind:?}").to_uppercase(), ours.kind().expect("a type").to_string());
    let codes: Vec<u8> = theirs.opts().iter().map(|(code, _)| u8::from(*code)).collect();
    assert!(codes.iter().all(|code| ours.options.get(*code).is_some()), "{codes:?}");
}

#[test]
fn recorded_packets_mean_the_same_to_both() {
    for bytes in [
        fixture!("ovmf-pxe-discover"),
        fixture!("ovmf-pxe-request"),
        fixture!("ovmf-pxe-request-4011"),
        fixture!("ovmf-http-discover"),
        fixture!("ipxe-bios-discover"),
        fixture!("ipxe-uefi-discover"),
        fixture!("udhcpc-discover"),
        fixture!("dhclient-request"),
        fixture!("dnsmasq-offer"),
        fixture!("dnsmasq-ack"),
    ] {
        compare(&bytes);
        let client = BootClient::of(&Ours::parse(&bytes).expect("we read it"));
        let arch = match foreign(&bytes).opts().get(OptionCode::ClientSystemArchitecture) {
            Some(DhcpOption::ClientSystemArchitecture(arch)) => Some(u16::from(*arch)),
            _ => None,
        };
        assert_eq!(client.arch().map(|arch| arch.0), arch);
    }
}

#[test]
fn our_replies_mean_to_dhcproto_what_we_meant() {
    let mut full = Full::new();
    let packet = Packet(fixture!("ovmf-pxe-discover"));
    let offer = Seen::of(&full.take(&packet, dhcp([0, 0, 0, 0])));
    compare(&offer.bytes);
    let message = foreign(&offer.bytes);
    let options = message.opts();
    assert_eq!(options.msg_type(), Some(MessageType::Offer));
    let expected = [
        (OptionCode::ServerIdentifier, DhcpOption::ServerIdentifier(SERVER)),
        (OptionCode::AddressLeaseTime, DhcpOption::AddressLeaseTime(3600)),
        (OptionCode::Renewal, DhcpOption::Renewal(1800)),
        (OptionCode::Rebinding, DhcpOption::Rebinding(3150)),
        (OptionCode::SubnetMask, DhcpOption::SubnetMask([255, 255, 255, 0].into())),
        (OptionCode::Router, DhcpOption::Router(vec![[10, 77, 0, 254].into()])),
        (OptionCode::DomainNameServer, DhcpOption::DomainNameServer(vec![SERVER, [9, 9, 9, 9].into()])),
        (OptionCode::BroadcastAddr, DhcpOption::BroadcastAddr([10, 77, 0, 255].into())),
        (OptionCode::DomainName, DhcpOption::DomainName("lab.example".into())),
        (OptionCode::BootfileName, DhcpOption::BootfileName(b"shimx64.efi\0".to_vec())),
    ];
    for (code, value) in expected {
        assert_eq!(options.get(code), Some(&value));
    }
    let proxied = foreign(&Seen::of(&proxy(&packet, dhcp([0, 0, 0, 0]))).bytes);
    let class = proxied.opts().get(OptionCode::ClassIdentifier);
    assert_eq!(class, Some(&DhcpOption::ClassIdentifier(b"PXEClient".to_vec())));
    let menu = proxied.opts().get(OptionCode::VendorExtensions);
    assert_eq!(menu, Some(&DhcpOption::VendorExtensions(vec![6, 1, 8, 255])));
}

#[test]
fn our_clients_packets_mean_to_dhcproto_what_we_meant() {
    let hardware = HardwareAddress::ethernet([2, 0, 0, 0, 0, 7]);
    let config = ClientConfig { host_name: Some("pc-17".into()), ..ClientConfig::new(hardware, 1) };
    let output = DhcpClient::new(config).on(ClientInput::Start, Millis(0));
    let (discover, _) = output.send.expect("a discover");
    compare(&discover);
    let message = foreign(&discover);
    assert_eq!(message.opts().msg_type(), Some(MessageType::Discover));
    let name = message.opts().get(OptionCode::Hostname);
    assert_eq!(name, Some(&DhcpOption::Hostname("pc-17".into())));
}

proptest! {
    #[test]
    fn replies_to_any_sound_client_can_be_read(
        mac in 0u8..20,
        name in "[a-z]{1,20}",
        identifier in prop::collection::vec(any::<u8>(), 2..60),
        relay in prop::collection::vec(any::<u8>(), 0..20),
        limit in 300u16..2000,
        broadcast: bool,
    ) {
        let circuit = [&[1, relay.len() as u8][..], &relay].concat();
        let packet = Packet(fixture!("ovmf-pxe-discover"))
            .mac(mac)
            .broadcast(broadcast)
            .option(12, name.as_bytes())
            .option(61, &identifier)
            .option(57, &limit.to_be_bytes())
            .option(82, &circuit);
        for outcome in [Full::new().take(&packet, dhcp([0, 0, 0, 0])), proxy(&packet, dhcp([0, 0, 0, 0]))] {
            let seen = Seen::of(&outcome);
            compare(&seen.bytes);
            prop_assert!(seen.bytes.len() <= usize::from(limit.max(576)) - 28);
            prop_assert_eq!(seen.get(61).unwrap(), &identifier[..]);
            prop_assert_eq!(&seen.options.last().unwrap().1, &circuit);
            prop_assert_eq!(seen.codes()[0], 53);
        }
    }
}
