//! Reading and changing packets for the tests of this crate: recorded fixtures, options patched in, and a walker over a
//! reply's options that shares no code with the crate.

#![allow(clippy::unwrap_used, reason = "test support: each binary uses its own part, a panic fails the test")]

use std::net::Ipv4Addr;

use gravure_netboot::Millis;
use gravure_netboot::dhcp::{
    BootClient, BootDecision, BootOffer, BootPolicy, DhcpConfig, LeaseTable, Loader, Outcome, PacketSource,
    Quirks, ServerPort, Stage, Subnet, reply,
};

/// The bytes of a fixture.
macro_rules! fixture {
    ($name:literal) => {
        $crate::wire::unhex(include_str!(concat!("fixtures/", $name, ".hex")))
    };
}

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const FOREIGN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|sign| sign.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A client's packet with changes.
#[derive(Clone)]
pub(crate) struct Packet(pub(crate) Vec<u8>);

impl Packet {
    pub(crate) fn kind(mut self, kind: u8) -> Self {
        assert_eq!(self.0[240..242], [53, 1], "fixtures start with the message type");
        self.0[242] = kind;
        self
    }

    /// Replaces option `code`, or adds it.
    pub(crate) fn option(self, code: u8, value: &[u8]) -> Self {
        let Self(mut bytes) = self.without(code);
        let end = walk_end(&bytes);
        bytes.truncate(end);
        bytes.extend([code, value.len() as u8]);
        bytes.extend(value);
        bytes.push(255);
        Self(bytes)
    }

    pub(crate) fn without(mut self, code: u8) -> Self {
        let mut at = 240;
        while self.0[at] != 255 {
            let next = if self.0[at] == 0 { at + 1 } else { at + 2 + usize::from(self.0[at + 1]) };
            if self.0[at] == code {
                self.0.drain(at..next);
            } else {
                at = next;
            }
        }
        self
    }

    pub(crate) fn broadcast(mut self, flag: bool) -> Self {
        self.0[10] = if flag { 0x80 } else { 0 };
        self
    }

    pub(crate) fn ciaddr(self, address: impl Into<Ipv4Addr>) -> Self {
        self.address(12, address.into())
    }

    pub(crate) fn giaddr(self, address: impl Into<Ipv4Addr>) -> Self {
        self.address(24, address.into())
    }

    pub(crate) fn mac(mut self, last: u8) -> Self {
        self.0[33] = last;
        self.without(61)
    }

    fn address(mut self, offset: usize, address: Ipv4Addr) -> Self {
        self.0[offset..offset + 4].copy_from_slice(&address.octets());
        self
    }
}

fn walk_end(bytes: &[u8]) -> usize {
    let mut at = 240;
    while bytes[at] != 255 {
        at += if bytes[at] == 0 { 1 } else { 2 + usize::from(bytes[at + 1]) };
    }
    at
}

/// A reply as a client sees it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) bytes: Vec<u8>,
    /// Code and value in wire order.
    pub(crate) options: Vec<(u8, Vec<u8>)>,
}

impl Seen {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        let reply = outcome.reply.as_ref().unwrap_or_else(|| panic!("no reply: {}", outcome.journal));
        Self::new(&reply.bytes)
    }

    pub(crate) fn new(bytes: &[u8]) -> Self {
        assert_eq!(bytes[236..240], [99, 130, 83, 99]);
        let mut options = Vec::new();
        let mut at = 240;
        while bytes[at] != 255 {
            let end = at + 2 + usize::from(bytes[at + 1]);
            options.push((bytes[at], bytes[at + 2..end].to_vec()));
            at = end;
        }
        assert!(bytes[at + 1..].iter().all(|byte| *byte == 0), "padding after the end mark");
        Self { bytes: bytes.to_vec(), options }
    }

    pub(crate) fn get(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|option| option.0 == code).map(|option| &option.1[..])
    }

    pub(crate) fn codes(&self) -> Vec<u8> {
        self.options.iter().map(|option| option.0).collect()
    }

    pub(crate) fn kind(&self) -> u8 {
        self.get(53).unwrap()[0]
    }

    pub(crate) fn ciaddr(&self) -> Ipv4Addr {
        self.address(12)
    }

    pub(crate) fn yiaddr(&self) -> Ipv4Addr {
        self.address(16)
    }

    pub(crate) fn siaddr(&self) -> Ipv4Addr {
        self.address(20)
    }

    pub(crate) fn giaddr(&self) -> Ipv4Addr {
        self.address(24)
    }

    fn address(&self, offset: usize) -> Ipv4Addr {
        <[u8; 4]>::try_from(&self.bytes[offset..offset + 4]).unwrap().into()
    }

    pub(crate) fn file(&self) -> String {
        let field = &self.bytes[108..236];
        let end = field.iter().position(|byte| *byte == 0).expect("file ends with a NUL");
        String::from_utf8(field[..end].to_vec()).unwrap()
    }
}

/// Firmware gets a loader by class and platform, iPXE a script.
pub(crate) struct Chain;

impl BootPolicy for Chain {
    fn boot_for(&self, client: &BootClient) -> BootDecision {
        use gravure_netboot::dhcp::{ClientClass, Platform};
        let file = match (client.loader, client.class, client.platform()) {
            (Loader::Ipxe, ..) => "http://10.77.0.1/boot.ipxe",
            (_, ClientClass::Http, _) => "http://10.77.0.1/shimx64.efi",
            (_, _, Platform::Bios) => "undionly.kpxe",
            _ => "shimx64.efi",
        };
        offer(Stage::of(client.loader), file)
    }
}

/// Always the same decision.
pub(crate) struct Always(pub(crate) BootDecision);

impl BootPolicy for Always {
    fn boot_for(&self, _: &BootClient) -> BootDecision {
        self.0.clone()
    }
}

pub(crate) fn offer(stage: Stage, file: &str) -> BootDecision {
    let quirks = Quirks::default();
    BootDecision::Boot(BootOffer { rule: "test".into(), stage, file: file.into(), next_server: None, quirks })
}

pub(crate) fn dhcp(address: impl Into<Ipv4Addr>) -> PacketSource {
    PacketSource { address: address.into(), port: 68, arrived_on: ServerPort::Dhcp }
}

pub(crate) fn port_4011(address: impl Into<Ipv4Addr>, port: u16) -> PacketSource {
    PacketSource { address: address.into(), port, arrived_on: ServerPort::BootServer }
}

/// One packet to a proxy.
pub(crate) fn proxy(packet: &Packet, from: PacketSource) -> Outcome {
    proxy_with(&DhcpConfig::proxy(SERVER), &Chain, packet, from)
}

pub(crate) fn proxy_with(
    config: &DhcpConfig,
    policy: &dyn BootPolicy,
    packet: &Packet,
    from: PacketSource,
) -> Outcome {
    reply(config, policy, &mut LeaseTable::default(), &packet.0, from, Millis(0))
}

/// A full server with its table.
pub(crate) struct Full {
    pub(crate) config: DhcpConfig,
    pub(crate) leases: LeaseTable,
    pub(crate) now: Millis,
}

impl Full {
    pub(crate) fn new() -> Self {
        let mut subnet =
            Subnet::new("10.77.0.0/24".parse().unwrap(), "10.77.0.100-10.77.0.150".parse().unwrap());
        subnet.routers = vec![[10, 77, 0, 254].into()];
        subnet.dns = vec![[10, 77, 0, 1].into(), [9, 9, 9, 9].into()];
        subnet.domain = Some("lab.example".into());
        Self::with(vec![subnet])
    }

    pub(crate) fn with(subnets: Vec<Subnet>) -> Self {
        let config = DhcpConfig::full(SERVER, subnets);
        assert_eq!(config.check(), Ok(()));
        Self { config, leases: LeaseTable::default(), now: Millis(1_000) }
    }

    pub(crate) fn subnet(&mut self) -> &mut Subnet {
        let gravure_netboot::dhcp::DhcpMode::Full(full) = &mut self.config.mode else { unreachable!() };
        &mut full.subnets[0]
    }

    pub(crate) fn sole(mut self) -> Self {
        if let gravure_netboot::dhcp::DhcpMode::Full(full) = &mut self.config.mode {
            full.authority = gravure_netboot::dhcp::Authority::Sole;
        }
        self
    }

    pub(crate) fn take(&mut self, packet: &Packet, from: PacketSource) -> Outcome {
        reply(&self.config, &Chain, &mut self.leases, &packet.0, from, self.now)
    }

    /// DISCOVER and REQUEST of `discover`'s client; the address it gets.
    pub(crate) fn lease(&mut self, discover: &Packet) -> Ipv4Addr {
        let offer = Seen::of(&self.take(discover, dhcp([0, 0, 0, 0])));
        let request =
            discover.clone().kind(3).option(50, &offer.yiaddr().octets()).option(54, &SERVER.octets());
        let ack = Seen::of(&self.take(&request, dhcp([0, 0, 0, 0])));
        assert_eq!((ack.kind(), ack.yiaddr()), (5, offer.yiaddr()));
        ack.yiaddr()
    }
}
