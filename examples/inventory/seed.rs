//! What is in stock on a first start.

use super::StockRepository;
use super::handlers::DEFAULT_SKU;
use crate::shared::messages::inventory::Item;

const STOCK: &[(&str, u32)] = &[
    (DEFAULT_SKU, 1_000_000),
    ("espresso-machine", 5_000),
    ("coffee-beans", 20_000),
    // Everybody wants a `moon-rock`, and there are none.
];

/// Fills empty tables.
pub(super) async fn load(stock: &mut impl StockRepository) -> anyhow::Result<()> {
    for &(sku, quantity) in STOCK {
        let item = Item { sku: sku.to_owned(), quantity };
        stock.deliver(&format!("first-{sku}"), &item).await?;
    }
    Ok(())
}
