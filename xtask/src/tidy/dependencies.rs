//! Rules `licence` and `banned`: what from outside may be linked, and by whom (DESIGN section 6, STYLE).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use super::Violation;
use crate::workspace::{Metadata, Package};

/// Who may name a crate from outside as a dependency of its own.
#[derive(Debug, Clone, Copy)]
enum Allowed {
    /// Nobody.
    Nobody,
    /// Crates of these layers; `dev` crates and dev-dependencies always may.
    Layers(&'static [&'static str]),
    /// These crates, by short name; `dev` crates and dev-dependencies always may.
    Crates(&'static [&'static str]),
}

/// Crates from outside with a restriction, and why.
const RESTRICTED: &[(&str, Allowed, &str)] = &[
    ("chrono", Allowed::Nobody, "jiff is the calendar here"),
    ("lazy_static", Allowed::Nobody, "std::sync::LazyLock does it"),
    ("once_cell", Allowed::Nobody, "std::sync::OnceLock does it"),
    ("native-tls", Allowed::Nobody, "rustls is the TLS here"),
    ("openssl", Allowed::Crates(&["server"]), "only for the listener of firmware HTTPS boot"),
    ("anyhow", Allowed::Layers(&["app"]), "libraries have an error type of their own"),
    ("tracing", Allowed::Layers(&["engine", "app"]), "base, format and platform crates do not log"),
    ("tokio", Allowed::Crates(&["bootd", "server", "cli"]), "async is for sockets only"),
];

/// Crates that must not be anywhere in the graph, except below the named ones of ours.
const BANNED_BELOW: &[(&str, &[&str])] =
    &[("native-tls", &[]), ("openssl-sys", &["gravure-server", "gravure-cli", "gravure-e2e", "xtask"])];

/// Crates that must not be in the payload, and why. The graph of the workspace cannot tell: its features are those of all members.
const NOT_IN_PAYLOAD: &[(&str, &str)] = &[
    ("libsqlite3-sys", "only repositories of drivers need it, behind a feature of windows"),
    ("tokio", "the payload has threads"),
    ("openssl-sys", "only the listener of firmware HTTPS boot needs it"),
];

/// Checks what `cargo tree` says is built for the payload: a name and a version a line.
pub(super) fn check_payload(tree: &str) -> Vec<Violation> {
    let built: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let found = NOT_IN_PAYLOAD.iter().filter(|(name, _)| built.contains(name));
    found
        .map(|(name, why)| {
            let manifest = Path::new("crates/payload/Cargo.toml");
            Violation::new(manifest, 0, "payload", format!("{name} is built for the payload: {why}"))
        })
        .collect()
}

/// Checks every package in the resolved graph.
pub(super) fn check(metadata: &Metadata, root: &Path) -> Vec<Violation> {
    let ours = |package: &&Package| metadata.workspace_members.contains(&package.id);
    let lock = Path::new("Cargo.lock");
    let mut found = Vec::new();
    for package in metadata.packages.iter().filter(|p| !ours(p)) {
        if let Some(problem) = licence_problem(package.license.as_deref(), package.license_file.is_some()) {
            found.push(Violation::new(
                lock,
                0,
                "licence",
                format!("{} {}: {problem}", package.name, package.version),
            ));
        }
    }
    for package in metadata.packages.iter().filter(ours) {
        let manifest = package.manifest_path.strip_prefix(root).unwrap_or(&package.manifest_path);
        let name = package.name.strip_prefix("gravure-").unwrap_or(&package.name);
        for dependency in package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev")) {
            if let Some(message) = direct_problem(name, package.layer().unwrap_or(""), &dependency.name) {
                found.push(Violation::new(manifest, 0, "banned", message));
            }
        }
        let below = reachable(metadata, &package.id);
        for (banned, except) in BANNED_BELOW {
            if below.contains(banned) && !except.contains(&package.name.as_str()) {
                found.push(Violation::new(manifest, 0, "banned", format!("{name} pulls in {banned}")));
            }
        }
    }
    found
}

/// Why `crate_name` of `layer` may not depend on `dependency` itself.
fn direct_problem(crate_name: &str, layer: &str, dependency: &str) -> Option<String> {
    let (_, allowed, why) = RESTRICTED.iter().find(|(name, ..)| *name == dependency)?;
    let fine = match allowed {
        Allowed::Nobody => false,
        Allowed::Layers(layers) => layer == "dev" || layers.contains(&layer),
        Allowed::Crates(crates) => layer == "dev" || crates.contains(&crate_name),
    };
    (!fine).then(|| format!("{crate_name} ({layer}) depends on {dependency}: {why}"))
}

/// Why a package with this licence may not be linked.
fn licence_problem(expression: Option<&str>, has_file: bool) -> Option<String> {
    match expression {
        None if has_file => None,
        None => Some("states no licence".into()),
        Some(expression) if offers_free_choice(expression) => None,
        Some(expression) => Some(format!("licence {expression:?} leaves no choice outside the GPL family")),
    }
}

/// Whether the SPDX expression can be satisfied without a GPL-family licence. `/` is the old way to write OR.
fn offers_free_choice(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let (free, _) = any_of(&tokens);
    free
}

/// `term (OR term)*`; returns the value and what follows.
fn any_of<'a>(tokens: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut free, mut rest) = all_of(tokens);
    while let Some(("OR", after)) = rest.split_first().map(|(token, after)| (*token, after)) {
        let (next, left) = all_of(after);
        free |= next;
        rest = left;
    }
    (free, rest)
}

/// `item (AND item)*`, where an item is a licence, with an exception perhaps, or an expression in parentheses.
fn all_of<'a>(tokens: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut free, mut rest) = item(tokens);
    while let Some(("AND", after)) = rest.split_first().map(|(token, after)| (*token, after)) {
        let (next, left) = item(after);
        free &= next;
        rest = left;
    }
    (free, rest)
}

fn item<'a>(tokens: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    match tokens.split_first() {
        None => (false, tokens),
        Some((&"(", after)) => {
            let (free, rest) = any_of(after);
            (free, rest.get(1..).unwrap_or_default())
        }
        Some((licence, after)) => {
            let rest =
                if after.first() == Some(&"WITH") { after.get(2..).unwrap_or_default() } else { after };
            (!licence.contains("GPL"), rest)
        }
    }
}

/// Names of all packages below `id`.
fn reachable<'a>(metadata: &'a Metadata, id: &'a str) -> BTreeSet<&'a str> {
    let names: BTreeMap<&str, &str> =
        metadata.packages.iter().map(|p| (p.id.as_str(), p.name.as_str())).collect();
    let nodes: BTreeMap<&str, _> = metadata.resolve.nodes.iter().map(|n| (n.id.as_str(), n)).collect();
    let (mut seen, mut queue) = (BTreeSet::new(), VecDeque::from([id]));
    while let Some(id) = queue.pop_front() {
        for dep in nodes.get(id).into_iter().flat_map(|node| &node.deps) {
            if seen.insert(dep.pkg.as_str()) {
                queue.push_back(&dep.pkg);
            }
        }
    }
    seen.iter().filter_map(|id| names.get(id).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_licence_needs_one_choice_outside_the_gpl_family() {
        let cases = [
            ("MIT", true),
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("MIT OR Apache-2.0 OR LGPL-2.1-or-later", true),
            ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", true),
            ("(MIT OR GPL-2.0) AND Unicode-3.0", true),
            ("MPL-2.0", true),
            ("GPL-3.0-only", false),
            ("LGPL-2.1", false),
            ("AGPL-3.0-or-later", false),
            ("MIT AND LGPL-3.0", false),
            ("(GPL-2.0 OR LGPL-2.1) AND MIT", false),
        ];
        for (expression, fine) in cases {
            assert_eq!(offers_free_choice(expression), fine, "{expression}");
        }
        assert_eq!(licence_problem(None, false).as_deref(), Some("states no licence"));
        assert_eq!(licence_problem(None, true), None);
    }

    #[test]
    fn the_payload_is_built_without_what_it_does_not_need() {
        let tree = "gravure-payload v0.1.0 (/src/crates/payload)\nsqlite3 v1.0.0\nlibsqlite3-sys v0.30.1\nrustls v0.23.0 (*)\n";
        let found: Vec<String> = check_payload(tree).into_iter().map(|found| found.message).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("libsqlite3-sys is built for the payload"), "{found:?}");
        assert_eq!(check_payload(&tree.replace("lib", "")), []);
    }

    #[test]
    fn restricted_crates_are_refused_outside_their_place() {
        let cases = [
            ("wim", "format", "thiserror", true),
            ("wim", "format", "anyhow", false),
            ("cli", "app", "anyhow", true),
            ("wim", "format", "tracing", false),
            ("deploy", "engine", "tracing", true),
            ("imaging", "engine", "tokio", false),
            ("bootd", "engine", "tokio", true),
            ("payload", "app", "tokio", false),
            ("cli", "app", "chrono", false),
            ("server", "app", "openssl", true),
            ("cli", "app", "openssl", false),
            ("testkit", "dev", "anyhow", true),
            ("testkit", "dev", "once_cell", false),
        ];
        for (name, layer, dependency, fine) in cases {
            assert_eq!(direct_problem(name, layer, dependency).is_none(), fine, "{name} -> {dependency}");
        }
    }
}
