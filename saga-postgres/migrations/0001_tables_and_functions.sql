-- The tables of saga-postgres, and the functions that the store calls them through.
--
-- `{schema}` stands for the quoted name of the schema. Never edited after a release: a change is a
-- new file.
--
-- No foreign keys: every row is written by a function below, and a check per row would cost as much
-- as the row. Ids are made by the engine, ordered by time (UUID version 7), so that new rows land at
-- the end of every index.

-- One row per saga.
--
-- A saga is updated some times in quick succession and then never again. Half of each page is left
-- free so that those updates find room beside the row, and no index has a column that a step
-- changes: so they are HOT, and write no index.
create table {schema}.saga (
    -- First what stays, then what each commit changes: the log of an update leaves out what the old
    -- row and the new one begin with.
    id uuid primary key,
    -- 64 bits; large ones show as negative.
    fingerprint bigint not null,
    started_at timestamptz not null default now(),
    definition_version int not null,
    -- The partition that the saga's commands and replies travel in.
    home int not null,
    name text collate "C" not null,
    key text collate "C",
    -- Lower bound of the next time that something is due; 'infinity' if nothing is. Steps leave it alone.
    wake_at timestamptz not null,
    -- 0 running, 1 compensating, 2 completed, 3 compensated, 4 parked.
    status smallint not null,
    -- How often the saga was committed.
    version bigint not null,
    updated_at timestamptz not null default now(),
    -- Written by the engine in a format of its own.
    state bytea not null
) with (fillfactor = 50);

-- Ended sagas are not in it. The predicate has no other column than the index: one that a step
-- changes would end HOT for good.
create index saga_wake_at on {schema}.saga (wake_at) where wake_at < 'infinity';

-- The sagas that were started under a key. A table of its own, so that uniqueness costs the others nothing.
-- Compared byte by byte: it is fast, and no update of the server's locale can damage the index.
create table {schema}.saga_key (
    name text collate "C" not null,
    key text collate "C" not null,
    saga_id uuid not null,
    primary key (name, key)
);

-- What each commit of a saga recorded. Only ever appended to.
create table {schema}.saga_history (
    saga_id uuid not null,
    version bigint not null,
    entries bytea not null,
    primary key (saga_id, version)
);

-- Messages that are committed and that the broker has not acknowledged. A row holds all messages
-- that one tick has for a lane. The order of a lane is the order of `position`.
--
-- Positions are drawn before the commit, so a lower one may appear after a higher one: who reads
-- takes what is there, and never "position greater than the last".
create table {schema}.outbox (
    id uuid primary key,
    position bigint not null generated always as identity,
    owner text not null,
    lane int not null,
    body bytea not null,
    created_at timestamptz not null default now()
);
create index outbox_lane on {schema}.outbox (owner, lane, position);

-- Large values. LZ4 costs less than the log that it saves; the default, pglz, costs several times as
-- much as writing a tick's messages as they are.
do $$
begin
    alter table {schema}.saga alter column state set compression lz4;
    alter table {schema}.outbox alter column body set compression lz4;
exception when feature_not_supported then
    -- The server was built without LZ4.
    alter table {schema}.outbox alter column body set storage external;
end
$$;

-- Who publishes a lane. Keeps two relays from doing the same work, and nothing else.
create table {schema}.outbox_lease (
    owner text not null,
    lane int not null,
    holder uuid not null,
    until timestamptz not null,
    primary key (owner, lane)
) with (fillfactor = 50);

-- What was answered to each command.
create table {schema}.inbox (
    command_id uuid primary key,
    reply bytea not null,
    handled_at timestamptz not null default now()
);

-- A command with a lower id may have had a record in the inbox that was purged. At most one row.
create table {schema}.inbox_purged (
    below uuid not null,
    one boolean primary key default true check (one)
);

-- Messages that were set aside for a person, byte for byte.
create table {schema}.dead_letter (
    id uuid primary key,
    topic text not null,
    partition int not null,
    "offset" bigint not null,
    produced_at timestamptz not null,
    key bytea not null,
    value bytea not null,
    -- Pairs with header_values; bytes because a name may hold what text may not.
    header_names bytea[] not null,
    header_values bytea[] not null,
    reason text not null,
    detail text not null,
    created_at timestamptz not null default now(),
    unique (topic, partition, "offset")
);

-- The functions. Each is one call, so one round trip; on its own it is one transaction as well.
--
-- Plans are made once per connection and kept, and they are made to look rows up one by one in an
-- index. A plan that is chosen while a table is small reads all of it, and stays when the table has grown.
-- What is switched off counts as very dear, so nothing may be compiled for its price.
-- Rows are locked in the order of the arrays, which the store sorts: so two calls never wait for each
-- other in a circle.

-- Commits a tick, except for its dead letters. Raises SG001, and so writes nothing, if one of the
-- sagas is not at the version that was expected. Arrays of one prefix have one length; a prefix whose
-- arrays are empty costs nothing.
create function {schema}.commit_tick(
    update_ids uuid[], update_expected bigint[], update_statuses smallint[],
    -- null keeps what is stored.
    update_wake_ats timestamptz[],
    update_states bytea[],
    start_ids uuid[], start_names text[], start_definition_versions int[],
    start_fingerprints bigint[], start_statuses smallint[], start_homes int[],
    start_wake_ats timestamptz[], start_states bytea[], start_keys text[],
    key_names text[], key_keys text[], key_ids uuid[],
    history_ids uuid[], history_versions bigint[], history_entries bytea[],
    outbox_ids uuid[], outbox_owners text[], outbox_lanes int[], outbox_bodies bytea[],
    sent_ids uuid[]
) returns void language plpgsql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
declare
    updated bigint;
begin
    if cardinality(update_ids) > 0 then
        update {schema}.saga s
        set version = s.version + 1, status = u.status, state = u.state,
            wake_at = coalesce(u.wake_at, s.wake_at), updated_at = now()
        from unnest(update_ids, update_expected, update_statuses, update_wake_ats, update_states)
            as u (id, expected, status, wake_at, state)
        where s.id = u.id and s.version = u.expected;
        get diagnostics updated = row_count;
        if updated <> cardinality(update_ids) then
            raise exception 'another writer committed first' using errcode = 'SG001';
        end if;
    end if;
    if cardinality(start_ids) > 0 then
        insert into {schema}.saga
            (id, name, definition_version, fingerprint, status, home, version, wake_at, state, key)
        select u.id, u.name, u.definition_version, u.fingerprint, u.status, u.home, 1,
            u.wake_at, u.state, u.key
        from unnest(start_ids, start_names, start_definition_versions, start_fingerprints,
                start_statuses, start_homes, start_wake_ats, start_states, start_keys)
            as u (id, name, definition_version, fingerprint, status, home, wake_at, state, key);
    end if;
    if cardinality(key_ids) > 0 then
        insert into {schema}.saga_key (name, key, saga_id)
        select u.name, u.key, u.id from unnest(key_names, key_keys, key_ids) as u (name, key, id);
    end if;
    if cardinality(history_ids) > 0 then
        insert into {schema}.saga_history (saga_id, version, entries)
        select u.id, u.version, u.entries
        from unnest(history_ids, history_versions, history_entries) as u (id, version, entries);
    end if;
    if cardinality(outbox_ids) > 0 then
        insert into {schema}.outbox (id, owner, lane, body)
        select u.id, u.owner, u.lane, u.body
        from unnest(outbox_ids, outbox_owners, outbox_lanes, outbox_bodies)
            as u (id, owner, lane, body);
    end if;
    if cardinality(sent_ids) > 0 then
        delete from {schema}.outbox o using unnest(sent_ids) as u (id) where o.id = u.id;
    end if;
end
$$;

-- Records what a participant's transaction did, except for its dead letters. A command that has a
-- record already violates the primary key; one that may have had a record raises SG001.
create function {schema}.record_handled(
    commands uuid[], replies bytea[],
    outbox_ids uuid[], outbox_owners text[], outbox_lanes int[], outbox_bodies bytea[],
    sent_ids uuid[]
) returns void language plpgsql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
begin
    if cardinality(commands) > 0 then
        insert into {schema}.inbox (command_id, reply)
        select u.command, u.reply from unnest(commands, replies) as u (command, reply);
        -- A statement of its own, after the insert: if a record made way for ours while we were at
        -- work, this sees that it was to be purged.
        if exists (select from {schema}.inbox_purged p where p.one and p.below > any (commands)) then
            raise exception 'another writer may have been first' using errcode = 'SG001';
        end if;
    end if;
    if cardinality(outbox_ids) > 0 then
        insert into {schema}.outbox (id, owner, lane, body)
        select u.id, u.owner, u.lane, u.body
        from unnest(outbox_ids, outbox_owners, outbox_lanes, outbox_bodies)
            as u (id, owner, lane, body);
    end if;
    if cardinality(sent_ids) > 0 then
        delete from {schema}.outbox o using unnest(sent_ids) as u (id) where o.id = u.id;
    end if;
end
$$;

-- Sets messages aside; one that was set aside before stays as it was. The headers of all messages
-- stand one after the other, those of the n-th from header_firsts[n] to header_lasts[n].
create function {schema}.keep_dead_letters(
    ids uuid[], topics text[], partitions int[], offsets bigint[], produced_ats timestamptz[],
    keys bytea[], bodies bytea[], reasons text[], details text[],
    header_firsts int[], header_lasts int[], names bytea[], contents bytea[]
) returns void language sql
as $$
    insert into {schema}.dead_letter
        (id, topic, partition, "offset", produced_at, key, value, reason, detail,
         header_names, header_values)
    select u.id, u.topic, u.partition, u."offset", u.produced_at, u.key, u.value, u.reason, u.detail,
        names[u.first:u.last], contents[u.first:u.last]
    from unnest(ids, topics, partitions, offsets, produced_ats, keys, bodies, reasons, details,
            header_firsts, header_lasts)
        as u (id, topic, partition, "offset", produced_at, key, value, reason, detail, first, last)
    on conflict (topic, partition, "offset") do nothing
$$;

create function {schema}.load(ids uuid[])
returns table (
    id uuid, version bigint, name text, definition_version int, fingerprint bigint, key text,
    home int, status smallint, wake_at timestamptz, state bytea
) language plpgsql stable
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
begin
    return query
    select s.id, s.version, s.name, s.definition_version, s.fingerprint, s.key, s.home, s.status,
        s.wake_at, s.state
    from unnest(ids) as u (id) join {schema}.saga s on s.id = u.id;
end
$$;

create function {schema}.find(names text[], keys text[])
returns table (name text, key text, saga_id uuid) language plpgsql stable
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
begin
    return query
    select k.name, k.key, k.saga_id
    from unnest(names, keys) as u (name, key)
    join {schema}.saga_key k on k.name = u.name and k.key = u.key;
end
$$;

create function {schema}.due(until timestamptz, most int)
returns table (id uuid, home int, wake_at timestamptz) language plpgsql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
    return query
    select s.id, s.home, s.wake_at
    from {schema}.saga s
    -- The second condition is the index's own.
    where s.wake_at <= until and s.wake_at < 'infinity'
    order by s.wake_at
    limit most;
end
$$;

create function {schema}.history(saga uuid)
returns table (version bigint, entries bytea) language plpgsql stable
set jit = off set enable_seqscan = off set plan_cache_mode = force_generic_plan
as $$
begin
    return query
    select h.version, h.entries from {schema}.saga_history h
    where h.saga_id = saga order by h.version;
end
$$;

-- Reads lane after lane, until the bodies come to so many bytes; what is beyond is never read.
create function {schema}.unsent(owners text[], lanes int[], bytes bigint)
returns table (id uuid, owner text, lane int, body bytea) language plpgsql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
    free bigint := greatest(bytes, 1);
begin
    for l in 1 .. cardinality(lanes) loop
        for id, owner, lane, body in
            select o.id, o.owner, o.lane, o.body from {schema}.outbox o
            where o.owner = owners[l] and o.lane = lanes[l]
            order by o.position
        loop
            return next;
            free := free - octet_length(body);
            if free <= 0 then
                return;
            end if;
        end loop;
    end loop;
end
$$;

create function {schema}.forget_sent(ids uuid[]) returns void language plpgsql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
begin
    delete from {schema}.outbox o using unnest(ids) as u (id) where o.id = u.id;
end
$$;

create function {schema}.recorded(commands uuid[])
returns table (command_id uuid, reply bytea) language plpgsql stable
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
as $$
begin
    return query
    select i.command_id, i.reply
    from unnest(commands) as u (id) join {schema}.inbox i on i.command_id = u.id
    -- In the same statement, so that it cannot be newer or older than the records.
    union all
    select p.below, null from {schema}.inbox_purged p where p.one;
end
$$;

-- The lowest id of a time: ids that were made before it sort before this one.
create function {schema}.first_id(moment timestamptz) returns uuid language sql immutable
as $$
    select (lpad(to_hex(greatest(floor(extract(epoch from moment) * 1000), 0)::bigint), 12, '0')
        || repeat('0', 20))::uuid
$$;

-- Deletes the sagas that ended before a time, among the first `most` that come after another.
create function {schema}.purge_sagas(ended_before timestamptz, beyond uuid, most int)
returns table (sagas bigint, last uuid) language plpgsql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
declare
    page uuid[];
    ended uuid[];
    names text[];
    keys text[];
begin
    page := array(
        select s.id from {schema}.saga s
        where s.id > beyond and s.id < {schema}.first_id(ended_before)
        order by s.id limit most);
    with gone as (
        delete from {schema}.saga s using unnest(page) as u (id)
        where s.id = u.id and s.status in (2, 3) and s.updated_at <= ended_before
        returning s.id, s.name, s.key
    )
    select array_agg(g.id), array_agg(g.name), array_agg(g.key) into ended, names, keys from gone g;
    -- A saga without a key matches none.
    delete from {schema}.saga_key k using unnest(names, keys) as u (name, key)
    where k.name = u.name and k.key = u.key;
    delete from {schema}.saga_history h using unnest(ended) as u (id) where h.saga_id = u.id;
    return query select coalesce(cardinality(ended), 0)::bigint, page[cardinality(page)];
end
$$;

-- Says that records of commands with a lower id may be missing from now on. Committed before any is
-- deleted. In steps of a minute, so that the row is seldom written.
create function {schema}.forget_inbox(started_before timestamptz) returns void language sql
as $$
    insert into {schema}.inbox_purged as p (below)
    values ({schema}.first_id(date_trunc('minute', started_before)))
    on conflict (one) do update set below = excluded.below where p.below < excluded.below
$$;

-- Deletes up to `most` of the records that may be missing.
create function {schema}.purge_inbox(most int) returns bigint language plpgsql
set jit = off set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
set enable_bitmapscan = off set plan_cache_mode = force_generic_plan
as $$
declare
    page uuid[];
    deleted bigint;
begin
    page := array(
        select i.command_id from {schema}.inbox i
        where i.command_id < (select p.below from {schema}.inbox_purged p where p.one)
        order by i.command_id limit most);
    delete from {schema}.inbox i using unnest(page) as u (id) where i.command_id = u.id;
    get diagnostics deleted = row_count;
    return deleted;
end
$$;
