//! What the payments service does with its commands, on whatever database it has.
//!
//! Money that is authorized moves from the customer's account to `held`; capturing moves it on to
//! `shop`, voiding moves it back.

use anyhow::anyhow;
use saga_core::{Context, Handle, HandlerError, HandlerResult, Reply};

use super::{Account, AccountRepository, Hold};
use crate::shared::contract::{
    AuthorizePayment, CapturePayment, PaymentAuthorized, PaymentCaptured, PaymentDeclined,
    PaymentVoided, VoidPayment,
};
use crate::shared::money::Money;

/// Carries out the commands of the payments service.
#[derive(Debug, Clone, Copy)]
pub struct Payments;

impl<C: AccountRepository> Handle<AuthorizePayment, C> for Payments {
    async fn handle(
        &self,
        command: AuthorizePayment,
        cx: &mut Context<'_, C>,
    ) -> HandlerResult<PaymentAuthorized> {
        let AuthorizePayment { order_id, user_id, amount_minor, currency, .. } = command;
        let (customer, amount) =
            (Account::customer(&user_id), Money { minor: amount_minor, currency });

        let refused = match cx.connection().standing(&customer).await? {
            None => Some("unknown-account"),
            Some(_) if amount.minor <= 0 => Some("invalid-amount"),
            Some(standing) if standing.balance.currency != amount.currency => {
                Some("wrong-currency")
            }
            Some(standing) if standing.balance.minor < amount.minor => Some("card-declined"),
            Some(_) => None,
        };
        if let Some(reason) = refused {
            return decline(cx, order_id, reason);
        }
        let db = cx.connection();
        db.transfer(&order_id, "authorize", &amount, &customer, &Account::held()).await?;
        db.hold(&order_id, &Hold { account: customer, amount }).await?;
        Ok(Reply::succeeded(PaymentAuthorized { order_id }))
    }
}

impl<C: AccountRepository> Handle<CapturePayment, C> for Payments {
    async fn handle(
        &self,
        command: CapturePayment,
        cx: &mut Context<'_, C>,
    ) -> HandlerResult<PaymentCaptured> {
        let order_id = command.order_id;
        let Hold { account, amount } = held(cx.connection(), &order_id).await?;
        if cx.connection().standing(&account).await?.is_some_and(|standing| standing.is_frozen) {
            // The pivot is refused: the saga turns back, and the hold is voided.
            return decline(cx, order_id, "account-frozen");
        }
        let db = cx.connection();
        db.transfer(&order_id, "capture", &amount, &Account::held(), &Account::shop()).await?;
        db.close(&order_id, "captured").await?;
        Ok(Reply::succeeded(PaymentCaptured { order_id }))
    }
}

impl<C: AccountRepository> Handle<VoidPayment, C> for Payments {
    async fn handle(
        &self,
        command: VoidPayment,
        cx: &mut Context<'_, C>,
    ) -> HandlerResult<PaymentVoided> {
        let order_id = command.order_id;
        let db = cx.connection();
        let Hold { account, amount } = held(db, &order_id).await?;
        db.transfer(&order_id, "void", &amount, &Account::held(), &account).await?;
        db.close(&order_id, "voided").await?;
        Ok(Reply::succeeded(PaymentVoided { order_id }))
    }
}

/// Answers that there will be no money, and tells whoever wants to know.
fn decline<C, R>(cx: &mut Context<'_, C>, order_id: String, reason: &str) -> HandlerResult<R> {
    let fact = PaymentDeclined { order_id, reason: reason.to_owned() };
    cx.publish(&fact, &fact.order_id)?;
    Ok(Reply::rejected(reason))
}

/// Finds what is held for an order. The saga asks only after it was authorized, and the inbox makes
/// sure that each command takes effect once: so if there is nothing, no retry will help.
async fn held(db: &mut impl AccountRepository, order_id: &str) -> Result<Hold, HandlerError> {
    let hold = db.held(order_id).await?;
    hold.ok_or_else(|| HandlerError::terminal(anyhow!("nothing is held for order {order_id}")))
}
