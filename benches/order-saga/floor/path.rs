//! What an order goes through: the same steps as the saga's, as a table.

use crate::orders::{AUTHORIZE, CONFIRM, DO, Order, RESERVE, UNDO};

/// One step: which participant does it, and the effect that it leaves.
pub(super) struct Step {
    /// Inventory, payments or orders.
    pub(super) participant: usize,
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    /// A declined step leaves no effect.
    pub(super) is_declined: bool,
}

const fn step(participant: usize, name: &'static str, kind: &'static str) -> Step {
    Step { participant, name, kind, is_declined: false }
}

const CONFIRMED: [Step; 3] = [step(0, RESERVE, DO), step(1, AUTHORIZE, DO), step(2, CONFIRM, DO)];
const DECLINED: [Step; 5] = [
    step(0, RESERVE, DO),
    step(1, AUTHORIZE, DO),
    Step { is_declined: true, ..step(2, CONFIRM, DO) },
    step(1, AUTHORIZE, UNDO),
    step(0, RESERVE, UNDO),
];

/// Returns the steps of an order.
pub(super) const fn path(order: &Order) -> &'static [Step] {
    if order.is_declined() { &DECLINED } else { &CONFIRMED }
}
