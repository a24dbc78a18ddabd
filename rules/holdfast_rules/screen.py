"""Text → Python's syntax tree, for text that may come from anybody.

Python's own parser does the reading, so precedence is what everybody expects and every place is known. Before it,
length and characters are looked at; whatever it throws at hostile text (RecursionError, MemoryError, …) becomes a
fault like any other.
"""

import ast
import warnings

from holdfast_rules.errors import ExpressionInvalid, Fault

LENGTH_MAX = 4096
"""Characters. The longest shipped rule has about 200."""

# What people write who come from other languages. Refused before parsing: Python would say less, or, for a comment,
# say nothing and drop the rest of the condition.
_REFUSED = {
    "#": "a comment belongs in the YAML, not in the expression",
    "\\": "a backslash has a meaning only in text",
    "&": "write `and`",
    "|": "write `or`",
    "!": "write `not`",
    "%": "a ratio lies between 0 and 1, so 5 % is 0.05",
}
SPELLINGS = {"AND": "and", "OR": "or", "NOT": "not", "true": "True", "false": "False"}
"""Words that Python writes otherwise."""


def python_tree(text: str) -> ast.expr:
    """Python's tree of one expression; its places count from the first character that is not blank.

    Raises ExpressionInvalid.
    """
    faults = _unreadable(text)
    if faults:
        raise ExpressionInvalid(faults)
    # Every line break is a space: YAML lets a condition span lines, Python would want brackets around it.
    line = text.replace("\n", " ").replace("\t", " ").replace("\r", " ")
    indent = len(line) - len(line.lstrip(" "))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = ast.parse(line.strip(" "), mode="eval").body
    except SyntaxError as error:
        offset = min(max((error.offset or 1) - 1 + indent, 0), max(len(text) - 1, 0))
        near = [f"`{right}`" for wrong, right in SPELLINGS.items() if wrong in line.split()]
        raise ExpressionInvalid(
            [Fault(offset, f"not an expression: {error.msg}", near[0] if near else "")]
        ) from None
    except (RecursionError, MemoryError):
        raise ExpressionInvalid([Fault(0, "nested too deeply")]) from None
    except (ValueError, OverflowError) as error:
        raise ExpressionInvalid([Fault(0, f"not an expression: {error}")]) from None
    return parsed


def _unreadable(text: str) -> list[Fault]:
    """What must not even reach the parser."""
    if not text.strip():
        return [Fault(0, "the condition is empty")]
    if len(text) > LENGTH_MAX:
        return [
            Fault(
                LENGTH_MAX,
                f"the condition has {len(text)} characters; {LENGTH_MAX} are the most there may be",
            )
        ]
    return _refused_character(text)


def _refused_character(text: str) -> list[Fault]:
    """The first character that may not stand where it stands; inside text anything printable may."""
    quote = ""
    offset = 0
    while offset < len(text):
        character = text[offset]
        if not character.isprintable() and character not in "\n\t\r":
            return [Fault(offset, f"the character {character!r} may not stand here")]
        if quote:
            offset += 1 if character == "\\" else 0
            quote = "" if character == quote else quote
        elif character in "'\"":
            if text.startswith(character * 3, offset):
                return [Fault(offset, "text stands between one pair of quotation marks")]
            quote = character
        elif character in _REFUSED and text[offset : offset + 2] != "!=":
            return [Fault(offset, f"{character!r} may not stand here: {_REFUSED[character]}")]
        offset += 1
    return []
