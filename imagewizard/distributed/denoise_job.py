"""A bulk job from its checked config to its summary. Its only state is the run folder."""

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.data import Dataset

from imagewizard import storage
from imagewizard.bulk import pending
from imagewizard.config.denoise import RESULT_KEYS, ActorConfig, DenoiseConfig
from imagewizard.distributed import cluster, nodes, pipeline
from imagewizard.distributed.allocation import Allocation, allocate
from imagewizard.distributed.block_report import reports
from imagewizard.distributed.nodes import Needed, View
from imagewizard.distributed.telemetry import Telemetry
from imagewizard.errors import JobError, UserError, keyed
from imagewizard.manifest import shards
from imagewizard.manifest.shards import ManifestIndex
from imagewizard.models import files as model_files
from imagewizard.models import restorers
from imagewizard.noise import synthetic
from imagewizard.noise.synthetic import Noise
from imagewizard.progress import Progress, Reporter, silent
from imagewizard.runs import compaction, job, results, summary, totals
from imagewizard.runs.results import BlockFile, ResultFiles
from imagewizard.schema import level_text
from imagewizard.storage import Folder
from imagewizard.storage.lease import Lease


@dataclass(frozen=True)
class DenoisePlan:
    """A bulk job that can run: all that is cheap to check is checked."""

    config: DenoiseConfig
    fingerprint: str
    listed: str | list[str] | None
    """The input of the run that is in `output` already; None where there is none."""

    @property
    def resumed(self) -> bool:
        return self.listed is not None

    def __str__(self) -> str:
        config, options = self.config, self.config.denoise
        steps = "one step" if options.mode == "mmse" else f"{options.steps} steps"
        lines = {
            "input": self._input(),
            "output": f"{config.output}{' (resumes)' if self.resumed else ''}",
            "model": f"{config.model} ({self.fingerprint})",
            "noise": self._noise(),
            "sigma": self._sigma(),
            "denoise": f"{options.mode}, {steps}{', mean of 8 turns and flips' if options.ensemble else ''}",
            "images": config.images.format if config.images else "not written",
        }
        return "\n".join(f"{name:<8} {text}" for name, text in lines.items())

    def _noise(self) -> str:
        added = noises(self.config)
        if not added:
            return "none is added"
        names = synthetic.names([(each.kind, *each.setting) for each in added])
        settings = f": {'; '.join(names)}" if added[0].sigma is None else ""
        return f"{added[0].describe()}{settings}, seed {self.config.seed}"

    def _sigma(self) -> str:
        section = self.config.denoise
        known: list[float | str | None] = [each.sigma for each in noises(self.config)] or [section.sigma]
        if section.level_column is not None:
            text = f"column {section.level_column} of the manifest"
        elif known[0] in (None, "auto"):
            text = "found image by image"
        else:
            text = ", ".join(level_text(float(sigma or 0.0)) for sigma in known)
        return text if section.strength == 1 else f"{text}, times {section.strength:g}"

    def _input(self) -> str:
        limit = "" if self.config.limit is None else f", the first {self.config.limit:,} images"
        if self.config.resources.keep_manifest and self.listed is not None:
            return f"as listed before, of {job.named(self.listed)}{limit}"
        return f"{job.named(self.config.input)}{limit}"


def prepare(config: DenoiseConfig) -> DenoisePlan:
    """Checks all that can be checked without starting anything and without writing a byte. Raises UserError."""
    cluster.check(config.resources.address)
    job.check_output(config.output, config.input)
    model = model_files.find(config.model)
    try:
        restorers.check(model, max_sigma=_greatest_level(config))
    except UserError as error:
        if error.key != "sigma":
            raise
        by_strength = "denoise.strength" if config.denoise.strength > 1 else None
        raise error.at(by_strength or ("denoise.sigma" if config.noise is None else "noise.sigma")) from None
    stored = job.read_job(config.output)
    if stored is None:
        with keyed("input"):
            shards.check_source(config.input, config.denoise.level_column)
    else:
        job.check_same_job(stored, "denoise", config, model.fingerprint, RESULT_KEYS)
    return DenoisePlan(config, model.fingerprint, None if stored is None else stored["config"]["input"])


def execute(
    plan: DenoisePlan,
    report: Reporter = silent,
    start: cluster.Start = cluster.start,
    actor: type[pipeline.DenoiseActor] = pipeline.DenoiseActor,
) -> dict[str, Any]:
    """Does what is left of the job and returns its summary.

    `report` is told how far the job is. `start` joins or starts Ray, if there is anything left to do. `actor`: what
    denoises; a stand-in serves to measure the rest of the job. Raises RunLockedError if another driver holds the run,
    JobError if a disk, a server or too many nodes fail; the same job again goes on from what is committed.
    """
    config = plan.config
    run = storage.absolute(config.output)  # workers have working folders of their own
    with Lease(run, report) as lease, _explained(lease):
        view = None
        if cluster.is_joined(config.resources.address):
            start(config.resources.address, report)
            view = View(_needed(config), run, lease.id)
            nodes.check(view, config.resources.gpus_per_actor, report)
        Folder(run).sweep()
        job.begin("denoise", config, plan.fingerprint, RESULT_KEYS)
        if (index := shards.read_index(run)) is None:
            start(config.resources.address, report)  # how large a block is to be depends on the actors
            index = _list(config, run, lease, report)
        files, by_shard = totals.snapshot(run)
        Folder(run).delete(f"results/{name}" for name in files.superseded)
        done = totals.merge(by_shard.values())
        progress = Progress(index.images * config.rows_per_image, done.rows, done.failed, report)
        retried = {shard for shard, each in by_shard.items() if each.failed} if config.retry_failed else set()
        if ranges := pending.block_ranges(index.blocks, files, retried):
            work = pipeline.Work(
                run=run,
                ranges=ranges,
                settings=[each.setting for each in noises(config)],
                block_rows=index.block_rows,
                retry_failed=config.retry_failed,
                max_pixels=config.max_pixels,
                images=config.images,
                keep=config.noise is None,
                view=view,
            )
            start(config.resources.address, report)
            chain = partial(pipeline.build, work, actor)
            commits = _Commits(run, index, config.rows_per_image, files, retried)
            _run_chain(plan, chain, commits, progress, lease, report)
        lease.check()
        _compact_rest(run, index, config.rows_per_image)
        return summary.write(run, index, config.rows_per_image, progress)


def _list(config: DenoiseConfig, run: str, lease: Lease, report: Reporter) -> ManifestIndex:
    """Lists the job's images into the run's manifest. Ray must run."""
    block_rows = config.resources.block_rows
    size = allocate(config.resources).block_size(config.rows_per_image * config.denoise.forward_passes)
    with keyed("input"):
        return shards.write(
            run,
            config.input,
            None if block_rows == "auto" else block_rows,
            lease.check,
            report,
            config.limit,
            config.denoise.level_column,
            size,
        )


def noises(config: DenoiseConfig) -> list[Noise]:
    """What is added to each image, one row each; none in a restoration."""
    return [] if config.noise is None else synthetic.make(config.noise.kind, config.noise.settings)


def _greatest_level(config: DenoiseConfig) -> float:
    """The greatest level that the model will be told, as far as that is known: 0-255 scale."""
    given = config.denoise.sigma
    known = [each.sigma or 0.0 for each in noises(config)] or [0.0 if isinstance(given, str) else given]
    return max(known) * config.denoise.strength


def _needed(config: DenoiseConfig) -> tuple[Needed, ...]:
    """The local paths of a job, which all nodes of a cluster must see."""
    model = [config.model] if storage.expanded(config.model).is_dir() else []
    return *nodes.local_paths("input", config.input), *nodes.local_paths("model", model, by_models=True)


class _Commits:
    """Keeps account of which blocks have rows, and has each shard compacted once its last block has."""

    def __init__(self, run: str, index: ManifestIndex, levels: int, files: ResultFiles, retried: set[int]) -> None:
        """`retried`: shards that are retried, whose last block is not known; they are compacted in the end."""
        self._run, self._index, self._levels = run, index, levels
        self._files, self._retried = files, retried
        self._compactions: list[ray.ObjectRef] = []
        # Here, where the run's folder is sure to be: a head that does no other work may not see it.
        self._compact = pipeline.compact_shard.options(scheduling_strategy=cluster.only_here())

    def add(self, name: str) -> None:
        """Counts a block whose file is committed."""
        file = BlockFile.parse(name)
        assert file is not None, "the chain's own name"
        self._files.blocks[file.shard].append(file)
        finished = compaction.is_finished(file.shard, self._index.blocks[file.shard], self._files)
        if finished and file.shard not in self._retried:
            names = self._files.of_shard(file.shard)
            self._compactions.append(self._compact.remote(self._run, file.shard, names, self._levels))
            del self._files.blocks[file.shard]

    def wait(self) -> None:
        """Returns when all compactions are done."""
        ray.get(self._compactions)


def _compact_rest(run: str, index: ManifestIndex, levels: int) -> None:
    """Compacts shards that are finished and not compacted: after a retry, or after a crash between the two."""
    files = results.listing(run)
    for shard in sorted(files.blocks):
        if compaction.is_finished(shard, index.blocks[shard], files):
            compaction.compact(run, shard, files.of_shard(shard), levels)


def _run_chain(
    plan: DenoisePlan,
    chain: Callable[[ActorConfig, Allocation], Dataset],
    commits: _Commits,
    progress: Progress,
    lease: Lease,
    report: Reporter,
) -> None:
    config = plan.config
    allocation = allocate(config.resources)
    batch = config.resources.images_a_forward(on_gpu=allocation.gpus_per_actor > 0)
    report(f"ray      {allocation}, batches {'as large as is fastest' if batch is None else f'of {batch}'}")
    report(f"memory   {allocation.memory}")
    if allocation.shortage:
        report(f"waits    for nodes of the cluster's autoscaler; {allocation.shortage}")
    actor_config = ActorConfig(
        model=storage.absolute(config.model) if storage.expanded(config.model).is_dir() else config.model,
        fingerprint=plan.fingerprint,
        noise=config.noise,
        denoise=config.denoise,
        images=config.images,
        seed=config.seed,
        max_pixels=config.max_pixels,
        batch_size=batch,
        threads=allocation.threads_per_actor,
    )
    with progress, cluster.quiet_data(), Telemetry(config.output, "denoise") as telemetry:
        telemetry.set(pending_rows=progress.pending)
        for block in reports(chain(actor_config, allocation)):
            commits.add(block.block)
            if block.gpu is not None:
                progress.gpus.add(block.gpu)
            progress.add(block.rows, block.failed, block.seconds)
            telemetry.count(rows=block.rows, failed_rows=block.failed)
            telemetry.set(pending_rows=progress.pending, images_per_second=progress.recent_rate)
            lease.check()
        commits.wait()


@contextmanager
def _explained(lease: Lease) -> Iterator[None]:
    """Turns the loss of a disk, a server or a node into a JobError that says what to do; bugs keep their traceback."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            lease.check()  # where another driver has it now, a node sees another lease for this reason alone
            raise UserError(error.cause.what, error.cause.fix, error.cause.key) from None
        if not isinstance(error.cause, JobError):
            raise
        raise _stopped(str(error.cause).splitlines()[0]) from None  # Ray Data adds lines of advice on retries
    except (ray.exceptions.RayError, OSError) as error:
        raise _stopped(f"{type(error).__name__}: {error}") from None


def _stopped(reason: object) -> JobError:
    text = textwrap.shorten(str(reason), 300)
    return JobError(f"{text}. What is committed stays; once mended, the same command goes on")
