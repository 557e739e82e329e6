//! The report of the deployed system's first boot: a copy of this program, its settings and a systemd unit were put in
//! by the deployment; all three go when the server has taken the report.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gravure_linux::disks::Roots;
use gravure_linux::{kernel, machine, sysfs};
use gravure_model::api::{ApiError, ConfirmRequest, ConfirmSettings};

use crate::files::{MAX_SETTINGS_BYTES, chain};
use crate::tls;

/// What the deployment put in, from the root; removed in this order: the secret first.
const PUT_IN: [&str; 4] = [
    "etc/gravure/confirm.json",
    "etc/systemd/system/multi-user.target.wants/gravure-confirm.service",
    "etc/systemd/system/gravure-confirm.service",
    "usr/lib/gravure/gravure-confirm",
];
/// Directories that go with them when they are empty.
const DIRECTORIES: [&str; 2] = ["etc/gravure", "usr/lib/gravure"];
/// How long one boot tries; the next one tries again.
const PATIENCE: Duration = Duration::from_secs(900);
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Runs the report; the exit code of the unit.
pub fn run() -> u8 {
    let root = Path::new("/");
    match confirm(root, &Roots::default(), PATIENCE) {
        Ok(()) => {
            println!("gravure-confirm: the server has confirmed this system");
            0
        }
        Err(why) => {
            eprintln!("gravure-confirm: {why}");
            1
        }
    }
}

/// Why one try failed.
enum Failure {
    Again(String),
    Final(String),
}

fn confirm(root: &Path, roots: &Roots, patience: Duration) -> Result<(), String> {
    let path = root.join(PUT_IN[0]);
    let bytes = sysfs::read_bounded(&path, MAX_SETTINGS_BYTES).map_err(|error| chain(&error))?;
    let settings: ConfirmSettings =
        serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    let agent = tls::client(&settings.ca_pem, None).map_err(|error| chain(&error))?;
    let request = request(&settings, root, roots);
    let url = format!("{}/v1/confirm", settings.server.trim_end_matches('/'));
    let (start, mut wait) = (Instant::now(), FIRST_WAIT);
    loop {
        match post(&agent, &url, &request) {
            Ok(()) => return clean(root),
            Err(Failure::Final(why)) => {
                // A token that is refused will be refused for ever, and is not left lying about.
                clean(root)?;
                return Err(format!("the server refuses the report: {why}"));
            }
            Err(Failure::Again(why)) if start.elapsed() >= patience => {
                return Err(format!("no answer, tried again at the next start: {why}"));
            }
            Err(Failure::Again(why)) => {
                eprintln!("gravure-confirm: {why}; next try in {} s", wait.as_secs());
                std::thread::sleep(wait);
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

fn request(settings: &ConfirmSettings, root: &Path, roots: &Roots) -> ConfirmRequest {
    let text = |path: PathBuf| sysfs::text(&path).unwrap_or_default();
    ConfirmRequest {
        token: settings.token.clone(),
        host_name: text(roots.proc.join("sys/kernel/hostname")),
        machine_id: text(root.join("etc/machine-id")),
        kernel: kernel::release(),
        identity: machine::collect(roots).inventory.identity(),
    }
}

fn post(agent: &ureq::Agent, url: &str, request: &ConfirmRequest) -> Result<(), Failure> {
    let again = |error: ureq::Error| Failure::Again(format!("{url}: {}", chain(&error)));
    let mut answer = agent.post(url).send_json(request).map_err(again)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let text = answer.body_mut().read_to_string().unwrap_or_default();
    let words = serde_json::from_str::<ApiError>(&text).map(|error| error.message);
    let message = words.unwrap_or_else(|_| format!("status {status}"));
    // Too busy and too slow are not about us.
    let final_answer = status.is_client_error() && !matches!(status.as_u16(), 408 | 429);
    Err(if final_answer { Failure::Final(message) } else { Failure::Again(format!("{url}: {message}")) })
}

/// Removes what the deployment put in.
fn clean(root: &Path) -> Result<(), String> {
    for name in PUT_IN {
        let path = root.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("remove {}: {error}", path.display()));
            }
            _ => {}
        }
    }
    for name in DIRECTORIES {
        // Something else may be in there.
        let _ = std::fs::remove_dir(root.join(name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_ours_stays() {
        let temp = tempfile::tempdir().unwrap();
        for name in PUT_IN {
            let path = temp.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        std::fs::write(temp.path().join("etc/hostname"), "pc").unwrap();
        clean(temp.path()).unwrap();
        for name in PUT_IN.iter().chain(&DIRECTORIES) {
            assert!(!temp.path().join(name).exists(), "{name}");
        }
        assert!(temp.path().join("etc/hostname").exists());
        clean(temp.path()).unwrap();
    }

    #[test]
    fn without_settings_it_says_so() {
        let temp = tempfile::tempdir().unwrap();
        let error = confirm(temp.path(), &Roots::default(), Duration::ZERO).unwrap_err();
        assert!(error.contains("confirm.json"), "{error}");
    }
}
