"""What docker-compose.yml says, for those who check it and for those who run the same
topology without containers (tests/chaos_suite)."""

import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"


def load():
    return yaml.safe_load(FILE.read_text())


def substituted(text, variables):
    """Text with `${NAME:?…}`, `${NAME:-default}` and `$$` as compose reads them."""
    def value(found):
        name, operator, rest = found.group(1), found.group(2), found.group(3)
        if name is None:
            return "$"
        if name in variables:
            return variables[name]
        if operator == ":-":
            return rest
        raise KeyError(f"${name} has no value: {rest}")
    return re.sub(r"\$(?:\$|\{([A-Z0-9_]+)(?:(:[-?])([^}]*))?\})", value, str(text))


class Service:
    """One service that runs sluice."""

    def __init__(self, name, service, variables):
        self.name, self.command = name, service["command"]
        self.environment = {
            key: substituted(value, variables) for key, value in service["environment"].items()
        }
        self.service = service


def sluice(variables):
    """The services that run sluice, by what they are: servers, workers, others."""
    kinds = {"servers": [], "workers": [], "others": []}
    for name, service in load()["services"].items():
        if service.get("image") != "sluice":
            continue
        one = Service(name, service, variables)
        kind = {"serve": "servers", "worker": "workers"}.get(one.command[0], "others")
        kinds[kind].append(one)
    return kinds
