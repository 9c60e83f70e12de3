"""Which guard carries each right job of the table, and which one is decoration.

Two deliveries of one job write the same absolute values, so that a version column or a row lock may be decoration where
it carries with two different jobs. Where a store behaves otherwise, it has an entry of its own: SQLite lets nobody write who
has read before somebody else's commit, PostgreSQL does not drop a key that a foreign key refers to, and MariaDB locks gaps.
"""

from __future__ import annotations

from collections.abc import Mapping

from safe.case import MARIADB, SQLITE

C, T, D, U = "carries", "together", "decoration", "unprovable"

PROOFS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "register_account": {"*": {"UNIQUE(accounts.email)": C}},
    "open_ticket": {"*": {"UNIQUE(tickets.reference)": C}},
    "save_setting": {"*": {"PRIMARY KEY(settings.name)": C}},
    "record_import": {"*": {"PRIMARY KEY(imports.file)": C}},
    "write_invoice": {
        "*": {
            "PRIMARY KEY(invoices.id)": U,
            "UNIQUE(invoices.number)": C,
            "PRIMARY KEY(invoice_lines.id)": D,
        },
        MARIADB: {
            "UNIQUE(invoices.number)": C,
            "PRIMARY KEY(invoices.id)": D,
            "PRIMARY KEY(invoice_lines.id)": D,
        },
        SQLITE: {
            "UNIQUE(invoices.number)": C,
            "PRIMARY KEY(invoices.id)": D,
            "PRIMARY KEY(invoice_lines.id)": D,
        },
    },
    "issue_api_token": {"*": {"PRIMARY KEY(api_tokens.customer)": C}},
    "create_login": {"*": {"PRIMARY KEY(credentials.login)": C}},
    "log_call": {"*": {"PRIMARY KEY(call_log.call_id)": C}},
    "store_webhook": {"*": {"PRIMARY KEY(webhooks.event)": C}},
    "place_order": {"*": {"UNIQUE(orders.number)": C}},
    "place_order_with_summary": {"*": {"PRIMARY KEY(order_summaries.number) & UNIQUE(orders.number)": T}},
    "tag_article": {
        "*": {
            "UNIQUE(articles.slug)": C,
            "UNIQUE(tags.name)": U,
            "PRIMARY KEY(article_tags.article_id, tag_id)": C,
        },
        MARIADB: {
            "UNIQUE(tags.name)": U,
            "PRIMARY KEY(article_tags.article_id, tag_id)": C,
            "UNIQUE(articles.slug)": D,
        },
        SQLITE: {
            "UNIQUE(tags.name)": U,
            "PRIMARY KEY(article_tags.article_id, tag_id)": C,
            "UNIQUE(articles.slug)": D,
        },
    },
    "make_folders": {"*": {"UNIQUE(folders.path)": C}, SQLITE: {"UNIQUE(folders.path)": D}},
    "register_truck": {
        "*": {"UNIQUE(vehicles.plate)": C, "PRIMARY KEY(trucks.id)": U},
        MARIADB: {"UNIQUE(vehicles.plate)": C, "PRIMARY KEY(trucks.id)": D},
        SQLITE: {"UNIQUE(vehicles.plate)": C, "PRIMARY KEY(trucks.id)": D},
    },
    "subscribe": {"*": {"UNIQUE(subscribers.email)": C}},
    "subscribe_after_a_look": {"*": {"UNIQUE(subscribers.email)": C}},
    "subscribe_loudly": {"*": {"UNIQUE(subscribers.email)": C}},
    "subscribe_all": {"*": {"UNIQUE(subscribers.email)": C}},
    "invite_members": {"*": {"UNIQUE(members.team, login)": U, "UNIQUE(grants.member_id, document)": D}},
    "report_stock": {"*": {"PRIMARY KEY(stock.sku)": U}},
    "record_score": {"*": {"PRIMARY KEY(high_scores.player)": C, "UPDATE high_scores WHERE score": D}},
    "top_up": {"*": {"PRIMARY KEY(processed_events.event)": C}},
    "transfer": {"*": {"PRIMARY KEY(processed_events.event)": C}},
    "mark_outbox_sent": {"*": {"UPDATE outbox WHERE sent_at": D}},
    "settle_payment": {"*": {"UPDATE payments WHERE status": C}},
    "capture_payment": {"*": {"UPDATE payments WHERE status": C}},
    "grant_coupon": {
        "*": {"INSERT INTO coupons WHERE NOT EXISTS": C, "SERIALIZABLE": C},
        MARIADB: {"INSERT INTO coupons WHERE NOT EXISTS": C, "SERIALIZABLE": D},
        SQLITE: {"INSERT INTO coupons WHERE NOT EXISTS": C},
    },
    "enrol": {"*": {"PRIMARY KEY(enrolments.student, course)": C}},
    "enrol_and_count": {"*": {"PRIMARY KEY(enrolments.student, course)": C}},
    "subscribe_with_audit": {"*": {"UNIQUE(subscribers.email)": C}},
    "subscribe_and_look": {"*": {"UNIQUE(subscribers.email)": C}},
    "ship_under_row_lock": {"*": {"FOR UPDATE of customers": C}},
    "ship_under_advisory_lock": {"*": {"pg_advisory_xact_lock": C}},
    "look_under_advisory_lock": {"*": {"pg_advisory_xact_lock": C}},
    "ship_if_advisory_lock_is_free": {"*": {"pg_try_advisory_xact_lock": C}},
    "ship_serializable": {"*": {"SERIALIZABLE": C}},
    "credit_account": {"*": {"UPDATE bank_accounts WHERE version": D}},
    "credit_by_hand": {"*": {"UPDATE bank_accounts WHERE version": D}},
    "work_off_tasks": {"*": {"FOR UPDATE of tasks": D}},
    "rebuild_totals": {"*": {"LOCK TABLE tasks IN EXCLUSIVE MODE": C, "PRIMARY KEY(tasks.id)": D}},
    "store_batch": {"*": {"UNIQUE(batches.name)": C, "UNIQUE(batch_items.batch_id, position)": D}},
    "store_batch_scoped": {"*": {"UNIQUE(batches.name)": C, "UNIQUE(batch_items.batch_id, position)": D}},
    "store_batch_with": {"*": {"UNIQUE(batches.name)": C, "UNIQUE(batch_items.batch_id, position)": D}},
    "store_batch_with_core": {"*": {"UNIQUE(batches.name)": C, "UNIQUE(batch_items.batch_id, position)": D}},
    "store_batch_returning": {"*": {"UNIQUE(batches.name)": C, "UNIQUE(batch_items.batch_id, position)": D}},
    "store_batch_patiently": {"*": {"UNIQUE(batches.name)": C, "UNIQUE(batch_items.batch_id, position)": D}},
    "add_missing_items": {"*": {"UNIQUE(batches.name)": C, "UNIQUE(batch_items.batch_id, position)": C}},
    "store_batch_or_fail_later": {
        "*": {"UNIQUE(batches.name)": C, "UNIQUE(batch_items.batch_id, position)": D}
    },
    "add_product": {"*": {"UNIQUE(products.sku)": C}},
    "store_sample": {"*": {"PRIMARY KEY(samples.name)": C}},
    "store_exotic": {"*": {"UNIQUE(exotic.name)": C}},
    "write_receipt": {"*": {"UNIQUE(receipts.order_no)": C}},
    "replace_ranking": {"*": {"MULTI of DEL, RPUSH, EXPIRE": C}},
    "book_seat": {"*": {"WATCH bookings:XY1, seats:XY1": C, "MULTI of DECRBY, SADD": C}},
    "start_visit": {"*": {"HSETNX visits": C}},
    "remember_result": {"*": {"SET answer:6*7 NX": D}},
    "publish_article": {"*": {"UNIQUE(cached_articles.slug)": C}},
    "index_article": {"*": {"UNIQUE(cached_articles.slug)": C, "MULTI of SADD, HSET": D}},
    "grant_tokens_locked": {"*": {"Lock(lock:g-1)": C}},
    "grant_tokens_leased": {"*": {"SET lease:g-1 NX": C}},
    "grant_tokens_and_tell": {"*": {"UPDATE token_accounts WHERE last_grant": C}},
    "charge": {"*": {"PRIMARY KEY(sent_orders.number)": C}},
    "write_report": {"*": {"PRIMARY KEY(sent_orders.number)": C}},
    "ship_and_notify": {"*": {"PRIMARY KEY(sent_orders.number)": C}},
    "claim_row_first": {"*": {"PRIMARY KEY(shop_claims.name)": C}},
    "claim_row_in_savepoint": {"*": {"PRIMARY KEY(shop_claims.name)": C}},
    "claim_row_if_new": {"*": {"PRIMARY KEY(shop_claims.name)": C}},
    "claim_by_status": {"*": {"UPDATE shop_orders WHERE status": C}},
    "claim_by_returning": {"*": {"UPDATE shop_orders WHERE status": C}},
    "transfer_with_outbox": {"*": {"UNIQUE(shop_outbox.event)": C}},
    "start_plan": {"*": {"UNIQUE(shop_plans.customer)": C}},
    "number_invoice": {
        "*": {"PRIMARY KEY(shop_invoices.order_id)": C, "UNIQUE(shop_invoices.number)": D},
        MARIADB: {"PRIMARY KEY(shop_invoices.order_id) & UNIQUE(shop_invoices.number)": T},
    },
    "get_or_create_contact": {
        "*": {
            "UNIQUE(shop_contacts.email)": C,
            "PRIMARY KEY(shop_addresses.contact_id)": D,
            "FOR UPDATE of shop_contacts": D,
        },
        MARIADB: {
            "UNIQUE(shop_contacts.email)": C,
            "PRIMARY KEY(shop_addresses.contact_id)": C,
            "FOR UPDATE of shop_contacts": D,
        },
        SQLITE: {"UNIQUE(shop_contacts.email)": C, "PRIMARY KEY(shop_addresses.contact_id)": D},
    },
    "lock_then_look": {"*": {"FOR UPDATE of shop_orders": C}},
    "refresh_under_lock": {"*": {"FOR UPDATE of shop_parcels": D, "UPDATE shop_parcels WHERE version": D}},
    "retry_stale_version": {"*": {"UPDATE shop_parcels WHERE version": D}},
    "leave_it_to_the_other": {"*": {"FOR UPDATE of shop_orders": C}},
    "come_back_later": {"*": {"FOR UPDATE of shop_orders": C}},
    "skip_what_is_locked": {"*": {"FOR UPDATE of shop_orders": C}},
    "ship_if_nobody_does": {"*": {"pg_try_advisory_xact_lock": C}},
    "retry_serialization_failure": {"*": {"SERIALIZABLE": C}},
    "retry_deadlock": {
        "*": {"FOR SHARE of shop_orders": C},
        MARIADB: {"LOCK IN SHARE MODE of shop_orders": C},
    },
    "compare_version_in_where": {"*": {"UPDATE shop_orders WHERE version": C}},
    # The owner is what a run asks for whose lease another one has taken over meanwhile.
    "take_over_when_lease_is_over": {
        "*": {"UPDATE shop_orders WHERE leased_until, status": C, "UPDATE shop_orders WHERE owner": C}
    },
    "charge_under_key": {"*": {"UPDATE shop_orders WHERE status": C}},
    "ship_under_redis_lock": {"*": {"UPDATE shop_orders WHERE status": C, "Lock(ship:7)": D}},
    "ship_under_claim": {"*": {"PRIMARY KEY(shop_claims.name)": C, "SET claim:7 NX": D}},
    "ship_as_first": {"*": {"UPDATE shop_orders WHERE status": C, "MULTI of INCRBY, EXPIRE": D}},
    "mark_after_work": {"*": {"UPDATE shop_orders WHERE status": C}},
    "note_and_work": {"*": {"UPDATE shop_orders WHERE status": C, "ZADD orders NX": D}},
    "pay_in_transaction": {"*": {"WATCH paid, balance": C, "MULTI of SET, HSET": C}},
    "push_if_missing": {"*": {"WATCH events": C}},
    "build_then_rename": {"*": {"MULTI of SADD, EXPIRE": C, "MULTI of PERSIST, RENAME": C}},
    "ship_scoped": {"*": {"UPDATE shop_orders WHERE status": C}},
    "ship_thread_local": {"*": {"PRIMARY KEY(shop_claims.name)": C}},
    "ship_in_context": {"*": {"UPDATE shop_orders WHERE status": C}},
    "upsert_newer": {"*": {"PRIMARY KEY(shop_balances.name)": U}},
    "ship_under_named_lock": {"*": {"get_lock": C}},
    "ship_under_get_lock": {"*": {"get_lock": C}},
    "ship_immediate": {"*": {"BEGIN IMMEDIATE": D}},
    "define_word": {"*": {"PRIMARY KEY(words.word)": C}},
}
"""Title of the case -> store, or ``*`` for all others -> guards -> role."""
