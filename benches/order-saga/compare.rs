//! Floor and engine in turn, and the ratios of their figures.

use serde::Serialize;

use crate::arguments::Arguments;
use crate::figures::Figures;
use crate::run::{Peer, run};

/// Each ratio is the engine's figure over the floor's.
#[derive(Debug, Serialize)]
struct Comparison {
    floor: [Figures; 2],
    engine: [Figures; 2],
    sagas_per_s_ratio: f64,
    p50_ratio: f64,
    cpu_ratio: f64,
    wal_ratio: f64,
}

/// Runs floor, engine, floor, engine: a machine that grows slower meanwhile favours neither.
pub(crate) async fn compare(arguments: &Arguments) -> anyhow::Result<()> {
    let mut figures = Vec::new();
    for peer in [Peer::Floor, Peer::Engine, Peer::Floor, Peer::Engine] {
        let measured = run(arguments, peer, None).await?;
        if !arguments.json {
            println!("{measured}");
        }
        figures.push(measured);
    }
    let [first_floor, first_engine, second_floor, second_engine]: [Figures; 4] =
        figures.try_into().expect("four runs were made");
    let comparison = Comparison::new([first_floor, second_floor], [first_engine, second_engine]);
    if arguments.json {
        println!("{}", serde_json::to_string(&comparison)?);
    } else {
        println!("{comparison}");
    }
    Ok(())
}

impl Comparison {
    fn new(floor: [Figures; 2], engine: [Figures; 2]) -> Self {
        let ratio = |figure: fn(&Figures) -> f64| {
            let sum = |runs: &[Figures; 2]| runs.iter().map(figure).sum::<f64>();
            sum(&engine) / sum(&floor)
        };
        Self {
            sagas_per_s_ratio: ratio(|it| it.sagas_per_s),
            p50_ratio: ratio(|it| it.p50_ms),
            cpu_ratio: ratio(|it| it.cpu_ms_per_saga),
            wal_ratio: ratio(|it| it.wal_bytes_per_saga),
            floor,
            engine,
        }
    }
}

impl std::fmt::Display for Comparison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "engine / floor: {:.0} % of the sagas per second, p50 x {:.2}, CPU x {:.2}, WAL x {:.2}",
            self.sagas_per_s_ratio * 100.0,
            self.p50_ratio,
            self.cpu_ratio,
            self.wal_ratio,
        )
    }
}
