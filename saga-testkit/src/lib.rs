//! Proves sagas: [`prove`] plays yours through everything that can go wrong, in one line of `cargo test`.
//!
//! Beside it: the laws of every contract of `saga-core` as test functions, a clock that a test holds, and faults on demand.
//!
//! Whoever writes a backend proves it with one line per contract and a [`Fixture`] of some 20 lines:
//!
//! ```
//! use saga_core::store::{DeadLetter, MemoryConnection, MemoryStore};
//! use saga_testkit::Fixture;
//!
//! /// A fresh store, whose application state is the effects that the laws write.
//! struct Fresh(MemoryStore<Vec<String>>);
//!
//! async fn fresh() -> Fresh {
//!     Fresh(MemoryStore::default())
//! }
//!
//! impl Fixture for Fresh {
//!     type Store = MemoryStore<Vec<String>>;
//!
//!     fn store(&self) -> &Self::Store {
//!         &self.0
//!     }
//!
//!     async fn write_effect(&self, effects: &mut MemoryConnection<Vec<String>>, key: &str) {
//!         effects.push(key.to_owned());
//!     }
//!
//!     async fn effects(&self) -> Vec<String> {
//!         self.0.read(Vec::clone)
//!     }
//!
//!     async fn dead_letters(&self) -> Vec<DeadLetter> {
//!         self.0.dead_letters()
//!     }
//! }
//!
//! saga_testkit::store_conformance!(fresh); // one #[test] per law
//! saga_testkit::inbox_conformance!(fresh);
//! saga_testkit::purge_conformance!(fresh);
//! saga_testkit::dead_letter_conformance!(fresh);
//! ```
//!
//! | for | there is |
//! |---|---|
//! | a saga of yours | [`prove`], [`simulate`], [`Subject`]; [`Scenario`], a story that you write |
//! | a backend for state | [`store`], [`inbox`], [`purge`], [`dead_letters`] |
//! | time that moves when a test says so, or when nothing else is to be done | [`ManualClock`], [`SimulatedClock`] |
//! | records that no sound producer sends, and what every consumer makes of them | [`poison`] |
//! | a store or a transport that fails or dies at the worst moment | [`Faulty`], [`Faults`] |
//! | a network that swallows, cuts or delays what passes | [`Proxy`] |

#![expect(clippy::missing_panics_doc, reason = "a broken law panics")]

mod clock;
pub mod dead_letters;
mod faults;
mod fixture;
mod given;
pub mod inbox;
mod laws;
pub mod poison;
mod proof;
mod proxy;
pub mod purge;
mod run;
mod scenario;
pub mod store;
pub mod transport;

pub use clock::ManualClock;
pub use faults::{Faults, Faulty, FaultyPublisher, FaultySubscriber, Moment, Operation};
pub use fixture::Fixture;
#[doc(hidden)]
pub use proof::{Cursors, Defect, Planted, PlantedPublisher, PlantedSubscriber, see, story};
pub use proof::{Report, SimulatedClock, Subject, prove, simulate};
pub use proxy::{Proxy, Side};
#[doc(hidden)]
pub use run::run;
pub use scenario::{Asked, Scenario};
