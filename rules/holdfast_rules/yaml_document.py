"""YAML texts → values with their places, and values → YAML texts. The only file that knows YAML."""

from collections.abc import Iterator

import yaml

from holdfast_rules.document import Items, Mistakes, Place, Table, Text, Value, kind_of

LENGTH_MAX = 1024 * 1024
"""Characters per file: thousands of rules."""
DEPTH_MAX = 12
"""No file of ours nests deeper than six."""
VALUES_MAX = 100_000
"""Per file, aliases counted as often as they are used: a few hundred bytes of them can stand for billions."""


def read_document(text: str, mistakes: Mistakes) -> Table | None:
    """A YAML text that is one mapping, with places; None when it is not, and why in `mistakes`."""
    if len(text) > LENGTH_MAX:
        mistakes.add(
            Place(1, 1), f"the file has {len(text)} characters; {LENGTH_MAX} are the most there may be"
        )
        return None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        mistakes.add(place, f"not YAML: {error.problem or error.context}")
        return None
    except yaml.YAMLError as error:
        mistakes.add(Place(1, 1), "not YAML: " + " ".join(str(error).split()))
        return None
    except RecursionError:
        mistakes.add(Place(1, 1), "nested too deeply")
        return None
    if root is None:
        mistakes.add(Place(1, 1), "the file is empty")
        return None
    value = _Converter(text, mistakes).convert(root, 0)
    if value is None or isinstance(value, Table):
        return value
    mistakes.add(value.place, f"the file is a mapping, not {kind_of(value)}")
    return None


def write_document(value: object) -> str:
    """Plain values as a YAML text that people can read: keys in their order, long lines folded."""
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110))


class _Converter:
    """YAML's nodes → values with places."""

    def __init__(self, text: str, mistakes: Mistakes) -> None:
        self.text = text
        self.mistakes = mistakes
        self.values = 0

    def convert(self, node: yaml.Node, depth: int) -> Value | None:
        self.values += 1
        place = _place(node)
        if depth > DEPTH_MAX or self.values > VALUES_MAX:
            self.mistakes.add(place, "nested too deeply" if depth > DEPTH_MAX else "too many values")
            # One such mistake is enough; the rest of the file is not read.
            self.values = VALUES_MAX + 1
            return None
        match node:
            case yaml.ScalarNode():
                source = self.text[node.start_mark.index : node.end_mark.index]
                return Text(place=place, value=node.value, quoted=node.style is not None, source=source)
            case yaml.SequenceNode():
                return Items(place=place, items=tuple(self._all(node.value, depth)))
            case _:
                return self._table(node, place, depth)

    def _all(self, nodes: list[yaml.Node], depth: int) -> Iterator[Value]:
        for node in nodes:
            if self.values > VALUES_MAX:
                return
            value = self.convert(node, depth + 1)
            if value is not None:
                yield value

    def _table(self, node: yaml.Node, place: Place, depth: int) -> Table:
        entries: dict[str, Value] = {}
        keys: dict[str, Place] = {}
        for key, item in node.value:
            if self.values > VALUES_MAX:
                break
            if not isinstance(key, yaml.ScalarNode):
                self.mistakes.add(_place(key), "a key is a single word")
                continue
            if key.value in keys:
                message = f"`{key.value}` is given twice, first in line {keys[key.value].line}"
                self.mistakes.add(_place(key), message)
                continue
            value = self.convert(item, depth + 1)
            if value is not None:
                entries[key.value] = value
                keys[key.value] = _place(key)
        return Table(place=place, entries=entries, keys=keys)


def _place(node: yaml.Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)
