//! Rules `layer` and `cycle`: which of our crates may depend on which (DESIGN section 3).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Violation;
use crate::workspace::Metadata;

/// The layers, lowest first. `dev` stands beside them: it may use all, and only dev-dependencies may name it.
const LAYERS: &[&str] = &["base", "format", "platform", "engine", "app"];
const DEV: &str = "dev";

/// Edges allowed inside one layer: (from, to), without the `gravure-` prefix.
const SIDEWAYS: &[(&str, &str)] = &[
    ("tree", "nttypes"),
    ("trust", "model"),
    ("fsmap", "disk"),
    ("fsmap", "ntfs"),
    ("imaging", "store"),
    ("deploy", "imaging"),
    ("deploy", "windows"),
    ("deploy", "store"),
    ("cli", "server"),
];

/// One of our crates with the edges its manifest declares.
#[derive(Debug, Default)]
pub(super) struct Crate {
    pub(super) manifest: PathBuf,
    pub(super) layer: Option<String>,
    /// Our crates it is built with (normal and build dependencies).
    pub(super) needs: BTreeSet<String>,
    /// Our crates its tests are built with.
    pub(super) tests_need: BTreeSet<String>,
}

/// Our crates by short name.
pub(super) type Graph = BTreeMap<String, Crate>;

/// Reads the graph of workspace crates out of the manifests.
pub(super) fn graph(metadata: &Metadata, root: &Path) -> Graph {
    let ours: BTreeSet<&str> = metadata
        .packages
        .iter()
        .filter(|p| metadata.workspace_members.contains(&p.id))
        .map(|p| p.name.as_str())
        .collect();
    let mut graph = Graph::new();
    for package in metadata.packages.iter().filter(|p| ours.contains(p.name.as_str())) {
        let manifest = package.manifest_path.strip_prefix(root).unwrap_or(&package.manifest_path).to_owned();
        let mut item = Crate { manifest, layer: package.layer().map(str::to_owned), ..Crate::default() };
        for dependency in package.dependencies.iter().filter(|d| ours.contains(d.name.as_str())) {
            let edges = if dependency.kind.as_deref() == Some("dev") {
                &mut item.tests_need
            } else {
                &mut item.needs
            };
            edges.insert(short(&dependency.name).to_owned());
        }
        graph.insert(short(&package.name).to_owned(), item);
    }
    graph
}

fn short(name: &str) -> &str {
    name.strip_prefix("gravure-").unwrap_or(name)
}

/// All broken edges and the first cycle of each crate.
pub(super) fn check(graph: &Graph) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, item) in graph {
        let Some(from) = rank(item) else {
            let message = format!(
                "`[package.metadata.arch] layer` is {:?}, expected one of {LAYERS:?} or {DEV:?}",
                item.layer
            );
            found.push(Violation::new(&item.manifest, 0, "layer", message));
            continue;
        };
        for to in &item.needs {
            check_edge(graph, (name, item, from), to, false, &mut found);
        }
        for to in &item.tests_need {
            check_edge(graph, (name, item, from), to, true, &mut found);
        }
        if let Some(path) = cycle_through(graph, name) {
            found.push(Violation::new(&item.manifest, 0, "cycle", path.join(" -> ")));
        }
    }
    found
}

/// Height of the crate's layer; dev is above all.
fn rank(item: &Crate) -> Option<usize> {
    let layer = item.layer.as_deref()?;
    if layer == DEV { Some(LAYERS.len()) } else { LAYERS.iter().position(|l| *l == layer) }
}

fn check_edge(
    graph: &Graph,
    (name, item, from): (&str, &Crate, usize),
    to: &str,
    for_tests: bool,
    found: &mut Vec<Violation>,
) {
    let Some(target) = graph.get(to) else { return };
    let Some(height) = rank(target) else { return };
    let dev = LAYERS.len();
    let allowed = from == dev
        || (height == dev && for_tests)
        || height < from
        || (height == from && SIDEWAYS.contains(&(name, to)));
    if !allowed {
        let kind = if for_tests { "tests use" } else { "depends on" };
        let (own, other) = (item.layer.as_deref().unwrap_or("?"), target.layer.as_deref().unwrap_or("?"));
        let message =
            format!("{name} ({own}) {kind} {to} ({other}): edges go down, sideways only where listed");
        found.push(Violation::new(&item.manifest, 0, "layer", message));
    }
}

/// A way from `start` over build edges back to itself.
fn cycle_through<'a>(graph: &'a Graph, start: &'a str) -> Option<Vec<&'a str>> {
    let mut stack = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while let Some(path) = stack.pop() {
        let last = *path.last()?;
        for next in graph.get(last).into_iter().flat_map(|item| &item.needs) {
            let mut longer = path.clone();
            longer.push(next);
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.as_str()) {
                stack.push(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name layer: needs | tests_need` per line.
    fn sample(text: &str) -> Graph {
        let words = |part: &str| part.split_whitespace().map(str::to_owned).collect();
        text.lines()
            .map(|line| {
                let (head, edges) = line.split_once(':').unwrap();
                let (name, layer) = head.trim().split_once(' ').unwrap();
                let (needs, tests_need) = edges.split_once('|').unwrap_or((edges, ""));
                let item = Crate {
                    manifest: format!("crates/{name}/Cargo.toml").into(),
                    layer: Some(layer.to_owned()),
                    needs: words(needs),
                    tests_need: words(tests_need),
                };
                (name.to_owned(), item)
            })
            .collect()
    }

    #[test]
    fn downward_listed_and_dev_edges_are_allowed() {
        let graph = sample(
            "io base:| testkit\nnttypes base:\ntree base: nttypes\nwim format: io tree | testkit\n\
             imaging engine: wim io\ndeploy engine: imaging\nserver app: deploy\ncli app: server deploy\n\
             testkit dev: io imaging\nxtask dev: testkit cli",
        );
        assert_eq!(check(&graph), []);
    }

    #[test]
    fn every_other_edge_is_named() {
        let cases = [
            ("io base: wim\nwim format:", "io (base) depends on wim (format)"),
            ("wim format: disk\ndisk format:", "wim (format) depends on disk (format)"),
            ("wim format: | disk\ndisk format:", "wim (format) tests use disk (format)"),
            ("cli app: payload\npayload app:", "cli (app) depends on payload (app)"),
            ("server app: cli\ncli app:", "server (app) depends on cli (app)"),
            ("cli app: testkit\ntestkit dev:", "cli (app) depends on testkit (dev)"),
            ("nttypes base: tree\ntree base:", "nttypes (base) depends on tree (base)"),
        ];
        for (text, expected) in cases {
            let found = check(&sample(text));
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].message.starts_with(expected), "{text}: {}", found[0].message);
        }
    }

    #[test]
    fn an_unknown_layer_is_refused() {
        let found = check(&sample("io bottom:"));
        assert!(found[0].message.contains("bottom"), "{found:?}");
    }

    #[test]
    fn a_cycle_is_shown_as_a_path() {
        let found = check(&sample("a dev: b\nb dev: c\nc dev: a"));
        let cycles: Vec<_> = found.iter().filter(|v| v.rule == "cycle").map(|v| v.message.as_str()).collect();
        assert_eq!(cycles, ["a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c"]);
    }
}
