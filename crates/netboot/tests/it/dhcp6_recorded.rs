//! What OVMF says over IPv6, recorded (`fixtures/INDEX.md`): answered, cut and changed.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::Ipv6Addr;

use gravure_netboot::dhcp::{
    BootRule, BootTable, ClientClass, HardwareAddress, Platform, Quirks, Then, When,
};
use gravure_netboot::dhcp6::{Dhcp6Config, Outcome6, reply};
use gravure_netboot::tftp::{Access, Limits, Mode, Patience, Transfer, parse_request};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0xaa, 0, 1];
/// DUID of our server in the recording's place.
const SERVER_ID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

fn from() -> Ipv6Addr {
    "fe80::5054:ff:feaa:1".parse().unwrap()
}

fn ask(bytes: &[u8]) -> Outcome6 {
    let class = |class| When { class: Some(class), platform: Some(Platform::EfiX64), ..When::default() };
    let rule = |name: &str, when: When, file: &str| BootRule {
        name: name.into(),
        when,
        then: Then::Boot { file: file.into(), quirks: Quirks::default() },
    };
    let table = BootTable {
        rules: vec![
            rule("HTTP", class(ClientClass::Http), "http://[fd77::1]/shimx64.efi"),
            rule("PXE", class(ClientClass::Pxe), "shimx64.efi"),
        ],
    };
    let config = Dhcp6Config {
        server: "fd77::1".parse().unwrap(),
        hardware: [2, 0, 0, 0, 0, 1],
        lifetime_seconds: 3600,
        dns: Vec::new(),
    };
    reply(&config, &table, bytes, from())
}

/// Options at the top of a message.
fn options(message: &[u8]) -> Vec<(u16, &[u8])> {
    let (mut rest, mut found) = (&message[4..], Vec::new());
    while let [a, b, c, d, tail @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*c, *d]));
        found.push((u16::from_be_bytes([*a, *b]), &tail[..len]));
        rest = &tail[len..];
    }
    found
}

fn value(message: &[u8], code: u16) -> Option<&[u8]> {
    options(message).into_iter().find(|(other, _)| *other == code).map(|(_, value)| value)
}

/// The recording names dnsmasq as its server; here it names ours.
fn to_us(message: &[u8]) -> Vec<u8> {
    let mut out = message[..4].to_vec();
    for (code, value) in options(message) {
        let value = if code == 2 { &SERVER_ID[..] } else { value };
        out.extend(code.to_be_bytes());
        out.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        out.extend(value);
    }
    out
}

#[test]
fn ovmf_gets_its_loader_and_is_known_by_card_and_uuid() {
    let cases = [
        (fixture!("ovmf6-config-solicit"), 2, None),
        (fixture!("ovmf6-pxe-solicit"), 2, Some(b"tftp://[fd77::1]/shimx64.efi".as_slice())),
        (to_us(&fixture!("ovmf6-pxe-request")), 7, Some(b"tftp://[fd77::1]/shimx64.efi")),
        (fixture!("ovmf6-http-solicit"), 2, Some(b"http://[fd77::1]/shimx64.efi")),
    ];
    for (packet, kind, url) in cases {
        let outcome = ask(&packet);
        let said = outcome.journal.to_string();
        let answer = outcome.reply.unwrap_or_else(|| panic!("{said}"));
        assert_eq!((answer[0], &answer[1..4]), (kind, &packet[1..4]), "{said}");
        assert_eq!(value(&answer, 59), url, "{said}");
        assert_eq!(value(&answer, 1), value(&packet, 1), "{said}");
        let (client, _) = outcome.sighting.unwrap();
        assert_eq!(client.hardware, HardwareAddress::ethernet(MAC));
        let uuid = client.uuid.unwrap().to_string();
        assert_eq!(uuid, "00112233-4455-6677-8899-aabbccddeeff", "{said}");
    }
    // HTTP firmware wants its class back to the letter, PXE firmware none.
    let answer = ask(&fixture!("ovmf6-http-solicit")).reply.unwrap();
    assert_eq!(value(&answer, 16).unwrap(), b"\0\0\x01\x57\0\x0aHTTPClient");
    let answer = ask(&fixture!("ovmf6-pxe-solicit")).reply.unwrap();
    assert_eq!(value(&answer, 16), None);
    // Released is released, whatever it was that dnsmasq had given.
    let released = ask(&to_us(&fixture!("ovmf6-pxe-release"))).reply.unwrap();
    assert_eq!(released[0], 7);
}

#[test]
fn what_is_left_of_a_recording_is_refused_or_answered() {
    for packet in [
        fixture!("ovmf6-config-solicit"),
        fixture!("ovmf6-pxe-solicit"),
        fixture!("ovmf6-pxe-request"),
        fixture!("ovmf6-pxe-release"),
        fixture!("ovmf6-http-solicit"),
    ] {
        for cut in 0..packet.len() {
            let outcome = ask(&packet[..cut]);
            assert!(!outcome.journal.to_string().is_empty());
        }
        for at in 0..packet.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = packet.clone();
                changed[at] = value;
                let answer = ask(&changed).reply.unwrap_or_default();
                assert!(answer.len() < 1232, "an answer of {} bytes", answer.len());
            }
        }
    }
}

#[test]
fn the_first_request_by_tftp_is_for_the_size() {
    let request = parse_request(&fixture!("ovmf6-rrq-tsize")).unwrap();
    assert_eq!(
        (request.access, request.mode, &request.name[..]),
        (Access::Read, Mode::Octet, &b"nofile"[..])
    );
    let asked: Vec<(&str, &[u8])> =
        request.options.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    assert_eq!(asked, [("tsize", &b"0"[..]), ("blksize", b"1228"), ("windowsize", b"4")]);
    // All three are granted, in the order in which they were asked.
    let mut transfer = Transfer::new(request, &Limits::default(), Patience::default(), 1_000_000);
    let output = transfer.on(gravure_netboot::tftp::Input::Start, gravure_netboot::Millis(0));
    let gravure_netboot::tftp::Send::Packet(bytes) = output.send else { panic!("no OACK") };
    assert_eq!(bytes, b"\0\x06tsize\x001000000\0blksize\x001228\0windowsize\x004\0");
}
