//! Maps from names to values as sorted vectors with binary search. `BTreeMap` would do the same,
//! but adds code for each value type.

use crate::util::order::order;

/// Sorts entries by name. Of several entries with the same name, keeps the last one.
pub fn sort<T>(list: &mut Vec<(String, T)>) {
    if list.is_sorted_by(|one, next| one.0 < next.0) {
        return;
    }
    let order = order(list.len(), &|a, b| list[a].0.cmp(&list[b].0));
    let same_name = order.chunk_by(|a, b| list[*a].0 == list[*b].0);
    let kept: Vec<usize> = same_name.filter_map(|same| same.last().copied()).collect();
    let mut entries: Vec<_> = std::mem::take(list).into_iter().map(Some).collect();
    list.extend(kept.into_iter().filter_map(|at| entries[at].take()));
}

/// The index of `name` in a sorted list.
pub fn find<T>(sorted: &[(String, T)], name: &str) -> Option<usize> {
    sorted.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entry_of_a_name_is_kept_and_found() {
        let names = ["b", "a", "b", "", "b", "a"];
        let mut list: Vec<_> = names.iter().map(ToString::to_string).zip(0..).collect();
        sort(&mut list);
        let sorted: Vec<_> = list.iter().map(|(name, at)| (name.as_str(), *at)).collect();
        assert_eq!(sorted, [("", 3), ("a", 5), ("b", 4)]);
        let indices = ["", "a", "b", "aa", "c"].map(|name| find(&list, name));
        assert_eq!(indices, [Some(0), Some(1), Some(2), None, None]);
    }
}
