//! Where a run works: the database of each role, with the tables of effects.

use anyhow::{Context as _, bail};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::arguments::{Arguments, Participants};
use crate::database::METER;
use crate::effects::{self, EffectTable};
use crate::orders::{Order, expected_effects};

/// The name of the orchestrator's database.
const ORCHESTRATOR: &str = "order_saga_orchestrator";

/// The databases of a run, made anew.
pub(crate) struct Place {
    pub(crate) orchestrator: String,
    /// Of inventory, payments and orders.
    pub(crate) participants: [String; 3],
    pub(crate) effects: EffectTable,
}

impl Place {
    /// Makes what the run needs: one database for all, or one for each role.
    pub(crate) async fn prepare(arguments: &Arguments) -> anyhow::Result<Self> {
        let url = &arguments.database_url;
        let effects = match &arguments.effect_table {
            None => EffectTable::own(),
            Some(_) if arguments.participants == Participants::Kafka => {
                bail!(
                    "--effect-table needs --participants local: over Kafka each participant has a database of its own"
                )
            }
            Some(name) => EffectTable::existing(name)?,
        };
        let place = match arguments.participants {
            Participants::Local => {
                let participants = [url.clone(), url.clone(), url.clone()];
                Self { orchestrator: url.clone(), participants, effects }
            }
            Participants::Kafka => Self {
                orchestrator: create_database(url, ORCHESTRATOR).await?,
                participants: [
                    create_database(url, "order_saga_inventory").await?,
                    create_database(url, "order_saga_payments").await?,
                    create_database(url, "order_saga_orders").await?,
                ],
                effects,
            },
        };
        for url in place.with_effects() {
            let mut admin = METER.connect(&url).await?;
            place.effects.create(&mut admin).await?;
            effects::check(&place.effects, &mut admin).await?;
        }
        Ok(place)
    }

    /// Returns the URL of the orchestrator's database, which somebody else has made.
    pub(crate) fn orchestrator(arguments: &Arguments) -> anyhow::Result<String> {
        in_database(&arguments.database_url, ORCHESTRATOR)
    }

    /// Returns the URLs of all databases, each once.
    pub(crate) fn databases(&self) -> Vec<String> {
        let mut urls = self.participants.to_vec();
        urls.push(self.orchestrator.clone());
        urls.sort();
        urls.dedup();
        urls
    }

    /// Makes sure that exactly the effects of these orders are there.
    pub(crate) async fn verify(&self, orders: &[Order]) -> anyhow::Result<()> {
        let mut expected = expected_effects(orders);
        let orders = orders.iter().map(|order| order.id).collect();
        for url in self.with_effects() {
            let mut admin = METER.connect(&url).await?;
            self.effects.tick_off(&mut admin, &mut expected, &orders).await?;
        }
        effects::none_missing(&expected)
    }

    /// Removes the effects of these orders, which were only to warm up.
    pub(crate) async fn forget(&self, orders: &[Order]) -> anyhow::Result<()> {
        let orders: Vec<_> = orders.iter().map(|order| order.id).collect();
        for url in self.with_effects() {
            let mut admin = METER.connect(&url).await?;
            self.effects.remove(&mut admin, &orders).await?;
        }
        Ok(())
    }

    fn with_effects(&self) -> Vec<String> {
        let mut urls = self.participants.to_vec();
        urls.dedup();
        urls
    }
}

/// Makes a database anew on the server of a URL; returns the URL of it.
async fn create_database(url: &str, name: &str) -> anyhow::Result<String> {
    let mut admin = METER.connect(url).await?;
    for text in [
        format!("drop database if exists \"{name}\" with (force)"),
        format!("create database \"{name}\""),
    ] {
        let made = sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut admin).await;
        made.context("each service has a database of its own, so the role must be allowed to create databases")?;
    }
    admin.close().await?;
    in_database(url, name)
}

/// Returns a URL with the name of another database.
fn in_database(url: &str, name: &str) -> anyhow::Result<String> {
    let (address, parameters) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = address.split_once("://").context("the database URL has no `://`")?;
    let (host, _) = rest.split_once('/').unwrap_or((rest, ""));
    let separator = if parameters.is_empty() { "" } else { "?" };
    Ok(format!("{scheme}://{host}/{name}{separator}{parameters}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_of_the_database_changes() {
        let changed = |url| in_database(url, "b").unwrap();
        assert_eq!(changed("postgres://u:p@h:5432/a?x=1"), "postgres://u:p@h:5432/b?x=1");
        assert_eq!(changed("postgres://h"), "postgres://h/b");
    }
}
