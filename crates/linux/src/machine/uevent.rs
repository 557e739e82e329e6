//! The kernel's news about devices (netlink family `NETLINK_KOBJECT_UEVENT`): text records, one datagram each.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::sys::socket;
use crate::{Error, process};

/// The multicast group the kernel itself sends to; udev's own is 2.
const KERNEL_GROUP: u32 = 1;
/// Largest record: the kernel has 2 KiB for the variables and some more for the path.
const RECORD_BYTES: usize = 16 << 10;

/// A device came, went or changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceNews {
    /// `add`, `remove`, `change`, `bind`, ...
    pub action: String,
    /// Directory below `/sys`.
    pub path: String,
    /// `block`, `net`, `pci`, ...
    pub subsystem: Option<String>,
    /// What modules are looked up by.
    pub modalias: Option<String>,
}

/// The channel the news come on.
#[derive(Debug)]
pub struct Uevents {
    fd: OwnedFd,
}

impl Uevents {
    /// Starts to listen. News from before are not repeated: listen first, then look.
    pub fn open() -> Result<Self, Error> {
        let open = || {
            let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK;
            let fd = socket::open(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT)?;
            socket::bind(&fd, &socket::netlink_address(KERNEL_GROUP))?;
            Ok(Self { fd })
        };
        open().map_err(|e: std::io::Error| Error::io("open", "device news", e))
    }

    /// The next news; `None` when none came within `timeout`. `Overflow` of the kernel's queue shows as news without
    /// action or path: the caller then has to look at everything again.
    pub fn next(&self, timeout: Duration) -> Result<Option<DeviceNews>, Error> {
        if !process::wait_readable(&self.fd, timeout)? {
            return Ok(None);
        }
        let mut buf = vec![0; RECORD_BYTES];
        match socket::receive(&self.fd, &mut buf) {
            Ok(len) => Ok(parse(buf.get(..len).unwrap_or_default())),
            Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => Ok(Some(DeviceNews::default())),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(Error::io("receive", "device news", e)),
        }
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `add@/devices/...`, then `KEY=value` records, each ended by a NUL. `None` for what the kernel does not send.
fn parse(record: &[u8]) -> Option<DeviceNews> {
    let text = String::from_utf8_lossy(record);
    let mut parts = text.split('\0');
    let (action, path) = parts.next()?.split_once('@')?;
    let mut news = DeviceNews { action: action.to_owned(), path: path.to_owned(), ..DeviceNews::default() };
    for part in parts {
        match part.split_once('=') {
            Some(("SUBSYSTEM", value)) => news.subsystem = Some(value.to_owned()),
            Some(("MODALIAS", value)) => news.modalias = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(news)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_record() {
        let record = b"add@/devices/pci0000:00/0000:00:03.0\0ACTION=add\0SUBSYSTEM=pci\0\
            MODALIAS=pci:v00001AF4d00001000sv*\0SEQNUM=12\0";
        let news = parse(record).unwrap();
        assert_eq!((news.action.as_str(), news.subsystem.as_deref()), ("add", Some("pci")));
        assert_eq!(news.path, "/devices/pci0000:00/0000:00:03.0");
        assert_eq!(news.modalias.as_deref(), Some("pci:v00001AF4d00001000sv*"));
        assert_eq!(parse(b"libudev\0\xfe\xed"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn silence_is_no_news() {
        match Uevents::open() {
            Ok(channel) => assert!(channel.next(Duration::ZERO).is_ok()),
            Err(e) => eprintln!("SKIPPED: no device news here: {e}"),
        }
    }
}
