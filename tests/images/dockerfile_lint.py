"""What an image's recipe must keep to, held against its text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Instruction:
    line: int
    word: str
    rest: str


@dataclass(frozen=True)
class Stage:
    name: str
    parent: str
    instructions: tuple[Instruction, ...]


def instructions(text: str) -> Iterator[Instruction]:
    """Each instruction, its continued lines joined by blanks."""
    joined, first = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#") or (not line.strip() and not joined):
            continue
        first = first if joined else number
        joined += line.rstrip("\\").strip() + " "
        if not line.endswith("\\"):
            word, _, rest = joined.strip().partition(" ")
            yield Instruction(first, word.upper(), rest.strip())
            joined = ""


def stages(text: str) -> dict[str, Stage]:
    """The stages in their order, by name; a stage without a name is called ``?``."""
    found: dict[str, Stage] = {}
    for each in instructions(text):
        if each.word == "FROM":
            parent, _, name = each.rest.partition(" AS ")
            found[name or "?"] = Stage(name or "?", parent, ())
        elif found:
            last = list(found.values())[-1]
            found[last.name] = Stage(last.name, last.parent, (*last.instructions, each))
    return found


def lineage(found: dict[str, Stage], name: str) -> list[Stage]:
    """The stage and those it stands on, the lowest first."""
    line = [found[name]]
    while line[0].parent in found:
        line.insert(0, found[line[0].parent])
    return line


def published(text: str) -> list[str]:
    """The stages that are images of ours: they have a title."""
    return [stage.name for stage in stages(text).values() if any("image.title" in i.rest for i in stage.instructions)]


def problems(text: str, scripts: dict[str, str]) -> list[str]:
    """Every rule that the recipe breaks, with its line; ``scripts`` are the shell files that it runs, by name."""
    return [*_bases(text), *_words(text), *_images(text), *_commands(text, scripts)]


def _bases(text: str) -> Iterator[str]:
    given = re.search(r"^ARG BASE_IMAGE=(\S+)", text, re.MULTILINE)
    if given is None or not re.fullmatch(r"[a-z0-9./-]+/python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", given[1]):
        yield "BASE_IMAGE is no slim Python with a patch version and a digest"
    before: set[str] = set()
    for stage in stages(text).values():
        if stage.parent != "${BASE_IMAGE}" and stage.parent not in before:
            yield f"{stage.name} stands on {stage.parent}, neither BASE_IMAGE nor a stage before it"
        before.add(stage.name)


def _words(text: str) -> Iterator[str]:
    for each in instructions(text):
        at = f"line {each.line}"
        if each.word == "ADD":
            yield f"{at}: ADD fetches and unpacks; use COPY"
        if re.search(r":latest\b", each.rest):
            yield f"{at}: latest is another image tomorrow"
        if re.search(r"https?://|\b(curl|wget|git clone)\b", each.rest) and each.word != "LABEL":
            yield f"{at}: fetches what no lock holds"
        if each.word in ("ARG", "ENV") and re.search(r"TOKEN|PASSWORD|SECRET|CREDENTIAL|INDEX_URL", each.rest, re.I):
            yield f"{at}: a secret in {each.word} stays in the image's history"
        if each.word in ("CMD", "ENTRYPOINT") and not each.rest.startswith("["):
            yield f"{at}: {each.word} in shell form: signals would not reach the program"
        if "chmod 777" in each.rest or "sudo" in each.rest:
            yield f"{at}: more rights than are needed"


def _images(text: str) -> Iterator[str]:
    found = stages(text)
    if not published(text):
        yield "no stage has a title: nothing would be checked"
    for name in published(text):
        line = lineage(found, name)
        whole = [each for stage in line for each in stage.instructions]
        users = [each.rest for each in whole if each.word == "USER"]
        if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
            yield f"{name}: USER is not a number other than 0: runAsNonRoot would refuse it"
        for each in whole:
            if each.word == "COPY" and not each.rest.startswith("--from="):
                yield f"{name}: line {each.line} copies from the checkout, not from a stage that built"
            if each.word == "RUN" and re.search(r"\bpip\b|\b(gcc|g\+\+|build-essential|make)\b", each.rest):
                yield f"{name}: line {each.line} builds in the image"
        labels = " ".join(each.rest for each in whole if each.word == "LABEL")
        for label in ("title", "description", "version", "revision", "licenses", "base.name"):
            if f"org.opencontainers.image.{label}=" not in labels:
                yield f"{name}: no label {label}"


def _commands(text: str, scripts: dict[str, str]) -> Iterator[str]:
    sources = {f"line {each.line}": each.rest for each in instructions(text) if each.word == "RUN"}
    for name, script in scripts.items():
        for number, line in enumerate(script.replace("\\\n", " ").splitlines(), start=1):
            if not line.lstrip().startswith("#"):
                sources[f"{name}:{number}"] = line
    for at, source in sources.items():
        for command in re.split(r"&&|;|\|\|", source):
            if re.search(r"\bpip\b.* (install|wheel|download) ", command):
                if "--require-hashes" not in command and "--no-index" not in command:
                    yield f"{at}: pip without --require-hashes takes whatever the index has"
                if "--no-cache-dir" not in command or "--no-deps" not in command:
                    yield f"{at}: pip without --no-cache-dir and --no-deps"
            if "apt-get install" in command:
                if "--no-install-recommends" not in command:
                    yield f"{at}: apt-get install without --no-install-recommends"
                if "rm -rf /var/lib/apt/lists/*" not in source:
                    yield f"{at}: apt's lists stay in the layer"
            if "compileall" in command and "--invalidation-mode unchecked-hash" not in command:
                yield f"{at}: compiled modules with times in them"
