//! The results of a run: printed, collected for JSON, and checked against `gates.toml`.

use toml_edit::DocumentMut;

use super::options::Outcome;

/// The gates and targets.
const GATES: &str = include_str!("../gates.toml");

/// The results so far.
pub struct Report {
    limits: DocumentMut,
    numbers: Vec<(String, f64)>,
    broken: Vec<String>,
}

impl Report {
    /// An empty report; fails if `gates.toml` is not valid TOML.
    pub fn new() -> Outcome<Self> {
        Ok(Self { limits: GATES.parse()?, numbers: Vec::new(), broken: Vec::new() })
    }

    /// Adds a result under its name in the JSON.
    pub fn note(&mut self, name: &str, value: f64) {
        self.numbers.push((name.to_owned(), value));
    }

    /// The target `key`; a good result is below it.
    pub fn target(&self, key: &str) -> Outcome<f64> {
        self.limit("target", key)
    }

    /// Checks `value` against the gate of the same name and prints the verdict.
    pub fn hold(&mut self, name: &str, value: f64) -> Outcome<()> {
        let gate = self.limit("gate", name)?;
        println!("{name}: {value:.0}, gate {gate:.0}: {}", verdict(value, gate));
        if value > gate {
            self.broken.push(name.to_owned());
        }
        Ok(())
    }

    /// All checked results are within their gates; prints those that are not.
    pub fn gates_hold(&self) -> bool {
        for name in &self.broken {
            eprintln!("gate broken: {name}");
        }
        self.broken.is_empty()
    }

    /// One flat object, in the order of measuring.
    pub fn to_json(&self) -> String {
        let fields: Vec<String> =
            self.numbers.iter().map(|(name, value)| format!("  \"{name}\": {value:.6}")).collect();
        format!("{{\n{}\n}}\n", fields.join(",\n"))
    }

    fn limit(&self, table: &str, key: &str) -> Outcome<f64> {
        let item = self.limits.get(table).and_then(|table| table.get(key));
        let number = item.and_then(|i| i.as_float().or(i.as_integer().map(|whole| whole as f64)));
        number.ok_or_else(|| format!("gates.toml has no number {table}.{key}").into())
    }
}

/// The verdict on a number and its limit, for a table.
pub fn verdict(value: f64, limit: f64) -> &'static str {
    if value <= limit { "met" } else { "MISSED" }
}

/// The median of `samples`; 0 if there are none.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// Smallest and largest of `samples`, for a table.
pub fn range(samples: &[f64]) -> String {
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(0.0, f64::max);
    format!("{least:.3}..{most:.3}")
}
