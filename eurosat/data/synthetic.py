"""Synthetic Sentinel-2 patches of EuroSAT's ten classes, for tests and demonstrations.

The generator paints surfaces (fields, water, roofs, roads) as shapes on a canvas of 5 m cells. Each
surface has a 13-band spectrum and a texture. An instrument model then turns the canvas into bands
of 10, 20 and 60 m. Several classes share fields, woods and soils, and season, illumination and haze
vary from patch to patch, so the shapes identify the class better than the mean colour does.
"""

import math

import cv2
import numpy as np
import numpy.typing as npt

from eurosat.bands import BANDS
from eurosat.data.spectra import SPECTRA
from eurosat.labels import CLASSES

SIZE = 64  # Height and width of a patch, in pixels of 10 m.
_CANVAS = 2 * SIZE  # Cells of 5 m, so that edges become mixed pixels.
_REACH = 96.0  # A little over half the canvas's diagonal covers the canvas in every orientation.
_Floats = npt.NDArray[np.float32]
_Points = npt.NDArray[np.float64]  # (..., 2), in cells from the centre of the canvas.

_GREEN_FIELDS = ("green-crop", "young-crop", "young-crop", "meadow", "grass")
_DRY_FIELDS = ("stubble", "brown-soil", "brown-soil", "pale-soil", "dry-grass")
_WATERS = ("deep-water", "clear-water", "green-water", "turbid-water")
_RESOLUTIONS = [band.resolution for band in BANDS]
# Pairs for cv2.mixChannels: the position of each band among the bands sorted by resolution, and
# the position of the band in BANDS.
_POSITIONS = [
    n for pair in enumerate(np.argsort(_RESOLUTIONS, kind="stable").tolist()) for n in pair
]
# Scattering by haze falls with the 4th power of the wavelength in clear air, and more slowly with
# aerosol.
_HAZE = np.array([(443 / band.wavelength) ** 2.5 for band in BANDS], np.float32)
_CHANGE = np.array([0.03 if band.wavelength < 700 else 0.12 for band in BANDS], np.float32)
_Y, _X = np.indices((SIZE, SIZE), np.float32)


def _resize(image: _Floats, size: int, interpolation: int = cv2.INTER_CUBIC) -> _Floats:
    if len(image) == size:
        return image
    return np.asarray(cv2.resize(image, (size, size), interpolation=interpolation), np.float32)


class _Scene:
    """A canvas of numbered surfaces; surface 0 covers the cells that no other surface covers."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.canvas = np.zeros((_CANVAS, _CANVAS), np.uint8)
        self.surfaces: list[_Floats] = []  # Spectrum, difference between materials, texture.
        self.angle = self.between(0, math.pi)
        self.period = self.between(2.8, 6)
        self.greenness = self.between(0.05, 0.95)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.rng.random()

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def one_of(self, *names: str) -> str:
        return names[int(self.rng.random() * len(names))]

    def field(self) -> str:
        """Draw a material of farmland that fits the patch's season."""
        return self.one_of(*(_GREEN_FIELDS if self.chance(self.greenness) else _DRY_FIELDS))

    def surface(
        self, material: str, other: str = "brown-soil", mixed: float = 0.12, *texture: float
    ) -> int:
        """Add a surface and return the number of the surface.

        The surface consists of ``material`` and the material ``other``. The mean fraction of
        ``other`` is drawn between 0 and ``mixed``. ``texture`` holds the amplitudes of four
        variations of the fraction: smooth variation, variation from pixel to pixel, rows along the
        scene's orientation, and rows across the scene's orientation.
        """
        difference = SPECTRA[other] - SPECTRA[material]
        spectrum = SPECTRA[material] + difference * self.between(0, mixed)
        spectrum *= self.between(0.9, 1.1)
        amplitudes = np.array([*texture, *(0.06, 0.04, 0, 0)[len(texture) :]], np.float32)
        self.surfaces.append(np.concatenate([spectrum, difference, amplitudes]))
        return len(self.surfaces) - 1

    def turn(self, points: _Points) -> npt.NDArray[np.int32]:
        """Rotate points to the scene's orientation; return sixteenths of a cell for cv2."""
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        turned = points @ np.array([[cosine, sine], [-sine, cosine]]) + _CANVAS / 2
        return np.asarray(turned * 16, np.int32)

    def fill(self, polygons: _Points, *numbers: int) -> None:
        """Paint each polygon, shape (n, corners, 2), with a randomly drawn surface."""
        shapes, owners = self.turn(polygons), self.rng.integers(len(numbers), size=len(polygons))
        for owner, number in enumerate(numbers):
            cv2.fillPoly(self.canvas, list(shapes[owners == owner]), number, shift=4)

    def line(self, points: _Points, number: int, width: float) -> None:
        """Paint a line (points, 2) or lines (lines, points, 2), ``width`` cells wide."""
        lines = list(self.turn(points).reshape(-1, *points.shape[-2:]))
        cv2.polylines(self.canvas, lines, False, number, max(1, round(width)), shift=4)

    def noise(self, cells: int, size: int) -> _Floats:
        """Draw normal noise at ``cells`` x ``cells`` points; interpolate to ``size`` x ``size``."""
        noise = _resize(self.rng.standard_normal((cells, cells), np.float32), SIZE // 2)
        # Cubic interpolation up to half a patch, followed by linear interpolation, is fast.
        return _resize(noise, size, cv2.INTER_LINEAR)

    def blotches(self, number: int, level: float, cells: int = 8) -> None:
        """Paint irregular areas; a lower ``level`` (about -1 to 2) paints more cells."""
        self.canvas[self.noise(cells, _CANVAS) > level] = number

    def curve(self, bend: float, offset: float, waves: float = 1.0) -> _Points:
        """Draw a winding line of 25 points from one end of the canvas to the other."""
        along = np.linspace(-_REACH, _REACH, 25)
        phase = along * (waves * math.pi / _REACH) + self.between(0, 2 * math.pi)
        swing = np.sin(phase) + 0.35 * np.sin(2.3 * phase + self.between(0, 6))
        return np.stack([along, offset + bend * swing], axis=1)

    def fields(self, length: float, width: float, *numbers: int) -> _Points:
        """Paint the fields of a distorted lattice; return the corners, shape (rows, columns, 2)."""
        along = np.arange(-_REACH - length * self.rng.random(), _REACH + length, length)
        across = np.arange(-_REACH - width * self.rng.random(), _REACH + width, width)
        corners = np.stack(np.meshgrid(along, across), axis=-1)
        corners += (self.rng.random(corners.shape) - 0.5) * (0.3 * length, 0.3 * width)
        around = (corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1])
        self.fill(np.stack(around, axis=2).reshape(-1, 4, 2), *numbers)
        return corners

    def buildings(self, columns: _Points, rows: _Points, sizes: _Points, *roofs: int) -> None:
        """Paint buildings in uneven columns and rows with gaps, each with a shadow on one side."""
        centres = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
        keep = self.rng.random(len(centres)) < self.between(0.55, 0.95)
        keep &= (centres**2).sum(axis=1) < _REACH**2
        shifts = 0.3 * (columns[1] - columns[0]) * self.rng.random(centres.shape)
        corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        boxes = (centres + shifts)[keep, None] + sizes[keep, None] * corners
        self.fill(boxes + 1.2, self.surface("shade", "asphalt", 0.6))
        self.fill(boxes, *roofs)

    # The painters' numbers were chosen by comparing synthetic patches with the published patches.
    def countryside(self) -> None:
        """Paint the surroundings of roads and rivers: fields or heath, with woods and houses."""
        numbers = [self.surface(self.field(), self.field(), 0.12, 0.1) for _ in range(5)]
        if self.chance(0.65):
            self.fields(self.between(35, 90), self.between(22, 60), *numbers)
        trees = self.surface("broadleaf", "conifer", 1.0, 0.15, 0.2)
        self.blotches(trees, self.between(-1, 2.2) if self.chance(0.4) else 1.3, 7)
        self.blotches(self.surface("tile-roof", "concrete"), self.between(1.7, 6), 26)

    def annual_crop(self) -> None:
        tillage, numbers = (0.06, 0.04, self.between(0, 0.12)), []
        for other in ("stubble", "stubble", "young-crop", "young-crop", "brown-soil"):
            numbers.append(self.surface(self.field(), other, 0.12, *tillage))
        corners = self.fields(self.between(55, 150), self.between(24, 90), *numbers)
        if self.chance(0.3):
            self.line(corners[2], self.surface("dry-grass", "pale-soil", 1.0), 2)

    def forest(self) -> None:
        rough = self.between(0.15, 0.4)
        for level in (-9.0, self.between(0.1, 0.8), self.between(0.1, 0.8)):
            kind = self.one_of("broadleaf", "conifer")
            self.blotches(self.surface(kind, "shade", 0.5, 0.12, rough), level, 6)
        clearing = self.surface(self.one_of("meadow", "shrub", "dry-grass"), "broadleaf")
        self.blotches(clearing, self.between(1.2, 3))

    def herbaceous_vegetation(self) -> None:
        cover = self.one_of("meadow" if self.chance(self.greenness) else "stubble", "dry-grass")
        cells, rough = int(self.between(6, 20)), self.between(0.08, 0.18)
        for level in (-9.0, self.between(0.1, 0.8), self.between(0.5, 1.3)):
            self.blotches(self.surface(cover, "shrub", 0.9, 0.2, rough), level, cells)
        bare = self.surface(self.one_of("brown-soil", "concrete", "shrub"), cover, 0.9, 0.1, rough)
        self.blotches(bare, self.between(0.8, 1.8), 2 * cells)
        if self.chance(0.4):
            gully = self.curve(self.between(8, 25), self.between(-45, 45), 1.5)
            self.line(gully, self.surface("shrub", "pale-soil", 0.9), self.between(1, 2))

    def highway(self) -> None:
        self.countryside()
        width, offset = self.between(2, 5), self.between(-35, 35)
        roads = [self.curve(self.between(0, 16), offset, self.between(0.1, 0.8))]
        if self.chance(0.45):  # The road has a second carriageway.
            roads.append(roads[0] + np.array([0, width + self.between(2, 6)]))
        if self.chance(0.3):  # Another road crosses the road, and a slip road forms a loop.
            middle, turns = roads[0][12], np.linspace(0, self.between(2, 6), 20)
            loop = np.stack([np.cos(turns), np.sin(turns) + 1], axis=1) * self.between(10, 24)
            roads += [middle + np.array([[-30, -130], [30, 130]]), middle + loop]
        verge = self.surface(self.one_of("meadow", "dry-grass", "shrub", "garden"), "shrub")
        paving = self.surface("asphalt", "concrete", 0.8)
        for number, breadth in ((verge, width + self.between(2, 6)), (paving, width)):
            for road in roads:
                self.line(road, number, breadth)

    def industrial(self) -> None:
        self.surface(self.one_of("asphalt", "concrete", "garden"), "concrete", 0.4, 0.2, 0.15)
        rest = self.surface(self.one_of(*_DRY_FIELDS, "meadow"), "garden", 0.9)
        self.blotches(rest, self.between(0.2, 0.8), 5)
        kinds = ("metal-roof", "concrete", "concrete", "asphalt", "tile-roof")
        roofs = [self.surface(kind, "concrete", 0.7, 0.06, 0.08) for kind in kinds]
        step = self.between(24, 44)
        places = np.arange(-_REACH, _REACH, step)
        sizes = (0.3 + 0.55 * self.rng.random((len(places) ** 2, 2))) * (step, 0.75 * step)
        self.buildings(places, places * 0.8, sizes, *roofs)

    def pasture(self) -> None:
        greens = ("grass", "meadow") if self.greenness > 0.3 else ("meadow", "dry-grass")
        kinds = (*greens, self.one_of(*greens), self.field() if self.chance(0.3) else greens[0])
        numbers = [self.surface(kind, greens[1], 0.6, 0.12) for kind in kinds]
        corners = self.fields(self.between(45, 120), self.between(35, 80), *numbers)
        trees = self.surface("broadleaf", "shrub", 0.6, 0.06, 0.15)
        for hedges in (corners, corners.transpose(1, 0, 2))[int(self.between(0, 3)) :]:
            self.line(hedges[1:3], trees, self.between(1, 2.6))
        self.blotches(trees, self.between(1.2, 3.5), int(self.between(6, 24)))

    def permanent_crop(self) -> None:
        cover = "meadow" if self.chance(self.greenness) else "pale-soil"
        numbers = [self.surface(self.field()) for _ in range(2) if self.chance(0.3)]
        for plants in ("shrub", "shrub", "shrub", "broadleaf", "broadleaf"):
            kind, depth = self.rng.random(), self.between(0.1, 0.28)
            texture = (0.06, self.between(0.06, 0.18), depth * (kind < 0.7), depth * (kind > 0.35))
            ground = self.one_of(cover, "brown-soil", "stubble")
            numbers.append(self.surface(ground, plants, 0.7, *texture))
        self.fields(self.between(35, 90), self.between(28, 70), *numbers)

    def residential(self) -> None:
        self.surface(self.one_of("garden", "garden", "asphalt"), "asphalt", 0.9, 0.15, 0.2)
        self.blotches(self.surface("broadleaf", "garden", 0.6), self.between(0.7, 1.5), 16)
        kinds = ("tile-roof", "tile-roof", "asphalt", "concrete")
        roofs = [self.surface(kind, "asphalt", 0.6) for kind in kinds]
        block, plot = self.between(15, 22), self.between(6, 9)
        streets, ends = np.arange(-_REACH, _REACH, block), np.array([-_REACH, _REACH])
        lines = np.stack(np.meshgrid(ends, streets), axis=-1)
        pavement = self.surface("asphalt", "concrete", 0.4)
        self.line(np.concatenate([lines, lines[::3, :, ::-1]]), pavement, 2)
        rows = np.concatenate([streets + 0.25 * block, streets + 0.7 * block])
        columns = np.arange(-_REACH, _REACH, plot)
        sizes = 2.4 + (plot - 3.5) * self.rng.random((len(rows) * len(columns), 2))
        self.buildings(columns, rows, sizes, *roofs)

    def river(self) -> None:
        self.countryside()
        width, bend = self.between(6, 34), self.between(4, 26)
        course = self.curve(bend, self.between(-25, 25), self.between(0.7, 2))
        bank = self.surface(self.one_of("broadleaf", "shrub", "dry-grass", "meadow"), "shrub")
        self.line(course, bank, width + self.between(0, 14))
        water = self.one_of(*_WATERS)
        self.line(course, self.surface(water, "clear-water", 0.6, 0.06, 0.02), width)
        if self.chance(0.25):
            bridge = np.array([[-20, -130], [20, 130]]) + np.array([self.between(-40, 40), 0])
            self.line(bridge, self.surface("asphalt", "concrete", 1.0), self.between(1, 3.4))

    def sea_lake(self) -> None:
        texture = (0.05, self.between(0.005, 0.04), self.between(0, 0.03))
        self.surface(self.one_of(*_WATERS), self.one_of(*_WATERS), 0.9, *texture)
        if self.chance(0.2):
            shore = self.curve(self.between(3, 14), self.between(30, 60))
            land = np.concatenate([shore, [[_REACH, 130.0], [-_REACH, 130.0]]])
            self.fill(land[None], self.surface(self.field(), "broadleaf", 0.12, 0.06, 0.15))
            self.line(shore, self.surface("dry-grass", "pale-soil", 1.0), self.between(1, 5))


_PAINTERS = (  # In the order of CLASSES.
    *(_Scene.annual_crop, _Scene.forest, _Scene.herbaceous_vegetation),
    *(_Scene.highway, _Scene.industrial, _Scene.pasture, _Scene.permanent_crop),
    *(_Scene.residential, _Scene.river, _Scene.sea_lake),
)


def _acquire(scene: _Scene) -> npt.NDArray[np.uint16]:
    """Simulate the scene's image: illumination, haze, resolution of the bands and sensor noise.

    Returns:
        Digital numbers, uint16, shape (64, 64, 13), bands in the order of `BANDS`.
    """
    table = np.array(scene.surfaces, np.float32)
    # Sun angle, view angle, moisture and leaves change the spectrum from date to date. The change
    # is largest in the infrared.
    gains = scene.between(0.86, 1.14) * np.exp(_CHANGE * scene.rng.standard_normal(len(BANDS)))
    table[:, : 2 * len(BANDS)] *= np.concatenate([gains, gains])
    haze = scene.between(-60, 160) if scene.chance(0.95) else scene.between(200, 700)
    table[:, : len(BANDS)] += haze * _HAZE
    surfaces = np.ascontiguousarray(scene.canvas[::2, ::2])
    smooth, fine, rows, cross = table[:, -4:].T.take(surfaces, axis=1)
    wave = 2 * math.pi / scene.period
    wave_x, wave_y = -wave * math.sin(scene.angle), wave * math.cos(scene.angle)
    fraction = smooth * (scene.noise(6, SIZE) + 0.5 * scene.noise(18, SIZE))
    fraction += fine * scene.rng.standard_normal((SIZE, SIZE), np.float32)
    fraction += rows * np.cos(wave_x * _X + wave_y * _Y) + cross * np.cos(wave_y * _X - wave_x * _Y)
    fraction = fraction.clip(-0.4, 1)[..., None]
    groups = []
    for metres in (10, 20, 60):
        bands = np.flatnonzero(np.equal(_RESOLUTIONS, metres))
        cells = scene.canvas if metres == 10 else surfaces
        image = _resize(table[:, bands].take(cells, axis=0), SIZE, cv2.INTER_AREA)
        image += table[:, len(BANDS) + bands].take(surfaces, axis=0) * fraction
        image = _resize(image, round(SIZE * 10 / metres), cv2.INTER_AREA)
        image = np.asarray(cv2.GaussianBlur(image, (3, 3), 0.55), np.float32)
        # Uniform noise is faster than normal noise and looks the same at this amplitude.
        noise = np.frombuffer(scene.rng.bytes(image.size), np.int8).astype(np.float32)
        image *= 1 + np.float32(1e-4) * noise.reshape(image.shape)
        groups.append(np.maximum(_resize(image, SIZE), 1).astype(np.uint16))
    patch = np.empty((SIZE, SIZE, len(BANDS)), np.uint16)
    cv2.mixChannels(groups, [patch], _POSITIONS)
    return patch


def synthetic_patch(class_name: str, seed: int, number: int) -> npt.NDArray[np.uint16]:
    """Draw one synthetic Sentinel-2 patch.

    The patch depends on the arguments only, so patches can be drawn in any order and in parallel.

    Args:
        class_name: One of :data:`eurosat.labels.CLASSES`.
        seed: Number of the data set, not negative.
        number: Number of the patch within its class, not negative.

    Returns:
        Digital numbers (top-of-atmosphere reflectance x 10,000), uint16, shape (64, 64, 13), bands
        in the order of :data:`eurosat.bands.BANDS`.

    Raises:
        ValueError: The class is unknown, or ``seed`` or ``number`` is negative.
    """
    if class_name not in CLASSES:
        raise ValueError(f"unknown class {class_name!r}: choose from {', '.join(CLASSES)}")
    scene = _Scene(np.random.default_rng([seed, CLASSES.index(class_name), number]))
    _PAINTERS[CLASSES.index(class_name)](scene)
    return _acquire(scene)
