"""One transaction for all that a delivery commits: each COMMIT but the last is put off.

Instead of a COMMIT, the connection gets a savepoint, to which a later ROLLBACK goes back: what was committed stays, what
came after it goes. Until the delivery ends, whoever in it asks the pool for a connection gets this one. A delivery that does not
end well never commits: its connection is dropped, as that of any other.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

__all__ = ["Joining"]

_SAVEPOINT = "idemfuzz_one"


class Joining:
    """The transactions that are put off, by delivery."""

    def __init__(self) -> None:
        self.uses = 0
        """How many deliveries had something to put off."""
        self._held: dict[Hashable, Any] = {}
        self._proxies: dict[Hashable, Any] = {}

    def holds(self, connection: Any) -> bool:
        """Whether an earlier commit of this connection is put off."""
        return any(held is connection for held in self._held.values())

    def put_off(self, scope: Hashable, connection: Any, proxy: Any) -> None:
        """In place of a COMMIT. ``proxy`` is what the pool has given out, if it has."""
        if self.holds(connection):
            _execute(connection, f"RELEASE SAVEPOINT {_SAVEPOINT}")
        else:
            self.uses += 1
            self._held[scope] = connection
            if proxy is not None:
                # The pool counts who uses it, and takes it back after the last one: that is `release`.
                proxy._counter += 1
                self._proxies[scope] = proxy
        _execute(connection, f"SAVEPOINT {_SAVEPOINT}")

    def roll_back(self, connection: Any) -> None:
        """In place of a ROLLBACK: to where the last COMMIT would have been."""
        _execute(connection, f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")

    def again(self, scope: Hashable) -> Any:
        """The pool's proxy for the connection that a delivery has begun with; None if there is none, or it is gone."""
        proxy = self._proxies.get(scope)
        if proxy is None or not proxy.is_valid:
            return None
        proxy._counter += 1
        return proxy

    def connection_of(self, scope: Hashable) -> Any:
        """The connection with what a delivery has put off, or None."""
        return self._held.get(scope)

    def release(self, scope: Hashable) -> None:
        """It is committed: the pool may have the connection back."""
        self._held.pop(scope, None)
        proxy = self._proxies.pop(scope, None)
        if proxy is not None and proxy.is_valid:
            proxy.close()

    def forget(self, connection: Any) -> None:
        """The connection is gone, with all that was put off."""
        for scope in [scope for scope, held in self._held.items() if held is connection]:
            del self._held[scope]
            self._proxies.pop(scope, None)


def _execute(connection: Any, sql: str) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute(sql)
    finally:
        cursor.close()
