"""Who is behind an id or an address, and what is said when nobody knows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kmesh.abi.layout import Enrol
from kmesh.core import addr
from kmesh.core.labels import (
    LABELS,
    NO_SERVICE,
    NOBODY,
    PLACES,
    REMEMBERED,
    UNKNOWN,
    Ends,
    Labels,
    Names,
    Remembered,
    ServiceName,
    label_names,
    values,
)
from kmesh.core.segments import Segments
from kmesh.core.steer import Steering
from kmesh.core.store import Store
from tests.core.meshes import HOME, WEB, service, uid, workload

CLIENT, SERVER = uid("client"), uid("server")
THERE, HERE = addr.parse("10.1.0.1"), addr.parse("10.1.0.2")
NAMES = {
    CLIENT: Names("client", "default", "client-d", "client-c", "v1", "spiffe://x", "c1", "r", "z"),
    SERVER: Names("server", "default", "server-d", "server-c", "v2", "spiffe://y", "c1"),
}
SERVICES = {WEB: ServiceName("web.default", "default", "web")}


def steering() -> Steering:
    made = Steering(Store("", "Kubernetes", "n1"), Segments(64), 64)
    made.put([
        (WEB, service(WEB, "10.9.0.1", ports=((80, 8080), (443, 0)))),
        (SERVER, workload("server", "10.1.0.1", of=WEB, ports=((443, 8443),))),
        (CLIENT, workload("client", "10.1.0.2")),
    ])  # fmt: skip
    return made


def labels(made: Steering) -> Labels:
    return Labels(made, NAMES.get, SERVICES.get)


def enrol(made: Steering, name: str, cookie: int) -> int:
    """Enrolled as the writer would; its id."""
    id_ = made.workload_ids.get(name)
    made.pods.wanted[cookie] = name
    made.pods.rows[cookie] = Enrol(id_, 0, 0, 0)
    return id_


def test_a_client_sees_the_service_that_it_dialled() -> None:
    made = steering()
    id_, web = enrol(made, CLIENT, 1), made.service_ids.get(WEB)
    found = labels(made).ends(True, id_, THERE, web, 0)
    assert found == Ends(True, NAMES[CLIENT], NAMES[SERVER], SERVICES[WEB])


def test_a_server_takes_the_first_service_with_its_port() -> None:
    made = steering()
    id_ = enrol(made, SERVER, 1)
    for port, expected in ((8080, SERVICES[WEB]), (8443, SERVICES[WEB]), (9, NO_SERVICE)):
        found = labels(made).ends(False, id_, HERE, 0, port)
        assert found == Ends(False, NAMES[CLIENT], NAMES[SERVER], expected), port


def test_a_workload_that_was_dialled_by_its_address_has_no_service_at_the_client() -> None:
    made = steering()
    assert labels(made).ends(True, enrol(made, CLIENT, 1), THERE, 0, 0).service == NO_SERVICE


def test_unknown_peers_are_unknown() -> None:
    made = steering()
    found = labels(made).ends(True, enrol(made, CLIENT, 1), addr.parse("192.0.2.1"), 0, 0)
    assert found.destination == NOBODY
    rows = dict(zip(LABELS, values(found, "-"), strict=False))
    unknown = {name for name, value in rows.items() if value == UNKNOWN}
    assert unknown == {name for name in LABELS if name.startswith("destination_")}
    assert rows["connection_security_policy"] == "none"
    assert (rows["reporter"], rows["request_protocol"]) == ("source", "tcp")


def test_ids_that_nobody_has_are_unknown() -> None:
    found = labels(steering()).ends(False, 99, HERE, 99, 80)
    assert (found.destination, found.service) == (NOBODY, NO_SERVICE)


def test_a_pod_that_is_gone_keeps_its_names_for_its_last_connections() -> None:
    made, names = steering(), dict(NAMES)
    found = Labels(made, names.get, SERVICES.get)
    id_ = enrol(made, CLIENT, 1)
    before = found.ends(True, id_, THERE, made.service_ids.get(WEB), 0)
    made.put([(SERVER, None), (CLIENT, None)])
    names.clear()
    made.pods.rows.clear()
    made.pods.wanted.clear()
    for _ in range(REMEMBERED):
        found.turn()
        assert found.ends(True, id_, THERE, made.service_ids.get(WEB), 0) == before
    found.turn()
    assert found.ends(True, id_, THERE, made.service_ids.get(WEB), 0).destination == NOBODY


def test_an_address_that_changes_hands_belongs_to_the_new_one_at_once() -> None:
    made = steering()
    found = labels(made)
    assert found.owner(THERE) == SERVER
    made.put([(SERVER, None), (uid("new"), workload("new", "10.1.0.1"))])
    assert found.owner(THERE) == uid("new")


def test_another_networks_addresses_are_not_ours() -> None:
    made = steering()
    far = workload("far", "10.1.0.9", profile=HOME._replace(network="n2"))
    made.put([(far.uid, far)])
    assert labels(made).owner(addr.parse("10.1.0.9")) == ""


def test_what_is_remembered_is_bounded() -> None:
    found = {n: str(n) for n in range(10)}
    memory = Remembered(found.get, most=3)
    for n in range(10):
        memory.get(n, 0)
    found.clear()
    assert [memory.get(n, 0) for n in range(10)] == [None] * 7 + ["7", "8", "9"]


texts = st.text(max_size=3)
names = st.builds(Names, *[texts] * len(Names._fields))


@given(st.builds(Ends, st.booleans(), names, names, st.builds(ServiceName, texts, texts, texts)))
def test_every_label_has_a_value_and_places_only_when_known(ends: Ends) -> None:
    found = values(ends, "-")
    assert len(label_names(found)) == len(found)
    assert all(found)
    places = (
        ends.source.region, ends.source.zone, ends.destination.region, ends.destination.zone,
    )  # fmt: skip
    assert (len(found) == len(LABELS) + len(PLACES)) == any(places)
