"""language: a template's text as a function of its variables: `{$name}`, `{if}`, `{foreach}`, `{assign}` and kin.

A template is read once into functions that call each other (closures over JSON values): nothing of it is ever run as
Python. A brace that begins no tag is text, so that style sheets stay as they are. Bounds: TAGS and TOKENS in a
template, DEPTH of blocks and of parentheses; what it does when it runs: `values.Budget`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from operators.template.modifiers import SEARCHED, expression, modified
from operators.template.remembered import Remembered
from operators.template.values import (
    Budget,
    Safe,
    TemplateError,
    as_number,
    as_text,
    bounded,
    compare,
    escaped,
    member,
    true,
)

TAGS = 2_000
TOKENS = 10_000
TRIES = 500  # braces that may begin a value, or JSON
DEPTH = 40
REMEMBERED = 500_000  # characters of templates that are kept as functions

Scope = dict[str, Any]


class Run:
    """One rendering: the variables, what may still be used, and whether the text is HTML."""

    __slots__ = ("budget", "html", "variables")

    def __init__(self, variables: Scope, budget: Budget, html: bool) -> None:
        self.variables, self.budget, self.html = variables, budget, html


Value = Callable[[Run], Any]
Block = Callable[[Run, list[str]], None]

_TAGS = (
    r"\{(?:(?P<comment>\*)|(?P<value>(?=[%s]))"
    r"|(?P<close>/(?:if|foreach|capture)|endif)[ \t]*\}"
    r"|(?P<word>ldelim|rdelim|else|foreachelse|literal|escape)[ \t]*\}"
    r"|(?P<open>if|elseif|else[ ]if|foreach|assign|capture|mode)(?=[\s=(!$\"']))"
)
_TAG = re.compile(_TAGS % "$\"'(!").search
_SURE = re.compile(_TAGS % "$").search
_TOKEN = re.compile(
    r"(?P<space>\s+)|\$(?P<variable>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>[0-9]+(?:\.[0-9]+)?)"
    r"|\"(?P<double>(?:[^\"\\]|\\.)*)\"|'(?P<single>(?:[^'\\]|\\.)*)'"
    r"|(?P<sign>=~|===?|=>|!==?|<>|<=|>=|&&|\|\||[-=<>!+*/%()\[\].|:}@])"
    r"|(?P<entity>&amp;&amp;|&(?:gt|lt|quot|nbsp);)|(?P<word>[A-Za-z_][A-Za-z0-9_]*)",
    re.DOTALL,
)
_ENTITIES = {"&gt;": ">", "&lt;": "<", "&amp;&amp;": "and", "&quot;": '"', "&nbsp;": " "}
_NAMED = {"eq": "==", "ne": "!=", "gt": ">", "gte": ">=", "ge": ">=", "lt": "<", "lte": "<=", "le": "<="}
_SIGNS = {"<>": "!=", "===": "==", "!==": "!=", "&&": "and", "||": "or", "!": "not"}
_COMPARE: dict[str, Callable[[int], bool]] = {
    "==": lambda order: order == 0,
    "!=": lambda order: order != 0,
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
}


def render(source: str, variables: Scope, budget: Budget, *, html: bool = False) -> str:
    """The text of a template.

    Raises:
        TemplateError: it is no template, or wants more than the budget; says where.
    """
    if "{" not in source:
        return source
    out: list[str] = []
    compiled(source)(Run(variables, budget, html), out)
    return "".join(out)


def compiled(source: str) -> Block:
    """The template as a function; the last ones are remembered. Raises `TemplateError`."""
    return _compiled(source)


class Parser:
    """Reads one template, from left to right."""

    def __init__(self, source: str) -> None:
        self._source, self._at = source, 0
        self._tags = self._tokens = self._depth = self._tries = 0
        self._trying = False
        self._kind = self._text = ""  # of the token that comes next

    def template(self) -> Block:
        """All of it."""
        block, end = self._block(())
        assert end == ""
        return block

    # -- text and blocks -------------------------------------------------------------------------------------------

    def _block(self, ends: Sequence[str]) -> tuple[Block, str]:
        """Up to one of these tags; and which it was."""
        self._deeper()
        parts: list[Block] = []
        end = ""
        for tag in self._pieces(parts):
            if tag in ends:
                end = tag
                break
            if not self._statement(tag, parts):
                raise self._wrong(f"{{{tag}}} is not expected here")
        else:
            if ends:
                raise self._wrong(f"{{{' or '.join(ends)}}} is missing")
        self._depth -= 1
        return _sequence(parts), end

    def _pieces(self, parts: list[Block]) -> Iterator[str]:
        """The tags, each with `self._at` behind its name; the text between them goes to `parts`."""
        source, begin = self._source, self._at
        while (found := (_TAG if self._tries < TRIES else _SURE)(source, self._at)) is not None:
            if found["value"] is not None and not self._is_value(found):
                self._at = found.end() + 1
                continue
            if found.start() > begin:
                parts.append(_static(source[begin : found.start()]))
            self._tags += 1
            if self._tags > TAGS:
                raise self._wrong(f"has more than {TAGS:,} tags")
            self._at = found.end()
            if found["comment"]:
                self._skip("*}", "comment")
            else:
                yield found["close"] or found["word"] or found["open"] or "$"
            begin = self._at
        if begin < len(source):
            parts.append(_static(source[begin:]))
        self._at = len(source)

    def _is_value(self, found: re.Match[str]) -> bool:
        """`{$` always is; `{"`, `{'`, `{(` and `{!` only where a value and a brace follow: JSON in HTML looks alike."""
        if self._source.startswith("$", found.end()):
            return True
        before = self._at, self._depth, self._kind, self._text
        self._at, self._trying, self._tries = found.end(), True, self._tries + 1
        try:
            self._next()
            self._expression()
            return self._kind == "sign" and self._text == "}"
        except TemplateError:
            return False
        finally:
            self._at, self._depth, self._kind, self._text = before
            self._trying = False

    def _skip(self, mark: str, what: str) -> str:
        end = self._source.find(mark, self._at)
        if end < 0:
            raise self._wrong(f"{mark} is missing after a {what}")
        text, self._at = self._source[self._at : end], end + len(mark)
        return text

    def _statement(self, tag: str, parts: list[Block]) -> bool:
        match tag:
            case "$":
                parts.append(self._value_or_assignment())
            case "ldelim" | "rdelim":
                parts.append(_static("{" if tag == "ldelim" else "}"))
            case "literal":
                parts.append(_static(self._skip("{/literal}", "{literal}")))
            case "escape":
                parts.append(_mode(True))
            case "mode":
                parts.append(_mode(self._skip("}", "mode").strip("= \t") == "html"))
            case "if":
                parts.append(self._if())
            case "foreach":
                parts.append(self._foreach())
            case "assign":
                parts.append(self._assign())
            case "capture":
                parts.append(self._capture())
            case _:
                return False
        return True

    def _value_or_assignment(self) -> Block:
        self._next()
        start, kind, text = self._at, self._kind, self._text
        if kind == "variable":
            self._next()
            if self._kind == "sign" and self._text == "=":
                self._next()
                value = self._expression()
                self._end()
                return _assignment(text, value)
            self._at, self._kind, self._text = start, kind, text
        value = self._expression()
        self._end()
        return _printed(value)

    def _if(self) -> Block:
        branches: list[tuple[Value, Block]] = []
        end = "if"
        while end in ("if", "elseif", "else if"):
            self._next()
            condition = self._expression()
            self._end()
            block, end = self._block(("elseif", "else if", "else", "/if", "endif"))
            branches.append((condition, block))
        otherwise, _ = self._block(("/if", "endif")) if end == "else" else (_nothing, "")
        return _condition(branches, otherwise)

    def _foreach(self) -> Block:
        self._next()
        if self._kind == "word":
            values, name, key = self._attributes_of_foreach()
        else:
            values, name, key = self._foreach_header()
        self._end()
        body, end = self._block(("foreachelse", "/foreach"))
        otherwise, _ = self._block(("/foreach",)) if end == "foreachelse" else (_nothing, "")
        return _loop(values, name, key, body, otherwise)

    def _foreach_header(self) -> tuple[Value, str, str]:
        """`$item in $list`, `$list as $item`, or `$list as $key => $item`."""
        first, values = self._text, self._expression()
        if self._is("in"):
            self._next()
            return self._expression(), first, ""
        self._expect("as")
        name = self._variable()
        if self._is("=>"):
            self._next()
            return values, self._variable(), name
        return values, name, ""

    def _attributes_of_foreach(self) -> tuple[Value, str, str]:
        """`from=$list item=name key=name`, as in Smarty."""
        found = self._attributes()
        if "from" not in found or "item" not in found:
            raise self._wrong("{foreach} is followed by $item in $list, or $list as $item")
        return found["from"], self._name(found["item"]), self._name(found["key"]) if "key" in found else ""

    def _assign(self) -> Block:
        """`$value to $name`, or `var=name value=$value`."""
        self._next()
        if self._kind == "word":
            found = self._attributes()
            self._end()
            if "var" not in found or "value" not in found:
                raise self._wrong("{assign} is followed by a value, to, and a variable")
            return _assignment(self._name(found["var"]), found["value"])
        value = self._expression()
        self._expect("to")
        name = self._variable()
        self._end()
        return _assignment(name, value)

    def _capture(self) -> Block:
        """`$name`, `name`, `"name"`, `to $name`, `name=...` or `assign=...`."""
        self._next()
        if self._is("to"):
            self._next()
        before = self._at, self._kind, self._text
        if self._kind == "word":
            self._next()
            attributes = self._is("=")
            self._at, self._kind, self._text = before
            if attributes:
                found = self._attributes()
                name = self._name(found.get("assign") or found.get("name") or found.get("var") or _none)
                self._end()
                body, _ = self._block(("/capture",))
                return _captured(name, body)
        if self._kind not in ("variable", "word", "string"):
            raise self._wrong("{capture} is followed by a variable")
        name = self._text
        self._next()
        self._end()
        body, _ = self._block(("/capture",))
        return _captured(name, body)

    def _attributes(self) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while self._kind == "word":
            name = self._text
            self._next()
            self._expect("=")
            if self._kind == "word":
                found[name] = _constant(self._text)
                self._next()
            else:
                found[name] = self._expression()
        return found

    def _name(self, value: Value) -> str:
        try:
            name = as_text(value(Run({}, Budget(), False)))
        except TemplateError:
            name = ""
        if not name.isidentifier():
            raise self._wrong("the name of a variable is expected")
        return name

    # -- expressions, from the loosest to the tightest ---------------------------------------------------------------

    def _expression(self) -> Value:
        self._deeper()
        value = self._and()
        while self._is("or"):
            self._next()
            value = _either(value, self._and())
        self._depth -= 1
        return value

    def _and(self) -> Value:
        value = self._not()
        while self._is("and"):
            self._next()
            value = _both(value, self._not())
        return value

    def _not(self) -> Value:
        inverted = False
        while self._is("not"):
            self._next()
            inverted = not inverted
        value = self._comparison()
        return _inverted(value) if inverted else value

    def _comparison(self) -> Value:
        value = self._sum()
        while self._kind == "sign" and (self._text in _COMPARE or self._text == "=~"):
            sign = self._text
            self._next()
            right = self._sum()
            value = _matches(value, right) if sign == "=~" else _compared(_COMPARE[sign], value, right)
        return value

    def _sum(self) -> Value:
        value = self._product()
        while self._kind == "sign" and self._text in ("+", "-"):
            sign = self._text
            self._next()
            value = _calculated(sign, value, self._product())
        return value

    def _product(self) -> Value:
        value = self._operand()
        while self._kind == "sign" and self._text in ("*", "/", "%"):
            sign = self._text
            self._next()
            value = _calculated(sign, value, self._operand())
        return value

    def _operand(self) -> Value:
        minus = 0
        while self._kind == "sign" and self._text in ("-", "+"):
            minus += self._text == "-"
            self._next()
        value = self._path(self._primary())
        while self._is("|"):
            self._next()
            if self._is("@"):
                self._next()
            value = self._modifier(value)
        return _calculated("-", _constant(0), value) if minus % 2 else value

    def _primary(self) -> Value:
        kind, text = self._kind, self._text
        if kind == "sign" and text == "(":
            self._next()
            value = self._expression()
            self._expect(")")
            return value
        self._next()
        match kind:
            case "variable":
                return _variable(text)
            case "number":
                return _constant(float(text) if "." in text else bounded(int(text[:400])))
            case "string":
                return _constant(Safe(text))
            case "word" if text.lower() in ("true", "false", "null"):
                return _constant({"true": True, "false": False, "null": None}[text.lower()])
        raise self._wrong("a variable, number or text is expected")

    def _path(self, value: Value) -> Value:
        while self._kind == "sign" and self._text in (".", "["):
            bracket = self._text == "["
            self._next()
            if bracket:
                key = self._expression()
                self._expect("]")
            elif self._kind in ("word", "number"):
                key = _constant(int(self._text[:18]) if self._text.isdecimal() else self._text)
                self._next()
            else:
                raise self._wrong("a name is expected after the dot")
            value = _member(value, key)
        return value

    def _modifier(self, value: Value) -> Value:
        if self._kind != "word":
            raise self._wrong("the name of a modifier is expected")
        name, parameters = self._text, []
        self._next()
        while self._is(":"):
            self._next()
            minus = self._is("-")
            if minus:
                self._next()
            parameter = self._path(self._primary())
            parameters.append(_calculated("-", _constant(0), parameter) if minus else parameter)
        return _modified(name, value, parameters)

    # -- tokens --------------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Read the next token of the tag."""
        while True:
            found = _TOKEN.match(self._source, self._at)
            if found is None:
                raise self._wrong(f"{self._source[self._at : self._at + 1]!r} is not expected in a tag")
            self._at = found.end()
            self._tokens += 1
            if self._tokens > TOKENS:
                raise self._wrong(f"has more than {TOKENS:,} words and signs in its tags")
            self._kind, self._text = found.lastgroup or "", found[found.lastgroup or 0]
            if self._kind == "entity":
                self._kind, self._text = ("sign", _ENTITIES[self._text]) if self._text != "&nbsp;" else ("space", "")
                if self._text in (">", "<") and self._source.startswith("=", self._at):
                    self._text, self._at = self._text + "=", self._at + 1
            if self._kind != "space":
                break
        if self._kind in ("double", "single"):
            quote = '"' if self._kind == "double" else "'"
            self._kind, self._text = "string", self._text.replace("\\" + quote, quote)
        elif self._kind == "word" and self._text.lower() in ("and", "or", "not", *_NAMED):
            self._kind, self._text = "sign", _NAMED.get(self._text.lower(), self._text.lower())
        elif self._kind == "sign":
            self._text = _SIGNS.get(self._text, self._text)

    def _is(self, text: str) -> bool:
        return self._text == text and self._kind in ("sign", "word")

    def _expect(self, text: str) -> None:
        if not self._is(text):
            raise self._wrong(f"{text} is expected")
        self._next()

    def _variable(self) -> str:
        """The name of the variable that comes, after which the next token is read."""
        if self._is("as") or self._is("=>"):
            self._next()
        if self._kind != "variable":
            raise self._wrong("a variable is expected")
        name = self._text
        self._next()
        return name

    def _end(self) -> None:
        if not self._is("}"):
            raise self._wrong("} is expected")

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEPTH:
            raise self._wrong(f"is nested more than {DEPTH} deep")

    def _wrong(self, what: str) -> TemplateError:
        if self._trying:
            return TemplateError(what)
        line = self._source.count("\n", 0, self._at) + 1
        return TemplateError(f"line {line}: {what}")


# -- what a template does: values -----------------------------------------------------------------------------------


def _none(run: Run) -> Any:
    return None


def _constant(value: Any) -> Value:
    return lambda run: value


def _variable(name: str) -> Value:
    def value(run: Run) -> Any:
        run.budget.step()
        found = run.variables.get(name)
        return found if found is not None else run.variables.get(name.replace("_", "-"))

    return value


def _member(of: Value, key: Value) -> Value:
    def value(run: Run) -> Any:
        run.budget.step()
        return member(of(run), key(run))

    return value


def _modified(name: str, of: Value, parameters: Sequence[Value]) -> Value:
    def value(run: Run) -> Any:
        return modified(name, of(run), [one(run) for one in parameters], run.budget)

    return value


def _calculated(sign: str, left: Value, right: Value) -> Value:
    def value(run: Run) -> Any:
        run.budget.step()
        a, b = as_number(left(run)), as_number(right(run))
        match sign:
            case "+":
                return bounded(a + b)
            case "-":
                return bounded(a - b)
            case "*":
                return bounded(a * b)
        if not b:
            return 0
        if sign == "%":
            return int(a) - int(b) * int(a / b) if int(b) else 0
        return bounded(a // b if isinstance(a, int) and isinstance(b, int) and a % b == 0 else a / b)

    return value


def _compared(holds: Callable[[int], bool], left: Value, right: Value) -> Value:
    def value(run: Run) -> bool:
        run.budget.step()
        a, b = left(run), right(run)
        run.budget.text(min(len(a), len(b)) if isinstance(a, str) and isinstance(b, str) else 0)
        return holds(compare(a, b))

    return value


def _matches(left: Value, right: Value) -> Value:
    def value(run: Run) -> bool:
        text, pattern = as_text(left(run)), expression(as_text(right(run)))
        run.budget.step()
        run.budget.text(SEARCHED * len(text))
        return pattern is not None and pattern.search(text.encode("utf-8", "replace").decode()) is not None

    return value


def _both(left: Value, right: Value) -> Value:
    return lambda run: true(left(run)) and true(right(run))


def _either(left: Value, right: Value) -> Value:
    return lambda run: true(left(run)) or true(right(run))


def _inverted(of: Value) -> Value:
    return lambda run: not true(of(run))


# -- what a template does: text -------------------------------------------------------------------------------------


def _nothing(run: Run, out: list[str]) -> None:
    pass


def _sequence(parts: Sequence[Block]) -> Block:
    if len(parts) == 1:
        return parts[0]

    def block(run: Run, out: list[str]) -> None:
        for part in parts:
            part(run, out)

    return block


def _static(text: str) -> Block:
    def block(run: Run, out: list[str]) -> None:
        run.budget.step()
        run.budget.text(len(text))
        out.append(text)

    return block


def _mode(html: bool) -> Block:
    def block(run: Run, out: list[str]) -> None:
        run.html = html

    return block


def _printed(value: Value) -> Block:
    def block(run: Run, out: list[str]) -> None:
        text = as_text(value(run))
        run.budget.text(len(text))
        out.append(escaped(text) if run.html else text)

    return block


def _assignment(name: str, value: Value) -> Block:
    def block(run: Run, out: list[str]) -> None:
        run.budget.step()
        run.variables[name] = value(run)

    return block


def _captured(name: str, body: Block) -> Block:
    def block(run: Run, out: list[str]) -> None:
        inner: list[str] = []
        body(run, inner)
        run.variables[name] = Safe("".join(inner))

    return block


def _condition(branches: Sequence[tuple[Value, Block]], otherwise: Block) -> Block:
    def block(run: Run, out: list[str]) -> None:
        run.budget.step()
        for condition, body in branches:
            if true(condition(run)):
                body(run, out)
                return
        otherwise(run, out)

    return block


def _loop(values: Value, name: str, key: str, body: Block, otherwise: Block) -> Block:
    def block(run: Run, out: list[str]) -> None:
        found = values(run)
        pairs = enumerate(found) if isinstance(found, list) else found.items() if isinstance(found, dict) else ()
        if not found or not isinstance(found, list | dict):
            otherwise(run, out)
            return
        for at, one in list(pairs):
            run.budget.step()
            run.variables[name] = one
            if key:
                run.variables[key] = at
            body(run, out)

    return block


_compiled: Remembered[str, Block] = Remembered(lambda source: Parser(source).template(), REMEMBERED)
