//! The four services as processes: started, killed, started again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fmt};

use chassis::http::Client;
use tokio::time::{sleep, timeout};

use crate::broker;
use crate::dice::Dice;
use crate::shown::Shop;
use crate::support::database::Databases;
use crate::support::programs;

pub(crate) const SERVICES: [&str; 4] = ["orders", "payments", "inventory", "orchestrator"];
/// The password in the URLs of the databases: the server that the tests start asks for none, and takes any.
pub(crate) const PASSWORD: &str = "canary-password-of-a-database";
const START: Duration = Duration::from_secs(30);
/// How long a service may take to stop, whatever it has in hand.
const STOP: Duration = Duration::from_secs(10);
/// How much of each log is printed when a law is broken.
const LOG_LINES: usize = 30;

/// The services of a run. What still runs when this is dropped is killed.
pub(crate) struct Services(Vec<Service>);

struct Service {
    name: &'static str,
    url: String,
    database: String,
    environment: Vec<(&'static str, String)>,
    log: PathBuf,
    process: Child,
}

/// Builds the programs as they are now: what cargo does by itself only for other kinds of tests.
pub(crate) fn build() {
    let test = env::current_exe().expect("a test knows its own path");
    let is_release = test.components().any(|part| part.as_os_str() == "release");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "-p", "examples", "--examples"]);
    build.args(is_release.then_some("--release"));
    assert!(build.status().expect("cargo runs").success(), "the examples do not build");
}

impl Services {
    /// Starts all four on fresh databases, with this beside what they need, and waits until they are ready.
    pub(crate) async fn start(dice: &mut Dice, environment: &[(&'static str, String)]) -> Self {
        let databases = Databases::new("examples_e2e_").await;
        fs::create_dir_all(folder()).expect("the build's temporary directory is writable");
        let ports = SERVICES.map(|_| free_port(dice));
        let mut services = Vec::new();
        for (name, port) in SERVICES.into_iter().zip(ports) {
            let log = log(name);
            File::create(&log).expect("a new log");
            let database = with_password(&databases.create(name).await);
            let orchestrator = format!("http://127.0.0.1:{}", ports[3]);
            let mut environment = environment.to_vec();
            environment.extend([
                ("PORT", port.to_string()),
                ("DATABASE_URL", database.clone()),
                ("KAFKA_BROKERS", broker::brokers()),
                ("ORCHESTRATOR_URL", orchestrator),
            ]);
            let process = spawn(name, &environment, &log);
            let url = format!("http://127.0.0.1:{port}");
            services.push(Service { name, url, database, environment, log, process });
        }
        let services = Self(services);
        for service in &services.0 {
            if timeout(START, service.ready()).await.is_err() {
                services.print_logs();
                panic!("{} is not ready", service.name);
            }
        }
        services
    }

    pub(crate) fn orders(&self) -> Client {
        self.0[0].client()
    }

    /// Returns the interfaces of those that have books.
    pub(crate) fn shop(&self) -> Shop {
        let [orders, payments, inventory] = [0, 1, 2].map(|it| self.0[it].client());
        Shop { orders, payments, inventory }
    }

    /// Returns the names of the metrics that the services show.
    pub(crate) async fn metrics(&self) -> BTreeSet<String> {
        let shown = self.metrics_as_text().await;
        let types = shown.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let named = types.filter_map(|line| line.split(' ').next());
        // The exporter adds one about itself.
        named.filter(|name| *name != "target_info").map(ToOwned::to_owned).collect()
    }

    /// Returns the metrics of all services, as they show them.
    pub(crate) async fn metrics_as_text(&self) -> String {
        let mut shown = String::new();
        for service in &self.0 {
            shown += &service.client().text("/metrics").await.expect("an answer");
        }
        shown
    }

    /// Returns the URL of a service's database.
    pub(crate) fn database(&self, name: &str) -> &str {
        let service = self.0.iter().find(|service| service.name == name);
        &service.expect("one of the four").database
    }

    /// Kills a service with SIGKILL and starts it again at once.
    pub(crate) fn kill_and_restart(&mut self, name: &str) {
        let service = self.alive(name);
        service.process.kill().expect("kill it");
        service.process.wait().expect("its end");
        service.start_again();
    }

    /// Asks a service to stop, and starts it again once it has done so in order.
    pub(crate) async fn stop_and_restart(&mut self, name: &str) {
        let service = self.alive(name);
        service.signal("TERM");
        service.stopped().await;
        service.start_again();
    }

    /// Makes a service stand still, as on a machine that is asleep.
    pub(crate) fn pause(&mut self, name: &str) {
        self.alive(name).signal("STOP");
    }

    /// Lets it go on, in the belief that no time has passed.
    pub(crate) fn resume(&mut self, name: &str) {
        self.alive(name).signal("CONT");
    }

    fn alive(&mut self, name: &str) -> &mut Service {
        let service = self.0.iter_mut().find(|service| service.name == name);
        let service = service.expect("one of the four");
        if let Some(status) = service.process.try_wait().expect("its state") {
            service.print_log();
            panic!("{name} died by itself, with {status}");
        }
        service
    }

    /// Asks every service to stop, and waits until it has done so in order.
    pub(crate) async fn stop(mut self) {
        for service in &self.0 {
            service.signal("TERM");
        }
        for service in &mut self.0 {
            service.stopped().await;
        }
    }

    pub(crate) fn print_logs(&self) {
        self.0.iter().for_each(Service::print_log);
    }
}

impl Service {
    fn client(&self) -> Client {
        Client::new(&self.url).expect("a URL")
    }

    async fn ready(&self) {
        let client = self.client();
        while !matches!(client.get("/ready").await, Ok((status, _)) if status == 200) {
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn signal(&self, signal: &str) {
        let mut kill = Command::new("kill");
        kill.args([&format!("-{signal}"), &self.process.id().to_string()]);
        assert!(kill.status().expect("kill runs").success(), "{} is there", self.name);
    }

    /// Waits until it has stopped as it was asked to.
    async fn stopped(&mut self) {
        let ended = timeout(STOP, async {
            loop {
                if let Some(status) = self.process.try_wait().expect("its state") {
                    return status;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        let status = ended.await.unwrap_or_else(|_| panic!("{} does not stop", self.name));
        assert!(status.success(), "{} stopped with {status}", self.name);
    }

    fn start_again(&mut self) {
        self.process = spawn(self.name, &self.environment, &self.log);
    }

    fn print_log(&self) {
        println!("\n--- the end of the log of {self}");
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            println!("{line}");
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.log.display())
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        for service in &mut self.0 {
            // It may have stopped already.
            let _ = service.process.kill();
            let _ = service.process.wait();
        }
    }
}

/// Returns all that the services of the last run have logged, line by line.
pub(crate) fn logs() -> impl Iterator<Item = String> {
    let logs = SERVICES.into_iter().map(|name| fs::read_to_string(log(name)).expect("a log"));
    logs.flat_map(|log| log.lines().map(ToOwned::to_owned).collect::<Vec<_>>())
}

fn log(name: &str) -> PathBuf {
    folder().join(format!("{name}.log"))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e")
}

/// Adds a password to the URL of a database that has none.
fn with_password(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.split_once('@')?))) {
        Some((scheme, (user, rest))) if !user.contains(':') => {
            format!("{scheme}://{user}:{PASSWORD}@{rest}")
        }
        _ => url.to_owned(),
    }
}

fn spawn(name: &str, environment: &[(&str, String)], log: &Path) -> Child {
    let log = File::options().append(true).open(log).expect("the log");
    programs::command(name)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{name} does not start: {error}"))
}

/// Finds a port that no connection gets by chance while its service is dead: one below those that
/// systems give to clients.
fn free_port(dice: &mut Dice) -> u16 {
    loop {
        let port = u16::try_from(10_000 + dice.below(20_000)).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
