"""The counters of live traffic, read from a Prometheus: a :class:`~upkeep.serving.counters.Counters`.

Counters are raw: how many requests since they began, never a rate, which is no count. What cannot be read is an error
or is missing; it is never zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from upkeep.errors import AccessError, InputError, OutsideError, Where
from upkeep.serving.counters import Counts, Snapshot
from upkeep.serving.trust import trusted
from upkeep.spec.model import ModelSpec, Queries

ENVOY = Queries(
    requests="sum by (envoy_cluster_name) (envoy_cluster_upstream_rq_completed{{{where}}})",
    failed=(
        'sum by (envoy_cluster_name) (envoy_cluster_upstream_rq_xx{{envoy_response_code_class=~"[45]", {where}}})'
        " or 0 * sum by (envoy_cluster_name) (envoy_cluster_upstream_rq_completed{{{where}}})"
    ),
    slow=(
        "sum by (envoy_cluster_name) (envoy_cluster_upstream_rq_time_count{{{where}}})"
        ' - sum by (envoy_cluster_name) (envoy_cluster_upstream_rq_time_bucket{{le="{milliseconds}", {where}}})'
    ),
    scraped="min(timestamp(envoy_cluster_upstream_rq_completed{{{where}}}))",
)
"""What an Envoy gateway exposes of its clusters, named after KServe's services. ``rq_xx`` of class 5 also
holds the answers that the gateway gave itself for a request without one: time-outs, resets, no connection."""
STALE_SECONDS = 60.0
_NAMES = ("requests", "failed", "slow")


class PrometheusSource:
    """:class:`~upkeep.serving.counters.Counters` from a Prometheus' HTTP API, by instant queries: the spec's, or
    :data:`ENVOY`."""

    def __init__(self, url: str, *, timeout: float = 5.0, stale: float = STALE_SECONDS) -> None:
        if not re.match(r"https?://[^/]", url):
            raise InputError(
                f"{url!r} is no http:// or https:// address",
                where=Where(field="monitoring.prometheus"),
                fix="write it like http://127.0.0.1:9090",
            )
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._stale = stale

    def read(self, spec: ModelSpec) -> Snapshot:
        queries = spec.monitoring.queries
        asked = {name: _filled(getattr(queries, name) or getattr(ENVOY, name), spec) for name in (*_NAMES, "scraped")}
        at = self._scraped(asked["scraped"])
        found = {name: self._by_version(asked[name], name, spec) for name in _NAMES}
        if not found["requests"]:
            raise OutsideError(
                f"Prometheus knows no request of {spec.name}",
                where=self._where("requests"),
                fix=f"see that it scrapes the gateway: {asked['requests']}",
            )
        counts = {}
        for version, requests in found["requests"].items():
            for name in ("failed", "slow"):
                if version not in found[name]:
                    raise OutsideError(
                        f"Prometheus counts no {name} requests of {version}, not even 0",
                        where=self._where(name),
                        fix=f"rollout.latency must be a bucket's bound; see monitoring.queries.{name}: {asked[name]}",
                    )
            counts[version] = Counts(
                requests=requests, failed=found["failed"][version], slow=found["slow"][version], active=0
            )
        # a version that comes new is a life of its own: its counter may have been lost and found again
        epoch = f"{self._url} {' '.join(sorted(counts))}"
        return Snapshot(at=datetime.fromtimestamp(at, UTC), epoch=epoch, versions=counts)

    def _scraped(self, query: str) -> float:
        """When the oldest of the counters was scraped. Raises :class:`OutsideError` where that is too long ago."""
        result = self._ask(query, "scraped")
        if not result:
            raise OutsideError(
                "Prometheus has no counter of this model",
                where=self._where("scraped"),
                fix=f"see that it scrapes the gateway: {query}",
            )
        at = min(_number(sample, self._where("scraped")) for sample in result)
        asked = float(result[0]["value"][0])
        if asked - at > self._stale:
            raise OutsideError(
                f"Prometheus scraped the counters {asked - at:.0f} s ago",
                where=self._where("scraped"),
                fix="see its page of targets: the gateway's must be up",
            )
        return at

    def _by_version(self, query: str, name: str, spec: ModelSpec) -> dict[str, int]:
        counts: dict[str, int] = {}
        for sample in self._ask(query, name):
            version = version_of(sample.get("metric") or {}, spec.name)
            if version is None:
                raise OutsideError(
                    f"no label of a series names a version: {sample.get('metric')}",
                    where=self._where(name),
                    fix=f"give it a label `version`, or one that holds {spec.name}-v1",
                )
            value = _number(sample, self._where(name))
            if value < 0:
                raise OutsideError(f"a counter is below zero: {value}", where=self._where(name), fix="see the query")
            counts[version] = counts.get(version, 0) + round(value)
        return counts

    def _ask(self, query: str, name: str) -> list[dict[str, Any]]:
        import httpx

        where = self._where(name)
        away = "see that Prometheus runs there (monitoring.prometheus), then try again"
        try:
            answer = httpx.get(
                f"{self._url}/api/v1/query", params={"query": query}, timeout=self._timeout, verify=trusted()
            )
        except httpx.HTTPError as error:
            raise OutsideError(
                f"Prometheus does not answer: {error or type(error).__name__}", where=where, fix=away
            ) from error
        try:
            body = answer.json()
        except ValueError:
            body = {}
        said = body.get("error", "") if isinstance(body, dict) else ""
        if answer.status_code in (401, 403):
            raise AccessError(f"Prometheus refused access ({answer.status_code})", where=where, fix="let it be read")
        if answer.status_code in (400, 422):
            raise InputError(
                f"Prometheus does not understand the query: {said}",
                where=where,
                fix=f"correct monitoring.queries.{name}: {query}",
            )
        if answer.status_code != 200 or not isinstance(body, dict) or body.get("status") != "success":
            raise OutsideError(f"Prometheus answered {answer.status_code} {said}".rstrip(), where=where, fix=away)
        data = body.get("data")
        if not isinstance(data, dict) or data.get("resultType") != "vector" or not isinstance(data.get("result"), list):
            raise InputError(
                "the query's answer is no instant vector",
                where=where,
                fix=f"correct monitoring.queries.{name}: {query}",
            )
        return list(data["result"])

    def _where(self, name: str) -> Where:
        return Where(file=self._url, field=f"monitoring.queries.{name}")


def _filled(query: str, spec: ModelSpec) -> str:
    # what stands before the name must not be part of another model's
    where = f'envoy_cluster_name=~"(.*[^0-9A-Za-z-])?{spec.name}-v[0-9]+-predictor.*"'
    try:
        return query.format(
            where=where,
            model=spec.name,
            namespace=spec.serving.namespace,
            seconds=f"{spec.rollout.latency:g}",
            milliseconds=f"{spec.rollout.latency * 1000:g}",
        )
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            f"the query's braces make no sense: {error}",
            where=Where(field="monitoring.queries"),
            fix="write PromQL's own braces twice ({{ }}); known are {model}, {namespace}, {seconds}, {milliseconds}",
        ) from error


def version_of(labels: Mapping[str, str], model: str) -> str | None:
    """``v12``, from the label ``version`` or from a service's name in any label."""
    if re.fullmatch(r"v[1-9][0-9]*", labels.get("version", "")):
        return labels["version"]
    pattern = re.compile(rf"(?<![0-9A-Za-z-]){re.escape(model)}-(v[1-9][0-9]*)(?![0-9A-Za-z])")
    found = {match[1] for value in labels.values() if (match := pattern.search(value))}
    return found.pop() if len(found) == 1 else None


def _number(sample: Mapping[str, Any], where: Where) -> float:
    try:
        value = float(sample["value"][1])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise OutsideError("a sample has no value", where=where, fix="see the query") from error
    if not math.isfinite(value):
        raise OutsideError(
            f"Prometheus answered {sample['value'][1]}: that is no count", where=where, fix="see the query's divisions"
        )
    return value
