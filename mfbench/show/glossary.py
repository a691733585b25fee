"""Explanations beside the numbers: ten words, the cases in plain words, and the ``?`` that opens a formula."""

from html import escape

WORDS = {
    "level of theory": (
        "The quantum-chemical method and basis set that a label was computed with. A higher one is nearer to "
        "experiment, and dearer."
    ),
    "label": (
        "What quantum chemistry tells of one structure: its energy, or the forces on its atoms. The forces of a "
        "molecule of N atoms are 3N numbers, its energy is one."
    ),
    "arm": "A way to use labels: what a model is trained on, at which levels. All else is equal between arms.",
    "SF-E": "Trained on high-level energies alone. What can be had without the other level, and without forces.",
    "SF-EF": "Trained on high-level energies and forces: what one would do if high-level forces were cheap.",
    "MF": (
        "Trained on low-level energies and forces together with high-level energies, in one network with an "
        "output for each level."
    ),
    "seed": (
        "Which structures are drawn for training, and how the network begins. Arms are compared seed by seed, for "
        "much of what differs between two trainings is luck that both share."
    ),
    "gap closed": (
        "How far an arm has come from SF-E (0) to SF-EF (1), on a logarithmic scale of errors, at the same number "
        "of high-level structures."
    ),
    "oracle": (
        "SF-EF trained on as many high-level structures as there are low-level ones: about the best that these "
        "data and this network allow."
    ),
    "new molecules": (
        "Molecules of which no structure was trained on, at any level; new geometries are other structures of the "
        "molecules trained on."
    ),
}

CASES = {
    "ani1x-tz": (
        "The same density functional in a small and a large basis set. Cheap: ωB97X/6-31G* energies and forces. "
        "Dear: ωB97X/def2-TZVPP energies. The two differ by a smooth, nearly additive shift, so a little goes a "
        "long way."
    ),
    "ani1ccx": (
        "From density functional to coupled cluster. Cheap: ωB97X/6-31G* energies and forces. Dear: CCSD(T)*/CBS "
        "energies, for which no published set has forces: SF-EF cannot be trained, and MF is what is left."
    ),
    "rmd17-cc": (
        "One molecule in motion. Cheap: PBE/def2-SVP energies and forces along a trajectory. Dear: "
        "coupled-cluster energies of other geometries of the same molecule."
    ),
}


def why(explanation: str, about: str = "") -> str:
    """A ``?`` that opens an explanation (plain text), as HTML; ``about`` says of what, for those who do not see it."""
    label = f"What is {about}?" if about else "How is this worked out?"
    summary = f'<summary aria-label="{escape(label)}">?</summary>'
    return f'<details class="why">{summary}<div>{escape(explanation)}</div></details>'


def glossary_html() -> str:
    """The ten words."""
    items = "".join(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in WORDS.items())
    return f'<dl class="glossary">{items}</dl>'
