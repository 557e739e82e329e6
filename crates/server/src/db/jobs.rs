//! Jobs.

use gravure_model::job::{Job, JobRequest};
use gravure_model::{Secret, Timestamp};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Conn, DbError, document, to_json};
use crate::Error;
use crate::vault::{MARK, Vault};

/// A job and whether it still counts.
#[derive(Debug, Clone)]
pub(crate) struct JobRow {
    pub(crate) job: Job,
    /// When it was closed: done or cancelled.
    pub(crate) closed: Option<Timestamp>,
}

impl JobRow {
    fn of(row: &AnyRow) -> Result<Self, DbError> {
        let job = Job {
            id: row.try_get("id")?,
            seed: row.try_get("seed")?,
            request: document(row, "request")?,
            created: Timestamp(row.try_get("created")?),
        };
        Ok(Self { job, closed: row.try_get::<Option<i64>, _>("closed")?.map(Timestamp) })
    }

    /// Whether machines may get it now.
    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        self.closed.is_none() && self.job.request.expires.is_none_or(|expires| now < expires)
    }
}

/// What of a job is not shown, and forgotten when it is closed. A job has one of them: it deploys or it captures.
#[derive(Debug, Default)]
pub(crate) struct Secrets {
    /// Settings for the answer file.
    pub(crate) settings: Option<Secret>,
    /// Keys of encrypted volumes.
    pub(crate) keys: Vec<Secret>,
}

impl Secrets {
    /// Takes them out of what is shown.
    pub(crate) fn take(request: &mut JobRequest) -> Self {
        Self {
            settings: request.windows.as_mut().and_then(|windows| windows.settings.take()),
            keys: request
                .capture
                .as_mut()
                .map(|capture| std::mem::take(&mut capture.keys))
                .unwrap_or_default(),
        }
    }

    /// Puts them where they were.
    pub(crate) fn put(self, request: &mut JobRequest) {
        if let Some(windows) = &mut request.windows {
            windows.settings = self.settings;
        }
        if let Some(capture) = &mut request.capture {
            capture.keys = self.keys;
        }
    }

    fn seal(&self, job: &str, vault: &Vault) -> Result<Option<String>, Error> {
        if self.keys.is_empty() {
            return self.settings.as_ref().map(|settings| vault.seal(&owner(job), settings)).transpose();
        }
        let keys = serde_json::to_string(&self.keys);
        let keys = keys.map_err(|source| DbError::Document { what: "keys", source })?;
        vault.seal(&keys_of(job), &Secret::new(keys)).map(Some)
    }
}

/// What the settings of a job are sealed as.
fn owner(job: &str) -> String {
    format!("job {job}")
}

/// What the keys of a job are sealed as.
fn keys_of(job: &str) -> String {
    format!("keys of job {job}")
}

/// Enters a job. What of it is secret is kept apart from what is shown of it, and sealed.
pub(crate) async fn add(conn: &mut Conn, job: &Job, vault: &Vault) -> Result<(), Error> {
    let mut request = job.request.clone();
    let settings = Secrets::take(&mut request).seal(&job.id, vault)?;
    let sql =
        "INSERT INTO jobs (id, request, seed, created, expires, settings) VALUES ($1, $2, $3, $4, $5, $6)";
    let query = sqlx::query(sql).bind(&job.id).bind(to_json("request", &request)?).bind(&job.seed);
    let query = query.bind(job.created.0).bind(request.expires.map(|at| at.0));
    query.bind(settings).execute(conn).await.map_err(DbError::from)?;
    Ok(())
}

/// What of a job is secret; nothing once it is closed. `captures` says which kind of job it is.
pub(crate) async fn secrets(
    conn: &mut Conn,
    id: &str,
    captures: bool,
    vault: &Vault,
) -> Result<Secrets, Error> {
    let row = sqlx::query("SELECT settings FROM jobs WHERE id = $1").bind(id).fetch_optional(conn).await;
    let row = row.map_err(DbError::from)?;
    let text = row.map(|row| row.try_get("settings")).transpose().map_err(DbError::from)?;
    let text: Option<String> = text.flatten();
    let Some(text) = text else { return Ok(Secrets::default()) };
    if !captures {
        return Ok(Secrets { settings: Some(vault.unseal(&owner(id), &text)?), keys: Vec::new() });
    }
    let keys = vault.unseal(&keys_of(id), &text)?;
    let keys = serde_json::from_str(keys.reveal());
    Ok(Secrets { settings: None, keys: keys.map_err(|source| DbError::Document { what: "keys", source })? })
}

/// Whether secrets of any job are sealed.
pub(crate) async fn any_sealed(conn: &mut Conn) -> Result<bool, DbError> {
    let sql = "SELECT id FROM jobs WHERE settings LIKE $1 LIMIT 1";
    Ok(sqlx::query(sql).bind(format!("{MARK}%")).fetch_optional(conn).await?.is_some())
}

/// Seals what earlier versions stored as it was; gives the number of jobs.
pub(crate) async fn seal_old(conn: &mut Conn, vault: &Vault) -> Result<usize, Error> {
    let sql = "SELECT id, settings FROM jobs WHERE settings IS NOT NULL AND settings NOT LIKE $1";
    let rows = sqlx::query(sql).bind(format!("{MARK}%")).fetch_all(&mut *conn).await;
    let rows = rows.map_err(DbError::from)?;
    for row in &rows {
        let id: String = row.try_get("id").map_err(DbError::from)?;
        let plain = Secret::new(row.try_get::<String, _>("settings").map_err(DbError::from)?);
        let sealed = vault.seal(&owner(&id), &plain)?;
        let query = sqlx::query("UPDATE jobs SET settings = $2 WHERE id = $1").bind(&id).bind(sealed);
        query.execute(&mut *conn).await.map_err(DbError::from)?;
    }
    Ok(rows.len())
}

/// All jobs, newest first.
pub(crate) async fn list(conn: &mut Conn) -> Result<Vec<JobRow>, DbError> {
    let sql = "SELECT id, request, seed, created, closed FROM jobs ORDER BY created DESC, id";
    let rows = sqlx::query(sql).fetch_all(conn).await?;
    rows.iter().map(JobRow::of).collect()
}

/// Jobs that are open at `now`, newest first.
pub(crate) async fn open(conn: &mut Conn, now: Timestamp) -> Result<Vec<JobRow>, DbError> {
    let sql = "SELECT id, request, seed, created, closed FROM jobs \
               WHERE closed IS NULL AND (expires IS NULL OR expires > $1) ORDER BY created DESC, id";
    let rows = sqlx::query(sql).bind(now.0).fetch_all(conn).await?;
    rows.iter().map(JobRow::of).collect()
}

/// The job with this id.
pub(crate) async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<JobRow>, DbError> {
    let sql = "SELECT id, request, seed, created, closed FROM jobs WHERE id = $1";
    let row = sqlx::query(sql).bind(id).fetch_optional(conn).await?;
    row.as_ref().map(JobRow::of).transpose()
}

/// Closes a job, whose secrets are forgotten; false when it was closed already or does not exist.
pub(crate) async fn close(conn: &mut Conn, id: &str, now: Timestamp) -> Result<bool, DbError> {
    let sql = "UPDATE jobs SET closed = $2, settings = NULL WHERE id = $1 AND closed IS NULL";
    let done = sqlx::query(sql).bind(id).bind(now.0).execute(conn).await?;
    Ok(done.rows_affected() > 0)
}

/// Keeps others from handing out the same job until the transaction ends.
pub(crate) async fn lock(conn: &mut Conn, id: &str) -> Result<(), DbError> {
    // An update that changes nothing takes the row's lock on PostgreSQL; SQLite has one writer anyway.
    sqlx::query("UPDATE jobs SET seed = seed WHERE id = $1").bind(id).execute(conn).await?;
    Ok(())
}
