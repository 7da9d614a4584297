# What a prompt's template may do: Jinja2's immutable sandbox, narrowed to lists of what is allowed, and every value,
# loop and call weighed, so that no template takes more than a bounded amount of memory and time.
# The Makefile puts this file, and template.py behind it, inside the function _steadytext_template, which runs them once
# per backend.
import json
import re
import time

from jinja2 import Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_WEIGHT = 1_000_000  # characters and elements of one value, nested ones counted each time
MAX_EMITTED = 20_000_000  # characters written altogether, also those that a macro throws away
MAX_STEPS = 100_000  # iterations, calls and filters
MAX_RANGE = 10_000
MAX_DEPTH = 50
MAX_BITS = 4096
MAX_SECONDS = 5.0
BREATHE_EVERY = 128
MAX_KEPT = 100
MAX_WIDTH = 300  # of one number or text that `format` pads or rounds
ALLOWED = "docs/prompts.md lists what a template may use."

DIRECTIVE = re.compile(r"%(?:%|(?:\([^()%]*\))?[#0 +-]*(\d*)(?:\.(\d*))?[diouxXeEfFgGs])")
PLAIN = (str, int, float, type(None), list, tuple, dict)
FORBIDDEN = (nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends, nodes.Block, nodes.EvalContextModifier)
FILTER_NAMES = """
        abs capitalize count d default dictsort filesizeformat first float int items last length list
        lower map max min reject rejectattr reverse select selectattr sort string sum title trim
        truncate unique upper urlencode wordcount
    """.split()
METHODS = {
    str: """
        capitalize casefold count endswith find index isalnum isalpha isdecimal isdigit islower
        isnumeric isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace
        rfind rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper
    """.split(),
    dict: ["get", "items", "keys", "values"],
    list: ["count", "index"],
    tuple: ["count", "index"],
    LoopContext: """
        changed cycle depth depth0 first index index0 last length nextitem previtem revindex revindex0
    """.split(),
}


class RefusedError(Exception):
    """What the caller will read: a message, its SQLSTATE and a hint."""

    def __init__(self, message, code, hint=None):
        super().__init__(message)
        self.reply = {"error": message, "code": code, "hint": hint}


def too_much(what):
    return RefusedError(
        f"the template {what}", "22023", "Templates are bounded so that none of them can stop a server."
    )


class Meter:
    """Counts what one rendering does, and ends it where it does too much."""

    def __init__(self, plpy):
        self.plpy = plpy
        self.steps = self.breaths = self.emitted = 0
        self.until = time.monotonic() + MAX_SECONDS

    def step(self, number=1):
        self.steps += number
        if self.steps > MAX_STEPS:
            raise too_much(f"takes more than {MAX_STEPS} steps")
        if self.steps // BREATHE_EVERY > self.breaths:
            self.breaths = self.steps // BREATHE_EVERY
            self.plpy.execute("SELECT 1")  # lets PostgreSQL act on a cancel or a statement_timeout
            if time.monotonic() > self.until:
                raise RefusedError(f"the template takes longer than {MAX_SECONDS:g} seconds", "57014")

    def emit(self, characters):
        self.emitted += max(0, characters)
        if self.emitted > MAX_EMITTED:
            raise too_much(f"writes more than {MAX_EMITTED} characters")

    def allow(self, weight):
        if weight > MAX_WEIGHT:
            raise too_much(f"makes a value larger than {MAX_WEIGHT} characters or elements")

    def taken(self, values):
        """The elements of any iterable as a list; a generator's are counted while they come."""
        found = []
        for value in values:
            found.append(value)
            self.allow(len(found))
        return found

    def bounded(self, value):
        """The value itself, a lazy one as a list, once it is known to be small enough."""
        if isinstance(value, dict):
            pass
        elif hasattr(value, "__iter__") and not isinstance(value, (str, list, tuple, Undefined, LoopContext)):
            value = self.taken(value)
        weight, rest = 0, [(value, 0)]
        while rest:
            item, depth = rest.pop()
            weight += 1
            if isinstance(item, str):
                weight += len(item)
            elif isinstance(item, int):
                if item.bit_length() > MAX_BITS:
                    raise too_much(f"makes a number of more than {MAX_BITS} bits")
            elif isinstance(item, (list, tuple, dict)):
                if depth == MAX_DEPTH:
                    raise too_much(f"nests values more than {MAX_DEPTH} deep")
                self.allow(weight + len(item))
                rest.extend((inner, depth + 1) for inner in item)
                if isinstance(item, dict):
                    rest.extend((inner, depth + 1) for inner in item.values())
            self.allow(weight)
        self.step(1 + weight // 1000)
        return value


class Weighed(NodeTransformer):
    """Puts a meter where a template makes values or repeats itself."""

    def visit_Concat(self, node):
        self.generic_visit(node)
        return self.filtered(nodes.List(node.nodes, lineno=node.lineno), "_concat")

    def visit_List(self, node):
        self.generic_visit(node)
        return self.filtered(node, "_bounded")

    def visit_Dict(self, node):
        return self.visit_List(node)

    def visit_Tuple(self, node):
        self.generic_visit(node)
        return self.filtered(node, "_bounded") if node.ctx == "load" else node

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.node, nodes.Getattr) and node.node.attr in METHODS[dict]:
            name = nodes.Const(node.node.attr, lineno=node.lineno)
            node.node = self.filtered(node.node.node, "_method", [name])
        return node

    def visit_For(self, node):
        return self.repeated(node)

    def visit_Macro(self, node):
        return self.repeated(node)

    def visit_CallBlock(self, node):
        return self.repeated(node)

    def repeated(self, node):
        characters = sum(len(data.data) for part in node.body for data in part.find_all(nodes.TemplateData))
        self.generic_visit(node)
        charge = self.filtered(nodes.Const(characters, lineno=node.lineno), "_charge")
        node.body.insert(0, nodes.Output([charge], lineno=node.lineno))
        return node

    def filtered(self, node, name, args=()):
        return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2 with lists of what is allowed in place of lists of what is not."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def __init__(self, undefined):
        super().__init__(
            undefined=undefined,
            optimized=False,
            cache_size=0,
            keep_trailing_newline=True,
            finalize=pass_context(written),
        )
        self.meter = None
        self.globals = {"range": self.make_range, "dict": self.make_dict, "namespace": self.make_namespace}
        self.filters = {name: self.weighed(FILTERS[name]) for name in FILTER_NAMES}
        self.filters.update(
            join=self.join, replace=self.replace, indent=self.indent, round=self.round, tojson=self.to_json,
            format=self.format, _method=self.method, _concat=self.concatenate, _bounded=self.bounded,
            _charge=pass_context(charge),
        )  # fmt: skip

    # Expressions.

    def call_binop(self, context, operator, left, right):
        if operator in ("*", "**", "%"):
            self.check_growth(operator, left, right)
        return self.meter.bounded(super().call_binop(context, operator, left, right))

    def check_growth(self, operator, left, right):
        if operator == "%" and isinstance(left, str):
            raise SecurityError("formatting by % is not allowed in a template")
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            if abs(left) > 1 and left.bit_length() * abs(right) > MAX_BITS:
                raise too_much(f"makes a number of more than {MAX_BITS} bits")
        elif operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, (str, list, tuple)) and isinstance(other, int):
                    self.meter.allow(len(one) * max(0, other))

    def call(self, context, obj, *args, **kwargs):
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str) and name == "replace":
            return self.replace(owner, *args, **kwargs)
        if isinstance(owner, str) and name == "join":
            return self.join(*args, d=owner, **kwargs)
        if not isinstance(obj, (Macro, LoopContext, Undefined)) and not self.is_known(obj, owner, name):
            raise SecurityError("only macros, listed methods, range, dict and namespace can be called")
        return self.meter.bounded(super().call(context, obj, *args, **kwargs))

    def is_known(self, obj, owner, name):
        return obj in self.globals.values() or any(
            isinstance(owner, kind) and name in names for kind, names in METHODS.items()
        )

    def getattr(self, obj, attribute):
        if isinstance(attribute, str) and attribute.startswith("_"):
            raise SecurityError(f"the attribute {attribute[:100]!r} is not allowed in a template")
        if isinstance(obj, (Undefined, Namespace)):
            return super().getattr(obj, attribute)
        if isinstance(obj, dict) and attribute in obj:  # an order's items; what is called is found by method()
            return obj[attribute]
        for kind, names in METHODS.items():
            if isinstance(obj, kind) and attribute in names:
                return getattr(obj, attribute)
        if isinstance(obj, dict):
            return self.undefined(obj=obj, name=attribute)
        if hasattr(obj, attribute):
            raise SecurityError(
                f"the attribute {attribute[:100]!r} of a {type(obj).__name__} is not allowed in a template"
            )
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj, argument):
        if isinstance(obj, (str, list, tuple, dict)):
            try:
                return obj[argument]
            except (TypeError, LookupError):
                pass
        if isinstance(argument, str):
            return self.getattr(obj, argument)
        return self.undefined(obj=obj, name=argument)

    def is_safe_attribute(self, _obj, attr, _value):
        return not attr.startswith("_")

    # Functions and filters.

    def make_range(self, *args):
        found = range(*args)
        if len(found) > MAX_RANGE:
            raise too_much(f"asks for a range of more than {MAX_RANGE} numbers")
        return list(found)

    def make_dict(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def make_namespace(self, **kwargs):
        return Namespace(**kwargs)

    def weighed(self, function):
        def filtered(*args, **kwargs):
            return self.meter.bounded(function(*args, **kwargs))

        filtered.__dict__.update(getattr(function, "__dict__", {}))  # whether it wants the context or the environment
        return filtered

    def bounded(self, value):
        return self.meter.bounded(value)

    def method(self, value, name):
        return getattr(value, name) if isinstance(value, dict) else self.getattr(value, name)

    def concatenate(self, values):
        pieces = [text(value) for value in values]
        self.meter.allow(sum(map(len, pieces)))
        return self.meter.bounded("".join(pieces))

    def join(self, value, d="", attribute=None):
        if attribute is not None:
            value = map(make_attrgetter(self, attribute), value)
        pieces, separator = [text(piece) for piece in self.meter.taken(value)], text(d)
        self.meter.allow(sum(map(len, pieces)) + len(separator) * len(pieces))
        return self.meter.bounded(separator.join(pieces))

    def replace(self, value, old, new, count=-1):
        value, old, new = text(value), text(old), text(new)
        found = value.count(old) if count is None or count < 0 else min(count, value.count(old))
        self.meter.allow(len(value) + found * len(new))
        return self.meter.bounded(value.replace(old, new, -1 if count is None else count))

    def indent(self, s, width=4, first=False, blank=False):
        margin = width if isinstance(width, str) else " " * min(int(width), 1000)
        lines = text(s).split("\n")
        self.meter.allow(len(s) + len(lines) * len(margin))
        kept = [
            line if not (line or blank) or (place == 0 and not first) else margin + line
            for place, line in enumerate(lines)
        ]
        return self.meter.bounded("\n".join(kept))

    def format(self, value, *args, **kwargs):
        """Fill printf's directives in: those for numbers and texts, none with a width that is a value."""
        pattern = text(value)
        directives = list(DIRECTIVE.finditer(pattern))
        if pattern.count("%") != sum(found.group().count("%") for found in directives):
            raise SecurityError("format takes %s, %d, %f and their like, and %% for %")
        if any(len(size) > 3 or int(size) > MAX_WIDTH for found in directives for size in found.groups() if size):
            raise too_much(f"formats a value wider than {MAX_WIDTH} characters")
        listed = tuple(number_or_text(value) for value in args)
        named = {name: number_or_text(value) for name, value in kwargs.items()}
        longest = max((len(one) for one in (*listed, *named.values()) if isinstance(one, str)), default=0)
        self.meter.allow(len(pattern) + len(directives) * max(longest, MAX_BITS))
        return self.meter.bounded(pattern % (named if named and not listed else listed))

    def round(self, value, precision=0, method="common"):
        if not -300 <= precision <= 300:
            raise too_much("rounds to more than 300 digits")
        return self.meter.bounded(FILTERS["round"](value, precision, method))

    def to_json(self, value, indent=None):
        if isinstance(value, Undefined):
            str(value)
        indent = None if indent is None else max(0, min(int(indent), 8))
        return self.meter.bounded(json.dumps(value, ensure_ascii=False, indent=indent))


def charge(context, characters):
    """Pay for one iteration or one call, and for the text that stands in it."""
    context.environment.meter.step()
    context.environment.meter.emit(characters)
    return ""


def written(context, value):
    """What an expression writes."""
    context.environment.meter.step()
    value = text(value)
    context.environment.meter.emit(len(value))
    return value


def number_or_text(value):
    return value if isinstance(value, (int, float)) else text(value)


def text(value):
    if isinstance(value, str):
        return value
    if not isinstance(value, (*PLAIN, Undefined)):
        raise SecurityError(f"a {type(value).__name__} cannot be written")
    return str(value)
