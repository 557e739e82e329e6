//! A DHCPv4 client without a socket (RFC 2131 section 4.4): packets, timeouts and a moment in, at most one packet, one
//! event and a deadline out. Written for the payload, which needs an address quickly and keeps it for hours.

mod grant;
mod machine;
mod pace;

pub use grant::{Grant, Route};
pub use machine::{
    ClientConfig, ClientInput, ClientOutput, ClientTarget, DhcpClient, Event, LostBecause, Replies,
};
pub use pace::Pace;
