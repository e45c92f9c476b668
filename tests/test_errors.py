"""One place makes the line that a user reads, and it survives the way back from a worker."""

import pickle

import pytest

from imagewizard.errors import UserError, keyed, one_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("no such folder", "give another", "data.train"), "data.train: no such folder; give another"),
        (UserError("s3://b: no such bucket", "check its name"), "s3://b: no such bucket; check its name"),
        (UserError("what\nis  wrong", "mend it", "input"), "input: what is wrong; mend it"),
        (UserError("no such folder", "give another", "input").at("SRC"), "SRC: no such folder; give another"),
    ],
)
def test_the_line(error: UserError, line: str) -> None:
    assert str(error) == line


def test_a_pickled_error_keeps_its_parts() -> None:
    error = pickle.loads(pickle.dumps(UserError("broken", "copy it again", "model")))
    assert (error.what, error.fix, error.key) == ("broken", "copy it again", "model")
    assert str(error) == "model: broken; copy it again"


@pytest.mark.parametrize(("key", "expected"), [(None, "input"), ("output", "output")])
def test_a_key_is_given_to_an_error_that_has_none(key: str | None, expected: str) -> None:
    with pytest.raises(UserError) as caught, keyed("input"):
        raise UserError("broken", "copy it again", key)
    assert (caught.value.key, caught.value.what, caught.value.fix) == (expected, "broken", "copy it again")


def test_one_line_folds_white_space() -> None:
    assert one_line(OSError("disk\n  is full ")) == "disk is full"
