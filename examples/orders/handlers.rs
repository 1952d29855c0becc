//! What the orders service does with its commands, on whatever database it has.

use anyhow::anyhow;
use saga_core::{Context, Handle, HandlerError, HandlerResult, Reply};

use super::{OrderRepository, Status};
use crate::shared::contract::{ConfirmOrder, OrderConfirmed, OrderRejected, RejectOrder};

/// Carries out the commands of the orders service.
#[derive(Debug, Clone, Copy)]
pub struct Orders;

impl<C: OrderRepository> Handle<ConfirmOrder, C> for Orders {
    async fn handle(
        &self,
        command: ConfirmOrder,
        cx: &mut Context<'_, C>,
    ) -> HandlerResult<OrderConfirmed> {
        let ConfirmOrder { order_id } = command;
        close(cx.connection(), &order_id, Status::Confirmed, None).await?;
        Ok(Reply::succeeded(OrderConfirmed { order_id }))
    }
}

impl<C: OrderRepository> Handle<RejectOrder, C> for Orders {
    async fn handle(
        &self,
        command: RejectOrder,
        cx: &mut Context<'_, C>,
    ) -> HandlerResult<OrderRejected> {
        let RejectOrder { order_id, reason } = command;
        close(cx.connection(), &order_id, Status::Rejected, Some(&reason)).await?;
        Ok(Reply::succeeded(OrderRejected { order_id, reason }))
    }
}

/// Closes an order. Each command takes effect once, so an order that is not open is a mistake that
/// no retry mends: the saga parks, and a person looks.
async fn close(
    orders: &mut impl OrderRepository,
    order_id: &str,
    status: Status,
    reason: Option<&str>,
) -> Result<(), HandlerError> {
    if orders.close(order_id, status, reason).await? {
        return Ok(());
    }
    Err(HandlerError::terminal(anyhow!("there is no pending order {order_id}")))
}
