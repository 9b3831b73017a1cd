//! Several configurations and the peers over the same log, side by side: what `negstream compare` finds.
//!
//! All contestants are ranked on the same events, each before it is learnt ([`crate::evaluate`]); their ranks are kept, a byte for
//! each event and contestant, so that differences are those between pairs.
//!
//! | file | what it holds |
//! | --- | --- |
//! | `contestant` | who is compared, and how they ranked |
//! | `judged` | the events that all are judged by, and the bands they fall into |
//! | `figures` | hit rates and the like: of all events, by band, along the stream |
//! | `bootstrap` | how sure figures and differences are |
//! | `staleness` | what is lost by serving late |
//! | `report` | all of it, as JSON |
//! | `verdict` | what it means, in a sentence |
//! | `text` | the same as a table for a terminal |
//! | `page` | the same as a page for a browser |

pub mod bootstrap;
pub mod contestant;
pub mod figures;
pub mod judged;
mod page;
pub mod report;
pub mod staleness;
mod text;
mod verdict;
