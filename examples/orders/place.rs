//! Accepts orders: each order and the fact that it exists, in one transaction.
//!
//! Writing one and sending the other would lose an order, or invent one, whenever the process dies
//! in between. With the outbox there is no in between.
//!
//! Orders that arrive together are accepted together: a commit costs more than all else about an order.

use anyhow::{Context as _, anyhow};
use chassis::database::Database;
use saga_core::RelayWaker;
use saga_core::store::{Lane, OutboxRow};
use saga_core::transport::Record;
use tokio::sync::{mpsc, oneshot};

use super::{Order, OrderRepository};

/// Most orders of one transaction, and most that wait for the next one.
const TOGETHER: usize = 256;

/// What became of the wish to place an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// It was accepted.
    Now,
    /// The same order was accepted before: the customer did not see our answer.
    Before,
    /// Another order has this id.
    Taken,
}

/// Where orders are handed in.
#[derive(Debug, Clone)]
pub(super) struct Desk(mpsc::Sender<HandedIn>);

/// An order that was handed in, and who waits for the answer.
struct HandedIn {
    order: Order,
    /// Tells that the order exists.
    created: Record,
    answer: oneshot::Sender<anyhow::Result<Placed>>,
}

impl Desk {
    /// Opens a desk, which closes when its last handle is dropped. Runs on the current Tokio runtime.
    pub(super) fn open<D>(database: D, outbox: RelayWaker) -> Self
    where
        D: Database<Connection: OrderRepository>,
    {
        let (hand_in, mut handed_in) = mpsc::channel(TOGETHER);
        tokio::spawn(async move {
            let mut together = Vec::new();
            while handed_in.recv_many(&mut together, TOGETHER).await > 0 {
                accept(&database, std::mem::take(&mut together)).await;
                outbox.wake();
            }
        });
        Self(hand_in)
    }

    /// Hands an order in, and waits for the answer.
    ///
    /// # Errors
    ///
    /// If the database does not take it, or if nobody knows whether it did: the same order may be handed in again.
    pub(super) async fn place(&self, order: Order) -> anyhow::Result<Placed> {
        let created = Record::fact(&order.created(), order.order_id.as_str())?;
        let (answer, answered) = oneshot::channel();
        self.0
            .send(HandedIn { order, created, answer })
            .await
            .ok()
            .context("the desk is closed")?;
        answered.await.context("the desk was closed")?
    }
}

/// Accepts orders and answers those who wait. If the database refuses them, each is on its own: one may be to blame.
async fn accept<D: Database<Connection: OrderRepository>>(database: &D, handed_in: Vec<HandedIn>) {
    let (mut orders, mut created, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for it in handed_in {
        orders.push(it.order);
        created.push(it.created);
        answers.push(it.answer);
    }
    let placed = match place(database, &orders, &created).await {
        Ok(placed) => placed.into_iter().map(Ok).collect(),
        Err(error) if orders.len() == 1 => vec![Err(error)],
        Err(_) => {
            let mut placed = Vec::with_capacity(orders.len());
            let each = orders.chunks(1).zip(created.chunks(1));
            for ((order, created), answer) in each.zip(&answers) {
                // After an outage nobody waits any more, and those who come must not wait behind them.
                placed.push(match answer.is_closed() {
                    true => Err(anyhow!("nobody waits for the answer")),
                    false => place(database, order, created).await.map(|placed| placed[0]),
                });
            }
            placed
        }
    };
    for (answer, placed) in answers.into_iter().zip(placed) {
        // Who does not wait any more may ask again.
        let _ = answer.send(placed);
    }
}

/// Accepts orders in one transaction, each once, and says what became of each.
async fn place<D>(database: &D, orders: &[Order], created: &[Record]) -> anyhow::Result<Vec<Placed>>
where
    D: Database<Connection: OrderRepository>,
{
    let mut transaction = database.begin().await?;
    let db = D::connection(&mut transaction);
    let mut new = db.insert(orders).await?;
    let mut told = Vec::with_capacity(new.len());
    let mut placed = Vec::with_capacity(orders.len());
    for (order, created) in orders.iter().zip(created) {
        // If it was handed in twice, the first one is the new one.
        placed.push(if new.remove(&order.order_id) {
            told.push(created.clone());
            Placed::Now
        } else {
            let first = db.find(&order.order_id, None).await?.context("an order disappeared")?;
            if first.is_same_request(order) { Placed::Before } else { Placed::Taken }
        });
    }
    if !told.is_empty() {
        D::enqueue(db, OutboxRow::new(Lane::application(), &told)).await?;
        D::commit(transaction).await?;
    }
    Ok(placed)
}
