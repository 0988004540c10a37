"""A scatter plot as SVG text."""

WIDTH, HEIGHT, MARGIN = 480, 320, 40
COLORS = {"adelie": "#ff8c00", "chinstrap": "#a034f0", "gentoo": "#159090"}


def scatter_svg(rows, fits):
    """Mass over flipper length, a dot a bird and a line a fit."""
    flippers = [float(row["flipper_mm"]) for row in rows]
    masses = [float(row["mass_g"]) for row in rows]
    to_x = _scale(min(flippers), max(flippers), MARGIN, WIDTH - MARGIN)
    to_y = _scale(min(masses), max(masses), HEIGHT - MARGIN, MARGIN)
    shapes = [
        f'<circle cx="{to_x(flipper):.1f}" cy="{to_y(mass):.1f}" r="2.5"'
        f' fill="{COLORS[row["species"]]}" fill-opacity="0.6"/>'
        for row, flipper, mass in zip(rows, flippers, masses)
    ]
    for fit in fits:
        own = [x for row, x in zip(rows, flippers) if row["species"] == fit["species"]]
        ends = [(x, fit["slope_g_per_mm"] * x + fit["intercept_g"]) for x in (min(own), max(own))]
        (x1, y1), (x2, y2) = ends
        shapes.append(
            f'<line x1="{to_x(x1):.1f}" y1="{to_y(y1):.1f}" x2="{to_x(x2):.1f}"'
            f' y2="{to_y(y2):.1f}" stroke="{COLORS[fit["species"]]}" stroke-width="2"/>'
        )
    body = "\n".join(shapes)
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">\n{body}\n</svg>\n'


def _scale(low, high, first, last):
    return lambda value: first + (value - low) / (high - low) * (last - first)
