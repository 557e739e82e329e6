//! Which job a machine is to get next: the one rule behind boot menus, tokens, plans and reports.

use gravure_model::Timestamp;
use gravure_model::api::MachineState;
use gravure_model::identity::{MachineIdentity, MachineSelector};

use crate::db::{self, Conn, DbError, JobRow, MachineRow, PlanRow};

/// A job that waits for a machine.
#[derive(Debug, Clone)]
pub(crate) struct Armed {
    /// The job.
    pub(crate) job: JobRow,
    /// The machine's number within the job, from 1.
    pub(crate) ordinal: i64,
    /// It was cut off in the middle of this job and gets it again.
    pub(crate) again: bool,
}

/// The job armed for a machine of this identity, known or not.
pub(crate) async fn armed(
    conn: &mut Conn,
    identity: &MachineIdentity,
    now: Timestamp,
) -> Result<Option<Armed>, DbError> {
    let machine = db::machines::find(conn, identity).await?;
    match &machine {
        // What the loader names (one adapter, perhaps the UUID) is less than what the machine registered with.
        Some(machine) => armed_machine(conn, machine, now).await,
        None => choose(conn, identity, None, now).await,
    }
}

/// The job armed for a registered machine.
pub(crate) async fn armed_machine(
    conn: &mut Conn,
    machine: &MachineRow,
    now: Timestamp,
) -> Result<Option<Armed>, DbError> {
    // Whatever was ordered waits until the machine is let go, a deployment that was cut off too.
    if db::machines::quarantine(conn, &machine.id).await?.is_some() {
        return Ok(None);
    }
    if machine.state == MachineState::Deploying
        && let Some(again) = cut_off(conn, machine).await?
    {
        return Ok(Some(again));
    }
    choose(conn, &machine.identity, Some(&machine.id), now).await
}

/// A machine that boots from the network while it should be deploying was cut off. It gets the same job again, even
/// when that expired meanwhile: its disk is half written, and the seed makes the retry identical.
async fn cut_off(conn: &mut Conn, machine: &MachineRow) -> Result<Option<Armed>, DbError> {
    let Some(plan) = &machine.plan else { return Ok(None) };
    let Some(plan) = db::plans::by_id(conn, plan).await? else { return Ok(None) };
    let job = db::jobs::by_id(conn, &plan.job).await?.filter(|job| job.closed.is_none());
    Ok(job.map(|job| Armed { job, ordinal: plan.ordinal, again: true }))
}

async fn choose(
    conn: &mut Conn,
    identity: &MachineIdentity,
    machine: Option<&str>,
    now: Timestamp,
) -> Result<Option<Armed>, DbError> {
    let mut jobs = db::jobs::open(conn, now).await?;
    jobs.retain(|job| job.job.request.machine.selects(identity));
    // A job made for this machine goes before one for any; newest first otherwise.
    jobs.sort_by_key(|job| job.job.request.machine == MachineSelector::Any);
    for job in jobs {
        let plans = db::plans::of_job(conn, &job.job.id).await?;
        if let Some(ordinal) = open_place(&job, &plans, machine) {
            return Ok(Some(Armed { job, ordinal, again: false }));
        }
    }
    Ok(None)
}

/// The number the machine would have in the job; `None` when it had its turn or the job has no place left.
fn open_place(job: &JobRow, plans: &[PlanRow], machine: Option<&str>) -> Option<i64> {
    if plans.iter().any(|plan| Some(plan.machine.as_str()) == machine) {
        return None;
    }
    let next = plans.iter().map(|plan| plan.ordinal).max().unwrap_or(0).saturating_add(1);
    let places = job.job.request.max_machines.map_or(i64::MAX, i64::from);
    (next <= places).then_some(next)
}
