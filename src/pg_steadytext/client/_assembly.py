"""A text put together from pieces that may come late, twice, or never."""

from __future__ import annotations

from dataclasses import dataclass, field

from pg_steadytext.client._errors import StreamDiverged


@dataclass(slots=True)
class Assembly:
    """Takes pieces with their offsets in characters, and the whole text at last; gives out each character once.

    Another attempt at the same request sends the same text from its beginning again; what was given out is passed over.
    A piece after a gap waits until the gap is filled, at the latest by the whole text.
    """

    taken: str = ""
    _ahead: dict[int, str] = field(default_factory=dict)

    def add(self, offset: int, piece: str) -> str:
        """Take a piece and return what can now be given out."""
        if len(piece) > len(self._ahead.get(offset, "")):
            self._ahead[offset] = piece
        fresh = ""
        while (start := self._next(len(self.taken) + len(fresh))) is not None:
            fresh += self._ahead.pop(start)[len(self.taken) + len(fresh) - start :]
        self.taken += fresh
        return fresh

    def finish(self, whole: str) -> str:
        """Take the whole text and return the rest of it.

        Raises ``StreamDiverged`` when it does not begin with what was given out.
        """
        if not whole.startswith(self.taken):
            raise StreamDiverged(
                "the text that was finished is not the one whose pieces were given out",
                hint="A remote model may answer an attempt after a failed one differently; result() has the text.",
            )
        fresh = whole[len(self.taken) :]
        self.taken = whole
        self._ahead.clear()
        return fresh

    def _next(self, end: int) -> int | None:
        """Return the offset of a waiting piece that reaches beyond ``end`` without a gap; drop what lies before it."""
        for offset in [offset for offset, piece in self._ahead.items() if offset + len(piece) <= end]:
            del self._ahead[offset]
        return next((offset for offset in self._ahead if offset <= end), None)
