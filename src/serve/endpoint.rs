//! The endpoints: the one list that paths, metrics and the description of the API are made from.

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A list for a user or a session.
    Recommend,
    /// Scores of given items.
    Score,
    /// The items nearest to one.
    Neighbors,
    /// The vector of an item.
    ItemVector,
    /// The query of a user.
    UserVector,
    /// Items by how their names begin.
    Items,
    /// Users by how their names begin.
    Users,
    /// The map of items.
    Map,
}

impl Endpoint {
    /// All of them, in the order of their declaration.
    pub(super) const ALL: [Self; 8] = [
        Self::Recommend,
        Self::Score,
        Self::Neighbors,
        Self::ItemVector,
        Self::UserVector,
        Self::Items,
        Self::Users,
        Self::Map,
    ];

    /// Its name in metrics, and its operation in the description.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Recommend => "recommend",
            Self::Score => "score",
            Self::Neighbors => "neighbors",
            Self::ItemVector => "item_vector",
            Self::UserVector => "user_vector",
            Self::Items => "items",
            Self::Users => "users",
            Self::Map => "map",
        }
    }

    /// Its path; `{id}` stands for an id, percent-encoded.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Recommend => "/v1/recommend",
            Self::Score => "/v1/score",
            Self::Neighbors => "/v1/items/{id}/neighbors",
            Self::ItemVector => "/v1/items/{id}/vector",
            Self::UserVector => "/v1/users/{id}/vector",
            Self::Items => "/v1/items",
            Self::Users => "/v1/users",
            Self::Map => "/v1/map",
        }
    }

    /// Whether it takes a body (POST), or only an id (GET).
    pub(super) fn takes_body(self) -> bool {
        matches!(self, Self::Recommend | Self::Score)
    }

    /// What it is for.
    pub(super) fn summary(self) -> &'static str {
        match self {
            Self::Recommend => "The items that a user should see next, by the full score.",
            Self::Score => "The full scores of given items for a user, for re-rankers.",
            Self::Neighbors => "The items nearest to one, by the cosine of their embeddings.",
            Self::ItemVector => "The embedding of an item.",
            Self::UserVector => {
                "The query of a user: its inner product with an item's embedding is the similarity of the score."
            }
            Self::Items => {
                "Items whose id, or whose title in the catalogue, begins with a text; those with most events first."
            }
            Self::Users => "Users whose id begins with a text.",
            Self::Map => "A map of the most common items and the newest: alike ones lie close to each other.",
        }
    }
}
