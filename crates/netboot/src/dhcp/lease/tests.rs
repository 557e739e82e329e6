//! Rules of the lease table.

use super::super::config::Reservation;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn subnet() -> Subnet {
    Subnet::new("10.0.0.0/24".parse().unwrap(), "10.0.0.10-10.0.0.12".parse().unwrap())
}

fn mac(last: u8) -> HardwareAddress {
    HardwareAddress::ethernet([2, 0, 0, 0, 0, last])
}

fn ip(last: u8) -> Ipv4Addr {
    [10, 0, 0, last].into()
}

/// Runs `act` as the client `last`.
fn ask<T>(subnet: &Subnet, last: u8, requested: Option<u8>, act: impl FnOnce(&AddressRequest<'_>) -> T) -> T {
    let (hardware, client) = (mac(last), ClientKey::Hardware(mac(last)));
    act(&AddressRequest {
        client: &client,
        hardware: &hardware,
        host_name: None,
        subnet,
        requested: requested.map(ip),
    })
}

fn take(table: &mut LeaseTable, subnet: &Subnet, last: u8, now: Millis) -> Option<Ipv4Addr> {
    ask(subnet, last, None, |ask| {
        let address = table.reserve(ask, now)?;
        table.commit(ask, address, HOUR, now).unwrap();
        Some(address)
    })
}

#[test]
fn every_client_gets_its_own_address_and_the_same_again() {
    let (mut table, subnet) = (LeaseTable::default(), subnet());
    let mut given: Vec<_> = (1..=3).map(|last| take(&mut table, &subnet, last, Millis(0)).unwrap()).collect();
    assert_eq!(take(&mut table, &subnet, 4, Millis(0)), None);
    for last in 1..=3 {
        assert_eq!(take(&mut table, &subnet, last, Millis(5)), Some(given[usize::from(last) - 1]));
    }
    given.sort();
    assert_eq!(given, [ip(10), ip(11), ip(12)]);
}

#[test]
fn an_empty_table_gives_the_same_client_the_same_address() {
    let subnet = subnet();
    let first = take(&mut LeaseTable::default(), &subnet, 77, Millis(0));
    assert_eq!(take(&mut LeaseTable::default(), &subnet, 77, Millis(9)), first);
}

#[test]
fn expired_leases_go_to_others_the_longest_unused_first() {
    let (mut table, subnet) = (LeaseTable::default(), subnet());
    let given: Vec<_> =
        (1..=3).map(|last| take(&mut table, &subnet, last, Millis(last.into())).unwrap()).collect();
    let later = Millis(0).after(HOUR).after(Duration::from_millis(2));
    assert_eq!(take(&mut table, &subnet, 4, later), Some(given[0]));
    assert_eq!(take(&mut table, &subnet, 5, later), Some(given[1]));
    assert_eq!(take(&mut table, &subnet, 6, later), None, "the third lease still runs");
}

#[test]
fn requested_addresses_are_given_when_free() {
    let (mut table, subnet) = (LeaseTable::default(), subnet());
    assert_eq!(ask(&subnet, 1, Some(12), |ask| table.reserve(ask, Millis(0))), Some(ip(12)));
    let other = ask(&subnet, 2, Some(12), |ask| table.reserve(ask, Millis(0))).unwrap();
    assert_ne!(other, ip(12), "held by the offer to the first client");
    let outside = ask(&subnet, 3, Some(99), |ask| table.reserve(ask, Millis(0))).unwrap();
    assert!(subnet.pools[0].contains(outside));
}

#[test]
fn offers_lapse_and_can_be_withdrawn() {
    let (mut table, subnet) = (LeaseTable::default(), subnet());
    for last in 1..=3 {
        ask(&subnet, last, None, |ask| table.reserve(ask, Millis(0))).unwrap();
    }
    assert_eq!(ask(&subnet, 4, None, |ask| table.reserve(ask, Millis(1))), None);
    table.withdraw(&ClientKey::Hardware(mac(2)));
    assert!(ask(&subnet, 4, None, |ask| table.reserve(ask, Millis(1))).is_some());
    assert!(ask(&subnet, 5, None, |ask| table.reserve(ask, Millis(0).after(OFFER_HOLD))).is_some());
    assert_eq!(table.take_changes(), [], "offers are not worth storing");
}

#[test]
fn a_bound_client_that_asks_again_keeps_its_lease() {
    let (mut table, subnet) = (LeaseTable::default(), subnet());
    let address = take(&mut table, &subnet, 1, Millis(0)).unwrap();
    let before = table.holder(address, Millis(1)).unwrap().clone();
    assert_eq!(ask(&subnet, 1, None, |ask| table.reserve(ask, Millis(1))), Some(address));
    table.withdraw(&ClientKey::Hardware(mac(1)));
    assert_eq!(table.holder(address, Millis(1)), Some(&before), "an offer is no reason to forget the lease");
}

#[test]
fn declined_addresses_rest_and_only_their_holder_can_decline() {
    let (mut table, subnet) = (LeaseTable::default(), subnet());
    let address = take(&mut table, &subnet, 1, Millis(0)).unwrap();
    assert!(!table.decline(&ClientKey::Hardware(mac(2)), address, Millis(1)));
    assert!(table.decline(&ClientKey::Hardware(mac(1)), address, Millis(1)));
    assert!(!table.release(&ClientKey::Hardware(mac(1)), address, Millis(1)), "a release must not free it");
    let next = take(&mut table, &subnet, 1, Millis(2)).unwrap();
    assert_ne!(next, address);
    assert_eq!(ask(&subnet, 1, None, |ask| table.standing(ask, address, Millis(2))), Standing::Taken);
    let later = Millis(1).after(DECLINE_HOLD);
    assert_eq!(ask(&subnet, 3, None, |ask| table.standing(ask, address, later)), Standing::Free);
}

#[test]
fn released_addresses_are_free_but_remembered() {
    let (mut table, subnet) = (LeaseTable::default(), subnet());
    let address = take(&mut table, &subnet, 1, Millis(0)).unwrap();
    assert!(!table.release(&ClientKey::Hardware(mac(2)), address, Millis(1)));
    assert!(table.release(&ClientKey::Hardware(mac(1)), address, Millis(1)));
    assert_eq!(ask(&subnet, 2, None, |ask| table.standing(ask, address, Millis(2))), Standing::Free);
    assert_eq!(take(&mut table, &subnet, 1, Millis(3)), Some(address));
}

#[test]
fn reservations_win_over_earlier_leases_and_hold_for_nobody_else() {
    let (mut table, mut subnet) = (LeaseTable::default(), subnet());
    let before = take(&mut table, &subnet, 1, Millis(0)).unwrap();
    let fixed = if before == ip(10) { ip(11) } else { ip(10) };
    subnet.reservations.push(Reservation { hardware: mac(1), address: fixed });
    assert_eq!(take(&mut table, &subnet, 1, Millis(1)), Some(fixed));
    assert_eq!(table.holder(before, Millis(2)), None, "the earlier address is free");
    assert_eq!(
        ask(&subnet, 2, None, |ask| table.commit(ask, fixed, HOUR, Millis(2))),
        Err(Standing::Outside)
    );
    let others: Vec<_> = [2, 3].map(|last| take(&mut table, &subnet, last, Millis(3)).unwrap()).into();
    assert!(!others.contains(&fixed));
}

#[test]
fn commit_refuses_what_is_not_to_be_had() {
    let (mut table, subnet) = (LeaseTable::default(), subnet());
    let address = take(&mut table, &subnet, 1, Millis(0)).unwrap();
    assert_eq!(
        ask(&subnet, 2, None, |ask| table.commit(ask, address, HOUR, Millis(1))),
        Err(Standing::Taken)
    );
    assert_eq!(
        ask(&subnet, 2, None, |ask| table.commit(ask, ip(99), HOUR, Millis(1))),
        Err(Standing::Outside)
    );
    assert_eq!(table.holder(address, Millis(1)).unwrap().hardware, mac(1));
}

#[test]
fn changes_and_entries_rebuild_the_table() {
    let (mut table, subnet) = (LeaseTable::default(), subnet());
    let address = take(&mut table, &subnet, 1, Millis(0)).unwrap();
    take(&mut table, &subnet, 2, Millis(0)).unwrap();
    let changes = table.take_changes();
    assert_eq!(changes.len(), 2);
    assert_eq!(table.take_changes(), []);
    let mut copy = LeaseTable::import(changes);
    assert!(copy.entries().eq(table.entries()));
    assert_eq!(copy.take_changes(), []);
    assert_eq!(take(&mut copy, &subnet, 1, Millis(5)), Some(address));
}

#[test]
fn keys_survive_as_text() {
    let keys =
        [ClientKey::Hardware(mac(7)), ClientKey::Identifier(vec![0xff, 0, 9]), ClientKey::Identifier(vec![])];
    for key in keys {
        assert_eq!(key.to_string().parse::<ClientKey>().unwrap(), key);
    }
    assert_eq!(ClientKey::Hardware(mac(7)).to_string(), "hw:01:020000000007");
    for text in ["", "hw:1:00", "hw:01:0", "id:zz", "xx:00", "hw:01:0000000000000000000000000000000000"] {
        assert!(text.parse::<ClientKey>().is_err(), "{text}");
    }
}
