"""From raw measurements of penguins to one line per species that tells mass from flipper length.

    load -> clean -> model@adelie, model@chinstrap, model@gentoo -> summary

Nothing but the standard library is needed. Run it with `pivot run`, then change something:
a number in params.yaml, a helper in penguins/stats.py, a comment. Ask `pivot run --explain`
what it would do, and why.
"""

import json

from penguins.plot import scatter_svg
from penguins.stats import fit_line, mean, r_squared, split
from penguins.table import read_rows, write_rows
from pivot import Metric, Plot, Variant, stage

RAW_COLUMNS = {
    "Species": "species",
    "Island": "island",
    "Sex": "sex",
    "Flipper Length (mm)": "flipper_mm",
    "Body Mass (g)": "mass_g",
}


@stage(deps=["data/penguins-raw.csv"], outs=["build/penguins.csv"])
def load(raw, table):
    """Keep the columns of interest, under short names."""
    rows = [
        {new: row[old] for old, new in RAW_COLUMNS.items()}
        for row in read_rows(raw)
    ]
    for row in rows:
        row["species"] = row["species"].split()[0].lower()
    write_rows(table, rows)


@stage(
    deps=["build/penguins.csv"],
    outs=["build/clean.csv"],
    params={"lightest_g": 2500, "heaviest_g": 6500},
)
def clean(table, cleaned, lightest_g, heaviest_g):
    """Drop birds without measurements and weights that cannot be right."""
    rows = [row for row in read_rows(table) if "NA" not in (row["flipper_mm"], row["mass_g"])]
    rows = [row for row in rows if lightest_g <= float(row["mass_g"]) <= heaviest_g]
    print(f"{len(rows)} birds are left")
    write_rows(cleaned, rows)


@stage.matrix(
    [
        Variant(
            name=species,
            deps=["build/clean.csv"],
            outs=[f"build/model-{species}.json"],
            params={"species": species, "test_share": 0.25},
        )
        for species in ("adelie", "chinstrap", "gentoo")
    ]
)
def model(table, fitted, species, test_share):
    """Fit a line through part of the birds and see how it does on the others."""
    rows = [row for row in read_rows(table) if row["species"] == species]
    points = [(float(row["flipper_mm"]), float(row["mass_g"])) for row in rows]
    train, test = split(points, test_share)
    slope, intercept = fit_line(train)
    result = {
        "species": species,
        "birds": len(points),
        "mean_mass_g": round(mean([mass for _, mass in points]), 1),
        "slope_g_per_mm": round(slope, 2),
        "intercept_g": round(intercept, 1),
        "r_squared": round(r_squared(test, slope, intercept), 3),
    }
    with open(fitted, "w") as file:
        json.dump(result, file, indent=2)


@stage(
    deps=[
        "build/clean.csv",
        "build/model-adelie.json",
        "build/model-chinstrap.json",
        "build/model-gentoo.json",
    ],
    outs=[
        Metric("metrics.json"),
        Plot("build/fit.csv", x="flipper_mm", y="mass_g"),
        "build/fit.svg",
    ],
)
def summary(table, adelie, chinstrap, gentoo, metrics, points, picture):
    """Gather the three fits, for people and for programs."""
    fits = []
    for path in (adelie, chinstrap, gentoo):
        with open(path) as file:
            fits.append(json.load(file))
    with open(metrics, "w") as file:
        json.dump({fit["species"]: fit for fit in fits}, file, indent=2)
        file.write("\n")
    rows = read_rows(table)
    write_rows(points, [{key: row[key] for key in ("species", "flipper_mm", "mass_g")} for row in rows])
    with open(picture, "w") as file:
        file.write(scatter_svg(rows, fits))
