//! The bodies of requests and answers.

use std::collections::BTreeMap;

use compact_str::CompactString;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::schema::{ApiSchema, api_object};

/// What a filter asks of a column: a value, or one of several.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WantedValues(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for WantedValues {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = |value: Value| match value {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(truth) => Some(truth.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        let wanted = match Value::deserialize(deserializer)? {
            Value::Array(values) => values.into_iter().map(text).collect::<Option<Vec<_>>>(),
            value => text(value).map(|text| vec![text]),
        };
        wanted
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a filter takes text, numbers, truth values, or a list of these"))
    }
}

impl serde::Serialize for WantedValues {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Columns of the catalogue, each with the values that are wanted.
pub(super) type Filter = BTreeMap<String, WantedValues>;

impl ApiSchema for Filter {
    fn schema(_: &mut Map<String, Value>) -> Value {
        let single = json!({ "type": ["string", "number", "boolean"] });
        let several = json!({ "type": "array", "items": single });
        json!({ "type": "object", "additionalProperties": { "anyOf": [single, several] } })
    }
}

api_object! {
    /// Who is to get a list, and what it may hold: either `user` or `items`.
    #[derive(Deserialize)]
    pub(super) struct RecommendRequest {
        /// The user, by all that is known of them.
        user: Option<String>,
        /// What somebody had just now of whom no more is known, newest last. Unknown items are passed over.
        items: Option<Vec<CompactString>>,
        /// Length of the list; 20 without it.
        k: Option<u64>,
        /// Items that must not be in it.
        exclude: Option<Vec<CompactString>>,
        /// The only items that may be in it. Unknown ones are passed over.
        candidates: Option<Vec<CompactString>>,
        /// Only items whose columns in the catalogue (`serve.catalogue`) have one of these values; all columns that are named.
        filter: Option<Filter>,
        /// When the user asks, milliseconds since 1970 UTC; without it, the time of the newest event.
        at: Option<i64>,
    }
}

api_object! {
    /// A user, and the items whose scores are asked for.
    #[derive(Deserialize)]
    pub(super) struct ScoreRequest {
        /// The user.
        user: String,
        /// The items.
        items: Vec<CompactString>,
        /// When the user asks, milliseconds since 1970 UTC; without it, the time of the newest event.
        at: Option<i64>,
    }
}

api_object! {
    /// Which model answered, and what it knew.
    pub(super) struct Knowledge {
        /// The space of the embeddings, as checkpoints and sinks name it.
        model_id: String,
        /// Steps that it had taken.
        step: u64,
        /// Records that it had read.
        events: u64,
        /// Time of the newest event that it knew, milliseconds since 1970 UTC.
        newest_event: Option<i64>,
        /// How old what it knew was when the answer was made, milliseconds: all that was trained on before is in it.
        age_ms: u64,
    }
}

api_object! {
    /// The item among those that the user had last which is nearest to one of a list.
    pub(super) struct LikeItem<'a> {
        /// The item.
        item_id: &'a str,
        /// What the catalogue calls it.
        title: Option<&'a str>,
        /// Cosine of both embeddings.
        cosine: f32,
    }
}

api_object! {
    /// An item of a list, and why it is there.
    pub(super) struct RankedItem<'a> {
        /// The item.
        item_id: &'a str,
        /// What the catalogue calls it (`serve.title`).
        title: Option<&'a str>,
        /// The full score: the sum of the parts, but for rounding.
        score: f32,
        /// Likeness to what the user had.
        similarity: f32,
        /// What popularity adds.
        popularity: f32,
        /// What having had the item before adds.
        repetition: f32,
        /// What coming together with the user's newest items adds.
        cooccurrence: f32,
        /// Which of the items that the user had last it is most like.
        like: Option<LikeItem<'a>>,
    }
}

api_object! {
    /// A list.
    pub(super) struct RecommendAnswer<'a> {
        /// Which model answered.
        model: Knowledge,
        /// For which time it was made, milliseconds since 1970 UTC.
        at: i64,
        /// The items, best first.
        recommendations: Vec<RankedItem<'a>>,
        /// Those of `items` that the model does not know.
        unknown_items: Vec<CompactString>,
    }
}

api_object! {
    /// Scores, in the order of the request.
    pub(super) struct ScoreAnswer<'a> {
        /// Which model answered.
        model: Knowledge,
        /// For which time they were made, milliseconds since 1970 UTC.
        at: i64,
        /// The scores of those items that the model knows, each once.
        scores: Vec<RankedItem<'a>>,
        /// The items that it does not know.
        unknown_items: Vec<CompactString>,
    }
}

api_object! {
    /// An item near to another.
    pub(super) struct NeighborItem<'a> {
        /// The item.
        item_id: &'a str,
        /// What the catalogue calls it.
        title: Option<&'a str>,
        /// Cosine of both embeddings.
        cosine: f32,
        /// Events of the item so far.
        count: u64,
    }
}

api_object! {
    /// The items nearest to one.
    pub(super) struct NeighborsAnswer<'a> {
        /// Which model answered.
        model: Knowledge,
        /// The item.
        item_id: String,
        /// The others, nearest first.
        neighbors: Vec<NeighborItem<'a>>,
    }
}

api_object! {
    /// The vector of an item.
    pub(super) struct ItemVectorAnswer {
        /// Which model answered.
        model: Knowledge,
        /// The item.
        item_id: String,
        /// The embedding, as in `items.parquet`.
        vector: Vec<f32>,
        /// What popularity adds to each score of the item.
        popularity: f32,
    }
}

api_object! {
    /// The query of a user.
    pub(super) struct UserVectorAnswer {
        /// Which model answered.
        model: Knowledge,
        /// The user.
        user_id: String,
        /// For which time it was made, milliseconds since 1970 UTC.
        at: i64,
        /// Its inner product with an item's vector is the similarity of the score.
        vector: Vec<f32>,
    }
}

api_object! {
    /// An item that was searched for.
    pub(super) struct FoundItem<'a> {
        /// The item.
        item_id: &'a str,
        /// What the catalogue calls it.
        title: Option<&'a str>,
        /// Events of the item so far.
        count: u64,
    }
}

api_object! {
    /// Items that were searched for.
    pub(super) struct ItemsAnswer<'a> {
        /// Which model answered.
        model: Knowledge,
        /// The items, those with most events first.
        items: Vec<FoundItem<'a>>,
    }
}

api_object! {
    /// Users that were searched for.
    pub(super) struct UsersAnswer<'a> {
        /// Which model answered.
        model: Knowledge,
        /// Ids of users of whom something is known, in no particular order.
        users: Vec<&'a str>,
    }
}

api_object! {
    /// An item on the map.
    pub(super) struct MapItem {
        /// The item.
        item_id: String,
        /// What the catalogue calls it.
        title: Option<String>,
        /// From left to right; -1 to 1 holds nearly all items.
        x: f32,
        /// From bottom to top.
        y: f32,
        /// Events of the item so far.
        count: u64,
        /// Its place in the order in which items came: 0 for the oldest, 1 for the newest.
        arrival: f32,
    }
}

api_object! {
    /// A map: items that the model takes for alike lie close to each other. It is stable from one to the next.
    pub(super) struct MapAnswer {
        /// Which model answered.
        model: Knowledge,
        /// The most common items, and the newest.
        items: Vec<MapItem>,
    }
}
