//! What happened at each machine's boot, in words: saw, decided, offered, fetched, and what is missing with its likely
//! cause and cure. Notes go to a [`NoteKeeper`]; what a sequence of them means is `gravure_netboot::dhcp::OfferWatch`'s before the
//! first file, and `gravure_netboot::StageWatch`'s from then on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use gravure_netboot::dhcp::{Finding, HardwareAddress, OfferWatch, Outcome};
use gravure_netboot::{Millis, Stage, StageWatch, Stopped};

/// Notes one machine may cause in [`RATE_WINDOW`]: a boot takes about 20. More are dropped, and one says so.
const MAX_NOTES: u32 = 120;
const RATE_WINDOW: Duration = Duration::from_secs(60);
/// Machines whose rate is known; beyond that all start anew.
const MAX_RATES: usize = 16384;

/// What a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// A DHCP message and what was decided.
    Dhcp,
    /// A file that was sent.
    Fetched,
    /// A file that was asked for and is not there.
    Missing,
    /// The server's part: menu, token, report.
    Server,
    /// Something expected that did not happen.
    Trouble,
}

impl NoteKind {
    /// The word programs filter by.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dhcp => "dhcp",
            Self::Fetched => "fetched",
            Self::Missing => "missing",
            Self::Server => "server",
            Self::Trouble => "trouble",
        }
    }
}

/// One line of a machine's boot journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// When.
    pub at: SystemTime,
    /// The machine.
    pub mac: [u8; 6],
    /// What it is about.
    pub kind: NoteKind,
    /// In words, without control characters.
    pub text: String,
    /// What to do, where something is wrong.
    pub advice: Option<String>,
}

/// Keeps notes. Called on the event loop: must only pass them on.
pub trait NoteKeeper: Send + Sync + 'static {
    /// Takes a note.
    fn keep(&self, note: Note);
}

/// The journal all services of a server write to.
pub struct Journal {
    keeper: Box<dyn NoteKeeper>,
    rates: Mutex<HashMap<[u8; 6], (Instant, u32)>>,
    watches: Mutex<Vec<OfferWatch>>,
    stages: Mutex<StageWatch>,
    origin: Instant,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}

/// One interface's watch over its offers.
#[derive(Debug, Clone)]
pub(crate) struct WatchedInterface {
    journal: Arc<Journal>,
    index: usize,
    /// Another server gives the addresses.
    proxy: bool,
}

impl Journal {
    /// A journal that gives its notes to `keeper`.
    pub fn new(keeper: impl NoteKeeper) -> Self {
        Self {
            keeper: Box::new(keeper),
            rates: Mutex::default(),
            watches: Mutex::default(),
            stages: Mutex::default(),
            origin: Instant::now(),
        }
    }

    /// Writes a note.
    pub fn note(&self, mac: [u8; 6], kind: NoteKind, text: &str, advice: Option<String>) {
        let count = self.count(mac);
        if count > MAX_NOTES {
            return;
        }
        let text = if count == MAX_NOTES {
            format!("more than {MAX_NOTES} notes in a minute; the others are left out")
        } else {
            text.chars().filter(|sign| !sign.is_control()).collect()
        };
        self.keeper.keep(Note { at: SystemTime::now(), mac, kind, text, advice });
    }

    /// How many notes this machine caused in its current window, this one included.
    fn count(&self, mac: [u8; 6]) -> u32 {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        if rates.len() >= MAX_RATES {
            rates.clear();
        }
        let entry = rates.entry(mac).or_insert_with(|| (Instant::now(), 0));
        if entry.0.elapsed() > RATE_WINDOW {
            *entry = (Instant::now(), 0);
        }
        entry.1 = entry.1.saturating_add(1);
        entry.1
    }

    /// The machine got a file from us.
    pub(crate) fn fetched(&self, mac: [u8; 6], name: &str, text: &str) {
        let hardware = HardwareAddress::ethernet(mac);
        for watch in self.watches().iter_mut() {
            watch.fetched(&hardware);
        }
        self.note(mac, NoteKind::Fetched, text, None);
        let stopped = self.stages().fetched(mac, name, self.now());
        if let Some(stopped) = stopped {
            self.stopped(mac, &stopped);
        }
    }

    /// The machine asks for a file.
    pub fn asked(&self, mac: [u8; 6], name: &str) {
        self.stages().asked(mac, name);
    }

    /// The machine has come this far, and what follows is waited for.
    pub fn reached(&self, mac: [u8; 6], stage: Stage) {
        self.stages().reached(mac, stage, self.now());
    }

    /// Nothing of ours follows at this boot: the payload reported in, or the machine starts something else.
    pub fn done(&self, mac: [u8; 6]) {
        self.stages().done(mac);
    }

    /// The machine begins to boot.
    pub(crate) fn restarted(&self, mac: [u8; 6]) {
        let stopped = self.stages().restarted(mac);
        if let Some(stopped) = stopped {
            self.stopped(mac, &stopped);
        }
    }

    /// Notes which boots have stopped. Call it every few seconds.
    pub fn look_after(&self) {
        let found = self.stages().due(self.now());
        for (mac, stopped) in found {
            self.stopped(mac, &stopped);
        }
    }

    fn stopped(&self, mac: [u8; 6], stopped: &Stopped) {
        tracing::warn!(machine = %HardwareAddress::ethernet(mac), "{stopped}");
        self.note(mac, NoteKind::Trouble, &stopped.to_string(), Some(stopped.advice().to_owned()));
    }

    fn stages(&self) -> std::sync::MutexGuard<'_, StageWatch> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Begins to watch the offers of an interface.
    pub(crate) fn watch(self: &Arc<Self>, watch: OfferWatch, proxy: bool) -> WatchedInterface {
        let mut watches = self.watches();
        watches.push(watch);
        let index = watches.len().saturating_sub(1);
        drop(watches);
        WatchedInterface { journal: Arc::clone(self), index, proxy }
    }

    fn watches(&self) -> std::sync::MutexGuard<'_, Vec<OfferWatch>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WatchedInterface {
    /// Notes a decision and what it says together with those before.
    pub(crate) fn decided(&self, outcome: &Outcome, now: Millis) {
        let finding =
            self.journal.watches().get_mut(self.index).and_then(|watch| watch.decided(outcome, now));
        let Some(saw) = &outcome.journal.saw else { return };
        let Some(mac) = saw.client.hardware.mac() else { return };
        // The DHCP of running systems is not about booting.
        if saw.client.boots() {
            self.journal.note(mac, NoteKind::Dhcp, &outcome.journal.to_string(), None);
        }
        if let Some(finding) = finding {
            self.trouble(mac, &finding);
        }
    }

    /// What has not happened in time. Ask every few seconds.
    pub(crate) fn due(&self, now: Millis) -> Vec<([u8; 6], Finding)> {
        let found =
            self.journal.watches().get_mut(self.index).map(|watch| watch.due(now)).unwrap_or_default();
        found.into_iter().filter_map(|(hardware, finding)| Some((hardware.mac()?, finding))).collect()
    }

    /// Notes a finding.
    pub(crate) fn trouble(&self, mac: [u8; 6], finding: &Finding) {
        tracing::warn!(machine = %HardwareAddress::ethernet(mac), "{finding}");
        let advice = finding.advice(self.proxy).to_owned();
        self.journal.note(mac, NoteKind::Trouble, &finding.to_string(), Some(advice));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Kept(Mutex<mpsc::Sender<Note>>);

    impl NoteKeeper for Kept {
        fn keep(&self, note: Note) {
            self.0.lock().unwrap().send(note).unwrap();
        }
    }

    #[test]
    fn a_boot_that_stopped_is_told_with_its_cure() {
        let (sender, notes) = mpsc::channel();
        let journal = Journal::new(Kept(Mutex::new(sender)));
        journal.fetched([2; 6], "boot/initramfs.cpio.zst", "fetched boot/initramfs.cpio.zst by HTTP");
        journal.restarted([2; 6]);
        journal.fetched([4; 6], "mmx64.efi", "fetched mmx64.efi by TFTP");
        journal.reached([6; 6], Stage::Menu);
        journal.done([6; 6]);
        journal.look_after();
        let told: Vec<Note> = notes.try_iter().filter(|note| note.kind == NoteKind::Trouble).collect();
        let texts: Vec<&str> = told.iter().map(|note| note.text.as_str()).collect();
        let expected = [
            "the payload was sent, and the machine started anew: it never reported in",
            "shim refused the program behind it and asked for MokManager",
        ];
        assert_eq!(texts, expected);
        assert!(told.iter().all(|note| note.advice.is_some()), "{told:?}");
    }

    #[test]
    fn a_flood_of_one_machine_is_cut_and_others_go_on() {
        let (sender, notes) = mpsc::channel();
        let journal = Journal::new(Kept(Mutex::new(sender)));
        for number in 0..2 * MAX_NOTES {
            journal.note([2; 6], NoteKind::Dhcp, &format!("a\u{1b}[2J{number}"), None);
        }
        journal.note([4; 6], NoteKind::Server, "other", None);
        let kept: Vec<Note> = notes.try_iter().collect();
        assert_eq!(kept.len(), usize::try_from(MAX_NOTES).unwrap() + 1);
        assert_eq!(kept[0].text, "a[2J0");
        let (other, last) = (&kept[kept.len() - 1], &kept[kept.len() - 2]);
        assert!(last.text.contains("the others are left out"), "{}", last.text);
        assert_eq!((other.mac, other.text.as_str()), ([4; 6], "other"));
    }
}
