//! A strict parser of the Prometheus text format 0.0.4: what a collector would refuse fails here.

use std::collections::{BTreeMap, BTreeSet};

/// A parsed page.
pub struct Page {
    kinds: BTreeMap<String, String>,
    samples: BTreeMap<String, (BTreeMap<String, String>, u64)>,
}

impl Page {
    /// The type of a metric.
    pub fn kind(&self, name: &str) -> Option<&str> {
        self.kinds.get(name).map(String::as_str)
    }

    /// The names of all metrics.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    /// A value by its sample: name, and labels in the order and form of the page.
    pub fn get(&self, sample: &str) -> Option<u64> {
        self.samples.get(sample).map(|(_, value)| *value)
    }

    /// The same; the sample must exist.
    pub fn number(&self, sample: &str) -> u64 {
        self.get(sample).unwrap_or_else(|| panic!("{sample} in {:?}", self.samples.keys()))
    }

    /// The labels of every sample of a metric, unescaped.
    pub fn labels(&self, name: &str) -> Vec<&BTreeMap<String, String>> {
        let is_it = |key: &&String| key.split('{').next() == Some(name);
        self.samples.iter().filter(|(key, _)| is_it(key)).map(|(_, (labels, _))| labels).collect()
    }
}

/// Parses a page; panics at anything that the format forbids.
pub fn parse(text: &str) -> Page {
    assert!(text.ends_with('\n'), "the last line ends");
    let mut page = Page { kinds: BTreeMap::new(), samples: BTreeMap::new() };
    let (mut helped, mut closed) = (BTreeSet::new(), BTreeSet::new());
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(helped.insert(name.to_owned()), "HELP of {name} twice");
            assert!(help.ends_with('.') && !help.contains('\\'), "{help}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(helped.contains(name), "TYPE of {name} before its HELP");
            assert!(matches!(kind, "gauge" | "counter"), "{kind}");
            assert!(is_name(name), "{name}");
            closed.insert(std::mem::replace(&mut current, name.to_owned()));
            assert!(!closed.contains(name), "the lines of {name} are not together");
            assert!(page.kinds.insert(name.to_owned(), kind.to_owned()).is_none());
        } else {
            let (key, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
            assert_eq!(name, current, "a sample below another name");
            let labels = read_labels(labels);
            let value = value.parse().unwrap_or_else(|_| panic!("{value} is no number"));
            assert!(page.samples.insert(key.to_owned(), (labels, value)).is_none(), "{key} twice");
        }
    }
    page
}

/// `name="value",…}`.
fn read_labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while rest != "}" {
        let (name, behind) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name) && !name.starts_with("__") && !name.contains(':'), "{name}");
        let mut value = String::new();
        let mut chars = behind.char_indices();
        let end = loop {
            match chars.next().expect("the end of a value") {
                (at, '"') => break at,
                (_, '\\') => match chars.next().expect("an escape").1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => panic!("\\{c} is no escape"),
                },
                (_, c) => value.push(c),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} twice");
        rest = &behind[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}

fn is_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}
