//! What is sent and stored as bytes: the generated code of `proto/orderweaver/saga/v1`.
#![allow(
    clippy::pedantic,
    dead_code,
    unreachable_pub,
    reason = "generated: `UPDATE_GENERATED=1 cargo test -p saga-core --test wire` writes it"
)]

include!("orderweaver.saga.v1.rs");
