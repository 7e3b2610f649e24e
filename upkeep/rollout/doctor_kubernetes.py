"""What :mod:`upkeep.rollout.doctor` asks on Kubernetes alone: KServe, the gateway, who applies the folder, rights,
clocks, Kubeflow Pipelines. From a laptop or from a pod: what may not be read is unknown, and never fine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from upkeep.errors import AccessError, UpkeepError
from upkeep.rollout.finding import MOST_SKEW, Finding
from upkeep.rollout.release import release_folder
from upkeep.serving.cluster import Facts
from upkeep.serving.kubernetes import paths
from upkeep.serving.kubernetes.api import Api, MissingError
from upkeep.serving.kubernetes.cluster import KubernetesCluster
from upkeep.serving.kubernetes.rights import Right, granted, needed
from upkeep.serving.kubernetes.syncer import Source, Syncer, git_of, sources
from upkeep.serving.manifests import gateway
from upkeep.spec.model import ModelSpec

RIGHTS_FIX = "`kubectl apply -k` of an overlay of manifests/ gives it"
KFP = "KF_PIPELINES_ENDPOINT"
KFP_INSIDE = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"


def kserve(cluster: KubernetesCluster, facts: Facts) -> Iterator[Finding]:
    """Its version, its mode, its use of Gateway API."""
    where = cluster.kserve_namespace
    if facts.kserve is None:
        yield Finding(
            check="kserve",
            state="unknown",
            text=f"KServe's version is not known: no Deployment kserve-controller-manager in {where}, or it may not "
            "be read",
            fix="`kubectl get deploy -A -l control-plane=kserve-controller-manager`; name its namespace in "
            "UPKEEP_KSERVE_NAMESPACE",
        )
        return
    version = ".".join(map(str, facts.kserve))
    said = [f"{facts.mode} mode" if facts.mode else "its mode is not known"]
    said.append({True: "Gateway API on", False: "Gateway API off", None: "Gateway API not known"}[facts.gateway_api])
    yield Finding(check="kserve", state="ok", text=f"KServe {version}: {', '.join(said)}")


def unsure_of_traffic(spec: ModelSpec, facts: Facts, namespace: str) -> Iterator[Finding]:
    """What the traffic driver depends on, and nobody could find out: it is not known to work."""
    config = f"`kubectl get configmap -n {namespace} inferenceservice-config -o yaml`"
    unknown: dict[str, list[tuple[str, object, str]]] = {
        "route": [("whether there are HTTPRoutes", facts.http_routes, "`kubectl get crd | grep httproutes`")],
        "canary": [
            ("KServe's version", facts.kserve, f"`kubectl get deploy -n {namespace} kserve-controller-manager`"),
            ("KServe's mode", facts.mode, config),
            ("whether KServe uses Gateway API", facts.gateway_api, config),
        ],
        "knative": [("whether Knative Serving is there", facts.knative, "`kubectl get crd | grep knative`")],
    }
    for what, found, fix in unknown[spec.serving.traffic]:
        if found is None:
            text = f"`traffic: {spec.serving.traffic}` depends on it, and it is not known: {what}"
            yield Finding(check="traffic", state="unknown", text=text, fix=f"see {fix}")


def edge(cluster: KubernetesCluster, spec: ModelSpec) -> Iterator[Finding]:
    """The Gateway that requests come in by, and the class that makes it one."""
    if spec.serving.traffic == "knative":
        return
    wanted = gateway(spec)
    name = f"{wanted['namespace']}/{wanted['name']}"
    see = f"`kubectl describe gateway -n {wanted['namespace']} {wanted['name']}`"
    try:
        found = cluster.api.get(paths.path(paths.GATEWAYS, wanted["namespace"], wanted["name"]))
    except MissingError:
        fix = "`kubectl get gateway -A`; name yours in `serving.gateway`, or make this one"
        yield Finding(check="gateway", state="problem", text=f"there is no Gateway {name}", fix=fix)
        return
    kind = str((found.get("spec") or {}).get("gatewayClassName") or "no class")
    conditions = {each.get("type"): each for each in (found.get("status") or {}).get("conditions") or []}
    for condition in ("Accepted", "Programmed"):
        if (conditions.get(condition) or {}).get("status") != "True":
            why = (conditions.get(condition) or {}).get("message") or "nobody has taken it up"
            text = f"the Gateway {name} (class {kind}) is not {condition}: {why}"
            yield Finding(check="gateway", state="problem", text=text, fix=f"{see}; see that {kind}'s controller runs")
            return
    yield Finding(check="gateway", state="ok", text=f"the Gateway {name} works, by the class {kind}")


# --- who applies Git -------------------------------------------------------------------------------------------------


def syncing(cluster: KubernetesCluster, spec: ModelSpec, repository: str) -> Iterator[Finding]:
    """Whether Argo CD or Flux applies the model's folder, by itself, whole, and lets forced weights be."""
    syncer = cluster.syncer(spec)
    if syncer is None:
        yield from _search(cluster.api, spec, repository)
        return
    see = _see(syncer)
    try:
        standing = cluster.api.get(syncer.path)
        found = sources(syncer, standing, _git(cluster.api, syncer, standing))
    except MissingError:
        fix = "`kubectl get applications,kustomizations -A`; name yours in `rollout.synced_by`"
        yield Finding(check="syncer", state="problem", text=f"{syncer} is not there", fix=fix)
        return
    except AccessError as error:
        text = f"{syncer} may not be read: {error.problems[0].message}"
        yield Finding(check="syncer", state="unknown", text=text, fix=RIGHTS_FIX)
        return
    folder = release_folder(spec)
    covering = [each for each in found if each.covers(repository, spec.rollout.branch, folder)]
    if not covering:
        what = "; ".join(f"{each.path or 'everything'} of {each.url} ({each.branch or 'HEAD'})" for each in found)
        text = f"{syncer} applies {what or 'nothing from Git'}, not {folder or 'the root'} of {repository}"
        fix = f"let its source be repository, branch ({spec.rollout.branch}) and folder of the spec: see {see}"
        yield Finding(check="syncer", state="problem", text=text, fix=fix)
        return
    problems = list(_faults(syncer, covering[0], spec))
    yield from problems
    if not problems:
        text = f"{syncer} applies {folder or 'the root'} by itself"
        yield Finding(check="syncer", state="ok", text=text)


def _faults(syncer: Syncer, source: Source, spec: ModelSpec) -> Iterator[Finding]:
    argocd = syncer.kind == "argocd"
    patch = f"`kubectl patch -n {syncer.namespace} {'application' if argocd else 'kustomization'} {syncer.name}"
    patch += " --type merge -p"
    if not source.by_itself:
        change = '{"spec":{"syncPolicy":{"automated":{"prune":true}}}}' if argocd else '{"spec":{"suspend":false}}'
        text = f"{syncer} applies nothing by itself: a commit would wait for a person, a roll-back too"
        yield Finding(check="syncer", state="problem", text=text, fix=f"{patch} '{change}'`")
    elif not source.prunes:
        change = '{"spec":{"syncPolicy":{"automated":{"prune":true}}}}' if argocd else '{"spec":{"prune":true}}'
        text = f"{syncer} removes nothing: versions that are over would go on running"
        yield Finding(check="syncer", state="problem", text=text, fix=f"{patch} '{change}'`")
    if spec.rollout.brake and not source.spares:
        text = f"{syncer} takes forced weights back: a brake would hold from one look to the next only"
        fix = "add ignoreDifferences with managedFieldsManagers: [upkeep-brake], and the sync option "
        fix += "RespectIgnoreDifferences=true (docs/how-to/roll-out-on-kubernetes.md)"
        yield Finding(check="syncer", state="problem", text=text, fix=fix)


def _search(api: Api, spec: ModelSpec, repository: str) -> Iterator[Finding]:
    """No live object says who applied it: whether somebody would."""
    folder, hidden = release_folder(spec), False
    for kind, resource in (("argocd", paths.APPLICATIONS), ("flux", paths.KUSTOMIZATIONS)):
        try:
            candidates = api.items(paths.path(resource))
        except MissingError:
            continue
        except AccessError:
            hidden = True
            continue
        for standing in candidates:
            metadata = standing["metadata"]
            syncer = Syncer(kind=kind, namespace=str(metadata.get("namespace", "")), name=str(metadata["name"]))
            try:
                found = sources(syncer, standing, _git(api, syncer, standing))
            except UpkeepError:
                continue
            for source in found:
                if source.covers(repository, spec.rollout.branch, folder):
                    problems = list(_faults(syncer, source, spec))
                    yield from problems
                    if not problems:
                        yield Finding(check="syncer", state="ok", text=f"{syncer} applies {folder or 'the root'}")
                    return
    if hidden:
        yield Finding(
            check="syncer",
            state="unknown",
            text="nobody says who applies the folder, and Argo CD's and Flux's objects may not be listed from here",
            fix="name it: `rollout.synced_by: argocd:<namespace>/<Application>` (or flux:<namespace>/<Kustomization>)",
        )
        return
    yield Finding(
        check="syncer",
        state="problem",
        text=f"neither Argo CD nor Flux applies {folder or 'the root'} of {repository}: no commit would do anything",
        fix="make an Application or a Kustomization of it (docs/how-to/roll-out-on-kubernetes.md)",
    )


def _git(api: Api, syncer: Syncer, standing: Mapping[str, Any]) -> Mapping[str, Any] | None:
    where = git_of(syncer, standing)
    try:
        return api.get(where) if where else None
    except MissingError:
        return None


def _see(syncer: Syncer) -> str:
    kind = "application" if syncer.kind == "argocd" else "kustomization"
    return f"`kubectl get {kind} -n {syncer.namespace} {syncer.name} -o yaml`"


# --- rights, clocks, pipelines ---------------------------------------------------------------------------------------


def rights(cluster: KubernetesCluster, spec: ModelSpec) -> Iterator[Finding]:
    """Each verb that a rollout uses, asked for one by one."""
    try:
        syncer = cluster.syncer(spec)
    except UpkeepError:
        syncer = None
    wanted = needed(spec, syncer, cluster.kserve_namespace)
    missing: list[Right] = [right for right in wanted if not granted(cluster.api, right)]
    for right in missing:
        place = f" in {right.namespace}" if right.namespace else ""
        yield Finding(
            check="rights",
            state="problem",
            text=f"this account may not {right}{place}",
            fix=f"{RIGHTS_FIX}; `{right.question}` asks again",
        )
    if not missing:
        yield Finding(check="rights", state="ok", text=f"this account may do all {len(wanted)} things that it must")


def clock(cluster: KubernetesCluster, now: datetime) -> Iterator[Finding]:
    """The API server's against this one's; its Date header knows whole seconds."""
    found = cluster.api.clock()
    if found is None:
        yield Finding(check="clock", state="unknown", text="the API server does not say what time it is")
        return
    skew = abs((found - now).total_seconds())
    if skew > MOST_SKEW:
        text = f"this clock and the API server's differ by {skew:.0f} s"
        yield Finding(check="clock", state="problem", text=text, fix="set both by NTP (`timedatectl set-ntp true`)")
        return
    yield Finding(check="clock", state="ok", text="this clock and the API server's agree")


def pipelines(spec: ModelSpec, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether Kubeflow Pipelines answers, and which it is: updates run there."""
    import httpx

    endpoint = spec.kubeflow.endpoint or environ.get(KFP, "")
    if not endpoint and environ.get("KUBERNETES_SERVICE_HOST"):
        endpoint = KFP_INSIDE
    forward = "`kubectl port-forward -n kubeflow svc/ml-pipeline 8888:8888`"
    if not endpoint:
        text = "nothing says where Kubeflow Pipelines is: updates could not be submitted"
        yield Finding(check="kfp", state="unknown", text=text, fix=f"{forward}, then set {KFP}=http://localhost:8888")
        return
    endpoint = endpoint.rstrip("/")
    token = environ.get("UPKEEP_KFP_TOKEN", "").strip() or _token_in(environ.get("KF_PIPELINES_SA_TOKEN_PATH", ""))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.get(f"{endpoint}/apis/v2beta1/healthz", headers=headers, timeout=5.0)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        text = f"Kubeflow Pipelines does not answer at {endpoint}: {error or type(error).__name__}"
        yield Finding(check="kfp", state="problem", text=text, fix=f"`kubectl get pods -n kubeflow`; {forward}")
        return
    if answer.status_code in (401, 403):
        text = f"Kubeflow Pipelines at {endpoint} does not let this account in ({answer.status_code})"
        yield Finding(check="kfp", state="problem", text=text, fix="put a token into UPKEEP_KFP_TOKEN")
        return
    known = _json(answer)
    if answer.status_code != 200 or known is None:
        text = f"what answers at {endpoint} ({answer.status_code}) is no Kubeflow Pipelines 2"
        yield Finding(check="kfp", state="problem", text=text, fix="see `kubeflow.endpoint`: the API's, not the page's")
        return
    version = str(known.get("tag_name") or _older(endpoint, headers) or "")
    several = ", for several users" if known.get("multi_user") else ""
    said = f"Kubeflow Pipelines {version}" if version else "Kubeflow Pipelines, which does not tell its version,"
    yield Finding(check="kfp", state="ok", text=f"{said} answers at {endpoint}{several}")


def _older(endpoint: str, headers: Mapping[str, str]) -> str:
    """The version, which the newer API does not tell."""
    import httpx

    try:
        answer = httpx.get(f"{endpoint}/apis/v1beta1/healthz", headers=dict(headers), timeout=5.0)
    except httpx.HTTPError:
        return ""
    return str((_json(answer) or {}).get("tag_name") or "")


def _json(answer: Any) -> Mapping[str, Any] | None:
    try:
        found = answer.json()
    except ValueError:
        return None
    return found if isinstance(found, Mapping) else None


def _token_in(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip() if file else ""
    except OSError:
        return ""
