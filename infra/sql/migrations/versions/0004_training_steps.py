"""Training steps of language models, and the words of their rollouts.

The words are an index that each database keeps by itself, by triggers: FTS5 in SQLite, whose row ids
`rollout_words_key` names, and a tsvector in PostgreSQL. Both split a text at whatever is neither letter nor
digit.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

from infra.sql.rollouts import make_training_steps

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXT = sa.Text()
DOUBLE: sa.types.TypeEngine[float] = sa.Double()
BIG = sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
JSON = sa.Text().with_variant(postgresql.JSON(), "postgresql")

KEY = "run_id, stream_id, seq"
SAME = "run_id = old.run_id AND stream_id = old.stream_id AND seq = old.seq"
TEXT_OF = r"""
  replace(replace(replace(replace(
    CASE WHEN length({body}) > 100000
         THEN substr({body}, 1, 50000) || ' ' || substr({body}, length({body}) - 49999)
         ELSE {body} END, '\\', ' '), '\n', ' '), '\t', ' '), '\r', ' ')
  || ' ' || coalesce({row}.split, '') || ' ' || {row}.group_id || ' ' || {row}.sample_id
  || ' ' || {row}.status || ' ' || coalesce({row}.stop_reason, '')"""
"""A transcript's JSON without its escapes; of a long one both ends, as a tsvector has at most a megabyte."""


def upgrade() -> None:
    """Create the table and the index; fill them from the rollouts that are there."""
    counts = ("samples", "superseded", "groups", "zero_signal_groups", "truncated", "failed")
    means = ("input_tokens", "output_tokens", "turns", "staleness")
    op.create_table(
        "training_steps",
        sa.Column("run_id", TEXT, nullable=False),
        sa.Column("training_step", BIG, nullable=False, autoincrement=False),
        sa.Column("split", TEXT, nullable=False),
        *(sa.Column(name, BIG, nullable=False) for name in counts),
        sa.Column("reward", DOUBLE),
        sa.Column("rewards", JSON, nullable=False),
        *(sa.Column(name, DOUBLE) for name in means),
        sa.PrimaryKeyConstraint("run_id", "training_step", "split", name="pk_training_steps"),
    )
    make_training_steps(op.get_bind())
    for statement in _postgres() if op.get_bind().dialect.name == "postgresql" else _sqlite():
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    """Remove both."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION rollout_words_added, rollout_words_removed CASCADE")
    else:
        op.execute("DROP TRIGGER rollout_words_added")
        op.execute("DROP TRIGGER rollout_words_removed")
        op.drop_table("rollout_words_key")
    op.drop_table("rollout_words")
    op.drop_table("training_steps")


def _sqlite() -> list[str]:
    new, old = _text("new", "new.messages"), _text("old", "old.messages")
    return [
        "CREATE VIRTUAL TABLE rollout_words USING fts5(words, content='', "
        "tokenize='unicode61 remove_diacritics 0')",
        "CREATE TABLE rollout_words_key (id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, "
        f"stream_id TEXT NOT NULL, seq INTEGER NOT NULL, CONSTRAINT uq_rollout_words_key UNIQUE ({KEY}))",
        f"INSERT INTO rollout_words_key ({KEY}) SELECT {KEY} FROM rollouts ORDER BY {KEY}",
        f"INSERT INTO rollout_words (rowid, words) SELECT id, {_text('r', 'r.messages')} "
        f"FROM rollout_words_key JOIN rollouts r USING ({KEY}) ORDER BY id",
        f"CREATE TRIGGER rollout_words_added AFTER INSERT ON rollouts BEGIN "
        f"INSERT INTO rollout_words_key ({KEY}) VALUES (new.run_id, new.stream_id, new.seq); "
        f"INSERT INTO rollout_words (rowid, words) VALUES (last_insert_rowid(), {new}); END",
        f"CREATE TRIGGER rollout_words_removed AFTER DELETE ON rollouts BEGIN "
        f"INSERT INTO rollout_words (rollout_words, rowid, words) "
        f"SELECT 'delete', id, {old} FROM rollout_words_key WHERE {SAME}; "
        f"DELETE FROM rollout_words_key WHERE {SAME}; END",
    ]


def _postgres() -> list[str]:
    apart = "/.-_@:~+=&?#%<>"  # PostgreSQL would take what these join for one word: a path, an address, a tag
    text = _text("r", "r.messages::text")
    words = f"to_tsvector('simple', translate({text}, '{apart}', '{' ' * len(apart)}'))".replace("%", "%%")
    made = f"INSERT INTO rollout_words ({KEY}, words) SELECT {KEY}, {words} FROM"
    function = "CREATE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {}; RETURN NULL; END $$"
    removed = "DELETE FROM rollout_words w USING removed gone WHERE " + " AND ".join(
        f"w.{name} = gone.{name}" for name in KEY.split(", ")
    )
    trigger = (
        "CREATE TRIGGER {0} AFTER {1} ON rollouts REFERENCING {2} FOR EACH STATEMENT EXECUTE FUNCTION {0}()"
    )
    return [
        "CREATE TABLE rollout_words (run_id text NOT NULL, stream_id text NOT NULL, seq bigint NOT NULL, "
        f"words tsvector NOT NULL, CONSTRAINT pk_rollout_words PRIMARY KEY ({KEY}))",
        f"{made} rollouts r",
        "CREATE INDEX ix_rollout_words_words ON rollout_words USING gin (words)",
        function.format("rollout_words_added", f"{made} added r"),
        function.format("rollout_words_removed", removed),
        trigger.format("rollout_words_added", "INSERT", "NEW TABLE AS added"),
        trigger.format("rollout_words_removed", "DELETE", "OLD TABLE AS removed"),
    ]


def _text(row: str, messages: str) -> str:
    return TEXT_OF.format(row=row, body=f"coalesce({messages}, {row}.final_text, '')")
