//! Parts of the forward pass that are computed again when their gradient is taken, so that only one part's inner values are in memory
//! at a time: those that no step of another part touches (Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016).

use std::ops::Range;

/// What takes memory during a step of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// Floats.
    pub len: usize,
    /// The steps that touch it, from the first to the last; `None` if it is to stay in any case.
    pub touched: Option<(usize, usize)>,
}

/// How the steps are cut into parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    /// The steps of each part.
    pub steps: Vec<Range<usize>>,
    /// The items that are inner ones of each part, longest first.
    pub inner: Vec<Vec<usize>>,
    /// Floats of what all parts use in turn: the longest of each, the second longest, and so on.
    pub shared: Vec<usize>,
    /// Floats of the items that stay.
    pub kept: usize,
}

impl Parts {
    /// Floats in memory at once.
    pub fn floats(&self) -> usize {
        self.kept + self.shared.iter().sum::<usize>()
    }

    /// The cut that takes the least memory, of those in which parts are about equally large.
    pub fn least(steps: usize, items: &[Item]) -> Self {
        // What a part may hold: from all there is to a hundredth.
        const TRIED: usize = 28;
        let mut begun = vec![0; steps];
        for Item { len, touched } in items {
            if let Some((first, _)) = touched {
                begun[*first] += len;
            }
        }
        let all: usize = begun.iter().sum();
        let cuts = (0..TRIED).map(|i| (all as f64 * 0.85f64.powi(i as i32)) as usize);
        let parts = cuts.map(|most| Self::cut(&begun, most, items));
        // Of equals the one with the fewest parts, which is the first.
        parts.min_by_key(Self::floats).unwrap_or_else(|| Self::cut(&begun, all, items))
    }

    /// Parts that begin no more than `most` floats each, if a single step does not begin more.
    fn cut(begun: &[usize], most: usize, items: &[Item]) -> Self {
        let mut steps = Vec::new();
        let (mut first, mut floats) = (0, 0);
        for (step, more) in begun.iter().enumerate() {
            if floats + more > most && step > first {
                steps.push(first..step);
                (first, floats) = (step, 0);
            }
            floats += more;
        }
        steps.push(first..begun.len());
        let mut part_of = vec![0; begun.len()];
        for (part, range) in steps.iter().enumerate() {
            part_of[range.clone()].fill(part);
        }
        let (mut inner, mut kept) = (vec![Vec::new(); steps.len()], 0);
        for (i, Item { len, touched }) in items.iter().enumerate() {
            match touched {
                Some((first, last)) if part_of[*first] == part_of[*last] => inner[part_of[*first]].push(i),
                _ => kept += len,
            }
        }
        let mut shared: Vec<usize> = Vec::new();
        for inner in &mut inner {
            inner.sort_by_key(|&i| std::cmp::Reverse(items[i].len));
            shared.resize(shared.len().max(inner.len()), 0);
            shared.iter_mut().zip(inner).for_each(|(shared, &mut i)| *shared = (*shared).max(items[i].len));
        }
        Self { steps, inner, shared, kept }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_takes_the_root_of_its_memory() {
        let steps = 100;
        // Each step writes an item that the next one reads.
        let items: Vec<Item> =
            (0..steps).map(|i| Item { len: 10, touched: Some((i, (i + 1).min(steps - 1))) }).collect();
        let parts = Parts::least(steps, &items);
        // Ten parts of ten steps: nine items between them, and nine within the largest.
        assert!((180..=220).contains(&parts.floats()), "{parts:?}");
        let covered: Vec<usize> = parts.steps.iter().flat_map(Clone::clone).collect();
        assert_eq!(covered, (0..steps).collect::<Vec<_>>());
        let inner: usize = parts.inner.iter().map(Vec::len).sum();
        assert_eq!(10 * (steps - inner), parts.kept);
        for (range, inner) in parts.steps.iter().zip(&parts.inner) {
            assert!(inner.iter().all(|&i| range.contains(&i) && range.contains(&items[i].touched.unwrap().1)));
        }
    }

    #[test]
    fn what_is_read_at_the_end_stays() {
        // Nothing can be saved where every item is read by the last step.
        let items: Vec<Item> = (0..9).map(|i| Item { len: 1 + i, touched: Some((i, 8)) }).collect();
        assert_eq!(Parts::least(9, &items).floats(), 45);
        let kept = Item { len: 7, touched: None };
        assert_eq!(Parts::least(1, &[kept]).kept, 7);
        assert_eq!(Parts::least(0, &[]).floats(), 0);
    }
}
