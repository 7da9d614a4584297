# What is done with prompts' templates: read, rendered within the sandbox's bounds, compared.
import difflib
import json
from typing import TYPE_CHECKING

from jinja2 import ChainableUndefined, StrictUndefined, TemplateSyntaxError, meta, nodes
from jinja2.exceptions import SecurityError, UndefinedError

if TYPE_CHECKING:  # it stands before this in the function
    from sandbox import ALLOWED, FORBIDDEN, MAX_KEPT, Meter, RefusedError, Sandbox, Weighed, too_much


class Templates:
    """Reads, renders and compares templates; `plpy` is the calling function's."""

    def __init__(self, plpy):
        self.plpy = plpy
        self.strict = Sandbox(StrictUndefined)
        self.lenient = Sandbox(ChainableUndefined)
        self.kept = {}

    def answer(self, action, request):
        """Do what is asked; returns JSON text, a failure like any other reply."""
        try:
            given = json.loads(request)
            return json.dumps(
                {"result": {"read": self.read, "render": self.render, "diff": self.diff}[action](**given)}
            )
        except RefusedError as refused:
            return json.dumps(refused.reply)
        except self.plpy.SPIError as error:
            message = str(error.args[0] if error.args else error)
            return json.dumps({"error": message, "code": error.sqlstate or "57014", "hint": None})

    def read(self, template):
        """The variables that the template cannot do without."""
        _, required = self.compiled(template, strict=True)
        return required

    def render(self, template, variables, strict, limit):
        """The text, of at most `limit` characters."""
        environment = self.strict if strict else self.lenient
        ready, required = self.compiled(template, strict)
        missing = [name for name in required if name not in variables]
        if strict and missing:
            raise RefusedError(
                f"missing variables: {', '.join(missing)}",
                "22023",
                "Pass them all, or strict => false to leave them empty.",
            )
        environment.meter = meter = Meter(self.plpy)
        try:
            meter.bounded(variables)
            return sendable("".join(limited(ready.generate(variables), limit)))
        except (RefusedError, self.plpy.SPIError):
            raise
        except SecurityError as error:
            raise RefusedError(str(error), "42501", ALLOWED) from None
        except UndefinedError as error:
            raise RefusedError(str(error), "22023") from None
        except RecursionError:
            raise too_much("calls itself too deeply") from None
        except Exception as error:  # noqa: BLE001 - whatever a template's own operation raises is the caller's error
            raise RefusedError(f"the template failed: {type(error).__name__}: {str(error)[:500]}", "22023") from None
        finally:
            environment.meter = None

    def diff(self, older, newer, older_name, newer_name):
        """A unified diff."""
        lines = difflib.unified_diff(older.splitlines(), newer.splitlines(), older_name, newer_name, lineterm="", n=3)
        return "\n".join(lines)

    def compiled(self, template, strict):
        key = (template, strict)
        if key not in self.kept:
            environment = self.strict if strict else self.lenient
            try:
                tree = environment.parse(template)
                self.check(environment, tree)
                required = self.required(tree)
                tree = Weighed().visit(tree)
                code = environment.compile(tree)
                ready = environment.template_class.from_code(environment, code, environment.make_globals(None))
            except TemplateSyntaxError as error:
                raise malformed(error.message, error.lineno) from None
            except (RecursionError, MemoryError, SyntaxError, ValueError) as error:
                raise malformed(f"it is too complicated ({type(error).__name__})", 1) from None
            if len(self.kept) >= MAX_KEPT:
                self.kept.clear()
            self.kept[key] = (ready, required)
        return self.kept[key]

    def check(self, environment, tree):
        for node in tree.find_all(nodes.Node):
            if isinstance(node, FORBIDDEN):
                raise malformed(f"{type(node).__name__.lower()} is not allowed", node.lineno)
            if isinstance(node, nodes.Filter) and (node.name not in environment.filters or node.name.startswith("_")):
                raise malformed(f"there is no filter {node.name[:100]!r}", node.lineno)
            if isinstance(node, nodes.Test) and node.name not in environment.tests:
                raise malformed(f"there is no test {node.name[:100]!r}", node.lineno)

    def required(self, tree):
        """Undeclared variables, less those that the template itself provides for being absent."""
        optional = {
            node.node.name
            for node in tree.find_all((nodes.Filter, nodes.Test))
            if isinstance(node.node, nodes.Name) and node.name in ("default", "d", "defined", "undefined")
        }
        return sorted(meta.find_undeclared_variables(tree) - optional)


def malformed(reason, line):
    return RefusedError(f"line {line} of the template: {reason}", "42601", ALLOWED)


def limited(pieces, limit):
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > limit:
            raise RefusedError(f"the rendered prompt is longer than max_prompt_chars allows, {limit}", "22001")
        yield piece


def sendable(rendered):
    if "\0" in rendered or any("\ud800" <= character <= "\udfff" for character in rendered):
        raise RefusedError("the rendered prompt contains a character that no text can hold", "22023")
    return rendered
