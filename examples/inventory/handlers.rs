//! What the inventory service does with its commands, on whatever database it has.
//!
//! Commands that arrive together are carried out together: the stock is read once, each command is decided
//! on, and what was decided is written at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::anyhow;
use saga_core::{
    Clock as _, Context, Handle, HandleAll, HandlerError, HandlerResult, Reply, SystemClock,
};

use super::{ReservationState, StockRepository};
use crate::contract::messages::inventory::Item;
use crate::contract::{
    InventoryRejected, InventoryReleased, InventoryReserved, InventorySold, ReleaseInventory,
    ReserveInventory, SellInventory,
};

/// What an order gets that names no goods: one piece of this.
pub(super) const DEFAULT_SKU: &str = "surprise-box";

/// How long goods stay set aside, unless it is said otherwise: more than twice as long as a saga tries to authorize
/// and to capture (5 and 20 attempts of 30 s, and the waits in between: 24 minutes) before it turns back or parks.
const RESERVED_FOR: Duration = Duration::from_hours(1);

/// Carries out the commands of the inventory service.
#[derive(Debug, Clone, Copy)]
pub struct Inventory {
    /// How long goods stay set aside for an order that does not end.
    reserved_for: Duration,
}

impl Inventory {
    /// Sets goods aside for so long.
    #[must_use]
    pub const fn reserving_for(reserved_for: Duration) -> Self {
        Self { reserved_for }
    }
}

impl Default for Inventory {
    fn default() -> Self {
        Self::reserving_for(RESERVED_FOR)
    }
}

impl<C: StockRepository> HandleAll<ReserveInventory, C> for Inventory {
    async fn handle_all(
        &self,
        commands: Vec<ReserveInventory>,
        cx: &mut Context<'_, C>,
    ) -> Result<Vec<Reply<InventoryReserved>>, HandlerError> {
        let orders: Vec<_> =
            commands.into_iter().map(|it| (it.order_id, goods(it.items))).collect();
        let articles = orders.iter().flat_map(|(_, items)| items.iter().map(|it| it.sku.clone()));
        let mut on_hand = cx.connection().on_hand(&articles.collect()).await?;
        let (mut reserved, mut replies) = (Vec::new(), Vec::new());
        for (order_id, items) in orders {
            if take(&mut on_hand, &items) {
                reserved.extend(items.into_iter().map(|it| (order_id.clone(), it)));
                replies.push(Reply::succeeded(InventoryReserved { order_id }));
                continue;
            }
            let reason = "out-of-stock";
            // A fact for whoever wants to know, e.g. a buyer. The saga reads the reply.
            let fact = InventoryRejected { order_id, reason: reason.to_owned() };
            cx.publish(&fact, &fact.order_id)?;
            replies.push(Reply::rejected(reason));
        }
        let until = SystemClock::new().now() + self.reserved_for;
        cx.connection().reserve(&reserved, until).await?;
        Ok(replies)
    }
}

impl<C: StockRepository> Handle<ReleaseInventory, C> for Inventory {
    async fn handle(
        &self,
        command: ReleaseInventory,
        cx: &mut Context<'_, C>,
    ) -> HandlerResult<InventoryReleased> {
        // What has expired went back before: nothing is left to be done, and that is what was asked for.
        cx.connection().release(&command.order_id).await?;
        Ok(Reply::succeeded(InventoryReleased { order_id: command.order_id }))
    }
}

impl<C: StockRepository> HandleAll<SellInventory, C> for Inventory {
    async fn handle_all(
        &self,
        commands: Vec<SellInventory>,
        cx: &mut Context<'_, C>,
    ) -> Result<Vec<Reply<InventorySold>>, HandlerError> {
        let orders: Vec<_> = commands.into_iter().map(|it| it.order_id).collect();
        let mut expired: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for it in cx.connection().set_aside(&orders).await? {
            if it.state == ReservationState::Expired {
                let item = Item { sku: it.sku, quantity: it.quantity };
                expired.entry(it.order_id).or_default().push(item);
            }
        }
        take_again(cx.connection(), &expired).await?;
        cx.connection().sell(&orders).await?;
        let sold = |order_id| Reply::succeeded(InventorySold { order_id });
        Ok(orders.into_iter().map(sold).collect())
    }
}

/// Makes sure that what has expired, and so went back, is still on hand for those who had it set aside.
///
/// A rejection would be the answer to every retry. This is none: the saga is past its pivot and parks, and once the
/// goods are there the step can be retried.
async fn take_again(
    stock: &mut impl StockRepository,
    expired: &BTreeMap<String, Vec<Item>>,
) -> Result<(), HandlerError> {
    if expired.is_empty() {
        return Ok(());
    }
    let articles: BTreeSet<_> = expired.values().flatten().map(|it| it.sku.clone()).collect();
    let mut on_hand = stock.on_hand(&articles).await?;
    match expired.iter().find(|(_, items)| !take(&mut on_hand, items)) {
        None => Ok(()),
        Some((order_id, _)) => Err(HandlerError::terminal(anyhow!(
            "reservation-expired: the goods of order {order_id} went back, and others have them"
        ))),
    }
}

/// Takes all the goods of an order, or nothing if one of them is not there.
fn take(on_hand: &mut BTreeMap<String, u32>, items: &[Item]) -> bool {
    let left = |it: &Item| on_hand.get(&it.sku)?.checked_sub(it.quantity);
    let Some(left) = items.iter().map(left).collect::<Option<Vec<_>>>() else { return false };
    on_hand.extend(items.iter().map(|it| it.sku.clone()).zip(left));
    true
}

/// Returns what is to be reserved: each article once.
fn goods(items: Vec<Item>) -> Vec<Item> {
    if items.is_empty() {
        return vec![Item { sku: DEFAULT_SKU.to_owned(), quantity: 1 }];
    }
    let mut goods = BTreeMap::new();
    for Item { sku, quantity } in items {
        let total: &mut u32 = goods.entry(sku).or_default();
        *total = total.saturating_add(quantity);
    }
    let goods = goods.into_iter().map(|(sku, quantity)| Item { sku, quantity });
    goods.filter(|item| item.quantity > 0).collect()
}

#[cfg(test)]
mod tests {
    use saga_core::RetryPolicy;

    use super::*;

    fn item(sku: &str, quantity: u32) -> Item {
        Item { sku: sku.to_owned(), quantity }
    }

    /// From the reservation to the pivot, if each attempt but the last gets no answer.
    #[test]
    fn goods_stay_longer_than_a_saga_tries() {
        let tries = |policy: RetryPolicy| -> Duration {
            let made = (1..).take_while(|made| policy.allows(made - 1));
            // A wait is shortened by up to half, and each attempt has 30 s.
            made.map(|made| Duration::from_secs(30) + 2 * policy.delay(made, 0)).sum()
        };
        let (authorize, capture) = (tries(RetryPolicy::DEFAULT), tries(RetryPolicy::PERSISTENT));
        assert!(authorize + capture < RESERVED_FOR, "{authorize:?} and {capture:?}");
    }

    #[test]
    fn an_order_gets_all_of_its_goods_or_none() {
        let mut on_hand = BTreeMap::from([("tea".to_owned(), 3), ("cup".to_owned(), 1)]);
        assert!(take(&mut on_hand, &[item("cup", 1), item("tea", 2)]));
        assert!(!take(&mut on_hand, &[item("cup", 1), item("tea", 1)]), "the cup is gone");
        assert!(!take(&mut on_hand, &[item("moon-rock", 1)]), "nobody knows it");
        assert!(take(&mut on_hand, &[item("tea", 1)]), "the tea is still there");
        assert_eq!(on_hand.into_values().sum::<u32>(), 0);
    }

    #[test]
    fn an_article_that_is_named_twice_is_reserved_once() {
        let twice = goods(vec![item("tea", 1), item("cup", 0), item("tea", 2)]);
        assert_eq!(twice, [item("tea", 3)]);
        assert_eq!(goods(Vec::new()), [item(DEFAULT_SKU, 1)]);
    }
}
