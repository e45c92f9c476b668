"""What a job gets of a Ray cluster: how many actors or workers, and how much each."""

import math
from contextlib import suppress
from dataclasses import dataclass

import ray

from imagewizard.bulk.block import PIXEL_BYTES
from imagewizard.bulk.memory import IMAGE_COPIES
from imagewizard.config.denoise import ResourcesSection
from imagewizard.config.train import TrainResourcesSection
from imagewizard.distributed.cluster import only_on
from imagewizard.errors import UserError
from imagewizard.manifest.shards import BLOCK_BYTES, BlockSize

GPUS_PER_ACTOR = "resources.gpus_per_actor"

# A node that is lost is known to be so after this time at the latest.
LOSS_SECONDS = 60.0

# Blocks that an actor works on: one is on the device, the next one is prepared, and the last one is written.
BLOCKS_AT_ONCE = 3
# Blocks that an actor holds: for each of those another one, which has been read.
BLOCKS_HELD = 2 * BLOCKS_AT_ONCE

# A minute of work for a GPU that denoises 70 images a second, and as many JPEGs of 256 x 256 as BLOCK_BYTES may hold.
# That is why it is less for a faster one.
GPU_BLOCK_ROWS = 4096
# A job of few images has so many blocks for each actor, if it has the images.
BLOCKS_AN_ACTOR = 4

# What a process takes beside blocks: libraries, the model, and the copies of the images at work.
PROCESS_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Node:
    """What a node of the cluster offers to jobs; a head that only coordinates offers nothing."""

    id: str
    cpus: float
    gpus: float


def nodes() -> list[Node]:
    """The living nodes. Ray must run."""
    resources = [(each["NodeID"], each["Resources"]) for each in ray.nodes() if each["Alive"]]
    return [Node(name, each.get("CPU", 0.0), each.get("GPU", 0.0)) for name, each in resources]


def notice_losses() -> None:
    """Returns when each node has answered, or is known to be lost, which takes the cluster some 20 s."""
    asked = [_answer.options(scheduling_strategy=only_on(node.id)).remote() for node in nodes()]
    ray.wait(asked, num_returns=len(asked), timeout=LOSS_SECONDS)


def tell_ray_train() -> None:
    """Has the actor that Ray Train asks for resources look at the cluster now.

    It looks every 20 s. Workers that are to start on a node that has been lost since then wait for it for a minute.
    """
    with suppress(ValueError):  # there is no such actor yet
        coordinator = ray.get_actor("AutoscalingCoordinator", namespace="AutoscalingCoordinator")
        ray.get(coordinator.get_reserved_resources.remote("imagewizard", recompute=True), timeout=LOSS_SECONDS)


@ray.remote(num_cpus=0, max_retries=0)
def _answer() -> None:
    pass


def grows() -> bool:
    """Whether the cluster may have an autoscaler: KubeRay and Ray's launcher tell each node its group."""
    return any("ray.io/node-group" in (each.get("Labels") or {}) for each in ray.nodes())


@dataclass(frozen=True)
class Allocation:
    """What a bulk job gets of a cluster: how many model actors, and what each gets."""

    least: int
    actors: int
    """At the start."""
    most: int
    threads_per_actor: int
    cpus_per_actor: float
    gpus_per_actor: float
    readers_per_actor: int
    """Blocks that are read at once for an actor: by its own threads, or by tasks if it has a GPU."""
    pixel_bytes: int
    """Pictures of a block that may be decoded ahead."""
    shortage: str | None = None
    """What of it the cluster has no room for, until its autoscaler adds nodes."""

    @property
    def memory(self) -> str:
        """How many bytes of images may be in flight at the start, for the plan."""
        readers = self.readers_per_actor if self.gpus_per_actor else 0
        each = BLOCKS_HELD * (BLOCK_BYTES + self.pixel_bytes) + (1 + readers) * PROCESS_BYTES
        return (
            f"at most {self.actors * each / 1e9:.1f} GB: {each / 1e9:.1f} GB for each actor (more for an image of over "
            f"{PROCESS_BYTES // IMAGE_COPIES // 1_000_000} megapixels)"
        )

    def block_size(self, passes: int) -> BlockSize:
        """How large blocks are to be. `passes`: forward passes of the network for an image, of all its rows."""
        most = max(1, (GPU_BLOCK_ROWS if self.gpus_per_actor else BlockSize.most_rows) // passes)
        return BlockSize(most, max(BlockSize.least_blocks, BLOCKS_AN_ACTOR * self.actors))

    def __str__(self) -> str:
        gpus = f", {self.gpus_per_actor:g} GPU each" if self.gpus_per_actor else ""
        threads = _threads_text(self.threads_per_actor)
        growth = f" ({self.least} to {self.most} as the cluster changes)" if self.least < self.most else ""
        return f"{self.actors} actor{'s' if self.actors > 1 else ''} of {threads}{gpus}{growth}"


def allocate(resources: ResourcesSection) -> Allocation:
    """Fits the actors to the cluster. Ray must run. Raises UserError if it cannot hold what was asked for."""
    cluster = nodes()
    gpus = sum(node.gpus for node in cluster)
    gpus_per_actor = resources.gpus_per_actor
    if gpus_per_actor == "auto":
        gpus_per_actor = 1.0 if gpus else 0.0
    # An actor cannot use the GPUs and CPUs of two nodes. On CPUs there is one a core: one-thread actors waste nothing
    # on waiting for each other.
    rooms = _rooms(cluster, gpus_per_actor)
    room = sum(rooms)
    asked = max(1, room) if resources.actors == "auto" else resources.actors
    least, most = asked if isinstance(asked, tuple) else (asked, asked)
    shortage = _shortage(cluster, gpus_per_actor, least, room) if least > room else None
    if shortage and not grows():
        raise shortage
    actors = max(least, min(most, room))
    threads = _threads(cluster, rooms, room if least < most else actors)
    return Allocation(
        least=least,
        actors=actors,
        most=most,
        threads_per_actor=threads,
        cpus_per_actor=_cpus_per_actor(cluster, rooms) if gpus_per_actor else 1.0,
        gpus_per_actor=gpus_per_actor,
        readers_per_actor=_readers_per_actor(cluster, gpus_per_actor, actors, threads),
        pixel_bytes=_pixel_bytes(actors) if gpus_per_actor else PIXEL_BYTES,
        shortage=f"{shortage.key}: {shortage.what}" if shortage else None,
    )


def _shortage(cluster: list[Node], gpus_per_actor: float, actors: int, room: int) -> UserError:
    if room:
        what, fix, key = f"{actors} asked for, but the cluster has room for {room}", "lower it", "resources.actors"
    elif not gpus_per_actor:
        what, fix, key = "the cluster has no node with a CPU", "add one", "resources.actors"
    else:
        gpus = max(node.gpus for node in cluster)
        have = f"no node with more than {gpus:g}" if gpus else "0"
        what, fix, key = f"{gpus_per_actor:g} asked for, but the cluster has {have}", "lower it", GPUS_PER_ACTOR
    return UserError(what, fix, key)


def _rooms(cluster: list[Node], gpus_per_actor: float) -> list[int]:
    """How many actors each node has room for."""
    return [int(node.gpus / gpus_per_actor if gpus_per_actor else node.cpus) for node in cluster]


def _threads(cluster: list[Node], rooms: list[int], actors: int) -> int:
    """Threads of each of so many actors: its share of a node's cores. Ray spreads actors over the nodes with room."""
    hosts = [(node.cpus, room) for node, room in zip(cluster, rooms, strict=True) if room]
    per_node = math.ceil(actors / max(1, len(hosts)))
    return max(1, min((int(cpus // min(room, per_node)) for cpus, room in hosts), default=1))


def _cpus_per_actor(cluster: list[Node], rooms: list[int]) -> float:
    """What an actor or worker with a GPU reserves: a core, or its share of a node that has fewer."""
    shares = [node.cpus / room for node, room in zip(cluster, rooms, strict=True) if room]
    return math.floor(1000 * min([1.0, *shares])) / 1000  # Ray counts in thousandths and less


def _readers_per_actor(cluster: list[Node], gpus_per_actor: float, actors: int, threads: int) -> int:
    """Without GPUs an actor's own threads read; one for two cores keeps up with any model on these."""
    return math.ceil(readers(cluster, gpus_per_actor) / actors) if gpus_per_actor else max(1, threads // 2)


def _pixel_bytes(actors: int) -> int:
    """Decoded pictures of a block that readers pass on to actors through the shared memory, if it has room for them."""
    # The other half is for what Ray and its other users put there.
    store = float(ray.cluster_resources().get("object_store_memory", 0.0)) / 2
    return max(0, min(PIXEL_BYTES, int(store / actors / BLOCKS_HELD) - BLOCK_BYTES))


def readers(cluster: list[Node], gpus_per_actor: float) -> int:
    """How many readers a cluster should have at once, at least 1."""
    if not gpus_per_actor:  # one for every two cores, which they share with the actors
        return max(1, int(sum(node.cpus for node in cluster)) // 2)
    # One for each core of the nodes without GPUs; if there are none, for every two cores that the actors leave.
    decoding = int(sum(node.cpus for node in cluster if not node.gpus))
    left = sum(node.cpus - int(node.gpus / gpus_per_actor) for node in cluster if node.gpus)
    return max(1, decoding or int(left) // 2)


@dataclass(frozen=True)
class TrainingAllocation:
    """What a training job gets of a cluster: how many workers, and what each gets."""

    least: int
    most: int
    threads_per_worker: int
    cpus_per_worker: float
    gpus_per_worker: float
    shortage: str | None = None
    """As that of Allocation."""

    def __str__(self) -> str:
        number = f"{self.most}" if self.least == self.most else f"{self.least} to {self.most}"
        each = f"{self.gpus_per_worker:g} GPU" if self.gpus_per_worker else _threads_text(self.threads_per_worker)
        return f"{number} worker{'s' if self.most > 1 else ''}, {each} each"


def _threads_text(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def allocate_training(resources: TrainResourcesSection, pieces: int) -> TrainingAllocation:
    """Fits the workers to the cluster. Ray must run. Raises UserError if it cannot hold the least number of them.

    `pieces`: micro-batches of a batch; where the number is left to the cluster, every worker gets one at least.
    """
    cluster = nodes()
    gpus = sum(node.gpus for node in cluster)
    gpus_per_worker = resources.gpus_per_worker
    if gpus_per_worker == "auto":
        gpus_per_worker = 1.0 if gpus else 0.0
    rooms = _rooms(cluster, gpus_per_worker)
    room = sum(rooms)
    workers = resources.workers
    if workers == "auto":
        least = most = max(1, min(room, pieces)) if gpus_per_worker else 1
    else:
        least, most = workers if isinstance(workers, tuple) else (workers, workers)
    have = f"{gpus:g} GPUs" if gpus_per_worker else f"{sum(node.cpus for node in cluster):g} CPUs"
    what = f"{least} asked for, but the cluster's {have} have room for {room}"
    if least > room and not grows():
        raise UserError(what, "lower it or gpus_per_worker", "resources.workers")
    return TrainingAllocation(
        least=least,
        most=most,
        threads_per_worker=_threads(cluster, rooms, max(1, min(most, room))),
        cpus_per_worker=_cpus_per_actor(cluster, rooms) if gpus_per_worker else 1.0,
        gpus_per_worker=gpus_per_worker,
        shortage=f"resources.workers: {what}" if least > room else None,
    )
