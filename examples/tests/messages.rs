//! The services' messages keep their format: the generated code is current, and the bytes of every
//! release still decode.

use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

use bytes::Bytes;
use prost::Message;

mod generated {
    #![allow(
        clippy::pedantic,
        dead_code,
        unreachable_pub,
        reason = "generated: this test asks for nothing but the files themselves"
    )]

    pub mod orders {
        include!("../contract/messages/orderweaver.orders.v1.rs");
    }
    pub mod payments {
        include!("../contract/messages/orderweaver.payments.v1.rs");
    }
    pub mod inventory {
        include!("../contract/messages/orderweaver.inventory.v1.rs");
    }
}

const UPDATE: &str = "UPDATE_GENERATED=1 cargo test -p examples --test messages";

#[test]
fn generated_code_is_current() {
    let protos = crate_path("../proto");
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("messages");
    fs::create_dir_all(&out).expect("the build's temporary directory is writable");
    let services = ["orders", "payments", "inventory"];
    let schemas = services.map(|service| format!("orderweaver/{service}/v1/{service}.proto"));
    let files = protox::compile(schemas, [protos]).expect("the schemas compile");
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(&out)
        .compile_fds(files)
        .expect("code is generated");

    for service in services {
        let name = format!("orderweaver.{service}.v1.rs");
        let fresh = fs::read_to_string(out.join(&name)).expect("the package has code");
        let checked_in = crate_path("contract/messages").join(&name);
        if updating() {
            fs::write(&checked_in, &fresh).expect("the source tree is writable");
        }
        let current = fs::read_to_string(&checked_in).unwrap_or_default();
        assert!(
            current == fresh,
            "{name} is not what the schemas generate; update it with `{UPDATE}`"
        );
    }
}

/// What programs send that know only the fields that are older than this library.
#[test]
fn reference_messages_keep_their_format() {
    use generated::{inventory, orders, payments};

    keeps_its_format(
        "OrderCreated.reference",
        &orders::OrderCreated {
            order_id: "o-1".into(),
            user_id: "u-1".into(),
            amount: 123.45,
            ..Default::default()
        },
    );
    keeps_its_format(
        "AuthorizePayment.reference",
        &payments::AuthorizePayment {
            order_id: "o-1".into(),
            amount: 123.45,
            ..Default::default()
        },
    );
    keeps_its_format(
        "ReserveInventory.reference",
        &inventory::ReserveInventory { order_id: "o-1".into(), ..Default::default() },
    );
}

#[test]
fn orders_messages_keep_their_format() {
    use generated::orders::{
        ConfirmOrder, Item, OrderConfirmed, OrderCreated, OrderRejected, RejectOrder,
    };

    let order_id = || String::from("o-1");
    let reason = || String::from("card-declined");
    keeps_its_format("ConfirmOrder.v1", &ConfirmOrder { order_id: order_id() });
    keeps_its_format("RejectOrder.v1", &RejectOrder { order_id: order_id(), reason: reason() });
    let created = OrderCreated {
        order_id: order_id(),
        user_id: "u-1".into(),
        amount: 123.45,
        amount_minor: 12_345,
        currency: "EUR".into(),
        items: vec![
            Item { sku: "tea".into(), quantity: 2 },
            Item { sku: "cup".into(), quantity: 300 },
        ],
    };
    keeps_its_format("OrderCreated.v1", &created);
    keeps_its_format("OrderConfirmed.v1", &OrderConfirmed { order_id: order_id() });
    keeps_its_format("OrderRejected.v1", &OrderRejected { order_id: order_id(), reason: reason() });
}

#[test]
fn payments_messages_keep_their_format() {
    use generated::payments::{
        AuthorizePayment, CapturePayment, PaymentAuthorized, PaymentCaptured, PaymentDeclined,
        PaymentVoided, VoidPayment,
    };

    let order_id = || String::from("o-1");
    let authorize = AuthorizePayment {
        order_id: order_id(),
        amount: 123.45,
        amount_minor: 12_345,
        currency: "EUR".into(),
        user_id: "u-1".into(),
    };
    let declined = PaymentDeclined { order_id: order_id(), reason: "card-declined".into() };
    keeps_its_format("AuthorizePayment.v1", &authorize);
    keeps_its_format("CapturePayment.v1", &CapturePayment { order_id: order_id() });
    keeps_its_format("VoidPayment.v1", &VoidPayment { order_id: order_id() });
    keeps_its_format("PaymentAuthorized.v1", &PaymentAuthorized { order_id: order_id() });
    keeps_its_format("PaymentCaptured.v1", &PaymentCaptured { order_id: order_id() });
    keeps_its_format("PaymentDeclined.v1", &declined);
    keeps_its_format("PaymentVoided.v1", &PaymentVoided { order_id: order_id() });
}

#[test]
fn inventory_messages_keep_their_format() {
    use generated::inventory::{
        InventoryRejected, InventoryReleased, InventoryReserved, InventorySold, Item,
        ReleaseInventory, ReserveInventory, SellInventory,
    };

    let order_id = || String::from("o-1");
    let reserve = ReserveInventory {
        order_id: order_id(),
        items: vec![
            Item { sku: "tea".into(), quantity: 2 },
            Item { sku: "cup".into(), quantity: 300 },
        ],
    };
    let rejected = InventoryRejected { order_id: order_id(), reason: "out-of-stock".into() };
    keeps_its_format("ReserveInventory.v1", &reserve);
    keeps_its_format("ReleaseInventory.v1", &ReleaseInventory { order_id: order_id() });
    keeps_its_format("InventoryReserved.v1", &InventoryReserved { order_id: order_id() });
    keeps_its_format("InventoryRejected.v1", &rejected);
    keeps_its_format("InventoryReleased.v1", &InventoryReleased { order_id: order_id() });
    keeps_its_format("SellInventory.v1", &SellInventory { order_id: order_id() });
    keeps_its_format("InventorySold.v1", &InventorySold { order_id: order_id() });
}

/// The fixture decodes to `expected`, and `expected` encodes to the fixture.
///
/// An update writes a fixture that is missing and never changes one that exists: its bytes are in
/// somebody's topic.
fn keeps_its_format<M: Message + Default + PartialEq + fmt::Debug>(name: &str, expected: &M) {
    let path = crate_path("tests/fixtures/messages").join(format!("{name}.hex"));
    if updating() && !path.exists() {
        fs::write(&path, to_hex(&expected.encode_to_vec())).expect("the source tree is writable");
    }
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{name}: {error}; write it with `{UPDATE}`"));
    let decoded = M::decode(&*from_hex(&text)).expect("bytes that were once written decode");
    assert_eq!(decoded, *expected, "{name} decodes to another value");
    assert_eq!(to_hex(&expected.encode_to_vec()), text, "{name} is encoded differently");
}

/// 32 bytes a line, so that a diff shows where two encodings part.
fn to_hex(bytes: &[u8]) -> String {
    let line = |bytes| format!("{:x}\n", Bytes::copy_from_slice(bytes));
    bytes.chunks(32).map(line).collect::<Vec<_>>().concat()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|digit| !digit.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    digits.chunks(2).map(byte).collect::<Result<_, _>>().expect("a fixture is pairs of hex digits")
}

fn updating() -> bool {
    env::var_os("UPDATE_GENERATED").is_some()
}

fn crate_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
