"""The table and the JSON object of a bench."""

import json
from dataclasses import replace

import pytest

from imagewizard.benchmarks import throughput_text
from tests.support.bench import DEVICE, MODEL


def lines(text: str) -> dict[str, list[str]]:
    """{first word: the other words of its line}."""
    return {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}


def test_a_stand_in_is_named_and_compared_with_what_it_stands_for() -> None:
    table = throughput_text.table(DEVICE, None)
    assert "stand-in for the model: sleeps 4 ms an image; 1 actor of 2 threads" in table
    found = lines(table)
    assert found["device,"] == ["by", "definition", "250.00", "0.800x"]
    assert found["bare"] == ["stand-in,", "measured", "240.00", "0.833x"]
    assert found["pipeline"][:2] == ["200.00", "1.000x"]
    assert "roofline" not in table and "plain" not in table and "million" not in table


def test_a_model_is_compared_with_all() -> None:
    table = throughput_text.table(MODEL, 1.8)
    found = lines(table)
    assert "model embedded, 2 actors of 1 thread" in table and MODEL.notes[0] in table
    assert " ".join(found["roofline"]) == "50.00 0.640x 4.00 GFLOP an image, 200.0 GFLOP/s"
    assert " ".join(found["bare"]) == "model 40.00 0.800x 0.800x the roofline"
    assert "plain loop, one step          16.00       2.000x" in table
    assert "plain loop, 50 DDIM steps      0.50      64.000x  timed on 4 images" in table
    assert " ".join(found["15.62"]) == "for a million images, if the machine costs 1.8 an hour"
    assert "stand-in" not in table


@pytest.mark.parametrize("measured", [DEVICE, MODEL])
def test_the_table_fits_into_100_columns(measured: object) -> None:
    assert max(map(len, throughput_text.table(measured, 3.5).splitlines())) <= 100  # type: ignore[arg-type]


def test_cpu_time_by_stage_and_cores_for_devices() -> None:
    heads, values = throughput_text.table(DEVICE, None).splitlines()[-6:-4]
    assert heads.split() == ["CPU", "ms", "an", "image", "read", "noise", "denoise", "score", "sum", "whole", "job"]
    assert values.split() == ["0.50", "3.00", "1.00", "2.50", "7.00", "9.00"]
    assert throughput_text.table(DEVICE, None).splitlines()[-3:] == [
        "cores beside a device, at 9.00 ms an image:",
        "      250 images/s     2.25 cores   as here",
        "    1,000 images/s     9.00 cores",
    ]
    assert "at 9.00 ms an image (whole job less denoise)" in throughput_text.table(MODEL, None)
    unwatched = replace(DEVICE, run=replace(DEVICE.run, cpu_ms=None))
    assert throughput_text.table(unwatched, None).splitlines()[-1].split() == ["0.50", "3.00", "1.00", "2.50", "7.00"]


def test_json_has_numbers_by_name_and_nothing_that_was_not_measured() -> None:
    found = json.loads(json.dumps(throughput_text.as_json(DEVICE, 3.6)))
    assert (found["actors"], found["rows"], found["device_ms"]) == (1, 2000, 4.0)
    assert found["pipeline_images_per_second"] == 200.0 and found["bare_images_per_second"] == 240.0
    assert found["pipeline_over_device"] == pytest.approx(0.8)
    assert found["cpu_ms_per_image_by_stage"]["score"] == 2.5
    assert found["cost_per_million_images"] == pytest.approx(5.0)
    assert None not in found.values() and not {"model", "plain_images_per_second"} & found.keys()

    model = throughput_text.as_json(MODEL, None)
    assert (model["plain_images_per_second"], model["plain_ddim50_images_per_second"]) == (16.0, 0.5)
    assert model["roofline_images_per_second"] == 50.0 and model["model"] == "embedded"
    assert not {"pipeline_over_device", "device_ms", "cost_per_million_images"} & model.keys()
