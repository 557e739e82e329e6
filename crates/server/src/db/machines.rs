//! Machines and the names they are found by.

use std::cmp::Reverse;

use gravure_model::Timestamp;
use gravure_model::api::MachineState;
use gravure_model::identity::{Likeness, MachineIdentity, Verdict};
use gravure_model::inventory::Inventory;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Conn, DbError, document, from_json, sids, to_json};

/// A machine as it stands in the database.
#[derive(Debug, Clone)]
pub(crate) struct MachineRow {
    pub(crate) id: String,
    pub(crate) identity: MachineIdentity,
    pub(crate) state: MachineState,
    pub(crate) first_seen: Timestamp,
    pub(crate) last_seen: Timestamp,
    pub(crate) host_name: Option<String>,
    /// Its last plan.
    pub(crate) plan: Option<String>,
    /// Its last session.
    pub(crate) session: Option<String>,
}

const COLUMNS: &str = "id, identity, state, first_seen, last_seen, host_name, plan, session";

impl MachineRow {
    fn of(row: &AnyRow) -> Result<Self, DbError> {
        let state: String = row.try_get("state")?;
        Ok(Self {
            id: row.try_get("id")?,
            identity: document(row, "identity")?,
            state: state_of(&state).ok_or(DbError::Value { what: "state", value: state })?,
            first_seen: Timestamp(row.try_get("first_seen")?),
            last_seen: Timestamp(row.try_get("last_seen")?),
            host_name: row.try_get("host_name")?,
            plan: row.try_get("plan")?,
            session: row.try_get("session")?,
        })
    }
}

fn state_of(text: &str) -> Option<MachineState> {
    use MachineState::{Armed, Captured, Confirmed, Deploying, Failed, Registered, Verified};
    let states = [Registered, Armed, Deploying, Failed, Verified, Confirmed, Captured];
    states.into_iter().find(|state| state.as_str() == text)
}

/// All machines, last seen first.
pub(crate) async fn list(conn: &mut Conn) -> Result<Vec<MachineRow>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM machines ORDER BY last_seen DESC, id");
    let rows = sqlx::query(&sql).fetch_all(conn).await?;
    rows.iter().map(MachineRow::of).collect()
}

/// The machine with this id.
pub(crate) async fn by_id(conn: &mut Conn, id: &str) -> Result<Option<MachineRow>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM machines WHERE id = $1");
    let row = sqlx::query(&sql).bind(id).fetch_optional(conn).await?;
    row.as_ref().map(MachineRow::of).transpose()
}

/// Another machine than `machine` that was given this host name.
pub(crate) async fn other_of_name(
    conn: &mut Conn,
    host_name: &str,
    machine: &str,
) -> Result<Option<String>, DbError> {
    let sql = "SELECT id FROM machines WHERE host_name = $1 AND id <> $2 ORDER BY id";
    let row = sqlx::query(sql).bind(host_name).bind(machine).fetch_optional(conn).await?;
    Ok(row.map(|row| row.try_get("id")).transpose()?)
}

/// What looking for a machine brought.
#[derive(Debug, Default)]
pub(crate) struct LookedUp {
    /// The one it is, and how it compares with what is known of it.
    pub(crate) machine: Option<(MachineRow, Likeness)>,
    /// With none: those it may be, likeliest first. Nobody but an operator can tell, and nothing is taken for granted.
    pub(crate) alike: Vec<(MachineRow, Likeness)>,
}

impl LookedUp {
    /// The machines it may be, in words.
    pub(crate) fn doubts(&self) -> Option<String> {
        let doubts =
            self.alike.iter().map(|(row, likeness)| format!("machine {} ({})", row.id, likeness.reason()));
        let doubts: Vec<String> = doubts.collect();
        (!doubts.is_empty()).then(|| doubts.join(", "))
    }
}

/// The machine that `identity` names, by the rules of [`MachineIdentity::likeness`]; `None` also when several are as like it.
pub(crate) async fn find(conn: &mut Conn, identity: &MachineIdentity) -> Result<Option<MachineRow>, DbError> {
    Ok(look_up(conn, identity).await?.machine.map(|(row, _)| row))
}

/// The same, with what speaks for and against it.
pub(crate) async fn look_up(conn: &mut Conn, identity: &MachineIdentity) -> Result<LookedUp, DbError> {
    let mut found: Vec<(MachineRow, Likeness)> = Vec::new();
    for (kind, value) in names(identity) {
        for row in named(conn, kind, &value).await? {
            if found.iter().all(|(other, _)| other.id != row.id) {
                let likeness = identity.likeness(&row.identity);
                found.push((row, likeness));
            }
        }
    }
    found.retain(|(_, likeness)| likeness.verdict() != Verdict::Other);
    // The sort is stable, and rows of one name come last seen first.
    found.sort_by_key(|(_, likeness)| Reverse(likeness.score));
    let is_same = |entry: &(MachineRow, Likeness)| entry.1.verdict() == Verdict::Same;
    let tie = matches!(found.as_slice(), [one, other, ..] if is_same(one) && one.1.score == other.1.score);
    if tie || !found.first().is_some_and(is_same) {
        return Ok(LookedUp { machine: None, alike: found });
    }
    Ok(LookedUp { machine: found.into_iter().next(), alike: Vec::new() })
}

/// The machines that have this name, last seen first.
pub(crate) async fn named(conn: &mut Conn, kind: &str, value: &str) -> Result<Vec<MachineRow>, DbError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM machines WHERE id IN \
         (SELECT machine FROM machine_names WHERE kind = $1 AND value = $2) ORDER BY last_seen DESC, id"
    );
    let rows = sqlx::query(&sql).bind(kind).bind(value).fetch_all(conn).await?;
    rows.iter().map(MachineRow::of).collect()
}

/// Names of an identity, the strongest first.
fn names(identity: &MachineIdentity) -> Vec<(&'static str, String)> {
    let mut names = Vec::new();
    names.extend(identity.uuid.clone().map(|uuid| ("uuid", uuid)));
    names.extend(identity.serial.clone().map(|serial| ("serial", serial)));
    names.extend(identity.macs.iter().map(|mac| ("mac", mac.to_string())));
    names.extend(identity.board_serial.clone().map(|serial| ("board", serial)));
    names.extend(identity.chassis_serial.clone().map(|serial| ("chassis", serial)));
    names
}

/// A machine that was entered.
#[derive(Debug)]
pub(crate) struct Registered {
    /// Its row.
    pub(crate) machine: MachineRow,
    /// It was not known.
    pub(crate) fresh: bool,
    /// Known: what of it has changed. New: which known ones it may be after all.
    pub(crate) remark: Option<String>,
}

/// Enters a machine, or brings its identity up to date; gives its row.
pub(crate) async fn register(
    conn: &mut Conn,
    inventory: &Inventory,
    now: Timestamp,
) -> Result<Registered, DbError> {
    let identity = inventory.identity();
    let known = look_up(conn, &identity).await?;
    let changed = known.machine.as_ref().filter(|(_, likeness)| !likeness.differs.is_empty());
    let remark = changed.map(|(_, likeness)| likeness.reason()).or_else(|| known.doubts());
    let fresh = known.machine.is_none();
    let new = || MachineRow {
        id: uuid::Uuid::new_v4().to_string(),
        identity: identity.clone(),
        state: MachineState::Registered,
        first_seen: now,
        last_seen: now,
        host_name: None,
        plan: None,
        session: None,
    };
    let mut machine = known.machine.map_or_else(new, |(row, _)| row);
    machine.identity = identity;
    machine.last_seen = now;
    let windows = inventory.windows.as_deref();
    let (identity, inventory) = (to_json("identity", &machine.identity)?, to_json("inventory", inventory)?);
    if fresh {
        let sql = "INSERT INTO machines (id, identity, state, first_seen, last_seen, inventory) \
                   VALUES ($1, $2, $3, $4, $5, $6)";
        let query = sqlx::query(sql).bind(&machine.id).bind(identity).bind(machine.state.as_str());
        query.bind(now.0).bind(now.0).bind(inventory).execute(&mut *conn).await?;
    } else {
        let sql = "UPDATE machines SET identity = $2, inventory = $3, last_seen = $4 WHERE id = $1";
        let query = sqlx::query(sql).bind(&machine.id).bind(identity).bind(inventory).bind(now.0);
        query.execute(&mut *conn).await?;
        sqlx::query("DELETE FROM machine_names WHERE machine = $1")
            .bind(&machine.id)
            .execute(&mut *conn)
            .await?;
    }
    for (kind, value) in names(&machine.identity) {
        let sql = "INSERT INTO machine_names (kind, value, machine) VALUES ($1, $2, $3)";
        sqlx::query(sql).bind(kind).bind(value).bind(&machine.id).execute(&mut *conn).await?;
    }
    // Payloads that did not look say nothing about what is there.
    if let Some(windows) = windows {
        sids::set(conn, &machine.id, windows).await?;
    }
    Ok(Registered { machine, fresh, remark })
}

/// Its inventory, if it ever reported one.
pub(crate) async fn inventory(conn: &mut Conn, id: &str) -> Result<Option<Inventory>, DbError> {
    let row =
        sqlx::query("SELECT inventory FROM machines WHERE id = $1").bind(id).fetch_optional(conn).await?;
    let Some(row) = row else { return Ok(None) };
    let text: Option<String> = row.try_get("inventory")?;
    text.map(|text| from_json("inventory", &text)).transpose()
}

/// Sets the state.
pub(crate) async fn set_state(conn: &mut Conn, id: &str, state: MachineState) -> Result<(), DbError> {
    let sql = "UPDATE machines SET state = $2 WHERE id = $1";
    sqlx::query(sql).bind(id).bind(state.as_str()).execute(conn).await?;
    Ok(())
}

/// Notes when it was seen last.
pub(crate) async fn touch(conn: &mut Conn, id: &str, now: Timestamp) -> Result<(), DbError> {
    sqlx::query("UPDATE machines SET last_seen = $2 WHERE id = $1")
        .bind(id)
        .bind(now.0)
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes the session of its running boot.
pub(crate) async fn set_session(conn: &mut Conn, id: &str, session: &str) -> Result<(), DbError> {
    sqlx::query("UPDATE machines SET session = $2 WHERE id = $1")
        .bind(id)
        .bind(session)
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes the plan it got and the name that gives it, if it does.
pub(crate) async fn set_plan(
    conn: &mut Conn,
    id: &str,
    plan: &str,
    host_name: Option<&str>,
) -> Result<(), DbError> {
    let sql = "UPDATE machines SET plan = $2, host_name = COALESCE($3, host_name), state = $4 WHERE id = $1";
    let query = sqlx::query(sql).bind(id).bind(plan).bind(host_name).bind(MachineState::Deploying.as_str());
    query.execute(conn).await?;
    Ok(())
}

/// What the machine is to boot the next time and only then; `None` takes that back.
pub(crate) async fn set_boot_once(
    conn: &mut Conn,
    id: &str,
    choice: Option<&str>,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query("DELETE FROM boot_once WHERE machine = $1").bind(id).execute(&mut *conn).await?;
    if let Some(choice) = choice {
        let sql = "INSERT INTO boot_once (machine, choice, made) VALUES ($1, $2, $3)";
        sqlx::query(sql).bind(id).bind(choice).bind(now.0).execute(conn).await?;
    }
    Ok(())
}

/// What the machine is to boot this time.
pub(crate) async fn boot_once(conn: &mut Conn, id: &str) -> Result<Option<String>, DbError> {
    let row =
        sqlx::query("SELECT choice FROM boot_once WHERE machine = $1").bind(id).fetch_optional(conn).await?;
    Ok(row.map(|row| row.try_get("choice")).transpose()?)
}

/// Holds a machine back, or lets it go with `None`.
pub(crate) async fn set_quarantine(
    conn: &mut Conn,
    id: &str,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<(), DbError> {
    sqlx::query("DELETE FROM quarantine WHERE machine = $1").bind(id).execute(&mut *conn).await?;
    if let Some(reason) = reason {
        let sql = "INSERT INTO quarantine (machine, reason, since) VALUES ($1, $2, $3)";
        sqlx::query(sql).bind(id).bind(reason).bind(now.0).execute(conn).await?;
    }
    Ok(())
}

/// Why the machine is held back; `None` when it is not.
pub(crate) async fn quarantine(conn: &mut Conn, id: &str) -> Result<Option<String>, DbError> {
    let row =
        sqlx::query("SELECT reason FROM quarantine WHERE machine = $1").bind(id).fetch_optional(conn).await?;
    Ok(row.map(|row| row.try_get("reason")).transpose()?)
}
