//! Update commands: what is to be added to, taken out of or renamed in an image, a command a line.

use super::words::{is_blank, words};

/// One change of an image's tree. Paths in the image have names separated by `/` or `\`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// A file or directory `source` comes to `target`.
    Add { source: String, target: String, options: AddOptions },
    /// What is at `path` goes.
    Delete { path: String, options: DeleteOptions },
    /// What is at `from` comes to `to`.
    Rename { from: String, to: String },
}

/// Options of `add`; those of the command line hold for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct AddOptions {
    pub(super) dereference: bool,
    pub(super) unix_data: bool,
    pub(super) no_replace: bool,
}

/// Options of `delete`; those of the command line hold for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct DeleteOptions {
    pub(super) force: bool,
    pub(super) recursive: bool,
}

/// Reads commands; an error is what to tell the user.
pub(super) fn parse(text: &str) -> Result<Vec<Command>, String> {
    let mut commands = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        // A zero character ends a line too, as some programs write strings with their end.
        let line = line.split('\0').next().unwrap_or_default();
        if is_blank(line) {
            continue;
        }
        let command = words(line).and_then(|words| command(&words));
        commands.extend(command.map_err(|why| format!("line {number}: {why}"))?);
    }
    Ok(commands)
}

fn command(words: &[String]) -> Result<Option<Command>, String> {
    let Some((name, rest)) = words.split_first() else { return Ok(None) };
    let (options, arguments): (Vec<&str>, Vec<&str>) =
        rest.iter().map(String::as_str).partition(|word| word.starts_with("--"));
    let expect = |count: usize| match arguments.len() {
        found if found == count => Ok(()),
        found if found < count => Err(format!("`{name}` needs {count} arguments, found {found}")),
        _ => Err(format!("`{name}` takes {count} arguments, found {:?} too", arguments[count])),
    };
    let unknown = |option: &str| format!("`{name}` has no option {option}");
    match name.to_ascii_lowercase().as_str() {
        "add" => {
            let mut given = AddOptions::default();
            for option in options {
                match option {
                    "--dereference" => given.dereference = true,
                    "--unix-data" => given.unix_data = true,
                    "--no-replace" => given.no_replace = true,
                    // Directories here have no such descriptors.
                    "--no-acls" | "--strict-acls" => {}
                    other => return Err(unknown(other)),
                }
            }
            expect(2)?;
            let (source, target) = (arguments[0].to_owned(), arguments[1].to_owned());
            Ok(Some(Command::Add { source, target, options: given }))
        }
        "delete" => {
            let mut given = DeleteOptions::default();
            for option in options {
                match option {
                    "--force" => given.force = true,
                    "--recursive" => given.recursive = true,
                    other => return Err(unknown(other)),
                }
            }
            expect(1)?;
            Ok(Some(Command::Delete { path: arguments[0].to_owned(), options: given }))
        }
        "rename" => {
            if let Some(option) = options.first() {
                return Err(unknown(option));
            }
            expect(2)?;
            Ok(Some(Command::Rename { from: arguments[0].to_owned(), to: arguments[1].to_owned() }))
        }
        _ => Err(format!("{name:?} is not one of add, delete, rename")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let add = |source: &str, target: &str, options| Command::Add {
            source: source.to_owned(),
            target: target.to_owned(),
            options,
        };
        let text = "# comment\n\t# another\n\n  \t\nadd file /file\nADD --unix-data \"Some File\" 'Some Destination' --no-replace\n\
            delete --force --recursive /x\nrename a b\nadd s t\0rest\n";
        let all = AddOptions { unix_data: true, no_replace: true, dereference: false };
        let expected = [
            add("file", "/file", AddOptions::default()),
            add("Some File", "Some Destination", all),
            Command::Delete {
                path: "/x".to_owned(),
                options: DeleteOptions { force: true, recursive: true },
            },
            Command::Rename { from: "a".to_owned(), to: "b".to_owned() },
            add("s", "t", AddOptions::default()),
        ];
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, expected) in [
            ("\ninvalid /", "line 2: \"invalid\" is not one of add, delete, rename"),
            ("delete --invalid-option --recursive /", "line 1: `delete` has no option --invalid-option"),
            (
                "delete --recursive --force / /anotherdir",
                "line 1: `delete` takes 1 arguments, found \"/anotherdir\" too",
            ),
            ("add a", "line 1: `add` needs 2 arguments, found 1"),
            ("rename --force a b", "line 1: `rename` has no option --force"),
            ("add 'a b", "line 1: closing quote is missing: 'a b"),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn any_text_is_taken_or_refused() {
        let pieces = [
            "add", "delete", "rename", "--force", "\"", "'", " ", "\n", "\0", "#", "é", "/", "\\", "\r", "--",
        ];
        let mut state = 5u64;
        for _ in 0..2000 {
            let mut text = String::new();
            for _ in 0..16 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            }
            if let Err(why) = parse(&text) {
                assert!(why.starts_with("line "), "{why}");
            }
        }
    }
}
