//! DHCP relays: those that passed requests on, by the boot journal, and the networks that are configured for them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

use gravure_netboot::dhcp::{DhcpMode, Network};

use super::Check;
use crate::config::{Config, Dhcp};
use crate::db::{self, Db, DbError};
use crate::network::{self, Served};

const NAME: &str = "relay";
/// Lines of the journal that are looked through, the newest.
const MAX_LINES: i64 = 5000;
/// How the journal names a relay (`gravure_netboot::dhcp::BootClient`).
const WORDS: &str = " through relay ";

pub(super) fn relays(config: &Config) -> Vec<Check> {
    let Ok(served) = network::resolve(&config.interfaces) else { return Vec::new() };
    if served.iter().all(|served| served.config.dhcp == Dhcp::Off || served.interface.loopback) {
        return vec![Check::ok(NAME, "no DHCP here, so that no relay has anything to ask")];
    }
    let seen = match seen(&config.paths.database) {
        Ok(seen) => seen,
        Err(error) => return vec![Check::note(NAME, format!("the boot journal could not be read: {error}"))],
    };
    judge(&seen, &networks(&served, config), full(&served))
}

/// Whether this server gives addresses.
fn full(served: &[Served]) -> bool {
    served.iter().any(|served| served.config.dhcp == Dhcp::Full)
}

/// Networks that have addresses for machines: our own, then those behind relays.
fn networks(served: &[Served], config: &Config) -> Vec<(Network, bool)> {
    let mut networks = Vec::new();
    for served in served {
        let own = Network::new(served.interface.address, served.interface.prefix_len);
        let Ok(Some(dhcp)) = served.dhcp(config) else { continue };
        let DhcpMode::Full(full) = dhcp.mode else { continue };
        networks.extend(full.subnets.iter().map(|subnet| (subnet.network, Some(subnet.network) == own)));
    }
    networks
}

fn seen(url: &str) -> Result<BTreeSet<Ipv4Addr>, String> {
    let file = url.strip_prefix("sqlite://").and_then(|rest| rest.split('?').next());
    if file.is_some_and(|file| !Path::new(file).exists()) {
        return Ok(BTreeSet::new());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let texts = runtime.block_on(read(url)).map_err(|error| error.to_string())?;
    Ok(texts.iter().filter_map(|text| relay_in(text)).collect())
}

async fn read(url: &str) -> Result<Vec<String>, DbError> {
    let db = Db::look(url).await?;
    let lines = db::journal::last(&mut *db.read().await?, &[], MAX_LINES).await;
    db.close().await;
    Ok(lines?.into_iter().map(|line| line.text).collect())
}

fn relay_in(text: &str) -> Option<Ipv4Addr> {
    let (_, rest) = text.split_once(WORDS)?;
    let end = rest.find(|sign: char| !sign.is_ascii_digit() && sign != '.').unwrap_or(rest.len());
    rest.get(..end)?.trim_end_matches('.').parse().ok()
}

fn judge(seen: &BTreeSet<Ipv4Addr>, networks: &[(Network, bool)], full: bool) -> Vec<Check> {
    let told: Vec<String> = seen.iter().map(ToString::to_string).collect();
    let told = if told.is_empty() {
        "no relay has passed a request on".to_owned()
    } else {
        format!("seen: {}", told.join(", "))
    };
    if !full {
        // A proxy names boot files to whoever asks; addresses are the other server's matter.
        return vec![Check::ok(NAME, told)];
    }
    let without = |relay: &&Ipv4Addr| !networks.iter().any(|(network, _)| network.contains(**relay));
    let mut checks: Vec<Check> = seen
        .iter()
        .filter(without)
        .map(|relay| {
            Check::problem(
                NAME,
                format!("relay {relay} asks for machines of its network, and no network here has it: they get no address"),
                "add that network, with a pool, to gravure.toml, or point that relay (`ip helper-address`) elsewhere",
            )
        })
        .collect();
    for (network, _) in networks.iter().filter(|(_, own)| !own) {
        if !seen.iter().any(|relay| network.contains(*relay)) {
            let found = format!("{network} is configured, and no relay has asked for it yet");
            checks.push(Check {
                cure: Some(
                    "point the DHCP relay of that network (`ip helper-address`) at this server".to_owned(),
                ),
                ..Check::note(NAME, found)
            });
        }
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, told));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn relays_are_read_from_the_words_of_the_journal() {
        let cases = [
            ("saw DISCOVER from 52:54:00:00:00:01 through relay 10.1.0.1: sent OFFER", Some("10.1.0.1")),
            ("saw DISCOVER from x through relay 10.1.0.1, arch 7", Some("10.1.0.1")),
            ("saw DISCOVER from x through relay 10.1.0.1.", Some("10.1.0.1")),
            ("saw DISCOVER from x through relay ", None),
            ("saw DISCOVER from x: sent OFFER", None),
        ];
        for (text, expected) in cases {
            assert_eq!(relay_in(text).map(|relay| relay.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_relay_without_a_network_and_a_network_without_a_relay_are_told() {
        let network = |text: &str, own| (text.parse::<Network>().unwrap(), own);
        let relay = |text: &str| BTreeSet::from([text.parse::<Ipv4Addr>().unwrap()]);
        let own = [network("10.77.0.0/24", true)];
        let two = [network("10.77.0.0/24", true), network("10.1.0.0/24", false)];
        let none = BTreeSet::new();
        type Case<'a> = (&'a BTreeSet<Ipv4Addr>, &'a [(Network, bool)], bool, Verdict, &'a str);
        let (known, foreign) = (relay("10.1.0.1"), relay("10.2.0.1"));
        let cases: [Case<'_>; 6] = [
            (&none, &own, true, Verdict::Ok, "no relay has passed"),
            (&known, &own, true, Verdict::Problem, "relay 10.1.0.1 asks for machines"),
            (&known, &two, true, Verdict::Ok, "seen: 10.1.0.1"),
            (&none, &two, true, Verdict::Note, "10.1.0.0/24 is configured"),
            (&foreign, &[], false, Verdict::Ok, "seen: 10.2.0.1"),
            (&foreign, &two, true, Verdict::Problem, "relay 10.2.0.1 asks"),
        ];
        for (seen, networks, full, verdict, found) in cases {
            let checks = judge(seen, networks, full);
            assert_eq!(checks[0].verdict, verdict, "{checks:?}");
            assert!(checks[0].found.starts_with(found), "{checks:?}");
        }
        assert_eq!(judge(&foreign, &two, true).len(), 2);
    }
}
