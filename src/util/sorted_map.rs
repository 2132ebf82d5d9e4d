//! Lists that are kept in the order of names and looked up by halving. A map would do the same, and
//! each map of other contents is compiled anew.

/// Puts a list into the order of its names. Of several entries with the same name, the last one
/// stays.
pub fn sort<T>(list: &mut Vec<(String, T)>) {
    list.sort_by(|(a, _), (b, _)| a.cmp(b));
    list.dedup_by(|later, kept| {
        let are_twins = later.0 == kept.0;
        if are_twins {
            std::mem::swap(later, kept);
        }
        are_twins
    });
}

/// Where `name` stands in a sorted list.
pub fn find<T>(sorted: &[(String, T)], name: &str) -> Option<usize> {
    sorted.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_stays_and_is_found() {
        let names = ["b", "a", "b", "", "b", "a"];
        let mut list: Vec<_> = names.iter().map(ToString::to_string).zip(0..).collect();
        sort(&mut list);
        let sorted: Vec<_> = list.iter().map(|(name, at)| (name.as_str(), *at)).collect();
        assert_eq!(sorted, [("", 3), ("a", 5), ("b", 4)]);
        let places = ["", "a", "b", "aa", "c"].map(|name| find(&list, name));
        assert_eq!(places, [Some(0), Some(1), Some(2), None, None]);
    }
}
