"""Column names and schemas agree with each other and with the metrics."""

import pyarrow as pa
import pytest

from imagewizard import schema
from imagewizard.metrics import METRICS


def test_result_rows_have_a_column_for_each_metric_before_and_after():
    columns = [column for name in METRICS for column in (schema.noisy(name), name)]
    assert list(schema.SCORES) == columns
    assert all(schema.RESULT_SCHEMA.field(column).type == pa.float64() for column in columns)


@pytest.mark.parametrize(
    ("sigma", "text"),
    [
        (25.0, "25"),
        (25, "25"),
        (2.5, "2.5"),
        (25.00000001, "25.00000001"),
        (1e-5, "1e-05"),
    ],
)
def test_text_of_a_level_reads_back_as_the_same_number(sigma: float, text: str) -> None:
    assert schema.level_text(sigma) == text
    assert float(text) == sigma


def test_every_column_has_one_constant_and_every_key_is_a_column():
    names = schema.RESULT_SCHEMA.names
    assert len(set(names)) == len(names)
    constants = [value for name, value in vars(schema).items() if name.isupper() and isinstance(value, str)]
    assert set(names) <= {*constants, *schema.SCORES}
    assert {*schema.KEY, *schema.MEANS} <= set(names)


def test_what_an_error_row_has_may_not_be_null_and_all_else_may():
    """So that a row of an image that could not even be read is whole."""
    required = {field.name for field in schema.RESULT_SCHEMA if not field.nullable}
    assert required == {
        schema.SCHEMA, schema.IMAGE_ID, schema.URI, schema.STATUS, schema.NOISE_PARAMS, schema.SEED, schema.STEPS,
        schema.MODE, schema.MODEL, schema.ATTEMPT, schema.FINISHED_AT,
    }  # fmt: skip
