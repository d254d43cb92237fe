"""What is held of addresses: services as rows, workloads in C, one session over both."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kmesh._native import lib

from kmesh.core.delta import Session
from kmesh.core.events import ADDRESS, Applied, Commit, Envelope, Node, Offer, Request
from kmesh.core.held import Held
from kmesh.core.model import Service, Workload
from kmesh.wire.discovery import Decoder, ResponseReader, encode_request
from kmesh.wire.errors import WireError
from kmesh.wire.gen.istio import workload as wds
from kmesh.wire.held import HeldMesh, passing
from kmesh.wire.mesh import Mesh
from kmesh.wire.parts import Parts
from tests.core.meshes import WEB, uid, workload
from tests.wire import google
from tests.wire.messages import entry, response
from tests.wire.twins import encoded

NODE = Node("n", "", {})
NAMES = tuple("abcdef")


def pod(name: str, version: str = "v1") -> bytes:
    """A workload's entry; its content goes with its version."""
    row = workload(name, "10.1.0.1", of=WEB)
    return entry(encoded(row, version), row.uid, version)


def bad(name: str) -> bytes:
    """A workload's entry that cannot be taken."""
    one = wds.Workload(uid=uid(name), addresses=[b"?"])
    return entry(bytes(wds.Address(workload=one)), uid(name))


def web(version: str = "v1") -> bytes:
    """A service's entry."""
    one = wds.Service(name=version, namespace="default", hostname="web")
    return entry(bytes(wds.Address(service=one)), WEB, version)


class Client:
    """A session, plain or over a mesh, and what it says of responses."""

    def __init__(self, compact: bool, budget: int = 4 << 20) -> None:
        self.mesh = Mesh(Parts()) if compact else None
        held = {ADDRESS: Held() if self.mesh is None else HeldMesh(self.mesh)}
        self.session = Session(NODE, max_request_bytes=budget, held=held)
        self.decoder = Decoder(self.mesh)

    def claims(self) -> Request:
        """The first request of a new stream."""
        return self.session.connected()[0]

    def answer(self, *entries: bytes, removed: tuple[str, ...] = ()) -> tuple[bool, set[str], bool]:
        """(whether anything was offered, names that go, whether it was the first answer)."""
        reader = ResponseReader(self.decoder)
        rows = reader.feed(response(list(entries)))
        reader.finish()
        out = self.session.part(rows) + self.session.finish(Envelope(ADDRESS, "n", removed))
        gone = {name for one in out if isinstance(one, Offer) for name in one.removed}
        news = any(isinstance(one, Offer) and not one.removed for one in out)
        (commit,) = (one for one in out if isinstance(one, Commit))
        return news, gone, commit.complete


def sent(request: Request) -> dict[str, str]:
    """The claims of a request as its bytes have them."""
    got = google.message("envoy.service.discovery.v3.DeltaDiscoveryRequest").FromString(
        encode_request(request)
    )
    return dict(got.initial_resource_versions)


def both(budget: int = 4 << 20) -> tuple[Client, Client]:
    return Client(compact=True, budget=budget), Client(compact=False, budget=budget)


resources = st.one_of(
    st.builds(pod, st.sampled_from(NAMES), st.sampled_from(("v1", "v2"))),
    st.builds(web, st.sampled_from(("v1", "v2"))),
    st.builds(bad, st.sampled_from(NAMES)),
)
gone = st.one_of(st.just(WEB), st.sampled_from(NAMES).map(uid))
answers = st.tuples(
    st.lists(resources, max_size=4),
    st.lists(gone, max_size=2, unique=True),
    st.booleans(),
)


def since_revision(client: Client, revision: int) -> set[str]:
    found = client.session.changes.since(revision)
    assert found is not None
    return set(found)


@given(st.lists(answers, max_size=8))
def test_a_session_holds_alike(script: list[tuple[list[bytes], list[str], bool]]) -> None:
    compact, plain = both()
    revisions = [0]
    for client in (compact, plain):
        client.claims()
    for entries, removed, again in script:
        before = dict(compact.session.held(ADDRESS))
        found = [one.answer(*entries, removed=tuple(removed)) for one in (compact, plain)]
        assert found[0][1:] == found[1][1:]
        held = [dict(one.session.held(ADDRESS)) for one in (compact, plain)]
        assert held[0] == held[1]
        # What came again as it was is no news where workloads are held in C.
        news = {name for name, each in held[0].items() if before.get(name) != each}
        assert bool(news) <= found[0][0] <= found[1][0]
        view = compact.session.held(ADDRESS)
        assert len(view) == len(held[1])
        assert all((name in view) == (name in held[1]) for name in (WEB, *map(uid, NAMES)))
        assert compact.session.refused == plain.session.refused
        counts = [one.session.statistics()[ADDRESS] for one in (compact, plain)]
        assert counts[0] == counts[1]
        for since in revisions:
            changed = [since_revision(one, since) for one in (compact, plain)]
            known = {WEB, *removed, *held[1]}
            assert changed[0] & known <= changed[1] & known
        assert news | set(removed) <= since_revision(compact, revisions[-1])
        revisions.append(compact.session.changes.revision)
        if again:
            claims = [one.claims() for one in (compact, plain)]
            assert dict(claims[0].initial_versions) == dict(claims[1].initial_versions)
            assert len(claims[0].initial_versions) == len(claims[1].initial_versions)
            assert sent(claims[0]) == sent(claims[1]) == dict(claims[1].initial_versions)


@given(st.sets(st.sampled_from((WEB, *map(uid, NAMES)))), st.lists(resources, max_size=6))
def test_what_failed_is_claimed_without_its_version(
    failing: set[str], entries: list[bytes]
) -> None:
    for client in both():
        client.claims()
        client.answer(web(), *entries)
        client.session.applied(Applied(1, dict.fromkeys(failing, "no room")))
        request = client.claims()
        assert sent(request)[WEB] == ("" if WEB in failing else request.initial_versions[WEB])


UNUSUAL = st.sampled_from(
    (
        b"\x22\x01x",  # an alias
        b"\x22\x01\xff",  # one that is no text
        b"\x0a\x02v1",  # its version once more
        b"\x0a\x01\xff",  # a version that is no text
        b"\x1a\x01\xff",  # a name that is none
        b"\x32\x00",  # a time to live
        b"\x12\x00",  # an empty resource, merged with the other
        b"\x0a\x7f",  # cut short
        b"\x38\x01",  # a field that nobody knows
    )
)


@given(st.lists(st.tuples(st.sampled_from(NAMES), UNUSUAL, st.booleans()), max_size=6))
def test_unusual_envelopes_are_judged_the_same_when_they_come_again(
    odd: list[tuple[str, bytes, bool]],
) -> None:
    found = []
    entries = [more + pod(name) if before else pod(name) + more for name, more, before in odd]
    for client in both():
        client.claims()
        client.answer(*map(pod, NAMES))
        client.claims()
        try:
            gone = client.answer(web(), *entries)[1]
        except WireError as error:
            gone = {str(error)}
        found.append((gone, client.session.refused, dict(client.session.held(ADDRESS))))
    assert found[0] == found[1]


def test_claims_are_encoded_as_any_mapping_is() -> None:
    client = Client(compact=True)
    client.claims()
    client.answer(web(), *(pod(f"{name}{i}") for name in NAMES for i in range(300)))
    request = client.claims()
    raw = encode_request(request)
    got = google.message("envoy.service.discovery.v3.DeltaDiscoveryRequest").FromString(raw)
    assert dict(got.initial_resource_versions) == dict(request.initial_versions)
    assert request.initial_versions[uid("a0")] == request.initial_versions[WEB] == "v1"
    assert len(request.initial_versions) == 1801
    assert "unknown" not in request.initial_versions


def test_what_does_not_fit_into_a_request_is_swept_unless_it_is_sent_again() -> None:
    client = Client(compact=True, budget=160)
    client.claims()
    client.answer(web(), *map(pod, NAMES))
    request = client.claims()
    claimed = set(request.initial_versions)
    left = {WEB, *map(uid, NAMES)} - claimed
    assert WEB in claimed
    assert len(left) > 2
    assert len(request.initial_versions) == len(claimed)
    bare = request._replace(initial_versions={})
    assert len(encode_request(request)) - len(encode_request(bare)) <= 160
    kept, refused, *rest = sorted(left)
    again = entry(encoded(workload(kept[-1], "10.1.0.1", of=WEB)), kept, "v1")
    wrong = bad(refused[-1])
    assert client.answer(again, wrong) == (True, set(rest), True)
    assert set(client.session.held(ADDRESS)) == claimed | {kept, refused}
    assert client.session.statistics()[ADDRESS].swept == len(rest)
    client.answer()
    assert set(client.session.held(ADDRESS)) == claimed | {kept, refused}, "swept once"


def test_a_service_and_a_workload_may_share_a_name_until_both_go() -> None:
    client = Client(compact=True)
    client.claims()
    row = workload("a")._replace(uid=WEB)
    client.answer(web(), entry(encoded(row), WEB))
    assert isinstance(client.session.held(ADDRESS)[WEB].value, Service)
    assert client.mesh is not None
    assert isinstance(client.mesh.workloads[WEB], Workload)
    client.answer(removed=(WEB,))
    assert dict(client.session.held(ADDRESS)) == {}
    assert dict(client.mesh.workloads) == {}


def test_who_reads_the_bytes_alone_gets_no_rows() -> None:
    client = Client(compact=True)
    client.claims()
    client.answer(web(), pod("a"), pod("b"))
    view = client.session.held(ADDRESS)
    bare, rows = (passing(view, Workload, Service, rows=rows) for rows in (False, True))
    assert set(bare) == set(rows) == set(view)
    assert dict(rows) == dict(view)
    for name, found in bare.items():
        assert found._replace(value=view[name].value) == view[name]
    first, second = (bare[uid(name)].value for name in "ab")
    assert first is second
    assert isinstance(first, Workload)
    assert bare[WEB] is view[WEB]
    assert bare.get("nobody") is None


def test_what_comes_again_on_a_new_stream_as_it_is_is_heard_of_and_no_news() -> None:
    client = Client(compact=True, budget=160)
    client.claims()
    client.answer(*map(pod, NAMES))
    assert client.mesh is not None
    taken, revision = client.mesh.taken, client.session.changes.revision
    left = {*map(uid, NAMES)} - set(client.claims().initial_versions)
    assert len(left) > 2
    assert client.answer(*map(pod, NAMES)) == (False, set(), True)
    assert client.mesh.taken == taken
    assert since_revision(client, revision) == set()
    assert client.session.statistics()[ADDRESS].resources == 2 * len(NAMES)
    client.claims()
    assert client.answer(pod("a", "v2"), *map(pod, NAMES[1:])) == (True, set(), True)
    assert since_revision(client, revision) == {uid("a")}
    assert client.session.held(ADDRESS)[uid("a")].version == "v2"


def test_another_version_of_the_same_content_is_news() -> None:
    client = Client(compact=True)
    client.claims()
    row = workload("a", "10.1.0.1")
    client.answer(entry(encoded(row), row.uid, "v1"))
    client.claims()
    assert client.answer(entry(encoded(row), row.uid, "v2"))[0]
    assert client.session.held(ADDRESS)[row.uid].version == "v2"


def test_a_refused_resource_that_comes_again_as_it_was_is_settled() -> None:
    client = Client(compact=True)
    client.claims()
    client.answer(pod("a"))
    client.answer(bad("a"))
    assert set(client.session.refused) == {uid("a")}
    client.claims()
    assert client.answer(pod("a"))[0]
    assert client.session.refused == {}


def test_one_that_is_first_held_by_the_response_that_refuses_it_is_settled_by_the_next() -> None:
    client = Client(compact=True)
    client.claims()
    client.answer(pod("a"))
    client.claims()
    client.answer(bad("b"), pod("b"))
    assert set(client.session.refused) == {uid("b")}
    client.answer(pod("b"))
    assert client.session.refused == {}


@given(
    st.lists(st.integers(0, 800), min_size=1, max_size=12),
    st.lists(st.integers(0, 800), max_size=12),
    st.integers(0, 800),
)
def test_the_fewest_bytes_come_again(sizes: list[int], before: list[int], budget: int) -> None:
    client = Client(compact=True)
    client.claims()
    rows = [workload(f"{i:02}", "10.1.0.1") for i in range(max(len(sizes), len(before)))]
    client.answer(
        *(entry(encoded(row, "o" * size), row.uid, "before it changes")
          for row, size in zip(rows, before, strict=False)),
    )  # fmt: skip
    client.answer(removed=tuple(row.uid for row in rows[len(sizes) :]))
    rows = rows[: len(sizes)]
    raws = [encoded(row, "n" * size) for row, size in zip(rows, sizes, strict=True)]
    client.answer(*(entry(raw, row.uid, "v1") for row, raw in zip(rows, raws, strict=True)))
    assert client.mesh is not None
    count = lib.km_mesh_claim(client.mesh.native, budget)
    left = set(client.mesh.unclaimed())
    each = len(b"".join(client.mesh.claims_encoded())) // count if count else budget + 1
    assert count == min(len(sizes), budget // each)
    kept = sorted(len(raw) for row, raw in zip(rows, raws, strict=True) if row.uid not in left)
    # Claims are equally long here; what they save is told apart by a 32nd of a claim, up to 32
    # of them.
    best = sorted(map(len, raws))[len(raws) - count :]
    assert all(one + each // 32 + 1 >= other for one, other in zip(kept, best, strict=True))


@given(st.permutations(range(80)), st.integers(1, 700), st.sets(st.integers(0, 79)))
def test_any_order_cut_anywhere_is_held_again(
    order: list[int], step: int, changed: set[int]
) -> None:
    client = Client(compact=True)
    client.claims()
    client.answer(*(pod(f"{i:02}") for i in range(60)))  # the others are new afterwards
    client.claims()
    assert client.mesh is not None
    version = {i: "v2" if i in changed else "v1" for i in order}
    data = response([pod(f"{i:02}", version[i]) for i in order])
    reader = ResponseReader(client.decoder)
    for at in range(0, len(data), step):
        client.session.part(reader.feed(data[at : at + step]))
    held = client.session.held(ADDRESS)
    assert {name: one.version for name, one in held.items()} == {
        uid(f"{i:02}"): version[i] for i in order
    }
    assert client.mesh.count().again == len(set(range(60)) - changed)


def test_the_last_of_one_name_in_a_response_is_held() -> None:
    client = Client(compact=True)
    client.claims()
    client.answer(pod("a"))
    client.claims()
    client.answer(pod("a", "v2"), pod("a", "v1"))
    assert client.session.held(ADDRESS)[uid("a")].version == "v1"
    client.claims()
    assert client.answer(pod("a", "v1"))[0] is False
