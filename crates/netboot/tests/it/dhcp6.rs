//! DHCPv6 decisions by RFC 8415, over packets as firmware sends them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::Ipv6Addr;

use gravure_netboot::dhcp::{
    BootRule, BootTable, ClientClass, HardwareAddress, Loader, Platform, Quirks, Then, When,
};
use gravure_netboot::dhcp6::{Dhcp6Config, Outcome6, reply};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const FROM: &str = "fe80::5054:ff:fe12:3456";
const OURS: &str = "fd77::67:5254:12:3456";
const SERVER_ID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
const CLIENT_ID: [u8; 14] = [0, 1, 0, 1, 9, 9, 9, 9, 0x52, 0x54, 0, 0x12, 0x34, 0x56];

fn config() -> Dhcp6Config {
    Dhcp6Config {
        server: "fd77::1".parse().unwrap(),
        hardware: [2, 0, 0, 0, 0, 1],
        lifetime_seconds: 3600,
        dns: Vec::new(),
    }
}

fn table() -> BootTable {
    let rule = |name: &str, when: When, file: &str| BootRule {
        name: name.into(),
        when,
        then: Then::Boot { file: file.into(), quirks: Quirks::default() },
    };
    let class = |class| When { class: Some(class), platform: Some(Platform::EfiX64), ..When::default() };
    BootTable {
        rules: vec![
            rule(
                "script",
                When { loader: Some(Loader::Ipxe), ..When::default() },
                "http://[fd77::1]/boot.ipxe",
            ),
            rule("HTTP", class(ClientClass::Http), "http://[fd77::1]/shimx64.efi"),
            rule("PXE", class(ClientClass::Pxe), "shimx64.efi"),
        ],
    }
}

type Option6<'a> = (u16, &'a [u8]);

fn packet(kind: u8, options: &[Option6<'_>]) -> Vec<u8> {
    let mut bytes = vec![kind, 1, 2, 3];
    for (code, value) in options {
        bytes.extend(code.to_be_bytes());
        bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        bytes.extend(*value);
    }
    bytes
}

fn class(text: &[u8]) -> Vec<u8> {
    [&343u32.to_be_bytes()[..], &u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

fn association(number: u8, addresses: &[&str]) -> Vec<u8> {
    let mut value = vec![0, 0, 0, number, 0, 0, 0, 0, 0, 0, 0, 0];
    for address in addresses {
        value.extend([0, 5, 0, 24]);
        value.extend(address.parse::<Ipv6Addr>().unwrap().octets());
        value.extend([0; 8]);
    }
    value
}

fn ask(bytes: &[u8]) -> Outcome6 {
    reply(&config(), &table(), bytes, FROM.parse().unwrap())
}

/// Options of an answer, by code.
fn options(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let (mut rest, mut found) = (bytes, Vec::new());
    while !rest.is_empty() {
        let (code, len) =
            (u16::from_be_bytes([rest[0], rest[1]]), usize::from(u16::from_be_bytes([rest[2], rest[3]])));
        found.push((code, rest[4..4 + len].to_vec()));
        rest = &rest[4 + len..];
    }
    found
}

fn value(bytes: &[u8], code: u16) -> Option<Vec<u8>> {
    options(bytes).into_iter().find(|(other, _)| *other == code).map(|(_, value)| value)
}

/// Addresses in an answer's first association, with their valid lifetimes.
fn given(answer: &[u8]) -> Vec<(String, u32)> {
    let Some(association) = value(&answer[4..], 3) else { return Vec::new() };
    let addresses = options(&association[12..]).into_iter().filter(|(code, _)| *code == 5);
    let read = |value: Vec<u8>| {
        let address = Ipv6Addr::from(<[u8; 16]>::try_from(&value[..16]).unwrap());
        (address.to_string(), u32::from_be_bytes(value[20..24].try_into().unwrap()))
    };
    addresses.map(|(_, value)| read(value)).collect()
}

#[test]
fn the_four_messages_of_pxe_firmware() {
    let class = class(b"PXEClient:Arch:00007:UNDI:003001");
    let ia = association(1, &[]);
    let base: [Option6<'_>; 4] = [(1, &CLIENT_ID), (3, &ia), (61, &[0, 7]), (16, &class)];
    let solicit = ask(&packet(1, &base));
    assert_eq!(solicit.restarted, Some(HardwareAddress::ethernet(MAC)), "what its last boot left is dead");
    let answer = solicit.reply.unwrap();
    assert_eq!(answer[..4], [2, 1, 2, 3], "ADVERTISE in the same transaction");
    assert_eq!(value(&answer[4..], 1).unwrap(), CLIENT_ID);
    assert_eq!(value(&answer[4..], 2).unwrap(), SERVER_ID);
    assert_eq!(given(&answer), [(OURS.to_owned(), 3600)]);
    assert_eq!(value(&answer[4..], 59).unwrap(), b"tftp://[fd77::1]/shimx64.efi");
    assert_eq!(value(&answer[4..], 16), None, "it would make a proxy's offer of it");
    let (client, address) = solicit.sighting.unwrap();
    assert_eq!((client.hardware, address.to_string().as_str()), (HardwareAddress::ethernet(MAC), OURS));
    assert_eq!(
        solicit.journal.to_string(),
        "saw SOLICIT by IPv6 from PXEClient arch 7 (UEFI x64) 52:54:00:12:34:56: sent ADVERTISE of \
         fd77::67:5254:12:3456 with tftp://[fd77::1]/shimx64.efi because of rule \"PXE\""
    );

    let request = [&base[..], &[(2, &SERVER_ID)]].concat();
    let outcome = ask(&packet(3, &request));
    assert_eq!(outcome.restarted, None, "in the middle of it");
    let answer = outcome.reply.unwrap();
    assert_eq!((answer[0], given(&answer)), (7, vec![(OURS.to_owned(), 3600)]));

    // Given back before the loader asks again: the same address the next time.
    let ia = association(1, &[OURS]);
    let release = packet(8, &[(1, &CLIENT_ID), (2, &SERVER_ID), (3, &ia)]);
    let answer = ask(&release).reply.unwrap();
    assert_eq!(value(&answer[4..], 13).unwrap()[..2], [0, 0]);
    assert_eq!(given(&ask(&packet(1, &base)).reply.unwrap()), [(OURS.to_owned(), 3600)]);
}

#[test]
fn http_firmware_gets_its_class_to_the_letter_and_ipxe_its_script() {
    let http = class(b"HTTPClient:Arch:00016:UNDI:003001");
    let ia = association(1, &[]);
    let answer = ask(&packet(1, &[(1, &CLIENT_ID), (3, &ia), (61, &[0, 16]), (16, &http)])).reply.unwrap();
    assert_eq!(value(&answer[4..], 59).unwrap(), b"http://[fd77::1]/shimx64.efi");
    assert_eq!(value(&answer[4..], 16).unwrap(), class(b"HTTPClient"));
    let pxe = class(b"PXEClient:Arch:00007:UNDI:003001");
    let ipxe = packet(1, &[(1, &CLIENT_ID), (3, &ia), (61, &[0, 7]), (16, &pxe), (15, b"\0\x04iPXE")]);
    assert_eq!(value(&ask(&ipxe).reply.unwrap()[4..], 59).unwrap(), b"http://[fd77::1]/boot.ipxe");
    // An operating system: an address, and nothing to boot.
    let outcome = ask(&packet(1, &[(1, &CLIENT_ID), (3, &ia)]));
    assert_eq!(outcome.restarted, None, "it has connections of its own");
    let answer = outcome.reply.unwrap();
    assert_eq!((given(&answer).len(), value(&answer[4..], 59)), (1, None));
}

#[test]
fn every_kind_of_message_has_its_answer_or_none() {
    let (ia, mine, foreign) = (association(1, &[]), association(1, &[OURS]), association(1, &["fd77::9"]));
    let elsewhere = association(1, &["2001:db8::9"]);
    let other_id = [0u8, 3, 0, 1, 2, 0, 0, 0, 0, 9];
    let id: Option6<'_> = (1, &CLIENT_ID);
    let ours: Option6<'_> = (2, &SERVER_ID);
    // Kind, options; answer's kind and status, `None` for silence.
    type Case<'a> = (&'a str, u8, Vec<Option6<'a>>, Option<(u8, Option<u8>)>);
    let cases: Vec<Case<'_>> = vec![
        ("rapid commit", 1, vec![id, (3, &ia), (14, &[])], Some((7, None))),
        ("solicit without identifier", 1, vec![(3, &ia)], None),
        ("solicit that names a server", 1, vec![id, ours, (3, &ia)], None),
        ("request to another server", 3, vec![id, (2, &other_id), (3, &ia)], None),
        ("request to nobody", 3, vec![id, (3, &ia)], None),
        ("confirm on this link", 4, vec![id, (3, &mine)], Some((7, Some(0)))),
        ("confirm of another link", 4, vec![id, (3, &elsewhere)], Some((7, Some(4)))),
        ("confirm of nothing", 4, vec![id, (3, &ia)], None),
        ("renew", 5, vec![id, ours, (3, &mine)], Some((7, None))),
        ("rebind", 6, vec![id, (3, &mine)], Some((7, None))),
        ("release of another's", 8, vec![id, ours, (3, &foreign)], Some((7, Some(3)))),
        ("decline", 9, vec![id, ours, (3, &mine)], Some((7, Some(0)))),
        ("information", 11, vec![], Some((7, None))),
        ("information of another server", 11, vec![(2, &other_id)], None),
        ("a server's message", 7, vec![id, ours], None),
        ("unknown", 99, vec![id], None),
    ];
    for (name, kind, list, expected) in cases {
        let outcome = ask(&packet(kind, &list));
        let found =
            outcome.reply.as_ref().map(|answer| (answer[0], value(&answer[4..], 13).map(|value| value[1])));
        assert_eq!(found, expected, "{name}: {}", outcome.journal);
    }
    // An address that is not ours ends at renewal, beside the one that is.
    let renewed = ask(&packet(5, &[id, ours, (3, &foreign)])).reply.unwrap();
    assert_eq!(given(&renewed), [(OURS.to_owned(), 3600), ("fd77::9".to_owned(), 0)]);
    // A second association gets none.
    let second = association(2, &[]);
    let answer = ask(&packet(1, &[id, (3, &ia), (3, &second)])).reply.unwrap();
    let last = options(&answer[4..]).into_iter().rfind(|(code, _)| *code == 3).unwrap().1;
    assert_eq!((last[3], value(&last[12..], 13).unwrap()[..2].to_vec()), (2, vec![0, 2]));
}

#[test]
fn relays_get_their_marks_back_and_name_the_machine() {
    let ia = association(1, &[]);
    let solicit = packet(1, &[(1, &[0, 4, 1]), (3, &ia)]);
    let relay = |hops: u8, inner: &[u8], more: &[Option6<'_>]| {
        let mut bytes = vec![12, hops];
        bytes.extend("fd77::2".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend("fe80::9".parse::<Ipv6Addr>().unwrap().octets());
        let options = [more, &[(9, inner)]].concat();
        bytes.extend(&packet(0, &options)[4..]);
        bytes
    };
    let seen = [0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x56];
    let inner = relay(0, &solicit, &[(18, b"eth7"), (79, &seen)]);
    let outcome = reply(&config(), &table(), &relay(1, &inner, &[(18, b"far")]), "fd77::2".parse().unwrap());
    let outer = outcome.reply.unwrap();
    assert_eq!((outer[0], outer[1], value(&outer[34..], 18).unwrap()), (13, 1, b"far".to_vec()));
    let near = value(&outer[34..], 9).unwrap();
    assert_eq!((near[0], near[1], value(&near[34..], 18).unwrap()), (13, 0, b"eth7".to_vec()));
    assert_eq!(given(&value(&near[34..], 9).unwrap()), [(OURS.to_owned(), 3600)]);
    // Without the relay's word nobody knows who it is.
    let unknown = ask(&relay(0, &solicit, &[]));
    assert!(
        unknown.reply.is_none() && unknown.journal.to_string().contains("link-layer"),
        "{}",
        unknown.journal
    );
}

#[test]
fn any_cut_is_refused_or_answered_never_a_panic() {
    let class = class(b"PXEClient:Arch:00007:UNDI:003001");
    let ia = association(1, &[OURS]);
    let whole = packet(3, &[(1, &CLIENT_ID), (2, &SERVER_ID), (3, &ia), (61, &[0, 7]), (16, &class)]);
    for len in 0..whole.len() {
        let outcome = ask(&whole[..len]);
        assert!(!outcome.journal.to_string().is_empty());
        if len < 4 {
            assert!(outcome.reply.is_none());
        }
    }
    assert!(ask(&whole).reply.is_some());
}
