//! Jobs and the images they deploy, as operators see them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use gravure_model::api::JobReport;
use gravure_model::identity::MachineSelector;
use gravure_model::inventory::MACHINE_FACTS;
use gravure_model::job::{Job, JobRequest};
use gravure_model::{Assurance, Timestamp};

use super::Problem;
use super::operator::{Operator, Scope};
use super::state::App;
use crate::bundles::{check_request, facts_of_any, platform_of};
use crate::db::jobs::Secrets;
use crate::db::{self, Conn, JobRow};
use crate::images::{ImageListing, Images};
use crate::names::NameTable;
use crate::secret::{hex, random};

/// Longest host name template.
const MAX_NAME_BYTES: usize = 200;
/// Longest time a job for any machine may be open, seconds: a week.
const MAX_ANY_SECONDS: i64 = 7 * 86_400;

/// `GET /v1/jobs`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    operator: Operator,
) -> Result<Json<Vec<JobReport>>, Problem> {
    operator.may(Scope::Read)?;
    let mut conn = app.db.read().await?;
    let mut reports = Vec::new();
    for job in db::jobs::list(&mut conn).await? {
        reports.push(report(&mut conn, job).await?);
    }
    Ok(Json(reports))
}

/// `GET /v1/jobs/{id}`: by id or the start of one.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(id): Path<String>,
) -> Result<Json<JobReport>, Problem> {
    operator.may(Scope::Read)?;
    let mut conn = app.db.read().await?;
    let job = find(&mut conn, &id).await?;
    Ok(Json(report(&mut conn, job).await?))
}

async fn find(conn: &mut Conn, id: &str) -> Result<JobRow, Problem> {
    if let Some(job) = db::jobs::by_id(conn, id).await? {
        return Ok(job);
    }
    let mut starting = db::jobs::list(conn).await?;
    starting.retain(|job| id.len() >= 4 && job.job.id.starts_with(id));
    match (starting.pop(), starting.pop()) {
        (Some(job), None) => Ok(job),
        (Some(_), Some(_)) => {
            Err(Problem::conflict(format!("several jobs have an id that starts with {id}")))
        }
        _ => Err(Problem::not_found("job", id).cure("`gravure plan list` shows all")),
    }
}

async fn report(conn: &mut Conn, job: JobRow) -> Result<JobReport, Problem> {
    let plans = db::plans::of_job(conn, &job.job.id).await?;
    let closed = !job.is_open(Timestamp::now());
    Ok(JobReport { job: job.job, plans: plans.into_iter().map(|plan| plan.id).collect(), closed })
}

/// `POST /v1/jobs`
pub(super) async fn create(
    State(app): State<Arc<App>>,
    operator: Operator,
    Json(mut request): Json<JobRequest>,
) -> Result<(StatusCode, Json<JobReport>), Problem> {
    operator.may(Scope::Deploy)?;
    let now = Timestamp::now();
    app.images.look_for(&request.image).await?;
    if request.capture.is_some() {
        check_capture(&app, &request)?;
        check_keys(&mut request)?;
    }
    check(&request, now)?;
    check_windows(&app, &mut request).await?;
    if request.capture.is_none() && !app.images.has(&request.image) {
        return Err(Problem::not_found("image", &request.image)
            .cure(format!("put it into {} on the server", app.images.dir().display())));
    }
    let job =
        Job { id: uuid::Uuid::new_v4().to_string(), seed: hex(&random::<32>()?), request, created: now };
    let mut transaction = app.db.write().await?;
    db::jobs::add(&mut transaction, &job, &app.vault).await?;
    let request = &job.request;
    let limits = match (request.expires, request.max_machines) {
        (Some(expires), Some(most)) => {
            format!(", at most {most} machines within {} s", expires.seconds().saturating_sub(now.seconds()))
        }
        _ => String::new(),
    };
    let detail = match &request.capture {
        Some(capture) => format!(
            "image {} of {}, assurance {}, replace {}{}{limits}",
            request.image,
            request.machine,
            request.assurance,
            capture.replace,
            if capture.keys.is_empty() { "" } else { ", with keys of encrypted volumes" }
        ),
        None => format!(
            "{} to {} as {}, assurance {}, wipe {}{limits}",
            request.image, request.machine, request.name, request.assurance, request.wipe
        ),
    };
    db::audit::add(&mut transaction, &operator.actor(), "job created", &job.id, &detail).await?;
    transaction.commit().await?;
    let mut job = job;
    drop(Secrets::take(&mut job.request));
    if job.request.capture.is_some() {
        return Ok((StatusCode::CREATED, Json(JobReport { job, plans: Vec::new(), closed: false })));
    }
    // Describing the image now spares the first machine the wait.
    let (images, name) = (Arc::clone(&app.images), job.request.image.clone());
    tokio::spawn(async move {
        if let Err(error) = images.get(&name).await {
            tracing::warn!(image = name, %error, "image cannot be used");
        }
    });
    Ok((StatusCode::CREATED, Json(JobReport { job, plans: Vec::new(), closed: false })))
}

/// Longest description of an image.
const MAX_DESCRIPTION_BYTES: usize = 1000;

/// What can be known of a capture before its machine stands there.
fn check_capture(app: &App, request: &JobRequest) -> Result<(), Problem> {
    let Some(capture) = &request.capture else { return Ok(()) };
    if Images::stored_name(&request.image).is_none() {
        return Err(Problem::invalid(format!(
            "image {:?}: expected a name like debian.gim, of at most 100 letters, digits, dots, dashes and underscores",
            request.image
        )));
    }
    if let Some(why) = app.captures.closed() {
        return Err(Problem::conflict(why).cure("capture at the site whose store that is"));
    }
    if request.machine == MachineSelector::Any {
        return Err(Problem::invalid("an image is made of one machine's disk").cure("name the machine"));
    }
    if !request.name.is_empty()
        || request.windows.is_some()
        || request.restore.is_some()
        || request.wipe
        || request.image_index != 0
    {
        return Err(Problem::invalid(
            "a job that makes an image takes neither name, image number, wipe nor settings",
        ));
    }
    if capture.description.as_ref().is_some_and(|text| text.len() > MAX_DESCRIPTION_BYTES) {
        return Err(Problem::invalid(format!("description: expected at most {MAX_DESCRIPTION_BYTES} bytes")));
    }
    if !app.images.has(&request.image) {
        return Ok(());
    }
    match app.images.is_stored(&request.image) {
        true if capture.replace => Ok(()),
        true => Err(Problem::conflict(format!("the store has an image {} already", request.image))
            .cure("replace it with --replace, or choose another name")),
        false => Err(Problem::conflict(format!(
            "{} is a file in {} and would hide the new image",
            request.image,
            app.images.dir().display()
        ))
        .cure("choose another name")),
    }
}

/// Keys that a job brings, and bytes of each: key files of `cryptsetup` have up to 4 KiB as a rule, those of BitLocker 156 bytes. All
/// together have room in a request.
const MAX_KEYS: usize = 16;
const MAX_KEY_BYTES: usize = 64 << 10;

/// Keys of encrypted volumes are secrets: they raise what the machine must have proven.
fn check_keys(request: &mut JobRequest) -> Result<(), Problem> {
    let Some(capture) = &request.capture else { return Ok(()) };
    if capture.keys.is_empty() {
        return Ok(());
    }
    if capture.raw {
        return Err(Problem::invalid("keys: every byte is kept as it stands, so nothing is opened")
            .cure("leave out --raw, or --key-file"));
    }
    if capture.keys.len() > MAX_KEYS {
        return Err(Problem::invalid(format!(
            "keys: expected at most {MAX_KEYS}, found {}",
            capture.keys.len()
        )));
    }
    for (number, key) in (1..).zip(&capture.keys) {
        let len = key.bytes().map(|bytes| bytes.len());
        if !len.is_some_and(|len| (1..=MAX_KEY_BYTES).contains(&len)) {
            let found = len.map_or("no base64".to_owned(), |len| format!("{len} bytes"));
            return Err(Problem::invalid(format!(
                "key {number}: expected 1 to {MAX_KEY_BYTES} bytes as base64, found {found}"
            )));
        }
    }
    request.assurance = request.assurance.max(Assurance::Approved);
    Ok(())
}

/// What goes into an image is checked now, not when the first machine stands there. Secrets raise what the machine must have
/// proven, and are for one that is named.
async fn check_windows(app: &App, request: &mut JobRequest) -> Result<(), Problem> {
    let Some(windows) = &request.windows else { return Ok(()) };
    let has_secrets = check_request(windows).map_err(Problem::invalid)?;
    if let Some(taken) = MACHINE_FACTS.iter().find(|name| windows.facts.contains_key(**name)) {
        return Err(Problem::invalid(format!("fact {taken} is one that each machine has of its own")));
    }
    let table = NameTable::read(&app.names).map_err(Problem::invalid)?;
    let facts = facts_of_any(windows, table.fields());
    let image = app.images.described_before(&request.image).await;
    let system = image.and_then(|image| platform_of(image.described(request.image_index)?));
    app.bundles.check_layers(system, &windows.layers, &facts).map_err(Problem::invalid)?;
    if has_secrets {
        if request.machine == MachineSelector::Any {
            return Err(Problem::invalid(
                "settings with passwords, keys or a join are not given to any machine",
            )
            .cure("make a job for each machine, or leave the secrets out"));
        }
        request.assurance = request.assurance.max(Assurance::Approved);
    }
    Ok(())
}

fn check(request: &JobRequest, now: Timestamp) -> Result<(), Problem> {
    let has_name = (1..=MAX_NAME_BYTES).contains(&request.name.len());
    if !has_name && request.capture.is_none() {
        return Err(Problem::invalid("name: expected 1 to 200 bytes"));
    }
    if request.assurance == Assurance::Attested {
        return Err(Problem::invalid("assurance \"attested\" cannot be proven yet").cure("use \"approved\""));
    }
    if request.expires.is_some_and(|expires| expires <= now) {
        return Err(Problem::invalid("expires lies in the past"));
    }
    if request.max_machines == Some(0) {
        return Err(Problem::invalid("max_machines: expected at least 1"));
    }
    if request.machine != MachineSelector::Any {
        return Ok(());
    }
    let (Some(expires), Some(_)) = (request.expires, request.max_machines) else {
        return Err(Problem::invalid("a job for any machine needs an end and a number of machines")
            .cure("add --expires 2h --max-machines N"));
    };
    if expires > now.plus_seconds(MAX_ANY_SECONDS) {
        return Err(Problem::invalid("a job for any machine may be open for a week at most"));
    }
    if !request.name.contains('{') && request.max_machines != Some(1) {
        return Err(Problem::invalid(format!("name {:?} would be the same on every machine", request.name))
            .cure("use {serial}, {mac}, {uuid} or {n} in it"));
    }
    Ok(())
}

/// `DELETE /v1/jobs/{id}`: no further machine gets it; one that has begun goes on.
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    operator: Operator,
    Path(id): Path<String>,
) -> Result<Json<JobReport>, Problem> {
    operator.may(Scope::Deploy)?;
    let now = Timestamp::now();
    let mut transaction = app.db.write().await?;
    let job = find(&mut transaction, &id).await?;
    if !db::jobs::close(&mut transaction, &job.job.id, now).await? {
        return Err(Problem::conflict(format!("job {} was closed already", job.job.id)));
    }
    let request = &job.job.request;
    let detail = format!("{} to {}", request.image, request.machine);
    db::audit::add(&mut transaction, &operator.actor(), "job cancelled", &job.job.id, &detail).await?;
    let report = report(&mut transaction, JobRow { closed: Some(now), ..job }).await?;
    transaction.commit().await?;
    Ok(Json(report))
}

/// `GET /v1/images`
pub(super) async fn images(
    State(app): State<Arc<App>>,
    operator: Operator,
) -> Result<Json<Vec<ImageListing>>, Problem> {
    operator.may(Scope::Read)?;
    Ok(Json(app.images.list().await?))
}
