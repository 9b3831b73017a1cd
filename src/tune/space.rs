//! What is searched: declared ranges and choices of settings, and draws from them. A draw depends on the seed, the number of the
//! trial and the name of the setting alone, so that a search that goes on draws the same.

use toml::{Table, Value};

use crate::table::rows::stable_hash;

/// A draw that others have drawn before is drawn again so many times at most.
const ATTEMPTS: u64 = 100;

/// What is searched.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Space {
    parameters: Vec<Parameter>,
}

/// A setting that is searched.
#[derive(Debug, Clone, PartialEq)]
struct Parameter {
    key: String,
    values: Values,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    /// From the first to the last; evenly, or evenly in their logarithm. Whole numbers where both ends are written as such.
    Range {
        low: f64,
        high: f64,
        log: bool,
        whole: bool,
    },
    Choice(Vec<Value>),
}

/// A setting and its value.
pub type Assignment = (String, Value);

/// What is wrong with a declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct SpaceError {
    place: String,
    message: String,
}

fn wrong<T>(place: &str, message: &str) -> Result<T, SpaceError> {
    Err(SpaceError { place: place.to_owned(), message: message.to_owned() })
}

impl Space {
    /// Whether nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// The keys that are searched.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|parameter| parameter.key.as_str())
    }

    /// Adds `KEY=LOW..HIGH`, with `:log` behind it for an even draw of the logarithm.
    ///
    /// # Errors
    /// Where it has another form, an end that is no number, or no room between its ends; or the key is there already.
    pub fn add_range(&mut self, text: &str) -> Result<(), SpaceError> {
        let place = format!("--range '{text}'");
        let form = "expected KEY=LOW..HIGH or KEY=LOW..HIGH:log, such as train.learning_rate=0.01..0.2:log";
        let Some((key, range)) = text.split_once('=') else { return wrong(&place, form) };
        let (ends, log) = range.strip_suffix(":log").map_or((range, false), |ends| (ends, true));
        let Some((low, high)) = ends.split_once("..") else { return wrong(&place, form) };
        let number = |text: &str| text.trim().parse::<f64>().ok();
        let (Some(low_end), Some(high_end)) = (number(low), number(high)) else { return wrong(&place, form) };
        let is_whole = |text: &str| text.trim().parse::<i64>().is_ok();
        self.add(key, range_of(&place, (low_end, high_end), log, is_whole(low) && is_whole(high))?, &place)
    }

    /// Adds `KEY=VALUE,VALUE,…`, values as `--set` takes them.
    ///
    /// # Errors
    /// Where it has another form, or the key is there already.
    pub fn add_choice(&mut self, text: &str) -> Result<(), SpaceError> {
        let place = format!("--choice '{text}'");
        let Some((key, values)) = text.split_once('=') else {
            return wrong(&place, "expected KEY=VALUE,VALUE,…, such as model.dim=32,64,128");
        };
        let value = |text: &str| {
            let parsed = format!("value = {}", text.trim()).parse::<Table>().ok();
            parsed.and_then(|mut table| table.remove("value")).unwrap_or_else(|| Value::String(text.trim().to_owned()))
        };
        self.add(key, Values::Choice(values.split(',').map(value).collect()), &place)
    }

    /// Adds what a file declares: `[range]` with `"KEY" = { low, high, log }`, and `[choice]` with `"KEY" = [VALUE, …]`.
    ///
    /// # Errors
    /// Where the file, named `place`, is no TOML, or declares something else.
    pub fn add_file(&mut self, text: &str, place: &str) -> Result<(), SpaceError> {
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => return wrong(place, &format!("not valid TOML: {error}")),
        };
        for (section, declared) in table {
            let Value::Table(declared) = declared else {
                return wrong(place, &format!("'{section}': expected the tables [range] and [choice]"));
            };
            for (key, declaration) in declared {
                let of_key = format!("{place}: '{section}.{key}'");
                let values = match (section.as_str(), declaration) {
                    ("choice", Value::Array(values)) => Values::Choice(values),
                    ("range", Value::Table(range)) => range_of_table(&of_key, range)?,
                    ("choice", _) => return wrong(&of_key, "expected a list of values"),
                    ("range", _) => return wrong(&of_key, "expected { low = …, high = …, log = true | false }"),
                    _ => return wrong(place, &format!("unknown table '{section}'; there are [range] and [choice]")),
                };
                self.add(&key, values, &of_key)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, key: &str, values: Values, place: &str) -> Result<(), SpaceError> {
        let key = key.trim().to_owned();
        if key.is_empty() || self.keys().any(|other| other == key) {
            return wrong(place, "a key has to be there, and once only");
        }
        if matches!(&values, Values::Choice(values) if values.is_empty()) {
            return wrong(place, "there is nothing to choose from");
        }
        self.parameters.push(Parameter { key, values });
        Ok(())
    }

    /// Every value that is at an end or to be chosen, alone: whether a setting exists and takes them can be asked with these.
    pub fn extremes(&self) -> Vec<Assignment> {
        let of = |parameter: &Parameter| {
            let values = match &parameter.values {
                Values::Range { low, high, whole, .. } => vec![number(*low, *whole), number(*high, *whole)],
                Values::Choice(values) => values.clone(),
            };
            values.into_iter().map(|value| (parameter.key.clone(), value)).collect::<Vec<_>>()
        };
        self.parameters.iter().flat_map(of).collect()
    }

    /// `n` draws, each other than those before it; fewer where there are no more.
    pub fn draws(&self, n: usize, seed: u64) -> Vec<Vec<Assignment>> {
        let mut draws: Vec<Vec<Assignment>> = Vec::new();
        for trial in 0..n as u64 {
            let attempt = |attempt: u64| {
                let draw = |parameter: &Parameter| {
                    let salt = stable_hash(trial.rotate_left(32) ^ attempt, &[&parameter.key, "tune"]);
                    let uniform = (mix(seed ^ salt) >> 11) as f64 * (-53f64).exp2();
                    (parameter.key.clone(), parameter.values.at(uniform))
                };
                self.parameters.iter().map(draw).collect::<Vec<_>>()
            };
            draws.extend((0..ATTEMPTS).map(attempt).find(|draw| !draws.contains(draw)));
        }
        draws
    }
}

impl Values {
    /// The value at `uniform`, from 0 to below 1.
    fn at(&self, uniform: f64) -> Value {
        match self {
            Self::Choice(values) => values[(uniform * values.len() as f64) as usize].clone(),
            Self::Range { low, high, log: true, whole } => {
                number(low * (high / low).powf(uniform), *whole).clamped(*low, *high)
            }
            Self::Range { low, high, log: false, whole: true } => {
                Value::Integer((low + ((high - low + 1.0) * uniform).floor()) as i64)
            }
            Self::Range { low, high, log: false, whole: false } => {
                number(low + (high - low) * uniform, false).clamped(*low, *high)
            }
        }
    }
}

/// Keeps a rounded number between the ends.
trait Clamped {
    fn clamped(self, low: f64, high: f64) -> Self;
}

impl Clamped for Value {
    fn clamped(self, low: f64, high: f64) -> Self {
        match self {
            Self::Float(number) => Self::Float(number.clamp(low, high)),
            Self::Integer(number) => Self::Integer(number.clamp(low as i64, high as i64)),
            other => other,
        }
    }
}

/// A number with four significant digits, or a whole one.
fn number(number: f64, whole: bool) -> Value {
    match whole {
        true => Value::Integer(number.round() as i64),
        false => Value::Float(format!("{number:.3e}").parse().unwrap_or(number)),
    }
}

fn range_of(place: &str, (low, high): (f64, f64), log: bool, whole: bool) -> Result<Values, SpaceError> {
    if !(low.is_finite() && high.is_finite() && low < high) {
        return wrong(place, "the first number has to be below the second one");
    }
    if log && low <= 0.0 {
        return wrong(place, "only what is above 0 has a logarithm");
    }
    Ok(Values::Range { low, high, log, whole })
}

fn range_of_table(place: &str, mut range: Table) -> Result<Values, SpaceError> {
    let log = match range.remove("log") {
        None => false,
        Some(Value::Boolean(log)) => log,
        Some(_) => return wrong(place, "'log' is true or false"),
    };
    let (low, high) = (range.remove("low"), range.remove("high"));
    if let Some(key) = range.keys().next() {
        return wrong(place, &format!("unknown key '{key}'; there are low, high and log"));
    }
    let whole = matches!((&low, &high), (Some(Value::Integer(_)), Some(Value::Integer(_))));
    let number = |value: Option<Value>| match value {
        Some(Value::Float(number)) => Some(number),
        Some(Value::Integer(number)) => Some(number as f64),
        _ => None,
    };
    match (number(low), number(high)) {
        (Some(low), Some(high)) => range_of(place, (low, high), log, whole),
        _ => wrong(place, "'low' and 'high' have to be numbers"),
    }
}

/// The last steps of SplitMix64 (Steele et al., 2014): all bits are of use.
fn mix(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> Space {
        let mut space = Space::default();
        space.add_range("train.learning_rate=0.01..0.2:log").expect("a range");
        space.add_range("context.length=3..5").expect("a range");
        space.add_choice("model.dim=32, 64,128").expect("a choice");
        space.add_choice("train.optimizer=adagrad,rowwise_adagrad").expect("a choice");
        space
    }

    #[test]
    fn draws_lie_in_their_ranges_and_do_not_depend_on_how_many_there_are() {
        let draws = space().draws(400, 7);
        assert_eq!(draws[..20], space().draws(20, 7));
        assert_ne!(draws[0], space().draws(1, 8)[0]);
        let mut below = 0;
        for draw in &draws {
            let rate = draw[0].1.as_float().expect("a float");
            assert!((0.01..=0.2).contains(&rate));
            below += usize::from(rate < (0.01f64 * 0.2).sqrt());
            assert!((3..=5).contains(&draw[1].1.as_integer().expect("whole")));
            assert!([32, 64, 128].contains(&draw[2].1.as_integer().expect("whole")));
            assert!(["adagrad", "rowwise_adagrad"].contains(&draw[3].1.as_str().expect("a word")));
        }
        // Half of the draws are below the middle of the logarithm: five standard errors of 400 are 50.
        assert!(below.abs_diff(200) < 50, "{below}");
    }

    #[test]
    fn small_space_is_drawn_without_repetition() {
        let mut space = Space::default();
        space.add_choice("model.gate=true,false").expect("a choice");
        assert_eq!(space.draws(5, 1).len(), 2);
    }

    #[test]
    fn file_declares_what_flags_do() {
        let mut of_file = Space::default();
        let text = "[range]\n'train.learning_rate' = { low = 0.01, high = 0.2, log = true }\n'context.length' = { low = 3, high = 5 }\n\
                    [choice]\n'model.dim' = [32, 64, 128]\n'train.optimizer' = ['adagrad', 'rowwise_adagrad']\n";
        of_file.add_file(text, "tune.toml").expect("a file");
        let sorted = |space: Space| {
            let mut parameters = space.parameters;
            parameters.sort_by(|a, b| a.key.cmp(&b.key));
            parameters
        };
        assert_eq!(sorted(of_file), sorted(space()));
    }

    #[test]
    fn what_is_no_declaration_is_refused() {
        let mut space = space();
        for range in ["model.dim", "x=1", "x=2..1", "x=0..1:log", "x=a..b", "model.dim=1..2"] {
            assert!(space.add_range(range).is_err(), "{range}");
        }
        assert!(space.add_choice("model.seed").is_err());
        for file in ["[ranges]\na = 1", "[range]\na = 1", "[range]\na = { low = 1, hihg = 2 }", "[choice]\na = []", "x"]
        {
            let error = space.add_file(file, "tune.toml").expect_err(file);
            assert!(error.to_string().contains("tune.toml"), "{error}");
        }
    }
}
