-- Sagas can be listed, also the few among the many.

-- Those that were undone, and those that are parked. A status that changes ends HOT for that one update: when
-- a saga turns back, and when it comes to rest, where it leaves the index of wake times anyway. Steps stay
-- HOT, and a saga that goes straight to its end writes nothing more than before.
create index saga_off_course on {schema}.saga (status, id) where status in (3, 4);

-- Lists sagas with an id below `beyond`, the newest first. What is null leaves nothing out.
--
-- Each way can only read one index. Left to the statistics, which after an incident still tell of many
-- parked sagas, a few would be looked for among all. No index has the names: those of other sagas
-- are read and left out.
create function {schema}.list(of_name text, of_status smallint, beyond uuid, most int)
returns table (
    id uuid, name text, definition_version int, key text, status smallint,
    started_at timestamptz, updated_at timestamptz
) language plpgsql stable
set jit = off set enable_seqscan = off set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
begin
    if of_status in (0, 1) then
        return query
        select u.* from (
            select s.id, s.name, s.definition_version, s.key, s.status, s.started_at, s.updated_at
            from {schema}.saga s
            -- What is under way has a wake time.
            where s.wake_at < 'infinity' and s.status = of_status
            -- Keeps the conditions and the order below from choosing another index.
            offset 0
        ) u
        where u.id < beyond and (of_name is null or u.name = of_name)
        order by u.id desc
        limit most;
    elsif of_status in (3, 4) then
        return query
        select s.id, s.name, s.definition_version, s.key, s.status, s.started_at, s.updated_at
        from {schema}.saga s
        -- The first condition is the index's own. The next two say "of this status", and with the order
        -- of both columns, which no other index has.
        where s.status in (3, 4)
        and s.status >= of_status and (s.status, s.id) < (of_status, beyond)
        and (of_name is null or s.name = of_name)
        order by s.status desc, s.id desc
        limit most;
    else
        return query
        select s.id, s.name, s.definition_version, s.key, s.status, s.started_at, s.updated_at
        from {schema}.saga s
        where s.id < beyond and (of_name is null or s.name = of_name)
        and (of_status is null or s.status = of_status)
        order by s.id desc
        limit most;
    end if;
end
$$;
