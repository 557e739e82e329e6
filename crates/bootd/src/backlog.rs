//! How many requests the kernel holds while we are busy: a room full of PCs switched on at once asks within milliseconds.

use std::os::fd::AsFd;

/// Bytes of requests. The kernel gives no more than `net.core.rmem_max` (208 KiB where nobody raised it, some 250 requests of
/// DHCP); what is lost costs the client a retry.
const BACKLOG_BYTES: usize = 4 << 20;

/// Asks for the backlog; less of it is no reason not to serve.
pub(crate) fn widen(service: &'static str, socket: &impl AsFd) {
    let socket = socket2::SockRef::from(socket);
    let asked = socket.set_recv_buffer_size(BACKLOG_BYTES);
    // The kernel doubles what it gives, for its own bookkeeping.
    match (asked, socket.recv_buffer_size()) {
        (Ok(()), Ok(given)) if given < BACKLOG_BYTES => tracing::debug!(
            service,
            given_bytes = given,
            wanted_bytes = BACKLOG_BYTES,
            "the kernel holds fewer requests than asked for; `sysctl net.core.rmem_max=4194304` lifts that"
        ),
        (Ok(()), Ok(_)) => {}
        (Err(error), _) | (_, Err(error)) => tracing::debug!(service, %error, "receive buffer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_held_as_the_kernel_allows() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        widen("test", &socket);
        let most: usize =
            std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap().trim().parse().unwrap();
        let given = socket2::SockRef::from(&socket).recv_buffer_size().unwrap();
        assert!(given >= most.min(BACKLOG_BYTES), "{given} of {most}");
    }
}
