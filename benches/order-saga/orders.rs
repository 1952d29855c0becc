//! The orders of a run, and the effects that they must leave.

use std::collections::HashSet;

use uuid::Uuid;

use crate::arguments::Variant;

/// What an order asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) id: Uuid,
    pub(crate) amount_cents: u64,
}

/// One step's effect: what was done, or undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Effect {
    pub(crate) order: Uuid,
    pub(crate) step: &'static str,
    pub(crate) kind: &'static str,
}

pub(crate) const RESERVE: &str = "reserve";
pub(crate) const AUTHORIZE: &str = "authorize";
pub(crate) const CONFIRM: &str = "confirm";
pub(crate) const DO: &str = "do";
pub(crate) const UNDO: &str = "undo";

impl Order {
    /// Makes the order of a number, from 0.
    pub(crate) fn new(number: u64, variant: Variant) -> Self {
        let (high, low) = (splitmix64(2 * number), splitmix64(2 * number + 1));
        let bytes = ((u128::from(high) << 64) | u128::from(low)).to_be_bytes();
        let amount_cents = match variant {
            Variant::A => 1000,
            Variant::B => 1000 + number,
            Variant::C => 1009,
        };
        Self { id: uuid::Builder::from_random_bytes(bytes).into_uuid(), amount_cents }
    }

    /// Returns true if the last step declines the order.
    pub(crate) const fn is_declined(&self) -> bool {
        is_declined(self.amount_cents)
    }

    /// Returns the effects that the order must leave.
    fn effects(&self) -> Vec<Effect> {
        let effect = |step, kind| Effect { order: self.id, step, kind };
        let last = if self.is_declined() {
            vec![effect(AUTHORIZE, UNDO), effect(RESERVE, UNDO)]
        } else {
            vec![effect(CONFIRM, DO)]
        };
        [effect(RESERVE, DO), effect(AUTHORIZE, DO)].into_iter().chain(last).collect()
    }
}

/// Returns true if the last step declines an amount.
pub(crate) const fn is_declined(amount_cents: u64) -> bool {
    amount_cents % 10 == 9
}

/// Returns all effects that the orders of a run must leave.
pub(crate) fn expected_effects(orders: &[Order]) -> HashSet<Effect> {
    orders.iter().flat_map(Order::effects).collect()
}

/// The mixing function of Steele, Lea and Flood, "Fast splittable pseudorandom number generators"
/// (OOPSLA 2014): spreads the bits of a counter.
const fn splitmix64(counter: u64) -> u64 {
    let mixed = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_4_and_repeat() {
        let order = Order::new(0, Variant::A);
        assert_eq!(splitmix64(0), 0xe220_a839_7b1d_cdaf, "the first number of the sequence from 0");
        assert_eq!(order.id.get_version_num(), 4);
        assert_eq!(order, Order::new(0, Variant::A));
    }

    #[test]
    fn every_tenth_order_of_variant_b_is_declined() {
        let declined = (0..1000).filter(|&it| Order::new(it, Variant::B).is_declined()).count();
        assert_eq!(declined, 100);
        let orders: Vec<_> = (0..10).map(|number| Order::new(number, Variant::B)).collect();
        assert_eq!(expected_effects(&orders).len(), 9 * 3 + 4);
    }
}
