//! A payload whose plan makes an image sends it: asks what is stored, sends what is missing, the manifest last. Each request may come
//! again, after a lost answer or from a later boot of the same job.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use gravure_blockimg::ChunkId;
use gravure_model::api::{StoredAnswer, StoredRequest};
use gravure_model::plan::PlannedCapture;

use super::Problem;
use super::state::{App, Peer, session};
use crate::captures::{CaptureError, parse_frames};
use crate::db::{self, PlanRow};

/// Contents asked for at once: an item of a capture has fewer.
const MAX_IDS: usize = 8192;
/// Bytes of frames at once: a batch, and the largest table on top.
pub(super) const MAX_FRAMES_BYTES: usize = 16 << 20;
/// Bytes of a manifest, as stores have it.
pub(super) const MAX_MANIFEST_BYTES: usize = 80 << 20;

impl From<CaptureError> for Problem {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Invalid(message) => Self::invalid(message),
            CaptureError::Conflict(message) => Self::conflict(message),
            CaptureError::Failed(message) => {
                tracing::error!(message, "capture failed");
                Self::unavailable("the server cannot store that now; its log says why")
            }
        }
    }
}

/// The plan of the asking payload, which must be one that captures and goes on.
async fn capture_of(app: &App, peer: &Peer) -> Result<(PlanRow, PlannedCapture), Problem> {
    let session = session(app, peer).await?;
    let plan = match &session.plan {
        Some(id) => db::plans::by_id(&mut *app.db.read().await?, id).await?,
        None => None,
    };
    let capture = plan
        .filter(|plan| plan.ended.is_none() && plan.machine == session.machine)
        .and_then(|plan| plan.body.capture.clone().map(|capture| (plan, capture)));
    capture.ok_or_else(|| {
        Problem::forbidden("this session has no plan that makes an image, or it has ended")
            .cure("arm the machine with `gravure machine capture`")
    })
}

/// `POST /v1/payload/capture/stored`
pub(super) async fn stored(
    State(app): State<Arc<App>>,
    peer: Peer,
    Json(request): Json<StoredRequest>,
) -> Result<Json<StoredAnswer>, Problem> {
    let (plan, _) = capture_of(&app, &peer).await?;
    if request.ids.len() > MAX_IDS {
        return Err(Problem::invalid(format!("{} ids at once, at most {MAX_IDS}", request.ids.len())));
    }
    let ids = request.ids.into_iter().map(|id| ChunkId(id.0)).collect();
    let stored = app.captures.are_stored(&plan.job, &plan.body.disk, ids).await?;
    Ok(Json(StoredAnswer { stored }))
}

/// `PUT /v1/payload/capture/frames`
pub(super) async fn frames(
    State(app): State<Arc<App>>,
    peer: Peer,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let (plan, _) = capture_of(&app, &peer).await?;
    let parsed = tokio::task::spawn_blocking(move || parse_frames(&body)).await;
    let frames = parsed.unwrap_or_else(|error| Err(CaptureError::Failed(error.to_string())))?;
    app.captures.put(&plan.job, &plan.body.disk, frames).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /v1/payload/capture/manifest`
pub(super) async fn manifest(
    State(app): State<Arc<App>>,
    peer: Peer,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let (plan, capture) = capture_of(&app, &peer).await?;
    let id = app.captures.commit(&plan.job, &plan.body.disk, &capture, body.to_vec()).await?;
    let mut transaction = app.db.write().await?;
    let detail = format!("{} with id {id}, of {}", plan.image, plan.body.disk.name);
    let known = db::audit::last_of(&mut transaction, "image captured", &plan.id).await?;
    if known.as_ref() != Some(&detail) {
        let actor = format!("machine {}", plan.machine);
        db::audit::add(&mut transaction, &actor, "image captured", &plan.id, &detail).await?;
    }
    transaction.commit().await?;
    app.note(&plan.body.machine, &format!("image {} was captured", plan.image));
    Ok(StatusCode::NO_CONTENT)
}
