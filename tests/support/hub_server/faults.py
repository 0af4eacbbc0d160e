"""Fault injection: error statuses, dropped connections, a server that dies at a given byte."""

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Action = Callable[[], None]


class Cut(ConnectionError):
    """Signals that the connection must be dropped now."""


@dataclass
class Gate:
    """Holds a request until it is opened."""

    method: str
    path: re.Pattern[str]
    reached: threading.Event = field(default_factory=threading.Event)
    _open: threading.Event = field(default_factory=threading.Event)

    def open(self) -> None:
        self._open.set()

    def pass_through(self) -> None:
        self.reached.set()
        assert self._open.wait(120), f"nobody opened the gate of {self.method} {self.path.pattern}"


@dataclass
class _Status:
    method: str
    path: re.Pattern[str]
    status: int
    times: int
    headers: Mapping[str, str]
    message: str


class Faults:
    """The faults to inject. Thread-safe; `clear` removes all of them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.clear()

    def clear(self) -> None:
        """Remove all faults and reset the counters."""
        with self._lock:
            self._statuses: list[_Status] = []
            self._gates: list[Gate] = []
            self._cut_at: int | None = None
            self._stays_dead = False
            self._action: Action | None = None
            self.num_bytes = 0
            """Bytes transferred since the last `clear`, in both directions."""
            self.is_dead = False
            self.quota: int | None = None
            """Maximum bytes of LFS files in a repository."""

    def answer(
        self,
        method: str,
        path: str,
        status: int,
        *,
        times: int = 1,
        headers: Mapping[str, str] | None = None,
        message: str = "",
    ) -> None:
        """Fail the next `times` requests whose path matches the regular expression."""
        with self._lock:
            rule = _Status(method, re.compile(path), status, times, headers or {}, message)
            self._statuses.append(rule)

    def hold(self, method: str, path: str) -> Gate:
        """Hold the next request whose path matches until the gate is opened."""
        gate = Gate(method, re.compile(path))
        with self._lock:
            self._gates.append(gate)
        return gate

    def cut_at(self, num_bytes: int, *, dead: bool = False, action: Action | None = None) -> None:
        """Drop the connection that carries the byte `num_bytes` from now, in either direction.

        Args:
            num_bytes: Bytes to transfer before the cut.
            dead: Whether to drop all other connections too, until `clear`.
            action: Called before the cut.
        """
        with self._lock:
            self.num_bytes, self._cut_at = 0, num_bytes
            self._stays_dead, self._action = dead, action

    # Queries by the server

    def status_for(self, method: str, path: str) -> _Status | None:
        with self._lock:
            for rule in self._statuses:
                if rule.times > 0 and rule.method == method and rule.path.search(path):
                    rule.times -= 1
                    return rule
        return None

    def wait_at_gate(self, method: str, path: str) -> None:
        with self._lock:
            gate = next(
                (g for g in self._gates if g.method == method and g.path.search(path)), None
            )
            if gate:
                self._gates.remove(gate)
        if gate:
            gate.pass_through()

    def room(self, wanted: int) -> int:
        """Return how many of `wanted` bytes may pass before the cut; raise Cut if none may."""
        with self._lock:
            if self.is_dead:
                raise Cut
            if self._cut_at is None:
                return wanted
            left = self._cut_at - self.num_bytes
            if left > 0:
                return min(wanted, left)
            self._cut_at, self.is_dead = None, self._stays_dead
            action = self._action
        if action:
            action()
        raise Cut

    def count(self, num_bytes: int) -> None:
        with self._lock:
            self.num_bytes += num_bytes
