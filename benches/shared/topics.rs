//! Topics and consumer groups of a run, removed before it or after it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;

const PATIENCE: Duration = Duration::from_secs(30);

/// Removes the topics and groups whose names begin with a prefix, and waits until they are gone.
///
/// # Errors
///
/// What Kafka says; that they are still there after 30 s.
pub async fn remove(brokers: &str, prefix: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let groups = groups(&admin, prefix)?;
    let groups: Vec<_> = groups.iter().map(String::as_str).collect();
    if !groups.is_empty() {
        for deleted in admin.delete_groups(&groups, &options).await? {
            if let Err((group, error)) = deleted
                && error != RDKafkaErrorCode::GroupIdNotFound
            {
                bail!("the consumer group {group} of an earlier run cannot be removed: {error}");
            }
        }
    }
    let begun = Instant::now();
    loop {
        let topics = topics(&admin, prefix)?;
        if topics.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            bail!("topics of an earlier run are still there: {}", topics.join(", "));
        }
        let topics: Vec<_> = topics.iter().map(String::as_str).collect();
        admin.delete_topics(&topics, &options).await?;
    }
}

fn groups(admin: &AdminClient<DefaultClientContext>, prefix: &str) -> anyhow::Result<Vec<String>> {
    let list = admin.inner().fetch_group_list(None, PATIENCE).context("Kafka does not answer")?;
    let names = list.groups().iter().map(|group| group.name().to_owned());
    Ok(names.filter(|name| name.starts_with(prefix)).collect())
}

fn topics(admin: &AdminClient<DefaultClientContext>, prefix: &str) -> anyhow::Result<Vec<String>> {
    let metadata = admin.inner().fetch_metadata(None, PATIENCE)?;
    let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
    Ok(names.filter(|name| name.starts_with(prefix)).collect())
}
