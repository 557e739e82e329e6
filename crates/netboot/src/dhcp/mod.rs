//! DHCPv4 for machines that boot: the server's and the proxy's decisions (RFC 2131, PXE 2.1), their configuration,
//! leases and journal. The client's side is in [`crate::dhcp_client`].

mod answer;
mod arch;
mod client;
pub mod code;
mod compose;
mod config;
mod delivery;
mod journal;
mod lease;
mod message;
mod offer;
mod policy;
mod probe;
mod server;
mod subnet;
mod watch;

pub use arch::{ArchCode, Platform, Transport};
pub(crate) use client::printable;
pub use client::{BootClient, ClientClass, Loader, MachineUuid, Relay};
pub(crate) use compose::Composer;
pub use config::{
    Authority, DhcpConfig, DhcpMode, FullDhcp, Identify, MAX_LEASE, MAX_POOL_ADDRESSES, MIN_LEASE,
    ProxyStyle, Reservation, Subnet,
};
pub use delivery::{Destination, Reply};
pub use journal::{
    Decided, Given, IgnoredBecause, JournalEntry, LeaseChange, NoBoot, Note, RefusedBecause, Saw,
};
pub use lease::{AddressRequest, ClientKey, LeaseEntry, LeaseState, LeaseStore, LeaseTable, Standing};
pub use message::{
    Defect, Direction, HardwareAddress, Head, MAX_PACKET_BYTES, Message, MessageKind, Options,
};
pub use offer::MAX_FILE_NAME_BYTES;
pub(crate) use offer::{BootFile, decide_boot};
pub use policy::{
    BootDecision, BootOffer, BootPolicy, BootRule, BootTable, FileIn, Quirks, Stage, Then, When,
};
pub use probe::{SeenOffer, probe, read_offer};
pub use server::{Outcome, PacketSource, ServerPort, Sighting, reply};
pub use subnet::{AddressRange, Network};
pub use watch::{Finding, OfferWatch};
