//! `gravure doctor`: why machines may not boot from this server, as far as this side can tell.
//!
//! Each check gives one [`Check`]: what was looked at, how it stands, and the cure where it stands badly. Nothing is changed;
//! all that is sent is one DHCPDISCOVER, one DHCPv6 SOLICIT and one router solicitation whose answers nobody takes, and a few requests to
//! our own services.

mod certificates;
mod files;
mod ipv6;
mod machines;
mod network;
mod relays;
mod snippets;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::config::{CONFIG_NAME, Config};

pub use snippets::{dhcp_kinds, dhcp_lines};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// May keep some machines from booting.
    Warning,
    /// Keeps machines from booting.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Stable name, for programs.
    pub name: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub cure: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), cure: None }
    }

    fn note(name: &'static str, found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Note, ..Self::ok(name, found) }
    }

    fn warning(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, cure: Some(cure.into()), ..Self::ok(name, found) }
    }

    fn problem(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { verdict: Verdict::Problem, cure: Some(cure.into()), ..Self::ok(name, found) }
    }
}

/// What to look at.
#[derive(Debug, Clone)]
pub struct DoctorOptions {
    /// The site's directory.
    pub site: PathBuf,
    /// How long to wait for offers of DHCP servers. Servers that ping first take three seconds.
    pub offers_within: Duration,
}

/// Looks at everything and says what it found, in the order of looking.
pub fn examine(options: &DoctorOptions) -> Vec<Check> {
    let path = options.site.join(CONFIG_NAME);
    let config = match Config::load(&path) {
        Ok(config) => config,
        Err(error) => {
            let cure = "make a site with `gravure init`, or name its directory with --site";
            return vec![Check::problem("configuration", error.to_string(), cure)];
        }
    };
    let mut checks = vec![Check::ok("configuration", format!("{} is read", path.display()))];
    checks.extend(files::boot_files(&config));
    checks.extend(files::keys(&config));
    checks.extend(certificates::authorities(&config));
    checks.extend(files::space(&config));
    checks.extend(store::store(&config));
    checks.extend(files::clock(&config));
    checks.push(files::buffers());
    checks.extend(machines::same_sids(&config));
    checks.extend(relays::relays(&config));
    checks.extend(network::interfaces(&config, options.offers_within));
    checks
}

/// The worst of some checks.
pub fn worst(checks: &[Check]) -> Verdict {
    checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok)
}
