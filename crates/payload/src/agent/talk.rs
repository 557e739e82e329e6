//! The conversation with the server: greet, check whom we talk to, ask for a plan, have it carried out, report.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gravure_model::api::{Envelope, Hello, PlanAnswer, Welcome};
use gravure_model::event::{EventKind, Known, Observer};
use gravure_model::inventory::Inventory;
use gravure_model::job::Afterwards;
use gravure_model::messages::Message;
use gravure_model::plan::Plan;
use gravure_model::site::SiteServer;
use gravure_trust::{PlanExpectation, TrustedPlanKey, Verdict};

use super::Leave;
use super::api::{Api, Failure};
use super::clock::ServerClock;
use super::discovery;
use super::network::Network;
use super::outbox::Outbox;
use super::screen::Screen;
use super::session::Session;
use super::settings::Settings;
use crate::files::chain;

/// Rounds without an answer after which another network adapter is tried.
const ROUNDS_PER_ADAPTER: u32 = 3;
/// Longest wait that the server may ask for.
const LONGEST_ASK: Duration = Duration::from_secs(60);
/// How long the end of a deployment waits for the server to take the report. The disk is verified by then, so the
/// machine goes on without it.
const REPORT_PATIENCE: Duration = Duration::from_secs(600);

/// Waiting times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    /// Between requests that got no answer; doubles up to the longest.
    pub(super) first: Duration,
    pub(super) longest: Duration,
    /// After a server that answered but is not to be trusted.
    pub(super) after_distrust: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { first: seconds(2), longest: seconds(20), after_distrust: seconds(30) }
    }
}

/// Carries plans out; the real one is `gravure-deploy`.
pub(super) trait Deploy: Send + Sync {
    /// Carries out an accepted plan with content from `server`, whose API takes images that are made.
    fn deploy(
        &self,
        verdict: &Verdict,
        server: &SiteServer,
        api: &Api,
        observer: &dyn Observer,
    ) -> Result<(), Failed>;
}

/// Why a plan was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) stage: String,
    pub(super) code: u8,
    pub(super) message: String,
    pub(super) cure: Option<String>,
}

/// Exit code families of DESIGN section 5.
const CODE_REFUSED: u8 = 4;

/// Everything the conversation needs.
pub(super) struct Talk<'a> {
    pub(super) settings: Settings,
    pub(super) session: Session,
    pub(super) outbox: Arc<Outbox>,
    pub(super) screen: Arc<Screen>,
    /// `None` in tests on the loopback.
    pub(super) network: Option<Network>,
    pub(super) deploy: &'a dyn Deploy,
    /// Plans that failed. They are not tried again: only a new one shows that somebody looked at it.
    pub(super) ended_plans: Vec<String>,
    /// Where the session is kept for the next agent.
    pub(super) dir: PathBuf,
    pub(super) waits: Waits,
}

/// A server that was greeted and is trusted.
struct Contact {
    server: SiteServer,
    api: Api,
    clock: ServerClock,
    approval_code: String,
}

/// Events go to screen and server.
struct Both<'a>(&'a Screen, &'a Outbox);

impl Observer for Both<'_> {
    fn event(&self, event: EventKind) {
        self.0.event(event.clone());
        self.1.event(event);
    }
}

impl Talk<'_> {
    /// Talks until the machine is to end.
    pub(super) fn run(mut self, inventory: &Inventory) -> Leave {
        // Events go to whichever server was greeted last.
        let current: Arc<Mutex<Option<Api>>> = Arc::default();
        let mut sender_runs = false;
        let mut ended_plans = std::mem::take(&mut self.ended_plans);
        loop {
            let contact = self.greet(inventory);
            *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(contact.api.clone());
            if !std::mem::replace(&mut sender_runs, true) {
                self.start_sender(&current);
            }
            if let Some(leave) = self.ask_for_plans(&contact, inventory, &mut ended_plans) {
                return leave;
            }
        }
    }

    fn start_sender(&self, current: &Arc<Mutex<Option<Api>>>) {
        let (outbox, screen, current) =
            (Arc::clone(&self.outbox), Arc::clone(&self.screen), Arc::clone(current));
        std::thread::spawn(move || {
            outbox.run(
                |batch| {
                    let api = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    api.ok_or_else(|| Failure::Silent("no server was greeted".to_owned()))?.events(batch)
                },
                |state| match state {
                    Ok(()) => screen.line("The server takes reports again"),
                    Err(failure) => screen.line(&format!("The server does not take reports: {failure}")),
                },
            )
        });
    }

    /// Greets servers in turn until one answers that proves to be of our site: those we were told of first, then those that
    /// the network names: the boot server of the DHCP lease, then DNS-SD.
    fn greet(&mut self, inventory: &Inventory) -> Contact {
        let (mut wait, mut rounds) = (self.waits.first, 0u32);
        loop {
            let known = self.settings.site.servers.clone();
            for server in &known {
                if let Some(contact) = self.greet_and_say(server, inventory, &mut wait) {
                    return contact;
                }
            }
            let address = self.network.as_ref().map(|network| network.wait_for_address(&self.screen));
            let found = address.into_iter().flat_map(|address| {
                let mut servers = discovery::told(&address.boot_servers, &known);
                servers.extend(discovery::find(address.address, &known));
                servers
            });
            for server in found {
                if let Some(contact) = self.greet_and_say(&server, inventory, &mut wait) {
                    return contact;
                }
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(self.waits.longest);
            rounds = rounds.saturating_add(1);
            if let Some(network) = &self.network {
                if rounds.is_multiple_of(ROUNDS_PER_ADAPTER) {
                    network.try_another();
                }
                network.wait_for_address(&self.screen);
            }
        }
    }

    /// Greets one server and says on the screen why it is not the one.
    fn greet_and_say(
        &mut self,
        server: &SiteServer,
        inventory: &Inventory,
        wait: &mut Duration,
    ) -> Option<Contact> {
        self.screen.say(&Message::ContactingServer { server: server.api.clone() });
        match self.greet_one(server, inventory) {
            Ok(contact) => return Some(contact),
            Err(Greeting::Distrusted(why)) => {
                self.screen.line(&format!("REFUSED {}: {why}", server.api));
                self.screen.say(&Message::Cure {
                    cure: "boot from the server this machine belongs to, or renew its payload".to_owned(),
                });
                *wait = (*wait).max(self.waits.after_distrust);
            }
            Err(Greeting::Failed(Failure::Silent(why))) => {
                let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
                self.screen.say(&Message::ServerSilent { why, seconds });
            }
            Err(Greeting::Failed(Failure::Refused { message, cure, .. })) => {
                self.screen.line(&format!("The server refuses this machine: {message}"));
                if let Some(cure) = cure {
                    self.screen.say(&Message::Cure { cure });
                }
            }
        }
        None
    }

    fn greet_one(&mut self, server: &SiteServer, inventory: &Inventory) -> Result<Contact, Greeting> {
        let api = Api::new(&server.api, &self.settings.site.ca_pem, &self.session.identity)
            .map_err(|error| Greeting::Distrusted(chain(&error)))?;
        let token = self.settings.token.clone().filter(|_| !self.session.token_used);
        let hello = Hello {
            nonce: self.session.nonce.clone(),
            token,
            payload_version: crate::VERSION.to_owned(),
            inventory: inventory.clone(),
        };
        let welcome = api.hello(&hello).map_err(Greeting::Failed)?;
        let clock = self.trust(&welcome).map_err(|error| Greeting::Distrusted(chain(&error)))?;
        if hello.token.is_some() {
            self.session.token_used = true;
            // Should it not be kept, a second agent's token is refused as used; the session is known by its key.
            let _ = self.session.keep(&self.dir);
        }
        if let Some(why) = &welcome.token_refused {
            self.screen.line(&format!("The token of this boot was refused: {why}"));
        }
        self.screen.line(&format!(
            "Server {} knows this machine as {} ({})",
            api.base(),
            welcome.machine,
            welcome.assurance
        ));
        self.screen.say(&Message::ApprovalCode { code: welcome.approval_code.clone() });
        Ok(Contact { server: server.clone(), api, clock, approval_code: welcome.approval_code })
    }

    /// The chain from the site root, and the server's time for our nonce.
    fn trust(&self, welcome: &Welcome) -> Result<ServerClock, gravure_trust::Error> {
        let key = TrustedPlanKey::new(&self.settings.root_key, &welcome.plan_key)?;
        let time = key.server_time(&welcome.time, &self.session.nonce)?;
        Ok(ServerClock::start(time))
    }

    /// Asks until a plan was carried out; `None` when the server has to be greeted again.
    fn ask_for_plans(
        &self,
        contact: &Contact,
        inventory: &Inventory,
        ended_plans: &mut Vec<String>,
    ) -> Option<Leave> {
        let (mut said, mut silent_wait) = (String::new(), self.waits.first);
        let mut say_once = |text: &str, screen: &Screen| {
            if said != text {
                text.clone_into(&mut said);
                screen.say(&Message::Waiting { reason: text.to_owned() });
                screen.say(&Message::ApprovalCode { code: contact.approval_code.clone() });
            }
        };
        loop {
            let answer = match contact.api.plan() {
                Ok(answer) => answer,
                Err(failure) if failure.is_unknown_session() => {
                    self.screen.line(&format!("The server does not know this session any more: {failure}"));
                    return None;
                }
                Err(failure) => {
                    if let Failure::Refused { message, .. } = &failure {
                        self.screen.line(&format!("The server gives no plan: {message}"));
                    }
                    let seconds = u32::try_from(silent_wait.as_secs()).unwrap_or(u32::MAX);
                    self.screen.say(&Message::ServerSilent { why: failure.to_string(), seconds });
                    std::thread::sleep(silent_wait);
                    if silent_wait >= self.waits.longest {
                        return None;
                    }
                    silent_wait = (silent_wait * 2).min(self.waits.longest);
                    continue;
                }
            };
            silent_wait = self.waits.first;
            match answer {
                PlanAnswer::Wait { reason, retry_seconds, boot_local } => {
                    let hint = if boot_local { "; type restart to start from its own disk" } else { "" };
                    say_once(&format!("{reason}{hint}"), &self.screen);
                    let wait = Duration::from_secs(retry_seconds.into());
                    std::thread::sleep(wait.clamp(self.waits.first / 2, LONGEST_ASK));
                }
                PlanAnswer::Ready { plan_key, plan, descriptor } => {
                    let observer = Both(&self.screen, &self.outbox);
                    // The key may have been replaced since the greeting.
                    let judged = TrustedPlanKey::new(&self.settings.root_key, &plan_key).and_then(|key| {
                        let expect = PlanExpectation {
                            identity: &inventory.identity(),
                            nonce: &self.session.nonce,
                            firmware: inventory.firmware.mode,
                            // Signed by the key of the greeting, which the same root vouched for.
                            now: contact.clock.now(),
                        };
                        key.plan(&plan, &descriptor, &expect)
                    });
                    let verdict = match judged {
                        Ok(verdict) => verdict,
                        Err(error) => {
                            let message = chain(&error);
                            if ended_plans.contains(&message) {
                                say_once("for another plan; the last one was refused", &self.screen);
                            } else {
                                // The id is not proven, but the server takes reports only on the plan it gave out.
                                if let Some(id) = unproven_id(&plan) {
                                    self.outbox.begin_plan(&id);
                                }
                                observer.event(refused(&message).into());
                                ended_plans.push(message);
                            }
                            std::thread::sleep(self.waits.longest);
                            continue;
                        }
                    };
                    if ended_plans.contains(&verdict.plan.id) {
                        say_once(
                            "for another plan; the last one failed. Arm the machine again",
                            &self.screen,
                        );
                        std::thread::sleep(self.waits.longest);
                        continue;
                    }
                    ended_plans.push(verdict.plan.id.clone());
                    if self.carry_out(contact, &verdict) {
                        return Some(self.finish(verdict.plan.then));
                    }
                    self.screen.line(
                        "The machine stays on and asks for another plan. Type restart or off to leave.",
                    );
                }
            }
        }
    }

    /// Carries a plan out; whether it succeeded.
    fn carry_out(&self, contact: &Contact, verdict: &Verdict) -> bool {
        let plan = &verdict.plan;
        self.outbox.begin_plan(&plan.id);
        let disk = describe_disk(plan);
        self.screen.say(&match &plan.capture {
            Some(capture) => Message::CaptureHeader { image: capture.name.clone(), disk },
            None => Message::PlanHeader {
                image: plan.image.path.clone(),
                disk,
                host_name: plan.personality.host_name.clone(),
            },
        });
        let observer = Both(&self.screen, &self.outbox);
        let deployed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.deploy.deploy(verdict, &contact.server, &contact.api, &observer)
        }));
        let failed = match deployed {
            Ok(Ok(())) => return true,
            Ok(Err(failed)) => failed,
            Err(panic) => Failed {
                stage: "deployment".to_owned(),
                code: 1,
                message: format!("the payload has a fault: {}", panic_text(panic.as_ref())),
                cure: Some("report it with the lines above (type log)".to_owned()),
            },
        };
        let Failed { stage, code, message, cure } = failed;
        observer.event(Known::Failed { stage, code, message, cure }.into());
        false
    }

    /// The report gets through before the machine leaves.
    fn finish(&self, then: Afterwards) -> Leave {
        let (leave, how) = match then {
            Afterwards::Reboot => (Leave::Restart, "restart"),
            Afterwards::PowerOff => (Leave::PowerOff, "power off"),
        };
        self.outbox.event(Known::Leaving { how: how.to_owned() }.into());
        if !self.outbox.flush(REPORT_PATIENCE) {
            let count = self.outbox.pending();
            self.screen.line(&format!("The server did not take the last {count} reports; going on without"));
        }
        leave
    }
}

/// Why a greeting led nowhere.
enum Greeting {
    /// The request failed.
    Failed(Failure),
    /// The answer does not prove what it must.
    Distrusted(String),
}

/// The id in a plan that was not accepted.
fn unproven_id(plan: &Envelope) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Id {
        id: String,
    }
    let bytes = STANDARD.decode(&plan.payload).ok()?;
    serde_json::from_slice::<Id>(&bytes).ok().map(|plan| plan.id)
}

fn refused(message: &str) -> Known {
    Known::Failed {
        stage: "check_plan".to_owned(),
        code: CODE_REFUSED,
        message: message.to_owned(),
        cure: Some(
            "the plan was not made for this machine and this boot by our server: make a new one".to_owned(),
        ),
    }
}

/// The disk as a person recognises it.
pub(super) fn describe_disk(plan: &Plan) -> String {
    let disk = &plan.disk;
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    let gigabytes = disk.size_bytes / 1_000_000_000;
    format!(
        "{} (model {}, serial {}, {gigabytes} GB)",
        disk.name,
        or_unknown(&disk.model),
        or_unknown(&disk.serial)
    )
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|&text| text.to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests;
