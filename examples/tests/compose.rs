//! What `docker compose up` starts agrees with itself, and with the programs that it starts.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use examples::orders::together::Together;
use serde::Deserialize;
use serde_json::Value;
use support::Shop;
use tokio_util::sync::CancellationToken;

/// The services that are ours. Each is a program of the image, and the name of its database.
const SERVICES: [&str; 4] = ["orders", "payments", "inventory", "orchestrator"];

/// Where people look, as the README tells them.
const PUBLISHED: [(&str, u16); 16] = [
    ("orders", 8001),
    ("payments", 8002),
    ("inventory", 8003),
    ("orchestrator", 8004),
    ("orders-db", 5434),
    ("payments-db", 5435),
    ("inventory-db", 5436),
    ("orchestrator-db", 5437),
    ("kafka", 9092),
    ("console", 8081),
    ("jaeger", 16686),
    ("jaeger", 4317),
    ("jaeger", 4318),
    ("prometheus", 9090),
    ("grafana", 3000),
    ("postgres", 5432),
];

/// `docker-compose.yml`, as far as it is looked at here.
#[derive(Debug, Deserialize)]
struct Compose {
    services: BTreeMap<String, Container>,
    volumes: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    image: Option<String>,
    build: Option<Build>,
    command: Value,
    environment: BTreeMap<String, Value>,
    ports: Vec<String>,
    volumes: Vec<String>,
    depends_on: BTreeMap<String, Dependency>,
    healthcheck: Option<HealthCheck>,
    restart: Option<String>,
    profiles: Vec<String>,
    read_only: bool,
    cap_drop: Vec<String>,
    security_opt: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Build {
    context: String,
    target: String,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    condition: String,
}

#[derive(Debug, Deserialize)]
struct HealthCheck {
    test: Vec<String>,
}

/// A port of a container, and the one of this machine that leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Port {
    address: String,
    host: u16,
    container: u16,
}

impl Compose {
    fn read() -> Self {
        parsed(&interpolated(&text("docker-compose.yml")))
    }

    fn container(&self, name: &str) -> &Container {
        self.services.get(name).unwrap_or_else(|| panic!("there is no service `{name}`"))
    }

    /// Returns the services that are ours.
    fn ours(&self) -> impl Iterator<Item = (&'static str, &Container)> {
        SERVICES.into_iter().map(|name| (name, self.container(name)))
    }

    /// Says whether a service answers on this port for other containers.
    fn answers(&self, authority: &str) -> bool {
        let (host, port) = authority.split_once(':').expect("a host and a port");
        let container = self.services.get(host);
        container.is_some_and(|it| it.ports().iter().any(|it| it.container.to_string() == port))
    }
}

impl Container {
    fn image(&self) -> &str {
        self.image.as_deref().expect("an image")
    }

    fn variable(&self, name: &str) -> String {
        let value = self.environment.get(name).unwrap_or_else(|| panic!("{name} is not set"));
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }

    fn ports(&self) -> Vec<Port> {
        let port = |text: &String| {
            let [address, host, container] = text.split(':').collect::<Vec<_>>()[..] else {
                panic!("`{text}` is not an address and two ports")
            };
            let number = |port: &str| port.parse().expect("a port");
            Port { address: address.into(), host: number(host), container: number(container) }
        };
        self.ports.iter().map(port).collect()
    }

    /// Returns what is mounted, and where.
    fn mounts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.volumes.iter().map(|volume| {
            let mut parts = volume.split(':');
            (parts.next().expect("a source"), parts.next().expect("a target"))
        })
    }
}

/// A stage of the `Dockerfile`: its name, and its instructions with their lines joined.
#[derive(Debug)]
struct Stage {
    base: String,
    name: String,
    instructions: Vec<String>,
}

fn stages() -> Vec<Stage> {
    let text = text("Dockerfile");
    let lines: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let mut stages: Vec<Stage> = Vec::new();
    for instruction in lines.join("\n").replace("\\\n", " ").lines() {
        let words: Vec<_> = instruction.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["FROM", base, "AS", name] => stages.push(Stage {
                base: base.to_owned(),
                name: name.to_owned(),
                instructions: Vec::new(),
            }),
            ["FROM", ..] => panic!("`{instruction}` has no name"),
            _ => stages.last_mut().expect("FROM comes first").instructions.push(words.join(" ")),
        }
    }
    stages
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn parsed<T: serde::de::DeserializeOwned>(yaml: &str) -> T {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}"))
}

/// Does what compose does to `${NAME:-default}` if no such variable is set, and to `$$`.
fn interpolated(text: &str) -> String {
    let (mut done, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            done.push('$');
            after
        } else {
            let variable = after.strip_prefix('{').and_then(|it| it.split_once('}'));
            let (variable, after) = variable.expect("a variable is written as ${NAME:-default}");
            let (_, default) = variable.split_once(":-").expect("every variable has a default");
            done.push_str(default);
            after
        };
    }
    done + rest
}

/// Returns the words of some text that could be names of variables.
fn names(text: &str) -> BTreeSet<&str> {
    text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_').collect()
}

/// Returns the host and port of a URL.
fn authority(url: &str) -> &str {
    let (_, rest) = url.split_once("://").expect("a URL");
    rest.split('/').next().expect("an authority")
}

#[test]
fn a_variable_is_replaced_by_its_default() {
    let text = interpolated("a ${NAME:-default} and ${OTHER:-}, $$3");
    assert_eq!(text, "a default and , $3");
}

#[test]
fn each_service_is_published_on_the_port_that_its_program_takes() {
    let compose = Compose::read();
    for (name, service) in compose.ours() {
        let main = text(&format!("examples/{name}/main.rs"));
        let (_, rest) = main.split_once("Config::read(").expect("a port");
        let (port, _) = rest.split_once(')').expect("its end");
        let number = port.parse().expect("a port");
        let address = "127.0.0.1".to_owned();
        assert_eq!(service.ports(), [Port { address, host: number, container: number }], "{name}");
        assert_eq!(service.variable("PORT"), port, "{name}");
    }
}

#[test]
fn everything_answers_where_people_are_told_to_look() {
    let compose = Compose::read();
    let ports = |(name, it): (&String, &Container)| {
        let name = name.clone();
        it.ports().into_iter().map(move |port| (name.clone(), port.host)).collect::<Vec<_>>()
    };
    let mut found: Vec<_> = compose.services.iter().flat_map(ports).collect();
    let mut expected = PUBLISHED.map(|(name, port)| (name.to_owned(), port)).to_vec();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn every_port_is_of_this_machine_only_and_taken_once() {
    let mut taken = BTreeSet::new();
    for (name, container) in Compose::read().services {
        for port in container.ports() {
            assert_eq!(port.address, "127.0.0.1", "{name}");
            assert!(taken.insert(port.host), "{} of {name} is taken", port.host);
        }
    }
}

#[test]
fn each_service_reads_every_variable_that_it_is_given() {
    let config = text("examples/chassis/config.rs");
    let (_, usage) = config.split_once("const USAGE: &str = ").expect("what --help shows");
    let (usage, _) = usage.split_once("\";").expect("its end");
    let known = names(usage);
    for (name, service) in Compose::read().ours() {
        for variable in service.environment.keys() {
            assert!(known.contains(variable.as_str()), "{variable} of {name} is not in --help");
            let is_for_orders = usage.contains(&format!("{variable} (orders)"))
                || usage.contains(&format!("{variable}  (orders)"));
            assert!(!is_for_orders || name == "orders", "{name} does not read {variable}");
        }
    }
}

#[test]
fn the_services_find_each_other() {
    let compose = Compose::read();
    let kafka = compose.container("kafka");
    let advertised = kafka.variable("KAFKA_ADVERTISED_LISTENERS");
    let listeners = kafka.variable("KAFKA_LISTENERS");
    for (name, service) in compose.ours() {
        let brokers = service.variable("KAFKA_BROKERS");
        let mut advertised = advertised.split(',').filter_map(|it| it.split_once("://"));
        let listener = advertised.find(|(_, address)| *address == brokers);
        let (listener, _) = listener.unwrap_or_else(|| panic!("{name}: {brokers}"));
        let port = brokers.strip_prefix("kafka:").expect("the broker");
        let listener = format!("{listener}://:{port}");
        assert!(listeners.split(',').any(|it| it == listener), "{listener} is not listened on");
        let collector = service.variable("OTEL_EXPORTER_OTLP_ENDPOINT");
        assert!(compose.answers(authority(&collector)), "{name}: {collector}");
        // Who listens on loopback is reached by no other container.
        assert_eq!(service.variable("LISTEN"), "0.0.0.0", "{name}");
    }
    let console = compose.container("console").variable("KAFKA_BROKERS");
    assert_eq!(console, compose.container("orders").variable("KAFKA_BROKERS"));
    let orchestrator = compose.container("orders").variable("ORCHESTRATOR_URL");
    assert!(authority(&orchestrator).starts_with("orchestrator:"), "{orchestrator}");
    assert!(compose.answers(authority(&orchestrator)), "{orchestrator}");
}

#[test]
fn each_service_has_a_database_of_its_own() {
    let compose = Compose::read();
    let mut hosts = BTreeSet::new();
    for (name, service) in compose.ours() {
        let url = service.variable("DATABASE_URL");
        let (credentials, place) =
            url.strip_prefix("postgres://").and_then(|it| it.split_once('@')).expect("a URL");
        let (user, password) = credentials.split_once(':').expect("a user and a password");
        let (authority, database) = place.split_once('/').expect("a database");
        let (host, _) = authority.split_once(':').expect("a port");
        assert!(compose.answers(authority), "{name}: {authority}");
        let server = compose.container(host);
        assert!(server.image().starts_with("postgres:"), "{name}: {host}");
        assert_eq!(server.variable("POSTGRES_USER"), user, "{name}");
        assert_eq!(server.variable("POSTGRES_PASSWORD"), password, "{name}");
        // The image names the database after the user unless it is told otherwise.
        assert!(!server.environment.contains_key("POSTGRES_DB"), "{host}");
        assert_eq!(database, user, "{name}");
        assert_eq!(service.depends_on[host].condition, "service_healthy", "{name}");
        assert!(hosts.insert(host.to_owned()), "{host} is not {name}'s alone");
    }
}

#[test]
fn what_is_waited_for_is_there_and_says_when_it_is_healthy() {
    let compose = Compose::read();
    for (name, container) in &compose.services {
        assert!(container.healthcheck.is_some(), "{name} has no health check");
        for (other, dependency) in &container.depends_on {
            let other = compose.container(other);
            assert!(other.profiles.is_empty(), "{name} waits for what does not start");
            match dependency.condition.as_str() {
                "service_healthy" => assert!(other.healthcheck.is_some(), "{name}"),
                "service_started" => {}
                condition => panic!("{name} waits for `{condition}`"),
            }
        }
    }
    for (name, service) in compose.ours() {
        assert_eq!(service.depends_on["kafka"].condition, "service_healthy", "{name}");
    }
}

/// Runs a health check as the container of a service would, and says whether it is content.
fn is_healthy(service: &Container, port: u16) -> bool {
    let test = &service.healthcheck.as_ref().expect("a health check").test;
    let [how, program, arguments @ ..] = &test[..] else { panic!("{test:?}") };
    assert_eq!(how, "CMD");
    let mut command = Command::new(program);
    command.args(arguments).env("PORT", port.to_string());
    command.output().expect("bash runs").status.success()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_ready_is_healthy() {
    let together = Together::listen("127.0.0.1:0".parse().expect("an address")).await;
    let together = together.expect("four free ports");
    let urls = together.urls().expect("the services have URLs");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(together.serve(stop.clone()));
    for ((name, service), url) in Compose::read().ours().zip(&urls) {
        let (_, port) = url.rsplit_once(':').expect("a port");
        assert!(is_healthy(service, port.parse().expect("a port")), "{name}");
    }
    stop.cancel();
    serving.await.expect("no panic").expect("all four stop");
}

#[test]
fn a_service_that_is_not_ready_is_not_healthy() {
    let compose = Compose::read();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let refusing = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("somebody asks");
        let mut request = [0; 512];
        let count = connection.read(&mut request).expect("a request");
        assert!(request[..count].starts_with(b"GET /ready HTTP/1.0\r\n"));
        connection.write_all(b"HTTP/1.0 503 Service Unavailable\r\n\r\n").expect("an answer");
    });
    let orders = compose.container("orders");
    assert!(!is_healthy(orders, port), "it says 503");
    refusing.join().expect("it was asked as expected");
    assert!(!is_healthy(orders, port), "nobody listens");
}

#[test]
fn everything_that_is_mounted_is_there() {
    let compose = Compose::read();
    let mut used = BTreeSet::new();
    for (name, container) in &compose.services {
        for (source, _) in container.mounts() {
            if source.starts_with('.') {
                assert!(root().join(source).exists(), "{source} of {name} is missing");
            } else {
                assert!(used.insert(source), "{source} is not {name}'s alone");
            }
        }
    }
    let declared: BTreeSet<_> = compose.volumes.keys().map(String::as_str).collect();
    assert_eq!(used, declared);
}

#[test]
fn every_image_is_of_a_version() {
    let compose = Compose::read();
    let images = compose.services.values().map(|it| it.image().to_owned());
    for image in images.chain(stages().into_iter().map(|it| it.base)) {
        let tag = image.rsplit('/').next().and_then(|it| it.split_once(':'));
        let (_, tag) = tag.unwrap_or_else(|| panic!("{image} has no tag"));
        assert!(!tag.is_empty() && tag != "latest", "{image}");
    }
}

#[test]
fn the_image_has_every_program_that_is_started() {
    let compose = Compose::read();
    let stages = stages();
    let [build, services] = &stages[..] else { panic!("two stages are expected: {stages:?}") };
    let builds = |it: &&String| it.contains("cargo build --locked --release -p examples");
    let builds = build.instructions.iter().find(builds).expect("a build");
    let (_, kept) = builds.split_once("for program in ").expect("programs are kept");
    let (kept, _) = kept.split_once(';').expect("the end of the list");
    let kept: Vec<_> = kept.split(' ').collect();
    for (name, service) in compose.ours() {
        assert_eq!(service.command, serde_json::json!([name]));
        assert!(builds.contains(&format!("--example {name} ")), "{name} is not built");
        assert!(kept.contains(&name), "{name} is not kept");
        let wanted = service.build.as_ref().expect("it is built");
        assert_eq!((wanted.context.as_str(), wanted.target.as_str()), (".", "services"));
    }
    assert_eq!(services.name, "services");
    let from = |it: &&String| it.starts_with("COPY --from=");
    let taken: Vec<_> = services.instructions.iter().filter(from).collect();
    assert_eq!(taken, [&format!("COPY --from={} /programs/ /usr/local/bin/", build.name)]);
}

#[test]
fn the_image_is_built_by_the_compiler_of_the_workspace() {
    let manifest = text("Cargo.toml");
    let (_, version) = manifest.split_once("rust-version = \"").expect("a version");
    let (version, _) = version.split_once('"').expect("its end");
    let stages = stages();
    assert!(stages[0].base.starts_with(&format!("rust:{version}-")), "{}", stages[0].base);
    // What is built on one Debian may ask for more than an older one has.
    for stage in &stages {
        assert!(stage.base.contains("bookworm"), "{}", stage.base);
    }
}

#[test]
fn what_is_built_is_not_left_out() {
    let manifest = text("Cargo.toml");
    let (_, members) = manifest.split_once("members = [").expect("members");
    let (members, _) = members.split_once(']').expect("their end");
    let members = members.split(',').map(|it| it.trim().trim_matches('"'));
    let ignored = text(".dockerignore");
    let mut lines = ignored.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"), "everything is left out at first");
    let kept: Vec<_> = lines.map(|it| it.strip_prefix('!').expect("an exception")).collect();
    let is_kept = |path: &str| {
        kept.iter().any(|it| match it.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => Path::new(path).starts_with(it),
        })
    };
    for path in members.chain(["Cargo.toml", "Cargo.lock"]) {
        assert!(root().join(path).exists() && is_kept(path), "{path} is left out");
    }
    for path in ["target", ".git", ".env", "docker-compose.yml"] {
        assert!(!is_kept(path), "{path} is sent to the builder");
    }
}

#[test]
fn a_service_has_no_rights_that_it_does_not_need() {
    for (name, service) in Compose::read().ours() {
        assert!(service.read_only, "{name}");
        assert_eq!(service.cap_drop, ["ALL"], "{name}");
        assert_eq!(service.security_opt, ["no-new-privileges:true"], "{name}");
    }
    let stages = stages();
    let last = stages.last().expect("stages");
    let user = last.instructions.iter().rev().find_map(|it| it.strip_prefix("USER "));
    let (user, group) = user.and_then(|it| it.split_once(':')).expect("a user and a group");
    for id in [user, group] {
        assert!(id.parse::<u32>().expect("a number") > 0, "{id} is root's");
    }
}

#[test]
fn everything_but_the_database_of_the_tests_is_started_and_started_again() {
    for (name, container) in Compose::read().services {
        if name == "postgres" {
            assert_eq!(container.profiles, ["tests"]);
        } else {
            assert!(container.profiles.is_empty(), "{name}");
            // The tests run the same broker, and start it themselves.
            let restart = if name == "kafka" { "on-failure" } else { "unless-stopped" };
            assert_eq!(container.restart.as_deref(), Some(restart), "{name}");
        }
    }
    let script = text("scripts/services");
    assert!(script.contains("--profile tests"), "scripts/services could not stop `postgres`");
}

#[tokio::test]
async fn prometheus_asks_each_service_and_knows_the_alerts() {
    let compose = Compose::read();
    let config: Value = parsed(&text("deploy/prometheus/prometheus.yml"));
    let [job] = &config["scrape_configs"].as_array().expect("jobs")[..] else { panic!("{config}") };
    let name = job["job_name"].as_str().expect("a name");
    assert!(text("deploy/prometheus/alerts.yml").contains(&format!("job=\"{name}\"")), "{name}");
    let path = job["metrics_path"].as_str().expect("a path");
    for service in Shop::open().await.all() {
        let (_, api) = service.get("/openapi.json").await.expect("an answer");
        assert!(api["paths"][path]["get"].is_object(), "{path} is not served");
    }
    let targets = job["static_configs"][0]["targets"].as_array().expect("targets");
    let targets: Vec<_> = targets.iter().map(|it| it.as_str().expect("text")).collect();
    let asked: Vec<_> = targets.iter().filter_map(|it| Some(it.split_once(':')?.0)).collect();
    assert_eq!(asked, SERVICES);
    for target in targets {
        assert!(compose.answers(target), "{target}");
    }
    let prometheus = compose.container("prometheus");
    let read = prometheus.command.to_string();
    assert!(read.contains("--config.file=/etc/prometheus/prometheus.yml"), "{read}");
    for rules in config["rule_files"].as_array().expect("rules") {
        let rules = rules.as_str().expect("a path");
        let mounted = prometheus.mounts().find(|(_, target)| *target == rules);
        let (source, _) = mounted.unwrap_or_else(|| panic!("{rules} is not mounted"));
        let _: Value = parsed(&text(source));
    }
}

#[test]
fn grafana_finds_its_sources_and_its_dashboards() {
    let compose = Compose::read();
    let grafana = compose.container("grafana");
    let folder = "deploy/grafana/provisioning";
    let sources: Value = parsed(&text(&format!("{folder}/datasources/datasources.yml")));
    let mut uids = BTreeSet::new();
    for source in sources["datasources"].as_array().expect("sources") {
        let url = source["url"].as_str().expect("a URL");
        assert!(compose.answers(authority(url)), "{url}");
        uids.insert((source["type"].as_str(), source["uid"].as_str()));
    }
    assert_eq!(uids.len(), 2, "{uids:?}");
    for kind in ["datasources", "dashboards"] {
        let mount = format!("./{folder}/{kind}");
        let mount = (mount.as_str(), &*format!("/etc/grafana/provisioning/{kind}"));
        assert!(grafana.mounts().any(|it| it == mount), "{kind}");
    }

    let providers: Value = parsed(&text(&format!("{folder}/dashboards/dashboards.yml")));
    let path = providers["providers"][0]["options"]["path"].as_str().expect("a path");
    let mounted = grafana.mounts().find(|(_, target)| *target == path);
    let (dashboards, _) = mounted.unwrap_or_else(|| panic!("{path} is not mounted"));
    let home = grafana.variable("GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH");
    let home = home.strip_prefix(path).expect("one of the dashboards");
    assert!(root().join(dashboards).join(home.trim_start_matches('/')).exists(), "{home}");
    for file in fs::read_dir(root().join(dashboards)).expect("dashboards") {
        let path = file.expect("a file").path();
        let dashboard = fs::read_to_string(&path).expect("text");
        let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
        for panel in dashboard["panels"].as_array().expect("panels") {
            let source = &panel["datasource"];
            let source = (source["type"].as_str(), source["uid"].as_str());
            assert!(uids.contains(&source), "{source:?} of {}", path.display());
        }
    }
}
