//! Gradients back to the items' rows: every row that a step touches is read, and moved, once.
//!
//! An item's row gets gradients from its column, where it was a candidate, and from every sequence that it is in. Both are
//! found by item, so that threads can take different items and none of them needs a gradient of its own for the whole
//! table. An item's contributions are added in a fixed order: the column first, then the sequences in theirs. Where items
//! have features, each item's sum goes on to these: [`crate::model::features`].

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::kernel::Kernel;
use crate::kernel::contrast::Gradients;
use crate::kernel::rows::{add_scaled, dot_of_sum, prefetch, unnormalise};
use crate::model::encoder::{Encoded, Padded, Sequences};
use crate::model::features::{FeatureGradients, Features};
use crate::model::{Model, shrunk};
use crate::negatives::candidates::Candidates;
use crate::table::adagrad::{Share, TrainedRows};
use crate::table::generation_map::GenerationMap;
use crate::table::rows::{CHUNK, Rows};

/// The column of an item that is not a candidate.
const NONE: u32 = u32::MAX;
/// How many places ahead memory is asked for what will be looked up.
const PLACES_AHEAD: usize = 16;
/// How many rows ahead memory is asked for all that moving a row takes.
const ROWS_AHEAD: usize = 4;
/// A thread takes no fewer rows than these, where they are in more than one chunk.
const ROWS_AT_A_TIME: usize = 32;

/// One item of one sequence.
#[derive(Debug, Clone, Copy, Default)]
struct ItemUse {
    /// The row of the gradient that reaches it.
    gradient: u32,
    /// Place among all items of the sequences.
    place: u32,
    /// What of that gradient reaches it.
    share: f32,
}

/// The gradients of a step by row of a matrix, and the candidates' vectors.
#[derive(Debug, Clone, Copy)]
pub(super) struct GradientSources<'a> {
    /// The candidates as they were scored, candidates × stride.
    pub(super) candidate_vectors: &'a Padded,
    /// Gradients of the candidates; to be added up.
    pub(super) contrasts: &'a [Gradients],
    /// Gradients of the candidates that no contrast gave, candidates × stride.
    pub(super) extra_candidates: Option<&'a Padded>,
    /// Gradients of the sequences, or of their places, × stride.
    pub(super) sequences: &'a Padded,
}

/// The rows that a step touches, and by what. Buffers are kept from step to step.
#[derive(Debug, Default)]
pub(super) struct TouchedItems {
    /// Items that are candidates or in a sequence, in the order of their rows.
    items: Vec<u32>,
    /// The column of each.
    columns: Vec<u32>,
    /// The uses of item `items[i]` are `starts[i]..starts[i + 1]`.
    starts: Vec<u32>,
    uses: Vec<ItemUse>,
    /// By chunk of the table: its items are `chunks[c]..chunks[c + 1]`.
    chunks: Vec<u32>,
    /// By item: its place in `items`.
    places: GenerationMap,
    /// Buffers for sorting.
    sorted: Vec<u32>,
    counts: Vec<u32>,
    /// By use, in the order of the sequences: (vector + context row)·gradient of the sequence, as bits; each is written
    /// by the one thread that has the item.
    products: Vec<AtomicU32>,
    position_gradients: Vec<f32>,
    features: FeatureGradients,
}

impl TouchedItems {
    /// Finds the touched rows. Every item of a sequence gets its share of the sequence's gradient, or (`by_place`) a
    /// gradient of its own.
    pub(super) fn gather(
        &mut self,
        n_items: usize,
        (sequences, encoded): (&Sequences, &Encoded),
        candidates: &Candidates,
        by_place: bool,
    ) {
        let Self { items, columns, starts, uses, chunks, places, products, sorted, counts, .. } = self;
        places.begin(n_items);
        items.clear();
        // Candidates are live once each, and so far nothing was marked.
        for of_some in [&candidates.items[..candidates.n_live()], &sequences.items] {
            for (place, item) in of_some.iter().enumerate() {
                if let Some(soon) = of_some.get(place + PLACES_AHEAD) {
                    places.ask_ahead(*soon);
                }
                if places.get(*item).is_none() {
                    places.set(*item, 0);
                    items.push(*item);
                }
            }
        }
        sort_rows(items, n_items, sorted, counts);
        columns.clear();
        columns.resize(items.len(), NONE);
        starts.clear();
        starts.resize(items.len() + 2, 0);
        for (place, item) in items.iter().enumerate() {
            if let Some(soon) = items.get(place + PLACES_AHEAD) {
                places.ask_ahead(*soon);
            }
            places.set(*item, place as u32);
        }
        let place_of = |item: u32| places.get(item).expect("it was touched") as usize;
        for (column, item) in candidates.items[..candidates.n_live()].iter().enumerate() {
            columns[place_of(*item)] = column as u32;
        }
        // Counted two places up, summed, and moved on while filling in: then each start is where it belongs.
        for item in &sequences.items {
            starts[place_of(*item) + 2] += 1;
        }
        for place in 2..starts.len() {
            starts[place] += starts[place - 1];
        }
        uses.resize(sequences.items.len(), ItemUse::default());
        for sequence in 0..sequences.len() {
            let first = sequences.starts[sequence];
            for (position, item) in sequences.of(sequence).iter().enumerate() {
                let start = &mut starts[place_of(*item) + 1];
                let place = first + position as u32;
                uses[*start as usize] = match by_place {
                    true => ItemUse { gradient: place, place, share: 1.0 },
                    false => {
                        let share = encoded.position_weights[position] / encoded.weight_sums[sequence];
                        ItemUse { gradient: sequence as u32, place, share }
                    }
                };
                *start += 1;
            }
        }
        products.resize_with(sequences.items.len(), AtomicU32::default);
        chunks.clear();
        for (place, item) in items.iter().enumerate() {
            chunks.resize((*item as usize / CHUNK + 1).max(chunks.len()), place as u32);
        }
        chunks.resize(n_items.div_ceil(CHUNK) + 1, items.len() as u32);
    }

    /// The touched items, in the order of their rows.
    pub(super) fn items(&self) -> &[u32] {
        &self.items
    }

    /// The touched items that are in a sequence, in the order of their rows.
    pub(super) fn in_sequences(&self) -> impl Iterator<Item = u32> {
        let uses = self.starts.windows(2).map(|bounds| bounds[1] > bounds[0]);
        self.items.iter().zip(uses).filter(|(_, is_used)| *is_used).map(|(item, _)| *item)
    }

    /// Moves the rows of the items; whether all of them are still finite.
    pub(super) fn move_rows(
        &mut self,
        kernel: Kernel,
        model: &mut Model,
        sources: GradientSources<'_>,
        rate: f32,
    ) -> bool {
        let (dim, stride, cosine, shrinkage) = (model.dim(), model.stride(), model.is_cosine(), model.shrinkage);
        let Model { items, features, contexts, inverse_norms, .. } = model;
        let mut of_features = std::mem::take(&mut self.features);
        of_features.of_items.resize(if features.is_some() { self.items.len() * dim } else { 0 }, 0.0);
        let vectors = features.as_ref().map(Features::vectors);
        let mover = Mover { touched: self, kernel, sources, vectors, rate, dim, stride, cosine, shrinkage };
        let (items, contexts) = (items.share(), contexts.as_mut().map(TrainedRows::share));
        let gradients = &mut of_features.of_items[..];
        let mut finite =
            mover.move_part(TableSlice { bounds: &self.chunks, items, contexts, inverse_norms, gradients });
        if let Some(features) = features {
            finite &= of_features.move_rows(kernel, features, &self.items, rate);
        }
        self.features = of_features;
        finite
    }

    /// The gradients of the logarithms of the position weights, from the products that moving the rows left.
    pub(super) fn position_gradients(&mut self, sequences: &Sequences, encoded: &Encoded) -> &[f32] {
        self.position_gradients.clear();
        self.position_gradients.resize(encoded.position_weights.len(), 0.0);
        for sequence in 0..sequences.len() {
            let uses = self.products[sequences.range(sequence)].iter().zip(&encoded.position_weights);
            let products = uses.map(|(product, weight)| {
                (f32::from_bits(product.load(Ordering::Relaxed)), weight / encoded.weight_sums[sequence])
            });
            // The mean of the sequence's products is the product of its mean.
            let mean: f32 = products.clone().map(|(product, share)| share * product).sum();
            for (sum, (product, share)) in self.position_gradients.iter_mut().zip(products) {
                *sum += share * (product - mean);
            }
        }
        &self.position_gradients
    }
}

/// Sorts different rows, all of them below `n_rows`: first by their place in a chunk of [`CHUNK`], then by the chunk, in time
/// that grows with both numbers alone.
fn sort_rows(rows: &mut Vec<u32>, n_rows: usize, sorted: &mut Vec<u32>, counts: &mut Vec<u32>) {
    let mut pass = |from: &[u32], to: &mut Vec<u32>, n_keys: usize, key: fn(u32) -> usize| {
        counts.clear();
        counts.resize(n_keys + 1, 0);
        from.iter().for_each(|row| counts[key(*row) + 1] += 1);
        (1..counts.len()).for_each(|place| counts[place] += counts[place - 1]);
        to.resize(from.len(), 0);
        for row in from {
            let place = &mut counts[key(*row)];
            to[*place as usize] = *row;
            *place += 1;
        }
    };
    pass(rows, sorted, CHUNK, |row| row as usize % CHUNK);
    pass(sorted, rows, n_rows.div_ceil(CHUNK), |row| row as usize / CHUNK);
}

/// Touched rows of items on their way to be moved.
struct Mover<'a> {
    touched: &'a TouchedItems,
    kernel: Kernel,
    sources: GradientSources<'a>,
    /// The items' vectors, where these are not their rows alone.
    vectors: Option<&'a Rows>,
    rate: f32,
    dim: usize,
    stride: usize,
    cosine: bool,
    /// s² of [`shrunk`].
    shrinkage: f32,
}

/// Neighbouring chunks of the table.
struct TableSlice<'a> {
    /// The touched items of the chunk c are `bounds[c]..bounds[c + 1]`.
    bounds: &'a [u32],
    items: Share<'a>,
    contexts: Option<Share<'a>>,
    inverse_norms: &'a mut [f32],
    /// For the gradients of the touched items' vectors, one behind the other, where they have features.
    gradients: &'a mut [f32],
}

impl Mover<'_> {
    /// Moves the touched rows of `part`, shared out by their number; whether all of them are still finite.
    fn move_part(&self, mut part: TableSlice<'_>) -> bool {
        thread_local! {
            /// Sums of one row: from its uses, and altogether.
            static SUMS: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
        }
        let n_chunks = part.bounds.len() - 1;
        let (first, last) = (part.bounds[0], part.bounds[n_chunks]);
        if n_chunks > 1 && (last - first) as usize > ROWS_AT_A_TIME {
            let middle = part.bounds.partition_point(|bound| *bound <= first.midpoint(last)).clamp(1, n_chunks - 1);
            let (left, right) = part.split_at(middle, if self.vectors.is_some() { self.dim } else { 0 });
            let (left, right) = rayon::join(|| self.move_part(left), || self.move_part(right));
            return left && right;
        }
        SUMS.with_borrow_mut(|(of_uses, of_all)| {
            of_uses.resize(self.dim, 0.0);
            of_all.resize(self.stride, 0.0);
            let mut finite = true;
            for chunk in 0..n_chunks {
                for place in part.bounds[chunk]..part.bounds[chunk + 1] {
                    self.ask_ahead(&part, chunk, place as usize);
                    finite &= self.move_row(&mut part, chunk, place as usize, of_uses, of_all);
                }
            }
            finite
        })
    }

    /// Asks memory for all that moving the row a few places behind `place` takes, which is in `chunk` of `part`.
    fn ask_ahead(&self, part: &TableSlice<'_>, chunk: usize, place: usize) {
        let Self { touched, sources, .. } = *self;
        let (Some(item), soon) = (touched.items.get(place + ROWS_AHEAD), place + ROWS_AHEAD) else { return };
        // Counted from the same chunk as those of the part are.
        let of_item = chunk + *item as usize / CHUNK - touched.items[place] as usize / CHUNK;
        if of_item + 1 < part.bounds.len() {
            part.items.ask_ahead(of_item, *item as usize % CHUNK);
        }
        if touched.columns[soon] != NONE {
            let column = touched.columns[soon] as usize;
            sources.contrasts.iter().flat_map(|gradients| gradients.candidate_parts(column)).for_each(prefetch);
            prefetch(sources.candidate_vectors.row(column));
        }
        if let Some(first) = touched.uses.get(touched.starts[soon] as usize) {
            prefetch(sources.sequences.row(first.gradient as usize));
        }
    }

    /// Moves the row of touched item `place`, which is in `chunk` of `part`; whether it is still finite.
    fn move_row(
        &self,
        part: &mut TableSlice<'_>,
        chunk: usize,
        place: usize,
        of_uses: &mut [f32],
        of_all: &mut [f32],
    ) -> bool {
        let Self { touched, kernel, sources, vectors, rate, dim, cosine, shrinkage, .. } = *self;
        let TableSlice { bounds, items, contexts, inverse_norms, gradients } = part;
        let row = touched.items[place] as usize % CHUNK;
        let inverse_norm = &mut inverse_norms[chunk * CHUNK + row];
        let mut finite = true;
        of_all.fill(0.0);
        if touched.columns[place] != NONE {
            let column = touched.columns[place] as usize;
            let parts = sources.contrasts.iter().flat_map(|gradients| gradients.candidate_parts(column));
            parts
                .chain(sources.extra_candidates.map(|extra| extra.row(column)))
                .for_each(|part| add_scaled(kernel, of_all, part, 1.0));
            if cosine {
                unnormalise(kernel, sources.candidate_vectors.row(column), *inverse_norm, of_all);
            }
        }
        let uses = &touched.uses[touched.starts[place] as usize..touched.starts[place + 1] as usize];
        if !uses.is_empty() {
            of_uses.fill(0.0);
            for item in uses {
                let gradient = &sources.sequences.row(item.gradient as usize)[..dim];
                add_scaled(kernel, of_uses, gradient, item.share);
                let context = contexts.as_ref().map_or(&[][..], |contexts| contexts.row(chunk, row));
                let vector =
                    vectors.map_or_else(|| items.row(chunk, row), |all| all.row(touched.items[place] as usize));
                let product = dot_of_sum(kernel, vector, context, gradient);
                touched.products[item.place as usize].store(product.to_bits(), Ordering::Relaxed);
            }
            add_scaled(kernel, &mut of_all[..dim], of_uses, 1.0);
            if let Some(contexts) = contexts {
                finite = !contexts.step(kernel, (chunk, row), of_uses, rate).is_nan();
            }
        }
        if vectors.is_some() {
            gradients[(place - bounds[0] as usize) * dim..][..dim].copy_from_slice(&of_all[..dim]);
        }
        let moved = items.step(kernel, (chunk, row), &of_all[..dim], rate);
        *inverse_norm = if cosine { shrunk(moved, shrinkage) } else { 1.0 };
        finite && !moved.is_nan()
    }
}

impl<'a> TableSlice<'a> {
    /// The first `n_chunks` chunks, and the others; there are `dim` numbers to a gradient.
    fn split_at(self, n_chunks: usize, dim: usize) -> (Self, Self) {
        let Self { bounds, items, contexts, inverse_norms, gradients } = self;
        let (gradients, more_gradients) = gradients.split_at_mut((bounds[n_chunks] - bounds[0]) as usize * dim);
        let (items, more_items) = items.split_at(n_chunks);
        let (contexts, more_contexts) = contexts.map(|contexts| contexts.split_at(n_chunks)).unzip();
        let (inverse_norms, more_norms) = inverse_norms.split_at_mut(n_chunks * CHUNK);
        (
            TableSlice { bounds: &bounds[..=n_chunks], items, contexts, inverse_norms, gradients },
            TableSlice {
                bounds: &bounds[n_chunks..],
                items: more_items,
                contexts: more_contexts,
                inverse_norms: more_norms,
                gradients: more_gradients,
            },
        )
    }
}
