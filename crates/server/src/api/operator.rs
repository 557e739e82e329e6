//! Operators: who asks, and what they may do.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use gravure_model::Secret;

use super::Problem;
use super::state::App;
use crate::db;
use crate::secret::hash_of;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Look.
    Read,
    /// Make and cancel jobs: destroys data on machines.
    Deploy,
    /// Vouch for a machine.
    Approve,
    /// Read the audit trail.
    Audit,
}

impl Scope {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Deploy => "deploy",
            Self::Approve => "approve",
            Self::Audit => "audit",
        }
    }
}

/// Everything, for the first operator.
pub(crate) const ALL_SCOPES: [&str; 4] =
    [Scope::Read.as_str(), Scope::Deploy.as_str(), Scope::Approve.as_str(), Scope::Audit.as_str()];

/// An operator who showed a good token.
#[derive(Debug)]
pub(crate) struct Operator {
    name: String,
    scopes: Vec<String>,
}

impl Operator {
    /// As the audit trail names them.
    pub(crate) fn actor(&self) -> String {
        format!("operator {}", self.name)
    }

    /// Refuses those who may not.
    pub(crate) fn may(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.iter().any(|own| own == scope.as_str()) {
            return Ok(());
        }
        Err(Problem::forbidden(format!("this token may not \"{}\"", scope.as_str()))
            .cure("use a token with that scope"))
    }
}

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer ")).map(Secret::new);
        let token = token.ok_or_else(|| {
            Problem::unauthorised("no API token: expected the header Authorization: Bearer TOKEN")
                .cure("`gravure init` wrote one to client.toml in the site directory")
        })?;
        let mut conn = app.db.read().await?;
        // Looked up by hash: how long that takes says nothing about the token.
        let known = db::tokens::api_token(&mut conn, &hash_of(&token)).await?;
        let known = known.ok_or_else(|| Problem::unauthorised("the API token is not valid here"))?;
        Ok(Self { name: known.name, scopes: known.scopes.split(' ').map(str::to_owned).collect() })
    }
}
