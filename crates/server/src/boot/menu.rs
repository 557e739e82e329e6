//! Boot menus from the templates in `pxe/`: built in, and replaced by files of the same name in the site's directory.

use std::path::{Path, PathBuf};

use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};

use super::rules::{Choice, Entry, EntryKind};
use crate::Error;

/// Where Gravure's messages go, and nothing secret: anybody can read the command line.
pub(crate) const KERNEL_ARGUMENTS: &str = "console=tty0 console=ttyS0,115200 quiet";

const BUILT_IN: [(&str, &str); 4] = [
    // Before the two that include it.
    ("grub-local.cfg", include_str!("../../../../pxe/grub-local.cfg")),
    ("grub-start.cfg", include_str!("../../../../pxe/grub-start.cfg")),
    ("grub-machine.cfg", include_str!("../../../../pxe/grub-machine.cfg")),
    ("machine.ipxe", include_str!("../../../../pxe/machine.ipxe")),
];

/// What a machine's menu offers.
#[derive(Debug, Clone)]
pub(crate) struct MenuFacts {
    /// Title of the entry that deploys; `None` when nothing is armed.
    pub(crate) armed: Option<String>,
    /// The server has never seen this machine: it registers unless somebody chooses otherwise.
    pub(crate) unknown: bool,
    /// `http://address:port` the machine reaches us at.
    pub(crate) base: String,
    /// `mac=..&uuid=..`
    pub(crate) who: String,
    /// What a rule or an operator chose for this machine.
    pub(crate) choice: Option<Choice>,
}

/// Which program reads the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Grub,
    Ipxe,
}

impl Reader {
    /// Whether an entry is offered by it; `ipxe`: GRUB can hand over to an iPXE for what it cannot start itself.
    fn offers(self, entry: &Entry, ipxe: bool) -> bool {
        match self {
            Self::Grub => entry.is_for_grub() || (ipxe && entry.is_for_ipxe()),
            Self::Ipxe => entry.is_for_ipxe(),
        }
    }
}

/// The templates of a site.
#[derive(Debug)]
pub(crate) struct Menus {
    environment: Environment<'static>,
    site: String,
    seconds: u32,
    entries: Vec<Entry>,
    /// The iPXE that GRUB hands over to, below the loaders.
    ipxe: Option<&'static str>,
}

impl Menus {
    /// Reads what `dir` replaces and checks all templates.
    pub(crate) fn load(
        dir: &Path,
        site: &str,
        seconds: u32,
        entries: &[Entry],
        ipxe: Option<&'static str>,
    ) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_keep_trailing_newline(true);
        for (name, built_in) in BUILT_IN {
            let path: PathBuf = dir.join(name);
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => built_in.to_owned(),
                Err(error) => return Err(Error::io("read", &path, error)),
            };
            environment.add_template_owned(name, text)?;
        }
        let menus = Self { environment, site: title(site), seconds, entries: entries.to_vec(), ipxe };
        // A mistake in a replaced template shows at start, not when a machine boots.
        for armed in [None, Some("Deploy".to_owned())] {
            let (base, who) = ("http://0".to_owned(), String::new());
            let facts = MenuFacts { armed, unknown: true, base, who, choice: None };
            menus.grub(&facts)?;
            menus.ipxe(&facts)?;
        }
        menus.grub_start(80)?;
        Ok(menus)
    }

    /// GRUB's first configuration.
    pub(crate) fn grub_start(&self, http_port: u16) -> Result<String, Error> {
        Ok(self.environment.get_template("grub-start.cfg")?.render(context! { http_port })?)
    }

    /// A machine's configuration of GRUB.
    pub(crate) fn grub(&self, facts: &MenuFacts) -> Result<String, Error> {
        Ok(self.environment.get_template("grub-machine.cfg")?.render(self.values(facts, Reader::Grub))?)
    }

    /// A machine's script for iPXE.
    pub(crate) fn ipxe(&self, facts: &MenuFacts) -> Result<String, Error> {
        Ok(self.environment.get_template("machine.ipxe")?.render(self.values(facts, Reader::Ipxe))?)
    }

    fn values(&self, facts: &MenuFacts, reader: Reader) -> Value {
        let offered = |entry: &&Entry| reader.offers(entry, self.ipxe.is_some());
        let entries: Vec<&Entry> = self.entries.iter().filter(offered).collect();
        let usual = if facts.unknown { "register" } else { "local" };
        let offered = |name: &str| entries.iter().any(|entry| entry.name == name);
        let (default, timeout) = match (&facts.armed, &facts.choice) {
            // What an operator ordered comes before what rules say.
            (Some(_), _) => ("deploy", 0),
            (None, Some(Choice::Local | Choice::Ignore)) => ("local", 0),
            (None, Some(Choice::Register)) => ("register", 0),
            // Held back once it is known.
            (None, Some(Choice::Quarantine)) => (usual, 0),
            (None, Some(Choice::Entry(name))) if offered(name) => (name.as_str(), 0),
            // Also an entry that this loader cannot start.
            (None, _) => (usual, self.seconds),
        };
        let armed = facts.armed.as_ref().map(|armed| context! { title => title(armed) });
        context! {
            armed,
            default,
            timeout,
            site => self.site,
            base => facts.base,
            who => facts.who,
            kernel_arguments => KERNEL_ARGUMENTS,
            ipxe => self.ipxe,
            entries => entries.iter().map(|entry| shown(entry, reader)).collect::<Vec<_>>(),
        }
    }
}

/// An entry as the templates see it.
fn shown(entry: &Entry, reader: Reader) -> Value {
    let initrd: Vec<Value> = entry
        .initrd
        .iter()
        .map(|text| match (entry.kind, text.split_once('=')) {
            (EntryKind::Wimboot, Some((name, file))) => context! { name, file },
            _ => Value::from(text.as_str()),
        })
        .collect();
    context! {
        name => entry.name,
        title => title(&entry.title),
        kind => Value::from_serialize(entry.kind),
        through_ipxe => reader == Reader::Grub && !entry.is_for_grub(),
        kernel => entry.kernel,
        file => entry.file,
        initrd,
        arguments => entry.arguments,
    }
}

/// Text for a menu: what means something to GRUB's or iPXE's parser is left out.
pub(crate) fn title(text: &str) -> String {
    let harmless = |c: &char| c.is_alphanumeric() || " .,:;+-_()[]/#".contains(*c);
    text.chars().filter(harmless).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn menus(dir: &Path) -> Result<Menus, Error> {
        let entries = [
            Entry {
                name: "memtest".into(),
                title: "Memory test".into(),
                file: "mt.bin".into(),
                ..Entry::default()
            },
            Entry {
                name: "winpe".into(),
                title: "WinPE".into(),
                kind: EntryKind::Wimboot,
                file: "wimboot".into(),
                initrd: vec!["boot.wim=pe/boot.wim".into()],
                ..Entry::default()
            },
            Entry {
                name: "shell".into(),
                title: "Shell".into(),
                kind: EntryKind::Efi,
                file: "shellx64.efi".into(),
                ..Entry::default()
            },
        ];
        Menus::load(dir, "Test \"site\" $x", 5, &entries, None)
    }

    fn facts(armed: Option<&str>, unknown: bool) -> MenuFacts {
        MenuFacts {
            armed: armed.map(str::to_owned),
            unknown,
            base: "http://10.0.0.1:8080".into(),
            who: "mac=02:00:00:00:00:07&uuid=".into(),
            choice: None,
        }
    }

    #[test]
    fn what_was_chosen_starts_at_once_where_the_loader_can() {
        let dir = tempfile::tempdir().unwrap();
        let menus = menus(dir.path()).unwrap();
        let chosen = |choice| MenuFacts { choice: Some(choice), ..facts(None, false) };
        let entry = |name: &str| Choice::Entry(name.to_owned());
        let cases = [
            (entry("memtest"), "timeout=0\nset default=memtest\n", "goto memtest\n"),
            (entry("winpe"), "timeout=5\nset default=local\n", "goto winpe\n"),
            (entry("shell"), "timeout=0\nset default=shell\n", "choose --default local --timeout 5000"),
            (Choice::Local, "timeout=0\nset default=local\n", "goto local\n"),
            (Choice::Register, "timeout=0\nset default=register\n", "goto register\n"),
            (Choice::Quarantine, "timeout=0\nset default=local\n", "goto local\n"),
            (Choice::Menu, "timeout=5\nset default=local\n", "choose --default local --timeout 5000"),
        ];
        for (choice, in_grub, in_ipxe) in cases {
            let facts = chosen(choice);
            let (grub, ipxe) = (menus.grub(&facts).unwrap(), menus.ipxe(&facts).unwrap());
            assert!(grub.contains(in_grub), "{in_grub}: {grub}");
            assert!(ipxe.contains(in_ipxe), "{in_ipxe}: {ipxe}");
        }
        let facts = facts(None, false);
        let (grub, ipxe) = (menus.grub(&facts).unwrap(), menus.ipxe(&facts).unwrap());
        assert!(grub.contains("chainloader \"$base/extra/shellx64.efi\"\n"), "{grub}");
        assert!(grub.contains("linux \"$base/extra/mt.bin\" \n") && !grub.contains("wimboot"), "{grub}");
        let initrd =
            "initrd --name boot.wim http://10.0.0.1:8080/extra/pe/boot.wim boot.wim || goto failed\n";
        assert!(ipxe.contains(initrd) && !ipxe.contains("shellx64"), "{ipxe}");
        // An order comes before everything.
        let armed = MenuFacts { armed: Some("Deploy".into()), ..chosen(entry("memtest")) };
        assert!(menus.grub(&armed).unwrap().contains("timeout=0\nset default=deploy\n"));
    }

    /// Entries that GRUB needs help with, and menus that have it.
    fn menus_with_ipxe(ipxe: Option<&'static str>) -> Menus {
        let entries = [
            Entry {
                name: "winpe".into(),
                title: "WinPE".into(),
                kind: EntryKind::Wimboot,
                file: "wimboot".into(),
                initrd: vec!["boot.wim=pe/boot.wim".into()],
                ..Entry::default()
            },
            Entry {
                name: "tools".into(),
                title: "Tools".into(),
                kind: EntryKind::Iso,
                file: "tools.iso".into(),
                ..Entry::default()
            },
            Entry {
                name: "live".into(),
                title: "Live system".into(),
                kind: EntryKind::Iso,
                file: "live.iso".into(),
                kernel: Some("live/vmlinuz".into()),
                initrd: vec!["live/initrd.img".into()],
                arguments: "boot=live".into(),
            },
            Entry {
                name: "rescue".into(),
                title: "Rescue".into(),
                file: "rescue/vmlinuz".into(),
                initrd: vec!["rescue/a.cpio".into(), "rescue/b.cpio".into()],
                ..Entry::default()
            },
        ];
        let dir = tempfile::tempdir().unwrap();
        Menus::load(dir.path(), "Test", 5, &entries, ipxe).unwrap()
    }

    #[test]
    fn discs_and_winpe_are_offered_by_whoever_starts_them() {
        let chosen =
            |name: &str| MenuFacts { choice: Some(Choice::Entry(name.into())), ..facts(None, false) };
        let (without, with) = (menus_with_ipxe(None), menus_with_ipxe(Some("ipxe.efi")));
        // Alone GRUB starts what lies in a disc, and nothing that needs the whole of it.
        let grub = without.grub(&chosen("winpe")).unwrap();
        assert!(grub.contains("timeout=5\nset default=local\n") && !grub.contains("--id winpe"), "{grub}");
        assert!(!grub.contains("--id tools") && !grub.contains("ipxe.efi"), "{grub}");
        let live = "loopback disc \"$base/extra/live.iso\"\n  linux \"(disc)/live/vmlinuz\" boot=live\n  initrd \"(disc)/live/initrd.img\"\n";
        assert!(grub.contains(live), "{grub}");
        let grub = with.grub(&chosen("winpe")).unwrap();
        assert!(grub.contains("timeout=0\nset default=winpe\n"), "{grub}");
        assert_eq!(grub.matches("chainloader \"$base/ipxe.efi\"\n").count(), 2, "{grub}");
        assert!(grub.contains(live), "{grub}");
        // iPXE starts both, and reads nothing out of a disc.
        for menus in [&without, &with] {
            let ipxe = menus.ipxe(&chosen("tools")).unwrap();
            assert!(ipxe.contains("goto tools\n"), "{ipxe}");
            let sanboot = ":tools\necho Loading Tools\nsanboot --no-describe --keep http://10.0.0.1:8080/extra/tools.iso || goto failed\n";
            assert!(ipxe.contains(sanboot) && !ipxe.contains("live"), "{ipxe}");
            // EFI kernels find their initial file systems by names that the command line repeats.
            assert!(ipxe.contains("set files initrd=part1 initrd=part2 ||\n"), "{ipxe}");
            assert!(
                ipxe.contains(
                    "initrd --name part2 http://10.0.0.1:8080/extra/rescue/b.cpio || goto failed\n"
                ),
                "{ipxe}"
            );
        }
    }

    /// iPXE has no checker of its own: labels that are jumped to exist, each once, and each line begins with a command that it has.
    #[test]
    fn ipxe_can_run_every_script() {
        const COMMANDS: [&str; 13] = [
            "boot", "choose", "echo", "exit", "goto", "initrd", "iseq", "item", "kernel", "menu", "sanboot",
            "set", "sleep",
        ];
        let dir = tempfile::tempdir().unwrap();
        let mut scripts = Vec::new();
        for menus in [menus(dir.path()).unwrap(), menus_with_ipxe(Some("ipxe.efi"))] {
            for choice in ["local", "register", "menu", "winpe", "tools", "memtest", "nothing"] {
                let choice = Some(Choice::of(choice));
                scripts.push(menus.ipxe(&MenuFacts { choice, ..facts(None, false) }).unwrap());
            }
            scripts.push(menus.ipxe(&facts(None, true)).unwrap());
            scripts.push(menus.ipxe(&facts(Some("Deploy x.wim"), false)).unwrap());
        }
        for script in scripts {
            assert!(script.starts_with("#!ipxe\n"), "{script}");
            let mut labels: Vec<&str> = script.lines().filter_map(|line| line.strip_prefix(':')).collect();
            let count = labels.len();
            labels.sort_unstable();
            labels.dedup();
            assert_eq!(labels.len(), count, "{script}");
            let mut targets: Vec<&str> = Vec::new();
            for line in script.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', ':'])) {
                for command in line.split(" && ").flat_map(|part| part.split("||")) {
                    let words: Vec<&str> = command.split_whitespace().collect();
                    let Some(name) = words.first() else { continue };
                    assert!(COMMANDS.contains(name), "{line}: {script}");
                    if let ["goto", target] = words.as_slice() {
                        targets.push(target);
                    }
                    if let ["item", target, ..] = words.as_slice() {
                        targets.push(target);
                    }
                }
                // Settings that iPXE has, or that the script made.
                for setting in line.split("${").skip(1) {
                    let name = setting.split('}').next().unwrap();
                    assert!(["platform", "files", "choice", "where", "buildarch"].contains(&name), "{line}");
                }
            }
            for target in targets.into_iter().filter(|target| *target != "${choice}") {
                assert!(labels.contains(&target), "{target} is no label: {script}");
            }
        }
    }

    #[test]
    fn an_armed_machine_loads_its_token_at_once_and_others_choose() {
        let dir = tempfile::tempdir().unwrap();
        let menus = menus(dir.path()).unwrap();
        let grub = menus.grub(&facts(Some("Deploy x.wim"), false)).unwrap();
        assert!(grub.contains("set timeout=0\nset default=deploy\n"), "{grub}");
        assert!(
            grub.contains(r#"initrd "$base/boot/site.cpio" "$base/boot/token.cpio?$who" "$files/init"#),
            "{grub}"
        );
        let grub = menus.grub(&facts(None, false)).unwrap();
        assert!(grub.contains("set timeout=5\nset default=local\n"), "{grub}");
        assert!(grub.contains("Register this machine with Test site x\""), "{grub}");
        assert!(!grub.contains("token"), "{grub}");
        assert!(grub.contains("if chainloader /EFI/$loader.efi; then boot; fi\n"), "{grub}");
        assert!(menus.grub(&facts(None, true)).unwrap().contains("set default=register\n"));
        let ipxe = menus.ipxe(&facts(Some("Deploy x.wim"), false)).unwrap();
        assert!(ipxe.starts_with("#!ipxe\n"), "{ipxe}");
        let token = "http://10.0.0.1:8080/boot/token.cpio?mac=02:00:00:00:00:07&uuid= || goto";
        assert!(ipxe.contains(token) && !ipxe.contains("choose"), "{ipxe}");
        let ipxe = menus.ipxe(&facts(None, true)).unwrap();
        assert!(
            ipxe.contains("choose --default register --timeout 5000") && !ipxe.contains("token"),
            "{ipxe}"
        );
        assert!(menus.grub_start(8080).unwrap().contains("(http,$net_default_server:8080)"));
    }

    /// GRUB's own checker on what machines get: its language has no `&&`, and a mistake shows on the machine only.
    #[test]
    fn grub_can_parse_every_menu() {
        let dir = tempfile::tempdir().unwrap();
        let menus = menus(dir.path()).unwrap();
        let armed = menus.grub(&facts(Some("Deploy x.wim"), false)).unwrap();
        let idle = menus.grub(&facts(None, true)).unwrap();
        let others = menus_with_ipxe(Some("ipxe.efi")).grub(&facts(None, true)).unwrap();
        for text in [armed, idle, others, menus.grub_start(80).unwrap()] {
            let Some(mut checker) = gravure_testkit::oracle("grub-script-check") else { return };
            let path = dir.path().join("grub.cfg");
            std::fs::write(&path, &text).unwrap();
            let output = checker.arg(&path).output().unwrap();
            assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
        }
    }

    #[test]
    fn a_site_may_replace_a_template_but_not_with_a_broken_one() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("machine.ipxe"), "#!ipxe\nchain {{ base }}/own\n").unwrap();
        let own = menus(dir.path()).unwrap().ipxe(&facts(None, false)).unwrap();
        assert_eq!(own, "#!ipxe\nchain http://10.0.0.1:8080/own\n");
        std::fs::write(dir.path().join("machine.ipxe"), "#!ipxe\n{{ bse }}\n").unwrap();
        let error = menus(dir.path()).unwrap_err().to_string();
        assert!(error.contains("machine.ipxe:2"), "{error}");
    }
}
