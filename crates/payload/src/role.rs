//! Which of its jobs the program is called for.

use std::process::ExitCode;

use gravure_linux::disks::Roots;

use crate::{agent, confirm, init};

/// What the program is called for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    Init,
    Agent,
    Confirm,
    /// The kernel asks for a module: `/init -q -- ALIAS`.
    Modprobe(Vec<String>),
    /// Print the inventory as JSON.
    Inventory,
    Unknown,
}

/// Runs the role that the process id and the arguments name.
pub fn run(pid: u32, args: &[String]) -> ExitCode {
    match role(pid, args) {
        Role::Init => init::run(),
        Role::Agent => ExitCode::from(agent::run()),
        Role::Confirm => ExitCode::from(confirm::run()),
        Role::Modprobe(names) => ExitCode::from(init::modprobe(&names)),
        Role::Inventory => print_inventory(),
        Role::Unknown => {
            eprintln!("gravure-payload {}: agent, confirm or inventory; PID 1 is init", crate::VERSION);
            ExitCode::from(2)
        }
    }
}

fn role(pid: u32, args: &[String]) -> Role {
    // The kernel hands unknown words of its command line to PID 1 as arguments, so these say nothing there.
    if pid == 1 {
        return Role::Init;
    }
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match words.as_slice() {
        ["agent"] => Role::Agent,
        ["confirm"] => Role::Confirm,
        ["inventory"] => Role::Inventory,
        ["-q", "--", names @ ..] => Role::Modprobe(names.iter().map(|&name| name.to_owned()).collect()),
        _ => Role::Unknown,
    }
}

fn print_inventory() -> ExitCode {
    let collected = gravure_linux::machine::collect(&Roots::default());
    for warning in &collected.warnings {
        eprintln!("{warning}");
    }
    match serde_json::to_string_pretty(&collected.inventory) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("inventory: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_by_pid_and_words() {
        let of =
            |pid, words: &[&str]| role(pid, &words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(1, &["/init", "agent"]), Role::Init, "words of the kernel command line");
        assert_eq!(of(70, &["/init", "agent"]), Role::Agent);
        assert_eq!(of(70, &["gravure-confirm", "confirm"]), Role::Confirm);
        assert_eq!(of(70, &["/init", "-q", "--", "fs-ext4"]), Role::Modprobe(vec!["fs-ext4".into()]));
        assert_eq!(of(70, &["/init"]), Role::Unknown);
        assert_eq!(of(70, &["/init", "agent", "x"]), Role::Unknown);
    }
}
