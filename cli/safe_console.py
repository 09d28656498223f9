"""rich's console, which shows what clients wrote and obeys none of it."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from cli.escaping import printable


class SafeConsole(Console):
    """Escapes whatever is printed: no command needs to think of it.

    A text is one line, with its line breaks written out: an empty line is printed by itself. In
    tables and the like each part is escaped, and only their own line breaks are obeyed. Nothing in
    a text is markup, a link or an emoji.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does."""
        shown = (printable(one) if isinstance(one, str) else one for one in objects)
        super().print(*shown, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render as rich does; what moves the cursor for rich itself stays."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text, keeps_lines=True), segment.style)
