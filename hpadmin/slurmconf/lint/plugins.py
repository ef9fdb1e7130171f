"""Rules about plugins: the ones that a release has, by the folders of its source."""

from __future__ import annotations

from collections.abc import Iterator

from hpadmin.slurmconf.lint import facts
from hpadmin.slurmconf.lint.finding import Finding, Rule, Severity, Subject, error
from hpadmin.slurmconf.records import Setting

ONE = {
    "accountingstoragetype": "accounting_storage",
    "acctgatherenergytype": "acct_gather_energy",
    "acctgatherfilesystemtype": "acct_gather_filesystem",
    "acctgatherinterconnecttype": "acct_gather_interconnect",
    "acctgatherprofiletype": "acct_gather_profile",
    "authtype": "auth",
    "burstbuffertype": "burst_buffer",
    "certgentype": "certgen",
    "certmgrtype": "certmgr",
    "credtype": "cred",
    "jobacctgathertype": "jobacct_gather",
    "jobcomptype": "jobcomp",
    "jobcontainertype": "job_container",
    "mcsplugin": "mcs",
    "metricstype": "metrics",
    "namespacetype": "namespace",
    "preempttype": "preempt",
    "prioritytype": "priority",
    "proctracktype": "proctrack",
    "schedulertype": "sched",
    "selecttype": "select",
    "switchtype": "switch",
    "tlstype": "tls",
    "topologyplugin": "topology",
}
"""Keys that name one plugin as ``kind/name``."""
SEVERAL = {
    "authalttypes": "auth",
    "clifilterplugins": "cli_filter",
    "jobsubmitplugins": "job_submit",
    "nodefeaturesplugins": "node_features",
    "prepplugins": "prep",
    "taskplugin": "task",
}
"""Keys that name plugins in a comma list, with or without their kind."""
NEEDED = frozenset({"sched", "select", "proctrack", "priority"})
"""Kinds that Slurm takes no ``none`` for."""
BUILT_IN = frozenset({("cred", "slurm")})
"""Plugins without a folder of their own: cred/slurm is a part of auth/slurm."""
RENAMED = {("topology", "default"): "25.05"}
"""Names that Slurm still takes for another plugin, from the release on that has them no longer."""


def plugins(subject: Subject) -> Iterator[Finding]:
    """Plugins that do not exist, or not in this release. slurmctld dies of each of them."""
    view = subject.slurm
    if view is None:
        return
    severity = Severity.WARNING if view.value("PluginDir") else Severity.ERROR
    for key, kind in ONE.items():
        setting = view.setting(key)
        if setting is None or not setting.value:
            continue
        given, slash, name = setting.value.partition("/")
        if slash and given.lower() == kind:
            yield from _known(subject, setting, kind, name, severity)
        elif given.lower() != "none":
            found = facts.suggestion(name or given, facts.plugins(kind))
            example = found or next(iter(facts.plugins(kind)))
            message = f"{setting.key} is {kind}/NAME, not {setting.value}: write {kind}/{example}"
            yield error(setting.origin, "plugin-kind", message)
    for key, kind in SEVERAL.items():
        setting = view.setting(key)
        if setting is None:
            continue
        for word in setting.value.split(","):
            if word:
                yield from _known(subject, setting, kind, word.removeprefix(f"{kind}/"), severity)


def _known(subject: Subject, setting: Setting, kind: str, name: str, severity: Severity) -> Iterator[Finding]:
    known = facts.plugins(kind)
    releases = known.get(name)
    if releases is not None and subject.release in releases:
        return
    if (name.lower() == "none" and kind not in NEEDED) or (kind, name) in BUILT_IN:
        return
    renamed = RENAMED.get((kind, name))
    if renamed is not None and subject.since(renamed):
        return
    origin = setting.origin
    candidates = [plugin for plugin, having in known.items() if subject.release in having]
    meant = subject.speller.did_you_mean(name, candidates)
    if releases is not None:
        when = facts.when(subject.release, releases)
        message = f"Slurm {subject.release} has no plugin {kind}/{name} ({when}){meant}"
        yield Finding(origin.file, origin.line, Severity.ERROR, "plugin-not-in-release", message)
        return
    hint = meant or f": there are {', '.join(sorted(candidates))}"
    message = f"Slurm has no plugin {kind}/{name}{hint}"
    yield Finding(origin.file, origin.line, severity, "unknown-plugin", message)


def scripts(subject: Subject) -> Iterator[Finding]:
    """job_submit/lua without its script: slurmctld does not start."""
    setting = subject.slurm.setting("JobSubmitPlugins") if subject.slurm is not None else None
    if setting is None or not subject.whole or "job_submit.lua" in subject.others:
        return
    if "lua" in [word.rpartition("/")[2] for word in setting.value.split(",")]:
        message = f"{setting.key}: there is no job_submit.lua beside slurm.conf, and slurmctld dies of that"
        yield error(setting.origin, "script-missing", message)


RULES: tuple[Rule, ...] = (plugins, scripts)
