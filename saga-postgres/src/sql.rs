//! Every SQL text, and the one place where the name of a schema gets into one.
//!
//! The texts of the hot paths are calls of functions that the migrations make: one call is one round
//! trip, and its plans are the function's own, whatever the tables held when it was first used.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::SchemaName;

/// The statements of a store, for its schema. Made once; a clone of a text counts a reference.
#[derive(Debug)]
pub(crate) struct Sql {
    pub(crate) commit_tick: SqlStr,
    pub(crate) commit_tick_and_dead_letters: SqlStr,
    pub(crate) record: SqlStr,
    pub(crate) record_and_dead_letters: SqlStr,
    pub(crate) recorded: SqlStr,
    pub(crate) unfinished: SqlStr,
    pub(crate) begin_attempts: SqlStr,
    pub(crate) end_attempts: SqlStr,
    pub(crate) load: SqlStr,
    pub(crate) find: SqlStr,
    pub(crate) due: SqlStr,
    pub(crate) in_use: SqlStr,
    pub(crate) list: SqlStr,
    pub(crate) history: SqlStr,
    pub(crate) purge_sagas: SqlStr,
    pub(crate) forget_inbox: SqlStr,
    pub(crate) purge_inbox: SqlStr,
    pub(crate) redriven: SqlStr,
    pub(crate) settled: SqlStr,
    pub(crate) held: SqlStr,
    pub(crate) letters: SqlStr,
    pub(crate) redrive: SqlStr,
    pub(crate) discard: SqlStr,
    pub(crate) operations: SqlStr,
    pub(crate) unsent: SqlStr,
    pub(crate) forget_sent: SqlStr,
    pub(crate) enqueue: SqlStr,
    pub(crate) take_lease: SqlStr,
    pub(crate) release_lease: SqlStr,
    pub(crate) create_schema: SqlStr,
    pub(crate) create_migration_table: SqlStr,
    pub(crate) applied_migrations: SqlStr,
    pub(crate) mark_migration: SqlStr,
    pub(crate) latest_migration: SqlStr,
}

impl Sql {
    pub(crate) fn new(schema: &SchemaName) -> Self {
        let text = |template: &str| render(schema, template);
        Self {
            commit_tick: text(COMMIT_TICK),
            commit_tick_and_dead_letters: text(COMMIT_TICK_AND_DEAD_LETTERS),
            record: text(RECORD),
            record_and_dead_letters: text(RECORD_AND_DEAD_LETTERS),
            recorded: text("select command_id, reply from {schema}.recorded($1)"),
            unfinished: text(UNFINISHED),
            begin_attempts: text(BEGIN_ATTEMPTS),
            end_attempts: text("delete from {schema}.inbox_attempt where command_id = any ($1)"),
            load: text(LOAD),
            find: text("select name, key, saga_id from {schema}.find($1, $2)"),
            due: text(DUE),
            in_use: text(IN_USE),
            list: text(LIST),
            history: text("select version, entries from {schema}.history($1)"),
            purge_sagas: text(PURGE_SAGAS),
            forget_inbox: text(FORGET_INBOX),
            purge_inbox: text("select {schema}.purge_inbox($1)"),
            redriven: text(REDRIVEN),
            settled: text(SETTLED),
            held: text(HELD),
            letters: text(LETTERS),
            redrive: text(REDRIVE),
            discard: text(DISCARD),
            operations: text(OPERATIONS),
            unsent: text("select id, owner, lane, body from {schema}.unsent($1, $2, $3)"),
            forget_sent: text("select {schema}.forget_sent($1)"),
            enqueue: text(ENQUEUE),
            take_lease: text(TAKE_LEASE),
            release_lease: text(RELEASE_LEASE),
            create_schema: text("create schema {schema}"),
            create_migration_table: text(CREATE_MIGRATION_TABLE),
            applied_migrations: text(APPLIED_MIGRATIONS),
            mark_migration: text(MARK_MIGRATION),
            latest_migration: text("select max(version) from {schema}.migration"),
        }
    }
}

/// Puts the name of the schema into a text of this crate.
///
/// What goes in is a [`SchemaName`], so letters, digits and underscores in quotes; what it goes into
/// is a constant.
pub(crate) fn render(schema: &SchemaName, template: &str) -> SqlStr {
    let text: Arc<str> = template.replace("{schema}", &schema.quoted()).into();
    AssertSqlSafe(text).into_sql_str()
}

/// Opens a transaction that the server ends once it has heard nothing in it for so long.
///
/// Nothing of the session is changed, for poolers share sessions.
pub(crate) fn begin(idle: Duration) -> SqlStr {
    // 0 would be for ever, and more than an integer is refused.
    let idle = idle.as_millis().clamp(1, i32::MAX.unsigned_abs().into());
    let text = format!("begin; set local idle_in_transaction_session_timeout = {idle}");
    AssertSqlSafe(text).into_sql_str()
}

const COMMIT_TICK: &str = "select {schema}.commit_tick($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
    $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)";

const COMMIT_TICK_AND_DEAD_LETTERS: &str = "select {schema}.commit_tick($1, $2, $3, $4, $5, $6, \
    $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25), \
    {schema}.keep_dead_letters($26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, \
    $40, $41)";

const RECORD: &str = "select {schema}.record_handled($1, $2, $3, $4, $5, $6, $7)";

const RECORD_AND_DEAD_LETTERS: &str = "select {schema}.record_handled($1, $2, $3, $4, $5, $6, $7), \
    {schema}.keep_dead_letters($8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
    $22, $23)";

const UNFINISHED: &str = "select a.command_id, a.attempts from {schema}.inbox_attempt a \
    where a.command_id = any ($1) \
    and not exists (select from {schema}.inbox i where i.command_id = a.command_id)";

const BEGIN_ATTEMPTS: &str = "insert into {schema}.inbox_attempt as a (command_id, attempts) \
    select distinct u.id, 1 from unnest($1::uuid[]) as u (id) \
    where not exists (select from {schema}.inbox i where i.command_id = u.id) order by u.id \
    on conflict (command_id) do update set attempts = a.attempts + 1 returning command_id";

const LOAD: &str = "select id, version, name, definition_version, fingerprint, key, home, status, \
    wake_at, state from {schema}.load($1)";

/// One row with the time even if nothing is due.
const DUE: &str = "select now(), d.id, d.home, d.wake_at from (values (0)) as one \
    left join {schema}.due(now() + $1 * interval '1 microsecond', $2) as d on true \
    order by d.wake_at";

/// The index of the wake times has no saga that is at rest.
const IN_USE: &str = "select name, definition_version, fingerprint, count(*) from {schema}.saga \
    where wake_at < 'infinity' and status in (0, 1) group by 1, 2, 3 order by 1, 2, 3";

const LIST: &str = "select id, name, definition_version, key, status, started_at, updated_at \
    from {schema}.list($1, $2, $3, $4)";

const PURGE_SAGAS: &str = "select sagas, last \
    from {schema}.purge_sagas(now() - $1 * interval '1 microsecond', $2, $3)";

/// Attempts are few: they end with their commands, but for those at what was given up.
const FORGET_INBOX: &str = "with moment as (select now() - $1 * interval '1 microsecond' as it), \
    old as (delete from {schema}.inbox_attempt a using moment \
        where a.command_id < {schema}.first_id(date_trunc('minute', moment.it))) \
    select {schema}.forget_inbox(moment.it) from moment";

/// The columns of a letter, of the table or the statement that is called `d`.
macro_rules! letter {
    () => {
        "d.id, d.consumer, d.topic, d.partition, d.\"offset\", d.produced_at, d.key, d.value, \
         d.reason, d.detail, d.waits, d.redrives, d.header_names, d.header_values, d.redrive_at, \
         d.attempts"
    };
}

/// How large a letter is, of the table or the statement that is called so.
macro_rules! bytes {
    ($letter:literal) => {
        concat!(
            "octet_length(",
            $letter,
            ".key) + octet_length(",
            $letter,
            ".value) \
            + (select coalesce(sum(octet_length(h.name) + octet_length(h.value) + 64), 0) from unnest(",
            $letter,
            ".header_names, ",
            $letter,
            ".header_values) h (name, value))"
        )
    };
}

/// A letter that waits is due if no letter of its key is before it.
const REDRIVEN: &str = concat!(
    "with due as (select l.id, l.redrive_at, ",
    bytes!("l"),
    " as bytes from {schema}.dead_letter l \
        where l.consumer = $1 and l.redrive_at <= now() and l.redrives < l.redrives_max \
        and l.partition = any ($2) and not (l.waits and l.key <> '' and exists (\
            select from {schema}.dead_letter e \
            where e.consumer = l.consumer and e.topic = l.topic and e.partition = l.partition \
            and sha256(e.key) = sha256(l.key) and e.\"offset\" < l.\"offset\")) \
        order by l.redrive_at limit $4 for update skip locked), \
    fitting as (select id from (\
            select id, sum(bytes) over (order by redrive_at, id) - bytes as before from due) d \
        where before < $5), \
    taken as (update {schema}.dead_letter l \
        set redrives = l.redrives + 1, redrive_at = now() + $3 * interval '1 microsecond' \
        from fitting where l.id = fitting.id returning l.*) \
    select ",
    letter!(),
    " from taken d order by d.topic, d.partition, d.\"offset\""
);

const SETTLED: &str =
    "delete from {schema}.dead_letter where id = any ($1) and redrive_at is not null";

const HELD: &str = "select distinct on (topic, partition, sha256(key)) \
        topic, partition, key, \"offset\" \
    from {schema}.dead_letter where consumer = $1 and key <> '' \
    order by topic, partition, sha256(key), \"offset\"";

const LETTERS: &str = concat!(
    "with page as (select d.id, ",
    bytes!("d"),
    " as bytes from {schema}.dead_letter d \
        where ($1::uuid is null or d.id = $1) and ($2::text is null or d.consumer = $2) \
        and ($3::text is null or d.topic = $3) and ($4::bytea is null or d.key = $4) \
        and ($5::text is null or d.reason = $5) and d.id > $6 order by d.id limit $7), \
    fitting as (select id from (\
            select id, sum(bytes) over (order by id) - bytes as before from page) p \
        where before < $8) \
    select ",
    letter!(),
    " from {schema}.dead_letter d join fitting using (id) order by d.id"
);

/// Nobody would take a letter back of which it is not known who set it aside.
const REDRIVE: &str = "with locked as (select d.id, u.pause from {schema}.dead_letter d \
        join unnest($1::uuid[], $2::bigint[]) as u (id, pause) using (id) \
        where d.consumer <> 'unknown' order by d.id for update of d), \
    operated as (update {schema}.dead_letter d \
        set redrive_at = now() + l.pause * interval '1 microsecond', redrives_max = d.redrives + $3 \
        from locked l where d.id = l.id returning d.id, d.topic, d.partition, d.\"offset\") \
    insert into {schema}.dead_letter_operation \
        (action, operator, reason, letter_id, topic, partition, \"offset\") \
    select $4, $5, $6, d.id, d.topic, d.partition, d.\"offset\" from operated d returning number";

const DISCARD: &str = "with locked as (select d.id from {schema}.dead_letter d \
        where d.id = any ($1) order by d.id for update), \
    operated as (delete from {schema}.dead_letter d using locked l \
        where d.id = l.id returning d.id, d.topic, d.partition, d.\"offset\") \
    insert into {schema}.dead_letter_operation \
        (action, operator, reason, letter_id, topic, partition, \"offset\") \
    select $2, $3, $4, d.id, d.topic, d.partition, d.\"offset\" from operated d returning number";

const OPERATIONS: &str = "select number, operated_at, action, operator, reason, letter_id, topic, \
    partition, \"offset\" from {schema}.dead_letter_operation where number > $1 \
    order by number limit $2";

const ENQUEUE: &str = "insert into {schema}.outbox (id, owner, lane, body) values ($1, $2, $3, $4)";

/// [`ENQUEUE`] for the default schema, for those who have a connection and no store.
pub(crate) const ENQUEUE_IN_DEFAULT_SCHEMA: &str =
    "insert into \"saga\".outbox (id, owner, lane, body) values ($1, $2, $3, $4)";

/// `clock_timestamp()`, because `now()` is from before a wait for another relay's row lock.
const TAKE_LEASE: &str = "insert into {schema}.outbox_lease as l (owner, lane, holder, until) \
    values ($1, $2, $3, clock_timestamp() + $4 * interval '1 microsecond') \
    on conflict (owner, lane) do update set holder = excluded.holder, until = excluded.until \
    where l.holder = excluded.holder or l.until <= clock_timestamp() \
    returning true";

/// Returns a row if another holder has the lane.
const RELEASE_LEASE: &str = "with released as (\
        delete from {schema}.outbox_lease where owner = $1 and lane = $2 and holder = $3) \
    select true from {schema}.outbox_lease \
    where owner = $1 and lane = $2 and holder <> $3 and until > clock_timestamp()";

/// Returns nothing if the schema does not exist yet.
pub(crate) const SCHEMA_EXISTS: &str = "select 1 from pg_namespace where nspname = $1";

pub(crate) const MIGRATION_TABLE_EXISTS: &str =
    "select 1 from pg_tables where schemaname = $1 and tablename = 'migration'";

/// Ends with the transaction, so that it works behind a pooler of transactions.
pub(crate) const LOCK_MIGRATIONS: &str =
    "select pg_advisory_xact_lock(hashtextextended('saga-postgres ' || $1, 0))";

const CREATE_MIGRATION_TABLE: &str = "create table {schema}.migration (\
        version int primary key, \
        checksum bytea not null, \
        applied_at timestamptz not null default now())";

const APPLIED_MIGRATIONS: &str = "select version, checksum = sha256(convert_to(text, 'UTF8')) \
    from {schema}.migration join unnest($1, $2) as known (version, text) using (version)";

const MARK_MIGRATION: &str = "insert into {schema}.migration (version, checksum) \
    values ($1, sha256(convert_to($2, 'UTF8')))";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_without_a_store_is_the_one_of_the_default_schema() {
        let rendered = render(&SchemaName::default(), ENQUEUE);
        assert_eq!(rendered.as_str(), ENQUEUE_IN_DEFAULT_SCHEMA);
    }

    /// The list of places to audit for injection is this file.
    #[test]
    fn no_other_file_vouches_for_sql() {
        let sources = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
        let vouching: Vec<_> = sources
            .map(|entry| entry.unwrap().path())
            .filter(|path| std::fs::read_to_string(path).unwrap().contains("AssertSqlSafe"))
            .collect();
        assert_eq!(vouching.len(), 1, "{vouching:?}");
        assert!(vouching[0].ends_with("sql.rs"), "{vouching:?}");
    }
}
