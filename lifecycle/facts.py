"""Where am I: which instance of `resource_config.json` this machine is, found by its own addresses.

Copies of the file on workers can be stale or half written; the caller looks again for a while before it believes
that the instance is missing.
"""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path

from hpadmin.errors import InvalidInput, OperationFailed
from hpadmin.model import Instance
from hpadmin.request import Inventory, Source, read_inventory
from hpadmin.slurm.command import Runner
from lifecycle.step import Transient

RESOURCE_CONFIG = "/opt/ml/config/resource_config.json"
RESOURCE_CONFIG_VARIABLE = "SAGEMAKER_RESOURCE_CONFIG_PATH"
"""Environment variable by which HyperPod's agent names another place of the file."""


def own_addresses(runner: Runner) -> tuple[str, ...]:
    """Return this host's IPv4 addresses, loopback left out. Raises OperationFailed."""
    if not shutil.which("ip"):
        return route_addresses()
    listed = runner.run(["ip", "-json", "-4", "address", "show"], timeout=10).check()
    try:
        return addresses_in(json.loads(listed.stdout))
    except (ValueError, TypeError, KeyError) as error:
        raise OperationFailed(f"ip(8) printed no addresses that can be understood: {error}") from error


def addresses_in(links: Iterable[dict[str, list[dict[str, str]]]]) -> tuple[str, ...]:
    """Return the addresses in the output of ``ip -json -4 address show``, loopback left out.

    >>> addresses_in([{"addr_info": [{"family": "inet", "local": "10.1.2.3"}, {"local": "127.0.0.1"}]}])
    ('10.1.2.3',)
    """
    found = [entry["local"] for link in links for entry in link["addr_info"]]
    return tuple(address for address in found if not address.startswith("127."))


def route_addresses() -> tuple[str, ...]:
    """Return the address that this host would send from, on a host so bare that it has no ip(8).

    Nothing is sent: connecting a datagram socket only chooses a route. Empty without a route.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ()
        return (str(probe.getsockname()[0]),)


def read(path: Path) -> Inventory:
    """Read `resource_config.json`.

    Raises Transient when it is not there or not whole yet, InvalidInput when it is whole and wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise Transient(f"{path} does not exist") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8") from error
    try:
        json.loads(text)
    except RecursionError as error:
        raise InvalidInput(f"{path} is not valid JSON: nested too deeply") from error
    except ValueError as error:
        raise Transient(f"{path} is not JSON (half written?): {error}") from error
    return read_inventory(Source(text, str(path)))


def find(inventory: Inventory, addresses: Iterable[str], origin: str) -> Instance:
    """Return the instance that has one of `addresses`.

    Raises Transient, naming what was compared, when none has (the file may be stale), InvalidInput when several
    have: then nothing says which of them this machine is.
    """
    own = set(addresses)
    matching = [instance for instance in inventory.instances if instance.address in own]
    if not matching:
        theirs = ", ".join(instance.address for instance in inventory.instances[:20]) or "none"
        more = f" and {len(inventory.instances) - 20} more" if len(inventory.instances) > 20 else ""
        raise Transient(
            f"this instance is not in {origin}: it has {', '.join(sorted(own)) or 'no address'}, "
            f"the file has {theirs}{more}",
            hint="the file is stale, or the instance belongs to another cluster",
        )
    if len(matching) > 1:
        names = ", ".join(f"{instance.name} ({instance.address})" for instance in matching)
        raise InvalidInput(f"{origin} gives addresses of this machine to more than one instance: {names}")
    return matching[0]


def host_name() -> str:
    """Return the machine's present host name, without its domain."""
    return socket.gethostname().split(".")[0]
