"""The YAML of configurations: what is written is read again as the same value, by PyYAML and by jsonargparse.

jsonargparse reads 1e5 as a number and 2026-11-28 as a text, PyYAML the other way round. So here, as there,
1e5 is a number and a date is a text, and whatever text looks like anything else to one of the two is quoted.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from jsonargparse import set_dumper

_FLOAT = "tag:yaml.org,2002:float"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_EXPONENT = re.compile(r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9_]+)[eE][-+]?[0-9]+")
_FIRST = list("-+0123456789.")
_UNDERLINED = re.compile(r"^\._[0-9_]*$")  # jsonargparse takes ._1 for a number
_BREAKS = re.compile("[\x85\u2028\u2029]")  # ends of lines, for YAML


class _Loader(yaml.SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):
    pass


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _BREAKS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_FLOAT, re.compile(rf"^(?:{_EXPONENT.pattern})$"), _FIRST)
_Dumper.add_implicit_resolver(_FLOAT, re.compile(rf"^(?:{_EXPONENT.pattern})$"), _FIRST)
_Dumper.add_implicit_resolver(_FLOAT, _UNDERLINED, ["."])
_Dumper.add_representer(str, _represent_text)


def load(text: str) -> Any:
    """Read YAML.

    Raises:
        yaml.YAMLError: it is not valid.
    """
    return yaml.load(text, Loader=_Loader)


def dump(tree: Any, only_ascii: bool = False) -> str:
    """Write YAML whose every text is read as that text.

    Args:
        tree: what to write.
        only_ascii: write other letters as escapes.
    """
    options = {"default_flow_style": False, "allow_unicode": not only_ascii, "sort_keys": False}
    return yaml.dump(tree, Dumper=_Dumper, **options)


set_dumper("yaml", dump)  # of config.yaml and --print_config
