//! The services' saga is proved: whatever goes wrong, money and goods are conserved.
//!
//! The definition and the messages are the services' own. The participants keep their books in memory, so that
//! thousands of runs take seconds; the handlers that write to the database are tested in `e2e`.

use examples::orchestrator::place_order::{PlaceOrder, place_order, start};
use examples::shared::contract::{
    AuthorizePayment, CapturePayment, ConfirmOrder, INVENTORY, InventoryReleased,
    InventoryReserved, InventorySold, ORDERS, OrderConfirmed, OrderCreated, OrderRejected,
    PAYMENTS, PaymentAuthorized, PaymentCaptured, PaymentVoided, RejectOrder, ReleaseInventory,
    ReserveInventory, SellInventory, VoidPayment,
};
use examples::shared::messages::orders::Item;
use saga_core::{
    Context, Handle, HandlerResult, MemoryConnection, MemoryStore, Participant, Reply, Saga, Status,
};
use saga_testkit::{SimulatedClock, Subject, prove, simulate};

type Conn = MemoryConnection<Books>;

/// What the customer has and what is in the warehouse, and what was done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Books {
    balance: i64,
    held: i64,
    captured: i64,
    on_hand: u32,
    reserved: u32,
    sold: u32,
    order: &'static str,
}

const BEFORE: Books = Books {
    balance: 10_000,
    held: 0,
    captured: 0,
    on_hand: 5,
    reserved: 0,
    sold: 0,
    order: "pending",
};
const PRICE: i64 = 1_999;
const QUANTITY: u32 = 2;

#[derive(Clone)]
struct Services;

macro_rules! handles {
    ($($command:ident => $reply:ident $({ $($more:tt)* })?: |$books:ident, $asked:ident| $work:expr;)*) => {$(
        impl Handle<$command, Conn> for Services {
            async fn handle(
                &self,
                $asked: $command,
                cx: &mut Context<'_, Conn>,
            ) -> HandlerResult<$reply> {
                let $books = &mut **cx.connection();
                $work;
                Ok(Reply::succeeded($reply { order_id: $asked.order_id, $($($more)*)? }))
            }
        }
    )*};
}

handles! {
    ReserveInventory => InventoryReserved: |books, asked| {
        let quantity: u32 = asked.items.iter().map(|item| item.quantity).sum();
        if quantity > books.on_hand {
            return Ok(Reply::rejected("out-of-stock"));
        }
        books.on_hand -= quantity;
        books.reserved += quantity;
    };
    ReleaseInventory => InventoryReleased: |books, asked| {
        books.on_hand += books.reserved;
        books.reserved = 0;
    };
    SellInventory => InventorySold: |books, asked| {
        books.sold += books.reserved;
        books.reserved = 0;
    };
    AuthorizePayment => PaymentAuthorized: |books, asked| {
        if asked.amount_minor > books.balance {
            return Ok(Reply::rejected("insufficient-funds"));
        }
        books.balance -= asked.amount_minor;
        books.held += asked.amount_minor;
    };
    VoidPayment => PaymentVoided: |books, asked| {
        books.balance += books.held;
        books.held = 0;
    };
    CapturePayment => PaymentCaptured: |books, asked| {
        books.captured += books.held;
        books.held = 0;
    };
    ConfirmOrder => OrderConfirmed: |books, asked| books.order = "confirmed";
    RejectOrder => OrderRejected { reason: asked.reason }: |books, asked| books.order = "rejected";
}

impl Subject for Services {
    type Data = PlaceOrder;
    type Store = MemoryStore<Books>;

    fn saga(&self) -> Saga<PlaceOrder> {
        place_order().expect("the services' saga is sound")
    }

    fn data(&self) -> PlaceOrder {
        let created = OrderCreated {
            order_id: "o-1".to_owned(),
            user_id: "u-1".to_owned(),
            amount: 19.99,
            amount_minor: PRICE,
            currency: "EUR".to_owned(),
            items: vec![Item { sku: "book".to_owned(), quantity: QUANTITY }],
        };
        start(created).expect("its id is a key").1
    }

    fn store(&self, clock: &SimulatedClock) -> MemoryStore<Books> {
        MemoryStore::with_state(BEFORE).clock(clock.clone())
    }

    fn participants(&self) -> Vec<Participant<Conn>> {
        let inventory = Participant::builder(INVENTORY)
            .handle::<ReserveInventory>(Self)
            .handle::<ReleaseInventory>(Self)
            .handle::<SellInventory>(Self);
        let payments = Participant::builder(PAYMENTS)
            .handle::<AuthorizePayment>(Self)
            .handle::<VoidPayment>(Self)
            .handle::<CapturePayment>(Self);
        let orders =
            Participant::builder(ORDERS).handle::<ConfirmOrder>(Self).handle::<RejectOrder>(Self);
        [inventory, payments, orders].map(|it| it.build().expect("sound handlers")).into()
    }

    fn check(&self, store: &MemoryStore<Books>, status: Status) -> Result<(), String> {
        let books = store.read(Clone::clone);
        let money = books.balance + books.held + books.captured;
        let goods = books.on_hand + books.reserved + books.sold;
        if (money, goods) != (BEFORE.balance, BEFORE.on_hand) {
            return Err(format!("money or goods are not conserved: {books:?}"));
        }
        let expected = match status {
            Status::Completed => Books {
                balance: BEFORE.balance - PRICE,
                captured: PRICE,
                on_hand: BEFORE.on_hand - QUANTITY,
                sold: QUANTITY,
                order: "confirmed",
                ..BEFORE
            },
            _ => Books { order: "rejected", ..BEFORE },
        };
        if books == expected { Ok(()) } else { Err(format!("{books:?}, not {expected:?}")) }
    }
}

/// F01, F03, F60, F61, F62, F63, F64, F65, I1, I2, I4, I8, I9.
#[test]
fn the_services_saga_is_all_or_nothing_whatever_goes_wrong() {
    let report = prove(&Services);
    println!("{report}");
    assert_eq!(report.unseen(), [""; 0], "what was never seen is not proved");
}

/// F01, F02, F03, F13, F14, F15, F60, F61, F64, I1, I2, I4, I8, I9.
#[test]
fn the_services_saga_is_all_or_nothing_by_chance() {
    let report = simulate(&Services, 0..2_000);
    println!("{report}");
    assert_eq!(report.unseen(), [""; 0], "what was never seen is not proved");
}
