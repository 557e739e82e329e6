//! The decision log as data: what was seen, what was decided by which rule, what was offered, and what was odd.
//!
//! One [`JournalEntry`] a packet. `Display` gives the sentence an operator reads ("nothing happens" has to be explained
//! somewhere); the fields are what programs filter by. Texts from the network carry no control characters.

use core::fmt;
use core::net::Ipv4Addr;

use super::client::BootClient;
use super::message::{Defect, MessageKind};
use super::server::ServerPort;
use crate::Error;

/// What became of one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// What arrived; `None` when it could not be read.
    pub saw: Option<Saw>,
    /// What was decided.
    pub decided: Decided,
    /// What was odd on the way.
    pub notes: Vec<Note>,
}

/// A message that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saw {
    /// Its type.
    pub kind: MessageKind,
    /// Where it arrived.
    pub port: ServerPort,
    /// Its transaction.
    pub xid: u32,
    /// Who sent it.
    pub client: BootClient,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// Answered.
    Answered {
        /// With which message.
        kind: MessageKind,
        /// The address given; `None` for a proxy.
        address: Option<Ipv4Addr>,
        /// The boot file, or why there is none.
        boot: Result<Given, NoBoot>,
    },
    /// Refused with a NAK.
    Refused {
        /// The address the client wanted.
        address: Ipv4Addr,
        /// Why not.
        why: RefusedBecause,
    },
    /// A lease ended or an address was set aside; such messages have no answer.
    Noted(LeaseChange),
    /// Not answered.
    Ignored(IgnoredBecause),
}

/// A boot file that was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Name or URL.
    pub file: String,
    /// Rule of the policy.
    pub rule: String,
    /// Server for plain names.
    pub next_server: Ipv4Addr,
    /// The reply carried the name; false in the first phase of two, when port 4011 will.
    pub complete: bool,
}

/// Why a reply has no boot file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoBoot {
    /// The client does not boot from the network.
    NotABootClient,
    /// The policy said so.
    Policy {
        /// Its rule.
        rule: String,
        /// Its reason.
        why: String,
    },
    /// The policy's file is for the other stage: iPXE must not get iPXE or shim again, firmware no script.
    LoopGuard {
        /// Its rule.
        rule: String,
        /// Its file.
        file: String,
    },
    /// The policy's file cannot reach this client.
    Unusable {
        /// Its rule.
        rule: String,
        /// Its file.
        file: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Why a NAK was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBecause {
    /// The address belongs to another network.
    WrongNetwork,
    /// The address is somebody else's.
    Taken,
    /// The address is not one we give to this client.
    Outside,
}

/// A message that changes a lease without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseChange {
    /// The client gave this address back.
    Released(Ipv4Addr),
    /// The client found this address in use: somebody has it who did not get it from us.
    Declined(Ipv4Addr),
}

/// Why a packet got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IgnoredBecause {
    /// It could not be read.
    Unreadable(Error),
    /// It is a server's message, or plain BOOTP.
    NotARequest,
    /// It went through more relays than RFC 1542 allows.
    TooManyHops(u8),
    /// No link-layer address and no client identifier.
    Anonymous,
    /// A proxy answers machines that boot, and this message is none of theirs for us.
    NotForUs(NoBoot),
    /// The client took another server's offer.
    OtherServerChosen(Ipv4Addr),
    /// It is about a lease we do not manage or know.
    UnknownLease,
    /// No network is configured for the link it came from.
    NoNetwork(Ipv4Addr),
    /// All addresses of its network are taken.
    PoolExhausted,
    /// It asks for something that needs an address and names none.
    NoAddress,
    /// Not even the necessary options fit into the client's limit.
    ReplyTooLarge(usize),
}

/// Something odd that changed no decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The options could not be read to the end.
    Damaged(Defect),
    /// These options did not fit into the reply.
    LeftOut(Vec<u8>),
    /// The name is too long for the `file` field and stands in option 67 only.
    LongName(usize),
    /// Several architectures were named; this many.
    ManyArchitectures(usize),
}

impl JournalEntry {
    /// Whether it is everyday noise (other people's DHCP traffic) that a log of boots can do without.
    #[must_use]
    pub fn is_noise(&self) -> bool {
        use IgnoredBecause::{NotARequest, NotForUs, OtherServerChosen, UnknownLease};
        let boots = self.saw.as_ref().is_some_and(|saw| saw.client.boots());
        match &self.decided {
            Decided::Ignored(NotARequest) => true,
            Decided::Ignored(NotForUs(_) | OtherServerChosen(_) | UnknownLease) => !boots,
            _ => false,
        }
    }
}

impl fmt::Display for JournalEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(saw) = &self.saw {
            write!(f, "saw {} from {}", saw.kind, saw.client)?;
            if saw.port == ServerPort::BootServer {
                write!(f, " on port 4011")?;
            }
            write!(f, ": ")?;
        }
        write!(f, "{}", self.decided)?;
        self.notes.iter().try_for_each(|note| write!(f, "; {note}"))
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { kind, address, boot } => {
                write!(f, "sent {kind}")?;
                if let Some(address) = address {
                    write!(f, " of {address}")?;
                }
                match boot {
                    Ok(given) => write!(f, " with {given}"),
                    Err(NoBoot::NotABootClient) => Ok(()),
                    Err(why) => write!(f, " without a boot file: {why}"),
                }
            }
            Self::Refused { address, why } => write!(f, "refused {address}: {why}"),
            Self::Noted(LeaseChange::Released(address)) => write!(f, "{address} given back"),
            Self::Noted(LeaseChange::Declined(address)) => {
                write!(f, "{address} is used by somebody else; set aside")
            }
            Self::Ignored(why) => write!(f, "ignored: {why}"),
        }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} because of rule \"{}\"", self.file, self.next_server, self.rule)?;
        if self.complete { Ok(()) } else { write!(f, ", to be named on port 4011") }
    }
}

impl fmt::Display for NoBoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotABootClient => write!(f, "not a client that boots"),
            Self::Policy { rule, why } => write!(f, "{why} (rule \"{rule}\")"),
            Self::LoopGuard { rule, file } => {
                write!(f, "rule \"{rule}\" names {file}, which this loader would start over and over")
            }
            Self::Unusable { rule, file, why } => write!(f, "rule \"{rule}\" names {file:?}, {why}"),
        }
    }
}

impl fmt::Display for RefusedBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongNetwork => "it belongs to another network",
            Self::Taken => "somebody else has it",
            Self::Outside => "it is not in this client's pools",
        })
    }
}

impl fmt::Display for IgnoredBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "{error}"),
            Self::NotARequest => write!(f, "not a client's DHCP message"),
            Self::TooManyHops(hops) => write!(f, "it passed {hops} relays, more than 16"),
            Self::Anonymous => write!(f, "neither a link-layer address nor a client identifier"),
            Self::NotForUs(why) => write!(f, "{why}"),
            Self::OtherServerChosen(server) => write!(f, "the client took the offer of {server}"),
            Self::UnknownLease => write!(f, "about a lease that is not ours"),
            Self::NoNetwork(link) => write!(f, "no network is configured that holds {link}"),
            Self::PoolExhausted => write!(f, "no address left in its network"),
            Self::NoAddress => write!(f, "it names no address"),
            Self::ReplyTooLarge(limit) => write!(f, "the reply would not fit into {limit} bytes"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(defect) => write!(f, "{defect}, the rest was not read"),
            Self::LeftOut(codes) => write!(f, "no room for options {codes:?}"),
            Self::LongName(len) => write!(f, "name of {len} bytes in option 67 only"),
            Self::ManyArchitectures(count) => write!(f, "{count} architectures named"),
        }
    }
}
