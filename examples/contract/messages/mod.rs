//! What the services say to each other: the generated code of `proto/orderweaver`.
#![allow(
    clippy::pedantic,
    dead_code,
    unreachable_pub,
    reason = "generated: `UPDATE_GENERATED=1 cargo test -p examples --test messages` writes it"
)]

/// Commands and events of the orders service.
pub mod orders {
    include!("orderweaver.orders.v1.rs");
}

/// Commands and events of the payments service.
pub mod payments {
    include!("orderweaver.payments.v1.rs");
}

/// Commands and events of the inventory service.
pub mod inventory {
    include!("orderweaver.inventory.v1.rs");
}
