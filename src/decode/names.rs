//! Where the fields of an interaction are found in a record: under a name, or at the end of a path of names joined by
//! dots (`payload.after.user_id`), through records within records.
//!
//! A field whose own name has dots in it wins over a path of the same letters: the less deep one counts. Where the user is
//! found by a path, the fields that the configuration leaves their own names are looked for in that record too, so that an
//! envelope takes one path and not seven.

use super::fields::Field;
use crate::decode::FieldNames;

/// The names that mean something in a record, and in the records within it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct NameTree(Vec<NameEntry>);

/// What a name means.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NameEntry {
    name: String,
    /// The field of the interaction that the value is.
    pub(super) field: Option<Field>,
    /// What names within the value mean, where paths lead into it.
    pub(super) inner: Option<NameTree>,
}

impl NameTree {
    /// The names that the configuration gives.
    pub(super) fn new(names: &FieldNames) -> Self {
        let mut tree = Self::default();
        for field in Field::ALL {
            tree.insert(field.name(names), field);
        }
        for field in Field::ALL {
            if let Some(beside) = beside_user(field, names) {
                tree.insert(&beside, field);
            }
        }
        tree
    }

    fn insert(&mut self, path: &str, field: Field) {
        self.entry(path).field.get_or_insert(field);
        for (dot, _) in path.match_indices('.') {
            let (name, rest) = (&path[..dot], &path[dot + 1..]);
            if !name.is_empty() && !rest.is_empty() {
                self.entry(name).inner.get_or_insert_default().insert(rest, field);
            }
        }
    }

    fn entry(&mut self, name: &str) -> &mut NameEntry {
        let place = self.0.iter().position(|entry| entry.name == name).unwrap_or_else(|| {
            self.0.push(NameEntry { name: name.to_owned(), field: None, inner: None });
            self.0.len() - 1
        });
        &mut self.0[place]
    }

    /// What `name` means here.
    pub(super) fn get(&self, name: &str) -> Option<&NameEntry> {
        self.0.iter().find(|entry| entry.name == name)
    }
}

/// Where a field with its own name is in the record that the path to the user leads into.
pub(super) fn beside_user(field: Field, names: &FieldNames) -> Option<String> {
    let (around, _) = names.user_id.rsplit_once('.').filter(|_| field.has_default_name(names))?;
    Some(format!("{around}.{}", field.name(names)))
}

/// What other logs call the fields, in the order in which a name is preferred: small letters and digits alone.
const ALIASES: [(Field, &[&str]); 6] = [
    (
        Field::User,
        &[
            "userid",
            "user",
            "uid",
            "visitorid",
            "visitor",
            "customerid",
            "customer",
            "reviewerid",
            "memberid",
            "accountid",
            "clientid",
            "profileid",
            "playerid",
            "cookieid",
            "useridx",
            "sessionid",
            "session",
            "sid",
        ],
    ),
    (
        Field::Item,
        &[
            "itemid",
            "item",
            "iid",
            "movieid",
            "parentasin",
            "asin",
            "productid",
            "articleid",
            "clickarticleid",
            "newsid",
            "trackid",
            "songid",
            "videoid",
            "bookid",
            "isbn",
            "sku",
            "stockcode",
            "businessid",
            "adid",
            "contentid",
            "goodsid",
            "artistid",
            "movie",
            "product",
            "article",
            "track",
            "song",
            "video",
            "book",
            "artist",
        ],
    ),
    (
        Field::Timestamp,
        &[
            "timestamp",
            "ts",
            "time",
            "datetime",
            "date",
            "eventtime",
            "eventtimestamp",
            "clicktimestamp",
            "unixtime",
            "unixreviewtime",
            "createdat",
            "ratedat",
            "occurredat",
            "invoicedate",
            "reviewtime",
            "at",
        ],
    ),
    (
        Field::Kind,
        &["eventtype", "event", "action", "behavior", "behaviortype", "behaviour", "eventname", "type", "kind"],
    ),
    (Field::Session, &["sessionid", "session", "sid", "basketid", "basket", "orderid", "invoiceno", "invoice"]),
    (Field::Value, &["value", "rating", "score", "stars", "overall"]),
];

/// The settings (key and column) by which columns that are `there` under names of other logs' would be those fields that no
/// column is yet.
pub(crate) fn likely_fields(there: &[String], names: &FieldNames) -> Vec<(&'static str, String)> {
    let plain = |name: &String| -> String {
        name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
    };
    let is_there = |field: Field| there.iter().any(|column| column == field.name(names));
    let mut taken: Vec<&String> =
        there.iter().filter(|column| Field::ALL.iter().any(|field| field.name(names) == *column)).collect();
    let mut settings = Vec::new();
    for (field, aliases) in ALIASES.iter().filter(|(field, _)| !is_there(*field)) {
        let likely = aliases
            .iter()
            .find_map(|alias| there.iter().find(|column| plain(column) == *alias && !taken.contains(column)));
        if let Some(column) = likely {
            taken.push(column);
            settings.push((field.key(), column.clone()));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_into_records_and_whole_names_stand_beside_them() {
        let names = FieldNames { user_id: "a.b.c".to_owned(), item_id: "a.item".to_owned(), ..FieldNames::default() };
        let tree = NameTree::new(&names);
        assert_eq!(tree.get("a.b.c").unwrap().field, Some(Field::User));
        let a = tree.get("a").unwrap();
        assert_eq!(a.field, None);
        let within = a.inner.as_ref().unwrap();
        assert_eq!(within.get("b.c").unwrap().field, Some(Field::User));
        assert_eq!(within.get("b").unwrap().inner.as_ref().unwrap().get("c").unwrap().field, Some(Field::User));
        assert_eq!(within.get("item").unwrap().field, Some(Field::Item));
        assert_eq!(tree.get("a.b").unwrap().inner.as_ref().unwrap().get("c").unwrap().field, Some(Field::User));
        assert!(tree.get("timestamp").unwrap().inner.is_none() && tree.get("b").is_none());
        // What keeps its own name may be beside the user.
        let beside = within.get("b").unwrap().inner.as_ref().unwrap();
        assert_eq!(beside.get("timestamp").unwrap().field, Some(Field::Timestamp));
        assert!(beside.get("item").is_none() && beside.get("item_id").is_none());
    }
}
