"""The shop's background jobs, one module each, three variants in each module.

*naive* does the work and nothing else. *mended* adds what the usual advice says: a unique
constraint, a flag in Redis, a transaction id, a look before the leap. *right* holds when it is
delivered twice, by two workers at once, or again after a worker was killed at any point.
"""

from shop.jobs.create_user import create_user_mended, create_user_naive, create_user_right
from shop.jobs.generate_report import generate_report_mended, generate_report_naive, generate_report_right
from shop.jobs.process_payment import process_payment_mended, process_payment_naive, process_payment_right
from shop.jobs.send_email import send_email_mended, send_email_naive, send_email_right
from shop.jobs.update_status import (
    notify_customer,
    update_status_mended,
    update_status_naive,
    update_status_right,
)

__all__ = [
    "create_user_mended",
    "create_user_naive",
    "create_user_right",
    "generate_report_mended",
    "generate_report_naive",
    "generate_report_right",
    "notify_customer",
    "process_payment_mended",
    "process_payment_naive",
    "process_payment_right",
    "send_email_mended",
    "send_email_naive",
    "send_email_right",
    "update_status_mended",
    "update_status_naive",
    "update_status_right",
]
