//! What PID 1 does: signals as events, reaping of orphans, sessions, roots, private mounts. Own main: the process has
//! one thread, and runs itself again as PID 1 of a namespace (root).
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::zombie_processes, reason = "they are collected by what is tested")]

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use gravure_linux::process::{self, Exit, Signal, Signals};
use gravure_linux::{Dir, Error, kernel};

const LONG: Duration = Duration::from_secs(20);

fn main() {
    if std::env::var_os("GRAVURE_INNER_PID1").is_some() {
        as_pid1();
        return;
    }
    signals_arrive_as_events();
    children_start_with_nothing_blocked();
    only_pid1_may_end_everything();
    an_ended_child_is_seen_before_it_is_collected();
    a_new_session_is_led_by_the_child();
    a_shell_gets_its_terminal();
    the_kernel_tells_its_name_and_age();
    if process::is_root() {
        a_changed_root_holds_the_child();
        private_mounts_vanish();
        run_as_pid1();
    } else {
        eprintln!("SKIPPED: roots, mounts and PID namespaces need root");
    }
    println!("pid1: all passed");
}

fn signals_arrive_as_events() {
    let signals = Signals::take(&[Signal::Child, Signal::User1, Signal::Terminate]).unwrap();
    assert_eq!(signals.next(Duration::ZERO).unwrap(), None);
    let own = std::process::id();
    process::send_signal(own, Signal::User1).unwrap();
    assert_eq!(signals.next(LONG).unwrap(), Some((Signal::User1, own)));
    process::send_signal(own, Signal::Terminate).unwrap();
    assert_eq!(signals.next(LONG).unwrap(), Some((Signal::Terminate, own)));
    let child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
    assert_eq!(signals.next(LONG).unwrap(), Some((Signal::Child, child.id())));
    assert_eq!(process::reap().unwrap(), Some((child.id(), Exit::Code(7))));
    assert_eq!(process::reap().unwrap(), None);
    let child = Command::new("sleep").arg("1000").spawn().unwrap();
    process::kill(child.id()).unwrap();
    assert_eq!(signals.next(LONG).unwrap(), Some((Signal::Child, child.id())));
    assert_eq!(process::reap().unwrap(), Some((child.id(), Exit::Signal(9))));
}

fn output(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn children_start_with_nothing_blocked() {
    for prepare in [process::with_default_signals, process::in_new_session] {
        let mut command = Command::new("grep");
        prepare(command.args(["SigBlk", "/proc/self/status"]));
        let text = output(&mut command);
        assert_eq!(text.split_whitespace().last(), Some("0000000000000000"), "{text}");
    }
}

fn only_pid1_may_end_everything() {
    assert_ne!(std::process::id(), 1, "run as PID 1 of a machine this test would end it");
    assert!(matches!(process::terminate_all(), Err(Error::Refused { .. })));
    assert!(matches!(process::kill_all(), Err(Error::Refused { .. })));
}

fn an_ended_child_is_seen_before_it_is_collected() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(process::has_ended(child.id()).unwrap(), Some(false));
    let signals = Signals::take(&[Signal::Child]).unwrap();
    while signals.next(Duration::ZERO).unwrap().is_some() {}
    drop(child.stdin.take());
    signals.next(LONG).unwrap().unwrap();
    assert_eq!(process::has_ended(child.id()).unwrap(), Some(true));
    assert!(child.wait().unwrap().success());
    assert_eq!(process::has_ended(child.id()).unwrap(), None);
}

/// Session and controlling terminal of the process that prints its own `/proc/self/stat`.
fn session_and_terminal(stat: &str) -> (u32, u32, i32) {
    let (before, after) = stat.split_once(") ").unwrap();
    let pid = before.split(' ').next().unwrap().parse().unwrap();
    let words: Vec<&str> = after.split(' ').collect();
    (pid, words[3].parse().unwrap(), words[4].parse().unwrap())
}

fn a_new_session_is_led_by_the_child() {
    let mut command = Command::new("cat");
    process::in_new_session(command.arg("/proc/self/stat"));
    let (pid, session, terminal) = session_and_terminal(&output(&mut command));
    assert_eq!((session, terminal), (pid, 0));
}

fn a_shell_gets_its_terminal() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = process::open_terminal(path.as_ref()).unwrap();
    let mut command = Command::new("cat");
    process::on_terminal(command.arg("/proc/self/stat"), terminal).unwrap();
    let mut child = command.spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let mut bytes = [0; 4096];
    let len = std::fs::File::from(master).read(&mut bytes).unwrap();
    let (pid, session, terminal) = session_and_terminal(std::str::from_utf8(&bytes[..len]).unwrap());
    assert_eq!((pid, session), (child.id(), child.id()));
    assert_ne!(terminal, 0);
    assert!(process::open_terminal("/proc/self/stat".as_ref()).is_err());
}

fn the_kernel_tells_its_name_and_age() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(kernel::release(), release.trim());
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = text.split(' ').next().unwrap().parse().unwrap();
    assert!((kernel::uptime().as_secs_f64() - seconds).abs() < 5.0);
}

fn a_changed_root_holds_the_child() {
    let root = std::path::Path::new("/usr");
    if !root.join("lib64").exists() || !root.join("bin/ls").exists() {
        eprintln!("SKIPPED: /usr of this machine is no root by itself");
        return;
    }
    let mut command = Command::new("/bin/ls");
    process::in_root(command.arg("-a"), Dir::open_root(root).unwrap());
    let text = output(&mut command);
    assert!(text.lines().any(|line| line == "share") && !text.lines().any(|line| line == "proc"), "{text}");
}

fn private_mounts_vanish() {
    let temp = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs none \"$0\" && touch \"$0/inside\" && ls \"$0\"";
    let mut command = Command::new("sh");
    process::in_private_mounts(command.args(["-c", script]).arg(temp.path()));
    assert_eq!(output(&mut command), "inside\n");
    assert!(!temp.path().join("inside").exists());
}

fn run_as_pid1() {
    let own = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(own)
        .env("GRAVURE_INNER_PID1", "1")
        .status();
    match status {
        Err(e) => eprintln!("SKIPPED: unshare(1) is missing: {e}"),
        Ok(status) => assert!(status.success(), "as PID 1: {status}"),
    }
}

fn as_pid1() {
    assert_eq!(std::process::id(), 1);
    let signals = Signals::take(&[Signal::Child]).unwrap();
    // The shell ends at once, its grandchild becomes ours.
    let mut shell = Command::new("sh")
        .args(["-c", "sh -c 'read line; exit 9' <&0 & exit 3"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ended = Vec::new();
    let mut input = shell.stdin.take();
    while ended.len() < 2 {
        signals.next(LONG).unwrap().expect("a child ends");
        while let Some((pid, exit)) = process::reap().unwrap() {
            if pid == shell.id() {
                assert_eq!(exit, Exit::Code(3));
                drop(input.take()); // lets the orphan go on
            }
            ended.push(exit);
        }
    }
    assert_eq!(ended, [Exit::Code(3), Exit::Code(9)]);

    Command::new("sleep").arg("1000").spawn().unwrap();
    Command::new("sh")
        .args(["-c", "trap '' TERM; echo ready; while :; do sleep 1000; done"])
        .stdout(Stdio::piped())
        .spawn()
        .map(|mut stubborn| stubborn.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap())
        .unwrap();
    process::kill_all().unwrap();
    let mut killed = 0;
    while killed < 2 {
        signals.next(LONG).unwrap().expect("a child is killed");
        while let Some((_, exit)) = process::reap().unwrap() {
            assert_eq!(exit, Exit::Signal(9));
            killed += 1;
        }
    }
}
