"""Value ranges: conversion to tensors and back keeps pixel values."""

import numpy as np
import torch

from imagewizard.diffusion.pixels import from_bytes, to_pixels, to_tensor, to_uint8

GREYS = np.arange(256, dtype=np.uint8)


def test_range_ends_map_to_minus_one_and_one() -> None:
    tensor = to_tensor(np.array([[[0, 255, 51]]], np.uint8))
    assert tensor.shape == (3, 1, 1) and tensor.dtype == torch.float32
    torch.testing.assert_close(tensor.flatten(), torch.tensor([-1.0, 1.0, -0.6]))
    assert tensor[0].item() == -1.0 and tensor[1].item() == 1.0


def test_bytes_on_a_device_map_to_the_same_range() -> None:
    image = np.stack([GREYS.reshape(16, 16), GREYS[::-1].reshape(16, 16), np.full((16, 16), 7, np.uint8)], axis=-1)
    found = from_bytes(torch.from_numpy(image))
    torch.testing.assert_close(found, to_tensor(image), rtol=0, atol=2e-7)
    assert (found.min().item(), found.max().item()) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_uint8(found), image)


def test_all_values_survive_the_round_trip_in_any_float_type() -> None:
    image = np.stack([GREYS.reshape(16, 16), GREYS[::-1].reshape(16, 16), np.full((16, 16), 7, np.uint8)], axis=-1)
    for dtype in (torch.float32, torch.float64):
        np.testing.assert_array_equal(to_uint8(to_tensor(image).to(dtype)), image)


def test_axes_keep_their_places() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    tensor = to_tensor(image)
    assert tensor.shape == (3, 4, 5)
    assert tensor[2, 3, 1].item() == np.float32(image[3, 1, 2]) * np.float32(2 / 255) - 1
    back = to_uint8(tensor)
    assert back.flags.c_contiguous and back.dtype == np.uint8
    np.testing.assert_array_equal(back, image)


def test_batch_is_converted_like_single_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    batch = to_tensor(images)
    assert batch.shape == (2, 3, 4, 5)
    torch.testing.assert_close(batch, torch.stack([to_tensor(image) for image in images]), rtol=0, atol=0)
    np.testing.assert_array_equal(to_uint8(batch), images)


def test_noisy_images_stay_unclipped_and_unchanged() -> None:
    noisy = np.array([[[-51.0, 306.0, 12.75]]], np.float32)
    kept = noisy.copy()
    torch.testing.assert_close(to_tensor(noisy).flatten(), torch.tensor([-1.4, 1.4, -0.9]))
    np.testing.assert_array_equal(noisy, kept)


def test_views_and_read_only_images_are_accepted() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    image.flags.writeable = False
    for view in (image[::-1], image[:, ::-1], np.rot90(image), image[1:3, 2:4]):
        np.testing.assert_array_equal(to_uint8(to_tensor(view)), view)


def test_estimates_are_clamped_and_rounded() -> None:
    values = [
        -5.0,
        -1.001,
        1.001,
        40.0,
        float("inf"),
        float("-inf"),
        float("nan"),
        100.4 / 127.5 - 1,
        100.6 / 127.5 - 1,
    ]
    tensor = torch.tensor(values * 3).view(3, 1, -1)
    kept = tensor.clone()
    assert to_uint8(tensor)[0, :, 0].tolist() == [0, 0, 255, 255, 255, 0, 0, 100, 101]
    torch.testing.assert_close(tensor, kept, rtol=0, atol=0, equal_nan=True)


def test_half_precision_estimates_are_scaled_in_float32() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        tensor = torch.linspace(-1.1, 1.1, 3000).to(dtype).view(3, 25, 40)
        np.testing.assert_array_equal(to_uint8(tensor), to_uint8(tensor.float()))


def test_sixteen_bits_use_their_range() -> None:
    values = torch.tensor([-1.0, 1.0, 0.0, 2.0, float("nan")]).view(1, 1, -1)
    found = to_pixels(values, np.dtype(np.uint16))
    assert found.dtype == np.uint16 and found.shape == (1, 5, 1)
    assert found.flatten().tolist() == [0, 65535, 32768, 65535, 0]
