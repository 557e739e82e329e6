//! Fuzz bodies: each takes any bytes and must neither panic nor break a promise checked here. They run as plain tests
//! over a small corpus and random input (`tests/it/fuzz_bodies.rs`); a fuzzer may call them as they are.

/// DHCP: the server's decision in every mode and at both ports, and the client with the same bytes as an answer.
pub mod dhcp {
    use core::net::Ipv4Addr;

    use crate::Millis;
    use crate::dhcp::{
        BootRule, BootTable, Decided, DhcpConfig, HardwareAddress, LeaseTable, Loader, Message, Network,
        PacketSource, Quirks, Reservation, ServerPort, Subnet, Then, When, reply,
    };
    use crate::dhcp_client::{ClientConfig, ClientInput, DhcpClient};

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    /// Takes `data` as a packet.
    pub fn body(data: &[u8]) {
        for config in configs() {
            let mut leases = LeaseTable::default();
            for arrived_on in [ServerPort::Dhcp, ServerPort::BootServer] {
                let from = PacketSource { address: Ipv4Addr::UNSPECIFIED, port: 68, arrived_on };
                let outcome = reply(&config, &table(), &mut leases, data, from, Millis(1));
                let text = outcome.journal.to_string();
                assert!(!text.chars().any(char::is_control), "{text:?}");
                let Some(answer) = outcome.reply else {
                    assert!(!matches!(outcome.journal.decided, Decided::Answered { .. }));
                    continue;
                };
                assert!((300..=1472).contains(&answer.bytes.len()), "{} bytes", answer.bytes.len());
                let read = Message::parse(&answer.bytes);
                assert!(read.is_ok_and(|message| message.defect.is_none() && message.kind().is_some()));
            }
        }
        client(data);
    }

    fn client(data: &[u8]) {
        let Some(hardware) = data.get(28..34).and_then(|mac| HardwareAddress::new(1, mac)) else { return };
        let mut client = DhcpClient::new(ClientConfig::new(hardware, 1));
        let Some((discover, _)) = client.on(ClientInput::Start, Millis(0)).send else { return };
        let mut answer = data.to_vec();
        for _ in 0..3 {
            if let (Some(to), Some(xid)) = (answer.get_mut(4..8), discover.get(4..8)) {
                to.copy_from_slice(xid);
            }
            let output = client.on(ClientInput::Packet(&answer), Millis(1));
            let deadline = output.deadline.unwrap_or(Millis(1));
            client.on(ClientInput::Timeout, deadline);
        }
        if let Some(grant) = client.grant() {
            assert!(grant.renew_at <= grant.rebind_at && grant.rebind_at <= grant.expires);
            assert!(grant.network.contains(grant.address));
        }
    }

    fn configs() -> Vec<DhcpConfig> {
        let network = Network::new(SERVER, 24);
        let subnet = network.map(|network| {
            let first = Ipv4Addr::new(10, 0, 0, 10);
            let mut subnet =
                Subnet::new(network, crate::dhcp::AddressRange { first, last: Ipv4Addr::new(10, 0, 0, 20) });
            let hardware = HardwareAddress::ethernet([0x52, 0x54, 0, 0xaa, 0, 1]);
            subnet.reservations.push(Reservation { hardware, address: Ipv4Addr::new(10, 0, 0, 30) });
            subnet.dns = vec![SERVER; 8];
            subnet.domain = Some("x".repeat(255));
            subnet
        });
        let full = DhcpConfig::full(SERVER, subnet.into_iter().collect());
        vec![DhcpConfig::proxy(SERVER), full]
    }

    fn table() -> BootTable {
        let rule = |name: &str, loader, file: &str| BootRule {
            name: name.into(),
            when: When { loader, ..When::default() },
            then: Then::Boot { file: file.into(), quirks: Quirks::default() },
        };
        let script = "http://10.0.0.1/boot.ipxe?mac={mac}&uuid={uuid}";
        BootTable { rules: vec![rule("ipxe", Some(Loader::Ipxe), script), rule("any", None, "shimx64.efi")] }
    }
}

/// TFTP: the bytes as a request, and as packets during a transfer.
pub mod tftp {
    use crate::Millis;
    use crate::tftp::{Input, Limits, Patience, Send, Transfer, parse_request};

    /// The first byte cuts `data` into a request and, in pieces of four, what the client says afterwards.
    pub fn body(data: &[u8]) {
        let Some((&cut, rest)) = data.split_first() else { return };
        let (request, said) = rest.split_at_checked(cut.into()).unwrap_or((rest, &[]));
        let Ok(request) = parse_request(request) else { return };
        let size = u64::try_from(data.len()).unwrap_or(0).saturating_mul(1000);
        let limits = Limits::default();
        let mut transfer = Transfer::new(request, &limits, Patience::default(), size);
        let mut now = Millis(0);
        let mut output = transfer.on(Input::Start, now);
        for (turn, packet) in said.chunks(4).enumerate() {
            check(&output.send, &limits, size);
            assert_eq!(output.deadline.is_none(), output.end.is_some());
            if output.end.is_some() {
                return;
            }
            now = Millis(now.0.saturating_add(u64::from(packet.first().copied().unwrap_or(0))));
            output = transfer.on(Input::Packet(packet), now);
            if turn & 3 == 3 && output.end.is_none() {
                now = output.deadline.unwrap_or(now);
                output = transfer.on(Input::Timeout, now);
            }
        }
    }

    fn check(send: &Send, limits: &Limits, size: u64) {
        let Send::Blocks(blocks) = send else { return };
        assert!(blocks.len() <= limits.window_blocks.into());
        for block in *blocks {
            assert!(block.len <= limits.block_bytes);
            assert!(block.offset.saturating_add(block.len.into()) <= size);
        }
    }
}

/// HTTP ranges: the bytes as header values.
pub mod http_range {
    use crate::http::{RangeDecision, RangeQuery, decide_range};

    /// The first eight bytes are the size, a newline parts `Range` from `If-Range`.
    pub fn body(data: &[u8]) {
        let Some((size, rest)) = data.split_first_chunk::<8>() else { return };
        let size = u64::from_le_bytes(*size);
        let mut parts = rest.splitn(2, |byte| *byte == b'\n');
        let query = RangeQuery { range: parts.next(), if_range: parts.next(), etag: Some("\"a\""), size };
        let decision = decide_range(&query);
        if let RangeDecision::Part { start, len } = decision {
            assert!(len > 0 && start.checked_add(len).is_some_and(|end| end <= size));
        }
        let _ = (decision.content_range(size), decision.to_string());
    }
}

/// DNS-SD: the bytes as a question to the server and as an answer to the client.
pub mod dnssd {
    use core::net::Ipv4Addr;

    use crate::dnssd::{Advert, answer, servers};

    /// Takes `data` as a message.
    pub fn body(data: &[u8]) {
        let advert =
            Advert { site: "lab".into(), address: Ipv4Addr::LOCALHOST, api_port: 8443, content_port: 80 };
        for port in [5353, 40_000] {
            if let Some(told) = answer(&advert, data, port) {
                assert!(servers(&told).is_ok(), "our own answers can be read");
            }
        }
        assert!(servers(data).map_or(0, |found| found.len()) <= 16);
    }
}

/// Names: the bytes as a TFTP name and as a request target.
pub mod names {
    use crate::http::parse_target;
    use crate::names::{RelativeName, client_tag, is_expected_probe, match_entry, normalise_name};

    /// Takes `data` as a name.
    pub fn body(data: &[u8]) {
        if let Ok(name) = normalise_name(data) {
            check(&name);
            assert_eq!(
                normalise_name(name.as_bytes()).as_ref(),
                Ok(&name),
                "normalising twice changes nothing"
            );
        }
        if let Ok(target) =
            core::str::from_utf8(data).map_err(drop).and_then(|text| parse_target(text).map_err(drop))
        {
            check(&target.name);
        }
    }

    fn check(name: &RelativeName) {
        for part in name.components() {
            assert!(!matches!(part, b"" | b"." | b"..") && part.len() <= 255);
            assert!(!part.iter().any(|byte| matches!(byte, 0 | b'/' | b'\\')));
        }
        let _ = (client_tag(name), is_expected_probe(name), match_entry(name.file_name(), name.components()));
    }
}

/// DHCPv6: the server's decision, directly and through a relay.
pub mod dhcp6 {
    use core::net::Ipv6Addr;

    use crate::dhcp::BootTable;
    use crate::dhcp6::{Dhcp6Config, reply};

    /// Takes `data` as a packet.
    pub fn body(data: &[u8]) {
        let config = Dhcp6Config {
            server: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1),
            hardware: [2, 0, 0, 0, 0, 1],
            lifetime_seconds: 3600,
            dns: Vec::new(),
        };
        let from = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0x00ff, 0xfe12, 0x3456);
        let outcome = reply(&config, &BootTable::default(), data, from);
        let text = outcome.journal.to_string();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert_eq!(outcome.reply.is_some(), outcome.journal.decided.is_ok());
        // What we say is never longer than what was said and what we add: no amplifier.
        assert!(outcome.reply.is_none_or(|bytes| bytes.len() <= data.len().saturating_add(1024)));
    }
}
