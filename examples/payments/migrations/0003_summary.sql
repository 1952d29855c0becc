-- What each customer has spent on orders that were confirmed.
create table summary (
    account text primary key references account,
    orders bigint not null,
    spent_minor bigint not null
);
