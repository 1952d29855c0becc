//! The services' saga is proved with the services' own handlers: whatever goes wrong, money and goods are
//! conserved.
//!
//! The books are in memory, so that thousands of runs take seconds; the same handlers on PostgreSQL are
//! tested in `e2e`.

use chassis::money::Money;
use examples::inventory::{self, Inventory, Stock};
use examples::orchestrator::place_order::{PlaceOrder, place_order, start};
use examples::orders::{self, Item, Order, OrderTable};
use examples::payments::{self, Account, Books};
use saga_core::{MemoryConnection, MemoryStore, Participant, Saga, Status, Timestamp};
use saga_testkit::{SimulatedClock, Subject, prove, simulate};

/// The databases of the three services, in one: they share nothing but the store.
#[derive(Debug, Clone)]
struct Databases {
    orders: OrderTable,
    books: Books,
    stock: Stock,
}

impl AsMut<OrderTable> for Databases {
    fn as_mut(&mut self) -> &mut OrderTable {
        &mut self.orders
    }
}

impl AsMut<Books> for Databases {
    fn as_mut(&mut self) -> &mut Books {
        &mut self.books
    }
}

impl AsMut<Stock> for Databases {
    fn as_mut(&mut self) -> &mut Stock {
        &mut self.stock
    }
}

const MONEY: i64 = 10_000;
const PRICE: i64 = 1_999;
const PIECES: u32 = 5;
const QUANTITY: u32 = 2;

/// What a customer ordered.
fn order() -> Order {
    Order {
        order_id: "o-1".to_owned(),
        user_id: "u-1".to_owned(),
        amount: Money::new(PRICE),
        items: vec![Item { sku: "book".to_owned(), quantity: QUANTITY }],
        status: orders::Status::Pending,
        reason: None,
        placed_at: Timestamp::default(),
    }
}

#[derive(Clone)]
struct Services;

impl Subject for Services {
    type Data = PlaceOrder;
    type Store = MemoryStore<Databases>;

    fn saga(&self) -> Saga<PlaceOrder> {
        place_order().expect("the services' saga is sound")
    }

    fn data(&self) -> PlaceOrder {
        start(order().created()).expect("its id is a key").1
    }

    fn store(&self, clock: &SimulatedClock) -> MemoryStore<Databases> {
        let databases = Databases {
            orders: OrderTable::default().with(order()),
            books: Books::new(&[("u-1", MONEY)]),
            stock: Stock::new(&[("book", PIECES)]),
        };
        MemoryStore::with_state(databases).clock(clock.clone())
    }

    fn participants(&self) -> Vec<Participant<MemoryConnection<Databases>>> {
        let all = [
            inventory::participant(Inventory::default()),
            payments::participant(),
            orders::participant(),
        ];
        all.map(|it| it.expect("the handlers fit together")).into()
    }

    fn check(&self, store: &MemoryStore<Databases>, status: Status) -> Result<(), String> {
        let Databases { orders, books, stock } = store.read(Clone::clone);
        let customer = Account::customer("u-1");
        let money = [customer, Account::held(), Account::shop()].map(|it| books.on(&it));
        let came = (money, stock.pieces("book"), orders.get("o-1").map(|it| it.status));
        let expected = match status {
            Status::Completed => (
                [MONEY - PRICE, 0, PRICE],
                (PIECES - QUANTITY, 0, QUANTITY),
                Some(orders::Status::Confirmed),
            ),
            _ => ([MONEY, 0, 0], (PIECES, 0, 0), Some(orders::Status::Rejected)),
        };
        if came == expected { Ok(()) } else { Err(format!("{came:?}, not {expected:?}")) }
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
