//! Four services that show how the library is used. Start with [`orchestrator::place_order`].
//!
//! A customer places an order; the goods are reserved, the money is held and taken, the order is
//! confirmed. If a step fails, everything before it is undone. `cargo run --example orders` tells
//! that story in one process; `README.md` says which file shows what.

pub mod contract;
pub mod inventory;
pub mod orchestrator;
pub mod orders;
pub mod payments;
