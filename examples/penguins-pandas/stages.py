"""The functions that pivot.yaml names."""

import json

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field


class TrainParams(BaseModel):
    """What to fit, and to which birds."""

    species: str
    degree: int = Field(default=1, ge=0, le=3)


def preprocess(table, cleaned):
    """Drop birds with missing measurements."""
    birds = pd.read_csv(table)
    birds = birds.dropna(subset=["flipper_length_mm", "body_mass_g"])
    birds.to_csv(cleaned, index=False)


def rmse(truth, guess):
    """The root of the mean squared error."""
    return float(np.sqrt(np.mean((np.asarray(truth) - np.asarray(guess)) ** 2)))


def train(table, fitted, params: TrainParams):
    """Fit a polynomial of body mass over flipper length."""
    birds = pd.read_csv(table)
    birds = birds[birds["species"] == params.species]
    x, y = birds["flipper_length_mm"], birds["body_mass_g"]
    coefficients = np.polyfit(x, y, params.degree)
    result = {
        "species": params.species,
        "degree": params.degree,
        "rmse_g": round(rmse(y, np.polyval(coefficients, x)), 1),
    }
    with open(fitted, "w") as file:
        json.dump(result, file)


def compare(flat_adelie, flat_gentoo, line_adelie, line_gentoo, metrics):
    """One table of all errors."""
    rows = []
    for path in (flat_adelie, flat_gentoo, line_adelie, line_gentoo):
        with open(path) as file:
            rows.append(json.load(file))
    with open(metrics, "w") as file:
        json.dump(rows, file, indent=2)
        file.write("\n")
