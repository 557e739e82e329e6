//! Plans handed out and what became of them.

use gravure_model::Timestamp;
use gravure_model::api::{FailureReport, FirstBoot, StageReport, TransferReport};
use gravure_model::descriptor::Digest;
use gravure_model::event::{Event, EventKind, Known};
use gravure_model::plan::Plan;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Conn, DbError, document, from_json, to_json, word};

/// How a plan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Verified,
    Captured,
    Failed,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Captured => "captured",
            Self::Failed => "failed",
        }
    }
}

/// A plan that was handed out.
#[derive(Debug, Clone)]
pub(crate) struct PlanRow {
    pub(crate) id: String,
    pub(crate) job: String,
    pub(crate) machine: String,
    /// Number of the machine within the job.
    pub(crate) ordinal: i64,
    pub(crate) image: String,
    pub(crate) image_digest: Digest,
    /// Without its secrets.
    pub(crate) body: Plan,
    pub(crate) started: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) failure: Option<FailureReport>,
    pub(crate) confirmed: Option<Timestamp>,
    pub(crate) first_boot: Option<FirstBoot>,
}

const COLUMNS: &str = "id, job, machine, ordinal, image, image_digest, body, started, ended, outcome, failure, \
                       confirmed, first_boot";

impl PlanRow {
    fn of(row: &AnyRow) -> Result<Self, DbError> {
        let outcome: Option<String> = row.try_get("outcome")?;
        let outcome = outcome.map(|text| match text.as_str() {
            "verified" => Ok(Outcome::Verified),
            "captured" => Ok(Outcome::Captured),
            "failed" => Ok(Outcome::Failed),
            _ => Err(DbError::Value { what: "outcome", value: text }),
        });
        let failure: Option<String> = row.try_get("failure")?;
        let first_boot: Option<String> = row.try_get("first_boot")?;
        Ok(Self {
            id: row.try_get("id")?,
            job: row.try_get("job")?,
            machine: row.try_get("machine")?,
            ordinal: row.try_get("ordinal")?,
            image: row.try_get("image")?,
            image_digest: word(row, "image_digest")?,
            body: document(row, "body")?,
            started: Timestamp(row.try_get("started")?),
            ended: row.try_get::<Option<i64>, _>("ended")?.map(Timestamp),
            outcome: outcome.transpose()?,
            failure: failure.map(|text| from_json("failure", &text)).transpose()?,
            confirmed: row.try_get::<Option<i64>, _>("confirmed")?.map(Timestamp),
            first_boot: first_boot.map(|text| from_json("first_boot", &text)).transpose()?,
        })
    }
}

/// Enters a plan.
pub(crate) async fn add(conn: &mut Conn, plan: &PlanRow) -> Result<(), DbError> {
    let sql = "INSERT INTO plans (id, job, machine, ordinal, image, image_digest, body, started) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let query = sqlx::query(sql).bind(&plan.id).bind(&plan.job).bind(&plan.machine).bind(plan.ordinal);
    let query =
        query.bind(&plan.image).bind(plan.image_digest.to_string()).bind(to_json("body", &plan.body)?);
    query.bind(plan.started.0).execute(conn).await?;
    Ok(())
}

/// The plan with this id.
pub(crate) async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<PlanRow>, DbError> {
    one(conn, "id", id).await
}

/// The plan whose deployed system has this token to report with.
pub(crate) async fn by_confirm_hash(conn: &mut Conn, hash: &str) -> Result<Option<PlanRow>, DbError> {
    one(conn, "confirm_hash", hash).await
}

async fn one(conn: &mut Conn, column: &'static str, value: &str) -> Result<Option<PlanRow>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM plans WHERE {column} = $1");
    let row = sqlx::query(&sql).bind(value).fetch_optional(conn).await?;
    row.as_ref().map(PlanRow::of).transpose()
}

/// Plans of a job, in the order they were handed out.
pub(crate) async fn of_job(conn: &mut Conn, job: &str) -> Result<Vec<PlanRow>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM plans WHERE job = $1 ORDER BY started, id");
    let rows = sqlx::query(&sql).bind(job).fetch_all(conn).await?;
    rows.iter().map(PlanRow::of).collect()
}

/// Sets the hash of the token the deployed system reports with; an earlier one is worthless from now on.
pub(crate) async fn set_confirm_hash(conn: &mut Conn, id: &str, hash: &str) -> Result<(), DbError> {
    sqlx::query("UPDATE plans SET confirm_hash = $2 WHERE id = $1").bind(id).bind(hash).execute(conn).await?;
    Ok(())
}

/// Ends a plan, if it has not ended; false when it had.
pub(crate) async fn end(
    conn: &mut Conn,
    id: &str,
    outcome: Outcome,
    failure: Option<&FailureReport>,
    now: Timestamp,
) -> Result<bool, DbError> {
    let failure = failure.map(|failure| to_json("failure", failure)).transpose()?;
    let sql = "UPDATE plans SET ended = $2, outcome = $3, failure = $4 WHERE id = $1 AND ended IS NULL";
    let query = sqlx::query(sql).bind(id).bind(now.0).bind(outcome.as_str()).bind(failure);
    Ok(query.execute(conn).await?.rows_affected() > 0)
}

/// Notes the deployed system's report; false when it had reported.
pub(crate) async fn confirm(
    conn: &mut Conn,
    id: &str,
    machine_id: &str,
    first_boot: &FirstBoot,
    now: Timestamp,
) -> Result<bool, DbError> {
    let sql = "UPDATE plans SET confirmed = $2, machine_id = $3, first_boot = $4 \
               WHERE id = $1 AND confirmed IS NULL";
    let query = sqlx::query(sql).bind(id).bind(now.0).bind(machine_id);
    let query = query.bind(to_json("first_boot", first_boot)?);
    Ok(query.execute(conn).await?.rows_affected() > 0)
}

/// The machine id that the deployed system reported.
pub(crate) async fn reported_machine_id(conn: &mut Conn, id: &str) -> Result<Option<String>, DbError> {
    let row = sqlx::query("SELECT machine_id FROM plans WHERE id = $1").bind(id).fetch_optional(conn).await?;
    Ok(row.map(|row| row.try_get("machine_id")).transpose()?.flatten())
}

/// Adds a stage that ended.
pub(crate) async fn add_stage(
    conn: &mut Conn,
    id: &str,
    number: i64,
    stage: &StageReport,
) -> Result<(), DbError> {
    let sql = "INSERT INTO stages (plan, number, stage, bytes, milliseconds) VALUES ($1, $2, $3, $4, $5)";
    let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let query = sqlx::query(sql).bind(id).bind(number).bind(&stage.stage);
    query.bind(count(stage.bytes)).bind(count(stage.milliseconds)).execute(conn).await?;
    Ok(())
}

/// Stages that ended, in order.
pub(crate) async fn stages(conn: &mut Conn, id: &str) -> Result<Vec<StageReport>, DbError> {
    let sql = "SELECT stage, bytes, milliseconds FROM stages WHERE plan = $1 ORDER BY number";
    let rows = sqlx::query(sql).bind(id).fetch_all(conn).await?;
    let stage = |row: &AnyRow| {
        let count = |column| row.try_get::<i64, _>(column).map(|value| u64::try_from(value).unwrap_or(0));
        Ok(StageReport {
            stage: row.try_get("stage")?,
            bytes: count("bytes")?,
            milliseconds: count("milliseconds")?,
        })
    };
    rows.iter().map(stage).collect()
}

/// What stages moved, in order: told by events, which are kept as they came.
pub(crate) async fn transfers(conn: &mut Conn, id: &str) -> Result<Vec<TransferReport>, DbError> {
    let sql = "SELECT body FROM events WHERE plan = $1 AND body LIKE $2 ORDER BY sequence";
    let rows = sqlx::query(sql).bind(id).bind("%\"transferred\"%").fetch_all(conn).await?;
    let mut out = Vec::new();
    for row in &rows {
        let event: Event = document(row, "body")?;
        if let EventKind::Known(Known::Transferred { stage, network_bytes, written_bytes, kept_bytes }) =
            event.kind
        {
            out.push(TransferReport { stage, network_bytes, written_bytes, kept_bytes });
        }
    }
    Ok(out)
}

/// Adds a warning.
pub(crate) async fn add_warning(
    conn: &mut Conn,
    id: &str,
    number: i64,
    message: &str,
) -> Result<(), DbError> {
    let sql = "INSERT INTO warnings (plan, number, message) VALUES ($1, $2, $3)";
    sqlx::query(sql).bind(id).bind(number).bind(message).execute(conn).await?;
    Ok(())
}

/// Warnings, in order.
pub(crate) async fn warnings(conn: &mut Conn, id: &str) -> Result<Vec<String>, DbError> {
    let sql = "SELECT message FROM warnings WHERE plan = $1 ORDER BY number";
    let rows = sqlx::query(sql).bind(id).fetch_all(conn).await?;
    rows.iter().map(|row| Ok(row.try_get("message")?)).collect()
}
