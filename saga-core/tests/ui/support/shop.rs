use saga_core::{
    Cause, Command, Compensate, Json, Message, MessageType, ParticipantName, SagaData, SagaName,
    Step, StepName,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub struct Order;

impl SagaData for Order {
    const SAGA: SagaName = SagaName::new("order");
    type Codec = Json;
}

#[derive(Serialize, Deserialize)]
pub struct Ask;

impl Message for Ask {
    const TYPE: MessageType = MessageType::new("Ask");
    type Codec = Json;
}

impl Command for Ask {
    type Reply = Ask;
    const PARTICIPANT: ParticipantName = ParticipantName::new("shop");
}

/// Can be undone.
pub struct ReserveStock;

impl Step<Order> for ReserveStock {
    const NAME: StepName = StepName::new("reserve-stock");
    type Command = Ask;
    fn command(&self, _: &Order) -> Ask {
        Ask
    }
}

impl Compensate<Order> for ReserveStock {
    type Compensation = Ask;
    fn compensation(&self, _: &Order, _: &Cause) -> Ask {
        Ask
    }
}

/// Cannot be undone.
pub struct ChargeCard;

impl Step<Order> for ChargeCard {
    const NAME: StepName = StepName::new("charge-card");
    type Command = Ask;
    fn command(&self, _: &Order) -> Ask {
        Ask
    }
}
