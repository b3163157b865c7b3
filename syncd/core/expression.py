"""Paths and Jinja expressions over a record: compiled once, their names known before a run.

A path reads one value and compiles to a closure. An expression is Jinja's, in Jinja's sandbox, over
the fields of one record and nothing else: no functions, no random numbers, no clock. What differs
from plain Jinja:

* Empty and missing values behave alike: as text "", as a condition false, in <, <=, > and >= never
  true, equal to `none` and to "", and so are their own parts (`_company.name` of a person without
  company). So no "None" ever reaches a person's name, and `score > 80` does not fail where there is
  no score.
* What a record object holds is read as a name (`_company.items` is the field "items", not Python's
  method).
* `record["E-mail Address"]` reaches a field whose name is no identifier.
* The filters `number`, `date` and `boolean` convert as the `as` of a mapping does.

In a strict expression (opted_out) a missing name is an error unless `default` or `is defined` takes
care of it: what was not read is not known, and never counts as consent. No message holds a value of
the record.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NoReturn

from jinja2 import (
    ChainableUndefined,
    StrictUndefined,
    TemplateError,
    TemplateSyntaxError,
    Undefined,
    UndefinedError,
    meta,
    nodes,
)
from jinja2.environment import Template
from jinja2.exceptions import SecurityError
from jinja2.lexer import TokenStream
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from syncd.core.nearest import suggestion
from syncd.core.transform import TransformError, is_empty, to_boolean, to_date, to_number

EXPRESSION_CHARS_MAX = 4000  # a screenful; longer belongs into the source
PATH_CHARS_MAX = 500

RECORD = "record"  # the name under which an expression reaches the whole record

_IDENTIFIERS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_JINJA_WORDS = frozenset(
    ["and", "or", "not", "in", "is", "if", "else", "true", "false", "none"]
) | {RECORD}
_COMPARED = re.compile(r"between instances of '(\w+)' and '(\w+)'")
_UNKNOWN = re.compile(r"'([^']+)' is undefined")
_OF_NAMES = frozenset({"defined", "undefined", "filter", "test"})  # tests that need no value
_TYPE_WORDS = {"str": "text", "int": "a number", "float": "a number", "bool": "true or false"}
# All that an expression over foreign values may raise; Jinja's own errors include the sandbox's.
_FAILURES = (TemplateError, ArithmeticError, LookupError, AttributeError, TypeError, ValueError)


class Missing(Enum):
    """The one value that says: the record does not have this name, so nothing is known about it."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING


class ExpressionError(ValueError):
    """An expression that cannot be compiled, or not be evaluated for one record.

    column: where it stops making sense, from 1; None where that is not known.
    """

    def __init__(self, message: str, *, column: int | None = None) -> None:
        self.column = column
        super().__init__(message if column is None else f"{message} (at column {column})")


@dataclass(frozen=True, slots=True)
class Reader:
    """A compiled path or expression.

    names: what it may use of the record's top level. needs: one group of alternatives per use, at
    least one of which a source must have (the path "address.city" is a column of that name, or the
    field "city" of "address"). read: the value; MISSING when it depends on a name that this record does not have. Raises
    ExpressionError.
    """

    text: str
    names: frozenset[str]
    needs: tuple[tuple[str, ...], ...]
    read: Callable[[Mapping[str, Any]], Any]


def compile_path(text: str) -> Reader:
    """A path: a top-level name of any characters, else the parts between its dots, nested.

    Digits as a part count the items of a list from 0. Missing at the top is MISSING, missing
    further down is None.
    """
    if not text.strip():
        raise ExpressionError("a path must not be empty")
    if len(text) > PATH_CHARS_MAX:
        raise ExpressionError(f"a path has at most {PATH_CHARS_MAX} characters")
    first, *parts = text.split(".")
    if not parts or "" in (first, *parts):
        return Reader(text, frozenset({text}), ((text,),), _top(text))
    # A joined object has no dot in its own name: connectors alone give names with an underscore.
    choices = (first,) if first.startswith("_") else (text, first)
    read = _nested(first, tuple(parts))
    return Reader(
        text, frozenset(choices), (choices,), read if len(choices) == 1 else _either(text, read)
    )


def compile_expression(text: str, *, strict: bool = False) -> Reader:
    """A Jinja expression. strict: a missing name is an ExpressionError instead of an empty value.

    Raises ExpressionError with the column where the expression stops making sense.
    """
    if not text.strip():
        raise ExpressionError("an expression must not be empty")
    if len(text) > EXPRESSION_CHARS_MAX:
        raise ExpressionError(f"an expression has at most {EXPRESSION_CHARS_MAX} characters")
    plain = text.strip()
    words = plain.split(".")
    simple = _IDENTIFIERS.fullmatch(plain) and not any(map(_is_word, words))
    if simple and (len(words) == 1 or not strict):
        return _plain_name(plain, words, strict=strict)
    environment = _STRICT if strict else _LENIENT
    try:
        tree = _parse(environment, text)
        names = frozenset(_names(environment, tree))
        template = environment.from_string(
            nodes.Template([nodes.Assign(nodes.Name("result", "store"), tree, lineno=1)], lineno=1)
        )
    except (RecursionError, SyntaxError):  # Python's own limits on nesting
        raise ExpressionError("the expression is nested too deeply") from None
    return Reader(
        text,
        names,
        tuple((name,) for name in sorted(names)),
        _evaluator(template, names, strict=strict),
    )


def is_true(value: Any) -> bool:
    """An expression's truth: of a missing value false."""
    return value is not MISSING and bool(value)


def _is_word(word: str) -> bool:
    return word.lower() in _JINJA_WORDS or word.startswith("__")


def _top(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda record: record.get(name, MISSING)


def _nested(first: str, parts: tuple[str, ...]) -> Callable[[Mapping[str, Any]], Any]:
    def read(record: Mapping[str, Any]) -> Any:
        value = record.get(first, MISSING)
        for part in parts:
            if isinstance(value, Mapping):
                value = value.get(part)
            elif isinstance(value, list | tuple) and part.isdecimal():
                value = value[int(part)] if int(part) < len(value) else None
            elif value is not MISSING:
                return None
        return value

    return read


def _either(
    text: str, nested: Callable[[Mapping[str, Any]], Any]
) -> Callable[[Mapping[str, Any]], Any]:
    def read(record: Mapping[str, Any]) -> Any:
        value = record.get(text, MISSING)
        return nested(record) if value is MISSING else value

    return read


def _plain_name(text: str, words: list[str], *, strict: bool) -> Reader:
    """An expression that is a name and nothing else needs no Jinja; most `opted_out` are."""
    nested = _nested(words[0], tuple(words[1:]))

    def read(record: Mapping[str, Any]) -> Any:
        value = nested(record)
        if value is MISSING and strict:
            raise ExpressionError(f'"{words[0]}" is not in the record, so it is not known')
        return value

    return Reader(text, frozenset(words[:1]), ((words[0],),), read)


class _Empty(ChainableUndefined):
    """An empty or missing value inside an expression."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other is None or other == "" or isinstance(other, Undefined)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = Undefined.__hash__

    # Jinja declares that these never return; here they answer.
    def _false(self, *_: object) -> bool:
        return False

    __lt__ = __le__ = __gt__ = __ge__ = _false  # type: ignore[assignment]

    # A method of an empty text: email.split("@") of nobody's address.
    def __call__(self, *_: object, **_named: object) -> "_Empty":  # type: ignore[override]
        return self

    def _no_number(self) -> NoReturn:
        raise TypeError("an empty value")  # for this the filters int and float give their default

    __int__ = __float__ = _no_number


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox over plain values: empties are one kind; objects have fields, not methods."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping):
            return self._field(obj, attribute)
        return self._known(super().getattr(obj, attribute))

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Mapping):
            return self._field(obj, argument)
        return self._known(super().getitem(obj, argument))

    def _field(self, obj: Mapping[Any, Any], name: Any) -> Any:
        try:
            return self._known(obj[name])
        except (KeyError, TypeError):
            return self.undefined(name=str(name))

    def _known(self, value: Any) -> Any:
        return EMPTY if value is None else value


EMPTY: Final = _Empty()


def _environment(undefined: type[Undefined]) -> _Sandbox:
    environment = _Sandbox(undefined=undefined, autoescape=False, cache_size=0)
    environment.globals.clear()  # range, dict, lipsum: fields may have these names
    # What is not a function of its input alone, reaches into Python, or is for web pages.
    for name in (
        "random",
        "attr",
        "pprint",
        "xmlattr",
        "urlize",
        "escape",
        "e",
        "forceescape",
        "safe",
    ):
        del environment.filters[name]
    environment.filters.update(
        number=_converted(to_number), date=_converted(to_date), boolean=_boolean, join=_join
    )
    environment.tests["none"] = _is_none
    tests: dict[str, Any] = environment.tests
    for name, test in tests.items():
        if name not in _OF_NAMES:
            tests[name] = _of_value(test)
    return environment


def _of_value(test: Callable[..., Any]) -> Callable[..., Any]:
    """The same test, but no question about a value that was not read: `optout is true`."""

    def asked(value: Any, *arguments: Any) -> Any:
        if isinstance(value, StrictUndefined):
            bool(value)  # raises, with the name
        return test(value, *arguments)

    return asked


def _converted(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: EMPTY if _is_none(value) or is_empty(value) else convert(value)


def _boolean(value: Any) -> bool:
    return not (_is_none(value) or is_empty(value)) and to_boolean(value)


def _is_none(value: Any) -> bool:
    # `not value` and not True alone: a value that was not read raises when it is asked.
    return value is None or (isinstance(value, Undefined) and not value)


def _join(value: Any, separator: str = "", attribute: str | int | None = None) -> str:
    """Jinja's join, without the items that are empty."""
    if attribute is not None:
        value = [_LENIENT.getitem(item, attribute) for item in value]
    return separator.join(str(item) for item in value if not _is_none(item))


_LENIENT: Final = _environment(_Empty)
_STRICT: Final = _environment(StrictUndefined)


def _parse(environment: _Sandbox, text: str) -> nodes.Expr:
    """The tree of an expression, checked for what would only fail in some records."""
    column = 1

    def tokens() -> Iterator[Any]:
        nonlocal column
        end = 1
        for line, kind, raw in environment.lexer.tokeniter(text, None, None, state="variable"):
            start, end = end, end + len(raw)
            for token in environment.lexer.wrap([(line, kind, raw)]):
                column = start
                yield token
        column = end

    try:
        parser = Parser(environment, "", state="variable")
        parser.stream = TokenStream(tokens(), None, None)
        tree = parser.parse_expression()
        if not parser.stream.eos:
            single = parser.stream.current.type == "assign"
            raise ExpressionError(
                'one "=" compares nothing: write "=="'
                if single
                else "the expression should end here",
                column=column,
            )
        tree.set_environment(environment)
        _check(environment, tree)
    except TemplateSyntaxError as error:
        at = re.search(r" at (\d+)$", error.message or "")
        message = (error.message or "not an expression").removesuffix(at[0] if at else "")
        message = message.replace("'end of template'", "end of template").rstrip(".")
        message = message.replace("end of template", "end of the expression")
        raise ExpressionError(message, column=int(at[1]) + 1 if at else column) from None
    return tree


def _check(environment: _Sandbox, tree: nodes.Expr) -> None:
    for node in _walk(tree):
        if isinstance(node, nodes.Filter) and node.name not in environment.filters:
            raise _unknown("filter", node.name, environment.filters)
        if isinstance(node, nodes.Test) and node.name not in environment.tests:
            raise _unknown("test", node.name, environment.tests)
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name):
            raise ExpressionError(
                f'there is no function "{node.node.name}"; a filter is written after its value: '
                f"value | {node.node.name}"
            )
        if isinstance(node, nodes.Getattr) and node.attr.startswith("__"):
            raise ExpressionError(f'"{node.attr}" is not allowed in an expression')


def _unknown(what: str, name: str, valid: Mapping[str, Any]) -> ExpressionError:
    return ExpressionError(f'there is no {what} "{name}": {suggestion(name, valid)}')


def _walk(tree: nodes.Node) -> Iterator[nodes.Node]:
    yield tree
    for child in tree.iter_child_nodes():
        yield from _walk(child)


def _names(environment: _Sandbox, tree: nodes.Expr) -> Iterator[str]:
    wrapper = nodes.Template([nodes.Output([tree])], lineno=1)
    wrapper.set_environment(environment)
    yield from meta.find_undeclared_variables(wrapper) - {RECORD}
    known = 0
    for node in _walk(tree):
        parent = node.node if isinstance(node, nodes.Getitem | nodes.Getattr) else None
        if not (isinstance(parent, nodes.Name) and parent.name == RECORD):
            continue
        if isinstance(node, nodes.Getattr):
            known += 1
            yield node.attr
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            known += 1
            yield str(node.arg.value)
    used = sum(isinstance(node, nodes.Name) and node.name == RECORD for node in _walk(tree))
    if used != known:
        raise ExpressionError(
            f'{RECORD} is written with the name of a field: {RECORD}["E-mail Address"]'
        )


def _evaluator(
    template: Template, names: frozenset[str], *, strict: bool
) -> Callable[[Mapping[str, Any]], Any]:
    ordered = tuple(names)
    render, new_context = template.root_render_func, template.new_context

    def read(record: Mapping[str, Any]) -> Any:
        variables: dict[str, Any] = {}
        for name in ordered:
            if name in record:
                value = record[name]
                variables[name] = EMPTY if value is None else value
        known = strict or len(variables) == len(ordered)
        variables[RECORD] = dict(variables)
        context = new_context(variables)
        try:
            for _ in render(context):
                pass
            value = _plain(context.vars["result"])
        except _FAILURES as error:
            raise ExpressionError(_in_words(error)) from None
        return MISSING if not known and (value is None or value == "") else value

    return read


def _plain(value: Any) -> Any:
    """The result as plain values: nothing lazy, nothing of Jinja's."""
    if isinstance(value, Undefined):
        bool(value)  # in a strict expression this raises, with the name
        return None
    if isinstance(value, Iterator | list | tuple):
        return [_plain(item) for item in value]
    return value


def _in_words(error: Exception) -> str:
    if isinstance(error, TransformError):
        return str(error)
    if isinstance(error, SecurityError):
        return "the expression uses what is not allowed in one"
    if isinstance(error, UndefinedError):
        name = _UNKNOWN.match(str(error))
        if name:
            return f'"{name[1]}" is not in the record, so it is not known'
        return "an empty value cannot be calculated with: use | default(0)"
    compared = _COMPARED.search(str(error)) if isinstance(error, TypeError) else None
    if compared:
        one, other = (_TYPE_WORDS.get(name, "another kind of value") for name in compared.groups())
        return f"{one} cannot be compared with {other}: convert it first, as in score | number"
    if isinstance(error, ZeroDivisionError):
        return "division by zero"
    return f"the values of this record do not fit the expression ({type(error).__name__})"
