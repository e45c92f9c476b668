"""Draws the random numbers of `seeding.words` and `normal.standard_normal` with torch on any device, bit for bit."""

import functools

import numpy as np
import torch
from torch import Tensor

from imagewizard.noise import normal

_LOW = 0xFFFFFFFF
# Multipliers and key increments of Philox 4×64 (Salmon et al. 2011, table 2).
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_INCREMENTS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10
# Blocks of eight normal values that `add` draws at a time: its int64 numbers take about 500 bytes a block.
BLOCKS = 1 << 19


def key_tensor(keys: list[int]) -> Tensor:
    """Keys of `seeding.key` as int64 (N, 2), low 64 bits first."""
    return torch.tensor([[_signed(key & (2**64 - 1)), _signed(key >> 64)] for key in keys], dtype=torch.int64)


def _signed(word: int) -> int:
    """The int64 with the bits of an unsigned word: torch has hardly any operation on uint64."""
    return word - 2**64 if word >= 2**63 else word


def _high(word: Tensor, factor: int) -> Tensor:
    """The upper 64 of the 128 bits of word * factor, by products of 32-bit halves."""
    a0, a1 = factor & _LOW, factor >> 32
    b0, b1 = word & _LOW, (word >> 32) & _LOW
    middle = b1 * a0 + ((b0 * a0 >> 32) & _LOW)
    other = b0 * a1 + (middle & _LOW)
    return b1 * a1 + ((middle >> 32) & _LOW) + ((other >> 32) & _LOW)


def counters(count: int, device: torch.device) -> Tensor:
    """The counters of the first `count` words, rounded up to whole blocks of four: int64.

    `words` does not compute them itself, because torch.compile would treat the arange as an index, in 32 bits.
    """
    return torch.arange(1, -(-count // 4) + 1, device=device)


def words(keys: Tensor, epochs: Tensor, stream: int, counters: Tensor) -> Tensor:
    """The words of each key's stream and epoch at `counters`: int64 (N, 4 * len(counters)), the bits of uint64.

    `keys`: `key_tensor`, (N, 2); `epochs`: int64 (N,).
    """
    shape = (len(keys), len(counters))
    c0 = counters.expand(shape)
    c1 = torch.full(shape, stream, dtype=torch.int64, device=keys.device)
    c2 = epochs[:, None].expand(shape)
    c3 = torch.zeros_like(c1)
    k0, k1 = keys[:, :1], keys[:, 1:]
    for _ in range(_ROUNDS):
        m0, m1 = _MULTIPLIERS
        c0, c1, c2, c3 = _high(c2, m1) ^ c1 ^ k0, c2 * _signed(m1), _high(c0, m0) ^ c3 ^ k1, c0 * _signed(m0)
        k0, k1 = k0 + _signed(_INCREMENTS[0]), k1 + _signed(_INCREMENTS[1])
    return torch.stack([c0, c1, c2, c3], dim=2).flatten(1)


def halves(words: Tensor) -> Tensor:
    """The 32-bit halves of random words, the low one first: int64 in [0, 2^32), (N, 2n) for (N, n)."""
    return torch.stack([words & _LOW, (words >> 32) & _LOW], dim=-1).flatten(-2)


def table(device: torch.device) -> tuple[Tensor, Tensor]:
    """`normal.table` on a device. `standard_normal` does not fetch it itself: torch.compile cannot trace that."""
    values, differences = (torch.from_numpy(np.array(part)).to(device) for part in normal.table())
    return values, differences


def standard_normal(words: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """float32 (N, 2n) for words (N, n), the values of `normal.standard_normal`; `table` is that of the device."""
    values, differences = table
    bits = halves(words)
    tail = ((bits & 0x7FFFFFFF) << 1 | 1).float().view(torch.int32)
    index = (tail >> normal.FRACTION_BITS) - normal.FIRST
    fraction = tail & ((1 << normal.FRACTION_BITS) - 1)
    fixed = values[index] + ((differences[index] * fraction) >> normal.FRACTION_BITS)
    return torch.where(bits >> 31 == 1, -fixed, fixed).float() * 2.0**-normal.SCALE_BITS


def add(clean: Tensor, keys: list[int], deviations: np.ndarray, mean: float) -> Tensor:
    """A batch with independent normal noise: float32 (N, H, W, C) for uint8 (N, H, W, C), on its device.

    Image i gets the values of `keys[i]`, times `deviations` (float32, one for each of the 256 sample values), plus
    `mean`. An image whose channels are equal gets one plane of noise, which is found without waiting for the device.
    """
    count, height, width, _ = clean.shape
    values = _drawn(_sent(key_tensor(keys), clean.device), clean[:1].numel())
    plane = values[:, : height * width].view(count, height, width, 1)
    is_grey = (clean == clean[..., :1]).all(-1).all(-1).all(-1)
    noise = torch.where(is_grey[:, None, None, None], plane, values.view(clean.shape))
    # Each step rounds by itself, as numpy's do.
    noise *= _sent(torch.tensor(deviations), clean.device)[clean.int()]
    noise += float(np.float32(mean))
    noise += clean
    return noise


def _drawn(keys: Tensor, size: int) -> Tensor:
    """The first `size` standard normal values of each key: float32 (N, size)."""
    places, epochs = counters(-(-size // 2), keys.device), torch.zeros_like(keys[:, 0])
    entries = _kept_table(keys.device)
    at_once = max(1, BLOCKS // len(keys))
    parts = [standard_normal(words(keys, epochs, 0, part), entries) for part in places.split(at_once)]
    return torch.cat(parts, dim=1)[:, :size]


@functools.lru_cache(maxsize=16)
def _kept_table(device: torch.device) -> tuple[Tensor, Tensor]:
    values, differences = (_sent(part, device) for part in table(torch.device("cpu")))
    return values, differences


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device; from pinned memory, so that the CPU does not wait for what the device does before."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
