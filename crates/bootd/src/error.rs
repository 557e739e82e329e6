//! Why a boot service does not start. What goes wrong later is a line in the log and ends one exchange, not the service.

use std::net::SocketAddr;

/// A service that cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The port belongs to another program.
    #[error("{service}: port {address} is in use by another program")]
    PortInUse {
        /// Which service.
        service: &'static str,
        /// Where it wanted to listen.
        address: SocketAddr,
    },
    /// Ports below 1024 and raw sockets need privileges.
    #[error("{service}: no permission to listen on {address}")]
    NoPermission {
        /// Which service.
        service: &'static str,
        /// Where it wanted to listen.
        address: SocketAddr,
    },
    /// Some other refusal of the system.
    #[error("{service}: cannot listen on {address}: {source}")]
    Listen {
        /// Which service.
        service: &'static str,
        /// Where it wanted to listen.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel does not tell its interfaces, or refuses a raw socket.
    #[error(transparent)]
    Kernel(#[from] gravure_linux::Error),
    /// A DHCP configuration that cannot work.
    #[error(transparent)]
    Setting(#[from] gravure_netboot::Error),
}

impl Error {
    /// Sorts a refusal to listen.
    pub fn listen(service: &'static str, address: SocketAddr, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::AddrInUse => Self::PortInUse { service, address },
            std::io::ErrorKind::PermissionDenied => Self::NoPermission { service, address },
            _ => Self::Listen { service, address, source },
        }
    }
}
