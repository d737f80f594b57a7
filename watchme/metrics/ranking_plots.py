"""Pictures of retrieval: the nearest gallery images of a query, framed right or wrong, and the CMC curve."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from watchme.core.figure import new_axes, save
from watchme.data.images import read_image
from watchme.metrics.distance import at_least_float32, check_matrix
from watchme.metrics.ranks import Identities

Picture = Path | str | Image.Image

RIGHT, WRONG, QUERY = (22, 140, 60), (205, 38, 38), (70, 70, 70)
BACKGROUND, INK = (255, 255, 255), (30, 30, 30)
TILE = (96, 192)  # people are about twice as tall as wide; other shapes are fitted into this
FRAME, GAP, MARGIN = 5, 10, 14
FONT_SIZE, LINE = 13, 17
CURVE_COLOUR = "#1f5fa8"


def draw_ranked_results(
    distances: Tensor,
    query_images: Sequence[Picture],
    gallery_images: Sequence[Picture],
    query_pids: Any,
    gallery_pids: Any,
    query_cams: Any,
    gallery_cams: Any,
    folder: Path,
    *,
    queries: Sequence[int] | None = None,
    top_k: int = 10,
) -> list[Path]:
    """One PNG a query: the query, then its nearest gallery images, green for the right person, red for a wrong one.

    Gallery images of the query's person by the query's camera are skipped, as in the scores. Equal distances
    stand in the gallery's order. Of a large set, pass only the rows to draw: nothing here needs the others.

    Args:
        distances: (Q, G) floating-point distances, smaller is more alike.
        query_images: Q paths or images.
        gallery_images: G paths or images; only those drawn are opened.
        query_pids: (Q,) person identities, an integer tensor, array or sequence.
        gallery_pids: (G,) person identities.
        query_cams: (Q,) camera numbers.
        gallery_cams: (G,) camera numbers.
        folder: where ``query_<index>.png`` are written; made if absent.
        queries: indices of the queries to draw; all when None.
        top_k: gallery images a query; fewer where the gallery has fewer.

    Returns:
        The files, in the order of ``queries``.

    Raises:
        ValueError: unfit distances or identities, image lists of another length, a query index out of range,
            or a top_k below 1.
        OSError: an image cannot be read, or a file not written.
    """
    check_matrix(distances, "distances")
    num_queries, num_gallery = distances.shape
    identities = Identities.of(query_pids, gallery_pids, query_cams, gallery_cams, num_queries, num_gallery)
    if (len(query_images), len(gallery_images)) != (num_queries, num_gallery):
        raise ValueError(
            f"distances of shape {tuple(distances.shape)} do not fit {len(query_images)} query "
            f"and {len(gallery_images)} gallery images"
        )
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    chosen = range(num_queries) if queries is None else queries
    if outside := [query for query in chosen if not 0 <= query < num_queries]:
        raise ValueError(f"no queries {outside}: there are {num_queries}")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for query in chosen:
        order = np.argsort(at_least_float32(distances[query].detach().cpu()).numpy(), kind="stable")
        shown = order[~identities.left_out(query)[order]][:top_k]
        file = folder / f"query_{query:05d}.png"
        _ranked_row(query, shown, query_images, gallery_images, identities).save(file)
        files.append(file)
    return files


def draw_cmc(cmc: npt.ArrayLike, path: Path, *, title: str = "") -> None:
    """The CMC curve as a PNG.

    Args:
        cmc: (max_rank,) shares of queries in [0, 1], as in ``RetrievalResult.cmc``. NaN, for a set without a
            valid query, gives empty axes that say so.
        path: file to write; its folder is made if absent.
        title: a line above the curve.

    Raises:
        ValueError: cmc is not a non-empty curve.
        OSError: the file cannot be written.
    """
    from matplotlib.ticker import PercentFormatter  # only here: slow to import

    curve = np.asarray(cmc, dtype=np.float64)
    if curve.ndim != 1 or not len(curve):
        raise ValueError(f"cmc must be a non-empty curve, got shape {curve.shape}")
    figure, axes = new_axes(6.4, 4.2, grid="both")
    ranks = np.arange(1, len(curve) + 1)
    if np.isnan(curve).all():
        axes.text(0.5, 0.5, "undefined: no query has a match", ha="center", transform=axes.transAxes)
        axes.set_ylim(0, 1)
    else:
        # A step, since there is nothing between two ranks.
        axes.step(ranks, curve, where="post", color=CURVE_COLOUR, linewidth=2, clip_on=False, zorder=3)
        marked = [k for k in (1, 5, 10, 20) if k <= len(curve)]
        axes.plot(marked, curve[np.array(marked) - 1], "o", color=CURVE_COLOUR, markersize=5, clip_on=False, zorder=3)
        lowest = max(0.0, np.floor(curve[0] * 10 - 0.5) / 10)  # a little below the start of the rising curve
        axes.set_ylim(lowest, 1.0)
        above = curve[-1] > (lowest + 1) / 2  # the table goes where the curve is not
        lines = [f"Rank-{k:<3d} {curve[k - 1]:6.1%}" for k in marked]
        axes.text(
            0.97,
            0.06 if above else 0.94,
            "\n".join(lines),
            transform=axes.transAxes,
            ha="right",
            va="bottom" if above else "top",
            family="monospace",
            bbox={"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": "#cccccc"},
        )
    axes.set_xlim(1, max(2, len(curve)))
    step = next(step for step in (1, 5, 10, 50, 100, len(curve)) if len(curve) <= 10 * step)
    axes.set_xticks([1, *(k for k in range(step, len(curve) + 1, step) if k > 1)])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("rank")
    axes.set_ylabel("queries matched up to that rank")
    axes.set_title(title, pad=12)
    save(figure, path)


def _ranked_row(
    query: int,
    shown: npt.NDArray[np.int64],
    query_images: Sequence[Picture],
    gallery_images: Sequence[Picture],
    identities: Identities,
) -> Image.Image:
    """The query's tile, a wider gap, and one tile for each gallery image shown."""
    step = TILE[0] + 2 * FRAME + GAP
    # The wide gap is a whole GAP more than the space between two tiles.
    width = 2 * MARGIN + (len(shown) + 1) * step + GAP - (GAP if len(shown) else 2 * GAP)
    height = 2 * MARGIN + TILE[1] + 2 * FRAME + 4 + 2 * LINE
    canvas = Image.new("RGB", (width, height), BACKGROUND)
    pid = identities.query_pids[query]
    _tile(canvas, MARGIN, query_images[query], QUERY, "query", pid, identities.query_cams[query])
    for place, index in enumerate(shown):
        right = identities.gallery_pids[index] == pid
        _tile(
            canvas,
            MARGIN + (place + 1) * step + GAP,
            gallery_images[index],
            RIGHT if right else WRONG,
            f"{place + 1}",
            identities.gallery_pids[index],
            identities.gallery_cams[index],
        )
    return canvas


def _tile(
    canvas: Image.Image,
    left: int,
    picture: Picture,
    colour: tuple[int, int, int],
    heading: str,
    pid: np.int64,
    cam: np.int64,
) -> None:
    """Draw one framed image with its caption."""
    draw = ImageDraw.Draw(canvas)
    right, bottom = left + TILE[0] + 2 * FRAME, MARGIN + TILE[1] + 2 * FRAME
    draw.rectangle((left, MARGIN, right - 1, bottom - 1), fill=colour)
    if isinstance(picture, Image.Image):
        image = picture.convert("RGB")
    else:
        image = read_image(Path(picture))
    fitted = ImageOps.pad(image, TILE, Image.Resampling.BICUBIC, color=BACKGROUND)
    canvas.paste(fitted, (left + FRAME, MARGIN + FRAME))
    font = ImageFont.load_default(size=FONT_SIZE)
    centre = (left + right) / 2
    draw.text((centre, bottom + 4), heading, fill=colour, font=font, anchor="ma")
    draw.text((centre, bottom + 4 + LINE), f"id {pid}  cam {cam}", fill=INK, font=font, anchor="ma")
