//! A lease made into addresses, routes and name servers of the kernel.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use gravure_linux::Error;
use gravure_linux::link::{LinkAddress, Links};
use gravure_netboot::dhcp_client::Grant;

/// Metric of our routes; there are no others.
const METRIC: u32 = 100;
/// Prefix of the default route.
const ANYWHERE: u8 = 0;

/// Sets what `grant` says on interface `index`, or renews it.
pub(super) fn apply(links: &mut Links, index: u32, grant: &Grant) -> Result<(), Error> {
    let address =
        LinkAddress { index, address: IpAddr::V4(grant.address), prefix_len: grant.network.prefix() };
    // The client takes the address away when the lease ends; the kernel must not do it a second before a renewal.
    links.set_address(address, None::<Duration>)?;
    for route in &grant.routes {
        let destination = (IpAddr::V4(route.destination.base()), route.destination.prefix());
        let gateway = route.gateway.map(IpAddr::V4);
        if let (ANYWHERE, Some(gateway)) = (destination.1, gateway) {
            links.set_default_route(index, gateway, METRIC)?;
        } else {
            links.set_route(index, destination, gateway, METRIC)?;
        }
    }
    // Names are rarely used: the site part names addresses. A read-only root is no reason to have no network.
    let _ = std::fs::write("/etc/resolv.conf", resolver(&grant.dns));
    Ok(())
}

/// Takes all addresses and with them all routes away.
pub(super) fn clear(links: &mut Links, index: u32) -> Result<(), Error> {
    links.remove_addresses(index)
}

/// resolv.conf(5), which takes three servers.
fn resolver(servers: &[Ipv4Addr]) -> String {
    servers.iter().take(3).map(|server| format!("nameserver {server}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_name_servers_at_most() {
        let servers = [1, 2, 3, 4].map(|last| Ipv4Addr::new(9, 9, 9, last));
        assert_eq!(resolver(&servers), "nameserver 9.9.9.1\nnameserver 9.9.9.2\nnameserver 9.9.9.3\n");
    }
}
