//! `--help`: the commands in groups, by what somebody wants to do, and examples.

use clap::Command;

/// The commands, by what somebody wants to do with them.
const GROUPS: [(&str, &[&str]); 6] = [
    ("See it at work", &["demo", "synth"]),
    ("Learn from logs", &["check", "replay", "import", "compare", "tune"]),
    ("Learn from Kafka", &["run", "produce", "migrate", "audit"]),
    ("Use what was learnt", &["recommend", "neighbors", "serve", "publish", "export"]),
    ("Look into it", &["inspect", "negatives"]),
    ("Set it up", &["config", "doctor", "completions", "man"]),
];

/// Examples of the commands that come first.
pub(super) const EXAMPLES: &str = "\
Examples:
  negstream demo                                          everything at work, nothing to set up
  negstream check ratings.csv --write ratings.toml        what a log holds, and the settings it needs
  negstream replay ratings.csv --sort -c ratings.toml     learn from it
  negstream recommend checkpoints --user 42               what a user should see next
  negstream compare ratings.csv --sort -c ratings.toml    against popularity, item-kNN and others
  negstream run --set kafka.brokers=localhost:9092        learn from a topic, until told to stop
  negstream doctor -c worker.toml                         will this configuration work here?";

/// Examples of single commands.
const OF_COMMANDS: [(&str, &[&str]); 14] = [
    ("check", &["negstream check ratings.csv --write ratings.toml", "negstream check s3://shop/events/ --json"]),
    (
        "replay",
        &[
            "negstream replay events.parquet --report report.json",
            "negstream replay 'logs/2026-*.csv.gz' --sort --set source.fields.user_id=visitorid",
            "negstream replay events.parquet --fresh --set model.dim=128 --set checkpoint.dir=other",
        ],
    ),
    (
        "import",
        &[
            "negstream import vectors.parquet --set model.dim=128",
            "negstream import vectors.parquet --id sku --vector factors --count views --set model.dim=128",
        ],
    ),
    ("compare", &["negstream compare events.parquet --variant 'wide: model.dim=128' --html comparison.html"]),
    ("tune", &["negstream tune events.parquet --range 'train.learning_rate=0.01..0.2:log' --choice 'model.dim=32,64'"]),
    ("produce", &["negstream produce events.parquet --set kafka.brokers=localhost:9092"]),
    (
        "run",
        &[
            "negstream run -c worker.toml",
            "negstream run --until-end --set kafka.brokers=localhost:9092 --report report.json",
        ],
    ),
    (
        "recommend",
        &[
            "negstream recommend checkpoints --user 42 -k 10",
            "negstream recommend checkpoints --item 7 --item 9 --json",
        ],
    ),
    ("serve", &["negstream serve checkpoints --set http.listen=127.0.0.1:9464"]),
    ("publish", &["negstream publish verify checkpoints -c worker.toml"]),
    ("export", &["negstream export checkpoints --to faiss vectors"]),
    ("doctor", &["negstream doctor -c worker.toml", "negstream doctor --json"]),
    ("completions", &["negstream completions bash"]),
    ("man", &["negstream man /usr/local/share/man/man1"]),
];

/// Columns that names of commands take, and that a line has.
const NAMES: usize = 13;
const WIDTH: usize = 100;

/// The command whose help shows its commands in groups.
pub(super) fn grouped(command: Command) -> Command {
    let mut list = String::new();
    for (title, names) in GROUPS {
        // Bold and underlined, as the parser's own headings; it leaves that out where there is no terminal.
        list.push_str(&format!("\n\x1b[1m\x1b[4m{title}:\x1b[0m\n"));
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            list.push_str(&entry(name, &about));
        }
    }
    let command = OF_COMMANDS.iter().fold(command, |command, (name, examples)| {
        let lines: Vec<String> = examples.iter().map(|example| format!("  {example}")).collect();
        command.mut_subcommand(name, |command| command.after_help(format!("Examples:\n{}", lines.join("\n"))))
    });
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{list}\n\x1b[1m\x1b[4mOptions:\x1b[0m\n{{options}}{{after-help}}"
    ))
}

/// A command with what it does, in as many lines as that takes.
fn entry(name: &str, about: &str) -> String {
    let mut text = format!("  \x1b[1m{name:<NAMES$}\x1b[0m");
    let mut column = NAMES + 2;
    for word in about.split_whitespace() {
        if column + word.chars().count() + 1 > WIDTH {
            text.push('\n');
            text.push_str(&" ".repeat(NAMES + 2));
            column = NAMES + 2;
        } else if column > NAMES + 2 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.chars().count();
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_is_in_one_group() {
        let command = Cli::command();
        let there: BTreeSet<&str> = command.get_subcommands().map(Command::get_name).collect();
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        assert_eq!(grouped.len(), there.len());
        assert_eq!(grouped.into_iter().collect::<BTreeSet<_>>(), there);
    }

    /// The arguments of a line, as a shell takes them apart.
    fn arguments(line: &str) -> Vec<String> {
        let mut arguments = Vec::new();
        for (place, part) in line.split('\'').enumerate() {
            match place % 2 {
                0 => arguments.extend(part.split_whitespace().map(str::to_owned)),
                _ => arguments.push(part.to_owned()),
            }
        }
        arguments
    }

    #[test]
    fn examples_are_understood() {
        use clap::Parser as _;

        let of_all = EXAMPLES.lines().skip(1).filter_map(|line| line.trim().split("  ").next());
        for line in of_all.chain(OF_COMMANDS.iter().flat_map(|(_, examples)| examples.iter().copied())) {
            if let Err(error) = Cli::try_parse_from(arguments(line)) {
                panic!("{line}: {error}");
            }
        }
        for (name, examples) in OF_COMMANDS {
            assert!(examples.iter().all(|example| example.starts_with(&format!("negstream {name} "))), "{name}");
        }
    }

    #[test]
    fn help_shows_groups_and_examples() {
        let help = grouped(Cli::command()).render_help().to_string();
        for words in ["Learn from logs:", "Examples:", "  check ", "--set <KEY=VALUE>", "Exit status:"] {
            assert!(help.contains(words), "{words}: {help}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 130), "{help}");
    }
}
