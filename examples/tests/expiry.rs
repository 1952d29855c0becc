//! What is set aside for an order that does not end goes back; and what becomes of an order that goes on all the same.
//! In memory, and on PostgreSQL.

mod support;

use std::time::Duration;

use axum::http::StatusCode;
use chassis::database::Database;
use chassis::http::Client;
use chassis::money::Money;
use examples::contract::messages;
use examples::contract::messages::inventory::Item;
use examples::contract::{
    AuthorizePayment, CapturePayment, ORCHESTRATOR, OrderCreated, PAYMENTS, PaymentAuthorized,
    PaymentCaptured, PaymentVoided, VoidPayment,
};
use examples::inventory::{
    self, Inventory, ReservationState, Stock, StockQueries, StockRepository as _,
};
use examples::orchestrator::place_order::{place_order, start};
use examples::orders::{self, Order, OrderTable};
use saga_core::machine::{Operation, OperatorAction};
use saga_core::{
    Context, Engine, Handle, HandlerResult, MemoryStore, MemoryTransport, Participant, Reply,
    Status, Timestamp,
};
use support::database::Databases;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the order of these stories is for.
const BOOK: &str = "book";
/// Nothing is set aside for longer than this.
const LATE: Timestamp = Timestamp::from_micros(32_503_680_000_000_000);
const PATIENCE: Duration = Duration::from_secs(30);

/// The tables of the inventory service, wherever they are.
#[derive(Clone)]
struct Warehouse<D>(D);

impl<D: Database<Connection: StockQueries>> Warehouse<D> {
    /// Works on the tables in a transaction of its own.
    async fn with<R>(&self, work: impl AsyncFnOnce(&mut D::Connection) -> anyhow::Result<R>) -> R {
        let mut transaction = self.0.begin().await.expect("a transaction");
        let done = work(D::connection(&mut transaction)).await.expect("the database answers");
        D::commit(transaction).await.expect("a commit");
        done
    }

    async fn deliver(&self, delivery_id: &str, quantity: u32) {
        let item = item(quantity);
        assert!(self.with(async |db| db.deliver(delivery_id, &item).await).await);
    }

    async fn reserve(&self, order_id: &str, quantity: u32, until: Timestamp) {
        let items = [(order_id.to_owned(), item(quantity))];
        self.with(async |db| db.reserve(&items, until).await).await;
    }

    async fn expire(&self, now: Timestamp) -> usize {
        inventory::expire(&self.0, now).await.expect("the database answers")
    }

    /// Returns how many books are on hand, and how many are sold.
    async fn books(&self) -> (u32, u32) {
        let article = self.with(async |db| db.article(BOOK).await).await.expect("there are books");
        (article.on_hand, article.sold)
    }

    async fn state(&self, order_id: &str) -> ReservationState {
        let reservations = self.with(async |db| db.reservations_of(order_id).await).await;
        let [reservation] = &reservations[..] else { panic!("{reservations:?}") };
        reservation.state
    }
}

fn item(quantity: u32) -> Item {
    Item { sku: BOOK.to_owned(), quantity }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000) + Duration::from_secs(seconds)
}

fn in_memory() -> Warehouse<impl Database<Connection: StockQueries>> {
    Warehouse(MemoryStore::with_state(Stock::default()))
}

async fn on_postgres(story: &str) -> Warehouse<impl Database<Connection: StockQueries>> {
    // The name of a database is short.
    let initials: String = story.split('_').filter_map(|word| word.chars().next()).collect();
    let url = Databases::new(&format!("expiry_{initials}_")).await.create("stock").await;
    Warehouse(inventory::open(&url).await.expect("the server answers"))
}

macro_rules! stories {
    ($($story:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::in_memory()).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::on_postgres(stringify!($story)).await).await;
            })*
        }
    };
}

stories!(
    what_is_due_goes_back_once,
    many_processes_put_everything_back_once,
    an_expired_order_that_turns_back_ends,
    an_expired_order_is_sold_from_what_is_on_hand,
    an_expired_order_without_goods_parks_until_there_are_some,
    a_service_looks_for_what_is_due,
);

async fn what_is_due_goes_back_once<D: Database<Connection: StockQueries>>(all: Warehouse<D>) {
    all.deliver("d", 10).await;
    all.reserve("a", 2, at(10)).await;
    all.reserve("b", 3, at(20)).await;
    all.reserve("sold", 1, at(10)).await;
    all.with(async |db| db.sell(&["sold".to_owned()]).await).await;
    assert_eq!(all.expire(at(9)).await, 0);
    assert_eq!(all.books().await, (4, 1));
    assert_eq!(all.expire(at(10)).await, 1);
    assert_eq!(all.books().await, (6, 1));
    assert_eq!(all.state("a").await, ReservationState::Expired);
    assert_eq!(all.state("b").await, ReservationState::Reserved);
    assert_eq!(all.state("sold").await, ReservationState::Sold);
    assert_eq!(all.expire(at(10)).await, 0, "it went back before");

    all.with(async |db| db.release("a").await).await;
    assert_eq!(all.books().await, (6, 1), "nothing is left to be released");
    assert_eq!(all.state("a").await, ReservationState::Expired);
    all.with(async |db| db.release("b").await).await;
    assert_eq!(all.expire(LATE).await, 0, "it was released");
    assert_eq!(all.books().await, (9, 1));
}

async fn many_processes_put_everything_back_once<D: Database<Connection: StockQueries>>(
    all: Warehouse<D>,
) {
    const ORDERS: u32 = 1_200;
    all.deliver("d", ORDERS).await;
    let items: Vec<_> = (0..ORDERS).map(|order| (format!("o-{order}"), item(1))).collect();
    all.with(async |db| db.reserve(&items, at(10)).await).await;
    assert_eq!(all.books().await, (0, 0));
    let (a, b, c) = tokio::join!(all.expire(LATE), all.expire(LATE), all.expire(LATE));
    assert_eq!(a + b + c, ORDERS as usize, "{a}, {b} and {c}");
    assert_eq!(all.books().await, (ORDERS, 0));
}

/// A saga is about to sell it: it is neither put back meanwhile nor waited for. In memory there is one transaction at a time.
#[tokio::test]
async fn what_somebody_has_in_hand_is_left_alone() {
    let all = on_postgres("what_somebody_has_in_hand_is_left_alone").await;
    all.deliver("d", 5).await;
    all.reserve("a", 1, at(10)).await;
    all.reserve("b", 2, at(10)).await;
    let expired = all.with(async |db| {
        let b = ["b".to_owned()];
        assert_eq!(db.set_aside(&b).await?.len(), 1);
        let expired = tokio::time::timeout(PATIENCE, all.expire(LATE)).await?;
        db.sell(&b).await?;
        Ok(expired)
    });
    assert_eq!(expired.await, 1);
    assert_eq!(all.state("a").await, ReservationState::Expired);
    assert_eq!(all.state("b").await, ReservationState::Sold);
    assert_eq!(all.books().await, (3, 2));
}

/// Payments that take so long that what is set aside expires before they answer.
#[derive(Clone)]
struct SlowPayments<D> {
    warehouse: Warehouse<D>,
    /// How many books others take meanwhile.
    taken: u32,
    refuses: bool,
}

impl<D, C> Handle<AuthorizePayment, C> for SlowPayments<D>
where
    D: Database<Connection: StockQueries>,
    C: Send + 'static,
{
    async fn handle(
        &self,
        command: AuthorizePayment,
        _: &mut Context<'_, C>,
    ) -> HandlerResult<PaymentAuthorized> {
        assert_eq!(inventory::expire(&self.warehouse.0, LATE).await?, 1);
        if self.taken > 0 {
            self.warehouse.reserve("others", self.taken, LATE + Duration::from_secs(1)).await;
        }
        if self.refuses {
            return Ok(Reply::rejected("card-declined"));
        }
        Ok(Reply::succeeded(PaymentAuthorized { order_id: command.order_id }))
    }
}

impl<D, C> Handle<CapturePayment, C> for SlowPayments<D>
where
    D: Database<Connection: StockQueries>,
    C: Send + 'static,
{
    async fn handle(
        &self,
        command: CapturePayment,
        _: &mut Context<'_, C>,
    ) -> HandlerResult<PaymentCaptured> {
        Ok(Reply::succeeded(PaymentCaptured { order_id: command.order_id }))
    }
}

impl<D, C> Handle<VoidPayment, C> for SlowPayments<D>
where
    D: Database<Connection: StockQueries>,
    C: Send + 'static,
{
    async fn handle(
        &self,
        command: VoidPayment,
        _: &mut Context<'_, C>,
    ) -> HandlerResult<PaymentVoided> {
        Ok(Reply::succeeded(PaymentVoided { order_id: command.order_id }))
    }
}

/// The services around a warehouse, with an order for two books on its way.
struct Shop {
    engine: Engine,
    saga: saga_core::SagaId,
    _services: [saga_core::RunningParticipant; 3],
}

impl Shop {
    async fn open<D: Database<Connection: StockQueries>>(
        all: &Warehouse<D>,
        taken: u32,
        refuses: bool,
    ) -> Self {
        let order = Order {
            order_id: "o-1".to_owned(),
            user_id: "u-1".to_owned(),
            amount: Money::new(1_999),
            items: vec![orders::Item { sku: BOOK.to_owned(), quantity: 2 }],
            status: orders::Status::Pending,
            reason: None,
            placed_at: Timestamp::default(),
        };
        let (key, data) = start(created(&order)).expect("its id is a key");
        let transport = MemoryTransport::new();
        let slow = SlowPayments { warehouse: all.clone(), taken, refuses };
        let payments = Participant::builder(PAYMENTS)
            .handle::<AuthorizePayment>(slow.clone())
            .handle::<CapturePayment>(slow.clone())
            .handle::<VoidPayment>(slow)
            .build()
            .expect("the handlers fit together");
        let table = MemoryStore::with_state(OrderTable::default().with(order));
        let stock = inventory::participant(Inventory::default()).expect("the handlers fit");
        let services = [
            payments.start(MemoryStore::new(), transport.clone()),
            orders::participant().expect("the handlers fit").start(table, transport.clone()),
            stock.start(all.0.clone(), transport.clone()),
        ];
        let saga = place_order().expect("sound");
        let engine = Engine::builder(ORCHESTRATOR, MemoryStore::new()).saga(saga);
        let engine = engine.transport(transport).start().expect("it starts");
        let saga = engine.start(key, data).await.expect("it is accepted").saga();
        Self { engine, saga, _services: services }
    }

    /// Waits until the saga has ended, and returns how, and what is in its history.
    async fn ended(&self) -> (Status, String) {
        let outcome = tokio::time::timeout(PATIENCE, self.engine.outcome(self.saga)).await;
        let status = outcome.expect("it ends in time").expect("the engine runs");
        let history = self.engine.history(self.saga).await.expect("a history");
        (status, format!("{history:?}"))
    }
}

fn created(order: &Order) -> OrderCreated {
    let items = order.items.iter();
    let items =
        items.map(|it| messages::orders::Item { sku: it.sku.clone(), quantity: it.quantity });
    OrderCreated {
        order_id: order.order_id.clone(),
        user_id: order.user_id.clone(),
        amount: order.amount.as_float(),
        amount_minor: order.amount.minor,
        currency: order.amount.currency.clone(),
        items: items.collect(),
    }
}

async fn an_expired_order_that_turns_back_ends<D: Database<Connection: StockQueries>>(
    all: Warehouse<D>,
) {
    all.deliver("d", 5).await;
    let shop = Shop::open(&all, 0, true).await;
    assert_eq!(shop.ended().await.0, Status::Compensated);
    assert_eq!(all.state("o-1").await, ReservationState::Expired);
    assert_eq!(all.books().await, (5, 0), "they went back once");
}

async fn an_expired_order_is_sold_from_what_is_on_hand<D: Database<Connection: StockQueries>>(
    all: Warehouse<D>,
) {
    all.deliver("d", 5).await;
    let shop = Shop::open(&all, 3, false).await;
    assert_eq!(shop.ended().await.0, Status::Completed);
    assert_eq!(all.state("o-1").await, ReservationState::Sold);
    assert_eq!(all.books().await, (0, 2));
}

async fn an_expired_order_without_goods_parks_until_there_are_some<
    D: Database<Connection: StockQueries>,
>(
    all: Warehouse<D>,
) {
    all.deliver("d", 5).await;
    let shop = Shop::open(&all, 4, false).await;
    let (status, history) = shop.ended().await;
    assert_eq!(status, Status::Parked, "{history}");
    assert!(history.contains("reservation-expired"), "{history}");
    assert_eq!(all.state("o-1").await, ReservationState::Expired);
    assert_eq!(all.books().await, (1, 0), "the last one is not taken");

    all.deliver("more", 2).await;
    let (by, reason) = ("ada".to_owned(), "there are books again".to_owned());
    let retry = Operation { by, reason, action: OperatorAction::Retry };
    shop.engine.operate(shop.saga, retry).await.expect("it can go on");
    assert_eq!(shop.ended().await.0, Status::Completed);
    assert_eq!(all.state("o-1").await, ReservationState::Sold);
    assert_eq!(all.books().await, (1, 2));
}

async fn a_service_looks_for_what_is_due<D: Database<Connection: StockQueries>>(all: Warehouse<D>) {
    all.deliver("d", 5).await;
    all.reserve("lost", 2, at(10)).await;
    all.reserve("running", 1, LATE).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let service = inventory::start(all.0.clone(), MemoryTransport::new()).expect("it starts");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(service.serve(listener, stop.clone()));
    let client = Client::new(&url).expect("a URL");
    let expired = async {
        loop {
            let (status, page) =
                client.get("/reservations?state=expired").await.expect("an answer");
            assert_eq!(status, StatusCode::OK, "{page}");
            if let Some(reservation) = page["items"].get(0) {
                break reservation.clone();
            }
        }
    };
    let expired = tokio::time::timeout(PATIENCE, expired).await.expect("it expires in time");
    assert_eq!(expired["order_id"], "lost");
    assert_eq!(expired["expires_at"], at(10).to_string());
    assert_eq!(all.books().await, (4, 0));
    stop.cancel();
    serving.await.expect("no panic").expect("an orderly end");
}
