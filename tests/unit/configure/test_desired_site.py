"""The site file: every setting is checked before it can reach a template."""

from __future__ import annotations

import dataclasses
import json

import pytest

from hpadmin.configure import site
from hpadmin.configure.options import RenderOptions
from hpadmin.errors import InvalidInput
from hpadmin.request import Source


def load(text: str) -> RenderOptions:
    return site.load(Source(text, "site.yaml"))


def test_nothing_given_is_the_default() -> None:
    assert load("") == load("# nothing\n") == load("{}") == RenderOptions()


def test_every_setting() -> None:
    given = {
        "release": "25.11.2",
        "process_tracking": "linuxproc",
        "auth": "slurm",
        "config_overrides": True,
        "return_to_service": 1,
        "spares": 1,
        "block_sizes": [17, 34],
        "gpu_autodetect": "nvidia",
        "device_prefix": "/dev/fakegpu",
        "device_files": {"gpu": ["/dev/nvidia0", "/dev/nvidia1"]},
        "slurm_user": "slurm",
        "state_directory": "/shared/slurmctld",
        "spool_directory": "/var/spool/slurmd",
        "log_directory": "/var/log/slurm",
        "reboot_program": None,
        "mail_program": "/bin/true",
        "spank_plugins": ["optional /opt/slurm/lib/auto_resume.so spares=1"],
        "prolog": "prolog.sh",
        "epilog": "/opt/slurm/etc/epilog.sh",
        "health_check_program": "/usr/bin/check",
        "health_check_interval": 60,
        "private_data": ["jobs", "usage"],
        "jwt": True,
        "submission_checks": True,
        "settings": {"MessageTimeout": 60, "TaskProlog": "/usr/bin/check --all"},
        "accounting": True,
        "storage_user": "slurm",
        "storage_ca": "/etc/hpadmin/database-ca.pem",
    }
    assert given.keys() == {field.name for field in dataclasses.fields(RenderOptions)} - {"storage_password"}
    found = load(json.dumps(given))
    assert found.block_sizes == (17, 34)
    assert found.device_files == {"gpu": ("/dev/nvidia0", "/dev/nvidia1")}
    assert found.settings == {"MessageTimeout": "60", "TaskProlog": "/usr/bin/check --all"}
    for name in ("release", "return_to_service", "reboot_program", "accounting"):
        assert getattr(found, name) == given[name]


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("[]", "", "must be an object, got a list"),
        ("releas: 24.11", "releas", "is not a setting; did you mean release?"),
        ("release: 24.11", "release", "must be a string, got 24.11"),
        ('release: "new"', "release", "'new' is not a Slurm release such as 24.11"),
        ("auth: none", "auth", "must be one of munge, slurm; got 'none'"),
        ("return_to_service: 3", "return_to_service", "must be one of 0, 1, 2; got 3"),
        ("return_to_service: true", "return_to_service", "must be one of 0, 1, 2; got true"),
        ("spares: -1", "spares", "must be at least 0, got -1"),
        ("spares: two", "spares", "must be a whole number, got 'two'"),
        ("accounting: yes", "accounting", "must be true or false, got 'yes'"),
        ("block_sizes: 18", "block_sizes", "must be a list of sizes, got 18"),
        ("block_sizes: [0]", "block_sizes", "must be a list of sizes, got a list"),
        (
            'log_directory: "/var/log\\nInclude x"',
            "log_directory",
            "'/var/log\\nInclude x' is not an absolute path",
        ),
        ("device_prefix: dev/x", "device_prefix", "'dev/x' is not an absolute path"),
        ('device_files: {gpu: ["/dev/a,b"]}', "device_files.gpu[0]", "'/dev/a,b' is not an absolute path"),
        (
            "device_files: {gpu: []}",
            "device_files.gpu",
            "must have a file at least: leave the group out to detect its devices",
        ),
        ("device_files: {gpu: [/dev/a, /dev/a]}", "device_files.gpu[1]", "'/dev/a' is listed twice"),
        ("health_check_interval: 65534", "health_check_interval", "must be at most 65533, got 65534"),
        ("device_files: []", "device_files", "must be an object of lists, got a list"),
        (
            "reboot_program: /sbin/reboot; rm",
            "reboot_program",
            "'/sbin/reboot; rm' is not a program with plain arguments",
        ),
        (
            "spank_plugins: [include /etc/*]",
            "spank_plugins[0]",
            "'include /etc/*' is not 'required' or 'optional', a plugin and its arguments",
        ),
        ("spank_plugins: x", "spank_plugins", "must be a list of strings, got 'x'"),
        ("settings: {a b: c}", 'settings["a b"]', "'a b' is not the name of a setting"),
        (
            "settings: {Prolog: 'a#b'}",
            "settings.Prolog",
            "'a#b' holds what slurm.conf would read differently",
        ),
        ("settings: {Prolog: [a]}", "settings.Prolog", "must be a string, got a list"),
    ],
)
def test_what_is_wrong_is_told(text: str, path: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(text)
    assert [(problem.path, problem.message) for problem in caught.value.problems] == [(path, message)]


def test_everything_is_told_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        load("auth: x\nspares: x\nwhat: x\nauth: y\n")
    assert [problem.path for problem in caught.value.problems] == ["auth", "auth", "spares", "what"]
