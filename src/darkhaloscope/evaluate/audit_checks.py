"""What the audit looks at: every check, what it guards against, and what to change if it fails."""

from darkhaloscope.evaluate.gates import Checks

COUNTERFACTUALS = (
    "operating_point",
    "zero_flux",
    "arc_removed",
    "companion",
    "radial_arc",
    "scrambled",
    "halo_ring",
    "gaussian_ring",
    "rises_with_snr",
    "rises_with_theta_e",
)
DEPLOYMENT = (
    "plain_scores",
    "plain_sky",
    "plain_detections",
    "plain_hosts",
    "known_hosts",
    "realism",
)
KINDS = ("companion", "radial_arc", "scrambled", "halo_ring")  # whose stamps are in the set
GUARDS = {
    "operating_point": "a figure without its threshold",
    "zero_flux": "a trace of painting itself",
    "arc_removed": "the host alone decides",
    "companion": "blue light somewhere is enough",
    "radial_arc": "any stretched source is enough",
    "scrambled": "pieces of an arc anywhere are enough",
    "halo_ring": "a ring is enough",
    "gaussian_ring": "a faint ring on any galaxy is enough",
    "rises_with_snr": "the arc is not what is looked at",
    "rises_with_theta_e": "resolution is not what is looked at",
    "plain_scores": "controls that are not the sky's galaxies",
    "plain_sky": "another sky than the one that taught",
    "plain_detections": "other surroundings than those that taught",
    "plain_hosts": "other hosts than those that taught",
    "known_hosts": "a network that knows its hosts",
    "realism": "injected lenses that look injected",
}
_TEACH = "give train such negatives: the kind in manifest.sets.train.copies and model.NAME.mix"
_HOSTS = 'controls = "paired" or "host_matched" in manifest.sets.train'
_STAMPS = (
    "the set's controls are no fair sample of the targets: look at manifest.sets.NAME.shares and "
    "at what `cutouts` refused"
)
REMEDIES = {  # what to change in the run's file where a check fails
    "operating_point": "more galaxies in the set: splits.shares, or lens in "
    "manifest.sets.NAME.copies",
    "zero_flux": f"{_HOSTS}; and look at the gates metadata and sky_stats",
    "arc_removed": f"{_HOSTS}; a larger share of control in model.NAME.mix",
    "companion": _TEACH,
    "radial_arc": _TEACH,
    "scrambled": _TEACH,
    "halo_ring": _TEACH,
    "gaussian_ring": "give train halo_ring (copies and model.NAME.mix); a mix may hold 2 % of it "
    "at most",
    "rises_with_snr": "more training: model.NAME.max_epochs, or epoch_stamps",
    "rises_with_theta_e": "a wider manifest.training.theta_e_arcsec; more training",
    "plain_scores": _STAMPS,
    "plain_sky": _STAMPS,
    "plain_detections": _STAMPS,
    "plain_hosts": _STAMPS,
    "known_hosts": "fewer epochs or more galaxies: model.NAME.max_epochs, splits.shares",
    "realism": "real galaxies as sources: manifest.sources.kinds and manifest.sources.bank",
}
AUDIT = Checks("audit", "check", GUARDS, REMEDIES, "so this network is not to be used as it is")
