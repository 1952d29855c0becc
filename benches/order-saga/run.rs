//! One run: prepare, measure, verify.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::arguments::{Arguments, Participants};
use crate::closed_loop::{self, Latencies, Shop};
use crate::drive::Driver;
use crate::figures::Figures;
use crate::meter::{Meter, Usage, own_cpu};
use crate::orders::Order;
use crate::place::Place;
use crate::{engine, floor};

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Floor,
    Engine,
}

/// How many orders go first, over Kafka: until then groups are joined and caches are cold.
const WARM_UP: u64 = 200;

/// What is measured of one run.
pub(crate) struct Measured {
    /// From the start of the engine to the end of its first order.
    pub(crate) ready: Option<Duration>,
    pub(crate) latencies: Latencies,
    pub(crate) usage: Usage,
    /// Share of a processor that was used while there was nothing to do.
    pub(crate) idle: Option<f64>,
}

/// Does the work once.
///
/// A driver is asked when to begin, once everything is prepared.
pub(crate) async fn run(
    arguments: &Arguments,
    peer: Peer,
    driver: Option<&mut Driver>,
) -> anyhow::Result<Figures> {
    let place = Place::prepare(arguments).await?;
    let (name, measured) = match (peer, arguments.participants) {
        (Peer::Engine, Participants::Local) => {
            let shop = engine::Local::start(arguments, &place).await?;
            ("orderweaver", measure(shop, arguments, &place, driver).await?)
        }
        (Peer::Engine, Participants::Kafka) => {
            let shop = engine::Kafka::start(arguments, &place).await?;
            ("orderweaver", measure(shop, arguments, &place, driver).await?)
        }
        (Peer::Floor, Participants::Local) => {
            let shop = floor::Local::start(&place).await?;
            ("floor", measure(shop, arguments, &place, driver).await?)
        }
        (Peer::Floor, Participants::Kafka) => {
            let shop = floor::Kafka::start(arguments, &place).await?;
            ("floor", measure(shop, arguments, &place, driver).await?)
        }
    };
    place.verify(&orders(arguments, 0..arguments.n)).await?;
    Ok(Figures::new(name, arguments, &measured))
}

async fn measure<S: Shop>(
    shop: S,
    arguments: &Arguments,
    place: &Place,
    driver: Option<&mut Driver>,
) -> anyhow::Result<Measured> {
    let mut meter = Meter::new(&place.databases()).await?;
    let shop = Arc::new(shop);
    let (n, end) = (arguments.n, arguments.n + warm_up(arguments));
    closed_loop::run(&shop, arguments, n..n + 1).await?;
    let ready = shop.began().map(|began| began.elapsed());
    closed_loop::run(&shop, arguments, n + 1..end).await?;
    let first = orders(arguments, n..end);
    place.verify(&first).await?;
    place.forget(&first).await?;
    if let Some(driver) = driver {
        driver.begin().await?;
    }
    meter.begin().await?;
    let latencies = closed_loop::run(&shop, arguments, 0..n).await?;
    let reading = meter.end().await?;
    let idle = idle(arguments).await;
    Arc::into_inner(shop).context("somebody still orders")?.shutdown().await?;
    let usage = meter.complete(reading).await?;
    meter.close().await?;
    Ok(Measured { ready, latencies, usage, idle })
}

/// Measures what is used while nobody orders anything.
async fn idle(arguments: &Arguments) -> Option<f64> {
    let span = Duration::from_secs(arguments.idle);
    if span.is_zero() {
        return None;
    }
    let before = own_cpu();
    tokio::time::sleep(span).await;
    Some(own_cpu().saturating_sub(before).as_secs_f64() / span.as_secs_f64())
}

fn orders(arguments: &Arguments, numbers: Range<u64>) -> Vec<Order> {
    numbers.map(|number| Order::new(number, arguments.variant)).collect()
}

const fn warm_up(arguments: &Arguments) -> u64 {
    match arguments.participants {
        Participants::Local => 1,
        Participants::Kafka => WARM_UP,
    }
}
