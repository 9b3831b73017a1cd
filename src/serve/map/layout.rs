//! MapPlaces of vectors in a plane: each is drawn to those that are nearest to it by cosine, and pushed away by some drawn at
//! random, as UMAP does it (McInnes et al. 2018).
//!
//! The first map begins with the principal plane and takes many rounds; each later one begins where the one before ended, new
//! items among their nearest, and takes a few. So what the model moves slowly moves slowly on the map, too.

use std::sync::Arc;

use compact_str::CompactString;

use super::PlacesByName;
use super::plane::{align, dot, principal, unit_noise};

/// Nearest ones that draw a place.
const NEAREST: usize = 10;
/// MapPlaces that push one away, for each that draws it.
const PUSHES: u64 = 4;
/// Rounds of the first map, and of a later one.
const ROUNDS: [u64; 2] = [180, 24];
/// The square of the distance below which those that are near draw each other but weakly, so that each has room.
const ROOM: f32 = 60.0;
/// The largest step along an axis.
const MOST: f32 = 4.0;
/// Half of the width of the first map, before it is scaled.
const WIDTH: f32 = 10.0;

/// The places of the newest map.
#[derive(Debug, Default)]
pub(super) struct MapPlaces {
    /// Which model they are of.
    model_id: Option<Arc<str>>,
    by_name: PlacesByName,
    /// Maps made so far: no two draw the same numbers.
    n_maps: u64,
}

impl MapPlaces {
    /// The places of items with these names and unit vectors of `dim` numbers; -1 to 1 holds nearly all of them.
    pub(super) fn place(
        &mut self,
        model_id: &Arc<str>,
        ids: &[CompactString],
        vectors: &[f32],
        dim: usize,
    ) -> Vec<[f32; 2]> {
        if self.model_id.as_ref() != Some(model_id) {
            *self = Self { model_id: Some(Arc::clone(model_id)), ..Self::default() };
        }
        let nearest = nearest(vectors, dim);
        let known: Vec<(usize, [f32; 2])> =
            ids.iter().enumerate().filter_map(|(number, id)| Some((number, *self.by_name.get(id)?))).collect();
        // A map whose items are mostly others is another map.
        let is_first = known.len() * 2 < ids.len();
        let mut places = match is_first {
            true => begin(vectors, dim),
            false => go_on(&known, &nearest, ids.len()),
        };
        let rounds = ROUNDS[usize::from(!is_first)];
        for round in 0..rounds {
            let left = 1.0 - round as f32 / rounds as f32;
            let rate = if is_first { left } else { 0.25 * left };
            self.n_maps += 1;
            self::round(&mut places, &nearest, rate, self.n_maps);
        }
        align(&mut places, &known);
        self.by_name = ids.iter().cloned().zip(places.iter().copied()).collect();
        scaled(&places)
    }
}

/// The principal plane, stretched to the width of a map, each place a little aside so that no two are the same.
fn begin(vectors: &[f32], dim: usize) -> Vec<[f32; 2]> {
    let mut places = principal(vectors, dim);
    let largest = places.iter().flatten().fold(0.0_f32, |most, number| most.max(number.abs()));
    let factor = if largest > 0.0 { WIDTH / largest } else { 1.0 };
    for (number, place) in places.iter_mut().enumerate() {
        for (axis, number_at) in place.iter_mut().enumerate() {
            *number_at = *number_at * factor + 0.1 * (unit_noise((2 * number + axis) as u64) - 0.5);
        }
    }
    places
}

/// The places of the map before; new ones among their nearest that have one.
fn go_on(known: &[(usize, [f32; 2])], nearest: &[Vec<u32>], n: usize) -> Vec<[f32; 2]> {
    let mut before: Vec<Option<[f32; 2]>> = vec![None; n];
    known.iter().for_each(|(number, place)| before[*number] = Some(*place));
    let place = |number: usize| {
        before[number].unwrap_or_else(|| {
            let near: Vec<[f32; 2]> = nearest[number].iter().filter_map(|near| before[*near as usize]).collect();
            let share = 1.0 / near.len().max(1) as f32;
            let aside = |axis: u64| 0.2 * (unit_noise(2 * number as u64 + axis) - 0.5);
            [0, 1].map(|axis| near.iter().map(|place| share * place[axis]).sum::<f32>() + aside(axis as u64))
        })
    };
    (0..n).map(place).collect()
}

/// For each vector the nearest others by their inner product, nearest first.
fn nearest(vectors: &[f32], dim: usize) -> Vec<Vec<u32>> {
    let rows: Vec<&[f32]> = vectors.chunks_exact(dim.max(1)).collect();
    let mut scored: Vec<(f32, u32)> = Vec::with_capacity(rows.len());
    let mut of_row = |number: usize| {
        scored.clear();
        let others = rows.iter().enumerate().filter(|(other, _)| *other != number);
        scored.extend(others.map(|(other, row)| (dot(rows[number], row), other as u32)));
        let by_score = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if scored.len() > NEAREST {
            scored.select_nth_unstable_by(NEAREST - 1, by_score);
            scored.truncate(NEAREST);
        }
        scored.sort_unstable_by(by_score);
        scored.iter().map(|(_, other)| *other).collect()
    };
    (0..rows.len()).map(&mut of_row).collect()
}

/// Draws each place to its nearest, and pushes it away from some at random.
fn round(places: &mut [[f32; 2]], nearest: &[Vec<u32>], rate: f32, seed: u64) {
    let n = places.len() as u64;
    let step = |from: [f32; 2], to: [f32; 2], force: f32| {
        [0, 1].map(|axis| rate * (force * (from[axis] - to[axis])).clamp(-MOST, MOST))
    };
    for number in 0..places.len() {
        for (rank, near) in nearest[number].iter().enumerate() {
            let near = *near as usize;
            let distance = square(places[number], places[near]);
            let pull = step(places[number], places[near], -2.0 * distance / ((ROOM + distance) * (1.0 + distance)));
            for axis in 0..2 {
                places[number][axis] += pull[axis];
                places[near][axis] -= pull[axis];
            }
            for push in 0..PUSHES {
                let draw = ((seed * n + number as u64) * NEAREST as u64 + rank as u64) * PUSHES + push;
                let other = ((unit_noise(draw) * n as f32) as usize).min(places.len() - 1);
                let distance = square(places[number], places[other]);
                let force = 2.0 / ((0.01 + distance) * (1.0 + distance));
                let pushed = step(places[number], places[other], force);
                for axis in 0..2 {
                    places[number][axis] += pushed[axis];
                }
            }
        }
    }
}

fn square(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
}

/// The places around their middle, so that -1 to 1 holds nearly all of them.
fn scaled(places: &[[f32; 2]]) -> Vec<[f32; 2]> {
    let share = 1.0 / places.len().max(1) as f32;
    let centre = [0, 1].map(|axis| places.iter().map(|place| share * place[axis]).sum::<f32>());
    let mut sizes: Vec<f32> = places.iter().map(|place| square(*place, centre).sqrt()).collect();
    sizes.sort_unstable_by(f32::total_cmp);
    let size = sizes.get(sizes.len() * 98 / 100).copied().unwrap_or(1.0).max(f32::MIN_POSITIVE);
    let scale = |place: &[f32; 2]| [0, 1].map(|axis| ((place[axis] - centre[axis]) / size * 1e4).round() / 1e4);
    places.iter().map(scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIM: usize = 16;
    const TOPICS: usize = 6;

    /// Items of some topics, a unit vector each; `drift` moves all of them a little.
    fn world(n: usize, drift: f32) -> (Vec<CompactString>, Vec<f32>) {
        let ids = (0..n).map(|item| format!("{}-{item}", item % TOPICS).into()).collect();
        let mut vectors = Vec::new();
        for item in 0..n {
            let at = |place: usize| {
                let topic = unit_noise((7_000 + item % TOPICS * DIM + place) as u64) - 0.5;
                let own = unit_noise((90_000 + item * DIM + place) as u64) - 0.5;
                topic + 0.3 * own + drift * (unit_noise((500_000 + item * DIM + place) as u64) - 0.5)
            };
            let row: Vec<f32> = (0..DIM).map(at).collect();
            let norm = dot(&row, &row).sqrt();
            vectors.extend(row.iter().map(|number| number / norm));
        }
        (ids, vectors)
    }

    /// The share of places whose nearest place is of the same topic.
    fn purity(places: &[[f32; 2]]) -> f64 {
        let same = (0..places.len()).filter(|item| {
            let others = (0..places.len()).filter(|other| other != item);
            let near =
                others.min_by(|a, b| square(places[*item], places[*a]).total_cmp(&square(places[*item], places[*b])));
            near.is_some_and(|near| near % TOPICS == item % TOPICS)
        });
        same.count() as f64 / places.len() as f64
    }

    #[test]
    fn alike_items_lie_together_and_stay_where_they_were() {
        let model: Arc<str> = "model".into();
        let mut places = MapPlaces::default();
        let (ids, vectors) = world(300, 0.0);
        let first = places.place(&model, &ids, &vectors, DIM);
        assert!(purity(&first) > 0.95, "{}", purity(&first));
        assert!(first.iter().flatten().filter(|number| number.abs() <= 1.0).count() > 580);
        let (ids, vectors) = world(320, 0.05);
        let second = places.place(&model, &ids, &vectors, DIM);
        assert!(purity(&second) > 0.95, "{}", purity(&second));
        let mut moved: Vec<f32> = first.iter().zip(&second).map(|(a, b)| square(*a, *b).sqrt()).collect();
        moved.sort_unstable_by(f32::total_cmp);
        assert!(moved[150] < 0.1, "half of them moved by more than {}", moved[150]);
        // Another model is another map.
        let other = places.place(&"other".into(), &ids, &vectors, DIM);
        assert_eq!(other.len(), 320);
        assert_eq!(MapPlaces::default().place(&model, &world(300, 0.0).0, &world(300, 0.0).1, DIM), first);
    }

    #[test]
    fn few_items_and_equal_ones_have_places_too() {
        let model: Arc<str> = "model".into();
        assert!(MapPlaces::default().place(&model, &[], &[], 4).is_empty());
        for n in [1, 2, 5] {
            let ids: Vec<CompactString> = (0..n).map(|item: i32| item.to_string().into()).collect();
            let vectors = [1.0, 0.0, 0.0, 0.0].repeat(n as usize);
            let found = MapPlaces::default().place(&model, &ids, &vectors, 4);
            assert!(found.len() == n as usize && found.iter().flatten().all(|number| number.is_finite()), "{found:?}");
        }
    }
}
