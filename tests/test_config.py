from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmesh.config import Config, parse, table
from kmesh.core.options import Target
from kmesh.core.values import FAIL_OPEN
from kmesh.errors import ConfigError
from kmesh.options import UNAVAILABLE


def config(*argv: str, **environ: str) -> Config:
    return parse(argv, environ)


def test_flag_before_environment_before_default() -> None:
    assert config().node_name == ""
    assert config(NODE_NAME="env").node_name == "env"
    assert config("--node-name", "flag", NODE_NAME="env").node_name == "flag"
    assert config("--node-name=flag").node_name == "flag"


def test_the_first_of_several_variables_counts_and_empty_ones_do_not() -> None:
    assert config(NETWORK="a", ISTIO_META_NETWORK="b").network == "a"
    assert config(NETWORK="", ISTIO_META_NETWORK="b").network == "b"
    assert config(INSTANCE_IP="").instance_ip == "1.1.1.1"


@pytest.mark.parametrize(
    ("environ", "target"),
    [
        ({}, Target(True, "localhost", 15012)),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, Target(True, "istiod.istio-system.svc", 15012)),
        ({"XDS_ADDRESS": ""}, None),
        ({"XDS_ADDRESS": "http://127.0.0.1:15010"}, Target(False, "127.0.0.1", 15010)),
        ({"XDS_ADDRESS": "istiod:15012"}, Target(True, "istiod", 15012)),
        ({"XDS_ADDRESS": "https://[::1]:15012"}, Target(True, "::1", 15012)),
    ],
)
def test_control_plane_address(environ: dict[str, str], target: Target | None) -> None:
    found = parse([], environ)
    assert found.xds_address == target
    assert (found.xds() is None) == (target is None)


def test_an_empty_address_flag_disables_xds() -> None:
    assert config("--xds-address", "", XDS_ADDRESS="istiod:15012").xds() is None


def test_target_as_text() -> None:
    assert str(Target(True, "::1", 1)) == "https://[::1]:1"
    assert str(Target(False, "istiod", 15010)) == "http://istiod:15010"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--mode", "other"], ["--mode", "'other'", "dual-engine"]),
        (["--mode", "kernel-native"], ["--mode", "not available in this build"]),
        (["--max-vips", "0"], ["--max-vips", "1 to 67108864"]),
        (["--max-vips", "many"], ["--max-vips", "'many'", "whole number"]),
        (["--segment-rest", "nan"], ["--segment-rest", "0 to 60"]),
        (["--segment-rest", "x"], ["--segment-rest", "seconds"]),
        (["--xds-window", "2MiB"], ["--xds-window", "65535 to 1048576"]),
        (["--xds-window", "x"], ["--xds-window", "KiB"]),
        (["--bpf-fs-path", "sys"], ["--bpf-fs-path", "absolute"]),
        (["--cgroup2-path", "sys"], ["--cgroup2-path", "absolute"]),
        (["--fail-open", "family,nonsense"], ["--fail-open", "strict-no-local", "or all"]),
        (["--log-level", "loud"], ["--log-level", "debug, info, warning, error"]),
        (["--node-name", "a b"], ["--node-name", "blanks"]),
        (["--node-name", "a~b"], ["--node-name", "~"]),
        (["--xds-address", "ftp://a:1"], ["--xds-address", "'ftp'", "https://host:port"]),
        (["--xds-address", "https://a"], ["--xds-address", "host and port"]),
        (["--xds-address", "https://a:1/path"], ["--xds-address", "only scheme"]),
        (["--xds-address", "a:99999"], ["--xds-address", "range"]),
        (["--no-such-flag"], ["--no-such-flag"]),
        (["--node", "abbreviated"], ["--node"]),
        (["--node-name"], ["--node-name"]),
    ],
)
def test_bad_flags_are_named_with_what_is_allowed(argv: list[str], said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(argv, {})
    assert all(part in str(caught.value) for part in said), str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("INSTANCE_IP", "localhost", "IPv4 or IPv6"),
        ("TLS12_ENABLED", "maybe", "true or false"),
        ("ISTIO_METAJSON_LABELS", "{", "JSON"),
        ("XDS_HEADER_authorization", "secret-value", "cannot be set"),
        ("XDS_HEADER_x", "secret-value\n", "printable"),
    ],
)
def test_bad_variables_are_named_and_secrets_are_not(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse([], {name: value})
    assert name in str(caught.value)
    assert said in str(caught.value)
    assert "secret-value" not in str(caught.value)


@pytest.mark.parametrize("flag", UNAVAILABLE)
@pytest.mark.parametrize("form", ["{}", "{}=false", "{} value"])
def test_flags_of_later_builds_are_errors(flag: str, form: str) -> None:
    with pytest.raises(ConfigError, match=f"{flag} is not available in this build"):
        parse(form.format(flag).split(), {})


def test_fail_open() -> None:
    assert config().fail_open == frozenset()
    assert config("--fail-open", "family, waypoint").fail_open == {"family", "waypoint"}
    assert config("--fail-open", "all").fail_open == set(FAIL_OPEN)


def test_node_as_istiod_wants_it() -> None:
    node = config(
        "--node-name",
        "n1",
        INSTANCE_IP="10.0.0.7",
        POD_NAME="kmesh-x",
        POD_NAMESPACE="kmesh-system",
        SERVICE_ACCOUNT="kmesh",
        ISTIO_META_ISTIO_VERSION="1.30",
        ISTIO_META_CLUSTER_ID="east",
        ISTIO_META_NODE_NAME="loses",
        ISTIO_METAJSON_LABELS='{"app": "kmesh"}',
    ).node()
    assert node.id == "ztunnel~10.0.0.7~kmesh-x.kmesh-system~kmesh-system.svc.cluster.local"
    assert node.metadata == {
        "NAME": "kmesh-x",
        "NAMESPACE": "kmesh-system",
        "INSTANCE_IPS": "10.0.0.7",
        "NODE_NAME": "n1",
        "CLUSTER_ID": "east",
        "SERVICE_ACCOUNT": "kmesh",
        "ISTIO_VERSION": "1.30",
        "LABELS": {"app": "kmesh"},
    }


def test_xds_options() -> None:
    found = config(
        "--xds-window=1MiB",
        "--xds-keepalive=5s",
        ALT_XDS_HOSTNAME="istiod",
        XDS_ROOT_CA="SYSTEM",
        TLS12_ENABLED="true",
        AUTH_TOKEN="",
        XDS_HEADER_X_Region="west",
        CLUSTER_ID="east",
    ).xds()
    assert found is not None
    assert (found.window, found.keepalive, found.server_name) == (1 << 20, 5.0, "istiod")
    assert (found.root_ca, found.tls12, found.token) == ("SYSTEM", True, "")
    assert (found.headers, found.cluster) == ((("x_region", "west"),), "east")


def test_the_longest_request() -> None:
    assert config().xds_max_request == 4 << 20
    assert config("--xds-max-request=64MiB").xds_max_request == 64 << 20
    assert config(XDS_MAX_REQUEST="16MiB").xds_max_request == 16 << 20
    with pytest.raises(ConfigError, match=r"--xds-max-request.*from 65536 to 268435456"):
        config("--xds-max-request=1KiB")


def test_help_shows_every_option_with_its_environment_and_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"], {})
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for _, option in table():
        for name in (option.flag, *option.env):
            assert name in shown
        if isinstance(option.default, str) and option.default:
            assert option.default in shown
    assert not any(flag in shown for flag in UNAVAILABLE)


def test_every_default_passes_its_own_parser() -> None:
    found = config()
    assert found.max_slots == 4_000_000
    assert (found.segment_rest, found.apply_deadline) == (0.5, 10.0)
    assert (found.run_dir, found.cgroup2_path) == ("/run/kmesh", "")


@given(st.dictionaries(st.sampled_from(["A", "B_C", "LABELS"]), st.text(max_size=5)))
def test_metadata_variables_keep_their_values(metadata: dict[str, str]) -> None:
    environ = {f"ISTIO_META_{name}": value for name, value in metadata.items()}
    environ |= {f"ISTIO_METAJSON_J_{name}": json.dumps(value) for name, value in metadata.items()}
    wanted = metadata | {f"J_{name}": value for name, value in metadata.items()}
    found = parse([], environ).node().metadata
    assert {name: found[name] for name in wanted} == wanted
