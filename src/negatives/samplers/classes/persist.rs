//! What stays of classes: when rows go, and in checkpoints.

use super::*;

impl Classes {
    /// Remaps item rows after an eviction; `places` was remapped before. [`Self::settle`] must follow before the next draw.
    pub fn keep(&mut self, places: &mut Places, items: &RowRemap) {
        self.unsettled = true;
        for (key, members) in (self.first..).zip(&mut self.classes) {
            items.renumber_by(members, |member| &mut member.item);
            (0..).zip(&*members).for_each(|(place, member)| places.set(member.item, key, place));
        }
        self.cut_empty_ends();
        self.len = self.classes.iter().map(Vec::len).sum();
        self.total = self.iter().map(|(_, weight)| weight).sum();
        self.rounding = f64::EPSILON * self.total;
        if self.len == 0 {
            self.first = 0;
        }
    }

    pub(super) fn cut_empty_ends(&mut self) {
        while self.classes.front().is_some_and(Vec::is_empty) {
            self.classes.pop_front();
            self.first += 1;
        }
        while self.classes.back().is_some_and(Vec::is_empty) {
            self.classes.pop_back();
        }
    }

    /// Saves the state that [`Self::restored`] reads.
    pub fn save(&self, out: &mut StateDict) {
        out.put_u32("items", self.iter().map(|(item, _)| item).collect());
        out.put_f64("weights", self.iter().map(|(_, weight)| weight).collect());
        out.put_f64("total", vec![self.total, self.rounding]);
    }

    /// Restores classes with the settings of `self`, whose items all live.
    ///
    /// # Errors
    /// The state lacks an array, or its numbers cannot be a state.
    pub fn restored(
        &self,
        places: &mut Places,
        live: &LiveItems,
        saved: &mut StateDict,
    ) -> Result<Self, StateDictError> {
        let (items, weights, total) = (saved.take_u32("items")?, saved.take_f64("weights")?, saved.take_f64("total")?);
        let mut classes = Self::with_parts(self.parts);
        if total.len() != 2
            || !(total[1] >= 0.0 && total[1].is_finite())
            || !(total[0] - weights.iter().sum::<f64>()).abs().le(&(1e-6 * total[0]))
        {
            return Err(saved.error("total", "is not that of the weights"));
        }
        if items.len() != weights.len() {
            return Err(saved.error("weights", "has another length"));
        }
        for (item, weight) in items.into_iter().zip(weights) {
            if !live.contains(item) || places.of(item).is_some() {
                return Err(saved.error("items", "names an item twice, or one that does not live"));
            }
            if !(weight >= f64::MIN_POSITIVE && weight.is_finite()) {
                return Err(saved.error("weights", "is not positive"));
            }
            classes.insert(places, item, weight);
        }
        (classes.total, classes.rounding) = (total[0], total[1]);
        classes.settle();
        Ok(classes)
    }
}
