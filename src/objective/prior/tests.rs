//! Known truths: codes that begin far from a prior are brought to it, and a mixture finds the modes that were planted.

use rand::RngExt;

use super::*;

const SEED: u64 = 17;

fn normal(random: &mut Pcg64Mcg) -> f32 {
    StandardNormal.sample(random)
}

/// Two samples, and whether they are of one distribution: the energy distance (Székely & Rizzo 2013), and the share of
/// random divisions of all rows that are as far apart.
struct TwoSamples {
    energy: f64,
    p: f64,
}

impl TwoSamples {
    fn new(a: &[f32], b: &[f32], dim: usize) -> Self {
        const DIVISIONS: usize = 199;
        let rows: Vec<&[f32]> = a.chunks_exact(dim).chain(b.chunks_exact(dim)).collect();
        let n = rows.len();
        let mut distances = vec![0.0; n * n];
        for (from, to) in (0..n).flat_map(|from| (0..from).map(move |to| (from, to))) {
            let square: f32 = rows[from].iter().zip(rows[to]).map(|(a, b)| (a - b) * (a - b)).sum();
            distances[from * n + to] = square.sqrt();
            distances[to * n + from] = square.sqrt();
        }
        // With the sides as signs, weighted, the statistic is one quadratic form.
        let energy = |sides: &[f32]| -> f64 {
            let row = |row: &[f32]| -> f32 { row.iter().zip(sides).map(|(distance, side)| distance * side).sum() };
            let rows = distances.chunks_exact(n).zip(sides);
            -rows.map(|(distances, side)| f64::from(row(distances) * side)).sum::<f64>()
        };
        let n_a = a.len() / dim;
        let mut sides: Vec<f32> =
            (0..n).map(|row| if row < n_a { 1.0 / n_a as f32 } else { -1.0 / (n - n_a) as f32 }).collect();
        let found = energy(&sides);
        let mut random = generator(SEED, 1);
        let as_far = (0..DIVISIONS).filter(|_| {
            for last in (1..n).rev() {
                sides.swap(last, random.random_range(0..=last));
            }
            energy(&sides) >= found
        });
        let as_far = as_far.count();
        Self { energy: found, p: (as_far + 1) as f64 / (DIVISIONS + 1) as f64 }
    }

    fn are_apart(&self) -> bool {
        self.p <= 0.01
    }
}

/// Codes with a mean of norm 1 that lie nearly on a line.
fn line(dim: usize, n: usize, random: &mut Pcg64Mcg) -> Vec<f32> {
    let scale = (dim as f32).sqrt().recip();
    let mut codes = Vec::new();
    for _ in 0..n {
        let along = normal(random);
        let code = (0..dim).map(|k| 1.0 + if k % 2 == 0 { 0.5 * along } else { -0.5 * along } + 0.02 * normal(random));
        codes.extend(code.map(|number| number * scale));
    }
    codes
}

/// Codes of two modes, three of ten in the first, in which the numbers have different variances.
fn two_modes(dim: usize, n: usize, random: &mut Pcg64Mcg) -> Vec<f32> {
    let mut codes = Vec::new();
    for _ in 0..n {
        let sign = if random.random_range(0..10) < 3 { 1.0 } else { -1.0 };
        codes.extend((0..dim).map(|k| sign * 0.5 + 0.05 * (1 + k % 3) as f32 * normal(random)));
    }
    codes
}

#[test]
fn prior_moves_free_codes_to_sphere_and_gaussian() {
    let (dim, n, kernel) = (8, 256, Kernel::detect());
    for kind in [PriorDistribution::Sphere, PriorDistribution::Gaussian] {
        let mut prior = Prior::new(kind, dim, DiscriminatorSettings::default(), SEED);
        let mut codes = Parameters::new(line(dim, n, &mut generator(SEED, 0)));
        let (mut samples, mut gradients) = (Vec::new(), Vec::new());
        prior.draw(n, (SEED + 1, 0), &mut samples);
        let before = TwoSamples::new(&codes.values, &samples, dim);
        for step in 0..1500 {
            prior.step(kernel, &codes.values, (SEED, step), 0.05, &mut gradients);
            codes.step(kernel, &gradients, 0.02);
        }
        let after = TwoSamples::new(&codes.values, &samples, dim);
        assert!(before.are_apart());
        assert!(after.energy < before.energy / 30.0, "{kind:?}: from {} to {}", before.energy, after.energy);
        assert!(!after.are_apart(), "{kind:?}: {} has p = {}", after.energy, after.p);
        let stats = prior.step(kernel, &codes.values, (SEED, 1500), 0.05, &mut gradients);
        assert!((stats.generator_loss - std::f64::consts::LN_2).abs() < 0.1, "{stats:?}");
        assert!(stats.discriminator_accuracy < 0.7, "{stats:?}");
    }
}

#[test]
fn prior_trains_affine_map_to_make_the_gaussian() {
    let (dim, n, kernel) = (8, 256, Kernel::detect());
    let mut prior = Prior::new(PriorDistribution::Gaussian, dim, DiscriminatorSettings::default(), SEED);
    let mut random = generator(SEED, 2);
    // dim × dim and, last, what is added: squashed to a line, shifted.
    let mut map = Parameters::new(line(dim, dim + 1, &mut random));
    map.values[dim..dim * dim].iter_mut().for_each(|number| *number *= 0.05);
    let make = |map: &[f32], random: &mut Pcg64Mcg| -> (Vec<f32>, Vec<f32>) {
        let inputs: Vec<f32> = (0..n * dim).map(|_| normal(random)).collect();
        let codes = inputs.chunks_exact(dim).flat_map(|input| {
            (0..dim)
                .map(|to| map[dim * dim + to] + (0..dim).map(|from| input[from] * map[from * dim + to]).sum::<f32>())
        });
        let codes = codes.collect();
        (inputs, codes)
    };
    let (mut samples, mut gradients) = (Vec::new(), Vec::new());
    prior.draw(n, (SEED + 1, 0), &mut samples);
    let before = TwoSamples::new(&make(&map.values, &mut random).1, &samples, dim);
    for step in 0..1500 {
        let (inputs, codes) = make(&map.values, &mut random);
        prior.step(kernel, &codes, (SEED, step), 0.05, &mut gradients);
        let mut of_map = vec![0.0; map.values.len()];
        for (input, gradient) in inputs.chunks_exact(dim).zip(gradients.chunks_exact(dim)) {
            for (from, input) in input.iter().chain(&[1.0]).enumerate() {
                let row = of_map[from * dim..][..dim].iter_mut().zip(gradient);
                row.for_each(|(sum, gradient)| *sum += input * gradient);
            }
        }
        map.step(kernel, &of_map, 0.02);
    }
    let after = TwoSamples::new(&make(&map.values, &mut random).1, &samples, dim);
    assert!(before.are_apart());
    assert!(after.energy < before.energy / 30.0, "from {} to {}", before.energy, after.energy);
    assert!(!after.are_apart(), "{} has p = {}", after.energy, after.p);
}

#[test]
fn mixture_prior_follows_planted_modes() {
    let (dim, n, kernel) = (6, 256, Kernel::detect());
    let tests = [1, 2].map(|components| {
        let mut prior =
            Prior::new(PriorDistribution::GaussianMixture { components }, dim, DiscriminatorSettings::default(), SEED);
        let mut random = generator(SEED, 3);
        let (mut samples, mut gradients) = (Vec::new(), Vec::new());
        // It begins with modes elsewhere, and follows.
        for step in 0..600 {
            let mut codes = two_modes(dim, n, &mut random);
            if step < 100 {
                codes.iter_mut().for_each(|number| *number = 0.1 + 0.8 * *number);
            }
            let stats = prior.step(kernel, &codes, (SEED, step), 0.05, &mut gradients);
            assert!(stats.log_likelihood.is_some_and(f64::is_finite));
        }
        prior.draw(n, (SEED + 1, 0), &mut samples);
        TwoSamples::new(&two_modes(dim, n, &mut random), &samples, dim)
    });
    // One component cannot, which shows that the test can tell.
    assert!(tests[0].are_apart());
    assert!(tests[1].energy < tests[0].energy / 5.0, "{} and {}", tests[0].energy, tests[1].energy);
    assert!(!tests[1].are_apart(), "{} has p = {}", tests[1].energy, tests[1].p);
}

#[test]
fn mixture_prior_keeps_modes_apart_where_gaussian_merges_them() {
    let (dim, n, kernel) = (6, 256, Kernel::detect());
    // Share of codes that are nearer to the middle than to either mode.
    let middle = [PriorDistribution::Gaussian, PriorDistribution::GaussianMixture { components: 2 }].map(|kind| {
        let mut prior = Prior::new(kind, dim, DiscriminatorSettings::default(), SEED);
        let mut codes = Parameters::new(two_modes(dim, n, &mut generator(SEED, 4)));
        let mut gradients = Vec::new();
        for step in 0..1000 {
            prior.step(kernel, &codes.values, (SEED, step), 0.05, &mut gradients);
            codes.step(kernel, &gradients, 0.02);
        }
        let sums = codes.values.chunks_exact(dim).map(|code| code.iter().sum::<f32>().abs() / dim as f32);
        sums.filter(|mean| *mean < 0.25).count() as f64 / n as f64
    });
    assert!(middle[0] > 0.5 && middle[1] < 0.2, "{middle:?}");
}

#[test]
fn prior_restores_to_the_same_bytes() {
    let (dim, n, kernel) = (5, 40, Kernel::detect());
    for kind in
        [PriorDistribution::Sphere, PriorDistribution::Gaussian, PriorDistribution::GaussianMixture { components: 3 }]
    {
        for saved_after in [0, 4] {
            let mut random = generator(SEED, 5);
            let batches: Vec<Vec<f32>> = (0..8).map(|_| two_modes(dim, n, &mut random)).collect();
            let mut prior = Prior::new(
                kind,
                dim,
                DiscriminatorSettings { discriminator_steps: 2, ..DiscriminatorSettings::default() },
                SEED,
            );
            let mut gradients = Vec::new();
            for step in 0..saved_after {
                prior.step(kernel, &batches[step as usize], (SEED, step), 0.1, &mut gradients);
            }
            let saved: Vec<(String, Parameters)> =
                prior.parameters_mut().into_iter().map(|(name, numbers)| (name, numbers.clone())).collect();
            let mut restored = Prior::new(kind, dim, prior.settings, SEED + 1);
            for ((name, numbers), (saved_name, saved)) in restored.parameters_mut().into_iter().zip(&saved) {
                assert_eq!((&name, numbers.values.len()), (saved_name, saved.values.len()));
                numbers.clone_from(saved);
            }
            let mut restored_gradients = Vec::new();
            for step in saved_after..8 {
                let codes = &batches[step as usize];
                let stats = prior.step(kernel, codes, (SEED, step), 0.1, &mut gradients);
                let restored_stats = restored.step(kernel, codes, (SEED, step), 0.1, &mut restored_gradients);
                assert_eq!(stats, restored_stats);
                let bits = |numbers: &[f32]| -> Vec<u32> { numbers.iter().map(|number| number.to_bits()).collect() };
                assert_eq!(bits(&gradients), bits(&restored_gradients));
            }
            let bits = |prior: &mut Prior| -> Vec<u32> {
                let parameters = prior.parameters_mut();
                let numbers = parameters.iter().flat_map(|(_, numbers)| [&numbers.values, &numbers.sums]);
                numbers.flatten().map(|number| number.to_bits()).collect()
            };
            assert_eq!(bits(&mut prior), bits(&mut restored));
        }
    }
}

#[test]
fn prior_samples_have_its_moments() {
    let (dim, n) = (64, 4000);
    let mut samples = Vec::new();
    for kind in [PriorDistribution::Sphere, PriorDistribution::Gaussian] {
        let mut prior = Prior::new(kind, dim, DiscriminatorSettings::default(), SEED);
        prior.draw(n, (SEED, 0), &mut samples);
        let squares: Vec<f32> = samples.chunks_exact(dim).map(|row| row.iter().map(|x| x * x).sum()).collect();
        let mean = squares.iter().sum::<f32>() / n as f32;
        let variance = squares.iter().map(|square| (square - mean).powi(2)).sum::<f32>() / n as f32;
        // Of a sum of squares of dim numbers N(0, 1/dim): 2/dim.
        let truth = if kind == PriorDistribution::Sphere { 0.0 } else { 2.0 / dim as f32 };
        assert!((mean - 1.0).abs() < 0.01 && (variance - truth).abs() < 0.1 * truth + 1e-6, "{mean}, {variance}");
        for k in 0..dim {
            let mean: f32 = samples.iter().skip(k).step_by(dim).sum::<f32>() / n as f32;
            assert!(mean.abs() < 5.0 / ((dim * n) as f32).sqrt());
        }
        let mut again = Vec::new();
        prior.draw(n, (SEED, 0), &mut again);
        assert_eq!(samples, again);
        for other in [(SEED, 1), (SEED + 1, 0), (SEED + 1, u64::MAX)] {
            prior.draw(n, other, &mut again);
            assert!(samples.iter().zip(&again).filter(|(a, b)| a == b).count() < 10);
        }
    }
}

#[test]
fn prior_ignores_batch_without_codes() {
    let mut prior =
        Prior::new(PriorDistribution::GaussianMixture { components: 2 }, 3, DiscriminatorSettings::default(), SEED);
    let before: Vec<Parameters> = prior.parameters_mut().into_iter().map(|(_, numbers)| numbers.clone()).collect();
    let mut gradients = vec![1.0];
    assert_eq!(prior.step(Kernel::detect(), &[], (SEED, 0), 0.1, &mut gradients), PriorStats::default());
    assert!(gradients.is_empty() && prior.parameters_mut().iter().map(|(_, numbers)| &**numbers).eq(&before));
}
