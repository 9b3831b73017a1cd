//! Prior matching: the codes of a batch are moved to be distributed like a prior.
//!
//! A [`discriminator`] learns to tell codes from samples of the prior, and codes are moved to where it cannot, as in
//! adversarial autoencoders (Makhzani et al. 2015) and Deep InfoMax (Hjelm et al. 2019, §3.3). The prior may itself be
//! estimated on the codes, as a [`mixture`] of Gaussians: data are often multi-modal, and a prior with one mode would
//! pull their modes together.
//!
//! The caller weighs the loss among others, moves the codes, and decides when parameters are saved.

use crate::kernel::Kernel;
use crate::table::adagrad::Parameters;
use crate::table::rows::{GOLDEN, split_mix};
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64Mcg;

use discriminator::{Discriminator, Judgement};
use mixture::GaussianMixture;

mod discriminator;
mod mixture;

#[cfg(test)]
mod tests;

/// The distribution that codes are moved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriorDistribution {
    /// Uniformly on the sphere of radius 1.
    Sphere,
    /// N(0, I/dim), so that norms are about 1.
    Gaussian,
    /// A mixture of Gaussians that is estimated on the codes. Nothing but the codes holds it in place: where no other
    /// loss holds them apart, both slowly close up together.
    GaussianMixture {
        /// The number of Gaussians, at least 1.
        components: usize,
    },
}

/// How the discriminator is made and trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiscriminatorSettings {
    /// Width of the discriminator's hidden layer.
    pub hidden: usize,
    /// Steps of the discriminator on each batch, with new samples each.
    pub discriminator_steps: usize,
    /// Weight γ of the penalty on the discriminator's slope at the samples (R1 of Mescheder et al. 2018); 0: none.
    pub gradient_penalty: f32,
}

impl Default for DiscriminatorSettings {
    fn default() -> Self {
        Self { hidden: 64, discriminator_steps: 1, gradient_penalty: 0.5 }
    }
}

/// How far a batch was from the prior.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PriorStats {
    /// − mean ln D(code), nats: what the gradients are of. ln 2 where codes and samples cannot be told apart.
    pub generator_loss: f64,
    /// − mean ln D(sample) − mean ln(1 − D(code)), nats, before the discriminator's last step. 2·ln 2 where they cannot
    /// be told apart.
    pub discriminator_loss: f64,
    /// Share of samples and codes that the discriminator was right about, before its last step: ½ where it guesses.
    pub discriminator_accuracy: f64,
    /// Mean log-likelihood of the codes under the mixture before its step, nats, where the prior is one.
    pub log_likelihood: Option<f64>,
}

/// A prior, with the discriminator and the mixture that are learned to match it.
#[derive(Debug, Clone)]
pub struct Prior {
    kind: PriorDistribution,
    dim: usize,
    settings: DiscriminatorSettings,
    discriminator: Discriminator,
    mixture: Option<GaussianMixture>,
    /// 2·n × dim: samples, then codes.
    rows: Vec<f32>,
}

impl Prior {
    /// A prior for codes of `dim` numbers. Its initial parameters depend on the arguments alone.
    pub fn new(kind: PriorDistribution, dim: usize, settings: DiscriminatorSettings, seed: u64) -> Self {
        let mixture = match kind {
            PriorDistribution::Sphere | PriorDistribution::Gaussian => None,
            PriorDistribution::GaussianMixture { components } => Some(GaussianMixture::new(components, dim)),
        };
        let discriminator = Discriminator::new(dim, settings.hidden, settings.gradient_penalty, seed);
        Self { kind, dim, settings, discriminator, mixture, rows: Vec::new() }
    }

    /// Learns from `codes` (n × dim), and puts in place of what is in `gradients` (to be n × dim) the gradient of
    /// [`PriorStats::generator_loss`] with respect to them. What is drawn depends on the last argument, a seed and the
    /// number of the step, and on the learnt numbers.
    ///
    /// # Panics
    /// If the length of `codes` is not a multiple of `dim`.
    pub fn step(
        &mut self,
        kernel: Kernel,
        codes: &[f32],
        (seed, step): (u64, u64),
        learning_rate: f32,
        gradients: &mut Vec<f32>,
    ) -> PriorStats {
        assert_eq!(codes.len() % self.dim, 0);
        gradients.clear();
        gradients.resize(codes.len(), 0.0);
        let n_codes = codes.len() / self.dim;
        if n_codes == 0 {
            return PriorStats::default();
        }
        let mut random = generator(seed, step);
        let log_likelihood =
            self.mixture.as_mut().map(|mixture| mixture.step(kernel, codes, &mut random, learning_rate));
        let mut judgement = Judgement::default();
        for _ in 0..self.settings.discriminator_steps {
            self.rows.clear();
            draw(self.kind, self.dim, &mut self.mixture, n_codes, &mut random, &mut self.rows);
            self.rows.extend_from_slice(codes);
            judgement = self.discriminator.step(kernel, &self.rows, learning_rate);
        }
        PriorStats {
            generator_loss: self.discriminator.fool(codes, gradients),
            discriminator_loss: judgement.loss,
            discriminator_accuracy: judgement.accuracy,
            log_likelihood,
        }
    }

    #[cfg(test)]
    /// Draws `n` samples (n × dim) of the prior as it stands, in place of what is in `out`.
    pub fn draw(&mut self, n: usize, (seed, step): (u64, u64), out: &mut Vec<f32>) {
        out.clear();
        draw(self.kind, self.dim, &mut self.mixture, n, &mut generator(seed, step), out);
    }

    /// All learned parameters, by name: the one list for saving and restoring. Lengths must stay as they are.
    pub fn parameters_mut(&mut self) -> Vec<(String, &mut Parameters)> {
        let mut numbers = vec![("discriminator".to_owned(), &mut self.discriminator.parameters)];
        if let Some(GaussianMixture { means, log_variances, logits, begun, .. }) = &mut self.mixture {
            numbers.push(("mixture_means".to_owned(), means));
            numbers.push(("mixture_log_variances".to_owned(), log_variances));
            numbers.push(("mixture_logits".to_owned(), logits));
            numbers.push(("mixture_begun".to_owned(), begun));
        }
        numbers
    }
}

/// Appends `n` samples to `out`.
fn draw(
    kind: PriorDistribution,
    dim: usize,
    mixture: &mut Option<GaussianMixture>,
    n: usize,
    random: &mut Pcg64Mcg,
    out: &mut Vec<f32>,
) {
    if let Some(mixture) = mixture {
        return mixture.draw(n, random, out);
    }
    let deviation = (dim as f32).sqrt().recip();
    for _ in 0..n {
        let begin = out.len();
        out.extend((0..dim).map(|_| {
            let normal: f32 = StandardNormal.sample(random);
            normal * deviation
        }));
        if kind == PriorDistribution::Sphere {
            // The direction of a normal vector is uniform (Muller 1959).
            let norm = out[begin..].iter().map(|number| number * number).sum::<f32>().sqrt();
            out[begin..].iter_mut().for_each(|number| *number /= norm.max(f32::MIN_POSITIVE));
        }
    }
}

/// The generator of a step. Both numbers are mixed before they meet (SplitMix64, Steele et al. 2014), so that
/// neighbouring seeds and steps have nothing in common.
fn generator(seed: u64, step: u64) -> Pcg64Mcg {
    let mix = |number: u64| split_mix(number.wrapping_add(GOLDEN));
    Pcg64Mcg::seed_from_u64(mix(mix(seed).wrapping_add(step)))
}
