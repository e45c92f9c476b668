"""The config of `imagewizard denoise`, and the part of it that an actor receives."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from imagewizard.config.loading import Section
from imagewizard.config.noise import MOST_SIGMA, GaussianNoise, NoiseSection, Sigma
from imagewizard.config.submit import SubmitSection

Auto = Literal["auto"]

# Images per forward pass on a CPU core, where a larger batch only falls out of the cache. A GPU needs many to be busy.
CPU_BATCH_SIZE = 1

# These keys change results. A rerun with another value is refused, so that all rows of a run are comparable.
RESULT_KEYS = ("limit", "noise", "model", "denoise", "images", "seed", "max_pixels")


class DenoiseSection(Section):
    """How the clean image is estimated."""

    mode: Literal["mmse", "ddim", "blend"] = "mmse"
    """mmse: one forward pass, the posterior mean, best PSNR. ddim: `steps` forward passes, sharper. blend: a mix.
    Smeared noise, as a camera's, is taken off twice: at half the size, which costs a quarter more, and at full size."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 5
    """DDIM steps; mmse ignores this and takes one forward pass."""
    blend_lambda: Annotated[float, Field(ge=0, le=1, alias="lambda")] = 0.5
    """Share of the DDIM sample in a blend."""
    sigma: Sigma | Auto | Annotated[str, Field(min_length=1)] = "auto"
    """Only for restoration (noise: null): the noise level of the images, 0-255 scale. auto finds it image by image. Any
    other text is the name of a column of the manifest that `input` is, which holds a level for each image."""
    strength: Annotated[float, Field(ge=0, le=4)] = 1.0
    """The level that was found or given is multiplied by this: less than 1 leaves grain, more smooths. At 0 images come
    back as they are."""
    ensemble: bool = False
    """Average over the eight flips and quarter turns: gains about 0.15 dB, costs eight times the work."""
    tile: Annotated[int, Field(ge=64, le=8192)] = 768
    """Larger images are cut into tiles with sides of at most this many pixels. Larger tiles give results closer to
    those of the whole image, because the network normalises by means over its input."""
    overlap: Annotated[int, Field(ge=0, le=512)] = 64
    """Pixels that neighbouring tiles share; the tiles fade into each other there."""

    @field_validator("sigma", mode="before")
    @classmethod
    def _a_number_is_no_name(cls, sigma: object) -> object:
        level = sigma
        if isinstance(sigma, str):  # a word of the command line is text where a key may hold text
            with suppress(ValueError):
                level = float(sigma)
        is_level = isinstance(level, int | float) and 0 <= level <= MOST_SIGMA
        if not is_level and not (isinstance(level, str) and level):
            raise ValueError(f"must be a level from 0 to {MOST_SIGMA}, auto, or the name of a column (got {sigma})")
        return level

    @property
    def forward_passes(self) -> int:
        """Forward passes of the network for each estimate."""
        passes = {"mmse": 1, "ddim": self.steps, "blend": 1 + self.steps}[self.mode]
        return passes * (8 if self.ensemble else 1)

    @property
    def level_column(self) -> str | None:
        """The column of the manifest that holds each image's level; None without one."""
        return self.sigma if isinstance(self.sigma, str) and self.sigma != "auto" else None


class ImagesSection(Section):
    """Denoised images, written to <output>/images with the folders of the input. Restored images keep the bit depth,
    alpha channel, colours and metadata of their inputs, as far as the format holds them."""

    format: Literal["png", "jpg", "webp", "tiff"] = "png"
    """png, tiff: lossless, 8 or 16 bits per channel. webp: 8 bits. jpg: 8 bits, no alpha channel."""
    quality: Annotated[int, Field(ge=1, le=100)] | None = None
    """Quality of jpg and webp; null: 95 for jpg, lossless for webp."""
    pack: Literal["tar"] | None = None
    """tar: one WebDataset tar shard per block instead of one file per image; a million PUT requests cost money."""


class ResourcesSection(Section):
    """How the work is spread; no key here changes a result."""

    actors: Annotated[int, Field(ge=1)] | tuple[int, int] | Auto = "auto"
    """Model actors: a number, or [least, greatest] to grow and shrink with the cluster. auto: one per GPU that the
    cluster has when the job starts, or one per CPU core if it has no GPU."""
    gpus_per_actor: Annotated[float, Field(ge=0)] | Auto = "auto"
    """auto: 1 if the cluster has GPUs, else 0. A fraction lets actors share a GPU."""
    batch_size: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Images (or tiles) per forward pass. auto: 1 on a CPU; on a GPU as many as it is fastest with, which each actor
    measures when it starts."""
    block_rows: Annotated[int, Field(ge=1, le=100_000)] | Auto = "auto"
    """Images that are committed together; an actor's crash loses at most this many. Fixed once a run has begun."""
    keep_manifest: bool = False
    """Go on with the images that a run listed, though `input` names another source now, which is refused otherwise."""
    address: str | None = None
    """Ray cluster to join; null: the surrounding one (RAY_ADDRESS, or inside a Ray job), else a new local one."""

    @field_validator("actors")
    @classmethod
    def _a_range(cls, actors: object) -> object:
        if isinstance(actors, tuple) and not 1 <= actors[0] <= actors[1]:
            raise ValueError(f"must be a number or [least, greatest] with 1 <= least <= greatest (got {list(actors)})")
        return actors

    def images_a_forward(self, on_gpu: bool) -> int | None:
        """`batch_size`, with auto resolved; None: each actor measures which is best."""
        if self.batch_size == "auto":
            return None if on_gpu else CPU_BATCH_SIZE
        return self.batch_size


class DenoiseConfig(Section):
    """A bulk job: denoise every image of `input` into the run folder `output`."""

    input: str | list[str]
    """A folder, a manifest (Parquet or CSV with image_id and uri), Parquet with an image column, WebDataset tar shards,
    or a list of such files; local or s3://."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many images of the listing, for a trial; null: all."""
    output: str
    """The run folder; local or s3://."""
    model: str = "embedded"
    """embedded, a folder in diffusers' layout (local or s3://), or a hub id."""
    noise: NoiseSection | None = GaussianNoise()
    """null: the images are already noisy; they are restored and written, and not scored, for lack of a reference."""
    denoise: DenoiseSection = DenoiseSection()
    images: ImagesSection | None = None
    """null: only rows are written, no denoised images."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Noise is a function of (seed, image id, its kind and parameters) alone."""
    max_pixels: Annotated[int, Field(ge=1)] = 100_000_000
    """An image with more pixels becomes an error row; this guards against decompression bombs."""
    retry_failed: bool = False
    """Retry only the images that failed in an earlier run of this job."""
    max_failed_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """If a larger fraction of the images fails, the job exits with code 3."""
    resources: ResourcesSection = ResourcesSection()
    submit: SubmitSection = SubmitSection()

    @model_validator(mode="before")
    @classmethod
    def _restored_images_are_written(cls, data: Any) -> Any:
        """Without added noise there are no scores: the images are the only result, so they are written."""
        if isinstance(data, dict) and data.get("noise", "") is None and data.get("images") is None:
            return data | {"images": {}}
        return data

    @model_validator(mode="after")
    def _one_sigma(self) -> "DenoiseConfig":
        if self.noise is not None and self.denoise.sigma != "auto":
            raise ValueError("denoise.sigma is for images that are noisy already; set noise=null, or use noise.sigma")
        return self

    @property
    def rows_per_image(self) -> int:
        """One for each setting of the noise; one in a restoration."""
        return 1 if self.noise is None else len(self.noise.settings)


@dataclass(frozen=True)
class ActorConfig:
    """Everything but the image that a row depends on, and how much of its node an actor may use."""

    model: str
    fingerprint: str
    noise: NoiseSection | None
    denoise: DenoiseSection
    images: ImagesSection | None
    seed: int
    max_pixels: int
    batch_size: int | None
    """None: to be measured."""
    threads: int
