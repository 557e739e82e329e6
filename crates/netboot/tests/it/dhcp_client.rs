//! The DHCP client in virtual time: against our own server, against recorded dnsmasq, and against silence and refusals.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::wire::{Full, Packet, SERVER, Seen};
use gravure_netboot::Millis;
use gravure_netboot::dhcp::{HardwareAddress, MachineUuid, PacketSource, ServerPort};
use gravure_netboot::dhcp_client::{
    ClientConfig, ClientInput, ClientOutput, ClientTarget, DhcpClient, Event, Grant, LostBecause, Replies,
};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0xaa, 0, 7];

fn config() -> ClientConfig {
    let wire = [0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
    ClientConfig {
        uuid: MachineUuid::from_wire(wire),
        vendor_class: Some("gravure-payload".into()),
        host_name: Some("pc-17".into()),
        ..ClientConfig::new(HardwareAddress::ethernet(MAC), 42)
    }
}

/// A client and a server that hear each other, unless the server is made deaf.
struct Lab {
    client: DhcpClient,
    server: Full,
    deaf: bool,
    /// What the client sent, with the second it was sent.
    sent: Vec<(u64, Seen, ClientTarget)>,
    events: Vec<Event>,
    deadline: Option<Millis>,
}

impl Lab {
    fn new(config: ClientConfig) -> Self {
        let client = DhcpClient::new(config);
        Self {
            client,
            server: Full::new(),
            deaf: false,
            sent: Vec::new(),
            events: Vec::new(),
            deadline: None,
        }
    }

    fn now(&self) -> Millis {
        self.server.now
    }

    /// Gives the client an input and carries what follows until it is quiet.
    fn give(&mut self, input: ClientInput<'_>) {
        let mut output = self.client.on(input, self.now());
        while let Some(reply) = self.carry(output) {
            output = self.client.on(ClientInput::Packet(&reply), self.now());
        }
    }

    fn carry(&mut self, output: ClientOutput) -> Option<Vec<u8>> {
        self.deadline = output.deadline;
        self.events.extend(output.event);
        let (bytes, target) = output.send?;
        self.sent.push((self.now().0 / 1000, Seen::new(&bytes), target));
        if self.deaf {
            return None;
        }
        let address = match target {
            ClientTarget::Broadcast => Ipv4Addr::UNSPECIFIED,
            ClientTarget::Unicast(server) => {
                assert_eq!(server, SERVER);
                Seen::new(&bytes).ciaddr()
            }
        };
        let from = PacketSource { address, port: 68, arrived_on: ServerPort::Dhcp };
        let outcome = self.server.take(&Packet(bytes), from);
        outcome.reply.map(|reply| reply.bytes)
    }

    /// Lets time pass to the client's deadline.
    fn wait(&mut self) {
        self.server.now = self.deadline.expect("a deadline");
        self.give(ClientInput::Timeout);
    }

    fn grant(&self) -> &Grant {
        self.client.grant().expect("a lease")
    }
}

#[test]
fn four_packets_make_a_lease() {
    let mut lab = Lab::new(config());
    lab.give(ClientInput::Start);
    let [Event::Bound(grant)] = &lab.events[..] else { panic!("{:?}", lab.events) };
    assert_eq!(grant.network.to_string(), "10.77.0.0/24");
    assert!(grant.network.contains(grant.address));
    assert_eq!((grant.server, &grant.dns[..]), (SERVER, &[SERVER, [9, 9, 9, 9].into()][..]));
    assert_eq!(grant.routes[0].gateway, Some([10, 77, 0, 254].into()));
    assert_eq!(grant.domain.as_deref(), Some("lab.example"));
    assert_eq!(lab.client.grant(), Some(&**grant));

    let [discover, request] = &lab.sent[..] else { panic!() };
    assert_eq!(discover.1.codes(), [53, 97, 57, 55, 60, 12]);
    assert!((300..=548).contains(&discover.1.bytes.len()));
    assert_eq!(discover.1.bytes[10], 0x80, "an ordinary socket hears broadcasts only");
    assert_eq!(request.1.codes(), [53, 97, 57, 55, 50, 54, 60, 12]);
    assert_eq!(request.1.get(50).unwrap(), grant.address.octets());
    assert_eq!(discover.1.bytes[4..8], request.1.bytes[4..8], "one transaction");
    let entry = lab.server.leases.entries().next().expect("leased");
    assert_eq!(entry.host_name.as_deref(), Some("pc-17"));
    assert_eq!(lab.deadline, Some(Millis(1_000).after(Duration::from_secs(1800))));
}

#[test]
fn a_packet_socket_needs_no_broadcast() {
    let mut lab = Lab::new(ClientConfig { replies: Replies::Unicast, ..config() });
    lab.give(ClientInput::Start);
    assert!(lab.sent.iter().all(|sent| sent.1.bytes[10] == 0));
    assert_eq!(lab.events.len(), 1);
}

#[test]
fn renews_at_half_time_by_unicast_and_goes_on() {
    let mut lab = Lab::new(config());
    lab.give(ClientInput::Start);
    let address = lab.grant().address;
    for round in 1..=3 {
        lab.wait();
        let (second, packet, target) = lab.sent.last().expect("a renewal");
        assert_eq!((*second, *target), (1 + 1800 * round, ClientTarget::Unicast(SERVER)));
        assert_eq!((packet.ciaddr(), packet.get(50), packet.get(54)), (address, None, None));
        let Some(Event::Renewed(grant)) = lab.events.last() else { panic!("{:?}", lab.events) };
        assert_eq!(grant.expires, lab.now().after(Duration::from_secs(3600)));
    }
    assert_eq!(lab.server.leases.entries().count(), 1);
}

#[test]
fn silence_leads_through_rebinding_to_a_fresh_start() {
    let mut lab = Lab::new(config());
    lab.give(ClientInput::Start);
    let address = lab.grant().address;
    lab.sent.clear();
    lab.deaf = true;
    while lab.events.len() == 1 {
        lab.wait();
    }
    assert_eq!(lab.events.last(), Some(&Event::Lost(LostBecause::Expired)));
    assert_eq!(lab.client.grant(), None);
    let times =
        |target| lab.sent.iter().filter(move |sent| sent.2 == target).map(|sent| sent.0).collect::<Vec<_>>();
    // Half of what is left each time, never closer than a minute (1801 is T1, 3151 T2, 3601 the end).
    let unicast = times(ClientTarget::Unicast(SERVER));
    assert_eq!(unicast, [1801, 2476, 2813, 2982, 3066, 3126]);
    let broadcast = times(ClientTarget::Broadcast);
    assert_eq!(broadcast, [3151, 3376, 3488, 3548, 3601]);
    // The last one is a DISCOVER that asks for the old address.
    let last = &lab.sent.last().expect("sent").1;
    assert_eq!((last.kind(), last.get(50).unwrap()), (1, &address.octets()[..]));
    lab.deaf = false;
    lab.wait();
    assert_eq!(lab.grant().address, address);
}

#[test]
fn rebinding_finds_another_server() {
    let mut lab = Lab::new(config());
    lab.give(ClientInput::Start);
    lab.deaf = true;
    while lab.sent.last().expect("sent").2 != ClientTarget::Broadcast || lab.sent.len() < 4 {
        lab.wait();
    }
    // Another server with the same leases takes over.
    lab.deaf = false;
    lab.server.config.server = [10, 77, 0, 3].into();
    lab.wait();
    let Some(Event::Renewed(grant)) = lab.events.last() else { panic!("{:?}", lab.events) };
    assert_eq!(grant.server, Ipv4Addr::new(10, 77, 0, 3));
}

#[test]
fn a_refused_renewal_loses_the_address_and_gets_another() {
    let mut lab = Lab::new(config());
    lab.give(ClientInput::Start);
    // The site moves to another network.
    let before = lab.grant().address;
    lab.server = Full::with(vec![{
        let mut subnet = lab.server.subnet().clone();
        subnet.pools = vec!["10.77.0.10-10.77.0.20".parse().expect("a range")];
        subnet
    }])
    .sole();
    lab.server.now = lab.deadline.expect("T1");
    lab.give(ClientInput::Timeout);
    let why = LostBecause::Refused("it is not in this client's pools".into());
    assert_eq!(lab.events.last(), Some(&Event::Lost(why.clone())));
    assert_eq!(why.to_string(), "the server refused it: it is not in this client's pools");
    lab.wait();
    assert_ne!(lab.grant().address, before);
    assert_eq!(lab.events.len(), 3);
}

#[test]
fn a_renewal_that_grants_another_address_is_none() {
    let mut lab = Lab::new(config());
    lab.give(ClientInput::Start);
    lab.deaf = true;
    lab.wait();
    let renewal = &lab.sent.last().expect("a renewal").1.bytes;
    let mut ack = answering(fixture!("dnsmasq-ack"), renewal);
    assert_ne!(Seen::new(&ack).yiaddr(), lab.grant().address);
    let output = lab.client.on(ClientInput::Packet(&ack), lab.now());
    assert_eq!(output.event, None);
    ack[16..20].copy_from_slice(&lab.grant().address.octets());
    let output = lab.client.on(ClientInput::Packet(&ack), lab.now());
    assert!(matches!(output.event, Some(Event::Renewed(_))));
}

#[test]
fn a_conflict_is_declined_and_another_address_taken_after_a_while() {
    let mut lab = Lab::new(config());
    lab.give(ClientInput::Start);
    let before = lab.grant().address;
    lab.give(ClientInput::Conflict);
    assert_eq!(lab.events.last(), Some(&Event::Lost(LostBecause::Conflict)));
    let decline = &lab.sent.last().expect("sent").1;
    assert_eq!(
        (decline.kind(), decline.get(50).unwrap(), decline.get(54).unwrap()),
        (4, &before.octets()[..], &SERVER.octets()[..])
    );
    assert_eq!(lab.deadline, Some(lab.now().after(Duration::from_secs(10))));
    lab.wait();
    assert_ne!(lab.grant().address, before);
    // Without a lease there is nothing to be in conflict about.
    let mut idle = DhcpClient::new(config());
    let nothing = ClientOutput { event: None, send: None, deadline: None };
    assert_eq!(idle.on(ClientInput::Conflict, Millis(0)), nothing);
}

#[test]
fn release_gives_back_and_stops() {
    let mut lab = Lab::new(config());
    lab.give(ClientInput::Start);
    let address = lab.grant().address;
    lab.give(ClientInput::Release);
    let (_, release, target) = lab.sent.last().expect("sent");
    assert_eq!((release.kind(), release.ciaddr(), *target), (7, address, ClientTarget::Unicast(SERVER)));
    assert_eq!((lab.events.last(), lab.deadline), (Some(&Event::Lost(LostBecause::Released)), None));
    assert_eq!(lab.server.leases.holder(address, lab.now()), None);
    // The link comes back: the same address again.
    lab.give(ClientInput::Start);
    assert_eq!(lab.grant().address, address);
}

#[test]
fn discovers_repeat_at_doubling_waits_for_as_long_as_it_takes() {
    let mut lab = Lab::new(config());
    lab.deaf = true;
    lab.give(ClientInput::Start);
    let mut last = lab.now();
    for plain in [1000, 2000, 4000, 8000, 16_000, 16_000, 16_000] {
        lab.wait();
        let waited = lab.now().since(last).as_millis();
        assert!((plain * 3 / 4..=plain * 5 / 4).contains(&waited), "{plain}: {waited}");
        last = lab.now();
    }
    let first = &lab.sent[0].1;
    for sent in &lab.sent {
        assert_eq!((sent.1.kind(), &sent.1.bytes[4..8]), (1, &first.bytes[4..8]));
        let secs = u16::from_be_bytes([sent.1.bytes[8], sent.1.bytes[9]]);
        assert!(u64::from(secs).abs_diff(sent.0 - 1) <= 1, "seconds since the start");
    }
    assert!(lab.events.is_empty());
}

#[test]
fn requests_repeat_and_then_start_over() {
    let mut lab = Lab::new(config());
    // The server dies right after its offer.
    let output = lab.client.on(ClientInput::Start, lab.now());
    let offer = lab.carry(output).expect("an offer");
    lab.deaf = true;
    lab.give(ClientInput::Packet(&offer));
    while lab.sent.last().expect("sent").1.kind() == 3 {
        lab.wait();
    }
    let kinds: Vec<_> = lab.sent.iter().map(|sent| sent.1.kind()).collect();
    assert_eq!(kinds, [1, 3, 3, 3, 3, 1]);
    assert_ne!(lab.sent[0].1.bytes[4..8], lab.sent[5].1.bytes[4..8], "a new transaction");
}

#[test]
fn refusals_in_a_row_are_spaced_out() {
    let mut lab = Lab::new(config());
    let mut waits = Vec::new();
    let mut output = lab.client.on(ClientInput::Start, lab.now());
    for _ in 0..4 {
        let offer = lab.carry(output).expect("an offer");
        let output_request = lab.client.on(ClientInput::Packet(&offer), lab.now());
        let (request, _) = output_request.send.expect("a request");
        let nak = Packet(offer.clone()).kind(6).0;
        assert_eq!(request[4..8], nak[4..8]);
        let refused = lab.client.on(ClientInput::Packet(&nak), lab.now());
        assert_eq!((refused.send, refused.event), (None, None));
        let deadline = refused.deadline.expect("another try");
        waits.push(deadline.since(lab.now()).as_millis());
        lab.server.now = deadline;
        output = lab.client.on(ClientInput::Timeout, lab.now());
    }
    for (wait, plain) in waits.iter().zip([1000, 2000, 4000, 8000]) {
        assert!((plain * 3 / 4..=plain * 5 / 4).contains(wait), "{waits:?}");
    }
}

/// A recorded server's packet as if it answered `client_packet`.
fn answering(mut recorded: Vec<u8>, client_packet: &[u8]) -> Vec<u8> {
    recorded[4..8].copy_from_slice(&client_packet[4..8]);
    recorded
}

#[test]
fn takes_what_dnsmasq_offers() {
    let mut client = DhcpClient::new(config());
    let (discover, _) = client.on(ClientInput::Start, Millis(0)).send.expect("a discover");
    let offer = answering(fixture!("dnsmasq-offer"), &discover);
    let (request, _) = client.on(ClientInput::Packet(&offer), Millis(5)).send.expect("a request");
    assert_eq!(Seen::new(&request).get(50).unwrap(), [10, 77, 0, 106]);
    let output = client.on(ClientInput::Packet(&answering(fixture!("dnsmasq-ack"), &request)), Millis(9));
    let Some(Event::Bound(grant)) = output.event else { panic!("{output:?}") };
    assert_eq!((grant.address, grant.server), ([10, 77, 0, 106].into(), SERVER));
    assert_eq!(grant.renew_at, Millis(5).after(Duration::from_secs(1800)), "counted from the request");
}

#[test]
fn packets_that_are_not_the_answer_change_nothing() {
    let mut client = DhcpClient::new(config());
    let start = client.on(ClientInput::Start, Millis(0));
    let (discover, _) = start.send.expect("a discover");
    let offer = answering(fixture!("dnsmasq-offer"), &discover);
    let damaged = |offset: usize, value: u8| {
        let mut bytes = offer.clone();
        bytes[offset] = value;
        bytes
    };
    let cases = [
        ("request", damaged(0, 1)),
        ("other transaction", damaged(7, offer[7] ^ 1)),
        ("other machine", damaged(33, 9)),
        ("a proxy's offer", damaged(16, 0)),
        ("ack before a request", Packet(offer.clone()).kind(5).0),
        ("nak before a request", Packet(offer.clone()).kind(6).0),
        ("no server", Packet(offer.clone()).without(54).0),
        ("cut", offer[..239].to_vec()),
        ("our own", discover),
    ];
    for (what, bytes) in cases {
        let output = client.on(ClientInput::Packet(&bytes), Millis(3));
        assert_eq!(output, ClientOutput { event: None, send: None, deadline: start.deadline }, "{what}");
    }
    let (request, _) = client.on(ClientInput::Packet(&offer), Millis(5)).send.expect("a request");
    let ack = answering(fixture!("dnsmasq-ack"), &request);
    for other in [
        Packet(ack.clone()).option(54, &[10, 77, 0, 9]),
        Packet(ack.clone()).kind(6).option(54, &[10, 77, 0, 9]),
    ] {
        assert_eq!(client.on(ClientInput::Packet(&other.0), Millis(6)).event, None, "another server's word");
    }
    assert!(matches!(client.on(ClientInput::Packet(&ack), Millis(7)).event, Some(Event::Bound(_))));
    assert_eq!(client.on(ClientInput::Packet(&ack), Millis(8)).event, None, "a duplicate");
}

#[test]
fn two_machines_do_not_share_transactions() {
    let xid = |seed| {
        let config = ClientConfig { seed, ..config() };
        DhcpClient::new(config).on(ClientInput::Start, Millis(0)).send.expect("a discover").0[4..8].to_vec()
    };
    let mut seen: Vec<_> = (0..200).map(xid).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 200);
}
