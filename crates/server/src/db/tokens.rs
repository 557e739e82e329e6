//! Tokens: one-time boot tokens and the operators' API tokens. Only hashes of them are here.

use gravure_model::Timestamp;
use gravure_model::identity::MachineIdentity;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Conn, DbError, document, to_json};

/// A boot token.
#[derive(Debug, Clone)]
pub(crate) struct BootToken {
    /// BLAKE3 of the token.
    pub(crate) hash: String,
    /// The job it was issued for.
    pub(crate) job: String,
    /// The machine it was issued to, as the boot loader named it.
    pub(crate) identity: MachineIdentity,
    pub(crate) issued: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) used: Option<Timestamp>,
    pub(crate) superseded: Option<Timestamp>,
}

impl BootToken {
    fn of(row: &AnyRow) -> Result<Self, DbError> {
        Ok(Self {
            hash: row.try_get("hash")?,
            job: row.try_get("job")?,
            identity: document(row, "identity")?,
            issued: Timestamp(row.try_get("issued")?),
            expires: Timestamp(row.try_get("expires")?),
            used: row.try_get::<Option<i64>, _>("used")?.map(Timestamp),
            superseded: row.try_get::<Option<i64>, _>("superseded")?.map(Timestamp),
        })
    }
}

/// Issues a token for `subject` (the machine's strongest name); unused ones it has are worthless from now on.
pub(crate) async fn issue(conn: &mut Conn, subject: &str, token: &BootToken) -> Result<(), DbError> {
    let sql =
        "UPDATE boot_tokens SET superseded = $2 WHERE subject = $1 AND used IS NULL AND superseded IS NULL";
    sqlx::query(sql).bind(subject).bind(token.issued.0).execute(&mut *conn).await?;
    let sql = "INSERT INTO boot_tokens (hash, job, identity, subject, issued, expires) \
               VALUES ($1, $2, $3, $4, $5, $6)";
    let query =
        sqlx::query(sql).bind(&token.hash).bind(&token.job).bind(to_json("identity", &token.identity)?);
    query.bind(subject).bind(token.issued.0).bind(token.expires.0).execute(conn).await?;
    Ok(())
}

/// The token with this hash.
pub(crate) async fn boot_token(conn: &mut Conn, hash: &str) -> Result<Option<BootToken>, DbError> {
    let sql =
        "SELECT hash, job, identity, issued, expires, used, superseded FROM boot_tokens WHERE hash = $1";
    let row = sqlx::query(sql).bind(hash).fetch_optional(conn).await?;
    row.as_ref().map(BootToken::of).transpose()
}

/// Marks a token as used; false when somebody was faster.
pub(crate) async fn spend(conn: &mut Conn, hash: &str, now: Timestamp) -> Result<bool, DbError> {
    let sql = "UPDATE boot_tokens SET used = $2 WHERE hash = $1 AND used IS NULL";
    Ok(sqlx::query(sql).bind(hash).bind(now.0).execute(conn).await?.rows_affected() > 0)
}

/// An operator's token.
#[derive(Debug, Clone)]
pub(crate) struct ApiToken {
    /// Whose.
    pub(crate) name: String,
    /// What it may do, separated by spaces.
    pub(crate) scopes: String,
}

/// Enters an operator's token.
pub(crate) async fn add_api_token(conn: &mut Conn, token: &ApiToken, hash: &str) -> Result<(), DbError> {
    let sql = "INSERT INTO api_tokens (id, name, hash, scopes, created) VALUES ($1, $2, $3, $4, $5)";
    let query = sqlx::query(sql).bind(uuid::Uuid::new_v4().to_string()).bind(&token.name).bind(hash);
    query.bind(&token.scopes).bind(Timestamp::now().0).execute(conn).await?;
    Ok(())
}

/// The operator's token with this hash, unless it was revoked.
pub(crate) async fn api_token(conn: &mut Conn, hash: &str) -> Result<Option<ApiToken>, DbError> {
    let sql = "SELECT name, scopes FROM api_tokens WHERE hash = $1 AND revoked IS NULL";
    let row = sqlx::query(sql).bind(hash).fetch_optional(conn).await?;
    let token = |row: AnyRow| Ok(ApiToken { name: row.try_get("name")?, scopes: row.try_get("scopes")? });
    row.map(token).transpose()
}
