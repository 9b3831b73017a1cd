//! A small evaluator of the part of PromQL that `deploy/alerts.yaml` uses, over samples that a test has scraped.
//!
//! It knows: selectors with `=` matchers and ranges; `rate`, `increase`, `delta`, `max_over_time`; `sum by`, `max by`;
//! comparisons, arithmetic and `and`, with `on`; numbers and `time()`. Whatever else an expression holds is an error. It
//! differs from Prometheus in one point: rates are not extrapolated to the edges of their range.

use std::collections::BTreeMap;

/// An operator and what it compares by.
type Comparison = (&'static str, fn(f64, f64) -> bool);
/// A function of a range of samples (time, value), by name.
type RangeFunction = (&'static str, fn(&[(f64, f64)]) -> Option<f64>);

/// Names of labels and their values, the name of the metric apart.
pub type Labels = BTreeMap<String, String>;

/// How old a sample may be that an instant selector finds, in seconds.
const LOOKBACK: f64 = 300.0;

/// A series: its metric, its labels, and its samples (time in seconds, value), oldest first; `None` marks the scrape at which
/// the series was gone.
#[derive(Debug)]
struct Series {
    metric: String,
    labels: Labels,
    samples: Vec<(f64, Option<f64>)>,
}

/// The samples that were scraped.
#[derive(Debug, Default)]
pub struct Database(Vec<Series>);

impl Database {
    /// Adds a scrape of `instance` at `time` (seconds): its exposition in the text format, or `None` where it did not answer.
    pub fn scrape(&mut self, time: f64, instance: &str, exposition: Option<&str>) {
        let mut found = BTreeMap::new();
        for line in exposition.unwrap_or_default().lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
            found.insert(parse_series(series), parse_number(value));
        }
        found.insert(("up".to_owned(), Labels::new()), f64::from(u8::from(exposition.is_some())));
        let target =
            [("instance", instance), ("job", "negstream")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut found: BTreeMap<(String, Labels), f64> = found
            .into_iter()
            .map(|((metric, mut labels), value)| {
                labels.extend(target.clone());
                ((metric, labels), value)
            })
            .collect();
        for series in self.0.iter_mut().filter(|series| series.labels.get("instance").is_some_and(|of| of == instance))
        {
            let value = found.remove(&(series.metric.clone(), series.labels.clone()));
            series.samples.push((time, value));
        }
        let new = found.into_iter().map(|((metric, labels), value)| Series {
            metric,
            labels,
            samples: vec![(time, Some(value))],
        });
        self.0.extend(new);
    }

    /// The series for which `expression` holds at `time`: an alert fires for each of them.
    pub fn query(&self, expression: &str, time: f64) -> Result<Vec<(Labels, f64)>, String> {
        let mut parser = Parser { rest: expression.trim(), database: self, time };
        let value = parser.and()?;
        if !parser.rest.is_empty() {
            return Err(format!("not understood: {}", parser.rest));
        }
        match value {
            Value::Vector(vector) => Ok(vector),
            value => Err(format!("no vector: {value:?}")),
        }
    }
}

fn parse_series(text: &str) -> (String, Labels) {
    let Some((metric, labels)) = text.split_once('{') else { return (text.to_owned(), Labels::new()) };
    let mut rest = labels.strip_suffix('}').expect("labels end");
    let mut found = Labels::new();
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").expect("a label has a value");
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().expect("a value ends") {
                (_, '\\') => value.push(characters.next().expect("something is escaped").1),
                (place, '"') => break place,
                (_, character) => value.push(character),
            }
        };
        found.insert(name.to_owned(), value);
        rest = after[end + 1..].trim_start_matches(',');
    }
    (metric.to_owned(), found)
}

fn parse_number(text: &str) -> f64 {
    text.replace("Inf", "inf").parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

/// Seconds of a duration such as `10m`.
pub fn parse_duration(text: &str) -> Result<f64, String> {
    let unit = text.chars().last().ok_or("an empty duration")?;
    let seconds = match unit {
        's' => 1.0,
        'm' => 60.0,
        'h' => 3_600.0,
        'd' => 86_400.0,
        _ => return Err(format!("no duration: {text}")),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| format!("no duration: {text}"))?;
    Ok(seconds * f64::from(number))
}

#[derive(Debug)]
enum Value {
    Scalar(f64),
    Vector(Vec<(Labels, f64)>),
    Range(Vec<(Labels, Vec<(f64, f64)>)>),
}

struct Parser<'a> {
    rest: &'a str,
    database: &'a Database,
    time: f64,
}

impl<'a> Parser<'a> {
    fn accept(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else { return false };
        let is_word = token.ends_with(|last: char| last.is_ascii_alphanumeric());
        if is_word && rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_') {
            return false;
        }
        self.rest = rest.trim_start();
        true
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.accept(token) { Ok(()) } else { Err(format!("'{token}' is missing before: {}", self.rest)) }
    }

    fn take(&mut self, part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|character| !part(character)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        taken
    }

    fn names(&mut self) -> Result<Vec<String>, String> {
        self.expect("(")?;
        let mut names = Vec::new();
        while !self.accept(")") {
            names.push(self.take(|character| character.is_ascii_alphanumeric() || character == '_').to_owned());
            self.accept(",");
        }
        Ok(names)
    }

    fn on(&mut self) -> Result<Option<Vec<String>>, String> {
        if self.accept("on") { self.names().map(Some) } else { Ok(None) }
    }

    fn and(&mut self) -> Result<Value, String> {
        let mut left = self.comparison()?;
        while self.accept("and") {
            let on = self.on()?;
            let (Value::Vector(kept), Value::Vector(right)) = (left, self.comparison()?) else {
                return Err("'and' stands between vectors".to_owned());
            };
            let kept = kept.into_iter().filter(|(labels, _)| partner(labels, &right, on.as_deref()).is_some());
            left = Value::Vector(kept.collect());
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Value, String> {
        let left = self.sum()?;
        const COMPARISONS: [Comparison; 6] = [
            ("==", |a, b| a == b),
            ("!=", |a, b| a != b),
            (">=", |a, b| a >= b),
            ("<=", |a, b| a <= b),
            (">", |a, b| a > b),
            ("<", |a, b| a < b),
        ];
        for (sign, holds) in COMPARISONS {
            if self.accept(sign) {
                let on = self.on()?;
                let right = self.sum()?;
                return binary(left, right, on.as_deref(), &|a, b| holds(a, b).then_some(a), true);
            }
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Value, String> {
        let mut left = self.product()?;
        loop {
            let operation: fn(f64, f64) -> f64 = match () {
                () if self.accept("-") => |a, b| a - b,
                () if self.accept("+") => |a, b| a + b,
                () => return Ok(left),
            };
            let on = self.on()?;
            let right = self.product()?;
            left = binary(left, right, on.as_deref(), &|a, b| Some(operation(a, b)), false)?;
        }
    }

    fn product(&mut self) -> Result<Value, String> {
        let mut left = self.operand()?;
        loop {
            let operation: fn(f64, f64) -> f64 = match () {
                () if self.accept("/") => |a, b| a / b,
                () if self.accept("*") => |a, b| a * b,
                () => return Ok(left),
            };
            let on = self.on()?;
            let right = self.operand()?;
            left = binary(left, right, on.as_deref(), &|a, b| Some(operation(a, b)), false)?;
        }
    }

    fn operand(&mut self) -> Result<Value, String> {
        if self.accept("(") {
            let value = self.and()?;
            self.expect(")")?;
            return Ok(value);
        }
        if self.rest.starts_with(|first: char| first.is_ascii_digit()) {
            let number = self.take(|character| character.is_ascii_digit() || character == '.');
            return number.parse().map(Value::Scalar).map_err(|_| format!("no number: {number}"));
        }
        if self.accept("time") {
            self.expect("(")?;
            self.expect(")")?;
            return Ok(Value::Scalar(self.time));
        }
        for (name, fold) in [("sum", (|a, b| a + b) as fn(f64, f64) -> f64), ("max", f64::max)] {
            if self.accept(name) {
                self.expect("by")?;
                let by = self.names()?;
                self.expect("(")?;
                let Value::Vector(vector) = self.and()? else { return Err(format!("{name} of no vector")) };
                self.expect(")")?;
                let mut groups: BTreeMap<Labels, f64> = BTreeMap::new();
                for (labels, value) in vector {
                    let group = only(&labels, &by);
                    groups.entry(group).and_modify(|so_far| *so_far = fold(*so_far, value)).or_insert(value);
                }
                return Ok(Value::Vector(groups.into_iter().collect()));
            }
        }
        const FUNCTIONS: [RangeFunction; 4] = [
            ("rate", |samples| Some(increase(samples)? / (samples.last()?.0 - samples.first()?.0))),
            ("increase", increase),
            ("delta", |samples| (samples.len() > 1).then(|| samples[samples.len() - 1].1 - samples[0].1)),
            ("max_over_time", |samples| samples.iter().map(|(_, value)| *value).reduce(f64::max)),
        ];
        for (name, function) in FUNCTIONS {
            if self.accept(name) {
                self.expect("(")?;
                let Value::Range(ranges) = self.selector()? else { return Err(format!("{name} of no range")) };
                self.expect(")")?;
                let results = ranges.into_iter().filter_map(|(labels, samples)| Some((labels, function(&samples)?)));
                return Ok(Value::Vector(results.collect()));
            }
        }
        self.selector()
    }

    fn selector(&mut self) -> Result<Value, String> {
        let metric = self.take(|character| character.is_ascii_alphanumeric() || character == '_');
        if metric.is_empty() {
            return Err(format!("no operand before: {}", self.rest));
        }
        let mut matchers = Labels::new();
        if self.accept("{") {
            while !self.accept("}") {
                let name = self.take(|character| character.is_ascii_alphanumeric() || character == '_').to_owned();
                self.expect("=")?;
                self.expect("\"")?;
                let value = self.take(|character| character != '"').to_owned();
                self.expect("\"")?;
                self.accept(",");
                matchers.insert(name, value);
            }
        }
        let matches = |series: &&Series| {
            series.metric == metric && matchers.iter().all(|(name, value)| series.labels.get(name) == Some(value))
        };
        let selected = self.database.0.iter().filter(matches);
        if !self.accept("[") {
            let newest = |series: &Series| {
                let (time, value) = series.samples.iter().rfind(|(time, _)| *time <= self.time)?;
                value.filter(|_| self.time - time < LOOKBACK)
            };
            let vector = selected.filter_map(|series| Some((series.labels.clone(), newest(series)?)));
            return Ok(Value::Vector(vector.collect()));
        }
        let range = parse_duration(self.take(|character| character.is_ascii_alphanumeric()))?;
        let ranges = selected.map(|series| {
            let within = |time: f64| self.time - range < time && time <= self.time;
            let samples = series.samples.iter().filter(|(time, _)| within(*time));
            (series.labels.clone(), samples.filter_map(|(time, value)| Some((*time, (*value)?))).collect())
        });
        let ranges = Value::Range(ranges.collect());
        self.expect("]")?;
        Ok(ranges)
    }
}

/// The growth of a counter; it begins again at 0 where it falls.
fn increase(samples: &[(f64, f64)]) -> Option<f64> {
    let growth = |pair: &[(f64, f64)]| if pair[1].1 < pair[0].1 { pair[1].1 } else { pair[1].1 - pair[0].1 };
    (samples.len() > 1).then(|| samples.windows(2).map(growth).sum())
}

fn only(labels: &Labels, names: &[String]) -> Labels {
    labels.iter().filter(|(name, _)| names.contains(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The value of the series in `vector` that belongs to `labels`.
fn partner(labels: &Labels, vector: &[(Labels, f64)], on: Option<&[String]>) -> Option<f64> {
    let same = |other: &Labels| match on {
        Some(names) => only(labels, names) == only(other, names),
        None => labels == other,
    };
    vector.iter().find(|(other, _)| same(other)).map(|(_, value)| *value)
}

/// Applies `operation` to each pair; a comparison keeps the left side as it is, arithmetic keeps the labels matched on.
fn binary(
    left: Value,
    right: Value,
    on: Option<&[String]>,
    operation: &dyn Fn(f64, f64) -> Option<f64>,
    is_comparison: bool,
) -> Result<Value, String> {
    let vector = match (left, right) {
        (Value::Vector(left), Value::Scalar(right)) => {
            left.into_iter().filter_map(|(labels, value)| Some((labels, operation(value, right)?))).collect()
        }
        (Value::Scalar(left), Value::Vector(right)) if !is_comparison => {
            right.into_iter().filter_map(|(labels, value)| Some((labels, operation(left, value)?))).collect()
        }
        (Value::Vector(left), Value::Vector(right)) => {
            let pair = |(labels, value): (Labels, f64)| {
                let result = operation(value, partner(&labels, &right, on)?)?;
                let labels = on.filter(|_| !is_comparison).map_or(labels.clone(), |names| only(&labels, names));
                Some((labels, result))
            };
            left.into_iter().filter_map(pair).collect()
        }
        (left, right) => return Err(format!("neither side fits: {left:?}, {right:?}")),
    };
    Ok(Value::Vector(vector))
}

/// Two instances, scraped three times a minute apart; the second one is gone at the last scrape.
fn example() -> Database {
    let mut database = Database::default();
    for (minute, read) in [(0.0, 10), (1.0, 70), (2.0, 20)] {
        let text = format!("# HELP read x\nread{{kind=\"a\\\"b\"}} {read}\nread{{kind=\"c\"}} 1\nloss NaN\n");
        database.scrape(60.0 * minute, "one", Some(&text));
        database.scrape(60.0 * minute, "two", (minute < 2.0).then_some("read{kind=\"c\"} 5\n"));
    }
    database
}

#[test]
fn promql_evaluates_the_subset_that_alerts_use() {
    let database = example();
    let at = |expression: &str| {
        let mut values: Vec<f64> = database.query(expression, 120.0).unwrap().iter().map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    assert_eq!(at("up == 0"), [0.0]);
    assert_eq!(at("up{job=\"negstream\"}"), [0.0, 1.0]);
    assert_eq!(at("read"), [1.0, 20.0], "the series of an instance that is gone are stale");
    assert_eq!(at("sum by (instance) (read)"), [21.0]);
    assert_eq!(at("increase(read[3m])"), [0.0, 0.0, 80.0], "a counter that falls has begun again");
    assert_eq!(at("rate(read[3m]) > 0"), [80.0 / 120.0]);
    assert_eq!(at("delta(read[3m]) != 0"), [10.0]);
    assert_eq!(at("max_over_time(read[90s])"), [1.0, 5.0, 70.0]);
    assert_eq!(at("time() - read > 100"), [119.0]);
    assert_eq!(at("max by (instance) (read) > 10 and on (instance) up == 1"), [20.0]);
    assert!(at("max by (instance) (read) > 10 and on (instance) up == 0").is_empty());
    assert_eq!(at("sum by (instance) (read) / on (instance) up"), [21.0]);
    assert_eq!(at("loss != loss").len(), 1, "only NaN differs from itself");
    for wrong in ["read[", "read > ", "histogram_quantile(0.9, read)", "read{kind=~\"a\"}", "1"] {
        assert!(database.query(wrong, 120.0).is_err(), "{wrong}");
    }
}
