"""Networks trained on simulated pictures, scored on real candidates: `dhs bench spacewarps`.

The candidates are 263 objects that volunteers of Space Warps took for lenses and experts graded
(More et al. 2016, MNRAS 455, 1191): real lenses, and what people mistake for one. No network sees
any of them, or a grade, before it is scored; epochs are chosen on simulated pictures.
"""

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from darkhaloscope.bench import entry
from darkhaloscope.core.errors import ConfigError

PUBLISHED_AUROC = 0.54  # of a published transfer from simulated to real images


def main(words: Sequence[str]) -> int:
    """`dhs bench spacewarps`; the exit status."""
    parser = entry.parser_of("spacewarps")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="the graded candidates")
    parser.add_argument("--only", metavar="NAMES", help="variants to train, separated by commas")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="logits and weights stay here")
    parser.add_argument("--threads", type=int, default=2, help="of the processor; default 2")
    asked = parser.parse_args(list(words))
    entry.check(asked)
    if asked.threads < 1:
        raise ConfigError(f"--threads {asked.threads} is less than 1")
    figures = measure(data=asked.data, only=asked.only, keep=asked.keep, threads=asked.threads)
    entry.tell(figures, table, asked)
    return 0


def measure(
    *, data: Path | None, only: str | None = None, keep: Path | None = None, threads: int = 2
) -> dict[str, Any]:
    """Train the variants and score the candidates.

    Args:
        data: Folder of the candidates; None: that in $DHS_SHARED.
        only: Names of variants, separated by commas; None: all.
        keep: Folder for weights and logits; variants whose logits are there are not trained again.
        threads: Of the processor.
    """
    import numpy as np
    import torch

    from darkhaloscope.bench.real_images import judged, ladder, pictures, simulated
    from darkhaloscope.core.contracts import Device

    logging.getLogger("darkhaloscope").setLevel(logging.INFO)
    asked = simulated.settings()
    names = ladder.variants(asked, only)
    candidates = pictures.read(pictures.folder_of(data))
    device = Device("cpu", threads)
    torch.set_num_threads(threads)
    pools, logits, rows = ladder.Pools(device), {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            folder = (keep or Path(scratch)) / name
            if not (folder / "logits.npy").exists():
                folder.mkdir(parents=True, exist_ok=True)
                net, went = ladder.trained(name, asked, pools, scratch=folder, device=device)
                torch.save(net.state_dict(), folder / "net.pt")
                np.save(folder / "logits.npy", judged.logits(net, candidates.rgb))
                (folder / "went.json").write_text(json.dumps(went), encoding="utf-8")
            logits[name] = np.load(folder / "logits.npy")
            rows[name] = json.loads((folder / "went.json").read_text(encoding="utf-8"))
            rows[name] |= judged.figures(logits[name], candidates.labels)
    members = asked["committee"]["members"]
    if all(name in logits for name in members):
        score = judged.together([logits[name] for name in members])
        rows["committee"] = {
            "what": asked["committee"]["what"],
            "members": members,
            **judged.figures(score, candidates.labels),
        }
    return {
        "measure": "spacewarps",
        "origin": "real",
        "trained_on": "simulated pictures only; epochs chosen on simulated pictures",
        "published_transfer_auroc": PUBLISHED_AUROC,
        "variants": rows,
        **entry.circumstances(),
    }


def table(figures: Mapping[str, Any]) -> str:
    """The figures as text."""
    lines = [f"{'variant':<14}{'AUROC':<26}{'completeness at FPR 10 %':<30}unsure kept"]
    for name, row in figures["variants"].items():
        area, at = row["auroc"], row["completeness_at_fpr_0.1"]
        of_area = f"{area['value']:.3f} ({area['low']:.3f}-{area['high']:.3f})"
        kept = f"{at['value']:.3f} ({at['low']:.3f}-{at['high']:.3f})"
        lines.append(f"{name:<14}{of_area:<26}{kept:<30}{row['unsure_kept_share']:.2f}")
    counts = next(iter(figures["variants"].values()))["counts"]
    lines.append(
        f"real, {counts['lens']} lenses and {counts['not_lens']} look-alikes; 95 % intervals; a "
        f"published transfer: AUROC {figures['published_transfer_auroc']}"
    )
    return "\n".join(lines)
