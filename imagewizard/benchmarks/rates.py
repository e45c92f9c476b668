"""What `imagewizard bench` is asked for, and what it finds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """What is to be measured. What is None is chosen by the bench."""

    folder: str | None
    """A local folder of images; None: crops are written."""
    count: int | None
    size: int | None
    """Side of the crops in pixels."""
    sigma: float
    """Of the noise, 0-255 scale."""
    model: str
    device_ms: float | None
    """A stand-in sleeps so many milliseconds over each image, in the model's place; None: the model does its work."""
    actors: int | None


@dataclass(frozen=True)
class Roofline:
    """How fast a network could be if it were nothing but large matrix products."""

    flop_per_image: float
    """Floating-point operations of one forward pass; a multiply-add counts as two."""
    flop_per_second: float
    """Of a large matrix product with all cores of the CPU, or of one GPU."""
    dtype: str
    """Its numbers, which are those of the network there: float32, or bfloat16 on hardware for it."""

    @property
    def images_per_second(self) -> float:
        return self.flop_per_second / self.flop_per_image


@dataclass(frozen=True)
class Compared:
    """What the pipeline is compared with, in images a second; None: was not run."""

    bare: float
    """The model, or the stand-in for it, in a hot loop on images in memory, for all actors together."""
    plain: float | None = None
    """One process that reads, adds noise, denoises in one step and scores, image by image."""
    ddim: float | None = None
    """The same with 50 DDIM steps."""
    ddim_images: int = 0
    """How many images that was timed on."""
    roofline: Roofline | None = None


@dataclass(frozen=True)
class Run:
    """A whole bulk job, of which each row is committed, ok and scored."""

    rows: int
    rate: float
    """Rows a second from the first commit to the last; of the whole job if it has a single block."""
    rate_with_start: float
    """Rows a second from the start of the actors to the last commit."""
    stage_cpu_ms: dict[str, float]
    """CPU milliseconds an image by stage, over all rows."""
    cpu_ms: float | None
    """CPU milliseconds an image of all processes of the job, from the first commit to the last; None: not known."""


@dataclass(frozen=True)
class Throughput:
    """All that a bench has measured."""

    request: Request
    images: str
    """What the images are, for the reader."""
    notes: list[str]
    """What is smaller or fewer than usual or asked for, so that the bench ends in time."""
    machine_cores: int
    """That this process may use."""
    actors: int
    threads: int
    """Of each actor."""
    on_cpu: bool
    """Whether the model computes on the cores that the rest of the pipeline needs."""
    compared: Compared
    run: Run

    @property
    def over_device(self) -> float | None:
        """The pipeline's rate over that which the stand-in stands for."""
        ms = self.request.device_ms
        return None if ms is None else self.run.rate * ms / (1000 * self.actors)

    @property
    def busy_cores(self) -> float | None:
        """Cores that the job kept busy on average, of those of the machine; None: not known."""
        return None if self.run.cpu_ms is None else self.run.cpu_ms * self.run.rate / 1000

    @property
    def beside_ms(self) -> float | None:
        """CPU milliseconds an image that the device does not spend; None: not known.

        A model on the CPU spends those of its stage. They are of one thread, so an actor must have no more.
        """
        if self.run.cpu_ms is None or (self.on_cpu and self.threads > 1):
            return None
        return self.run.cpu_ms - (self.run.stage_cpu_ms["denoise"] if self.on_cpu else 0.0)

    def cores(self, images_per_second: float) -> float | None:
        """Cores that a device of this rate needs beside it; None: not known."""
        return None if self.beside_ms is None else self.beside_ms * images_per_second / 1000

    def cost_per_million(self, price: float) -> float:
        """Of a million images at a price for an hour of the machine, in the price's currency."""
        return price / (self.run.rate * 3600) * 1e6
