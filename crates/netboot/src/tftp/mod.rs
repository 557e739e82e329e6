//! TFTP as firmware speaks it: requests, one sending state machine per transfer, nothing received but requests.

mod netascii;
mod packet;
mod patience;
mod terms;
mod transfer;

pub use netascii::to_netascii;
pub use packet::{Access, ErrorCode, MAX_REQUEST_BYTES, Mode, Request, error_packet, parse_request};
pub use patience::Patience;
pub use terms::Limits;
pub use transfer::{Block, Blocks, End, Input, Output, Repeat, Send, Stats, Transfer};
