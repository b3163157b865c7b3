"""The tables of the state, and how an older state becomes a newer one. All DDL is here.

A released migration is never edited: a later change is a later function. The tables and their commit points are those of
`docs/architecture.md`, "State". sqlite-utils keeps the list of what was applied in `_sqlite_migrations`.
"""

from collections.abc import Iterable

from sqlite_utils import Database, Migrations

APPLICATION_ID = 0x464C5A52  # "FLZR": tells our file from any other SQLite database
ROWNO_BITS = 40  # rowno = sync << 40 | n: one sync's records are one range of the table, in the order of the source

migrations = Migrations("fluenzr-syncd")


def unknown(applied: Iterable[str]) -> list[str]:
    """Those of these steps that this version does not know: a newer one has written the file."""
    return sorted(set(applied) - {step.name for step in migrations.pending(Database(memory=True))})


@migrations()
def m001_tables(db: Database) -> None:
    """The first version."""
    for statement in M001.split(";\n"):
        if statement.strip():
            db.execute(statement)


@migrations()
def m002_undo(db: Database) -> None:
    """What was put back, and which run made a contact."""
    for statement in M002.split(";\n\n"):
        db.execute(statement)


@migrations()
def m003_feedback(db: Database) -> None:
    """Who has bounced, unsubscribed or replied, found without reading everybody; and what of it a source was told."""
    for statement in M003.split(";\n\n"):
        db.execute(statement)


@migrations()
def m004_campaigns(db: Database) -> None:
    """Campaigns stand among the groups: both are what one can be enrolled in. Here: what the configuration calls them."""
    for statement in M004.split(";\n\n"):
        db.execute(statement)


@migrations()
def m005_why(db: Database) -> None:
    """Since when something is barred, and who has approved what."""
    for statement in M005.split(";\n\n"):
        db.execute(statement)


@migrations()
def m006_snapshots(db: Database) -> None:
    """What each campaign has come to, day by day."""
    db.execute(M006)


@migrations()
def m007_judged(db: Database) -> None:
    """Which enrolments the guards have let pass: no other one is sent."""
    for statement in M007.split(";\n\n"):
        db.execute(statement)


@migrations()
def m008_size(db: Database) -> None:
    """Indexes that a large load can build at the end, and one copy of what is wanted where FluenzR has just that."""
    for statement in M008.split(";\n\n"):
        db.execute(statement)


@migrations()
def m009_counts(db: Database) -> None:
    """Counting a sync's records without reading them."""
    for statement in M009.split(";\n\n"):
        db.execute(statement)


@migrations()
def m010_run_sync(db: Database) -> None:
    """The last runs of one sync are found without those of all others."""
    db.execute("CREATE INDEX run_sync_sync ON run_sync(sync,run)")


@migrations()
def m011_heard(db: Database) -> None:
    """Of whom something was heard, by a condition that costs next to nothing where nothing was."""
    for statement in M011.split(";\n\n"):
        db.execute(statement)


M001 = """
CREATE TABLE meta(k TEXT PRIMARY KEY, v TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE sync(
  sync INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  version TEXT,             -- of the mapping and the source's options at the last promoted read
  token TEXT,               -- the source's own digest at the last promoted read
  cursor TEXT,              -- where the next incremental read goes on
  promoted_at INTEGER,      -- last promotion, epoch seconds; NULL until the first: the "first run"
  full_at INTEGER,          -- last promoted full read
  completed_at INTEGER,     -- last run that ended well (or with quarantine)
  read_count INTEGER,       -- records of the last promoted full read: what a shrunken source is compared with
  listed INTEGER NOT NULL DEFAULT 0  -- 1: the account was listed for this sync before its first sending
) STRICT;
CREATE TABLE record(
  rowno INTEGER PRIMARY KEY,
  sync INTEGER NOT NULL,
  key TEXT NOT NULL,
  email TEXT,               -- mapped address; NULL when it never had a usable one
  fingerprint BLOB NOT NULL,
  data TEXT,                -- mapped {"f","c","g","t"}; NULL when it never was wanted
  skip TEXT,                -- why it is not wanted now (SkipReason, or 'gone'), NULL: wanted
  note TEXT,                -- the reason in words
  live INTEGER NOT NULL,    -- 1: contributes to its contact
  dirty INTEGER NOT NULL DEFAULT 0,  -- 1: its link must be decided (again)
  cid INTEGER,
  UNIQUE(sync, key)
) STRICT;
CREATE INDEX record_email ON record(email) WHERE email IS NOT NULL;
CREATE INDEX record_cid ON record(cid) WHERE cid IS NOT NULL;
CREATE INDEX record_dirty ON record(rowno) WHERE dirty=1;
CREATE TABLE contact(
  cid INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again: the history names contacts by it
  email TEXT NOT NULL UNIQUE,   -- the address on the server, or to be created; '?<cid>': unknown just now
  rid TEXT UNIQUE,              -- FluenzR's id; NULL until it was needed
  origin TEXT,                  -- created | adopted
  made_from INTEGER, made INTEGER,  -- server time (ms) between which our create took effect
  status TEXT,                  -- FluenzR's status when last seen
  state TEXT NOT NULL,          -- new | ok | forget
  sync INTEGER,                 -- of the first record that contributes: where it is counted
  policy TEXT,                  -- keep | ungroup | delete: the most cautious of all linked
  want TEXT, sent TEXT,         -- {"f","c","g","t"}; g: grp.gid; sent: what FluenzR was last confirmed to have of ours
  move_to TEXT,
  touch INTEGER NOT NULL DEFAULT 0,   -- merge again
  todo INTEGER NOT NULL DEFAULT 0,    -- want may differ from sent
  inflight TEXT,                -- create update move group ungroup tag untag delete field check
  inflight_at INTEGER,          -- server time (ms) before which it was not sent; NULL: FluenzR sends no Date
  body TEXT,                    -- the fields of the bulk update that is in flight
  unsettled INTEGER NOT NULL DEFAULT 0,  -- epoch s of a request that got no answer and may still take effect; 0: none
  tries INTEGER NOT NULL DEFAULT 0, not_before INTEGER NOT NULL DEFAULT 0, err TEXT,
  read_run INTEGER,             -- the run that last read it whole
  wrote_run INTEGER             -- the run that last changed it in FluenzR
) STRICT;
CREATE INDEX contact_move ON contact(move_to) WHERE move_to IS NOT NULL;
CREATE INDEX contact_todo ON contact(cid) WHERE todo=1;
CREATE INDEX contact_touch ON contact(cid) WHERE touch=1;
CREATE INDEX contact_inflight ON contact(cid) WHERE inflight IS NOT NULL;
CREATE INDEX contact_late ON contact(cid) WHERE tries>0;
CREATE TABLE never(
  k TEXT NOT NULL,              -- 'e:' + keyed hash of the address, or 'r:' + keyed hash of sync and key
  what TEXT NOT NULL,           -- ! opted out, - by the word of the source, x deleted by hand, # forgotten,
                                -- ? absent at rebuild, * no dynamic group, or 'g' + gid: enrolled there
  cid INTEGER, sure INTEGER NOT NULL,
  PRIMARY KEY(k, what)
) STRICT, WITHOUT ROWID;
CREATE INDEX never_open ON never(cid) WHERE sure=0;
CREATE TABLE grp(
  gid INTEGER PRIMARY KEY,
  name TEXT NOT NULL,           -- as the configuration or the source calls it
  rid TEXT UNIQUE,              -- FluenzR's id; NULL: to be created
  kind TEXT NOT NULL            -- static | dynamic | unknown
) STRICT;
CREATE TABLE grp_name(name TEXT PRIMARY KEY, gid INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE run(
  run INTEGER PRIMARY KEY,
  started_at INTEGER NOT NULL, ended_at INTEGER,
  kind TEXT NOT NULL            -- sync | approve ...
) STRICT;
CREATE TABLE run_sync(
  run INTEGER NOT NULL, sync TEXT NOT NULL,
  status TEXT NOT NULL,         -- running ok partial held failed
  counts TEXT NOT NULL,         -- JSON: the numbers of `syncd sync --json`
  error TEXT, trips TEXT,       -- trips: JSON list of sentences, what each guard says
  PRIMARY KEY(run, sync)
) STRICT, WITHOUT ROWID;
CREATE TABLE held(
  run INTEGER NOT NULL, sync TEXT NOT NULL,
  email TEXT NOT NULL, change TEXT NOT NULL, -- JSON of one change, as `plan` shows it
  digest BLOB NOT NULL,
  approved INTEGER NOT NULL DEFAULT 0,       -- 1: released, once
  PRIMARY KEY(sync, email)
) STRICT, WITHOUT ROWID;
CREATE TABLE change(
  id INTEGER PRIMARY KEY, run INTEGER NOT NULL, cid INTEGER NOT NULL, email TEXT NOT NULL, at INTEGER NOT NULL,
  kind TEXT NOT NULL,           -- create update move remove group ungroup tag untag
  detail TEXT NOT NULL          -- JSON: {"fields": {name: [old, new]}, "groups": {...}, "tags": {...}, ...}
) STRICT;
CREATE INDEX change_cid ON change(cid);
CREATE INDEX change_run ON change(run)
"""

# A row of `undone` is an exception from what the sources want; it ends when they want something else.
M002 = """
ALTER TABLE contact ADD COLUMN made_run INTEGER;

CREATE TABLE undone(
  cid INTEGER NOT NULL,
  part TEXT NOT NULL,           -- f c g t, as in `want`
  name TEXT NOT NULL,           -- of the field or tag; gid of the group
  undone TEXT NOT NULL,         -- JSON: what the sources want
  instead TEXT NOT NULL,        -- JSON: what is wanted as long as they do
  left_all INTEGER NOT NULL,    -- 1: no source wanted the person then
  of INTEGER NOT NULL,          -- the run that it undoes
  run INTEGER NOT NULL,         -- the run that did so
  PRIMARY KEY(cid, part, name)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER undone_gone AFTER DELETE ON contact BEGIN DELETE FROM undone WHERE cid=OLD.cid; END;

CREATE TRIGGER undone_forgotten AFTER UPDATE OF state ON contact WHEN NEW.state='forget'
BEGIN DELETE FROM undone WHERE cid=NEW.cid; END
"""

M003 = """
CREATE INDEX contact_feedback ON contact(sync,status) WHERE status IN ('unsubscribed','bounced','blocked','replied');

CREATE TABLE written_back(
  rowno INTEGER PRIMARY KEY,    -- of `record`
  told TEXT,                    -- the status that its source was last told; NULL: none yet
  tries INTEGER NOT NULL DEFAULT 0, not_before INTEGER NOT NULL DEFAULT 0, err TEXT
) STRICT;

CREATE TRIGGER written_back_gone AFTER DELETE ON record BEGIN DELETE FROM written_back WHERE rowno=OLD.rowno; END
"""

# A campaign is a row of `grp` with the kind `campaign`, or `ended` when it takes nobody any more.
# members_at: epoch s; those who were in the campaign then stand in the ledger; NULL: nobody was looked for yet.
M004 = """
CREATE TABLE campaign_name(name TEXT PRIMARY KEY, gid INTEGER NOT NULL) STRICT, WITHOUT ROWID;

ALTER TABLE grp ADD COLUMN members_at INTEGER
"""

# What a row of `never` forbids began at the run that wrote it; of enrolments the history tells it.
M005 = """
CREATE TABLE since(k TEXT NOT NULL, what TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY(k, what)) STRICT, WITHOUT ROWID;

CREATE TRIGGER never_since AFTER INSERT ON never WHEN NEW.what NOT GLOB 'g*'
BEGIN INSERT OR REPLACE INTO since SELECT NEW.k,NEW.what,started_at FROM run ORDER BY run DESC LIMIT 1; END;

CREATE TRIGGER never_ended AFTER DELETE ON never WHEN OLD.what NOT GLOB 'g*'
BEGIN DELETE FROM since WHERE k=OLD.k AND what=OLD.what; END;

CREATE TABLE approval(
  run INTEGER NOT NULL, sync TEXT NOT NULL,  -- whose changes were held
  at INTEGER NOT NULL, by TEXT NOT NULL,     -- when, and by which user of the machine
  used INTEGER,                              -- the run that carried it out; NULL: not yet
  PRIMARY KEY(run, sync)
) STRICT, WITHOUT ROWID;

CREATE TABLE carried(cid INTEGER NOT NULL, run INTEGER NOT NULL, PRIMARY KEY(cid, run)) STRICT, WITHOUT ROWID
"""

M006 = """
CREATE TABLE snapshot(
  day TEXT NOT NULL,            -- YYYY-MM-DD, UTC
  campaign TEXT NOT NULL,       -- FluenzR's id
  at INTEGER NOT NULL,          -- when it was read, epoch seconds
  name TEXT NOT NULL, status TEXT NOT NULL,
  stats TEXT NOT NULL,          -- JSON: what it had come to, by the API's names
  PRIMARY KEY(day, campaign)
) STRICT, WITHOUT ROWID
"""

M007 = """
CREATE TABLE judged(cid INTEGER NOT NULL, gid INTEGER NOT NULL, PRIMARY KEY(cid, gid)) STRICT, WITHOUT ROWID;

CREATE TRIGGER judged_gone AFTER DELETE ON contact BEGIN DELETE FROM judged WHERE cid=OLD.cid; END
"""

# The unique indexes stand apart from their tables, so that a load that outweighs what is there can build them in one go
# (`state.newcomers`). No trigger watches what a confirmation writes, for it would double the work. `sent` is what it was; '=' in
# `sent_as` says that it is `want`, for most contacts for ever.
M008 = """
CREATE TABLE record_008(
  rowno INTEGER PRIMARY KEY,
  sync INTEGER NOT NULL,
  key TEXT NOT NULL,
  email TEXT,
  fingerprint BLOB NOT NULL,
  data TEXT,
  skip TEXT,
  note TEXT,
  live INTEGER NOT NULL,
  dirty INTEGER NOT NULL DEFAULT 0,
  cid INTEGER
) STRICT;

INSERT INTO record_008 SELECT rowno,sync,key,email,fingerprint,data,skip,note,live,dirty,cid FROM record ORDER BY rowno;

DROP TABLE record;

ALTER TABLE record_008 RENAME TO record;

CREATE UNIQUE INDEX record_key ON record(sync,key);

CREATE INDEX record_email ON record(email) WHERE email IS NOT NULL;

CREATE INDEX record_cid ON record(cid) WHERE cid IS NOT NULL;

CREATE INDEX record_dirty ON record(rowno) WHERE dirty=1;

CREATE INDEX record_blocked ON record(cid) WHERE skip='blocked';

CREATE INDEX record_unread ON record(email) WHERE skip='blocked';

CREATE TABLE contact_008(
  cid INTEGER PRIMARY KEY AUTOINCREMENT,
  email TEXT NOT NULL,
  rid TEXT,
  origin TEXT,
  made_from INTEGER, made INTEGER,
  status TEXT,
  state TEXT NOT NULL,
  sync INTEGER,
  policy TEXT,
  want TEXT,
  sent_as TEXT,                 -- '=': what it wants; or {"f","c","g","t"}
  sent TEXT GENERATED ALWAYS AS (CASE sent_as WHEN '=' THEN want ELSE sent_as END) VIRTUAL,
  move_to TEXT,
  touch INTEGER NOT NULL DEFAULT 0,
  todo INTEGER NOT NULL DEFAULT 0,
  inflight TEXT,
  inflight_at INTEGER,
  body TEXT,
  unsettled INTEGER NOT NULL DEFAULT 0,
  tries INTEGER NOT NULL DEFAULT 0, not_before INTEGER NOT NULL DEFAULT 0, err TEXT,
  read_run INTEGER,
  wrote_run INTEGER,
  made_run INTEGER
) STRICT;

INSERT INTO contact_008(cid,email,rid,origin,made_from,made,status,state,sync,policy,want,sent_as,move_to,touch,todo,inflight,
  inflight_at,body,unsettled,tries,not_before,err,read_run,wrote_run,made_run)
SELECT cid,email,rid,origin,made_from,made,status,state,sync,policy,want,iif(sent=want,'=',sent),move_to,touch,todo,inflight,
  inflight_at,body,unsettled,tries,not_before,err,read_run,wrote_run,made_run FROM contact ORDER BY cid;

DELETE FROM sqlite_sequence WHERE name='contact_008';

INSERT INTO sqlite_sequence(name,seq) SELECT 'contact_008',seq FROM sqlite_sequence WHERE name='contact';

DROP TABLE contact;

ALTER TABLE contact_008 RENAME TO contact;

CREATE UNIQUE INDEX contact_email ON contact(email);

CREATE UNIQUE INDEX contact_rid ON contact(rid) WHERE rid IS NOT NULL;

CREATE INDEX contact_move ON contact(move_to) WHERE move_to IS NOT NULL;

CREATE INDEX contact_todo ON contact(cid) WHERE todo=1;

CREATE INDEX contact_touch ON contact(cid) WHERE touch=1;

CREATE INDEX contact_inflight ON contact(cid) WHERE inflight IS NOT NULL;

CREATE INDEX contact_feedback ON contact(sync,status) WHERE status IN ('unsubscribed','bounced','blocked','replied');

CREATE TRIGGER written_back_gone AFTER DELETE ON record BEGIN DELETE FROM written_back WHERE rowno=OLD.rowno; END;

CREATE INDEX contact_late ON contact(cid) WHERE tries>0;

CREATE TRIGGER undone_gone AFTER DELETE ON contact BEGIN DELETE FROM undone WHERE cid=OLD.cid; END;

CREATE TRIGGER judged_gone AFTER DELETE ON contact BEGIN DELETE FROM judged WHERE cid=OLD.cid; END;

CREATE INDEX contact_forget ON contact(cid) WHERE state='forget';

CREATE TRIGGER undone_forgotten AFTER UPDATE OF want ON contact WHEN NEW.state='forget'
BEGIN DELETE FROM undone WHERE cid=NEW.cid; END;

CREATE TRIGGER contact_want AFTER UPDATE OF want ON contact WHEN NEW.sent_as='=' AND OLD.sent_as='=' AND NEW.want IS NOT OLD.want
BEGIN UPDATE contact SET sent_as=OLD.want WHERE cid=NEW.cid; END
"""

# Counts ask this one for the few, and an index that has everybody for how many there are.
M009 = """
CREATE INDEX record_odd ON record(rowno,skip,live) WHERE skip IS NOT NULL OR live=0
"""

# A list in the condition of an index is made anew for each row that is written: 4 us of a new contact.
M011 = """
DROP INDEX contact_feedback;

CREATE INDEX contact_feedback ON contact(sync,status) WHERE status<>'active'
"""
