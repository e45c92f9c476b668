"""What a bench has measured, with round numbers: of a stand-in, and of a model on the CPU."""

from imagewizard.benchmarks.rates import Compared, Request, Roofline, Run, Throughput

DEVICE = Throughput(
    request=Request(None, None, None, 25.0, "embedded", 4.0, None),
    images="2,000 JPEG crops of 256x256",
    notes=[],
    machine_cores=2,
    actors=1,
    threads=2,
    on_cpu=False,
    compared=Compared(bare=240.0),
    run=Run(2000, 200.0, 150.0, {"read": 0.5, "noise": 3.0, "denoise": 1.0, "score": 2.5}, 9.0),
)
MODEL = Throughput(
    request=Request(None, None, None, 25.0, "embedded", None, None),
    images="2,000 JPEG crops of 128x128",
    notes=["smaller crops: 2,000 of 256x256 would take over 5 minutes"],
    machine_cores=2,
    actors=2,
    threads=1,
    on_cpu=True,
    compared=Compared(40.0, 16.0, 0.5, 4, Roofline(4e9, 2e11, "float32")),
    run=Run(2000, 32.0, 25.0, {"read": 0.5, "noise": 3.0, "denoise": 41.0, "score": 2.5}, 50.0),
)
