-- Until when pieces stay set aside for an order that does not end; then they go back to what is on hand. The default
-- is for processes of the version before, which still run while this is rolled out.
alter table reservation
    add column expires_at timestamptz not null default now() + interval '1 hour',
    drop constraint reservation_state_check,
    add constraint reservation_state_check check (state in ('reserved', 'released', 'sold', 'expired'));

-- What is due next, among the few that are still set aside.
create index reservation_due on reservation (expires_at) where state = 'reserved';
