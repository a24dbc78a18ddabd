"""The terminal: lines stay, the live line is rewritten, and a pipe gets neither escapes nor a flood."""

import io

from holdfast.terminal import PLAIN_PERIOD_SECONDS, Terminal, printable


class Tty(io.StringIO):
    """A standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    """A pipe whose reader has left."""

    tried = 0

    def write(self, text: str) -> int:
        self.tried += 1
        raise BrokenPipeError


def test_a_pipe_gets_plain_lines_and_the_live_one_now_and_then() -> None:
    out = io.StringIO()
    terminal = Terminal(out)
    terminal.line("begun")
    for second in range(int(PLAIN_PERIOD_SECONDS) + 1):
        terminal.live(f"second {second}", float(second))
    terminal.close()

    assert out.getvalue() == "begun\nsecond 0\nsecond 5\n"


def test_on_a_terminal_the_live_line_stays_last() -> None:
    out = Tty()
    terminal = Terminal(out)
    terminal.live("one", 0.0)
    terminal.line("news")
    terminal.live("two", 0.1)
    terminal.close()
    terminal.line("end")

    assert out.getvalue() == "one\r\x1b[Knews\none\r\x1b[Ktwo\nend\n"


def test_a_live_line_never_wraps() -> None:
    """A wrapped line cannot be rewritten: half of it would stay."""
    out = Tty()
    Terminal(out).live("x" * 1000, 0.0)

    assert len(out.getvalue()) < 1000
    assert out.getvalue().endswith("…")


def test_a_reader_that_left_ends_nothing() -> None:
    """`holdfast up | head`: whoever started it still wants the children stopped in order."""
    out = Gone()
    terminal = Terminal(out)
    terminal.line("nobody reads this")
    terminal.live("nor this", 0.0)
    terminal.close()

    assert out.tried == 1


def test_hostile_text_cannot_move_the_cursor() -> None:
    assert printable("a\x1b[2J\x9b0mb\r\n\t\x00ü") == "a?[2J?0mb????ü"
