//! What several benches share: the saga, where it stands, its messages, and the stores they run on.

#![expect(clippy::missing_panics_doc, reason = "a bench that does not fit the library panics")]

mod live;
mod messages;
mod saga;
mod stores;
pub mod topics;
mod transitions;

pub use live::LiveSagas;
pub use messages::{Told, command, fact, reply};
pub use saga::{Authorize, Confirm, Do, Done, Order, Reserve, SHOP, Shop, engine, saga};
pub use stores::{Database, drop_schema, runtime};
pub use transitions::{Kind, Transition, decode_state, encode_state, half_way};
