-- Letters know how often it was tried to handle them.

alter table {schema}.dead_letter
    add column attempts int not null default 0;

-- Sets messages aside. One that was set aside before keeps its id and its bytes; unless it only
-- waits, it has failed again, and nobody has asked for it since. Its attempts add up, but not if it is
-- the first commit that is made once more.
create function {schema}.keep_dead_letters(
    ids uuid[], consumers text[], topics text[], partitions int[], offsets bigint[],
    produced_ats timestamptz[], keys bytea[], bodies bytea[], reasons text[], details text[],
    tries int[], waiting boolean[],
    header_firsts int[], header_lasts int[], names bytea[], contents bytea[]
) returns void language sql
as $$
    insert into {schema}.dead_letter as d
        (id, consumer, topic, partition, "offset", produced_at, key, value, reason, detail,
         attempts, waits, redrive_at, redrives_max, header_names, header_values)
    select u.id, u.consumer, u.topic, u.partition, u."offset", u.produced_at, u.key, u.value,
        u.reason, u.detail, u.attempts,
        u.waits, case when u.waits then now() end, case when u.waits then 3 else 0 end,
        names[u.first:u.last], contents[u.first:u.last]
    from unnest(ids, consumers, topics, partitions, offsets, produced_ats, keys, bodies, reasons,
            details, tries, waiting, header_firsts, header_lasts)
        as u (id, consumer, topic, partition, "offset", produced_at, key, value, reason, detail,
            attempts, waits, first, last)
    on conflict (consumer, topic, partition, "offset") do update
    set reason = excluded.reason, detail = excluded.detail, waits = false, redrive_at = null,
        attempts = least(2147483647,
            excluded.attempts::bigint + case when d.id = excluded.id then 0 else d.attempts end)
    where not excluded.waits
$$;

-- What a version from before this migration calls.
create or replace function {schema}.keep_dead_letters(
    ids uuid[], consumers text[], topics text[], partitions int[], offsets bigint[],
    produced_ats timestamptz[], keys bytea[], bodies bytea[], reasons text[], details text[],
    waiting boolean[],
    header_firsts int[], header_lasts int[], names bytea[], contents bytea[]
) returns void language sql
as $$
    select {schema}.keep_dead_letters(
        ids, consumers, topics, partitions, offsets, produced_ats, keys, bodies, reasons, details,
        array_fill(0, array[cardinality(ids)]), waiting, header_firsts, header_lasts, names, contents)
$$;
