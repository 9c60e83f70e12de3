"""All right jobs, one line each."""

from __future__ import annotations

from safe import guards as g
from safe import keys as r
from safe import locks as k
from safe import made_up as m
from safe import memory as y
from safe import outside as o
from safe import overlaps as v
from safe import schemas as c
from safe import sessions as s
from safe.case import (
    MARIADB,
    MEMORY,
    PAIRS,
    POSTGRESQL,
    PSYCOPG2,
    SERVERS,
    SQL,
    SQL_AND_PSYCOPG2,
    SQLITE,
    Case,
    World,
)

CASES = [
    Case(m.register_account, lambda w: m.register_account(w.db, "ada@example.org"), tables=[m.accounts]),
    Case(m.open_ticket, lambda w: m.open_ticket(w.db, "T-17", "Printer on fire"), tables=[m.tickets]),
    Case(
        m.rename_profile,
        lambda w: m.rename_profile(w.db, 1, "Ada L."),
        tables=[m.profiles],
        seed=m.seed_profiles,
    ),
    Case(m.save_setting, lambda w: m.save_setting(w.db, "theme", "dark"), tables=[m.settings]),
    Case(m.record_import, lambda w: m.record_import(w.db, "a.csv", ["x", "y"]), tables=[m.imports]),
    Case(
        m.write_invoice,
        lambda w: m.write_invoice(w.db, "2026-1", ["Tea", "Milk"]),
        on=SQL_AND_PSYCOPG2,
        tables=[m.Invoice, m.InvoiceLine],
    ),
    Case(m.issue_api_token, lambda w: m.issue_api_token(w.db, "acme"), tables=[m.api_tokens]),
    Case(m.create_login, lambda w: m.create_login(w.db, "ada", "secret"), on=PAIRS, tables=[m.credentials]),
    Case(m.log_call, lambda w: m.log_call(w.db, "c-1"), on=PAIRS, tables=[m.calls]),
    Case(m.store_webhook, lambda w: m.store_webhook(w.db, "evt_1", 17), tables=[m.webhooks]),
    Case(
        m.place_order,
        lambda w: (m.place_order(w.db, "A-1", ["tea", "milk"]), m.place_order(w.db, "A-2", ["tea"])),
        on=SQL_AND_PSYCOPG2,
        tables=[m.orders, m.order_lines],
    ),
    Case(
        m.place_order_with_summary,
        lambda w: m.place_order_with_summary(w.db, "A-1", ["tea", "milk"]),
        on=SQL_AND_PSYCOPG2,
        tables=[m.orders, m.order_lines, m.order_summaries],
    ),
    Case(
        m.tag_article,
        lambda w: m.tag_article(w.db, "hello", ["news", "python"]),
        tables=[m.tags, m.articles, m.article_tags],
        seed=m.seed_tags,
    ),
    Case(m.make_folders, lambda w: m.make_folders(w.db, "a/b/c"), tables=[m.folders]),
    Case(
        m.register_truck,
        lambda w: m.register_truck(w.db, "B-XY 1", ["Rome", "Oslo"]),
        tables=[m.Vehicle, m.Truck, m.Trip],
    ),
    # -- guarded by a key or a condition
    Case(
        g.subscribe,
        lambda w: g.subscribe(w.db, "ada@example.org"),
        on=SQL_AND_PSYCOPG2,
        tables=[g.subscribers],
    ),
    Case(
        g.subscribe_after_a_look,
        lambda w: g.subscribe_after_a_look(w.db, "ada@example.org"),
        tables=[g.subscribers],
    ),
    # The state is right; that the duplicate raises is worth a note (and see test_noise_is_an_error_if_strict).
    Case(
        g.subscribe_loudly,
        lambda w: g.subscribe_loudly(w.db, "ada@example.org"),
        tables=[g.subscribers],
        notes=("IDM401",),
    ),
    Case(
        g.subscribe_all,
        lambda w: g.subscribe_all(w.db, ["a@x.org", "b@x.org", "c@x.org"]),
        tables=[g.subscribers],
    ),
    Case(
        g.invite_members,
        lambda w: g.invite_members(w.db, "core", ["ada", "grace", "linus"]),
        on=SQL_AND_PSYCOPG2,
        tables=[g.Member, g.Grant],
        seed=g.seed_members,
    ),
    Case(
        g.report_stock,
        lambda w: g.report_stock(w.db, {"tea": 7, "rum": 1}),
        tables=[g.stock],
        seed=g.seed_stock,
    ),
    Case(g.record_score, lambda w: g.record_score(w.db, "ada", 70), tables=[g.high_scores]),
    Case(
        g.top_up,
        # Twice with different arguments: both count.
        lambda w: (g.top_up(w.db, "evt_1", "ada", 100), g.top_up(w.db, "evt_2", "ada", 100)),
        tables=[g.wallets, g.processed, g.ledger],
        seed=g.seed_wallets,
    ),
    Case(
        g.transfer,
        lambda w: g.transfer(w.db, "evt_1", "ada", "grace", 100),
        on=SQL_AND_PSYCOPG2,
        tables=[g.wallets, g.processed, g.ledger, g.outbox],
        seed=g.seed_wallets,
    ),
    Case(
        g.mark_outbox_sent, lambda w: g.mark_outbox_sent(w.db, "hello"), tables=[g.outbox], seed=g.seed_outbox
    ),
    Case(
        g.settle_payment,
        lambda w: g.settle_payment(w.db, 1, "ada"),
        tables=[g.payments, g.wallets, g.ledger],
        seed=g.seed_payments,
    ),
    Case(
        g.capture_payment,
        lambda w: g.capture_payment(w.db, 2),
        tables=[g.payments, g.wallets, g.ledger],
        seed=g.seed_payments,
    ),
    Case(
        g.close_payment,
        lambda w: g.close_payment(w.db, 2),
        tables=[g.payments, g.wallets],
        seed=g.seed_payments,
    ),
    Case(
        g.log_out_everywhere,
        lambda w: g.log_out_everywhere(w.db, "ada"),
        tables=[g.logins],
        seed=g.seed_logins,
    ),
    Case(
        g.replace_readings,
        lambda w: g.replace_readings(w.db, "north", [3, 4, 4], "r7"),
        tables=[g.stations, g.readings],
        seed=g.seed_stations,
    ),
    # Of two at once, one may be told that it could not be serialised, and comes again.
    Case(g.grant_coupon, lambda w: g.grant_coupon(w.db, "ada"), tables=[g.coupons], notes=("IDM401",)),
    Case(
        g.enrol,
        lambda w: g.enrol(w.db, 7, "math", "2026"),
        tables=[g.enrolments, g.course_sizes],
        seed=g.seed_courses,
    ),
    Case(
        [g.enrol, g.count_enrolments],
        lambda w: (g.enrol(w.db, 7, "math", "2026"), g.count_enrolments(w.db, "math")),
        tables=[g.enrolments, g.course_sizes],
        seed=g.seed_courses,
        name="enrol_and_count",
    ),
    Case(
        g.subscribe_with_audit,
        lambda w: g.subscribe_with_audit(w.db, "ada@example.org"),
        tables=[g.subscribers, g.audit],
        options={"ignore": ["db.audit_log"]},
    ),
    Case(
        g.greet,
        lambda w: g.greet(w.db, "ada"),
        tables=[g.visitors],
        seed=g.seed_visitors,
        options={"ignore": ["visitors.visits"]},
    ),
    Case(
        [g.subscribe, g.is_subscribed],
        lambda w: (g.subscribe(w.db, "ada@example.org"), g.is_subscribed(w.db, "ada@example.org")),
        tables=[g.subscribers],
        name="subscribe_and_look",
    ),
    # -- guarded by a lock or a version
    Case(
        k.ship_under_row_lock,
        lambda w: k.ship_under_row_lock(w.db, 1, "A-1"),
        on=(POSTGRESQL, PSYCOPG2, MARIADB),
        tables=[k.Customer, k.Shipment],
        seed=k.seed_customers,
    ),
    Case(
        k.ship_under_write_lock,
        lambda w: k.ship_under_write_lock(w.db, 1, "A-1"),
        tables=[k.Customer, k.Shipment],
        seed=k.seed_customers,
    ),
    Case(
        k.ship_under_advisory_lock,
        lambda w: k.ship_under_advisory_lock(w.db, 1, "A-1"),
        on=(POSTGRESQL, PSYCOPG2),
        tables=[k.Customer, k.Shipment],
        seed=k.seed_customers,
    ),
    Case(
        k.look_under_advisory_lock,
        lambda w: k.look_under_advisory_lock(w.db, 1, "A-1"),
        on=(POSTGRESQL, PSYCOPG2),
        tables=[k.Customer, k.Shipment],
        seed=k.seed_customers,
    ),
    Case(
        k.ship_if_advisory_lock_is_free,
        lambda w: k.ship_if_advisory_lock_is_free(w.db, 1, "A-1"),
        on=(POSTGRESQL,),
        tables=[k.Customer, k.Shipment],
        seed=k.seed_customers,
        # Who loses the race fails; the queue comes again.
        notes=("IDM401",),
    ),
    Case(
        k.ship_under_named_lock,
        lambda w: k.ship_under_named_lock(w.db, 1, "A-1"),
        on=(MARIADB,),
        tables=[k.Customer, k.Shipment],
        seed=k.seed_customers,
    ),
    Case(
        k.ship_serializable,
        lambda w: k.ship_serializable(w.db, 1, "A-1"),
        on=(POSTGRESQL, PSYCOPG2, MARIADB),
        tables=[k.Customer, k.Shipment],
        seed=k.seed_customers,
    ),
    Case(
        k.ship_immediate,
        lambda w: k.ship_immediate(w.db, 1, "A-1"),
        on=(SQLITE,),
        tables=[k.Customer, k.Shipment],
        seed=k.begin_immediately,
    ),
    Case(
        k.credit_account,
        lambda w: k.credit_account(w.db, 1, "p-1", 50),
        on=SQL_AND_PSYCOPG2,
        tables=[k.Account],
        seed=k.seed_account,
        # Who loses the race fails; the queue comes again.
        notes=("IDM401",),
    ),
    Case(
        k.credit_by_hand,
        lambda w: k.credit_by_hand(w.db, 1, "p-1", 50),
        tables=[k.Account],
        seed=k.seed_account,
    ),
    Case(k.work_off_tasks, lambda w: k.work_off_tasks(w.db), on=SERVERS, tables=[k.Task], seed=k.seed_tasks),
    Case(
        k.rebuild_totals,
        lambda w: k.rebuild_totals(w.db, "t"),
        on=(POSTGRESQL,),
        tables=[k.Task],
        seed=k.seed_tasks,
    ),
    # -- sessions
    Case(
        s.store_batch,
        lambda w: (s.store_batch("spring", ["tea", "milk"]), s.store_batch("autumn", ["rum"])),
        uses="sessions",
        on=SQL_AND_PSYCOPG2,
        tables=[s.Batch, s.Item],
        seed=s.bind_sessions,
    ),
    Case(
        s.store_batch_scoped,
        lambda w: s.store_batch_scoped("spring", ["tea", "milk"]),
        uses="scoped",
        tables=[s.Batch, s.Item],
        seed=s.bind_sessions,
    ),
    Case(
        s.store_batch_with,
        lambda w: s.store_batch_with(w.extra["session"], "spring", ["tea", "milk"]),
        uses="session",
        tables=[s.Batch, s.Item],
        seed=s.hand_in_session,
    ),
    Case(
        s.store_batch_with_core,
        lambda w: s.store_batch_with_core(w.db, "spring", ["tea", "milk", "rum"]),
        tables=[s.Batch, s.Item],
    ),
    Case(
        s.store_batch_returning,
        lambda w: s.store_batch_returning(w.db, "spring", ["tea", "milk", "rum"]),
        on=SQL_AND_PSYCOPG2,
        tables=[s.Batch, s.Item],
    ),
    Case(
        s.store_batch_patiently,
        lambda w: s.store_batch_patiently(w.db, "spring", ["tea", "milk"]),
        tables=[s.Batch, s.Item],
    ),
    Case(
        s.add_missing_items,
        lambda w: s.add_missing_items(w.db, "spring", ["tea", "milk"]),
        tables=[s.Batch, s.Item],
    ),
    Case(s.relabel, lambda w: s.relabel(w.db, "spring"), tables=[s.Batch, s.Item], seed=s.seed_batch),
    Case(
        s.store_batch_or_fail_later,
        lambda w: s.store_batch_or_fail_later(w.db, "spring", ["tea"]),
        tables=[s.Batch, s.Item],
    ),
    # -- schemas
    Case(
        c.add_product,
        lambda w: c.add_product(w.db, "tea", 4),
        on=SQL_AND_PSYCOPG2,
        tables=[c.products, c.product_history],
        seed=c.create_trigger,
    ),
    Case(
        c.discard_product,
        lambda w: c.discard_product(w.db, "milk"),
        tables=[c.products, c.product_history],
        seed=c.create_trigger,
    ),
    Case(c.store_sample, lambda w: c.store_sample(w.db, "new"), tables=[c.samples], seed=c.seed_samples),
    Case(
        c.repaint_sample,
        lambda w: c.repaint_sample(w.db, "old Ünïcode ' %"),
        tables=[c.samples],
        on=SQL_AND_PSYCOPG2,
        seed=c.seed_samples,
    ),
    Case(
        c.store_exotic,
        lambda w: c.store_exotic(w.db, "new"),
        on=(POSTGRESQL, PSYCOPG2),
        tables=[c.exotic],
        seed=c.seed_exotic,
    ),
    Case(
        c.retire_exotic,
        lambda w: c.retire_exotic(w.db, "old"),
        on=(POSTGRESQL, PSYCOPG2),
        tables=[c.exotic],
        seed=c.seed_exotic,
    ),
    Case(
        c.write_receipt, lambda w: c.write_receipt(w.db, "A-1"), on=(POSTGRESQL,), seed=c.create_view_schema
    ),
    Case(
        c.define_word,
        lambda w: c.define_word(w.db, "new", "a word"),
        on=(SQLITE,),
        seed=c.create_without_rowid,
    ),
    # -- Redis
    Case(r.publish_price, lambda w: r.publish_price(w.redis, "tea", 250), uses="redis", on=PAIRS),
    Case(
        r.index_product,
        lambda w: r.index_product(w.redis, 7, ["green", "tea"], {"name": "Grüner Tee", "cents": "250"}),
        uses="redis",
        on=PAIRS,
    ),
    Case(r.replace_ranking, lambda w: r.replace_ranking(w.redis, ["ada", "grace"]), uses="redis", on=PAIRS),
    Case(r.forget_user, lambda w: r.forget_user(w.redis, 1), uses="redis", on=PAIRS, seed=r.seed_users),
    Case(r.touch_session, lambda w: r.touch_session(w.redis, 1), uses="redis", on=PAIRS, seed=r.seed_users),
    Case(
        r.count_sale,
        lambda w: (r.count_sale(w.redis, "s-1", 250), r.count_sale(w.redis, "s-2", 250)),
        uses="redis",
        on=PAIRS,
    ),
    Case(
        r.count_sale_registered,
        lambda w: r.count_sale_registered(w.redis, "s-1", 250),
        uses="redis",
        on=PAIRS,
    ),
    Case(
        r.book_seat, lambda w: r.book_seat(w.redis, "b-1", "XY1"), uses="redis", on=PAIRS, seed=r.seed_seats
    ),
    Case(r.record_event, lambda w: r.record_event(w.redis, "till", 17, "sold"), uses="redis", on=PAIRS),
    Case(r.start_visit, lambda w: r.start_visit(w.redis, "ada"), uses="redis", on=PAIRS),
    Case(r.remember_result, lambda w: r.remember_result(w.redis, "6*7", "42"), uses="redis", on=PAIRS),
    Case(r.count_members, lambda w: r.count_members(w.redis), uses="redis", on=PAIRS, seed=r.seed_users),
    Case(
        r.publish_twice_patiently,
        lambda w: r.publish_twice_patiently(w.redis, "tea", 2),
        uses="redis",
        on=PAIRS,
    ),
    Case(
        r.publish_article,
        lambda w: r.publish_article(w.db, w.redis, "hello", "Hello"),
        uses="db redis",
        on=PAIRS,
        tables=[r.articles],
        # The cache is left empty when Redis is away, by the job's own choice.
        notes=("IDM403",),
    ),
    Case(
        r.index_article,
        lambda w: r.index_article(w.db, w.redis, "hello", "Hello"),
        uses="db redis",
        on=PAIRS,
        tables=[r.articles],
    ),
    Case(
        r.grant_tokens_locked,
        lambda w: r.grant_tokens_locked(w.db, w.redis, "ada", "g-1", 10),
        uses="db redis",
        on=PAIRS,
        tables=[r.accounts, r.grants],
        seed=r.seed_token_accounts,
        # A crash leaves the lock until it expires.
        notes=("IDM401", "IDM402"),
    ),
    Case(
        r.grant_tokens_leased,
        lambda w: r.grant_tokens_leased(w.db, w.redis, "ada", "g-1", 10),
        uses="db redis",
        on=PAIRS,
        tables=[r.accounts, r.grants],
        seed=r.seed_token_accounts,
        notes=("IDM401", "IDM402"),
    ),
    Case(
        r.grant_tokens_and_tell,
        lambda w: r.grant_tokens_and_tell(w.db, w.redis, "ada", "g-1", 10),
        uses="db redis",
        on=PAIRS,
        tables=[r.accounts],
        seed=r.seed_token_accounts,
    ),
    # -- outside
    Case(o.put_profile, lambda w: o.put_profile(7, "Ada"), uses="", on=(SQLITE,), around=o.api),
    Case(
        o.delete_profile,
        lambda w: (w.extra["gone"].clear(), o.delete_profile(7)),
        uses="",
        on=(SQLITE,),
        around=o.api,
    ),
    Case(o.charge, lambda w: o.charge(w.db, "A-1", 900), on=SQL, tables=[o.sent_orders], around=o.api),
    Case(
        o.charge_with_httpx,
        lambda w: o.charge_with_httpx(w.extra["client"], "A-1", 900),
        uses="",
        on=(SQLITE,),
        seed=o.httpx_client,
    ),
    Case(
        o.send_receipt,
        lambda w: o.send_receipt(w.extra["port"], "A-1", "ada@example.org"),
        uses="",
        on=(SQLITE,),
        around=o.mail_server,
    ),
    Case(
        o.write_report,
        lambda w: o.write_report(w.db, w.folder, "2026-01"),
        uses="db folder",
        on=PAIRS,
        tables=[o.sent_orders],
        seed=o.seed_files,
        # A crash leaves the temporary file.
        notes=("IDM402",),
    ),
    Case(
        o.export_json,
        lambda w: o.export_json(w.folder, "new", [1, 2]),
        uses="folder",
        on=(SQLITE,),
        seed=o.seed_files,
        # Two that write the same temporary file: whose rename comes second finds it gone, and is tried again.
        notes=("IDM401", "IDM402"),
    ),
    Case(
        o.prune_exports, lambda w: o.prune_exports(w.folder), uses="folder", on=(SQLITE,), seed=o.seed_files
    ),
    Case(
        o.ship_and_notify,
        lambda w: o.ship_and_notify(w.db, w.extra["queue"], "A-1"),
        uses="db redis",
        on=PAIRS,
        tables=[o.sent_orders],
        seed=o.make_queue,
    ),
    Case(
        o.refund,
        lambda w: o.refund(w.db, w.gateway, "A-1"),
        uses="db gateway",
        tables=[o.sent_orders],
        seed=o.seed_sent_order,
    ),
    Case(
        o.relay_outbox,
        lambda w: o.relay_outbox(w.db, w.gateway),
        uses="db gateway",
        tables=[o.sent_orders],
        seed=o.seed_sent_order,
    ),
    # -- deliveries that meet
    Case(
        v.claim_row_first,
        lambda w: v.claim_row_first(w.db, 7),
        on=SQL_AND_PSYCOPG2,
        tables=[v.orders, v.shipments, v.claims],
        seed=v.seed_order,
    ),
    Case(
        v.claim_row_in_savepoint,
        lambda w: v.claim_row_in_savepoint(w.db, 7),
        tables=[v.orders, v.shipments, v.claims],
        seed=v.seed_order,
        # Not SQLite: see quality.torn.savepoint_is_the_transaction.
        on=(POSTGRESQL, PSYCOPG2, MARIADB),
    ),
    Case(
        v.claim_row_if_new,
        lambda w: v.claim_row_if_new(w.db, 7),
        on=SQL_AND_PSYCOPG2,
        tables=[v.orders, v.shipments, v.claims],
        seed=v.seed_order,
    ),
    Case(
        v.claim_by_status,
        lambda w: v.claim_by_status(w.db, 7),
        on=SQL_AND_PSYCOPG2,
        tables=v.SHOP,
        seed=v.seed_order,
    ),
    Case(
        v.claim_by_returning,
        lambda w: v.claim_by_returning(w.db, 7),
        on=(SQLITE, MEMORY, POSTGRESQL, PSYCOPG2),
        tables=v.SHOP,
        seed=v.seed_order,
    ),
    Case(
        v.move_to_archive,
        lambda w: v.move_to_archive(w.db, 1),
        tables=[v.inbox, v.archive],
        seed=v.seed_inbox,
    ),
    Case(
        v.transfer_with_outbox,
        lambda w: v.transfer_with_outbox(w.db, 7, "ada", "grace", 100),
        tables=[v.orders, v.balances, v.outbox],
        seed=v.seed_balances,
    ),
    Case(
        v.start_plan,
        lambda w: v.start_plan(w.db, "ada"),
        on=(SQLITE, MEMORY, POSTGRESQL),
        tables=[v.plans],
        seed=v.seed_plans,
    ),
    Case(v.number_invoice, lambda w: v.number_invoice(w.db, 7), tables=[v.invoices]),
    Case(
        v.get_or_create_contact,
        lambda w: v.get_or_create_contact(w.db, "ada@example.org", "Rome"),
        tables=[v.Contact, v.Address],
        # SQLite: two that have read and want to write cannot both wait.
        notes=("IDM401",),
    ),
    Case(
        v.lock_then_look,
        lambda w: v.lock_then_look(w.db, 7),
        on=(POSTGRESQL, PSYCOPG2, MARIADB),
        tables=v.SHOP,
        seed=v.seed_order,
    ),
    Case(
        v.refresh_under_lock,
        lambda w: v.refresh_under_lock(w.db, 1),
        on=(POSTGRESQL, PSYCOPG2, MARIADB),
        tables=[v.Parcel],
        seed=v.seed_parcel,
    ),
    Case(
        v.retry_stale_version,
        lambda w: v.retry_stale_version(w.db, 1),
        on=SQL_AND_PSYCOPG2,
        tables=[v.Parcel],
        seed=v.seed_parcel,
    ),
    Case(
        v.leave_it_to_the_other,
        lambda w: v.leave_it_to_the_other(w.db, 7),
        on=(POSTGRESQL, PSYCOPG2, MARIADB),
        tables=v.SHOP,
        seed=v.seed_order,
    ),
    Case(
        v.come_back_later,
        lambda w: v.come_back_later(w.db, 7),
        on=(POSTGRESQL, PSYCOPG2, MARIADB),
        tables=v.SHOP,
        seed=v.seed_order,
    ),
    Case(
        v.skip_what_is_locked,
        lambda w: v.skip_what_is_locked(w.db, 7),
        on=(POSTGRESQL, PSYCOPG2, MARIADB),
        tables=v.SHOP,
        seed=v.seed_order,
    ),
    Case(
        v.ship_under_session_lock,
        lambda w: v.ship_under_session_lock(w.db, 7),
        on=(POSTGRESQL, PSYCOPG2),
        tables=v.SHOP,
        seed=v.seed_order,
    ),
    Case(
        v.ship_if_nobody_does,
        lambda w: v.ship_if_nobody_does(w.db, 7),
        on=(POSTGRESQL, PSYCOPG2),
        tables=v.SHOP,
        seed=v.seed_order,
    ),
    Case(
        v.ship_under_get_lock,
        lambda w: v.ship_under_get_lock(w.db, 7),
        on=(MARIADB,),
        tables=v.SHOP,
        seed=v.seed_order,
    ),
    Case(
        v.retry_serialization_failure,
        lambda w: v.retry_serialization_failure(w.db, 7),
        on=(POSTGRESQL, PSYCOPG2, MARIADB),
        tables=[v.shipments],
    ),
    Case(
        v.retry_deadlock,
        lambda w: v.retry_deadlock(w.db, 7),
        on=(POSTGRESQL, PSYCOPG2, MARIADB),
        tables=v.SHOP,
        seed=v.seed_order,
    ),
    Case(
        v.compare_version_in_where,
        lambda w: v.compare_version_in_where(w.db, 7),
        tables=v.SHOP,
        seed=v.seed_order,
    ),
    Case(
        v.take_over_when_lease_is_over,
        lambda w: v.take_over_when_lease_is_over(w.db, 7),
        tables=v.SHOP,
        seed=v.seed_order,
        notes=("IDM401",),
    ),
    Case(
        v.charge_under_key,
        lambda w: v.charge_under_key(w.db, w.gateway, 7),
        uses="db gateway",
        tables=v.SHOP,
        seed=v.seed_order,
    ),
    Case(
        v.ship_under_redis_lock,
        lambda w: v.ship_under_redis_lock(w.db, w.redis, 7),
        uses="db redis",
        on=PAIRS,
        tables=v.SHOP,
        seed=v.seed_order,
        notes=("IDM402",),
    ),
    Case(
        v.ship_under_claim,
        lambda w: v.ship_under_claim(w.db, w.redis, 7),
        uses="db redis",
        on=PAIRS,
        tables=[v.orders, v.shipments, v.claims],
        seed=v.seed_order,
        notes=("IDM401", "IDM402"),
    ),
    Case(
        v.ship_as_first,
        lambda w: v.ship_as_first(w.db, w.redis, 7),
        uses="db redis",
        on=PAIRS,
        tables=v.SHOP,
        seed=v.seed_order,
        notes=("IDM401", "IDM402"),
    ),
    Case(
        v.mark_after_work,
        lambda w: v.mark_after_work(w.db, w.redis, 7),
        uses="db redis",
        on=PAIRS,
        tables=v.SHOP,
        seed=v.seed_order,
    ),
    Case(
        v.note_and_work,
        lambda w: v.note_and_work(w.db, w.redis, 7),
        uses="db redis",
        on=PAIRS,
        tables=v.SHOP,
        seed=v.seed_order,
    ),
    Case(v.pay_in_transaction, lambda w: v.pay_in_transaction(w.redis, "o7", 250), uses="redis", on=PAIRS),
    Case(v.push_if_missing, lambda w: v.push_if_missing(w.redis, "e1"), uses="redis", on=PAIRS),
    Case(v.switch_on, lambda w: v.switch_on(w.redis, 1), uses="redis", on=PAIRS, seed=v.seed_machine),
    Case(
        v.build_then_rename,
        lambda w: v.build_then_rename(w.redis, ["ada", "grace"]),
        uses="redis",
        on=PAIRS,
        notes=("IDM402",),
    ),
    Case(v.ship_scoped, lambda w: v.ship_scoped(7), uses="scoped", tables=v.SHOP, seed=v.bind_scoped),
    Case(
        v.ship_thread_local,
        lambda w: v.ship_thread_local(w.db, 7),
        tables=[v.orders, v.shipments, v.claims],
        seed=v.seed_order,
    ),
    Case(v.ship_in_context, lambda w: v.ship_in_context(w.db, 7), tables=v.SHOP, seed=v.seed_order),
    Case(
        v.ship_under_lock_of_the_process,
        lambda w: v.ship_under_lock_of_the_process(w.db, 7),
        on=(SQLITE,),
        tables=[v.orders, v.shipments, v.claims],
        seed=v.seed_order,
        # Each wait for such a lock takes a second.
        options={"max_trials": 12},
    ),
    Case(
        v.upsert_newer,
        lambda w: v.upsert_newer(w.db, "ada", 700),
        on=(SQLITE, POSTGRESQL),
        tables=[v.orders, v.balances],
        seed=v.seed_balances,
    ),
    # -- with something kept in memory
    Case(
        y.send_with_remembered_label,
        lambda w: (
            y.send_with_remembered_label(w.db, "A-1", "eu"),
            y.send_with_remembered_label(w.db, "A-2", "eu"),
        ),
        tables=[y.parcels, y.zones],
        seed=y.seed_zones,
    ),
    Case(
        y.send_by_lazy_engine,
        lambda w: y.send_by_lazy_engine(_url(w), "A-1"),
        on=PAIRS,
        tables=[y.parcels],
    ),
    Case(
        y.send_by_engine_in_dict,
        lambda w: y.send_by_engine_in_dict(_url(w), "A-1"),
        on=PAIRS,
        tables=[y.parcels],
    ),
    Case(
        y.send_by_memoised_engine,
        lambda w: y.send_by_memoised_engine(_url(w), "A-1"),
        on=PAIRS,
        tables=[y.parcels],
    ),
    Case(
        y.send_by_memoised_settings,
        lambda w: y.send_by_memoised_settings(w.db, "A-1"),
        tables=[y.parcels],
    ),
    Case(y.send_under_a_lock_too, lambda w: y.send_under_a_lock_too(w.db, "A-1"), tables=[y.parcels]),
    Case(
        y.push_as_this_worker,
        lambda w: y.push_as_this_worker(w.redis, "e1"),
        uses="redis",
        on=PAIRS,
    ),
    Case(y.count_what_was_handled, lambda w: _counted(w), tables=[y.parcels]),
]


def _url(world: World) -> str:
    return str(world.db.url.render_as_string(hide_password=False))


def _counted(world: World) -> None:
    y.count_what_was_handled(world.db, "A-1")
    assert set(y.handled()) == {"A-1"}
