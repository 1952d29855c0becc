-- Letters come back: they know who set them aside, and when they are to be handled again. And attempts
-- are counted that may kill whoever makes them.

alter table {schema}.dead_letter
    -- Who set it aside. `unknown` if it was an engine before this migration: the letter can be looked
    -- at and discarded, but nobody would take it back.
    add column consumer text collate "C" not null default 'unknown',
    -- It is sound, and waits for those of its key before it.
    add column waits boolean not null default false,
    -- How often it was handed out again.
    add column redrives int not null default 0,
    -- It is handed out until it has been this often.
    add column redrives_max int not null default 0,
    -- From when on it is handed out.
    add column redrive_at timestamptz,
    drop constraint dead_letter_topic_partition_offset_key,
    add unique (consumer, topic, partition, "offset");

update {schema}.dead_letter set consumer = left(topic, -9) where topic like '%.commands';

create index dead_letter_redrive on {schema}.dead_letter (consumer, redrive_at)
    where redrive_at is not null;
-- A key may be larger than what an index holds.
create index dead_letter_key
    on {schema}.dead_letter (consumer, topic, partition, sha256(key), "offset");

-- What persons did to letters. Only ever appended to.
create table {schema}.dead_letter_operation (
    number bigint primary key generated always as identity,
    operated_at timestamptz not null default now(),
    action text not null,
    operator text not null,
    reason text not null,
    letter_id uuid not null,
    topic text not null,
    partition int not null,
    "offset" bigint not null
);

-- Sets messages aside. One that was set aside before keeps its id and its bytes; unless it only
-- waits, it has failed again, and nobody has asked for it since.
create function {schema}.keep_dead_letters(
    ids uuid[], consumers text[], topics text[], partitions int[], offsets bigint[],
    produced_ats timestamptz[], keys bytea[], bodies bytea[], reasons text[], details text[],
    waiting boolean[],
    header_firsts int[], header_lasts int[], names bytea[], contents bytea[]
) returns void language sql
as $$
    insert into {schema}.dead_letter as d
        (id, consumer, topic, partition, "offset", produced_at, key, value, reason, detail,
         waits, redrive_at, redrives_max, header_names, header_values)
    select u.id, u.consumer, u.topic, u.partition, u."offset", u.produced_at, u.key, u.value,
        u.reason, u.detail,
        u.waits, case when u.waits then now() end, case when u.waits then 3 else 0 end,
        names[u.first:u.last], contents[u.first:u.last]
    from unnest(ids, consumers, topics, partitions, offsets, produced_ats, keys, bodies, reasons,
            details, waiting, header_firsts, header_lasts)
        as u (id, consumer, topic, partition, "offset", produced_at, key, value, reason, detail,
            waits, first, last)
    on conflict (consumer, topic, partition, "offset") do update
    set reason = excluded.reason, detail = excluded.detail, waits = false, redrive_at = null
    where not excluded.waits
$$;

-- What a version from before this migration calls.
create or replace function {schema}.keep_dead_letters(
    ids uuid[], topics text[], partitions int[], offsets bigint[], produced_ats timestamptz[],
    keys bytea[], bodies bytea[], reasons text[], details text[],
    header_firsts int[], header_lasts int[], names bytea[], contents bytea[]
) returns void language sql
as $$
    select {schema}.keep_dead_letters(
        ids, array_fill('unknown'::text, array[cardinality(ids)]), topics, partitions, offsets,
        produced_ats, keys, bodies, reasons, details,
        array_fill(false, array[cardinality(ids)]), header_firsts, header_lasts, names, contents)
$$;

-- How often it was begun to carry out a command, until it was carried out: whoever began it died. Most
-- often empty, for attempts are only counted for a while after a participant got its partitions.
create table {schema}.inbox_attempt (
    command_id uuid primary key,
    attempts int not null
);
