"""The admin API as an OpenAPI 3.1 description: one row for each path and method."""

from __future__ import annotations

from typing import Any, NamedTuple

JSON, TEXT, LINES, HTML = "application/json", "text/plain", "application/x-ndjson", "text/html"
Schema = dict[str, Any]
OBJECT: Schema = {"type": "object"}
ROWS: Schema = {"type": "array", "items": OBJECT}
ANY: Schema = {}
STRING: Schema = {"type": "string"}
BOOLEANS = ["1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"]
PROBLEM: Schema = {
    "type": "object",
    "required": ["code", "error", "next_step"],
    "properties": {
        "code": {"type": "string", "pattern": "^KM[0-9]{4}$"},
        "error": STRING,
        "next_step": STRING,
    },
}
SWITCH: Schema = {
    "type": "object", "required": ["enable"], "properties": {"enable": {"type": "boolean"}},
}  # fmt: skip


class Parameter(NamedTuple):
    """One parameter of a query."""

    name: str
    schema: Schema
    required: bool = False


class Operation(NamedTuple):
    """One path with its method. ``kinds`` are the content types of a good answer."""

    method: str
    path: str
    summary: str
    parameters: tuple[Parameter, ...] = ()
    schema: Schema = OBJECT
    kinds: tuple[str, ...] = (JSON,)
    body: Schema | None = None


_FILTERS = (
    Parameter("namespace", STRING),
    Parameter("name", STRING),
    Parameter("limit", {"type": "integer", "minimum": 0, "maximum": 99_999_999}),
    Parameter("since", {"type": "integer", "minimum": 0, "maximum": 99_999_999}),
)
_ENABLE = Parameter("enable", {"type": "string", "enum": BOOLEANS}, required=True)
_SECONDS = {"type": "number", "exclusiveMinimum": 0, "maximum": 30}


def _switch(path: str, what: str, *more: Parameter) -> tuple[Operation, Operation]:
    return (
        Operation("get", path, f"Whether {what}.", (), SWITCH),
        Operation("post", path, f"Switch whether {what}.", (_ENABLE, *more), ANY, ()),
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation("get", "/", "The page.", (), ANY, (HTML,)),
    Operation("get", "/version", "The build of this agent."),
    Operation("get", "/state", "Everything that the agent knows of itself."),
    Operation("get", "/openapi.json", "This description."),
    Operation("get", "/audit", "What the last audit of the kernel found."),
    Operation("post", "/audit", "Compare the kernel with what is planned now, and repair it."),
    Operation("get", "/debug/ready", "That somebody answers.", (), STRING, (TEXT,)),
    Operation(
        "get", "/debug/config_dump/dual-engine",
        "Workloads, services and policies as the control plane wants them, in upstream's shape.",
        _FILTERS, OBJECT, (JSON, TEXT),
    ),
    Operation(
        "get", "/debug/config_dump/bpf/dual-engine",
        "The records in the kernel with names for ids, in upstream's shape.",
        _FILTERS[:-1], OBJECT, (JSON, TEXT),
    ),
    Operation(
        "get", "/config_dump", "The same as ztunnel shows it.", _FILTERS, OBJECT, (JSON, TEXT)
    ),
    Operation(
        "get", "/debug/resources", "Name, version and bytes of every resource.", _FILTERS, OBJECT,
        (JSON, TEXT),
    ),
    Operation(
        "get", "/debug/loggers", "Names of the loggers, or the level of one.",
        (Parameter("name", STRING),), ANY,
    ),
    Operation(
        "post", "/debug/loggers", "Set the level of a logger.", (), STRING, (TEXT,),
        {
            "type": "object",
            "required": ["name", "level"],
            "properties": {
                "name": STRING,
                "level": {"enum": ["error", "warn", "info", "debug", "0", "1", "2", "3"]},
            },
        },
    ),
    Operation("get", "/debug/planned", "Every row as the writer believes that it is written."),
    Operation("get", "/debug/queues", "What waits, and what was dropped."),
    Operation("get", "/debug/tasks", "The tasks of the loop and where they wait."),
    Operation("get", "/debug/maps", "The kernel's tables and their fill.", (), ROWS),
    Operation("get", "/debug/links", "The pinned links and their programs.", (), ROWS),
    Operation(
        "get", "/debug/profile", "Where time or memory goes, for some seconds.",
        (Parameter("kind", {"enum": ["cpu", "memory", "loop"]}), Parameter("seconds", _SECONDS)),
        ANY, (JSON, TEXT),
    ),
    *_switch(
        "/accesslog", "connections are logged when they end",
        Parameter("namespace", {"type": "string", "minLength": 1}),
    ),
    *_switch("/workload_metrics", "connections are counted"),
    *_switch("/connection_metrics", "connections are reported while they are open"),
    *_switch("/monitoring", "connections are counted, reported and logged"),
    *_switch("/authz", "policies are enforced"),
    Operation("get", "/switches", "Every switch of this build."),
    Operation(
        "post", "/switches", "Throw some switches; the answer is how all are then.", (), OBJECT,
        (JSON,), OBJECT,
    ),
    Operation(
        "get", "/top", "Services and workloads of this node with their rates.",
        (
            Parameter("limit", {"type": "integer", "minimum": 0, "maximum": 1000}),
            Parameter("window", {"type": "number", "minimum": 0, "maximum": 60}),
        ),
    ),
    Operation(
        "get", "/top/service", "One service with its endpoints.",
        (Parameter("key", STRING, required=True),),
    ),
    Operation(
        "get", "/why", "Where a connection goes, why, and who lets it in.",
        (
            Parameter("source", STRING, required=True),
            Parameter("destination", STRING, required=True),
            Parameter("port", {"type": "integer", "minimum": 0, "maximum": 65535}),
        ),
    ),
    Operation(
        "get", "/avoid", "Endpoints that clients of this node avoid, as they took no connection."
    ),
    Operation(
        "get", "/diff", "Every difference between the layers, a JSON object a line; the sum last.",
        (Parameter("limit", {"type": "integer", "minimum": 0, "maximum": 99_999_999}),),
        ANY, (LINES,),
    ),
    Operation(
        "get", "/events", "Connections and denials as they happen, a JSON object a line.",
        (
            Parameter("pod", STRING),
            Parameter("service", STRING),
            Parameter("denied", {"enum": ["1", "0"]}),
            Parameter("limit", {"type": "integer", "minimum": 1, "maximum": 999_999_999}),
        ),
        ANY, (LINES,),
    ),
)  # fmt: skip


def describe(version: str, more: tuple[Operation, ...] = ()) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, dict[str, Any]] = {}
    for each in (*OPERATIONS, *more):
        paths.setdefault(each.path, {})[each.method] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "kmesh admin API",
            "version": version,
            "description": "What one node's agent tells and lets switch.",
        },
        "paths": paths,
    }


def _operation(each: Operation) -> dict[str, Any]:
    content = {kind: {"schema": each.schema if kind == JSON else STRING} for kind in each.kinds}
    good: dict[str, Any] = {"description": "As asked."}
    if content:
        good["content"] = content
    problem = {JSON: {"schema": PROBLEM}}
    found: dict[str, Any] = {
        "summary": each.summary,
        "operationId": f"{each.method}{each.path}".replace("/", "_").replace(".", "_"),
        "responses": {
            "200": good,
            "4XX": {"description": "A problem of the request.", "content": problem},
            "503": {"description": "Not now.", "content": problem},
        },
    }
    if each.parameters:
        found["parameters"] = [
            {"name": one.name, "in": "query", "required": one.required, "schema": one.schema}
            for one in each.parameters
        ]
    if each.body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": each.body}}}
    return found
