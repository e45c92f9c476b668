"""Column names and Arrow schemas of everything that lies in Parquet: the manifest and the result rows."""

import pyarrow as pa

SCHEMA_VERSION = 1

# Manifest: what a run sets out to do, one row an image. An image is a file of its own, or packed: a member of a tar
# shard (`member`, `offset`) or a row of a Parquet file with an image column (`row`).
IMAGE_ID = "image_id"
URI = "uri"
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

OK = "ok"
ERROR = "error"

# Results: one row for each (image_id, noise_kind, noise_params, sigma, seed). A file may hold error rows only, so the
# schema is explicit: an all-null column must keep its type.
RESULT_SCHEMA = pa.schema(
    [
        pa.field("schema_version", pa.int32(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),  # file; shard.tar#member or file.parquet#row where it is packed
        pa.field("status", pa.string(), nullable=False),  # ok | error
        pa.field("stage", pa.string()),  # error rows: read | decode | noise | denoise | score | write
        pa.field("error", pa.string()),
        pa.field("width", pa.int32()),  # pixels, after EXIF orientation
        pa.field("height", pa.int32()),
        pa.field("noise_kind", pa.string()),  # null in restoration mode
        pa.field("noise_params", pa.string(), nullable=False),  # canonical JSON; {} in restoration mode
        pa.field("sigma", pa.float64()),  # the level asked for, 0-255 scale; null: to be estimated
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("timestep", pa.float64()),  # where the schedule was entered, 0-based, fractional
        pa.field("steps", pa.int32(), nullable=False),
        pa.field("mode", pa.string(), nullable=False),
        pa.field("psnr_noisy", pa.float64()),  # dB, of the unclipped noisy image
        pa.field("psnr", pa.float64()),  # dB, capped at 100
        pa.field("ssim_noisy", pa.float64()),  # null where a side is shorter than the window
        pa.field("ssim", pa.float64()),
        pa.field("sigma_estimated", pa.float64()),  # the level used, where it was to be estimated
        pa.field("seconds", pa.float64()),  # noise + denoise + score of this row
        pa.field("model", pa.string(), nullable=False),  # fingerprint
        pa.field("output_uri", pa.string()),  # the denoised image, if one was asked for
        pa.field("attempt", pa.int32(), nullable=False),  # 1, 2, … of this key
        pa.field("finished_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)

# The key of a row; the current row of a key is the one with the greatest attempt.
KEY = ("image_id", "noise_kind", "noise_params", "sigma", "seed")
