"""Which files of a model folder hold its weights: one file, or parts and their index, as diffusers names them."""

import re
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from imagewizard.errors import UserError

WEIGHTS = "diffusion_pytorch_model.safetensors"

_STEM = r"diffusion_pytorch_model"
_VARIANT = r"(?:\.(?P<variant>[\w-]+))?"
# save_pretrained(variant="fp16") puts the variant before the last suffix; before 2024 it came before `.index`.
_WHOLE = re.compile(rf"{_STEM}{_VARIANT}\.(?P<format>safetensors|bin)")
_INDEX = re.compile(rf"{_STEM}\.(?P<format>safetensors|bin)(?:\.(?P<old>[\w-]+))?\.index{_VARIANT}\.json")
_PART = re.compile(rf"{_STEM}{_VARIANT}-\d+-of-\d+(?:\.(?P<old>[\w-]+))?\.(?P<format>safetensors|bin)")
# Variants that are the same weights, the finest first. Others (`ema`, for example) are other weights.
_PRECISIONS = ("", "fp32", "fp16", "bf16")
# `bin` is a pickle: what diffusers wrote before 2023, and all that some of the hub's models have.
_FORMATS = ("safetensors", "bin")


def choose(names: Collection[str]) -> str | None:
    """The file, or the index of the parts, that holds the weights among the `names` of a folder; None if none does.

    Pickles only where there are no safetensors; a variant only where there is no plain file, as diffusers has it.
    Raises UserError if there are several variants that no rule chooses from.
    """
    ranked: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name in sorted(names):
        match = _INDEX.fullmatch(name) or (None if _PART.fullmatch(name) else _WHOLE.fullmatch(name))
        if match:
            variant = _variant(match)
            precision = _PRECISIONS.index(variant) if variant in _PRECISIONS else len(_PRECISIONS)
            ranked[_FORMATS.index(match["format"]), precision].append(name)
    if not ranked:
        return None
    best = ranked[min(ranked)]
    indices = [name for name in best if _INDEX.fullmatch(name)]  # of an index and a whole file, diffusers takes it
    if min(ranked)[1] == len(_PRECISIONS) and len(best) > 1:
        raise UserError(f"it has several weights: {', '.join(best)}", "keep one of them", "model")
    return (indices or best)[0]


def belonging(chosen: str, names: Collection[str]) -> list[str]:
    """`chosen` and, if it is an index, the parts among `names`, without reading it: what is to be fetched."""
    index = _INDEX.fullmatch(chosen)
    if index is None:
        return [chosen]
    kind = (_variant(index), index["format"])
    matches = ((name, _PART.fullmatch(name)) for name in sorted(names))
    return [chosen, *(name for name, part in matches if part and (_variant(part), part["format"]) == kind)]


def parts(weights: Path, index: dict[str, object]) -> list[Path]:
    """The parts that the content `index` of the file `weights` names, in order. Raises UserError if it is broken."""
    named = index.get("weight_map")
    names = {str(name) for name in named.values()} if isinstance(named, dict) else set()
    # A name with a slash could be any file of this machine.
    if not names or not all(re.fullmatch(r"[^/\\]+\.(safetensors|bin)", name) for name in names):
        raise UserError(f"{weights} names no files in its weight_map", "copy it or save the model again", "model")
    return [weights.parent / name for name in sorted(names)]


def is_index(weights: Path) -> bool:
    """Whether `weights` is an index of parts."""
    return weights.name.endswith(".json")


def _variant(match: re.Match[str]) -> str:
    groups = match.groupdict()
    return groups.get("variant") or groups.get("old") or ""
