//! `/stats?text`: the numbers of `/stats` as a table, one line per user.

use std::time::Duration;

use crate::accounts::users::UserId;
use crate::daemon::admin::rows::RowWriter;
use crate::daemon::admin::stats;
use crate::daemon::admin::view::View;

/// Writes the table with a header line. Columns are separated by two spaces and as wide as their
/// longest cell, so that every row is computed twice.
#[derive(Default)]
pub(super) struct TableWriter {
    widths: [usize; COLUMNS],
    is_measured: bool,
    /// The next row; 0 = the header line.
    at: usize,
}

impl RowWriter for TableWriter {
    fn write_row(&mut self, view: &View<'_>, out: &mut String) -> bool {
        let row = match self.at.checked_sub(1) {
            None => Some(HEAD.map(str::to_owned)),
            Some(at) => view.accounts.users.nth(at).map(|id| cells(view, id)),
        };
        self.at += 1;
        match row {
            Some(row) if self.is_measured => push_row(out, &row, &self.widths),
            Some(row) => {
                let widths = self.widths.iter_mut().zip(&row);
                widths.for_each(|(width, cell)| *width = len(cell).max(*width));
            }
            None if self.is_measured => return false,
            None => (self.is_measured, self.at) = (true, 0),
        }
        true
    }
}

fn cells(view: &View<'_>, id: UserId) -> [String; COLUMNS] {
    let (accounts, time, users) = (view.accounts, view.time, &view.accounts.users);
    let user = users.get(id);
    let now = time.wall_of(time.now.0);
    let (bytes_in, bytes_out) = accounts.totals_of(user).unwrap_or((user.bytes_in, user.bytes_out));
    let seen = match stats::last_seen(accounts, user, time) {
        Some(at) => ago(now.saturating_sub(at)),
        None => "never".to_owned(),
    };
    let mut name = user.name().to_owned();
    if !user.is_enabled() {
        name.push_str(" (off)");
    }
    let connections = users.connections_of(id).to_string();
    [name, connections, bytes(bytes_in), bytes(bytes_out), seen, user.refused.to_string()]
}

fn push_row(out: &mut String, row: &[String; COLUMNS], widths: &[usize; COLUMNS]) {
    for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
        let gap = " ".repeat(width.saturating_sub(len(cell)));
        // Names are aligned left, numbers right.
        let (before, after) = if at == 0 { ("", gap.as_str()) } else { (gap.as_str(), "") };
        out.push_str(if at == 0 { "" } else { "  " });
        out.push_str(before);
        out.push_str(cell);
        out.push_str(after);
    }
    out.push('\n');
}

fn len(cell: &str) -> usize {
    cell.chars().count()
}

/// `999`, `1.0 KB`, `12 MB`: two or three digits and a power of 1000.
fn bytes(count: u64) -> String {
    let (mut whole, mut tenths, mut unit) = (count, 0, "");
    for next in ["KB", "MB", "GB", "TB", "PB", "EB"] {
        if whole < 1000 {
            break;
        }
        (whole, tenths, unit) = (whole / 1000, whole % 1000 / 100, next);
    }
    match (unit, whole < 10) {
        ("", _) => whole.to_string(),
        (_, true) => format!("{whole}.{tenths} {unit}"),
        _ => format!("{whole} {unit}"),
    }
}

/// `now`, `5 min ago`, `3 h ago`, `12 d ago`.
fn ago(passed: Duration) -> String {
    let seconds = passed.as_secs();
    let (count, unit) = match seconds {
        0..60 => return "now".to_owned(),
        60..3_600 => (seconds / 60, "min"),
        3_600..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{count} {unit} ago")
}

const COLUMNS: usize = 6;
const HEAD: [&str; COLUMNS] = ["USER", "CONNECTIONS", "IN", "OUT", "LAST SEEN", "REFUSED"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_times_are_short() {
        for (count, want) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1.0 KB"),
            (9_999, "9.9 KB"),
            (10_000, "10 KB"),
            (12_345_678, "12 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(bytes(count), want);
        }
        for (seconds, want) in [
            (0, "now"),
            (59, "now"),
            (60, "1 min ago"),
            (3_599, "59 min ago"),
            (3_600, "1 h ago"),
            (172_800, "2 d ago"),
        ] {
            assert_eq!(ago(Duration::from_secs(seconds)), want);
        }
    }
}
