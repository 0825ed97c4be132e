"""Two real processes with gloo, each started as torchrun starts it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from tests.conftest import PROJECT
from tests.training.test_gradient import levels, small_fit, small_net, weights
from tests.training.toy_detector import SettlingToy
from tests.training.toy_supervised import SupervisedToy, small_sets
from zellige.training import supervised
from zellige.training.checkpoint import write_tensors
from zellige.training.gradient import fit

CODE = "import sys; from tests.training.test_distributed import one_of_two as f; f(sys.argv[1])"
GOOD = [10, 20, 30, 40, 50, 60, 70]


def one_of_two(root: str) -> None:
    """What each process does: a toy that remembers what it saw, and a net; both leave their weights."""
    torch.set_num_threads(1)
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    rank, folder = fabric.global_rank, Path(root)
    toy, net = SettlingToy(), small_net()
    # Files are written by each process for itself, under its own folder.
    own = folder / str(rank)
    train, val = levels(own, GOOD, [200, 210, 220]), levels(own / "val", [15, 25, 35])
    toy_run, net_run = folder / "toy", folder / "net"
    for run in (toy_run, net_run):
        run.mkdir(exist_ok=True)
    fit(toy, train, val, fabric=fabric, run_dir=toy_run, epochs=2, batch_size=2, defect_share=0.0)
    good, held_out = small_fit(own / "net")
    more = {"epochs": 3, "batch_size": 2, "accumulate": 2, "rank_suspicious": True}
    fit(net, good, held_out, fabric=fabric, run_dir=net_run, **more)
    labelled, labelled_run = SupervisedToy(), folder / "labelled"
    labelled_run.mkdir(exist_ok=True)
    settings = {"epochs": 2, "batch_size": 4, "balance": 0.0}
    supervised.fit(labelled, *small_sets(own / "sets", "none"), fabric=fabric, run_dir=labelled_run, **settings)
    seen = torch.tensor([[round(level * 256), float(bad)] for level, bad, _ in toy.seen])
    toys = {f"toy.{n}": v for n, v in [*weights(toy).items(), ("unit", toy.unit)]}
    toys |= {f"labelled.{name}": value for name, value in labelled.state_dict().items()}
    drawn = torch.cat([images.flatten(1) for images, _ in labelled.batches])
    write_tensors({"seen": seen, "drawn": drawn, **toys, **net.state_dict()}, own / "end")


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, torch.Tensor]]]:
    root = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in (0, 1):
        group = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
        elastic = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        settings = {name: str(value) for name, value in {**group, **elastic, "OMP_NUM_THREADS": 1}.items()}
        environment = {**os.environ, **settings, "PYTHONPATH": f"{PROJECT}/src:{PROJECT}"}
        command = [sys.executable, "-c", CODE, str(root)]
        processes.append(
            subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    try:
        outputs = [process.communicate(timeout=120)[0].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    return root, [load_file(root / str(rank) / "end") for rank in (0, 1)]


def test_both_processes_end_with_equal_weights(ends: tuple[Path, list[dict[str, torch.Tensor]]]) -> None:
    first, second = ends[1]
    assert [
        name for name in first if name not in ("seen", "drawn") and not torch.equal(first[name], second[name])
    ] == []
    assert first["toy.unit"].item() == 35  # the brightest that the first process has of VAL
    untouched = small_net().state_dict()
    assert not torch.equal(first["map_head.0.weight"], untouched["map_head.0.weight"])


def test_no_image_is_seen_twice_in_an_epoch_nor_by_both(ends: tuple[Path, list[dict[str, torch.Tensor]]]) -> None:
    """Each has every second image: the odd good one goes to the first process, the odd defective one to the second."""
    for end, expected in zip(ends[1], ([10, 30, 50, 70, 210], [20, 40, 60, 200, 220]), strict=True):
        seen = end["seen"][:, 0].int().tolist()
        assert sorted(seen[:5]) == sorted(seen[5:]) == expected


def test_the_reports_are_written_once(ends: tuple[Path, list[dict[str, torch.Tensor]]]) -> None:
    """And no ranking, as neither process sees all images."""
    names = sorted(path.name for path in (ends[0] / "net").iterdir())
    assert names == ["fit.json", "learning_curve.json", "resume.safetensors"]


def test_the_tiles_of_a_supervised_epoch_are_dealt_to_both(
    ends: tuple[Path, list[dict[str, torch.Tensor]]],
) -> None:
    """Sixteen images, each drawn once in an epoch: eight tiles for each process, none of them for both."""
    first, second = ({bytes(row.numpy()) for row in end["drawn"][:8]} for end in ends[1])
    assert len(first) == len(second) == 8
    assert not first & second
    assert not torch.equal(ends[1][0]["labelled.linear.weight"], SupervisedToy().linear.weight)
