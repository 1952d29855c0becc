-- What was delivered, once under each id.
create table delivery (
    delivery_id text primary key,
    sku text not null,
    quantity bigint not null check (quantity > 0),
    made_at timestamptz not null default now()
);

-- What is set aside: few at any time.
create index reservation_reserved on reservation (order_id, sku) where state = 'reserved';
