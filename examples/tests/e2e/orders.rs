//! The orders of a run, and how each must end.

use std::collections::BTreeMap;

use chassis::money::Money;
use serde_json::{Value, json};

use crate::dice::Dice;

/// How an order must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It goes through.
    Confirmed,
    /// The customer has not enough money: what is reserved is released.
    Declined,
    /// There is no stock.
    OutOfStock,
    /// The money is held and cannot be taken: it is voided, and what is reserved is released.
    Frozen,
}

pub(crate) struct PlannedOrder {
    pub(crate) id: String,
    pub(crate) fate: Fate,
    pub(crate) user: &'static str,
    pub(crate) amount: Money,
    items: Vec<(&'static str, i64)>,
}

/// What an order gets that names no goods.
const DEFAULT_ITEM: (&str, i64) = ("surprise-box", 1);

/// The orders of a run.
pub(crate) struct Plan(pub(crate) Vec<PlannedOrder>);

impl Plan {
    /// Plans orders of which one in five fails by a rule of business.
    pub(crate) fn new(count: usize, dice: &mut Dice) -> Self {
        let fate = |number: usize| match number * 100 / count {
            0..10 => Fate::Declined,
            10..16 => Fate::OutOfStock,
            16..20 => Fate::Frozen,
            _ => Fate::Confirmed,
        };
        let mut fates: Vec<_> = (0..count).map(fate).collect();
        dice.shuffle(&mut fates);
        let planned = (1..).zip(fates).map(|(number, fate)| PlannedOrder::new(number, fate, dice));
        Self(planned.collect())
    }

    pub(crate) fn count(&self, fates: &[Fate]) -> i64 {
        let count = self.0.iter().filter(|order| fates.contains(&order.fate)).count();
        i64::try_from(count).expect("a small number")
    }

    pub(crate) fn confirmed(&self) -> impl Iterator<Item = &PlannedOrder> {
        self.0.iter().filter(|order| order.fate == Fate::Confirmed)
    }

    /// Returns the cents that must be captured.
    pub(crate) fn revenue(&self) -> i64 {
        self.confirmed().map(|order| order.amount.minor).sum()
    }

    /// Returns what must be sold of each article.
    pub(crate) fn sold(&self) -> BTreeMap<String, i64> {
        let mut sold = BTreeMap::new();
        for (sku, quantity) in self.confirmed().flat_map(PlannedOrder::goods) {
            *sold.entry((*sku).to_owned()).or_default() += quantity;
        }
        sold
    }
}

impl PlannedOrder {
    fn new(number: usize, fate: Fate, dice: &mut Dice) -> Self {
        let user = match fate {
            Fate::Confirmed | Fate::OutOfStock => ["u-1", "u-2"][usize::from(dice.below(2) == 1)],
            Fate::Declined => "u-poor",
            Fate::Frozen => "u-frozen",
        };
        // More than `u-poor` has.
        let cents = 1_000 + dice.below(10_000);
        let amount = Money::new(i64::try_from(cents).expect("a small amount"));
        let mut items = Vec::new();
        for sku in ["coffee-beans", "espresso-machine"] {
            let quantity = i64::try_from(dice.below(3)).expect("a small quantity");
            if quantity > 0 {
                items.push((sku, quantity));
            }
        }
        if fate == Fate::OutOfStock {
            items.push(("moon-rock", 1));
        }
        // No two runs place the same orders.
        Self { id: format!("e2e-{}-{number}", dice.seed()), fate, user, amount, items }
    }

    pub(crate) fn goods(&self) -> &[(&'static str, i64)] {
        if self.items.is_empty() { &[DEFAULT_ITEM] } else { &self.items }
    }

    pub(crate) fn body(&self) -> Value {
        let item = |(sku, quantity): &(&str, i64)| json!({"sku": sku, "quantity": quantity});
        let items: Vec<_> = self.items.iter().map(item).collect();
        json!({
            "order_id": self.id,
            "user_id": self.user,
            "amount": self.amount.as_number(),
            "items": items,
        })
    }
}

impl Fate {
    pub(crate) const fn status(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Declined | Self::OutOfStock | Self::Frozen => "rejected",
        }
    }

    pub(crate) const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Confirmed => None,
            Self::Declined => Some("card-declined"),
            Self::OutOfStock => Some("out-of-stock"),
            Self::Frozen => Some("account-frozen"),
        }
    }

    /// Returns how often money must have moved for the order, by reason.
    pub(crate) const fn movements(self) -> &'static [&'static str] {
        match self {
            Self::Confirmed => &["authorize", "capture"],
            Self::Frozen => &["authorize", "void"],
            Self::Declined | Self::OutOfStock => &[],
        }
    }
}
