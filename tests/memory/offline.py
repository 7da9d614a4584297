"""A client that works while it is away, and a server of its kind without HTTP, to show what syncing comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from pg_steadytext.memory.domain.merge import FIELDS, Side, State, changed, rebuild, settle

Fields = Mapping[str, Any]
EMPTY: dict[str, Any] = {
    **dict.fromkeys(FIELDS), "body": "", "tags": [], "provenance": {}, "pinned": False,
}  # fmt: skip


class Server(Protocol):
    """What a client needs of a server."""

    def push(self, operations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Carry out operations; returns their results."""
        ...

    def pull(self) -> dict[str, tuple[int, State]]:
        """Everything that is there: version and state by id."""
        ...


@dataclass
class Kept:
    """A memory on the simulated server, and what each version changed."""

    version: int
    state: State
    history: list[dict[str, list[Any]]] = field(default_factory=list)

    def write(self, state: State) -> None:
        """Make the state the next version, if it is another."""
        names = changed(self.state.fields, state.fields)
        if names or state.deleted != self.state.deleted:
            self.version += 1
            self.history.append({name: [self.state.fields[name], state.fields[name]] for name in names})
            self.state = state


class Simulated:
    """The server's rules, without HTTP and without PostgreSQL."""

    def __init__(self) -> None:
        self.memories: dict[str, Kept] = {}

    def push(self, operations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Carry out operations; returns their results."""
        return [self._one(operation) for operation in operations]

    def pull(self) -> dict[str, tuple[int, State]]:
        """Everything that is there: version and state by id."""
        return {name: (kept.version, kept.state) for name, kept in self.memories.items()}

    def _one(self, operation: dict[str, Any]) -> dict[str, Any]:
        patch = operation.get("fields", {})
        if operation["kind"] == "create":
            self.memories[operation["id"]] = Kept(1, State({**EMPTY, **patch}))
            return {"outcome": "applied"}
        kept = self.memories[operation["id"]]
        base = kept.state
        if operation["kind"] != "restore":
            later = kept.history[operation["base_version"] - 1 :][::-1]
            base = State({**rebuild(kept.state.fields, later), **operation.get("base", {})})
        settled = settle(operation["kind"], patch, base, kept.state, operation.get("resolve"))
        if settled.outcome != "conflict":
            kept.write(settled.merged.state)
        return {"outcome": settled.outcome}


class Offline:
    """A client: what it last knew of the server, and what it has done since."""

    def __init__(self, name: str, policy: Side) -> None:
        self.name = name
        self.policy = policy
        self.known: dict[str, tuple[int, State]] = {}
        self.view: dict[str, State] = {}
        self.pending: list[dict[str, Any]] = []
        self.conflicts = 0
        self._made = 0

    def create(self, fields: Fields) -> str:
        """Make a memory."""
        memory = str(UUID(int=self._number()))
        self.view[memory] = State({**EMPTY, **fields})
        self._do("create", memory, fields=dict(fields))
        return memory

    def update(self, memory: str, fields: Fields) -> None:
        """Change a memory that is not in the trash here."""
        self._do("update", memory, fields=dict(fields), **self._base(memory))
        self.view[memory] = State({**self.view[memory].fields, **fields})

    def delete(self, memory: str) -> None:
        """Put it into the trash."""
        self._do("delete", memory, **self._base(memory))
        self.view[memory] = State(self.view[memory].fields, deleted=True)

    def restore(self, memory: str) -> None:
        """Take it out of the trash."""
        self._do("restore", memory)
        self.view[memory] = State(self.view[memory].fields)

    def sync(self, server: Server) -> None:
        """Push, settle each conflict by the policy, and take over what the server has."""
        waiting = self.pending
        while waiting:
            results = server.push(waiting)
            again: list[dict[str, Any]] = []
            for operation, result in zip(waiting, results, strict=True):
                if result["outcome"] == "conflict":
                    self.conflicts += 1
                    again.append({**operation, "operation": f"{operation['operation']}!", "resolve": self.policy})
                elif result["outcome"] == "refused":
                    assert result["problem"]["status"] == 424, result
                    again.append(operation)
            waiting = again
        self.pending = []
        self.known = server.pull()
        self.view = {name: state for name, (_, state) in self.known.items()}

    def _base(self, memory: str) -> dict[str, Any]:
        version = self.known[memory][0] if memory in self.known else 1
        own: dict[str, Any] = {}
        for earlier in self.pending:
            if earlier["id"] == memory and earlier["kind"] == "update":
                own |= earlier["fields"]
        return {"base_version": version, "base": own}

    def _do(self, kind: str, memory: str, **members: Any) -> None:
        name = f"{self.name}-{self._number()}"
        self.pending.append({"operation": name, "kind": kind, "id": memory, **members})

    def _number(self) -> int:
        self._made += 1
        return int.from_bytes(self.name.encode()) << 64 | self._made
