//! Ctrl-C and SIGTERM end the work at its next check, so that temporary files are removed; a second one ends at once.

use gravure_model::Ctl;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Exit code of an interrupted command.
const INTERRUPTED: i32 = 130;

/// A `Ctl` that the usual signals cancel.
pub(crate) fn ctl() -> Ctl {
    let ctl = Ctl::default();
    let shared = ctl.clone();
    if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) {
        std::thread::spawn(move || {
            let mut asked = false;
            for _ in signals.forever() {
                if asked {
                    std::process::exit(INTERRUPTED);
                }
                asked = true;
                shared.cancel();
            }
        });
    }
    ctl
}
