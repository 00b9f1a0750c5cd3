"""Templates in a configuration: ``{name}`` stands for an operation's argument, ``${NAME}`` for an environment variable.

A text that is one placeholder and nothing else keeps the argument's type, so ``amount = "{amount}"`` sends a number.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from harness.model.errors import UsageError, nearest

_ARGUMENT = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def with_environment(value: Any, where: str) -> Any:
    """Return the value with every ``${NAME}`` in its texts replaced from the environment.

    Raises:
        UsageError: a variable is not set; names it and ``where`` it is used.
    """
    if isinstance(value, str):

        def replace(match: re.Match[str]) -> str:
            try:
                return os.environ[match[1]]
            except KeyError:
                raise UsageError(f"{where} needs the environment variable {match[1]}, which is not set") from None

        return _VARIABLE.sub(replace, value)
    if isinstance(value, Mapping):
        return {key: with_environment(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [with_environment(item, where) for item in value]
    if isinstance(value, tuple):
        return tuple(with_environment(item, where) for item in value)
    return value


def variables(value: Any) -> dict[str, str]:
    """Return the environment variables that the texts of a configuration use, with their values where they are set."""
    if isinstance(value, str):
        return {name: os.environ[name] for name in _VARIABLE.findall(value) if name in os.environ}
    if isinstance(value, Mapping):
        return {name: found for item in value.values() for name, found in variables(item).items()}
    if isinstance(value, list | tuple):
        return {name: found for item in value for name, found in variables(item).items()}
    return {}


def placeholders(value: Any) -> set[str]:
    """Return the names of all arguments that a template mentions."""
    if isinstance(value, str):
        return set(_ARGUMENT.findall(value))
    if isinstance(value, Mapping):
        return set().union(*(placeholders(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(placeholders(item) for item in value))
    return set()


def fill(template: Any, arguments: Mapping[str, Any]) -> Any:
    """Return the template with its placeholders replaced by the arguments.

    Raises:
        UsageError: there is no such argument; names the nearest.
    """
    if isinstance(template, str):
        if whole := _ARGUMENT.fullmatch(template):
            return _argument(whole[1], arguments)
        return _ARGUMENT.sub(lambda match: str(_argument(match[1], arguments)), template)
    if isinstance(template, Mapping):
        return {key: fill(item, arguments) for key, item in template.items()}
    if isinstance(template, list):
        return [fill(item, arguments) for item in template]
    return template


def _argument(name: str, arguments: Mapping[str, Any]) -> Any:
    try:
        return arguments[name]
    except KeyError:
        known = ", ".join(sorted(arguments))
        raise UsageError(f"the operation has no argument {{{name}}}{nearest(name, arguments)}; there are: {known}") from None


def dig(document: Any, path: str) -> Any:
    """Return what lies at a dotted path (``invoice.lines.0.number``) of a JSON value, or None."""
    for step in path.split("."):
        if isinstance(document, Mapping):
            document = document.get(step)
        elif isinstance(document, list) and step.isdigit() and int(step) < len(document):
            document = document[int(step)]
        else:
            return None
    return document
