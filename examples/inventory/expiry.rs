//! What is set aside for an order that does not end goes back to what is on hand.

use std::time::Duration;

use chassis::database::Database;
use chassis::periodic::Periodic;
use saga_core::{Clock as _, SystemClock, Timestamp};
use tracing::info;

use super::{StockQueries, StockRepository as _};

/// How often it is looked for what is due.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Most reservations that go back in one transaction: what others wait for is locked for a moment only.
const AT_ONCE: usize = 500;

/// Puts back what was to be set aside until `now` at most, and returns how many reservations that were.
///
/// Any number of processes may do so at once: each leaves alone what another one has in hand.
///
/// # Errors
///
/// What the database said. What went back before stays there.
pub async fn expire<D: Database<Connection: StockQueries>>(
    database: &D,
    now: Timestamp,
) -> anyhow::Result<usize> {
    let mut total = 0;
    loop {
        let mut transaction = database.begin().await?;
        let expired = D::connection(&mut transaction).expire(now, AT_ONCE).await?;
        D::commit(transaction).await?;
        total += expired;
        if expired < AT_ONCE {
            return Ok(total);
        }
    }
}

/// Does so from time to time.
pub(super) fn watch<D: Database<Connection: StockQueries>>(database: D) -> Periodic {
    Periodic::new("expire reservations", LOOK_EVERY, move || {
        let database = database.clone();
        async move {
            let reservations = expire(&database, SystemClock::new().now()).await?;
            if reservations > 0 {
                info!(reservations, "expired: their orders did not end in time");
            }
            Ok(())
        }
    })
}
