//! An operator's client of the API, for the command line: blocking, with the site's CA as the only root.

use std::path::{Path, PathBuf};
use std::time::Duration;

use gravure_model::Secret;
use gravure_model::api::{ApiError, JobReport, JournalLine, MachineReport};
use gravure_model::job::JobRequest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, http};

use crate::{AuditEntry, Error, ImageListing};

/// The file's name in a site directory.
pub(crate) const CLIENT_NAME: &str = "client.toml";
/// The server answers from its database; what takes longer is lost.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer read.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// `client.toml`: how to reach a server as an operator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSettings {
    /// `https://address:port` of the API.
    pub server: String,
    /// The site CA's certificate.
    pub ca: PathBuf,
    /// The operator's token.
    pub token: Secret,
}

impl ClientSettings {
    /// Of the site in `dir`.
    pub fn of_site(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(CLIENT_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Missing { what: "site", path });
            }
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        toml::from_str(&text).map_err(|error| Error::Config { path, message: error.to_string() })
    }

    pub(crate) fn to_text(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        format!(
            "# How `gravure` reaches this site as an operator. Keep it private: the token may do everything.\n\
             server = {}\nca = {}\ntoken = {}\n",
            quoted(&self.server),
            quoted(&self.ca.display().to_string()),
            quoted(self.token.reveal())
        )
    }
}

/// An operator's connection to a server.
pub struct Client {
    agent: Agent,
    server: String,
    authorization: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.server)
    }
}

impl Client {
    /// A client; connects with the first call.
    pub fn new(settings: &ClientSettings) -> Result<Self, Error> {
        let pem = std::fs::read(&settings.ca).map_err(|source| Error::io("read", &settings.ca, source))?;
        let ca = Certificate::from_pem(&pem).map_err(|error| Error::Tls(error.to_string()))?;
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[ca])).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .new_agent();
        let server = settings.server.trim_end_matches('/').to_owned();
        Ok(Self { agent, server, authorization: format!("Bearer {}", settings.token.reveal()) })
    }

    /// All machines.
    pub fn machines(&self) -> Result<Vec<MachineReport>, Error> {
        self.get("/v1/machines")
    }

    /// One machine, by id, the start of one, MAC address or UUID.
    pub fn machine(&self, name: &str) -> Result<MachineReport, Error> {
        self.get(&format!("/v1/machines/{}", escaped(name)))
    }

    /// Vouches for a machine whose screen shows `code`.
    pub fn approve(&self, name: &str, code: &str) -> Result<MachineReport, Error> {
        let body = serde_json::json!({ "code": code });
        self.post(&format!("/v1/machines/{}/approve", escaped(name)), &body)
    }

    /// Chooses what a machine boots the next time and only then; `None` takes that back.
    pub fn boot_once(&self, name: &str, choice: Option<&str>) -> Result<MachineReport, Error> {
        let url = format!("{}/v1/machines/{}/boot", self.server, escaped(name));
        let request = self.agent.put(&url).header("Authorization", &self.authorization);
        self.read(request.send_json(serde_json::json!({ "choice": choice })))
    }

    /// Holds a machine back for a reason, or lets it go with `None`.
    pub fn quarantine(&self, name: &str, reason: Option<&str>) -> Result<MachineReport, Error> {
        let url = format!("{}/v1/machines/{}/quarantine", self.server, escaped(name));
        let request = self.agent.put(&url).header("Authorization", &self.authorization);
        self.read(request.send_json(serde_json::json!({ "reason": reason })))
    }

    /// All jobs.
    pub fn jobs(&self) -> Result<Vec<JobReport>, Error> {
        self.get("/v1/jobs")
    }

    /// One job, by id or the start of one.
    pub fn job(&self, id: &str) -> Result<JobReport, Error> {
        self.get(&format!("/v1/jobs/{}", escaped(id)))
    }

    /// Makes a job.
    pub fn create_job(&self, request: &JobRequest) -> Result<JobReport, Error> {
        self.post("/v1/jobs", request)
    }

    /// Closes a job.
    pub fn cancel_job(&self, id: &str) -> Result<JobReport, Error> {
        let url = format!("{}/v1/jobs/{}", self.server, escaped(id));
        let request = self.agent.delete(&url).header("Authorization", &self.authorization);
        self.read(request.call())
    }

    /// Images that can be deployed.
    pub fn images(&self) -> Result<Vec<ImageListing>, Error> {
        self.get("/v1/images")
    }

    /// The last entries of the audit trail, newest first.
    pub fn audit(&self) -> Result<Vec<AuditEntry>, Error> {
        self.get("/v1/audit")
    }

    /// The last `lines` lines of the boot journal, oldest first: of one machine, by any of its names, or of all.
    pub fn journal(&self, machine: Option<&str>, lines: u32) -> Result<Vec<JournalLine>, Error> {
        let machine = machine.map(|name| format!("&machine={}", escaped(name))).unwrap_or_default();
        self.get(&format!("/v1/journal?lines={lines}{machine}"))
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let request = self.agent.get(format!("{}{path}", self.server));
        self.read(request.header("Authorization", &self.authorization).call())
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        let request = self.agent.post(format!("{}{path}", self.server));
        self.read(request.header("Authorization", &self.authorization).send_json(body))
    }

    fn read<T: DeserializeOwned>(
        &self,
        answer: Result<http::Response<Body>, ureq::Error>,
    ) -> Result<T, Error> {
        let unreachable = |error: ureq::Error| Error::Unreachable {
            server: self.server.clone(),
            message: error.to_string(),
        };
        let mut answer = answer.map_err(unreachable)?;
        let text =
            answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string().map_err(unreachable)?;
        if answer.status().is_success() {
            let parsed = serde_json::from_str(&text);
            return parsed.map_err(|error| Error::Unreachable {
                server: self.server.clone(),
                message: format!("its answer cannot be read: {error}"),
            });
        }
        let status = answer.status();
        let refusal: Result<ApiError, _> = serde_json::from_str(&text);
        Err(match refusal {
            Ok(ApiError { error, message, cure }) => Error::Refused { error, message, cure },
            Err(_) => {
                Error::Refused { error: "failed".into(), message: format!("{status}: {text}"), cure: None }
            }
        })
    }
}

/// A name as part of a path.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(escape).collect()
}
