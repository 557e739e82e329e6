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
/// Waits between tries: doubling from the first to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Runs the report; the exit code of the unit.
pub fn run() -> u8 {
    let root = Path::new("/");
    match confirm(root, &Roots::default(), PATIENCE, FIRST_WAIT) {
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

fn confirm(root: &Path, roots: &Roots, patience: Duration, first_wait: Duration) -> Result<(), String> {
    let path = root.join(PUT_IN[0]);
    let bytes = sysfs::read_bounded(&path, MAX_SETTINGS_BYTES).map_err(|error| chain(&error))?;
    let settings: ConfirmSettings =
        serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    let agent = tls::client(&settings.ca_pem, None).map_err(|error| chain(&error))?;
    let request = request(&settings, root, roots);
    let url = format!("{}/v1/confirm", settings.server.trim_end_matches('/'));
    let (start, mut wait) = (Instant::now(), first_wait);
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
    let inventory = machine::collect(roots).inventory;
    ConfirmRequest {
        token: settings.token.clone(),
        host_name: text(roots.proc.join("sys/kernel/hostname")),
        machine_id: text(root.join("etc/machine-id")),
        kernel: kernel::release(),
        identity: inventory.identity(),
        secure_boot: inventory.firmware.secure_boot,
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
    use std::sync::{Arc, Mutex};

    use gravure_model::Secret;

    use super::*;
    use crate::made_site::{Answer, Site};

    /// A root with what a deployment puts in.
    fn deployed(settings: &str) -> tempfile::TempDir {
        let temp = tempfile::tempdir().unwrap();
        for name in PUT_IN {
            let path = temp.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, settings).unwrap();
        }
        std::fs::write(temp.path().join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        temp
    }

    /// Reports to a server that answers with `statuses` in turn; gives the result and the requests.
    fn report(statuses: &'static [u16]) -> (tempfile::TempDir, Result<(), String>, Vec<ConfirmRequest>) {
        let (site, requests) = (Site::new(), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&requests);
        let url = site.serve(move |path, body| {
            assert_eq!(path, "/v1/confirm");
            let mut seen = seen.lock().unwrap();
            seen.push(serde_json::from_slice(body).unwrap());
            let body = br#"{"error":"refused","message":"used before","cure":null}"#;
            Answer::Json(statuses[seen.len() - 1], body.to_vec())
        });
        let settings = ConfirmSettings {
            server: url,
            token: Secret::new("first-boot"),
            ca_pem: site.ca_pem.clone(),
            plan: "p1".into(),
        };
        let root = deployed(&serde_json::to_string(&settings).unwrap());
        let wait = Duration::from_millis(10);
        let result = confirm(root.path(), &Roots::default(), Duration::from_secs(60), wait);
        let requests = std::mem::take(&mut *requests.lock().unwrap());
        (root, result, requests)
    }

    #[test]
    fn reports_until_the_server_has_it_and_goes() {
        let (root, result, requests) = report(&[503, 429, 200]);
        assert_eq!((result, requests.len()), (Ok(()), 3));
        assert_eq!(requests[0].token.reveal(), "first-boot");
        assert_eq!(requests[0].machine_id, "0123456789abcdef0123456789abcdef");
        assert_eq!(requests[0].kernel, kernel::release());
        assert!(PUT_IN.iter().all(|name| !root.path().join(name).exists()));
    }

    #[test]
    fn a_refused_token_is_not_left_lying_about() {
        let (root, result, requests) = report(&[409]);
        assert_eq!(result, Err("the server refuses the report: used before".to_owned()));
        assert_eq!(requests.len(), 1);
        assert!(PUT_IN.iter().all(|name| !root.path().join(name).exists()));
    }

    #[test]
    fn a_silent_server_leaves_everything_for_the_next_boot() {
        let settings = ConfirmSettings {
            // Nobody listens on port 1 of the loopback.
            server: "https://127.0.0.1:1".into(),
            token: Secret::new("x"),
            ca_pem: Site::new().ca_pem,
            plan: "p1".into(),
        };
        let root = deployed(&serde_json::to_string(&settings).unwrap());
        let error = confirm(root.path(), &Roots::default(), Duration::ZERO, Duration::ZERO).unwrap_err();
        assert!(error.starts_with("no answer, tried again at the next start"), "{error}");
        assert!(PUT_IN.iter().all(|name| root.path().join(name).exists()));
    }

    #[test]
    fn nothing_of_ours_stays() {
        let temp = deployed("x");
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
        let error = confirm(temp.path(), &Roots::default(), Duration::ZERO, Duration::ZERO).unwrap_err();
        assert!(error.contains("confirm.json"), "{error}");
    }
}
