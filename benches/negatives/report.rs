//! The results: JSON lines as they come, and tables in Markdown at the end.

use serde_json::Value;

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<Value>,
}

/// To `digits` after the point.
pub fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (number * scale).round() / scale
}

/// To three digits, wherever the point is.
pub fn significant(number: f64) -> f64 {
    if number == 0.0 { 0.0 } else { format!("{number:.2e}").parse().unwrap_or(number) }
}

fn text(line: &Value, key: &str) -> String {
    match &line[key] {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Report {
    /// Prints and keeps a result.
    pub fn line(&mut self, line: Value) {
        println!("{line}");
        self.lines.push(line);
    }

    fn of(&self, measure: &str) -> impl Iterator<Item = &Value> {
        self.lines.iter().filter(move |line| line["measure"] == measure)
    }

    /// Prints the tables.
    pub fn print_markdown(&self) {
        let columns = [
            ("sampler", "sampler"),
            ("half_life", "half-life"),
            ("draws_per_second", "draws/s"),
            ("probability_ns", "probability, ns"),
            ("observe_ns", "observe, ns per event"),
            ("observe_median_ns", "median batch, ns per event"),
            ("ask_ns", "ask, ns per query"),
            ("ask_alone_ns", "asked by one, ns"),
        ];
        self.table("Speed", self.of("speed"), &columns);
        let columns = [
            ("stream", "stream"),
            ("sampler", "sampler"),
            ("half_life", "half-life"),
            ("queries_asked", "queries that share q"),
            ("log_loss", "log-loss, nats"),
            ("kl", "KL(truth ‖ q), nats"),
            ("entropy", "entropy of q, nats"),
        ];
        self.table("Closeness to the stream", self.of("kl"), &columns);
        self.bias();
    }

    fn table<'a>(&self, title: &str, lines: impl Iterator<Item = &'a Value>, columns: &[(&str, &str)]) {
        let mut lines = lines.peekable();
        if lines.peek().is_none() {
            return;
        }
        println!("\n### {title}\n");
        println!("| {} |", columns.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(" | "));
        println!("|{}", " --- |".repeat(columns.len()));
        for line in lines {
            println!("| {} |", columns.iter().map(|(key, _)| text(line, key)).collect::<Vec<_>>().join(" | "));
        }
    }

    /// A table for each stream and form: samplers down, numbers of draws across.
    fn bias(&self) {
        let same = |a: &Value, b: &Value, keys: &[&str]| keys.iter().all(|key| a[key] == b[key]);
        let mut tables: Vec<Vec<&Value>> = Vec::new();
        for line in self.of("bias") {
            match tables.iter_mut().find(|table| same(table[0], line, &["stream", "form"])) {
                Some(table) => table.push(line),
                None => tables.push(vec![line]),
            }
        }
        for table in tables {
            let (stream, form) = (text(table[0], "stream"), text(table[0], "form"));
            println!("\n### Relative bias on {stream}, {form} (± standard error; deviation of a single gradient)\n");
            for (row, lines) in table.chunk_by(|a, b| same(a, b, &["sampler"])).enumerate() {
                if row == 0 {
                    let draws = lines.iter().map(|line| format!("N = {}", line["draws"]));
                    println!("| sampler | {} | slope |", draws.collect::<Vec<_>>().join(" | "));
                    println!("|{}", " --- |".repeat(lines.len() + 2));
                }
                let cell = |line: &&Value| {
                    format!("{} ± {} ({})", line["bias"], line["standard_error"], text(line, "deviation"))
                };
                let cells = lines.iter().map(cell).collect::<Vec<_>>().join(" | ");
                let slope = self.of("bias_slope").find(|line| same(line, lines[0], &["stream", "form", "sampler"]));
                let slope = slope.map_or("–".to_owned(), |line| text(line, "slope"));
                println!("| {} | {cells} | {slope} |", text(lines[0], "sampler"));
            }
        }
    }
}
