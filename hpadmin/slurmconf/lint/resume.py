"""Rules about what auto-resume (``srun --auto-resume=1``) needs of Slurm's configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from hpadmin.slurm import growth
from hpadmin.slurmconf import plugstack
from hpadmin.slurmconf.document import Document
from hpadmin.slurmconf.grammar import FileKind
from hpadmin.slurmconf.lint.finding import Finding, Rule, Subject, info, warning
from hpadmin.slurmconf.lint.values import number, tokens
from hpadmin.slurmconf.records import Origin
from hpadmin.slurmconf.view import View

PLUGIN = "auto_resume"
"""Part of the SPANK plugin's file name."""
_MIN_JOB_AGE = 30
"""Seconds: some cycles of an agent that Slurm or a provider keeps waiting."""


def settings(subject: Subject) -> Iterator[Finding]:
    """Settings that stop a job from going on with other nodes."""
    view = subject.references
    if view is None:
        return
    place = _place(view, "SchedulerParameters")
    parameters = tokens(view, "SchedulerParameters")
    if "permit_job_expansion" not in parameters:
        message = (
            "auto-resume cannot give a running job another node without "
            "SchedulerParameters=permit_job_expansion; such jobs are requeued"
        )
        yield warning(place, "resume-expansion", message)
    if "disable_job_shrink" in parameters:
        message = "auto-resume cannot take a failed node out of a running job with disable_job_shrink"
        yield warning(place, "resume-expansion", message)
    if "extra_constraints" in parameters:
        message = (
            "auto-resume asks for help in the job's Extra, which extra_constraints takes for itself: "
            "jobs that want it are refused at submission"
        )
        yield warning(place, "resume-extra", message)
    at_allocation = growth.at_allocation(view.value("PrologFlags") or "")
    if at_allocation:
        message = (
            f"with PrologFlags={','.join(at_allocation)} no node can join a running job: "
            "auto-resume requeues it, unless it holds a spare (--auto-resume-spares)"
        )
        yield info(_place(view, "PrologFlags"), "resume-prolog", message)
    bound = growth.binds_cores(view.value("TaskPlugin") or "")
    if bound:
        message = (
            f"with TaskPlugin={','.join(bound)} no node can join a running job, which would hold no cores "
            "there: auto-resume requeues it, unless it holds a spare (--auto-resume-spares)"
        )
        yield info(_place(view, "TaskPlugin"), "resume-cores", message)
    in_place = "permit_job_expansion" in parameters and "disable_job_shrink" not in parameters
    in_place = in_place and not at_allocation and not bound
    if not in_place and view.value("JobRequeue", "1") == "0":
        message = (
            "a running job gets no other nodes (SchedulerParameters, PrologFlags, TaskPlugin) and is not requeued "
            "(JobRequeue=0): jobs with --auto-resume are refused at submission, unless they say --requeue"
        )
        yield warning(_place(view, "JobRequeue"), "resume-impossible", message)
    remembered = number(view, "MinJobAge")
    if remembered is not None and remembered < _MIN_JOB_AGE:
        message = (
            f"with MinJobAge={remembered} Slurm may forget a job that ended with its node "
            f"before the agent has seen it; {_MIN_JOB_AGE} s or more let it be requeued"
        )
        yield warning(_place(view, "MinJobAge"), "resume-forgotten", message)
    if view.value("JobRequeue", "1") == "0":
        message = (
            "with JobRequeue=0 a job with GRES that lost a node ends, unless it was submitted with --requeue"
        )
        yield warning(_place(view, "JobRequeue"), "resume-requeue", message)
    back = view.value("ReturnToService", "0")
    if back == "0":
        message = (
            "with ReturnToService=0 a node that was down stays out until an admin resumes it, "
            "a replaced one too: set 1 or 2"
        )
        yield warning(_place(view, "ReturnToService"), "resume-return", message)
    elif back == "1":
        message = (
            "with ReturnToService=1 a job loses a node that reboots, even when it is back in time; "
            "2 lets it keep it"
        )
        yield info(_place(view, "ReturnToService"), "resume-return", message)
    timeout = number(view, "ResumeTimeout")
    if view.value("RebootProgram") and (60 if timeout is None else timeout) <= 60:
        message = "ResumeTimeout (60 s unless set) bounds reboots too: a node that takes longer is set DOWN; raise it"
        yield warning(_place(view, "RebootProgram"), "reboot-timeout", message)
    if view.value("SlurmdTimeout") == "0":
        message = "with SlurmdTimeout=0 a dead node is never noticed, and its job never resumed"
        yield warning(_place(view, "SlurmdTimeout"), "resume-timeout", message)


def _place(view: View, key: str) -> Origin:
    setting = view.setting(key)
    return setting.origin if setting is not None else Origin(view.name, 0, 0)


_ARGUMENT = re.compile(r"python=/\S+")


def _plugstack(subject: Subject) -> Mapping[str, Document]:
    seen = subject.files.get(FileKind.PLUGSTACK)
    return seen.documents if seen is not None else {}


def arguments(subject: Subject) -> Iterator[Finding]:
    """What the plugin is told in plugstack.conf: the Python that holds hpadmin, and nothing else."""
    for name, document in _plugstack(subject).items():
        for line in plugstack.lines(document):
            if line.option == "include" or line.plugin != "spank_auto_resume.so":
                continue
            place = Origin(name, line.number, line.place)
            for argument in line.arguments:
                if not _ARGUMENT.fullmatch(argument):
                    message = f"spank_auto_resume.so takes python=/path/to/python3, not {argument}"
                    yield warning(place, "resume-plugin-argument", message)
            if line.option == "required":
                message = "required: where the plugin cannot be loaded no srun starts at all; optional lets them run"
                yield info(place, "resume-plugin-required", message)


def plugin(subject: Subject) -> Iterator[Finding]:
    """The SPANK plugin, which plugstack.conf must load by name."""
    if subject.references is None or not subject.whole:
        return
    patterns: list[Origin] = []
    if FileKind.PLUGSTACK in subject.files:
        for name, document in subject.files[FileKind.PLUGSTACK].documents.items():
            for line in plugstack.lines(document):
                if line.option != "include" and PLUGIN in line.path.replace("-", "_"):
                    return
                if line.option == "include" and "*" in line.path:
                    patterns.append(Origin(name, line.number, line.place))
    configless = "enable_configless" in tokens(subject.references, "SlurmctldParameters")
    if patterns and configless:
        message = "nodes without files of their own (configless) do not get what a pattern includes: name the plugins"
        yield warning(patterns[0], "resume-plugin-pattern", message)
    elif not patterns:
        message = "plugstack.conf does not load spank_auto_resume.so, so --auto-resume is not known"
        yield info(Origin("plugstack.conf", 0, 0), "resume-plugin", message)


RULES: tuple[Rule, ...] = (settings, plugin, arguments)
