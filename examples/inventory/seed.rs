//! What is in stock on a first start.

use super::StockRepository;
use super::handlers::DEFAULT_SKU;

const STOCK: &[(&str, u32)] = &[
    (DEFAULT_SKU, 1_000_000),
    ("espresso-machine", 5_000),
    ("coffee-beans", 20_000),
    // Everybody wants one, and there are none.
    ("moon-rock", 0),
];

/// Fills empty tables.
pub(super) async fn load(stock: &mut impl StockRepository) -> anyhow::Result<()> {
    for (sku, quantity) in STOCK {
        stock.deliver(sku, *quantity).await?;
    }
    Ok(())
}
