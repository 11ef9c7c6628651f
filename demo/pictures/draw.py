"""Draw pictures, alter one, and hash all of them with PDQ. Runs in the environment of `demo.pictures`.

Writes the pictures to the folder that is its argument, and their names, hashes and qualities to standard output.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pdqhash
from PIL import Image, ImageDraw

LISTED = 30
WIDTH, HEIGHT = 480, 360
SHAPES = 14
MARGIN = 4
"""pixels that are cut off at each side"""
SMALLER = (300, 225)


def picture(number: int) -> Image.Image:
    """Draw the picture with a number: a soft background with some ellipses."""
    rng = np.random.default_rng(number)
    colours = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    drawn = Image.fromarray(colours).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    canvas = ImageDraw.Draw(drawn)
    for _ in range(SHAPES):
        x, y = rng.integers(0, (WIDTH, HEIGHT)).tolist()
        wide, high = rng.integers(12, 90, 2).tolist()
        canvas.ellipse((x - wide, y - high, x + wide, y + high), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return drawn


def described(path: Path) -> dict[str, object]:
    """Return the name, the PDQ and the quality of a picture."""
    with Image.open(path) as opened:
        bits, quality = pdqhash.compute(np.asarray(opened.convert("RGB")))
    return {"name": path.name, "pdq": np.packbits(bits.astype(np.uint8)).tobytes().hex(), "quality": int(quality)}


def main() -> None:
    """Draw and hash."""
    folder = Path(sys.argv[1])
    listed = [folder / f"picture-{number:03}.png" for number in range(LISTED)]
    for number, path in enumerate(listed):
        picture(number).save(path)
    altered, other = folder / "altered.jpg", folder / "other.png"
    with Image.open(listed[0]) as original:
        cropped = original.crop((MARGIN, MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN))
    cropped.resize(SMALLER, Image.Resampling.LANCZOS).save(altered, quality=70)
    picture(LISTED).save(other)
    shown = {"listed": [described(path) for path in listed], "altered": described(altered), "other": described(other)}
    json.dump(shown, sys.stdout)


if __name__ == "__main__":
    main()
