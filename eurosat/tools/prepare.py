"""``eurosat prepare``: get a data set ready for training, and show what it holds."""

from pathlib import Path

import numpy as np

from eurosat.data.datamodule import EuroSATDataModule
from eurosat.data.splits import PARTS, SplitKind
from eurosat.labels import CLASSES


def prepare(
    *,
    source: str = "hub",
    revision: str | None = None,
    bands: str | list[str] = "rgb",
    classes: tuple[str, ...] = CLASSES,
    root: str = "data",
    verify: bool = True,
    synthetic_images: int = 4000,
    split: SplitKind = "stratified",
    split_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    split_seed: int = 42,
    split_files: str | None = None,
    output: str | None = None,
) -> None:
    """Find, check and decode a data set, once, and show what it holds.

    `eurosat fit` does the same when it needs to; later starts open the result in under a second.

    Args:
        source: 'hub' (EuroSAT from the HF hub), a .zip archive or folder with one folder of
            images a class, a prepared store, a hub id 'owner/name', or 'synthetic'.
        revision: Commit of the hub data set; EuroSAT's own is pinned already.
        bands: 'rgb' (8 bits), 'all' (13 bands), or band names such as [B02, B03, B04, B08].
        classes: Class names in label order; your own folder names for your own data.
        root: Folder for decoded data.
        verify: Refuse a complete EuroSAT RGB data set whose files are not the published ones.
        synthetic_images: Number of patches that the source 'synthetic' generates.
        split: 'stratified' by seed, the 'source' own, 'files' (lists), or by 'longitude'.
        split_fractions: Fractions of train, validation and test.
        split_seed: Seed of the stratified split.
        split_files: Folder with train, val and test .txt lists of file names.
        output: Folder for this one store, such as one that DVC tracks, which --data.source takes;
            a folder in root if not given.
    """
    settings = {name: value for name, value in locals().items() if name != "output"}
    data = EuroSATDataModule(**settings)
    store = data.prepare_store(Path(output) if output else None)
    data = EuroSATDataModule(**settings | {"source": str(store.path)})
    data.setup("fit")
    assert data.store is not None
    assert data.split is not None
    card = data.store.card
    verified = {True: "the published files", False: "NOT the published files", None: "none known"}
    print(f"store         {data.store.path}")
    print(f"images        {card.images}, {data.store.images.dtype}, {data.store.images.shape[1:]}")
    print(f"fingerprint   {card.fingerprint}")
    print(f"checksums     {verified[card.verified]}")
    print(f"split         {data.split.kind}, fingerprint {data.split.fingerprint}")
    print(f"\n{'class':<24}" + "".join(f"{part:>8}" for part in PARTS))
    for label, name in enumerate(card.classes):
        counts = [np.sum(data.store.labels[getattr(data.split, part)] == label) for part in PARTS]
        print(f"{name:<24}" + "".join(f"{count:>8}" for count in counts))
