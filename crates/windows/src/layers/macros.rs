//! Macros: `${NAME}` in every text of a layer.

use std::collections::BTreeMap;

use super::invalid;
use crate::Error;

/// Puts facts in the place of `${NAME}` in every text; `$$` is a dollar.
pub(super) fn fill(value: &mut toml::Value, facts: &BTreeMap<String, String>) -> Result<(), Error> {
    match value {
        toml::Value::String(text) => {
            *text = filled(text, facts)?;
            Ok(())
        }
        toml::Value::Array(items) => items.iter_mut().try_for_each(|item| fill(item, facts)),
        toml::Value::Table(table) => table.iter_mut().try_for_each(|(_, item)| fill(item, facts)),
        _ => Ok(()),
    }
}

fn filled(text: &str, facts: &BTreeMap<String, String>) -> Result<String, Error> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) {
            let known = facts.get(name).ok_or_else(|| {
                let names: Vec<&str> = facts.keys().map(String::as_str).collect();
                invalid("macro", &format!("one of {}", names.join(" ")), name)
            })?;
            out.push_str(known);
            rest = after;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}
