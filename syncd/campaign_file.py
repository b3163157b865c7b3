"""A campaign in a TOML file: what FluenzR is to have, by the API's own names, and who is in it from the start.

Source: FluenzR reference, "Campaigns" [D]: `name` and `emailAccountId` are required; what `sendDays` and the hours hold is [?], so
they are passed on as they are. A name that is misspelt is a mistake: a limit that FluenzR drops silently would mail too many.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StrictBool, StrictInt, ValidationError

from syncd.config import read_toml
from syncd.config_errors import mistakes_of, refuse
from syncd.config_models import Table
from syncd.config_values import NameText


class SendingSettings(Table):
    """`[settings]`: when and how fast FluenzR sends."""

    sendDays: tuple[str | StrictInt, ...] | None = None  # noqa: N815 - the API's names
    sendHoursStart: str | StrictInt | None = None  # noqa: N815
    sendHoursEnd: str | StrictInt | None = None  # noqa: N815
    timezone: NameText | None = None
    maxEmailsPerHour: Annotated[StrictInt, Field(ge=1)] | None = None  # noqa: N815


class Workflow(Table):
    """`[workflow]`: the sequence, as the API has it."""

    nodes: tuple[dict[str, Any], ...] = ()
    edges: tuple[dict[str, Any], ...] = ()


class CampaignFile(Table):
    """The whole file. groups: names or ids; everybody in them is enrolled, once. start: and then it is started."""

    name: NameText
    emailAccountId: NameText  # noqa: N815
    description: str = ""
    settings: SendingSettings = SendingSettings()
    workflow: Workflow = Workflow()
    groups: tuple[NameText, ...] = ()
    start: StrictBool = False


def load(path: Path) -> CampaignFile:
    """The file at `path`. Raises ConfigError with every mistake, each at its place."""
    table = read_toml(path, other="syncd campaigns create FILE")
    try:
        return CampaignFile.model_validate(table)
    except ValidationError as error:
        mistakes = mistakes_of(error, CampaignFile, table)
        raise refuse(path, mistakes, then=f"syncd campaigns create {path}") from None
