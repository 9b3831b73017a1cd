//! `uniform`: every live item alike.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::registry::{Origin, SamplerOptions};
use super::{BatchObservation, NoiseSampler, StreamView};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;
use crate::util::component::Component;
use crate::util::config_section::config_section;

config_section! {
    /// The options of `uniform`, which has none of its own.
    pub struct UniformOptions {}
}

impl Component for UniformOptions {
    const NAME: &'static str = "uniform";
    const SUMMARY: &'static str = "Every live item alike.";
}

impl SamplerOptions for UniformOptions {
    const ORIGIN: Origin = Origin::State(1);
    const TESTED: &'static [&'static str] = &[""];

    fn build(&self) -> Box<dyn NoiseSampler> {
        Box::new(Uniform)
    }
}

/// Draws from all live items.
#[derive(Debug, Default)]
pub struct Uniform;

impl NoiseSampler for Uniform {
    fn observe(&mut self, _view: StreamView<'_>, _observed: BatchObservation<'_>) {}

    fn is_empty(&self, view: StreamView<'_>) -> bool {
        view.live.items().is_empty()
    }

    fn draw(&self, view: StreamView<'_>, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        let items = view.live.items();
        if !items.is_empty() {
            out.extend((0..draws).map(|_| items[random.random_range(0..items.len())]));
        }
    }

    fn probability(&self, view: StreamView<'_>, item: u32) -> f64 {
        if view.live.contains(item) { (view.live.items().len() as f64).recip() } else { 0.0 }
    }

    fn keep_items(&mut self, _items: &RowRemap) {}

    fn save(&self, _out: &mut StateDict) {}

    fn restore(&mut self, _view: StreamView<'_>, _saved: &mut StateDict) -> Result<(), StateDictError> {
        Ok(())
    }
}
