"""What is wrong with a run's file, in words: root causes only, with the next step."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

Location = tuple[int | str, ...]

# Keys that no person wrote: `core.config` hands them to a section from where they are stated.
_HANDED = (
    "bands", "pixel_scale_arcsec", "tile_nside", "psf_beta", "manifest", "stamps", "splits",
    "models", "targets",
)  # fmt: skip
# Keys of [report] that `core.config` hands to other sections.
OF_REPORT = {
    "selection": ("sky",),
    "mined": ("lens_weight",),
    "audit": (
        "sky", "arc_snr_band", "headline_theta_e_over_fwhm_r_min", "headline_arc_snr_min",
    ),
}  # fmt: skip


def lines(faults: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line a fault, `section.key: what is wrong (got value)`.

    Args:
        faults: As pydantic lists them.
    """
    within = {fault["loc"][:depth] for fault in faults for depth in range(len(fault["loc"]))}
    stated = [
        fault
        for fault in faults
        # An item that is refused leaves its list short: an echo too.
        if not _is_handed(fault["loc"]) and not (fault["loc"] in within and fault["loc"])
    ]
    return list(dict.fromkeys(_line(fault, faults) for fault in stated or faults))


def _line(fault: Mapping[str, Any], faults: Sequence[Mapping[str, Any]]) -> str:
    location = [str(part) for part in fault["loc"]]
    key = ".".join(location)
    if fault["type"] == "extra_forbidden":
        return f"  {key}: there is no such key{_meant(fault['loc'], faults)}"
    if fault["type"] == "missing":
        return f"  {key}: it has to be set"
    text = str(fault["msg"]).removeprefix("Value error, ")
    return f"  {key}: {text}{_got(fault)}" if key else f"  {text}"


def _is_handed(location: Location) -> bool:
    """Whether a fault is an echo of one that stands where the value was stated."""
    names = [str(part) for part in location] or [""]
    if names[1:2] and names[1] in OF_REPORT.get(names[0], ()):
        return True
    if names[:2] in (["report", "mined"], ["report", "ensemble"]):
        return True
    if names[0] in ("manifest", "stamps"):
        return any(name in _HANDED for name in names[1:2])
    if names[0] == "ensemble" and names[2:3] == ["lens_weight"]:
        return True
    inner = names[2:3] if names[0] in ("model", "ensemble") else names[1:2]
    return names[0] not in ("survey", "simulate", "cutouts") and any(n in _HANDED for n in inner)


def _meant(location: Location, faults: Sequence[Mapping[str, Any]]) -> str:
    """The key that was meant: one of the same section that is missing and spelt alike."""
    missing = [
        str(f["loc"][-1])
        for f in faults
        if f["type"] == "missing" and f["loc"][:-1] == location[:-1]
    ]
    close = difflib.get_close_matches(str(location[-1]), missing, n=1)
    return f"; did you mean {close[0]}?" if close else "; `docs/settings.md` lists the keys"


def _got(fault: Mapping[str, Any]) -> str:
    """The offending value, where it is short enough to read and not said already."""
    text = repr(fault.get("input"))
    return f" (got {text})" if len(text) <= 80 and "got" not in str(fault["msg"]) else ""
