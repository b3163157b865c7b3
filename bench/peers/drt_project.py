"""Writes a drt project into the working folder: DuckDB reads the file, `rest_api` sends bulk requests. `drt run` does the rest."""

import os
from pathlib import Path

PROJECT = """\
name: people
version: "0.1"
profile: file
"""
PROFILES = """\
file:
  type: duckdb
  database: ":memory:"
"""
SYNC = """\
name: people_to_fluenzr
model: >-
  SELECT email, first, last, company, title, phone, web, modified
  FROM read_csv('people.csv', header = true, all_varchar = true)
destination:
  type: rest_api
  url: "{url}/contacts/bulk"
  method: POST
  headers:
    Content-Type: application/json
  auth:
    type: bearer
    token_env: FLUENZR_API_KEY
  body_mode: batch
  max_records_per_request: 1000
  batch_template: |
    {{"contacts": [
    {{%- for row in rows -%}}
    {{"email": {{{{ row.email | tojson_safe }}}}, "firstName": {{{{ row.first | tojson_safe }}}},
     "lastName": {{{{ row.last | tojson_safe }}}}, "company": {{{{ row.company | tojson_safe }}}},
     "jobTitle": {{{{ row.title | tojson_safe }}}}, "phone": {{{{ row.phone | tojson_safe }}}},
     "website": {{{{ row.web | tojson_safe }}}}}}
    {{%- if not loop.last %}},{{% endif -%}}
    {{%- endfor -%}}
    ], "groupIds": ["{group_id}"], "onDuplicate": "update"}}
sync:
  mode: incremental
  cursor_field: modified
  batch_size: 1000
  rate_limit:
    requests_per_second: {per_second}
  on_error: fail
"""


def main() -> None:
    """Three files; profiles are looked for in the home folder, which the caller has made this one."""
    Path("syncs").mkdir()
    Path(".drt").mkdir()
    Path("drt_project.yml").write_text(PROJECT)
    Path(".drt/profiles.yml").write_text(PROFILES)
    text = SYNC.format(
        url=os.environ["FLUENZR_URL"],
        group_id=os.environ["FLUENZR_GROUP_ID"],
        per_second=int(os.environ["FLUENZR_REQUESTS_PER_MINUTE"]) / 60,
    )
    Path("syncs/people_to_fluenzr.yml").write_text(text)


if __name__ == "__main__":
    main()
