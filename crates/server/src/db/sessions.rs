//! Sessions of booted payloads, known by the key of their TLS client certificate. They outlive a restart of the server.

use gravure_model::{Assurance, Timestamp};
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Conn, DbError, word};

/// A session.
#[derive(Debug, Clone)]
pub(crate) struct SessionRow {
    /// BLAKE3 of the client certificate's public key.
    pub(crate) peer: String,
    pub(crate) machine: String,
    pub(crate) nonce: String,
    pub(crate) assurance: Assurance,
    pub(crate) approval_code: String,
    /// Wrong codes operators gave.
    pub(crate) wrong_codes: i64,
    pub(crate) payload_version: String,
    pub(crate) created: Timestamp,
    /// Of the last event taken.
    pub(crate) last_sequence: i64,
    /// The plan it got.
    pub(crate) plan: Option<String>,
}

const COLUMNS: &str = "peer, machine, nonce, assurance, approval_code, wrong_codes, payload_version, created, \
                       last_sequence, plan";

impl SessionRow {
    fn of(row: &AnyRow) -> Result<Self, DbError> {
        Ok(Self {
            peer: row.try_get("peer")?,
            machine: row.try_get("machine")?,
            nonce: row.try_get("nonce")?,
            assurance: word(row, "assurance")?,
            approval_code: row.try_get("approval_code")?,
            wrong_codes: row.try_get("wrong_codes")?,
            payload_version: row.try_get("payload_version")?,
            created: Timestamp(row.try_get("created")?),
            last_sequence: row.try_get("last_sequence")?,
            plan: row.try_get("plan")?,
        })
    }
}

/// The session of this key.
pub(crate) async fn by_peer(conn: &mut Conn, peer: &str) -> Result<Option<SessionRow>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM sessions WHERE peer = $1");
    let row = sqlx::query(&sql).bind(peer).fetch_optional(conn).await?;
    row.as_ref().map(SessionRow::of).transpose()
}

/// Enters a session.
pub(crate) async fn add(conn: &mut Conn, session: &SessionRow) -> Result<(), DbError> {
    let sql = format!("INSERT INTO sessions ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)");
    let query = sqlx::query(&sql).bind(&session.peer).bind(&session.machine).bind(&session.nonce);
    let query = query.bind(session.assurance.as_str()).bind(&session.approval_code).bind(session.wrong_codes);
    let query = query.bind(&session.payload_version).bind(session.created.0).bind(session.last_sequence);
    query.bind(session.plan.as_deref()).execute(conn).await?;
    Ok(())
}

/// Sets how sure we are of the machine.
pub(crate) async fn set_assurance(conn: &mut Conn, peer: &str, assurance: Assurance) -> Result<(), DbError> {
    let sql = "UPDATE sessions SET assurance = $2 WHERE peer = $1";
    sqlx::query(sql).bind(peer).bind(assurance.as_str()).execute(conn).await?;
    Ok(())
}

/// Counts a wrong approval code.
pub(crate) async fn wrong_code(conn: &mut Conn, peer: &str) -> Result<(), DbError> {
    let sql = "UPDATE sessions SET wrong_codes = wrong_codes + 1 WHERE peer = $1";
    sqlx::query(sql).bind(peer).execute(conn).await?;
    Ok(())
}

/// Notes the plan it got.
pub(crate) async fn set_plan(conn: &mut Conn, peer: &str, plan: &str) -> Result<(), DbError> {
    sqlx::query("UPDATE sessions SET plan = $2 WHERE peer = $1").bind(peer).bind(plan).execute(conn).await?;
    Ok(())
}

/// Moves the mark of events taken from `from` to `to`; false when somebody else has moved it in between.
pub(crate) async fn advance(conn: &mut Conn, peer: &str, from: i64, to: i64) -> Result<bool, DbError> {
    let sql = "UPDATE sessions SET last_sequence = $3 WHERE peer = $1 AND last_sequence = $2";
    let done = sqlx::query(sql).bind(peer).bind(from).bind(to).execute(conn).await?;
    Ok(done.rows_affected() > 0)
}

/// Keeps an event.
pub(crate) async fn keep_event(
    conn: &mut Conn,
    peer: &str,
    sequence: i64,
    plan: Option<&str>,
    at: Timestamp,
    body: &str,
) -> Result<(), DbError> {
    let sql = "INSERT INTO events (peer, sequence, plan, at, body) VALUES ($1, $2, $3, $4, $5)";
    sqlx::query(sql).bind(peer).bind(sequence).bind(plan).bind(at.0).bind(body).execute(conn).await?;
    Ok(())
}
