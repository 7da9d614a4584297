"""Which texts were recalled from memory: what repeats one of them is nothing new."""

from __future__ import annotations

from collections import OrderedDict

from pg_steadytext.memory.domain.text import normalise

MOST = 1000
SHORTEST = 20


class Recalled:
    """The texts that were told last."""

    def __init__(self, most: int = MOST) -> None:
        self._texts: OrderedDict[str, None] = OrderedDict()
        self._most = most

    def note(self, text: str) -> None:
        """Remember that a text was told."""
        known = normalise(text)
        self._texts[known] = None
        self._texts.move_to_end(known)
        if len(self._texts) > self._most:
            self._texts.popitem(last=False)

    def holds(self, text: str) -> bool:
        """Tell whether a text is one that was told, or a passage of it; a few words are no passage."""
        asked = normalise(text)
        return asked in self._texts or (len(asked) >= SHORTEST and any(asked in told for told in self._texts))
