//! Frequencies as counts, in frames, after jumps, and by the stream's choice.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::*;

#[test]
fn count_halves_in_a_half_life() {
    let mut frequencies = Frequencies::new(Some(100.0));
    frequencies.grow(2);
    frequencies.add(&[0; 10]);
    let before = frequencies.baseline().count(0);
    frequencies.add(&[1; 100]);
    let [first, second] = [0, 1].map(|item| frequencies.baseline().count(item));
    assert!((first - before / 2.0).abs() < 1e-12);
    // 1 + r + r² + … + r⁹⁹, of which r¹⁰⁰ is a half.
    assert!((second - 0.5 / (1.0 - (-0.01f64).exp2())).abs() < 1e-9);
    let expected = ((first + 0.5) / (first + second)).ln() as f32;
    assert!((frequencies.log_frequency(0) - expected).abs() < 1e-6);
}

#[test]
fn popularity_does_not_move_with_the_half_life() {
    let mut random = Pcg64Mcg::seed_from_u64(6);
    let mut all = [None, Some(100.0), Some(1_234.567_8), Some(POPULARITY), Some(20_000.0), Some(f64::INFINITY)]
        .map(Frequencies::new);
    all.iter_mut().for_each(|frequencies| frequencies.grow(50));
    for _ in 0..80 {
        let batch: [u32; 64] = std::array::from_fn(|_| random.random_range(0..50));
        all.iter_mut().for_each(|frequencies| frequencies.add(&batch));
    }
    for frequencies in &all {
        assert_eq!(frequencies.popularity(), all[0].popularity());
        // The memory for popularity alone has no say in q̂.
        let half_lives: Vec<HalfLife> = frequencies.mixed().iter().map(DecayedCounts::half_life).collect();
        assert!(half_lives == AUTO || half_lives.len() == 1, "{half_lives:?}");
        let objecting = frequencies.shorter().map(|(memory, _)| memory.events());
        assert!(objecting.fold(0.0, f64::max) < frequencies.half_life().max(1e-3));
    }
}

#[test]
fn frequencies_go_on_from_what_was_saved() {
    let mut random = Pcg64Mcg::seed_from_u64(6);
    for half_life in [HalfLife::Auto, HalfLife::Events(100.0), HalfLife::Millis(1e6), HalfLife::Events(f64::INFINITY)] {
        let mut frequencies = Frequencies::new(half_life);
        let step = |frequencies: &mut Frequencies, random: &mut Pcg64Mcg, from: i64| {
            frequencies.begin_batch(50);
            (from..from + 64).for_each(|event| {
                frequencies.observe(random.random_range(0..50), event * 60_000, (event > 10).then_some(50));
            });
            frequencies.refresh();
        };
        (0..40).for_each(|batch| step(&mut frequencies, &mut random, batch * 64));
        let scales: Vec<[f64; 2]> = frequencies.memories().iter().map(DecayedCounts::scale_parts).collect();
        let counts: Vec<Paged<f64>> = frequencies.memories().iter().map(|memory| memory.counts.clone()).collect();
        let restore = |scales: &[[f64; 2]]| {
            let (evidence, newest) = (frequencies.evidence(), frequencies.newest());
            let newcomers = frequencies.newcomers().clone();
            Frequencies::new(half_life).restored(
                scales,
                counts.clone(),
                evidence,
                newest,
                frequencies.overruled(),
                newcomers,
            )
        };
        assert!(restore(&scales[1..]).is_none());
        let mut restored = restore(&scales).expect("all of it");
        let mut same = random.clone();
        step(&mut frequencies, &mut random, 2560);
        step(&mut restored, &mut same, 2560);
        assert_eq!(restored, frequencies);
    }
}

#[test]
fn half_life_in_time_follows_the_clock() {
    let mut frequencies = Frequencies::new(HalfLife::Millis(3.6e6));
    frequencies.begin_batch(2);
    for minute in 0..60 {
        frequencies.observe(0, minute * 60_000, Some(2));
    }
    // An hour without an event halves what there was; a step back in time is none.
    for time in [119, 100, 119] {
        frequencies.observe(1, time * 60_000, Some(2));
    }
    frequencies.refresh();
    let expected: f64 = (60..120).map(|ago| (-f64::from(ago) / 60.0).exp2()).sum();
    assert!((frequencies.baseline().count(0) - expected).abs() < 1e-9);
    assert!((frequencies.baseline().count(1) - 3.0).abs() < 1e-12);
    // A year of silence leaves who was more common the more common one.
    frequencies.begin_batch(3);
    frequencies.observe(2, 525_600 * 60_000, Some(3));
    frequencies.refresh();
    let [first, second, third] = [0, 1, 2].map(|item| frequencies.baseline().count(item));
    assert!(first > second && second > 0.0 && third == 1.0, "{first} {second}");
}

#[test]
fn half_life_of_night_and_day_is_one_in_time() {
    let mut random = Pcg64Mcg::seed_from_u64(12);
    let mut frequencies = Frequencies::new(HalfLife::Auto);
    let mut seconds = 0.0;
    let mut seen = vec![false; 4_000];
    for _ in 0..200 {
        frequencies.begin_batch(seen.len());
        for _ in 0..100 {
            let is_day = seconds % 86_400.0 > 40_000.0;
            seconds += random.random_range(0.0..if is_day { 20.0 } else { 1_000.0 });
            // Every six hours other items are asked for.
            let item = (seconds / 21_600.0) as usize * 20 % 4_000 + random.random_range(0..20);
            frequencies.observe(item as u32, (seconds * 1e3) as i64, seen[item].then_some(4_000));
            seen[item] = true;
        }
        frequencies.refresh();
    }
    let in_time = frequencies.mixed().iter().zip(frequencies.shares());
    let in_time = in_time.filter(|(memory, _)| matches!(memory.half_life(), HalfLife::Millis(_)));
    let share: f64 = in_time.map(|(_, share)| share).sum();
    assert!(share > 0.9, "{:?}", frequencies.shares());
}

#[test]
fn frame_keeps_frequency_of_untouched_item_to_the_bit() {
    let mut random = Pcg64Mcg::seed_from_u64(13);
    let mut frequencies = Frequencies::new(HalfLife::Auto);
    frequencies.begin_batch(40);
    (0..4_000).for_each(|event| frequencies.observe(random.random_range(0..20), event, (event > 100).then_some(20)));
    frequencies.refresh();
    let before: Vec<u64> = (0..40).map(|item| frequencies.frequency(item).to_bits()).collect();
    frequencies.begin_batch(40);
    (0..50).for_each(|event| frequencies.observe(20 + event % 5, 4_000 + i64::from(event), Some(40)));
    for (item, before) in before.iter().enumerate() {
        let is_same = frequencies.frequency(item as u32).to_bits() == *before;
        assert_eq!(is_same, !(20..25).contains(&item), "{item}");
    }
    frequencies.refresh();
    let sum: f64 = (0..40).map(|item| frequencies.share(item)).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
}

#[test]
fn keep_preserves_counts_and_renormalizes_shares() {
    let mut random = Pcg64Mcg::seed_from_u64(4);
    for half_life in [None, Some(100.0), Some(f64::INFINITY)] {
        let mut frequencies = Frequencies::new(half_life);
        frequencies.grow(60);
        (0..40).for_each(|_| frequencies.add(&[0; 25].map(|_| random.random_range(0..60))));
        let before = frequencies.clone();
        let rows = RowRemap::of_rows(60, |row| row % 4 != 2);
        frequencies.keep(&rows);
        for (old, new) in rows.kept() {
            let count = |frequencies: &Frequencies, item| frequencies.baseline().count(item);
            assert_eq!(count(&frequencies, new as u32), count(&before, old as u32));
        }
        let sum: f64 = (0..rows.n_kept() as u32).map(|item| frequencies.share(item)).sum();
        assert!((sum - 1.0).abs() < 1e-8, "{sum}");
        frequencies.grow(60);
        frequencies.add(&[59; 30]);
        let rate = match frequencies.baseline().half_life() {
            HalfLife::Events(events) => (-1.0 / events).exp2(),
            other => unreachable!("{other}"),
        };
        let expected: f64 = (0..30).map(|ago| rate.powi(ago)).sum();
        assert!((frequencies.baseline().count(59) - expected).abs() < 1e-9);
    }
}

#[test]
fn infinite_half_life_never_decays() {
    let mut frequencies = Frequencies::new(Some(f64::INFINITY));
    frequencies.grow(3);
    for _ in 0..1000 {
        frequencies.add(&[0, 1, 1]);
    }
    assert_eq!([0, 1, 2].map(|item| frequencies.baseline().count(item)), [1000.0, 2000.0, 0.0]);
}

#[test]
fn rescaling_leaves_readings_unchanged() {
    let mut frequencies = Frequencies::new(Some(1.0));
    frequencies.grow(2);
    let mut rescaled = 0;
    for step in 0..5000 {
        frequencies.add(&[step % 2]);
        rescaled += u32::from(frequencies.baseline().rescaled().is_some());
    }
    assert!(rescaled > 5);
    // The newest event weighs 1, the one before ½, …: 1 + ¼ + … = 4/3 and ½ + ⅛ + … = 2/3.
    assert!((frequencies.baseline().count(1) - 4.0 / 3.0).abs() < 1e-9);
    assert!((frequencies.baseline().count(0) - 2.0 / 3.0).abs() < 1e-9);
}

#[test]
fn repeated_items_of_a_batch_are_each_counted() {
    let half_life = 5_000.0;
    let mut frequencies = Frequencies::new(Some(half_life));
    frequencies.grow(1_000);
    let mut event = 0u32;
    let mut run = |frequencies: &mut Frequencies, events: usize, every: u32| {
        for _ in 0..events / 100 {
            let batch: Vec<u32> = (0..100)
                .map(|_| {
                    event += 1;
                    if event.is_multiple_of(every) { 0 } else { 1 + event * 7919 % 999 }
                })
                .collect();
            frequencies.add(&batch);
        }
    };
    run(&mut frequencies, 100_000, 50);
    assert!((frequencies.frequency(0) / 0.02 - 1.0).abs() < 0.05);
    // Twenty times in each batch of a hundred.
    run(&mut frequencies, 5_000, 5);
    // Exact: half of the old rate and half of the new one…
    assert!((frequencies.share(0) / 0.11 - 1.0).abs() < 0.05, "{}", frequencies.share(0));
    // …and with a quarter of the half-life 2⁻⁴ of the old one.
    assert!((frequencies.frequency(0) / 0.18875 - 1.0).abs() < 0.01, "{}", frequencies.frequency(0));
    run(&mut frequencies, 20_000, 5);
    assert!((frequencies.frequency(0) / 0.2 - 1.0).abs() < 0.05, "{}", frequencies.frequency(0));
}

/// Adds `n` events of items 0…999, of which item 0 has the share `rate` and the others the rest in equal parts.
fn stream(frequencies: &mut Frequencies, n: f64, rate: f64, random: &mut Pcg64Mcg) {
    for _ in 0..(n / 200.0).ceil() as usize {
        let item = |random: &mut Pcg64Mcg| {
            if random.random::<f64>() < rate { 0 } else { random.random_range(1..1000) }
        };
        let batch: Vec<u32> = (0..200).map(|_| item(random)).collect();
        frequencies.add(&batch);
    }
}

/// The item after a jump from the share `before` to `after` and one half-life, relative to `after`: q̂, and the mixture
/// that no memory contradicts.
fn after_a_jump(half_life: Option<f64>, before: f64, after: f64, seed: u64) -> [f64; 2] {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut frequencies = Frequencies::new(half_life);
    frequencies.grow(1_000);
    stream(&mut frequencies, 400_000.0, before, &mut random);
    let chosen = frequencies.half_life();
    stream(&mut frequencies, chosen, after, &mut random);
    [frequencies.frequency(0), frequencies.share(0)].map(|found| found / after)
}

#[test]
fn frequency_follows_jump_of_one_item_within_a_half_life() {
    for (half_life, seed) in [None, Some(20_000.0)].into_iter().flat_map(|h| (1..=4).map(move |seed| (h, seed))) {
        let [up, mixed_up] = after_a_jump(half_life, 0.003, 0.03, seed);
        let [down, mixed_down] = after_a_jump(half_life, 0.03, 0.003, seed);
        assert!((up - 1.0).abs() < 0.2 && down < 1.8, "{half_life:?}: {up}, {down}");
        // (With several, the stream as a whole may have noticed.)
        assert!(half_life.is_none() || mixed_up < 0.6 && mixed_down > 4.5, "{mixed_up}, {mixed_down}");
    }
}

/// With 5,000 events' half-life there are 150 events to tell by; their number alone varies by a twelfth.
#[test]
fn frequency_follows_jump_on_average_with_few_events() {
    let found: Vec<f64> = (0..20).map(|seed| after_a_jump(Some(5_000.0), 0.003, 0.03, seed)[0]).collect();
    let mean = found.iter().sum::<f64>() / 20.0;
    assert!((mean - 1.0).abs() < 0.12, "{mean}");
    assert!(found.iter().filter(|found| (**found - 1.0).abs() < 0.2).count() >= 15, "{found:?}");
}

#[test]
fn contradiction_ignores_chance() {
    for (half_life, n_items) in [(None, 1_000), (None, 30_000), (Some(20_000.0), 1_000), (Some(20_000.0), 30_000)] {
        let mut random = Pcg64Mcg::seed_from_u64(n_items);
        let mut frequencies = Frequencies::new(half_life);
        frequencies.grow(n_items as usize);
        let ends: Vec<f64> = (1..=n_items)
            .scan(0.0, |sum, rank| {
                *sum += 1.0 / rank as f64;
                Some(*sum)
            })
            .collect();
        let sum = ends[ends.len() - 1];
        let divergence = |q: &dyn Fn(u32) -> f64| {
            let total: f64 = (0..n_items as u32).map(q).sum();
            let term =
                |item: u32| (1.0 / (f64::from(item + 1) * sum)) * -(f64::from(item + 1) * sum * q(item) / total).ln();
            (0..n_items as u32).map(term).sum::<f64>()
        };
        let (mut settled, mut mixed) = (0.0, 0.0);
        for batch in 0..2_000 {
            let item = |random: &mut Pcg64Mcg| {
                let point = random.random::<f64>() * sum;
                ends.partition_point(|end| *end <= point) as u32
            };
            let items: Vec<u32> = (0..200).map(|_| item(&mut random)).collect();
            frequencies.add(&items);
            if batch % 200 == 199 {
                settled += divergence(&|item| frequencies.counted_frequency(item));
                mixed += divergence(&|item| frequencies.share(item) + frequencies.floor());
            }
        }
        assert!((settled / mixed - 1.0).abs() < 0.01, "{half_life:?}, {n_items}: {settled} against {mixed}");
    }
}

/// Items of which some have just jumped, under every kind of half-life.
fn jumped() -> Vec<Frequencies> {
    [None, Some(3.0), Some(20_000.0), Some(f64::INFINITY)]
        .map(|half_life| {
            let mut frequencies = Frequencies::new(half_life);
            frequencies.grow(1_000);
            let mut random = Pcg64Mcg::seed_from_u64(5);
            stream(&mut frequencies, 100_000.0, 0.003, &mut random);
            stream(&mut frequencies, 4_000.0, 0.03, &mut random);
            frequencies.add(&[7; 60]);
            frequencies
        })
        .into()
}

#[test]
fn scale_leaves_readings_unchanged() {
    for frequencies in jumped() {
        let mut other = frequencies.clone();
        for memory in &mut other.memories {
            memory.counts.iter_mut().for_each(|count| *count *= 1e-30);
            (memory.weight, memory.total) = (memory.weight * 1e-30, memory.total * 1e-30);
        }
        other.refresh();
        let all = 0..frequencies.len() as u32;
        all.for_each(|item| {
            assert!((other.frequency(item) / frequencies.frequency(item) - 1.0).abs() < 1e-12);
        });
    }
}

#[test]
fn log_frequencies_equal_single_lookups() {
    let mut contradicted = 0;
    for frequencies in jumped() {
        for (kernel, (first, n)) in
            Kernel::available().into_iter().flat_map(|kernel| [(0, 1000), (3, 33), (999, 1)].map(|run| (kernel, run)))
        {
            let mut found = vec![0.0; n];
            frequencies.log_frequencies(kernel, first, 0.5, &mut found);
            for (item, found) in (first as u32..).zip(&found) {
                let one = 0.5 * frequencies.log_frequency(item);
                assert!((found - one).abs() < 2e-6, "{found} is not {one}");
                contradicted +=
                    usize::from(frequencies.frequency(item) != frequencies.share(item) + frequencies.floor());
            }
        }
    }
    assert!(contradicted > 4);
}

#[test]
fn auto_half_life_follows_the_stream() {
    let run = |lifetime: u32| {
        let mut frequencies = Frequencies::new(None);
        let mut state = 1u64;
        for batch in 0..400u32 {
            let items: Vec<u32> = (0..256)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    // Thirty items are asked for at a time, each for `lifetime` events.
                    batch * 256 / lifetime * 30 + (state >> 40) as u32 % 30
                })
                .collect();
            frequencies.grow(*items.iter().max().unwrap() as usize + 1);
            frequencies.add(&items);
        }
        frequencies.half_life()
    };
    let (short, long) = (run(1_500), run(u32::MAX));
    assert!(short < 1_000.0, "{short}");
    assert!(long > 50_000.0, "{long}");
}

#[test]
fn span_is_counted_apart_where_the_chosen_half_life_is_shorter() {
    // Each item comes three times in a row: nothing predicts better than the shortest memory.
    let mut frequencies = Frequencies::new(None);
    frequencies.grow(2_000);
    for first in 0..6_000u32 {
        frequencies.add(&[first / 3 % 2_000]);
    }
    assert!(frequencies.half_life() < 1_000.0, "{}", frequencies.half_life());
    let nearest = |events| frequencies.counts_over_span(events).map(DecayedCounts::half_life);
    assert_eq!(nearest(2_304.0), Some(HalfLife::Events(2_000.0)));
    assert_eq!(nearest(1e9), Some(HalfLife::Events(100_000.0)));
    // What the chosen one knows itself.
    assert_eq!(nearest(1.0), None);
    assert_eq!(Frequencies::new(Some(100.0)).counts_over_span(2_304.0), None);
}

#[test]
fn counts_that_it_begins_with_weigh_as_if_they_had_come_in_any_order() {
    // Two items in turn, one of them three times as often.
    let events: Vec<u32> = (0..8_000).map(|event| u32::from(event % 4 == 0)).collect();
    for half_life in [HalfLife::Auto, HalfLife::Events(500.0)] {
        let (mut counted, mut seen) = (Frequencies::new(half_life), Frequencies::new(half_life));
        counted.begin_with(&[6_000, 2_000]);
        seen.grow(2);
        events.iter().for_each(|item| seen.observe(*item, 0, None));
        seen.refresh();
        for (counted, seen) in counted.memories().iter().zip(seen.memories()) {
            if let HalfLife::Events(events) = counted.half_life()
                && events > 100.0
            {
                assert!((counted.count(0) / seen.count(0) - 1.0).abs() < 0.02, "{events}");
                assert!((counted.share(1) - 0.25).abs() < 1e-6);
            }
        }
    }
    let mut blank = Frequencies::new(HalfLife::Auto);
    blank.begin_with(&[0, 0]);
    let mut grown = Frequencies::new(HalfLife::Auto);
    grown.grow(2);
    grown.refresh();
    assert_eq!(blank, grown);
}

/// Items that come and go, each at a rate of its own that halves in `lifetime` events; a new one every twenty events.
fn coming_and_going(half_life: f64, lifetime: f64, n_events: usize) -> (Frequencies, Vec<f64>) {
    let mut random = Pcg64Mcg::seed_from_u64(21);
    let mut frequencies = Frequencies::new(Some(half_life));
    // Rows in the order in which items come first; the rate of each, and when it began.
    let (mut rows, mut items): (Vec<usize>, Vec<(f64, f64)>) = (Vec::new(), Vec::new());
    let rate = |(rate, begun): (f64, f64), now: f64| rate * (-(now - begun) / lifetime).exp2();
    for event in 0..n_events {
        if event % 20 == 0 {
            items.push((random.random_range(0.1f64..3.0).exp(), event as f64));
        }
        let from = items.len().saturating_sub(lifetime as usize);
        let rates: Vec<f64> = items[from..].iter().map(|item| rate(*item, event as f64)).collect();
        let mut point = random.random::<f64>() * rates.iter().sum::<f64>();
        let chosen = rates.iter().position(|rate| {
            point -= rate;
            point < 0.0
        });
        let item = from + chosen.unwrap_or(rates.len() - 1);
        let row = rows.iter().position(|other| *other == item).unwrap_or_else(|| {
            rows.push(item);
            rows.len() - 1
        });
        frequencies.begin_batch(rows.len());
        frequencies.observe(row as u32, 0, None);
        frequencies.refresh();
    }
    let now: Vec<f64> = rows.iter().map(|item| rate(items[*item], n_events as f64)).collect();
    (frequencies, now)
}

#[test]
fn new_items_are_as_frequent_as_they_come_and_not_as_they_were_counted() {
    let (frequencies, rates) = coming_and_going(200.0, 200.0, 6_000);
    let divergence = |q: &dyn Fn(u32) -> f64| {
        let (of_rates, of_q) = (rates.iter().sum::<f64>(), (0..rates.len() as u32).map(q).sum::<f64>());
        let term = |(item, rate): (u32, &f64)| rate / of_rates * (rate / of_rates * of_q / q(item)).ln();
        (0..).zip(&rates).map(term).sum::<f64>()
    };
    let for_age = divergence(&|item| frequencies.frequency(item));
    let counted = divergence(&|item| frequencies.counted_frequency(item));
    assert!(for_age < 0.8 * counted, "{for_age} {counted}");
}

/// Before any new item came again nobody knows how often they do, and nothing is made of their age.
#[test]
fn first_new_items_are_as_frequent_as_they_were_counted() {
    for half_life in [HalfLife::Auto, HalfLife::Events(300.0)] {
        let mut frequencies = Frequencies::new(half_life);
        frequencies.begin_with(&[6_000, 2_000]);
        frequencies.begin_batch(3);
        frequencies.observe(2, 0, None);
        let within_frame = frequencies.log_frequency_of_touched(2);
        frequencies.refresh();
        assert!(f64::from(within_frame).exp() < 0.05, "{within_frame}");
        let (for_age, counted) = (frequencies.frequency(2), frequencies.counted_frequency(2));
        assert!((for_age / counted - 1.0).abs() < 1e-9, "{half_life:?}: {for_age} {counted}");
    }
}

/// Where new items hardly come again, their age makes next to nothing of their counts, and never less of them by much.
#[test]
fn correction_vanishes_where_new_items_hardly_come_again() {
    let half_life = 1_000.0;
    for (n_again, least, most) in [(1, 0.99, 1.5), (20, 0.99, 40.0)] {
        let mut frequencies = Frequencies::new(HalfLife::Events(half_life));
        frequencies.begin_with(&[60; 60]);
        frequencies.grow(100);
        // Thirty items come once, some of them again.
        (60..90).for_each(|item| frequencies.observe(item, 0, None));
        (60..60 + n_again).for_each(|item| frequencies.observe(item, 0, None));
        frequencies.refresh();
        let ratio = frequencies.frequency(89) / frequencies.counted_frequency(89);
        assert!(ratio > least && ratio < most, "{n_again}: {ratio}");
    }
}

#[test]
fn items_that_are_as_old_as_the_stream_are_as_frequent_as_they_were_counted() {
    for half_life in [HalfLife::Auto, HalfLife::Events(300.0), HalfLife::Events(f64::INFINITY)] {
        let mut frequencies = Frequencies::new(half_life);
        frequencies.grow(30);
        let first: Vec<u32> = (0..20).collect();
        (0..60).for_each(|_| frequencies.add(&first));
        // Others that come five times each.
        (0..5).for_each(|_| frequencies.add(&[20, 21, 22, 23, 0, 1, 2]));
        let ratio = |item| frequencies.frequency(item) / frequencies.counted_frequency(item);
        assert!((0..20).chain([25]).all(|item| (ratio(item) - 1.0).abs() < 0.05), "{half_life:?}");
        let is_corrected = half_life != HalfLife::Events(f64::INFINITY);
        assert_eq!(ratio(20) > 1.05, is_corrected, "{half_life:?} {}", ratio(20));
    }
}

#[test]
fn log_frequencies_of_new_items_equal_single_lookups() {
    let (mut frequencies, _) = coming_and_going(400.0, 200.0, 3_000);
    let n = frequencies.len();
    // Within a frame too: of those that were touched it is asked one by one.
    for round in 0..2 {
        for kernel in Kernel::available() {
            let mut found = vec![0.0; n];
            frequencies.log_frequencies(kernel, 0, 1.0, &mut found);
            let differs = |item: usize| (found[item] - frequencies.log_frequency(item as u32)).abs() > 5e-6;
            let differing: Vec<usize> = (0..n).filter(|item| differs(*item)).collect();
            assert!(differing.is_empty(), "{round} {differing:?}");
        }
        let of_touched = (0..n as u32).map(|item| frequencies.log_frequency_of_touched(item)).collect::<Vec<_>>();
        let exact = (0..n as u32).map(|item| frequencies.log_frequency(item));
        assert!(round > 0 || exact.zip(of_touched).all(|(one, other)| (one - other).abs() < 1e-5));
        frequencies.observe(n as u32 - 1, 0, None);
    }
}

#[test]
fn bursts_and_what_is_common_for_long_are_told_by_a_long_memory_that_short_ones_overrule() {
    let run = |has_bursts: bool| {
        let mut random = Pcg64Mcg::seed_from_u64(31);
        let mut frequencies = Frequencies::new(None);
        frequencies.grow(1_000);
        let ends: Vec<f64> = (1..=1_000)
            .scan(0.0, |sum, rank| {
                *sum += f64::from(rank).powf(-0.8);
                Some(*sum)
            })
            .collect();
        let (mut bursting, mut seen) = (0, vec![false; 1_000]);
        for event in 0..20_000 {
            if event % 400 == 0 {
                bursting = random.random_range(500..1_000);
            }
            if event % 100 == 0 {
                frequencies.refresh();
                frequencies.begin_batch(1_000);
            }
            let point = random.random::<f64>() * ends[ends.len() - 1];
            let common = ends.partition_point(|end| *end <= point) as u32;
            let item = if has_bursts && random.random_bool(0.5) { bursting } else { common };
            frequencies.observe(item, 0, seen[item as usize].then_some(1_000));
            seen[item as usize] = true;
        }
        frequencies.refresh();
        (frequencies, bursting)
    };
    let (frequencies, bursting) = run(true);
    assert!(frequencies.is_overruled && frequencies.half_life() == 20_000.0, "{}", frequencies.half_life());
    assert_eq!(frequencies.shares().iter().sum::<f64>(), 1.0);
    let mut order: Vec<u32> = (0..1_000).collect();
    order.sort_by(|a, b| frequencies.frequency(*b).total_cmp(&frequencies.frequency(*a)));
    assert_eq!(order[0], bursting);
    // Of the ten that are common for good, hardly one is behind what came by chance.
    assert!(order[..20].iter().filter(|item| **item < 10).count() >= 8, "{order:?}");
    // What it says of all items is what its likelihood is told by.
    let mut now = frequencies.overruled;
    now.due = 0.0;
    now.follow(frequencies.mixed(), 20_000.0);
    let of_all: f64 = (0..1_000).map(|item| now.log_likelihood(frequencies.mixed(), item, 1e-3).exp()).sum();
    assert!((of_all - 1.0).abs() < 1e-9, "{of_all}");
    // What the bank holds is told by counts over as many events.
    assert_eq!(frequencies.counts_over_span(2_304.0).map(DecayedCounts::half_life), Some(HalfLife::Events(2_000.0)));
    let (steady, _) = run(false);
    assert!(!steady.is_overruled);
}
