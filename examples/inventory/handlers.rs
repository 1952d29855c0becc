//! What the inventory service does with its commands, on whatever database it has.

use std::collections::BTreeMap;

use saga_core::{Context, Handle, HandlerResult, Reply};

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

impl<C: StockRepository> Handle<ReserveInventory, C> for Inventory {
    async fn handle(
        &self,
        command: ReserveInventory,
        cx: &mut Context<'_, C>,
    ) -> HandlerResult<InventoryReserved> {
        let ReserveInventory { order_id, items } = command;
        let items = goods(items);
        // Decides first and writes then: what is written before a rejection is committed with it.
        for item in &items {
            if cx.connection().on_hand(&item.sku).await? < item.quantity {
                let reason = "out-of-stock";
                // A fact for whoever wants to know, e.g. a buyer. The saga reads the reply.
                let fact =
                    InventoryRejected { order_id: order_id.clone(), reason: reason.to_owned() };
                cx.publish(&fact, &order_id)?;
                return Ok(Reply::rejected(reason));
            }
        }
        for item in &items {
            cx.connection().reserve(&order_id, item).await?;
        }
        Ok(Reply::succeeded(InventoryReserved { order_id }))
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

impl<C: StockRepository> Handle<SellInventory, C> for Inventory {
    async fn handle(
        &self,
        command: SellInventory,
        cx: &mut Context<'_, C>,
    ) -> HandlerResult<InventorySold> {
        cx.connection().sell(&command.order_id).await?;
        Ok(Reply::succeeded(InventorySold { order_id: command.order_id }))
    }
}

/// Returns what is to be reserved: each article once, and sorted, so that two orders which lock the
/// same articles do it in one order.
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
