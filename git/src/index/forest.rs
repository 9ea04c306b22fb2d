//! Which delta stands on which object.
//!
//! The order in which children are visited bounds memory: the child with the most descendants comes
//! last, and its base is let go before. An ancestor is then only held while a child with less than
//! half of its descendants is worked on, so that at most log2 of all objects are held at once, and
//! a chain of 70,000 deltas needs two. Nothing is ever evicted and made again.

use super::entry::{Entries, NONE, UNKNOWN};

/// From here on a tree of deltas is begun early, so that it is not the one that all wait for.
const TALL: u32 = 1000;

/// The deltas that can be resolved now, below objects that are no deltas.
pub(super) struct Forest {
    /// Where the children of each entry begin in `children`; one more than there are entries.
    first: Vec<u32>,
    children: Vec<u32>,
    /// The objects to begin with.
    pub roots: Vec<u32>,
    /// Entries that were resolved before and are only here because something stands on them. Empty
    /// if there are none.
    done: Vec<bool>,
}

impl Forest {
    /// The forest of everything that is not resolved yet and whose base is known.
    pub fn new(entries: &Entries) -> Self {
        let found = &entries.found;
        let total = found.kinds.len();
        let needed = needed(entries);
        let is_needed = |entry: usize| needed.get(entry).copied().unwrap_or(false);

        let mut first = vec![0_u32; total + 1];
        let mut done = Vec::new();
        for (entry, base) in found.bases.iter().enumerate() {
            if is_needed(entry)
                && let Some(count) = first.get_mut(*base as usize)
                && *base != NONE
            {
                *count += 1;
                if done.is_empty() && found.kinds.get(entry) != Some(&UNKNOWN) {
                    done = found.kinds.iter().map(|kind| *kind != UNKNOWN).collect();
                }
            }
        }
        let mut sum = 0;
        for place in &mut first {
            sum += std::mem::replace(place, sum);
        }
        // Each place moves to the end of its range while the range is filled, so that afterwards
        // it is where the next one begins.
        let mut children = vec![NONE; sum as usize];
        for (entry, base) in found.bases.iter().enumerate() {
            if is_needed(entry)
                && let Some(place) = first.get_mut(*base as usize)
                && let Some(child) = children.get_mut(*place as usize)
            {
                *child = entry as u32;
                *place += 1;
            }
        }
        first.rotate_right(1);
        if let Some(start) = first.first_mut() {
            *start = 0;
        }
        let roots = (0..total as u32)
            .filter(|root| {
                let at = *root as usize;
                is_needed(at)
                    && found.bases.get(at) == Some(&NONE)
                    && found.kinds.get(at) != Some(&UNKNOWN)
            })
            .collect();
        let mut forest = Self { first, children, roots, done };
        forest.order_by_size(&found.bases);
        forest
    }

    pub fn deltas(&self) -> usize {
        self.children.len()
    }

    pub fn children(&self, entry: u32) -> &[u32] {
        let at = entry as usize;
        let range = self.first.get(at).zip(self.first.get(at + 1));
        range
            .and_then(|(start, end)| self.children.get(*start as usize..*end as usize))
            .unwrap_or_default()
    }

    /// Whether an entry was resolved before.
    pub fn is_done(&self, entry: u32) -> bool {
        self.done.get(entry as usize).copied().unwrap_or(false)
    }

    /// Puts the largest subtree last among the children, and tall trees first among the roots.
    fn order_by_size(&mut self, bases: &[u32]) {
        let mut sizes = vec![1_u32; bases.len()];
        let size = |sizes: &[u32], entry: u32| sizes.get(entry as usize).copied().unwrap_or(1);
        // Parents before children, then summed up from the back.
        let mut order = self.roots.clone();
        let mut at = 0;
        while let Some(entry) = order.get(at) {
            at += 1;
            order.extend_from_slice(self.children(*entry));
        }
        for entry in order.iter().rev() {
            let own = size(&sizes, *entry);
            let base = bases.get(*entry as usize).copied().unwrap_or(NONE);
            if let Some(sum) = sizes.get_mut(base as usize) {
                *sum += own;
            }
        }
        for entry in order {
            let at = entry as usize;
            if let Some((start, end)) = self.first.get(at).zip(self.first.get(at + 1))
                && let Some(children) = self.children.get_mut(*start as usize..*end as usize)
                && children.len() > 1
            {
                children.sort_by_key(|child| size(&sizes, *child));
            }
        }
        // Otherwise they keep the order of the pack, in which the disk likes to be read.
        self.roots.sort_by_key(|root| {
            let size = size(&sizes, *root);
            std::cmp::Reverse(if size < TALL { 0 } else { size })
        });
    }
}

/// Entries that are not resolved, and what they stand on.
fn needed(entries: &Entries) -> Vec<bool> {
    let found = &entries.found;
    let mut needed = vec![false; found.kinds.len()];
    for (entry, kind) in found.kinds.iter().enumerate() {
        if *kind != UNKNOWN {
            continue;
        }
        // This ends: a base by place lies in front of its delta, and a base by id is only entered
        // once it was resolved itself.
        let mut at = entry;
        while let Some(mark) = needed.get_mut(at).filter(|mark| !**mark) {
            *mark = true;
            at = found.bases.get(at).map_or(usize::MAX, |base| *base as usize);
        }
    }
    needed
}
