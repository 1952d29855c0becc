//! One run: prepare, measure, verify.

use std::sync::Arc;

use anyhow::Context as _;

use crate::arguments::Arguments;
use crate::closed_loop::{self, Shop};
use crate::database::METER;
use crate::effects::{self, EffectTable};
use crate::figures::Figures;
use crate::meter::Meter;
use crate::orders::{Order, expected_effects};
use crate::{engine, floor};

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Floor,
    Engine,
}

/// Does the work once.
///
/// `ready` is awaited after everything is prepared, before the first order.
pub(crate) async fn run(
    arguments: &Arguments,
    peer: Peer,
    ready: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Figures> {
    let table = effect_table(arguments).await?;
    let mut meter = Meter::new(std::slice::from_ref(&arguments.database_url)).await?;
    let (latencies, reading) = match peer {
        Peer::Engine => {
            let shop = Arc::new(engine::Local::start(arguments, &table).await?);
            let measured = measure(&shop, arguments, &mut meter, ready).await?;
            alone(shop)?.shutdown().await?;
            measured
        }
        Peer::Floor => {
            let shop = Arc::new(floor::Local::start(arguments, &table).await?);
            let measured = measure(&shop, arguments, &mut meter, ready).await?;
            alone(shop)?.shutdown().await?;
            measured
        }
    };
    let usage = meter.complete(reading).await?;
    meter.close().await?;
    verify(arguments, &table).await?;
    let name = match peer {
        Peer::Floor => "floor",
        Peer::Engine => "orderweaver",
    };
    Ok(Figures::new(name, arguments, &latencies, &usage))
}

async fn measure<S: Shop>(
    shop: &Arc<S>,
    arguments: &Arguments,
    meter: &mut Meter,
    ready: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<(closed_loop::Latencies, crate::meter::Reading)> {
    ready().await?;
    meter.begin().await?;
    let latencies = closed_loop::run(shop, arguments).await?;
    Ok((latencies, meter.end().await?))
}

/// Every customer is gone by now.
fn alone<S>(shop: Arc<S>) -> anyhow::Result<S> {
    Arc::into_inner(shop).context("somebody still orders")
}

async fn effect_table(arguments: &Arguments) -> anyhow::Result<EffectTable> {
    let table = match &arguments.effect_table {
        Some(name) => EffectTable::existing(name)?,
        None => EffectTable::own(),
    };
    let mut admin = METER.connect(&arguments.database_url).await?;
    table.create(&mut admin).await?;
    effects::check(&table, &mut admin).await?;
    Ok(table)
}

async fn verify(arguments: &Arguments, table: &EffectTable) -> anyhow::Result<()> {
    let mut admin = METER.connect(&arguments.database_url).await?;
    let mut expected = expected_effects(arguments.n, arguments.variant);
    let orders = (0..arguments.n).map(|number| Order::new(number, arguments.variant).id).collect();
    table.tick_off(&mut admin, &mut expected, &orders).await?;
    effects::none_missing(&expected)
}
