"""Derive which keys and plugins each Slurm release knows, as facts, from Slurm's own source history.

    python tools/derive_slurm_keys.py /path/to/slurm.git > hpadmin/slurmconf/lint/keys.json

The first argument is a git directory (bare or not) that has Slurm's release tags. Read are the tables of
options that Slurm's parser is given, and the names of the folders below ``src/plugins``. No code is taken.
Each key gets the releases that accept it, and those of them that only tolerate it (defunct: an error in the
log) or take it as a reason to die (removed).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

TAGS = {
    "24.11": "slurm-24-11-5-1",
    "25.05": "slurm-25-05-8-1",
    "25.11": "slurm-25-11-7-1",
    "26.05": "slurm-26-05-3-1",
}

PAST = {
    "15.08": "slurm-15-08-13-1",
    "16.05": "slurm-16-05-11-1",
    "17.02": "slurm-17-02-11-1",
    "17.11": "slurm-17-11-13-1",
    "18.08": "slurm-18-08-9-1",
    "19.05": "slurm-19-05-8-1",
    "20.02": "slurm-20-02-7-1",
    "20.11": "slurm-20-11-9-1",
    "21.08": "slurm-21-08-8-1",
    "22.05": "slurm-22-05-11-1",
    "23.02": "slurm-23-02-8-1",
    "23.11": "slurm-23-11-11-1",
    "24.05": "slurm-24-05-8-1",
}
"""Releases that nobody checks for any more; they tell what a key or plugin once was."""

CONF = "src/common/read_config.c"
GRES = "src/interfaces/gres.c"
BLOCK = "src/plugins/topology/block/block_record.c"
TREE = "src/plugins/topology/tree/switch_record.c"

TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "slurm.conf": ((CONF, "slurm_conf_options"),),
    "slurm.conf NodeName": ((CONF, "_nodename_options"),),
    "slurm.conf PartitionName": ((CONF, "_partition_options"),),
    "slurm.conf DownNodes": ((CONF, "_downnodes_options"),),
    "slurm.conf NodeSet": ((CONF, "_nodeset_options"),),
    "slurm.conf SlurmctldHost": ((CONF, "_slurmctld_host_options"),),
    "slurm.conf PowerAction": ((CONF, "_power_action_options"),),
    "slurm.conf FrontendName": ((CONF, "_frontend_options"),),
    "gres.conf": ((GRES, "_gres_conf_options"),),
    "gres.conf Name": ((GRES, "_gres_options"),),
    "gres.conf NodeName": ((GRES, "_gres_options"),),
    "topology.conf": ((BLOCK, "block_options"), (TREE, "switch_options")),
    "topology.conf BlockName": ((BLOCK, "_block_options"),),
    "topology.conf SwitchName": ((TREE, "_switch_options"),),
    "cgroup.conf": (("src/interfaces/cgroup.c", "options"),),
    "slurmdbd.conf": (("src/slurmdbd/read_config.c", "options"),),
}
"""Name of each table (file, and the key that opens a line of its own kind) to where the releases keep it."""

WORDS = {
    "DebugFlags": (CONF, "debug_str2flags"),
    "PrologFlags": (CONF, "prolog_str2flags"),
    "ReconfigFlags": (CONF, "reconfig_str2flags"),
    "SelectTypeParameters": (CONF, "_parse_select_type_param"),
    "AccountingStorageEnforce": (CONF, "_validate_accounting_storage_enforce"),
}
"""Keys whose value is a comma list of known words, and the function that compares with each of them."""

KINDS = {
    "S_P_ARRAY": "array",
    "S_P_BOOLEAN": "boolean",
    "S_P_DOUBLE": "float",
    "S_P_FLOAT": "float",
    "S_P_LONG": "integer",
    "S_P_LONG_DOUBLE": "float",
    "S_P_STRING": "string",
    "S_P_UINT16": "uint16",
    "S_P_UINT32": "uint32",
    "S_P_UINT64": "uint64",
}

_ENTRY = re.compile(r'\{\s*"(?P<key>\w+)"\s*,\s*(?P<kind>S_P_\w+)\s*(?:,\s*(?P<handler>\w+))?')
_DIES = re.compile(r'if \(s_p_get_\w+\(\s*&\w+,\s*"(\w+)",\s*hashtbl\)\)\s*fatal\(')


_WORD = re.compile(r'xstrn?casecmp\(\s*\w+,\s*"([\w=]+)"')


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of an option table in one release."""

    key: str
    kind: str
    opens_line: bool
    """The key has a parser of its own: more ``key=value`` may follow on its line."""
    defunct: bool


@dataclass(frozen=True, slots=True)
class Source:
    """Slurm's source at one tag."""

    git_dir: str
    tag: str

    def read(self, path: str) -> str:
        """The text of one file; empty where this release has none."""
        done = self._git("show", f"{self.tag}:{path}")
        return done.stdout if done.returncode == 0 else ""

    def plugins(self) -> list[tuple[str, str]]:
        """Every plugin as (kind, name), from the folders ``src/plugins/<kind>/<name>``."""
        done = self._git("ls-tree", "-r", "-d", "--name-only", self.tag, "src/plugins")
        done.check_returncode()
        parts = [line.split("/") for line in done.stdout.splitlines()]
        return [(p[2], p[3]) for p in parts if len(p) == 4 and p[3] not in ("common", "base")]

    def _git(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", f"--git-dir={self.git_dir}", *arguments],
            capture_output=True, encoding="utf-8", errors="replace", check=False,
        )  # fmt: skip


def entries(text: str, table: str) -> Iterator[Entry]:
    """The rows of the array `table` in a C file; none where the file does not have it."""
    found = re.search(rf"s_p_options_t {table}\[\] = (\{{.*?\{{\s*NULL\s*\}},?\s*\}});", text, re.DOTALL)
    if found is None:
        return
    for row in _ENTRY.finditer(found[1]):
        handler = row["handler"] or ""
        kind = KINDS[row["kind"]]
        yield Entry(
            row["key"],
            kind,
            opens_line=kind == "array" and handler not in ("", "NULL"),
            defunct=handler == "_defunct_option",
        )


def words(text: str, function: str) -> list[str]:
    """The words that a C function compares its input with."""
    found = re.search(
        rf"^(?:extern|static) \w+ {function}\([^;{{]*\{{(.*?)^\}}", text, re.DOTALL | re.MULTILINE
    )
    return _WORD.findall(found[1]) if found else []


def spans(releases: list[str]) -> list[str]:
    """Fold releases that follow each other: ``24.11-26.05``."""
    order = [*PAST, *TAGS]
    found: list[list[str]] = []
    for release in releases:
        if found and order.index(release) == order.index(found[-1][-1]) + 1:
            found[-1].append(release)
        else:
            found.append([release])
    return [f"{span[0]}-{span[-1]}" for span in found]


def derive(git_dir: str) -> dict[str, Any]:
    """Read every release; return what keys.json holds."""
    tables: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in TABLES}
    plugins: dict[str, dict[str, list[str]]] = {}
    known: dict[str, dict[str, list[str]]] = {}
    for release, tag in (PAST | TAGS).items():
        source = Source(git_dir, tag)
        removed = set(_DIES.findall(source.read(CONF)))
        for name, places in TABLES.items():
            for entry in (entry for path, table in places for entry in entries(source.read(path), table)):
                fact = tables[name].setdefault(entry.key, {"kind": entry.kind, "releases": []})
                fact["kind"] = entry.kind
                fact["releases"].append(release)
                if entry.opens_line:
                    fact["opens_line"] = True
                if entry.defunct and release in TAGS:
                    fact.setdefault("defunct", []).append(release)
                if name == "slurm.conf" and entry.key in removed and release in TAGS:
                    fact.setdefault("removed", []).append(release)
        for key, (path, function) in WORDS.items():
            for word in dict.fromkeys(words(source.read(path), function)):
                known.setdefault(key, {}).setdefault(word, []).append(release)
        for kind, plugin in source.plugins():
            plugins.setdefault(kind, {}).setdefault(plugin, []).append(release)
    for name, keys in tables.items():
        now = [key for key in keys.values() if set(key["releases"]) & TAGS.keys()]
        if not now and name != "slurm.conf SlurmctldHost":
            raise SystemExit(f"no options found for {name}: the sources look different")
    if missing := WORDS.keys() - known.keys():
        raise SystemExit(f"no words found for {', '.join(missing)}: the sources look different")
    for table in tables.values():
        for fact in table.values():
            fact["releases"] = spans(fact["releases"])
    for names in (*plugins.values(), *known.values()):
        names.update((name, spans(having)) for name, having in names.items())
    return {"releases": TAGS, "past": list(PAST), "tables": tables, "words": known, "plugins": plugins}


def rendered(facts: dict[str, Any]) -> str:
    """JSON with one key a line, so that a new release shows as a readable change."""
    lines = ["{", f'"releases": {json.dumps(facts["releases"])},']
    lines += [f'"past": {json.dumps(facts["past"])},', '"tables": {']
    lines.append(",\n".join(_block(name, table) for name, table in facts["tables"].items()))
    lines.append('},\n"words": {')
    lines.append(",\n".join(_block(key, names) for key, names in facts["words"].items()))
    lines.append('},\n"plugins": {')
    lines.append(",\n".join(_block(kind, names) for kind, names in sorted(facts["plugins"].items())))
    lines.append("}\n}\n")
    return "\n".join(lines)


def _block(name: str, members: dict[str, Any]) -> str:
    ordered = sorted(members.items(), key=lambda member: member[0].lower())
    rows = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in ordered)
    return f"{json.dumps(name)}: {{\n{rows}}}"


if __name__ == "__main__":
    sys.stdout.write(rendered(derive(sys.argv[1])))
