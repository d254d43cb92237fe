"""Scripts of one session; the model-server test is in test_delta_model.py."""

from __future__ import annotations

import pytest

from kmesh.core.delta import LATE, Session, describe
from kmesh.core.events import (
    ADDRESS,
    AUTHORIZATION,
    Applied,
    Commit,
    Envelope,
    Node,
    Offer,
    Request,
)
from kmesh.core.held import TypeStatistics
from kmesh.core.model import (
    Identity,
    Profile,
    Resource,
    Workload,
)
from tests.core.sessions import (
    NODE,
    OTHER,
    Connected,
    Expired,
    Lost,
    Part,
    bad,
    first,
    play,
    policy,
    service,
    started,
    workload,
)


def test_first_requests_are_wildcards_with_the_node_address_first() -> None:
    assert (
        play(Session(NODE)) >> Connected() << Request(ADDRESS, NODE) << Request(AUTHORIZATION, NODE)
    )


def test_parts_are_offered_at_once_and_acked_when_applied() -> None:
    session, script = started()
    a, b = workload("c//Pod/ns/a"), service("ns/b.example")
    assert (
        script
        >> Part((a,))
        << Offer(ADDRESS, (a,))
        >> Part((b,))
        << Offer(ADDRESS, (b,))
        >> Envelope(ADDRESS, "n1")
        << Commit(ADDRESS, 1, complete=True)
        >> Applied(0, {})
        >> Applied(1, {})
        << Request(ADDRESS, nonce="n1")
        >> Applied(1, {})
    )
    assert session.held(ADDRESS) == {a.name: a, b.name: b}
    assert session.statistics()[ADDRESS] == TypeStatistics(
        held=2, responses=1, resources=2, bytes=10
    )


def test_an_empty_first_answer_is_complete_and_the_second_is_not() -> None:
    session, script = started()
    assert (
        script
        >> Envelope(ADDRESS, "n1")
        << Commit(ADDRESS, 1, complete=True)
        >> Envelope(AUTHORIZATION, "n2")
        << Commit(AUTHORIZATION, 2, complete=True)
        >> Envelope(ADDRESS, "n3")
        << Commit(ADDRESS, 3, complete=False)
    )
    assert not session.synced
    session.applied(Applied(1, {}))
    assert not session.synced
    session.applied(Applied(2, {}))
    assert session.synced


def test_bad_resources_are_nacked_by_name_and_good_ones_applied() -> None:
    session, script = started()
    a, c = workload("a"), workload("c")
    assert (
        script
        >> Part((a, bad("b", "no uid"), c, bad("d", "port 70000")))
        << Offer(ADDRESS, (a, c))
        >> Envelope(ADDRESS, "n1")
        << Commit(ADDRESS, 1, complete=True)
        >> Applied(1, {"c": "table full"})
        << Request(ADDRESS, nonce="n1", error="b: no uid; d: port 70000; c: table full")
        # Rejected by us: not held. Refused by the kernel: claimed without a version.
        >> Lost()
        >> Connected()
        << first(ADDRESS, a="v1", c="")
        << first(AUTHORIZATION)
    )
    counts = session.statistics()[ADDRESS]
    assert (counts.nacks, counts.rejected) == (1, 2)


def test_the_last_good_version_stays_held_when_a_newer_one_is_bad() -> None:
    session, script = started()
    a = workload("a")
    assert (
        script
        >> Part((a,))
        << Offer(ADDRESS, (a,))
        >> Envelope(ADDRESS, "n1")
        << Commit(ADDRESS, 1, complete=True)
        >> Part((bad("a", "no"),))
        >> Envelope(ADDRESS, "n2")
        << Commit(ADDRESS, 2, complete=False)
        >> Applied(2, {})
        << Request(ADDRESS, nonce="n1")
        << Request(ADDRESS, nonce="n2", error="a: no")
    )
    assert session.held(ADDRESS) == {"a": a}


def test_answers_are_in_order_and_a_failure_belongs_to_the_newest_response_with_the_name() -> None:
    _, script = started()
    old, new, other, good = workload("a"), workload("a", "v2"), workload("b"), policy("ns/p")
    assert (
        script
        >> Part((old, other))
        << Offer(ADDRESS, (old, other))
        >> Envelope(ADDRESS, "n1")
        << Commit(ADDRESS, 1, complete=True)
        >> Part((good,))
        << Offer(AUTHORIZATION, (good,))
        >> Envelope(AUTHORIZATION, "n2")
        << Commit(AUTHORIZATION, 2, complete=True)
        >> Part((new,))
        << Offer(ADDRESS, (new,))
        >> Envelope(ADDRESS, "n3")
        << Commit(ADDRESS, 3, complete=False)
        >> Applied(3, {"a": "table full", "old": "failed long ago"})
        << Request(ADDRESS, nonce="n1")
        << Request(AUTHORIZATION, nonce="n2")
        << Request(ADDRESS, nonce="n3", error="a: table full")
    )


def test_a_name_both_sent_and_removed_is_removed() -> None:
    session, script = started()
    a = workload("a")
    assert (
        script
        >> Part((a,))
        << Offer(ADDRESS, (a,))
        >> Envelope(ADDRESS, "n1", removed=("a", "never-seen"))
        << Offer(ADDRESS, (), ("a", "never-seen"))
        << Commit(ADDRESS, 1, complete=True)
    )
    assert session.held(ADDRESS) == {}
    assert session.statistics()[ADDRESS].removed == 2


def test_an_unknown_type_is_counted_and_acked() -> None:
    session, script = started()
    assert (
        script
        >> Part((bad("x", "unknown type"),))
        >> Envelope(OTHER, "n1")
        << Request(OTHER, nonce="n1")
        >> Envelope(ADDRESS, "n2")
        << Commit(ADDRESS, 1, complete=True)
        >> Applied(1, {})
        << Request(ADDRESS, nonce="n2")
    )
    assert session.unknown_responses == 1


def test_resources_of_a_type_nobody_asked_for_are_counted() -> None:
    session = Session(NODE, types=(ADDRESS,))
    assert session.part([policy("ns/p")]) == []
    assert session.unknown_resources == 1
    with pytest.raises(KeyError):
        session.held(AUTHORIZATION)


def test_a_response_cut_in_the_middle_is_held_but_never_answered() -> None:
    session, script = started()
    a, b = workload("a"), workload("b", "v7")
    assert (
        script
        >> Part((a, bad("c")))
        << Offer(ADDRESS, (a,))
        >> Lost()
        >> Connected()
        << first(ADDRESS, a="v1")
        << first(AUTHORIZATION)
        >> Part((b,))
        << Offer(ADDRESS, (b,))
        >> Envelope(ADDRESS, "m1")
        << Commit(ADDRESS, 1, complete=True)
        >> Applied(1, {})
        << Request(ADDRESS, nonce="m1")
    )
    assert set(session.held(ADDRESS)) == {"a", "b"}


def test_nonces_of_an_older_stream_are_never_answered() -> None:
    _, script = started()
    assert (
        script
        >> Envelope(ADDRESS, "n1")
        << Commit(ADDRESS, 1, complete=True)
        >> Lost()
        >> Applied(1, {})
        >> Connected()
        << first(ADDRESS)
        << first(AUTHORIZATION)
        >> Applied(1, {})
        >> Expired(1)
    )


def test_a_late_response_is_nacked_once_and_answered_again_when_applied() -> None:
    session, script = started()
    assert (
        script
        >> Part((bad("b", "no uid"),))
        >> Envelope(ADDRESS, "n1")
        << Commit(ADDRESS, 1, complete=True)
        >> Envelope(AUTHORIZATION, "n2")
        << Commit(AUTHORIZATION, 2, complete=True)
        >> Expired(1)
        << Request(ADDRESS, nonce="n1", error=f"{LATE}; b: no uid")
        >> Expired(2)
        << Request(AUTHORIZATION, nonce="n2", error=LATE)
        >> Expired(2)
        >> Applied(2, {})
        << Request(ADDRESS, nonce="n1", error="b: no uid")
        << Request(AUTHORIZATION, nonce="n2")
    )
    assert session.statistics()[ADDRESS].nacks == 2


def test_claims_are_cut_to_the_request_limit_and_the_rest_is_swept() -> None:
    session = Session(NODE, max_request_bytes=200)
    session.connected()
    held = [workload(f"pod-{index}") for index in range(10)]
    session.part(held)
    session.finish(Envelope(ADDRESS, "n1"))
    claims = session.connected()[0].initial_versions
    # 150 bytes after the margin; 12 + 5 + 2 each.
    assert claims == {f"pod-{index}": "v1" for index in range(7)}
    assert "pod-8" not in claims
    again = workload("pod-7", "v2")
    assert (
        play(session)
        >> Part((again, bad("pod-8")))
        << Offer(ADDRESS, (again,))
        >> Envelope(ADDRESS, "m1", removed=("pod-0",))
        << Offer(ADDRESS, (), ("pod-0", "pod-9"))
        << Commit(ADDRESS, 2, complete=True)
    )
    # 7 was answered, 8 was answered badly (its good version stays), 9 is gone.
    assert set(session.held(ADDRESS)) == {f"pod-{index}" for index in range(1, 9)}
    assert session.statistics()[ADDRESS].swept == 1


def test_claims_are_cut_at_the_same_place_however_many_there_are() -> None:
    limit = 80_000
    session = Session(NODE, max_request_bytes=limit)
    session.connected()
    held = [workload(f"pod-{index:06}") for index in range(5_000)]
    session.part(held)
    claims = session.connected()[0].initial_versions
    # 12 + 10 + 2 each of the 60,000 that the margin leaves.
    assert list(claims) == [item.name for item in held[:2_500]]


def test_names_that_are_not_ascii_count_with_all_their_bytes() -> None:
    session = Session(NODE, max_request_bytes=200)
    session.connected()
    session.part([workload("\N{SNOWMAN}" * 30), workload("b")])
    assert dict(session.connected()[0].initial_versions) == {"\N{SNOWMAN}" * 30: "v1"}
    session.part([workload("c" * 200)])
    assert len(session.connected()[0].initial_versions) == 1


def test_policies_are_claimed_without_a_version() -> None:
    session, _ = started()
    session.part([policy("ns/p")])
    assert session.connected()[1].initial_versions == {"ns/p": ""}


def test_very_long_errors_are_cut_and_say_so() -> None:
    rejected = {f"name-{index}": "x" * 100 for index in range(5_000)}
    text = describe(rejected)
    assert len(text) < 140_000
    listed = text.count("name-")
    assert text.endswith(f"; and {5_000 - listed} more")


def test_a_playbook_mismatch_shows_the_difference() -> None:
    with pytest.raises(AssertionError, match=r"\+<< Request") as caught:
        assert play(Session(NODE)) >> Connected() << Request(ADDRESS, NODE)
    assert AUTHORIZATION in str(caught.value)


def test_a_resource_that_names_itself_otherwise_is_rejected_by_name() -> None:
    session = Session(Node("n", "", {}))
    session.connected()
    row = Workload("Kubernetes//Pod/a/x", Identity(), Profile(), (), ())
    good = Resource("Kubernetes//Pod/a/x", "1", b"", row)
    bad = Resource("Kubernetes//Pod/a/y", "1", b"", row)
    offers = session.part([good, bad])
    assert [offer.upserts for offer in offers] == [(good,)]
    session.finish(Envelope(ADDRESS, "1"))
    (answer,) = session.applied(Applied(1, {}))
    assert "Kubernetes//Pod/a/y: it says of itself" in answer.error
    assert list(session.held(ADDRESS)) == ["Kubernetes//Pod/a/x"]


def test_what_was_refused_is_remembered_until_it_is_mended_or_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = Session(NODE)
    session.part([workload("w"), bad("a", "first"), bad("b")])
    assert session.refused == {}, "until the response is whole"
    session.finish(Envelope(ADDRESS, "1", ()))
    session.part([bad("a", "second")])
    session.finish(Envelope(ADDRESS, "2", ()))
    assert session.refused["a"] == "second"
    session.part([workload("a")])
    session.finish(Envelope(ADDRESS, "3", ("b",)))
    assert session.refused == {}
    monkeypatch.setattr("kmesh.core.delta.MOST_REFUSED", 2)
    session.part([bad(name) for name in "cdef"])
    session.finish(Envelope(ADDRESS, "4", ()))
    assert set(session.refused) == {"c", "d"}
