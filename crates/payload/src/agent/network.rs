//! The network: every wired adapter is raised and asks for an address; the first lease wins and is kept renewed. When the
//! server cannot be reached through it, another adapter gets its turn.

mod adapter;
mod configure;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gravure_linux::link::{Link, Links};
use gravure_linux::sysfs;
use gravure_model::messages::Message;

use super::screen::Screen;

/// How often adapters are looked for: USB ones come late.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How often a person is told why there is no network.
const TELL_INTERVAL: Duration = Duration::from_secs(15);
/// How long an adapter through which no server was reached stands back.
const STAND_BACK: Duration = Duration::from_secs(45);
/// Head start of the adapter that the firmware booted from.
const HEAD_START: Duration = Duration::from_secs(6);
/// `ARPHRD_ETHER`.
const ETHERNET: u16 = 1;

/// An address in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) interface: String,
    pub(super) address: Ipv4Addr,
    pub(super) prefix_len: u8,
    /// Boot servers that came with the address.
    pub(super) boot_servers: Vec<Ipv4Addr>,
}

/// The network as the other parts of the agent see it.
#[derive(Debug, Clone)]
pub(super) struct Network {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The interface that holds the address.
    holder: Option<Address>,
    /// What each adapter is waiting for, in words.
    waiting: BTreeMap<String, String>,
    /// Adapters that stand back until then.
    back_until: BTreeMap<String, Instant>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the network for an interface; false when another one has it or this one stands back.
    fn claim(&self, address: Address) -> bool {
        let mut state = self.state();
        let mine = state.holder.as_ref().is_none_or(|holder| holder.interface == address.interface);
        if mine && !state.stands_back(&address.interface) {
            state.waiting.remove(&address.interface);
            state.holder = Some(address);
            self.changed.notify_all();
            return true;
        }
        false
    }

    /// Gives the network up if `interface` has it.
    fn lose(&self, interface: &str) {
        self.state().holder.take_if(|holder| holder.interface == interface);
        self.changed.notify_all();
    }

    #[cfg(test)]
    fn holds(&self, interface: &str) -> bool {
        self.state().holder.as_ref().is_some_and(|holder| holder.interface == interface)
    }

    /// Whether `interface` may try for an address now.
    fn may_try(&self, interface: &str) -> bool {
        let state = self.state();
        state.holder.as_ref().is_none_or(|holder| holder.interface == interface)
            && !state.stands_back(interface)
    }

    fn waits(&self, interface: &str, why: String) {
        self.state().waiting.insert(interface.to_owned(), why);
        self.changed.notify_all();
    }
}

impl State {
    fn stands_back(&self, interface: &str) -> bool {
        self.back_until.get(interface).is_some_and(|until| *until > Instant::now())
    }
}

/// Starts to bring the network up, in the background.
pub(super) fn start(screen: Arc<Screen>) -> Network {
    let shared = Arc::new(Shared::default());
    let network = Network { shared: Arc::clone(&shared) };
    std::thread::spawn(move || look_for_adapters(&shared, &screen));
    network
}

impl Network {
    /// The address in use.
    #[cfg(test)]
    fn address(&self) -> Option<Address> {
        self.shared.state().holder.clone()
    }

    /// Waits until some adapter has an address, telling why it takes long.
    pub(super) fn wait_for_address(&self, screen: &Screen) -> Address {
        let mut state = self.shared.state();
        let mut told = Instant::now();
        loop {
            if let Some(address) = state.holder.clone() {
                return address;
            }
            if told.elapsed() >= TELL_INTERVAL {
                told = Instant::now();
                screen.say(&Message::NoNetworkYet { why: describe(&state.waiting) });
            }
            let waited = self.shared.changed.wait_timeout(state, Duration::from_secs(1));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// No server was reached: if there are other adapters, the one in use stands back for a while.
    pub(super) fn try_another(&self) -> bool {
        let mut state = self.shared.state();
        if state.waiting.is_empty() {
            return false;
        }
        let Some(holder) = state.holder.take() else { return false };
        state.back_until.insert(holder.interface, Instant::now() + STAND_BACK);
        self.shared.changed.notify_all();
        true
    }
}

fn describe(waiting: &BTreeMap<String, String>) -> String {
    if waiting.is_empty() {
        return "no wired network adapter was found; its driver may be missing".to_owned();
    }
    let parts: Vec<String> = waiting.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    parts.join("; ")
}

/// Starts a thread for every adapter that appears.
fn look_for_adapters(shared: &Arc<Shared>, screen: &Arc<Screen>) {
    let booted_from = booted_from();
    let start = Instant::now();
    let mut known = Vec::new();
    loop {
        let links = Links::open().and_then(|mut links| links.list()).unwrap_or_default();
        let preferred_is_there = links.iter().any(|link| link.mac.is_some() && link.mac == booted_from);
        for link in links.into_iter().filter(is_adapter) {
            if known.contains(&link.index) {
                continue;
            }
            let preferred = link.mac == booted_from;
            if !preferred && preferred_is_there && start.elapsed() < HEAD_START {
                continue;
            }
            known.push(link.index);
            shared.waits(&link.name, "being raised".to_owned());
            let (shared, screen) = (Arc::clone(shared), Arc::clone(screen));
            std::thread::spawn(move || adapter::serve(&link, &shared, &screen));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Ethernet with a device behind it: no bridges, tunnels or loopback.
fn is_adapter(link: &Link) -> bool {
    let device = Path::new("/sys/class/net").join(&link.name).join("device");
    link.hardware == ETHERNET && !link.loopback && link.mac.is_some() && device.exists()
}

/// Hardware address of the adapter the firmware booted from: `BOOTIF=01-52-54-...` on the kernel's command line.
fn booted_from() -> Option<[u8; 6]> {
    parse_bootif(&sysfs::text(Path::new("/proc/cmdline"))?)
}

fn parse_bootif(command_line: &str) -> Option<[u8; 6]> {
    let value = command_line.split_whitespace().find_map(|word| word.strip_prefix("BOOTIF="))?;
    // The hardware type comes first; GRUB writes the bare address.
    let address = value.strip_prefix("01-").unwrap_or(value);
    address.parse::<gravure_model::identity::Mac>().ok().map(|mac| mac.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(interface: &str) -> Address {
        Address {
            interface: interface.into(),
            address: Ipv4Addr::new(10, 0, 0, 9),
            prefix_len: 24,
            boot_servers: Vec::new(),
        }
    }

    #[test]
    fn the_first_lease_wins_until_it_is_lost() {
        let shared = Shared::default();
        assert!(shared.claim(address("eth1")));
        assert!(!shared.claim(address("eth0")) && !shared.may_try("eth0"));
        assert!(shared.claim(address("eth1")), "a renewal");
        shared.lose("eth0");
        assert!(shared.holds("eth1"));
        shared.lose("eth1");
        assert!(shared.claim(address("eth0")) && shared.holds("eth0"));
    }

    #[test]
    fn an_adapter_without_server_stands_back_only_if_there_is_another() {
        let network = Network { shared: Arc::default() };
        assert!(network.shared.claim(address("eth0")));
        assert!(!network.try_another());
        assert_eq!(network.address(), Some(address("eth0")));
        network.shared.waits("eth1", "another adapter is in use".into());
        assert!(network.try_another());
        assert!(!network.shared.claim(address("eth0")) && network.shared.claim(address("eth1")));
    }

    #[test]
    fn tells_why_there_is_no_network() {
        assert!(describe(&BTreeMap::new()).contains("no wired network adapter"));
        let waiting = BTreeMap::from([("eth0".to_owned(), "no cable".to_owned())]);
        assert_eq!(describe(&waiting), "eth0: no cable");
    }

    #[test]
    fn the_booted_adapter_is_on_the_command_line() {
        let mac = Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(parse_bootif("quiet BOOTIF=01-52-54-00-12-34-56 x"), mac);
        assert_eq!(parse_bootif("BOOTIF=52:54:00:12:34:56"), mac);
        assert_eq!(parse_bootif("quiet BOOTIF="), None);
    }
}
