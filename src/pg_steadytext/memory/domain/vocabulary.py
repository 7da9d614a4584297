"""Words that make a text another one, and words that do not. English, as the embedding model is."""

from __future__ import annotations

from collections.abc import Mapping


def _words(text: str) -> list[str]:
    return text.split()


STOPWORDS = frozenset(
    _words(
        "a an the is are was were be been being am do does did has have had having will would shall should "
        "can could may might must i you he she it we they me him her us them my your his its our their mine "
        "yours this that these those of at for with about into onto on in to from by as and or so then there "
        "here also just very really quite too please that's it's i'm i've i'll we're we've you're there's "
        "let's which who whom whose what's when where how if while s t re ve ll m d ll"
    )
)
"""Left out where words are compared. Those of direction still tell that the order of words counts."""

DIRECTED = frozenset(
    _words(
        "from to than before after by over under owes owe owed above below instead rather versus vs beats "
        "beat until towards past into onto behind"
    )
)

NEGATIONS = frozenset(
    _words(
        "not no never none nobody nothing nowhere neither nor without cannot hardly barely scarcely rarely "
        "seldom dont doesnt didnt isnt arent wasnt werent wont wouldnt cant couldnt shouldnt hasnt havent "
        "hadnt mustnt neednt aint unless except nope refuse refuses refused lack lacks avoid avoids stop "
        "stops stopped failed fails fail instead off other another only otherwise maybe perhaps possibly "
        "almost nearly former formerly else"
    )
)
"""What denies or narrows the word that follows; both texts must do so to the same words."""

_MONTHS = _words("january february march april may june july august september october november december")
_DAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
_SHORT = {
    "jan": "january", "feb": "february", "mar": "march", "apr": "april", "jun": "june", "jul": "july", "aug": "august",
    "sep": "september", "sept": "september", "oct": "october", "nov": "november", "dec": "december", "mon": "monday",
    "tue": "tuesday", "tues": "tuesday", "wed": "wednesday", "thu": "thursday", "thur": "thursday",
    "thurs": "thursday", "fri": "friday", "sat": "saturday", "sun": "sunday",
}  # fmt: skip
_RELATIVE = _words(
    "today tomorrow yesterday tonight morning afternoon evening night noon midday midnight weekend weekends "
    "weekday weekdays daily weekly monthly yearly annually hourly quarterly fortnightly biweekly spring "
    "summer autumn fall winter christmas easter next last previous first final day days week weeks month "
    "months year years hour hours minute minutes quarter decade century early late earlier later soon now "
    "always often sometimes usually once twice every each"
)

DATES: Mapping[str, str] = {
    **{word: word for word in (*_MONTHS, *_DAYS, *_RELATIVE)},
    **{f"{day}s": day for day in _DAYS},
    **_SHORT,
}
"""Words for times, as what they are counted as."""

_UNITS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
_ORDINALS = _words("zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth")
NUMBERS: Mapping[str, str] = {
    **{word: str(number) for number, word in enumerate(_UNITS)},
    **{word: str(number) for number, word in enumerate(_ORDINALS) if number > 1},
    "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
    "hundred": "100", "thousand": "1000", "million": "1000000", "billion": "1000000000", "half": "1/2",
    "dozen": "12", "double": "2x", "triple": "3x", "percent": "%", "dollar": "$", "dollars": "$", "euro": "€",
    "euros": "€", "pound": "£", "pounds": "£", "both": "both", "all": "all", "some": "some", "any": "any",
    "few": "few", "many": "many", "most": "most", "half-": "1/2",
}  # fmt: skip
"""Words for numbers and amounts, as what they are counted as."""

_OPPOSED = """
like dislike hate detest loathe
love hate dislike detest
enjoy hate dislike
on off
open closed close shut
opened closed
before after
with without
left right
up down
buy sell
bought sold
start stop finish end
begin end finish
accept reject decline refuse
allow forbid ban prohibit
allowed forbidden banned
increase decrease reduce lower
raise lower cut
confirm cancel
confirmed cancelled canceled
more less fewer
above below
over under
always never
hot cold
win lose
won lost
true false
yes no
enable disable
agree disagree
include exclude
import export
lend borrow
lent borrowed
send receive
sent received
arrive leave depart
arrival departure
hire fire
pass fail
passed failed
remember forget
lock unlock
locked unlocked
empty full
old new
big small
large small
high low
long short
fast slow
easy hard difficult
cheap expensive
good bad
best worst
better worse
north south
east west
upstairs downstairs
front back
inside outside
indoors outdoors
internal external
public private
private shared
paid unpaid free
salty sweet
black white
red green blue yellow
mother father
mom dad
mum dad
sister brother
son daughter
wife husband
aunt uncle
man woman
boy girl
add remove delete
added removed deleted
save delete
keep drop discard
push pull
credit debit
income expense
minimum maximum
min max
approve deny reject
approved denied rejected
install uninstall
login logout
upload download
read write
breakfast lunch dinner
am pm
in out
alive dead
single married
safe dangerous
guilty innocent
dry wet
light dark
heavy light
absent present
same different
merge split
""".strip().splitlines()


def stem(word: str) -> str:
    """Return the word without its most common endings."""
    word = word.removesuffix("'s").replace("'", "")
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    for ending, least in (("ing", 6), ("ed", 5), ("es", 5), ("s", 4)):
        if word.endswith(ending) and len(word) >= least and not word.endswith(("ss", "us", "is")):
            bare = word[: -len(ending)]
            return bare[:-1] if len(bare) > 3 and bare[-1] == bare[-2] and ending in ("ing", "ed") else bare
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


def _opposites() -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for line in _OPPOSED:
        # The first is opposed to each of the others; those of one line may mean the same.
        first, *others = (stem(word) for word in line.split())
        for other in others:
            found.setdefault(first, set()).add(other)
            found.setdefault(other, set()).add(first)
    colours = {stem(word) for word in _words("red green blue yellow")}
    meals = {stem(word) for word in _words("breakfast lunch dinner")}
    for group in (colours, meals):
        for word in group:
            found.setdefault(word, set()).update(group - {word})
    return {word: frozenset(others) for word, others in found.items()}


OPPOSITES = _opposites()
"""Stems that contradict a stem."""
