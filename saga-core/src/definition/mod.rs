//! What a saga is: its data, its steps, and the law of the pivot.

mod builder;
mod erased;
mod error;
mod graph;
mod sequence;
mod step;
#[cfg(test)]
mod tests;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::{Codec, SagaName};

pub use builder::{AfterPivot, BeforePivot, Branches, CanTurnBack, SagaBuilder};
pub use erased::Definition;
pub(crate) use erased::{Action, Data, StepDefinition, StepKind};
pub use error::DefinitionError;
pub use step::{Cause, Compensate, Step};

/// What one run of a saga remembers between its steps.
///
/// The data is stored whole at every step, in the format [`Codec`](Self::Codec). When its type changes, running sagas
/// still have what an older one stored:
///
/// - A field that is optional, or has a default, can be added at any time.
/// - Data that today's type does not decode is turned into it by an [upcast](SagaBuilder::upcast); the version of the
///   definition stays.
/// - Data that today's type decodes and would misread, or that is in another format, needs a type of its own: the old
///   type stays with its version of the definition, and the new one comes with a [new version](SagaBuilder::version).
///
/// The same holds the other way round when an older program is deployed again, or still runs beside the new one. A
/// saga whose data it does not decode parks, and the data stays as it was stored. But a type that ignores fields it
/// does not know, which is what `serde` and Protocol Buffers do by default, drops them from what it stores next.
///
/// # Examples
///
/// ```
/// use saga_core::{Json, SagaData, SagaName};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct PlaceOrder {
///     order: String,
///     cents: i64,
/// }
///
/// impl SagaData for PlaceOrder {
///     const SAGA: SagaName = SagaName::new("place-order");
///     type Codec = Json;
/// }
/// ```
pub trait SagaData: Sized + Send + Sync + 'static {
    /// The stored name of the saga that this is the data of.
    const SAGA: SagaName;
    /// The format that the data is stored in: [`Json`](crate::Json), [`Protobuf`](crate::Protobuf) or your own.
    type Codec: Codec<Self>;
}

/// A saga definition over the data `D`: the recipe that running sagas follow.
///
/// # Examples
///
/// A definition with one step that can be compensated, a pivot, and one step that only goes forward:
///
/// ```
/// # use saga_core::{Command, Cause, Compensate, Json, Message, MessageType, ParticipantName, Saga, SagaData, SagaName, Step, StepName};
/// # use serde::{Deserialize, Serialize};
/// # macro_rules! command { ($name:ident) => {
/// #     #[derive(Serialize, Deserialize)] struct $name { order: String }
/// #     impl Message for $name { const TYPE: MessageType = MessageType::new(stringify!($name)); type Codec = Json; }
/// #     impl Command for $name { type Reply = Done; const PARTICIPANT: ParticipantName = ParticipantName::new("shop"); }
/// # }}
/// # #[derive(Serialize, Deserialize)] struct Done;
/// # impl Message for Done { const TYPE: MessageType = MessageType::new("Done"); type Codec = Json; }
/// # command!(Reserve); command!(Release); command!(Charge); command!(Ship);
/// # #[derive(Serialize, Deserialize)] struct PlaceOrder { order: String }
/// # impl SagaData for PlaceOrder { const SAGA: SagaName = SagaName::new("place-order"); type Codec = Json; }
/// struct ReserveStock;
///
/// impl Step<PlaceOrder> for ReserveStock {
///     const NAME: StepName = StepName::new("reserve-stock");
///     type Command = Reserve;
///     fn command(&self, data: &PlaceOrder) -> Reserve {
///         Reserve { order: data.order.clone() }
///     }
/// }
///
/// impl Compensate<PlaceOrder> for ReserveStock {
///     type Compensation = Release;
///     fn compensation(&self, data: &PlaceOrder, _cause: &Cause) -> Release {
///         Release { order: data.order.clone() }
///     }
/// }
/// # struct ChargeCard;
/// # impl Step<PlaceOrder> for ChargeCard {
/// #     const NAME: StepName = StepName::new("charge-card"); type Command = Charge;
/// #     fn command(&self, data: &PlaceOrder) -> Charge { Charge { order: data.order.clone() } }
/// # }
/// # struct ShipOrder;
/// # impl Step<PlaceOrder> for ShipOrder {
/// #     const NAME: StepName = StepName::new("ship-order"); type Command = Ship;
/// #     fn command(&self, data: &PlaceOrder) -> Ship { Ship { order: data.order.clone() } }
/// # }
///
/// let saga = Saga::<PlaceOrder>::builder()
///     .step(ReserveStock) // must be `Compensate`: undone if a later step fails
///     .pivot(ChargeCard) // the point of no return, one per saga
///     .then(ShipOrder) // retried until it succeeds
///     .build()?;
/// assert_eq!(saga.version(), 1);
/// # Ok::<(), saga_core::DefinitionError>(())
/// ```
pub struct Saga<D> {
    definition: Arc<Definition>,
    data: PhantomData<fn() -> D>,
}

impl<D: SagaData> Saga<D> {
    /// Begins a definition. Its name is [`SagaData::SAGA`], its version 1 unless the builder says otherwise.
    pub fn builder() -> SagaBuilder<D, BeforePivot> {
        SagaBuilder::new()
    }
}

impl<D> Saga<D> {
    fn new(definition: Definition) -> Self {
        Self { definition: Arc::new(definition), data: PhantomData }
    }

    /// Returns the stored name.
    #[must_use]
    pub fn name(&self) -> &SagaName {
        self.definition.name()
    }

    /// Returns the version that new sagas are started on if no higher one is registered.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.definition.version()
    }

    /// Returns the definition without its type, as the machine reads it.
    #[must_use]
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }
}

impl<D> Saga<D> {
    pub(crate) fn into_definition(self) -> Arc<Definition> {
        self.definition
    }
}

impl<D> Clone for Saga<D> {
    fn clone(&self) -> Self {
        Self { definition: Arc::clone(&self.definition), data: PhantomData }
    }
}

impl<D> fmt::Debug for Saga<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.definition, f)
    }
}
