//! From the paths and patterns that people write to the names of an image.

use gravure_nttypes::NtName;
use gravure_tree::{NodeId, Tree};

use super::Parents;
use crate::Error;
use crate::glob::{Glob, NameCase};

/// Most names one list of patterns may come to: far more than an image has files, far less than memory.
const MAX_SELECTED: usize = 10_000_000;

/// A path or pattern, as it was written. Names are separated by `/` or `\`; the first separator may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The path or pattern.
    pub path: String,
    /// Whether the directories above what it names are made too.
    pub parents: Parents,
}

/// Whether `*` and `?` mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wildcards {
    /// They stand for any characters, and any character, of one name.
    #[default]
    Expand,
    /// They are characters like others.
    Literal,
}

/// What happens when a path or pattern matches nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoMatch {
    /// That is an error.
    #[default]
    Fail,
    /// It is left out.
    Skip,
}

/// How paths are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SelectOptions {
    /// Whether names that differ in case only are equal.
    pub case: NameCase,
    /// Whether `*` and `?` mean something.
    pub wildcards: Wildcards,
    /// What happens when a path or pattern matches nothing.
    pub no_match: NoMatch,
}

/// Something of an image that is to be extracted, by its names from the root down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Names; none for the root.
    pub names: Vec<NtName>,
    /// Whether the directories above it are made too.
    pub parents: Parents,
}

impl Selected {
    /// The path with `/` before each name.
    pub fn display_path(&self) -> String {
        if self.names.is_empty() {
            return "/".to_owned();
        }
        self.names.iter().map(|name| format!("/{name}")).collect()
    }

    pub(super) fn node(&self, tree: &Tree) -> Option<NodeId> {
        self.names.iter().try_fold(tree.root(), |at, name| Some(tree.child(at, name)?.node))
    }
}

/// Finds what `wanted` names in `tree`, each once and nothing that lies in another of them. Returns what matched nothing
/// beside it, when that is allowed.
pub fn select(
    tree: &Tree,
    wanted: &[Wanted],
    options: &SelectOptions,
) -> Result<(Vec<Selected>, Vec<String>), Error> {
    let mut selected: Vec<Selected> = Vec::new();
    let mut unmatched = Vec::new();
    for Wanted { path, parents } in wanted {
        let mut found = vec![(tree.root(), Vec::new())];
        for name in split_path(path) {
            found = below(tree, &found, name, options);
            if selected.len() + found.len() > MAX_SELECTED {
                return Err(Error::Usage {
                    what: path.clone(),
                    expected: format!("at most {MAX_SELECTED} files and directories"),
                    found: "more".to_owned(),
                });
            }
        }
        match (found.is_empty(), options.no_match) {
            (true, NoMatch::Fail) => return Err(Error::NotFound { what: "path", which: path.clone() }),
            (true, NoMatch::Skip) => unmatched.push(path.clone()),
            _ => {}
        }
        selected.extend(found.into_iter().map(|(_, names)| Selected { names, parents: *parents }));
    }
    Ok((without_repetitions(selected), unmatched))
}

/// The lines of a list of paths: blank lines and those that start with `#` or `;` mean nothing, nor does space around a
/// path.
pub fn parse_path_list(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])).map(str::to_owned).collect()
}

/// Names of a path as people write it.
pub(crate) fn split_path(path: &str) -> impl Iterator<Item = &str> {
    path.split(['/', '\\']).filter(|name| !name.is_empty())
}

type Found = (NodeId, Vec<NtName>);

fn below(tree: &Tree, at: &[Found], name: &str, options: &SelectOptions) -> Vec<Found> {
    let glob = match options.wildcards {
        Wildcards::Expand => Glob::new(name, options.case),
        Wildcards::Literal => Glob::literal(name, options.case),
    };
    let exact = NtName::from(name);
    let mut found = Vec::new();
    for (node, names) in at {
        let with = |entry: &gravure_tree::Entry| {
            let mut names = names.clone();
            names.push(entry.name.clone());
            (entry.node, names)
        };
        let children = || tree.children(*node).iter().filter(|entry| glob.matches(&entry.name));
        match (options.wildcards, options.case) {
            (Wildcards::Literal, _) => {
                // One file at most: the one whose name is exactly that, before one that differs in case.
                let one = tree.child(*node, &exact).or_else(|| children().next());
                found.extend(one.map(with));
            }
            (Wildcards::Expand, NameCase::Exact) if !glob.has_wildcard() => {
                found.extend(tree.child(*node, &exact).map(with));
            }
            (Wildcards::Expand, _) => found.extend(children().map(with)),
        }
    }
    found
}

/// Without what comes twice, or comes with a directory that is selected too.
fn without_repetitions(selected: Vec<Selected>) -> Vec<Selected> {
    let all: std::collections::HashSet<&[NtName]> = selected.iter().map(|one| one.names.as_slice()).collect();
    let mut seen = std::collections::HashSet::new();
    let keeps: Vec<bool> = selected
        .iter()
        .map(|one| {
            let is_inside = (0..one.names.len()).any(|len| all.contains(&one.names[..len]));
            !is_inside && seen.insert(one.names.as_slice())
        })
        .collect();
    selected.into_iter().zip(keeps).filter(|(_, keeps)| *keeps).map(|(one, _)| one).collect()
}

#[cfg(test)]
mod tests {
    use gravure_tree::{ContentRef, Node};

    use super::*;

    fn sample() -> Tree {
        let dir = || Node { children: Some(Vec::new()), ..Node::default() };
        let file = || Node { data: Some(ContentRef::inline(*b"x")), ..Node::default() };
        let mut tree = Tree::new(dir());
        for top in ["d1", "d2"] {
            let above = tree.add(tree.root(), top.into(), dir()).unwrap();
            let s = tree.add(above, "s".into(), dir()).unwrap();
            tree.add(s, "f1".into(), file()).unwrap();
            tree.add(s, "F1".into(), file()).unwrap();
        }
        tree.add(tree.root(), "a*".into(), file()).unwrap();
        tree
    }

    fn paths(wanted: &[&str], options: SelectOptions) -> Result<String, Error> {
        let wanted: Vec<Wanted> =
            wanted.iter().map(|path| Wanted { path: (*path).to_owned(), parents: Parents::Drop }).collect();
        let (selected, unmatched) = select(&sample(), &wanted, &options)?;
        let mut paths: Vec<String> = selected.iter().map(Selected::display_path).collect();
        paths.extend(unmatched.iter().map(|path| format!("!{path}")));
        Ok(paths.join(" "))
    }

    #[test]
    fn patterns_find_what_they_name() {
        let exact = SelectOptions::default();
        let fold = SelectOptions { case: NameCase::Ignore, ..exact };
        let literal = SelectOptions { wildcards: Wildcards::Literal, ..exact };
        let literal_fold = SelectOptions { wildcards: Wildcards::Literal, ..fold };
        let skip = SelectOptions { no_match: NoMatch::Skip, ..exact };
        let cases: [(&[&str], SelectOptions, Option<&str>); 16] = [
            (&["/d1/s/f1"], exact, Some("/d1/s/f1")),
            (&["d1\\s\\f1"], exact, Some("/d1/s/f1")),
            (&["//d1//s/"], exact, Some("/d1/s")),
            (&["/"], exact, Some("/")),
            (&["/d?/s"], exact, Some("/d1/s /d2/s")),
            (&["/*/*/f*"], exact, Some("/d1/s/f1 /d2/s/f1")),
            (&["/d1/s/f1", "/d1/s/f1"], exact, Some("/d1/s/f1")),
            (&["/d1/s/f1", "/d1"], exact, Some("/d1")),
            (&["/D1"], exact, None),
            (&["/d1/s/f1/x"], exact, None),
            (&["/d1/../a*"], exact, None),
            (&["/D1/S/f1"], fold, Some("/d1/s/f1 /d1/s/F1")),
            (&["/D1/S/F1"], literal_fold, Some("/d1/s/F1")),
            (&["a*"], literal, Some("/a*")),
            (&["d*"], literal, None),
            (&["/nope*", "a?"], skip, Some("/a* !/nope*")),
        ];
        for (wanted, options, expected) in cases {
            assert_eq!(paths(wanted, options).ok().as_deref(), expected, "{wanted:?}");
        }
        let error = paths(&["nope"], exact).unwrap_err();
        assert_eq!(error.to_string(), "path nope not found");
    }

    #[test]
    fn lists_have_comments_and_spaces() {
        let text = "; a\n# b\r\n\n  /Program Files\\A*  \nx";
        assert_eq!(parse_path_list(text), ["/Program Files\\A*", "x"]);
    }
}
