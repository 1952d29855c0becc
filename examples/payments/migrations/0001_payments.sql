-- Who has money. Customers are `customer:<user>`; the shop's own accounts are `bank`, `held` and `shop`.
create table account (
    id text primary key,
    currency text not null,
    -- The sum of the account's entries, kept here so that it can be locked and checked. Null for the
    -- shop's own accounts: a row that every payment changes would let each wait for all others.
    balance_minor bigint check (balance_minor >= 0),
    -- The customer's bank lets go of the money when it is to be taken.
    frozen boolean not null default false
);

-- Double entry: each movement of money is two rows, and the sum of all rows is zero. Only appended to.
create table entry (
    id bigint primary key generated always as identity,
    -- The order that the money moved for, and why: `deposit`, `authorize`, `capture` or `void`.
    reference text not null,
    reason text not null,
    account text not null references account,
    amount_minor bigint not null,
    made_at timestamptz not null default now()
);
create index entry_account on entry (account);

-- What is held for each order, and what became of it.
create table payment (
    order_id text primary key,
    account text not null references account,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null,
    state text not null default 'authorized' check (state in ('authorized', 'captured', 'voided'))
);
