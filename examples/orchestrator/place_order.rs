//! The saga: what it takes to place an order, in which order, and how each step is undone. The README draws it.
//!
//! Nothing here does anything. Each step says *what* to ask for; the engine sends it, waits, retries and survives crashes.

use chassis::money::Money;
use saga_core::{
    Cause, Compensate, DefinitionError, IdempotencyKey, Json, Saga, SagaData, SagaName, Step,
    StepName,
};
use serde::{Deserialize, Serialize};

use crate::contract::{
    AuthorizePayment, CapturePayment, ConfirmOrder, Item, OrderCreated, RejectOrder,
    ReleaseInventory, ReserveInventory, SellInventory, VoidPayment,
};

/// Puts the saga together.
///
/// # Errors
///
/// A mistake in the definition, such as two steps of one name. It shows when the program starts.
pub fn place_order() -> Result<Saga<PlaceOrder>, DefinitionError> {
    Saga::<PlaceOrder>::builder()
        // The order exists before the saga does. If all else is undone, so is this.
        .compensation(StepName::new("reject-order"), reject_order)
        .step(Reserve)
        .step(Authorize)
        // At most once; what stands before it must be `Compensate`, or this does not compile.
        .pivot(Capture)
        .then_parallel(|both| both.then(Confirm).then(Sell))
        .build()
}

/// What a saga remembers between its steps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlaceOrder {
    order_id: String,
    user_id: String,
    amount: Money,
    /// Article and quantity; empty if the order names no goods.
    items: Vec<(String, u32)>,
}

impl SagaData for PlaceOrder {
    const SAGA: SagaName = SagaName::new("place-order");
    type Codec = Json;
}

/// Makes a saga of the fact that an order was created. A fact that comes twice starts one: the order's id is the key.
#[must_use]
pub fn start(created: OrderCreated) -> Option<(IdempotencyKey, PlaceOrder)> {
    let key = IdempotencyKey::new(&created.order_id).ok()?;
    let data = PlaceOrder {
        order_id: created.order_id,
        user_id: created.user_id,
        amount: Money { minor: created.amount_minor, currency: created.currency },
        items: created.items.into_iter().map(|item| (item.sku, item.quantity)).collect(),
    };
    Some((key, data))
}

/// Sets the goods aside; undone by putting them back.
struct Reserve;

impl Step<PlaceOrder> for Reserve {
    const NAME: StepName = StepName::new("reserve-inventory");
    type Command = ReserveInventory;

    fn command(&self, order: &PlaceOrder) -> ReserveInventory {
        let item = |(sku, quantity): &(String, u32)| Item { sku: sku.clone(), quantity: *quantity };
        let items = order.items.iter().map(item).collect();
        ReserveInventory { order_id: order.order_id.clone(), items }
    }
}

impl Compensate<PlaceOrder> for Reserve {
    type Compensation = ReleaseInventory;

    fn compensation(&self, order: &PlaceOrder, _cause: &Cause) -> ReleaseInventory {
        ReleaseInventory { order_id: order.order_id.clone() }
    }
}

/// Holds the money; undone by letting it go.
struct Authorize;

impl Step<PlaceOrder> for Authorize {
    const NAME: StepName = StepName::new("authorize-payment");
    type Command = AuthorizePayment;

    fn command(&self, order: &PlaceOrder) -> AuthorizePayment {
        AuthorizePayment {
            order_id: order.order_id.clone(),
            user_id: order.user_id.clone(),
            amount: order.amount.as_float(),
            amount_minor: order.amount.minor,
            currency: order.amount.currency.clone(),
        }
    }
}

impl Compensate<PlaceOrder> for Authorize {
    type Compensation = VoidPayment;

    fn compensation(&self, order: &PlaceOrder, _cause: &Cause) -> VoidPayment {
        VoidPayment { order_id: order.order_id.clone() }
    }
}

/// Takes the money: the point of no return.
struct Capture;

impl Step<PlaceOrder> for Capture {
    const NAME: StepName = StepName::new("capture-payment");
    type Command = CapturePayment;

    fn command(&self, order: &PlaceOrder) -> CapturePayment {
        CapturePayment { order_id: order.order_id.clone() }
    }
}

/// Tells the customer.
struct Confirm;

impl Step<PlaceOrder> for Confirm {
    const NAME: StepName = StepName::new("confirm-order");
    type Command = ConfirmOrder;

    fn command(&self, order: &PlaceOrder) -> ConfirmOrder {
        ConfirmOrder { order_id: order.order_id.clone() }
    }
}

/// Takes what is set aside out of the books; parks if it comes so late that others have the goods.
struct Sell;

impl Step<PlaceOrder> for Sell {
    const NAME: StepName = StepName::new("sell-inventory");
    type Command = SellInventory;

    fn command(&self, order: &PlaceOrder) -> SellInventory {
        SellInventory { order_id: order.order_id.clone() }
    }
}

/// Tells the customer why not: the code of the rejection that made the saga turn back.
fn reject_order(order: &PlaceOrder, cause: &Cause) -> RejectOrder {
    RejectOrder { order_id: order.order_id.clone(), reason: cause.code().to_owned() }
}
