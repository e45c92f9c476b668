"""A bulk job from its checked config to its summary. The state is the run folder; this only moves it along."""

from dataclasses import dataclass
from typing import Any

from imagewizard import blocks, cluster, manifest, model_files, pipeline, results, run_folder, summary
from imagewizard.job_config import RESULT_KEYS, ActorConfig, DenoiseConfig
from imagewizard.lease import Lease
from imagewizard.progress import Progress
from imagewizard.schema import ERROR

# Images a forward. A GPU needs many to be busy; on a CPU core larger batches only leave the cache.
GPU_BATCH_SIZE = 32
CPU_BATCH_SIZE = 1


@dataclass(frozen=True)
class Plan:
    """A job that can run: everything that is cheap to check has been."""

    config: DenoiseConfig
    fingerprint: str
    resumed: bool

    def __str__(self) -> str:
        config, options = self.config, self.config.denoise
        levels = ", ".join("estimated image by image" if s is None else f"{s:g}" for s in config.levels)
        steps = "one step" if options.mode == "mmse" else f"{options.steps} steps"
        lines = {
            "input": config.input if isinstance(config.input, str) else f"{len(config.input)} files",
            "output": f"{config.output}{' (goes on from what is there)' if self.resumed else ''}",
            "model": f"{config.model} ({self.fingerprint})",
            "noise": f"gaussian, mean {config.noise.mean:g}, seed {config.seed}" if config.noise else "none is added",
            "sigma": levels,
            "denoise": f"{options.mode}, {steps}{', mean of 8 turns and flips' if options.ensemble else ''}",
            "images": config.images.format if config.images else "not written",
        }
        return "\n".join(f"{name:<8} {text}" for name, text in lines.items())


def prepare(config: DenoiseConfig) -> Plan:
    """Checks all that can be checked without starting anything or writing a byte. Raises UserError."""
    model = model_files.find(config.model)
    model.check(max_sigma=max(level or 0.0 for level in config.levels))
    run_folder.check_output(config.output)
    stored = run_folder.read_job(config.output)
    if stored is None:
        manifest.check_source(config.input)
    else:
        run_folder.check_same_job(stored, "denoise", config, model.fingerprint, RESULT_KEYS)
    return Plan(config, model.fingerprint, stored is not None)


def execute(plan: Plan) -> dict[str, Any]:
    """Does what is left of the job and returns its summary. Raises RunLockedError if another driver is at it."""
    config, run = plan.config, plan.config.output
    with Lease(run):
        run_folder.sweep(run)
        if not plan.resumed:
            run_folder.write_job("denoise", config, plan.fingerprint)
        block_rows = None if config.resources.block_rows == "auto" else config.resources.block_rows
        index = manifest.read_index(run) or manifest.write(run, config.input, block_rows)
        done = summary.counts(run)
        progress = Progress(index.images * len(config.levels), sum(done.values()), done[ERROR])
        if pieces := blocks.pieces(index.blocks, results.result_files(run), config.retry_failed):
            work = pipeline.Work(run, pieces, config.levels, index.block_rows, config.retry_failed)
            _run_chain(plan, work, progress)
        return summary.write(run, index, len(config.levels), progress)


def _run_chain(plan: Plan, work: pipeline.Work, progress: Progress) -> None:
    config = plan.config
    width = cluster.width(config.resources)
    batch = config.resources.batch_size
    if batch == "auto":
        batch = GPU_BATCH_SIZE if width.gpus_per_actor else CPU_BATCH_SIZE
    print(f"ray      {width}, batches of {batch}", flush=True)
    actor = ActorConfig(
        run=config.output,
        model=config.model,
        fingerprint=plan.fingerprint,
        noise=config.noise,
        denoise=config.denoise,
        images=config.images,
        seed=config.seed,
        max_pixels=config.max_pixels,
        batch_size=batch,
        threads=width.threads_per_actor,
    )
    with progress:
        for block in pipeline.build(work, actor, width.actors, width.gpus_per_actor).iter_rows():
            progress.add(block["rows"], block["failed"])
