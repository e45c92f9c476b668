"""Column names and Arrow schemas of everything that lies in Parquet: the manifest and the result rows."""

import pyarrow as pa

SCHEMA_VERSION = 1
# What is computed: raised by a change that gives a row other values, so that no run mixes both.
# 2: a grey image gets one plane of noise, and its estimate is grey; an estimate has the noisy image's mean colour.
# 3: CMYK images are converted by their ICC profile, LAB ones from the white that a TIFF names; signed integers count as
# they are; YCbCr TIFFs without compression have their colours; images are turned by every form of XMP.
# 4: the level of a restored image is found in other ways.
# 5: Gaussian and Poisson-Gaussian noise is drawn otherwise, so that a GPU can draw it too.
RESULTS_VERSION = 5
# By kind of noise (noise.synthetic.KINDS): the version since which it has the same bits.
SAME_NOISE_SINCE = {"gaussian": 5, "poisson-gaussian": 5, "camera": 2}

# Manifest: what a run sets out to do, one row an image. An image is a file of its own, or packed: a member of a tar
# shard (`member`, `offset`) or a row of a Parquet file with an image column (`row`).
IMAGE_ID = "image_id"
URI = "uri"
NOISY_URI = "noisy_uri"
BYTES = "bytes"
MEMBER = "member"
OFFSET = "offset"
ROW = "row"

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field(IMAGE_ID, pa.string(), nullable=False),
        pa.field(URI, pa.string(), nullable=False),
        pa.field(BYTES, pa.int64()),  # of the image's own file, member or cell; null where the listing did not say
        pa.field(MEMBER, pa.string()),  # name of the member of the tar shard at `uri`
        pa.field(OFFSET, pa.int64()),  # where the member's contents begin in the shard, in bytes
        pa.field(ROW, pa.int64()),  # number, from 0, of the row of the Parquet file at `uri`
    ]
)

# What a manifest shard also holds if denoise.sigma names a column of the user's manifest: the column's values as text,
# even what is no level at all, so that an error row can say so.
LEVEL_FIELD = pa.field("sigma", pa.string())

# Results: one row for each (image_id, noise_kind, noise_params, sigma, seed).
SCHEMA = "schema_version"
STATUS = "status"
STAGE = "stage"
REASON = "error"
WIDTH = "width"
HEIGHT = "height"
NOISE_KIND = "noise_kind"
NOISE_PARAMS = "noise_params"
SIGMA = "sigma"
SEED = "seed"
TIMESTEP = "timestep"
STEPS = "steps"
MODE = "mode"
PSNR = "psnr"
SSIM = "ssim"
SIGMA_ESTIMATED = "sigma_estimated"
SECONDS = "seconds"
MODEL = "model"
OUTPUT_URI = "output_uri"
ATTEMPT = "attempt"
FINISHED_AT = "finished_at"
NOTES = "notes"
STRENGTH = "strength"
NOISE_STD = "noise_std"
NOISE_FOUND = "noise_found"
NOISE_GAIN = "noise_gain"


def noisy(metric: str) -> str:
    """The column with a metric of the noisy image; the column of the denoised image has the metric's own name."""
    return f"{metric}_noisy"


def score_columns(noisy_scores: dict[str, float | None], scores: dict[str, float | None]) -> dict[str, float | None]:
    """The scores of a noisy image and of its denoised one, by metric (Reference.scores), as columns of one row."""
    return {noisy(metric): value for metric, value in noisy_scores.items()} | scores


# Values of STATUS.
OK = "ok"
ERROR = "error"

# A file may hold error rows only, so the schema is explicit: an all-null column must keep its type. New columns are
# appended, and nullable.
RESULT_SCHEMA = pa.schema(
    [
        pa.field(SCHEMA, pa.int32(), nullable=False),
        pa.field(IMAGE_ID, pa.string(), nullable=False),
        pa.field(URI, pa.string(), nullable=False),  # file; shard.tar#member or file.parquet#row where it is packed
        pa.field(STATUS, pa.string(), nullable=False),  # ok | error
        pa.field(STAGE, pa.string()),  # error rows: read | decode | noise | denoise | score | write
        pa.field(REASON, pa.string()),
        pa.field(WIDTH, pa.int32()),  # pixels, after EXIF orientation
        pa.field(HEIGHT, pa.int32()),
        pa.field(NOISE_KIND, pa.string()),  # null in restoration mode
        pa.field(NOISE_PARAMS, pa.string(), nullable=False),  # canonical JSON, without sigma; {} in restoration mode
        pa.field(SIGMA, pa.float64()),  # the level added or given, 0-255 scale; null: to be found
        pa.field(SEED, pa.int64(), nullable=False),
        pa.field(TIMESTEP, pa.float64()),  # where the schedule was entered, 0-based, fractional
        pa.field(STEPS, pa.int32(), nullable=False),
        pa.field(MODE, pa.string(), nullable=False),
        pa.field(noisy(PSNR), pa.float64()),  # dB, of the unclipped noisy image
        pa.field(PSNR, pa.float64()),  # dB, capped at 100
        pa.field(noisy(SSIM), pa.float64()),  # null where a side is shorter than the window
        pa.field(SSIM, pa.float64()),
        pa.field(SIGMA_ESTIMATED, pa.float64()),  # what the model was told, strength included, where it was found
        pa.field(SECONDS, pa.float64()),  # noise + denoise + score of this row
        pa.field(MODEL, pa.string(), nullable=False),  # fingerprint
        pa.field(OUTPUT_URI, pa.string()),  # the denoised image, if one was asked for
        pa.field(ATTEMPT, pa.int32(), nullable=False),  # 1, 2, … of this key
        pa.field(FINISHED_AT, pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field(NOTES, pa.string()),  # what the image lost or lacked; null if nothing
        pa.field(STRENGTH, pa.float64()),  # the model was told this times the level that was found or given
        pa.field(NOISE_STD, pa.float64()),  # standard deviation of the noise found, 0-255 scale
        pa.field(NOISE_FOUND, pa.string()),  # none | white | camera
        pa.field(NOISE_GAIN, pa.float64()),  # how much the found noise's variance grows a grey level of brightness
    ]
)

# The key of a row; the current row of a key is the one with the greatest attempt.
KEY = (IMAGE_ID, NOISE_KIND, NOISE_PARAMS, SIGMA, SEED)

# SQL to group rows by the setting of their noise: NOISE_PARAMS and this. All rows of a restoration are one group, even
# where each image was given a level of its own; GROUPED_SIGMA is the level that a group shares, if it shares one.
ADDED_SIGMA = f"CASE WHEN {NOISE_KIND} IS NOT NULL THEN {SIGMA} END"
GROUPS = f"{NOISE_PARAMS}, {ADDED_SIGMA}"
GROUPED_SIGMA = f"CASE WHEN min({SIGMA}) = max({SIGMA}) THEN min({SIGMA}) END AS {SIGMA}"

# The columns of metrics.METRICS, and what else a run has a mean of.
SCORES = tuple(column for metric in (PSNR, SSIM) for column in (noisy(metric), metric))
MEANS = (*SCORES, SECONDS)
# What denoising gained, as SQL: images are ranked by it, and charted.
GAIN = f"{PSNR} - {noisy(PSNR)}"


def level_text(sigma: float) -> str:
    """A noise level in the names of folders and keys, and wherever it is shown: `25` for 25.0.

    The shortest text that reads back as the same number, so that different levels never look alike.
    """
    return repr(float(sigma)).removesuffix(".0")
