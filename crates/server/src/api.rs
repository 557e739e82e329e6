//! The API over TLS: payloads, deployed systems, operators. Messages are `gravure_model::api`.

mod audit_trail;
mod capture;
mod confirm;
mod events;
mod hello;
mod jobs;
mod journal;
mod machines;
mod operator;
mod problem;
pub(crate) mod state;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{delete, get, post, put};

pub(crate) use operator::ALL_SCOPES;
pub(crate) use problem::Problem;
pub(crate) use state::App;

/// Largest message taken: an inventory with thousands of devices stays far below.
const MAX_BODY_BYTES: usize = 4 << 20;

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/payload/hello", post(hello::hello))
        .route("/v1/payload/plan", post(hello::plan))
        .route("/v1/payload/events", post(events::events))
        .route("/v1/payload/capture/stored", post(capture::stored))
        .route(
            "/v1/payload/capture/frames",
            put(capture::frames).layer(DefaultBodyLimit::max(capture::MAX_FRAMES_BYTES)),
        )
        .route(
            "/v1/payload/capture/manifest",
            put(capture::manifest).layer(DefaultBodyLimit::max(capture::MAX_MANIFEST_BYTES)),
        )
        .route("/v1/confirm", post(confirm::confirm))
        .route("/v1/machines", get(machines::list))
        .route("/v1/machines/{id}", get(machines::show))
        .route("/v1/machines/{id}/approve", post(machines::approve))
        .route("/v1/machines/{id}/boot", put(machines::boot))
        .route("/v1/machines/{id}/quarantine", put(machines::quarantine))
        .route("/v1/jobs", get(jobs::list).post(jobs::create))
        .route("/v1/jobs/{id}", get(jobs::show))
        .route("/v1/jobs/{id}", delete(jobs::cancel))
        .route("/v1/images", get(jobs::images))
        .route("/v1/journal", get(journal::list))
        .route("/v1/audit", get(audit_trail::list))
        .fallback(problem::no_such_route)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
}
