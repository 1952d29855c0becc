-- Orders are listed, newest first: all, those of a customer, and those that are not confirmed, which are few.
create index orders_placed on orders (placed_at, order_id);
create index orders_user on orders (user_id, placed_at, order_id);
create index orders_not_confirmed on orders (status, placed_at, order_id) where status <> 'confirmed';
drop index orders_pending;
