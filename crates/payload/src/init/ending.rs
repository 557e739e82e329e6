//! The end of the machine: everybody stops, everything is written and unmounted, then the kernel restarts or switches
//! off.

use std::time::{Duration, Instant};

use gravure_linux::block;
use gravure_linux::kernel::{self, End};
use gravure_linux::mount;
use gravure_linux::process;
use gravure_model::messages::{Language, Message};

use super::console::Consoles;
use crate::files::chain;

/// Time for programs to stop by themselves.
const POLITE: Duration = Duration::from_secs(3);
/// File systems that lose nothing when they are not unmounted.
const OF_THE_KERNEL: [&str; 8] =
    ["proc", "sysfs", "devtmpfs", "tmpfs", "rootfs", "ramfs", "efivarfs", "devpts"];

/// Ends the machine. Comes back only when the kernel refuses.
pub(super) fn end(consoles: &Consoles, how: End) {
    let message = if how == End::Restart { Message::Restarting } else { Message::PoweringOff };
    consoles.say(&message.text(Language::English));
    let _ = process::terminate_all();
    let deadline = Instant::now() + POLITE;
    while Instant::now() < deadline {
        match process::reap() {
            Ok(Some(_)) => {}
            _ if gravure_linux::sysfs::text(std::path::Path::new("/proc/1/task/1/children")).is_none() => {
                break;
            }
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    let _ = process::kill_all();
    block::sync_all();
    unmount_all(consoles);
    if let Err(error) = kernel::end(how) {
        consoles.say(&format!("the machine cannot be ended: {}", chain(&error)));
    }
}

/// Unmounts volumes, last mounted first; what will not go is made read-only, so that it is clean on the disk.
fn unmount_all(consoles: &Consoles) {
    let mounts = mount::mounts().unwrap_or_default();
    for mount in mounts.iter().rev().filter(|mount| !OF_THE_KERNEL.contains(&mount.fs_type.as_str())) {
        if let Err(error) = mount::unmount(&mount.target).or_else(|_| mount::remount_read_only(&mount.target))
        {
            consoles.say(&chain(&error));
        }
    }
}
