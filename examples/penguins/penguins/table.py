"""Tables as lists of dictionaries, read from and written to CSV files."""

import csv


def read_rows(path):
    """All rows of a CSV file, as dictionaries of text."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    """Write rows that all have the keys of the first one."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
