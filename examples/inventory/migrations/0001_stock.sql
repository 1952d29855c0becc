-- What is there of each article. on_hand + what is reserved + sold is what was once delivered.
create table stock (
    sku text primary key,
    on_hand bigint not null check (on_hand >= 0),
    sold bigint not null default 0 check (sold >= 0)
);

-- What was set aside for orders, and what became of it.
create table reservation (
    order_id text not null,
    sku text not null references stock,
    quantity bigint not null check (quantity > 0),
    state text not null default 'reserved' check (state in ('reserved', 'released', 'sold')),
    primary key (order_id, sku)
);
