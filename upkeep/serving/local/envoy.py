"""Envoy's configuration. Pure: what stands here is all that the gateway does.

Three files: the bootstrap, which never changes while Envoy runs; the clusters (CDS), one a version and one more for
requests that a tester pinned to it; the routes (RDS), one virtual host a model.

Metrics, at ``/metrics`` of the gateway's port, with the label ``cluster`` = ``<model>-vN-predictor``::

    envoy_upkeep_requests   requests that ended, however they did
    envoy_upkeep_failed     of these: 4xx, 5xx, too late, broken off
    envoy_upkeep_slow_Nms   of these: took N ms or longer (N: rollout.latency)

They are counted when a request ends, not when Envoy flushes its histograms (every five seconds): a snapshot never has
the requests without their slowness. Pinned requests stand under ``<model>-vN-predictor-pinned``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from upkeep import records
from upkeep.serving.manifests import VERSION_HEADER, backend_name

LOOPBACK: Final = "127.0.0.1"
ROUTES: Final = "gateway"
PINNED: Final = "-pinned"
METRICS_PATH: Final = "/metrics"
_METRICS: Final = "upkeep-metrics"
_IDLE_SECONDS = 3
"""Envoy closes an idle connection to a server before the server would (uvicorn: 5 s, ours: 65 s): a request that is
sent into a closing connection is lost."""
_MOST = 10_000
"""Connections and requests at one time."""

_FAILED_FLAGS = ("UF", "UO", "UH", "UT", "UC", "UR", "UPE", "SI", "NC", "UMSDR")
_API = "type.googleapis.com/envoy"


@dataclass(frozen=True, kw_only=True)
class ModelRoute:
    """One model's traffic, as Envoy divides it."""

    model: str
    hosts: tuple[str, ...]
    weights: Mapping[str, int]
    """Version → per cent."""
    timeout: float
    """Of one request, in seconds."""


def cluster_name(model: str, version: str, *, pinned: bool = False) -> str:
    return backend_name(model, version) + (PINNED if pinned else "")


def slow_stat(latency: float) -> str:
    """The counter of requests that took ``latency`` seconds or longer."""
    return f"slow_{_milliseconds(latency)}ms"


def bootstrap(
    *, port: int, admin_port: int, folder: str, access_log: str, latencies: Collection[float]
) -> dict[str, Any]:
    """What Envoy starts with; ``folder`` holds ``clusters.json`` and ``routes.json``."""
    counters = [_counter("requests", None), _counter("failed", _failed())]
    counters += [
        _counter(slow_stat(latency), {"duration_filter": _at_least(_milliseconds(latency), "latency")})
        for latency in sorted(set(latencies))
    ]
    manager = {
        "@type": f"{_API}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "strip_any_host_port": True,
        "generate_request_id": True,
        # A caller's own id is what its labels are joined by, and the answer says it where the caller gave none.
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "rds": {"route_config_name": ROUTES, "config_source": _watched(f"{folder}/routes.json")},
        "access_log": [*counters, _access_log(access_log)],
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_API}.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    return {
        "node": {"id": "upkeep", "cluster": "upkeep"},
        "admin": {
            "address": _address(admin_port),
            # It asks no one who they are: let it answer questions, and not end Envoy or change it.
            "allow_paths": [
                {"exact": "/ready"},
                {"prefix": "/stats"},
                {"prefix": "/config_dump"},
                {"exact": "/reopen_logs"},
                {"exact": "/drain_listeners"},
            ],
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_API}.extensions.resource_monitors.downstream_connections.v3"
                        ".DownstreamConnectionsConfig",
                        "max_active_downstream_connections": str(_MOST),
                    },
                }
            ]
        },
        "dynamic_resources": {"cds_config": _watched(f"{folder}/clusters.json")},
        "static_resources": {
            "clusters": [_cluster(_METRICS, admin_port)],
            "listeners": [
                {
                    "name": "gateway",
                    "address": _address(port),
                    "enable_reuse_port": False,  # else another Envoy could take half of the connections
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ]
                        }
                    ],
                }
            ],
        },
    }


def clusters(ports: Mapping[str, int | None]) -> dict[str, Any]:
    """``clusters.json``; ``ports``: by cluster name, None: nothing answers there, so a request fails at once."""
    made = [_cluster(name, port) | {"@type": f"{_API}.config.cluster.v3.Cluster"} for name, port in ports.items()]
    return _versioned(made)


def routes(models: Sequence[ModelRoute]) -> dict[str, Any]:
    """``routes.json``: by host, then by the header that pins, then by weight."""
    hosts = [_virtual_host(model) for model in models]
    known = ", ".join(host for model in models for host in model.hosts) or "none yet"
    hosts.append(
        {
            "name": "others",
            "domains": ["*"],
            "routes": [
                {
                    "match": {"path": METRICS_PATH},
                    "route": {"cluster": _METRICS, "prefix_rewrite": "/stats/prometheus"},
                },
                {
                    "match": {"prefix": "/"},
                    "direct_response": {
                        "status": 404,
                        "body": {"inline_string": json.dumps({"error": f"no model has this host; there is: {known}"})},
                    },
                },
            ],
        }
    )
    configuration = {
        "@type": f"{_API}.config.route.v3.RouteConfiguration",
        "name": ROUTES,
        "validate_clusters": True,
        "virtual_hosts": hosts,
    }
    return _versioned([configuration])


def read_routes(dump: Any) -> dict[str, dict[str, int]]:
    """Model → version → per cent, from ``/config_dump?resource=dynamic_route_configs``: what Envoy really does."""
    live: dict[str, dict[str, int]] = {}
    for entry in dump.get("configs", ()):
        if entry["route_config"]["name"] != ROUTES:
            continue
        for host in entry["route_config"].get("virtual_hosts", ()):
            weighted = host["routes"][-1].get("route", {}).get("weighted_clusters")
            if weighted is not None:
                start, end = len(f"{host['name']}-"), -len("-predictor")
                live[host["name"]] = {
                    each["name"][start:end]: each.get("weight", 0) for each in weighted.get("clusters", ())
                }
    return live


def _virtual_host(model: ModelRoute) -> dict[str, Any]:
    timeout = {"timeout": f"{model.timeout:.3f}s"}
    return {
        "name": model.model,
        # curl and browsers take every name under localhost for this machine
        "domains": list(dict.fromkeys((*model.hosts, f"{model.model}.localhost"))),
        "routes": [
            *(
                {
                    "match": {
                        "prefix": "/",
                        "headers": [{"name": VERSION_HEADER, "string_match": {"exact": version}}],
                    },
                    "route": {"cluster": cluster_name(model.model, version, pinned=True), **timeout},
                }
                for version in model.weights
            ),
            {
                "match": {"prefix": "/"},
                "route": {
                    "weighted_clusters": {
                        "clusters": [
                            {"name": cluster_name(model.model, version), "weight": weight}
                            for version, weight in model.weights.items()
                        ]
                    },
                    **timeout,
                },
            },
        ],
    }


def _cluster(name: str, port: int | None) -> dict[str, Any]:
    endpoints = [] if port is None else [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": _MOST,
                    "max_pending_requests": _MOST,
                    "max_requests": _MOST,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_API}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": f"{_IDLE_SECONDS}s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def _counter(name: str, only: dict[str, Any] | None) -> dict[str, Any]:
    """A counter of the requests that pass ``only``, for each cluster."""
    return {
        "name": "envoy.access_loggers.stats",
        **({"filter": only} if only else {}),
        "typed_config": {
            "@type": f"{_API}.extensions.access_loggers.stats.v3.Config",
            "stats_scope": {"prefix": "upkeep"},
            "counters": [
                {
                    "stat": {"name": name, "tags": [{"name": "cluster", "value_format": "%UPSTREAM_CLUSTER%"}]},
                    "value_fixed": 1,
                }
            ],
        },
    }


def _failed() -> dict[str, Any]:
    return {
        "or_filter": {
            "filters": [
                {"status_code_filter": _at_least(400, "failed")},
                {"response_flag_filter": {"flags": list(_FAILED_FLAGS)}},
            ]
        }
    }


def _access_log(path: str) -> dict[str, Any]:
    fields = {
        "time": "%START_TIME%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "cluster": "%UPSTREAM_CLUSTER%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "milliseconds": "%DURATION%",
    }
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{_API}.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": {"json_format": fields},
        },
    }


def _at_least(value: int, name: str) -> dict[str, Any]:
    return {"comparison": {"op": "GE", "value": {"default_value": value, "runtime_key": f"upkeep.{name}"}}}


def _watched(path: str) -> dict[str, Any]:
    return {"path_config_source": {"path": path}, "resource_api_version": "V3"}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _versioned(resources: list[dict[str, Any]]) -> dict[str, Any]:
    """With a version that names the content: Envoy tells which one it applied."""
    return {"version_info": records.digest(json.dumps(resources).encode())[:16], "resources": resources}
