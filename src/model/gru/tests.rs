//! Against a reference in double precision that shares nothing with the product code but the layout of the numbers.

use proptest::prelude::*;

use super::*;

/// A batch with what a loss Σ states ⊙ state_gradients says of each state.
#[derive(Debug, Clone)]
struct Case {
    dim: usize,
    starts: Vec<u32>,
    weights: Vec<f32>,
    inputs: Vec<f32>,
    initial: Vec<f32>,
    state_gradients: Vec<f32>,
}

impl Case {
    fn new(dim: usize, lengths: &[u32], seed: u64) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut starts = vec![0];
        for length in lengths {
            starts.push(starts[starts.len() - 1] + length);
        }
        let n_places = starts[lengths.len()] as usize;
        let mut normals = |n: usize| -> Vec<f32> { (0..n).map(|_| StandardNormal.sample(&mut random)).collect() };
        let (inputs, initial) = (normals(n_places * dim), normals(lengths.len() * dim));
        let mut state_gradients = normals(n_places * dim);
        let mut weights = start(dim, seed);
        weights.iter_mut().zip(normals(length(dim))).for_each(|(weight, noise)| *weight += 0.2 * noise);
        // Mostly nothing, as where a loss sees only some states.
        let silent = (0..n_places).filter(|place| (*place as u64 ^ seed).is_multiple_of(3));
        silent.for_each(|place| state_gradients[place * dim..][..dim].fill(0.0));
        Self { dim, starts, weights, inputs, initial, state_gradients }
    }

    fn sequences(&self) -> GruInputs<'_> {
        GruInputs { starts: &self.starts, inputs: &self.inputs, initial: &self.initial }
    }

    /// States, gradients of the weights, gradients of the inputs.
    fn run(&self, runs: &mut Runs) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        runs.forward(&self.weights, self.sequences());
        let states = runs.states().to_vec();
        let (mut weights, mut inputs) = (vec![f32::NAN; self.weights.len()], vec![f32::NAN; self.inputs.len()]);
        runs.backward(&self.weights, &self.state_gradients, &mut weights, &mut inputs);
        (states, weights, inputs)
    }

    /// The states by the book, one number after the other.
    fn reference(&self, weights: &[f64], inputs: &[f64]) -> Vec<f64> {
        let dim = self.dim;
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let of_input = |gate: usize, from: usize, to: usize| weights[from * 3 * dim + gate * dim + to];
        let of_state = |gate: usize, from: usize, to: usize| weights[(dim + from) * 3 * dim + gate * dim + to];
        let bias = |gate: usize, to: usize| weights[6 * dim * dim + gate * dim + to];
        let mut states = Vec::new();
        for (sequence, range) in self.starts.windows(2).enumerate() {
            let mut state: Vec<f64> = self.initial[sequence * dim..][..dim].iter().map(|x| f64::from(*x)).collect();
            for place in range[0] as usize..range[1] as usize {
                let input = &inputs[place * dim..][..dim];
                let product = |numbers: &[f64], weight: &dyn Fn(usize) -> f64| -> f64 {
                    numbers.iter().enumerate().map(|(from, number)| number * weight(from)).sum()
                };
                let next: Vec<f64> = (0..dim)
                    .map(|k| {
                        let reset = product(input, &|from| of_input(1, from, k))
                            + product(&state, &|from| of_state(0, from, k))
                            + bias(1, k);
                        let update = product(input, &|from| of_input(2, from, k))
                            + product(&state, &|from| of_state(1, from, k))
                            + bias(2, k);
                        let inner = product(&state, &|from| of_state(2, from, k)) + bias(3, k);
                        let outer = product(input, &|from| of_input(0, from, k)) + bias(0, k);
                        let candidate = (outer + sigmoid(reset) * inner).tanh();
                        (1.0 - sigmoid(update)) * candidate + sigmoid(update) * state[k]
                    })
                    .collect();
                state = next;
                states.extend_from_slice(&state);
            }
        }
        states
    }

    /// How the loss changes along a direction, by central differences.
    fn slope(&self, along_weights: &[f64], along_inputs: &[f64]) -> f64 {
        const STEP: f64 = 1e-5;
        let loss = |factor: f64| -> f64 {
            let moved = |numbers: &[f32], along: &[f64]| -> Vec<f64> {
                numbers.iter().zip(along).map(|(number, along)| f64::from(*number) + factor * along).collect()
            };
            let states = self.reference(&moved(&self.weights, along_weights), &moved(&self.inputs, along_inputs));
            states.iter().zip(&self.state_gradients).map(|(state, gradient)| state * f64::from(*gradient)).sum()
        };
        (loss(STEP) - loss(-STEP)) / (2.0 * STEP)
    }

    /// Compares the gradients with finite differences: along `n_directions` random directions, and at every number where
    /// there are no more than `n_directions` of them, otherwise at so many.
    fn check(&self, n_directions: usize, seed: u64) {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let (states, of_weights, of_inputs) = self.run(&mut Runs::new(self.dim));
        let truth = self.reference(&as_double(&self.weights), &as_double(&self.inputs));
        for (state, truth) in states.iter().zip(&truth) {
            assert!((f64::from(*state) - truth).abs() < 1e-5 * truth.abs().max(1.0), "{state} is not {truth}");
        }
        let gradients: Vec<f64> = as_double(&of_weights).into_iter().chain(as_double(&of_inputs)).collect();
        let largest = gradients.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        for _ in 0..n_directions {
            let direction: Vec<f64> = (0..gradients.len()).map(|_| StandardNormal.sample(&mut random)).collect();
            let found: f64 = gradients.iter().zip(&direction).map(|(a, b)| a * b).sum();
            // The norm of the gradient is how large a slope is, give or take.
            let scale = gradients.iter().map(|gradient| gradient * gradient).sum::<f64>().sqrt();
            let truth = self.slope(&direction[..of_weights.len()], &direction[of_weights.len()..]);
            assert!((found - truth).abs() <= 1e-4 * scale + 1e-7, "slope {found}, not {truth}");
        }
        let all = gradients.len() <= n_directions;
        for number in 0..gradients.len().min(n_directions) {
            let number = if all { number } else { random.random_range(0..gradients.len()) };
            let mut direction = vec![0.0; gradients.len()];
            direction[number] = 1.0;
            let truth = self.slope(&direction[..of_weights.len()], &direction[of_weights.len()..]);
            let found = gradients[number];
            let allowed = 1e-4 * truth.abs() + 1e-6 * largest + 1e-8;
            assert!((found - truth).abs() <= allowed, "number {number}: {found}, not {truth}");
        }
    }
}

fn as_double(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|number| f64::from(*number)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn gru_gradients_match_finite_differences(
        dim in 1usize..12,
        lengths in proptest::collection::vec(0u32..7, 0..80),
        seed in any::<u64>(),
    ) {
        Case::new(dim, &lengths, seed).check(6, seed);
    }

    #[test]
    fn advance_equals_forward(dim in 1usize..40, n_places in 0u32..30, seed in any::<u64>()) {
        let case = Case::new(dim, &[n_places], seed);
        let mut runs = Runs::new(dim);
        runs.forward(&case.weights, case.sequences());
        for kernel in Kernel::available() {
            let (mut state, mut scratch) = (case.initial.clone(), Vec::new());
            for (input, truth) in case.inputs.chunks_exact(dim).zip(runs.states().chunks_exact(dim)) {
                advance(kernel, &case.weights, &mut state, input, &mut scratch);
                for (state, truth) in state.iter().zip(truth) {
                    prop_assert!((state - truth).abs() < 1e-5 * truth.abs().max(1.0), "{state} is not {truth}");
                }
            }
        }
    }
}

#[test]
fn gru_gradients_match_finite_differences_one_by_one() {
    for (dim, lengths) in [(1, &[1][..]), (2, &[5, 1, 3]), (3, &[0, 4, 4, 1, 2]), (4, &[9, 2])] {
        Case::new(dim, lengths, 11).check(400, 3);
    }
    // As wide and as long as it is used.
    Case::new(64, &[20; 3], 12).check(20, 4);
}

#[test]
fn gru_gives_equal_bytes_with_any_number_of_threads() {
    let lengths: Vec<u32> = (0..150).map(|sequence| sequence * 7 % 23).collect();
    let case = Case::new(33, &lengths, 5);
    let results: Vec<_> = [1, 2, 3]
        .into_iter()
        .map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| case.run(&mut Runs::new(case.dim)))
        })
        .collect();
    let bits = |numbers: &[f32]| -> Vec<u32> { numbers.iter().map(|number| number.to_bits()).collect() };
    for result in &results[1..] {
        assert_eq!(bits(&result.0), bits(&results[0].0));
        assert_eq!(bits(&result.1), bits(&results[0].1));
        assert_eq!(bits(&result.2), bits(&results[0].2));
    }
}

#[test]
fn gru_buffers_of_an_earlier_batch_leave_no_trace() {
    let (large, small) = (Case::new(7, &[9; 100], 1), Case::new(7, &[0, 3, 1], 2));
    let mut runs = Runs::new(7);
    large.run(&mut runs);
    assert_eq!(small.run(&mut runs), small.run(&mut Runs::new(7)));
    assert_eq!(large.run(&mut runs), large.run(&mut Runs::new(7)));
    let none = Case::new(7, &[], 3);
    assert_eq!(none.run(&mut runs), (vec![], vec![0.0; length(7)], vec![]));
}

#[test]
fn gradient_ends_at_a_cut() {
    let dim = 6;
    let whole = Case::new(dim, &[8], 9);
    let (states, _, of_inputs) = whole.run(&mut Runs::new(dim));
    let cut = Case {
        starts: vec![0, 5],
        inputs: whole.inputs[3 * dim..].to_vec(),
        initial: states[2 * dim..3 * dim].to_vec(),
        state_gradients: whole.state_gradients[3 * dim..].to_vec(),
        ..whole.clone()
    };
    // The same states and gradients after the cut; what would have gone before it is left out.
    let (later_states, _, of_later_inputs) = cut.run(&mut Runs::new(dim));
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
    assert!(close(&later_states, &states[3 * dim..]));
    assert!(close(&of_later_inputs, &of_inputs[3 * dim..]));
    cut.check(20, 1);
}

#[test]
fn starting_weights_depend_on_the_seed_alone() {
    let dim = 24;
    let weights = start(dim, 4);
    assert_eq!(weights.len(), length(dim));
    assert_eq!(weights, start(dim, 4));
    assert_ne!(weights, start(dim, 5));
    for gate in 0..3 {
        let row = |row: usize| &weights[(dim + row) * 3 * dim + gate * dim..][..dim];
        for (a, b) in (0..dim).flat_map(|a| (0..dim).map(move |b| (a, b))) {
            let product: f32 = row(a).iter().zip(row(b)).map(|(a, b)| a * b).sum();
            assert!((product - if a == b { 1.0 } else { 0.0 }).abs() < 1e-5);
        }
    }
}

#[test]
#[should_panic(expected = "a backward pass follows a forward pass")]
fn a_second_backward_pass_is_refused() {
    let case = Case::new(2, &[2], 1);
    let mut runs = Runs::new(2);
    let (_, mut weights, mut inputs) = case.run(&mut runs);
    runs.backward(&case.weights, &case.state_gradients, &mut weights, &mut inputs);
}
