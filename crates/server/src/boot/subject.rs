//! Which machine a boot loader's request is about.

use gravure_bootd::{Ask, Presence};
use gravure_model::identity::{Mac, MachineIdentity};

/// Who the request says it is for, completed by what DHCP saw at the address it came from.
///
/// `None` when neither knows, or when they contradict each other: then somebody asks for another machine's files.
pub(super) fn of(ask: &Ask, presence: &Presence) -> Option<MachineIdentity> {
    let seen = presence.who(ask.peer);
    let named = ask.field("mac").and_then(|text| text.parse::<Mac>().ok());
    if let (Some(seen), Some(named)) = (&seen, named)
        && seen.mac != named.0
    {
        tracing::warn!(peer = %ask.peer, %named, seen = %Mac(seen.mac), "request in another machine's name");
        return None;
    }
    let mac = named.or(seen.map(|seen| Mac(seen.mac)));
    let uuid = ask.field("uuid").map(str::to_owned).filter(|uuid| is_uuid(uuid));
    let uuid = uuid.or_else(|| seen.and_then(|seen| seen.uuid).map(|uuid| uuid.to_string()));
    let identity = MachineIdentity::new(uuid.as_deref(), None, mac);
    (!identity.is_empty()).then_some(identity)
}

fn is_uuid(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok() && text.len() == 36
}

/// Query fields that name the machine again.
pub(super) fn query(identity: &MachineIdentity) -> String {
    let mac = identity.macs.first().map(Mac::to_string).unwrap_or_default();
    format!("mac={mac}&uuid={}", identity.uuid.as_deref().unwrap_or_default())
}

/// The strongest name, which tokens are kept under.
pub(super) fn key(identity: &MachineIdentity) -> String {
    match (&identity.uuid, identity.macs.first()) {
        (Some(uuid), _) => format!("uuid {uuid}"),
        (None, Some(mac)) => format!("mac {mac}"),
        (None, None) => String::new(),
    }
}
