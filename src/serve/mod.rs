//! Serving: the API below `/v1`, by which programs ask the model while it learns.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `mod` | [`Api`]: what is started, and mounted at the address |
//! | `endpoint` | what can be asked, and by which path |
//! | `messages` | the bodies, declared once for reading, writing and describing them (`schema`) |
//! | `routes` | who may ask, what a request may be, how its answer is sent |
//! | `desk` | the queue, and the thread that answers what waits together |
//! | `answer` | answers from one view of the state |
//! | `index_keeper` | the thread that keeps the index over many items, and measures what it finds |
//! | `filter` | what the catalogue says of items: which a filter leaves, and titles |
//! | `queue` | the bounded queue before each thread that answers |
//! | `search` | items and users by how their names begin, on a thread of its own |
//! | `map` | a map of items |
//! | `problem` | what went wrong, as RFC 9457 has it |
//! | [`openapi`] | the description of the API |
//! | `figures` | how requests fare |
//!
//! Who asks never meets the trainer: there is a view of its state ([`crate::recommend::slot`]), which the thread of the desk reads.

mod answer;
mod config;
mod desk;
mod endpoint;
mod figures;
mod filter;
mod index_keeper;
mod map;
mod messages;
pub mod openapi;
mod problem;
mod queue;
mod routes;
mod schema;
mod search;

use std::sync::{Arc, Mutex};

use axum::Router;

use crate::catalogue::CatalogueError;
use crate::recommend::slot::ViewSlot;
use crate::util::token::Token;
pub use config::ServeConfig;
use desk::AnswerDesk;
pub use figures::ServingFigures;
use filter::CatalogueFilter;
use index_keeper::IndexKeeper;
use map::MapDesk;
use routes::ApiState;
use search::SearchDesk;

/// The API, ready to be mounted. Its threads end with the last router.
#[derive(Debug, Clone)]
pub struct Api(ApiState);

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The catalogue that lists are filtered by cannot be read.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// Its thread cannot be started.
    #[error("cannot start the threads that answer requests: {0}")]
    Thread(std::io::Error),
}

impl Api {
    /// Starts to answer from what is in `views`, counting in `figures`. Items are named by the column `item_id` in the catalogue;
    /// who asks has to show `token`, where it is not empty.
    ///
    /// # Errors
    /// Where the catalogue cannot be read, or the thread not be started.
    pub fn start(
        config: &ServeConfig,
        (token, item_id): (&str, &str),
        views: ViewSlot,
        figures: Arc<Mutex<ServingFigures>>,
    ) -> Result<Self, ApiError> {
        let filter = CatalogueFilter::open(&config.catalogue, (item_id, &config.title))?;
        let size = (config.threads, config.queue);
        let map = MapDesk::open(views.clone(), filter.clone()).map_err(ApiError::Thread)?;
        let search = SearchDesk::open(views.clone(), filter.clone()).map_err(ApiError::Thread)?;
        let index = IndexKeeper::start(config, views.clone(), Arc::clone(&figures)).map_err(ApiError::Thread)?;
        let (desk, _) = AnswerDesk::open(size, views, filter, Arc::clone(&figures)).map_err(ApiError::Thread)?;
        Ok(Self(ApiState {
            desk,
            map,
            search,
            index_keeper: Arc::new(index),
            config: Arc::new(config.clone()),
            token: Token::new(token),
            figures,
        }))
    }

    /// Its router, for an address that this machine alone reaches (`is_local`), or others too.
    pub fn router(&self, is_local: bool) -> Router {
        routes::router(self.0.clone(), is_local)
    }
}
