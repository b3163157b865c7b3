"""A Singer tap that reads the file: whoever was modified since the bookmark, or at that moment, as Singer's rules want it."""

from collections.abc import Iterable
from csv import DictReader
from pathlib import Path
from typing import Any

from singer_sdk import Stream, Tap
from singer_sdk import typing as th

COLUMNS = ("email", "first", "last", "company", "title", "phone", "web", "score", "source", "note")


class People(Stream):
    """The file's rows."""

    name = "people"
    primary_keys = ("id",)
    replication_key = "modified"
    schema = th.PropertiesList(
        th.Property("id", th.StringType, required=True),
        th.Property("modified", th.DateTimeType),
        *(th.Property(name, th.StringType) for name in COLUMNS),
    ).to_dict()

    def get_records(self, context: Any) -> Iterable[dict[str, Any]]:
        """Rows at or after the bookmark."""
        since = self.get_starting_replication_key_value(context) or ""
        with Path(self.config["path"]).open(newline="", encoding="utf-8") as file:
            for row in DictReader(file):
                if row["modified"] >= since:
                    yield row


class TapPeople(Tap):
    """One file, one stream."""

    name = "tap-people"
    config_jsonschema = th.PropertiesList(
        th.Property("path", th.StringType, required=True)
    ).to_dict()

    def discover_streams(self) -> list[Stream]:
        """The one stream."""
        return [People(self)]


if __name__ == "__main__":
    TapPeople.cli()
