"""Diagrams of the explanation, as SVG that takes its colours from the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Box:
    """A named box; its position and size are in pixels of the drawing."""

    x: int
    y: int
    title: str
    lines: tuple[str, ...] = ()
    width: int = 130

    @property
    def height(self) -> int:
        """Height that fits the lines."""
        return 30 + 16 * len(self.lines) + (6 if self.lines else 0)


@dataclass(frozen=True)
class Frame:
    """A dashed frame around boxes, with a title in its upper or lower left corner."""

    x: int
    y: int
    width: int
    height: int
    title: str
    title_below: bool = False


@dataclass(frozen=True)
class Arrow:
    """An arrow along straight lines, with a label beside its first line."""

    points: Sequence[tuple[int, int]]
    label: str = ""
    at: tuple[int, int] | None = None


def svg(
    width: int,
    height: int,
    boxes: Sequence[Box],
    arrows: Sequence[Arrow],
    frames: Sequence[Frame] = (),
) -> str:
    """Draw boxes, arrows, and frames with a title around groups of boxes."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'class="diagram" role="img" font-size="13" fill="currentColor" stroke="none">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>',
    ]
    for frame in frames:
        y = frame.y + frame.height - 8 if frame.title_below else frame.y + 18
        parts.append(
            f'<rect x="{frame.x}" y="{frame.y}" width="{frame.width}" height="{frame.height}" '
            'rx="8" fill="none" stroke="currentColor" stroke-dasharray="4 4" opacity="0.5"/>'
            f'<text x="{frame.x + 10}" y="{y}" opacity="0.7">{escape(frame.title)}</text>'
        )
    for arrow in arrows:
        points = " ".join(f"{x},{y}" for x, y in arrow.points)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.3" '
            'marker-end="url(#head)"/>'
        )
        if arrow.label and arrow.at:
            x, y = arrow.at
            parts.append(f'<text x="{x}" y="{y}" font-size="11">{escape(arrow.label)}</text>')
    for box in boxes:
        middle = box.x + box.width // 2
        parts.append(
            f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="6" '
            'fill="none" stroke="currentColor" stroke-width="1.3"/>'
            f'<text x="{middle}" y="{box.y + 20}" text-anchor="middle" font-weight="600">'
            f"{escape(box.title)}</text>"
        )
        for number, line in enumerate(box.lines):
            parts.append(
                f'<text x="{middle}" y="{box.y + 40 + 16 * number}" text-anchor="middle" '
                f'font-size="11">{escape(line)}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def right(first: Box, second: Box, label: str = "") -> Arrow:
    """An arrow from the right side of a box to the left side of the next box."""
    y = first.y + min(first.height, second.height) // 2
    start, end = first.x + first.width, second.x
    return Arrow([(start, y), (end, y)], label, (start + 4, y - 6))


def down(first: Box, second: Box, label: str = "") -> Arrow:
    """An arrow from the lower side of a box to the upper side of the box below."""
    x = second.x + second.width // 2
    return Arrow(
        [(x, first.y + first.height), (x, second.y)], label, (x + 6, first.y + first.height + 16)
    )


def data_flow() -> str:
    """From the source of the data to the service, and back to the question of new data."""
    source = Box(10, 10, "source", ("hub, archive,", "folder, generator"))
    store = Box(205, 10, "store", ("raw pixels,", "memory-mapped"))
    module = Box(400, 10, "data module", ("splits, batches,", "augmentation"))
    model = Box(595, 10, "classifier", ("normalisation,", "backbone, head"))
    run = Box(400, 130, "run folder", ("record, metrics,", "predictions, report"))
    checkpoint = Box(595, 130, "checkpoint", ("the whole model",))
    exported = Box(595, 250, "exported file", ("ONNX, OpenVINO;", "float32, int8"))
    gate = Box(400, 250, "gate, registry", ("may the model", "replace another?"))
    service = Box(205, 250, "service", ("page, HTTP,", "metrics"))
    log = Box(10, 250, "prediction log", ("what was predicted,", "no pixels"))
    drift = Box(10, 130, "drift", ("does the traffic look", "like the images?"))
    arrows = [
        right(source, store, "prepare"),
        right(store, module),
        right(module, model, "fit"),
        down(model, checkpoint),
        Arrow([(595, 156), (530, 156)], "test", (548, 150)),
        Arrow([(660, 182), (660, 250)], "export", (666, 210)),
        Arrow([(595, 284), (530, 284)], "gate", (548, 278)),
        Arrow([(400, 284), (335, 284)], "serve", (350, 278)),
        Arrow([(205, 284), (140, 284)], "log", (162, 278)),
        Arrow([(75, 250), (75, 198)], "read", (81, 228)),
        Arrow([(75, 130), (75, 78)], "new images", (81, 108)),
    ]
    boxes = [source, store, module, model, run, checkpoint, exported, gate, service, log, drift]
    return svg(735, 330, boxes, arrows)


def service() -> str:
    """The processes of the service."""
    client = Box(10, 60, "client", ("page, classify,", "any HTTP client"))
    lines = ("key, size, load;", "decode, or ask a decoder;", "dispatch")
    api = Box(220, 10, "API process ×N", lines, 150)
    worker = Box(510, 10, "worker ×M", ("batch of the queued", "requests → model"), 150)
    lines = ("starts the others,", "replaces one that exits or hangs")
    main = Box(345, 160, "main process", lines, 190)
    spool = Box(10, 270, "spool", ("records of the", "prediction log"))
    log = Box(345, 270, "prediction log", ("folder or bucket",), 190)
    arrows = [
        Arrow([(235, 94), (235, 250), (75, 250), (75, 270)], "one write a request", (100, 244)),
        Arrow([(140, 287), (345, 287)], "background process uploads", (158, 281)),
        Arrow([(140, 85), (180, 85), (180, 40), (220, 40)], "HTTP", (145, 78)),
        Arrow([(370, 35), (510, 35)], "patches (ZeroMQ)", (388, 28)),
        Arrow([(510, 60), (370, 60)], "probabilities", (402, 76)),
        Arrow([(400, 160), (400, 130), (295, 130), (295, 94)]),
        Arrow([(480, 160), (480, 130), (585, 130), (585, 78)]),
    ]
    return svg(670, 350, [client, api, worker, main, spool, log], arrows)


def cloud() -> str:
    """Training, storage and service in a cloud."""
    git = Box(10, 40, "git repository", ("code, dvc.lock,", "tags of models"), 140)
    train = Box(235, 40, "training job", ("image eurosat-train;", "GPUs, 1 or more machines"), 180)
    bucket = Box(520, 40, "bucket", ("data, run folders,", "models (DVC)"), 140)
    service = Box(235, 220, "service", ("image eurosat-serve;", "CPU, no torch"), 180)
    monitoring = Box(520, 220, "monitoring", ("Prometheus, Grafana,", "drift service"), 140)
    clients = Box(10, 220, "clients", ("page, classify,", "HTTP"), 140)
    arrows = [
        Arrow([(150, 74), (235, 74)], "image", (164, 68)),
        Arrow([(415, 62), (520, 62)], "run folders", (443, 56)),
        Arrow([(520, 88), (415, 88)], "data", (458, 102)),
        Arrow([(590, 108), (590, 155), (370, 155), (370, 220)], "registered model", (440, 149)),
        Arrow([(150, 254), (235, 254)], "HTTP", (164, 248)),
        Arrow([(415, 254), (520, 254)], "metrics", (443, 248)),
        Arrow([(80, 108), (80, 155), (280, 155), (280, 220)], "tag of a stage", (110, 149)),
    ]
    frames = [
        Frame(215, 8, 220, 112, "Vertex AI, SLURM, any machine"),
        Frame(215, 208, 220, 100, "Kubernetes, Cloud Run, Docker", title_below=True),
    ]
    return svg(680, 315, [git, train, bucket, service, monitoring, clients], arrows, frames)


DIAGRAMS = {"data-flow": data_flow, "service": service, "cloud": cloud}
