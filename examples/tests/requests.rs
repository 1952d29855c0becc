//! The collection for Postman and the curl lines in `docs/api` are made of the services' descriptions, and what they ask
//! for works.

mod support;

use std::collections::BTreeMap;
use std::{env, fs};

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use support::Shop;

const COLLECTION: &str = "../docs/api/orderweaver.postman_collection.json";
const CURL: &str = "../docs/api/curl.md";
const UPDATE: &str = "UPDATE_GENERATED=1 cargo test -p examples --test requests";
const SCHEMA: &str = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json";

/// The services, and where each answers unless it is told otherwise.
const SERVICES: [(&str, u16); 4] =
    [("orders", 8001), ("payments", 8002), ("inventory", 8003), ("orchestrator", 8004)];

/// Something that a service can be asked for.
struct Operation<'a> {
    method: String,
    path: &'a str,
    /// What the description says about it.
    said: &'a Value,
    /// The whole description.
    api: &'a Value,
}

/// Returns what a service can be asked for.
fn operations(api: &Value) -> impl Iterator<Item = Operation<'_>> {
    api["paths"].as_object().expect("paths").iter().flat_map(move |(path, item)| {
        let operations = item.as_object().expect("operations").iter();
        operations.map(move |(method, said)| {
            let method = method.to_uppercase();
            Operation { method, path, said, api }
        })
    })
}

impl Operation<'_> {
    fn summary(&self) -> String {
        self.said["summary"].as_str().expect("each operation has a summary").replace('\n', " ")
    }

    /// Returns the parameters of a kind as Postman has them; those that may be left out are switched off.
    fn parameters(&self, kind: &str) -> Vec<Value> {
        let all = self.said["parameters"].as_array().into_iter().flatten();
        let parameter = |it: &Value| {
            let example = example(self.api, it).or_else(|| example(self.api, &it["schema"]));
            let is_needed = it["required"] == true;
            assert!(
                example.is_some() || !is_needed,
                "no example of {} in {}",
                it["name"],
                self.path
            );
            let text = |it: Value| it.as_str().map_or_else(|| it.to_string(), str::to_owned);
            json!({
                "key": it["name"],
                "value": example.map(text).unwrap_or_default(),
                "description": it["description"],
                "disabled": !is_needed,
            })
        };
        all.filter(|it| it["in"] == kind).map(parameter).collect()
    }

    fn body(&self) -> Option<Value> {
        example(self.api, self.said.pointer("/requestBody/content/application~1json/schema")?)
    }

    /// Returns the request as Postman has it.
    fn request(&self, base: &str) -> Value {
        let path = self.path.replace('{', ":").replace('}', "");
        let mut request = json!({
            "method": self.method,
            "description": self.said["description"],
            "header": [],
            "url": {
                "raw": format!("{base}{path}"),
                "host": [base],
                "path": path.split('/').skip(1).collect::<Vec<_>>(),
                "query": self.parameters("query"),
                "variable": self.parameters("path"),
            },
        });
        if let Some(body) = self.body() {
            request["header"] = json!([{ "key": "Content-Type", "value": "application/json" }]);
            request["body"] = json!({ "mode": "raw", "raw": format!("{body:#}") });
        }
        json!({ "name": self.summary(), "request": request, "response": [] })
    }

    /// Returns the request as a line for a shell.
    fn curl(&self, base: &str) -> String {
        let path = self.parameters("path").iter().fold(self.path.to_owned(), |path, it| {
            let [key, value] = ["key", "value"].map(|field| it[field].as_str().expect("text"));
            path.replace(&format!("{{{key}}}"), value)
        });
        let is_stream = self.said.pointer("/responses/200/content/text~1event-stream").is_some();
        let how = match self.method.as_str() {
            "GET" if is_stream => "-N ".to_owned(),
            "GET" => String::new(),
            method => format!("-X {method} "),
        };
        let body = self.body().map(|body| {
            let body = body.to_string().replace('\'', r"'\''");
            format!(" -H 'Content-Type: application/json' -d '{body}'")
        });
        format!("# {}\ncurl {how}{base}{path}{}\n", self.summary(), body.unwrap_or_default())
    }
}

/// Returns an example of what a schema describes, as far as the description has one.
fn example(api: &Value, schema: &Value) -> Option<Value> {
    if let Some(place) = schema["$ref"].as_str() {
        return example(api, api.pointer(place.trim_start_matches('#'))?);
    }
    let given = [&schema["example"], &schema["examples"][0]].into_iter().find(|it| !it.is_null());
    if let Some(given) = given {
        return Some(given.clone());
    }
    if let Some(items) = schema.get("items") {
        return Some(json!([example(api, items)?]));
    }
    let fields = schema["properties"].as_object()?.iter();
    let fields = fields.filter_map(|(name, it)| Some((name.clone(), example(api, it)?)));
    Some(Value::Object(fields.collect()))
}

fn collection(apis: &[Value]) -> String {
    let mut variables = vec![json!({ "key": "token", "value": "" })];
    let mut folders = Vec::new();
    for ((service, port), api) in SERVICES.iter().zip(apis) {
        let url = format!("http://localhost:{port}");
        variables.push(json!({ "key": format!("{service}_url"), "value": url }));
        let base = format!("{{{{{service}_url}}}}");
        let requests: Vec<_> = operations(api).map(|it| it.request(&base)).collect();
        folders.push(json!({ "name": service, "auth": authorization(api), "item": requests }));
    }
    let made = format!("Made of the services' descriptions by `{UPDATE}`.");
    let info = json!({ "name": "OrderWeaver", "description": made, "schema": SCHEMA });
    format!("{:#}\n", json!({ "info": info, "variable": variables, "item": folders }))
}

/// Returns what is sent to a service to say who asks: the token, if it takes one.
fn authorization(api: &Value) -> Value {
    let ways = api["security"].as_array().into_iter().flatten();
    let mut schemes = ways.flat_map(|it| it.as_object().expect("schemes").keys());
    if schemes.any(|it| api["components"]["securitySchemes"][it]["scheme"] == "bearer") {
        let token = json!({ "key": "token", "value": "{{token}}", "type": "string" });
        json!({ "type": "bearer", "bearer": [token] })
    } else {
        json!({ "type": "noauth" })
    }
}

fn curl(apis: &[Value]) -> String {
    let head = format!(
        "# What the services can be asked, with curl\n\nMade of their descriptions by `{UPDATE}`.\n\
         Where a service asks for tokens, add `-H 'Authorization: Bearer TOKEN'`. The `/docs` of each says what it answers.\n"
    );
    let sections = SERVICES.iter().zip(apis).map(|((service, port), api)| {
        let base = format!("http://localhost:{port}");
        let lines: Vec<_> = operations(api).map(|it| it.curl(&base)).collect();
        format!("\n## {service}\n\n```bash\n{}```\n", lines.join("\n"))
    });
    head + &sections.collect::<String>()
}

async fn descriptions(shop: &Shop) -> Vec<Value> {
    let mut apis = Vec::new();
    for service in shop.all() {
        apis.push(service.get("/openapi.json").await.expect("an answer").1);
    }
    apis
}

#[tokio::test]
async fn the_files_are_what_the_services_describe() {
    let apis = descriptions(&Shop::open().await).await;
    for (path, fresh) in [(COLLECTION, collection(&apis)), (CURL, curl(&apis))] {
        if env::var_os("UPDATE_GENERATED").is_some() {
            fs::write(path, &fresh).expect("it can be written");
        }
        let current = fs::read_to_string(path).unwrap_or_default();
        assert!(current == fresh, "{path} is not what is described; `{UPDATE}` writes it");
    }
}

/// Every request of the collection, as Postman would send it.
#[tokio::test]
async fn every_request_works() {
    let shop = Shop::open().await;
    let collection = collection(&descriptions(&shop).await);
    let collection: Value = serde_json::from_str(&collection).expect("JSON");
    let variables = collection["variable"].as_array().expect("variables").iter();
    let variables = variables.map(|it| (it["key"].as_str().expect("a name"), ""));
    let mut variables: BTreeMap<_, _> = variables.collect();
    for ((service, _), url) in SERVICES.iter().zip(&shop.urls) {
        *variables.get_mut(&*format!("{service}_url")).expect("a variable of its own") = url;
    }
    let folders = collection["item"].as_array().expect("folders").iter();
    let requests = folders.flat_map(|it| it["item"].as_array().expect("requests"));
    // What names nothing in its path needs nothing to be there, and one of these places the order.
    let (first, later): (Vec<_>, Vec<_>) =
        requests.partition(|it| it["request"]["url"]["variable"] == json!([]));
    assert!(first.len() > 15 && later.len() > 8, "{} and {}", first.len(), later.len());
    for request in first {
        let status = send(&request["request"], &variables).await;
        assert!(status.is_success(), "{}: {status}", request["name"]);
    }
    shop.ended("o-1").await;
    for request in later {
        let status = send(&request["request"], &variables).await;
        // The order has ended, so it is too late to change what becomes of it.
        let is_too_late = status == StatusCode::CONFLICT && request["request"]["method"] == "POST";
        assert!(status.is_success() || is_too_late, "{}: {status}", request["name"]);
    }
}

/// Sends a request of the collection, and returns the status of the answer once that is complete.
async fn send(request: &Value, variables: &BTreeMap<&str, &str>) -> StatusCode {
    let text = |it: &Value| it.as_str().expect("text").to_owned();
    let mut url = text(&request["url"]["raw"]);
    for (name, value) in variables {
        url = url.replace(&format!("{{{{{name}}}}}"), value);
    }
    for it in request["url"]["variable"].as_array().expect("variables") {
        url = url.replace(&format!(":{}", text(&it["key"])), &text(&it["value"]));
    }
    let mut asked = Request::builder().method(&*text(&request["method"])).uri(url);
    for header in request["header"].as_array().expect("headers") {
        asked = asked.header(text(&header["key"]), text(&header["value"]));
    }
    let body = request["body"]["raw"].as_str().unwrap_or_default().to_owned();
    let client = legacy::Client::builder(TokioExecutor::new()).build_http();
    let asked = asked.body(Body::from(body)).expect("a request");
    let (head, body) = client.request(asked).await.expect("an answer").into_parts();
    to_bytes(Body::new(body), usize::MAX).await.expect("a whole answer");
    head.status
}
