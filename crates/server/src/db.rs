//! The database: SQLite embedded, PostgreSQL by URL, the same SQL for both.
//!
//! All SQL of the server is in this module and below. `$n` placeholders, times as i64 microseconds, ids and documents
//! as text, no query macros. SQLite runs in WAL mode with one writing connection, so a transaction never meets another.

pub(crate) mod audit;
pub(crate) mod jobs;
pub(crate) mod journal;
pub(crate) mod leases;
pub(crate) mod machines;
mod migrate;
pub(crate) mod plans;
pub(crate) mod sessions;
pub(crate) mod tokens;

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Executor, Row, Transaction};

pub use audit::AuditEntry;
pub(crate) use jobs::JobRow;
pub(crate) use machines::MachineRow;
pub(crate) use plans::{Outcome, PlanRow};
pub(crate) use sessions::SessionRow;
pub(crate) use tokens::{ApiToken, BootToken};

/// Connections that only read. SQLite serves them beside the writer; more than the cores brings nothing.
const READERS: u32 = 4;
/// Connections to a PostgreSQL server.
const CONNECTIONS: u32 = 8;

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DbError {
    /// The database refuses.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// A document in the database cannot be read: another version wrote it.
    #[error("database: {what} cannot be read: {source}")]
    Document {
        /// Which column.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A value in the database is none of those this version knows.
    #[error("database: {what} {value:?} is unknown")]
    Value {
        /// Which column.
        what: &'static str,
        /// What stands there.
        value: String,
    },
    /// The database was made by a newer version.
    #[error("database has layout {found}, this program knows up to {known}")]
    Newer {
        /// In the database.
        found: i64,
        /// Newest known.
        known: i64,
    },
}

/// An open database.
#[derive(Debug, Clone)]
pub(crate) struct Db {
    writer: AnyPool,
    reader: AnyPool,
}

impl Db {
    /// Opens `url` (`sqlite://path` or `postgres://...`), makes it if it is a file that is not there, and brings its
    /// layout up to date.
    pub(crate) async fn open(url: &str) -> Result<Self, DbError> {
        sqlx::any::install_default_drivers();
        let db = if url.starts_with("sqlite:") {
            Self::open_sqlite(url).await?
        } else {
            Self::open_server(url).await?
        };
        migrate::run(&db.writer).await?;
        Ok(db)
    }

    /// The URL of a SQLite file.
    pub(crate) fn sqlite_url(path: &Path) -> String {
        format!("sqlite://{}?mode=rwc", path.display())
    }

    async fn open_sqlite(url: &str) -> Result<Self, DbError> {
        let options = |connections| {
            AnyPoolOptions::new().max_connections(connections).after_connect(|connection, _| {
                Box::pin(async move {
                    // FULL: a token that was traded must stay traded after a power cut.
                    let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                                   PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 10000;";
                    connection.execute(pragmas).await.map(drop)
                })
            })
        };
        let writer = options(1).connect(url).await?;
        let reader = options(READERS).connect(url).await?;
        Ok(Self { writer, reader })
    }

    async fn open_server(url: &str) -> Result<Self, DbError> {
        let pool = AnyPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
        Ok(Self { writer: pool.clone(), reader: pool })
    }

    /// A connection to read with.
    pub(crate) async fn read(&self) -> Result<PoolConnection<Any>, DbError> {
        Ok(self.reader.acquire().await?)
    }

    /// A transaction to write in.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Any>, DbError> {
        Ok(self.writer.begin().await?)
    }

    /// Waits for running work and closes.
    pub(crate) async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }
}

/// The connection all functions of this module work on.
pub(crate) type Conn = AnyConnection;

pub(crate) fn to_json<T: Serialize>(what: &'static str, value: &T) -> Result<String, DbError> {
    serde_json::to_string(value).map_err(|source| DbError::Document { what, source })
}

fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, DbError> {
    serde_json::from_str(text).map_err(|source| DbError::Document { what, source })
}

fn document<T: DeserializeOwned>(row: &AnyRow, what: &'static str) -> Result<T, DbError> {
    from_json(what, &row.try_get::<String, _>(what)?)
}

/// A column that holds one of a type's words.
fn word<T: std::str::FromStr>(row: &AnyRow, what: &'static str) -> Result<T, DbError> {
    let value: String = row.try_get(what)?;
    value.parse().map_err(|_| DbError::Value { what, value })
}
