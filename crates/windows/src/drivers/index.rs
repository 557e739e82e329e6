//! The index: which packages have a hardware ID, as a database of SQLite, `index.sqlite`.
//!
//! | table | columns | content |
//! |---|---|---|
//! | `packages` | `number` (key), `id` | the packages it is of |
//! | `hardware_ids` | `bucket`, `id`, `package` (key all three, no row numbers) | an ID in upper case, and the number of a package that has it |
//! | `buckets` | `bucket` (key), `sum` | what the rows of a bucket of `hardware_ids` come to |
//!
//! `application_id` is `GVDR`, `user_version` is [`VERSION`]; the tables are these and no others.
//!
//! SQLite finds pages that cannot be, but has no sums over what is in them: a bit that fell over in an ID would hide a driver, and nobody
//! would be told. So IDs are in 65,536 buckets, by the first two bytes of the BLAKE3 of the ID. The sum of a bucket is the exclusive or over its
//! rows of the first eight bytes of BLAKE3 over ID, zero byte, id of the package; whoever looks an ID up reads its bucket and holds it against the sum.
//!
//! The descriptions of packages are the truth, the index follows them. One that is missing, of another version, or damaged is made anew beside its
//! place and renamed; one that lists other packages than there are gets the difference, in a transaction. Who writes holds the lock
//! of the repository, as a file that is renamed under a writer would be given the journal of another. There is a journal beside the file while it is
//! written (no write-ahead log: that needs a directory that can be written by readers); what a power cut leaves of it is
//! taken back by the next that writes, who is whoever opens the repository then.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::repository::temporary;
use crate::Error;

const APPLICATION_ID: i32 = i32::from_be_bytes(*b"GVDR");
const VERSION: i32 = 1;
const PACKAGES: &str = "CREATE TABLE packages(number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT";
const HARDWARE_IDS: &str = "CREATE TABLE hardware_ids(bucket INTEGER NOT NULL, id TEXT NOT NULL, package INTEGER NOT NULL, \
     PRIMARY KEY(bucket, id, package)) STRICT, WITHOUT ROWID";
const BUCKETS: &str = "CREATE TABLE buckets(bucket INTEGER PRIMARY KEY, sum INTEGER NOT NULL) STRICT";
/// What a sound file says of its tables.
const SCHEMA: [&str; 4] = [PACKAGES, "sqlite_autoindex_packages_1", HARDWARE_IDS, BUCKETS];

/// Largest file read: 50 million IDs.
const MAX_BYTES: u64 = 2 << 30;
/// Longest text in it: an ID is in a description, which has at most 16 MiB.
const MAX_TEXT_BYTES: i32 = 32 << 20;
/// Most rows of a bucket read; an ID of a million packages is none that real hardware has. Pages that refer to one another in a circle end here.
const MAX_BUCKET_ROWS: i64 = 1 << 20;
/// Most rows read to find those of packages that are gone.
const MAX_ROWS: i64 = 1 << 27;
/// How long one who reads or writes waits for another.
const BUSY: Duration = Duration::from_secs(30);
/// Pages of a writer in memory, so that a large repository is not written again and again while it is indexed.
const WRITER_CACHE_KIB: i64 = 64 << 10;

/// Gives the IDs of a package.
pub(super) type IdsOf<'a> = dyn Fn(&str) -> Result<Vec<String>, Error> + 'a;

/// An index that is open for reading.
#[derive(Debug)]
pub(super) struct Index {
    connection: Connection,
}

/// Why an index was not made or changed.
enum Failure {
    /// The file cannot be used.
    Database(rusqlite::Error),
    /// It is no index of this version, or not whole.
    Unfit,
    /// A package cannot be read: no index will help.
    Package(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl Failure {
    fn at(self, place: &Path) -> Error {
        let source = match self {
            Self::Database(error) => io::Error::other(error),
            Self::Unfit => io::Error::from(io::ErrorKind::InvalidData),
            Self::Package(error) => return error,
        };
        Error::io("write the index", place)(source)
    }
}

impl Index {
    /// Opens the index of the repository in `root` if it is one, of exactly the packages `names` (sorted).
    pub(super) fn open(root: &Path, names: &[String]) -> Option<Self> {
        let index = Self::open_file(&path(root)).ok()?;
        let is_fitting = is_ours(&index.connection).ok()? && lists(&index.connection, names).ok()?;
        is_fitting.then_some(index)
    }

    fn open_file(place: &Path) -> Result<Self, Failure> {
        if !fs::metadata(place).is_ok_and(|data| data.is_file() && data.len() <= MAX_BYTES) {
            return Err(Failure::Unfit);
        }
        Ok(Self { connection: connect(place, OpenFlags::SQLITE_OPEN_READ_ONLY)? })
    }

    /// An index of `names` in memory, where none can be written.
    pub(super) fn in_memory(root: &Path, names: &[String], ids_of: &IdsOf<'_>) -> Result<Self, Error> {
        let made = || {
            let mut connection = Connection::open_in_memory()?;
            fill(&mut connection, names, ids_of)?;
            Ok(Self { connection })
        };
        made().map_err(|failure: Failure| failure.at(&path(root)))
    }

    /// Makes the index in `root` one of exactly the packages `names` (sorted), and opens it. What it lists already is not read again. The
    /// caller holds the lock of the repository.
    pub(super) fn update(root: &Path, names: &[String], ids_of: &IdsOf<'_>) -> Result<Self, Error> {
        let place = path(root);
        match change(&place, names, ids_of).and_then(|()| Self::open_file(&place)) {
            Ok(index) => {
                remove_old(root)?;
                Ok(index)
            }
            Err(Failure::Package(error)) => Err(error),
            Err(_) => Self::rebuild(root, names, ids_of),
        }
    }

    /// Puts a new index into the place of whatever is there, and opens it. The caller holds the lock of the repository.
    pub(super) fn rebuild(root: &Path, names: &[String], ids_of: &IdsOf<'_>) -> Result<Self, Error> {
        let place = path(root);
        let file = temporary(root)?;
        let failed = |failure: Failure| failure.at(&place);
        let mut connection =
            connect(file.path(), OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(|error| failed(error.into()))?;
        fill(&mut connection, names, ids_of).map_err(failed)?;
        connection.close().map_err(|(_, error)| failed(error.into()))?;
        file.as_file().sync_all().map_err(Error::io("write the index", &place))?;
        // A journal that a power cut left belongs to the file that was there. It must be gone before another file has the name.
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let mut name = place.clone().into_os_string();
            name.push(suffix);
            remove_file(Path::new(&name))?;
        }
        sync_directory(root)?;
        // Closed before it has its name: closing a file takes back all locks that this process has on it, SQLite's too.
        let renamed = file.into_temp_path().persist(&place);
        renamed.map_err(|error| Error::io("write the index", &place)(error.error))?;
        remove_old(root)?;
        sync_directory(root)?;
        Self::open_file(&place).map_err(failed)
    }

    /// Ids of packages that have one of the hardware or compatible IDs. `None` when the index turns out to be damaged.
    pub(super) fn find(&self, ids: &[&str]) -> Option<BTreeSet<String>> {
        // One transaction, so that rows and sums are of one state whoever writes meanwhile.
        let transaction = self.connection.unchecked_transaction().ok()?;
        let mut found = BTreeSet::new();
        for id in ids {
            found.extend(look_up(&transaction, &id.to_uppercase()).ok().flatten()?);
        }
        Some(found)
    }
}

/// Packages of an ID in upper case, unless the rows of its bucket are not what its sum says.
fn look_up(transaction: &Transaction<'_>, id: &str) -> rusqlite::Result<Option<Vec<String>>> {
    let bucket = bucket_of(id);
    let mut rows = transaction.prepare_cached(
        "SELECT h.id, p.id FROM hardware_ids h LEFT JOIN packages p ON p.number = h.package WHERE h.bucket = ?1 LIMIT ?2",
    )?;
    let (mut sum, mut found) = (0, Vec::new());
    let mut rows = rows.query(params![bucket, MAX_BUCKET_ROWS])?;
    while let Some(row) = rows.next()? {
        let of_row = row.get_ref(0)?.as_str()?;
        let Some(package) = row.get_ref(1)?.as_str_or_null()? else { return Ok(None) };
        sum ^= sum_of(of_row, package);
        if of_row == id {
            found.push(package.to_owned());
        }
    }
    Ok((sum == sum_in(transaction, bucket)?).then_some(found))
}

/// Where the index of a repository stands.
fn path(root: &Path) -> PathBuf {
    root.join("index.sqlite")
}

/// Takes away the index of the first versions, a sorted table of hashes.
fn remove_old(root: &Path) -> Result<(), Error> {
    remove_file(&root.join("index"))
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("delete", path)(error)),
        _ => Ok(()),
    }
}

fn sync_directory(dir: &Path) -> Result<(), Error> {
    let synced = fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(Error::io("write", dir))
}

/// Opens a file whose content nobody vouches for.
fn connect(place: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(place, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_TEXT_BYTES);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

fn is_ours(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    if number("application_id")? != APPLICATION_ID || number("user_version")? != VERSION {
        return Ok(false);
    }
    let mut rows =
        connection.prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY rowid LIMIT ?1")?;
    let limit = i64::try_from(SCHEMA.len()).unwrap_or(i64::MAX).saturating_add(1);
    let found: Vec<String> = rows.query_map([limit], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(found == SCHEMA)
}

/// Whether an index is of exactly the packages `names` (sorted).
fn lists(connection: &Connection, names: &[String]) -> rusqlite::Result<bool> {
    let mut rows = connection.prepare("SELECT id FROM packages ORDER BY id")?;
    let mut rows = rows.query([])?;
    let mut wanted = names.iter();
    while let Some(row) = rows.next()? {
        if wanted.next().map(String::as_str) != Some(row.get_ref(0)?.as_str()?) {
            return Ok(false);
        }
    }
    Ok(wanted.next().is_none())
}

/// Makes tables in the empty `connection`, of the packages `names`. Until it is done nobody else sees the file.
fn fill(connection: &mut Connection, names: &[String], ids_of: &IdsOf<'_>) -> Result<(), Failure> {
    connection.pragma_update_and_check(None, "journal_mode", "memory", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "off")?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    let transaction = connection.transaction()?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    for table in [PACKAGES, HARDWARE_IDS, BUCKETS] {
        transaction.execute(table, [])?;
    }
    let mut sums = Sums::default();
    add(&transaction, names, ids_of, &mut sums)?;
    sums.write(&transaction)?;
    Ok(transaction.commit()?)
}

/// Changes the index at `place` to one of the packages `names`, in one transaction.
fn change(place: &Path, names: &[String], ids_of: &IdsOf<'_>) -> Result<(), Failure> {
    if !fs::metadata(place).is_ok_and(|data| data.is_file() && data.len() <= MAX_BYTES) {
        return Err(Failure::Unfit);
    }
    let mut connection = connect(place, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    // Nothing is written into a file that is damaged.
    let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" || !is_ours(&connection)? {
        return Err(Failure::Unfit);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut gone: BTreeMap<String, i64> = BTreeMap::new();
    {
        let mut rows = transaction.prepare("SELECT id, number FROM packages LIMIT ?1")?;
        let mut rows = rows.query([MAX_ROWS])?;
        while let Some(row) = rows.next()? {
            gone.insert(row.get(0)?, row.get(1)?);
        }
    }
    let mut new = names.to_vec();
    new.retain(|name| gone.remove(name).is_none());
    if gone.is_empty() && new.is_empty() {
        return Ok(());
    }
    let mut sums = Sums::default();
    take_out(&transaction, gone, &mut sums)?;
    add(&transaction, &new, ids_of, &mut sums)?;
    sums.write(&transaction)?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| Failure::Database(error))
}

fn add(
    transaction: &Transaction<'_>,
    names: &[String],
    ids_of: &IdsOf<'_>,
    sums: &mut Sums,
) -> Result<(), Failure> {
    let mut package = transaction.prepare("INSERT INTO packages(id) VALUES (?1)")?;
    let mut row = transaction.prepare("INSERT INTO hardware_ids(bucket, id, package) VALUES (?1, ?2, ?3)")?;
    for name in names {
        let number = package.insert([name])?;
        let ids = ids_of(name).map_err(Failure::Package)?;
        let ids: BTreeSet<String> = ids.into_iter().map(|id| id.to_uppercase()).collect();
        for id in ids {
            let bucket = bucket_of(&id);
            row.execute(params![bucket, id, number])?;
            sums.change(bucket, &id, name);
        }
    }
    Ok(())
}

/// Takes packages out; there is no order of rows by package, as that would double the file for what is seldom done.
fn take_out(
    transaction: &Transaction<'_>,
    gone: BTreeMap<String, i64>,
    sums: &mut Sums,
) -> Result<(), Failure> {
    if gone.is_empty() {
        return Ok(());
    }
    let gone: BTreeMap<i64, String> = gone.into_iter().map(|(name, number)| (number, name)).collect();
    let mut of_gone: Vec<(i64, String, i64)> = Vec::new();
    {
        let mut rows = transaction.prepare("SELECT bucket, id, package FROM hardware_ids LIMIT ?1")?;
        let mut rows = rows.query([MAX_ROWS])?;
        while let Some(row) = rows.next()? {
            let package = row.get(2)?;
            if gone.contains_key(&package) {
                of_gone.push((row.get(0)?, row.get(1)?, package));
            }
        }
    }
    let mut row =
        transaction.prepare("DELETE FROM hardware_ids WHERE bucket = ?1 AND id = ?2 AND package = ?3")?;
    for (bucket, id, package) in &of_gone {
        row.execute(params![bucket, id, package])?;
        if let Some(name) = gone.get(package) {
            sums.change(*bucket, id, name);
        }
    }
    let mut package = transaction.prepare("DELETE FROM packages WHERE number = ?1")?;
    for number in gone.keys() {
        package.execute([number])?;
    }
    Ok(())
}

/// What changes of sums a transaction makes. A sum that did not fit its rows before will not fit afterwards.
#[derive(Debug, Default)]
struct Sums(BTreeMap<i64, i64>);

impl Sums {
    /// A row comes or goes.
    fn change(&mut self, bucket: i64, id: &str, package: &str) {
        *self.0.entry(bucket).or_default() ^= sum_of(id, package);
    }

    fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut row = transaction.prepare("INSERT OR REPLACE INTO buckets(bucket, sum) VALUES (?1, ?2)")?;
        for (bucket, change) in &self.0 {
            row.execute([*bucket, sum_in(transaction, *bucket)? ^ change])?;
        }
        Ok(())
    }
}

/// What the rows of a bucket should come to; that of none is 0.
fn sum_in(connection: &Connection, bucket: i64) -> rusqlite::Result<i64> {
    let mut row = connection.prepare_cached("SELECT sum FROM buckets WHERE bucket = ?1")?;
    Ok(row.query_row([bucket], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn bucket_of(id: &str) -> i64 {
    let hash = blake3::hash(id.as_bytes());
    let [first, second, ..] = *hash.as_bytes();
    i64::from(u16::from_be_bytes([first, second]))
}

fn sum_of(id: &str, package: &str) -> i64 {
    let mut hash = blake3::Hasher::new();
    hash.update(id.as_bytes()).update(&[0]).update(package.as_bytes());
    let [a, b, c, d, e, f, g, h, ..] = *hash.finalize().as_bytes();
    i64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests;
