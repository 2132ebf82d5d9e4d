//! Incremental heapsort: sorts a long list in place in steps of bounded time, so that a slow
//! machine can serve connections in between. Heapsort needs no extra memory and has no quadratic
//! case.

/// A list that is being sorted in ascending order.
pub struct IncrementalSort<T> {
    items: Vec<T>,
    stage: SortStage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SortStage {
    /// The heap property holds for all indices from this one on.
    Heaping(usize),
    /// The items from this index on are sorted, and no item before is greater.
    Sorting(usize),
}

impl<T: Ord> IncrementalSort<T> {
    /// Starts to sort a list. A sorted list is done at once.
    pub fn new(items: Vec<T>) -> Self {
        let stage = match items.is_sorted() {
            true => SortStage::Sorting(0),
            false => SortStage::Heaping(items.len() / 2),
        };
        Self { items, stage }
    }

    /// Whether the list is sorted.
    pub fn is_done(&self) -> bool {
        matches!(self.stage, SortStage::Sorting(0..=1))
    }

    /// Places at most `budget` items and subtracts their number from `budget`. Each costs at most
    /// `2 * log2(len)` comparisons.
    pub fn step(&mut self, budget: &mut usize) {
        while *budget > 0 && !self.is_done() {
            *budget -= 1;
            self.stage = match self.stage {
                SortStage::Heaping(0) => SortStage::Sorting(self.items.len()),
                SortStage::Heaping(index) => {
                    sift_down(&mut self.items, index - 1);
                    SortStage::Heaping(index - 1)
                }
                SortStage::Sorting(end) => {
                    let last = end.saturating_sub(1);
                    if let Some(heap) = self.items.get_mut(..end) {
                        heap.swap(0, last);
                    }
                    if let Some(heap) = self.items.get_mut(..last) {
                        sift_down(heap, 0);
                    }
                    SortStage::Sorting(last)
                }
            };
        }
    }

    /// Sorts what is left, and returns the list.
    pub fn finish(mut self) -> Vec<T> {
        let mut unlimited = usize::MAX;
        self.step(&mut unlimited);
        self.items
    }

    /// Returns the list; it is sorted if [`IncrementalSort::is_done`].
    pub fn into_items(self) -> Vec<T> {
        self.items
    }
}

/// Moves the item at `index` down until no child is greater.
fn sift_down<T: Ord>(heap: &mut [T], mut index: usize) {
    loop {
        let left = 2 * index + 1;
        let children = heap.get(left..heap.len().min(left + 2)).unwrap_or_default();
        let child = match children {
            [] => return,
            [_] => left,
            [one, other, ..] => left + usize::from(other > one),
        };
        if heap.get(child) <= heap.get(index) {
            return;
        }
        heap.swap(index, child);
        index = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(items: Vec<u32>, budget: usize) -> (Vec<u32>, usize) {
        let mut sort = IncrementalSort::new(items);
        let mut steps = 0;
        while !sort.is_done() {
            let mut left = budget;
            sort.step(&mut left);
            steps += 1;
        }
        (sort.into_items(), steps)
    }

    #[test]
    fn every_small_list_is_sorted_with_any_step_size() {
        // All lists of up to six items with three different values.
        for len in 0..=6u32 {
            for number in 0..3u32.pow(len) {
                let list: Vec<u32> = (0..len).map(|at| number / 3u32.pow(at) % 3).collect();
                let mut wanted = list.clone();
                wanted.sort_unstable();
                for budget in [1, 2, 100] {
                    assert_eq!(sorted(list.clone(), budget).0, wanted, "{list:?} by {budget}");
                }
            }
        }
    }

    #[test]
    fn a_step_stays_within_its_budget() {
        let list: Vec<u32> = (0..1_000u32).map(|n| n.wrapping_mul(0x9e37_79b9)).collect();
        let (items, steps) = sorted(list, 10);
        assert!(items.is_sorted());
        // Building the heap places half of the items, sorting places all of them.
        assert!((149..=152).contains(&steps), "{steps}");
    }

    #[test]
    fn a_sorted_list_takes_no_step() {
        assert_eq!(sorted((0..1_000).collect(), 1).1, 0);
    }
}
