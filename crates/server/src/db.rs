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
pub(crate) mod numbers;
pub(crate) mod plans;
pub(crate) mod sessions;
pub(crate) mod sids;
pub(crate) mod tokens;

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Executor, Row, Transaction};

use crate::Error;
use crate::keys::KeyFiles;
use crate::vault::Vault;

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
    is_sqlite: bool,
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

    /// Opens a database that is there as it is, to read.
    pub(crate) async fn look(url: &str) -> Result<Self, DbError> {
        sqlx::any::install_default_drivers();
        let url = url.replace("mode=rwc", "mode=ro");
        let pool = AnyPoolOptions::new().max_connections(1).connect(&url).await?;
        Ok(Self { writer: pool.clone(), reader: pool, is_sqlite: url.starts_with("sqlite:") })
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
                    // secure_delete: what was a secret is overwritten when it goes.
                    let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; \
                                   PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 10000;";
                    connection.execute(pragmas).await.map(drop)
                })
            })
        };
        let writer = options(1).connect(url).await?;
        let reader = options(READERS).connect(url).await?;
        Ok(Self { writer, reader, is_sqlite: true })
    }

    async fn open_server(url: &str) -> Result<Self, DbError> {
        let pool = AnyPoolOptions::new().max_connections(CONNECTIONS).connect(url).await?;
        Ok(Self { writer: pool.clone(), reader: pool, is_sqlite: false })
    }

    /// The key for secrets in it, made on the first start of a site that has none. What earlier versions stored in the clear is sealed,
    /// and what is left of it in the file is overwritten.
    pub(crate) async fn vault(&self, files: &KeyFiles) -> Result<Vault, Error> {
        if !files.secrets().exists() && !jobs::any_sealed(&mut *self.read().await?).await? {
            Vault::create(files)?;
        }
        let vault = Vault::open(files)?;
        let mut transaction = self.write().await?;
        let sealed = jobs::seal_old(&mut transaction, &vault).await?;
        transaction.commit().await.map_err(DbError::from)?;
        if sealed > 0 {
            tracing::info!(jobs = sealed, "secrets in the database are encrypted now");
            self.forget_old_pages().await;
        }
        Ok(vault)
    }

    /// Writes the database anew, so that nothing stays in pages that are free. Where this account may not, that is its operator's matter.
    async fn forget_old_pages(&self) {
        // PostgreSQL has no such pragma and needs none.
        let statements: &[&'static str] = if self.is_sqlite {
            &["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"]
        } else {
            &["VACUUM FULL jobs"]
        };
        for statement in statements {
            if let Err(error) = self.writer.execute(*statement).await {
                tracing::warn!(%error, "what was stored in the clear may still be in free pages of the database");
            }
        }
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
        // The last connection would do it, but threads of readers may end a moment after their pool: what was deleted must not stay in the log then.
        if self.is_sqlite
            && let Err(error) = self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").await
        {
            tracing::warn!(%error, "the database's log was not written back; that is done at the next start");
        }
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

#[cfg(test)]
mod tests;

/// A column that holds one of a type's words.
fn word<T: std::str::FromStr>(row: &AnyRow, what: &'static str) -> Result<T, DbError> {
    let value: String = row.try_get(what)?;
    value.parse().map_err(|_| DbError::Value { what, value })
}
