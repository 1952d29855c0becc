//! The contract between two services as a type, written once and used by both sides.

use crate::{Codec, MessageType, ParticipantName};

/// A value that travels between services.
///
/// # Examples
///
/// ```
/// use saga_core::{Json, Message, MessageType};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct StockReserved {
///     order: String,
/// }
///
/// impl Message for StockReserved {
///     const TYPE: MessageType = MessageType::new("StockReserved");
///     type Codec = Json;
/// }
/// ```
pub trait Message: Sized + Send + Sync + 'static {
    /// The name on the wire. Two types with one name are one type to the receiver.
    const TYPE: MessageType;
    /// The format on the wire: [`Json`](crate::Json), [`Protobuf`](crate::Protobuf) or your own.
    type Codec: Codec<Self>;
}

/// Asks a participant to do something. The participant that answers and the type of its reply belong to the command.
///
/// # Examples
///
/// ```
/// # use saga_core::{Json, Message, MessageType};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct StockReserved;
/// # impl Message for StockReserved { const TYPE: MessageType = MessageType::new("StockReserved"); type Codec = Json; }
/// # #[derive(Serialize, Deserialize)] struct ReserveStock;
/// # impl Message for ReserveStock { const TYPE: MessageType = MessageType::new("ReserveStock"); type Codec = Json; }
/// use saga_core::{Command, ParticipantName};
///
/// impl Command for ReserveStock {
///     type Reply = StockReserved;
///     const PARTICIPANT: ParticipantName = ParticipantName::new("inventory");
/// }
/// ```
pub trait Command: Message {
    /// What the participant answers when it succeeds.
    type Reply: Message;
    /// The participant that carries this command out.
    const PARTICIPANT: ParticipantName;
}

/// Something that happened, told to whoever wants to know.
///
/// A fact is published on the events topic of its source under the key of what it is about (an
/// order, an account), so that all facts about one thing stay in order.
pub trait Fact: Message {
    /// The service that this happened in.
    const SOURCE: ParticipantName;
}
