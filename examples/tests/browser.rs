//! The pages at `/docs` in a real browser, which is given nothing but the services: "Try it out" places an order.

mod support;

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::process::Stdio;
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::{Client, ClientBuilder, Locator};
use futures_util::FutureExt as _;
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};
use support::Shop;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// How long the browser may take to show what is looked for.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_placed_from_the_page() {
    let shop = Shop::open().await;
    let mut driver = timeout(PATIENCE, Driver::start()).await.expect("the driver starts in time");
    let page = open(&driver.url).await;
    let seen = AssertUnwindSafe(async {
        for (url, service) in shop.urls.iter().zip(shop.all()) {
            shows_every_operation(&page, url, service).await;
        }
        places_an_order(&page, &shop).await;
    });
    let seen = seen.catch_unwind().await;
    let closed = page.close().await;
    driver.process.kill().await.expect("the driver ends");
    seen.unwrap_or_else(|panic| resume_unwind(panic));
    closed.expect("the browser closes");
}

/// The page has each operation of the description, and everything it loaded is the service's own.
async fn shows_every_operation(page: &Client, url: &str, service: &chassis::http::Client) {
    page.goto(&format!("{url}/docs/")).await.expect("the page opens");
    find(page, ".opblock").await;
    let (_, api) = service.get("/openapi.json").await.expect("the description");
    let paths = api["paths"].as_object().expect("it has paths");
    let operations: usize =
        paths.values().map(|it| it.as_object().map_or(0, serde_json::Map::len)).sum();
    let shown = page.find_all(Locator::Css(".opblock")).await.expect("an answer");
    assert_eq!(shown.len(), operations, "{url}");

    let title = find(page, ".info .title").await.text().await.expect("a text");
    assert!(title.starts_with(api["info"]["title"].as_str().expect("a title")), "{title}");
    let loaded = "return performance.getEntriesByType('resource').map(entry => entry.name)";
    let loaded = page.execute(loaded, vec![]).await.expect("the script runs");
    let loaded: Vec<&str> =
        loaded.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert!(loaded.iter().any(|it| it.ends_with("/swagger-ui-bundle.js")), "{loaded:?}");
    let from_elsewhere: Vec<_> = loaded.iter().filter(|it| !it.starts_with(url)).collect();
    assert!(from_elsewhere.is_empty(), "{from_elsewhere:?}");
}

/// As a person does it: opens the operation, tries it out, writes a body, executes it and reads the answer.
async fn places_an_order(page: &Client, shop: &Shop) {
    page.goto(&format!("{}/docs/", shop.urls[0])).await.expect("the page opens");
    let operation = "#operations-orders-place_order";
    for control in [".opblock-summary-control", ".try-out__btn"] {
        click(find(page, &format!("{operation} {control}")).await).await;
    }
    let body = find(page, &format!("{operation} textarea.body-param__text")).await;
    body.clear().await.expect("it can be written to");
    let order = json!({"order_id": "o-1", "user_id": "u-1", "amount": 123.45});
    body.send_keys(&order.to_string()).await.expect("it can be written to");
    click(find(page, &format!("{operation} .execute")).await).await;

    let answer = format!("{operation} .live-responses-table .response");
    let status = find(page, &format!("{answer} .response-col_status")).await;
    assert_eq!(status.text().await.expect("a text").trim(), "202");
    let shown = find(page, &format!("{answer} .microlight")).await.text().await.expect("a text");
    assert!(shown.contains(r#""order_id": "o-1""#), "{shown}");
    let order = shop.ended("o-1").await;
    assert_eq!(order["status"], "confirmed", "{order}");
}

async fn find(page: &Client, css: &str) -> Element {
    let found = page.wait().at_most(PATIENCE).for_element(Locator::Css(css)).await;
    found.unwrap_or_else(|error| panic!("{css}: {error}"))
}

async fn click(element: Element) {
    element.click().await.expect("it can be clicked");
}

/// Opens a browser that finds no host but this one.
async fn open(driver: &str) -> Client {
    let options = json!({"args": [
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--window-size=1280,1600",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]});
    let capabilities = [("goog:chromeOptions".to_owned(), options)].into_iter().collect();
    let mut builder = ClientBuilder::new(HttpConnector::new());
    builder.capabilities(capabilities).connect(driver).await.expect("a browser")
}

/// What drives the browser.
struct Driver {
    process: Child,
    url: String,
    /// It may go on talking.
    _says: Lines<BufReader<ChildStdout>>,
}

impl Driver {
    /// Starts it on a free port.
    async fn start() -> Self {
        let mut process = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver is missing: `scripts/browser` installs it");
        let mut says = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        loop {
            let line = says.next_line().await.expect("it can be read").expect("it says its port");
            let port = line.trim_end_matches('.').rsplit_once("successfully on port ");
            if let Some((_, port)) = port {
                let url = format!("http://127.0.0.1:{port}");
                return Self { process, url, _says: says };
            }
        }
    }
}
