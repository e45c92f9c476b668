"""Drawings for the level finder: of every kind, and a function of the generator."""

import numpy as np

from imagewizard.training import drawings


def test_drawings_are_whole_images_of_many_kinds():
    found = [drawings.draw(np.random.default_rng(seed), 64) for seed in range(60)]
    assert all(image.shape == (64, 64, 3) and image.dtype == np.uint8 for image in found)
    assert len({image.tobytes() for image in found}) == 60
    colours = [len(np.unique(image.reshape(-1, 3), axis=0)) for image in found]
    assert min(colours) < 100 < max(colours)  # flat shapes, and skies or smooth edges


def test_a_drawing_is_a_function_of_the_generator():
    first, again = (drawings.draw(np.random.default_rng(7), 96) for _ in range(2))
    assert np.array_equal(first, again)


def test_a_page_has_ink_on_paper():
    pages = [drawings._page(np.random.default_rng(seed), 96) for seed in range(40)]
    plain = [page for page in pages if (page == 255).all(2).mean() > 0.2]
    assert len(plain) > 10 and all((page < 128).any() for page in plain)
