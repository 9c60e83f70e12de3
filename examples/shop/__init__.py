"""A small web shop: five background jobs, each written three times.

Start with `shop.inventory`: the five jobs as data, with what is not idempotent in each, and which
of its three variants survives being delivered more than once. Then read one module of `shop.jobs`
from top to bottom.
"""
