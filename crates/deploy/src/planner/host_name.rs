//! Host names from a template: `pc-{serial}` and the like, made into a name that every system accepts.

use gravure_model::identity::MachineIdentity;
use gravure_model::inventory::Inventory;

use super::Refusal;

/// RFC 1123: one label.
const MAX_NAME_BYTES: usize = 63;

/// Fills the template's fields and cleans the result: letters, digits and inner dashes, lower case.
pub(super) fn fill(
    template: &str,
    inventory: &Inventory,
    identity: &MachineIdentity,
    ordinal: u32,
) -> Result<String, Refusal> {
    let refuse =
        |found: &str, why: String| Refusal::HostName { template: template.into(), found: found.into(), why };
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let (field, after) =
            after.split_once('}').ok_or_else(|| refuse(&filled, "a brace is not closed".into()))?;
        let value = match field {
            "serial" => identity.serial.clone(),
            "uuid" => identity.uuid.clone(),
            // Without separators, as asset labels print it.
            "mac" => identity.macs.first().map(|mac| mac.to_string().replace(':', "")),
            "model" => inventory.smbios.system.product.clone(),
            "n" => Some(ordinal.to_string()),
            other => {
                let why = format!("{{{other}}} is not one of {{serial}} {{uuid}} {{mac}} {{model}} {{n}}");
                return Err(refuse(&filled, why));
            }
        };
        let value = value.ok_or_else(|| refuse(&filled, format!("the machine has no {field}")))?;
        filled.push_str(&value);
        rest = after;
    }
    filled.push_str(rest);
    let name = clean(&filled);
    if name.is_empty() {
        return Err(refuse(&filled, "nothing is left of it as a host name".into()));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(refuse(&name, format!("{} characters, {MAX_NAME_BYTES} are allowed", name.len())));
    }
    if name.bytes().all(|c| c.is_ascii_digit()) {
        return Err(refuse(&name, "a name of digits only is taken for an address".into()));
    }
    Ok(name)
}

/// Anything else becomes a dash; runs of dashes become one, and none stands at an end.
fn clean(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.ends_with('-') && !name.is_empty() {
            name.push('-');
        }
    }
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use gravure_model::identity::Mac;

    use super::*;

    #[test]
    fn fills_and_cleans() {
        let mut inventory = Inventory::default();
        inventory.smbios.system.product = Some("OptiPlex 7090 (SFF)".into());
        let identity = MachineIdentity::new(None, Some("ABC/123 "), [Mac([0x52, 0x54, 0, 1, 2, 3])]);
        let cases = [
            ("pc-{serial}", Ok("pc-abc-123")),
            ("{model}", Ok("optiplex-7090-sff")),
            ("Lab {n}", Ok("lab-7")),
            ("x{mac}", Ok("x525400010203")),
            ("pc-{uuid}", Err("the machine has no uuid")),
            ("pc-{owner}", Err("{owner} is not one of {serial} {uuid} {mac} {model} {n}")),
            ("pc-{serial", Err("a brace is not closed")),
            ("--", Err("nothing is left of it as a host name")),
            ("{n}", Err("a name of digits only is taken for an address")),
        ];
        for (template, wanted) in cases {
            let found = fill(template, &inventory, &identity, 7);
            match (wanted, found) {
                (Ok(wanted), Ok(found)) => assert_eq!(found, wanted),
                (Err(wanted), Err(Refusal::HostName { why, .. })) => assert_eq!(why, wanted),
                (_, found) => panic!("{template}: {found:?}"),
            }
        }
        let long = "a".repeat(64);
        let refused = fill(&long, &inventory, &identity, 1).unwrap_err().to_string();
        assert!(refused.ends_with("64 characters, 63 are allowed"), "{refused}");
    }
}
