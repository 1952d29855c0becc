//! The saga of an order: its messages and its steps.

use std::time::Duration;

use saga_core::{
    Cause, Command, Compensate, DefinitionError, Json, Message, MessageType, ParticipantName,
    Protobuf, Saga, SagaData, SagaName, Step, StepName,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::orders::{AUTHORIZE, CONFIRM, Order, RESERVE};

pub(crate) const ORCHESTRATOR: ParticipantName = ParticipantName::new("order-saga-orchestrator");
pub(crate) const INVENTORY: ParticipantName = ParticipantName::new("order-saga-inventory");
pub(crate) const PAYMENTS: ParticipantName = ParticipantName::new("order-saga-payments");
pub(crate) const ORDERS: ParticipantName = ParticipantName::new("order-saga-orders");

/// What a saga remembers of its order: 256 bytes of input.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OrderData {
    order_id: Uuid,
    amount_cents: u64,
    customer: String,
    sku: String,
    note: String,
}

impl From<Order> for OrderData {
    fn from(order: Order) -> Self {
        Self {
            order_id: order.id,
            amount_cents: order.amount_cents,
            customer: "customer-000042".to_owned(),
            sku: "article-007".to_owned(),
            note: "x".repeat(126),
        }
    }
}

impl SagaData for OrderData {
    const SAGA: SagaName = SagaName::new("place-order");
    type Codec = Json;
}

/// A message about an order.
pub(crate) trait AboutOrder {
    fn order_id(&self) -> Uuid;
}

/// Commands with what the library and the handlers must know of each.
macro_rules! commands {
    ($($participant:ident: $command:ident,)*) => {$(
        #[derive(Clone, PartialEq, prost::Message)]
        pub(crate) struct $command {
            #[prost(bytes = "vec", tag = "1")]
            order_id: Vec<u8>,
            #[prost(uint64, tag = "2")]
            pub(crate) amount_cents: u64,
        }

        impl From<&OrderData> for $command {
            fn from(order: &OrderData) -> Self {
                let order_id = order.order_id.as_bytes().to_vec();
                Self { order_id, amount_cents: order.amount_cents }
            }
        }

        impl AboutOrder for $command {
            fn order_id(&self) -> Uuid {
                Uuid::from_slice(&self.order_id).unwrap_or_default()
            }
        }

        impl Message for $command {
            const TYPE: MessageType = MessageType::new(stringify!($command));
            type Codec = Protobuf;
        }

        impl Command for $command {
            type Reply = Carried;
            const PARTICIPANT: ParticipantName = $participant;
        }
    )*};
}

commands! {
    INVENTORY: ReserveInventory,
    INVENTORY: ReleaseInventory,
    PAYMENTS: AuthorizePayment,
    PAYMENTS: VoidPayment,
    ORDERS: ConfirmOrder,
}

/// A command was carried out.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Carried {}

impl Message for Carried {
    const TYPE: MessageType = MessageType::new("Carried");
    type Codec = Protobuf;
}

/// Reserves inventory; undone by releasing it.
struct Reserve;

impl Step<OrderData> for Reserve {
    const NAME: StepName = StepName::new(RESERVE);
    type Command = ReserveInventory;

    fn command(&self, order: &OrderData) -> ReserveInventory {
        order.into()
    }
}

impl Compensate<OrderData> for Reserve {
    type Compensation = ReleaseInventory;

    fn compensation(&self, order: &OrderData, _: &Cause) -> ReleaseInventory {
        order.into()
    }
}

/// Authorizes the payment; undone by voiding it.
struct Authorize;

impl Step<OrderData> for Authorize {
    const NAME: StepName = StepName::new(AUTHORIZE);
    type Command = AuthorizePayment;

    fn command(&self, order: &OrderData) -> AuthorizePayment {
        order.into()
    }
}

impl Compensate<OrderData> for Authorize {
    type Compensation = VoidPayment;

    fn compensation(&self, order: &OrderData, _: &Cause) -> VoidPayment {
        order.into()
    }
}

/// Confirms the order, or declines it.
struct Confirm;

impl Step<OrderData> for Confirm {
    const NAME: StepName = StepName::new(CONFIRM);
    type Command = ConfirmOrder;

    fn command(&self, order: &OrderData) -> ConfirmOrder {
        order.into()
    }
}

/// Returns the definition.
pub(crate) fn place_order() -> Result<Saga<OrderData>, DefinitionError> {
    Saga::<OrderData>::builder().step(Reserve).step(Authorize).pivot(Confirm).build()
}

/// What a saga remembers that waits for an hour: as much as an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Nap {
    note: String,
}

impl Nap {
    pub(crate) fn new() -> Self {
        Self { note: "x".repeat(245) }
    }
}

impl SagaData for Nap {
    const SAGA: SagaName = SagaName::new("nap");
    type Codec = Json;
}

/// Returns the definition of a saga that waits for an hour.
pub(crate) fn nap() -> Result<Saga<Nap>, DefinitionError> {
    Saga::<Nap>::builder().wait(StepName::new("nap"), |_| Duration::from_hours(1)).build()
}

#[cfg(test)]
mod tests {
    use saga_core::Codec;

    use super::*;
    use crate::arguments::Variant;

    #[test]
    fn the_input_has_256_bytes() {
        let data = OrderData::from(Order::new(0, Variant::A));
        let encoded = <Json as Codec<OrderData>>::encode(&data).unwrap();
        assert_eq!(encoded.as_bytes().len(), 256);
        let encoded = <Json as Codec<Nap>>::encode(&Nap::new()).unwrap();
        assert_eq!(encoded.as_bytes().len(), 256);
    }
}
