//! Whether two descriptions are of one machine: what agrees and what differs is weighed.
//!
//! No single value decides. Mainboards are replaced (another UUID, the same serial number), adapters move (a dock's address is
//! met on many machines), and some values are the same on whole series. The weights:
//!
//! | value | agrees | differs |
//! |---|---|---|
//! | UUID | 10 | -6 |
//! | serial number of the system | 8 | -6 |
//! | serial number of the mainboard | 5 | 0: it goes with the board |
//! | serial number of the chassis | 2 | -2 |
//! | addresses of its own adapters, the first | 5 | -2 when both have some and none in common |
//! | each further one | 1, three at most | |
//! | address of an adapter that moves (USB, dock) | 1; 5 where neither side has anything else | 0 |
//!
//! From 5 on it is the same machine. Below that, but with something other than a moving adapter in common, nobody can tell:
//! such pairs are reported and never taken for one.

use super::{Mac, MachineIdentity};

/// From this score on two descriptions are of one machine.
const SAME_FROM: i32 = 5;
/// Further common addresses that count.
const MAX_FURTHER: i32 = 3;

/// How one description compares with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Likeness {
    /// The sum of the weights.
    pub score: i32,
    /// What both have in common, in words.
    pub agrees: Vec<&'static str>,
    /// Where they contradict each other, in words.
    pub differs: Vec<&'static str>,
    /// Something in common tells machines apart, as a moving adapter does not.
    telling: bool,
}

/// What follows from a [`Likeness`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// One machine.
    Same,
    /// Something agrees and something of weight differs: for people to decide.
    Unclear,
    /// Two machines.
    Other,
}

impl Likeness {
    /// What to make of it.
    pub fn verdict(&self) -> Verdict {
        match self.score {
            SAME_FROM.. => Verdict::Same,
            _ if self.telling => Verdict::Unclear,
            _ => Verdict::Other,
        }
    }

    /// `same serial number; another UUID, other adapters`
    pub fn reason(&self) -> String {
        let agrees = match self.agrees.as_slice() {
            [] => "nothing in common".to_owned(),
            agrees => format!("same {}", agrees.join(", ")),
        };
        match self.differs.as_slice() {
            [] => agrees,
            differs => format!("{agrees}; other {}", differs.join(", ")),
        }
    }

    fn weigh(&mut self, what: &'static str, agrees: Option<bool>, same: i32, other: i32) {
        match agrees {
            Some(true) => {
                self.score = self.score.saturating_add(same);
                self.agrees.push(what);
                self.telling = true;
            }
            Some(false) => {
                self.score = self.score.saturating_add(other);
                self.differs.push(what);
            }
            None => {}
        }
    }
}

impl MachineIdentity {
    /// Weighs what both say.
    pub fn likeness(&self, other: &Self) -> Likeness {
        let mut found = Likeness { score: 0, agrees: Vec::new(), differs: Vec::new(), telling: false };
        let compared = |one: &Option<String>, other: &Option<String>| match (one, other) {
            (Some(one), Some(other)) => Some(one.eq_ignore_ascii_case(other)),
            _ => None,
        };
        found.weigh("UUID", compared(&self.uuid, &other.uuid), 10, -6);
        found.weigh("serial number", compared(&self.serial, &other.serial), 8, -6);
        found.weigh("mainboard serial number", compared(&self.board_serial, &other.board_serial), 5, 0);
        found.weigh("chassis serial number", compared(&self.chassis_serial, &other.chassis_serial), 2, -2);
        let moves = |mac: &Mac| self.moves(mac) || other.moves(mac);
        let (moving, own): (Vec<&Mac>, Vec<&Mac>) =
            self.macs.iter().filter(|mac| other.macs.contains(mac)).partition(|mac| moves(mac));
        let has_own = |identity: &Self| identity.macs.iter().any(|mac| !moves(mac));
        if let Some(further) = own.len().checked_sub(1) {
            let further = i32::try_from(further).unwrap_or(MAX_FURTHER).min(MAX_FURTHER);
            found.weigh("network adapters", Some(true), 5_i32.saturating_add(further), 0);
        } else if has_own(self) && has_own(other) {
            found.weigh("network adapters", Some(false), 0, -2);
        }
        if !moving.is_empty() {
            let nothing_else =
                self.is_adapters_only() && other.is_adapters_only() && !has_own(self) && !has_own(other);
            found.score = found.score.saturating_add(if nothing_else { SAME_FROM } else { 1 });
            found.agrees.push("movable network adapter");
        }
        // However little is known of a machine, it is itself.
        if self == other && !self.is_empty() {
            found.score = found.score.max(SAME_FROM);
        }
        found
    }

    /// Whether nothing but adapters is known.
    fn is_adapters_only(&self) -> bool {
        let numbers = [&self.uuid, &self.serial, &self.board_serial, &self.chassis_serial];
        numbers.into_iter().all(Option::is_none)
    }

    /// True when both are the same machine.
    pub fn matches(&self, other: &Self) -> bool {
        self.likeness(other).verdict() == Verdict::Same
    }

    /// Whether this adapter may hang on another machine tomorrow.
    fn moves(&self, mac: &Mac) -> bool {
        mac.is_of_shared_adapter() || self.movable.contains(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: [&str; 2] = ["12345678-0000-0000-0000-000000000001", "12345678-0000-0000-0000-000000000002"];

    fn identity(uuid: Option<&str>, serial: Option<&str>, macs: &[&str]) -> MachineIdentity {
        MachineIdentity::new(uuid, serial, macs.iter().map(|mac| mac.parse::<Mac>().unwrap()))
    }

    const OWN: &str = "52:54:00:00:00:01";
    const NEW: &str = "52:54:00:00:00:02";
    const WLAN: &str = "52:54:00:00:00:03";
    const DOCK: &str = "9c:eb:e8:00:00:01";

    #[test]
    fn every_kind_of_pair_has_its_verdict() {
        let [a, b] = [Some(UUID[0]), Some(UUID[1])];
        let (s, t) = (Some("PF2ABCDE"), Some("PF2ABCDF"));
        type Side<'a> = (Option<&'a str>, Option<&'a str>, &'a [&'a str]);
        let cases: [(&str, Side<'_>, Side<'_>, Verdict); 21] = [
            (
                "a dock, and nothing else on either side",
                (None, None, &[DOCK]),
                (None, None, &[DOCK]),
                Verdict::Same,
            ),
            ("a loader's name for a known machine", (a, None, &[OWN]), (a, s, &[OWN, WLAN]), Verdict::Same),
            ("the same by an adapter that is new", (a, None, &[NEW]), (a, s, &[OWN]), Verdict::Same),
            ("an address alone", (None, None, &[OWN]), (a, s, &[OWN, WLAN]), Verdict::Same),
            ("a UUID alone", (a, None, &[]), (a, s, &[OWN]), Verdict::Same),
            ("a serial number alone", (None, s, &[]), (a, s, &[OWN]), Verdict::Same),
            (
                "another mainboard, serial number and card kept",
                (b, s, &[NEW, WLAN]),
                (a, s, &[OWN, WLAN]),
                Verdict::Same,
            ),
            ("another mainboard with everything else kept", (b, s, &[OWN]), (a, s, &[OWN]), Verdict::Same),
            ("a serial number entered anew", (a, t, &[OWN]), (a, s, &[OWN]), Verdict::Same),
            ("another mainboard and no card kept", (b, s, &[NEW]), (a, s, &[OWN]), Verdict::Unclear),
            ("a UUID that two have", (a, t, &[NEW]), (a, s, &[OWN]), Verdict::Unclear),
            ("a card that was moved", (b, t, &[OWN]), (a, s, &[OWN]), Verdict::Unclear),
            (
                "a card that was moved, no serial numbers",
                (b, None, &[OWN]),
                (a, None, &[OWN]),
                Verdict::Unclear,
            ),
            ("a dock on another machine", (b, t, &[DOCK]), (a, s, &[DOCK]), Verdict::Other),
            (
                "a dock on another machine, no serial numbers",
                (b, None, &[DOCK]),
                (a, None, &[DOCK]),
                Verdict::Other,
            ),
            ("a dock alone", (None, None, &[DOCK]), (a, s, &[DOCK, WLAN]), Verdict::Other),
            ("a dock and the UUID", (a, None, &[DOCK]), (a, s, &[WLAN]), Verdict::Same),
            ("two machines", (b, t, &[NEW]), (a, s, &[OWN]), Verdict::Other),
            ("two without serial numbers", (b, None, &[NEW]), (a, None, &[OWN]), Verdict::Other),
            ("nobody", (None, None, &[]), (a, s, &[OWN]), Verdict::Other),
            ("nobody twice", (None, None, &[]), (None, None, &[]), Verdict::Other),
        ];
        for (what, one, other, expected) in cases {
            let (one, other) = (identity(one.0, one.1, one.2), identity(other.0, other.1, other.2));
            let (there, back) = (one.likeness(&other), other.likeness(&one));
            assert_eq!(there.verdict(), expected, "{what}: {there:?}");
            assert_eq!((there.score, one.matches(&other)), (back.score, other.matches(&one)), "{what}");
            for side in [one, other].iter().filter(|side| !side.is_empty()) {
                assert!(side.matches(side), "{what}: {side:?} is itself");
            }
        }
    }

    #[test]
    fn an_adapter_is_movable_too_where_its_machine_says_so() {
        let known = identity(Some(UUID[0]), None, &[OWN, NEW]).with_movable([NEW.parse().unwrap()]);
        assert_eq!(identity(None, None, &[NEW]).likeness(&known).verdict(), Verdict::Other);
        assert_eq!(identity(None, None, &[OWN]).likeness(&known).verdict(), Verdict::Same);
        assert_eq!(identity(Some(UUID[1]), None, &[NEW]).likeness(&known).verdict(), Verdict::Other);
        // What is no adapter of the machine is none that moves.
        assert!(identity(None, None, &[OWN]).with_movable([NEW.parse().unwrap()]).movable.is_empty());
    }

    #[test]
    fn parts_with_serial_numbers_of_their_own_weigh_less_than_the_machine() {
        let with = |uuid, board: &str, chassis: &str| {
            identity(Some(uuid), None, &[]).with_serials(Some(board), Some(chassis))
        };
        let old = with(UUID[0], "B1", "C1");
        assert_eq!(with(UUID[1], "B2", "C1").likeness(&old).verdict(), Verdict::Unclear);
        assert_eq!(with(UUID[1], "B2", "C2").likeness(&old).verdict(), Verdict::Other);
        let chassis = MachineIdentity::default().with_serials(None, Some("C1"));
        assert!(chassis.matches(&chassis) && !chassis.matches(&old));
        // A machine without UUID and serial number is known by its board, unless that is in another chassis.
        let parts = |board, chassis| MachineIdentity::default().with_serials(Some(board), Some(chassis));
        assert!(parts("B1", "C1").matches(&old) && !parts("B1", "C2").matches(&old));
        assert_eq!(parts("Default string", "Chassis Serial Number"), MachineIdentity::default());
    }

    #[test]
    fn the_reason_says_what_agrees_and_what_does_not() {
        let (old, new) = (identity(Some(UUID[0]), Some("PF2ABCDE"), &[OWN]), Some("PF2ABCDE"));
        let likeness = identity(Some(UUID[1]), new, &[NEW]).likeness(&old);
        assert_eq!(likeness.reason(), "same serial number; other UUID, network adapters");
        assert_eq!(identity(None, None, &[]).likeness(&old).reason(), "nothing in common");
    }
}
