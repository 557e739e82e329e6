//! What must hold on SQLite and on PostgreSQL alike: sealed secrets, numbers that no two machines have.

use gravure_model::identity::MachineSelector;
use gravure_model::job::{Afterwards, CaptureRequest, DiskRule, Job, JobRequest, WindowsRequest};
use gravure_model::{Assurance, Secret, Timestamp};
use gravure_testkit::Postgres;
use sqlx::Row;

use super::*;
use crate::vault::MARK;

/// Machines that ask for a number at the same time.
const MACHINES: usize = 6;

/// Runs `test` on an empty database of each kind that is there; the directory is for keys.
fn on_each<F: Future<Output = ()>>(test: impl Fn(String, KeyFiles) -> F) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for kind in ["sqlite", "postgres"] {
        let keys = dir.path().join(kind);
        std::fs::create_dir(&keys).unwrap();
        let server = (kind == "postgres").then(Postgres::start);
        let url = match &server {
            None => Db::sqlite_url(&dir.path().join("db")),
            Some(Some(server)) => server.url(),
            // Told already.
            Some(None) => continue,
        };
        runtime.block_on(test(url, KeyFiles::in_dir(&keys)));
    }
}

fn job(id: &str) -> Job {
    let request = JobRequest {
        machine: MachineSelector::Any,
        image: "x.wim".into(),
        image_index: 0,
        name: "pc-{n}".into(),
        disk: DiskRule::Only,
        assurance: Assurance::Approved,
        expires: None,
        max_machines: None,
        then: Afterwards::Reboot,
        wipe: false,
        windows: None,
        capture: None,
        restore: None,
    };
    Job { id: id.into(), seed: "0".repeat(64), request, created: Timestamp(1) }
}

/// What stands in the column.
async fn stored(db: &Db, job: &str) -> Option<String> {
    let mut conn = db.read().await.unwrap();
    let query = sqlx::query("SELECT settings FROM jobs WHERE id = $1").bind(job);
    query.fetch_one(&mut *conn).await.unwrap().try_get("settings").unwrap()
}

#[test]
fn secrets_are_sealed_handed_out_and_forgotten_on_every_database() {
    on_each(|url, files| async move {
        let db = Db::open(&url).await.unwrap();
        let vault = db.vault(&files).await.unwrap();
        let settings = "administrator-password = \"hunter2\"\n";
        let mut deploys = job("deploys");
        let windows = WindowsRequest { settings: Some(Secret::new(settings)), ..WindowsRequest::default() };
        deploys.request.windows = Some(windows);
        let mut captures = job("captures");
        let keys = vec![Secret::of_bytes(b"\xff key"), Secret::of_bytes(b"1234")];
        captures.request.capture = Some(CaptureRequest { keys, ..CaptureRequest::default() });
        for job in [&deploys, &captures] {
            let mut transaction = db.write().await.unwrap();
            jobs::add(&mut transaction, job, &vault).await.unwrap();
            transaction.commit().await.unwrap();
        }
        let mut read = db.read().await.unwrap();
        for shown in jobs::list(&mut read).await.unwrap() {
            let text = serde_json::to_string(&shown.job).unwrap();
            assert!(!text.contains("hunter2") && !text.contains("MTIzNA"), "{text}");
        }
        for job in ["deploys", "captures"] {
            assert!(stored(&db, job).await.unwrap().starts_with(MARK), "{job} on {url}");
        }
        let found = jobs::secrets(&mut read, "deploys", false, &vault).await.unwrap();
        assert_eq!(found.settings.unwrap().reveal(), settings);
        let found = jobs::secrets(&mut read, "captures", true, &vault).await.unwrap();
        let found: Vec<Vec<u8>> = found.keys.iter().map(|key| key.bytes().unwrap().to_vec()).collect();
        assert_eq!(found, [b"\xff key".to_vec(), b"1234".to_vec()]);
        // Sealed as what they are of: one job's are not another's.
        let sealed = stored(&db, "deploys").await;
        sqlx::query("UPDATE jobs SET settings = $1 WHERE id = 'captures'")
            .bind(sealed)
            .execute(&mut *read)
            .await
            .unwrap();
        assert!(matches!(jobs::secrets(&mut read, "captures", true, &vault).await, Err(Error::Vault(_))));

        // What an earlier version stored in the clear is sealed at the next start, once.
        let plain = "owner = \"School\"\n";
        sqlx::query("UPDATE jobs SET settings = $1 WHERE id = 'deploys'")
            .bind(plain)
            .execute(&mut *read)
            .await
            .unwrap();
        drop(read);
        let vault = db.vault(&files).await.unwrap();
        let sealed = stored(&db, "deploys").await.unwrap();
        assert!(sealed.starts_with(MARK), "{sealed}");
        drop(db.vault(&files).await.unwrap());
        assert_eq!(stored(&db, "deploys").await.unwrap(), sealed);
        let mut transaction = db.write().await.unwrap();
        let found = jobs::secrets(&mut transaction, "deploys", false, &vault).await.unwrap();
        assert_eq!(found.settings.unwrap().reveal(), plain);
        assert!(jobs::close(&mut transaction, "deploys", Timestamp(2)).await.unwrap());
        assert!(!jobs::close(&mut transaction, "deploys", Timestamp(3)).await.unwrap());
        transaction.commit().await.unwrap();
        assert_eq!(stored(&db, "deploys").await, None);
        // Without its key the database tells nothing, and gets no new one.
        std::fs::remove_file(files.secrets()).unwrap();
        assert!(matches!(db.vault(&files).await, Err(Error::Vault(_))));
        assert!(!files.secrets().exists());
        db.close().await;
    });
}

async fn machine(db: &Db, id: &str, host_name: Option<&str>) {
    let sql = "INSERT INTO machines (id, identity, state, first_seen, last_seen, host_name) \
               VALUES ($1, '{}', 'registered', 1, 1, $2)";
    let mut transaction = db.write().await.unwrap();
    sqlx::query(sql).bind(id).bind(host_name).execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
}

async fn number(db: &Db, pattern: &str, machine: &str) -> u32 {
    let mut transaction = db.write().await.unwrap();
    let prefix = pattern.trim_end_matches("{n}").to_owned();
    let name = |number: u32| format!("{prefix}{number}");
    let number = numbers::of_machine(&mut transaction, pattern, machine, name).await.unwrap();
    // Others ask meanwhile.
    tokio::task::yield_now().await;
    transaction.commit().await.unwrap();
    number
}

#[test]
fn numbers_are_given_once_for_ever_on_every_database_whoever_asks_at_once() {
    on_each(|url, _| async move {
        let db = Db::open(&url).await.unwrap();
        // Named by hand, before numbers were kept.
        machine(&db, "old", Some("lab-2")).await;
        let names: Vec<String> = (0..MACHINES).map(|at| format!("m{at}")).collect();
        for name in &names {
            machine(&db, name, None).await;
        }
        let tasks = names.iter().map(|name| {
            let (db, name) = (db.clone(), name.clone());
            tokio::spawn(async move { number(&db, "lab-{n}", &name).await })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut given = Vec::new();
        for task in tasks {
            given.push(task.await.unwrap());
        }
        let mut sorted = given.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [1, 3, 4, 5, 6, 7], "on {url}");
        // The same again, each pattern for itself, and never one that was given before.
        for (name, number_given) in names.iter().zip(&given) {
            assert_eq!(number(&db, "lab-{n}", name).await, *number_given);
        }
        assert_eq!(number(&db, "room-{n}", "m3").await, 1);
        machine(&db, "new", None).await;
        assert_eq!(number(&db, "lab-{n}", "new").await, 8);
        db.close().await;
    });
}
