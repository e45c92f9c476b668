"""The config of `imagewizard denoise`, and the part of it that an actor gets."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from imagewizard.config.loading import Section
from imagewizard.config.noise import GaussianNoise, NoiseSection, Sigma

Auto = Literal["auto"]

# Images a forward. A GPU needs many to be busy; on a CPU core larger batches only leave the cache.
GPU_BATCH_SIZE = 32
CPU_BATCH_SIZE = 1

# These change results: a rerun of a job with another value is refused, so that rows of one run can be compared.
RESULT_KEYS = ("noise", "model", "denoise", "images", "seed", "max_pixels")


class DenoiseSection(Section):
    """How an estimate of the clean image is made."""

    mode: Literal["mmse", "ddim", "blend"] = "mmse"
    """mmse: one forward, the posterior mean, best PSNR. ddim: `steps` forwards, sharper. blend: between the two."""
    steps: Annotated[int, Field(ge=1, le=1000)] = 5
    """DDIM steps; mmse takes one forward whatever stands here."""
    blend_lambda: Annotated[float, Field(ge=0, le=1, alias="lambda")] = 0.5
    """Share of the DDIM sample in a blend."""
    sigma: Sigma | Auto = "auto"
    """Restoration (noise: null) only: the noise level of the images, 0-255 scale; auto estimates it image by image."""
    ensemble: bool = False
    """Average over the eight flips and quarter turns: about 0.1 dB for eight times the work."""
    tile: Annotated[int, Field(ge=64, le=8192)] = 768
    """Images with a longer side are cut into tiles of at most this side, in pixels. The larger, the closer to the whole
    image: the network normalises by means over what it sees."""
    overlap: Annotated[int, Field(ge=0, le=512)] = 64
    """Pixels that neighbouring tiles share, and fade across."""


class ImagesSection(Section):
    """Denoised images, written under <output>/images in the input's tree. Restored ones keep what their inputs had."""

    format: Literal["png", "jpg", "webp", "tiff"] = "png"
    """png, tiff: lossless, 8 or 16 bits a channel. webp: 8 bits. jpg: 8 bits, no alpha channel."""
    quality: Annotated[int, Field(ge=1, le=100)] | None = None
    """For jpg and webp; null: 95 for jpg, lossless for webp."""
    pack: Literal["tar"] | None = None
    """tar: a WebDataset tar shard for each block in the place of a file for each image; a million PUTs cost money."""


class ResourcesSection(Section):
    """How the work is spread; none of it changes a result."""

    actors: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Model actors; auto: one a GPU of the cluster, or, without any, one a CPU core."""
    gpus_per_actor: Annotated[float, Field(ge=0)] | Auto = "auto"
    """auto: one where the cluster has GPUs, else none. A fraction lets actors share a GPU."""
    batch_size: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Images (or tiles) a forward."""
    block_rows: Annotated[int, Field(ge=1, le=100_000)] | Auto = "auto"
    """Images that are committed together; what a crash costs an actor at most. Fixed for a run once it has begun."""
    address: str | None = None
    """Ray cluster to join; null: the one around (RAY_ADDRESS, or inside a Ray job), else a local one."""

    def images_a_forward(self, on_gpu: bool) -> int:
        """`batch_size`, or what auto stands for."""
        if self.batch_size == "auto":
            return GPU_BATCH_SIZE if on_gpu else CPU_BATCH_SIZE
        return self.batch_size


class DenoiseConfig(Section):
    """A bulk job: denoise every image of `input` into the run folder `output`."""

    input: str | list[str]
    """A folder, a manifest (Parquet, with image_id and uri), Parquet with an image column, WebDataset tar shards, or a
    list of files of all these kinds; local or s3://."""
    output: str
    """The run folder; local or s3://."""
    model: str = "embedded"
    """embedded, a folder in diffusers' layout (local or s3://), or a hub id."""
    noise: NoiseSection | None = GaussianNoise()
    """null: the images are noisy already; they are restored and written, and there is nothing to score against."""
    denoise: DenoiseSection = DenoiseSection()
    images: ImagesSection | None = None
    """null: no denoised images are written, only rows."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Noise is a function of (seed, image id, sigma) alone."""
    max_pixels: Annotated[int, Field(ge=1)] = 100_000_000
    """An image with more pixels becomes an error row; guards against decompression bombs."""
    retry_failed: bool = False
    """Retry the images that failed in an earlier run of this job, and only them."""
    max_failed_fraction: Annotated[float, Field(ge=0, le=1)] = 0.01
    """A job in which more images fail than this exits with code 3."""
    resources: ResourcesSection = ResourcesSection()

    @model_validator(mode="before")
    @classmethod
    def _restored_images_are_written(cls, data: Any) -> Any:
        """Without noise to score against, the images are all that a job makes."""
        if isinstance(data, dict) and data.get("noise", "") is None and data.get("images") is None:
            return data | {"images": {}}
        return data

    @model_validator(mode="after")
    def _one_sigma(self) -> "DenoiseConfig":
        if self.noise is not None and self.denoise.sigma != "auto":
            raise ValueError("denoise.sigma is for images that are noisy already; set noise=null, or use noise.sigma")
        return self

    @property
    def levels(self) -> list[float | None]:
        """The levels that each image is to be denoised at, one row each; [None]: estimated from the image."""
        if self.noise is not None:
            return list(self.noise.sigma)
        return [None if self.denoise.sigma == "auto" else self.denoise.sigma]


@dataclass(frozen=True)
class ActorConfig:
    """What a row depends on besides the image, and how much of its node an actor may use."""

    model: str
    fingerprint: str
    noise: NoiseSection | None
    denoise: DenoiseSection
    images: ImagesSection | None
    seed: int
    max_pixels: int
    batch_size: int
    threads: int
