//! Options as the programs of this family have always taken them: long names that may be shortened, one hyphen or two,
//! a value behind `=` or as the next argument, options anywhere between the other arguments, `--` to end them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// One option of a command.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opt {
    /// As it is written.
    pub(super) name: &'static str,
    /// What it is for the command: aliases have the same.
    pub(super) key: &'static str,
    /// Whether a value follows.
    pub(super) takes_value: bool,
}

/// An option without a value.
pub(super) const fn flag(name: &'static str) -> Opt {
    Opt { name, key: name, takes_value: false }
}

/// An option with a value.
pub(super) const fn value(name: &'static str) -> Opt {
    Opt { name, key: name, takes_value: true }
}

/// Another way to write an option.
pub(super) const fn alias(name: &'static str, of: Opt) -> Opt {
    Opt { name, key: of.key, takes_value: of.takes_value }
}

/// What a command was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    options: Vec<(&'static str, Option<OsString>)>,
    /// Everything else, in order.
    pub(super) arguments: Vec<OsString>,
}

impl Given {
    /// Sorts `arguments` by `known`; an error is what to tell the user.
    pub(super) fn parse(arguments: &[OsString], known: &[Opt]) -> Result<Self, String> {
        let mut given = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let bytes = argument.as_bytes();
            if bytes == b"--" {
                given.arguments.extend(rest.cloned());
                break;
            }
            // A hyphen alone is standard input or output, and a number after one counts images from the end.
            let is_option = bytes.len() > 1 && bytes[0] == b'-' && !bytes[1].is_ascii_digit();
            if !is_option {
                given.arguments.push(argument.clone());
                continue;
            }
            let name = bytes.strip_prefix(b"--").unwrap_or(&bytes[1..]);
            let (name, attached) = match name.iter().position(|byte| *byte == b'=') {
                Some(at) => (&name[..at], Some(OsStr::from_bytes(&name[at + 1..]).to_owned())),
                None => (name, None),
            };
            let option = find(&String::from_utf8_lossy(name), known)?;
            let value = match (option.takes_value, attached) {
                (true, Some(value)) => Some(value),
                (true, None) => {
                    let next = rest.next().cloned();
                    Some(next.ok_or_else(|| format!("option --{} needs a value", option.name))?)
                }
                (false, None) => None,
                (false, Some(_)) => return Err(format!("option --{} takes no value", option.name)),
            };
            given.options.push((option.key, value));
        }
        Ok(given)
    }

    /// Whether an option was given.
    pub(super) fn has(&self, key: &str) -> bool {
        self.options.iter().any(|(known, _)| *known == key)
    }

    /// Of several options that exclude each other, the one that was given last.
    pub(super) fn last_of(&self, keys: &[&str]) -> Option<&'static str> {
        self.options.iter().rev().map(|(key, _)| *key).find(|key| keys.contains(key))
    }

    /// The last value of an option.
    pub(super) fn value(&self, key: &str) -> Option<&OsStr> {
        let given = self.options.iter().rev().filter(|(known, _)| *known == key);
        given.filter_map(|(_, value)| value.as_deref()).next()
    }

    /// All values of an option.
    pub(super) fn values<'g>(&'g self, key: &'g str) -> impl Iterator<Item = &'g OsStr> {
        self.options.iter().filter(move |(known, _)| *known == key).filter_map(|(_, value)| value.as_deref())
    }

    /// The last value of an option as text.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, String> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.to_str().map(Some).ok_or_else(|| format!("option --{key}: {value:?} is not text"))
    }

    /// The last value of an option as a number above zero.
    pub(super) fn number(&self, key: &str) -> Result<Option<usize>, String> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match text.parse::<usize>() {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(format!("option --{key}: {text:?} is not a number above zero")),
        }
    }

    /// Argument `at`, from 0, as text.
    pub(super) fn argument(&self, at: usize) -> Result<Option<&str>, String> {
        let Some(argument) = self.arguments.get(at) else { return Ok(None) };
        argument.to_str().map(Some).ok_or_else(|| format!("{argument:?} is not text"))
    }
}

/// The option called `name`, or the only one whose name starts so.
fn find(name: &str, known: &[Opt]) -> Result<Opt, String> {
    if let Some(exact) = known.iter().find(|option| option.name == name) {
        return Ok(*exact);
    }
    let starting: Vec<&Opt> = known.iter().filter(|option| option.name.starts_with(name)).collect();
    match starting.split_first() {
        Some((first, others)) if !name.is_empty() && others.iter().all(|other| other.key == first.key) => {
            Ok(**first)
        }
        Some(_) if !name.is_empty() => {
            let names: Vec<String> = starting.iter().map(|option| format!("--{}", option.name)).collect();
            Err(format!("option --{name} could be {}", names.join(", ")))
        }
        _ => Err(format!("unknown option --{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Opt; 7] = [
        flag("check"),
        value("compress"),
        value("chunk-size"),
        value("config"),
        flag("no-globs"),
        alias("no-wildcards", flag("no-globs")),
        value("ref"),
    ];

    fn parse(arguments: &[&str]) -> Result<Given, String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        Given::parse(&arguments, &KNOWN)
    }

    #[test]
    fn options_are_found_however_they_are_written() {
        let given =
            parse(&["a", "--ref=x*", "-check", "--comp", "LZX", "b", "--ref", "y", "-", "-1", "--", "--z"]);
        let given = given.unwrap();
        assert_eq!(given.arguments, ["a", "b", "-", "-1", "--z"]);
        assert!(given.has("check") && !given.has("no-globs"));
        assert_eq!(given.text("compress"), Ok(Some("LZX")));
        assert_eq!(given.values("ref").collect::<Vec<_>>(), ["x*", "y"]);
        assert!(parse(&["--no-wild"]).unwrap().has("no-globs"));
        assert!(parse(&["--no"]).unwrap().has("no-globs"));
        let both = parse(&["--check", "--no-globs", "--check"]).unwrap();
        assert_eq!(both.last_of(&["check", "no-globs"]), Some("check"));
        assert_eq!(parse(&["--ref="]).unwrap().text("ref"), Ok(Some("")));
    }

    #[test]
    fn mistakes_are_told() {
        for (arguments, expected) in [
            (&["--bogus"][..], "unknown option --bogus"),
            (&["--co=1"], "option --co could be --compress, --config"),
            (&["--compress"], "option --compress needs a value"),
            (&["--check=1"], "option --check takes no value"),
            (&["--=1"], "unknown option --"),
        ] {
            assert_eq!(parse(arguments).unwrap_err(), expected);
        }
        let given = parse(&["--ref=0", "--compress=x"]).unwrap();
        assert!(given.number("ref").is_err() && given.number("compress").is_err());
        assert_eq!(given.number("config"), Ok(None));
    }
}
