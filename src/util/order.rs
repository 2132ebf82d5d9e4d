//! Sorts that are seldom and need not be fast. They share one instance of the library's sort, which
//! has up to 16 KB for each type and key.

use std::cmp::Ordering;

/// A sorted copy of a list. Equal items keep their order.
pub fn sorted<T: Copy>(list: &[T], compare: &dyn Fn(&T, &T) -> Ordering) -> Vec<T> {
    let order = order(list.len(), &|a, b| compare(&list[a], &list[b]));
    order.into_iter().map(|at| list[at]).collect()
}

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
        let by_length = sorted(&words, &|a, b| a.len().cmp(&b.len()));
        assert_eq!(by_length, ["", "a", "b", "cc", "bb", "aa"]);
    }
}
