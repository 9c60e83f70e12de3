"""What a statement reads and writes, told from its text, its values and the schema, before it runs.

The text is parsed once (sqlglot); a `Footprints` turns it into a plan against the schema once; per call only the
values are bound. Whatever is not understood, or acts behind the statement's back (triggers, a function of the
user's own, an unknown table), is the whole store on both planes.

Within a transaction, a write touches the LOCK plane. Locks are exclusive (a write of the LOCK plane) or shared (a
read of it: a foreign key's parent row, a unique index's entry of a row that is merely updated). A commit publishes the
written rows on the DATA plane, and gives up each lock in the way in which it was held: two shared ones never
kept each other waiting, so neither taking nor giving them up needs an order.
"""

from idemfuzz.adapters.sqlalchemy.footprint.footprints import Books, Footprints, Isolation, isolation_of
from idemfuzz.adapters.sqlalchemy.footprint.plan import literal

__all__ = ["Books", "Footprints", "Isolation", "isolation_of", "literal"]
