//! What the inventory service does with its commands, on whatever database it has.
//!
//! Commands that arrive together are carried out together: the stock is read once, each command is decided
//! on, and what was decided is written at once.

use std::collections::BTreeMap;

use saga_core::{Context, Handle, HandleAll, HandlerError, HandlerResult, Reply};

use super::StockRepository;
use crate::shared::contract::{
    InventoryRejected, InventoryReleased, InventoryReserved, InventorySold, ReleaseInventory,
    ReserveInventory, SellInventory,
};
use crate::shared::messages::inventory::Item;

/// What an order gets that names no goods: one piece of this.
pub(super) const DEFAULT_SKU: &str = "surprise-box";

/// Carries out the commands of the inventory service.
#[derive(Debug, Clone, Copy)]
pub struct Inventory;

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
        cx.connection().reserve(&reserved).await?;
        Ok(replies)
    }
}

impl<C: StockRepository> Handle<ReleaseInventory, C> for Inventory {
    async fn handle(
        &self,
        command: ReleaseInventory,
        cx: &mut Context<'_, C>,
    ) -> HandlerResult<InventoryReleased> {
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
        cx.connection().sell(&orders).await?;
        let sold = |order_id| Reply::succeeded(InventorySold { order_id });
        Ok(orders.into_iter().map(sold).collect())
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
    use super::*;

    fn item(sku: &str, quantity: u32) -> Item {
        Item { sku: sku.to_owned(), quantity }
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
