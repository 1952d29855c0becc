//! The contract between the services: who carries out which command, and what is answered.
//!
//! The messages themselves are generated from `proto/orderweaver`. Here each gets its name on the
//! wire, and each command its participant and its reply; both sides then use the same type.

pub mod messages;
pub mod timeline;

use saga_core::{Command, Fact, Message, MessageType, ParticipantName, Protobuf};

pub use messages::inventory::{
    InventoryRejected, InventoryReleased, InventoryReserved, InventorySold, Item, ReleaseInventory,
    ReserveInventory, SellInventory,
};
pub use messages::orders::{
    ConfirmOrder, OrderConfirmed, OrderCreated, OrderRejected, RejectOrder,
};
pub use messages::payments::{
    AuthorizePayment, CapturePayment, PaymentAuthorized, PaymentCaptured, PaymentDeclined,
    PaymentVoided, VoidPayment,
};

/// The service that takes orders.
pub const ORDERS: ParticipantName = ParticipantName::new("orders");
/// The service that holds and takes money.
pub const PAYMENTS: ParticipantName = ParticipantName::new("payments");
/// The service that keeps the stock.
pub const INVENTORY: ParticipantName = ParticipantName::new("inventory");
/// The service that runs the sagas.
pub const ORCHESTRATOR: ParticipantName = ParticipantName::new("orchestrator");

/// Gives messages their names on the wire.
macro_rules! messages {
    ($($message:ident),*) => {$(
        impl Message for $message {
            const TYPE: MessageType = MessageType::new(stringify!($message));
            type Codec = Protobuf;
        }
    )*};
}

/// Makes commands of messages, and replies of what they are answered with. A reply is a fact as well:
/// whoever wants to know can handle it.
macro_rules! commands {
    ($($participant:ident { $($command:ident => $reply:ident,)* })*) => {$($(
        messages!($command, $reply);
        impl Command for $command {
            type Reply = $reply;
            const PARTICIPANT: ParticipantName = $participant;
        }
        impl Fact for $reply {
            const SOURCE: ParticipantName = $participant;
        }
    )*)*};
}

/// Makes facts of messages that answer nothing.
macro_rules! facts {
    ($($source:ident: $fact:ident,)*) => {$(
        messages!($fact);
        impl Fact for $fact {
            const SOURCE: ParticipantName = $source;
        }
    )*};
}

commands! {
    ORDERS {
        ConfirmOrder => OrderConfirmed,
        RejectOrder => OrderRejected,
    }
    PAYMENTS {
        AuthorizePayment => PaymentAuthorized,
        CapturePayment => PaymentCaptured,
        VoidPayment => PaymentVoided,
    }
    INVENTORY {
        ReserveInventory => InventoryReserved,
        ReleaseInventory => InventoryReleased,
        SellInventory => InventorySold,
    }
}

facts! {
    ORDERS: OrderCreated,
    PAYMENTS: PaymentDeclined,
    INVENTORY: InventoryRejected,
}
