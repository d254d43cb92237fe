"""What is tried on every kernel: features, and the tests in ``tests/kernel`` that show each.

Emulation takes ten times the time, hence a choice. A name stands for all parameters of its test.
"""

from __future__ import annotations

TRIED = {
    "TCP through a VIP, IPv4 and IPv6": (
        "test_sock.py::test_tcp_is_balanced_over_the_endpoints_of_the_vip_s_family",
        "test_sock.py::test_an_ipv6_vip_falls_back_to_an_ipv4_endpoint",
        "test_sock.py::test_the_application_sees_the_vip_it_dialled",
    ),
    "UDP through a VIP": (
        "test_sock.py::test_unconnected_udp_answers_come_from_the_vip",
        "test_sock.py::test_connected_udp_sees_the_vip_and_forgets_it_when_it_connects_elsewhere",
    ),
    "CIDR services": ("test_sock.py::test_the_longest_prefix_wins",),
    "refusal of services without endpoints": (
        "test_sock.py::test_a_service_without_endpoints_refuses",
        "test_load.py::test_the_probe_for_the_errno_agrees_with_the_kernel_s_own_types",
    ),
    "sockets that connect twice": (
        "test_sockets.py::test_a_tcp_socket_that_connects_again_shows_the_second_destination",
    ),
    "programs replaced under pinned links": (
        "test_atomic.py::test_links_are_replaced_and_not_added",
        "test_load.py::test_a_new_daemon_finds_everything_and_writes_nothing",
    ),
    "tables that grow": ("test_load.py::test_maps_made_bigger_keep_their_rows",),
    "pods known by cookie": (
        "test_load.py::test_a_program_tells_the_same_cookies_as_a_socket",
    ),
    "policies for TCP, IPv4 and IPv6": (
        "test_authz.py::test_only_the_allowed_source_comes_in",
        "test_authz.py::test_deny_wins_whatever_came_first",
        "test_authz.py::test_identities_are_known_by_address",
    ),
    "policies for UDP": (
        "test_authz.py::test_datagrams_are_judged",
        "test_authz.py::test_answers_to_unconnected_datagrams_come_in",
    ),
    "open connections ended after a change": (
        "test_authz_open.py::test_an_open_connection_lives_until_it_is_looked_at",
    ),
    "refusal before the server is reached": (
        "test_authz.py::test_a_client_is_refused_before_it_reaches_the_server",
    ),
    "guard on interfaces": (
        "test_ingress.py::test_who_may_come_in_comes_in_and_nobody_else",
        "test_doctor.py::test_links_on_interfaces_are_known_by_trying",
    ),
    "connections counted and recorded": (
        "test_observe.py::test_connections_through_a_vip_are_counted_at_both_ends",
        "test_observe.py::test_a_connection_that_is_reset_tells_so",
    ),
    "the programs' own log": (
        "test_observe_refused.py::test_the_log_says_what_its_level_asks_for",
    ),
    "removal without a trace": (
        "test_removal.py::test_everything_is_gone_and_proven",
        "test_ingress.py::test_uninstall_leaves_nothing_on_interfaces",
    ),
}  # fmt: skip


def chosen() -> list[str]:
    """Arguments of pytest."""
    return [f"tests/kernel/{test}" for each in TRIED.values() for test in each]


def shown_by(classname: str, name: str) -> str | None:
    """The feature that a test of a JUnit report shows; None for others."""
    module, plain = classname.rpartition(".")[2], name.partition("[")[0]
    test = f"{module}.py::{plain}"
    return next((feature for feature, each in TRIED.items() if test in each), None)
