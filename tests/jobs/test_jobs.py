"""imagewizard jobs: the table. tests/end_to_end/test_submit.py has jobs of a real cluster."""

import pytest

from jobs import jobs


def test_a_job_is_one_line_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    row = ("a", "RUNNING", "", "2026-01-01 00:00:00", "0:05", "python -c '\nprint(1)\n'")
    jobs._print_table([row, ("longer", *row[1:])])
    assert capsys.readouterr().out.splitlines() == [
        "id      status   code  began                took  runs",
        "a       RUNNING        2026-01-01 00:00:00  0:05  python -c ' print(1) '",
        "longer  RUNNING        2026-01-01 00:00:00  0:05  python -c ' print(1) '",
    ]
