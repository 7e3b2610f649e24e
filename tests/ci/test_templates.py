"""The templates for users' CI: of the right form, with no more rights than they need, and what their scripts do.

The scripts run as they stand, against programs of the same names that write down how they were called.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from upkeep.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github/workflows/update-model.yml"
GITLAB = ROOT / "ci/update-model.gitlab-ci.yml"

Document = dict[str, Any]


def github() -> Document:
    found: Document = yaml.load(GITHUB.read_text(), Loader=yaml.BaseLoader)  # "on" is a word, not a truth
    return found


def gitlab() -> Document:
    _, jobs = yaml.safe_load_all(GITLAB.read_text())
    return {name: job for name, job in jobs.items() if not name.startswith(".")}


# --- the form -------------------------------------------------------------------------------------------------------


def checked(schema: str, path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", path]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_workflow_keeps_to_its_schema(tmp_path: Path) -> None:
    done = checked("github-workflows", GITHUB)
    assert done.returncode == 0, done.stdout
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(GITHUB.read_text().replace("timeout-minutes: 10", "timeout: 10"))
    assert checked("github-workflows", wrong).returncode == 1


def test_the_template_keeps_to_its_schema(tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.yml"
    jobs.write_text(GITLAB.read_text().split("\n---\n")[1])
    done = checked("gitlab-ci", jobs)
    assert done.returncode == 0, done.stdout
    jobs.write_text(jobs.read_text().replace("interruptible: false", "interruptible: perhaps"))
    assert checked("gitlab-ci", jobs).returncode == 1


# --- what it may do, and what it never does -------------------------------------------------------------------------


def workflow_problems(text: str) -> list[str]:
    """What GitHub's hardening guide warns of, in the workflow."""
    document = yaml.load(text, Loader=yaml.BaseLoader)
    found = []
    if document.get("permissions") != {}:
        found.append("the workflow itself has permissions: give each job its own")
    for name, job in document["jobs"].items():
        rights = job.get("permissions", {})
        if not rights or set(rights) - {"contents", "pull-requests"} or rights.get("contents") == "write":
            found.append(f"{name}: permissions {rights}")
        secrets = "secrets." in json.dumps(job)
        if secrets and "write" in rights.values():
            found.append(f"{name}: secrets and a right to write in one job")
        if secrets and "github.event_name != 'pull_request'" not in job.get("if", ""):
            found.append(f"{name}: a pull request would meet secrets")
        if "timeout-minutes" not in job:
            found.append(f"{name}: no timeout")
        for step in job["steps"]:
            if "uses" in step and not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]):
                found.append(f"{name}: {step['uses']} is not pinned by commit")
            if "checkout" in step.get("uses", "") and step.get("with", {}).get("persist-credentials") != "false":
                found.append(f"{name}: the token stays in the checkout")
            if "${{" in step.get("run", ""):
                found.append(f"{name}: an expression in a script is an injection")
    if re.search(r"github\.(event\.|head_ref)", text):
        found.append("a title, a branch or a body somebody chose is used")
    for line in re.findall(r"uses: .*", text):
        if not re.search(r" # v\d+\.\d+\.\d+$", line):
            found.append(f"{line}: does not say its version")
    return found


def test_the_workflow_has_no_more_rights_than_it_needs() -> None:
    assert workflow_problems(GITHUB.read_text()) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("permissions: {}", "permissions: write-all", "workflow itself"),
        ("pull-requests: write", "issues: write", "permissions"),
        (
            "contents: read\n    concurrency",
            "contents: read\n      pull-requests: write\n    concurrency",
            "and a right",
        ),
        ("if: github.event_name != 'pull_request' &&", "if:", "would meet secrets"),
        ("timeout-minutes: 5", "name: x", "no timeout"),
        (r"actions/checkout@[0-9a-f]{40} # v5.0.0", "actions/checkout@v5 # v5.0.0", "not pinned"),
        (" # v5.0.0", "", "its version"),
        ("persist-credentials: false", "fetch-depth: 1", "token stays"),
        (r'--no-data --spec "\$SPEC"', "--no-data --spec ${{ inputs.spec }}", "injection"),
        (r"COMMIT: \$\{\{ github.sha }}", "COMMIT: ${{ github.event.pull_request.title }}", "somebody chose"),
    ],
)
def test_a_workflow_with_more_is_found(old: str, new: str, said: str) -> None:
    changed, times = re.subn(old, lambda _: new, GITHUB.read_text())
    assert times
    assert any(said in problem for problem in workflow_problems(changed)), workflow_problems(changed)


def test_scripts_of_the_template_read_variables_alone() -> None:
    jobs = gitlab()
    assert set(jobs) == {"upkeep check", "upkeep update"}
    for job in jobs.values():
        for script in [*job["script"], *job.get("after_script", ())]:
            assert "$[[" not in script
            assert not re.search(r"CI_(COMMIT_(MESSAGE|TITLE|REF|BRANCH)|MERGE_REQUEST_TITLE)", script)
        assert "timeout" in job
    rule = jobs["upkeep update"]["rules"][0]["if"]
    assert rule == '$CI_PIPELINE_SOURCE != "merge_request_event" && $CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH'


def test_their_commands_are_those_there_are() -> None:
    for text in (GITHUB.read_text(), GITLAB.read_text()):
        assert set(re.findall(r"\bupkeep (?!check:|update:|\$)([a-z]+) --", text)) == {"check", "compile", "submit"}
    assert {"check", "compile", "submit"} <= COMMANDS.keys()


# --- what the scripts do --------------------------------------------------------------------------------------------

HOSTILE = 'a b"; touch pwned; $(touch pwned) `touch pwned`.yaml'
FAKE = """\
#!{python}
import json, os, pathlib, sys
called = pathlib.Path(os.environ["CALLED"])
names = ("KF_PIPELINES_ENDPOINT", "UPKEEP_KFP_TOKEN", "AWS_REGION", "GH_TOKEN")
with called.open("a") as log:
    log.write(json.dumps([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]) + "\\n")
    log.write(json.dumps({{name: os.environ[name] for name in names if name in os.environ}}) + "\\n")
if sys.argv[1:2] == ["submit"]:
    code = int(os.environ.get("SUBMIT_CODE", "0"))
    if code == 0:
        path = sys.argv[sys.argv.index("--summary") + 1]
        pathlib.Path(path).write_text(os.environ.get("SUMMARY_TEXT", "### flights: passed\\n"))
        print(json.dumps({{"verdict": {{"verdict": "pass"}}}}))
    sys.exit(code)
if sys.argv[1:2] == ["check"]:
    sys.exit(int(os.environ.get("CHECK_CODE", "0")))
if sys.argv[1:2] == ["api"]:
    print(os.environ.get("NUMBER", ""))
if sys.argv[1:3] == ["pr", "comment"]:
    print(pathlib.Path(sys.argv[-1]).read_text())
"""


class Place:
    """A folder where scripts run, with programs that write down how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.called, self.output = folder, folder / "called", folder / "output"
        programs = folder / "bin"
        programs.mkdir()
        for name in ("upkeep", "gh"):
            (programs / name).write_text(FAKE.format(python=sys.executable))
            (programs / name).chmod(0o755)
        (programs / "python").symlink_to(sys.executable)
        self.environment = {
            "PATH": f"{programs}:/usr/bin:/bin", "CALLED": str(self.called), "SPEC": HOSTILE,
            "GITHUB_OUTPUT": str(self.output), "GITHUB_STEP_SUMMARY": str(folder / "step"), "RUNNER_TEMP": str(folder),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }  # fmt: skip

    def run(self, script: str, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-e", "-c", script], cwd=self.folder, env={**self.environment, **environment},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert not list(self.folder.rglob("pwned")), "what somebody chose was run"
        return done.returncode, done.stdout + done.stderr

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in self.called.read_text().splitlines() if line.startswith("[")]

    def variables(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.called.read_text().splitlines() if line.startswith("{")]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def script_of(job: str, step: str) -> str:
    (found,) = [each for each in github()["jobs"][job]["steps"] if each.get("name") == step]
    return str(found["run"])


SUBMIT = ("update", "Submit the update, and follow it")
TELL = ("comment", "Tell the pull request that brought the change")
NONE = dict.fromkeys(
    ("KF_PIPELINES_ENDPOINT", "UPKEEP_KFP_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"), ""
)


def outputs(path: Path) -> dict[str, str]:
    """What a step leaves to others, read as the runner reads it."""
    found: dict[str, str] = {}
    lines = iter(path.read_text().splitlines())
    for line in lines:
        name, more, mark = line.partition("<<")
        if more and "=" not in name:
            text = []
            for inner in lines:
                if inner == mark:
                    break
                text.append(inner)
            found[name] = "\n".join(text)
        else:
            name, _, found[name] = (*line.partition("="),)[0], None, line.partition("=")[2]
    return found


def test_a_change_is_checked_and_compiled(place: Place) -> None:
    for step in ("Hold the spec to its rules", "Compile the pipeline"):
        assert place.run(script_of("check", step))[0] == 0
    assert [call[:2] for call in place.calls()] == [["upkeep", "check"], ["upkeep", "compile"]]
    assert all(HOSTILE in call for call in place.calls())


def test_a_merged_change_is_submitted_and_its_verdict_handed_on(place: Place) -> None:
    given = {**NONE, "KF_PIPELINES_ENDPOINT": "https://kfp.example.com", "UPKEEP_KFP_TOKEN": "t"}
    text = "### flights: ❌\nverdict=pass\nsummary<<EOF\nEOF\nx=$(touch pwned)\n"
    code, _ = place.run(script_of(*SUBMIT), SUMMARY_TEXT=text, **given)
    assert code == 0
    check, submit = place.calls()
    assert (check[:2], submit[:2]) == (["upkeep", "check"], ["upkeep", "submit"])
    assert place.variables()[1] == {"KF_PIPELINES_ENDPOINT": "https://kfp.example.com", "UPKEEP_KFP_TOKEN": "t"}
    assert outputs(place.output) == {"verdict": "pass", "summary": text}


@pytest.mark.parametrize(("variable", "code"), [("SUBMIT_CODE", 3), ("CHECK_CODE", 2)])
def test_an_update_that_breaks_off_fails_the_job_and_is_told(place: Place, variable: str, code: int) -> None:
    assert place.run(script_of(*SUBMIT), **{variable: str(code)}, **NONE)[0] == code
    found = outputs(place.output)
    assert "verdict" not in found, "no verdict is never a pass"
    assert f"broke off with exit code {code}" in found["summary"]


def test_the_pull_request_is_told(place: Place) -> None:
    given = {"GH_TOKEN": "t", "REPOSITORY": "o/r", "COMMIT": "0" * 40, "RUN": "https://run", "SUMMARY": HOSTILE}
    code, said = place.run(script_of(*TELL), NUMBER="7", **given)
    assert code == 0
    asked, told = place.calls()
    assert asked[:3] == ["gh", "api", f"repos/o/r/commits/{'0' * 40}/pulls"]
    assert told[:6] == ["gh", "pr", "comment", "7", "--repo", "o/r"]
    assert f"{HOSTILE}\n\n[the run](https://run)" in said


def test_a_change_without_a_pull_request_tells_nobody(place: Place) -> None:
    given = {"GH_TOKEN": "t", "REPOSITORY": "o/r", "COMMIT": "0" * 40, "RUN": "https://run", "SUMMARY": "x"}
    code, said = place.run(script_of(*TELL), NUMBER="", **given)
    assert (code, len(place.calls())) == (0, 1)
    assert "no pull request" in said


# --- GitLab ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def notes() -> Iterator[tuple[str, list[tuple[str, str, Any]]]]:
    """A GitLab that knows one commit's merge request; its address, and what it was asked."""
    asked: list[tuple[str, str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self, body: Any) -> None:
            asked.append((self.path, self.headers["PRIVATE-TOKEN"], body))
            data = json.dumps([{"iid": 7}] if self.command == "GET" else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api/v4", asked
        server.shutdown()
        thread.join()


def test_gitlab_checks_submits_and_tells(place: Place, notes: tuple[str, list[tuple[str, str, Any]]]) -> None:
    url, asked = notes
    jobs = gitlab()
    for job in ("upkeep check", "upkeep update"):
        code, said = place.run("\n".join(jobs[job]["script"]), SUMMARY_TEXT=HOSTILE)
        assert code == 0, said
    assert [call[1] for call in place.calls()] == ["check", "compile", "check", "submit"]
    known = {"CI_API_V4_URL": url, "CI_PROJECT_ID": "5", "CI_COMMIT_SHA": "0" * 40, "CI_JOB_URL": "https://job"}
    (tell,) = jobs["upkeep update"]["after_script"]
    code, said = place.run(tell, UPKEEP_GITLAB_TOKEN="t", **known)
    assert code == 0, said
    assert [(path, token) for path, token, _ in asked] == [
        (f"/api/v4/projects/5/repository/commits/{'0' * 40}/merge_requests", "t"),
        ("/api/v4/projects/5/merge_requests/7/notes", "t"),
    ]
    assert asked[1][2] == {"body": f"{HOSTILE}\n[the job](https://job)\n"}


def test_gitlab_tells_nobody_without_a_token(place: Place) -> None:
    (place.folder / "summary.md").write_text("x")
    (tell,) = gitlab()["upkeep update"]["after_script"]
    assert "nobody is told" in place.run(tell)[1]


@pytest.mark.parametrize(("variable", "code"), [("SUBMIT_CODE", 3), ("CHECK_CODE", 2)])
def test_gitlab_fails_where_the_update_breaks_off(place: Place, variable: str, code: int) -> None:
    assert place.run("\n".join(gitlab()["upkeep update"]["script"]), **{variable: str(code)})[0] == code
    assert f"exit code {code}" in (place.folder / "summary.md").read_text()
