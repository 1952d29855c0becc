//! What is in stock at first.

use chassis::seed::Seeded;

use super::StockRepository;
use super::handlers::DEFAULT_SKU;
use crate::contract::messages::inventory::Item;

const STOCK: &[(&str, u32)] = &[
    (DEFAULT_SKU, 1_000_000),
    ("espresso-machine", 5_000),
    ("coffee-beans", 20_000),
    // Everybody wants a `moon-rock`, and there are none.
];

/// Takes the first delivery of each article, where it was never taken.
pub(super) async fn load(stock: &mut impl StockRepository) -> anyhow::Result<Seeded> {
    let mut seeded = Seeded::default();
    for &(sku, quantity) in STOCK {
        let item = Item { sku: sku.to_owned(), quantity };
        seeded.count(stock.deliver(&format!("first-{sku}"), &item).await?);
    }
    Ok(seeded)
}
