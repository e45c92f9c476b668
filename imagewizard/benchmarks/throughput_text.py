"""What a bench has measured: as a table for people, and as JSON for programs."""

from collections.abc import Iterator
from typing import Any

from imagewizard.benchmarks.rates import Throughput

DEVICES = (250.0, 1000.0)  # images a second of devices that are told how many cores they need


def as_json(found: Throughput, price: float | None) -> dict[str, Any]:
    """Numbers by name; what was not measured is left out. `price`: of an hour of the machine."""
    request, run, compared, limit = found.request, found.run, found.compared, found.compared.roofline
    facts = {
        "model": request.model if request.device_ms is None else None,
        "device_ms": request.device_ms,
        "images": found.images,
        "notes": found.notes,
        "sigma": request.sigma,
        "actors": found.actors,
        "threads_per_actor": found.threads,
        "machine_cores": found.machine_cores,
        "rows": run.rows,
        "pipeline_images_per_second": run.rate,
        "pipeline_images_per_second_with_start": run.rate_with_start,
        "pipeline_over_device": found.over_device,
        "bare_images_per_second": compared.bare,
        "pipeline_over_bare": run.rate / compared.bare,
        "plain_images_per_second": compared.plain,
        "plain_ddim50_images_per_second": compared.ddim,
        "plain_ddim50_images": compared.ddim_images or None,
        "roofline_images_per_second": limit and limit.images_per_second,
        "matrix_product_flop_per_second": limit and limit.flop_per_second,
        "matrix_product_dtype": limit and limit.dtype,
        "flop_per_image": limit and limit.flop_per_image,
        "cpu_ms_per_image_by_stage": run.stage_cpu_ms,
        "cpu_ms_per_image": run.cpu_ms,
        "busy_cores": found.busy_cores,
        "cpu_ms_per_image_beside_device": found.beside_ms,
        "cores_for_1000_images_per_second": found.cores(1000.0),
        "cost_per_million_images": None if price is None else found.cost_per_million(price),
    }
    return {name: value for name, value in facts.items() if value is not None}


def table(found: Throughput, price: float | None) -> str:
    """Lines of at most 100 characters. `price`: as for as_json."""
    return "\n".join([*_head(found), "", *_rates(found), "", *_cpu(found), *_cost(found, price)])


def _head(found: Throughput) -> Iterator[str]:
    request = found.request
    yield f"{found.images}, sigma {request.sigma:g}, in one run of `imagewizard denoise`: all rows ok and scored"
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    actors = f"{found.actors} actor{'s' if found.actors > 1 else ''} of {threads}"
    if request.device_ms is None:
        yield f"model {request.model}, {actors}"
    else:
        yield f"stand-in for the model: sleeps {request.device_ms:g} ms an image; {actors}"
    yield from (f"note: {note}" for note in found.notes)


def _rates(found: Throughput) -> Iterator[str]:
    run, compared, limit, ms = found.run, found.compared, found.compared.roofline, found.request.device_ms

    def line(name: str, rate: float, remark: str = "") -> str:
        return f"{name:<26}{rate:>9.2f}  {run.rate / rate:>10.3f}x  {remark}".rstrip()

    yield f"{'':<26}{'images/s':>9}  pipeline is"
    if limit is not None:
        each = f"{limit.flop_per_image / 1e9:.2f} GFLOP an image"
        yield line("roofline", limit.images_per_second, f"{each}, {limit.flop_per_second / 1e9:,.1f} GFLOP/s")
        yield line("bare model", compared.bare, f"{compared.bare / limit.images_per_second:.3f}x the roofline")
    if ms is not None:
        yield line("device, by definition", 1000 * found.actors / ms)
        yield line("bare stand-in, measured", compared.bare)
    yield line("pipeline", run.rate, "from first commit to last")
    if compared.plain is not None:
        yield line("plain loop, one step", compared.plain, "Pillow, one image at a time, scikit-image")
    if compared.ddim is not None:
        number = "1 image" if compared.ddim_images == 1 else f"{compared.ddim_images} images"
        yield line("plain loop, 50 DDIM steps", compared.ddim, f"timed on {number}")


def _cpu(found: Throughput) -> Iterator[str]:
    stages, whole = found.run.stage_cpu_ms, found.run.cpu_ms
    columns = {**stages, "sum": sum(stages.values())} | ({} if whole is None else {"whole job": whole})
    yield f"{'CPU ms an image':<17}" + "".join(f"{name:>10}" for name in columns)
    yield f"{'':<17}" + "".join(f"{value:>10.2f}" for value in columns.values())
    if found.busy_cores is not None:
        busy = f"{found.busy_cores:.2f} of {found.machine_cores} cores were busy with it"
        yield f"whole job: driver, Ray and all workers, from first commit to last; {busy}"
    if found.beside_ms is None:
        return
    left_out = " (whole job less denoise)" if found.on_cpu else ""
    yield f"cores beside a device, at {found.beside_ms:.2f} ms an image{left_out}:"
    ms = found.request.device_ms
    here = found.compared.bare if ms is None else 1000 * found.actors / ms
    for rate in sorted({here, *DEVICES}):
        remark = "   as here" if rate == here else ""
        yield f"{rate:>9,.0f} images/s {found.cores(rate):>8.2f} cores{remark}"


def _cost(found: Throughput, price: float | None) -> Iterator[str]:
    if price is not None:
        yield ""
        yield f"{found.cost_per_million(price):.2f} for a million images, if the machine costs {price:g} an hour"
