"""Tests lie where their modules do: imagewizard/<package>/<module>.py in tests/<package>/test_<module>.py."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

ELSEWHERE = {
    "cluster/local_nodes.py": "of cluster/local.py: tests/cluster/test_local.py",
    "cluster/local_processes.py": "of cluster/local.py: tests/cluster/test_local.py",
    "imagewizard/bulk/cpu_steps.py": "tests/bulk/test_group_steps.py, beside gpu_steps.py",
    "imagewizard/bulk/gpu_steps.py": "tests/bulk/test_group_steps.py, beside cpu_steps.py",
    "imagewizard/bulk/samples.py": "tests/bulk/test_block_denoiser.py, tests/bulk/test_block_denoiser_noise.py",
    "imagewizard/benchmarks/step.py": "a dataclass without methods; tests/benchmarks/test_gpu_check.py runs it",
    "imagewizard/storage/refusal.py": "an error: tests/storage/test_local.py, tests/storage/test_s3.py",
    "imagewizard/training/__main__.py": "runs as a process of its own: tests/training/test_run.py",
    "jobs/__main__.py": "tests/jobs/test_main.py",
    "jobs/logs.py": "tests/end_to_end/test_submit.py",
    "jobs/stop.py": "tests/end_to_end/test_submit.py",
}
"""Modules without a test file of their own name, each with the reason or the file that tests it."""

NO_MODULE = {
    "bulk/test_block_denoiser_noise.py": "imagewizard/bulk/block_denoiser.py, its noise and levels",
    "cluster/test_aws.py": "cluster/aws.yaml",
    "cluster/test_dockerfile.py": "cluster/Dockerfile",
    "cluster/test_kuberay.py": "cluster/kuberay/",
    "images/test_second_decoder.py": "imagewizard/images/ against libvips",
    "jobs/test_main.py": "jobs/__main__.py",
    "jobs/test_start_up.py": "what all commands import",
    "models/test_fetch_hub.py": "imagewizard/models/fetch.py, where it talks to the hub",
    "support/test_sample_files.py": "a helper of the tests",
    "test_api.py": "the package itself",
    "test_docs.py": "docs/",
    "test_layout.py": "tests/",
    "test_readme.py": "README.md",
    "training/test_trainer_errors.py": "imagewizard/training/trainer.py, where a step fails",
}
"""Test files outside of end_to_end/ that are named after no module, each with what it tests."""


def modules() -> dict[str, str]:
    """{module: where its tests belong, below tests/}."""
    found = {}
    for package in ("imagewizard", "jobs", "cluster"):
        for path in (ROOT / package).rglob("*.py"):
            module = path.relative_to(ROOT).as_posix()
            if path.name != "__init__.py":
                place = path.relative_to(ROOT / "imagewizard" if package == "imagewizard" else ROOT)
                found[module] = place.with_name(f"test_{path.name}").as_posix()
    return found


def test_every_module_has_tests_of_its_name_or_a_reason() -> None:
    without = {module for module, tests in modules().items() if not (ROOT / "tests" / tests).is_file()}
    assert without == ELSEWHERE.keys()


def test_every_test_file_is_named_after_its_module_or_has_a_reason() -> None:
    files = {path.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    others = {file for file in files - set(modules().values()) if not file.startswith("end_to_end/")}
    assert others == NO_MODULE.keys()
