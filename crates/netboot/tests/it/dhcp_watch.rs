//! The watch over offers: firmware that ignores them, clients that never come for the file, and those that do.

use std::time::Duration;

use crate::wire::{Always, Full, Packet, SERVER, dhcp, offer, port_4011, proxy, proxy_with};
use gravure_netboot::Millis;
use gravure_netboot::dhcp::{BootClient, Finding, HardwareAddress, Message, OfferWatch, Stage};

const NOBODY: [u8; 4] = [0, 0, 0, 0];

fn seconds(count: u64) -> Millis {
    Millis(count * 1000)
}

fn hardware(packet: &[u8]) -> HardwareAddress {
    BootClient::of(&Message::parse(packet).expect("sound")).hardware
}

#[test]
fn the_third_offer_to_one_transaction_is_reported_once() {
    let mut watch = OfferWatch::new(SERVER);
    let discover = Packet(fixture!("ovmf-pxe-discover"));
    let found: Vec<_> =
        [0, 4, 12, 28].map(|second| watch.decided(&proxy(&discover, dhcp(NOBODY)), seconds(second))).into();
    let ignored = Finding::OffersIgnored { file: "shimx64.efi".into(), times: 3 };
    assert_eq!(found, [None, None, Some(ignored.clone()), None]);
    let text = "offered shimx64.efi 3 times and the client asked again without taking any offer";
    assert_eq!(ignored.to_string(), text);
    // A new transaction is a new boot.
    let mut next = discover;
    next.0[7] ^= 1;
    assert_eq!(watch.decided(&proxy(&next, dhcp(NOBODY)), seconds(60)), None);
}

#[test]
fn a_client_that_takes_the_address_and_not_the_file_is_found() {
    let mut watch = OfferWatch::new(SERVER);
    let discover = Packet(fixture!("ovmf-pxe-discover")).mac(3);
    assert_eq!(watch.decided(&proxy(&discover, dhcp(NOBODY)), seconds(0)), None);
    let request = Packet(fixture!("ovmf-pxe-request-other-server"));
    assert_eq!(watch.decided(&proxy(&request, dhcp(NOBODY)), seconds(4)), None);
    assert_eq!(watch.due(seconds(13)), []);
    let machine = hardware(&request.0);
    assert_eq!(watch.due(seconds(14)), [(machine, Finding::NeverFetched { file: "shimx64.efi".into() })]);
    assert_eq!(watch.due(seconds(15)), [], "said once");
}

#[test]
fn https_has_time_for_the_firmwares_handshake() {
    let mut watch = OfferWatch::new(SERVER);
    let config = gravure_netboot::dhcp::DhcpConfig::proxy(SERVER);
    let policy = Always(offer(Stage::Firmware, "https://10.77.0.1/x.efi"));
    let discover = Packet(fixture!("ovmf-http-discover")).mac(3);
    assert_eq!(watch.decided(&proxy_with(&config, &policy, &discover, dhcp(NOBODY)), seconds(0)), None);
    let request = Packet(fixture!("ovmf-pxe-request-other-server"));
    assert_eq!(watch.decided(&proxy(&request, dhcp(NOBODY)), seconds(4)), None);
    assert_eq!(watch.due(seconds(33)), []);
    let found = watch.due(seconds(34));
    assert_eq!(found.len(), 1);
    assert!(found[0].1.to_string().ends_with("did not ask for https://10.77.0.1/x.efi within 30 s"));
}

#[test]
fn clients_that_come_for_their_file_are_no_finding() {
    let mut watch = OfferWatch::new(SERVER);
    let request = Packet(fixture!("ovmf-pxe-request-4011"));
    watch.decided(&proxy(&request, port_4011([10, 77, 0, 102], 4011)), seconds(0));
    watch.fetched(&hardware(&request.0));
    assert_eq!(watch.due(seconds(60)), []);

    let mut full = Full::new();
    let request = Packet(fixture!("ovmf-pxe-request"));
    watch.decided(&full.take(&request, dhcp(NOBODY)), seconds(0));
    assert_eq!(watch.due(seconds(11)).len(), 1);
    watch.decided(&full.take(&request, dhcp(NOBODY)), seconds(20));
    // The installed system asks for its address: nothing to fetch any more.
    let system = Packet(fixture!("dhclient-request")).mac(2);
    watch.decided(&full.take(&system, dhcp(NOBODY)), seconds(25));
    assert_eq!(watch.due(seconds(40)), []);
}

#[test]
fn files_of_other_servers_cannot_be_judged() {
    let cases =
        [("http://10.77.0.1/x.efi", 1), ("http://10.77.0.1:8080/x.efi", 1), ("http://10.77.0.10/x.efi", 0)];
    for (url, findings) in cases {
        let mut watch = OfferWatch::new(SERVER);
        let config = gravure_netboot::dhcp::DhcpConfig::proxy(SERVER);
        let policy = Always(offer(Stage::Firmware, url));
        let discover = Packet(fixture!("ovmf-http-discover"));
        let found = (0..5).filter_map(|_| {
            watch.decided(&proxy_with(&config, &policy, &discover, dhcp(NOBODY)), seconds(0))
        });
        assert_eq!(found.count(), findings, "{url}");
    }
}

#[test]
fn machines_are_forgotten_when_quiet_or_too_many() {
    let mut watch = OfferWatch::new(SERVER);
    let discover = Packet(fixture!("ovmf-pxe-discover"));
    let outcome = proxy(&discover, dhcp(NOBODY));
    assert_eq!(watch.decided(&outcome, seconds(0)), None);
    assert_eq!(watch.decided(&outcome, seconds(1)), None);
    watch.due(seconds(1).after(Duration::from_secs(600)));
    assert_eq!(watch.decided(&outcome, seconds(700)), None, "counted anew");
    assert_eq!(watch.decided(&outcome, seconds(701)), None);
    for index in 0..4096u32 {
        let mut other = discover.clone();
        other.0[30..34].copy_from_slice(&index.to_be_bytes());
        watch.decided(&proxy(&other, dhcp(NOBODY)), seconds(702));
    }
    assert_eq!(watch.decided(&outcome, seconds(703)), None, "pushed out by 4096 others");
}
