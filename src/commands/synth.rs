//! `synth`: a synthetic log with known structure.

use super::{CommandContext, print};
use crate::cli::SynthArgs;
use crate::config::Config;
use crate::synth::log::write_parquet;
use crate::synth::{EventGenerator, SynthConfig};

pub(super) fn synth(config: &Config, options: SynthArgs) -> anyhow::Result<()> {
    super::check_file("--output", &options.output)?;
    let context = CommandContext::set_up(config)?;
    let SynthArgs { events, output, users, items, topics, lifetime, interleave } = options;
    let seed = config.seed;
    let mut synth =
        EventGenerator::new(SynthConfig { seed, users, items, topics, lifetime, interleave, ..SynthConfig::default() });
    let bar = context.bar(events, "events");
    let stop = context.stop.clone();
    write_parquet(&mut synth, events, &output, |written| {
        bar.set_position(written);
        if stop.requested() {
            // Nothing is at the path yet, and what was begun goes with the process.
            std::process::exit(130);
        }
    })?;
    bar.finish_and_clear();
    print(&format!("{events} events written to {}\n", output.display()));
    Ok(())
}
