//! What the payments service does with its commands, on whatever database it has.
//!
//! Money that is authorized moves from the customer's account to `held`; capturing moves it on to
//! `shop`, voiding moves it back. Commands that arrive together are carried out together: the accounts are read
//! once, each command is decided on, and what was decided is written at once.

use std::collections::BTreeMap;

use anyhow::anyhow;
use chassis::money::Money;
use saga_core::{Context, Handle, HandleAll, HandlerError, HandlerResult, Reply};

use super::{Account, AccountRepository, Hold, Standing};
use crate::contract::{
    AuthorizePayment, CapturePayment, PaymentAuthorized, PaymentCaptured, PaymentDeclined,
    PaymentVoided, VoidPayment,
};

/// Carries out the commands of the payments service.
#[derive(Debug, Clone, Copy)]
pub struct Payments;

impl<C: AccountRepository> HandleAll<AuthorizePayment, C> for Payments {
    async fn handle_all(
        &self,
        commands: Vec<AuthorizePayment>,
        cx: &mut Context<'_, C>,
    ) -> Result<Vec<Reply<PaymentAuthorized>>, HandlerError> {
        let customers = commands.iter().map(|it| Account::customer(&it.user_id)).collect();
        let mut standings = cx.connection().standings(&customers).await?;
        let (mut holds, mut replies) = (Vec::new(), Vec::new());
        for AuthorizePayment { order_id, user_id, amount_minor, currency, .. } in commands {
            let amount = Money { minor: amount_minor, currency };
            let hold = Hold { order_id, account: Account::customer(&user_id), amount };
            replies.push(match take(&mut standings, &hold) {
                Ok(()) => {
                    let authorized = PaymentAuthorized { order_id: hold.order_id.clone() };
                    holds.push(hold);
                    Reply::succeeded(authorized)
                }
                Err(reason) => decline(cx, hold.order_id, reason)?,
            });
        }
        cx.connection().authorize(&holds).await?;
        Ok(replies)
    }
}

impl<C: AccountRepository> HandleAll<CapturePayment, C> for Payments {
    async fn handle_all(
        &self,
        commands: Vec<CapturePayment>,
        cx: &mut Context<'_, C>,
    ) -> Result<Vec<Reply<PaymentCaptured>>, HandlerError> {
        let orders: Vec<_> = commands.into_iter().map(|it| it.order_id).collect();
        let mut all_held = cx.connection().held(&orders).await?;
        let (mut captured, mut replies) = (Vec::new(), Vec::new());
        for order_id in orders {
            let (hold, is_frozen) =
                all_held.remove(&order_id).ok_or_else(|| not_held(&order_id))?;
            replies.push(if is_frozen {
                // The pivot is refused: the saga turns back, and the hold is voided.
                decline(cx, order_id, "account-frozen")?
            } else {
                captured.push(hold);
                Reply::succeeded(PaymentCaptured { order_id })
            });
        }
        cx.connection().capture(&captured).await?;
        Ok(replies)
    }
}

impl<C: AccountRepository> Handle<VoidPayment, C> for Payments {
    async fn handle(
        &self,
        command: VoidPayment,
        cx: &mut Context<'_, C>,
    ) -> HandlerResult<PaymentVoided> {
        let order_id = command.order_id;
        let mut found = cx.connection().held(std::slice::from_ref(&order_id)).await?;
        let (hold, _) = found.remove(&order_id).ok_or_else(|| not_held(&order_id))?;
        cx.connection().void(&hold).await?;
        Ok(Reply::succeeded(PaymentVoided { order_id }))
    }
}

/// Takes money from an account, or says why it will not be had.
fn take(standings: &mut BTreeMap<Account, Standing>, hold: &Hold) -> Result<(), &'static str> {
    let standing = standings.get_mut(&hold.account).ok_or("unknown-account")?;
    if hold.amount.minor <= 0 {
        return Err("invalid-amount");
    }
    if standing.balance.currency != hold.amount.currency {
        return Err("wrong-currency");
    }
    if standing.balance.minor < hold.amount.minor {
        return Err("card-declined");
    }
    standing.balance.minor -= hold.amount.minor;
    Ok(())
}

/// Answers that there will be no money, and tells whoever wants to know.
fn decline<C, R>(
    cx: &mut Context<'_, C>,
    order_id: String,
    reason: &str,
) -> Result<Reply<R>, HandlerError> {
    let fact = PaymentDeclined { order_id, reason: reason.to_owned() };
    cx.publish(&fact, &fact.order_id)?;
    Ok(Reply::rejected(reason))
}

/// The saga asks only after it was authorized, and the inbox makes sure that each command takes effect
/// once: so if there is nothing, no retry will help.
fn not_held(order_id: &str) -> HandlerError {
    HandlerError::terminal(anyhow!("nothing is held for order {order_id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_taken_once_and_refused_with_a_reason() {
        let customer = Account::customer("u-1");
        let standing = Standing { balance: Money::new(1_000), is_frozen: false };
        let mut standings = BTreeMap::from([(customer.clone(), standing)]);
        let mut take = |account: &Account, amount| {
            let hold = Hold { order_id: "o-1".to_owned(), account: account.clone(), amount };
            take(&mut standings, &hold)
        };
        assert_eq!(take(&customer, Money::new(600)), Ok(()));
        assert_eq!(take(&customer, Money::new(600)), Err("card-declined"), "400 are left");
        assert_eq!(take(&customer, Money::new(400)), Ok(()));
        assert_eq!(take(&customer, Money::new(0)), Err("invalid-amount"));
        assert_eq!(take(&Account::customer("u-2"), Money::new(1)), Err("unknown-account"));
        let foreign = Money { minor: 1, currency: "XTS".to_owned() };
        assert_eq!(take(&customer, foreign), Err("wrong-currency"));
    }
}
