"""Rules about keys and the kind of their values, by the option tables of each release."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hpadmin.slurmconf.grammar import FileKind
from hpadmin.slurmconf.lexer import Pair
from hpadmin.slurmconf.lint import facts
from hpadmin.slurmconf.lint.facts import Key
from hpadmin.slurmconf.lint.finding import Finding, Rule, Severity, Subject, error, warning
from hpadmin.slurmconf.lint.syntax import broken_continuations
from hpadmin.slurmconf.records import Origin
from hpadmin.slurmconf.view import View

_INTEGER = re.compile(r"\s*[+]?(0[xX][0-9a-fA-F]+|[0-9]+)$")
_FLOAT = re.compile(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$")
_ENDLESS = frozenset({"unlimited", "infinite"})
_BOOLEANS = frozenset({"yes", "up", "true", "1", "no", "down", "false", "0"})
_LIMITS = {"uint16": 2**16 - 1, "uint32": 2**32 - 1, "uint64": 2**64 - 1, "integer": 2**63 - 1}
_UNITS = {"g": 1024, "gb": 1024, "t": 1024 * 1024, "tb": 1024 * 1024, "m": 1, "mb": 1}
_TOPOLOGY_KEYS = {"block": {"blockname", "blocksizes"}, "tree": {"switchname"}}


def keys(subject: Subject) -> Iterator[Finding]:
    """Keys that this release does not know, and values that are not of their key's kind."""
    for view in subject.files.values():
        if view.kind is FileKind.PLUGSTACK:
            continue
        broken = broken_continuations(view)
        for origin, statement in view.statements:
            if statement.pairs and not statement.raw.startswith("\ufeff"):
                yield from _line(subject, view, origin, statement.pairs, origin in broken)


def _line(
    subject: Subject, view: View, origin: Origin, pairs: tuple[Pair, ...], broken: bool
) -> Iterator[Finding]:
    file = view.kind.value
    head, *attributes = pairs
    table = facts.known(file)
    lowered = head.key.lower()
    fact = table.get(lowered)
    allowed = _TOPOLOGY_KEYS.get(subject.topology_plugin) if view.kind is FileKind.TOPOLOGY else None
    if fact is None and broken:
        message = (
            f"{head.key} was meant to go on with the line before the comment or blank line, which ends it: "
            "move the comment away"
        )
        yield error(origin, "comment-in-continuation", message)
        return
    if fact is None or (allowed is not None and lowered not in allowed):
        yield _unknown(subject, file, head.key, origin)
        return
    yield from _age(subject, fact, head, origin)
    if not fact.opens_line:
        yield from _value(fact, head, origin)
        return
    inner = facts.known(f"{file} {fact.name}")
    for pair in attributes:
        known = inner.get(pair.key.lower())
        if known is None:
            candidates = [key.name for key in inner.values() if subject.release in key.releases]
            hint = subject.speller.did_you_mean(pair.key, candidates)
            message = f"{fact.name} lines have no key {pair.key}{hint}"
            if pair.key.lower() in table and not hint:
                message += f"; {pair.key} belongs on a line of its own"
            yield error(origin, "unknown-key", message)
        else:
            yield from _age(subject, known, pair, origin)
            yield from _value(known, pair, origin)


def _unknown(subject: Subject, file: str, key: str, origin: Origin) -> Finding:
    table = facts.known(file)
    if key.lower() in table:
        plugin = subject.topology_plugin
        message = f"topology/{plugin} knows no {key}: this file is for another TopologyPlugin"
        return error(origin, "unknown-key", message)
    candidates = [fact.name for fact in table.values() if subject.release in fact.releases]
    message = f"Slurm's {file} has no key {key}{subject.speller.did_you_mean(key, candidates)}"
    if "did you mean" not in message:
        for other in FileKind:
            for opener in ("", *facts.openers(other.value).values()):
                if key.lower() in facts.known(f"{other.value} {opener}".strip()):
                    place = f"{opener} lines of {other.value}" if opener else other.value
                    return error(origin, "unknown-key", f"{message}; it belongs in {place}")
    return error(origin, "unknown-key", message)


def _age(subject: Subject, fact: Key, pair: Pair, origin: Origin) -> Iterator[Finding]:
    release = subject.release
    if release not in fact.releases:
        message = f"Slurm {release} has no {fact.name} ({facts.when(release, fact.releases)}): remove it"
        yield error(origin, "key-not-in-release", message)
    elif release in fact.removed:
        message = f"{fact.name} was removed, and Slurm's programs die of it: remove the line"
        yield error(origin, "removed-key", message)
    elif fact.name == "FastSchedule":
        harmless = pair.value == "1"
        severity = Severity.WARNING if harmless else Severity.ERROR
        message = "FastSchedule was removed: remove it (for 2, set SlurmdParameters=config_overrides)"
        yield Finding(origin.file, origin.line, severity, "removed-key", message)
    elif fact.name == "FrontendName":
        message = "Slurm dies of FrontendName unless it was built with --enable-front-end: remove the line"
        yield error(origin, "removed-key", message)
    elif release in fact.defunct:
        message = f"{fact.name} has no effect any more, and Slurm's daemons complain of it: remove it"
        yield warning(origin, "defunct-key", message)


def _value(fact: Key, pair: Pair, origin: Origin) -> Iterator[Finding]:
    """Values by the functions of ``src/common/parse_value.c``."""
    value = pair.value
    lowered = value.lower()
    if fact.kind == "boolean":
        if lowered not in _BOOLEANS:
            yield error(origin, "boolean-expected", f"{fact.name} is YES or NO, not {value!r}")
    elif fact.kind == "float":
        if lowered not in _ENDLESS and not _FLOAT.match(value):
            yield error(origin, "number-expected", f"{fact.name} is a number, not {value!r}")
    elif fact.kind in _LIMITS and lowered not in _ENDLESS:
        yield from _number(fact, value, origin)


def _number(fact: Key, value: str, origin: Origin) -> Iterator[Finding]:
    limit = _LIMITS[fact.kind]
    plain = value[:-1] if fact.kind in ("uint32", "uint64") and value[-1:] in ("k", "K") else value
    if not plain:
        return  # an empty value in quotes is 0
    if _INTEGER.match(plain):
        number = _c_integer(plain.strip().lstrip("+"))
        if number > limit:
            yield error(origin, "number-expected", f"{fact.name} is at most {limit}, not {value}")
        return
    unit = re.match(r"([0-9]+)([a-zA-Z]+)$", value)
    if unit and unit[2].lower() in _UNITS:
        advice = f"; in Slurm's unit (MB): {int(unit[1]) * _UNITS[unit[2].lower()]}"
    elif "=" in value:
        advice = ": there must be a value before the next key"
    else:
        advice = ""
    message = f"{fact.name} is a whole number without a unit, not {value!r}{advice}"
    yield error(origin, "number-expected", message)


def _c_integer(text: str) -> int:
    """Read a number as strtoul(3) does with base 0; a stray 8 or 9 of an octal one ends it there."""
    if text[:2].lower() == "0x":
        return int(text, 16)
    if text.startswith("0") and len(text) > 1 and set(text) <= set("01234567"):
        return int(text, 8)
    return int(text)


def required(subject: Subject) -> Iterator[Finding]:
    """What slurm.conf cannot do without."""
    view = subject.slurm
    if view is None or subject.fragment or view.missing:
        return
    top = Origin(view.name, 0, 0)
    if not view.value("ClusterName"):
        yield error(top, "required-key", "ClusterName is missing: slurmctld does not start without it")
    controllers = view.of("SlurmctldHost")
    if not controllers and not view.value("ControlMachine"):
        yield error(top, "required-key", "SlurmctldHost is missing: name the controller's host")
    seen: dict[str, Origin] = {}
    for record in controllers:
        name = record.name.partition("(")[0]
        opened, closed = record.name.count("("), record.name.count(")")
        if opened != closed or opened > 1 or (opened and not record.name.endswith(")")):
            message = f"{record.name!r} is no host: write name or name(address)"
            yield error(record.origin, "bad-value", message)
        elif name in seen:
            message = f"the controller {name} stands in {seen[name]} already: name each one once"
            yield error(record.origin, "duplicate-controller", message)
        seen.setdefault(name, record.origin)


_MOVED = {
    "keepalivetime": "CommunicationParameters=keepalivetime=SECONDS",
    "sbcastparameters": "BcastParameters",
}
_DEFUNCT_WORDS = {"communicationparameters": "NoAddrCache", "slurmctldparameters": "cloud_reg_addrs"}


def moved(subject: Subject) -> Iterator[Finding]:
    """Keys and parameters that still work, or do nothing any more, and that slurmctld complains of."""
    view = subject.slurm
    if view is None:
        return
    for key, successor in _MOVED.items():
        setting = view.setting(key)
        if setting is not None:
            yield warning(setting.origin, "defunct-key", f"{setting.key} has moved: write {successor}")
    for key, word in _DEFUNCT_WORDS.items():
        setting = view.setting(key)
        if setting is not None and word.lower() in setting.value.lower():
            yield warning(
                setting.origin, "defunct-key", f"{setting.key}: {word} has no effect any more: remove it"
            )


RULES: tuple[Rule, ...] = (keys, required, moved)
