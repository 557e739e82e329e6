//! What all handlers share.

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use gravure_bootd::{Journal, NoteKind};
use gravure_model::api::{FailureReport, MachineState};
use gravure_model::identity::MachineIdentity;
use gravure_trust::PlanSigner;

use super::Problem;
use crate::boot::{Rules, ServerAddress};
use crate::bundles::Bundles;
use crate::captures::Captures;
use crate::config::Limits;
use crate::db::{self, Db, SessionRow};
use crate::images::Images;
use crate::tls::{ClientKey, LocalAddress};
use crate::vault::Vault;

/// The running server, as handlers see it.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) db: Db,
    pub(crate) images: Arc<Images>,
    pub(crate) bundles: Arc<Bundles>,
    pub(crate) captures: Arc<Captures>,
    /// The table of machines.
    pub(crate) names: PathBuf,
    pub(crate) signer: PlanSigner,
    /// Opens what jobs carry.
    pub(crate) vault: Vault,
    pub(crate) servers: Vec<ServerAddress>,
    pub(crate) limits: Limits,
    pub(crate) journal: Arc<Journal>,
    pub(crate) rules: Arc<Rules>,
}

impl App {
    /// A line in the journal of each of a machine's network adapters.
    pub(crate) fn note(&self, identity: &MachineIdentity, text: &str) {
        for mac in &identity.macs {
            self.journal.note(mac.0, NoteKind::Server, text, None);
        }
    }

    /// A line about something that is not as it should be, in the journal of each of a machine's network adapters.
    pub(crate) fn trouble(&self, identity: &MachineIdentity, text: &str, advice: &str) {
        for mac in &identity.macs {
            self.journal.note(mac.0, NoteKind::Trouble, text, Some(advice.to_owned()));
        }
    }

    /// `https://address:port` that a client which reached `local` can be told.
    pub(crate) fn api_url(&self, local: LocalAddress) -> String {
        let own = self.servers.iter().find(|server| server.address == local.0.ip());
        own.map_or_else(|| format!("https://{}", local.0), ServerAddress::api)
    }
}

/// The key of the client's certificate; requests without one are refused.
#[derive(Debug)]
pub(crate) struct Peer(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let key = parts.extensions.get::<ClientKey>().cloned().flatten();
        let key = key
            .ok_or_else(|| Problem::unauthorised("a payload shows a client certificate, this client none"))?;
        Ok(Self(key.0))
    }
}

/// Our address the client reached.
#[derive(Debug)]
pub(crate) struct Local(pub(crate) LocalAddress);

impl<S: Sync> FromRequestParts<S> for Local {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let local = parts.extensions.get::<LocalAddress>().copied();
        local.map(Self).ok_or_else(|| Problem::invalid("connection without an address"))
    }
}

/// The session of a payload that said hello.
pub(crate) async fn session(app: &App, peer: &Peer) -> Result<SessionRow, Problem> {
    let mut conn = app.db.read().await?;
    let session = db::sessions::by_peer(&mut conn, &peer.0).await?;
    session.ok_or_else(|| {
        Problem::unauthorised("this client certificate belongs to no session").cure("say hello first")
    })
}

/// Tells the log that a machine is in another state. Called when that is committed, so that who reads it finds it so.
pub(crate) fn announce(machine: &str, state: MachineState) {
    tracing::info!(machine, state = %state.as_str(), "machine");
}

/// A failure that no event reported.
pub(crate) fn failure(stage: &str, message: &str, cure: Option<String>) -> FailureReport {
    FailureReport { stage: stage.to_owned(), code: 1, message: message.to_owned(), cure }
}
