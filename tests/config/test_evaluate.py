"""The config of an evaluation: keys of a bulk job, and no others."""

import pytest

from imagewizard.config.denoise import DenoiseConfig
from imagewizard.config.evaluate import EvaluateConfig
from imagewizard.config.loading import load
from imagewizard.errors import UserError


def test_an_evaluation_restores_as_a_bulk_job_does_by_default() -> None:
    job = DenoiseConfig(input="in", output="out", noise=None).model_dump()
    assert EvaluateConfig().model_dump() == {key: job[key] for key in EvaluateConfig.model_fields}


def test_keys_of_a_bulk_job_that_change_no_score_are_refused() -> None:
    assert load(EvaluateConfig, None, ["denoise.sigma=8", "model=m"]).denoise.sigma == 8.0
    for word in ("noise.sigma=8", "images.format=png", "output=out"):
        with pytest.raises(UserError, match="unknown key"):
            load(EvaluateConfig, None, [word])
    with pytest.raises(UserError, match=r"^denoise\.sigma must be a level or auto"):
        load(EvaluateConfig, None, ["denoise.sigma=std"])
