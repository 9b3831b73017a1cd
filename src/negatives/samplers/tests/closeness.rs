//! How close samplers are to what they stand for.

use super::*;

#[test]
fn mixture_probability_is_the_weighted_sum() {
    let parts = [("uniform", 1.0), ("unigram", 3.0), ("log_uniform", 0.5)];
    let text: Vec<String> =
        parts.iter().map(|(name, weight)| format!("{{ sampler = '{name}', weight = {weight} }}")).collect();
    let term: NoiseTerm = toml::from_str(&format!("sampler = 'mixture'\nparts = [{}]", text.join(", "))).unwrap();
    let mut samplers: Vec<_> = term.parts().iter().chain([&term]).map(NoiseTerm::build).collect();
    let mut story = Story::new(true, 900, None);
    for _ in 0..30 {
        story.batch(&mut samplers);
    }
    let view = story.stream.view();
    for item in view.live.items() {
        let parts = term.parts();
        let weighted = parts.iter().zip(&samplers);
        let expected: f64 =
            weighted.map(|(part, sampler)| part.weight() / 4.5 * sampler.probability(view, *item)).sum();
        assert!((samplers[3].probability(view, *item).ln() - expected.ln()).abs() < 1e-12);
    }
}

#[test]
fn unigram_and_interval_are_close_to_the_data() {
    let mut story = Story::new(false, u64::MAX, None);
    let terms = ["sampler = 'unigram'", "sampler = 'interval'"].map(|text| toml::from_str::<NoiseTerm>(text).unwrap());
    let mut samplers = terms.each_ref().map(|term: &NoiseTerm| term.build());
    for _ in 0..400 {
        story.batch(&mut samplers);
    }
    let view = story.stream.view();
    let ranks = f64::from(N_ITEMS / 3);
    for (sampler, bound) in samplers.iter().zip([0.02, 0.1]) {
        let kl: f64 = (1..N_ITEMS / 3)
            .map(|item| {
                let truth = f64::from(item + 1).log(ranks) - f64::from(item).log(ranks);
                truth * (truth / sampler.probability(view, item)).ln()
            })
            .sum();
        assert!((0.0..bound).contains(&kl), "{sampler:?}: KL(data, q) = {kl}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Batches of any shape, items that come once or never again, tiny horizons, nobody who asks: no panic, nobody dead.
    #[test]
    fn samplers_accept_any_stream(
        batches in proptest::collection::vec(proptest::collection::vec(0u32..60, 0..30), 1..25),
        horizon in prop_oneof![Just(u64::MAX), 1u64..60],
        half_life in prop_oneof![Just(None), (1.0f64..50.0).prop_map(Some), Just(Some(f64::INFINITY))],
        asks in proptest::bool::ANY,
    ) {
        let mut samplers: Vec<_> = all().iter().map(|term: &NoiseTerm| term.build()).collect();
        let mut stream = Stream::new(0, horizon, half_life);
        for (round, items) in batches.iter().enumerate() {
            let n_items = items.iter().max().map_or(0, |item| *item as usize + 1);
            stream.frequencies.grow(n_items);
            stream.add(items);
            let pairs: Vec<_> = items.windows(2).map(|pair| (pair[0], pair[1])).collect();
            let shown: Vec<_> =
                items.iter().map(|item| Shown { user: item % 5, item: *item, chosen: item % 3 == 0 }).collect();
            let view = stream.view();
            for sampler in &mut samplers {
                sampler.observe(view, BatchObservation { items, pairs: &pairs, shown: &shown });
                if asks {
                    let users: Vec<u32> = items.iter().map(|item| item % 7).collect();
                    let queries = vec![0.1; items.len() * 8];
                    let asking = QueryContext { last_items: items, users: &users, queries: &queries, stride: 8, others: items };
                    sampler.set_queries(view, asking);
                }
                let mut drawn = Vec::new();
                sampler.draw(view, 40, &mut Pcg64Mcg::seed_from_u64(round as u64), &mut drawn);
                prop_assert_eq!(drawn.len(), if sampler.is_empty(view) { 0 } else { 40 });
                for item in drawn {
                    prop_assert!(view.live.contains(item));
                    prop_assert!(sampler.probability(view, item) > 0.0);
                }
            }
        }
    }
}
