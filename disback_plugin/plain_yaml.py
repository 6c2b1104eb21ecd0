"""YAML as plain data: what takes a few bytes to write may not take memory or time to read."""

from typing import Any

import yaml

from disback_plugin.errors import ConfigError
from disback_plugin.reading import cut, shown

MAX_VALUES = 100_000
MAX_DEPTH = 50


def parse_yaml(text: str, source: str) -> Any:
    """The one document in `text`; raises ConfigError naming `source`.

    Refused: a key given twice, an alias within what it names, more than MAX_VALUES values or
    MAX_DEPTH levels once aliases are written out, and tags that make anything but plain data.
    """
    loader = yaml.SafeLoader("")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _Sizes().of(node)
        return loader.construct_document(node)
    except ConfigError as error:
        raise ConfigError(f"{source}{error}") from None
    except RecursionError:
        raise ConfigError(f"{source} is nested more than {MAX_DEPTH} levels deep") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {cut(error)}") from None
    except Exception as error:  # of a value that is not what its form or tag says: 2024-02-31
        raise ConfigError(f"{source} holds a value that YAML cannot read: {cut(error)}") from None
    finally:
        loader.dispose()


class _Sizes:
    """Counts the values below each node as if aliases were written out, each node once."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[int, int]] = {}
        self._open: set[int] = set()

    def of(self, node: yaml.Node) -> tuple[int, int]:
        """(values, levels)."""
        if id(node) in self._found:
            return self._found[id(node)]
        where = f", line {node.start_mark.line + 1}"
        if id(node) in self._open:
            raise ConfigError(f"{where}: an alias stands within what it names")
        self._open.add(id(node))
        values, levels = 1, 0
        for child in _children(node):
            more, depth = self.of(child)
            values, levels = values + more, max(levels, depth)
        if values > MAX_VALUES:
            raise ConfigError(f"{where}: more than {MAX_VALUES:,} values, aliases written out")
        if levels >= MAX_DEPTH:
            raise ConfigError(f"{where}: nested more than {MAX_DEPTH} levels deep")
        self._open.remove(id(node))
        self._found[id(node)] = values, levels + 1
        return self._found[id(node)]


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    line = key.start_mark.line + 1
                    raise ConfigError(f", line {line}: the key {shown(key.value)} is given twice")
                seen.add((key.tag, key.value))
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
