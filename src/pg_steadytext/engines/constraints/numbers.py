"""Ranges of numbers as expressions over their digits.

Integers have up to 15 digits unless a bound has more (those fit a double exactly); fractions have up to six digits
unless a bound or a multiple has more. Exponents are read in schemas, but never written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from pg_steadytext.engines.constraints.automaton import TooComplex
from pg_steadytext.engines.constraints.expression import (
    DIGIT,
    EMPTY,
    NOTHING,
    Alt,
    Both,
    Expression,
    Multiple,
    Repeat,
    Seq,
    optional,
    span,
    text,
)

INTEGER_DIGITS = 15
FRACTION_DIGITS = 6
MAX_DIGITS = 40
MAX_MULTIPLE = 3000
DIGITS = Repeat(DIGIT)
ZEROS = Repeat(text("0"))


@dataclass(frozen=True, slots=True)
class Bounds:
    """An interval of numbers; None has no end, and an open end does not belong to it."""

    least: Decimal | None = None
    most: Decimal | None = None
    open_least: bool = False
    open_most: bool = False

    def check(self) -> None:
        """Raise TooComplex for ends with more digits than a grammar should spell."""
        for end in (self.least, self.most):
            if end is not None and (end.adjusted() > MAX_DIGITS or _places(end) > MAX_DIGITS):
                raise TooComplex(f"the number {end} has more than {MAX_DIGITS} digits")


def integers(bounds: Bounds, multiple: Decimal | None = None) -> Expression:
    """The integers of an interval, in the shortest notation."""
    bounds.check()
    least = None if bounds.least is None else math.ceil(bounds.least)
    most = None if bounds.most is None else math.floor(bounds.most)
    if least is not None and bounds.open_least and least == bounds.least:
        least += 1
    if most is not None and bounds.open_most and most == bounds.most:
        most -= 1
    shape = _signed_integers(least, most)
    if multiple is None:
        return shape
    return Both((shape, _multiple(multiple.as_integer_ratio()[0])))


def numbers(bounds: Bounds, multiple: Decimal | None = None) -> Expression:
    """The decimal numbers of an interval, without exponents."""
    bounds.check()
    least, most = bounds.least, bounds.most
    shape = Alt(
        (
            _magnitudes(
                max(least or Decimal(0), Decimal(0)),
                most,
                open_least=bounds.open_least and least is not None and least >= 0,
                open_most=bounds.open_most,
            ),
            Seq(
                (
                    text("-"),
                    _magnitudes(
                        max(-most, Decimal(0)) if most is not None else Decimal(0),
                        None if least is None else -least,
                        open_least=most is None or most >= 0 or bounds.open_most,
                        open_most=bounds.open_least,
                    ),
                )
            ),
        )
    )
    if multiple is None:
        return shape
    places = _places(multiple)
    fraction: Expression = Seq((text("."), Repeat(DIGIT, places, places))) if places else EMPTY
    whole = Seq((optional(text("-")), _from(0, None), fraction))
    return Both((shape, whole, _multiple(int(multiple.scaleb(places)))))


def _places(number: Decimal) -> int:
    """How many digits stand behind the point."""
    exponent = number.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def _multiple(of: int) -> Expression:
    if of > MAX_MULTIPLE:
        raise TooComplex(f"multipleOf is too large for a grammar: its digits form a number above {MAX_MULTIPLE}")
    return Multiple(of)


def _signed_integers(least: int | None, most: int | None) -> Expression:
    positive = NOTHING if most is not None and most < 0 else _from(max(least or 0, 0), most)
    if least is not None and least >= 0:
        return positive
    nearest = 1 if most is None or most >= 0 else -most
    furthest = None if least is None else -least
    return Alt((positive, Seq((text("-"), _from(nearest, furthest)))))


def _from(least: int, most: int | None) -> Expression:
    """The integers from `least` to `most`, neither below zero."""
    if most is None:
        most = 10 ** max(INTEGER_DIGITS, len(str(least)) + 1) - 1
    options: list[Expression] = []
    for length in range(len(str(least)), len(str(most)) + 1):
        low = max(least, 10 ** (length - 1) if length > 1 else 0)
        high = min(most, 10**length - 1)
        if low <= high:
            options.append(_same_length(str(low), str(high)))
    return Alt(tuple(options))


def _same_length(low: str, high: str) -> Expression:
    """The digit strings of one length from `low` to `high`."""
    if not low:
        return EMPTY
    rest = len(low) - 1
    if not low.strip("0") and not high.strip("9"):
        return Repeat(DIGIT, len(low), len(low))
    if low[0] == high[0]:
        return Seq((text(low[0]), _same_length(low[1:], high[1:])))
    options: list[Expression] = [
        Seq((text(low[0]), _same_length(low[1:], "9" * rest))),
        Seq((text(high[0]), _same_length("0" * rest, high[1:]))),
    ]
    if int(high[0]) - int(low[0]) > 1:
        middle = span(str(int(low[0]) + 1), str(int(high[0]) - 1))
        options.append(Seq((middle, Repeat(DIGIT, rest, rest))))
    return Alt(tuple(options))


def _magnitudes(least: Decimal, most: Decimal | None, *, open_least: bool, open_most: bool) -> Expression:
    """The decimal numbers from `least` to `most`, neither below zero."""
    if most is not None and (most < least or (most == least and (open_least or open_most))):
        return NOTHING
    digits = max(FRACTION_DIGITS, _places(least) + 1, _places(most) + 1 if most is not None else 0)
    shape: Expression = Alt((EMPTY, Seq((text("."), Repeat(DIGIT, 1, digits)))))
    floor, above = int(least), _at_least(_fraction(least), strict=open_least)
    if most is None:
        return Alt((Seq((text(str(floor)), Both((shape, above)))), Seq((_from(floor + 1, None), shape))))
    ceiling, below = int(most), _at_most(_fraction(most), strict=open_most)
    if floor == ceiling:
        return Seq((text(str(floor)), Both((shape, above, below))))
    options = [
        Seq((text(str(floor)), Both((shape, above)))),
        Seq((text(str(ceiling)), Both((shape, below)))),
    ]
    if ceiling - floor > 1:
        options.append(Seq((_from(floor + 1, ceiling - 1), shape)))
    return Alt(tuple(options))


def _fraction(number: Decimal) -> str:
    """The digits behind the point, without zeros at the end."""
    return f"{number:f}".partition(".")[2].rstrip("0")


def _at_least(digits: str, *, strict: bool) -> Expression:
    """The fractions, with their point, that are not below `digits`."""
    options: list[Expression] = [] if digits or strict else [EMPTY]
    for index, digit in enumerate(digits):
        if digit != "9":
            options.append(Seq((text("." + digits[:index]), span(str(int(digit) + 1), "9"), DIGITS)))
    end = Seq((ZEROS, span("1", "9"), DIGITS)) if strict else DIGITS
    options.append(Seq((text("." + digits), end)))
    return Alt(tuple(options))


def _at_most(digits: str, *, strict: bool) -> Expression:
    """The fractions, with their point, that are not above `digits`."""
    options: list[Expression] = [EMPTY] if digits or not strict else []
    for index, digit in enumerate(digits):
        if index:
            options.append(text("." + digits[:index]))
        if digit != "0":
            options.append(Seq((text("." + digits[:index]), span("0", str(int(digit) - 1)), DIGITS)))
    if not strict:
        options.append(Seq((text("." + digits), ZEROS)))
    return Alt(tuple(options))
