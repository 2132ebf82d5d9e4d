//! No circle of imports among files. A file imports another when it names an item of it, in a
//! `use` or in a path. A path belongs to the file of its longest prefix that is a module, so an
//! item that is re-exported belongs to the file that re-exports it. `mod x;` imports nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::source::{Source, line_of};
use crate::tokens::{InlineModule, Token, inline_modules, tokens};

/// Aliases of aliases are followed this far.
const MOST_ALIASES: usize = 8;

/// One complaint per group of files of `folder` (`src/`) that import each other in a circle.
pub fn circles(folder: &str, sources: &[Source]) -> Vec<String> {
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let arrows = arrows(folder, sources);
    let targets =
        |from: usize| arrows.range((from, 0)..(from + 1, 0)).map(|(&(_, to), &line)| (to, line));
    let reach: Vec<BTreeSet<usize>> = (0..sources.len())
        .map(|start| {
            let (mut seen, mut left) = (BTreeSet::new(), vec![start]);
            while let Some(from) = left.pop() {
                left.extend(targets(from).map(|(to, _)| to).filter(|&to| seen.insert(to)));
            }
            seen
        })
        .collect();
    let mut complaints = Vec::new();
    let mut done = BTreeSet::new();
    for start in 0..sources.len() {
        if !reach[start].contains(&start) || done.contains(&start) {
            continue;
        }
        let group: BTreeSet<usize> =
            reach[start].iter().copied().filter(|&other| reach[other].contains(&start)).collect();
        let mut text = format!("{}:1: {} files import in a circle:", names[start], group.len());
        for &from in &group {
            for (to, line) in targets(from).filter(|(to, _)| group.contains(to)) {
                text.push_str(&format!("\n    {}:{line} -> {}", names[from], names[to]));
            }
        }
        complaints.push(text);
        done.extend(group);
    }
    complaints
}

/// Which file imports which, by index, with the first line that does.
fn arrows(folder: &str, sources: &[Source]) -> BTreeMap<(usize, usize), usize> {
    let modules: HashMap<Vec<&str>, usize> = sources
        .iter()
        .enumerate()
        .filter_map(|(index, source)| Some((module_path(folder, &source.name)?, index)))
        .collect();
    let mut arrows = BTreeMap::new();
    for (from, source) in sources.iter().enumerate() {
        let Some(own) = module_path(folder, &source.name) else { continue };
        for (at, to) in File::new(&modules, own, &source.product).imports() {
            if to != from {
                let line = line_of(&source.product, at);
                let first = arrows.entry((from, to)).or_insert(line);
                *first = line.min(*first);
            }
        }
    }
    arrows
}

/// `src/a/mod.rs` and `src/a.rs` are the module `a`, `src/lib.rs` is the root.
fn module_path<'a>(folder: &str, name: &'a str) -> Option<Vec<&'a str>> {
    let below = name.strip_prefix(folder)?.strip_suffix(".rs")?;
    let mut path: Vec<&str> = below.split('/').collect();
    let is_named_by_its_folder = path.last() == Some(&"mod") || path == ["lib"];
    if is_named_by_its_folder {
        path.pop();
    }
    Some(path)
}

/// One leaf of a `use` declaration.
struct Use<'a> {
    at: usize,
    scope: Vec<&'a str>,
    path: Vec<&'a str>,
    /// The name that the file knows it by; `None` for a glob and for `as _`.
    alias: Option<&'a str>,
}

/// A file while its paths are resolved.
struct File<'a> {
    modules: &'a HashMap<Vec<&'a str>, usize>,
    own: Vec<&'a str>,
    tokens: Vec<Token<'a>>,
    inline: Vec<InlineModule<'a>>,
    uses: Vec<Use<'a>>,
}

impl<'a> File<'a> {
    fn new(modules: &'a HashMap<Vec<&str>, usize>, own: Vec<&'a str>, code: &'a str) -> Self {
        let tokens = tokens(code);
        let inline = inline_modules(&tokens);
        Self { modules, own, tokens, inline, uses: Vec::new() }
    }

    /// Where an item of another file is named, and that file.
    fn imports(mut self) -> Vec<(usize, usize)> {
        let paths = self.read_paths();
        let mut found = Vec::new();
        let mut heads = BTreeSet::new();
        for (at, scope, path) in &paths {
            heads.insert(path[0]);
            found.extend(
                self.resolve(scope, path, 0).and_then(|path| Some((*at, self.file(&path)?))),
            );
        }
        heads.extend(self.uses.iter().map(|used| used.path[0]));
        for used in &self.uses {
            let Some(path) = self.resolve(&used.scope, &used.path, 0) else { continue };
            // A module under a name of this file imports what is named through it.
            let is_prefix = used.alias.is_some_and(|alias| heads.contains(alias));
            if !(is_prefix && self.modules.contains_key(&path)) {
                found.extend(self.file(&path).map(|to| (used.at, to)));
            }
        }
        found
    }

    /// Collects the `use` declarations and returns all other paths of two names or more.
    fn read_paths(&mut self) -> Vec<(usize, Vec<&'a str>, Vec<&'a str>)> {
        let mut paths = Vec::new();
        let mut index = 0;
        while index < self.tokens.len() {
            let token = self.tokens[index];
            let next = self.tokens.get(index + 1).map_or("", |next| next.text);
            if token.text == "use" && next != "<" {
                index = self.read_use(index + 1, Vec::new());
            } else if token.is_name() && next == "::" {
                let scope = self.scope(index);
                let (path, end) = self.read_path(index);
                if path.len() > 1 && !self.is_outside(index) {
                    paths.push((token.at, scope, path));
                }
                index = end;
            } else {
                index += 1;
            }
        }
        paths
    }

    /// Reads one tree of a `use` declaration and returns the index of what follows it.
    fn read_use(&mut self, start: usize, prefix: Vec<&'a str>) -> usize {
        let text = |index: usize| self.tokens.get(index).map_or(";", |token| token.text);
        let (mut path, mut index, mut alias) = (prefix, start, None);
        let mut is_glob = false;
        loop {
            match text(index) {
                "::" if index == start => path.push(""),
                "::" => {}
                "*" => is_glob = true,
                "as" => {
                    alias = Some(text(index + 1));
                    index += 1;
                }
                "{" => {
                    index += 1;
                    while !matches!(text_at(&self.tokens, index), "}" | ";") {
                        index = self.read_use(index, path.clone());
                        index += usize::from(text_at(&self.tokens, index) == ",");
                    }
                    return index + 1;
                }
                "self" if !path.is_empty() => {}
                name if name.starts_with(|c: char| c.is_alphanumeric() || c == '_') => {
                    path.push(name);
                }
                _ => break,
            }
            index += 1;
        }
        if let (Some(last), Some(token)) = (path.last().copied(), self.tokens.get(start)) {
            let alias = if is_glob { None } else { alias.or(Some(last)).filter(|&a| a != "_") };
            self.uses.push(Use { at: token.at, scope: self.scope(start), path, alias });
        }
        index
    }

    /// The names of the path that begins at `index`, and the index of what follows it.
    fn read_path(&self, index: usize) -> (Vec<&'a str>, usize) {
        let (mut path, mut end) = (vec![self.tokens[index].text], index + 1);
        while let [colons, name, ..] = &self.tokens[end..]
            && colons.text == "::"
            && name.is_name()
        {
            path.push(name.text);
            end += 2;
        }
        (path, end)
    }

    /// `::std::x` leads out of the crate, and `pub(in crate::x)` imports nothing.
    fn is_outside(&self, index: usize) -> bool {
        let before = |back| index.checked_sub(back).map_or("", |at| self.tokens[at].text);
        before(1) == "::" || (before(1) == "in" && before(2) == "(" && before(3) == "pub")
    }

    /// The module that the token belongs to.
    fn scope(&self, index: usize) -> Vec<&'a str> {
        let inner = self.inline.iter().filter(|module| module.body.contains(&index));
        self.own.iter().copied().chain(inner.map(|module| module.name)).collect()
    }

    /// The path from the root of the crate; `None` when it leads out of the crate.
    fn resolve(&self, scope: &[&'a str], path: &[&'a str], depth: usize) -> Option<Vec<&'a str>> {
        let (head, rest) = path.split_first()?;
        let joined = |base: &[&'a str], rest: &[&'a str]| Some([base, rest].concat());
        match *head {
            "crate" => joined(&[], rest),
            "self" => joined(scope, rest),
            "super" => {
                let climbs = path.iter().take_while(|&&name| name == "super").count();
                joined(&scope[..scope.len().checked_sub(climbs)?], &path[climbs..])
            }
            head => {
                let child = [scope, &[head]].concat();
                if self.modules.contains_key(&child) {
                    return joined(&child, rest);
                }
                let used = self.uses.iter().find(|used| {
                    used.alias == Some(head) && used.scope == scope && used.path != path
                })?;
                let base = (depth < MOST_ALIASES)
                    .then(|| self.resolve(scope, &used.path, depth + 1))
                    .flatten()?;
                joined(&base, rest)
            }
        }
    }

    /// The file of the longest prefix that is a module.
    fn file(&self, path: &[&'a str]) -> Option<usize> {
        (0..=path.len()).rev().find_map(|length| self.modules.get(&path[..length]).copied())
    }
}

fn text_at<'a>(tokens: &[Token<'a>], index: usize) -> &'a str {
    tokens.get(index).map_or(";", |token| token.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> =
            files.iter().map(|(name, text)| Source::new(name, text)).collect();
        circles("src/", &sources)
    }

    #[test]
    fn a_circle_is_refused_by_whichever_path_it_is_made() {
        let back = ("src/a/y.rs", "use super::x::X;");
        for text in [
            "use super::y::Y;",
            "use crate::a::y;\nfn f() { y::f() }",
            "use crate::a::{self, y::{Y, Z}};",
            "use super::y::*;",
            "use super::y::Y as _;",
            "fn f() -> crate::a::y::Y { }",
            "fn f() { let y: super::y::Y<u8>; }",
            "mod inner { fn f() { super::super::y::f() } }",
            "use crate::a as b;\nfn f() { b::y::f() }",
            "use super::y;\nuse y::Y;",
        ] {
            let found =
                complaints(&[("src/a/mod.rs", "mod x;\nmod y;"), ("src/a/x.rs", text), back]);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].contains("-> src/a/x.rs") && found[0].contains("-> src/a/y.rs"));
            assert!(!found[0].contains("mod.rs"), "{text}: {found:?}");
        }
    }

    #[test]
    fn using_a_childs_item_is_an_import_and_declaring_the_child_is_not() {
        let child = ("src/a/x.rs", "use super::A;");
        for text in ["mod x;\nuse x::X;", "pub use self::x::X;", "fn f() { x::f() }"] {
            assert_eq!(complaints(&[("src/a.rs", text), child]).len(), 1, "{text}");
        }
        for text in ["pub mod x;\npub struct A;", "pub(in crate::a::x) struct A;"] {
            assert_eq!(complaints(&[("src/a.rs", text), child]), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_long_circle_is_one_complaint_with_its_lines() {
        let found = complaints(&[
            ("src/lib.rs", "pub mod a;\npub const N: u8 = 1;"),
            ("src/a.rs", "\nuse crate::b::B;"),
            ("src/b.rs", "use crate::c::C;"),
            ("src/c.rs", "use crate::{N, a};\nuse std::b;\nfn f() { a::f() }"),
            ("src/d.rs", "use crate::a::A;"),
        ]);
        let expected = "src/a.rs:1: 3 files import in a circle:\
            \n    src/a.rs:2 -> src/b.rs\n    src/b.rs:1 -> src/c.rs\n    src/c.rs:3 -> src/a.rs";
        assert_eq!(found, [expected]);
    }

    #[test]
    fn tests_foreign_paths_and_sisters_below_a_shared_parent_make_no_circle() {
        let found = complaints(&[
            ("src/a/mod.rs", "mod x;\nmod y;\nmod tests;\nfn f() { x::f() }"),
            ("src/a/x.rs", "use super::y;\nfn f() { y::f(); ::a::f(); }"),
            ("src/a/y.rs", "#[cfg(test)]\nmod tests { use super::super::x::X; }\nuse x::a::Y;"),
            ("src/a/tests.rs", "use super::*;"),
        ]);
        assert_eq!(found, [""; 0]);
    }
}
