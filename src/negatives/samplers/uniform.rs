//! `uniform`: every live item alike.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

use super::{NoiseSampler, Scene, Seen};
use crate::state_dict::{StateDict, StateDictError};
use crate::table::row_remap::RowRemap;

/// Draws from all live items.
#[derive(Debug, Default)]
pub struct Uniform;

impl NoiseSampler for Uniform {
    fn observe(&mut self, _scene: Scene<'_>, _seen: Seen<'_>) {}

    fn is_empty(&self, scene: Scene<'_>) -> bool {
        scene.live.items().is_empty()
    }

    fn draw(&self, scene: Scene<'_>, draws: usize, random: &mut Pcg64Mcg, out: &mut Vec<u32>) {
        let items = scene.live.items();
        if !items.is_empty() {
            out.extend((0..draws).map(|_| items[random.random_range(0..items.len())]));
        }
    }

    fn probability(&self, scene: Scene<'_>, item: u32) -> f64 {
        if scene.live.contains(item) { (scene.live.items().len() as f64).recip() } else { 0.0 }
    }

    fn keep_items(&mut self, _items: &RowRemap) {}

    fn save(&self, _out: &mut StateDict) {}

    fn restore(&mut self, _scene: Scene<'_>, _saved: &mut StateDict) -> Result<(), StateDictError> {
        Ok(())
    }
}
