//! Sorting a long list in place, a bounded number of moves at a time, so that a slow machine can
//! do something else in between: heapsort, which needs no memory and has no bad input.

/// A list on its way to ascending order.
pub struct IncrementalSort<T> {
    items: Vec<T>,
    stage: SortStage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SortStage {
    /// The heap's property holds for all places from this one on.
    Heaping(usize),
    /// The items from this place on are in order, and none before is greater.
    Sorting(usize),
}

impl<T: Ord> IncrementalSort<T> {
    /// Takes a list of any order. One that is in order already is done at the first step.
    pub fn new(items: Vec<T>) -> Self {
        let stage = match items.is_sorted() {
            true => SortStage::Sorting(0),
            false => SortStage::Heaping(items.len() / 2),
        };
        Self { items, stage }
    }

    /// Whether the list is in order.
    pub fn is_done(&self) -> bool {
        matches!(self.stage, SortStage::Sorting(0..=1))
    }

    /// Puts at most `most` items into their places and takes them off `most`; each costs about
    /// twice as many comparisons as the length has bits.
    pub fn step(&mut self, most: &mut usize) {
        while *most > 0 && !self.is_done() {
            *most -= 1;
            self.stage = match self.stage {
                SortStage::Heaping(0) => SortStage::Sorting(self.items.len()),
                SortStage::Heaping(place) => {
                    sift(&mut self.items, place - 1);
                    SortStage::Heaping(place - 1)
                }
                SortStage::Sorting(end) => {
                    let last = end.saturating_sub(1);
                    if let Some(heap) = self.items.get_mut(..end) {
                        heap.swap(0, last);
                    }
                    if let Some(heap) = self.items.get_mut(..last) {
                        sift(heap, 0);
                    }
                    SortStage::Sorting(last)
                }
            };
        }
    }

    /// The list; in order if it [`IncrementalSort::is_done`].
    pub fn into_items(self) -> Vec<T> {
        self.items
    }
}

/// Lets the item at `place` sink until none below it is greater.
fn sift<T: Ord>(heap: &mut [T], mut place: usize) {
    loop {
        let left = 2 * place + 1;
        let children = heap.get(left..heap.len().min(left + 2)).unwrap_or_default();
        let child = match children {
            [] => return,
            [_] => left,
            [one, other, ..] => left + usize::from(other > one),
        };
        if heap.get(child) <= heap.get(place) {
            return;
        }
        heap.swap(place, child);
        place = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(items: Vec<u32>, most: usize) -> (Vec<u32>, usize) {
        let mut sort = IncrementalSort::new(items);
        let mut steps = 0;
        while !sort.is_done() {
            let mut left = most;
            sort.step(&mut left);
            steps += 1;
        }
        (sort.into_items(), steps)
    }

    #[test]
    fn every_small_list_ends_in_order_whatever_the_steps() {
        // All lists of up to six items out of three values.
        for len in 0..=6u32 {
            for number in 0..3u32.pow(len) {
                let list: Vec<u32> = (0..len).map(|at| number / 3u32.pow(at) % 3).collect();
                let mut wanted = list.clone();
                wanted.sort_unstable();
                for most in [1, 2, 100] {
                    assert_eq!(sorted(list.clone(), most).0, wanted, "{list:?} by {most}");
                }
            }
        }
    }

    #[test]
    fn a_step_does_no_more_than_it_may() {
        let list: Vec<u32> = (0..1_000u32).map(|n| n.wrapping_mul(0x9e37_79b9)).collect();
        let (items, steps) = sorted(list, 10);
        assert!(items.is_sorted());
        // Half of the items are heaped, all of them are taken from the heap.
        assert!((149..=152).contains(&steps), "{steps}");
    }

    #[test]
    fn a_list_in_order_costs_nothing() {
        assert_eq!(sorted((0..1_000).collect(), 1).1, 0);
    }
}
