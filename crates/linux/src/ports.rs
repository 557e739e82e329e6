//! Who listens where on this machine: `/proc/net/{udp,tcp}` (proc(5)) and the descriptors of all processes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;

/// Largest table read; a line has 150 bytes.
const MAX_TABLE_BYTES: u64 = 64 << 20;

/// Which kind of port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP, listening.
    Tcp,
}

/// A process that holds a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name, as `ps` shows it.
    pub program: String,
}

/// Who holds `port` at `address` or at all addresses, in the network namespace of this process. Processes of others are
/// named only to root; then the list is empty although [`is_held`] says true.
pub fn holders(proc: &Path, protocol: Protocol, address: Ipv4Addr, port: u16) -> Vec<Holder> {
    let inodes = sockets(proc, protocol, address, port);
    if inodes.is_empty() {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(proc) else { return Vec::new() };
    let mut found = BTreeSet::new();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(open) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let mut links = open.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
        if links.any(|link| link.to_str().and_then(socket_inode).is_some_and(|inode| inodes.contains(&inode)))
        {
            let program = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            found.insert(Holder { pid, program: program.trim().to_owned() });
        }
    }
    found.into_iter().collect()
}

/// Whether anybody holds it.
pub fn is_held(proc: &Path, protocol: Protocol, address: Ipv4Addr, port: u16) -> bool {
    !sockets(proc, protocol, address, port).is_empty()
}

fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn sockets(proc: &Path, protocol: Protocol, address: Ipv4Addr, port: u16) -> BTreeSet<u64> {
    let (four, six) = match protocol {
        Protocol::Udp => ("net/udp", "net/udp6"),
        Protocol::Tcp => ("net/tcp", "net/tcp6"),
    };
    let read = |name: &str| {
        crate::sysfs::read_bounded(&proc.join(name), MAX_TABLE_BYTES)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    };
    let any4 = "00000000".to_owned();
    // Words of an address are printed as numbers of this machine.
    let own = format!("{:08X}", u32::from_ne_bytes(address.octets()));
    let any6 = "0".repeat(32);
    let listening = |state: &str| protocol == Protocol::Udp || state == "0A";
    let mut found = BTreeSet::new();
    for (table, wanted) in [(read(four), vec![any4, own]), (read(six), vec![any6])] {
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { continue };
            let Some((host, number)) = local.split_once(':') else { continue };
            let fits = u16::from_str_radix(number, 16) == Ok(port) && wanted.iter().any(|own| own == host);
            if fits && listening(state) {
                found.extend(inode.parse::<u64>());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn finds_this_process_behind_its_own_sockets() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = Ipv4Addr::LOCALHOST;
        for (protocol, port) in [
            (Protocol::Udp, udp.local_addr().unwrap().port()),
            (Protocol::Tcp, tcp.local_addr().unwrap().port()),
        ] {
            let found = holders(Path::new("/proc"), protocol, local, port);
            assert_eq!(found.iter().map(|holder| holder.pid).collect::<Vec<_>>(), [std::process::id()]);
            assert!(is_held(Path::new("/proc"), protocol, local, port));
            // Another address of this machine is free.
            assert!(!is_held(Path::new("/proc"), protocol, Ipv4Addr::new(127, 0, 0, 9), port));
        }
    }

    #[test]
    fn tables_of_any_shape_are_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("net")).unwrap();
        std::fs::write(
            dir.path().join("net/tcp"),
            "header\nshort\n 0: 00000000:0050 0:0 0A x x x x x 77 1\n",
        )
        .unwrap();
        assert!(is_held(dir.path(), Protocol::Tcp, Ipv4Addr::LOCALHOST, 80));
        assert!(!is_held(dir.path(), Protocol::Tcp, Ipv4Addr::LOCALHOST, 81));
        assert_eq!(holders(dir.path(), Protocol::Tcp, Ipv4Addr::LOCALHOST, 80), []);
        assert!(!is_held(dir.path(), Protocol::Udp, Ipv4Addr::LOCALHOST, 80));
    }
}
