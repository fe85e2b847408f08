"""The SQL of a create, as it is read from PostgreSQL's log and made to run again."""

import re

import pytest

from benchmarks.floor import joined, logged_messages
from benchmarks.pgbench import script
from benchmarks.variables import Message, fresh, template

AT = "2026-11-23 09:48:44.847 UTC [123] fundapi@fundapi "
UUIDS = "0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"


def test_a_statement_may_have_several_lines() -> None:
    log = f"{AT}LOG:  statement: SELECT 1,\n\t2;\n2026-11-23 09:48:44.847 UTC [9] LOG:  checkpoint starting\n"
    assert logged_messages(log) == [Message("SELECT 1,\n2")]


def test_several_statements_in_one_message_stay_together() -> None:
    (found,) = logged_messages(f"{AT}LOG:  statement: BEGIN; SELECT ';' AS \"a;b\" -- c;d\n\t, 2; COMMIT;\n")
    assert found.statements == 3


def test_a_prepared_statement_keeps_its_parameters() -> None:
    log = (
        f"{AT}LOG:  execute _pg3_0: SELECT $1, $2,\n\t$3\n"
        f"{AT}DETAIL:  Parameters: $1 = 'it''s, $9 = NULL', $2 = NULL, $3 = 'two\n\tlines'\n"
    )
    expected = Message("SELECT $1, $2,\n$3", ("it's, $9 = NULL", None, "two\nlines"), prepared=True)
    assert logged_messages(log) == [expected]


def test_an_unnamed_statement_is_not_prepared() -> None:
    log = f"{AT}LOG:  execute <unnamed>: SELECT $1\n{AT}DETAIL:  parameters: $1 = 'x'\n"
    assert logged_messages(log) == [Message("SELECT $1", ("x",))]


def test_a_pipeline_is_one_message() -> None:
    sent = [
        Message("SELECT 1"),
        Message("BEGIN ISOLATION LEVEL READ COMMITTED"),
        Message("SELECT claim($1, $2)", ("it's", None)),
        Message("INSERT", prepared=True),
        Message("SELECT save($1)", ("x",)),
        Message("COMMIT"),
    ]
    assert joined(sent) == (
        Message("SELECT 1"),
        Message("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT claim('it''s', NULL)"),
        Message("INSERT", prepared=True),
        Message("SELECT save('x'); COMMIT"),
    )


def recording(digest: str, lock: int) -> list[Message]:
    return [
        Message("SELECT body FROM store WHERE digest = $1", (digest,), prepared=True),
        Message(f"BEGIN; SELECT claim('{digest.replace('-', '')}'::uuid, {lock})"),
        Message("SELECT $1", (None,)),
        Message("COMMIT"),
    ]


CREATE = template(recording(UUIDS[0], 1234567890123), recording(UUIDS[1], -9876543210123))


def test_one_value_is_one_variable_however_it_is_written() -> None:
    assert CREATE[0].parameters == ("%%uuid0%%",)
    assert CREATE[1].sql == "BEGIN; SELECT claim('%%hex0%%'::uuid, %%number1%%)"
    first, again = fresh(CREATE), fresh(CREATE)
    assert str(first[0].parameters[0]).replace("-", "") in first[1].sql
    assert first != again
    assert first[2:] == list(CREATE[2:])


def test_short_differences_stay_as_in_the_first() -> None:
    assert template([Message("SELECT 7")], [Message("SELECT 8")]) == (Message("SELECT 7"),)


@pytest.mark.parametrize(
    "other", [[], [Message("SELECT $1", (None,))], [Message(f"SELECT $1, '{UUIDS[0]}'", ("x",))]]
)
def test_recordings_that_are_not_alike_are_refused(other: list[Message]) -> None:
    with pytest.raises(ValueError, match=r"zip|NULL"):
        template([Message("SELECT $1", ("x",))], other)


def test_pgbench_prepares_once_and_keeps_statements_in_one_message() -> None:
    lines = script(CREATE).splitlines()
    assert lines[:4] == [
        "\\if :prepared = 0",
        "PREPARE bench0 AS SELECT body FROM store WHERE digest = $1;",
        "\\set prepared 1",
        "\\endif",
    ]
    assert "EXECUTE bench0(':a0-:b0-:b0-:b0-:c0');" in lines
    assert "BEGIN\\; SELECT claim(':a0:b0:b0:b0:c0'::uuid, :n1);" in lines
    assert "SELECT NULL;" in lines
    assert len(re.findall(r"\\set a0 ", "\n".join(lines))) == 1


def test_pgbench_needs_no_preparation_where_nothing_was_prepared() -> None:
    assert script([Message("SELECT ';', $1; COMMIT", ("it's",))]) == "SELECT ';', 'it''s'\\; COMMIT;\n"
