"""The three-way merge, and what two clients and a server come to by it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_steadytext.memory.domain import feed
from pg_steadytext.memory.domain.merge import Conflict, Side, State, changed, merge, merge_tags, plain, rebuild
from pg_steadytext.memory.domain.problems import Problem
from tests.memory.offline import EMPTY, Offline, Simulated

WORDS = st.sampled_from(["", "a", "b", "c"])
TAGS = st.lists(st.sampled_from("stuvw"), unique=True, max_size=4)
MEMBERS = st.dictionaries(st.sampled_from("xyz"), st.sampled_from([0, 1, True, "1", None]), max_size=3)
SIDES = st.sampled_from(["mine", "theirs"])
SOME = {
    "body": WORDS, "title": st.none() | WORDS, "category": st.none() | WORDS, "tags": TAGS, "provenance": MEMBERS,
    "pinned": st.booleans(),
}  # fmt: skip
PATCHES = st.fixed_dictionaries({}, optional=SOME)
STATES = st.builds(State, st.fixed_dictionaries(SOME).map(lambda fields: {**EMPTY, **fields}), st.booleans())


def is_same(one: State, other: State) -> bool:
    """Tell whether they are one memory."""
    return one.deleted == other.deleted and not changed(one.fields, other.fields)


@settings(deadline=None)
@given(STATES, STATES)
def test_when_one_side_changed_nothing_the_other_is_taken(base: State, other: State) -> None:
    for merged in (merge(base, other, base), merge(base, base, other), merge(base, other, other)):
        assert merged.conflicts == {}
        assert is_same(merged.state, other) or (merged.state.deleted and other.deleted)


@settings(deadline=None)
@given(STATES, STATES, STATES)
def test_the_sides_may_change_places(base: State, one: State, other: State) -> None:
    here, there = merge(base, one, other), merge(base, other, one)
    assert bool(here.conflicts) == bool(there.conflicts)
    if not here.conflicts and not here.state.deleted:
        assert is_same(here.state, there.state)
    for name, conflict in here.conflicts.items():
        if name in there.conflicts:
            twin = there.conflicts[name]
            assert (conflict.base, conflict.mine, conflict.theirs) == (twin.base, twin.theirs, twin.mine)


@settings(deadline=None)
@given(STATES, STATES, STATES, SIDES)
def test_a_side_taken_is_the_same_whichever_way_it_is_named(base: State, one: State, other: State, side: Side) -> None:
    turned: Side = "theirs" if side == "mine" else "mine"
    here, there = merge(base, one, other, side).state, merge(base, other, one, turned).state
    assert here.deleted == there.deleted
    assert here.deleted or is_same(here, there)


@given(TAGS, TAGS, TAGS)
def test_tags_keep_what_either_added_and_lose_what_either_removed(
    base: list[str], mine: list[str], theirs: list[str]
) -> None:
    merged = set(merge_tags(base, mine, theirs))
    kept_by_both = {*base} & {*mine} & {*theirs}
    assert merged == kept_by_both | ({*mine} - {*base}) | ({*theirs} - {*base})


def test_a_conflict_names_the_three_values() -> None:
    base, mine, theirs = (State({**EMPTY, "body": body}) for body in ("b", "m", "t"))
    merged = merge(base, mine, theirs)
    assert merged.conflicts == {"body": Conflict("b", "m", "t")}
    assert merged.state.fields["body"] == "t"
    assert merge(base, mine, theirs, "mine").state.fields["body"] == "m"


def test_true_is_not_one_and_moments_are_compared_and_not_their_spelling() -> None:
    one, other = (State({**EMPTY, "provenance": {"n": value}}) for value in (1, True))
    assert changed(one.fields, other.fields) == ["provenance"]
    spelled = [plain({"expires_at": text})["expires_at"] for text in ("2030-01-01T02:00:00+02:00", "2030-01-01T00:00Z")]
    assert spelled[0] == spelled[1]
    for text in ("0001-01-01T00:00:00+14:00", "10000-01-01T00:00:00+00:00", "0044-03-15T00:00:00+00:00 BC"):
        assert plain({"expires_at": text}) == {"expires_at": text}


@settings(deadline=None)
@given(STATES, st.lists(STATES, max_size=5))
def test_every_former_version_is_rebuilt_from_the_history(first: State, others: list[State]) -> None:
    versions = [first, *others]
    history: list[dict[str, list[Any]]] = []
    for before, after in zip(versions, others, strict=False):
        names = changed(before.fields, after.fields)
        history.append({name: [before.fields[name], after.fields[name]] for name in names})
    for number, version in enumerate(versions):
        assert changed(version.fields, rebuild(versions[-1].fields, history[number:][::-1])) == []


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["create", "update", "update", "update", "delete", "restore"]), st.integers(0, 9), PATCHES
    ),
    max_size=8,
)


def act(client: Offline, acts: list[tuple[str, int, dict[str, Any]]]) -> None:
    """Do what is possible of it."""
    for kind, number, fields in acts:
        live = sorted(name for name, state in client.view.items() if not state.deleted)
        away = sorted(name for name, state in client.view.items() if state.deleted)
        if kind == "create":
            client.create(fields)
        elif kind == "restore" and away:
            client.restore(away[number % len(away)])
        elif kind == "update" and live:
            client.update(live[number % len(live)], fields)
        elif kind == "delete" and live:
            client.delete(live[number % len(live)])


def shared_start(*names_and_policies: tuple[str, Side]) -> tuple[Simulated, list[Offline]]:
    """Two memories that everybody knows."""
    server = Simulated()
    first = Offline("z", "mine")
    first.create({"body": "one", "tags": ["s", "t"]})
    first.create({"body": "two", "provenance": {"x": 1}})
    first.sync(server)
    clients = [Offline(name, policy) for name, policy in names_and_policies]
    for client in clients:
        client.sync(server)
    return server, clients


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), ACTS), max_size=6), SIDES, SIDES)
def test_two_offline_clients_and_the_server_end_with_the_same_memories(
    turns: list[tuple[int, list[tuple[str, int, dict[str, Any]]]]], one: Side, other: Side
) -> None:
    server, clients = shared_start(("a", one), ("b", other))
    for who, acts in turns:
        act(clients[who], acts)
        act(clients[1 - who], acts[::-1])
        clients[who].sync(server)
    for client in (*clients, clients[0]):
        client.sync(server)
    for client in clients:
        assert client.view.keys() == server.memories.keys()
        for name, kept in server.memories.items():
            assert is_same(client.view[name], kept.state)


@settings(deadline=None)
@given(ACTS, ACTS)
def test_a_client_alone_is_never_in_conflict_with_itself(first: Any, second: Any) -> None:
    server, (client,) = shared_start(("a", "theirs"))
    for acts in (first, second):
        act(client, acts)
        wanted = dict(client.view)
        client.sync(server)
        assert all(is_same(wanted[name], kept.state) for name, kept in server.memories.items())
    assert client.conflicts == 0


# One change or deletion (None) at most of each memory, so that what a client did is what it wants.
ONCE = st.dictionaries(st.integers(0, 1), st.none() | PATCHES, max_size=2)


def act_once(client: Offline, wishes: dict[int, dict[str, Any] | None]) -> None:
    """Change or delete the memories of these numbers."""
    names = sorted(client.view)
    for number, patch in wishes.items():
        if patch is None:
            client.delete(names[number])
        else:
            client.update(names[number], patch)


@settings(deadline=None)
@given(ONCE, ONCE)
def test_without_a_conflict_the_order_of_syncing_does_not_matter(first: Any, second: Any) -> None:
    ends = []
    for order in ((0, 1), (1, 0)):
        server, clients = shared_start(("a", "theirs"), ("b", "theirs"))
        act_once(clients[0], first)
        act_once(clients[1], second)
        for who in order:
            clients[who].sync(server)
        ends.append((clients[0].conflicts + clients[1].conflicts, server.pull()))
    assert ends[0][0] == ends[1][0]
    if not ends[0][0]:
        for name, (_, state) in ends[0][1].items():
            assert state.deleted == ends[1][1][name][1].deleted
            assert state.deleted or is_same(state, ends[1][1][name][1])


@settings(deadline=None)
@given(ONCE, ONCE)
def test_no_change_is_lost_without_a_conflict_that_says_so(first: Any, second: Any) -> None:
    server, clients = shared_start(("a", "mine"), ("b", "theirs"))
    started = {name: state for name, (_, state) in server.pull().items()}
    act_once(clients[0], first)
    act_once(clients[1], second)
    wanted = [dict(client.view) for client in clients]
    clients[0].sync(server)
    clients[1].sync(server)
    if clients[1].conflicts:
        return
    for name, before in started.items():
        state = server.memories[name].state
        for side in (view[name] for view in wanted):
            assert state.deleted or not side.deleted
            for field in changed(before.fields, side.fields):
                if field not in ("tags", "provenance"):
                    assert state.fields[field] == side.fields[field]


@settings(deadline=None)
@given(st.uuids(), st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_a_feeds_cursor_is_read_as_it_was_written(epoch: UUID, after: int, base: int) -> None:
    position = feed.Position(epoch, after, base)
    assert feed.decode(feed.encode(position)) == position


@settings(deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=33).map(lambda raw: raw.hex()))
def test_no_other_text_is_a_feeds_cursor(text: str) -> None:
    with pytest.raises(Problem) as refused:
        feed.decode(text)
    assert refused.value.status == 400
