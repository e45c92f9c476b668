"""imagewizard bench: what it is asked, and what it prints."""

import json
from pathlib import Path

import pytest

from imagewizard.benchmarks import scale, throughput
from imagewizard.benchmarks.rates import Request, Throughput
from imagewizard.errors import UserError
from jobs import bench, shell
from tests.support.bench import DEVICE


@pytest.mark.parametrize("sizes", ["many", "10,", "0", "10,-5", ""])
def test_sizes_that_are_no_numbers_are_refused(sizes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run(bench.main, ["--scale", sizes]) == 2
    error = f"error: --scale: {sizes} is no list of numbers; give one or more, as 10000,100000"
    assert " ".join(capsys.readouterr().err.split()) == " ".join(error.split())


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--count", "0"], "--count: is 0; give a whole number from 1 on"),
        (["--count", "many"], "--count: is many; give a whole number from 1 on"),
        (["--count=-5"], "--count: is -5; give a whole number from 1 on"),
        (["--count", "2.5"], "--count: is 2.5; give a whole number from 1 on"),
        (["--actors", "0"], "--actors: is 0; give a whole number from 1 on"),
        (["--size", "301"], "--size: is 301; give a whole number from 16 to 300"),
        (["--size", "15"], "--size: is 15; give a whole number from 16 to 300"),
        (["--device-ms", "0"], "--device-ms: is 0; give a number greater than 0"),
        (["--device-ms", "nan"], "--device-ms: is nan; give a number greater than 0"),
        (["--device-ms", "fast"], "--device-ms: is fast; give a number greater than 0"),
        (["--price", "inf"], "--price: is inf; give a number greater than 0"),
        (["--price", ""], "--price: is empty; give a number greater than 0"),
        (["--sigma=-1"], "--sigma: is -1; give a number greater than 0"),
        (["--scale", "10", "--json"], "--json: does not go with --scale; leave out one of them"),
        (["--scale", "10", "--device-ms", "4"], "--device-ms: does not go with --scale; leave out one of them"),
        (["--images", ".", "--size", "64"], "--size: is that of the crops, which --images replaces; leave out one "
         "of them"),
    ],
)  # fmt: skip
def test_bad_options_are_refused_in_one_line(words: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run(bench.main, words) == 2
    assert capsys.readouterr().err == f"error: {error}\n"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--images", "no/folder"], "--images: no/folder holds no image; give a local folder of images"),
        (["--model", "./none"], "--model: "),
        (["--sigma", "5000"], "--sigma: "),
    ],
)
def test_errors_name_the_option(words: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.run(bench.main, words) == 2
    assert capsys.readouterr().err.startswith(f"error: {error}")


def test_each_size_is_a_column(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def measured(images: int, scratch: Path, start: object) -> scale.Cost:
        assert list(scratch.iterdir()) == []
        return scale.Cost(images, *[images / 10] * 11)  # type: ignore[arg-type]

    monkeypatch.setattr(scale, "measure", measured)
    assert bench.main(["--scale", "1000,20000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["images", "1,000", "20,000"]
    assert lines[1].split() == ["manifest_seconds", "100.00", "2,000.00"] and len(lines) == 12


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What is asked for; nothing is measured."""
    found: list[Request] = []

    def measured(request: Request, scratch: Path, started: float, start: object, report: object) -> Throughput:
        assert list(scratch.iterdir()) == []
        found.append(request)
        return DEVICE

    monkeypatch.setattr(throughput, "measure", measured)
    return found


def test_options_reach_the_benchmark(requests: list[Request]) -> None:
    assert bench.main([]) == 0
    words = "--images in --count 3 --sigma 50 --model here --device-ms 2.5 --actors 2"
    assert bench.main(words.split()) == bench.main(["--size", "64"]) == 0
    assert requests == [
        Request(None, None, None, 25.0, "embedded", None, None),
        Request("in", 3, None, 50.0, "here", 2.5, 2),
        Request(None, None, 64, 25.0, "embedded", None, None),
    ]


def test_a_table_or_one_json_object(requests: list[Request], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--price", "3.6"]) == 0
    assert "5.00 for a million images, if the machine costs 3.6 an hour" in capsys.readouterr().out
    assert bench.main(["--json", "--price", "3.6"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 2000 and found["cost_per_million_images"] == pytest.approx(5.0)


def test_too_many_actors_name_the_option(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*arguments: object) -> None:
        raise UserError("9 asked for, but the cluster has room for 2", "lower it", "resources.actors")

    monkeypatch.setattr(throughput, "measure", refuse)
    assert shell.run(bench.main, ["--actors", "9"]) == 2
    assert capsys.readouterr().err == "error: --actors: 9 asked for, but the cluster has room for 2; lower it\n"


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.long
def test_a_stand_in_from_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--device-ms", "1", "--count", "80", "--size", "32", "--json"]) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["actors"], found["rows"], found["device_ms"]) == (1, 80, 1.0)
    assert found["images"] == "80 JPEG crops of 32x32" and found["notes"] == []
    assert 0 < found["bare_images_per_second"] <= 1000
    assert found["pipeline_over_device"] == pytest.approx(found["pipeline_images_per_second"] / 1000)
    assert found["cpu_ms_per_image_by_stage"]["score"] > 0
    assert "plain_images_per_second" not in found and "80/80 images" in printed.err


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.long
def test_a_model_from_end_to_end(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", tiny, "--count", "40", "--size", "32", "--actors", "1", "--price", "1", "--json"]
    assert bench.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["actors"], found["rows"], found["model"]) == (1, 40, tiny)
    names = "pipeline bare plain plain_ddim50 roofline".split()  # noqa: SIM905
    assert all(found[f"{name}_images_per_second"] > 0 for name in names)
    assert found["plain_ddim50_images"] == 4 and found["cost_per_million_images"] > 0
    assert not {"device_ms", "pipeline_over_device"} & found.keys()
