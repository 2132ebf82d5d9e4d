//! Pages in rows: the loop writes a page with thousands of users over several rounds.

use crate::daemon::admin::view::View;

/// Writes one page. Between two rows the daemon serves users, so that numbers may change; after a
/// reload the page is started again.
pub(super) trait RowWriter {
    /// Appends the next row, which is short and does not grow with the number of users. `false` =
    /// it was the last one.
    fn write_row(&mut self, view: &View<'_>, out: &mut String) -> bool;
}
