//! What the database says of the machines. Read only: a database of an older layout stays one.

use std::path::Path;

use super::Check;
use crate::config::Config;
use crate::db::{self, Db, DbError};

/// Names listed of machines that share a SID.
const MAX_LISTED: usize = 10;

/// Machines whose Windows has the SID of another one's: copies of an installation that was not generalised.
pub(super) fn same_sids(config: &Config) -> Vec<Check> {
    of_database(&config.paths.database)
}

fn of_database(url: &str) -> Vec<Check> {
    const NAME: &str = "windows identities";
    let file = url.strip_prefix("sqlite://").and_then(|rest| rest.split('?').next());
    if file.is_some_and(|file| !Path::new(file).exists()) {
        return Vec::new();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let shared = match runtime {
        Ok(runtime) => runtime.block_on(read(url)),
        Err(error) => return vec![Check::note(NAME, format!("could not be looked at: {error}"))],
    };
    let shared = match shared {
        Ok(shared) => shared,
        // A database of an older version has no such table until the server is started the next time.
        Err(error) => return vec![Check::note(NAME, format!("could not be looked at: {error}"))],
    };
    if shared.is_empty() {
        return vec![Check::ok(NAME, "no two machines are known to have the same SID")];
    }
    let cure = "run `sysprep /generalize` before the capture of an image that several machines get";
    let warnings = shared.into_iter().map(|(sid, machines)| {
        let more = machines.len().saturating_sub(MAX_LISTED);
        let listed = machines.into_iter().take(MAX_LISTED).collect::<Vec<_>>().join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Check::warning(NAME, format!("{listed}{more} have the same SID {sid}"), cure)
    });
    warnings.collect()
}

async fn read(url: &str) -> Result<std::collections::BTreeMap<String, Vec<String>>, DbError> {
    let db = Db::look(url).await?;
    let shared = db::sids::shared(&mut *db.read().await?).await;
    db.close().await;
    shared
}

#[cfg(test)]
mod tests {
    use gravure_model::Timestamp;
    use gravure_model::identity::Mac;
    use gravure_model::inventory::{InstalledWindows, Inventory, Nic};

    use super::super::Verdict;
    use super::*;

    #[test]
    fn copies_of_one_installation_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let url = Db::sqlite_url(&dir.path().join("db"));
        assert_eq!(of_database(&url), [], "no server has run yet");
        assert!(!dir.path().join("db").exists());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let register = |numbers: std::ops::Range<u8>| {
            runtime.block_on(async {
                let db = Db::open(&url).await.unwrap();
                let mut transaction = db.write().await.unwrap();
                for number in numbers {
                    let windows = InstalledWindows {
                        partition: "sda3".into(),
                        computer_name: Some(format!("PC-{number}")),
                        machine_sid: Some("S-1-5-21-1-2-3".into()),
                    };
                    let mac = Mac([2, 0, 0, 0, 0, number]);
                    let nic = Nic {
                        name: "eth0".into(),
                        mac,
                        driver: None,
                        carrier: None,
                        speed_mbits: None,
                        pci_address: None,
                    };
                    let (windows, nics) = (Some(vec![windows]), vec![nic]);
                    let inventory = Inventory { windows, nics, ..Inventory::default() };
                    db::machines::register(&mut transaction, &inventory, Timestamp(1)).await.unwrap();
                }
                transaction.commit().await.unwrap();
                db.close().await;
            });
        };
        register(1..2);
        assert_eq!(of_database(&url)[0].verdict, Verdict::Ok);
        register(2..14);
        let [check]: [Check; 1] = of_database(&url).try_into().unwrap();
        assert_eq!(check.verdict, Verdict::Warning);
        assert!(
            check.found.contains("PC-1")
                && check.found.ends_with("and 3 more have the same SID S-1-5-21-1-2-3"),
            "{}",
            check.found
        );
    }
}
