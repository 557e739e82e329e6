//! The clock at start: no less than when the payload and its site part were made (DESIGN section 8). Certificates would
//! not be valid yet on a mainboard whose battery is empty.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gravure_linux::{kernel, sysfs};
use gravure_model::site::{SITE_PATH, SiteSettings};

use crate::files::MAX_SETTINGS_BYTES;

/// Sets the clock forward if it stands before the build; a line for the screen when it did or could not.
pub(super) fn set_to_no_less_than_build_time() -> Option<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let least = build_time().max(site_time());
    if now >= least {
        return None;
    }
    Some(match kernel::set_clock(least) {
        Ok(()) => format!(
            "The mainboard's clock is wrong ({} s since 1970); set to when this was built ({} s)",
            now.as_secs(),
            least.as_secs()
        ),
        Err(error) => format!("the clock is wrong and cannot be set: {error}"),
    })
}

/// The time stamp of our own file: the archive gives every file the time it was built for.
fn build_time() -> Duration {
    let modified = std::fs::metadata("/proc/self/exe").and_then(|file| file.modified());
    modified.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default()
}

fn site_time() -> Duration {
    let path = Path::new("/").join(SITE_PATH);
    let site = sysfs::read_bounded(&path, MAX_SETTINGS_BYTES)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<SiteSettings>(&bytes).ok());
    let micros = site.map_or(0, |site| site.made.0);
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
