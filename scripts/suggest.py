"""Say which unlabelled images are worth a label, and propose the labels."""

import logging
from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf

from zellige.config import make_fabric
from zellige.config_suggest import SuggestConfig
from zellige.data.whole_folder import whole_folder
from zellige.finished_run import open_run
from zellige.program import run
from zellige.release import check_ready
from zellige.suggestion import check_places, list_candidates, rank
from zellige.suggestion_files import propose_labels, write_suggestions


def main(composed: DictConfig) -> None:
    settings = cast(SuggestConfig, OmegaConf.to_object(composed))
    images, out = check_places(settings)
    finished = open_run(Path(settings.run))
    optics = check_ready(finished.config, finished.splits, finished.data)
    fabric = make_fabric(finished.config.engine, seed=finished.config.seed)
    folder = list_candidates(finished, optics, images)
    suggested = rank(finished, folder, optics, settings, fabric=fabric)
    with whole_folder(out) as unfinished:
        proposals = propose_labels(finished, suggested, optics, fabric=fabric, work=unfinished)
        lines = write_suggestions(finished, suggested, proposals, settings, unfinished)
    logging.getLogger("suggest").info("\n  ".join([f"{out}:", *lines]))


if __name__ == "__main__":
    run(main, "suggest", interrupted="interrupted: nothing was written")
