//! Jobs.

use gravure_model::job::Job;
use gravure_model::{Secret, Timestamp};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Conn, DbError, document, to_json};

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

/// Enters a job. Its settings, which may be secret, are kept apart from what is shown of it.
pub(crate) async fn add(conn: &mut Conn, job: &Job) -> Result<(), DbError> {
    let mut request = job.request.clone();
    let settings = request.windows.as_mut().and_then(|windows| windows.settings.take());
    let sql =
        "INSERT INTO jobs (id, request, seed, created, expires, settings) VALUES ($1, $2, $3, $4, $5, $6)";
    let query = sqlx::query(sql).bind(&job.id).bind(to_json("request", &request)?).bind(&job.seed);
    let query = query.bind(job.created.0).bind(request.expires.map(|at| at.0));
    query.bind(settings.as_ref().map(Secret::reveal)).execute(conn).await?;
    Ok(())
}

/// The settings of a job; none once it is closed.
pub(crate) async fn settings(conn: &mut Conn, id: &str) -> Result<Option<Secret>, DbError> {
    let row = sqlx::query("SELECT settings FROM jobs WHERE id = $1").bind(id).fetch_optional(conn).await?;
    let text: Option<String> = row.map(|row| row.try_get("settings")).transpose()?.flatten();
    Ok(text.map(Secret::new))
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

/// Closes a job, whose settings are forgotten; false when it was closed already or does not exist.
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
