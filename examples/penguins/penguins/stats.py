"""Just enough statistics."""


def mean(values):
    """The arithmetic mean."""
    return sum(values) / len(values)


def split(items, test_share):
    """Two lists, (train, test): every k-th item is for testing, so no chance is involved."""
    every = max(2, round(1 / test_share))
    train = [item for index, item in enumerate(items) if index % every]
    test = [item for index, item in enumerate(items) if index % every == 0]
    return train, test


def fit_line(points):
    """(slope, intercept) of the line with the least squared error through (x, y) points."""
    x_mean = mean([x for x, _ in points])
    y_mean = mean([y for _, y in points])
    covariance = sum((x - x_mean) * (y - y_mean) for x, y in points)
    variance = sum((x - x_mean) ** 2 for x, _ in points)
    slope = covariance / variance
    return slope, y_mean - slope * x_mean


def r_squared(points, slope, intercept):
    """The share of the variance of y that the line explains; 1 is perfect."""
    y_mean = mean([y for _, y in points])
    left = sum((y - slope * x - intercept) ** 2 for x, y in points)
    total = sum((y - y_mean) ** 2 for _, y in points)
    return 1 - left / total
