//! Sorts that are seldom and need not be fast. They share one instance of the library's sort, which
//! has up to 16 KB for each type and key.

use std::cmp::Ordering;

/// The indices of a list of `len` items in the order of the items. Equal items keep their order.
pub fn order(len: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_unstable_by(|a, b| compare(*a, *b).then(a.cmp(b)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_items_keep_their_order() {
        let words = ["cc", "a", "bb", "", "b", "aa"];
        let by_length = order(words.len(), &|a, b| words[a].len().cmp(&words[b].len()));
        assert_eq!(by_length, [3, 1, 4, 0, 2, 5]);
        assert_eq!(order(0, &|_, _| Ordering::Equal), [0; 0]);
    }
}
