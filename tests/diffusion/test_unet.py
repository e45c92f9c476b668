"""UNet2DModel is imported without the rest of diffusers, which stays importable."""

import subprocess
import sys


def run(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_import_skips_unused_modules() -> None:
    program = """
import sys
import torch
from imagewizard.diffusion.unet import UNet2DModel
unused = ("torch._dynamo", "scipy.stats", "diffusers.models.transformers", "diffusers.models.unets")
print([name for name in unused if name in sys.modules])
"""
    assert run(program) == "[]"


def test_the_rest_of_diffusers_and_torch_compile_work_afterwards() -> None:
    program = """
import torch
from imagewizard.diffusion.unet import UNet2DModel
import diffusers
import diffusers.models.transformers, diffusers.models.unets
assert diffusers.UNet2DModel is diffusers.models.unets.UNet2DModel is UNet2DModel
assert diffusers.models.transformers.Transformer2DModel and diffusers.UNet2DConditionModel
network = torch.nn.Linear(2, 2)
x = torch.ones(1, 2)
assert torch.equal(torch.compile(network, backend="eager")(x), network(x))
print("fine")
"""
    assert run(program) == "fine"


def test_already_loaded_diffusers_is_not_replaced() -> None:
    program = """
import diffusers.models.transformers, torch._dynamo
before = diffusers.models.transformers, torch._dynamo, diffusers.UNet2DModel
from imagewizard.diffusion.unet import UNet2DModel
assert (diffusers.models.transformers, torch._dynamo, UNet2DModel) == before
print("fine")
"""
    assert run(program) == "fine"
