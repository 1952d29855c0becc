//! What each customer has spent: kept from what the orders service tells, beside the saga.
//!
//! No saga asks for it and no order waits for it, so it needs no orchestrator (*choreography*): the orders
//! service does not know that anybody listens. It is a participant of its own, with its own consumer group; to move it
//! to a service of its own is to start it elsewhere.

use anyhow::anyhow;
use saga_core::{
    FactContext, HandleAllFacts, HandlerError, Participant, ParticipantName, Terminal as _,
};

use super::SummaryRepository;
use crate::contract::OrderConfirmed;

/// Keeps the summaries.
#[derive(Debug, Clone, Copy)]
struct Summaries;

/// Makes what keeps the summaries, on a connection of whatever kind.
///
/// # Errors
///
/// If two handlers claim one fact.
pub(super) fn participant<C: SummaryRepository>() -> anyhow::Result<Participant<C>> {
    let summary = Participant::builder(ParticipantName::new("summary"));
    Ok(summary.handle_all_facts::<OrderConfirmed>(Summaries).build()?)
}

impl<C: SummaryRepository> HandleAllFacts<OrderConfirmed, C> for Summaries {
    async fn handle_all_facts(
        &self,
        confirmed: Vec<OrderConfirmed>,
        cx: &mut FactContext<'_, C>,
    ) -> Result<(), HandlerError> {
        let orders: Vec<_> = confirmed.into_iter().map(|it| it.order_id).collect();
        let counted = cx.connection().add_to_summary(&orders).await?;
        if counted == orders.len() {
            return Ok(());
        }
        Err(anyhow!("nobody paid for one of these orders: {}", orders.join(", "))).terminal()
    }
}
