"""Grammars in llama.cpp's notation (GBNF), kept as rules until they are written.

Rules that stand for no finite text are pruned, so that a model is never led into a dead end.
https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pg_steadytext.engines.constraints.automaton import Automaton, MatchesNothing, TooComplex
from pg_steadytext.engines.constraints.expression import Range, complement, overlap

MAX_RULES = 12_000
MAX_LENGTH = 1_000_000
SHORT_CLASS = 4
ESCAPES = {'"': '"', "\\": "\\", "\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}
PLAIN: tuple[Range, ...] = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0xD7FF), (0xE000, 0x10FFFF))


@dataclass(frozen=True, slots=True)
class Literal:
    """A fixed text."""

    text: str


@dataclass(frozen=True, slots=True)
class Class:
    """One character out of some ranges."""

    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """What another rule stands for, from `least` to `most` times."""

    name: str
    least: int = 1
    most: int | None = 1


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the model, by its number."""

    number: int


Symbol = Literal | Class | Rule | Token
Option = tuple[Symbol, ...]


@dataclass(slots=True)
class Grammar:
    """Rules by name, each a list of options; `root` is where a text begins.

    A model that has no tokens for what comes next ends the process, so what needs `unwritable` characters is left out.
    """

    rules: dict[str, list[Option]] = field(default_factory=dict)
    unwritable: tuple[Range, ...] = ()
    _classes: dict[tuple[Range, ...], Rule] = field(default_factory=dict)
    _numbers: int = 0

    def name(self, stem: str) -> str:
        """A fresh name for a rule, which is then to be filled."""
        self._numbers += 1
        name = f"{stem}-{self._numbers}"
        self.rules[name] = []
        if len(self.rules) > MAX_RULES:
            raise TooComplex(
                f"the constraint is too large: its grammar needs more than {MAX_RULES} rules",
                hint="use a smaller schema, smaller repetition counts, or shorter lengths",
            )
        return name

    def add(self, stem: str, *options: Option) -> Rule:
        """A new rule with these options."""
        name = self.name(stem)
        self.rules[name].extend(options)
        return Rule(name)

    def automaton(self, automaton: Automaton) -> Rule:
        """The texts of an automaton, as they are."""
        names = [self.name("s") for _state in automaton.states]
        for name, state in zip(names, automaton.states, strict=True):
            self.rules[name] = [(self._char(ranges), Rule(names[to])) for ranges, to in state.moves]
            if state.final:
                self.rules[name].append(())
        return Rule(names[0])

    def json_string(self, automaton: Automaton) -> Rule:
        """The texts of an automaton as JSON strings, with the shortest escapes."""
        names = [self.name("s") for _state in automaton.states]
        for name, state in zip(names, automaton.states, strict=True):
            for ranges, to in state.moves:
                self.rules[name] += [(*option, Rule(names[to])) for option in self._escaped(ranges)]
            if state.final:
                self.rules[name].append((Literal('"'),))
        return self.add("string", (Literal('"'), Rule(names[0])))

    def _char(self, ranges: tuple[Range, ...]) -> Symbol:
        """One character; what takes long to write is a rule of its own, written once."""
        if len(ranges) <= SHORT_CLASS:
            return Class(ranges)
        if ranges not in self._classes:
            self._classes[ranges] = self.add("c", (Class(ranges),))
        return self._classes[ranges]

    def _escaped(self, ranges: tuple[Range, ...]) -> list[Option]:
        """The characters of some ranges as they stand inside a JSON string."""
        options: list[Option] = []
        plain = overlap(ranges, PLAIN)
        if plain:
            options.append((self._char(plain),))
        short = [mark for char, mark in ESCAPES.items() if any(first <= ord(char) <= last for first, last in ranges)]
        if short:
            options.append((Literal("\\"), Class(tuple((ord(mark), ord(mark)) for mark in sorted(short)))))
        if not options:
            codes = [code for first, last in ranges for code in range(first, min(last, 0x1F) + 1)]
            options.extend((Literal(f"\\u{code:04x}"),) for code in codes)
        return options

    def write(self, root: Rule, what: str) -> str:
        """The grammar as llama.cpp reads it; `what` names the constraint in errors.

        Raises MatchesNothing, TooComplex.
        """
        self._narrow()
        self._untangle()
        productive = self._productive()
        if root.name not in productive:
            raise MatchesNothing(f"no finite text satisfies {what}")
        lines = [f"root ::= {root.name}"]
        seen = {root.name}
        waiting = [root.name]
        length = 0
        while waiting:
            name = waiting.pop()
            options = [
                tuple(symbol for symbol in option if not isinstance(symbol, Rule) or symbol.name in productive)
                for option in self.rules[name]
                if _possible(option, productive)
            ]
            lines.append(f"{name} ::= {' | '.join(map(_option, options))}")
            length += len(lines[-1]) + 1
            if length > MAX_LENGTH:
                raise TooComplex(f"{what} is too large: its grammar has more than {MAX_LENGTH} characters")
            for symbol in (symbol for option in options for symbol in option if isinstance(symbol, Rule)):
                if symbol.name not in seen:
                    seen.add(symbol.name)
                    waiting.append(symbol.name)
        return "\n".join(lines) + "\n"

    def _narrow(self) -> None:
        """Leave out what cannot be written."""
        if self.unwritable:
            writable = complement(self.unwritable)
            for name, options in self.rules.items():
                narrowed = [_narrowed(option, writable) for option in options]
                self.rules[name] = [option for option in narrowed if option is not None]

    def _untangle(self) -> None:
        """Replace rules that lead back to themselves before any character by all that they then stand for."""
        aliases = {name: self._aliases(name) for name in self.rules}
        direct = {
            name: [option for option in options if _alias(option) is None] for name, options in self.rules.items()
        }
        for name, others in aliases.items():
            if name in others:
                options = [option for other in others for option in direct[other]]
                self.rules[name] = list(dict.fromkeys(options))

    def _aliases(self, name: str) -> dict[str, None]:
        """The rules that one can become without a character."""
        found: dict[str, None] = {}
        waiting = [name]
        while waiting:
            for option in self.rules[waiting.pop()]:
                other = _alias(option)
                if other is not None and other not in found:
                    found[other] = None
                    waiting.append(other)
        return found

    def _productive(self) -> set[str]:
        """The rules that stand for at least one finite text."""
        found: set[str] = set()
        users: dict[str, set[str]] = {}
        for name, options in self.rules.items():
            for symbol in (symbol for option in options for symbol in option if isinstance(symbol, Rule)):
                users.setdefault(symbol.name, set()).add(name)
        waiting = list(self.rules)
        while waiting:
            name = waiting.pop()
            if name not in found and any(_possible(option, found) for option in self.rules[name]):
                found.add(name)
                waiting.extend(users.get(name, ()))
        return found


def _narrowed(option: Option, writable: tuple[Range, ...]) -> Option | None:
    """An option as far as it can be written, None where it cannot."""
    narrowed: list[Symbol] = []
    for symbol in option:
        if isinstance(symbol, Literal) and not all(
            overlap(((ord(char), ord(char)),), writable) for char in symbol.text
        ):
            return None
        if isinstance(symbol, Class):
            ranges = overlap(symbol.ranges, writable)
            if not ranges:
                return None
            narrowed.append(Class(ranges))
        else:
            narrowed.append(symbol)
    return tuple(narrowed)


def _possible(option: Option, productive: set[str]) -> bool:
    return all(not isinstance(symbol, Rule) or symbol.least == 0 or symbol.name in productive for symbol in option)


def _alias(option: Option) -> str | None:
    """The rule that an option merely stands for."""
    if len(option) == 1 and isinstance(option[0], Rule) and (option[0].least, option[0].most) == (1, 1):
        return option[0].name
    return None


def _option(option: Option) -> str:
    return " ".join(map(_symbol, option)) or '""'


def _symbol(symbol: Symbol) -> str:
    if isinstance(symbol, Literal):
        return f'"{"".join(_char(ord(char)) for char in symbol.text)}"'
    if isinstance(symbol, Class):
        return f"[{''.join(_char(a) if a == b else f'{_char(a)}-{_char(b)}' for a, b in symbol.ranges)}]"
    if isinstance(symbol, Token):
        return f"<[{symbol.number}]>"
    if (symbol.least, symbol.most) == (1, 1):
        return symbol.name
    if (symbol.least, symbol.most) == (0, None):
        return f"{symbol.name}*"
    return f"{symbol.name}{{{symbol.least},{'' if symbol.most is None else symbol.most}}}"


def _char(code: int) -> str:
    char = chr(code)
    if char.isascii() and (char.isalnum() or char in " {}:,._/@"):
        return char
    return f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"
