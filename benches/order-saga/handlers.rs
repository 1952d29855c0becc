//! The participants: each command leaves one effect, written by itself or together with others.

use std::sync::Arc;

use saga_core::{
    Command, Context, DefinitionError, Handle, HandleAll, HandlerError, HandlerResult, Participant,
    ParticipantName, Reply,
};
use sqlx::{AssertSqlSafe, PgConnection, SqlSafeStr as _, SqlStr};
use uuid::Uuid;

use crate::arguments::Handlers;
use crate::effects::EffectTable;
use crate::orders::{AUTHORIZE, CONFIRM, DO, RESERVE, UNDO, is_declined};
use crate::saga::{
    AboutOrder, AuthorizePayment, Carried, ConfirmOrder, INVENTORY, ORDERS, PAYMENTS,
    ReleaseInventory, ReserveInventory, VoidPayment,
};

/// Writes effects into a table.
#[derive(Clone)]
struct Effects {
    insert: SqlStr,
    insert_all: SqlStr,
}

impl Effects {
    fn new(table: &EffectTable) -> Self {
        let text = |text: String| AssertSqlSafe(Arc::<str>::from(text)).into_sql_str();
        Self {
            insert: text(format!("insert into {table} (saga_id, step, kind) values ($1, $2, $3)")),
            insert_all: text(format!(
                "insert into {table} (saga_id, step, kind) select id, $2, $3 from unnest($1) as u (id)"
            )),
        }
    }

    async fn write(
        &self,
        effect: (Uuid, &str, &str),
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let (order, step, kind) = effect;
        let insert = sqlx::query(self.insert.clone()).bind(order).bind(step).bind(kind);
        insert.execute(connection).await?;
        Ok(())
    }

    async fn write_all(
        &self,
        (orders, step, kind): (Vec<Uuid>, &str, &str),
        connection: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let insert = sqlx::query(self.insert_all.clone()).bind(orders).bind(step).bind(kind);
        insert.execute(connection).await?;
        Ok(())
    }
}

/// A command, and the effect that it leaves if it is not declined.
trait Effective: Command<Reply = Carried> + AboutOrder {
    const STEP: &'static str;
    const KIND: &'static str;

    fn is_declined(&self) -> bool {
        false
    }
}

macro_rules! effective {
    ($($command:ident: $step:ident $kind:ident,)*) => {$(
        impl Effective for $command {
            const STEP: &'static str = $step;
            const KIND: &'static str = $kind;
        }
    )*};
}

effective! {
    ReserveInventory: RESERVE DO,
    ReleaseInventory: RESERVE UNDO,
    AuthorizePayment: AUTHORIZE DO,
    VoidPayment: AUTHORIZE UNDO,
}

impl Effective for ConfirmOrder {
    const STEP: &'static str = CONFIRM;
    const KIND: &'static str = DO;

    fn is_declined(&self) -> bool {
        is_declined(self.amount_cents)
    }
}

fn declined() -> Reply<Carried> {
    Reply::rejected("declined")
}

impl<C: Effective> Handle<C, PgConnection> for Effects {
    async fn handle(
        &self,
        command: C,
        cx: &mut Context<'_, PgConnection>,
    ) -> HandlerResult<Carried> {
        if command.is_declined() {
            return Ok(declined());
        }
        self.write((command.order_id(), C::STEP, C::KIND), cx.connection()).await?;
        Ok(Reply::succeeded(Carried {}))
    }
}

impl<C: Effective> HandleAll<C, PgConnection> for Effects {
    async fn handle_all(
        &self,
        commands: Vec<C>,
        cx: &mut Context<'_, PgConnection>,
    ) -> Result<Vec<Reply<Carried>>, HandlerError> {
        let accepted = commands.iter().filter(|it| !it.is_declined());
        let orders: Vec<_> = accepted.map(AboutOrder::order_id).collect();
        self.write_all((orders, C::STEP, C::KIND), cx.connection()).await?;
        let reply =
            |it: &C| if it.is_declined() { declined() } else { Reply::succeeded(Carried {}) };
        Ok(commands.iter().map(reply).collect())
    }
}

/// Returns the participants: inventory, payments and orders.
pub(crate) fn participants(
    handlers: Handlers,
    table: &EffectTable,
) -> Result<[Participant<PgConnection>; 3], DefinitionError> {
    let effects = Effects::new(table);
    let builder = |name: ParticipantName| Participant::builder(name);
    let (inventory, payments, orders) = (builder(INVENTORY), builder(PAYMENTS), builder(ORDERS));
    Ok(match handlers {
        Handlers::Each => [
            inventory
                .handle::<ReserveInventory>(effects.clone())
                .handle::<ReleaseInventory>(effects.clone())
                .build()?,
            payments
                .handle::<AuthorizePayment>(effects.clone())
                .handle::<VoidPayment>(effects.clone())
                .build()?,
            orders.handle::<ConfirmOrder>(effects).build()?,
        ],
        Handlers::Batch => [
            inventory
                .handle_all::<ReserveInventory>(effects.clone())
                .handle_all::<ReleaseInventory>(effects.clone())
                .build()?,
            payments
                .handle_all::<AuthorizePayment>(effects.clone())
                .handle_all::<VoidPayment>(effects.clone())
                .build()?,
            orders.handle_all::<ConfirmOrder>(effects).build()?,
        ],
    })
}
