-- What customers ordered, and what became of it. The amount is in cents.
create table orders (
    order_id text primary key,
    user_id text not null,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    items jsonb not null,
    status text not null default 'pending' check (status in ('pending', 'confirmed', 'rejected')),
    -- Why it was rejected.
    reason text,
    placed_at timestamptz not null default now()
);

-- Orders that are still open, for people who look after them.
create index orders_pending on orders (placed_at) where status = 'pending';
