//! What the orders service does with its commands, on whatever database it has.

use anyhow::anyhow;
use saga_core::{Context, Handle, HandleAll, HandlerError, HandlerResult, Reply};

use super::{OrderRepository, Status};
use crate::contract::{ConfirmOrder, OrderConfirmed, OrderRejected, RejectOrder};

/// Carries out the commands of the orders service.
#[derive(Debug, Clone, Copy)]
pub struct Orders;

impl<C: OrderRepository> HandleAll<ConfirmOrder, C> for Orders {
    async fn handle_all(
        &self,
        commands: Vec<ConfirmOrder>,
        cx: &mut Context<'_, C>,
    ) -> Result<Vec<Reply<OrderConfirmed>>, HandlerError> {
        let orders: Vec<_> = commands.into_iter().map(|it| it.order_id).collect();
        close(cx.connection(), &orders, Status::Confirmed, None).await?;
        let confirmed = |order_id| Reply::succeeded(OrderConfirmed { order_id });
        Ok(orders.into_iter().map(confirmed).collect())
    }
}

impl<C: OrderRepository> Handle<RejectOrder, C> for Orders {
    async fn handle(
        &self,
        command: RejectOrder,
        cx: &mut Context<'_, C>,
    ) -> HandlerResult<OrderRejected> {
        let RejectOrder { order_id, reason } = command;
        let orders = std::slice::from_ref(&order_id);
        close(cx.connection(), orders, Status::Rejected, Some(&reason)).await?;
        Ok(Reply::succeeded(OrderRejected { order_id, reason }))
    }
}

/// Closes orders. Each command takes effect once, so an order that is not open is a mistake that
/// no retry mends: its saga parks, and a person looks.
async fn close(
    orders: &mut impl OrderRepository,
    order_ids: &[String],
    status: Status,
    reason: Option<&str>,
) -> Result<(), HandlerError> {
    if orders.close(order_ids, status, reason).await? == order_ids.len() {
        return Ok(());
    }
    Err(HandlerError::terminal(anyhow!("not pending, or not there: {}", order_ids.join(", "))))
}
