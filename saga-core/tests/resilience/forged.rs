//! Messages that nobody sound would send.

use saga_core::{MemoryTransport, MessageId};

use crate::strict::Strict;
use crate::support::{Shop, stock};
use crate::{command, reserve, send, until_done};

const BODY: &str = r#"{"order":"forged","trouble":""}"#;

/// F34, I12.
#[tokio::test]
async fn a_forged_compensation_of_itself_holds_up_no_sound_command() {
    let (transport, store) = (MemoryTransport::new(), Strict::new());
    let id = MessageId::now();
    let forged = command(id, "Release", Some(id), BODY);
    send(&transport, vec![forged, reserve("o-1", "")]).await;
    let stock = stock(&Shop::default()).start(store.clone(), transport);
    until_done(&store.db, "reserve o-1").await;
    stock.shutdown().await.expect("an orderly end");
}

/// F34, I12.
#[tokio::test]
async fn two_commands_of_one_id_hold_up_no_sound_command() {
    let (transport, store) = (MemoryTransport::new(), Strict::new());
    let id = MessageId::now();
    let twins = [command(id, "Reserve", None, BODY), command(id, "Reserve", None, BODY)];
    send(&transport, twins.into_iter().chain([reserve("o-1", "")]).collect()).await;
    let stock = stock(&Shop::default()).start(store.clone(), transport);
    until_done(&store.db, "reserve o-1").await;
    let forged = store.db.read(|effects| effects.iter().filter(|it| it.contains("forged")).count());
    assert!(forged <= 1, "one id was carried out {forged} times");
    stock.shutdown().await.expect("an orderly end");
}
