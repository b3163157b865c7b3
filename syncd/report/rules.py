"""Which rule of the configuration a value, a group or a filter comes from, in its own words."""

from collections.abc import Iterable

from syncd.core.mapping import FieldRule, MappingRules, NameRule

CUSTOM = "customFields."  # how a dossier names a custom field


def value_rule(rules: MappingRules | None, name: str) -> str:
    """`first`, or `a ~ b` as number, or a fixed value; empty where the configuration has no such field any more."""
    if rules is None:
        return ""
    custom = name.startswith(CUSTOM)
    fields = rules.custom_fields if custom else rules.fields
    plain = name.removeprefix(CUSTOM)
    found = next((rule for rule in fields if (rule.send_as or rule.name) == plain), None)
    return "" if found is None else _value(found)


def _value(rule: FieldRule) -> str:
    origin = rule.path if rule.path is not None else rule.expr
    if origin is None:
        return "a fixed value"
    return f"`{origin}`" + (f" as {rule.convert}" if rule.convert else "")


def name_rule(rules: Iterable[NameRule], names: Iterable[str]) -> str:
    """When a group, tag or campaign of these names is asked for: "always", "when `score > 80`", "from `_lists`"; empty: not known."""
    wanted = {name.strip().casefold() for name in names}
    listed = list(rules)
    for rule in listed:
        if rule.name is not None and rule.name.strip().casefold() in wanted:
            return "always" if rule.when is None else f"when `{rule.when}`"
    for rule in listed:
        prefix = rule.prefix.casefold()
        if rule.source is not None and any(name.startswith(prefix) for name in wanted):
            return f"from `{rule.source}`"
    return ""
