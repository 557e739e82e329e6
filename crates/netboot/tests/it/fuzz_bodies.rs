//! The fuzz bodies as plain tests: recorded packets whole, cut at every byte and with flipped bits, and random input.

use gravure_netboot::fuzz;
use proptest::prelude::*;

fn recorded() -> Vec<Vec<u8>> {
    vec![
        fixture!("ovmf-pxe-discover"),
        fixture!("ovmf-pxe-request"),
        fixture!("ovmf-pxe-request-4011"),
        fixture!("ovmf-http-discover"),
        fixture!("ipxe-bios-discover"),
        fixture!("ipxe-bios-request-4011"),
        fixture!("ipxe-uefi-discover"),
        fixture!("udhcpc-request"),
        fixture!("dhclient-discover"),
        fixture!("dnsmasq-offer"),
        fixture!("dnsmasq-ack"),
    ]
}

#[test]
fn dhcp_takes_every_cut_of_every_recorded_packet() {
    for packet in recorded() {
        for end in 0..=packet.len() {
            fuzz::dhcp::body(&packet[..end]);
        }
    }
}

#[test]
fn dhcp_takes_every_flipped_bit_of_the_options() {
    for packet in recorded() {
        for index in (0..44).chain(236..packet.len()) {
            for bit in 0..8 {
                let mut damaged = packet.clone();
                damaged[index] ^= 1 << bit;
                fuzz::dhcp::body(&damaged);
            }
        }
    }
}

#[test]
fn tftp_takes_every_cut_and_flip_of_recorded_requests() {
    let acks: Vec<u8> = (0..40u8).flat_map(|number| [0, 4, 0, number]).collect();
    for request in [fixture!("ovmf-rrq-tsize"), fixture!("ipxe-rrq")] {
        for end in 0..=request.len() {
            let data = [&[end as u8][..], &request[..end], &acks].concat();
            fuzz::tftp::body(&data);
            for bit in 0..8 {
                let mut damaged = data.clone();
                damaged[end] ^= 1 << bit;
                fuzz::tftp::body(&damaged);
            }
        }
    }
}

/// A packet with a sound header and options made of anything.
fn odd_options() -> impl Strategy<Value = Vec<u8>> {
    let interesting = prop_oneof![
        prop::sample::select(vec![
            12u8, 43, 50, 51, 52, 53, 54, 55, 57, 60, 61, 67, 77, 82, 93, 97, 118, 121, 175
        ]),
        any::<u8>()
    ];
    let option = (interesting, prop::collection::vec(any::<u8>(), 0..40));
    (any::<prop::sample::Index>(), prop::collection::vec(option, 0..30), 1u8..9).prop_map(
        |(base, options, kind)| {
            let mut packet = base.get(&recorded())[..240].to_vec();
            packet.extend([53, 1, kind]);
            for (code, value) in options {
                packet.extend([code, value.len() as u8]);
                packet.extend(value);
            }
            packet
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn dhcp_takes_any_bytes(data in prop::collection::vec(any::<u8>(), 0..700)) {
        fuzz::dhcp::body(&data);
    }

    #[test]
    fn dhcp_takes_any_options(data in odd_options()) {
        fuzz::dhcp::body(&data);
    }

    #[test]
    fn dhcp6_takes_any_bytes(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz::dhcp6::body(&data);
    }

    #[test]
    fn dhcp6_takes_any_options(
        kind in 0u8..15,
        list in prop::collection::vec((0u16..80, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
        relayed: bool,
    ) {
        let mut data = vec![kind, 0, 0, 1];
        for (code, value) in list {
            data.extend(code.to_be_bytes());
            data.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            data.extend(value);
        }
        if relayed {
            let inner = std::mem::take(&mut data);
            data = vec![12; 34];
            data.extend([0, 79, 0, 8, 0, 1, 2, 0, 0, 0, 0, 7, 0, 9]);
            data.extend(u16::try_from(inner.len()).unwrap().to_be_bytes());
            data.extend(inner);
        }
        fuzz::dhcp6::body(&data);
    }

    #[test]
    fn dnssd_takes_any_bytes(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz::dnssd::body(&data);
    }

    #[test]
    fn dnssd_takes_damaged_messages(at in any::<prop::sample::Index>(), flip in 1u8.., cut: bool, port in 5352u16..5355) {
        let advert = gravure_netboot::dnssd::Advert {
            site: "lab".into(),
            address: std::net::Ipv4Addr::LOCALHOST,
            api_port: 8443,
            content_port: 80,
        };
        let question = gravure_netboot::dnssd::question();
        for mut data in [gravure_netboot::dnssd::answer(&advert, &question, port).unwrap(), question] {
            let at = at.index(data.len());
            data[at] ^= flip;
            if cut {
                data.truncate(at);
            }
            fuzz::dnssd::body(&data);
        }
    }

    #[test]
    fn tftp_takes_any_bytes(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz::tftp::body(&data);
    }

    #[test]
    fn tftp_takes_any_answers(
        window in 1u16..100,
        block in 8u16..2000,
        said in prop::collection::vec((3u8..6, any::<bool>(), any::<u8>()), 0..200),
    ) {
        let request = format!("\0\u{1}f\0octet\0windowsize\0{window}\0blksize\0{block}\0").into_bytes();
        let mut data = vec![request.len() as u8];
        data.extend(request);
        data.extend(said.into_iter().flat_map(|(opcode, high, low)| [0, opcode, u8::from(high), low]));
        fuzz::tftp::body(&data);
    }

    #[test]
    fn ranges_take_any_bytes(size: u64, text in "bytes=[-0-9, \t]{0,60}(\n\"a\")?", noise in prop::collection::vec(any::<u8>(), 0..60)) {
        fuzz::http_range::body(&[&size.to_le_bytes()[..], text.as_bytes()].concat());
        fuzz::http_range::body(&[&(size % 100).to_le_bytes()[..], text.as_bytes()].concat());
        fuzz::http_range::body(&noise);
    }

    #[test]
    fn names_take_any_bytes(noise in prop::collection::vec(any::<u8>(), 0..300), path in "[./\\\\a%25efEF\u{0}-]{0,40}") {
        fuzz::names::body(&noise);
        fuzz::names::body(path.as_bytes());
    }
}
