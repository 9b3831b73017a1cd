//! Whole steps against finite differences of the loss, written anew in double precision from its formulas.

mod estimation;
mod information;
mod losses;
pub(super) mod reference;
pub(super) mod scores;
mod world;

use proptest::prelude::*;
use proptest::sample::select;

use super::OBJECTIVES;
use reference::ReferenceLoss;
use world::{Shape, World};

/// Step of the finite differences.
const STEP: f64 = 1e-5;

/// Compares the gradients that a step applied with those of the loss. Gives how many numbers have one to speak of, the
/// largest error as a share of what is allowed, and how many queries of the debiased loss have come down to its least.
fn check(shape: Shape, flags: &[String]) -> Option<(usize, f64, usize)> {
    let mut world = World::new(shape, flags);
    if world.batch.n_queries() < 2 {
        return None;
    }
    let (mut moved, stats) = world.step();
    let found = world.gradients(&mut moved);
    let reference = ReferenceLoss::new(&world);
    let mut numbers = world.numbers();
    let (loss, reported) = (reference.loss(&numbers, true), reference.loss(&numbers, false));
    assert!(
        (stats.loss - reported).abs() < 1e-5 * reported.abs().max(1.0),
        "{flags:?}: {} is not {reported}",
        stats.loss
    );
    let at_least = reference.at_least.get();
    if reference.nearest.get() < 1e-2 {
        // The loss has an edge here.
        return None;
    }
    let (mut checked, mut worst) = (0, 0.0f64);
    for (name, found) in &found {
        let mut expected = Vec::new();
        for place in 0..found.len() {
            let start = numbers[name][place];
            let mut at = |by: f64| {
                numbers.get_mut(name).unwrap()[place] = start + by;
                reference.loss(&numbers, true)
            };
            expected.push((at(STEP) - at(-STEP)) / (2.0 * STEP));
            at(0.0);
        }
        let largest = expected.iter().fold(0.0f64, |largest, number| largest.max(number.abs()));
        for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
            // A gradient is a sum of terms of both signs, each rounded to single precision: what is left of them has the
            // rounding of the largest, not its own. The last is where all of a kind cancel out.
            let allowed = 1e-4 * expected.abs() + 2e-6 * largest + 2e-7 * loss.abs().max(1.0);
            let error = (found - expected).abs() / allowed;
            worst = worst.max(error);
            assert!(error <= 1.0, "{shape:?} {flags:?}: {name} {place}: {found}, not {expected} (largest {largest})");
            checked += usize::from(expected.abs() > 1e-3);
        }
    }
    Some((checked, worst, at_least))
}

/// Sums of several objectives, which share candidates and sequences.
const SUMS: [&str; 4] = [
    "{kind='cpc',steps=2},{kind='nce',weight=0.3}",
    "{kind='i2i',acceptance='lift',window=3},{kind='infonce'}",
    "{kind='infonce'},{kind='views',weight=0.3},{kind='infomax',prior=0.0},{kind='i2i',acceptance='agreement',weight=0.5}",
    "{kind='nce'},{kind='infonce',symmetric=true},{kind='cpc'},{kind='infomax',prior=0.0},{kind='views'},{kind='i2i'}",
];

/// Every registered objective with the options that it wants tested, and sums of several.
fn objectives() -> Vec<String> {
    let table = |name: &str, options: &str| match options {
        "" => format!("{{kind='{name}'}}"),
        options => format!("{{kind='{name}',{options}}}"),
    };
    let single = OBJECTIVES.iter().flat_map(|entry| entry.tested.iter().map(move |options| table(entry.name, options)));
    single.chain(SUMS.map(str::to_owned)).collect()
}

/// A world, and how it is configured but for the objectives.
fn any_world() -> impl Strategy<Value = (Shape, Vec<String>)> {
    let sizes = (2usize..7, 2usize..5, 4u32..12, 2usize..5, 8usize..24, any::<u64>());
    let shape = sizes.prop_map(|(dim, context, n_items, n_users, n_events, seed)| Shape {
        dim,
        context,
        n_items,
        n_users,
        n_events,
        seed,
    });
    let flags = (
        select(vec!["sum", "gru"]),
        select(vec!["cosine", "dot"]),
        (any::<bool>(), any::<bool>(), any::<bool>()),
        0usize..3,
        select(vec!["fresh", "frozen"]),
        select(vec!["'none'", "[{sampler='uniform',draws=9},{sampler='unigram',draws=7,power=0.5}]"]),
    );
    let flags = flags.prop_map(|(encoder, similarity, (context_rows, user_row, repeat), recent, vectors, noise)| {
        vec![
            format!("context.encoder={encoder:?}"),
            format!("model.similarity={similarity:?}"),
            format!("context.context_rows={context_rows}"),
            format!("context.user_row={user_row}"),
            format!("evaluate.repeat={repeat}"),
            format!("negatives.mask_recent={recent}"),
            format!("negatives.bank_vectors={vectors:?}"),
            format!("negatives.noise={noise}"),
            format!("cooccurrence.plain_cosine={repeat}"),
        ]
    });
    (shape, flags)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn gradients_equal_finite_differences_of_reference_loss((shape, flags) in any_world(), objective in select(objectives())) {
        check(shape, &[flags, vec![format!("objective=[{objective}]")]].concat());
    }
}

/// A plain world, in which nothing may be left out.
const PLAIN: Shape = Shape { dim: 4, context: 3, n_items: 8, n_users: 3, n_events: 14, seed: 0 };

#[test]
fn gradients_of_every_registered_objective_are_checked() {
    let worlds = [
        &["context.encoder='sum'"][..],
        &["context.encoder='gru'"],
        &[
            "evaluate.repeat=true",
            "cooccurrence.plain_cosine=true",
            "negatives.mask_recent=1",
            "negatives.bank_vectors='frozen'",
            "context.user_row=true",
            "negatives.noise=[{sampler='uniform',draws=9},{sampler='unigram',draws=7,power=0.5}]",
        ],
    ];
    for entry in OBJECTIVES {
        assert!(!entry.tested.is_empty(), "{entry:?} has no options to be tested with");
    }
    let objectives = objectives();
    for (objective, others) in objectives.iter().flat_map(|objective| worlds.map(|others| (objective, others))) {
        let flags = others.iter().map(|flag| (*flag).to_owned()).chain([format!("objective=[{objective}]")]);
        let (checked, worst, _) = check(PLAIN, &flags.collect::<Vec<_>>()).expect("no edge is near");
        println!("{objective}, {}: {checked} numbers, largest error {worst:.3} of what is allowed", others[0]);
        assert!(checked > 40, "{objective}, {others:?}: only {checked} numbers have a gradient");
    }
}

#[test]
fn debiased_gradients_agree_on_both_sides_of_lower_bound() {
    let (mut below, mut above) = (0, 0);
    for seed in 0..12 {
        let flags = ["objective=[{kind='infonce',debias=0.5}]".to_owned(), "model.temperature=0.5".to_owned()];
        let Some((.., at_least)) = check(Shape { seed, ..PLAIN }, &flags) else { continue };
        let n_queries = World::new(Shape { seed, ..PLAIN }, &flags).batch.n_queries();
        (below, above) = (below + at_least, above + n_queries - at_least);
    }
    assert!(below > 10 && above > 10, "{below} queries have come down to it, {above} have not");
}
