-- Money that customers brought, once under each id.
create table deposit (
    deposit_id text primary key,
    account text not null references account,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    made_at timestamptz not null default now()
);

-- The ledger of an account, newest first, and the payments that are still open.
create index entry_ledger on entry (account, id);
drop index entry_account;
create index payment_authorized on payment (order_id) where state = 'authorized';
